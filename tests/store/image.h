/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Contents of a small disk.  A block's content is kept once and named by a number, so an image is a
 * short array: copied, changed and compared in no time.
 */
#ifndef STORE_SWEEP_IMAGE_H
#define STORE_SWEEP_IMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define IMAGE_BLOCKS_MAX  304u
#define IMAGE_BLOCK_BYTES 4096u
#define SECTOR_BYTES      512u
#define BLOCK_SECTORS     (IMAGE_BLOCK_BYTES / SECTOR_BYTES)

/* Numbers of contents; 0 is zeros. */
struct image {
	uint32_t contents[IMAGE_BLOCKS_MAX];
};

uint32_t content_of(const uint8_t *bytes);
const uint8_t *content_bytes(uint32_t content);
/* Of the bytes: the same in each run. */
uint64_t content_hash(uint32_t content);
uint64_t image_hash(const struct image *image);

/* What was added since goes again; the last mark first. */
uint32_t contents_mark(void);
void contents_release(uint32_t mark);

uint64_t hash_bytes(const void *from, size_t length);
uint64_t hash_mix(uint64_t a, uint64_t b);

#endif
