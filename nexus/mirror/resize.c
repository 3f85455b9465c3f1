/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A volume grows (docs/protocol.md 1.10): first the replicas, then a configuration with the new
 * size is committed, then the host may see it.  Whatever is needed afterwards is allocated before
 * anything is proposed; a size that was proposed is wished for until it is committed, or the volume
 * is opened anew.
 */
#include "base/bytes.h"
#include "base/mutant.h"
#include "nexus/mirror/volume_internal.h"

#include <errno.h>
#include <stdio.h>

#define RESIZE_WAIT_NS (5 * IO_NS_PER_S)

/* ---- one replica ---- */

uint64_t resize_goal(const struct volume *volume)
{
	const struct resizer *resizer = &volume->resizer;

	return max_u64(
		volume->cfg.size_bytes, max_u64(resizer->proposable_bytes, resizer->wanted_bytes));
}

static void resize_done(struct leg_io *lio)
{
	struct leg *leg = lio->leg;
	struct resize_leg *its = &leg->resize;

	if (lio->result == LEG_OK) {
		its->size_bytes = max_u64(its->size_bytes, its->asked_bytes);
	} else if (lio->result != LEG_RESET && lio->result != LEG_STALE) {
		its->refused_bytes = its->asked_bytes;
		snprintf(its->reason, sizeof(its->reason), "it cannot grow to %llu bytes: %s",
			(unsigned long long)its->asked_bytes,
			lio->result == LEG_NOSPC ? "its pool is full"
						 : "the pool-agent refused, or failed");
		snprintf(leg->failure, sizeof(leg->failure), "%s", its->reason);
		log_warning(&leg->volume->io->log, "nexus", "replica-not-grown",
			"volume=%s replica=%u reason=%s", leg->volume->options.name, leg->index,
			its->reason);
	}
	task_wake(&leg->volume->resizer.task);
	task_wake(&leg->volume->open_task);
	task_wake(&leg->rebuild_task);
	membership_wake(leg->volume);
}

void resize_leg_came_up(struct leg *leg)
{
	leg->resize.size_bytes = leg->answer.vmeta.size_bytes;
	leg->resize.refused_bytes = 0;
}

void resize_send(struct leg *leg, uint64_t size_bytes)
{
	struct leg_io *lio = &leg->resize.io;

	leg->resize.asked_bytes = size_bytes;
	leg->resize.refused_bytes = 0;
	memset(&lio->cmd, 0, sizeof(lio->cmd));
	lio->cmd.sqe.opcode = WIRE_RESIZE;
	lio->cmd.sqe.cdw10 = (uint32_t)size_bytes;
	lio->cmd.sqe.cdw11 = (uint32_t)(size_bytes >> 32);
	lio->done = resize_done;
	leg_submit(leg, lio, true, NULL, 0);
}

static bool leg_lacks(const struct leg *leg, uint64_t size_bytes)
{
	return leg->voter.kind == VOTER_DATA && leg->resize.size_bytes < size_bytes;
}

bool resize_is_over(struct volume *volume, leg_mask mask, uint64_t size_bytes)
{
	bool over = true;

	for (unsigned i = 0; i < volume->leg_count; i++) {
		struct leg *leg = volume->legs[i];

		if (!(mask & LEG_BIT(leg)) || !leg->ready || leg->refence ||
			!leg_lacks(leg, size_bytes)) {
			continue;
		}
		if (!leg->resize.io.busy && leg->resize.refused_bytes != size_bytes) {
			resize_send(leg, size_bytes);
		}
		over = over && !leg->resize.io.busy;
	}
	return over;
}

/* Who was away while the volume grew is asked as soon as it is back: its vote may be needed.  So is
 * a replica that is to become a voter, and was made for a smaller volume. */
static void resize_keep(struct volume *volume)
{
	leg_mask voters = 0;

	if ((!volume->committed && !volume->electing) || volume_is_dead(volume)) {
		return;
	}
	for (unsigned i = 0; i < volume->leg_count; i++) {
		const struct leg *leg = volume->legs[i];

		if (!version_is_understood(leg, &volume->cfg)) {
			continue;
		}
		voters |= voters_has(&volume->cfg, leg) || (volume->change == CHANGE_ADD &&
								   uuid_equal(&leg->voter.replica,
									   &volume->change_id))
				  ? LEG_BIT(leg)
				  : 0;
	}
	(void)resize_is_over(volume, voters, resize_wished_bytes(volume));
}

/* ---- the maps ---- */

/* Room for what is to come: maps that are made meanwhile grow as those that are there. */
int resize_reserve(const struct volume *volume, struct piecemap *map)
{
	return piecemap_reserve(map, volume->io, resize_goal(volume));
}

static int resize_reserve_all(struct volume *volume)
{
	int result = resize_reserve(volume, &volume->resync);

	result = result == 0 ? resize_reserve(volume, &volume->unequal) : result;
	result = result == 0 ? resize_reserve(volume, &volume->written) : result;
	result = result == 0 ? resize_reserve(volume, &volume->recent) : result;
	result = result == 0 ? resize_reserve(volume, &volume->retiring) : result;
	for (unsigned i = 0; result == 0 && i < volume->leg_count; i++) {
		struct leg *leg = volume->legs[i];

		result = dirty_reserve(&leg->dirty, volume->io, resize_goal(volume));
		if (result == 0 && leg->todo.words != NULL) {
			result = resize_reserve(volume, &leg->todo);
		}
		if (result == 0 && leg->unreadable.words != NULL) {
			result = resize_reserve(volume, &leg->unreadable);
		}
	}
	return result;
}

static void resize_to(struct volume *volume, uint64_t size_bytes)
{
	piecemap_grow(&volume->resync, size_bytes);
	piecemap_grow(&volume->unequal, size_bytes);
	piecemap_grow(&volume->written, size_bytes);
	piecemap_grow(&volume->recent, size_bytes);
	piecemap_grow(&volume->retiring, size_bytes);
	for (unsigned i = 0; i < volume->leg_count; i++) {
		struct leg *leg = volume->legs[i];

		dirty_grow(&leg->dirty, size_bytes);
		if (leg->todo.words != NULL) {
			piecemap_grow(&leg->todo, size_bytes);
			piecemap_grow(&leg->unreadable, size_bytes);
		}
	}
	volume->size_bytes = size_bytes;
	volume->blk.size_bytes = size_bytes;
	log_info(&volume->io->log, "nexus", "resized", "volume=%s size=%llu", volume->options.name,
		(unsigned long long)size_bytes);
}

void resize_committed(struct volume *volume)
{
	if (volume->cfg.size_bytes > volume->size_bytes) {
		resize_to(volume, volume->cfg.size_bytes);
	}
	task_wake(&volume->resizer.task);
}

/* ---- what is proposed ---- */

uint64_t resize_wished_bytes(const struct volume *volume)
{
	return max_u64(volume->cfg.size_bytes, volume->resizer.proposable_bytes);
}

void resize_reopened(struct volume *volume)
{
	volume->resizer.proposable_bytes = 0;
	task_wake(&volume->resizer.task);
}

/* ---- a request ---- */

static bool resize_ends(const struct volume *volume)
{
	return volume_is_dead(volume);
}

static bool resize_is_late(const struct volume *volume)
{
	return resize_ends(volume) || !io_timer_is_running(&volume->resizer.timer);
}

/* Opened anew in between: all is to be looked at again. */
static bool resize_is_stale(const struct volume *volume)
{
	return !volume->serving || volume->resizer.incarnation != volume->incarnation;
}

static void resize_finish(struct volume *volume, int result, const char *text)
{
	struct volume_resize *request = volume->resizer.request;

	volume->resizer.request = NULL;
	volume->resizer.wanted_bytes = 0;
	io_timer_stop(&volume->resizer.timer);
	request->result = result == 0 ? 0
				      : err_set(&request->err, result, "volume %s: %s",
						volume->options.name, text);
	request->done(request);
}

static void resize_name(const struct leg *leg, char text[UUID_TEXT_SIZE])
{
	uuid_to_text(&leg->voter.replica, text);
}

/* One that answered that it cannot grow. */
static const struct leg *resize_refuser(const struct volume *volume)
{
	for (unsigned i = 0; i < volume->leg_count; i++) {
		const struct leg *leg = volume->legs[i];

		if (leg->ready && voters_has(&volume->cfg, leg) &&
			leg_lacks(leg, volume->resizer.wanted_bytes) &&
			leg->resize.refused_bytes == volume->resizer.wanted_bytes) {
			return leg;
		}
	}
	return NULL;
}

static bool resize_refused(struct volume *volume)
{
	const struct leg *leg = resize_refuser(volume);
	char text[UUID_TEXT_SIZE + 200], id[UUID_TEXT_SIZE];

	if (leg == NULL) {
		return false;
	}
	resize_name(leg, id);
	snprintf(text, sizeof(text), "replica %s: %s", id, leg->resize.reason);
	resize_finish(volume, leg->resize.io.result == LEG_NOSPC ? -ENOSPC : -EIO, text);
	return true;
}

/* All of S, whoever is being rebuilt, and all other data replicas that are reached: those, too, are
 * to accept the configuration. */
static bool resize_all_grew(struct volume *volume)
{
	leg_mask ready = volume_ready_mask(volume);
	leg_mask voters = 0;
	uint64_t wanted_bytes = volume->resizer.wanted_bytes;
	bool grew = resize_is_over(volume, ready, wanted_bytes);

	for (unsigned i = 0; i < volume->leg_count; i++) {
		const struct leg *leg = volume->legs[i];
		bool counts = ((volume_needed(volume) | ready) & LEG_BIT(leg)) != 0;

		voters |=
			(ready & LEG_BIT(leg)) && voters_has(&volume->cfg, leg) ? LEG_BIT(leg) : 0;
		grew = grew &&
		       !(counts && voters_has(&volume->cfg, leg) && leg_lacks(leg, wanted_bytes));
	}
	return grew && mask_count(voters) >= cfg_majority(&volume->cfg);
}

static void resize_finish_late(struct volume *volume)
{
	if (volume->ending) {
		resize_finish(volume, -ESHUTDOWN, "it is being closed");
	} else if (resize_ends(volume)) {
		resize_finish(volume, -EBUSY, volume->reason);
	} else if (volume->resizer.proposable_bytes == volume->resizer.wanted_bytes) {
		resize_finish(volume, -EAGAIN,
			"its voters have not all accepted the new size yet: ask again");
	} else if (!volume->serving) {
		resize_finish(volume, -EAGAIN, "it is not open yet: ask again");
	} else {
		resize_finish(volume, -EAGAIN,
			"a replica in sync, or a majority of the voters, is not reached: ask "
			"again");
	}
}

/* false: the request was answered. */
static bool resize_begin(struct volume *volume)
{
	struct resizer *resizer = &volume->resizer;
	uint64_t size_bytes = resizer->request->size_bytes;
	char text[100];

	resizer->incarnation = volume->incarnation;
	resizer->wanted_bytes = 0;
	if (size_bytes < resize_goal(volume)) {
		snprintf(text, sizeof(text), "it has %llu bytes%s, and does not shrink",
			(unsigned long long)resize_goal(volume),
			resizer->proposable_bytes > size_bytes ? " soon" : "");
		resize_finish(volume, -EINVAL, text);
		return false;
	}
	if (size_bytes == volume->cfg.size_bytes) {
		resize_finish(volume, 0, "");
		return false;
	}
	resizer->wanted_bytes = size_bytes;
	if (resize_reserve_all(volume) != 0) {
		resize_finish(volume, -ENOMEM, "out of memory");
		return false;
	}
	for (unsigned i = 0; i < volume->leg_count; i++) {
		volume->legs[i]->resize.refused_bytes = 0; /* asked anew */
	}
	return true;
}

static bool resize_may_begin(const struct volume *volume)
{
	return volume->resizer.request != NULL &&
	       ((volume->serving && volume->committed && !snapshot_is_open(volume)) ||
		       resize_is_late(volume));
}

static void resize_propose(struct volume *volume)
{
	volume->resizer.proposable_bytes = volume->resizer.wanted_bytes;
	if (mutant_is(MUTANT_Z1)) {
		/* Deliberate bug: the host may use what is not committed yet. */
		resize_to(volume, volume->resizer.wanted_bytes);
	}
	membership_wake(volume);
}

static bool resize_is_committed(const struct volume *volume)
{
	return volume->cfg.size_bytes >= volume->resizer.wanted_bytes;
}

static void resize_run(struct volume *volume)
{
	struct resizer *resizer = &volume->resizer;

	switch (resizer->state) {
	case RESIZE_START:
		for (;;) {
			AWAIT(resizer, RESIZE_AWAIT_WANTED,
				resize_may_begin(volume) || resize_ends(volume));
			if (resizer->request == NULL) {
				break;
			}
			if (resize_is_late(volume)) {
				resize_finish_late(volume);
				continue;
			}
			if (!resize_begin(volume)) {
				continue;
			}
			AWAIT(resizer, RESIZE_AWAIT_GROWN,
				resize_is_stale(volume) || resize_is_late(volume) ||
					resize_refuser(volume) != NULL || resize_all_grew(volume));
			if (resize_is_stale(volume) || resize_refused(volume)) {
				continue;
			}
			if (resize_is_late(volume)) {
				resize_finish_late(volume);
				continue;
			}
			resize_propose(volume);
			AWAIT(resizer, RESIZE_AWAIT_COMMITTED,
				resize_is_committed(volume) || resize_is_stale(volume) ||
					resize_is_late(volume));
			if (resize_is_committed(volume)) {
				resize_finish(volume, 0, "");
			} else if (resize_is_late(volume)) {
				resize_finish_late(volume);
			}
		}
		resizer->state = RESIZE_DONE;
		task_wake(&volume->close_task);
		return;
	case RESIZE_DONE:
		return;
	}
}

void resize_step(struct task *task)
{
	struct volume *volume = container_of(task, struct volume, resizer.task);

	volume_works(volume, TRACE_WORK_MEMBERSHIP);
	resize_keep(volume);
	resize_run(volume);
}

void volume_resize(struct volume *volume, struct volume_resize *resize)
{
	struct resizer *resizer = &volume->resizer;

	assert(resizer->request == NULL && !volume->closing);
	resize->err = (struct err){0};
	resizer->request = resize;
	resizer->state = RESIZE_START;
	io_timer_start_after(&resizer->timer, RESIZE_WAIT_NS);
	task_wake(&resizer->task);
}
