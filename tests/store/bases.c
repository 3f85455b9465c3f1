/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The disks that sequences begin with:
 *
 *   fresh  formatted, with one replica that nothing was written to
 *   aged   used for a while: replicas came and went, clusters are scattered, the ring of the
 * journal went round, pages were written back, and the next ones are about to be full   the same on
 * a disk with room for hardly anything junk   only formatted, on a disk that is full of something
 * else
 */
#include "tests/store/sweep.h"

#include <string.h>

#define FRESH_LETTERS "N"
#define AGED_LETTERS  "NXLNWHLBNXLDNXLTWLZOLCOWLTLPNXLTWLOLDXLTLZLWLOLHLAOLWLTCOLZLWLOLOL"

/* Some 130 clusters: their page of the table takes more than one sector, so that tearing it shows;
 * the first 60 belong to replicas that the letters do not mean. */
#define BLOCKS      IMAGE_BLOCKS_MAX
#define FULL_BLOCKS 82u

static struct {
	struct base fresh, aged, full, junk;
} bases;

const char *const base_names[] = {"fresh", "aged", "full", "junk", NULL};

const struct base *base_find(const char *name)
{
	const struct base *all[] = {&bases.fresh, &bases.aged, &bases.full, &bases.junk};

	for (unsigned i = 0; base_names[i] != NULL; i++) {
		if (strcmp(base_names[i], name) == 0) {
			return all[i];
		}
	}
	return NULL;
}

static void set_flag(struct store_op *op)
{
	*(bool *)op->ctx = true;
}

static void base_format(struct base *base, uint32_t blocks, uint64_t seed)
{
	const struct store_format_options options = {
		.name = "swept",
		.uuid = {.b = {0x53}},
		.cluster_bytes = CLUSTER_BLOCKS * STORE_BLOCK_BYTES,
		.region_bytes = REGION_BLOCKS * STORE_BLOCK_BYTES,
		.replica_slots = MODEL_SLOTS,
		.journal_blocks = 8,
	};
	struct run *run;
	struct err err;
	bool formatted = false;
	struct store_op op = {.done = set_flag, .ctx = &formatted};

	if (layout_make(blocks, &options, &base->layout, &err) != 0) {
		case_failed("layout: %s", err.text);
	}
	run = run_new(base, &base->image, &base->model, seed);
	store_format(&run->machine.io, &run->machine.disk, &options, &op);
	run_settle(run);
	if (!formatted || op.result != 0) {
		case_failed("format: %d", op.result);
	}
	run_end(run);
	base->image = run->machine.current;
	run_free(run);
}

/* All that was done is durable, and known. */
static void base_use(struct base *base, const char *letters, uint64_t seed)
{
	struct run *run = run_new(base, &base->image, &base->model, seed);

	if (run_open(run) != 0) {
		case_failed("open: %s", run->open_op.err.text);
	}
	for (; *letters != '\0'; letters++) {
		if (run_can(run, *letters)) {
			run_start(run, *letters);
			run_wait(run);
		}
	}
	run_end(run);
	base->image = run->machine.current;
	base->model = run->model;
	run_free(run);
	run = run_new(base, &base->image, &base->model, seed);
	if (run_open(run) != 0) {
		case_failed("open: %s", run->open_op.err.text);
	}
	check_opened(run, false, NO_BLOCK);
	run_settle(run);
	check_settled(run);
	run_end(run);
	base->image = run->machine.current;
	base->model = run->model;
	run_free(run);
}

void bases_init(uint64_t seed)
{
	uint8_t junk[IMAGE_BLOCK_BYTES];
	uint32_t content;

	case_text = NULL;
	bases.fresh.starts_zeroed = true;
	bases.aged.starts_zeroed = true;
	bases.full.starts_zeroed = true;
	bases.full.may_fill = true;
	base_format(&bases.fresh, BLOCKS, seed);
	base_format(&bases.aged, BLOCKS, seed);
	base_format(&bases.full, FULL_BLOCKS, seed);
	base_use(&bases.fresh, FRESH_LETTERS, seed);
	base_use(&bases.aged, AGED_LETTERS, seed);
	base_use(&bases.full, AGED_LETTERS, seed);
	memset(junk, 0xdd, sizeof(junk));
	content = content_of(junk);
	for (uint32_t i = 0; i < BLOCKS; i++) {
		bases.junk.image.contents[i] = content;
	}
	base_format(&bases.junk, BLOCKS, seed);
}
