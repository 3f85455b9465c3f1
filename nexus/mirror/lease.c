/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A nexus that stood still for longer than the lease (a suspended machine, SIGSTOP) knows nothing
 * of its replicas any more: it fences them anew before it answers a read (docs/protocol.md 1.9).
 * Heartbeats make it look at the clock twice a second; a gap is seen at the first look after it.
 */
#include "nexus/mirror/volume_internal.h"

void lease_note_time(struct volume *volume)
{
	uint64_t now_ns = io_now_ns(volume->io);
	uint64_t before_ns = volume->awake_ns;

	volume->awake_ns = now_ns;
	if (now_ns <= before_ns + LEASE_NS) {
		return;
	}
	for (unsigned i = 0; i < volume->leg_count; i++) {
		struct leg *leg = volume->legs[i];

		/* The first look of all finds nobody; nor does one after all were away. */
		if (leg->ready && leg->fence_sent_ns <= before_ns) {
			leg->heard_ns = 0;
			leg->refence = true;
			task_wake(&leg->task);
			log_info(&volume->io->log, "nexus", "fenced-after-gap",
				"volume=%s replica=%u gap_ms=%llu", volume->options.name,
				leg->index,
				(unsigned long long)((now_ns - before_ns) / IO_NS_PER_MS));
		}
	}
}
