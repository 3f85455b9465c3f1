/* SPDX-License-Identifier: Apache-2.0 */
#include "base/bytes.h"

bool bytes_are_zero(const void *from, size_t length)
{
	const unsigned char *bytes = from;
	size_t head = length < 16 ? length : 16;

	for (size_t i = 0; i < head; i++) {
		if (bytes[i] != 0) {
			return false;
		}
	}
	/* The first 16 bytes are zero; the rest is zero if it equals the memory 16 bytes before. */
	return length <= 16 || memcmp(bytes, bytes + 16, length - 16) == 0;
}
