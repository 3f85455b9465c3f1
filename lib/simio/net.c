/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Connections as reliable byte streams.  A link has two ends; bytes, end of stream and reset that
 * an end sends fly to the other one as segments, in order, each with its own latency.  A segment
 * whose way is blocked stays at the head until the way is free, as retransmission does.  An end
 * without a process (closed or crashed) answers whatever arrives with a reset, once its host is up.
 */
#include "simio/net.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Bytes that the transport takes before the other process reads. */
#define WINDOW_BYTES (256u * 1024)

static void end_wake_recv(struct sim_end *end);
static void end_wake_send(struct sim_end *end);

static struct sim_end *end_peer(struct sim_end *end)
{
	return &end->link->ends[1 - end->side];
}

bool sim_way_is_open(const struct sim_host *from, const struct sim_host *to)
{
	return to->up && (from == to || !from->sim->blocked[from->index][to->index]);
}

uint64_t sim_latency_ns(const struct sim_host *from, const struct sim_host *to)
{
	struct sim *sim = from->sim;
	uint64_t latency = sim_random_ns(
		sim, sim->options.net_latency_min_ns, sim->options.net_latency_max_ns);

	if (from == to) {
		return latency / 8;
	}
	return latency + sim_random_ns(sim, 0, sim->extra_latency_max_ns) +
	       sim_random_ns(sim, 0, sim->slow_ns[from->index][to->index]);
}

static void purge(struct list *segments)
{
	list_for_each_safe (segments, node, following) {
		list_remove(node);
		free(container_of(node, struct segment, node));
	}
}

/* ---- flying ---- */

static void deliver_event(struct sim_event *event);

static void schedule_delivery(struct sim_end *end)
{
	struct list_node *first = list_first(&end->flying);

	if (first != NULL && !end->stalled && end->deliver.index == 0) {
		sim_at_ns(end->link->sim, &end->deliver,
			container_of(first, struct segment, node)->deliver_ns, deliver_event);
	}
}

static struct segment *segment_new(struct sim_end *end, enum segment_kind kind, size_t length)
{
	struct segment *segment = malloc(sizeof(*segment) + length);
	uint64_t deliver_ns =
		end->link->sim->now_ns + sim_latency_ns(end->host, end_peer(end)->host);

	assert(segment != NULL);
	if (end->link->sim->now_ns < end->link->slow_until_ns) {
		deliver_ns += sim_random_ns(end->link->sim, 0, end->link->slow_max_ns);
	}
	*segment = (struct segment){.kind = kind, .length = length};
	end->last_deliver_ns = max_u64(end->last_deliver_ns + 1, deliver_ns);
	segment->deliver_ns = end->last_deliver_ns;
	return segment;
}

static void segment_send(struct sim_end *end, struct segment *segment)
{
	list_push_back(&end->flying, &segment->node);
	end->flying_bytes += segment->length;
	schedule_delivery(end);
}

/* Drops what flies from that byte on. */
static void cut_flying_after(struct sim_end *end, size_t keep)
{
	struct sim *sim = end->link->sim;

	list_for_each_safe (&end->flying, node, following) {
		struct segment *segment = container_of(node, struct segment, node);

		if (segment->kind == SEGMENT_RESET) {
			continue;
		}
		if (keep == 0) {
			list_remove(node);
			free(segment);
			continue;
		}
		segment->length = min_u64(segment->length, keep);
		keep -= segment->length;
	}
	end->flying_bytes = 0;
	list_for_each (&end->flying, node) {
		end->flying_bytes += container_of(node, struct segment, node)->length;
	}
	if (list_is_empty(&end->flying)) {
		sim_cancel(sim, &end->deliver);
		end->stalled = false;
	}
}

/* At a random byte. */
static void cut_flying(struct sim_end *end)
{
	cut_flying_after(end, end->flying_bytes == 0
				      ? 0
				      : rng_below(&end->link->sim->rng, end->flying_bytes + 1));
}

static void link_free(struct sim_link *link)
{
	for (unsigned i = 0; i < 2; i++) {
		struct sim_end *end = &link->ends[i];

		sim_cancel(link->sim, &end->deliver);
		sim_cancel(link->sim, &end->take);
		purge(&end->flying);
		purge(&end->received);
	}
	list_remove(&link->node);
	free(link);
}

/* true when the link was freed. */
static bool link_free_if_gone(struct sim_link *link)
{
	if (link->ends[0].process == NULL && link->ends[1].process == NULL) {
		link_free(link);
		return true;
	}
	return false;
}

static void deliver_to_nobody(struct sim_end *from)
{
	struct sim_end *to = end_peer(from);

	/* Answered with a reset, unless one is on its way already. */
	if (!list_is_empty(&to->flying)) {
		struct list_node *last = to->flying.head.prev;

		if (container_of(last, struct segment, node)->kind != SEGMENT_DATA) {
			return;
		}
	}
	segment_send(to, segment_new(to, SEGMENT_RESET, 0));
}

static void deliver_segment(struct sim_end *to, struct segment *segment)
{
	switch (segment->kind) {
	case SEGMENT_DATA:
		if (to->reset) {
			free(segment);
			deliver_to_nobody(end_peer(to));
			return;
		}
		list_push_back(&to->received, &segment->node);
		to->received_bytes += segment->length;
		end_wake_recv(to);
		return;
	case SEGMENT_END:
		to->ended = true;
		break;
	case SEGMENT_RESET:
		to->reset = true;
		/* Its own kernel forgets what it had not got through. */
		cut_flying(to);
		end_wake_send(to);
		break;
	}
	free(segment);
	end_wake_recv(to);
}

static void link_cut(struct sim_link *link)
{
	link->cutting = false;
	for (unsigned i = 0; i < 2; i++) {
		struct sim_end *end = &link->ends[i];

		cut_flying(end);
		segment_send(end, segment_new(end, SEGMENT_RESET, 0));
	}
	sim_trace(link->sim, "cut a connection of %s and %s", link->ends[0].host->address,
		link->ends[1].host->address);
}

/* true: these were the last bytes. */
static bool cut_segment(struct sim_link *link, struct segment *segment)
{
	segment->length = min_u64(segment->length, link->cut_after_bytes);
	link->cut_after_bytes -= segment->length;
	return link->cut_after_bytes == 0;
}

static void deliver_event(struct sim_event *event)
{
	struct sim_end *from = container_of(event, struct sim_end, deliver);
	struct sim_end *to = end_peer(from);
	struct segment *segment;
	bool cut;

	if (list_is_empty(&from->flying)) {
		return;
	}
	if (!sim_way_is_open(from->host, to->host)) {
		from->stalled = true;
		return;
	}
	segment = container_of(list_pop_front(&from->flying), struct segment, node);
	from->flying_bytes -= segment->length;
	sim_trace_io(from->link->sim, "net %s -> %s kind %u %zu bytes", from->host->address,
		to->host->address, (unsigned)segment->kind, segment->length);
	sim_hash_add(from->link->sim, segment->length);
	cut = from->link->cutting && segment->kind == SEGMENT_DATA &&
	      cut_segment(from->link, segment);
	if (to->process == NULL) {
		bool answer = segment->kind == SEGMENT_DATA;

		free(segment);
		if (answer) {
			deliver_to_nobody(from);
		}
	} else {
		deliver_segment(to, segment);
	}
	schedule_delivery(from);
	if (cut) {
		cut_flying_after(from, 0); /* what follows the last byte must not arrive */
		link_cut(from->link);
	}
}

void sim_net_soothe(struct sim *sim)
{
	list_for_each (&sim->links, node) {
		struct sim_link *link = container_of(node, struct sim_link, node);

		link->cutting = false;
		link->slow_until_ns = 0;
	}
}

void sim_net_resume(struct sim *sim)
{
	list_for_each (&sim->links, node) {
		struct sim_link *link = container_of(node, struct sim_link, node);

		for (unsigned i = 0; i < 2; i++) {
			struct sim_end *end = &link->ends[i];

			if (end->stalled && sim_way_is_open(end->host, end_peer(end)->host)) {
				/* The retransmission timer has backed off, perhaps far: then old
				 * bytes of a connection that its sender gave up long ago still
				 * arrive. */
				uint64_t max_ns =
					(rng_percent(&sim->rng, 60) ? 400 : 6000) * IO_NS_PER_MS;

				end->stalled = false;
				sim_at_ns(sim, &end->deliver,
					sim->now_ns + sim_random_ns(sim, 50000, max_ns),
					deliver_event);
			}
		}
	}
}

/* ---- send ---- */

static void end_send_done(struct sim_completion *completion)
{
	struct sim_end *end = container_of(completion, struct sim_end, send_done);
	struct io_send *send = end->send;

	end->send = NULL;
	send->result = end->send_result;
	send->done(send);
}

static void end_finish_send(struct sim_end *end, int result)
{
	if (end->send == NULL || list_is_linked(&end->send_done.node)) {
		return;
	}
	sim_cancel(end->link->sim, &end->take);
	end->send_result = result;
	end->send_done.run = end_send_done;
	sim_complete(end->process, &end->send_done);
}

static size_t send_left(const struct sim_end *end)
{
	size_t left = 0;

	for (unsigned i = end->send_iov; i < end->send->iov_count; i++) {
		left += end->send->iov[i].iov_len;
	}
	return left - end->send_offset;
}

static void take_bytes(struct sim_end *end, uint8_t *to, size_t length)
{
	while (length > 0) {
		struct iovec *iov = &end->send->iov[end->send_iov];
		size_t piece = min_u64(iov->iov_len - end->send_offset, length);

		if (piece > 0) {
			memcpy(to, (uint8_t *)iov->iov_base + end->send_offset, piece);
		}
		to += piece;
		length -= piece;
		end->send_offset += piece;
		if (end->send_offset == iov->iov_len) {
			end->send_iov++;
			end->send_offset = 0;
		}
	}
}

/* The transport takes a piece; the bytes are read only now, so that a buffer changed too early is
 * noticed by its reader. */
static void take_event(struct sim_event *event)
{
	struct sim_end *end = container_of(event, struct sim_end, take);
	struct sim_end *peer = end_peer(end);
	struct sim *sim = end->link->sim;
	size_t left = send_left(end);
	size_t used = end->flying_bytes + peer->received_bytes;
	size_t piece = min_u64(left, used < WINDOW_BYTES ? WINDOW_BYTES - used : 0);
	struct segment *segment;

	if (end->reset) {
		end_finish_send(end, -ECONNRESET);
		return;
	}
	if (left > 0 && piece == 0) {
		return; /* woken when the peer has read */
	}
	if (piece > 1 && rng_percent(&sim->rng, 20)) {
		piece = 1 + rng_below(&sim->rng, piece);
	}
	if (piece > 0) {
		segment = segment_new(end, SEGMENT_DATA, piece);
		take_bytes(end, segment->data, piece);
		segment_send(end, segment);
	}
	if (piece == left) {
		end_finish_send(end, 0);
	} else {
		sim_at_ns(
			sim, &end->take, sim->now_ns + sim_random_ns(sim, 100, 20000), take_event);
	}
}

static void end_wake_send(struct sim_end *end)
{
	struct sim *sim = end->link->sim;

	if (end->process != NULL && end->send != NULL && end->take.index == 0 &&
		!list_is_linked(&end->send_done.node)) {
		sim_at_ns(sim, &end->take, sim->now_ns + sim_random_ns(sim, 100, 5000), take_event);
	}
}

static void conn_send(struct io_conn *conn, struct io_send *send)
{
	struct sim_end *end = container_of(conn, struct sim_end, conn);

	assert(end->process != NULL && !end->closing);
	assert(end->send == NULL);
	assert(send->iov_count <= IO_IOV_MAX);
	end->send = send;
	end->send_iov = 0;
	end->send_offset = 0;
	end_wake_send(end);
}

/* ---- receive ---- */

static size_t copy_received(struct sim_end *end, uint8_t *to, size_t length)
{
	size_t copied = 0;

	while (copied < length && !list_is_empty(&end->received)) {
		struct segment *segment =
			container_of(list_first(&end->received), struct segment, node);
		size_t piece = min_u64(length - copied, segment->length - segment->offset);

		memcpy(to + copied, segment->data + segment->offset, piece);
		copied += piece;
		segment->offset += piece;
		if (segment->offset == segment->length) {
			list_remove(&segment->node);
			free(segment);
		}
	}
	end->received_bytes -= copied;
	return copied;
}

static ssize_t receive(struct sim_end *end, struct io_recv *recv)
{
	struct sim *sim = end->link->sim;
	size_t limit = end->received_bytes;
	ssize_t total = 0;

	if (end->closing) {
		return -ECANCELED;
	}
	if (limit == 0) {
		return end->reset ? -ECONNRESET : 0;
	}
	if (rng_percent(&sim->rng, 20)) {
		limit = 1 + rng_below(&sim->rng,
				    rng_percent(&sim->rng, 50) ? min_u64(limit, 64) : limit);
	}
	for (unsigned i = 0; i < recv->iov_count && limit > 0; i++) {
		size_t got = copy_received(
			end, recv->iov[i].iov_base, min_u64(recv->iov[i].iov_len, limit));

		total += (ssize_t)got;
		limit -= got;
	}
	assert(total > 0);
	end_wake_send(end_peer(end));
	return total;
}

static void end_recv_done(struct sim_completion *completion)
{
	struct sim_end *end = container_of(completion, struct sim_end, recv_done);
	struct io_recv *recv = end->recv;

	end->recv = NULL;
	recv->result = receive(end, recv);
	sim_hash_add(end->link->sim, (uint64_t)recv->result);
	recv->done(recv);
}

static void end_wake_recv(struct sim_end *end)
{
	if (end->process == NULL || end->recv == NULL || list_is_linked(&end->recv_done.node)) {
		return;
	}
	if (end->received_bytes > 0 || end->ended || end->reset || end->closing) {
		end->recv_done.run = end_recv_done;
		sim_complete(end->process, &end->recv_done);
	}
}

static void conn_recv(struct io_conn *conn, struct io_recv *recv)
{
	struct sim_end *end = container_of(conn, struct sim_end, conn);

	assert(end->process != NULL && !end->closing);
	assert(end->recv == NULL);
	assert(recv->iov_count >= 1 && recv->iov_count <= 2 && recv->iov[0].iov_len > 0);
	end->recv = recv;
	end_wake_recv(end);
}

/* ---- close ---- */

void sim_end_abandon(struct sim_end *end, bool power)
{
	struct sim *sim = end->link->sim;
	bool held = !sim_way_is_open(end->host, end_peer(end)->host);

	list_remove(&end->node);
	end->process = NULL;
	end->send = NULL;
	end->recv = NULL;
	sim_cancel(sim, &end->take);
	purge(&end->received);
	end->received_bytes = 0;
	if (link_free_if_gone(end->link)) {
		return;
	}
	if (power) {
		cut_flying(end);
	} else if (rng_percent(&sim->rng, 50)) {
		segment_send(end, segment_new(end, SEGMENT_END, 0));
	} else {
		cut_flying(end);
		/* A reset that is lost is not repeated; the peer learns it when it sends something.
		 */
		if (!held) {
			segment_send(end, segment_new(end, SEGMENT_RESET, 0));
		}
	}
	end_wake_send(end_peer(end));
}

static void end_close_done(struct sim_completion *completion)
{
	struct sim_end *end = container_of(completion, struct sim_end, close_done);

	assert(end->send == NULL && end->recv == NULL);
	if (end->conn.closed != NULL) {
		end->conn.closed(&end->conn);
	}
	sim_end_abandon(end, false);
}

static void conn_close(struct io_conn *conn)
{
	struct sim_end *end = container_of(conn, struct sim_end, conn);

	assert(end->process != NULL && !end->closing);
	end->closing = true;
	end_finish_send(end, -ECANCELED);
	end_wake_recv(end);
	end->close_done.run = end_close_done;
	sim_complete(end->process, &end->close_done);
}

const struct io_conn_ops sim_conn_ops = {
	.send = conn_send,
	.recv = conn_recv,
	.close = conn_close,
};

/* ---- the world's hand ---- */

void sim_net_crash(struct sim_process *process, bool power)
{
	sim_net_crash_connects(process);
	/* Both ends of a link may be in this process. */
	while (!list_is_empty(&process->ends)) {
		sim_end_abandon(
			container_of(list_first(&process->ends), struct sim_end, node), power);
	}
}

void sim_net_free(struct sim *sim)
{
	list_for_each_safe (&sim->links, node, following) {
		link_free(container_of(node, struct sim_link, node));
	}
}

unsigned sim_connection_count(const struct sim *sim)
{
	unsigned count = 0;

	list_for_each (&sim->links, node) {
		count++;
	}
	return count;
}

static bool link_can_be_cut(const struct sim_link *link)
{
	return link->ends[0].host != link->ends[1].host && link->ends[0].process != NULL &&
	       link->ends[1].process != NULL;
}

static struct sim_link *random_link(struct sim *sim)
{
	uint64_t count = 0;

	list_for_each (&sim->links, node) {
		count += link_can_be_cut(container_of(node, struct sim_link, node));
	}
	if (count == 0) {
		return NULL;
	}
	count = rng_below(&sim->rng, count);
	list_for_each (&sim->links, node) {
		struct sim_link *link = container_of(node, struct sim_link, node);

		if (link_can_be_cut(link) && count-- == 0) {
			return link;
		}
	}
	return NULL;
}

bool sim_cut_random_connection(struct sim *sim)
{
	struct sim_link *link = random_link(sim);

	if (link != NULL) {
		link_cut(link);
	}
	return link != NULL;
}

void sim_cut_connections(struct sim_host *a, struct sim_host *b)
{
	list_for_each (&a->sim->links, node) {
		struct sim_link *link = container_of(node, struct sim_link, node);

		if (link_can_be_cut(link) &&
			((link->ends[0].host == a && link->ends[1].host == b) ||
				(link->ends[0].host == b && link->ends[1].host == a))) {
			link_cut(link);
		}
	}
}

bool sim_cut_random_connection_after(struct sim *sim, uint64_t bytes)
{
	struct sim_link *link = random_link(sim);

	if (link != NULL) {
		link->cutting = true;
		link->cut_after_bytes = bytes;
	}
	return link != NULL;
}

bool sim_slow_random_connection(struct sim *sim, uint64_t latency_max_ns, uint64_t until_ns)
{
	struct sim_link *link = random_link(sim);

	if (link != NULL) {
		link->slow_max_ns = latency_max_ns;
		link->slow_until_ns = until_ns;
	}
	return link != NULL;
}
