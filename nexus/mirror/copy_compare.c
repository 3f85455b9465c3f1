/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Before a piece is copied that the destination may have already (docs/protocol.md 1.8), it is
 * compared by hashes: of the source and of the destinations, under the copy's range lock and with a
 * key of its own.  Only runs of blocks that differ are copied.  A piece that is equal everywhere
 * counts as copied when everybody's stamp of its region is durably as high as the highest one:
 * else who is rebuilt from the destination later would not get what it lacks.
 *
 * Answers lie in the copier's buffer, one after the other by leg, until they are judged.
 */
#include "base/bytes.h"
#include "base/mutant.h"
#include "nexus/mirror/volume_internal.h"
#include "repl/blockhash.h"

static uint64_t block_count(const struct copier *copier)
{
	return copier->length / copier->volume->block_bytes;
}

static uint64_t all_blocks(const struct copier *copier)
{
	return UINT64_MAX >> (COMPARE_BLOCKS_MAX - block_count(copier));
}

static uint8_t *answer_of(const struct copier *copier, unsigned leg)
{
	return (uint8_t *)copier->buffer + leg * WIRE_HASH_SIZE(block_count(copier));
}

static leg_mask source_bit(const struct copier *copier)
{
	return (leg_mask)1 << copier->source;
}

static struct leg_io *lio_of(struct copier *copier, unsigned leg)
{
	return (int)leg == copier->source ? &copier->read_io : &copier->write_ios[leg];
}

/* ---- commands ---- */

static void compare_io_done(struct leg_io *lio)
{
	struct copier *copier = lio->ctx;

	copy_turn_answered(lio);
	if (lio != &copier->read_io) {
		copier->pending &= ~LEG_BIT(lio->leg);
	}
	task_wake(&copier->task);
}

static struct leg_io *compare_prepare(struct copier *copier, const struct leg *leg)
{
	struct leg_io *lio = lio_of(copier, leg->index);

	lio->done = compare_io_done;
	lio->ctx = copier;
	lio->pooled = true;
	if (lio != &copier->read_io) {
		copier->pending |= LEG_BIT(leg);
	}
	return lio;
}

static void compare_send_hash(struct copier *copier, struct leg *leg)
{
	struct leg_io *lio = compare_prepare(copier, leg);
	struct wire_io wio = {
		.opcode = WIRE_HASH,
		.nsid = leg->voter.nsid,
		.session = leg->session,
		.slba = copier->offset / copier->volume->block_bytes,
		.block_count = block_count(copier),
		.key = {copier->hash_key[0], copier->hash_key[1]},
	};

	lio->iov.iov_base = answer_of(copier, leg->index);
	lio->iov.iov_len = WIRE_HASH_SIZE(block_count(copier));
	leg_submit_io(leg, lio, &wio, &lio->iov, 1);
}

static void compare_send_stamp(struct copier *copier, struct leg *leg, uint64_t stamp)
{
	struct leg_io *lio = compare_prepare(copier, leg);

	memset(&lio->cmd, 0, sizeof(lio->cmd));
	lio->cmd.sqe.opcode = WIRE_STAMP;
	lio->cmd.sqe.cdw10 = (uint32_t)(copier->offset / copier->volume->region_bytes);
	lio->cmd.sqe.cdw12 = (uint32_t)stamp;
	lio->cmd.sqe.cdw13 = (uint32_t)(stamp >> 32);
	leg_submit(leg, lio, true, NULL, 0);
}

/* ---- the beginning ---- */

/* Not where it is known that something was written (an exact map), nor where nothing ever was. */
static bool compare_is_wanted(const struct copier *copier)
{
	const struct volume *volume = copier->volume;
	leg_mask legs = copier->destinations | source_bit(copier);

	if (copier->destinations == 0 || block_count(copier) > COMPARE_BLOCKS_MAX ||
		(copier->target >= 0 && !volume->legs[copier->target]->may_be_equal)) {
		return false;
	}
	for (unsigned i = 0; i < volume->leg_count; i++) {
		const struct leg *leg = volume->legs[i];

		if ((legs & LEG_BIT(leg)) && (leg->no_hashes || !leg->ready || leg->refence)) {
			return false;
		}
	}
	return true;
}

void copy_compare_start(struct copier *copier)
{
	struct volume *volume = copier->volume;
	leg_mask legs;

	copier->compare = COPY_COMPARE_OFF;
	copier->whole_left = true;
	copier->part_length = 0;
	copier->source_is_zero = false;
	copier->differs = 0;
	copier->equal = copier->ok = copier->nospc = 0;
	/* Nobody was asked yet: what was answered for another piece says nothing here. */
	copier->read_io.result = LEG_RESET;
	for (unsigned i = 0; i < volume->leg_count; i++) {
		copier->write_ios[i].result = LEG_RESET;
	}
	copier->destinations = copier_destinations(copier);
	if (!compare_is_wanted(copier)) {
		return;
	}
	copier->compare = COPY_COMPARE_HASHES;
	copier->hash_key[0] = rng_u64(&volume->io->rng);
	copier->hash_key[1] = rng_u64(&volume->io->rng);
	if (mutant_is(MUTANT_HASH_STALE)) {
		/* Deliberate bug: it is locked only when it is copied. */
		range_lock_release(&volume->locks, &copier->lock);
	}
	legs = copier->destinations | source_bit(copier);
	for (unsigned i = 0; i < volume->leg_count; i++) {
		if (legs & (leg_mask)1 << i) {
			compare_send_hash(copier, volume->legs[i]);
		}
	}
}

/* ---- judging ---- */

/* A bit for each block that is not the source's. */
static uint64_t blocks_that_differ(const struct copier *copier, unsigned leg)
{
	uint64_t differs = 0;

	for (uint64_t i = 0; i < block_count(copier); i++) {
		if (memcmp(wire_hash_at(answer_of(copier, (unsigned)copier->source), i),
			    wire_hash_at(answer_of(copier, leg), i), BLOCKHASH_SIZE) != 0) {
			differs |= UINT64_C(1) << i;
		}
	}
	return differs;
}

static bool source_is_zero(const struct copier *copier)
{
	static const uint8_t zeros[4096];
	uint8_t key[BLOCKHASH_KEY_SIZE], hash[BLOCKHASH_SIZE];

	wire_hash_key(copier->hash_key, key);
	blockhash_blocks(key, zeros, copier->volume->block_bytes, 1, hash);
	for (uint64_t i = 0; i < block_count(copier); i++) {
		if (memcmp(wire_hash_at(answer_of(copier, (unsigned)copier->source), i), hash,
			    sizeof(hash)) != 0) {
			return false;
		}
	}
	return true;
}

enum compare_verdict {
	VERDICT_HASHED,
	VERDICT_COPY, /* without a comparison */
	VERDICT_FAILED,
};

/* What one leg's answer is worth. */
static enum compare_verdict compare_judge_answer(struct copier *copier, struct leg *leg)
{
	struct leg_io *lio = lio_of(copier, leg->index);

	if (lio->busy) {
		return VERDICT_FAILED; /* it was given up, and may still send into the buffer */
	}
	if (lio->result == LEG_IO && lio->cmd.status == NVME_SC_INVALID_OPCODE) {
		leg->no_hashes = true;
		lio->result = LEG_OK; /* nothing is wrong with it */
		return VERDICT_COPY;
	}
	if (lio->result == LEG_MEDIA && lio != &copier->read_io) {
		return VERDICT_COPY; /* which writes there what it cannot read */
	}
	return lio->result == LEG_OK ? VERDICT_HASHED : VERDICT_FAILED;
}

static enum compare_verdict compare_judge_answers(struct copier *copier)
{
	struct volume *volume = copier->volume;
	leg_mask legs = copier->destinations | source_bit(copier);
	enum compare_verdict verdict = VERDICT_HASHED;

	for (unsigned i = 0; i < volume->leg_count; i++) {
		if (legs & (leg_mask)1 << i) {
			enum compare_verdict one = compare_judge_answer(copier, volume->legs[i]);

			verdict = one > verdict ? one : verdict;
		}
	}
	return copier_is_valid(copier) ? verdict : VERDICT_FAILED;
}

static void compare_blocks(struct copier *copier)
{
	struct volume *volume = copier->volume;

	for (unsigned i = 0; i < volume->leg_count; i++) {
		struct leg *leg = volume->legs[i];
		uint64_t differs;

		if (!(copier->destinations & LEG_BIT(leg))) {
			continue;
		}
		differs = blocks_that_differ(copier, i);
		copier->differs |= differs;
		copier->equal |= differs == 0 ? LEG_BIT(leg) : 0;
		if (copier->target >= 0) {
			metric_inc(&leg->compared_bytes, copier->length);
			metric_inc(&leg->equal_bytes,
				copier->length - (uint64_t)__builtin_popcountll(differs) *
							 volume->block_bytes);
		}
	}
	/* Then all of it is discarded, so that a hole is a hole there too. */
	copier->source_is_zero = copier->differs != 0 && source_is_zero(copier);
	if (copier->source_is_zero) {
		copier->differs = all_blocks(copier);
	}
}

/* ---- stamps ---- */

static uint64_t highest_stamp(const struct copier *copier)
{
	leg_mask legs = copier->destinations | source_bit(copier);
	uint64_t highest = 0;

	for (unsigned i = 0; i < copier->volume->leg_count; i++) {
		if (legs & (leg_mask)1 << i) {
			highest = max_u64(highest, wire_hash_stamp(answer_of(copier, i)));
		}
	}
	return highest;
}

/* All of the piece is equal: with most pieces of a region everybody's stamp is as high already. */
static void compare_raise_stamps(struct copier *copier)
{
	struct volume *volume = copier->volume;
	leg_mask legs = copier->destinations | source_bit(copier);
	uint64_t highest = highest_stamp(copier);

	if (mutant_is(MUTANT_EQUAL_NO_STAMP)) {
		return;
	}
	for (unsigned i = 0; i < volume->leg_count; i++) {
		struct leg *leg = volume->legs[i];

		if (!(legs & LEG_BIT(leg)) || wire_hash_stamp(answer_of(copier, i)) >= highest) {
			continue;
		}
		if (leg->ready && !leg->refence) {
			compare_send_stamp(copier, leg, highest);
		} else {
			copier->equal &= ~LEG_BIT(leg);
		}
	}
}

/* The source's answer is looked at by who reads from it. */
static void compare_judge_stamps(struct copier *copier)
{
	struct volume *volume = copier->volume;

	for (unsigned i = 0; i < volume->leg_count; i++) {
		const struct leg_io *lio = &copier->write_ios[i];

		if ((copier->equal & (leg_mask)1 << i) && (lio->busy || lio->result != LEG_OK)) {
			copier->equal &= ~((leg_mask)1 << i);
		}
	}
}

/* ---- the ladder ---- */

static enum copy_compare compare_judge(struct copier *copier)
{
	switch (compare_judge_answers(copier)) {
	case VERDICT_HASHED:
		break;
	case VERDICT_COPY:
		return COPY_COMPARE_OFF;
	case VERDICT_FAILED:
		return COPY_COMPARE_DONE;
	}
	if (highest_stamp(copier) > copier->volume->wgen) {
		return COPY_COMPARE_OFF; /* a copy needs no such stamp */
	}
	compare_blocks(copier);
	if (copier->differs != 0) {
		return COPY_COMPARE_DONE; /* the copy is stamped */
	}
	compare_raise_stamps(copier);
	return COPY_COMPARE_STAMPS;
}

static bool compare_is_answered(const struct copier *copier)
{
	return copier_is_answered(copier) && copier_read_is_over(copier);
}

/* Only for the deliberate bug. */
static bool compare_is_locked(struct copier *copier)
{
	if (!copier->lock.held && !list_is_linked(&copier->lock.node)) {
		range_lock_acquire(&copier->volume->locks, &copier->lock, &copier->task);
	}
	return copier->lock.held || !copier_is_valid(copier);
}

bool copy_compare_is_over(struct copier *copier)
{
	if (copier->compare == COPY_COMPARE_HASHES && compare_is_answered(copier)) {
		copier->compare = compare_judge(copier);
		if (mutant_is(MUTANT_HASH_STALE) && copier->compare != COPY_COMPARE_STAMPS) {
			copier->compare = COPY_COMPARE_RELOCK;
		}
	}
	if (copier->compare == COPY_COMPARE_STAMPS && compare_is_answered(copier)) {
		compare_judge_stamps(copier);
		copier->compare =
			mutant_is(MUTANT_HASH_STALE) ? COPY_COMPARE_RELOCK : COPY_COMPARE_DONE;
	}
	if (copier->compare == COPY_COMPARE_RELOCK && compare_is_locked(copier)) {
		copier->compare = COPY_COMPARE_DONE;
	}
	if (copier->compare == COPY_COMPARE_DONE && copier->differs == 0) {
		copier->ok = copier->equal;
	}
	return copier->compare == COPY_COMPARE_OFF || copier->compare == COPY_COMPARE_DONE;
}

bool copy_is_part_left(const struct copier *copier)
{
	return copier->compare == COPY_COMPARE_OFF ? copier->whole_left : copier->differs != 0;
}

bool copy_next_part(struct copier *copier)
{
	uint64_t block_bytes = copier->volume->block_bytes;
	unsigned first, count;
	uint64_t rest;

	if (!copy_is_part_left(copier)) {
		return false;
	}
	if (copier->compare == COPY_COMPARE_OFF) {
		copier->part_offset = copier->offset;
		copier->part_length = copier->length;
		copier->whole_left = false;
		return true;
	}
	first = (unsigned)__builtin_ctzll(copier->differs);
	rest = ~(copier->differs >> first);
	count = rest == 0 ? COMPARE_BLOCKS_MAX : (unsigned)__builtin_ctzll(rest);
	copier->differs &= ~((UINT64_MAX >> (COMPARE_BLOCKS_MAX - count)) << first);
	copier->part_offset = copier->offset + first * block_bytes;
	copier->part_length = count * block_bytes;
	return true;
}
