/* SPDX-License-Identifier: Apache-2.0 */
/* Making and freeing the ring. */
#include "base/bytes.h"
#include "uring/internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#define ENTRIES_DEFAULT 256u
#define CQ_FACTOR       8u /* completions may come in bursts */

/* From the best to the plainest; a kernel that does not know a flag says EINVAL. */
static const struct {
	unsigned flags;
	const char *text;
} setups[] = {
	{IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_COOP_TASKRUN |
			IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_SUBMIT_ALL,
		"SINGLE_ISSUER DEFER_TASKRUN COOP_TASKRUN TASKRUN_FLAG SUBMIT_ALL"},
	{IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG |
			IORING_SETUP_SUBMIT_ALL,
		"SINGLE_ISSUER COOP_TASKRUN TASKRUN_FLAG SUBMIT_ALL"},
	{IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_SUBMIT_ALL,
		"COOP_TASKRUN TASKRUN_FLAG SUBMIT_ALL"},
	{0, "plain"},
};

_Static_assert(ARRAY_COUNT(setups) == URING_SETUPS, "as the header says");

static int explain(int error, struct err *err)
{
	switch (error) {
	case -EPERM:
	case -EACCES:
		return err_set(err, -EPERM,
			"io_uring is forbidden here: allow it with `sysctl "
			"kernel.io_uring_disabled=0`, "
			"or in a container with a seccomp profile that lets io_uring_setup, "
			"io_uring_enter and io_uring_register through");
	case -ENOSYS:
		return err_set(err, -ENOSYS,
			"io_uring is not there: it needs Linux 5.11 or newer with CONFIG_IO_URING, "
			"and in "
			"a container a seccomp profile that lets io_uring_setup, io_uring_enter "
			"and "
			"io_uring_register through");
	case -ENOMEM:
		return err_set(err, -ENOMEM,
			"no memory for io_uring: raise the limit of locked memory (ulimit -l)");
	default:
		return err_set(err, error, "io_uring_setup: %s", err_describe(error));
	}
}

static int make_ring(struct uring *uring, unsigned first_setup, struct err *err)
{
	unsigned entries = uring->options.entries != 0 ? uring->options.entries : ENTRIES_DEFAULT;
	int error = -EINVAL;

	for (unsigned i = first_setup; i < ARRAY_COUNT(setups) && error == -EINVAL; i++) {
		struct io_uring_params params = {
			.flags = setups[i].flags | IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP,
			.cq_entries = entries * CQ_FACTOR,
		};

		error = io_uring_queue_init_params(entries, &uring->ring, &params);
		if (error == 0) {
			(void)snprintf(
				uring->flags_text, sizeof(uring->flags_text), "%s", setups[i].text);
		}
	}
	if (error != 0) {
		return explain(error, err);
	}
	unsigned needed = IORING_FEAT_NODROP | IORING_FEAT_EXT_ARG;

	if ((uring->ring.features & needed) != needed) {
		io_uring_queue_exit(&uring->ring);
		return explain(-ENOSYS, err);
	}
	return 0;
}

static void metrics_add(struct uring *uring)
{
	struct metric_registry *registry = uring->options.metrics;
	struct uring_metrics *metrics = &uring->metrics;
	const char *name = uring->options.name != NULL ? uring->options.name : "0";

	if (registry == NULL) {
		return;
	}
	metric_add(registry, &metrics->turns, METRIC_COUNTER, "strake_reactor_turns_total",
		"Turns of the reactor's loop.", "reactor=\"%s\"", name);
	metric_add(registry, &metrics->sleeps, METRIC_COUNTER, "strake_reactor_sleeps_total",
		"Turns that waited in the kernel.", "reactor=\"%s\"", name);
	metric_add(registry, &metrics->operations, METRIC_COUNTER,
		"strake_reactor_completions_total", "Completions of the kernel.", "reactor=\"%s\"",
		name);
	metric_add(registry, &metrics->steps, METRIC_COUNTER, "strake_reactor_steps_total",
		"Steps of tasks.", "reactor=\"%s\"", name);
}

static void metrics_remove(struct uring *uring)
{
	struct metric_registry *registry = uring->options.metrics;

	if (registry == NULL) {
		return;
	}
	metric_remove(registry, &uring->metrics.turns);
	metric_remove(registry, &uring->metrics.sleeps);
	metric_remove(registry, &uring->metrics.operations);
	metric_remove(registry, &uring->metrics.steps);
}

static uint64_t random_seed(void)
{
	uint64_t seed = 0;

	if (getrandom(&seed, sizeof(seed), 0) != (ssize_t)sizeof(seed)) {
		struct timespec now;

		(void)clock_gettime(CLOCK_REALTIME, &now);
		seed = (uint64_t)now.tv_nsec ^ (uint64_t)now.tv_sec << 30 ^
		       (uint64_t)getpid() << 48;
	}
	return seed;
}

int uring_new_from_setup(const struct uring_options *options, unsigned first_setup,
	struct uring **ret_uring, struct err *err)
{
	struct uring *uring = calloc(1, sizeof(*uring));

	if (uring == NULL) {
		return err_set(err, -ENOMEM, "no memory for a reactor");
	}
	if (options != NULL) {
		uring->options = *options;
	}
	uring->event_fd = eventfd(0, EFD_CLOEXEC);
	if (uring->event_fd < 0) {
		int error = err_set(err, -errno, "eventfd: %s", err_describe(errno));

		free(uring);
		return error;
	}
	int error = make_ring(uring, first_setup, err);

	if (error != 0) {
		close(uring->event_fd);
		free(uring);
		return error;
	}
	/* Spares each system call the look-up of the descriptor; kernels before 5.18 refuse it. */
	(void)io_uring_register_ring_fd(&uring->ring);
	list_init(&uring->local_done);
	io_init(&uring->io, &uring_io_ops, uring, random_seed(), uring->options.metrics);
	metrics_add(uring);
	*ret_uring = uring;
	return 0;
}

int uring_new(const struct uring_options *options, struct uring **ret_uring, struct err *err)
{
	return uring_new_from_setup(options, 0, ret_uring, err);
}

void uring_free(struct uring *uring)
{
	if (uring == NULL) {
		return;
	}
	uring_drain(uring);
	metrics_remove(uring);
	io_uring_queue_exit(&uring->ring);
	close(uring->event_fd);
	free(uring);
}

struct io *uring_io(struct uring *uring)
{
	return &uring->io;
}

const char *uring_flags_text(const struct uring *uring)
{
	return uring->flags_text;
}
