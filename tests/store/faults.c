/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/store/sweep.h"

#include <string.h>

static const char *const fault_names[FAULT_KINDS] = {
	[FAULT_READ] = "read",
	[FAULT_WRITE] = "write",
	[FAULT_FLUSH] = "flush",
	[FAULT_DISCARD] = "discard",
	[FAULT_MEMORY] = "memory",
};

static const enum io_disk_op_kind disk_kinds[] = {
	[FAULT_READ] = IO_DISK_READ,
	[FAULT_WRITE] = IO_DISK_WRITE,
	[FAULT_FLUSH] = IO_DISK_FLUSH,
	[FAULT_DISCARD] = IO_DISK_ZERO,
};

static void fault_set(struct run *run, const struct selection *fault)
{
	run->faults = true;
	if (fault->kind == FAULT_MEMORY) {
		run->machine.fail_allocation = fault->nth;
		return;
	}
	run->machine.fault = (struct machine_fault){
		.kind = disk_kinds[fault->kind],
		.nth = fault->nth,
		.and_later = fault->and_later,
		.lands = fault->lands,
	};
}

static bool fault_was_hit(const struct run *run, const struct selection *fault)
{
	return fault->kind == FAULT_MEMORY ? run->machine.allocations >= fault->nth
					   : run->machine.fault.seen >= fault->nth;
}

static void fault_count(struct sweep *sweep, const struct selection *fault)
{
	if (fault->kind == FAULT_MEMORY) {
		sweep->totals->alloc_failures++;
	} else {
		sweep->totals->io_errors++;
	}
}

/* What is there now, whether power stays or goes. */
static void verify_both(struct sweep *sweep, const struct run *run, bool power_lost)
{
	verify(sweep, &run->machine.current, &run->model, power_lost, NO_BLOCK, false);
	verify(sweep, &run->machine.durable, &run->model, true, NO_BLOCK, false);
}

static void check_fault(const struct run *run, const struct selection *fault, bool hit, int opened)
{
	if (!hit && (opened != 0 || run->errors > 0)) {
		case_failed("errors, and nothing was injected");
	}
	if (opened == -ENOMEM && fault->kind != FAULT_MEMORY) {
		case_failed("no memory, and there was enough");
	}
}

/* true: the fault was hit. */
static bool sequence_with_fault(struct sweep *sweep, const struct selection *fault)
{
	uint32_t mark = contents_mark();
	struct run *run =
		run_new(sweep->base, &sweep->base->image, &sweep->base->model, sweep->seed);
	bool hit;
	int opened;

	fault_set(run, fault);
	opened = run_open(run);
	if (opened == 0) {
		run_find_replicas(run);
		(void)run_letters(sweep, run, NULL);
		check_reads(run);
		run_settle(run);
		if (!run->store->failed) {
			check_settled(run);
		}
	}
	run_end(run);
	hit = fault_was_hit(run, fault);
	check_fault(run, fault, hit, opened);
	if (hit) {
		fault_count(sweep, fault);
		verify_both(sweep, run, false);
	}
	run_free(run);
	contents_release(mark);
	return hit;
}

static bool recovery_with_fault(struct sweep *sweep, const struct image *image,
	const struct model *model, const struct selection *fault)
{
	uint32_t mark = contents_mark();
	struct run *run = run_new(sweep->base, image, model, sweep->seed);
	bool hit;
	int opened;

	fault_set(run, fault);
	opened = run_open(run);
	if (opened == 0) {
		check_opened(run, true, NO_BLOCK);
		run_settle(run);
		if (!run->store->failed) {
			check_settled(run);
		}
	}
	run_end(run);
	hit = fault_was_hit(run, fault);
	check_fault(run, fault, hit, opened);
	if (hit) {
		fault_count(sweep, fault);
		verify_both(sweep, run, opened != 0 || run->abstaining != 0);
	}
	run_free(run);
	contents_release(mark);
	return hit;
}

static void name_fault(struct sweep *sweep, const char *before, const struct selection *fault)
{
	case_name(sweep, "%s:%s%s%s.%llu", before, fault_names[fault->kind],
		fault->and_later ? "+later" : "", fault->lands ? "+lands" : "",
		(unsigned long long)fault->nth);
}

typedef bool try_fault(struct sweep *sweep, const struct image *image, const struct model *model,
	const struct selection *fault);

static bool try_sequence(struct sweep *sweep, const struct image *image, const struct model *model,
	const struct selection *fault)
{
	(void)image;
	(void)model;
	return sequence_with_fault(sweep, fault);
}

/* The first, second, ... of each kind, until none is left that could fail. */
static void every_fault(
	struct sweep *sweep, const struct image *image, const struct model *model, try_fault *try)
{
	char before[CASE_MAX];

	memcpy(before, sweep->text, CASE_MAX);
	if (sweep->only != NULL) {
		name_fault(sweep, before, sweep->only);
		(void)try(sweep, image, model, sweep->only);
		memcpy(sweep->text, before, CASE_MAX);
		return;
	}
	for (unsigned kind = 0; kind < FAULT_KINDS; kind++) {
		bool writes = kind == FAULT_WRITE || kind == FAULT_DISCARD;

		/* Once or from then on; and a failed write is on the disk or not. */
		for (unsigned variant = 0; variant < 4; variant++) {
			struct selection fault = {
				.kind = (enum fault_kind)kind,
				.and_later = variant % 2 != 0,
				.lands = variant / 2 != 0,
			};

			if ((fault.and_later && kind == FAULT_MEMORY) || (fault.lands && !writes)) {
				continue;
			}
			do {
				fault.nth++;
				name_fault(sweep, before, &fault);
			} while (try(sweep, image, model, &fault));
		}
	}
	memcpy(sweep->text, before, CASE_MAX);
}

void sweep_faults(struct sweep *sweep)
{
	case_name(
		sweep, "%s:%c:%s", sweep->base_name, sweep->overlapped ? 'o' : 's', sweep->letters);
	every_fault(sweep, NULL, NULL, try_sequence);
}

void sweep_recovery_faults(
	struct sweep *sweep, const struct image *image, const struct model *model)
{
	every_fault(sweep, image, model, recovery_with_fault);
}
