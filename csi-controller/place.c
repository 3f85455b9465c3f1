/* SPDX-License-Identifier: Apache-2.0 */
#include "csi-controller/place.h"

#include "base/bytes.h"
#include "base/mutant.h"
#include "base/size.h"
#include "base/strbuf.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WHY_SIZE  128
#define WHY_POOLS 8 /* of which the reason is told; the others are counted */

/* ---- filters ---- */

/* True: the pool cannot, `why` says it after "pool a: ". */
typedef bool place_filter(
	const struct place_request *request, const struct world_pool *pool, char why[WHY_SIZE]);

static bool is_invalid(
	const struct place_request *request, const struct world_pool *pool, char why[WHY_SIZE])
{
	(void)request;
	(void)snprintf(why, WHY_SIZE, "its object is not valid");
	return !pool->is_valid;
}

static bool is_deleted(
	const struct place_request *request, const struct world_pool *pool, char why[WHY_SIZE])
{
	(void)request;
	(void)snprintf(why, WHY_SIZE, "is being deleted");
	return pool->object.meta.is_deleted;
}

static bool is_unschedulable(
	const struct place_request *request, const struct world_pool *pool, char why[WHY_SIZE])
{
	(void)request;
	(void)snprintf(why, WHY_SIZE, "unschedulable");
	return pool->object.unschedulable;
}

static bool is_not_selected(
	const struct place_request *request, const struct world_pool *pool, char why[WHY_SIZE])
{
	const json_t *labels = kube_at(pool->json, "metadata.labels");
	const char *key;
	json_t *value;

	json_object_foreach((json_t *)(uintptr_t)request->pool_selector, key, value)
	{
		if (!json_equal(json_object_get(labels, key), value)) {
			(void)snprintf(why, WHY_SIZE, "has no label %.48s=%.48s", key,
				json_is_string(value) ? json_string_value(value) : "?");
			return true;
		}
	}
	return false;
}

static bool is_unusable(
	const struct place_request *request, const struct world_pool *pool, char why[WHY_SIZE])
{
	(void)request;
	if (!pool->node->is_there) {
		(void)snprintf(why, WHY_SIZE, "there is no node %.64s", pool->object.node);
	} else if (!pool->node->is_ready) {
		(void)snprintf(why, WHY_SIZE, "node %.64s is not ready", pool->object.node);
	} else {
		(void)snprintf(why, WHY_SIZE, "%s%s%.64s", pool_state_name(pool->object.state),
			pool->ready.reason[0] != '\0' ? ", " : "", pool->ready.reason);
	}
	return !world_pool_is_usable(pool);
}

/* Its finalizer keeps a pool that has replicas: none before it is there. */
static bool is_unguarded(
	const struct place_request *request, const struct world_pool *pool, char why[WHY_SIZE])
{
	(void)request;
	(void)snprintf(why, WHY_SIZE, "is new");
	return !pool->object.meta.has_finalizer;
}

/* Nobody else may read the volume's key on its way there. */
static bool has_no_sealing_key(
	const struct place_request *request, const struct world_pool *pool, char why[WHY_SIZE])
{
	(void)request;
	(void)snprintf(why, WHY_SIZE, "csi-node of %.64s has not published its sealing key",
		pool->object.node);
	return pool->object.sealing_key[0] == '\0';
}

static bool is_tried(
	const struct place_request *request, const struct world_pool *pool, char why[WHY_SIZE])
{
	if (request->volume == NULL) {
		return false;
	}
	list_for_each (&request->volume->replicas, node) {
		const struct world_replica *replica =
			container_of(node, struct world_replica, in_volume);
		bool is_kept = false;

		for (unsigned i = 0; i < request->kept_count; i++) {
			is_kept = is_kept || request->kept[i] == replica;
		}
		if (!is_kept && replica->pool == pool && world_is_of(replica, request->volume)) {
			(void)snprintf(why, WHY_SIZE, "has replica %.64s, which %s",
				replica->object.meta.name,
				replica->object.meta.is_deleted ? "is being erased"
								: "could not be made");
			return true;
		}
	}
	return false;
}

static bool is_on_taken_node(
	const struct place_request *request, const struct world_pool *pool, char why[WHY_SIZE])
{
	for (unsigned i = 0; i < request->kept_count; i++) {
		if (strcmp(request->kept[i]->object.node, pool->object.node) == 0 &&
			!mutant_is(MUTANT_TWO_ON_A_NODE)) {
			(void)snprintf(why, WHY_SIZE, "same node as replica %.64s",
				request->kept[i]->object.meta.name);
			return true;
		}
	}
	return false;
}

static bool is_too_full(
	const struct place_request *request, const struct world_pool *pool, char why[WHY_SIZE])
{
	uint64_t room = world_pool_room(request->world, pool);
	uint64_t short_bytes = request->size_bytes > room ? request->size_bytes - room : 0;

	if (short_bytes >= GIB) {
		(void)snprintf(why, WHY_SIZE, "%.1f GiB short", (double)short_bytes / (double)GIB);
	} else {
		(void)snprintf(why, WHY_SIZE, "%llu MiB short",
			(unsigned long long)div_up_u64(short_bytes, MIB));
	}
	return short_bytes > 0;
}

static place_filter *const filters[] = {is_invalid, is_deleted, is_unschedulable, is_not_selected,
	is_unusable, is_unguarded, has_no_sealing_key, is_tried, is_on_taken_node, is_too_full};

static bool is_refused(
	const struct place_request *request, const struct world_pool *pool, char why[WHY_SIZE])
{
	for (size_t i = 0; i < ARRAY_COUNT(filters); i++) {
		if (filters[i](request, pool, why)) {
			return true;
		}
	}
	return false;
}

/* ---- scores ---- */

/* More is better; a row decides only between pools that are equal in all rows before it. */
typedef int64_t place_score(const struct place_request *request, const struct world_pool *pool);

static int64_t is_preferred(const struct place_request *request, const struct world_pool *pool)
{
	return strcmp(request->preferred_node, pool->object.node) == 0;
}

static int64_t has_few_volumes(const struct place_request *request, const struct world_pool *pool)
{
	(void)request;
	return -(int64_t)pool->replica_count;
}

static int64_t has_much_room(const struct place_request *request, const struct world_pool *pool)
{
	return (int64_t)min_u64(world_pool_room(request->world, pool), INT64_MAX);
}

static place_score *const scores[] = {is_preferred, has_few_volumes, has_much_room};

static int compare(const void *a, const void *b, void *ctx)
{
	const struct world_pool *const *left = a, *const *right = b;
	const struct place_request *request = ctx;

	for (size_t i = 0; i < ARRAY_COUNT(scores); i++) {
		int64_t of_left = scores[i](request, *left), of_right = scores[i](request, *right);

		if (of_left != of_right) {
			return of_left > of_right ? -1 : 1;
		}
	}
	/* The same answer whatever the order of the cache. */
	return strcmp((*left)->entry.key, (*right)->entry.key);
}

/* ---- choosing ---- */

struct refusals {
	struct strbuf text;
	unsigned count;
};

static void note_refusal(struct refusals *refusals, const struct world_pool *pool, const char *why)
{
	if (refusals->count < WHY_POOLS) {
		strbuf_printf(&refusals->text, "; pool %s: %s", pool->entry.key, why);
	}
	refusals->count++;
}

/* The first of each node, as they are ordered. */
static unsigned choose(const struct world_pool *const *candidates, size_t count, unsigned wanted,
	const struct world_pool *chosen[OBJECTS_REPLICAS_MAX], struct refusals *refusals)
{
	unsigned chosen_count = 0;

	for (size_t i = 0; i < count && chosen_count < wanted; i++) {
		const struct world_pool *taken = NULL;

		for (unsigned j = 0; j < chosen_count; j++) {
			taken = chosen[j]->node == candidates[i]->node ? chosen[j] : taken;
		}
		if (taken == NULL) {
			chosen[chosen_count++] = candidates[i];
			continue;
		}
		char why[WHY_SIZE];

		(void)snprintf(why, sizeof(why), "same node as pool %.64s", taken->entry.key);
		note_refusal(refusals, candidates[i], why);
	}
	return chosen_count;
}

static void explain(const struct place_request *request, struct refusals *refusals, unsigned found,
	char why[PLACE_WHY_SIZE])
{
	struct strbuf text;

	strbuf_init(&text);
	strbuf_printf(&text, "%u of %u replicas %s a place", request->kept_count + found,
		request->kept_count + request->count,
		request->kept_count + found == 1 ? "has" : "have");
	if (refusals->count == 0) {
		strbuf_append(&text, found == 0 && request->kept_count == 0
					     ? "; there are no pools"
					     : "; there are no other pools");
	}
	strbuf_append(&text, strbuf_text(&refusals->text));
	if (refusals->count > WHY_POOLS) {
		strbuf_printf(&text, "; and %u more pools", refusals->count - WHY_POOLS);
	}
	(void)snprintf(why, PLACE_WHY_SIZE, "%s", strbuf_text(&text));
	strbuf_done(&text);
}

/* Pools in the order of their names: what people read stays the same. */
static int by_name(const void *a, const void *b)
{
	const struct world_pool *const *left = a, *const *right = b;

	return strcmp((*left)->entry.key, (*right)->entry.key);
}

static size_t list_pools(const struct world *world, const struct world_pool ***ret_pools)
{
	size_t count = 0;

	*ret_pools = must_alloc((world->pools.count + 1) * sizeof(**ret_pools));
	for (struct table_entry *entry = table_next(&world->pools, NULL); entry != NULL;
		entry = table_next(&world->pools, entry)) {
		const struct world_pool *pool = container_of(entry, struct world_pool, entry);

		if (pool->is_there) {
			(*ret_pools)[count++] = pool;
		}
	}
	qsort(*ret_pools, count, sizeof(**ret_pools), by_name);
	return count;
}

void place(const struct place_request *request, struct place_answer *ret_answer)
{
	const struct world_pool **pools;
	size_t count = list_pools(request->world, &pools), candidate_count = 0;
	struct refusals refusals = {0};
	char why[WHY_SIZE];

	*ret_answer = (struct place_answer){0};
	strbuf_init(&refusals.text);
	for (size_t i = 0; i < count; i++) {
		if (is_refused(request, pools[i], why)) {
			note_refusal(&refusals, pools[i], why);
		} else {
			pools[candidate_count++] = pools[i];
		}
	}
	qsort_r(pools, candidate_count, sizeof(*pools), compare, (void *)(uintptr_t)request);
	unsigned found =
		choose(pools, candidate_count, request->count, ret_answer->pools, &refusals);

	ret_answer->is_possible = found == request->count;
	if (!ret_answer->is_possible) {
		explain(request, &refusals, found, ret_answer->why);
	}
	strbuf_done(&refusals.text);
	must_free(pools);
}

static int by_size(const void *a, const void *b)
{
	const uint64_t *left = a, *right = b;

	return *left > *right ? -1 : *left < *right;
}

uint64_t place_largest(const struct place_request *request)
{
	struct place_request any_size = *request;
	const struct world_pool **pools;
	size_t count = list_pools(request->world, &pools), node_count = 0;
	uint64_t *rooms = must_alloc((count + 1) * sizeof(*rooms));
	const struct world_node **nodes = must_alloc((count + 1) * sizeof(*nodes));
	uint64_t largest;

	any_size.volume = NULL;
	any_size.kept_count = 0;
	any_size.size_bytes = OBJECTS_SIZE_MIN;
	for (size_t i = 0; i < count; i++) {
		char why[WHY_SIZE];
		size_t at = 0;

		if (is_refused(&any_size, pools[i], why)) {
			continue;
		}
		while (at < node_count && nodes[at] != pools[i]->node) {
			at++;
		}
		node_count += at == node_count;
		nodes[at] = pools[i]->node;
		rooms[at] = max_u64(rooms[at], world_pool_room(request->world, pools[i]));
	}
	qsort(rooms, node_count, sizeof(*rooms), by_size);
	largest = node_count < request->count || request->count == 0
			  ? 0
			  : rooms[request->count - 1] / OBJECTS_SIZE_UNIT * OBJECTS_SIZE_UNIT;
	must_free(nodes);
	must_free(rooms);
	must_free(pools);
	return min_u64(largest, OBJECTS_SIZE_MAX);
}
