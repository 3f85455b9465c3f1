/* SPDX-License-Identifier: Apache-2.0 */
#include "base/crc32c.h"

#include <isa-l/crc.h>

/* ISA-L takes its length as an int. */
#define PIECE_MAX ((size_t)1 << 30)

uint32_t crc32c(const void *from, size_t length)
{
	return crc32c_extend(0, from, length);
}

uint32_t crc32c_extend(uint32_t crc, const void *from, size_t length)
{
	uintptr_t at = (uintptr_t)from;

	/* ISA-L inverts neither at the start nor at the end; the CRC as the RFC has it does both.
	 */
	crc = ~crc;
	while (length > 0) {
		size_t piece = length < PIECE_MAX ? length : PIECE_MAX;

		crc = crc32_iscsi((unsigned char *)at, (int)piece, crc);
		at += piece;
		length -= piece;
	}
	return ~crc;
}
