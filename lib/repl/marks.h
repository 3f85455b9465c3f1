/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Blocks that are unreadable until they are written again: what NVMe's Write Uncorrectable leaves.
 * A replica keeps its own in its vmeta; a nexus what it knows to be lost.  Pure.
 */
#ifndef REPL_MARKS_H
#define REPL_MARKS_H

#include <stdbool.h>
#include <stdint.h>

#define MARKS_MAX          128u
#define MARKS_ENCODED_SIZE (MARKS_MAX * 8)

struct marks {
	uint32_t count;
	uint64_t blocks[MARKS_MAX]; /* rising */
};

/* Is any of these blocks marked?  The one test that everybody pays is marks->count. */
bool marks_touch(const struct marks *marks, uint64_t first, uint64_t count);
/* All of them, or false and none: there is no room. */
bool marks_add(struct marks *marks, uint64_t first, uint64_t count);
void marks_remove(struct marks *marks, uint64_t first, uint64_t count);

/* Little-endian; the count is encoded elsewhere. */
void marks_encode(const struct marks *marks, uint8_t to[MARKS_ENCODED_SIZE]);
/* 0, or -EBADMSG: too many, not rising, at or above `end`, or something behind the last one. */
int marks_decode(const uint8_t from[MARKS_ENCODED_SIZE], uint32_t count, uint64_t end,
	struct marks *ret_marks);

#endif
