/* SPDX-License-Identifier: Apache-2.0 */
/* Connecting and listening.  A connect whose way is blocked is tried again until its time is over.
 */
#include "simio/net.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static struct sim_host *find_host(struct sim *sim, const char *address)
{
	list_for_each (&sim->hosts, node) {
		struct sim_host *host = container_of(node, struct sim_host, node);

		if (strcmp(host->address, address) == 0) {
			return host;
		}
	}
	return NULL;
}

static struct sim_listener *find_listener(struct sim_host *host, uint16_t port)
{
	list_for_each (&host->listeners, node) {
		struct sim_listener *listener = container_of(node, struct sim_listener, node);

		if (listener->listener->address.port == port) {
			return listener;
		}
	}
	return NULL;
}

static void end_init(struct sim_link *link, unsigned side, struct sim_process *process,
	const struct sim_host *peer, uint16_t peer_port)
{
	struct sim_end *end = &link->ends[side];

	end->link = link;
	end->side = side;
	end->process = process;
	end->host = process->host;
	end->conn.ops = &sim_conn_ops;
	end->conn.io = &process->io;
	memcpy(end->conn.peer.host, peer->address, sizeof(end->conn.peer.host));
	end->conn.peer.port = peer_port;
	memcpy(end->conn.local.host, end->host->address, sizeof(end->conn.local.host));
	end->conn.local.port = side == 0 ? link->sim->next_port : link->port;
	list_init(&end->received);
	list_init(&end->flying);
	list_push_back(&process->ends, &end->node);
}

/* The listener may have gone since the connection was made: then nobody wants it. */
static void end_accepted(struct sim_completion *completion)
{
	struct sim_end *end = container_of(completion, struct sim_end, accept_done);
	struct sim_listener *listener = find_listener(end->host, end->link->port);

	if (listener == NULL || listener->process != end->process) {
		sim_end_abandon(end, false);
		return;
	}
	end->handed_over = true;
	listener->listener->accepted(listener->listener, &end->conn);
}

static void connect_finish(struct sim_completion *completion)
{
	struct sim_connect *pending = container_of(completion, struct sim_connect, completion);
	struct io_connect *connect = pending->connect;

	connect->result = pending->result;
	connect->conn = NULL;
	if (pending->link != NULL) {
		pending->link->ends[0].handed_over = true;
		connect->conn = &pending->link->ends[0].conn;
	}
	list_remove(&pending->node);
	free(pending);
	connect->done(connect);
}

static void connect_done_event(struct sim_event *event)
{
	struct sim_connect *pending = container_of(event, struct sim_connect, event);

	pending->completion.run = connect_finish;
	sim_complete(pending->process, &pending->completion);
}

static void connect_result(struct sim_connect *pending, int result, uint64_t delay_ns)
{
	struct sim *sim = pending->process->sim;

	pending->result = result;
	sim_at_ns(sim, &pending->event, sim->now_ns + delay_ns, connect_done_event);
}

static void connect_arrives(struct sim_connect *pending, struct sim_listener *listener)
{
	struct sim *sim = pending->process->sim;
	struct sim_link *link = sim_alloc(sizeof(*link));
	struct sim_host *from = pending->process->host;
	struct sim_end *server = &link->ends[1];

	link->sim = sim;
	link->port = listener->listener->address.port;
	sim->next_port = sim->next_port == UINT16_MAX ? 40000 : (uint16_t)(sim->next_port + 1);
	list_push_back(&sim->links, &link->node);
	end_init(link, 0, pending->process, listener->process->host, link->port);
	end_init(link, 1, listener->process, from, sim->next_port);
	server->accept_done.run = end_accepted;
	sim_complete(server->process, &server->accept_done);
	pending->link = link;
	connect_result(pending, 0, sim_latency_ns(server->host, from));
}

static void connect_event(struct sim_event *event)
{
	struct sim_connect *pending = container_of(event, struct sim_connect, event);
	struct sim *sim = pending->process->sim;
	struct sim_host *from = pending->process->host;
	struct sim_host *to = find_host(sim, pending->connect->to.host);
	struct sim_listener *listener;

	if (to == NULL || !sim_way_is_open(from, to) || !sim_way_is_open(to, from)) {
		uint64_t again_ns =
			sim->now_ns + sim_random_ns(sim, IO_NS_PER_MS, 500 * IO_NS_PER_MS);

		if (again_ns >= pending->deadline_ns) {
			connect_result(pending, -ETIMEDOUT,
				pending->deadline_ns > sim->now_ns
					? pending->deadline_ns - sim->now_ns
					: 0);
		} else {
			sim_at_ns(sim, &pending->event, again_ns, connect_event);
		}
		return;
	}
	listener = find_listener(to, pending->connect->to.port);
	if (listener == NULL) {
		connect_result(pending, -ECONNREFUSED, sim_latency_ns(to, from));
		return;
	}
	connect_arrives(pending, listener);
}

void sim_net_connect(struct io *io, struct io_connect *connect)
{
	struct sim_process *process = io->ctx;
	struct sim *sim = process->sim;
	struct sim_connect *pending = sim_alloc(sizeof(*pending));

	pending->process = process;
	pending->connect = connect;
	pending->deadline_ns = sim->now_ns + connect->timeout_ns;
	list_push_back(&process->connects, &pending->node);
	sim_at_ns(sim, &pending->event, sim->now_ns + sim_latency_ns(process->host, process->host),
		connect_event);
}

int sim_net_listen(struct io *io, struct io_listener *listener, struct err *err)
{
	struct sim_process *process = io->ctx;
	struct sim_host *host = process->host;
	struct sim_listener *record;

	if (strcmp(listener->address.host, host->address) != 0 &&
		strcmp(listener->address.host, "0.0.0.0") != 0) {
		return err_set(err, -EADDRNOTAVAIL, "%s is no address of host %s",
			listener->address.host, host->address);
	}
	if (listener->address.port == 0) {
		listener->address.port = ++host->sim->next_port;
	}
	if (find_listener(host, listener->address.port) != NULL) {
		return err_set(err, -EADDRINUSE, "port %u of %s is in use", listener->address.port,
			host->address);
	}
	record = sim_alloc(sizeof(*record));
	record->process = process;
	record->listener = listener;
	listener->backend = record;
	list_push_back(&host->listeners, &record->node);
	return 0;
}

static void listener_drop(struct sim_listener *record)
{
	list_remove(&record->node);
	free(record);
}

void sim_net_unlisten(struct io *io, struct io_listener *listener)
{
	(void)io;
	listener_drop(listener->backend);
	listener->backend = NULL;
}

bool sim_net_listener_is_of(const struct list_node *node, const struct sim_process *process)
{
	const struct sim_listener *record =
		container_of((struct list_node *)(uintptr_t)node, struct sim_listener, node);

	return record->process == process;
}

void sim_net_crash_connects(struct sim_process *process)
{
	list_for_each_safe (&process->host->listeners, listener, next_listener) {
		struct sim_listener *record = container_of(listener, struct sim_listener, node);

		if (record->process == process) {
			listener_drop(record);
		}
	}
	list_for_each_safe (&process->connects, node, following) {
		struct sim_connect *pending = container_of(node, struct sim_connect, node);

		sim_cancel(process->sim, &pending->event);
		list_remove(node);
		free(pending);
	}
}
