/* SPDX-License-Identifier: Apache-2.0 */
/* Where a replica may differ from the others: read from its stamps, or from its window. */
#include "base/bytes.h"
#include "nexus/mirror/volume_internal.h"

#include <errno.h>

static void scan_part_done(struct leg_io *lio)
{
	struct stamps_scan *scan = lio->ctx;

	task_wake(&scan->task);
}

static void scan_ask(struct stamps_scan *scan)
{
	struct leg_io *lio = &scan->io;

	memset(&lio->cmd, 0, sizeof(lio->cmd));
	lio->cmd.sqe.cdw10 = (uint32_t)scan->next;
	lio->iov.iov_base = scan->data;
	if (scan->window) {
		lio->cmd.sqe.opcode = WIRE_WINDOW;
		lio->iov.iov_len = WIRE_WINDOW_SIZE;
	} else {
		scan->count = (uint32_t)min_u64(scan->map->region_count - scan->next, STAMPS_CHUNK);
		lio->cmd.sqe.opcode = WIRE_STAMPS;
		lio->cmd.sqe.cdw11 = scan->count;
		lio->iov.iov_len = scan->count * sizeof(uint64_t);
	}
	lio->done = scan_part_done;
	lio->ctx = scan;
	leg_submit(scan->leg, lio, true, &lio->iov, 1);
}

static void scan_take_stamps(struct stamps_scan *scan)
{
	for (uint32_t i = 0; i < scan->count; i++) {
		uint64_t stamp = le64_get(scan->data + i * sizeof(uint64_t));

		scan->highest = max_u64(scan->highest, stamp);
		if (stamp > scan->above) {
			piecemap_set_region(scan->map, scan->next + i);
		}
	}
	scan->next += scan->count;
	scan->more = scan->next < scan->map->region_count;
}

static void scan_take_window(struct stamps_scan *scan)
{
	uint64_t size = scan->map->size_bytes;
	struct wire_window window;

	if (wire_window_decode(scan->data, &window) != 0) {
		scan->result = -EIO;
		return;
	}
	if (!window.valid) {
		scan->result = -ENODATA;
		return;
	}
	for (uint32_t i = 0; i < window.count; i++) {
		uint64_t offset = window.pieces[i] * window.piece_bytes;

		/* A replica may be larger than its volume. */
		if (offset < size) {
			piecemap_set(scan->map, offset, min_u64(window.piece_bytes, size - offset));
		}
	}
	scan->next += window.count;
	scan->more = window.count > 0 && scan->next < window.total;
}

static void stamps_step(struct task *task)
{
	struct stamps_scan *scan = container_of(task, struct stamps_scan, task);

	volume_works(scan->leg->volume, TRACE_WORK_STAMPS);
	switch (scan->state) {
	case STAMPS_START:
		while (scan->result == 0 && scan->more) {
			if (!scan->leg->ready || scan->leg->refence) {
				scan->result = -EIO;
				break;
			}
			scan_ask(scan);
			AWAIT(scan, STAMPS_AWAIT_CHUNK, !scan->io.busy);
			if (scan->io.result != LEG_OK) {
				scan->result = -EIO;
			} else if (scan->window) {
				scan_take_window(scan);
			} else {
				scan_take_stamps(scan);
			}
		}
		io_free(scan->leg->volume->io, scan->data);
		scan->data = NULL;
		scan->running = false;
		scan->state = STAMPS_DONE;
		task_wake(scan->parent);
		return;
	case STAMPS_DONE:
		return;
	}
}

static void scan_start(
	struct stamps_scan *scan, struct leg *leg, struct piecemap *map, struct task *parent)
{
	assert(!scan->running);
	task_init(&scan->task, &leg->volume->io->runq, stamps_step);
	scan->state = STAMPS_START;
	scan->leg = leg;
	scan->map = map;
	scan->next = 0;
	scan->highest = 0;
	scan->more = true;
	scan->parent = parent;
	scan->running = true;
	scan->data = io_zalloc(
		leg->volume->io, scan->window ? WIRE_WINDOW_SIZE : STAMPS_CHUNK * sizeof(uint64_t));
	scan->result = scan->data == NULL ? -ENOMEM : 0;
	task_wake(&scan->task);
}

void stamps_scan_start(struct stamps_scan *scan, struct leg *leg, struct piecemap *map,
	uint64_t above, struct task *parent)
{
	scan->window = false;
	scan->above = above;
	scan_start(scan, leg, map, parent);
}

void window_scan_start(
	struct stamps_scan *scan, struct leg *leg, struct piecemap *map, struct task *parent)
{
	scan->window = true;
	scan_start(scan, leg, map, parent);
}
