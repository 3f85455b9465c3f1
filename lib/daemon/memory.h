/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a process must do so that it goes on when the machine is out of memory: the dirty pages that
 * would have to be written back to free memory go through it.
 */
#ifndef DAEMON_MEMORY_H
#define DAEMON_MEMORY_H

#include "base/err.h"
#include "base/log.h"

#include <stdbool.h>

/* 0 or the negative errno of the refusal. */
struct memory_rules {
	int io_flusher;
	int locked;
	int oom_score;
};

/* Before any thread and any ring: threads inherit it. */
void memory_rules_apply(struct memory_rules *ret_rules);
/* A warning for each refusal, with the way out. */
void memory_rules_log(const struct memory_rules *rules, const struct log *log);

#endif
