/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where the store runs here: memory, a run queue and one disk that knows which of its writes no
 * flush covers yet.  Time does not exist: in each step one disk operation completes, drawn from a
 * seed, then everything that it woke runs.  A crash may leave any set of the uncovered writes.
 */
#ifndef STORE_SWEEP_MACHINE_H
#define STORE_SWEEP_MACHINE_H

#include "io/io.h"
#include "tests/store/image.h"

#define WRITES_MAX   1024u
#define REQUESTS_MAX 256u

/* A block of a write or zeroing that is not durable. */
struct machine_write {
	uint32_t block;
	uint32_t content;
	uint32_t request;
	uint64_t completed; /* position in the order of completion; 0: in flight */
};

struct machine_request {
	uint32_t number;
	struct io_disk_op *op;
	uint64_t flush_upto; /* FLUSH: writes that had completed when it was submitted */
	int result;
};

struct machine_fault {
	enum io_disk_op_kind kind;
	uint64_t nth; /* of that kind; 0: none */
	bool and_later;
	bool lands;    /* the failed write is on the disk nevertheless */
	uint64_t seen; /* operations of that kind */
};

struct machine {
	struct io io;
	struct metric_registry metrics;
	struct rng order;
	struct list memory;
	uint64_t allocations;     /* made */
	uint64_t allocated;       /* there now */
	uint64_t fail_allocation; /* the n-th; 0: none */
	struct io_disk disk;
	struct image durable;
	struct image current; /* as reads see it */
	/* Completed ones in their order, then those in flight in theirs. */
	struct machine_write writes[WRITES_MAX];
	unsigned write_count;
	unsigned completed_count;
	uint64_t completions;
	uint64_t durable_at[IMAGE_BLOCKS_MAX]; /* completion that made the block what it is */
	struct machine_request requests[REQUESTS_MAX];
	unsigned request_count;
	uint32_t next_request;
	uint64_t changes; /* of what a crash may leave */
	struct machine_fault fault;
};

void machine_start(struct machine *machine, const struct image *image, uint32_t block_count,
	bool starts_zeroed, uint64_t seed);
/* Takes all memory: the process is dead. */
void machine_kill(struct machine *machine);
/* false: something was not given back, or is still under way. */
bool machine_is_clean(const struct machine *machine);
/* false: nothing can happen any more. */
bool machine_step(struct machine *machine);

#endif
