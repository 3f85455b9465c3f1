/* SPDX-License-Identifier: Apache-2.0 */
#include "nexus/mirror/progress.h"

#include "base/bytes.h"

#define NS_PER_MS UINT64_C(1000000)

#define SECOND_MS 1000u
#define EARLY_MS  200u   /* too early to tell */
#define STANDS_MS 10000u /* nothing was done for so long: it stands */
#define SMOOTH    4u

void progress_begin(struct progress *progress, uint64_t now_ns)
{
	*progress = (struct progress){.from_ns = now_ns, .moved_ns = now_ns};
}

/* With the present, longer or shorter, second. */
static uint64_t smoothed(const struct progress *progress, uint64_t elapsed_ms)
{
	uint64_t rate = progress->bytes * 1000 / elapsed_ms;

	if (progress->rate == 0) {
		return rate;
	}
	/* A "second" in which little was done may last long: it counts for as many. */
	for (uint64_t ms = 0; ms < min_u64(elapsed_ms, STANDS_MS); ms += SECOND_MS) {
		rate = ((SMOOTH - 1) * (ms == 0 ? progress->rate : rate) +
			       progress->bytes * 1000 / elapsed_ms) /
		       SMOOTH;
	}
	return rate;
}

void progress_note(struct progress *progress, uint64_t bytes, uint64_t now_ns)
{
	uint64_t elapsed_ms = (now_ns - progress->from_ns) / NS_PER_MS;

	progress->bytes += bytes;
	progress->moved_ns = now_ns;
	if (elapsed_ms >= SECOND_MS) {
		progress->rate = smoothed(progress, elapsed_ms);
		progress->from_ns = now_ns;
		progress->bytes = 0;
	}
}

uint64_t progress_rate(const struct progress *progress, uint64_t now_ns)
{
	uint64_t elapsed_ms = (now_ns - progress->from_ns) / NS_PER_MS;

	if ((now_ns - progress->moved_ns) / NS_PER_MS >= STANDS_MS) {
		return 0;
	}
	if (elapsed_ms >= SECOND_MS || (progress->rate == 0 && elapsed_ms >= EARLY_MS)) {
		return smoothed(progress, elapsed_ms);
	}
	return progress->rate;
}

uint64_t progress_seconds_left(const struct progress *progress, uint64_t left, uint64_t now_ns)
{
	uint64_t rate = progress_rate(progress, now_ns);

	return rate == 0 ? 0 : div_up_u64(left, rate);
}
