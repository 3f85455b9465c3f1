/* SPDX-License-Identifier: Apache-2.0 */
/* A simulated process: its turns, memory, log and the ops of its struct io. */
#include "simio/internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Steps of tasks in one turn; more means that tasks wake each other for ever. */
#define TURN_STEPS_MAX 200000u

/* Before each piece of memory; the aligned start of the allocation is `base`. */
struct memory {
	struct list_node node;
	size_t size;
	void *base;
};

static struct sim_process *process_of(struct io *io)
{
	return io->ctx;
}

/* ---- memory ---- */

static void *process_zalloc(struct io *io, size_t alignment, size_t size)
{
	struct sim_process *process = process_of(io);
	size_t offset = round_up_u64(sizeof(struct memory), alignment);
	struct memory *memory;
	void *base;

	assert(alignment >= 16 && is_power_of_two(alignment));
	if (process->fail_allocation > 0 && --process->fail_allocation == 0) {
		sim_trace(process->sim, "%s: allocation of %zu bytes fails", process->name, size);
		return NULL;
	}
	if (posix_memalign(&base, alignment, offset + size) != 0) {
		abort();
	}
	memset(base, 0, offset + size);
	memory = (struct memory *)(void *)((char *)base + offset - sizeof(struct memory));
	memory->size = size;
	memory->base = base;
	list_push_back(&process->memory, &memory->node);
	process->memory_bytes += size;
	process->allocations++;
	return memory + 1;
}

static void process_free(struct io *io, void *pointer)
{
	struct sim_process *process = process_of(io);
	struct memory *memory;

	if (pointer == NULL) {
		return;
	}
	memory = (struct memory *)pointer - 1;
	list_remove(&memory->node);
	process->memory_bytes -= memory->size;
	process->allocations--;
	free(memory->base);
}

static void free_all_memory(struct sim_process *process)
{
	list_for_each_safe (&process->memory, node, following) {
		free(container_of(node, struct memory, node)->base);
	}
	list_init(&process->memory);
}

/* ---- turns ---- */

static uint64_t to_world_ns(const struct sim_process *process, uint64_t local_ns)
{
	uint64_t offset_ns = process->host->clock_offset_ns;

	return local_ns == UINT64_MAX ? UINT64_MAX : local_ns - min_u64(local_ns, offset_ns);
}

static uint64_t process_now_ns(struct io *io)
{
	struct sim_process *process = process_of(io);

	return process->sim->now_ns + process->host->clock_offset_ns;
}

static void deliver_completions(struct sim_process *process)
{
	size_t count = 0;

	list_for_each (&process->completions, node) {
		count++;
	}
	if (count == 0) {
		return;
	}
	/* Sometimes only a part of what is there is seen in this turn. */
	if (rng_percent(&process->sim->rng, 30)) {
		count = 1 + rng_below(&process->sim->rng, count);
	}
	while (count-- > 0 && !list_is_empty(&process->completions)) {
		struct list_node *node = list_pop_front(&process->completions);
		struct sim_completion *completion = container_of(node, struct sim_completion, node);

		completion->run(completion);
	}
}

static void turn(struct sim_event *event)
{
	struct sim_process *process = container_of(event, struct sim_process, turn);
	struct list messages;

	if (process->frozen_until_ns > process->sim->now_ns) {
		return; /* armed again at the next step */
	}
	io_timers_expire(&process->io.timers, process_now_ns(&process->io));
	list_init(&messages);
	list_splice_back(&messages, &process->messages);
	while (!list_is_empty(&messages)) {
		struct io_msg *msg = container_of(list_pop_front(&messages), struct io_msg, node);

		msg->run(msg);
	}
	deliver_completions(process);
	if (runq_run(&process->io.runq, TURN_STEPS_MAX)) {
		fprintf(stderr, "simio: %s: tasks wake each other for ever\n", process->name);
		abort();
	}
}

void sim_process_arm(struct sim_process *process)
{
	struct sim *sim = process->sim;
	uint64_t at_ns;

	if (!runq_is_empty(&process->io.runq) || !list_is_empty(&process->completions) ||
		!list_is_empty(&process->messages)) {
		/* Once drawn, the delay stays. */
		if (process->turn.index != 0 &&
			process->turn.at_ns <= sim->now_ns + sim->options.turn_delay_max_ns) {
			return;
		}
		at_ns = sim->now_ns + sim_random_ns(sim, 100, sim->options.turn_delay_max_ns);
	} else {
		at_ns = to_world_ns(process, io_timers_next_ns(&process->io.timers));
		if (at_ns == UINT64_MAX) {
			sim_cancel(sim, &process->turn);
			return;
		}
		/* A timer that is always in the past still lets time go on. */
		if (at_ns <= sim->now_ns + 100 && process->turn.index != 0 &&
			process->turn.at_ns <= sim->now_ns + 100) {
			return;
		}
		at_ns = max_u64(at_ns, sim->now_ns + 100);
	}
	at_ns = max_u64(at_ns, process->frozen_until_ns);
	if (process->turn.index == 0 || process->turn.at_ns > at_ns ||
		(process->turn.at_ns < at_ns && runq_is_empty(&process->io.runq))) {
		sim_at_ns(sim, &process->turn, at_ns, turn);
	}
}

void sim_complete(struct sim_process *process, struct sim_completion *completion)
{
	list_push_back(&process->completions, &completion->node);
}

static void process_post(struct io *io, struct io_msg *msg)
{
	list_push_back(&process_of(io)->messages, &msg->node);
}

/* ---- descriptors: not here ---- */

struct fd_refusal {
	struct sim_completion completion;
	struct io_fd_op *op;
};

static void fd_refuse(struct sim_completion *completion)
{
	struct fd_refusal *refusal = container_of(completion, struct fd_refusal, completion);
	struct io_fd_op *op = refusal->op;

	free(refusal);
	op->result = -ENOSYS;
	op->done(op);
}

static void process_fd_submit(struct io *io, struct io_fd_op *op)
{
	struct fd_refusal *refusal = sim_alloc(sizeof(*refusal));

	refusal->completion.run = fd_refuse;
	refusal->op = op;
	sim_complete(process_of(io), &refusal->completion);
}

static void process_fd_forget(struct io *io, int fd)
{
	(void)io;
	(void)fd;
}

static void process_fd_cancel(struct io *io, struct io_fd_op *op)
{
	(void)io;
	(void)op;
}

/* A simulated process leaves no core. */
static void process_dump(struct io *io, void *memory, size_t size, bool may)
{
	(void)io;
	(void)memory;
	(void)size;
	(void)may;
}

/* ---- life ---- */

static const struct io_ops process_ops = {
	.now_ns = process_now_ns,
	.post = process_post,
	.listen = sim_net_listen,
	.unlisten = sim_net_unlisten,
	.connect = sim_net_connect,
	.fd_submit = process_fd_submit,
	.fd_cancel = process_fd_cancel,
	.fd_forget = process_fd_forget,
	.zalloc = process_zalloc,
	.free = process_free,
	.dump = process_dump,
};

static void process_log(
	void *ctx, enum log_level level, const char *module, const char *event, const char *pairs)
{
	struct sim_process *process = ctx;

	sim_trace(process->sim, "%s %s %s %s%s", process->name, log_level_name(level), module,
		event, pairs);
}

struct sim_process *sim_process_new(struct sim_host *host, const char *name)
{
	struct sim_process *process = sim_alloc(sizeof(*process));
	struct sim *sim = host->sim;

	assert(host->up);
	process->sim = sim;
	process->host = host;
	(void)snprintf(process->name, sizeof(process->name), "%s", name);
	metric_registry_init(&process->metrics);
	io_init(&process->io, &process_ops, process, rng_u64(&sim->rng), &process->metrics);
	process->io.log = (struct log){.sink = process_log, .ctx = process, .level_min = LOG_INFO};
	list_init(&process->completions);
	list_init(&process->messages);
	list_init(&process->memory);
	list_init(&process->connects);
	list_init(&process->ends);
	list_init(&process->handles);
	list_push_back(&sim->processes, &process->node);
	sim_trace(sim, "start %s on %s", process->name, host->address);
	return process;
}

struct io *sim_process_io(struct sim_process *process)
{
	return &process->io;
}

struct sim_host *sim_process_host(const struct sim_process *process)
{
	return process->host;
}

static void process_gone(struct sim_process *process)
{
	sim_cancel(process->sim, &process->turn);
	list_remove(&process->node);
	metric_registry_done(&process->metrics);
	free(process);
}

void sim_process_crash(struct sim_process *process)
{
	sim_trace(process->sim, "crash of %s", process->name);
	list_for_each_safe (&process->completions, node, following) {
		struct sim_completion *completion = container_of(node, struct sim_completion, node);

		list_remove(node);
		if (completion->run == fd_refuse) {
			free(container_of(completion, struct fd_refusal, completion));
		}
	}
	sim_disk_crash_handles(process);
	sim_net_crash(process, !process->host->up);
	free_all_memory(process);
	list_init(&process->metrics.metrics); /* they were in the memory that went */
	process_gone(process);
}

void sim_process_exit(struct sim_process *process)
{
	sim_trace(process->sim, "exit of %s", process->name);
	assert(list_is_empty(&process->completions));
	assert(list_is_empty(&process->messages));
	assert(runq_is_empty(&process->io.runq));
	assert(process->io.timers.root == NULL);
	assert(list_is_empty(&process->connects));
	assert(list_is_empty(&process->ends));
	assert(list_is_empty(&process->handles));
	list_for_each (&process->host->listeners, node) {
		assert(!sim_net_listener_is_of(node, process));
	}
	if (process->allocations != 0) {
		fprintf(stderr, "simio: %s leaves %u allocations, %zu bytes\n", process->name,
			process->allocations, process->memory_bytes);
		abort();
	}
	assert(list_is_empty(&process->metrics.metrics));
	process_gone(process);
}

void sim_process_freeze(struct sim_process *process, uint64_t duration_ns)
{
	sim_trace(process->sim, "freeze %s for %lu ms", process->name,
		(unsigned long)(duration_ns / IO_NS_PER_MS));
	process->frozen_until_ns = process->sim->now_ns + duration_ns;
	sim_cancel(process->sim, &process->turn);
}

void sim_process_fail_allocation(struct sim_process *process, uint64_t nth)
{
	process->fail_allocation = nth;
}

size_t sim_process_memory_bytes(const struct sim_process *process)
{
	return process->memory_bytes;
}

unsigned sim_process_allocations(const struct sim_process *process)
{
	return process->allocations;
}

void sim_process_set_log_level(struct sim_process *process, enum log_level level)
{
	process->io.log.level_min = level;
}
