/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Random operations on a tiny pool, against a model in memory that knows what every block may hold
 * after a crash.
 */
#ifndef TESTING_STORE_WORKLOAD_H
#define TESTING_STORE_WORKLOAD_H

#include "pool-agent/testing/store_bench.h"

#define WORKLOAD_CLUSTER_BLOCKS 2u
#define WORKLOAD_REGION_BLOCKS  4u
#define WORKLOAD_BLOCKS_MAX     48u
#define WORKLOAD_REGIONS_MAX    (WORKLOAD_BLOCKS_MAX / WORKLOAD_REGION_BLOCKS)
/* Some 90 clusters: their page takes two sectors, so that tearing it shows. */
#define WORKLOAD_DISK_BLOCKS 212u
#define WORKLOAD_HISTORY     48u
#define WORKLOAD_REPLICAS    4u
#define WORKLOAD_DEPTH       6u
#define WORKLOAD_VALUES_MAX  4096u

/* What a block may hold: entries[0] is the oldest that a loss of power may bring back;
 * entries[certain] and later ones are what it may hold while power stays. */
struct model_block {
	uint32_t entries[WORKLOAD_HISTORY]; /* numbers of writes; 0 is zeros */
	unsigned count;
	unsigned certain;
	uint64_t dropped; /* entries that are no longer here, for positions of flushes */
	bool busy;        /* a write is in flight */
};

enum existence { ABSENT, MAYBE, PRESENT };

struct model_replica {
	enum existence existence;
	struct uuid id;
	uint32_t tag; /* in each of its blocks */
	unsigned block_count;
	struct model_block blocks[WORKLOAD_BLOCKS_MAX];
	uint64_t stamp_low[WORKLOAD_REGIONS_MAX];  /* at least */
	uint64_t stamp_high[WORKLOAD_REGIONS_MAX]; /* at most */
	uint32_t clean_acked, clean_issued;
	uint64_t seq_seen;
	bool known; /* it was created once */
	bool updating, deleting;
	unsigned ios;
	struct store_replica *handle;
};

struct test_op {
	struct store_io io;
	struct store_op op;
	struct iovec iov[2];
	uint8_t *buffer;
	struct model_replica *replica;
	struct workload *world;
	bool used;
	bool is_io;
	enum { OP_CREATE, OP_DELETE, OP_UPDATE } control;
	uint32_t number; /* of a write */
	uint64_t flush_at[WORKLOAD_BLOCKS_MAX];
};

struct workload {
	struct bench bench;
	struct model_replica replicas[WORKLOAD_REPLICAS];
	struct test_op ops[WORKLOAD_DEPTH];
	unsigned in_flight;
	uint32_t next_number, next_tag;
	uint64_t value_wgen[WORKLOAD_VALUES_MAX]; /* by number */
	uint64_t wgen;
	struct sim_disk_faults slow;
	bool faults;        /* errors are expected */
	uint64_t seed, nth; /* of this run, for the message when it fails */
	unsigned no_space, errors, completed;
};

/* A fresh pool of that seed, open. */
struct workload *workload_new(uint64_t seed);
void workload_free(struct workload *world);
/* true: the disk got its operation number stop_at (0: never). */
bool workload_run(struct workload *world, unsigned steps, uint64_t stop_at);
/* The process dies, or power goes; then a new process. */
void workload_crash(struct workload *world, bool power);
/* Starts an open and crashes at its n-th disk operation; true: it was open before. */
bool workload_crash_while_opening(struct workload *world, uint64_t nth, bool power);
/* After an open: everything is as it may be; from here on it stays as it is. */
void workload_check(struct workload *world, bool power_lost);
void workload_open_and_check(struct workload *world, bool power_lost);

#endif
