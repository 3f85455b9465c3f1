/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/store/image.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define CONTENTS_MAX 200000u
#define CHAINS       (1u << 16)

struct content {
	uint64_t hash;
	uint32_t next; /* in its chain; 0 ends */
	uint8_t *bytes;
};

static struct content contents[CONTENTS_MAX];
static uint32_t content_count = 1;
static uint32_t content_allocated = 1; /* whose bytes have memory */
static uint32_t chains[CHAINS];
static const uint8_t zeros[IMAGE_BLOCK_BYTES];

uint64_t hash_mix(uint64_t a, uint64_t b)
{
	uint64_t x = a ^ (b * UINT64_C(0x9e3779b97f4a7c15));

	x ^= x >> 32;
	x *= UINT64_C(0xd6e8feb86659fd93);
	x ^= x >> 32;
	return x;
}

uint64_t hash_bytes(const void *from, size_t length)
{
	const uint8_t *bytes = from;
	uint64_t lanes[4] = {1, 2, 3, 4};
	size_t at = 0;

	for (; at + 32 <= length; at += 32) {
		uint64_t words[4];

		memcpy(words, bytes + at, sizeof(words));
		for (unsigned i = 0; i < 4; i++) {
			lanes[i] = (lanes[i] ^ words[i]) * UINT64_C(0x9fb21c651e98df25);
			lanes[i] ^= lanes[i] >> 35;
		}
	}
	for (; at < length; at++) {
		lanes[at % 4] = hash_mix(lanes[at % 4], bytes[at]);
	}
	return hash_mix(hash_mix(lanes[0], lanes[1]), hash_mix(lanes[2], lanes[3]));
}

uint32_t content_of(const uint8_t *bytes)
{
	uint64_t hash;
	uint32_t *chain;
	struct content *content;

	if (memcmp(bytes, zeros, IMAGE_BLOCK_BYTES) == 0) {
		return 0;
	}
	hash = hash_bytes(bytes, IMAGE_BLOCK_BYTES);
	chain = &chains[hash % CHAINS];
	for (uint32_t i = *chain; i != 0; i = contents[i].next) {
		if (contents[i].hash == hash &&
			memcmp(contents[i].bytes, bytes, IMAGE_BLOCK_BYTES) == 0) {
			return i;
		}
	}
	assert(content_count < CONTENTS_MAX);
	content = &contents[content_count];
	if (content_count == content_allocated) {
		content->bytes = malloc(IMAGE_BLOCK_BYTES);
		assert(content->bytes != NULL);
		content_allocated++;
	}
	memcpy(content->bytes, bytes, IMAGE_BLOCK_BYTES);
	content->hash = hash;
	content->next = *chain;
	*chain = content_count;
	return content_count++;
}

const uint8_t *content_bytes(uint32_t content)
{
	return content == 0 ? zeros : contents[content].bytes;
}

uint64_t content_hash(uint32_t content)
{
	return contents[content].hash;
}

uint64_t image_hash(const struct image *image)
{
	uint64_t hash = 0;

	for (uint32_t i = 0; i < IMAGE_BLOCKS_MAX; i++) {
		hash = hash_mix(hash, contents[image->contents[i]].hash);
	}
	return hash;
}

uint32_t contents_mark(void)
{
	return content_count;
}

void contents_release(uint32_t mark)
{
	while (content_count > mark) {
		const struct content *content = &contents[--content_count];

		/* The newest of its chain is its first. */
		chains[content->hash % CHAINS] = content->next;
	}
}
