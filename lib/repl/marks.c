/* SPDX-License-Identifier: Apache-2.0 */
#include "repl/marks.h"

#include "base/bytes.h"

#include <errno.h>
#include <string.h>

/* The first one at or above the block. */
static uint32_t marks_find(const struct marks *marks, uint64_t block)
{
	uint32_t at = 0;

	while (at < marks->count && marks->blocks[at] < block) {
		at++;
	}
	return at;
}

bool marks_touch(const struct marks *marks, uint64_t first, uint64_t count)
{
	uint32_t at;

	if (marks->count == 0) {
		return false;
	}
	at = marks_find(marks, first);
	return at < marks->count && marks->blocks[at] - first < count;
}

bool marks_add(struct marks *marks, uint64_t first, uint64_t count)
{
	uint32_t at = marks_find(marks, first);
	uint32_t end = marks_find(marks, first + count);

	if (count > MARKS_MAX || marks->count - (end - at) + count > MARKS_MAX) {
		return false;
	}
	memmove(marks->blocks + at + count, marks->blocks + end,
		(marks->count - end) * sizeof(marks->blocks[0]));
	for (uint64_t i = 0; i < count; i++) {
		marks->blocks[at + i] = first + i;
	}
	marks->count += (uint32_t)count - (end - at);
	return true;
}

void marks_remove(struct marks *marks, uint64_t first, uint64_t count)
{
	uint32_t at = marks_find(marks, first);
	uint32_t end = marks_find(marks, first + count);

	memmove(marks->blocks + at, marks->blocks + end,
		(marks->count - end) * sizeof(marks->blocks[0]));
	marks->count -= end - at;
}

void marks_encode(const struct marks *marks, uint8_t to[MARKS_ENCODED_SIZE])
{
	memset(to, 0, MARKS_ENCODED_SIZE);
	for (uint32_t i = 0; i < marks->count; i++) {
		le64_put(to + (size_t)i * 8, marks->blocks[i]);
	}
}

int marks_decode(const uint8_t from[MARKS_ENCODED_SIZE], uint32_t count, uint64_t end,
	struct marks *ret_marks)
{
	struct marks marks = {.count = count};

	if (count > MARKS_MAX ||
		!bytes_are_zero(from + (size_t)count * 8, MARKS_ENCODED_SIZE - (size_t)count * 8)) {
		return -EBADMSG;
	}
	for (uint32_t i = 0; i < count; i++) {
		marks.blocks[i] = le64_get(from + (size_t)i * 8);
		if (marks.blocks[i] >= end || (i > 0 && marks.blocks[i] <= marks.blocks[i - 1])) {
			return -EBADMSG;
		}
	}
	*ret_marks = marks;
	return 0;
}
