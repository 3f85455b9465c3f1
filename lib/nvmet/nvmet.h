/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Target side of NVMe/TCP: listener, controllers (associations), queues (connections), requests.
 * Subsystems are given by their owners (pool-agent: the data subsystem and plain ones; nexus: an
 * exported volume).  One reactor.
 */
#ifndef NVMET_NVMET_H
#define NVMET_NVMET_H

#include "base/uuid.h"
#include "io/blk.h"
#include "io/bufpool.h"
#include "io/io.h"
#include "nvme/spec.h"

struct nvmet;        /* one listening port with its subsystems */
struct nvmet_ctrl;   /* one association */
struct nvmet_subsys; /* below */

/* A command in execution, with its data in memory (host to controller: already received). */
struct nvmet_req {
	struct nvmet_ctrl
		*ctrl; /* valid until nvmet_req_complete(), also when its connections are gone */
	struct nvme_sqe sqe; /* as received */
	bool admin;
	struct iovec iov; /* the data buffer, 4096-aligned, when length > 0 */
	uint32_t length;  /* bytes, from the SGL; checked against the limits, not against the
			     command: its handler does that */
	uint16_t qid;
	struct list_node owner_node; /* the handler's, while it has the request */
	void *owner_ctx;
	uint64_t owner_state[24]; /* the handler's, zeroed */
};

/* Answers: status is SCT << 8 | SC (0 success).  Never frees inline what the caller still looks at
 * but req itself.  For reads all of `length` is sent on success.  Works also when the association
 * is gone (the answer is dropped). */
void nvmet_req_complete(struct nvmet_req *req, uint16_t status, uint64_t dw01);

/* The same in two steps, for who still needs the data after the answer: the buffer, req and its
 * ctrl stay until it is released. */
void nvmet_req_answer(struct nvmet_req *req, uint16_t status, uint64_t dw01);
void nvmet_req_release(struct nvmet_req *req);

struct nvmet_ns_info {
	uint64_t block_count;
	uint32_t block_bytes; /* power of two, 512 .. 4096 */
	struct uuid uuid;     /* also the NGUID */
	bool read_only;
};

struct nvmet_subsys_ops {
	/* false when there is no such namespace. */
	bool (*ns_info)(struct nvmet_subsys *subsys, uint32_t nsid, struct nvmet_ns_info *ret_info);
	/* The next used nsid above `after`, 0 when there is none. */
	uint32_t (*ns_next)(struct nvmet_subsys *subsys, uint32_t after);
	/* Every I/O command, standard and vendor, on any nsid; the handler checks it and completes
	 * it (never inline is not required). Fused and unknown opcodes come too: answer Invalid
	 * Command Opcode. */
	void (*io)(struct nvmet_subsys *subsys, struct nvmet_req *req);
	/* Admin opcodes C0h and above; NULL: Invalid Command Opcode. */
	void (*admin_vendor)(struct nvmet_subsys *subsys, struct nvmet_req *req);
	/* An association ended (all its connections are closed): no new request of it will come;
	 * requests that are being executed are completed by the handler as usual.  May be NULL. */
	void (*ctrl_gone)(struct nvmet_subsys *subsys, struct nvmet_ctrl *ctrl);
	/* May this host connect?  Asked when allow_any_host is false and the host is none of
	 * allowed_hosts; NULL: no. */
	bool (*host_allowed)(struct nvmet_subsys *subsys, const char *hostnqn);
};

/* In the owner's memory from nvmet_add to nvmet_remove's callback. */
struct nvmet_subsys {
	struct list_node node;
	const struct nvmet_subsys_ops *ops;
	void *ctx;
	char nqn[NVME_NQN_SIZE];
	char serial[21];
	char model[41];
	bool allow_any_host;
	/* Else: only these host NQNs; borrowed array */
	const char (*allowed_hosts)[NVME_NQN_SIZE];
	unsigned allowed_host_count;
	bool in_discovery; /* listed in the discovery log */
	/* A host has one association: a new one is answered when its others are over, with
	 * everything that came on them.  What they sent and the host has sent again since must not
	 * be carried out later. */
	bool one_each_host;
	uint16_t oncs; /* NVME_ONCS_...: the optional standard I/O commands that ops->io knows */
	void (*removed)(struct nvmet_subsys *subsys);
	unsigned ctrl_count;
	bool removing;
};

struct nvmet_options {
	struct io_address address;
	struct bufpool *buffers; /* borrowed */
	unsigned queue_depth;    /* entries a queue, 0: 128 */
	unsigned queues_max;     /* connections in all, 0: 64 */
	unsigned requests_max;   /* requests at the handlers at a time, 0: 1024; beyond it requests
				    wait in their queues */
	const char *discovery_nqn; /* NULL: the well-known one only */
};

int nvmet_new(struct io *io, const struct nvmet_options *options, struct nvmet **ret_target,
	struct err *err) __must_check;
/* Closes the listener and all connections; `closed` when every request was completed and memory is
 * gone. */
void nvmet_close(struct nvmet *target, void (*closed)(void *ctx), void *ctx);
uint16_t nvmet_port(const struct nvmet *target);
/* -EEXIST: the NQN is there. */
int nvmet_add(struct nvmet *target, struct nvmet_subsys *subsys) __must_check;
/* Closes its associations; subsys->removed() when the last request was completed. */
void nvmet_remove(struct nvmet *target, struct nvmet_subsys *subsys);
/* Since the beginning, over all connections.  commands / sends tells how well answering is batched.
 */
struct nvmet_stats {
	uint64_t commands;
	uint64_t sends;
	uint64_t receives;
	uint64_t sent_bytes;
	uint64_t received_bytes;
};
void nvmet_get_stats(const struct nvmet *target, struct nvmet_stats *ret_stats);
/* Tells hosts by an asynchronous event that the namespaces changed (Changed Namespace List). */
void nvmet_namespaces_changed(struct nvmet *target, struct nvmet_subsys *subsys);

const char *nvmet_ctrl_hostnqn(const struct nvmet_ctrl *ctrl);
uint16_t nvmet_ctrl_id(const struct nvmet_ctrl *ctrl);
/* The owner's word for each association, 0 at first. */
void **nvmet_ctrl_owner(struct nvmet_ctrl *ctrl);
/* Drops all connections of an association. */
void nvmet_ctrl_drop(struct nvmet_ctrl *ctrl);

/*
 * A blk_dev as a one-namespace subsystem (nsid 1) for strangers: read, write, flush, write zeroes,
 * dataset management (deallocate), compare.  `dev` borrowed until removed.
 */
struct nvmet_blk;
int nvmet_blk_new(struct nvmet *target, struct io *io, struct blk_dev *dev, const char *nqn,
	const struct uuid *uuid, struct nvmet_blk **ret_blk, struct err *err) __must_check;
/* dev->size_bytes has grown: hosts are told. */
void nvmet_blk_resized(struct nvmet_blk *blk);
void nvmet_blk_remove(struct nvmet_blk *blk, void (*removed)(void *ctx), void *ctx);

#endif
