/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The vmeta image.  Input: one byte (bit 0: the checksum is put right), then the image.  What
 * decodes must encode to something that decodes to the same.
 */
#include "base/bytes.h"
#include "base/crc32c.h"
#include "repl/record.h"

#include <errno.h>
#include <stdlib.h>

#define VMETA_CRC_OFFSET 16u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool condition)
{
	if (!condition) {
		abort();
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t image[VMETA_SIZE] = {0};
	uint8_t once[VMETA_SIZE];
	uint8_t twice[VMETA_SIZE];
	struct vmeta vmeta;
	struct vmeta again;
	int result;

	if (size < 1) {
		return 0;
	}
	memcpy(image, data + 1, min_u64(size - 1, VMETA_SIZE));
	if ((data[0] & 1) != 0) {
		le32_put(image + VMETA_CRC_OFFSET, 0);
		le32_put(image + VMETA_CRC_OFFSET, crc32c(image, VMETA_SIZE));
	}
	result = vmeta_decode(image, &vmeta);
	require(result == 0 || result == -ENODATA || result == -EBADMSG || result == -EOPNOTSUPP);
	if (result != 0) {
		return 0;
	}
	vmeta_encode(&vmeta, once);
	require(vmeta_decode(once, &again) == 0);
	vmeta_encode(&again, twice);
	require(memcmp(once, twice, VMETA_SIZE) == 0);
	return 0;
}
