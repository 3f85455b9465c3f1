/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a read of each 4 KiB block may return.  A block has a set of possible values: a write that
 * is issued joins it; one that is acknowledged leaves itself and what ran beside it; one that
 * failed, or whose nexus died, stays possible until something acknowledged overwrites it; a read
 * that returns a value drops what had ended before it began (so that a value cannot flip back).
 *
 * Beside it, what may come back when every in-sync replica has lost power: everything since the
 * last completed flush.
 *
 * Time is a counter of issues and answers.  `order` numbers the openings of the volume: an opening
 * with a higher number has taken over, and what a lower one had under way cannot be seen any more
 * once the higher one acknowledged something there.
 */
#ifndef SIM_ORACLE_H
#define SIM_ORACLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ORACLE_BLOCK_BYTES 4096u

/* Content of zeros is what was never written, and what WRITE ZEROES and DISCARD leave. */
struct oracle_value {
	uint64_t number; /* of the write; 0: the initial zeros */
	bool zero;
	bool acked;
	bool recoverable; /* may come back by loss of power */
	bool dropped_by_read;
	unsigned order;
	uint64_t issued;
	uint64_t ended;   /* acknowledged, failed, or its nexus died; UINT64_MAX: under way */
	uint64_t dropped; /* not possible since then; UINT64_MAX: possible */
	unsigned dropped_order;
};

struct oracle_block {
	struct oracle_value *values;
	size_t count;
	size_t capacity;
	bool may_be_lost; /* a disk did not give it: it may be unreadable until it is written */
};

enum oracle_verdict {
	ORACLE_FINE,
	ORACLE_LOST,  /* an acknowledged value is gone, or the content is none that was ever written
		       */
	ORACLE_FLIPS, /* a value came back that a read had excluded */
};

struct oracle {
	struct oracle_block *blocks;
	size_t block_count;
	uint64_t clock;
	uint64_t next_number;
	unsigned power_order; /* of the last opening that found what a loss of power had left */
	char reason[400];     /* of the last verdict that is not fine */
};

void oracle_init(struct oracle *oracle, size_t block_count);
void oracle_done(struct oracle *oracle);
uint64_t oracle_tick(struct oracle *oracle);

/* The content of block `block` as write `number` leaves it. */
void oracle_fill(uint8_t *to, size_t block, uint64_t number);

/* The number of the write that left this content; 0: zeros; -1: nobody wrote that to this block. */
int64_t oracle_number(const uint8_t *data, size_t block);

/* Returns the write's number, which is the same for all blocks of one request when passed on (0: a
 * new one). */
uint64_t oracle_write_issued(
	struct oracle *oracle, size_t block, uint64_t number, bool zero, unsigned order);
enum oracle_verdict oracle_write_acked(
	struct oracle *oracle, size_t block, uint64_t number, unsigned order, bool fua);
void oracle_write_failed(struct oracle *oracle, size_t block, uint64_t number);
/* The write is sent again by a later opening of the same host. */
void oracle_write_resent(struct oracle *oracle, size_t block, uint64_t number, unsigned order);
/* The read was issued at tick `issued` and is answered now. */
enum oracle_verdict oracle_read(
	struct oracle *oracle, size_t block, uint64_t issued, unsigned order, const uint8_t *data);
/* A FLUSH that was issued at tick `issued` was answered with success. */
void oracle_flushed(struct oracle *oracle, uint64_t issued, unsigned order);
/* What no flush covers may be gone or not, as an opening of that order finds it. */
void oracle_power_lost(struct oracle *oracle, unsigned order);
/* From now on the block has just this content, as openings from that order on find it.
 * ORACLE_LOST: nobody wrote it there. */
enum oracle_verdict oracle_recovered(
	struct oracle *oracle, size_t block, const uint8_t *data, unsigned order);
/* Is some acknowledged write not covered by a flush? */
bool oracle_has_unflushed(const struct oracle *oracle);

#endif
