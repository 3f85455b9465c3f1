/* SPDX-License-Identifier: Apache-2.0 */
/* A store on a simulated disk, driven one operation after the other.  For the tests of this folder.
 */
#ifndef TESTING_STORE_BENCH_H
#define TESTING_STORE_BENCH_H

/* clang-format off */
#include "base/testing.h"
/* clang-format on */

#include "base/bytes.h"
#include "pool-agent/store/store.h"
#include "simio/simio.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BENCH_TIMEOUT_NS (100 * IO_NS_PER_S)

struct bench {
	struct sim *sim;
	struct sim_host *host;
	struct sim_disk *disk;
	struct sim_process *process;
	struct io *io;
	struct io_disk *handle;
	struct store *store;
	struct err err; /* of the last operation */
};

static inline void bench_start_process(struct bench *bench)
{
	if (!sim_host_is_up(bench->host)) {
		sim_host_power_on(bench->host);
	}
	bench->process = sim_process_new(bench->host, "agent");
	bench->io = sim_process_io(bench->process);
	bench->handle = sim_disk_open(bench->disk, bench->process);
}

static inline void bench_init(struct bench *bench, uint64_t seed, uint64_t size_bytes)
{
	struct sim_options options = {.trace = stdout, .trace_io = true};

	*bench = (struct bench){
		.sim = sim_new(seed, getenv("STRAKE_STORE_TRACE") != NULL ? &options : NULL),
	};
	bench->host = sim_host_new(bench->sim, "10.0.0.1");
	bench->disk = sim_disk_new(bench->host, "disk", size_bytes);
	bench_start_process(bench);
}

static inline void bench_end_process(struct bench *bench)
{
	sim_disk_close(bench->handle);
	sim_process_exit(bench->process);
	bench->process = NULL;
	bench->store = NULL;
}

static inline void bench_done(struct bench *bench)
{
	sim_free(bench->sim);
}

static inline void bench_op_done(struct store_op *op)
{
	*(bool *)op->ctx = true;
}

/* -ETIME: it never ended. */
static inline int bench_wait(struct bench *bench, struct store_op *op, const bool *flag)
{
	if (!sim_run_until_flag(bench->sim, flag, BENCH_TIMEOUT_NS)) {
		return -ETIME;
	}
	bench->err = op->err;
	return op->result;
}

static inline int bench_format(struct bench *bench, const struct store_format_options *options)
{
	bool flag = false;
	struct store_op op = {.done = bench_op_done, .ctx = &flag};

	store_format(bench->io, bench->handle, options, &op);
	return bench_wait(bench, &op, &flag);
}

static inline int bench_probe(struct bench *bench)
{
	bool flag = false;
	struct store_op op = {.done = bench_op_done, .ctx = &flag};

	store_probe(bench->io, bench->handle, &op);
	return bench_wait(bench, &op, &flag);
}

static inline int bench_open(struct bench *bench)
{
	bool flag = false;
	struct store_op op = {.done = bench_op_done, .ctx = &flag};

	store_open(bench->io, bench->handle, &bench->store, &op);
	return bench_wait(bench, &op, &flag);
}

static inline int bench_close(struct bench *bench)
{
	bool flag = false;
	struct store_op op = {.done = bench_op_done, .ctx = &flag};
	int result;

	store_close(bench->store, &op);
	result = bench_wait(bench, &op, &flag);
	bench->store = NULL;
	return result;
}

/* Closes, ends the process (which must have given everything back), opens in a new one. */
static inline int bench_reopen(struct bench *bench)
{
	assert_int_equal(bench_close(bench), 0);
	bench_end_process(bench);
	bench_start_process(bench);
	return bench_open(bench);
}

/* The process dies, or the host loses power; then a new process. */
static inline void bench_crash(struct bench *bench, bool power)
{
	if (power) {
		sim_host_power_loss(bench->host);
	} else {
		sim_process_crash(bench->process);
	}
	bench->store = NULL;
	bench_start_process(bench);
}

static inline int bench_create(struct bench *bench, const char *name, uint64_t size_bytes,
	struct store_replica **ret_replica)
{
	bool flag = false;
	struct store_op op = {.done = bench_op_done, .ctx = &flag};
	struct store_replica_options options = {
		.kind = size_bytes == 0 ? VOTER_ARBITER : VOTER_DATA,
		.size_bytes = size_bytes,
	};

	uuid_make(&options.replica, sim_rng(bench->sim));
	uuid_make(&options.volume, sim_rng(bench->sim));
	(void)snprintf(options.name, sizeof(options.name), "%s", name);
	store_replica_create(bench->store, &options, ret_replica, &op);
	return bench_wait(bench, &op, &flag);
}

static inline int bench_delete(struct bench *bench, struct store_replica *replica)
{
	bool flag = false;
	struct store_op op = {.done = bench_op_done, .ctx = &flag};

	store_replica_delete(replica, &op);
	return bench_wait(bench, &op, &flag);
}

static inline int bench_resize(
	struct bench *bench, struct store_replica *replica, uint64_t size_bytes)
{
	bool flag = false;
	struct store_op op = {.done = bench_op_done, .ctx = &flag};

	store_replica_resize(replica, size_bytes, &op);
	return bench_wait(bench, &op, &flag);
}

static inline int bench_update(
	struct bench *bench, struct store_replica *replica, const struct vmeta *vmeta)
{
	bool flag = false;
	struct store_op op = {.done = bench_op_done, .ctx = &flag};

	store_replica_update(replica, vmeta, &op);
	return bench_wait(bench, &op, &flag);
}

static inline void bench_io_done(struct store_io *io)
{
	*(bool *)io->ctx = true;
}

static inline int bench_submit(
	struct bench *bench, struct store_replica *replica, struct store_io *io)
{
	bool flag = false;

	io->done = bench_io_done;
	io->ctx = &flag;
	store_submit(replica, io);
	if (!sim_run_until_flag(bench->sim, &flag, BENCH_TIMEOUT_NS)) {
		return -ETIME;
	}
	return io->result;
}

/* Memory for data; from the test itself, so that it outlives crashes. */
static inline uint8_t *bench_buffer(uint64_t length)
{
	uint8_t *buffer = aligned_alloc(STORE_BLOCK_BYTES, length);

	assert_non_null(buffer);
	return buffer;
}

static inline int bench_write(struct bench *bench, struct store_replica *replica, uint64_t offset,
	uint64_t length, uint8_t fill, uint64_t wgen)
{
	uint8_t *buffer = bench_buffer(length);
	struct iovec iov = {.iov_base = buffer, .iov_len = length};
	struct store_io io = {
		.kind = STORE_WRITE,
		.wgen = wgen,
		.offset = offset,
		.length = length,
		.iov = &iov,
		.iov_count = 1,
	};
	int result;

	memset(buffer, fill, length);
	result = bench_submit(bench, replica, &io);
	free(buffer);
	return result;
}

static inline int bench_simple(struct bench *bench, struct store_replica *replica,
	enum store_io_kind kind, uint64_t offset, uint64_t length, uint64_t wgen)
{
	struct store_io io = {.kind = kind, .wgen = wgen, .offset = offset, .length = length};

	return bench_submit(bench, replica, &io);
}

static inline int bench_flush(struct bench *bench, struct store_replica *replica)
{
	return bench_simple(bench, replica, STORE_FLUSH, 0, 0, 0);
}

static inline int bench_read(struct bench *bench, struct store_replica *replica, uint64_t offset,
	uint64_t length, uint8_t *to)
{
	struct iovec iov = {.iov_base = to, .iov_len = length};
	struct store_io io = {
		.kind = STORE_READ,
		.offset = offset,
		.length = length,
		.iov = &iov,
		.iov_count = 1,
	};

	return bench_submit(bench, replica, &io);
}

static inline bool bytes_are(const uint8_t *bytes, uint64_t length, uint8_t value)
{
	for (uint64_t i = 0; i < length; i++) {
		if (bytes[i] != value) {
			return false;
		}
	}
	return true;
}

/* The range reads as that byte all over. */
static inline void assert_reads(struct bench *bench, struct store_replica *replica, uint64_t offset,
	uint64_t length, uint8_t fill)
{
	uint8_t *buffer = bench_buffer(length);

	memset(buffer, 0xee, length);
	assert_int_equal(bench_read(bench, replica, offset, length, buffer), 0);
	assert_true(bytes_are(buffer, length, fill));
	free(buffer);
}

static inline struct store_info bench_info(const struct bench *bench)
{
	struct store_info info;

	store_get_info(bench->store, &info);
	return info;
}

/* Until nothing is left to be cleaned. */
static inline void bench_settle(struct bench *bench)
{
	for (unsigned i = 0;
		i < 100000 && bench_info(bench).reclaiming_bytes > 0 && !bench_info(bench).failed;
		i++) {
		sim_run_for_ns(bench->sim, 1 * IO_NS_PER_MS);
	}
	/* Records that are under way. */
	sim_run_for_ns(bench->sim, 10 * IO_NS_PER_MS);
}

#endif
