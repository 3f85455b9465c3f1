/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the voters that this nexus took out of S lack (docs/protocol.md 1.2): begun when S is
 * committed without them, handed over to `todo` when their rebuild begins, taken back when it ends
 * early.
 */
#include "nexus/mirror/volume_internal.h"

void absent_note(struct volume *volume, uint64_t offset, uint64_t length)
{
	for (unsigned i = 0; i < volume->leg_count; i++) {
		dirty_set(&volume->legs[i]->dirty, offset, length);
	}
}

void absent_forget_all(struct volume *volume)
{
	for (unsigned i = 0; i < volume->leg_count; i++) {
		dirty_forget(&volume->legs[i]->dirty);
	}
}

/* What may differ on it at this moment, whatever it has answered: what is under way, and R. */
static void absent_add_present(struct leg *leg)
{
	struct volume *volume = leg->volume;

	if (volume->resync.count > 0 && volume->resync_by_stamps) {
		dirty_forget(&leg->dirty); /* regions, which the stamps give as well */
		return;
	}
	dirty_add_map(&leg->dirty, &volume->resync);
	ops_add_to(volume, &leg->dirty);
}

void absent_begin(struct leg *leg, uint64_t power)
{
	/* Before R is known, what members lack is not known either. */
	if (leg->volume->serving) {
		dirty_begin(&leg->dirty, power);
		leg->may_be_equal = false;
		absent_add_present(leg);
	}
}

bool absent_is_known(const struct leg *leg)
{
	return leg->dirty.known && leg->dirty.power == leg->answer.power;
}

void absent_keep(struct leg *leg)
{
	if (!leg->volume->serving || leg->todo_all) {
		return; /* what was known is known still */
	}
	dirty_begin(&leg->dirty, leg->answer.power);
	dirty_add_map(&leg->dirty, &leg->todo);
	absent_add_present(leg);
}
