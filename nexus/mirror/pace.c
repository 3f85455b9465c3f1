/* SPDX-License-Identifier: Apache-2.0 */
#include "nexus/mirror/pace.h"

#include "base/bytes.h"

#include <assert.h>

#define NS_PER_MS UINT64_C(1000000)
#define NS_PER_S  (1000 * NS_PER_MS)

/* A host that asks for nothing for so long is idle. */
#define PACE_IDLE_NS NS_PER_S
/* Too slow: half as long again, and this much for each request, which is noise. */
#define PACE_SLACK_NS (100 * UINT64_C(1000))
/* What is judged at once: so long and so many requests, or a longer time. */
#define PACE_WINDOW_NS     (100 * NS_PER_MS)
#define PACE_WINDOW_MAX_NS (500 * NS_PER_MS)
#define PACE_WINDOW_COUNT  8
#define PACE_FORGET_NS     (2 * NS_PER_S) /* nobody asked for so long */
/* The usual time is looked at so often at least; a pause for it is so long at most. */
#define PACE_LEARN_NS    (2 * NS_PER_S)
#define PACE_LEARN_COUNT 16
#define PACE_PAUSE_NS    (100 * NS_PER_MS)
#define PACE_POLL_NS     (5 * NS_PER_MS)
#define PACE_SETTLE_NS   (20 * NS_PER_MS) /* so long after a copy it is felt still */
#define PACE_FIRST       8  /* the least of the first ones: the rest met something else */
#define PACE_WEIGHT      16 /* of later ones: a sixteenth */
#define PACE_OUTLIER     4
/* What was not used, as when a timer is late, is kept for so long. */
#define PACE_BURST_NS (50 * NS_PER_MS)
#define PACE_RATE_TOP (UINT64_C(1) << 40)

void pace_init(struct pace *pace, uint64_t rate_min, uint64_t rate_max)
{
	*pace = (struct pace){
		.rate_min = max_u64(rate_min, 1),
		.rate_max = rate_max != 0 ? rate_max : UINT64_MAX,
		.searching = true,
	};
	pace->rate = min_u64(pace->rate_min, PACE_RATE_TOP);
}

/* ---- the host's requests ---- */

static bool host_is_idle(const struct pace *pace, uint64_t now_ns)
{
	return pace->host_ns == 0 || now_ns >= pace->host_ns + PACE_IDLE_NS;
}

static void host_learn(struct pace *pace, struct pace_host *host, enum pace_class class,
	uint64_t ns, uint64_t now_ns)
{
	uint64_t *base_ns = &host->base_ns[class];

	if (host->seen[class] < PACE_FIRST) {
		*base_ns = host->seen[class] == 0 ? ns : min_u64(*base_ns, ns);
		host->seen[class]++;
	} else if (ns < *base_ns) {
		*base_ns -= (*base_ns - ns) / PACE_WEIGHT;
	} else {
		ns = min_u64(ns, PACE_OUTLIER * *base_ns + PACE_SLACK_NS);
		*base_ns += (ns - *base_ns) / PACE_WEIGHT;
	}
	if (++pace->learned >= PACE_LEARN_COUNT) {
		pace->learned = 0;
		pace->learned_ns = now_ns;
	}
}

void pace_host_began(struct pace *pace, uint64_t now_ns)
{
	pace->host_ns = now_ns;
}

void pace_host_ended(struct pace *pace, struct pace_host *host, enum pace_class class,
	uint64_t began_ns, uint64_t now_ns)
{
	pace->host_ns = now_ns;
	if (pace->copies == 0 &&
		(pace->quiet_ns == 0 || began_ns >= pace->quiet_ns + PACE_SETTLE_NS)) {
		host_learn(pace, host, class, now_ns - began_ns, now_ns);
	}
	if (host->seen[class] >= PACE_FIRST) {
		pace->count++;
		pace->took_ns += now_ns - began_ns;
		pace->usual_ns += host->base_ns[class];
	}
}

/* ---- the rate ---- */

static void window_begin(struct pace *pace, uint64_t now_ns)
{
	pace->window_ns = now_ns;
	pace->count = 0;
	pace->took_ns = pace->usual_ns = 0;
	pace->bytes = 0;
}

/* Requests were answered while so many bytes were copied. */
static void judge(struct pace *pace, uint64_t elapsed_ns)
{
	uint64_t used = pace->bytes * 1000 / (elapsed_ns / NS_PER_MS);
	uint64_t next;

	if (pace->took_ns > pace->usual_ns + pace->usual_ns / 2 + pace->count * PACE_SLACK_NS) {
		pace->searching = false;
		pace->rate = max_u64(min_u64(pace->rate, used) / 2, pace->rate_min);
		return;
	}
	next = pace->searching ? 2 * pace->rate : pace->rate + pace->rate_min / 2;
	/* What is not used proves nothing. */
	next = min_u64(next, max_u64(pace->rate, 2 * used));
	pace->rate = min_u64(next, PACE_RATE_TOP);
}

static void window_step(struct pace *pace, uint64_t now_ns)
{
	uint64_t elapsed_ns = now_ns - pace->window_ns;

	if (elapsed_ns < PACE_WINDOW_NS ||
		(pace->count < PACE_WINDOW_COUNT && elapsed_ns < PACE_WINDOW_MAX_NS)) {
		return;
	}
	if (elapsed_ns < PACE_FORGET_NS && pace->count > 0 && pace->bytes > 0) {
		judge(pace, elapsed_ns);
	}
	window_begin(pace, now_ns);
}

/* true: a pause of at most PACE_PAUSE_NS without copies, in which it is learned what the host's
 * requests take without them. */
static bool pause_step(struct pace *pace, uint64_t now_ns)
{
	if (now_ns < pace->learned_ns + PACE_LEARN_NS) {
		if (pace->pausing) {
			window_begin(pace, now_ns);
		}
		pace->pausing = false;
		return false;
	}
	if (!pace->pausing) {
		pace->pausing = true;
		pace->pause_ns = now_ns;
		pace->learned = 0;
	} else if (now_ns >= pace->pause_ns + PACE_PAUSE_NS) {
		pace->learned_ns = now_ns;
		return pause_step(pace, now_ns);
	}
	return true;
}

/* The host needs nothing, or there is nothing between the limits: only rate_max counts. */
static bool is_free(const struct pace *pace, uint64_t now_ns)
{
	return pace->rate_min >= pace->rate_max || host_is_idle(pace, now_ns);
}

uint64_t pace_due_ns(struct pace *pace, uint64_t now_ns)
{
	uint64_t max_ns = pace->rate_max != UINT64_MAX ? pace->next_max_ns : 0;

	if (is_free(pace, now_ns)) {
		return max_ns;
	}
	if (pause_step(pace, now_ns)) {
		return max_u64(max_ns, now_ns + PACE_POLL_NS);
	}
	window_step(pace, now_ns);
	return max_u64(max_ns, pace->next_ns);
}

/* ---- the copies ---- */

static uint64_t next_after(uint64_t next_ns, uint64_t bytes, uint64_t rate, uint64_t now_ns)
{
	return max_u64(next_ns, now_ns - min_u64(now_ns, PACE_BURST_NS)) + bytes * NS_PER_S / rate;
}

void pace_copy_began(struct pace *pace, uint64_t bytes, bool paced, uint64_t now_ns)
{
	pace->copies++;
	if (!paced) {
		return;
	}
	if (!is_free(pace, now_ns)) {
		pace->bytes += bytes;
		pace->next_ns = next_after(pace->next_ns, bytes, pace->rate, now_ns);
	}
	if (pace->rate_max != UINT64_MAX) {
		pace->next_max_ns = next_after(pace->next_max_ns, bytes, pace->rate_max, now_ns);
	}
}

void pace_copy_ended(struct pace *pace, uint64_t now_ns)
{
	assert(pace->copies > 0);
	pace->copies--;
	pace->quiet_ns = now_ns;
}

uint64_t pace_limit(const struct pace *pace, uint64_t now_ns)
{
	return is_free(pace, now_ns) ? pace->rate_max : min_u64(pace->rate, pace->rate_max);
}
