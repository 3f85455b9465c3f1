/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How fast a rebuild goes, and how long it will take: the mean of each second, smoothed.  No I/O;
 * one reactor.
 */
#ifndef NEXUS_MIRROR_PROGRESS_H
#define NEXUS_MIRROR_PROGRESS_H

#include <stdint.h>

struct progress {
	uint64_t from_ns, bytes; /* the present second: its begin, what was done in it */
	uint64_t moved_ns;       /* when something was done last */
	uint64_t rate;           /* smoothed, of seconds that are over; 0: none yet */
};

void progress_begin(struct progress *progress, uint64_t now_ns);
void progress_note(struct progress *progress, uint64_t bytes, uint64_t now_ns);
/* Bytes a second; 0: nothing moves, or it is too early to tell. */
uint64_t progress_rate(const struct progress *progress, uint64_t now_ns);
/* Until `left` bytes are done, at least 1; 0: nothing is left, or that is not known. */
uint64_t progress_seconds_left(const struct progress *progress, uint64_t left, uint64_t now_ns);

#endif
