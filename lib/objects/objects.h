/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The objects of group strake.io as C: decoded from JSON into structs that hold valid values only.
 * docs/kubernetes.md says what the fields mean and who writes them.
 */
#ifndef OBJECTS_OBJECTS_H
#define OBJECTS_OBJECTS_H

#include "base/err.h"
#include "base/uuid.h"
#include "kube/kube.h"
#include "objects/seal.h"

#define OBJECTS_GROUP   "strake.io"
#define OBJECTS_VERSION "v1alpha1"
#define OBJECTS_DRIVER  "csi.strake.io"

#define OBJECTS_FINALIZER_POOL     "strake.io/in-use"
#define OBJECTS_FINALIZER_VOLUME   "strake.io/volume"
#define OBJECTS_FINALIZER_REPLICA  "strake.io/erase"
#define OBJECTS_FINALIZER_SNAPSHOT "strake.io/snapshot"
#define OBJECTS_LABEL_POOL_AGENT   "strake.io/pool-agent" /* on Nodes: "true" */
#define OBJECTS_TOPOLOGY_NODE      OBJECTS_DRIVER "/node"

#define OBJECTS_MANAGER_CONTROLLER "strake-controller"
#define OBJECTS_MANAGER_NODE       "strake-node"

#define OBJECTS_NAME_SIZE 254 /* DNS subdomain */
#define OBJECTS_VOLUME_SIZE                                                                        \
	64 /* a Volume's name is a DNS label: the nexus and the store take no more */
#define OBJECTS_REPLICAS_MAX    5 /* that a Volume asks for */
#define OBJECTS_VOTERS_MAX      7 /* that it has, with an arbiter and one that is being replaced */
#define OBJECTS_DISK_SIZE       512
#define OBJECTS_ADDRESS_SIZE    80
#define OBJECTS_REASON_SIZE     256
#define OBJECTS_CAPABILITY_SIZE 49

#define OBJECTS_SIZE_UNIT (UINT64_C(1) << 20) /* volumes are multiples of it */
#define OBJECTS_SIZE_MIN  OBJECTS_SIZE_UNIT
#define OBJECTS_SIZE_MAX  (UINT64_C(64) << 40)

extern const struct kube_kind objects_pools, objects_volumes, objects_replicas, objects_snapshots;

enum pool_state { POOL_CREATING, POOL_ONLINE, POOL_FAULTED, POOL_UNKNOWN, POOL_RELEASED };
enum replica_state {
	REPLICA_CREATING,
	REPLICA_ONLINE,
	REPLICA_OUT_OF_SYNC,
	REPLICA_REBUILDING,
	REPLICA_FAULTED,
	REPLICA_ORPHANED,
};
enum volume_state {
	VOLUME_CREATING,
	VOLUME_ONLINE,
	VOLUME_DEGRADED,
	VOLUME_STALLED,
	VOLUME_FAULTED,
	VOLUME_DELETING,
};

enum snapshot_object_state {
	SNAPSHOT_PENDING,  /* nobody can take it now */
	SNAPSHOT_CREATING, /* csi-node of status.node takes it */
	SNAPSHOT_READY,
	SNAPSHOT_FAILED, /* for good */
};

/* As they are written in objects: "Online". */
const char *pool_state_name(enum pool_state state);
const char *replica_state_name(enum replica_state state);
const char *volume_state_name(enum volume_state state);
const char *snapshot_state_name(enum snapshot_object_state state);

/* The end of metadata that decisions need. */
struct object_meta {
	char name[OBJECTS_NAME_SIZE];
	char uid[40];
	int64_t generation;
	bool is_deleted;    /* deletionTimestamp is there */
	bool has_finalizer; /* the kind's own, above */
};

struct pool_object {
	struct object_meta meta;
	char node[OBJECTS_NAME_SIZE];
	char disk[OBJECTS_DISK_SIZE]; /* without the query of a file URL */
	uint64_t file_size_bytes;     /* of a file that is to be made, 0: none given */
	bool unschedulable, wipe;
	/* status */
	enum pool_state state;
	bool is_ready;                                    /* condition Ready is True */
	char uuid[UUID_TEXT_SIZE], agent[UUID_TEXT_SIZE]; /* "" until known */
	char address[OBJECTS_ADDRESS_SIZE];
	char sealing_key[SEAL_PUBLIC_SIZE]; /* of its node's csi-node */
	uint64_t capacity_bytes, used_bytes, reserved_bytes;
	uint32_t replicas;
	char reason[OBJECTS_REASON_SIZE];
};

struct replica_object {
	struct object_meta meta;
	char volume[OBJECTS_VOLUME_SIZE];
	struct uuid volume_uuid, uuid;
	char pool[OBJECTS_NAME_SIZE], node[OBJECTS_NAME_SIZE];
	bool is_arbiter;
	uint64_t size_bytes; /* 0 of an arbiter */
	uint32_t slot;
	uint32_t key_number;             /* 0: it has no key */
	char key_sealed[SEAL_TEXT_SIZE]; /* for the node's csi-node */
	/* status */
	enum replica_state state;
	uint32_t nsid; /* 0 until made */
	uint64_t used_bytes, refused;
	char reason[OBJECTS_REASON_SIZE];
};

/* 16 hexadecimal digits: which of the volume's lineages (docs/protocol.md 1.12). */
#define OBJECTS_LINEAGE_SIZE 17
/* "attach.inc/generation lineage" */
#define OBJECTS_RECORD_SIZE 64

/* What the nexus that has it open says: status.nexus. */
struct volume_nexus {
	bool is_there;
	char node[OBJECTS_NAME_SIZE];
	char device[64], state[32], reason[OBJECTS_REASON_SIZE];
	char epoch[32];                     /* attach.inc */
	char lineage[OBJECTS_LINEAGE_SIZE]; /* "": not known */
	char record[OBJECTS_RECORD_SIZE];   /* a forced recovery, for status.record; "": none */
	uint32_t superseded_by;             /* attach number; 0: it is not */
	uint32_t generation;
	unsigned replica_count;
	struct {
		char uuid[UUID_TEXT_SIZE];
		char state[32];
		unsigned progress_percent;
	} replicas[OBJECTS_VOTERS_MAX];
	/* Of status.replicas: that are to leave and have no vote any more. */
	unsigned removed_count;
	char removed[OBJECTS_VOTERS_MAX][UUID_TEXT_SIZE];
};

/* Which replicas the volume shall have: status.replicas. */
struct volume_member {
	char name[OBJECTS_NAME_SIZE];
	char uuid[UUID_TEXT_SIZE];
	bool is_arbiter;
	bool is_leaving; /* it shall have no vote any more */
};

struct volume_object {
	struct object_meta meta;
	uint64_t size_bytes;
	struct uuid uuid; /* nil until filled in */
	char csi_name[OBJECTS_NAME_SIZE];
	unsigned replicas, min_insync;
	char frontend[16];
	char preferred_node[OBJECTS_NAME_SIZE];
	char class_name[OBJECTS_NAME_SIZE], claim_namespace[OBJECTS_NAME_SIZE],
		claim_name[OBJECTS_NAME_SIZE];
	const json_t *pool_selector; /* borrowed from the object: matchLabels-like map of texts, or
					NULL */
	/* status */
	enum volume_state state;
	bool is_available; /* condition Available is True */
	bool is_redundant; /* condition Redundant is True */
	uint32_t attach_number;
	char attached_node[OBJECTS_NAME_SIZE]; /* "": detached */
	bool attached_read_only;
	char capability[OBJECTS_CAPABILITY_SIZE]; /* of the attachment, base64; "": none */
	struct volume_nexus nexus;
	/* status.record: a configuration was committed once, of this lineage under this attach
	 * number (0, 0: not known) */
	bool is_used;
	uint64_t lineage;
	uint32_t lineage_attach;
	unsigned member_count;
	struct volume_member members[OBJECTS_VOTERS_MAX];
};

struct snapshot_object {
	struct object_meta meta;
	char volume[OBJECTS_VOLUME_SIZE];
	struct uuid uuid; /* nil until filled in */
	/* status */
	char node[OBJECTS_NAME_SIZE]; /* whose csi-node is to take it; "": nobody's */
	enum snapshot_object_state state;
	bool is_ready_to_use;
	struct uuid volume_uuid; /* of the volume that it was taken of; nil: of none yet */
};

/* 0 or -EINVAL with a text that names object and field: an object that CEL and schema should have
 * refused, or of a newer version.  A status that is not there yet is empty. */
int pool_object_decode(
	const json_t *json, struct pool_object *ret_pool, struct err *err) __must_check;
int replica_object_decode(
	const json_t *json, struct replica_object *ret_replica, struct err *err) __must_check;
int volume_object_decode(
	const json_t *json, struct volume_object *ret_volume, struct err *err) __must_check;
int snapshot_object_decode(
	const json_t *json, struct snapshot_object *ret_snapshot, struct err *err) __must_check;

/* {apiVersion, kind, metadata: {name}}: what a server-side apply begins with.  A new reference. */
json_t *object_new(const struct kube_kind *kind, const char *name);

/* The Volume's name for a CSI request's name. */
void volume_name_from_csi(const char *csi_name, char ret_name[OBJECTS_VOLUME_SIZE]);
/* What a replica's key is sealed for (seal.h). */
#define OBJECTS_SEAL_PURPOSE_SIZE 64
char *replica_seal_purpose(const struct uuid *replica, char text[OBJECTS_SEAL_PURPOSE_SIZE]);
/* <volume>-<5 characters>; `slot` counts from 0. */
void replica_name_make(const char *volume, const struct uuid *volume_uuid, uint32_t slot,
	char ret_name[OBJECTS_NAME_SIZE]);

#endif
