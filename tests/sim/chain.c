/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What must hold of configurations and tokens (docs/invariants.md I2, I4, I5, I7, I10), looked at
 * after each step of the world: what each voter has durably, and what each nexus says it committed.
 *
 * A configuration counts as committed from the moment when the last voter that it needs has it, not
 * when its nexus hears of that.  Voters come and go: who has accepted is kept by the place in the
 * configuration.  A majority of the V before it needs no look of its own, as any majorities of two
 * configurations that follow each other must meet.
 */
#include "nexus/mirror/volume_internal.h"
#include "pool-agent/internal.h"
#include "tests/sim/world.h"

#include <stdlib.h>

static struct chain_record *chain_find(struct chain *chain, const struct cfg *cfg)
{
	for (size_t i = 0; i < chain->count; i++) {
		if (cfg_compare(&chain->records[i].cfg, cfg) == 0) {
			return &chain->records[i];
		}
	}
	return NULL;
}

static struct chain_record *chain_add(struct chain *chain, const struct cfg *cfg)
{
	if (chain->count == chain->capacity) {
		chain->capacity = chain->capacity == 0 ? 32 : 2 * chain->capacity;
		chain->records = realloc(chain->records, chain->capacity * sizeof(*chain->records));
		assert(chain->records != NULL);
	}
	chain->records[chain->count] = (struct chain_record){.cfg = *cfg};
	return &chain->records[chain->count++];
}

void chain_done(struct chain *chain)
{
	free(chain->records);
}

__attribute__((format(printf, 2, 3))) static void chain_fail(
	struct world *world, const char *format, ...)
{
	char text[300];
	va_list args;

	va_start(args, format);
	(void)vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	world_fail(world, &world->result->broken, "chain", "%s", text);
}

/* All of S and a majority of V have it. */
static bool is_committed(const struct chain_record *record)
{
	unsigned votes = 0;

	for (unsigned i = 0; i < record->cfg.voter_count; i++) {
		bool has = (record->accepted_by >> i & 1) != 0;

		votes += has;
		if (record->cfg.voters[i].insync && !has) {
			return false;
		}
	}
	return votes >= cfg_majority(&record->cfg);
}

static void judge_lineage(struct node_agent *node, const struct vmeta *vmeta)
{
	const struct world *world = node->world;
	char text[CFG_TEXT_SIZE];

	if (vmeta->cfg.lineage == node->seen.cfg.lineage || node->seen.cfg.gen == 0 ||
		(recovery_is_under_way(world) && node == world->recovery.node &&
			vmeta->cfg.lineage == world->recovery.lineage)) {
		return;
	}
	chain_fail(node->world, "%s changes its lineage with %s (I8)", node->name,
		cfg_to_text(&vmeta->cfg, text));
}

static void judge_accepted(struct node_agent *node, const struct vmeta *vmeta)
{
	struct world *world = node->world;
	struct chain_record *record = chain_find(&world->chain, &vmeta->cfg);
	int at = cfg_find(&vmeta->cfg, &node->replica_id);
	char text[CFG_TEXT_SIZE];

	if (record == NULL) {
		record = chain_add(&world->chain, &vmeta->cfg);
	} else if (!cfg_equal(&record->cfg, &vmeta->cfg)) {
		chain_fail(world, "%s has another configuration %s than a voter before it (I7)",
			node->name, cfg_to_text(&vmeta->cfg, text));
	}
	if (at >= 0) {
		record->accepted_by |= 1u << at;
	}
	if (at >= 0 && vmeta->cfg.voters[at].insync && vmeta->rebuilding) {
		chain_fail(world, "%s accepts %s with itself in S while it is being rebuilt (I5)",
			node->name, cfg_to_text(&vmeta->cfg, text));
	}
}

/* What is durable of a voter has changed. */
static void judge_vmeta(struct node_agent *node, const struct vmeta *vmeta)
{
	const struct vmeta *seen = &node->seen;
	struct world *world = node->world;
	int order = cfg_compare(&vmeta->cfg, &seen->cfg);

	if (seen->cfg.min_version > CFG_VERSION && node->older) {
		chain_fail(world, "%s changes metadata of version %u that it does not understand",
			node->name, seen->cfg.min_version);
	}
	if (vmeta->seq < seen->seq) {
		chain_fail(world, "%s: version %lu of its metadata after %lu", node->name,
			(unsigned long)vmeta->seq, (unsigned long)seen->seq);
	}
	if (epoch_compare(&vmeta->promised, &seen->promised) < 0) {
		chain_fail(world, "%s: its promise fell from %u.%u to %u.%u (I4)", node->name,
			seen->promised.attach, seen->promised.inc, vmeta->promised.attach,
			vmeta->promised.inc);
	}
	if (order < 0) {
		chain_fail(world, "%s: its configuration fell from %u.%u:%u to %u.%u:%u",
			node->name, seen->cfg.epoch.attach, seen->cfg.epoch.inc, seen->cfg.gen,
			vmeta->cfg.epoch.attach, vmeta->cfg.epoch.inc, vmeta->cfg.gen);
	}
	if (vmeta->clean < seen->clean && vmeta->rebuilding == seen->rebuilding &&
		vmeta->cfg.lineage == seen->cfg.lineage) {
		chain_fail(world, "%s: clean fell from %lu to %lu (I9)", node->name,
			(unsigned long)seen->clean, (unsigned long)vmeta->clean);
	}
	if (order > 0) {
		judge_lineage(node, vmeta);
		judge_accepted(node, vmeta);
	}
}

static void judge_token(struct node_agent *node, const struct vmeta *vmeta)
{
	const struct ns *ns = node->agent->pools[0].slots[node->nsid - 1];

	if (ns == NULL || ns->removing || token_equal(&ns->cur, &node->cur_seen)) {
		return;
	}
	if (token_compare(&ns->cur, &node->cur_seen) < 0) {
		chain_fail(node->world, "%s: its token fell from %u.%u.%u to %u.%u.%u (I4)",
			node->name, node->cur_seen.epoch.attach, node->cur_seen.epoch.inc,
			node->cur_seen.session, ns->cur.epoch.attach, ns->cur.epoch.inc,
			ns->cur.session);
	}
	if (epoch_compare(&ns->cur.epoch, &vmeta->promised) > 0) {
		chain_fail(node->world, "%s: serves epoch %u.%u without a durable promise",
			node->name, ns->cur.epoch.attach, ns->cur.epoch.inc);
	}
	node->cur_seen = ns->cur;
}

void chain_observe(struct world *world)
{
	for (unsigned i = 0; i < world->options.voters; i++) {
		struct node_agent *node = &world->agents[i];
		const struct vmeta *vmeta;

		if (!agent_has_replica_now(node) || store_replica_abstains(node->replica)) {
			continue;
		}
		vmeta = store_replica_vmeta(node->replica);
		if (vmeta->seq != node->seen.seq) {
			judge_vmeta(node, vmeta);
			node->seen = *vmeta;
		}
		judge_token(node, vmeta);
	}
}

/* ---- what a nexus says ---- */

/* The last committed one before `cfg` in order. */
static const struct cfg *predecessor(struct world *world, const struct cfg *cfg)
{
	const struct cfg *last = NULL;

	for (size_t i = 0; i < world->chain.count; i++) {
		const struct chain_record *record = &world->chain.records[i];

		if (cfg_compare(&record->cfg, cfg) < 0 && record->cfg.lineage == cfg->lineage &&
			is_committed(record) &&
			(last == NULL || cfg_compare(&record->cfg, last) > 0)) {
			last = &record->cfg;
		}
	}
	return last;
}

static bool insync_is_within(const struct cfg *cfg, const struct cfg *other)
{
	for (unsigned i = 0; i < cfg->voter_count; i++) {
		int at = cfg_find(other, &cfg->voters[i].id);

		if (cfg->voters[i].insync && (at < 0 || !other->voters[at].insync)) {
			return false;
		}
	}
	return true;
}

/* An opener's S comes from the last committed configuration or from one that was proposed after
 * it: nobody is elected who was in neither. */
static void judge_election(struct world *world, const struct cfg *cfg)
{
	const struct cfg *before = predecessor(world, cfg);
	char text[CFG_TEXT_SIZE];

	if (before == NULL || insync_is_within(cfg, before)) {
		return;
	}
	for (size_t i = 0; i < world->chain.count; i++) {
		const struct cfg *other = &world->chain.records[i].cfg;

		if (cfg_compare(other, before) > 0 && cfg_compare(other, cfg) < 0 &&
			insync_is_within(cfg, other)) {
			return;
		}
	}
	chain_fail(world, "%s elects a replica that nobody had in S", cfg_to_text(cfg, text));
}

static bool majorities_meet(const struct cfg *a, const struct cfg *b)
{
	unsigned all = a->voter_count;

	for (unsigned i = 0; i < b->voter_count; i++) {
		all += cfg_find(a, &b->voters[i].id) < 0;
	}
	return cfg_majority(a) + cfg_majority(b) > all;
}

static void judge_pair(struct world *world, const struct cfg *before, const struct cfg *after)
{
	char text[2][CFG_TEXT_SIZE];

	if (before == NULL || after == NULL || majorities_meet(before, after)) {
		return;
	}
	chain_fail(world, "%.120s is followed by %.120s (I7)", cfg_to_text(before, text[0]),
		cfg_to_text(after, text[1]));
}

/* Of two that follow each other any two majorities have a voter in common, or a later opener could
 * miss one.  An older nexus may hear late that it had committed. */
static void judge_neighbours(struct world *world, const struct cfg *cfg)
{
	const struct cfg *before = NULL, *after = NULL;

	for (size_t i = 0; i < world->chain.count; i++) {
		const struct cfg *other = &world->chain.records[i].cfg;
		int order = cfg_compare(other, cfg);

		/* An old lineage may go on somewhere beside the one after a forced recovery. */
		if (!world->chain.records[i].said || other->lineage != cfg->lineage) {
			continue;
		}
		if (order < 0 && (before == NULL || cfg_compare(other, before) > 0)) {
			before = other;
		} else if (order > 0 && (after == NULL || cfg_compare(other, after) < 0)) {
			after = other;
		}
	}
	judge_pair(world, before, cfg);
	judge_pair(world, cfg, after);
}

const struct cfg *chain_last(const struct world *world)
{
	const struct cfg *last = NULL;

	for (size_t i = 0; i < world->chain.count; i++) {
		const struct chain_record *record = &world->chain.records[i];

		if (record->said && (last == NULL || cfg_compare(&record->cfg, last) > 0)) {
			last = &record->cfg;
		}
	}
	return last;
}

void chain_recovered(struct world *world, const struct cfg *cfg)
{
	struct chain_record *record = chain_find(&world->chain, cfg);

	if (record == NULL || !cfg_equal(&record->cfg, cfg) || !is_committed(record)) {
		chain_fail(world, "the configuration of a forced recovery is not there");
	} else {
		record->said = true;
	}
}

void chain_committed(struct world *world, const struct cfg *cfg)
{
	struct chain_record *record = chain_find(&world->chain, cfg);
	char text[CFG_TEXT_SIZE];

	if (record == NULL || !cfg_equal(&record->cfg, cfg) || !is_committed(record)) {
		chain_fail(world, "%s was committed without all of S and a majority (I2)",
			cfg_to_text(cfg, text));
		return;
	}
	for (size_t i = 0; i < world->chain.count; i++) {
		const struct chain_record *other = &world->chain.records[i];

		if (epoch_compare(&other->cfg.epoch, &cfg->epoch) == 0 &&
			other->cfg.epoch.nonce != cfg->epoch.nonce && is_committed(other)) {
			chain_fail(world, "two nexuses committed in epoch %u.%u (I7)",
				cfg->epoch.attach, cfg->epoch.inc);
		}
	}
	if (cfg->gen == 1) {
		judge_election(world, cfg);
	}
	record->said = true;
	judge_neighbours(world, cfg);
}

static bool is_asked_away(const struct volume *volume, const struct uuid *replica)
{
	return volume != NULL && volume->change == CHANGE_REMOVE &&
	       uuid_equal(&volume->change_id, replica);
}

/* The volume's rule (nexus/nexus.h): the default by what it was opened with, and never more than
 * there are data replicas without one that is to go. */
static unsigned least_insync(const struct slot *slot)
{
	const struct cfg *cfg = &slot->committed;
	uint64_t wanted = slot->world->options.min_insync;
	uint64_t data = 0;

	for (unsigned i = 0; i < cfg->voter_count; i++) {
		data += cfg->voters[i].kind == VOTER_DATA &&
			!is_asked_away(slot->volume, &cfg->voters[i].id);
	}
	if (wanted == 0) {
		wanted = slot->data_at_open <= 2 ? 1 : 2;
	}
	return (unsigned)min_u64(wanted, max_u64(data, 1));
}

void chain_acked(const struct slot *slot)
{
	struct world *world = slot->world;
	const struct cfg *committed = &slot->committed;
	unsigned least = least_insync(slot);

	if (cfg_insync_count(committed) < least) {
		chain_fail(world, "acknowledged with %u members of S, needs %u (I10)",
			cfg_insync_count(committed), least);
	}
}
