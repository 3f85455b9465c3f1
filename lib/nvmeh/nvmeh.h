/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Host side of NVMe/TCP: one association (an admin queue and I/O queues, one connection each) with
 * one controller.  An association is used once: when it fails it is freed and its owner makes
 * another.  One reactor.
 */
#ifndef NVMEH_NVMEH_H
#define NVMEH_NVMEH_H

#include "io/io.h"
#include "nvme/spec.h"

struct nvmeh;

struct nvmeh_options {
	struct io_address address;
	char subnqn[NVME_NQN_SIZE];
	char hostnqn[NVME_NQN_SIZE];
	uint8_t hostid[16];
	unsigned io_queues;   /* 0 for discovery and admin only */
	unsigned queue_depth; /* I/O queue entries, 0: 128 */
	uint32_t kato_ms; /* keep-alive time-out told to the controller; 0 none.  Sent by us at half
			     of it. */
	uint64_t connect_timeout_ns;
	bool header_digest, data_digest;
	/* Once, when all queues are connected and the controller is ready. */
	void (*ready)(struct nvmeh *assoc);
	/* Once, when it failed by itself (connect, protocol error, connection lost, keep-alive):
	 * commands have been or are being completed with -ECONNRESET; the owner calls
	 * nvmeh_close(). reason is valid during the call. */
	void (*failed)(struct nvmeh *assoc, int code, const char *reason);
	/* Once, after nvmeh_close(): every command was completed; the memory is gone when this
	 * returns. */
	void (*closed)(struct nvmeh *assoc);
	void *ctx;
};

/* Begins to connect.  0 or -ENOMEM. */
int nvmeh_new(
	struct io *io, const struct nvmeh_options *options, struct nvmeh **ret_assoc) __must_check;
void *nvmeh_ctx(const struct nvmeh *assoc);
/* Drops the connections; what is in flight completes with -ECONNRESET (its effect is unknown), then
 * closed. */
void nvmeh_close(struct nvmeh *assoc);
uint16_t nvmeh_cntlid(const struct nvmeh *assoc);
/* From Identify Controller (MDTS), bytes; valid when ready. */
uint32_t nvmeh_transfer_max(const struct nvmeh *assoc);

/* Since the beginning, over all queues.  commands / sends tells how well sending is batched. */
struct nvmeh_stats {
	uint64_t commands;
	uint64_t sends;
	uint64_t receives;
	uint64_t sent_bytes;
	uint64_t received_bytes;
};
void nvmeh_get_stats(const struct nvmeh *assoc, struct nvmeh_stats *ret_stats);

struct nvmeh_cmd {
	struct list_node node; /* the association's */
	struct nvme_sqe sqe; /* opcode, nsid, cdw..; cid and sgl are filled in by nvmeh_submit() */
	bool admin;
	unsigned queue; /* I/O queue, 0-based, when not admin */
	/* Direction from the opcode's bits 1:0 (fabrics: the type's).  Borrowed until done. */
	struct iovec *iov;
	unsigned iov_count;
	uint32_t length;
	int result; /* 0: answered, see status; -ECONNRESET: unknown whether executed; -EPROTO */
	uint16_t status; /* SCT << 8 | SC, 0 success (without phase and DNR/more bits) */
	bool dnr;
	uint64_t dw01; /* command specific result */
	void (*done)(struct nvmeh_cmd *cmd);
	void *ctx;
	bool abandoned; /* see nvmeh_abandon() */
	uint16_t cid;   /* the association's */
	uint32_t transferred;
};

/* Queues the command (bounded by the owner); commands of one queue are sent in order of submission.
 * After `failed` or nvmeh_close() it completes with -ECONNRESET. */
void nvmeh_submit(struct nvmeh *assoc, struct nvmeh_cmd *cmd);

/*
 * Gives up a read that is late: from now on nothing is written to its buffer, while `done` is still
 * called once, when it is answered or the association ends.  false: data are being received into
 * the buffer at this moment; ask again later.
 */
bool nvmeh_abandon(struct nvmeh *assoc, struct nvmeh_cmd *cmd);

#endif
