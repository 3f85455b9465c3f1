/* SPDX-License-Identifier: Apache-2.0 */
/* Choosing a backend, making and freeing the loop. */
#include "base/bytes.h"
#include "real/backend.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#define STACK_LEFT_BYTES (32u * 1024)

static void metrics_add(struct real *real)
{
	struct metric_registry *registry = real->options.metrics;
	struct real_metrics *metrics = &real->metrics;
	const char *name = real->options.name != NULL ? real->options.name : "0";

	if (registry == NULL) {
		return;
	}
	metric_add(registry, &metrics->info, METRIC_GAUGE, "strake_reactor_info",
		"1; the backend is how I/O reaches the kernel.", "reactor=\"%s\",backend=\"%s\"",
		name, real->backend->name);
	metric_set(&metrics->info, 1);
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

static void metrics_remove(struct real *real)
{
	struct metric_registry *registry = real->options.metrics;

	if (registry == NULL) {
		return;
	}
	metric_remove(registry, &real->metrics.info);
	metric_remove(registry, &real->metrics.turns);
	metric_remove(registry, &real->metrics.sleeps);
	metric_remove(registry, &real->metrics.operations);
	metric_remove(registry, &real->metrics.steps);
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

static int new_with(const struct real_backend *backend, const struct real_options *options,
	struct real **ret_real, struct err *err)
{
	struct real *real = calloc(1, backend->size);

	if (real == NULL) {
		return err_set(err, -ENOMEM, "no memory for a reactor");
	}
	real->backend = backend;
	real->options = *options;
	list_init(&real->memory_done);
	io_init(&real->io, backend->ops, real, random_seed(), options->metrics);
	real->event_fd = eventfd(0, EFD_CLOEXEC);
	if (real->event_fd < 0) {
		int error = err_set(err, -errno, "eventfd: %s", err_describe(errno));

		free(real);
		return error;
	}
	int error = backend->open(real, err);

	if (error != 0) {
		close(real->event_fd);
		free(real);
		return error;
	}
	metrics_add(real);
	*ret_real = real;
	return 0;
}

/* ---- choosing ---------------------------------------------------------------------------------
 */

static int new_as_asked(const char *asked, const struct real_options *options,
	struct real **ret_real, struct err *err)
{
	char names[64] = "";

	for (unsigned i = 0; i < REAL_BACKENDS; i++) {
		const struct real_backend *backend = options->backends[i];

		if (backend == NULL) {
			continue;
		}
		if (strcmp(backend->name, asked) == 0) {
			return new_with(backend, options, ret_real, err);
		}
		(void)snprintf(names + strlen(names), sizeof(names) - strlen(names), "%s or ",
			backend->name);
	}
	return err_set(err, -EINVAL, "STRAKE_IO is \"%.40s\": it may be %sunset", asked, names);
}

int real_new(const struct real_options *options, struct real **ret_real, struct err *err)
{
	const char *asked = getenv("STRAKE_IO");
	struct err refusal = {0};
	int error = -ENOSYS;

	assert(options->backends[0] != NULL);
	if (asked != NULL && asked[0] != '\0') {
		return new_as_asked(asked, options, ret_real, err);
	}
	for (unsigned i = 0; i < REAL_BACKENDS && (error == -ENOSYS || error == -EPERM); i++) {
		const struct real_backend *backend = options->backends[i];
		struct err why = {0};

		if (backend == NULL) {
			continue;
		}
		error = new_with(backend, options, ret_real, &why);
		if (error == 0 && refusal.code != 0) {
			(void)snprintf((*ret_real)->why, sizeof((*ret_real)->why),
				"%.300s; so it is %s, which costs %s", refusal.text, backend->name,
				backend->cost);
		}
		refusal = why;
	}
	return error == 0 ? 0 : err_set(err, error, "%s", refusal.text);
}

void real_free(struct real *real)
{
	if (real == NULL) {
		return;
	}
	assert(real->open_count == 0 && atomic_load(&real->disk_count) == 0);
	real->backend->close(real);
	metrics_remove(real);
	close(real->event_fd);
	free(real);
}

struct io *real_io(struct real *real)
{
	return &real->io;
}

const char *real_text(const struct real *real)
{
	return real->text;
}

const char *real_why(const struct real *real)
{
	return real->why;
}

/* ---- threads ----------------------------------------------------------------------------------
 */

struct start {
	void *(*main)(void *ctx);
	void *ctx;
};

/* What a thread needs only when something has failed is there, too: down to `size` below `top`. */
static __attribute__((noinline)) void fault_in_stack(const char *top, size_t size)
{
	volatile char page[4096];

	page[0] = 0;
	if ((size_t)(top - (const char *)__builtin_frame_address(0)) < size) {
		fault_in_stack(top, size);
	}
	(void)page[0]; /* no tail call */
}

static void *thread_main(void *ctx)
{
	struct start start = *(struct start *)ctx;
	const char *top = __builtin_frame_address(0);
	pthread_attr_t attributes;
	size_t size;
	void *low;

	free(ctx);
	/* libc, and a sanitizer more so, has a part of it above us. */
	if (pthread_getattr_np(pthread_self(), &attributes) == 0) {
		if (pthread_attr_getstack(&attributes, &low, &size) == 0 &&
			top > (const char *)low + STACK_LEFT_BYTES) {
			fault_in_stack(top, (size_t)(top - (const char *)low) - STACK_LEFT_BYTES);
		}
		(void)pthread_attr_destroy(&attributes);
	}
	return start.main(start.ctx);
}

int real_thread_start(
	pthread_t *ret_thread, size_t stack_bytes, void *(*main)(void *ctx), void *ctx)
{
	struct start *start = malloc(sizeof(*start));
	pthread_attr_t attributes;
	sigset_t all, before;
	int error;

	if (start == NULL) {
		return -ENOMEM;
	}
	*start = (struct start){.main = main, .ctx = ctx};
	error = pthread_attr_init(&attributes);
	assert(error == 0);
	error = pthread_attr_setstacksize(&attributes, stack_bytes);
	assert(error == 0);
	(void)sigfillset(&all);
	(void)pthread_sigmask(SIG_SETMASK, &all, &before);
	error = pthread_create(ret_thread, &attributes, thread_main, start);
	(void)pthread_sigmask(SIG_SETMASK, &before, NULL);
	(void)pthread_attr_destroy(&attributes);
	if (error != 0) {
		free(start);
	}
	return -error;
}
