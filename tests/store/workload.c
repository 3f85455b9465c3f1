/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/store/workload.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BLOCK STORE_BLOCK_BYTES

static struct model_replica *replica_of(struct action *action)
{
	return &action->run->model.replicas[action->replica];
}

static uint32_t size_blocks(const struct model_replica *replica)
{
	return model_size_blocks[replica->size_acked];
}

/* ---- answers ---- */

static void check_result(struct action *action, int result)
{
	struct run *run = action->run;

	if (result == 0) {
		return;
	}
	if (result == -ENOSPC &&
		(run->may_fill || action->letter == 'N' || action->letter == 'B')) {
		return;
	}
	if (!run->faults || (result != -EIO && result != -ENOMEM)) {
		case_failed("%c was answered with %d", action->letter, result);
	}
	run->errors++;
}

static void answered(struct action *action)
{
	action->busy = false;
	action->run->busy--;
	action->run->answers++;
}

static bool covers_cluster(const struct action *action, unsigned cell)
{
	unsigned first = cell - cell % CLUSTER_BLOCKS;

	return first >= action->first_cell &&
	       first + CLUSTER_BLOCKS <= action->first_cell + action->cell_count;
}

/* Whole clusters of a discard are gone for good with its answer. */
static void write_answered(struct action *action)
{
	struct model_replica *replica = replica_of(action);
	bool unmaps = action->io.kind == STORE_ZERO || action->io.kind == STORE_DISCARD;
	bool marks = action->io.kind == STORE_UNCORRECTABLE;

	for (unsigned i = 0; i < action->cell_count; i++) {
		unsigned at = action->first_cell + i;
		uint64_t *low = &replica->stamp_low[at / REGION_BLOCKS];
		bool whole = unmaps && covers_cluster(action, at);

		cell_settle(&replica->cells[at], whole || marks || action->io.fua);
		*low = max_u64(*low, action->io.wgen);
		if (whole) {
			replica->mapped_maybe &= ~(1u << at / CLUSTER_BLOCKS);
		}
	}
}

static void flush_answered(struct action *action)
{
	struct model_replica *replica = replica_of(action);

	for (unsigned i = 0; i < CELLS; i++) {
		struct cell *cell = &replica->cells[i];

		if (action->flush_upto[i] > cell->dropped) {
			cell_drop(cell, action->flush_upto[i] - cell->dropped);
		}
	}
}

static void update_done(struct store_op *op);

static void update_start(struct action *action)
{
	struct run *run = action->run;
	struct store_replica *handle = run->handles[action->replica];
	struct vmeta vmeta = *store_replica_vmeta(handle);

	model_vmeta(++replica_of(action)->update_issued, &vmeta);
	action->op = (struct store_op){.done = update_done, .ctx = action};
	store_replica_update(handle, &vmeta, &action->op);
}

static void io_done(struct store_io *io)
{
	struct action *action = io->ctx;

	check_result(action, io->result);
	if (io->result == 0 && io->kind == STORE_FLUSH) {
		flush_answered(action);
	} else if (io->result == 0) {
		write_answered(action);
	}
	if (action->letter == 'C' && io->result == 0) {
		update_start(action);
		return;
	}
	answered(action);
}

static void update_done(struct store_op *op)
{
	struct action *action = op->ctx;

	check_result(action, op->result);
	if (op->result == 0) {
		replica_of(action)->update_acked = replica_of(action)->update_issued;
		action->run->model.wgen += action->letter == 'C';
	}
	answered(action);
}

static void resize_done(struct store_op *op)
{
	struct action *action = op->ctx;
	struct model_replica *replica = replica_of(action);

	check_result(action, op->result);
	if (op->result == 0) {
		replica->size_acked = replica->size_issued;
	} else if (op->result != -EIO) {
		replica->size_issued = replica->size_acked;
	}
	answered(action);
}

/* The replica that letters mean when this one is not there (any more). */
static unsigned target_before(const struct run *run, unsigned replica)
{
	while (replica-- > 0) {
		if (run->model.replicas[replica].existence == PRESENT &&
			run->handles[replica] != NULL) {
			return replica;
		}
	}
	return MODEL_REPLICAS;
}

static void create_done(struct store_op *op)
{
	struct action *action = op->ctx;
	struct model_replica *replica = replica_of(action);

	check_result(action, op->result);
	if (op->result == 0) {
		replica->existence = PRESENT;
	} else {
		replica->existence = op->result == -EIO ? MAYBE : ABSENT;
		action->run->handles[action->replica] = NULL;
		action->run->target = target_before(action->run, action->replica);
	}
	answered(action);
}

static void delete_done(struct store_op *op)
{
	struct action *action = op->ctx;
	struct model_replica *replica = replica_of(action);

	check_result(action, op->result);
	if (op->result == -ENOMEM) {
		replica->existence = PRESENT;
		action->run->target = action->replica;
	} else {
		replica->existence = op->result == 0 ? ABSENT : MAYBE;
		action->run->handles[action->replica] = NULL;
	}
	answered(action);
}

/* ---- asking ---- */

static void start_io(
	struct action *action, enum store_io_kind kind, unsigned first, unsigned count, bool fua)
{
	struct run *run = action->run;
	struct model_replica *replica = replica_of(action);
	uint16_t number = kind == STORE_WRITE           ? ++run->model.next_number
			  : kind == STORE_UNCORRECTABLE ? MODEL_MARK
							: 0;

	action->first_cell = first;
	action->cell_count = count;
	action->io = (struct store_io){
		.kind = kind,
		.fua = fua,
		.wgen = run->model.wgen,
		.offset = (uint64_t)cell_logical(first) * BLOCK,
		.length = (uint64_t)count * BLOCK,
		.done = io_done,
		.ctx = action,
	};
	if (kind == STORE_WRITE) {
		assert(number < MODEL_MARK);
		run->model.value_wgen[number] = run->model.wgen;
		action->iov = (struct iovec){
			.iov_base = action->buffer,
			.iov_len = (size_t)count * BLOCK,
		};
		action->io.iov = &action->iov;
		action->io.iov_count = 1;
	} else if (kind == STORE_UNCORRECTABLE && !run->model.marked) {
		run->model.marked = true;
		run->model.value_wgen[number] = run->model.wgen;
	}
	for (unsigned i = 0; i < count; i++) {
		uint64_t *high = &replica->stamp_high[(first + i) / REGION_BLOCKS];

		if (kind == STORE_WRITE) {
			value_fill(action->buffer + (size_t)i * BLOCK, replica->number,
				cell_logical(first + i), number);
			replica->mapped_maybe |= 1u << (first + i) / CLUSTER_BLOCKS;
		}
		cell_push(&replica->cells[first + i], number);
		*high = max_u64(*high, run->model.wgen);
	}
	store_submit(run->handles[action->replica], &action->io);
}

static void start_flush(struct action *action)
{
	for (unsigned i = 0; i < CELLS; i++) {
		const struct cell *cell = &replica_of(action)->cells[i];

		action->flush_upto[i] = cell->dropped + cell->certain;
	}
	action->io = (struct store_io){.kind = STORE_FLUSH, .done = io_done, .ctx = action};
	store_submit(action->run->handles[action->replica], &action->io);
}

/* Two blocks that were never written, in two clusters; else the last two of the front. */
static unsigned cold_cell(const struct model_replica *replica)
{
	for (unsigned cell = FRONT_CELLS; cell < CELLS; cell += TAIL_CELLS) {
		if (cell_is_within(cell, size_blocks(replica)) &&
			(replica->mapped_maybe & 1u << cell / CLUSTER_BLOCKS) == 0) {
			return cell + 1;
		}
	}
	for (unsigned cell = REGION_BLOCKS - 1; cell + 1 < FRONT_CELLS; cell += REGION_BLOCKS) {
		if ((replica->mapped_maybe & 3u << cell / CLUSTER_BLOCKS) == 0) {
			return cell;
		}
	}
	return FRONT_CELLS - 5;
}

static void start_create(struct action *action)
{
	struct run *run = action->run;
	unsigned at = 0;
	struct model_replica *replica;
	struct store_replica_options options = {
		.kind = action->letter == 'B' ? VOTER_ARBITER : VOTER_DATA,
		.size_bytes = action->letter == 'B' ? 0 : (uint64_t)SIZE_BLOCKS * BLOCK,
	};

	/* A place of one that is surely gone, but behind all that are there: letters mean the last
	 * one. */
	for (unsigned i = 0; i < MODEL_REPLICAS; i++) {
		at = run->model.replicas[i].existence != ABSENT ? i + 1 : at;
	}
	assert(at < MODEL_REPLICAS);
	replica = &run->model.replicas[at];
	memset(replica, 0, sizeof(*replica));
	replica->existence = MAYBE;
	replica->arbiter = action->letter == 'B';
	replica->number = ++run->model.replica_count;
	for (unsigned i = 0; i < CELLS; i++) {
		cell_pin(&replica->cells[i], 0);
	}
	action->replica = at;
	run->target = at;
	options.replica = model_uuid(replica->number);
	options.volume = options.replica;
	(void)snprintf(options.name, sizeof(options.name), "r%u", replica->number);
	action->op = (struct store_op){.done = create_done, .ctx = action};
	store_replica_create(run->store, &options, &run->handles[at], &action->op);
}

static void start_resize(struct action *action)
{
	struct model_replica *replica = replica_of(action);

	replica->size_issued = (uint8_t)(replica->size_acked + 1);
	action->op = (struct store_op){.done = resize_done, .ctx = action};
	store_replica_resize(action->run->handles[action->replica],
		(uint64_t)model_size_blocks[replica->size_issued] * BLOCK, &action->op);
}

static void start_delete(struct action *action)
{
	struct run *run = action->run;

	replica_of(action)->existence = MAYBE;
	run->target = target_before(run, action->replica);
	action->op = (struct store_op){.done = delete_done, .ctx = action};
	store_replica_delete(run->handles[action->replica], &action->op);
}

static void start(struct action *action)
{
	struct run *run = action->run;

	switch (action->letter) {
	case 'W':
		start_io(action, STORE_WRITE, cold_cell(replica_of(action)), 2, false);
		return;
	case 'H':
		start_io(action, STORE_WRITE, 0, 1, false);
		return;
	case 'F':
		start_io(action, STORE_WRITE, 1, 1, true);
		return;
	case 'O':
		run->model.wgen++;
		start_io(action, STORE_WRITE, 0, 3, false);
		return;
	case 'X':
		run->model.wgen++;
		start_io(action, STORE_WRITE, 0, FRONT_CELLS, false);
		return;
	case 'T':
		start_io(action, STORE_DISCARD, 1, 5, false);
		return;
	case 'Z':
		start_io(action, STORE_ZERO, 3, 4, true);
		return;
	case 'U':
		start_io(action, STORE_UNCORRECTABLE, 1, 3, false);
		return;
	case 'L':
	case 'C':
		start_flush(action);
		return;
	case 'A':
		update_start(action);
		return;
	case 'P':
		run->store->checkpoint.urgent = true;
		task_wake(&run->store->checkpoint.task);
		answered(action);
		return;
	case 'R':
		start_resize(action);
		return;
	case 'D':
		start_delete(action);
		return;
	default:
		start_create(action);
		return;
	}
}

bool run_can(const struct run *run, char letter)
{
	const struct model_replica *replica;

	if (strchr("NB", letter) != NULL) {
		return true;
	}
	if (letter == 'P') {
		return !list_is_empty(&run->store->checkpoint.dirty);
	}
	if (run->target == MODEL_REPLICAS) {
		return false;
	}
	replica = &run->model.replicas[run->target];
	if (replica->arbiter) {
		return strchr("LACD", letter) != NULL;
	}
	return letter != 'R' || replica->size_issued + 1 < (int)SIZES;
}

static bool cells_overlap(const struct action *a, unsigned first, unsigned count)
{
	return a->first_cell < first + count && first < a->first_cell + a->cell_count;
}

/* Which cells would it touch? */
static void cells_of(const struct run *run, char letter, unsigned *ret_first, unsigned *ret_count)
{
	static const struct {
		char letter;
		uint8_t first, count;
	} table[] = {{'H', 0, 1}, {'F', 1, 1}, {'O', 0, 3}, {'X', 0, FRONT_CELLS}, {'T', 1, 5},
		{'Z', 3, 4}, {'U', 1, 3}};

	*ret_first = 0;
	*ret_count = 0;
	if (letter == 'W') {
		*ret_first = cold_cell(&run->model.replicas[run->target]);
		*ret_count = 2;
	}
	for (unsigned i = 0; i < ARRAY_COUNT(table); i++) {
		if (table[i].letter == letter) {
			*ret_first = table[i].first;
			*ret_count = table[i].count;
		}
	}
}

/* The rules of store.h, and no two writes of one block at once. */
static bool may_start(const struct run *run, char letter)
{
	unsigned first;
	unsigned count;

	if (run->busy == 0 || letter == 'P') {
		return true;
	}
	if (letter == 'N' || letter == 'B') {
		/* The next letters mean the one before it if it fails: that must be settled. */
		return run->target == MODEL_REPLICAS ||
		       run->model.replicas[run->target].existence == PRESENT;
	}
	if (run->model.replicas[run->target].existence != PRESENT) {
		return false;
	}
	cells_of(run, letter, &first, &count);
	for (unsigned i = 0; i < ACTIONS; i++) {
		const struct action *other = &run->actions[i];

		if (!other->busy || other->replica != run->target) {
			continue;
		}
		if (letter == 'D' || cells_overlap(other, first, count) ||
			(strchr("ACR", letter) != NULL && strchr("ACR", other->letter) != NULL)) {
			return false;
		}
	}
	return true;
}

void run_start(struct run *run, char letter)
{
	struct action *action = &run->actions[0];
	uint8_t *buffer;

	while (!may_start(run, letter)) {
		if (!run_step(run)) {
			case_failed("nothing happens any more, and %c is not answered", letter);
		}
	}
	if (!run_can(run, letter) || run->store->failed) {
		return; /* what it was for failed */
	}
	while (action->busy) {
		action++;
		assert(action < run->actions + ACTIONS);
	}
	buffer = action->buffer;
	if (buffer == NULL) {
		buffer = aligned_alloc(BLOCK, ACTION_BLOCKS * BLOCK);
		assert(buffer != NULL);
	}
	*action = (struct action){
		.run = run,
		.letter = letter,
		.replica = run->target,
		.busy = true,
		.buffer = buffer,
	};
	run->busy++;
	start(action);
}

void run_wait(struct run *run)
{
	while (run->busy > 0) {
		if (!run_step(run)) {
			case_failed("nothing happens any more, and %u operations are not answered",
				run->busy);
		}
	}
}

/* ---- life ---- */

bool run_step(struct run *run)
{
	bool stepped = machine_step(&run->machine);

	if (run->point != NULL &&
		(run->machine.changes != run->seen_changes || run->answers != run->seen_answers)) {
		run->seen_changes = run->machine.changes;
		run->seen_answers = run->answers;
		run->point(run);
	}
	return stepped;
}

void run_settle(struct run *run)
{
	while (run_step(run)) {
	}
}

static void open_done(struct store_op *op)
{
	((struct run *)op->ctx)->opened = true;
}

int run_open(struct run *run)
{
	run->open_op = (struct store_op){.done = open_done, .ctx = run};
	run->opened = false;
	store_open(&run->machine.io, &run->machine.disk, &run->store, &run->open_op);
	while (!run->opened) {
		if (!run_step(run)) {
			case_failed("the open never ends");
		}
	}
	if (run->open_op.result != 0) {
		run->store = NULL;
		if (run->open_op.err.text[0] == '\0') {
			case_failed("open fails with %d and no text", run->open_op.result);
		}
	}
	return run->open_op.result;
}

void run_find_replicas(struct run *run)
{
	run->target = MODEL_REPLICAS;
	run->abstaining = 0;
	for (unsigned i = 0; i < MODEL_REPLICAS; i++) {
		const struct model_replica *replica = &run->model.replicas[i];
		struct uuid uuid = model_uuid(replica->number);

		run->handles[i] =
			replica->existence == ABSENT ? NULL : store_replica_find(run->store, &uuid);
		if (run->handles[i] != NULL && store_replica_abstains(run->handles[i])) {
			/* While neither member of a pair can be read; nothing is changed then. */
			if (!run->faults) {
				case_failed("replica %u abstains", i);
			}
			run->handles[i] = NULL;
			run->abstaining |= 1u << i;
		}
		if (run->handles[i] != NULL) {
			run->target = i;
		}
	}
}

struct run *run_new(const struct base *base, const struct image *image, const struct model *model,
	uint64_t seed)
{
	struct run *run = calloc(1, sizeof(*run));

	assert(run != NULL);
	machine_start(&run->machine, image, (uint32_t)base->layout.size_blocks, base->starts_zeroed,
		seed);
	run->layout = base->layout;
	run->model = *model;
	run->may_fill = base->may_fill;
	run->target = MODEL_REPLICAS;
	return run;
}

void run_free(struct run *run)
{
	machine_kill(&run->machine);
	for (unsigned i = 0; i < ACTIONS; i++) {
		free(run->actions[i].buffer);
	}
	free(run);
}

void run_end(struct run *run)
{
	struct store_op op = {.done = open_done, .ctx = run};

	if (run->store != NULL) {
		run->opened = false;
		run->point = NULL;
		store_close(run->store, &op);
		while (!run->opened) {
			if (!run_step(run)) {
				case_failed("the close never ends");
			}
		}
		run->store = NULL;
		if (op.result != 0) {
			case_failed("close: %d", op.result);
		}
	}
	if (!machine_is_clean(&run->machine)) {
		case_failed("%llu allocations and %u disk operations are left at the end",
			(unsigned long long)run->machine.allocated, run->machine.request_count);
	}
}
