/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a rebuild has to copy (docs/protocol.md 1.8): what this nexus knows of the replica's absence
 * and the replica's own window, else the stamps of both sides.  Runs while the target is registered
 * and todo_all is set, so that nothing is missed meanwhile.
 */
#include "base/mutant.h"
#include "nexus/mirror/volume_internal.h"

#include <errno.h>

/* What the returning replica may lack or have too much: { stamp > clean_x } of the source and of
 * itself (trap F4). */
static void todo_scan_stamps(struct leg *leg, struct leg *from)
{
	uint64_t above = leg->answer.vmeta.clean;

	if (mutant_is(MUTANT_B4) && from == leg) {
		above = UINT64_MAX; /* Deliberate bug. */
	}
	stamps_scan_start(&leg->scan, from, &leg->todo, above, &leg->compute_task);
}

static bool todo_scan_source(struct leg *leg)
{
	leg_mask readable = volume_readable(leg->volume) & ~LEG_BIT(leg);

	if (readable == 0) {
		rebuild_drop(leg, "no replica in sync can be read");
		return false;
	}
	todo_scan_stamps(leg, leg->volume->legs[__builtin_ctz(readable)]);
	return true;
}

bool todo_may_be_exact(const struct leg *leg)
{
	return absent_is_known(leg) && leg->answer.window_valid;
}

void todo_step(struct task *task)
{
	struct leg *leg = container_of(task, struct leg, compute_task);

	volume_works(leg->volume, TRACE_WORK_REBUILD);
	switch (leg->compute_state) {
	case COMPUTE_START:
		leg->scan.result = -ENODATA;
		if (todo_may_be_exact(leg)) {
			window_scan_start(&leg->scan, leg, &leg->todo, &leg->compute_task);
			AWAIT_AT(leg->compute_state, COMPUTE_AWAIT_WINDOW, !leg->scan.running);
		}
		if (leg->scan.result == 0 && absent_is_known(leg)) {
			dirty_add_to(&leg->dirty, &leg->todo);
		} else if (!rebuild_is_over(leg) && todo_scan_source(leg)) {
			AWAIT_AT(leg->compute_state, COMPUTE_AWAIT_SOURCE, !leg->scan.running);
			if (leg->scan.result == 0 && !rebuild_is_over(leg)) {
				todo_scan_stamps(leg, leg);
				AWAIT_AT(leg->compute_state, COMPUTE_AWAIT_TARGET,
					!leg->scan.running);
			}
			if (leg->scan.result != 0) {
				rebuild_drop(leg, "its stamps, or the source's, were not given");
			}
		}
		leg->compute_state = COMPUTE_DONE;
		task_wake(&leg->rebuild_task);
		return;
	case COMPUTE_DONE:
		return;
	}
}
