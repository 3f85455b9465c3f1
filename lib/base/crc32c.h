/* SPDX-License-Identifier: Apache-2.0 */
/* CRC-32C (Castagnoli), as iSCSI and NVMe/TCP digests use it (RFC 3720 B.4). */
#ifndef BASE_CRC32C_H
#define BASE_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* CRC of `length` bytes.  crc32c("123456789", 9) == 0xE3069283. */
uint32_t crc32c(const void *from, size_t length);

/* Continues a CRC: crc32c_extend(crc32c(a), b) == crc32c(a followed by b). */
uint32_t crc32c_extend(uint32_t crc, const void *from, size_t length);

#endif
