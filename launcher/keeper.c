/* SPDX-License-Identifier: Apache-2.0 */
/* The link to the process that outlives us (lib/keeper): it is asked for what a predecessor left,
 * and given all that is published. */
#include "launcher/launcher.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define MODULE "launcher"

#define NS_PER_MS UINT64_C(1000000)
#define RETRY_MIN (100 * NS_PER_MS)
#define RETRY_MAX (2000 * NS_PER_MS)
#define SAY_AGAIN (60000 * NS_PER_MS)

struct gone {
	struct list_node node;
	struct launch_msg msg;
};

/* ---- the connection ---- */

static void retry_later(struct launcher *launcher)
{
	if (launcher->keeper_backoff_ns < RETRY_MIN) {
		launcher->keeper_backoff_ns = RETRY_MIN;
	}
	launcher->keeper_retry_ns = launcher_now_ns() + launcher->keeper_backoff_ns;
	launcher->keeper_backoff_ns *= 2;
	if (launcher->keeper_backoff_ns > RETRY_MAX) {
		launcher->keeper_backoff_ns = RETRY_MAX;
	}
}

static void say_waiting(struct launcher *launcher, int error)
{
	uint64_t now_ns = launcher_now_ns();

	if (launcher->keeper_said_ns != 0 && now_ns - launcher->keeper_said_ns < SAY_AGAIN) {
		return;
	}
	launcher->keeper_said_ns = now_ns;
	log_warning(&launcher->log, MODULE, "waiting-for-keeper", "socket=%s error=%s help=%s",
		launcher->keeper_path, err_name(error),
		launcher->begun ? "until it runs nothing can be published, and what is published "
				  "would not outlive this process"
				: "the nexus starts when it is known what the keeper holds");
}

static int connect_to(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd;

	if (strlen(path) >= sizeof(address.sun_path)) {
		return -ENAMETOOLONG;
	}
	memcpy(address.sun_path, path, strlen(path) + 1);
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0) {
		return -errno;
	}
	if (connect(fd, (const void *)&address, sizeof(address)) < 0) {
		int result = -errno;

		close(fd);
		return result;
	}
	return fd;
}

void keeper_connect(struct launcher *launcher)
{
	int fd = connect_to(launcher->keeper_path);

	if (fd < 0) {
		say_waiting(launcher, fd);
		retry_later(launcher);
		return;
	}
	launcher->keeper_fd = fd;
	launcher->keeper_retry_ns = 0;
	launcher->keeper_ready = false;
	launcher->keeper_ready_sent = false;
}

static void clear_outbox(struct launcher *launcher)
{
	struct list_node *node;

	while ((node = list_pop_front(&launcher->keeper_outbox)) != NULL) {
		free(container_of(node, struct gone, node));
	}
}

static void hang_up(struct launcher *launcher, int error)
{
	close(launcher->keeper_fd);
	launcher->keeper_fd = -1;
	if (launcher->keeper_ready) {
		log_warning(&launcher->log, MODULE, "keeper-lost", "error=%s", err_name(error));
		launcher->keeper_said_ns = launcher_now_ns();
	} else {
		say_waiting(launcher, error);
	}
	launcher->keeper_ready = false;
	clear_outbox(launcher);
	list_for_each (&launcher->volumes, node) {
		struct held *held = container_of(node, struct held, node);

		held->offered = false;
		held->kept = false;
		held->keep_id = 0;
	}
	retry_later(launcher);
}

/* ---- what is heard ---- */

static void take_ready(struct launcher *launcher)
{
	launcher->keeper_ready = true;
	launcher->keeper_backoff_ns = 0;
	launcher->keeper_said_ns = 0;
	log_info(&launcher->log, MODULE, "keeper-connected", "volumes=%u", launcher->volume_count);
	if (!launcher->stopping) {
		launcher_begin(launcher);
	}
}

static void take_answer(struct launcher *launcher, const struct launch_msg *msg)
{
	list_for_each (&launcher->volumes, node) {
		struct held *held = container_of(node, struct held, node);

		if (held->keep_id == msg->id && msg->id != 0) {
			held->keep_id = 0;
			held_kept(launcher, held, msg->result, msg->text);
			return;
		}
	}
}

static void take_message(
	struct launcher *launcher, const struct launch_msg *msg, const int *fds, unsigned fd_count)
{
	if (msg->kind == LAUNCH_VOLUME) {
		held_offered(launcher, msg, fds, fd_count);
		return;
	}
	for (unsigned i = 0; i < fd_count; i++) {
		close(fds[i]);
	}
	if (msg->kind == LAUNCH_READY) {
		take_ready(launcher);
	} else if (msg->kind == LAUNCH_DONE) {
		take_answer(launcher, msg);
	} else {
		log_warning(&launcher->log, MODULE, "unknown-message", "kind=%u", msg->kind);
	}
}

void keeper_receive(struct launcher *launcher)
{
	while (launcher->keeper_fd >= 0) {
		struct launch_msg msg;
		int fds[LAUNCH_FDS_MAX];
		unsigned fd_count = 0;
		int result = launch_receive(launcher->keeper_fd, &msg, fds, &fd_count);

		if (result == -EAGAIN) {
			return;
		}
		if (result != 0) {
			if (result == -EPROTO) {
				log_error(&launcher->log, MODULE, "bad-message",
					"from=keeper help=is it of another release?");
			}
			hang_up(launcher, result);
			return;
		}
		take_message(launcher, &msg, fds, fd_count);
	}
}

/* ---- what is said ---- */

void keeper_tell_gone(struct launcher *launcher, const char *name)
{
	struct gone *gone;

	/* One that connects later says what it holds. */
	if (launcher->keeper_fd < 0) {
		return;
	}
	gone = calloc(1, sizeof(*gone));
	if (gone == NULL) {
		log_error(&launcher->log, MODULE, "out-of-memory", "volume=%s", name);
		return;
	}
	launch_msg_init(&gone->msg, LAUNCH_GONE);
	memcpy(gone->msg.name, name, strnlen(name, sizeof(gone->msg.name) - 1));
	list_push_back(&launcher->keeper_outbox, &gone->node);
}

static bool is_to_be_sent(const struct held *held)
{
	return !held->offered && (held->state == HELD_KEEPING || held->state == HELD_PUBLISHED);
}

static int send_volume(struct launcher *launcher, struct held *held)
{
	int fds[LAUNCH_FDS_MAX] = {held->fuse_fd, held->table_fd};
	struct launch_msg msg;
	int result;

	launch_msg_init(&msg, LAUNCH_VOLUME);
	memcpy(msg.name, held->name, sizeof(msg.name));
	memcpy(msg.device, held->device, sizeof(msg.device));
	msg.size_bytes = held->size_bytes;
	msg.block_bytes = held->block_bytes;
	msg.table_bytes = held->table_bytes;
	msg.disk_sequence = held->disk_sequence;
	msg.fuse_connection = held->fuse_connection;
	msg.id = ++launcher->keep_next_id;
	result = launch_send(launcher->keeper_fd, &msg, fds, LAUNCH_FDS_MAX);
	if (result == 0) {
		held->offered = true;
		held->keep_id = msg.id;
	}
	return result;
}

/* What is gone first: a volume of the same name may follow. */
static int send_all(struct launcher *launcher)
{
	struct list_node *gone_node;
	struct launch_msg ready;
	int result = 0;

	while (result == 0 && (gone_node = list_first(&launcher->keeper_outbox)) != NULL) {
		struct gone *gone = container_of(gone_node, struct gone, node);

		result = launch_send(launcher->keeper_fd, &gone->msg, NULL, 0);
		if (result == 0) {
			list_remove(gone_node);
			free(gone);
		}
	}
	list_for_each (&launcher->volumes, node) {
		struct held *held = container_of(node, struct held, node);

		if (result == 0 && is_to_be_sent(held)) {
			result = send_volume(launcher, held);
		}
	}
	if (result == 0 && !launcher->keeper_ready_sent) {
		launch_msg_init(&ready, LAUNCH_READY);
		result = launch_send(launcher->keeper_fd, &ready, NULL, 0);
		launcher->keeper_ready_sent = result == 0;
	}
	return result;
}

void keeper_flush(struct launcher *launcher)
{
	int result = launcher->keeper_fd >= 0 && launcher->keeper_ready ? send_all(launcher) : 0;

	if (result != 0 && result != -EAGAIN) {
		hang_up(launcher, result);
	}
}

bool keeper_wants_write(const struct launcher *launcher)
{
	if (launcher->keeper_fd < 0 || !launcher->keeper_ready) {
		return false;
	}
	list_for_each (&launcher->volumes, node) {
		if (is_to_be_sent(container_of(node, struct held, node))) {
			return true;
		}
	}
	return !launcher->keeper_ready_sent || !list_is_empty(&launcher->keeper_outbox);
}

bool keeper_has_all(const struct launcher *launcher)
{
	list_for_each (&launcher->volumes, node) {
		const struct held *held = container_of(node, struct held, node);

		if (!held->kept || held->state != HELD_PUBLISHED) {
			return false;
		}
	}
	return true;
}
