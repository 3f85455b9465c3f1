/* SPDX-License-Identifier: Apache-2.0 */
/* Other programs: mkfs, e2fsck.  Blocking: for worker threads. */
#ifndef CSI_NODE_PROGRAM_H
#define CSI_NODE_PROGRAM_H

#include "base/err.h"

#include <stdint.h>

#define PROGRAM_OUTPUT_SIZE 400

struct program_result {
	int exit_code;                    /* -1: it was killed, or did not run */
	char output[PROGRAM_OUTPUT_SIZE]; /* the end of what it wrote, as one line */
};

/*
 * Runs it to its end, for at most timeout_ms, with nothing to read and both outputs captured.  0
 * also when its exit code is not; -ENOENT there is no such program; -ETIMEDOUT it was killed, as
 * far as that is possible: one that waits for a device which does not answer is left behind.
 */
int program_run(const char *const argv[], uint64_t timeout_ms, struct program_result *ret_result,
	struct err *err) __must_check;

#endif
