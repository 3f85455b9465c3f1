/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/oracle.h"

#include "base/bytes.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#define NEVER UINT64_MAX

static struct oracle_value *value_add(struct oracle_block *block)
{
	if (block->count == block->capacity) {
		block->capacity = block->capacity == 0 ? 8 : block->capacity * 2;
		block->values = realloc(block->values, block->capacity * sizeof(*block->values));
		assert(block->values != NULL);
	}
	return &block->values[block->count++];
}

static struct oracle_value *value_find(const struct oracle_block *block, uint64_t number)
{
	for (size_t i = 0; i < block->count; i++) {
		if (block->values[i].number == number) {
			return &block->values[i];
		}
	}
	return NULL;
}

void oracle_init(struct oracle *oracle, size_t block_count)
{
	*oracle = (struct oracle){.block_count = block_count, .next_number = 1};
	oracle->blocks = calloc(block_count, sizeof(*oracle->blocks));
	assert(oracle->blocks != NULL);
	for (size_t i = 0; i < block_count; i++) {
		*value_add(&oracle->blocks[i]) = (struct oracle_value){
			.zero = true, .acked = true, .recoverable = true, .dropped = NEVER};
	}
}

void oracle_done(struct oracle *oracle)
{
	for (size_t i = 0; i < oracle->block_count; i++) {
		free(oracle->blocks[i].values);
	}
	free(oracle->blocks);
}

uint64_t oracle_tick(struct oracle *oracle)
{
	return ++oracle->clock;
}

static uint64_t mix(uint64_t value)
{
	value = (value ^ (value >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
	value = (value ^ (value >> 27)) * UINT64_C(0x94D049BB133111EB);
	return value ^ (value >> 31);
}

void oracle_fill(uint8_t *to, size_t block, uint64_t number)
{
	uint64_t word = mix(number * 1000003 + block);

	le64_put(to, number);
	le64_put(to + 8, block);
	for (size_t at = 16; at < ORACLE_BLOCK_BYTES; at += 8) {
		word = word * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
		le64_put(to + at, word);
	}
}

int64_t oracle_number(const uint8_t *data, size_t block)
{
	uint8_t expected[ORACLE_BLOCK_BYTES];
	uint64_t number = le64_get(data);

	if (bytes_are_zero(data, ORACLE_BLOCK_BYTES)) {
		return 0;
	}
	oracle_fill(expected, block, number);
	return memcmp(expected, data, ORACLE_BLOCK_BYTES) == 0 ? (int64_t)number : -1;
}

uint64_t oracle_write_issued(
	struct oracle *oracle, size_t block, uint64_t number, bool zero, unsigned order)
{
	uint64_t used = number != 0 ? number : oracle->next_number++;

	*value_add(&oracle->blocks[block]) = (struct oracle_value){
		.number = used,
		.zero = zero,
		.recoverable = true,
		.order = order,
		.issued = oracle->clock,
		.ended = NEVER,
		.dropped = NEVER,
	};
	return used;
}

static void drop(struct oracle *oracle, struct oracle_value *value, unsigned order, bool by_read)
{
	value->dropped = oracle->clock;
	value->dropped_order = order;
	value->dropped_by_read = by_read;
}

/* What an acknowledged write of `order`, issued at `issued`, leaves impossible. */
static bool is_overwritten(
	const struct oracle_value *value, const struct oracle_value *by, unsigned order)
{
	if (value == by || value->dropped != NEVER) {
		return false;
	}
	if (value->order < order) {
		return true;
	}
	return value->order == order && value->ended < by->issued;
}

enum oracle_verdict oracle_write_acked(
	struct oracle *oracle, size_t block, uint64_t number, unsigned order, bool fua)
{
	struct oracle_block *at = &oracle->blocks[block];
	struct oracle_value *write = value_find(at, number);

	assert(write != NULL && write->ended == NEVER);
	write->ended = oracle->clock;
	write->acked = true;
	for (size_t i = 0; i < at->count; i++) {
		struct oracle_value *value = &at->values[i];

		if (value->acked && value->order > order) {
			/* A later opening has overwritten it: the answer was merely late, unless
			 * the write began after that. */
			if (value->ended < write->issued) {
				(void)snprintf(oracle->reason, sizeof(oracle->reason),
					"block %zu: write %lu was acknowledged by opening %u "
					"although it began "
					"after opening %u had acknowledged write %lu",
					block, (unsigned long)number, order, value->order,
					(unsigned long)value->number);
				return ORACLE_LOST;
			}
			drop(oracle, write, value->order, false);
		}
	}
	if (!fua && order < oracle->power_order) {
		/* It was complete before the loss of power, and the answer is merely late. */
		write->acked = false;
		return ORACLE_FINE;
	}
	for (size_t i = 0; i < at->count; i++) {
		struct oracle_value *value = &at->values[i];

		if (is_overwritten(value, write, order)) {
			drop(oracle, value, order, false);
		}
		if (fua && value->dropped != NEVER && value->dropped_order <= order) {
			value->recoverable = false;
		}
	}
	return ORACLE_FINE;
}

void oracle_write_failed(struct oracle *oracle, size_t block, uint64_t number)
{
	struct oracle_value *write = value_find(&oracle->blocks[block], number);

	assert(write != NULL && write->ended == NEVER);
	write->ended = oracle->clock;
}

void oracle_write_resent(struct oracle *oracle, size_t block, uint64_t number, unsigned order)
{
	struct oracle_value *write = value_find(&oracle->blocks[block], number);

	assert(write != NULL && write->ended == NEVER);
	write->order = order;
}

static void describe(const struct oracle_block *at, char *to, size_t size)
{
	size_t length = 0;

	to[0] = '\0';
	for (size_t i = 0; i < at->count && length < size; i++) {
		const struct oracle_value *value = &at->values[i];

		if (value->dropped == NEVER) {
			length += (size_t)snprintf(to + length, size - length, " %lu%s%s",
				(unsigned long)value->number, value->zero ? "z" : "",
				value->acked            ? ""
				: value->ended == NEVER ? " (under way)"
							: " (unknown)");
		}
	}
}

static enum oracle_verdict judge_wrong(
	struct oracle *oracle, size_t block, int64_t number, const uint8_t *data, unsigned order)
{
	const struct oracle_block *at = &oracle->blocks[block];
	bool by_read = false;
	char possible[200];

	describe(at, possible, sizeof(possible));
	if (number < 0) {
		(void)snprintf(oracle->reason, sizeof(oracle->reason),
			"block %zu: opening %u read content that nobody wrote there (it begins as "
			"write %lu "
			"of block %lu); possible:%s",
			block, order, (unsigned long)le64_get(data),
			(unsigned long)le64_get(data + 8), possible);
		return ORACLE_LOST;
	}
	for (size_t i = 0; i < at->count; i++) {
		const struct oracle_value *value = &at->values[i];

		if (number == 0 ? value->zero : value->number == (uint64_t)number) {
			by_read = value->dropped_by_read;
		}
	}
	(void)snprintf(oracle->reason, sizeof(oracle->reason),
		"block %zu: opening %u read %s %ld; possible:%s", block, order,
		by_read ? "a value that a read had excluded: write" : "the overwritten write",
		(long)number, possible);
	return by_read ? ORACLE_FLIPS : ORACLE_LOST;
}

enum oracle_verdict oracle_read(
	struct oracle *oracle, size_t block, uint64_t issued, unsigned order, const uint8_t *data)
{
	struct oracle_block *at = &oracle->blocks[block];
	int64_t number = oracle_number(data, block);
	bool allowed = false;
	bool possible_now = false;

	for (size_t i = 0; i < at->count && number >= 0; i++) {
		const struct oracle_value *value = &at->values[i];

		if (number == 0 ? value->zero : value->number == (uint64_t)number) {
			allowed = allowed || value->dropped > issued;
			possible_now = possible_now || value->dropped == NEVER;
		}
	}
	if (!allowed) {
		return judge_wrong(oracle, block, number, data, order);
	}
	for (size_t i = 0; i < at->count && possible_now; i++) {
		struct oracle_value *value = &at->values[i];
		bool matches = number == 0 ? value->zero : value->number == (uint64_t)number;

		if (!matches && value->dropped == NEVER && value->ended < issued &&
			value->order <= order) {
			drop(oracle, value, order, true);
		}
	}
	return ORACLE_FINE;
}

void oracle_flushed(struct oracle *oracle, uint64_t issued, unsigned order)
{
	for (size_t block = 0; block < oracle->block_count; block++) {
		struct oracle_block *at = &oracle->blocks[block];

		for (size_t i = 0; i < at->count; i++) {
			struct oracle_value *value = &at->values[i];

			if (value->dropped <= issued && value->dropped_order <= order) {
				value->recoverable = false;
			}
		}
	}
}

void oracle_power_lost(struct oracle *oracle, unsigned order)
{
	oracle->power_order = order;
	for (size_t block = 0; block < oracle->block_count; block++) {
		struct oracle_block *at = &oracle->blocks[block];

		for (size_t i = 0; i < at->count; i++) {
			struct oracle_value *value = &at->values[i];

			if (value->recoverable) {
				value->dropped = NEVER;
				value->dropped_by_read = false;
				value->acked = false;
			}
		}
	}
}

enum oracle_verdict oracle_recovered(
	struct oracle *oracle, size_t block, const uint8_t *data, unsigned order)
{
	struct oracle_block *at = &oracle->blocks[block];
	int64_t number = oracle_number(data, block);

	if (number < 0 || (uint64_t)number >= oracle->next_number) {
		(void)snprintf(oracle->reason, sizeof(oracle->reason),
			"block %zu: the recovered replica has content that nobody wrote there",
			block);
		return ORACLE_LOST;
	}
	at->count = 0;
	*value_add(at) = (struct oracle_value){
		.number = (uint64_t)number,
		.zero = number == 0,
		.acked = true,
		.recoverable = true,
		.order = order,
		.issued = oracle->clock,
		.ended = oracle->clock,
		.dropped = NEVER,
	};
	return ORACLE_FINE;
}

bool oracle_has_unflushed(const struct oracle *oracle)
{
	for (size_t block = 0; block < oracle->block_count; block++) {
		const struct oracle_block *at = &oracle->blocks[block];

		for (size_t i = 0; i < at->count; i++) {
			if (at->values[i].recoverable && at->values[i].dropped != NEVER) {
				return true;
			}
		}
	}
	return false;
}
