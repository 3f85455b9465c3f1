/* SPDX-License-Identifier: Apache-2.0 */
/* The world: events in order of (time, number), hosts, virtual time, the hash. */
#include "simio/internal.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#define FNV_OFFSET UINT64_C(0xcbf29ce484222325)
#define FNV_PRIME  UINT64_C(0x100000001b3)

void *sim_alloc(size_t size)
{
	void *memory = calloc(1, size);

	assert(memory != NULL);
	return memory;
}

static void option_default(uint64_t *option, uint64_t value)
{
	if (*option == 0) {
		*option = value;
	}
}

struct sim *sim_new(uint64_t seed, const struct sim_options *options)
{
	struct sim *sim = sim_alloc(sizeof(*sim));

	if (options != NULL) {
		sim->options = *options;
	}
	option_default(&sim->options.net_latency_min_ns, 20000);
	option_default(&sim->options.net_latency_max_ns, 400000);
	option_default(&sim->options.disk_latency_min_ns, 10000);
	option_default(&sim->options.disk_latency_max_ns, 300000);
	option_default(&sim->options.turn_delay_max_ns, 5000);
	rng_init(&sim->rng, seed);
	sim->hash = FNV_OFFSET;
	sim->next_port = 40000;
	list_init(&sim->hosts);
	list_init(&sim->processes);
	list_init(&sim->links);
	return sim;
}

void sim_free(struct sim *sim)
{
	if (sim == NULL) {
		return;
	}
	list_for_each_safe (&sim->processes, node, following) {
		sim_process_crash(container_of(node, struct sim_process, node));
	}
	sim_net_free(sim);
	list_for_each_safe (&sim->hosts, node, following) {
		struct sim_host *host = container_of(node, struct sim_host, node);

		sim_disk_free_all(host);
		list_remove(&host->node);
		free(host);
	}
	free(sim->heap);
	free(sim);
}

uint64_t sim_now_ns(const struct sim *sim)
{
	return sim->now_ns;
}

struct rng *sim_rng(struct sim *sim)
{
	return &sim->rng;
}

uint64_t sim_hash(const struct sim *sim)
{
	return sim->hash;
}

uint64_t sim_steps(const struct sim *sim)
{
	return sim->steps;
}

uint64_t sim_random_ns(struct sim *sim, uint64_t min_ns, uint64_t max_ns)
{
	return max_ns <= min_ns ? min_ns : min_ns + rng_below(&sim->rng, max_ns - min_ns + 1);
}

void sim_hash_add(struct sim *sim, uint64_t value)
{
	/* A word at a time is enough to notice a difference, and cheap. */
	sim->hash = (sim->hash ^ value) * FNV_PRIME;
	sim->hash ^= sim->hash >> 29;
}

static void trace_print(struct sim *sim, const char *line)
{
	fprintf(sim->options.trace, "%6lu.%06lu %s\n", (unsigned long)(sim->now_ns / IO_NS_PER_MS),
		(unsigned long)(sim->now_ns % IO_NS_PER_MS), line);
}

void sim_trace(struct sim *sim, const char *format, ...)
{
	char line[1200];
	va_list args;

	va_start(args, format);
	(void)vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	for (const char *c = line; *c != '\0'; c++) {
		sim->hash = (sim->hash ^ (uint8_t)*c) * FNV_PRIME;
	}
	if (sim->options.trace != NULL) {
		trace_print(sim, line);
	}
}

void sim_trace_io(struct sim *sim, const char *format, ...)
{
	char line[300];
	va_list args;

	if (sim->options.trace == NULL || !sim->options.trace_io) {
		return;
	}
	va_start(args, format);
	(void)vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	trace_print(sim, line);
}

/* ---- events ---- */

static bool is_before(const struct sim_event *a, const struct sim_event *b)
{
	return a->at_ns < b->at_ns || (a->at_ns == b->at_ns && a->seq < b->seq);
}

static void heap_put(struct sim *sim, size_t index, struct sim_event *event)
{
	sim->heap[index] = event;
	event->index = index;
}

static void heap_up(struct sim *sim, struct sim_event *event)
{
	size_t index = event->index;

	while (index > 1 && is_before(event, sim->heap[index / 2])) {
		heap_put(sim, index, sim->heap[index / 2]);
		index /= 2;
	}
	heap_put(sim, index, event);
}

static void heap_down(struct sim *sim, struct sim_event *event)
{
	size_t index = event->index;

	for (;;) {
		size_t child = index * 2;

		if (child > sim->heap_count) {
			break;
		}
		if (child < sim->heap_count && is_before(sim->heap[child + 1], sim->heap[child])) {
			child++;
		}
		if (!is_before(sim->heap[child], event)) {
			break;
		}
		heap_put(sim, index, sim->heap[child]);
		index = child;
	}
	heap_put(sim, index, event);
}

void sim_cancel(struct sim *sim, struct sim_event *event)
{
	size_t index = event->index;
	struct sim_event *last;

	if (index == 0) {
		return;
	}
	event->index = 0;
	last = sim->heap[sim->heap_count--];
	if (last != event) {
		heap_put(sim, index, last);
		heap_up(sim, last);
		heap_down(sim, last);
	}
}

void sim_at_ns(
	struct sim *sim, struct sim_event *event, uint64_t time_ns, void (*run)(struct sim_event *))
{
	sim_cancel(sim, event);
	if (sim->heap_count + 2 > sim->heap_capacity) {
		sim->heap_capacity = sim->heap_capacity == 0 ? 256 : sim->heap_capacity * 2;
		sim->heap = realloc(sim->heap, sim->heap_capacity * sizeof(struct sim_event *));
		assert(sim->heap != NULL);
	}
	event->at_ns = max_u64(time_ns, sim->now_ns);
	event->seq = sim->next_seq++;
	event->run = run;
	heap_put(sim, ++sim->heap_count, event);
	heap_up(sim, event);
}

/* Puts the turns of processes where their timers and tasks want them: code may have been called
 * since. */
static void arm_processes(struct sim *sim)
{
	list_for_each (&sim->processes, node) {
		sim_process_arm(container_of(node, struct sim_process, node));
	}
}

static bool step_within(struct sim *sim, uint64_t limit_ns)
{
	struct sim_event *event;

	arm_processes(sim);
	if (sim->heap_count == 0 || sim->heap[1]->at_ns > limit_ns) {
		return false;
	}
	event = sim->heap[1];
	sim_cancel(sim, event);
	sim->now_ns = event->at_ns;
	sim->steps++;
	sim_hash_add(sim, event->at_ns);
	event->run(event);
	if (sim->options.after_step != NULL) {
		sim->options.after_step(sim->options.ctx);
	}
	return true;
}

bool sim_step(struct sim *sim)
{
	return step_within(sim, UINT64_MAX);
}

void sim_run_until_ns(struct sim *sim, uint64_t time_ns)
{
	while (step_within(sim, time_ns)) {
	}
	sim->now_ns = max_u64(sim->now_ns, time_ns);
}

void sim_run_for_ns(struct sim *sim, uint64_t duration_ns)
{
	sim_run_until_ns(sim, sim->now_ns + duration_ns);
}

bool sim_run_until(struct sim *sim, bool (*is_done)(void *ctx), void *ctx, uint64_t timeout_ns)
{
	uint64_t limit_ns = sim->now_ns + timeout_ns;

	while (!is_done(ctx)) {
		if (!step_within(sim, limit_ns)) {
			sim->now_ns = max_u64(sim->now_ns, limit_ns);
			return false;
		}
	}
	return true;
}

static bool flag_is_set(void *ctx)
{
	const bool *const *flag = ctx;

	return **flag;
}

bool sim_run_until_flag(struct sim *sim, const bool *flag, uint64_t timeout_ns)
{
	return sim_run_until(sim, flag_is_set, &flag, timeout_ns);
}

bool sim_run_until_idle(struct sim *sim, uint64_t steps_max)
{
	for (uint64_t i = 0; i < steps_max; i++) {
		if (!sim_step(sim)) {
			return true;
		}
	}
	arm_processes(sim);
	return sim->heap_count == 0;
}

/* ---- hosts ---- */

struct sim_host *sim_host_new(struct sim *sim, const char *address)
{
	struct sim_host *host = sim_alloc(sizeof(*host));

	assert(sim->host_count < SIM_HOSTS_MAX);
	host->sim = sim;
	host->index = sim->host_count++;
	(void)snprintf(host->address, sizeof(host->address), "%s", address);
	list_init(&host->disks);
	list_init(&host->listeners);
	sim_host_power_on(host);
	list_push_back(&sim->hosts, &host->node);
	return host;
}

const char *sim_host_address(const struct sim_host *host)
{
	return host->address;
}

bool sim_host_is_up(const struct sim_host *host)
{
	return host->up;
}

void sim_host_power_loss(struct sim_host *host)
{
	struct sim *sim = host->sim;

	sim_trace(sim, "power loss of %s", host->address);
	host->up = false;
	list_for_each_safe (&sim->processes, node, following) {
		struct sim_process *process = container_of(node, struct sim_process, node);

		if (process->host == host) {
			sim_process_crash(process);
		}
	}
	sim_disk_power_loss_all(host);
}

void sim_host_power_on(struct sim_host *host)
{
	assert(!host->up);
	host->up = true;
	/* Clocks of different machines have nothing to do with each other. */
	host->clock_offset_ns = sim_random_ns(host->sim, IO_NS_PER_S, 1000000 * IO_NS_PER_S);
	host->on_ns = host->sim->now_ns;
	sim_net_resume(host->sim);
}

static uint64_t clock_gain_ns(const struct sim_host *host)
{
	int64_t elapsed_ns = (int64_t)(host->sim->now_ns - host->on_ns);

	return (uint64_t)(elapsed_ns / 1000000 * host->clock_ppm +
			  elapsed_ns % 1000000 * host->clock_ppm / 1000000);
}

uint64_t sim_host_now_ns(const struct sim_host *host)
{
	return host->sim->now_ns + host->clock_offset_ns + clock_gain_ns(host);
}

uint64_t sim_host_to_world_ns(const struct sim_host *host, uint64_t local_ns)
{
	uint64_t from_ns = host->clock_offset_ns + host->on_ns;
	uint64_t rate = (uint64_t)(1000000 + host->clock_ppm);
	uint64_t local_elapsed_ns = local_ns - min_u64(local_ns, from_ns);

	if (local_ns == UINT64_MAX) {
		return UINT64_MAX;
	}
	if (host->clock_ppm == 0) {
		return local_ns - min_u64(local_ns, host->clock_offset_ns);
	}
	return host->on_ns + local_elapsed_ns / rate * 1000000 +
	       local_elapsed_ns % rate * 1000000 / rate + 1;
}

void sim_host_set_clock_rate(struct sim_host *host, int64_t ppm)
{
	host->clock_offset_ns += clock_gain_ns(host);
	host->on_ns = host->sim->now_ns;
	host->clock_ppm = ppm;
}

void sim_set_slow_link(struct sim_host *from, struct sim_host *to, uint64_t latency_max_ns)
{
	from->sim->slow_ns[from->index][to->index] = latency_max_ns;
}

void sim_partition(struct sim_host *from, struct sim_host *to, bool blocked)
{
	struct sim *sim = from->sim;

	if (sim->blocked[from->index][to->index] == blocked) {
		return;
	}
	sim_trace(sim, "%s %s -> %s", blocked ? "partition" : "heal", from->address, to->address);
	sim->blocked[from->index][to->index] = blocked;
	if (!blocked) {
		sim_net_resume(sim);
	}
}

bool sim_is_partitioned(const struct sim_host *from, const struct sim_host *to)
{
	return from->sim->blocked[from->index][to->index];
}

void sim_heal_all(struct sim *sim)
{
	memset(sim->blocked, 0, sizeof(sim->blocked));
	memset(sim->slow_ns, 0, sizeof(sim->slow_ns));
	sim_net_soothe(sim);
	sim_net_resume(sim);
}

void sim_set_extra_latency(struct sim *sim, uint64_t latency_max_ns)
{
	sim->extra_latency_max_ns = latency_max_ns;
}
