/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The seams of io.h simulated: a world of hosts, processes, disks and connections on one thread,
 * with virtual time, everything drawn from one seed.  The same seed and the same calls give the
 * same history, which sim_hash() sums up.
 *
 * A test makes a world, hosts and processes, hands sim_process_io() to the code under test and runs
 * the world.  Code may be called from the test between steps (as if it ran within the process's
 * turn): the world notices woken tasks and started timers by itself.
 *
 * What is modelled: docs/testing.md.  In short: a crash of a process takes its memory, its
 * connections (bytes already taken by the transport may still arrive) and its disks' submitted
 * operations, which may still land until the disk is opened anew; loss of power of a host also
 * takes any subset of the 4 KiB blocks that no completed flush covers.
 */
#ifndef SIMIO_SIMIO_H
#define SIMIO_SIMIO_H

#include "io/io.h"

#include <stdio.h>

struct sim;
struct sim_host;
struct sim_process;
struct sim_disk;

/* ---- world ---- */

/* 0 means the default. */
struct sim_options {
	uint64_t net_latency_min_ns, net_latency_max_ns; /* between hosts, one way; 20 us, 400 us */
	uint64_t disk_latency_min_ns, disk_latency_max_ns; /* 10 us, 300 us */
	uint64_t turn_delay_max_ns; /* from a completion to the process's turn; 5 us */
	FILE *trace;   /* lines of sim_trace() and of the processes' logs; NULL: hashed only */
	bool trace_io; /* with trace: also each network and disk operation */
	void (*after_step)(void *ctx); /* of the test: looks at the world, changes nothing */
	void *ctx;
};

struct sim *sim_new(uint64_t seed, const struct sim_options *options);
/* Crashes what is left. */
void sim_free(struct sim *sim);
uint64_t sim_now_ns(const struct sim *sim);
/* The world's own random numbers, for the test's decisions. */
struct rng *sim_rng(struct sim *sim);
uint64_t sim_hash(const struct sim *sim);
uint64_t sim_steps(const struct sim *sim);
/* A line of the trace; part of the hash. */
void sim_trace(struct sim *sim, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Mixes a fact into the hash. */
void sim_hash_add(struct sim *sim, uint64_t value);

/* Runs the next event; false when there is none. */
bool sim_step(struct sim *sim);
/* All events up to and at that time; the clock then shows it. */
void sim_run_until_ns(struct sim *sim, uint64_t time_ns);
void sim_run_for_ns(struct sim *sim, uint64_t duration_ns);
/* Runs until is_done(ctx) (asked after each event); false when timeout_ns of virtual time passed or
 * nothing can happen any more. */
bool sim_run_until(struct sim *sim, bool (*is_done)(void *ctx), void *ctx, uint64_t timeout_ns);
/* Same with a flag that a callback sets. */
bool sim_run_until_flag(struct sim *sim, const bool *flag, uint64_t timeout_ns);
/* Until nothing can happen any more; false when steps_max were not enough (timers that start
 * themselves again never end). */
bool sim_run_until_idle(struct sim *sim, uint64_t steps_max);

/* An event of the test's own, in the test's memory; zeroed at first. */
struct sim_event {
	uint64_t at_ns;
	uint64_t seq;
	size_t index; /* in the heap, 1-based; 0: not scheduled */
	void (*run)(struct sim_event *event);
};
void sim_at_ns(struct sim *sim, struct sim_event *event, uint64_t time_ns,
	void (*run)(struct sim_event *event));
void sim_cancel(struct sim *sim, struct sim_event *event);

/* ---- hosts ---- */

#define SIM_HOSTS_MAX 16

/* `address` is the text that io_address.host holds for it. */
struct sim_host *sim_host_new(struct sim *sim, const char *address);
const char *sim_host_address(const struct sim_host *host);
bool sim_host_is_up(const struct sim_host *host);
/* Power goes: its processes crash, its disks lose a random subset of what was not flushed and get a
 * new power id, its peers notice nothing until they send something to the host when it is up again.
 */
void sim_host_power_loss(struct sim_host *host);
/* Up again, without processes. */
void sim_host_power_on(struct sim_host *host);
/* From now on its clock runs too fast by so many millionths (negative: too slow); the time that it
 * shows does not jump. */
void sim_host_set_clock_rate(struct sim_host *host, int64_t ppm);

/* One way: what `from` sends to `to` is held; after healing it arrives (as retransmissions do),
 * unless its connection is gone.  Two calls make a full partition. */
void sim_partition(struct sim_host *from, struct sim_host *to, bool blocked);
bool sim_is_partitioned(const struct sim_host *from, const struct sim_host *to);
void sim_heal_all(struct sim *sim);
/* Resets one connection between different hosts, at any byte of either direction; false when there
 * is none. */
bool sim_cut_random_connection(struct sim *sim);
/* All connections between two hosts. */
void sim_cut_connections(struct sim_host *a, struct sim_host *b);
/* Resets one connection when so many more bytes, both ways together, have arrived. */
bool sim_cut_random_connection_after(struct sim *sim, uint64_t bytes);
/* One connection gets up to this much more delay until then: others overtake it. */
bool sim_slow_random_connection(struct sim *sim, uint64_t latency_max_ns, uint64_t until_ns);
/* What `from` sends to `to` gets up to this much more delay; 0: none. */
void sim_set_slow_link(struct sim_host *from, struct sim_host *to, uint64_t latency_max_ns);
/* Messages between hosts get up to this much more delay (0: none), each its own; order within a
 * connection stays. */
void sim_set_extra_latency(struct sim *sim, uint64_t latency_max_ns);
unsigned sim_connection_count(const struct sim *sim);

/* ---- processes ---- */

struct sim_process *sim_process_new(struct sim_host *host, const char *name);
struct io *sim_process_io(struct sim_process *process);
struct sim_host *sim_process_host(const struct sim_process *process);
/* Everything at once: all memory from io_zalloc, connections, timers, what was submitted.  No
 * callback is called.  The handle is gone. */
void sim_process_crash(struct sim_process *process);
/* A clean end: asserts that the code gave everything back (memory, connections, listeners, disks,
 * tasks). */
void sim_process_exit(struct sim_process *process);
/* As SIGSTOP for a while: no turn happens, while the kernel goes on taking bytes and doing I/O. */
void sim_process_freeze(struct sim_process *process, uint64_t duration_ns);
/* The n-th allocation from now on (1 is the next) returns NULL; 0: none. */
void sim_process_fail_allocation(struct sim_process *process, uint64_t nth);
size_t sim_process_memory_bytes(const struct sim_process *process);
unsigned sim_process_allocations(const struct sim_process *process);
void sim_process_set_log_level(struct sim_process *process, enum log_level level);

/* ---- disks ---- */

#define SIM_DISK_BLOCK_BYTES  4096u
#define SIM_DISK_SECTOR_BYTES 512u

/* All zero.  Lives as long as the world. */
struct sim_disk *sim_disk_new(struct sim_host *host, const char *name, uint64_t size_bytes);

/* The disk as one process sees it; one process at a time.  What a crashed predecessor had submitted
 * is decided now (it landed, in part or not at all), as waiting for its lock does in the real
 * world.  Gone when the process crashes. */
struct io_disk *sim_disk_open(struct sim_disk *disk, struct sim_process *process);
void sim_disk_close(struct io_disk *handle); /* nothing in flight */

struct sim_disk_faults {
	unsigned read_error_percent, write_error_percent,
		flush_error_percent; /* -EIO; write: ZERO too */
	uint64_t fail_nth;           /* the n-th operation from now on fails with -EIO; 0: none */
	bool fail_after_nth;         /* and every later one */
	unsigned slow_percent;       /* of operations take up to slow_max_ns more */
	uint64_t slow_max_ns;
	bool stuck;           /* nothing completes until this is taken back */
	uint64_t bytes_per_s; /* one operation after the other, at this speed; 0: as many as come */
	uint64_t read_max_bytes; /* a longer read fails with -EIO; 0: none does */
};
void sim_disk_set_faults(struct sim_disk *disk, const struct sim_disk_faults *faults);
/* The n-th write, zeroing or flush from now on (1: the next) lets the event run at a moment between
 * its submission and soon after its end: for crashes just there.  One event at a time; NULL: none.
 */
void sim_disk_at_write(struct sim_disk *disk, uint64_t nth, struct sim_event *event,
	void (*run)(struct sim_event *event));
/* The next write of exactly one block at `offset`, or up to `length` behind it, lands at `instead`,
 * and says that all is well; 0 for all: no more. */
void sim_disk_misdirect(struct sim_disk *disk, uint64_t offset, uint64_t length, uint64_t instead);
/* It knows what each block was last told to hold: reads that touch one which holds something else
 * (flipped, torn, written for another place, or not written) fail with -EIO until it is written. */
void sim_disk_set_checks(struct sim_disk *disk, bool checks);
void sim_disk_flip_bit(struct sim_disk *disk, uint64_t offset, unsigned bit);
/* Each block is readable and holds, durably, what it was last told. */
void sim_disk_mend(struct sim_disk *disk);
/* It answers flushes without doing anything. */
void sim_disk_set_lying(struct sim_disk *disk, bool lying);
/* At loss of power, 4 KiB blocks in this range may also be torn at 512 bytes (for what carries
 * checksums, or is on a disk that checks). */
void sim_disk_set_torn_range(struct sim_disk *disk, uint64_t offset, uint64_t length);
uint64_t sim_disk_size_bytes(const struct sim_disk *disk);
/* As io_disk.power of the next opening. */
uint64_t sim_disk_power(const struct sim_disk *disk);
/* Operations submitted so far, for counting injection points. */
uint64_t sim_disk_operations(const struct sim_disk *disk);
/* Of them flushes, and writes that must be durable (fua). */
uint64_t sim_disk_durable_operations(const struct sim_disk *disk);
unsigned sim_disk_in_flight(const struct sim_disk *disk);
/* Blocks with content that no flush covers. */
size_t sim_disk_unflushed_blocks(const struct sim_disk *disk);
/* The content as a read would see it, and changing it behind everybody's back (bit rot); any offset
 * and length. */
void sim_disk_peek(const struct sim_disk *disk, uint64_t offset, void *to, size_t length);
void sim_disk_poke(struct sim_disk *disk, uint64_t offset, const void *from, size_t length);
/* Reads that touch one of these blocks fail with -EIO until it is written, or this is taken back.
 */
void sim_disk_set_unreadable(
	struct sim_disk *disk, uint64_t offset, uint64_t length, bool unreadable);
/* A copy of the disk as loss of power at this moment might leave it (drawn from the world's rng),
 * without touching the original: for enumerating crash points. */
struct sim_disk *sim_disk_power_loss_copy(
	struct sim_disk *disk, struct sim_host *host, const char *name);

#endif
