/* SPDX-License-Identifier: Apache-2.0 */
/* Worlds for tests: objects from a few words. */
#ifndef CSI_CONTROLLER_WORLD_TEST_H
#define CSI_CONTROLLER_WORLD_TEST_H

#include "csi-controller/world.h"
#include "objects/testing.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TEST_NOW_S  INT64_C(1700000000) /* 2023-11-14T22:13:20Z */
#define TEST_NOW    "2023-11-14T22:13:20Z"
#define TEST_BEFORE "2023-11-14T22:00:00Z" /* long before */
#define TEST_UUID   "7d1c5bf0-5f0a-4c1e-9f0e-3b2a1c0d9e8f"

static inline void set_node(struct world *world, const char *name, bool is_ready)
{
	json_t *json = parse("{'metadata': {'name': '%s'}, 'status': {'conditions': [{'type': "
			     "'Ready', 'status': '%s'}]}}",
		name, is_ready ? "True" : "Unknown");

	world_set_node(world, name, json);
	json_decref(json);
}

struct test_pool {
	const char *name, *node;
	unsigned capacity_gib;
	const char *more_metadata, *more_spec; /* "'a': 1," */
	const char *state;                     /* NULL: Online */
	const char *reason;                    /* of Ready=False; NULL: it is True */
	bool has_no_finalizer, has_no_sealing_key;
};

static inline void set_pool(struct world *world, const struct test_pool *pool)
{
	struct err err = {0};
	json_t *json =
		parse("{'metadata': {%s 'name': '%s', 'uid': 'u-%s', 'resourceVersion': '1', "
		      "'finalizers': [%s]},"
		      " 'spec': {%s 'node': '%s', 'disks': ['/dev/sdb']},"
		      " 'status': {'state': '%s', %s 'capacity': '%uGi', 'conditions': [{'type': "
		      "'Ready', "
		      "'status': '%s', 'reason': '%s', 'lastTransitionTime': '" TEST_BEFORE "'}]}}",
			pool->more_metadata != NULL ? pool->more_metadata : "", pool->name,
			pool->name, pool->has_no_finalizer ? "" : "'strake.io/in-use'",
			pool->more_spec != NULL ? pool->more_spec : "", pool->node,
			pool->state != NULL ? pool->state : "Online",
			pool->has_no_sealing_key ? "" : "'sealingKey': 'k',", pool->capacity_gib,
			pool->reason != NULL ? "False" : "True",
			pool->reason != NULL ? pool->reason : "Ready");

	if (world_set_pool(world, pool->name, json, &err) < 0) {
		fail_msg("%s", err.text);
	}
	json_decref(json);
}

struct test_volume {
	const char *name;
	unsigned size_gib, replicas;
	const char *more_metadata, *more_spec;
	const char *status; /* NULL: none yet */
	bool has_no_finalizer, has_no_uuid;
};

static inline struct world_volume *set_volume(struct world *world, const struct test_volume *volume)
{
	struct err err = {0};
	json_t *json =
		parse("{'metadata': {%s 'name': '%s', 'uid': 'u-%s', 'resourceVersion': '7', "
		      "'finalizers': [%s]}, 'spec': {%s %s 'size': '%uGi', 'replicas': %u}, "
		      "'status': %s}",
			volume->more_metadata != NULL ? volume->more_metadata : "", volume->name,
			volume->name, volume->has_no_finalizer ? "" : "'strake.io/volume'",
			volume->more_spec != NULL ? volume->more_spec : "",
			volume->has_no_uuid ? "" : "'uuid': '" TEST_UUID "',", volume->size_gib,
			volume->replicas, volume->status != NULL ? volume->status : "{}");

	if (world_set_volume(world, volume->name, json, &err) < 0) {
		fail_msg("%s", err.text);
	}
	json_decref(json);
	return world_volume(world, volume->name);
}

struct test_replica {
	const char *volume, *pool, *node;
	unsigned slot, size_gib;
	bool is_made;
	const char *reason; /* of Ready=False, since long ago */
	const char *more_metadata;
	const char *name;        /* NULL: the one of the slot */
	const char *volume_uuid; /* NULL: TEST_UUID */
	const char *since;       /* of `reason`; NULL: TEST_BEFORE */
};

/* A field of the condition in a plan's status. */
static inline const char *condition_of(const json_t *status, const char *type, const char *field)
{
	const json_t *list = kube_at(status, "conditions");

	for (size_t i = 0; i < json_array_size(list); i++) {
		if (strcmp(kube_text(json_array_get(list, i), "type"), type) == 0) {
			return kube_text(json_array_get(list, i), field);
		}
	}
	return "";
}

/* The uuid of a slot's replica. */
static inline const char *replica_uuid_of(unsigned slot)
{
	static char text[UUID_TEXT_SIZE];

	(void)snprintf(text, sizeof(text), "00000000-0000-4000-8000-%012u", slot + 1);
	return text;
}

static inline const char *replica_name_of_slot(const char *volume, unsigned slot)
{
	static char names[8][OBJECTS_NAME_SIZE];
	static unsigned next;
	struct uuid uuid;
	char *name = names[next++ % 8];

	assert_int_equal(uuid_parse(TEST_UUID, &uuid), 0);
	replica_name_make(volume, &uuid, slot, name);
	return name;
}

static inline struct world_replica *set_replica(
	struct world *world, const struct test_replica *replica)
{
	struct err err = {0};
	const char *name = replica->name != NULL
				   ? replica->name
				   : replica_name_of_slot(replica->volume, replica->slot);
	json_t *json = parse(
		"{'metadata': {%s 'name': '%s', 'uid': 'u-%s', 'resourceVersion': '3', "
		"'creationTimestamp': '" TEST_NOW "', 'finalizers': ['strake.io/erase']}, 'spec': "
		"{'volume': '%s', 'volumeUUID': '%s', 'uuid': '%s', 'pool': '%s', 'node': '%s', "
		"'kind': 'Data', 'size': '%uGi', 'slot': %u}, 'status': {'state': '%s', 'nsid': "
		"%u, "
		"'conditions': [%s{'type': 'Other', 'status': 'True'}]}}",
		replica->more_metadata != NULL ? replica->more_metadata : "", name, name,
		replica->volume, replica->volume_uuid != NULL ? replica->volume_uuid : TEST_UUID,
		replica_uuid_of(replica->slot), replica->pool, replica->node,
		replica->size_gib == 0 ? 1 : replica->size_gib, replica->slot,
		replica->is_made ? "Online" : "Creating", replica->is_made ? 5 : 0, "");

	if (replica->reason != NULL) {
		json_t *conditions = json_object_get(json_object_get(json, "status"), "conditions");

		(void)json_array_append_new(
			conditions, parse("{'type': 'Ready', 'status': 'False', 'reason': '%s', "
					  "'lastTransitionTime': '%s'}",
					    replica->reason,
					    replica->since != NULL ? replica->since : TEST_BEFORE));
	}
	if (world_set_replica(world, name, json, &err) < 0) {
		fail_msg("%s", err.text);
	}
	json_decref(json);
	return world_replica(world, name);
}

static inline void forget(struct world *world,
	int (*set)(struct world *, const char *, const json_t *, struct err *), const char *name)
{
	assert_int_equal(set(world, name, NULL, NULL), 0);
}

#endif
