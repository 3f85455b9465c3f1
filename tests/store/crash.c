/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/store/sweep.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SUBSETS_EVERY_MAX 8u  /* outstanding writes of which every subset is tried */
#define SUBSETS_RANDOM    64u /* of more than those */
#define SUBSETS_SECOND    16u /* the same in a recovery */
#define TORN_EVERY_MAX    3u  /* sectors that differ, of which every mixture is tried */
#define TORN_RANDOM       4u
#define TORN_DATA_MAX     3u /* data writes of a moment that are torn */
#define TORN_AT_ONCE      8u /* states with all metadata torn */
#define KEPT              0xffu
#define VISITED_SLOTS     (1u << 23)

/* A run whose moments are crashed. */
struct level {
	struct sweep *sweep;
	unsigned depth;  /* 0: the workload; 1: a recovery */
	bool active;     /* moments count from here on */
	bool certain;    /* what was answered must be there while power stays */
	unsigned points; /* so far */
	unsigned states; /* of this moment so far */
	uint64_t model_hash;
};

/* What a crash may keep of a moment. */
struct outstanding {
	struct machine_write writes[WRITES_MAX];
	unsigned count;
	uint8_t kept[WRITES_MAX]; /* bits: sectors */
};

/* ---- states that were there before ---- */

static uint64_t *visited;
static size_t visited_count;

static bool visit(uint64_t hash)
{
	size_t at = hash % VISITED_SLOTS;

	if (visited == NULL) {
		visited = calloc(VISITED_SLOTS, sizeof(uint64_t));
		assert(visited != NULL);
	}
	hash |= 1;
	for (; visited[at] != 0; at = (at + 1) % VISITED_SLOTS) {
		if (visited[at] == hash) {
			return false;
		}
	}
	if (visited_count < VISITED_SLOTS / 2) {
		visited[at] = hash;
		visited_count++;
	}
	return true;
}

/* ---- one state ---- */

static void crash_point(struct run *run);

static void work_on(struct sweep *sweep, struct run *run)
{
	static const char letters[] = "WHOTLAPRUO";

	for (const char *letter = letters; *letter != '\0'; letter++) {
		if (run_can(run, *letter)) {
			run_start(run, *letter);
			run_wait(run);
		}
	}
	check_reads(run);
	run_settle(run);
	check_settled(run);
	run_end(run);
	verify(sweep, &run->machine.current, &run->model, false, NO_BLOCK, false);
}

static void must_open(struct run *run)
{
	if (run_open(run) != 0) {
		case_failed("open: %s", run->open_op.err.text);
	}
}

void verify(struct sweep *sweep, const struct image *image, const struct model *model,
	bool power_lost, uint32_t torn, bool go_on)
{
	struct run *run = run_new(sweep->base, image, model, sweep->seed);

	must_open(run);
	check_opened(run, power_lost, torn);
	run_settle(run);
	check_settled(run);
	if (go_on) {
		work_on(sweep, run);
	} else {
		run_end(run);
	}
	run_free(run);
}

/* The same with a crash at each moment. */
static void verify_and_crash(
	struct sweep *sweep, const struct image *image, const struct model *model, bool power_lost)
{
	struct run *run = run_new(sweep->base, image, model, sweep->seed);
	struct level level = {
		.sweep = sweep,
		.depth = 1,
		.active = true,
		.certain = !power_lost,
	};

	run->ctx = &level;
	run->point = crash_point;
	must_open(run);
	run->point = NULL;
	check_opened(run, power_lost, NO_BLOCK);
	run->point = crash_point;
	/* What an open has shown stays. */
	level.certain = true;
	run_settle(run);
	run->point = NULL;
	check_settled(run);
	run_end(run);
	run_free(run);
}

static bool is_wanted(const struct level *level)
{
	const struct selection *only = level->sweep->only;

	return only == NULL || !only->crash[level->depth] ||
	       (only->point[level->depth] == level->points &&
		       only->state[level->depth] == level->states);
}

/* The name of the case up to here, so that what comes below can be appended. */
static void name_state(struct level *level, char before[CASE_MAX])
{
	memcpy(before, level->sweep->text, CASE_MAX);
	case_name(level->sweep, "%s:%u.%u", before, level->points, level->states);
}

static void try_state(struct level *level, const struct run *run, const struct image *image,
	bool power_lost, bool torn, uint32_t torn_data)
{
	struct sweep *sweep = level->sweep;
	char before[CASE_MAX];
	uint64_t hash;
	bool again;

	level->states++;
	if (!is_wanted(level)) {
		return;
	}
	hash = hash_mix(image_hash(image), level->model_hash);
	hash = hash_mix(hash, (uint64_t)power_lost << 32 | torn_data);
	sweep->totals->crash_points++;
	sweep->totals->second_crashes += level->depth;
	sweep->totals->torn += torn;
	if (sweep->only == NULL && !visit(hash)) {
		sweep->totals->same++;
		return;
	}
	sweep->totals->recoveries++;
	name_state(level, before);
	again = level->depth == 0 && torn_data == NO_BLOCK;
	hash = hash_mix(hash, sweep->seed);
	if (again && ((sweep->only != NULL && sweep->only->crash[1]) ||
			     (sweep->only == NULL && hash % sweep->second_every == 0))) {
		verify_and_crash(sweep, image, &run->model, power_lost);
	} else if (again && ((sweep->only != NULL && sweep->only->fault) ||
				    (sweep->only == NULL && hash % sweep->fault_every == 1))) {
		sweep_recovery_faults(sweep, image, &run->model);
	} else {
		verify(sweep, image, &run->model, power_lost, torn_data,
			torn_data == NO_BLOCK && hash % sweep->go_on_every == 0);
	}
	memcpy(sweep->text, before, CASE_MAX);
}

/* ---- all states of a moment ---- */

static void collect(const struct run *run, struct outstanding *outstanding)
{
	const struct machine *machine = &run->machine;
	uint8_t writes_of[IMAGE_BLOCKS_MAX] = {0};

	outstanding->count = 0;
	for (unsigned i = 0; i < machine->write_count; i++) {
		writes_of[machine->writes[i].block]++;
	}
	for (unsigned i = 0; i < machine->write_count; i++) {
		const struct machine_write *write = &machine->writes[i];

		/* What changes nothing makes no difference. */
		if (writes_of[write->block] > 1 ||
			machine->durable.contents[write->block] != write->content) {
			outstanding->writes[outstanding->count++] = *write;
		}
	}
}

/* Sectors of `mask` from the new content, the others from the old. */
static uint32_t mixture(uint32_t old, uint32_t new, unsigned mask)
{
	uint8_t bytes[IMAGE_BLOCK_BYTES];

	if (mask == KEPT) {
		return new;
	}
	memcpy(bytes, content_bytes(old), sizeof(bytes));
	for (unsigned sector = 0; sector < BLOCK_SECTORS; sector++) {
		if ((mask >> sector & 1) != 0) {
			memcpy(bytes + sector * SECTOR_BYTES,
				content_bytes(new) + sector * SECTOR_BYTES, SECTOR_BYTES);
		}
	}
	return content_of(bytes);
}

/* torn_data: the block, if it has data; NO_BLOCK: only metadata are torn, or nothing. */
static void try_kept(struct level *level, const struct run *run,
	const struct outstanding *outstanding, uint32_t torn_data)
{
	struct image image = run->machine.durable;
	bool all_completed = true;
	bool torn = false;

	for (unsigned i = 0; i < outstanding->count; i++) {
		const struct machine_write *write = &outstanding->writes[i];
		uint32_t *content = &image.contents[write->block];
		unsigned kept = outstanding->kept[i];

		torn |= kept != 0 && kept != KEPT;
		if (kept != KEPT && write->completed != 0) {
			all_completed = false;
		}
		if (kept != 0) {
			*content = mixture(*content, write->content, kept);
		}
	}
	try_state(level, run, &image, torn || !all_completed || !level->certain, torn, torn_data);
}

static void keep(struct outstanding *outstanding, bool all, unsigned but)
{
	for (unsigned i = 0; i < outstanding->count; i++) {
		outstanding->kept[i] = all != (i == but) ? KEPT : 0;
	}
}

static void try_subsets(struct level *level, const struct run *run, struct outstanding *outstanding,
	struct rng *rng)
{
	unsigned count = outstanding->count;
	unsigned most = level->depth == 0 ? SUBSETS_RANDOM : SUBSETS_SECOND;
	unsigned step = (unsigned)div_up_u64(count, most);

	if (count <= SUBSETS_EVERY_MAX) {
		for (unsigned subset = 0; subset < 1u << count; subset++) {
			for (unsigned i = 0; i < count; i++) {
				outstanding->kept[i] = (subset >> i & 1) != 0 ? KEPT : 0;
			}
			try_kept(level, run, outstanding, NO_BLOCK);
		}
		return;
	}
	keep(outstanding, true, count);
	try_kept(level, run, outstanding, NO_BLOCK);
	keep(outstanding, false, count);
	try_kept(level, run, outstanding, NO_BLOCK);
	for (unsigned i = 0; i < count; i += step) {
		keep(outstanding, true, i);
		try_kept(level, run, outstanding, NO_BLOCK);
		keep(outstanding, false, i);
		try_kept(level, run, outstanding, NO_BLOCK);
	}
	for (unsigned i = 0; i < count; i++) {
		outstanding->kept[i] = outstanding->writes[i].completed != 0 ? KEPT : 0;
	}
	try_kept(level, run, outstanding, NO_BLOCK);
	for (unsigned round = 0; round < most; round++) {
		for (unsigned i = 0; i < count; i++) {
			outstanding->kept[i] = rng_percent(rng, 50) ? KEPT : 0;
		}
		try_kept(level, run, outstanding, NO_BLOCK);
	}
}

/* ---- torn blocks ---- */

/* Of a cluster, and not a page of stamps. */
static bool is_data(const struct run *run, const struct machine_write *write)
{
	uint64_t first = run->layout.clusters;
	const uint8_t *bytes = content_bytes(write->content);

	return write->block >= first && write->block < run->layout.vmeta_far &&
	       memcmp(bytes, "SPAG", 4) != 0;
}

static void try_torn(struct level *level, const struct run *run, struct outstanding *outstanding,
	unsigned torn, unsigned mask)
{
	const struct machine_write *write = &outstanding->writes[torn];
	uint8_t before = outstanding->kept[torn];

	outstanding->kept[torn] = (uint8_t)mask;
	try_kept(level, run, outstanding, is_data(run, write) ? write->block : NO_BLOCK);
	outstanding->kept[torn] = before;
}

/* Bits: sectors in which the write differs from what is below it. */
static unsigned differing(
	const struct run *run, const struct outstanding *outstanding, unsigned torn)
{
	uint32_t block = outstanding->writes[torn].block;
	uint32_t below = run->machine.durable.contents[block];
	unsigned mask = 0;

	for (unsigned i = 0; i < torn; i++) {
		if (outstanding->writes[i].block == block && outstanding->kept[i] != 0) {
			below = outstanding->writes[i].content;
		}
	}
	for (unsigned sector = 0; sector < BLOCK_SECTORS; sector++) {
		mask |= (unsigned)(memcmp(content_bytes(below) + sector * SECTOR_BYTES,
					   content_bytes(outstanding->writes[torn].content) +
						   sector * SECTOR_BYTES,
					   SECTOR_BYTES) != 0)
			<< sector;
	}
	return mask;
}

static void try_tears(struct level *level, const struct run *run, struct outstanding *outstanding,
	unsigned torn, struct rng *rng)
{
	unsigned all = differing(run, outstanding, torn);
	unsigned count = (unsigned)__builtin_popcount(all);

	if (count < 2) {
		return;
	}
	if (count <= TORN_EVERY_MAX) {
		for (unsigned mask = (all - 1) & all; mask != 0; mask = (mask - 1) & all) {
			try_torn(level, run, outstanding, torn, mask);
		}
		return;
	}
	if (!is_data(run, &outstanding->writes[torn])) {
		for (unsigned sector = 1; sector < BLOCK_SECTORS; sector++) {
			unsigned before = all & ((1u << sector) - 1);

			if (before != 0 && before != all) {
				try_torn(level, run, outstanding, torn, before);
				try_torn(level, run, outstanding, torn, all & ~before);
			}
		}
	}
	for (unsigned round = 0; round < TORN_RANDOM; round++) {
		try_torn(level, run, outstanding, torn, all & (unsigned)rng_below(rng, 256));
	}
}

/* One at a time; then all that may be torn at once. */
static void try_all_tears(struct level *level, const struct run *run,
	struct outstanding *outstanding, struct rng *rng)
{
	unsigned data = 0;
	unsigned metadata = 0;

	for (unsigned i = 0; i < outstanding->count; i++) {
		if (!is_data(run, &outstanding->writes[i])) {
			metadata++;
		} else if (++data > TORN_DATA_MAX) {
			continue;
		}
		keep(outstanding, false, outstanding->count);
		try_tears(level, run, outstanding, i, rng);
		keep(outstanding, true, outstanding->count);
		try_tears(level, run, outstanding, i, rng);
	}
	for (unsigned round = 0; metadata > 1 && round < TORN_AT_ONCE; round++) {
		for (unsigned i = 0; i < outstanding->count; i++) {
			bool whole = is_data(run, &outstanding->writes[i]) || rng_percent(rng, 25);

			outstanding->kept[i] = whole ? (rng_percent(rng, 50) ? KEPT : 0)
						     : (uint8_t)rng_below(rng, 256);
		}
		try_kept(level, run, outstanding, NO_BLOCK);
	}
}

/* What was answered to questions must be true for ever, too. */
static void observe(struct run *run)
{
	for (unsigned i = 0; i < MODEL_REPLICAS; i++) {
		struct model_replica *replica = &run->model.replicas[i];
		const struct store_replica *handle = run->handles[i];

		if (replica->existence != PRESENT || handle == NULL) {
			continue;
		}
		replica->seq_low = max_u64(replica->seq_low, store_replica_vmeta(handle)->seq);
		for (unsigned j = 0; j < CELL_REGIONS; j++) {
			if (cell_region(j) < store_replica_region_count(handle)) {
				replica->stamp_low[j] = max_u64(replica->stamp_low[j],
					store_replica_stamp(handle, cell_region(j)));
			}
		}
	}
}

static void crash_point(struct run *run)
{
	struct level *level = run->ctx;
	struct sweep *sweep = level->sweep;
	static struct outstanding all[2];
	struct outstanding *outstanding = &all[level->depth];
	struct rng rng;
	uint32_t mark = contents_mark();

	level->points++;
	level->states = 0;
	if (run->store != NULL && run->opened) {
		observe(run);
	}
	if (!level->active || (sweep->only != NULL && sweep->only->crash[level->depth] &&
				      sweep->only->point[level->depth] != level->points)) {
		return;
	}
	if (level->depth == 0) {
		sweep->totals->points++;
	} else {
		sweep->totals->second_points++;
	}
	rng_init(&rng, hash_mix(sweep->seed, level->points));
	level->model_hash = model_hash(&run->model);
	collect(run, outstanding);
	try_subsets(level, run, outstanding, &rng);
	try_all_tears(level, run, outstanding, &rng);
	contents_release(mark);
}

/* ---- the sequence ---- */

static void begin_crashes(struct run *run)
{
	((struct level *)run->ctx)->active = true;
}

bool run_letters(struct sweep *sweep, struct run *run, void (*last)(struct run *run))
{
	for (const char *letter = sweep->letters; *letter != '\0'; letter++) {
		if (run->store->failed) {
			break;
		}
		if (!run_can(run, *letter)) {
			run->point = NULL;
			run_wait(run);
			return false;
		}
		if (letter[1] == '\0' && last != NULL) {
			last(run);
		}
		run_start(run, *letter);
		if (sweep->overlapped) {
			(void)run_step(run);
		} else {
			run_wait(run);
		}
	}
	run_wait(run);
	return true;
}

bool sweep_crashes(struct sweep *sweep)
{
	uint32_t mark = contents_mark();
	struct run *run =
		run_new(sweep->base, &sweep->base->image, &sweep->base->model, sweep->seed);
	struct level level = {.sweep = sweep, .certain = true};
	bool possible;

	case_name(
		sweep, "%s:%c:%s", sweep->base_name, sweep->overlapped ? 'o' : 's', sweep->letters);
	run->ctx = &level;
	run->point = crash_point;
	level.active = sweep->letters[0] == '\0';
	must_open(run);
	check_opened(run, false, NO_BLOCK);
	possible = run_letters(sweep, run, begin_crashes);
	if (possible) {
		check_reads(run);
		run_settle(run);
		check_settled(run);
		sweep->totals->sequences++;
	}
	run_end(run);
	run_free(run);
	contents_release(mark);
	return possible;
}
