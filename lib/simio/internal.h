/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of simio share. */
#ifndef SIMIO_INTERNAL_H
#define SIMIO_INTERNAL_H

#include "base/bytes.h"
#include "simio/simio.h"

struct sim {
	struct sim_options options;
	struct rng rng;
	uint64_t now_ns;
	uint64_t next_seq;
	uint64_t hash;
	uint64_t steps;
	struct sim_event **heap; /* [1..heap_count] */
	size_t heap_count;
	size_t heap_capacity;
	struct list hosts;
	struct list processes;
	struct list links;
	unsigned host_count;
	bool blocked[SIM_HOSTS_MAX][SIM_HOSTS_MAX];
	uint64_t extra_latency_max_ns;
	uint64_t slow_ns[SIM_HOSTS_MAX][SIM_HOSTS_MAX]; /* more latency of one way, at most */
	uint16_t next_port;
};

struct sim_host {
	struct list_node node;
	struct sim *sim;
	char address[IO_HOST_TEXT_SIZE];
	unsigned index;
	bool up;
	uint64_t clock_offset_ns; /* its monotonic clock against the world's; new at every start */
	uint64_t on_ns;           /* since when it is on */
	int64_t clock_ppm;        /* how much too fast it runs */
	struct list disks;
	struct list listeners;
};

/* Something to deliver in a process's turn.  Embedded in what it is about. */
struct sim_completion {
	struct list_node node;
	void (*run)(struct sim_completion *completion);
};

struct sim_process {
	struct list_node node;
	struct sim *sim;
	struct sim_host *host;
	char name[32];
	struct io io;
	struct metric_registry metrics;
	struct list completions;
	struct list messages;
	struct sim_event turn;
	uint64_t frozen_until_ns;
	struct list memory;
	size_t memory_bytes;
	unsigned allocations;
	uint64_t fail_allocation;
	struct list connects; /* struct sim_connect */
	struct list ends;     /* struct sim_end */
	struct list handles;  /* struct sim_disk_handle */
};

/* sim.c: a host's monotonic clock, and when in the world it shows a time (or just after) */
uint64_t sim_host_now_ns(const struct sim_host *host);
uint64_t sim_host_to_world_ns(const struct sim_host *host, uint64_t local_ns);

/* process.c */
void sim_process_arm(struct sim_process *process);
void sim_complete(struct sim_process *process, struct sim_completion *completion);
uint64_t sim_random_ns(struct sim *sim, uint64_t min_ns, uint64_t max_ns);
/* A line only for trace_io; not part of the hash. */
void sim_trace_io(struct sim *sim, const char *format, ...) __attribute__((format(printf, 2, 3)));
void *sim_alloc(size_t size);

/* net.c */
bool sim_net_listener_is_of(const struct list_node *node, const struct sim_process *process);
/* All connects, connections and listeners of a process go; with power: nobody tells the peers. */
void sim_net_crash(struct sim_process *process, bool power);
void sim_net_resume(
	struct sim *sim); /* after healing or power on: looks at stalled directions again */
void sim_net_soothe(struct sim *sim); /* no connection is slow or about to be cut any more */
void sim_net_free(struct sim *sim);
int sim_net_listen(struct io *io, struct io_listener *listener, struct err *err);
void sim_net_unlisten(struct io *io, struct io_listener *listener);
void sim_net_connect(struct io *io, struct io_connect *connect);

/* disk.c */
void sim_disk_crash_handles(struct sim_process *process);
void sim_disk_power_loss(struct sim_disk *disk);
void sim_disk_free_all(struct sim_host *host);
void sim_disk_power_loss_all(struct sim_host *host);

#endif
