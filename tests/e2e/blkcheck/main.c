/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A verified load on a block device.
 *
 *   blkcheck load DEVICE --seconds N [--threads T] [--size BYTES] [--stop FILE] [--progress FILE]
 *                        [--keep FILE [--sync] [--resume]]
 *     Each thread owns a part of the device and writes blocks that carry their number, a sequence
 *     number and a checksum; it reads them back at random and, at the end, all of them.  Ends
 *     after N seconds or when FILE appears.  With --keep FILE a thread ends at its first error,
 *     and FILE tells at every moment what was begun and what was acknowledged, also of a load that
 *     was killed; with --sync also after a loss of power, if it lies on a disk that has one of its
 *     own.  --resume first verifies what the load before it has left, then goes on from there:
 *     same threads, same size.  --progress: a line, several times a second, with the writes and
 *     reads so far, the errors, the wrong blocks, and for how many ms the oldest request that is
 *     under way has been (0: none is).
 *   blkcheck kept DEVICE --keep FILE
 *     Every write that FILE tells of is there; one that was not acknowledged may be.
 *   blkcheck random DEVICE --file FILE --ops N [--seed S] [--size BYTES]
 *     Random operations (writes, reads, zeroed ranges, fsync) on the device and on a plain file
 *     alike; at the end both are compared byte for byte.
 *
 * Prints one JSON line.  Exit 0: every byte was as it must be and no operation failed.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define BLOCK        4096u
#define SPAN_MAX     (256u * 1024)
#define THREADS_MAX  32u
#define BLOCKS_OWNED 4096u /* of each thread at most */

struct options {
	const char *mode, *device, *file, *stop, *keep, *progress;
	uint64_t seconds, threads, ops, seed, size_bytes;
	bool sync, resume;
};

static uint64_t now_ns(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static uint64_t random_u64(uint64_t *state)
{
	uint64_t value = (*state += UINT64_C(0x9e3779b97f4a7c15));

	value = (value ^ value >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	value = (value ^ value >> 27) * UINT64_C(0x94d049bb133111eb);
	return value ^ value >> 31;
}

static void fill(uint8_t *to, size_t length, uint64_t seed)
{
	for (size_t i = 0; i < length; i += 8) {
		uint64_t value = random_u64(&seed);

		memcpy(to + i, &value, 8);
	}
}

static uint64_t device_size(int fd)
{
	struct stat st;
	uint64_t size = 0;

	if (fstat(fd, &st) != 0) {
		return 0;
	}
	if (S_ISBLK(st.st_mode)) {
		return ioctl(fd, BLKGETSIZE64, &size) == 0 ? size : 0;
	}
	return (uint64_t)st.st_size;
}

static int open_device(const struct options *options, uint64_t *ret_size)
{
	int fd = open(options->device, O_RDWR | O_DIRECT | O_CLOEXEC);

	if (fd < 0) {
		fprintf(stderr, "blkcheck: %s: %s\n", options->device, strerror(errno));
		exit(2);
	}
	*ret_size = device_size(fd);
	if (options->size_bytes != 0 && options->size_bytes < *ret_size) {
		*ret_size = options->size_bytes;
	}
	if (*ret_size < SPAN_MAX) {
		fprintf(stderr, "blkcheck: %s is too small\n", options->device);
		exit(2);
	}
	return fd;
}

static void *aligned(size_t size)
{
	void *memory = aligned_alloc(BLOCK, size);

	if (memory == NULL) {
		fprintf(stderr, "blkcheck: out of memory\n");
		exit(2);
	}
	return memory;
}

/* ---- load ---- */

static atomic_ullong load_writes, load_reads, load_errors, load_mismatches, load_gap_ns;
static atomic_bool load_stop;

/*
 * The values that a block may have, by the sequence numbers of its writes (0: what was there
 * before): the one that was acknowledged last or read since, and all that were begun and not
 * acknowledged, from `doubtful` to `written`.  What an earlier load began stays doubtful until a
 * read has decided it or a later write was acknowledged.  With --keep they lie in a file that is
 * mapped, and each step leaves too many values rather than too few: who kills the load changes
 * nothing.
 */
struct record {
	_Atomic uint64_t settled;
	_Atomic uint64_t doubtful;
	_Atomic uint64_t written; /* the last one that was begun */
	uint64_t unused;          /* no record lies in two pages */
};

struct worker {
	pthread_t thread;
	unsigned number;
	int fd;
	uint64_t first_block, blocks;
	uint64_t random;
	struct record *records; /* of its blocks */
	bool keep, sync, resume;
	_Atomic uint64_t began_ns; /* of the request under way, 0: none */
	uint8_t *buffer;
};

/* A block's content follows from its number and sequence number alone. */
static void load_make(uint8_t *to, uint64_t block, uint64_t sequence)
{
	fill(to, BLOCK, block * UINT64_C(1000003) + sequence);
	memcpy(to, &block, 8);
	memcpy(to + 8, &sequence, 8);
}

static void record_settle(struct record *record, uint64_t sequence)
{
	record->settled = sequence;
	record->doubtful = record->written + 1;
}

static bool record_allows(const struct record *record, uint64_t sequence)
{
	return sequence == record->settled ||
	       (sequence >= record->doubtful && sequence <= record->written);
}

/* Whether the content of a block is one that it may have; then that is what it has from now on. */
static bool record_judge(
	struct record *record, uint64_t block, const uint8_t *found, uint8_t *expected)
{
	uint64_t there[2];

	memcpy(there, found, sizeof(there));
	load_make(expected, block, there[1]);
	if (there[1] != 0 && record_allows(record, there[1]) &&
		memcmp(found, expected, BLOCK) == 0) {
		record_settle(record, there[1]);
		return true;
	}
	if (record->settled == 0) {
		return true; /* what was there before */
	}
	fprintf(stderr,
		"blkcheck: block %" PRIu64 " must have sequence %" PRIu64 "%s (%" PRIu64
		" were begun), found block %" PRIu64 " sequence %" PRIu64 "%s\n",
		block, record->settled,
		record->doubtful <= record->written ? " or one that was not acknowledged" : "",
		record->written, there[0], there[1],
		record_allows(record, there[1]) ? " with other content" : "");
	return false;
}

static void record_sync(const struct worker *worker, struct record *record)
{
	uintptr_t page = (uintptr_t)record & ~(uintptr_t)(BLOCK - 1);

	if (worker->sync && msync((void *)page, BLOCK, MS_SYNC) != 0) {
		fprintf(stderr, "blkcheck: msync: %s\n", strerror(errno));
		exit(2);
	}
}

static void load_begin(struct worker *worker)
{
	worker->began_ns = now_ns();
}

static void load_end(struct worker *worker)
{
	uint64_t gap = now_ns() - worker->began_ns;
	unsigned long long seen = atomic_load(&load_gap_ns);

	while (gap > seen && !atomic_compare_exchange_weak(&load_gap_ns, &seen, gap)) {
	}
	worker->began_ns = 0;
}

static void load_error(const char *what, uint64_t block)
{
	fprintf(stderr, "blkcheck: %s of block %" PRIu64 ": %s\n", what, block, strerror(errno));
	atomic_fetch_add(&load_errors, 1);
}

static bool load_verify(struct worker *worker, uint64_t index)
{
	static _Thread_local uint8_t expected[BLOCK];
	uint64_t block = worker->first_block + index;

	load_begin(worker);
	if (pread(worker->fd, worker->buffer, BLOCK, (off_t)(block * BLOCK)) != BLOCK) {
		load_error("read", block);
		return false;
	}
	load_end(worker);
	atomic_fetch_add(&load_reads, 1);
	if (!record_judge(&worker->records[index], block, worker->buffer, expected)) {
		atomic_fetch_add(&load_mismatches, 1);
	}
	return true;
}

static bool load_write(struct worker *worker, uint64_t index)
{
	struct record *record = &worker->records[index];
	uint64_t block = worker->first_block + index;

	/* A new record has no doubtful writes. */
	if (record->written == 0) {
		record->doubtful = 1;
	}
	load_make(worker->buffer, block, ++record->written);
	record_sync(worker, record);
	load_begin(worker);
	if (pwrite(worker->fd, worker->buffer, BLOCK, (off_t)(block * BLOCK)) != BLOCK) {
		load_error("write", block);
		return false;
	}
	record_settle(record, record->written);
	record_sync(worker, record);
	load_end(worker);
	atomic_fetch_add(&load_writes, 1);
	return true;
}

/* All blocks that were ever written; false: an error that ends it. */
static bool load_verify_all(struct worker *worker)
{
	for (uint64_t i = 0; i < worker->blocks; i++) {
		if (worker->records[i].written != 0 && !load_verify(worker, i) && worker->keep) {
			return false;
		}
	}
	return true;
}

static void *load_run(void *ctx)
{
	struct worker *worker = ctx;

	if (worker->resume && !load_verify_all(worker)) {
		return NULL;
	}
	while (!atomic_load(&load_stop)) {
		uint64_t index = random_u64(&worker->random) % worker->blocks;
		bool read =
			worker->records[index].written != 0 && random_u64(&worker->random) % 3 == 0;
		bool good = read ? load_verify(worker, index) : load_write(worker, index);

		if (!good && worker->keep) {
			return NULL;
		}
	}
	(void)load_verify_all(worker);
	return NULL;
}

/* For so many blocks; of `kept` those that the file has. */
static struct record *map_records(const char *path, bool new, uint64_t *blocks)
{
	int fd = open(path, O_RDWR | O_CLOEXEC | (new ? O_CREAT | O_TRUNC : 0), 0644);
	struct record *records = MAP_FAILED;
	struct stat st;

	if (fd >= 0 && (!new || ftruncate(fd, (off_t)(*blocks * sizeof(*records))) == 0) &&
		fstat(fd, &st) == 0) {
		*blocks = (uint64_t)st.st_size / sizeof(*records);
		records = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	}
	if (records == MAP_FAILED) {
		fprintf(stderr, "blkcheck: %s: %s\n", path, strerror(errno));
		exit(2);
	}
	close(fd);
	return records;
}

static int kept(const struct options *options)
{
	uint8_t *found = aligned(BLOCK), *expected = aligned(BLOCK);
	uint64_t size, blocks, count = 0, lost = 0;
	int fd = open_device(options, &size);
	struct record *records = map_records(options->keep, false, &blocks);

	for (uint64_t block = 0; block < blocks && block < size / BLOCK; block++) {
		if (records[block].written == 0) {
			continue;
		}
		count++;
		if (pread(fd, found, BLOCK, (off_t)(block * BLOCK)) != BLOCK) {
			load_error("read", block);
			lost++;
		} else if (!record_judge(&records[block], block, found, expected)) {
			lost++;
		}
	}
	printf("{\"blocks\": %" PRIu64 ", \"lost\": %" PRIu64 "}\n", count, lost);
	close(fd);
	free(found);
	free(expected);
	return count > 0 && lost == 0 ? 0 : 1;
}

/* One line of fixed length: who reads it meanwhile finds a whole one. */
static void load_tell(const struct options *options, int fd, const struct worker *workers)
{
	uint64_t oldest_ns = 0, now = now_ns();
	char line[96];
	int length;

	if (options->progress == NULL) {
		return;
	}
	for (unsigned i = 0; i < options->threads; i++) {
		uint64_t began_ns = workers[i].began_ns;

		if (began_ns != 0 && began_ns < now && now - began_ns > oldest_ns) {
			oldest_ns = now - began_ns;
		}
	}
	length = snprintf(line, sizeof(line), "%15llu %15llu %9llu %9llu %9" PRIu64 "\n",
		atomic_load(&load_writes), atomic_load(&load_reads), atomic_load(&load_errors),
		atomic_load(&load_mismatches), oldest_ns / 1000000);
	if (pwrite(fd, line, (size_t)length, 0) != length) {
		fprintf(stderr, "blkcheck: %s: %s\n", options->progress, strerror(errno));
	}
}

static void load_watch(const struct options *options, const struct worker *workers)
{
	uint64_t end_ns = now_ns() + options->seconds * 1000000000u;
	int fd = -1;

	if (options->progress != NULL) {
		fd = open(options->progress, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	}
	while (now_ns() < end_ns && (options->stop == NULL || access(options->stop, F_OK) != 0) &&
		(options->keep == NULL || atomic_load(&load_errors) == 0)) {
		load_tell(options, fd, workers);
		usleep(50000);
	}
	atomic_store(&load_stop, true);
	for (unsigned i = 0; i < options->threads; i++) {
		pthread_join(workers[i].thread, NULL);
	}
	load_tell(options, fd, workers);
	if (fd >= 0) {
		close(fd);
	}
}

static int load(const struct options *options)
{
	static struct worker workers[THREADS_MAX];
	uint64_t size;
	int fd = open_device(options, &size);
	uint64_t each = size / BLOCK / options->threads;
	uint64_t blocks = each * options->threads, wanted = blocks;
	struct record *records = options->keep != NULL
					 ? map_records(options->keep, !options->resume, &blocks)
					 : calloc(blocks, sizeof(*records));

	for (unsigned i = 0; i < options->threads; i++) {
		struct worker *worker = &workers[i];

		*worker = (struct worker){.number = i,
			.fd = fd,
			.first_block = i * each,
			.blocks = each < BLOCKS_OWNED ? each : BLOCKS_OWNED,
			.random = options->seed + i,
			.records = records + i * each,
			.keep = options->keep != NULL,
			.sync = options->sync,
			.resume = options->resume};
		worker->buffer = aligned(BLOCK);
		if (records == NULL || blocks != wanted ||
			pthread_create(&worker->thread, NULL, load_run, worker) != 0) {
			fprintf(stderr, "blkcheck: cannot start\n");
			return 2;
		}
	}
	load_watch(options, workers);
	for (unsigned i = 0; i < options->threads; i++) {
		free(workers[i].buffer);
	}
	if (options->keep == NULL) {
		free(records);
	} else {
		munmap(records, blocks * sizeof(*records));
	}
	printf("{\"writes\": %llu, \"reads\": %llu, \"errors\": %llu, \"mismatches\": %llu, "
	       "\"longest_ms\": %llu}\n",
		atomic_load(&load_writes), atomic_load(&load_reads), atomic_load(&load_errors),
		atomic_load(&load_mismatches), atomic_load(&load_gap_ns) / 1000000);
	close(fd);
	return atomic_load(&load_errors) == 0 && atomic_load(&load_mismatches) == 0 &&
			       atomic_load(&load_writes) > 0
		       ? 0
		       : 1;
}

/* ---- random ---- */

struct pair {
	int device, file;
	uint64_t size;
	uint8_t *a, *b;
	uint64_t random;
};

static int compare_range(struct pair *pair, uint64_t offset, uint64_t length)
{
	if (pread(pair->device, pair->a, length, (off_t)offset) != (ssize_t)length) {
		fprintf(stderr, "blkcheck: read at %" PRIu64 ": %s\n", offset, strerror(errno));
		return 1;
	}
	if (pread(pair->file, pair->b, length, (off_t)offset) != (ssize_t)length) {
		fprintf(stderr, "blkcheck: the plain file: %s\n", strerror(errno));
		return 1;
	}
	for (uint64_t i = 0; i < length; i++) {
		if (pair->a[i] != pair->b[i]) {
			fprintf(stderr, "blkcheck: differs at %" PRIu64 "\n", offset + i);
			return 1;
		}
	}
	return 0;
}

static int write_both(struct pair *pair, uint64_t offset, uint64_t length)
{
	fill(pair->a, length, random_u64(&pair->random));
	if (pwrite(pair->device, pair->a, length, (off_t)offset) != (ssize_t)length ||
		pwrite(pair->file, pair->a, length, (off_t)offset) != (ssize_t)length) {
		fprintf(stderr, "blkcheck: write at %" PRIu64 ": %s\n", offset, strerror(errno));
		return 1;
	}
	return 0;
}

static int zero_both(struct pair *pair, uint64_t offset, uint64_t length)
{
	memset(pair->a, 0, length);
	if (fallocate(pair->device, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset,
		    (off_t)length) != 0 ||
		pwrite(pair->file, pair->a, length, (off_t)offset) != (ssize_t)length) {
		fprintf(stderr, "blkcheck: discard at %" PRIu64 ": %s\n", offset, strerror(errno));
		return 1;
	}
	return 0;
}

static int random_step(struct pair *pair)
{
	uint64_t blocks = 1 + random_u64(&pair->random) % (SPAN_MAX / BLOCK);
	uint64_t offset = random_u64(&pair->random) % (pair->size / BLOCK - blocks + 1) * BLOCK;
	uint64_t kind = random_u64(&pair->random) % 100;

	if (kind < 50) {
		return write_both(pair, offset, blocks * BLOCK);
	}
	if (kind < 90) {
		return compare_range(pair, offset, blocks * BLOCK);
	}
	if (kind < 98) {
		return zero_both(pair, offset, blocks * BLOCK);
	}
	return fsync(pair->device) == 0 ? 0 : 1;
}

static int random_ops(const struct options *options)
{
	struct pair pair = {
		.random = options->seed, .a = aligned(SPAN_MAX), .b = aligned(SPAN_MAX)};
	int result = 0;
	uint64_t done = 0;

	pair.device = open_device(options, &pair.size);
	pair.size = pair.size / BLOCK * BLOCK;
	pair.file = open(options->file, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (pair.file < 0 || ftruncate(pair.file, (off_t)pair.size) != 0) {
		fprintf(stderr, "blkcheck: %s: %s\n", options->file, strerror(errno));
		return 2;
	}
	/* The device may hold anything at first: both begin with zeros. */
	for (uint64_t offset = 0; offset < pair.size && result == 0; offset += SPAN_MAX) {
		uint64_t length = pair.size - offset < SPAN_MAX ? pair.size - offset : SPAN_MAX;

		result = zero_both(&pair, offset, length);
	}
	while (done < options->ops && result == 0) {
		result = random_step(&pair);
		done++;
	}
	for (uint64_t offset = 0; offset < pair.size && result == 0; offset += SPAN_MAX) {
		uint64_t length = pair.size - offset < SPAN_MAX ? pair.size - offset : SPAN_MAX;

		result = compare_range(&pair, offset, length);
	}
	printf("{\"ops\": %" PRIu64 ", \"equal\": %s}\n", done, result == 0 ? "true" : "false");
	close(pair.device);
	close(pair.file);
	free(pair.a);
	free(pair.b);
	return result;
}

static void parse(int argc, char **argv, struct options *options)
{
	static const struct option names[] = {
		{"seconds", required_argument, NULL, 's'},
		{"threads", required_argument, NULL, 't'},
		{"size", required_argument, NULL, 'z'},
		{"stop", required_argument, NULL, 'x'},
		{"file", required_argument, NULL, 'f'},
		{"keep", required_argument, NULL, 'k'},
		{"progress", required_argument, NULL, 'p'},
		{"sync", no_argument, NULL, 'y'},
		{"resume", no_argument, NULL, 'r'},
		{"ops", required_argument, NULL, 'o'},
		{"seed", required_argument, NULL, 'e'},
		{0},
	};
	int option;

	*options = (struct options){.seconds = 10, .threads = 8, .ops = 10000, .seed = 1};
	while ((option = getopt_long(argc, argv, "", names, NULL)) != -1) {
		switch (option) {
		case 's':
			options->seconds = strtoull(optarg, NULL, 0);
			break;
		case 't':
			options->threads = strtoull(optarg, NULL, 0);
			break;
		case 'z':
			options->size_bytes = strtoull(optarg, NULL, 0);
			break;
		case 'x':
			options->stop = optarg;
			break;
		case 'f':
			options->file = optarg;
			break;
		case 'k':
			options->keep = optarg;
			break;
		case 'p':
			options->progress = optarg;
			break;
		case 'y':
			options->sync = true;
			break;
		case 'r':
			options->resume = true;
			break;
		case 'o':
			options->ops = strtoull(optarg, NULL, 0);
			break;
		case 'e':
			options->seed = strtoull(optarg, NULL, 0);
			break;
		default:
			exit(2);
		}
	}
	if (argc - optind != 2 || ((options->sync || options->resume) && options->keep == NULL) ||
		options->threads == 0 || options->threads > THREADS_MAX) {
		fprintf(stderr, "usage: blkcheck load|random|kept DEVICE [options]; see the head "
				"of its source\n");
		exit(2);
	}
	options->mode = argv[optind];
	options->device = argv[optind + 1];
}

int main(int argc, char **argv)
{
	struct options options;

	parse(argc, argv, &options);
	if (strcmp(options.mode, "load") == 0) {
		return load(&options);
	}
	if (strcmp(options.mode, "random") == 0 && options.file != NULL) {
		return random_ops(&options);
	}
	if (strcmp(options.mode, "kept") == 0 && options.keep != NULL) {
		return kept(&options);
	}
	fprintf(stderr, "blkcheck: %s: load, random with --file, or kept with --keep\n",
		options.mode);
	return 2;
}
