/* SPDX-License-Identifier: Apache-2.0 */
/*
 * nvme-perf: load on an NVMe/TCP namespace through our own host library, at a fixed depth.  Prints
 * one line of JSON: IOPS, latency, CPU time of itself and of other processes for each I/O.
 *
 *	nvme-perf --address 127.0.0.1 --port 4431 --nqn NQN --rw write --depth 32 --size 4096
 *--seconds 10 [--pids 12,34]
 */
#include "base/bytes.h"
#include "base/size.h"
#include "base/uuid.h"
#include "epoll/epoll.h"
#include "nvmeh/nvmeh.h"
#include "real/real.h"
#include "tests/bench/cpu_time.h"
#include "uring/uring.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

#define PIDS_MAX     32u
#define DEPTH_MAX    1000u
#define BUCKETS      1024u /* 16 a power of two */
#define BUCKET_STEPS 16u

enum rw { RW_READ, RW_WRITE, RW_MIXED };

struct settings {
	struct io_address address;
	const char *nqn, *hostnqn;
	unsigned depth, queues;
	uint64_t size_bytes, region_bytes;
	enum rw rw;
	bool sequential, header_digest, data_digest;
	uint64_t warmup_ns, duration_ns, poll_ns;
	uint32_t nsid;
	pid_t pids[PIDS_MAX];
	unsigned pid_count;
};

struct latency {
	uint64_t buckets[BUCKETS];
	uint64_t count, sum_ns, max_ns;
};

/* What is compared between the start and the end of the measurement. */
struct snapshot {
	uint64_t time_ns, own_cpu_ns;
	uint64_t pid_cpu_ns[PIDS_MAX];
	struct nvmeh_stats stats;
};

struct perf;

struct slot {
	struct nvmeh_cmd cmd;
	struct iovec iov;
	struct perf *perf;
	uint64_t start_ns;
	void *buffer;
};

struct perf {
	struct settings settings;
	struct real *real;
	struct io *io;
	struct nvmeh *assoc;
	struct task task;
	enum {
		PERF_START,
		PERF_CONNECT,
		PERF_IDENTIFY,
		PERF_WARM_UP,
		PERF_MEASURE,
		PERF_DRAIN,
		PERF_CLOSE
	} state;
	struct io_timer timer;
	bool ready, failed, closed, identified, stopping;
	struct nvmeh_cmd identify;
	struct iovec identify_iov;
	struct nvme_id_ns id;
	uint32_t block_bytes;
	uint64_t places, next_place; /* of size_bytes */
	struct slot *slots;
	unsigned in_flight;
	bool measuring;
	struct latency latency;
	uint64_t errors, reads;
	struct snapshot before, after;
	struct rng rng;
	int exit_code;
};

/* ---- latency
 * ---------------------------------------------------------------------------------------------------
 */

static unsigned bucket_of(uint64_t ns)
{
	unsigned power, index;

	if (ns < BUCKET_STEPS) {
		return (unsigned)ns;
	}
	power = 63u - (unsigned)__builtin_clzll(ns);
	index = (power - 3) * BUCKET_STEPS + (unsigned)(ns >> (power - 4)) % BUCKET_STEPS;
	return index < BUCKETS ? index : BUCKETS - 1;
}

/* The middle of a bucket. */
static double bucket_ns(unsigned index)
{
	unsigned power = index / BUCKET_STEPS + 3;

	if (index < BUCKET_STEPS) {
		return index;
	}
	return (double)(UINT64_C(1) << (power - 4)) * (BUCKET_STEPS + index % BUCKET_STEPS + 0.5);
}

static void latency_add(struct latency *latency, uint64_t ns)
{
	latency->buckets[bucket_of(ns)]++;
	latency->count++;
	latency->sum_ns += ns;
	latency->max_ns = max_u64(latency->max_ns, ns);
}

static double latency_percentile_us(const struct latency *latency, double percent)
{
	double wanted = (double)latency->count * percent / 100;
	uint64_t seen = 0;

	for (unsigned i = 0; i < BUCKETS; i++) {
		seen += latency->buckets[i];
		if (seen > 0 && (double)seen >= wanted) {
			return bucket_ns(i) / 1000;
		}
	}
	return 0;
}

/* ---- load
 * -------------------------------------------------------------------------------------------------------
 */

static void slot_submit(struct slot *slot)
{
	struct perf *perf = slot->perf;
	const struct settings *settings = &perf->settings;
	bool is_read = settings->rw == RW_READ ||
		       (settings->rw == RW_MIXED && rng_percent(&perf->rng, 70));
	uint64_t place = settings->sequential ? perf->next_place++ % perf->places
					      : rng_below(&perf->rng, perf->places);
	uint64_t lba = place * (settings->size_bytes / perf->block_bytes);
	void (*done)(struct nvmeh_cmd *cmd) = slot->cmd.done;

	slot->iov = (struct iovec){slot->buffer, settings->size_bytes};
	slot->cmd = (struct nvmeh_cmd){
		.sqe = {.opcode = is_read ? NVME_IO_READ : NVME_IO_WRITE,
			.nsid = settings->nsid,
			.cdw10 = (uint32_t)lba,
			.cdw11 = (uint32_t)(lba >> 32),
			.cdw12 = (uint32_t)(settings->size_bytes / perf->block_bytes - 1)},
		.queue = (unsigned)(slot - perf->slots) % settings->queues,
		.iov = &slot->iov,
		.iov_count = 1,
		.length = (uint32_t)settings->size_bytes,
		.done = done,
	};
	slot->start_ns = io_now_ns(perf->io);
	perf->in_flight++;
	nvmeh_submit(perf->assoc, &slot->cmd);
}

static void slot_done(struct nvmeh_cmd *cmd)
{
	struct slot *slot = container_of(cmd, struct slot, cmd);
	struct perf *perf = slot->perf;

	perf->in_flight--;
	if (cmd->result != 0 || cmd->status != 0) {
		if (perf->errors++ == 0) {
			fprintf(stderr, "nvme-perf: first error: %s, %s\n", err_name(cmd->result),
				nvme_status_text(cmd->status));
		}
	} else if (perf->measuring) {
		latency_add(&perf->latency, io_now_ns(perf->io) - slot->start_ns);
		perf->reads += cmd->sqe.opcode == NVME_IO_READ;
	}
	if (perf->stopping || cmd->result != 0) {
		task_wake(&perf->task);
		return;
	}
	slot_submit(slot);
}

static int slots_start(struct perf *perf)
{
	const struct settings *settings = &perf->settings;

	for (unsigned i = 0; i < settings->depth; i++) {
		struct slot *slot = &perf->slots[i];
		uint64_t *words;

		slot->perf = perf;
		slot->cmd.done = slot_done;
		slot->buffer = io_zalloc_aligned(perf->io, 4096, settings->size_bytes);
		if (slot->buffer == NULL) {
			fprintf(stderr, "nvme-perf: out of memory\n");
			return -ENOMEM;
		}
		words = slot->buffer;
		for (uint64_t w = 0; w < settings->size_bytes / 8; w++) {
			words[w] = rng_u64(&perf->rng);
		}
	}
	for (unsigned i = 0; i < settings->depth; i++) {
		slot_submit(&perf->slots[i]);
	}
	return 0;
}

/* ---- the run
 * ------------------------------------------------------------------------------------------------------
 */

static void snapshot_take(struct perf *perf, struct snapshot *snapshot)
{
	const struct settings *settings = &perf->settings;

	nvmeh_get_stats(perf->assoc, &snapshot->stats);
	for (unsigned i = 0; i < settings->pid_count; i++) {
		if (cpu_time_of_pid(settings->pids[i], &snapshot->pid_cpu_ns[i]) != 0) {
			fprintf(stderr, "nvme-perf: there is no process %d\n",
				(int)settings->pids[i]);
			perf->exit_code = 1;
		}
	}
	snapshot->own_cpu_ns = cpu_time_of_self();
	snapshot->time_ns = io_now_ns(perf->io);
}

static void identify_done(struct nvmeh_cmd *cmd)
{
	struct perf *perf = container_of(cmd, struct perf, identify);

	perf->identified = true;
	task_wake(&perf->task);
}

static void identify_submit(struct perf *perf)
{
	perf->identify_iov = (struct iovec){&perf->id, sizeof(perf->id)};
	perf->identify = (struct nvmeh_cmd){
		.sqe = {.opcode = NVME_ADMIN_IDENTIFY,
			.nsid = perf->settings.nsid,
			.cdw10 = NVME_CNS_NAMESPACE},
		.admin = true,
		.iov = &perf->identify_iov,
		.iov_count = 1,
		.length = sizeof(perf->id),
		.done = identify_done,
	};
	nvmeh_submit(perf->assoc, &perf->identify);
}

static bool identify_take(struct perf *perf)
{
	struct settings *settings = &perf->settings;
	unsigned shift = perf->id.lbaf[perf->id.flbas & 0xfu].lbads;
	uint64_t bytes;

	if (perf->identify.result != 0 || perf->identify.status != 0 || perf->id.nsze == 0 ||
		shift < 9 || shift > 16 || perf->id.nsze > UINT64_MAX >> shift) {
		fprintf(stderr, "nvme-perf: namespace %u: %s\n", settings->nsid,
			perf->identify.status != 0 ? nvme_status_text(perf->identify.status)
						   : "is not there");
		return false;
	}
	perf->block_bytes = UINT32_C(1) << shift;
	bytes = perf->id.nsze << shift;
	if (settings->region_bytes != 0) {
		bytes = min_u64(bytes, settings->region_bytes);
	}
	perf->places = bytes / settings->size_bytes;
	if (settings->size_bytes % perf->block_bytes != 0 || perf->places == 0 ||
		settings->size_bytes > nvmeh_transfer_max(perf->assoc)) {
		fprintf(stderr,
			"nvme-perf: --size %" PRIu64
			" must be a multiple of %u, at most %u and fit the namespace\n",
			settings->size_bytes, perf->block_bytes, nvmeh_transfer_max(perf->assoc));
		return false;
	}
	return true;
}

static void perf_step(struct task *task)
{
	struct perf *perf = container_of(task, struct perf, task);

	switch (perf->state) {
	case PERF_START:
		AWAIT(perf, PERF_CONNECT, perf->ready || perf->failed);
		if (!perf->failed) {
			identify_submit(perf);
			AWAIT(perf, PERF_IDENTIFY, perf->identified);
			if (!identify_take(perf) || slots_start(perf) != 0) {
				perf->exit_code = 1;
			}
			io_timer_start_after(&perf->timer, perf->settings.warmup_ns);
			AWAIT(perf, PERF_WARM_UP,
				!io_timer_is_running(&perf->timer) || perf->failed ||
					perf->exit_code != 0);
			perf->measuring = true;
			snapshot_take(perf, &perf->before);
			io_timer_start_after(&perf->timer, perf->settings.duration_ns);
			AWAIT(perf, PERF_MEASURE,
				!io_timer_is_running(&perf->timer) || perf->failed ||
					perf->exit_code != 0);
			snapshot_take(perf, &perf->after);
			perf->measuring = false;
		}
		io_timer_stop(&perf->timer);
		perf->stopping = true;
		AWAIT(perf, PERF_DRAIN, perf->in_flight == 0 || perf->failed);
		nvmeh_close(perf->assoc);
		AWAIT(perf, PERF_CLOSE, perf->closed);
		real_stop(perf->real);
		return;
	}
}

static void perf_ready(struct nvmeh *assoc)
{
	struct perf *perf = nvmeh_ctx(assoc);

	perf->ready = true;
	task_wake(&perf->task);
}

static void perf_failed(struct nvmeh *assoc, int code, const char *reason)
{
	struct perf *perf = nvmeh_ctx(assoc);

	fprintf(stderr, "nvme-perf: %s (%s)\n", reason, err_name(code));
	perf->failed = true;
	perf->exit_code = 1;
	task_wake(&perf->task);
}

static void perf_closed(struct nvmeh *assoc)
{
	struct perf *perf = nvmeh_ctx(assoc);

	perf->closed = true;
	task_wake(&perf->task);
}

static int associate(struct perf *perf)
{
	const struct settings *settings = &perf->settings;
	struct nvmeh_options options = {
		.address = settings->address,
		.io_queues = settings->queues,
		.queue_depth = settings->depth + 1,
		.kato_ms = 10000,
		.connect_timeout_ns = 5 * IO_NS_PER_S,
		.header_digest = settings->header_digest,
		.data_digest = settings->data_digest,
		.ready = perf_ready,
		.failed = perf_failed,
		.closed = perf_closed,
		.ctx = perf,
	};
	struct uuid hostid;

	uuid_make(&hostid, &perf->rng);
	memcpy(options.hostid, hostid.b, sizeof(options.hostid));
	(void)snprintf(options.subnqn, sizeof(options.subnqn), "%s", settings->nqn);
	(void)snprintf(options.hostnqn, sizeof(options.hostnqn), "%s", settings->hostnqn);
	return nvmeh_new(perf->io, &options, &perf->assoc);
}

/* ---- output
 * ---------------------------------------------------------------------------------------------------------
 */

static double per_io_us(const struct perf *perf, uint64_t ns)
{
	return perf->latency.count == 0 ? 0 : (double)ns / 1000 / (double)perf->latency.count;
}

static void print_pids(const struct perf *perf)
{
	uint64_t sum_ns = 0;

	printf(", \"pids\": [");
	for (unsigned i = 0; i < perf->settings.pid_count; i++) {
		uint64_t ns = perf->after.pid_cpu_ns[i] - perf->before.pid_cpu_ns[i];

		sum_ns += ns;
		printf("%s{\"pid\": %d, \"cpu_us_per_io\": %.3f}", i > 0 ? ", " : "",
			(int)perf->settings.pids[i], per_io_us(perf, ns));
	}
	printf("], \"pids_cpu_us_per_io\": %.3f", per_io_us(perf, sum_ns));
}

static void print_result(const struct perf *perf)
{
	static const char *const names[] = {"read", "write", "mixed"};
	const struct settings *settings = &perf->settings;
	const struct latency *latency = &perf->latency;
	double seconds = (double)(perf->after.time_ns - perf->before.time_ns) / 1e9;
	uint64_t sends = perf->after.stats.sends - perf->before.stats.sends;
	uint64_t receives = perf->after.stats.receives - perf->before.stats.receives;
	double count = (double)latency->count;

	printf("{\"rw\": \"%s\", \"size\": %" PRIu64 ", \"depth\": %u, \"seconds\": %.2f, "
	       "\"ios\": %" PRIu64 ", \"reads\": %" PRIu64 ", \"errors\": %" PRIu64
	       ", \"iops\": %.0f, "
	       "\"mib_per_second\": %.1f, ",
		names[settings->rw], settings->size_bytes, settings->depth, seconds, latency->count,
		perf->reads, perf->errors, seconds > 0 ? count / seconds : 0,
		seconds > 0 ? count * (double)settings->size_bytes / seconds / (1 << 20) : 0);
	printf("\"latency_us\": {\"mean\": %.1f, \"p50\": %.1f, \"p99\": %.1f, \"p999\": %.1f, "
	       "\"max\": %.1f}, ",
		latency->count > 0 ? (double)latency->sum_ns / count / 1000 : 0,
		latency_percentile_us(latency, 50), latency_percentile_us(latency, 99),
		latency_percentile_us(latency, 99.9), (double)latency->max_ns / 1000);
	printf("\"own_cpu_us_per_io\": %.3f, \"ios_per_send\": %.2f, \"ios_per_receive\": %.2f",
		per_io_us(perf, perf->after.own_cpu_ns - perf->before.own_cpu_ns),
		sends > 0 ? count / (double)sends : 0, receives > 0 ? count / (double)receives : 0);
	print_pids(perf);
	printf("}\n");
}

/* ---- command line
 * -----------------------------------------------------------------------------------------------------
 */

static const char usage_text[] = "usage: nvme-perf --address ADDRESS --port PORT --nqn NQN "
				 "[--hostnqn NQN] [--nsid 1] [--rw read|write|mixed]\n"
				 "                 [--depth 32] [--size 4K] [--seconds 10] "
				 "[--warmup SECONDS] [--region SIZE] [--sequential]\n"
				 "                 [--queues 1] [--digests none|header|data|both] "
				 "[--poll-us 0] [--pids PID,PID]\n";

enum option_id {
	OPTION_ADDRESS = 256,
	OPTION_PORT,
	OPTION_NQN,
	OPTION_HOSTNQN,
	OPTION_NSID,
	OPTION_RW,
	OPTION_DEPTH,
	OPTION_SIZE,
	OPTION_SECONDS,
	OPTION_WARMUP,
	OPTION_REGION,
	OPTION_SEQUENTIAL,
	OPTION_QUEUES,
	OPTION_DIGESTS,
	OPTION_POLL_US,
	OPTION_PIDS,
};

static const struct option long_options[] = {
	{"address", required_argument, NULL, OPTION_ADDRESS},
	{"port", required_argument, NULL, OPTION_PORT},
	{"nqn", required_argument, NULL, OPTION_NQN},
	{"hostnqn", required_argument, NULL, OPTION_HOSTNQN},
	{"nsid", required_argument, NULL, OPTION_NSID},
	{"rw", required_argument, NULL, OPTION_RW},
	{"depth", required_argument, NULL, OPTION_DEPTH},
	{"size", required_argument, NULL, OPTION_SIZE},
	{"seconds", required_argument, NULL, OPTION_SECONDS},
	{"warmup", required_argument, NULL, OPTION_WARMUP},
	{"region", required_argument, NULL, OPTION_REGION},
	{"sequential", no_argument, NULL, OPTION_SEQUENTIAL},
	{"queues", required_argument, NULL, OPTION_QUEUES},
	{"digests", required_argument, NULL, OPTION_DIGESTS},
	{"poll-us", required_argument, NULL, OPTION_POLL_US},
	{"pids", required_argument, NULL, OPTION_PIDS},
	{NULL, 0, NULL, 0},
};

static bool number_parse(const char *text, uint64_t min, uint64_t max, uint64_t *ret_number)
{
	char *end;
	unsigned long long number;

	errno = 0;
	number = strtoull(text, &end, 10);
	if (errno != 0 || end == text || *end != '\0' || text[0] == '-' || number < min ||
		number > max) {
		return false;
	}
	*ret_number = number;
	return true;
}

static bool seconds_parse(const char *text, uint64_t *ret_ns)
{
	char *end;
	double seconds = strtod(text, &end);

	if (end == text || *end != '\0' || !(seconds >= 0) || seconds > 1e6) {
		return false;
	}
	*ret_ns = (uint64_t)(seconds * 1e9);
	return true;
}

static bool pids_parse(char *text, struct settings *settings)
{
	char *save = NULL;

	for (char *part = strtok_r(text, ", ", &save); part != NULL;
		part = strtok_r(NULL, ", ", &save)) {
		uint64_t pid;

		if (settings->pid_count == PIDS_MAX || !number_parse(part, 1, INT32_MAX, &pid)) {
			return false;
		}
		settings->pids[settings->pid_count++] = (pid_t)pid;
	}
	return true;
}

static bool rw_parse(const char *text, enum rw *ret_rw)
{
	if (strcmp(text, "read") == 0) {
		*ret_rw = RW_READ;
	} else if (strcmp(text, "write") == 0) {
		*ret_rw = RW_WRITE;
	} else if (strcmp(text, "mixed") == 0) {
		*ret_rw = RW_MIXED;
	} else {
		return false;
	}
	return true;
}

static bool digests_parse(const char *text, struct settings *settings)
{
	settings->header_digest = strcmp(text, "header") == 0 || strcmp(text, "both") == 0;
	settings->data_digest = strcmp(text, "data") == 0 || strcmp(text, "both") == 0;
	return settings->header_digest || settings->data_digest || strcmp(text, "none") == 0;
}

static bool option_take(struct settings *settings, enum option_id option, char *text)
{
	uint64_t number = 0;
	struct err err;
	bool ok = true;

	switch (option) {
	case OPTION_ADDRESS:
		(void)snprintf(settings->address.host, sizeof(settings->address.host), "%s", text);
		break;
	case OPTION_PORT:
		ok = number_parse(text, 1, UINT16_MAX, &number);
		settings->address.port = (uint16_t)number;
		break;
	case OPTION_NQN:
		settings->nqn = text;
		break;
	case OPTION_HOSTNQN:
		settings->hostnqn = text;
		break;
	case OPTION_NSID:
		ok = number_parse(text, 1, UINT32_MAX - 1, &number);
		settings->nsid = (uint32_t)number;
		break;
	case OPTION_RW:
		ok = rw_parse(text, &settings->rw);
		break;
	case OPTION_DEPTH:
		ok = number_parse(text, 1, DEPTH_MAX, &number);
		settings->depth = (unsigned)number;
		break;
	case OPTION_SIZE:
		ok = size_parse(text, &settings->size_bytes, &err) == 0 &&
		     settings->size_bytes > 0 && settings->size_bytes <= 16 * MIB;
		break;
	case OPTION_SECONDS:
		ok = seconds_parse(text, &settings->duration_ns);
		break;
	case OPTION_WARMUP:
		ok = seconds_parse(text, &settings->warmup_ns);
		break;
	case OPTION_REGION:
		ok = size_parse(text, &settings->region_bytes, &err) == 0;
		break;
	case OPTION_SEQUENTIAL:
		settings->sequential = true;
		break;
	case OPTION_QUEUES:
		ok = number_parse(text, 1, 64, &number);
		settings->queues = (unsigned)number;
		break;
	case OPTION_DIGESTS:
		ok = digests_parse(text, settings);
		break;
	case OPTION_POLL_US:
		ok = number_parse(text, 0, 1000000, &number);
		settings->poll_ns = number * 1000;
		break;
	case OPTION_PIDS:
		ok = pids_parse(text, settings);
		break;
	}
	return ok;
}

static bool settings_parse(struct settings *settings, int argc, char **argv)
{
	int option;

	*settings = (struct settings){
		.hostnqn = "nqn.2025-01.io.strake:host:nvme-perf",
		.depth = 32,
		.queues = 1,
		.size_bytes = 4096,
		.warmup_ns = IO_NS_PER_S,
		.duration_ns = 10 * IO_NS_PER_S,
		.nsid = 1,
	};
	while ((option = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
		if (option < OPTION_ADDRESS) {
			return false;
		}
		if (!option_take(settings, (enum option_id)option, optarg)) {
			fprintf(stderr, "nvme-perf: --%s: %s is not valid\n",
				long_options[option - OPTION_ADDRESS].name, optarg);
			return false;
		}
	}
	return optind == argc && settings->nqn != NULL && settings->address.host[0] != '\0' &&
	       settings->address.port != 0;
}

static int perf_run(struct perf *perf)
{
	const struct real_options options = {
		.backends = {&uring_backend, &epoll_backend}, .poll_ns = perf->settings.poll_ns};
	struct err err;
	uint64_t seed;

	if (real_new(&options, &perf->real, &err) != 0) {
		fprintf(stderr, "nvme-perf: %s\n", err.text);
		return 1;
	}
	perf->io = real_io(perf->real);
	if (getrandom(&seed, sizeof(seed), 0) != (ssize_t)sizeof(seed)) {
		seed = 1;
	}
	rng_init(&perf->rng, seed);
	task_init(&perf->task, &perf->io->runq, perf_step);
	io_timer_init(&perf->timer, perf->io, &perf->task);
	perf->slots = io_zalloc(perf->io, perf->settings.depth * sizeof(*perf->slots));
	if (perf->slots == NULL || associate(perf) != 0) {
		fprintf(stderr, "nvme-perf: out of memory\n");
		return 1;
	}
	real_run(perf->real);
	for (unsigned i = 0; i < perf->settings.depth; i++) {
		if (perf->slots[i].buffer != NULL) {
			io_free(perf->io, perf->slots[i].buffer);
		}
	}
	io_free(perf->io, perf->slots);
	real_free(perf->real);
	return perf->exit_code;
}

int main(int argc, char **argv)
{
	struct perf *perf = calloc(1, sizeof(*perf));
	int code;

	if (perf == NULL) {
		return 1;
	}
	if (!settings_parse(&perf->settings, argc, argv)) {
		fputs(usage_text, stderr);
		free(perf);
		return 2;
	}
	code = perf_run(perf);
	if (code == 0 && perf->errors > 0) {
		code = 1;
	}
	if (perf->latency.count > 0 || perf->errors > 0) {
		print_result(perf);
	}
	free(perf);
	return code;
}
