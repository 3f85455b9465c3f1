/* SPDX-License-Identifier: Apache-2.0 */
#include "base/bytes.h"
#include "nexus/mirror/volume_internal.h"

#include <errno.h>

static void stamps_chunk_done(struct leg_io *lio)
{
	struct stamps_scan *scan = lio->ctx;

	task_wake(&scan->task);
}

static void stamps_ask(struct stamps_scan *scan)
{
	struct leg_io *lio = &scan->io;

	scan->count = (uint32_t)min_u64(scan->map->region_count - scan->region, STAMPS_CHUNK);
	memset(&lio->cmd, 0, sizeof(lio->cmd));
	lio->cmd.sqe.opcode = WIRE_STAMPS;
	lio->cmd.sqe.cdw10 = (uint32_t)scan->region;
	lio->cmd.sqe.cdw11 = scan->count;
	lio->iov.iov_base = scan->stamps;
	lio->iov.iov_len = scan->count * sizeof(uint64_t);
	lio->done = stamps_chunk_done;
	lio->ctx = scan;
	leg_submit(scan->leg, lio, true, &lio->iov, 1);
}

static void stamps_step(struct task *task)
{
	struct stamps_scan *scan = container_of(task, struct stamps_scan, task);

	volume_works(scan->leg->volume, TRACE_WORK_STAMPS);
	switch (scan->state) {
	case STAMPS_START:
		while (scan->result == 0 && scan->region < scan->map->region_count) {
			if (!scan->leg->ready || scan->leg->refence) {
				scan->result = -EIO;
				break;
			}
			stamps_ask(scan);
			AWAIT(scan, STAMPS_AWAIT_CHUNK, !scan->io.busy);
			if (scan->io.result != LEG_OK) {
				scan->result = -EIO;
				break;
			}
			for (uint32_t i = 0; i < scan->count; i++) {
				if (scan->stamps[i] > scan->above) {
					piecemap_set_region(scan->map, scan->region + i);
				}
			}
			scan->region += scan->count;
		}
		io_free(scan->leg->volume->io, scan->stamps);
		scan->stamps = NULL;
		scan->running = false;
		scan->state = STAMPS_DONE;
		task_wake(scan->parent);
		return;
	case STAMPS_DONE:
		return;
	}
}

void stamps_scan_start(struct stamps_scan *scan, struct leg *leg, struct piecemap *map,
	uint64_t above, struct task *parent)
{
	assert(!scan->running);
	task_init(&scan->task, &leg->volume->io->runq, stamps_step);
	scan->state = STAMPS_START;
	scan->leg = leg;
	scan->map = map;
	scan->above = above;
	scan->region = 0;
	scan->parent = parent;
	scan->running = true;
	scan->stamps = io_zalloc(leg->volume->io, STAMPS_CHUNK * sizeof(uint64_t));
	scan->result = scan->stamps == NULL ? -ENOMEM : 0;
	task_wake(&scan->task);
}
