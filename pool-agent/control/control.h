/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Control of a pool-agent: its pools and what was recorded of them, and the gRPC service PoolAgent.
 * It runs on the control thread; what touches stores and the agent goes to the reactor as a job and
 * comes back.
 *
 * Numbered rules:
 *  1 struct control and its pools belong to the control thread; the reactor reads a pool's index,
 * name and disk, which do not change while a job has it, and writes `store`, which the control
 * thread reads after the job only. 2 One job that changes something runs at a time; jobs that only
 * look do not wait for it.
 */
#ifndef POOL_AGENT_CONTROL_CONTROL_H
#define POOL_AGENT_CONTROL_CONTROL_H

#include "api/strake.pb-c.h"
#include "daemon/daemon.h"
#include "pool-agent/agent.h"

#include <limits.h>

#define CONTROL_LOCK_WAIT_MS 5000u /* for a killed predecessor whose I/O may still land */
#define CONTROL_RETRY_MS     5000u

struct control;

enum pool_state { POOL_OPENING, POOL_ONLINE, POOL_FAULTED };

/* Recorded before the disk is touched: what a killed agent left half done is known. */
enum pool_phase { POOL_PRESENT, POOL_CREATING, POOL_DELETING };

struct pool {
	bool used;
	unsigned index; /* its place, for ever: namespace ids count from it */
	char name[STORE_POOL_NAME_SIZE];
	char disk[PATH_MAX]; /* "/dev/...", "file:///path", "memory://" */
	uint64_t size_bytes; /* of a file that may be made at start; 0: none is made */
	bool is_configured;  /* by the YAML file; else by CreatePool */
	bool is_deleting;    /* a DeletePool has it: it is not opened meanwhile */
	bool is_dropped;     /* the YAML file names it no longer: it keeps its place, closed */
	bool made_file;      /* the file is ours: it goes with the pool */
	enum pool_phase phase;
	struct uuid uuid; /* nil: never opened yet */
	enum pool_state state;
	bool store_failed;      /* while POOL_ONLINE: as the last look found it */
	struct err reason;      /* of POOL_FAULTED */
	struct io_disk *handle; /* owned */
	struct store *store;    /* owned while POOL_ONLINE */
};

/* What the YAML file says. */
struct control_pool_options {
	char name[STORE_POOL_NAME_SIZE];
	char disk[PATH_MAX];
	uint64_t size_bytes;
};

struct control_options {
	struct agent_options agent; /* its uuid comes from the state folder */
	unsigned pool_count;
	struct control_pool_options pools[AGENT_POOLS_MAX];
};

struct control {
	struct daemon *daemon; /* borrowed, as what follows */
	struct loop *loop;
	struct real *real;
	const struct log *log;
	const struct control_options *options;
	struct uuid uuid;
	struct io_address address;
	struct pool pools[AGENT_POOLS_MAX];
	struct agent *agent; /* the reactor's */
	struct list queue;   /* of jobs that change something */
	struct job *changing;
	bool changing_goes_on; /* its finish() began another part of it */
	unsigned opening_count;
	struct loop_timer retry, health;
	struct metric online_metric, faulted_metric;
	void (*stopped)(void *ctx);
	void *stopped_ctx;
	bool stopping;
};

/* ---- jobs (job.c) ---- */

struct job {
	struct list_node node; /* in control->queue */
	struct control *control;
	struct grpc_call *call; /* NULL: not from outside */
	/* Control thread, when it is its turn: may end it with job->err set. */
	void (*begin)(struct job *job);
	/* Control thread, after the reactor's part; the job's owner frees it. */
	void (*finish)(struct job *job);
	struct io_msg to_reactor;
	struct loop_msg to_control;
	struct task task; /* the ladder on the reactor */
	bool is_change;
	bool done; /* of an operation that the ladder waits for */
	struct store_op op;
	struct err err; /* code 0: fine */
};

void job_init(struct job *job, struct control *control, struct grpc_call *call, task_step *step,
	void (*finish)(struct job *job));
/* Waits for its turn; then begin, if any, and the ladder. */
void job_change(struct job *job, void (*begin)(struct job *job));
/* The ladder, at once. */
void job_look(struct job *job);
/* In finish(): it goes on with another ladder and keeps its turn. */
void job_continue(struct job *job, task_step *step, void (*finish)(struct job *job));
/* Reactor: the ladder has ended; finish() follows on the control thread. */
void job_end(struct job *job);
/* Reactor: an operation of the job, awaited by job->done. */
struct store_op *job_op(struct job *job);
/* For callbacks of the agent. */
void job_wake(void *ctx);

/* ---- state folder (state.c) ---- */

/* Reads uuid and pools, or makes them.  A file that cannot be understood is an error: it is not
 * overwritten. */
int state_load(struct control *control, struct err *err) __must_check;
int state_save(const struct control *control, struct err *err) __must_check;

/* ---- pools (pools.c) ---- */

struct pool *control_find_pool(struct control *control, const char *name);
/* Opens all that are known; waits until each is open or has failed, at most CONTROL_OPEN_WAIT_MS.
 */
#define CONTROL_OPEN_WAIT_MS 30000u
int pools_start(struct control *control, struct err *err) __must_check;
void pool_create(struct grpc_call *call); /* pool_create.c */
void pool_delete(struct grpc_call *call); /* pool_delete.c */
int pool_name_check(const char *name, struct err *err) __must_check;
int pool_disk_check(const char *disk, struct err *err) __must_check;

/* ---- health (health.c) ---- */

#define POOL_STORE_FAILED_TEXT                                                                     \
	"its metadata could not be written: restart the pool-agent when the disk is sound"
/* Tells health and metrics how the pools are. */
void pools_report(struct control *control);
void health_start(struct control *control);
void health_stop(struct control *control);
void health_end(struct control *control);

/* What libblkid knows of the disk: 0 nothing, -EEXIST with its name, else an error. */
int disk_probe(const char *path, struct err *err) __must_check;

/* ---- service (service.c, replicas.c) ---- */

/* A Pool message with the texts that it points to. */
struct pool_text {
	Strake__V1__Pool message;
	char uuid[UUID_TEXT_SIZE];
	char agent[UUID_TEXT_SIZE];
	char state[16];
	char reason[ERR_TEXT_MAX];
};
/* `info` NULL: it has no store. */
void pool_text_fill(struct control *control, struct pool *pool, const struct store_info *info,
	struct pool_text *ret_text);

extern const struct grpc_method control_methods[];
extern const size_t control_method_count;
void replica_create(struct grpc_call *call);
void replica_delete(struct grpc_call *call);
void replica_set_key(struct grpc_call *call);
void replica_recover(struct grpc_call *call); /* replica_recover.c */
void replica_fence(struct grpc_call *call);
void replica_export(struct grpc_call *call);
void replica_unexport(struct grpc_call *call);
void replicas_list(struct grpc_call *call, const char *pool, const char *volume, const char *id);

/* ---- the whole (control.c) ---- */

/* The reactor runs already.  The caller serves the methods and runs the loop.  When it fails
 * control_stop() is due all the same. */
int control_start(struct control *control, struct daemon *daemon,
	const struct control_options *options, struct err *err) __must_check;
/* Ends calls in flight, then the agent, then the pools; `stopped` on the control thread. */
void control_stop(
	struct control *control, unsigned grace_ms, void (*stopped)(void *ctx), void *ctx);
const char *control_nqn(const struct control *control, char nqn[NVME_NQN_SIZE]);

#endif
