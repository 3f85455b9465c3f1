/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Blocks whose content is gone, as far as this nexus knows: no member gave them when it was tried
 * last, or a replica has a mark for them.  For the operator, and so that reads of them are not held
 * against the disks.  What is not counted here because there are too many is unreadable all the
 * same.
 */
#include "nexus/mirror/volume_internal.h"

static void lost_changed(struct volume *volume)
{
	metric_set(&volume->lost_blocks, volume->lost.count);
}

bool lost_note(struct volume *volume, uint64_t offset)
{
	bool known = lost_touches(volume, offset, volume->block_bytes);

	(void)marks_add(&volume->lost, offset / volume->block_bytes, 1);
	lost_changed(volume);
	return !known;
}

void lost_forget(struct volume *volume, uint64_t offset, uint64_t length)
{
	if (lost_touches(volume, offset, length)) {
		marks_remove(
			&volume->lost, offset / volume->block_bytes, length / volume->block_bytes);
		lost_changed(volume);
	}
}

void lost_add_marks(struct leg *leg)
{
	const struct marks *marks = &leg->answer.vmeta.marks;

	/* In the middle of a rebuild it may be what a snapshot lacks, and the volume has. */
	for (uint32_t i = 0; i < marks->count && !leg->answer.vmeta.rebuilding; i++) {
		(void)lost_note(leg->volume, marks->blocks[i] * leg->volume->block_bytes);
	}
}
