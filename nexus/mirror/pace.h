/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How fast the copies of all rebuilds of a nexus may go beside the host's requests
 * (docs/protocol.md 1.8, docs/decisions.md).  A pure state machine: times come in, a time goes out.
 *
 * What a request takes while nothing is copied is learned all the time, and in short pauses of the
 * copies when there is no such moment by itself.  When requests take half as long again, the rate
 * is halved; else it rises.  It never falls below rate_min, and does not count while the host is
 * idle; rate_max always does.  One reactor.
 */
#ifndef NEXUS_MIRROR_PACE_H
#define NEXUS_MIRROR_PACE_H

#include <stdbool.h>
#include <stdint.h>

/* Requests that can be compared with each other. */
enum pace_class { PACE_READ, PACE_LARGE_READ, PACE_WRITE, PACE_LARGE_WRITE, PACE_CLASSES };

#define PACE_LARGE_BYTES (UINT64_C(32) << 10) /* more is large */

/* Of a volume: what its requests take while nothing is copied. */
struct pace_host {
	uint64_t base_ns[PACE_CLASSES];
	uint8_t seen[PACE_CLASSES]; /* requests that base_ns is of, up to PACE_FIRST */
};

struct pace {
	uint64_t rate_min, rate_max; /* bytes a second; rate_max UINT64_MAX: no limit */
	uint64_t rate;
	bool searching;       /* it was never too fast: doubles */
	uint64_t next_ns;     /* when a copy may begin by `rate` */
	uint64_t next_max_ns; /* and by rate_max */
	unsigned copies;      /* under way, also those that are not paced */
	uint64_t quiet_ns;    /* when the last one ended; 0: there was none */
	uint64_t host_ns;     /* when a request last began or ended; 0: never */
	uint64_t learned_ns;  /* when enough was learned last, or was tried to */
	unsigned learned;     /* requests since */
	bool pausing;         /* for that: since when */
	uint64_t pause_ns;
	uint64_t window_ns;         /* what is judged began then */
	unsigned count;             /* requests that ended since */
	uint64_t took_ns, usual_ns; /* their times, and what these would have been */
	uint64_t bytes;             /* of copies begun since */
};

/* rate_max 0: no limit. */
void pace_init(struct pace *pace, uint64_t rate_min, uint64_t rate_max);

void pace_host_began(struct pace *pace, uint64_t now_ns);
/* A read or write was answered, with success. */
void pace_host_ended(struct pace *pace, struct pace_host *host, enum pace_class class,
	uint64_t began_ns, uint64_t now_ns);

/* At most now_ns: a copy may begin.  Else it is to be asked again then. */
uint64_t pace_due_ns(struct pace *pace, uint64_t now_ns);
/* paced: it was asked for and counts; the others are not held up. */
void pace_copy_began(struct pace *pace, uint64_t bytes, bool paced, uint64_t now_ns);
void pace_copy_ended(struct pace *pace, uint64_t now_ns);

/* Bytes a second that copies may have now; UINT64_MAX: as many as they can. */
uint64_t pace_limit(const struct pace *pace, uint64_t now_ns);

#endif
