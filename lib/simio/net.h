/* SPDX-License-Identifier: Apache-2.0 */
/* Links between processes, as net.c and net_connect.c share them. */
#ifndef SIMIO_NET_H
#define SIMIO_NET_H

#include "simio/internal.h"

enum segment_kind { SEGMENT_DATA, SEGMENT_END, SEGMENT_RESET };

struct segment {
	struct list_node node;
	enum segment_kind kind;
	uint64_t deliver_ns;
	size_t offset; /* already read */
	size_t length;
	uint8_t data[];
};

struct sim_link;

struct sim_end {
	struct io_conn conn;
	struct list_node node; /* process->ends */
	struct sim_link *link;
	unsigned side;
	struct sim_process *process; /* NULL: closed or crashed */
	struct sim_host *host;
	bool handed_over; /* the process knows the connection */
	bool closing;

	struct io_send *send;
	unsigned send_iov;
	size_t send_offset;
	int send_result;
	struct sim_event take;
	struct sim_completion send_done;

	struct io_recv *recv;
	struct sim_completion recv_done;
	struct list received;
	size_t received_bytes;
	bool ended; /* end of stream arrived */
	bool reset;

	struct sim_completion accept_done;
	struct sim_completion close_done;

	/* What this end sends. */
	struct list flying;
	size_t flying_bytes;
	uint64_t last_deliver_ns;
	struct sim_event deliver;
	bool stalled;
};

struct sim_link {
	struct list_node node;
	struct sim *sim;
	uint16_t port;
	bool cutting; /* goes when so many more bytes have arrived */
	uint64_t cut_after_bytes;
	uint64_t slow_until_ns, slow_max_ns;
	struct sim_end ends[2]; /* 0: who connected */
};

struct sim_listener {
	struct list_node node; /* host->listeners */
	struct sim_process *process;
	struct io_listener *listener;
};

struct sim_connect {
	struct list_node node; /* process->connects */
	struct sim_process *process;
	struct io_connect *connect;
	struct sim_event event;
	struct sim_completion completion;
	uint64_t deadline_ns;
	struct sim_link *link;
	int result;
};

extern const struct io_conn_ops sim_conn_ops;

bool sim_way_is_open(const struct sim_host *from, const struct sim_host *to);
uint64_t sim_latency_ns(const struct sim_host *from, const struct sim_host *to);
/* The process's side of the end is over: what was taken may still arrive, or not, and the peer may
 * hear of it, or not yet.  With power lost only what was on the wire arrives.  Frees the link when
 * both are gone. */
void sim_end_abandon(struct sim_end *end, bool power);
/* The pending connects and the listeners of a process go. */
void sim_net_crash_connects(struct sim_process *process);

#endif
