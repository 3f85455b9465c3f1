/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The objects as the caches know them, decoded and linked: a Volume to its Replicas and Snapshots,
 * a Replica to its Pool, a Pool to its Node.  Plans read it and nothing else.
 *
 * What is named but not there (a Replica's Pool that was deleted) is an entry with is_there false,
 * which goes with the last that names it.
 */
#ifndef CSI_CONTROLLER_WORLD_H
#define CSI_CONTROLLER_WORLD_H

#include "base/list.h"
#include "csi-controller/table.h"
#include "objects/objects.h"

struct world_node {
	struct table_entry entry; /* key: the name */
	bool is_there;
	bool is_ready;  /* its condition Ready is True */
	bool has_label; /* OBJECTS_LABEL_POOL_AGENT is "true" */
	struct list pools;
};

/* The condition Ready of an object. */
struct world_ready {
	char status[16]; /* "True", "False", "Unknown", "" */
	char reason[64];
	int64_t since_s; /* Unix time of its last transition, 0: unknown */
};

struct world_pool {
	struct table_entry entry;
	bool is_there;
	bool is_valid; /* `object` holds something: it was decoded */
	struct pool_object object;
	struct world_ready ready;
	json_t *json;            /* owned; NULL when not there */
	struct world_node *node; /* NULL when not valid */
	struct list_node in_node;
	struct list replicas; /* all that name it, deleted and pending ones too */
	unsigned replica_count;
	uint64_t reserved_bytes; /* sum of theirs */
};

struct world_volume {
	struct table_entry entry;
	bool is_there;
	bool is_valid;
	struct volume_object object;
	json_t *json;
	/* Read afresh, with its replicas, since we lead: what the leader before us did is in it. */
	bool is_verified;
	int64_t deleted_s;     /* Unix time of the deletionTimestamp, 0: not deleted */
	struct list replicas;  /* all that name it, also those of an earlier one of the same name */
	struct list snapshots; /* likewise */
};

struct world_replica {
	struct table_entry entry;
	/* We asked for it and have not seen it: it is being made, or nobody knows.  Its room is
	 * taken. */
	bool is_pending;
	/* We asked for its deletion: it may be deleted already, so it is not relied upon any more.
	 */
	bool is_doomed;
	bool is_valid;
	struct replica_object object;
	uint64_t reserved_bytes; /* in its pool: its size, or its volume's, when that has grown */
	struct world_ready ready;
	int64_t created_s;
	json_t *json;
	struct world_pool *pool; /* NULL when not valid, as `volume` */
	struct world_volume *volume;
	struct list_node in_pool, in_volume;
};

struct world_snapshot {
	struct table_entry entry;
	bool is_valid;
	struct snapshot_object object;
	json_t *json;                /* owned */
	struct world_volume *volume; /* NULL when not valid */
	struct list_node in_volume;
};

struct world {
	struct table nodes, pools, volumes, replicas, snapshots;
	int64_t now_s;               /* Unix time; set by the owner before a plan */
	unsigned overcommit_percent; /* of a pool's capacity that may be reserved */
	unsigned replace_after_s;    /* a replica that is away for so long is replaced */
};

void world_init(struct world *world, unsigned overcommit_percent);
void world_done(struct world *world);

/* What a cache reports; `json` NULL: it is gone.  An object that cannot be decoded is there and not
 * valid, and the text says why. */
void world_set_node(struct world *world, const char *name, const json_t *json);
int world_set_pool(struct world *world, const char *name, const json_t *json, struct err *err);
int world_set_volume(struct world *world, const char *name, const json_t *json, struct err *err);
int world_set_replica(struct world *world, const char *name, const json_t *json, struct err *err);
int world_set_snapshot(struct world *world, const char *name, const json_t *json, struct err *err);

/* Takes the room of a replica that is being created, until world_set_replica or world_unreserve;
 * one that is there, or reserved already, stays as it is. */
void world_reserve(struct world *world, const struct world_volume *volume, const char *name,
	uint32_t slot, const char *pool, const char *node, bool is_arbiter);
void world_unreserve(struct world *world, const char *name);
/* Remembers that its deletion was asked for, until it is gone. */
void world_doom(struct world *world, const char *name);
/* Forgets what was asked for and verified: somebody else decides now. */
void world_forget_asked(struct world *world);

/* NULL: not there, nor named by anything. */
struct world_node *world_node(const struct world *world, const char *name);
struct world_pool *world_pool(const struct world *world, const char *name);
struct world_volume *world_volume(const struct world *world, const char *name);
struct world_replica *world_replica(const struct world *world, const char *name);
struct world_snapshot *world_snapshot(const struct world *world, const char *name);

/* A replica of the volume as it is now, not of an earlier one of the same name. */
bool world_is_of(const struct world_replica *replica, const struct world_volume *volume);
/* Its node's kubelet answers. */
bool world_node_is_ready(const struct world *world, const char *name);
/* The pool can be used: there, node Ready, agent reachable, online. */
bool world_pool_is_usable(const struct world_pool *pool);
/* What may still be promised of it. */
uint64_t world_pool_room(const struct world *world, const struct world_pool *pool);

/* RFC 3339 in UTC; returns text. */
char *world_time_text(int64_t time_s, char text[KUBE_TIME_TEXT_SIZE]);
/* Unix time of RFC 3339 in UTC; 0 when it is none. */
int64_t world_time_parse(const char *text);

#endif
