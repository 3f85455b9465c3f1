/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The rebuilds of a nexus beside each other, and beside the host (docs/protocol.md 1.8): which of
 * them copy now, how fast (pace.c), and what is told of them.  A rebuild that an acknowledgement
 * waits for is never held up; of the others only a few copy at once, those of the volumes that have
 * the fewest replicas first, then the oldest.  All targets are registered meanwhile: what the host
 * writes goes to those that wait, too, and nobody's todo grows.
 */
#include "base/bytes.h"
#include "nexus/mirror/volume_internal.h"

static unsigned usable_members(const struct volume *volume)
{
	return mask_count(volume->member_mask & ~volume_out_mask(volume));
}

/* Acknowledgements need the target itself, or one member more. */
static bool is_urgent(const struct leg *leg)
{
	const struct volume *volume = leg->volume;

	return (volume_needed(volume) & LEG_BIT(leg)) ||
	       usable_members(volume) < volume->min_insync;
}

/* There is something to copy, and it can be. */
static bool has_work(const struct leg *leg)
{
	return leg->target && !leg->todo_all && leg->ready &&
	       leg->todo.count > leg->unreadable.count && !volume_is_dead(leg->volume) &&
	       volume_readable(leg->volume) != 0;
}

static unsigned rebuilds_at_once(const struct nexus *nexus)
{
	return nexus->options.rebuilds != 0 ? nexus->options.rebuilds : REBUILDS_AT_ONCE;
}

/* ---- whose turn it is ---- */

static bool waits_for_others(const struct leg *leg)
{
	return has_work(leg) && !is_urgent(leg) && !leg->rebuild_turn;
}

/* Of two that have work; `a` is older. */
static bool is_after(const struct leg *a, const struct leg *b)
{
	if (is_urgent(a) != is_urgent(b)) {
		return is_urgent(b);
	}
	return usable_members(b->volume) < usable_members(a->volume);
}

static struct leg *first_without_turn(const struct nexus *nexus)
{
	struct leg *first = NULL;

	list_for_each (&nexus->rebuilds, pos) {
		struct leg *leg = container_of(pos, struct leg, rebuild_node);

		if (has_work(leg) && !leg->rebuild_turn &&
			(first == NULL || is_after(first, leg))) {
			first = leg;
		}
	}
	return first;
}

static void rebuilds_step(struct task *task)
{
	struct nexus *nexus = container_of(task, struct nexus, rebuilds_task);
	struct leg *next;
	int64_t running = 0, waiting = 0;

	list_for_each (&nexus->rebuilds, pos) {
		struct leg *leg = container_of(pos, struct leg, rebuild_node);

		leg->rebuild_had_turn = leg->rebuild_turn;
		leg->rebuild_turn = false;
	}
	for (unsigned i = 0; i < rebuilds_at_once(nexus); i++) {
		next = first_without_turn(nexus);
		if (next == NULL) {
			break;
		}
		next->rebuild_turn = true;
	}
	list_for_each (&nexus->rebuilds, pos) {
		struct leg *leg = container_of(pos, struct leg, rebuild_node);

		if (leg->rebuild_turn && !leg->rebuild_had_turn) {
			copiers_wake(leg->volume);
		}
		waiting += waits_for_others(leg);
		running += !waits_for_others(leg);
	}
	metric_set(&nexus->rebuilds_running, running);
	metric_set(&nexus->rebuilds_waiting, waiting);
}

/* Once, however much has changed until then. */
void rebuilds_changed(struct nexus *nexus)
{
	task_wake(&nexus->rebuilds_task);
}

uint64_t rebuilds_due_ns(const struct leg *leg, uint64_t now_ns)
{
	if (!has_work(leg) || waits_for_others(leg)) {
		return UINT64_MAX; /* rebuilds_step() */
	}
	return is_urgent(leg) ? now_ns : pace_due_ns(&leg->volume->nexus->pace, now_ns);
}

/* ---- what is told ---- */

void rebuilds_get(const struct leg *leg, struct rebuild_status *ret_status)
{
	uint64_t now_ns = io_now_ns(leg->volume->io);
	uint64_t left = leg->todo.count * leg->todo.piece_bytes;

	*ret_status = (struct rebuild_status){.total_bytes = leg->todo_total_bytes};
	if (!leg->target) {
		ret_status->done_bytes = leg->todo_total_bytes;
		return;
	}
	if (leg->todo_all) {
		return;
	}
	/* What fails while it joins is copied again. */
	ret_status->total_bytes = max_u64(leg->todo_total_bytes, left);
	ret_status->done_bytes = ret_status->total_bytes - left;
	ret_status->waits = waits_for_others(leg);
	ret_status->bytes_per_s = progress_rate(&leg->progress, now_ns);
	ret_status->seconds_left = progress_seconds_left(&leg->progress, left, now_ns);
}

void rebuilds_show(struct leg *leg)
{
	struct rebuild_status status;

	rebuilds_get(leg, &status);
	metric_set(&leg->rebuild_total, leg->target ? (int64_t)status.total_bytes : 0);
	metric_set(&leg->rebuild_done, leg->target ? (int64_t)status.done_bytes : 0);
	metric_set(&leg->rebuild_rate, (int64_t)status.bytes_per_s);
	metric_set(&leg->rebuild_left, (int64_t)status.seconds_left);
}

/* ---- copying ---- */

void rebuilds_add(struct leg *leg)
{
	leg->rebuild_turn = false;
	list_push_back(&leg->volume->nexus->rebuilds, &leg->rebuild_node);
}

void rebuilds_remove(struct leg *leg)
{
	struct nexus *nexus = leg->volume->nexus;

	list_remove(&leg->rebuild_node);
	rebuilds_show(leg);
	rebuilds_changed(nexus);
}

void rebuilds_copy_began(struct volume *volume, const struct leg *target, uint64_t bytes)
{
	pace_copy_began(&volume->nexus->pace, bytes, target != NULL && !is_urgent(target),
		io_now_ns(volume->io));
}

void rebuilds_copy_ended(struct volume *volume, struct leg *target, uint64_t bytes)
{
	uint64_t now_ns = io_now_ns(volume->io);

	pace_copy_ended(&volume->nexus->pace, now_ns);
	if (target == NULL) {
		return;
	}
	progress_note(&target->progress, bytes, now_ns);
	if (!has_work(target)) {
		rebuilds_changed(volume->nexus);
	}
}

bool rebuilds_tick(struct volume *volume, uint64_t now_ns)
{
	struct nexus *nexus = volume->nexus;
	uint64_t limit = pace_limit(&nexus->pace, now_ns);
	bool any = false;

	for (unsigned i = 0; i < volume->leg_count; i++) {
		if (volume->legs[i]->target) {
			rebuilds_show(volume->legs[i]);
			any = true;
		}
	}
	if (any) {
		metric_set(&nexus->rebuild_limit, limit == UINT64_MAX ? 0 : (int64_t)limit);
	}
	return any;
}

/* ---- of the nexus ---- */

void rebuilds_init(struct nexus *nexus)
{
	const struct nexus_options *options = &nexus->options;
	struct metric_registry *metrics = nexus->io->metrics;

	list_init(&nexus->rebuilds);
	task_init(&nexus->rebuilds_task, &nexus->io->runq, rebuilds_step);
	pace_init(&nexus->pace,
		options->rebuild_rate_min != 0 ? options->rebuild_rate_min : REBUILD_RATE_MIN,
		options->rebuild_rate_max);
	if (metrics == NULL) {
		return;
	}
	metric_add(metrics, &nexus->rebuilds_running, METRIC_GAUGE, "strake_nexus_rebuilds_running",
		"Rebuilds that do not wait for others.", "%s", "");
	metric_add(metrics, &nexus->rebuilds_waiting, METRIC_GAUGE, "strake_nexus_rebuilds_waiting",
		"Rebuilds that wait because as many as may are copying.", "%s", "");
	metric_add(metrics, &nexus->rebuild_limit, METRIC_GAUGE,
		"strake_nexus_rebuild_limit_bytes_per_second",
		"What all rebuilds together may copy now beside the host; 0: no limit.", "%s", "");
}

void rebuilds_done(struct nexus *nexus)
{
	struct metric *all[] = {
		&nexus->rebuilds_running, &nexus->rebuilds_waiting, &nexus->rebuild_limit};

	assert(list_is_empty(&nexus->rebuilds));
	task_done(&nexus->rebuilds_task);
	for (unsigned i = 0; i < ARRAY_COUNT(all) && nexus->io->metrics != NULL; i++) {
		metric_remove(nexus->io->metrics, all[i]);
	}
}
