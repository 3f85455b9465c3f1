/* SPDX-License-Identifier: Apache-2.0 */
/* What replicas.c, replica_create.c and replica_change.c share. */
#ifndef POOL_AGENT_CONTROL_REPLICA_JOB_H
#define POOL_AGENT_CONTROL_REPLICA_JOB_H

#include "pool-agent/control/control.h"

struct replica_info {
	uint32_t nsid;
	bool abstains;
	struct vmeta vmeta;
	uint64_t used_bytes;
	struct agent_replica_status status;
	unsigned pool;
};

struct replica_name {
	struct uuid id;
	uint32_t nsid; /* 0: by id */
};

/* Texts that a Strake__V1__Replica points to. */
struct replica_text {
	Strake__V1__Replica message;
	char uuid[UUID_TEXT_SIZE];
	char volume[UUID_TEXT_SIZE];
	char agent[UUID_TEXT_SIZE];
	char cfg[CFG_TEXT_SIZE];
	Strake__V1__Configuration configuration;
	Strake__V1__ConfigurationVoter voters[REPL_VOTERS_MAX];
	Strake__V1__ConfigurationVoter *voter_list[REPL_VOTERS_MAX];
	char voter_ids[REPL_VOTERS_MAX][UUID_TEXT_SIZE];
	char token[64];
	char address[IO_ADDRESS_TEXT_SIZE];
	char kind[16], state[16];
	char pool[STORE_POOL_NAME_SIZE];
	struct replica_info info;
};

enum replica_job_state { REPLICA_JOB_START, REPLICA_JOB_AWAIT_1, REPLICA_JOB_AWAIT_2 };

struct replica_job {
	struct job job;
	enum replica_job_state state;
	struct pool *pool;
	struct store_replica_options options;
	struct replica_name name;
	struct store_replica *replica;
	unsigned pool_index;
	bool is_there; /* a creation found it */
	struct agent_change change;
	struct agent_recovery recovery;
	struct agent_fencing fencing;
	struct volume_key key;
	bool read_only;           /* of an export */
	struct replica_text text; /* the answer */
};

/* Replicas are named by their uuid, or by "nsid:7" when that is unreadable.  0 or -EINVAL. */
int replica_name_parse(const char *text, struct replica_name *ret_name, struct err *err);
/* On the reactor.  NULL: -ENOENT with a text. */
struct store_replica *replica_find(struct control *control, const struct replica_name *name,
	unsigned *ret_pool, struct err *err);
/* On the reactor. */
void replica_info_fill(struct control *control, struct store_replica *replica, unsigned pool,
	struct replica_info *ret_info);
/* From text->info; what the message points to is in `text`. */
void replica_text_fill(struct control *control, struct replica_text *text);

struct replica_job *replica_job_of(struct job *job);
/* NULL: memory is short, the call was answered. */
struct replica_job *replica_job_new(
	struct grpc_call *call, task_step *step, void (*finish)(struct job *job));
/* The store's error becomes the job's. */
void replica_job_op_failed(struct job *job);
/* The replica that a request names. */
void replica_job_named(struct job *job, const char *id);
int replica_key_parse(
	uint32_t number, ProtobufCBinaryData bytes, struct volume_key *ret_key, struct err *err);

#endif
