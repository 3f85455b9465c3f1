/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Operations on a store, each named by a letter; the model follows what is asked and answered:
 *
 *   W  write cold: two blocks in clusters that are not mapped (after a resize: of what was added)
 *   H  write hot: one block, again and again the same
 *   F  the same for its neighbour, with FUA
 *   O  overwrite in a new generation: three blocks
 *   X  the same for the whole front: more records than a sector of the journal holds
 *   T  trim: a discard of five blocks, two whole clusters of them
 *   Z  write zeroes: four blocks, one whole cluster of them, with FUA
 *   U  three blocks become unreadable, as WRITE UNCORRECTABLE leaves them
 *   L  flush
 *   A  ACCEPT: an update of the replica's metadata
 *   C  checkpoint of the protocol: flush, update, next generation
 *   P  pages of table and stamps are written back
 *   R  resize
 *   N  a new replica, which the next letters mean
 *   B  a new arbiter, likewise
 *   D  the replica is deleted; the next letters mean the one before it
 */
#ifndef STORE_SWEEP_WORKLOAD_H
#define STORE_SWEEP_WORKLOAD_H

#include "pool-agent/store/store_internal.h"
#include "tests/store/machine.h"
#include "tests/store/model.h"

#define LETTERS       "WHFOXTZULACPRNBD"
#define ACTIONS       4u
#define ACTION_BLOCKS FRONT_CELLS

struct run;

struct action {
	struct run *run;
	char letter;
	bool busy;
	struct store_op op;
	struct store_io io;
	struct iovec iov;
	uint8_t *buffer;  /* ACTION_BLOCKS blocks, aligned; the run's */
	unsigned replica; /* of the model */
	unsigned first_cell, cell_count;
	unsigned
		flush_upto[CELLS]; /* L, C: entries of each cell that it covers, dropped ones too */
};

/* One life of a store, from opening to the end of its process. */
struct run {
	struct machine machine;
	struct store *store; /* NULL: not open */
	struct model model;
	struct store_replica *handles[MODEL_REPLICAS];
	unsigned abstaining; /* bits: replicas that are there, and have no handle */
	unsigned target;     /* of the model; MODEL_REPLICAS: none */
	struct action actions[ACTIONS];
	unsigned busy;
	uint64_t answers; /* so far: with each the model changes */
	struct layout layout;
	bool faults;   /* errors are expected */
	bool may_fill; /* -ENOSPC is */
	unsigned errors;
	/* Called after each step that changed what a crash may leave, or what must be left; NULL:
	 * nobody. */
	void (*point)(struct run *run);
	void *ctx;
	uint64_t seen_changes, seen_answers;
	struct store_op open_op;
	bool opened;
};

struct base {
	struct image image;
	struct model model;
	struct layout layout;
	bool starts_zeroed;
	bool may_fill;
};

/* A run of an image; with the model's replicas, once it is open. */
struct run *run_new(const struct base *base, const struct image *image, const struct model *model,
	uint64_t seed);
void run_free(struct run *run);
/* One step of the machine; false: nothing can happen any more. */
bool run_step(struct run *run);
/* Until nothing can happen any more. */
void run_settle(struct run *run);
/* 0 or what store_open() said. */
int run_open(struct run *run);
/* Finds the handles of what the model has. */
void run_find_replicas(struct run *run);
/* Is there anything for it to work on? */
bool run_can(const struct run *run, char letter);
/* Starts it as soon as it may: steps until then. */
void run_start(struct run *run, char letter);
/* Steps until all that was started is answered. */
void run_wait(struct run *run);
/* Closes what is open and ends the process, which must have given everything back. */
void run_end(struct run *run);

/* What was found wrong: prints it with the name of the case, and ends this process. */
void case_failed(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));

#endif
