/* SPDX-License-Identifier: Apache-2.0 */
#include "nexus/peer.h"

#include "base/bytes.h"

#include <errno.h>
#include <stdio.h>

static task_step peer_step;

void peers_init(struct peers *peers, struct io *io, const struct uuid *host, unsigned queue_depth)
{
	char text[UUID_TEXT_SIZE];

	peers->io = io;
	list_init(&peers->list);
	peers->queue_depth = queue_depth;
	snprintf(peers->hostnqn, sizeof(peers->hostnqn), "nqn.2025-01.io.strake:host:%s",
		uuid_to_text(host, text));
	memcpy(peers->hostid, host->b, sizeof(peers->hostid));
}

static struct peer *peer_find(
	struct peers *peers, const struct uuid *agent, const struct io_address *address)
{
	list_for_each (&peers->list, pos) {
		struct peer *peer = container_of(pos, struct peer, node);

		if (!peer->stopping && uuid_equal(&peer->agent, agent) &&
			strcmp(peer->address.host, address->host) == 0 &&
			peer->address.port == address->port) {
			return peer;
		}
	}
	return NULL;
}

static struct peer *peer_new(
	struct peers *peers, const struct uuid *agent, const struct io_address *address)
{
	struct peer *peer = io_zalloc(peers->io, sizeof(*peer));

	if (peer == NULL) {
		return NULL;
	}
	peer->heartbeat_data = io_zalloc(peers->io, WIRE_HEARTBEAT_SIZE);
	if (peer->heartbeat_data == NULL) {
		io_free(peers->io, peer);
		return NULL;
	}
	peer->peers = peers;
	peer->agent = *agent;
	peer->address = *address;
	peer->retry_ns = PEER_RETRY_MIN_NS;
	snprintf(peer->reason, sizeof(peer->reason), "connecting");
	list_init(&peer->watchers);
	task_init(&peer->task, &peers->io->runq, peer_step);
	io_timer_init(&peer->timer, peers->io, &peer->task);
	list_push_back(&peers->list, &peer->node);
	task_wake(&peer->task);
	return peer;
}

struct peer *peer_get(struct peers *peers, const struct uuid *agent,
	const struct io_address *address, struct peer_watch *watch)
{
	struct peer *peer = peer_find(peers, agent, address);

	if (peer == NULL) {
		peer = peer_new(peers, agent, address);
	}
	if (peer != NULL) {
		peer->users++;
		list_push_back(&peer->watchers, &watch->node);
	}
	return peer;
}

void peers_set_address(
	struct peers *peers, const struct uuid *agent, const struct io_address *address)
{
	list_for_each (&peers->list, pos) {
		struct peer *peer = container_of(pos, struct peer, node);

		if (uuid_equal(&peer->agent, agent)) {
			peer->address = *address;
		}
	}
}

void peer_put(struct peer *peer, struct peer_watch *watch)
{
	list_remove(&watch->node);
	assert(peer->users > 0);
	if (--peer->users == 0) {
		peer->stopping = true;
		task_wake(&peer->task);
	}
}

void peer_reset(struct peer *peer, const char *reason)
{
	if (!peer->up || peer->failed) {
		return;
	}
	peer->failed = true;
	peer->was_reset = true;
	snprintf(peer->reason, sizeof(peer->reason), "%s", reason);
	log_warning(&peer->peers->io->log, "nexus", "association-reset",
		"address=%s port=%u reason=%s", peer->address.host, peer->address.port, reason);
	task_wake(&peer->task);
}

static void peer_assoc_ready(struct nvmeh *assoc)
{
	struct peer *peer = nvmeh_ctx(assoc);

	peer->ready = true;
	task_wake(&peer->task);
}

static void peer_assoc_failed(struct nvmeh *assoc, int code, const char *reason)
{
	struct peer *peer = nvmeh_ctx(assoc);

	peer->failed = true;
	snprintf(peer->reason, sizeof(peer->reason), "%s (%s)", reason, err_name(code));
	task_wake(&peer->task);
}

static void peer_assoc_closed(struct nvmeh *assoc)
{
	struct peer *peer = nvmeh_ctx(assoc);

	peer->closed = true;
	peer->assoc = NULL;
	task_wake(&peer->task);
}

static int peer_connect(struct peer *peer)
{
	struct nvmeh_options options = {
		.address = peer->address,
		.io_queues = 1,
		.queue_depth = peer->peers->queue_depth,
		.kato_ms = PEER_KATO_MS,
		.connect_timeout_ns = PEER_DEAD_NS,
		.ready = peer_assoc_ready,
		.failed = peer_assoc_failed,
		.closed = peer_assoc_closed,
		.ctx = peer,
	};
	char text[UUID_TEXT_SIZE];

	snprintf(options.subnqn, sizeof(options.subnqn), "nqn.2025-01.io.strake:pool-agent:%s",
		uuid_to_text(&peer->agent, text));
	memcpy(options.hostnqn, peer->peers->hostnqn, sizeof(options.hostnqn));
	memcpy(options.hostid, peer->peers->hostid, sizeof(options.hostid));
	peer->ready = false;
	peer->failed = peer->was_reset = false;
	peer->closed = false;
	return nvmeh_new(peer->peers->io, &options, &peer->assoc);
}

static void peer_tell_up(struct peer *peer)
{
	peer->up = true;
	peer->leaving = false;
	/* It is back: from now on it has as long as everybody. */
	peer->awaited_until_ns =
		min_u64(peer->awaited_until_ns, io_now_ns(peer->peers->io) + PEER_DEAD_NS);
	peer->generation++;
	peer->retry_ns = PEER_RETRY_MIN_NS;
	peer->confirmed = 0;
	peer->copies_max = 1; /* another disk may be behind it */
	peer->reason[0] = '\0';
	list_for_each_safe (&peer->watchers, pos, following) {
		struct peer_watch *watch = container_of(pos, struct peer_watch, node);

		watch->up(watch);
	}
}

static void peer_tell_down(struct peer *peer)
{
	peer->up = false;
	list_for_each_safe (&peer->watchers, pos, following) {
		struct peer_watch *watch = container_of(pos, struct peer_watch, node);

		watch->down(watch);
	}
}

static void peer_heartbeat_done(struct nvmeh_cmd *cmd)
{
	struct peer *peer = cmd->ctx;

	peer->heartbeat_busy = false;
	task_wake(&peer->task);
}

static void peer_heartbeat_send(struct peer *peer)
{
	struct nvmeh_cmd *cmd = &peer->heartbeat;

	memset(cmd, 0, sizeof(*cmd));
	cmd->sqe.opcode = WIRE_HEARTBEAT;
	cmd->sqe.cdw10 = peer->confirmed;
	cmd->admin = true;
	peer->heartbeat_iov.iov_base = peer->heartbeat_data;
	peer->heartbeat_iov.iov_len = WIRE_HEARTBEAT_SIZE;
	cmd->iov = &peer->heartbeat_iov;
	cmd->iov_count = 1;
	cmd->length = WIRE_HEARTBEAT_SIZE;
	cmd->done = peer_heartbeat_done;
	cmd->ctx = peer;
	peer->heartbeat_busy = true;
	peer->heartbeat_sent_ns = io_now_ns(peer->peers->io);
	nvmeh_submit(peer->assoc, cmd);
	io_timer_start(&peer->timer, peer->heartbeat_sent_ns + PEER_DEAD_NS);
}

static bool heartbeat_lists(const struct wire_heartbeat *heartbeat, uint32_t nsid)
{
	for (unsigned i = 0; i < heartbeat->lost_count; i++) {
		if (heartbeat->lost[i] == nsid) {
			return true;
		}
	}
	return heartbeat->all;
}

/* It says so in each answer from then on: the first one counts. */
static void peer_note_leaving(struct peer *peer)
{
	struct io *io = peer->peers->io;
	uint64_t wait_ns = peer->answer.restart_wait_ms * IO_NS_PER_MS;

	if (!peer->answer.stopping || peer->leaving) {
		return;
	}
	peer->leaving = true;
	peer->awaited_until_ns =
		wait_ns != 0 ? io_now_ns(io) + min_u64(wait_ns, PEER_RESTART_NS) : 0;
	log_info(&io->log, "nexus", "pool-agent-stops", "address=%s port=%u wait_ms=%u",
		peer->address.host, peer->address.port, peer->answer.restart_wait_ms);
}

/* false: the answer is not one; the association is dropped. */
static bool peer_heartbeat_handle(struct peer *peer)
{
	if (peer->heartbeat.result != 0 || peer->heartbeat.status != 0 ||
		wire_heartbeat_decode(peer->heartbeat_data, &peer->answer) != 0) {
		snprintf(peer->reason, sizeof(peer->reason), "heartbeat refused (status %03x)",
			peer->heartbeat.status);
		return false;
	}
	peer_note_leaving(peer);
	list_for_each_safe (&peer->watchers, pos, following) {
		struct peer_watch *watch = container_of(pos, struct peer_watch, node);

		watch->heard(watch, peer->heartbeat_sent_ns,
			heartbeat_lists(&peer->answer, watch->nsid));
	}
	peer->confirmed = peer->answer.list_number;
	return true;
}

static bool peer_must_go(const struct peer *peer)
{
	return peer->failed || peer->stopping;
}

/* The heart beats while the association lives; returns when it must go, else waits. */
static bool peer_beat(struct peer *peer)
{
	if (peer_must_go(peer)) {
		return false;
	}
	if (peer->heartbeat_busy) {
		if (!io_timer_is_running(&peer->timer)) {
			snprintf(peer->reason, sizeof(peer->reason),
				"no answer to a heartbeat for 2 s");
			return false;
		}
		return true;
	}
	if (peer->heartbeat_sent_ns != 0 && peer->heartbeat.done != NULL) {
		peer->heartbeat.done = NULL;
		if (!peer_heartbeat_handle(peer)) {
			return false;
		}
		io_timer_start(&peer->timer, peer->heartbeat_sent_ns + PEER_HEARTBEAT_NS);
	}
	if (!io_timer_is_running(&peer->timer)) {
		peer_heartbeat_send(peer);
	}
	return true;
}

static void peer_free(struct peer *peer)
{
	io_timer_stop(&peer->timer);
	task_done(&peer->task);
	list_remove(&peer->node);
	io_free(peer->peers->io, peer->heartbeat_data);
	io_free(peer->peers->io, peer);
}

static void peer_step(struct task *task)
{
	struct peer *peer = container_of(task, struct peer, task);
	struct io *io = peer->peers->io;

	switch (peer->state) {
	case PEER_START:
		for (;;) {
			if (peer->stopping) {
				break;
			}
			if (peer_connect(peer) == 0) {
				AWAIT(peer, PEER_AWAIT_READY, peer->ready || peer_must_go(peer));
				if (peer->ready && !peer_must_go(peer)) {
					io_timer_stop(&peer->timer);
					peer->heartbeat_sent_ns = 0;
					peer->heartbeat.done = NULL;
					peer_tell_up(peer);
					AWAIT(peer, PEER_AWAIT_HEARTBEAT, !peer_beat(peer));
					peer_tell_down(peer);
				}
				io_timer_stop(&peer->timer);
				nvmeh_close(peer->assoc);
				AWAIT(peer, PEER_AWAIT_CLOSED, peer->closed);
			}
			if (peer->stopping) {
				break;
			}
			io_timer_start_after(&peer->timer,
				peer->retry_ns / 2 + rng_below(&io->rng, peer->retry_ns));
			peer->retry_ns = min_u64(peer->retry_ns * 2, PEER_RETRY_MAX_NS);
			AWAIT(peer, PEER_AWAIT_RETRY,
				!io_timer_is_running(&peer->timer) || peer->stopping);
		}
		peer->state = PEER_STOPPED;
		peer_free(peer);
		return;
	case PEER_STOPPED:
		assert(false && "a stopped peer was woken");
	}
}
