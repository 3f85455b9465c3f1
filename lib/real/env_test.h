/* SPDX-License-Identifier: Apache-2.0 */
/* The same tests for every backend, and for each way in which it may be made. */
#ifndef REAL_ENV_TEST_H
#define REAL_ENV_TEST_H

#include "base/bytes.h"
#include "base/testing.h"
#include "epoll/epoll.h"
#include "real/backend.h"
#include "uring/uring.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A test's initial state. */
struct way {
	const char *name;
	const struct real_backend *backend;
	unsigned ring_first_setup;
	uint64_t poll_ns;
};

static struct way ways[] = {
	{.name = "io_uring", .backend = &uring_backend},
	{.name = "io_uring without DEFER_TASKRUN",
		.backend = &uring_backend,
		.ring_first_setup = 1},
	{.name = "io_uring without SINGLE_ISSUER",
		.backend = &uring_backend,
		.ring_first_setup = 2},
	{.name = "io_uring plain", .backend = &uring_backend, .ring_first_setup = 3},
	{.name = "io_uring that polls", .backend = &uring_backend, .poll_ns = 50000},
	{.name = "epoll", .backend = &epoll_backend},
	{.name = "epoll that polls", .backend = &epoll_backend, .poll_ns = 50000},
};

#define WAYS ARRAY_COUNT(ways)

static int way_new(const struct way *way, struct real **ret_real, struct err *err)
{
	/* A small ring, so that a full submission queue is the rule. */
	struct real_options options = {.backends = {way->backend},
		.poll_ns = way->poll_ns,
		.ring_entries = 16,
		.ring_first_setup = way->ring_first_setup};

	return real_new(&options, ret_real, err);
}

/* Leaves out what the kernel lacks or forbids. */
static bool way_is_there(const struct way *way)
{
	struct real *real = NULL;
	struct err err = {0};

	if (way_new(way, &real, &err) != 0) {
		fprintf(stderr, "skipped %s: %s\n", way->name, err.text);
		return false;
	}
	real_free(real);
	return true;
}

/* Runs them in all ways. */
static int run_in_all_ways(const struct CMUnitTest *tests, size_t count)
{
	static char names[WAYS * 16][100];
	struct CMUnitTest all[WAYS * 16];
	size_t total = 0;

	assert(count <= 16);
	unsetenv("STRAKE_IO");
	for (size_t w = 0; w < WAYS; w++) {
		if (!way_is_there(&ways[w])) {
			continue;
		}
		for (size_t i = 0; i < count; i++) {
			snprintf(names[total], sizeof(names[total]), "%s, %s", tests[i].name,
				ways[w].name);
			all[total] = tests[i];
			all[total].name = names[total];
			all[total].initial_state = &ways[w];
			total++;
		}
	}
	return _cmocka_run_group_tests("real", all, total, NULL, NULL);
}

#endif
