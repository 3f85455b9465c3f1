/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is next for one object of this node: pure, from the object and from what the daemons said
 * last to one step.  The actor carries it out, and the plan is asked again; any step may be lost or
 * repeated.
 */
#ifndef CSI_NODE_PLAN_H
#define CSI_NODE_PLAN_H

#include "api/strake.pb-c.h"
#include "objects/objects.h"

/* How the last change of an object by its daemon went. */
struct plan_failure {
	int code; /* 0: it went well, or was never tried; negative errno */
	char text[OBJECTS_REASON_SIZE];
};

/* When the status was written last (monotonic; 0: not by this process), and whether now is a moment
 * for what is not urgent: progress and used space. */
struct plan_clock {
	uint64_t now_ms, written_ms;
	bool may_write_idly;
};

#define PLAN_PROGRESS_MS 10000 /* between two writes of progress of an object */
#define PLAN_USED_MS     60000 /* when used space moved little */
#define PLAN_IDLE_MS     1000  /* between two such writes of the node */

/* ---- pools ---- */

struct pool_facts {
	const json_t *json;               /* the object */
	const struct pool_object *object; /* the same */
	const char *agent_failure;        /* NULL: the agent answers, and what follows is there */
	const Strake__V1__Agent *agent;
	const char *sealing_key;      /* the node's public one */
	const Strake__V1__Pool *pool; /* the agent's; NULL: it does not have it */
	uint64_t reserved_bytes;      /* of all Replica objects in it */
	unsigned replica_count;       /* Replica objects that name it */
	const struct uuid *left;      /* one of the agent's in it that none names; NULL: none */
	struct plan_failure failure;
	struct plan_clock clock;
};

enum pool_action {
	POOL_NOTHING,
	POOL_CREATE, /* with `size_bytes` and `wipe` */
	POOL_DELETE,
	POOL_ERASE_LEFT, /* `left`: who deleted the Pool while its node was away has given it up */
	POOL_WRITE_STATUS,
};

struct pool_plan {
	enum pool_action action;
	uint64_t size_bytes;
	bool wipe;
	bool is_idle;   /* the write is one of those that are limited */
	json_t *status; /* owned */
};

void plan_pool(const struct pool_facts *facts, struct pool_plan *ret_plan);
/* What a Pool that was deleted says at last. */
json_t *plan_pool_released(const struct pool_facts *facts);

/* ---- replicas ---- */

struct replica_facts {
	const json_t *json;
	const struct replica_object *object;
	const struct pool_object *pool_object; /* NULL: the cache does not have it */
	const char *agent_failure;
	const Strake__V1__Pool *pool;       /* of the agent; NULL: it does not have it */
	const Strake__V1__Replica *replica; /* of the agent */
	struct plan_failure failure;
	struct plan_clock clock;
};

enum replica_action {
	REPLICA_NOTHING,
	REPLICA_CREATE,
	REPLICA_ERASE,   /* then its finalizer goes */
	REPLICA_RELEASE, /* only its finalizer: there is nothing to erase, or nobody wants it */
	REPLICA_WRITE_STATUS,
};

struct replica_plan {
	enum replica_action action;
	bool is_idle;
	json_t *status;
};

void plan_replica(const struct replica_facts *facts, struct replica_plan *ret_plan);

/* ---- volumes ---- */

struct volume_facts {
	const char *node;   /* ours */
	const json_t *json; /* NULL: the cache does not have it: not attached here */
	const struct volume_object *object; /* NULL when json is */
	const char *nexus_failure;          /* NULL: the nexus answers */
	const Strake__V1__Volume *volume;   /* of the nexus; NULL: it does not have it */
	const char *time_now;               /* RFC 3339, for `since` */
	struct plan_failure failure;        /* of a change of its voters */
	struct plan_clock clock;
};

enum volume_action {
	VOLUME_NOTHING,
	VOLUME_WRITE_NEXUS,  /* status.nexus := `nexus` */
	VOLUME_REMOVE_NEXUS, /* it is not open here any more */
	VOLUME_ADD_VOTER,    /* `replica` shall have a vote */
	VOLUME_REMOVE_VOTER, /* `replica` shall have none any more */
	VOLUME_SET_POLICY,   /* min_insync is another one now */
	VOLUME_RESIZE,       /* spec.size has grown */
	VOLUME_LOST, /* ours no more, but the nexus has it: taken away when a GET says the same */
};

struct volume_plan {
	enum volume_action action;
	bool is_idle;
	json_t *nexus;
	struct uuid replica;
	bool is_known; /* a replica to be removed: status.replicas says that it shall leave */
	bool is_kept;  /* ours no more, but the nexus's record is all that knows of a recovery */
};

void plan_volume(const struct volume_facts *facts, struct volume_plan *ret_plan);
/* status.nexus of an open volume; `before` is the one that is written now, or NULL. */
json_t *plan_nexus_json(const char *node, const struct volume_object *object,
	const Strake__V1__Volume *volume, const json_t *before, const char *time_now);
bool plan_nexus_is_open(const Strake__V1__Volume *volume);
/* An operator decided for a lineage on this node (docs/protocol.md 1.12), and status.record, by
 * which other openings are told it, has neither it yet nor anything newer. */
bool plan_recovery_is_news(const struct volume_object *object, const Strake__V1__Volume *volume);
/* It serves: then it knows who has a vote. */
bool plan_nexus_is_serving(const Strake__V1__Volume *volume);
/* It is of this Volume, not of another one of the name. */
bool plan_nexus_is_of(const struct volume_object *object, const Strake__V1__Volume *volume);

/* ---- snapshots ---- */

struct snapshot_facts {
	const char *node; /* ours */
	const json_t *json;
	const struct snapshot_object *object;
	const struct volume_object *volume_object; /* NULL: not attached here */
	const char *nexus_failure;                 /* NULL: the nexus answers */
	const Strake__V1__Volume *volume;          /* of the nexus; NULL: it does not have it */
	struct plan_failure failure;               /* of the last question for it */
};

enum snapshot_action {
	SNAPSHOT_NOTHING,
	SNAPSHOT_ASK, /* the nexus for it, by its uuid */
	SNAPSHOT_WRITE_STATUS,
};

struct snapshot_plan {
	enum snapshot_action action;
	json_t *status;
};

void plan_snapshot(const struct snapshot_facts *facts, struct snapshot_plan *ret_plan);
/* What it says when the nexus has made it, and it is ready; the Volume is there. */
json_t *plan_snapshot_made(
	const struct snapshot_facts *facts, const Strake__V1__Snapshot *made, const char *time_now);

/* ---- for the plan files ---- */

/* Is `wanted` what the object's status says of these fields?  Lists of conditions by type. */
bool plan_status_is(
	const json_t *json, const json_t *wanted, const char *const fields[], size_t field_count);
/* A list with the condition, whose transition time is the object's when nothing changed. */
void plan_add_condition(json_t *list, const json_t *json, const char *type, const char *status,
	const char *reason, const char *message, int64_t generation);
/* A text for JSON whatever its bytes are. */
json_t *plan_text(const char *text);
json_t *plan_quantity(uint64_t bytes);
/* Whether a number that moves all the time is to be written now. */
bool plan_used_is_due(uint64_t was, uint64_t is, uint64_t whole, const struct plan_clock *clock);

#endif
