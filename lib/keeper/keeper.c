/* SPDX-License-Identifier: Apache-2.0 */
#include "keeper/keeper.h"

#include "launch/launch.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define MODULE "keeper"

/* Launchers that wait for the one before to hang up; more are turned away. */
#define WAITING_MAX     4u
#define ACCEPT_AGAIN_MS 100u
#define MODE            0600

struct kept {
	struct list_node node;
	struct launch_msg msg; /* VOLUME, as it came */
	int fds[LAUNCH_FDS_MAX];
	bool sent; /* the launcher that is there now has it */
};

struct answer {
	struct list_node node;
	struct launch_msg msg;
};

struct conn {
	struct list_node node; /* in keeper->waiting; not linked: it is keeper->current */
	struct keeper *keeper;
	struct loop_watch watch;
	bool ready_sent;
	struct list answers; /* struct answer, that did not fit into the socket */
};

struct keeper {
	struct loop *loop; /* borrowed, as log */
	const struct log *log;
	struct keeper_options options;
	struct sockaddr_un address;
	struct loop_watch listener;
	struct loop_timer accept_again;
	struct list volumes; /* struct kept */
	struct conn *current;
	struct list waiting; /* struct conn */
	unsigned waiting_count;
	struct keeper_status status;
};

static void conn_ready(struct loop_watch *watch, uint32_t events);

static void changed(struct keeper *keeper)
{
	if (keeper->options.changed != NULL) {
		keeper->options.changed(keeper, keeper->options.ctx);
	}
}

/* ---- volumes ---- */

static struct kept *find(const struct keeper *keeper, const char *name)
{
	list_for_each (&keeper->volumes, node) {
		struct kept *kept = container_of(node, struct kept, node);

		if (strcmp(kept->msg.name, name) == 0) {
			return kept;
		}
	}
	return NULL;
}

static void close_fds(const int *fds, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		close(fds[i]);
	}
}

static void let_go(struct keeper *keeper, struct kept *kept)
{
	list_remove(&kept->node);
	close_fds(kept->fds, LAUNCH_FDS_MAX);
	free(kept);
	keeper->status.volumes--;
}

/* Takes the descriptors over, also when it fails. */
static int hold(struct keeper *keeper, const struct launch_msg *msg, const int *fds,
	unsigned fd_count, struct err *err)
{
	struct kept *kept = find(keeper, msg->name);

	if (fd_count != LAUNCH_FDS_MAX || launch_check_name(msg->name, err) != 0) {
		close_fds(fds, fd_count);
		return err_set(err, -EINVAL, "a volume without its descriptors or name");
	}
	if (kept == NULL && keeper->status.volumes >= keeper->options.volumes_max) {
		close_fds(fds, fd_count);
		return err_set(err, -ENOSPC, "the keeper holds %u volumes already",
			keeper->status.volumes);
	}
	if (kept != NULL) {
		/* Published anew: what was held is of a device that is gone. */
		let_go(keeper, kept);
	}
	kept = calloc(1, sizeof(*kept));
	if (kept == NULL) {
		close_fds(fds, fd_count);
		return err_set(err, -ENOMEM, "the keeper is out of memory");
	}
	kept->msg = *msg;
	kept->msg.id = 0;
	memcpy(kept->fds, fds, sizeof(kept->fds));
	kept->sent = true;
	list_push_back(&keeper->volumes, &kept->node);
	keeper->status.volumes++;
	log_info(keeper->log, MODULE, "holding", "volume=%s device=%s volumes=%u", msg->name,
		msg->device, keeper->status.volumes);
	return 0;
}

/* ---- one connection ---- */

static void conn_free(struct conn *conn)
{
	struct list_node *node;

	while ((node = list_pop_front(&conn->answers)) != NULL) {
		free(container_of(node, struct answer, node));
	}
	loop_watch_remove(conn->keeper->loop, &conn->watch);
	close(conn->watch.fd);
	free(conn);
}

/* 0; -EAGAIN no room now; else the launcher is gone. */
static int send_volumes(struct conn *conn)
{
	struct keeper *keeper = conn->keeper;
	struct launch_msg ready;

	list_for_each (&keeper->volumes, node) {
		struct kept *kept = container_of(node, struct kept, node);

		if (kept->sent) {
			continue;
		}
		int result = launch_send(conn->watch.fd, &kept->msg, kept->fds, LAUNCH_FDS_MAX);

		if (result != 0) {
			return result;
		}
		kept->sent = true;
		keeper->status.given_back++;
	}
	if (!conn->ready_sent) {
		launch_msg_init(&ready, LAUNCH_READY);
		int result = launch_send(conn->watch.fd, &ready, NULL, 0);

		if (result != 0) {
			return result;
		}
		conn->ready_sent = true;
	}
	return 0;
}

static int send_answers(struct conn *conn)
{
	struct list_node *node;

	while ((node = list_first(&conn->answers)) != NULL) {
		struct answer *answer = container_of(node, struct answer, node);
		int result = launch_send(conn->watch.fd, &answer->msg, NULL, 0);

		if (result != 0) {
			return result;
		}
		list_remove(node);
		free(answer);
	}
	return 0;
}

/* A launcher that is gone is noticed by reading. */
static void flush(struct conn *conn)
{
	bool all_sent = send_volumes(conn) == 0 && send_answers(conn) == 0;

	loop_watch_change(
		conn->keeper->loop, &conn->watch, all_sent ? EPOLLIN : EPOLLIN | EPOLLOUT);
}

static void begin(struct keeper *keeper, struct conn *conn)
{
	keeper->current = conn;
	keeper->status.connected = true;
	keeper->status.synced = false;
	keeper->status.launchers++;
	list_for_each (&keeper->volumes, node) {
		container_of(node, struct kept, node)->sent = false;
	}
	log_info(keeper->log, MODULE, "launcher-connected", "volumes=%u", keeper->status.volumes);
	flush(conn);
	changed(keeper);
}

static void hang_up(struct conn *conn)
{
	struct keeper *keeper = conn->keeper;
	struct list_node *next;

	if (conn != keeper->current) {
		list_remove(&conn->node);
		keeper->waiting_count--;
		conn_free(conn);
		return;
	}
	conn_free(conn);
	keeper->current = NULL;
	keeper->status.connected = false;
	keeper->status.synced = false;
	log_info(keeper->log, MODULE, "launcher-gone", "volumes=%u", keeper->status.volumes);
	next = list_pop_front(&keeper->waiting);
	if (next != NULL) {
		keeper->waiting_count--;
		begin(keeper, container_of(next, struct conn, node));
	} else {
		changed(keeper);
	}
}

/* ---- what is heard ---- */

static void answer(struct conn *conn, const struct launch_msg *msg, int result, const char *text)
{
	struct answer *answer = calloc(1, sizeof(*answer));

	if (answer == NULL) {
		/* It asks again with its next connection. */
		log_error(conn->keeper->log, MODULE, "out-of-memory", "volume=%s", msg->name);
		return;
	}
	launch_msg_init(&answer->msg, LAUNCH_DONE);
	answer->msg.id = msg->id;
	answer->msg.result = result;
	memcpy(answer->msg.name, msg->name, sizeof(answer->msg.name));
	memcpy(answer->msg.text, text, strnlen(text, sizeof(answer->msg.text) - 1));
	list_push_back(&conn->answers, &answer->node);
}

static void take_volume(
	struct conn *conn, const struct launch_msg *msg, const int *fds, unsigned fd_count)
{
	struct err err = {0};
	int result = hold(conn->keeper, msg, fds, fd_count, &err);

	if (result != 0) {
		log_warning(conn->keeper->log, MODULE, "refused", "volume=%s error=%s", msg->name,
			err.text);
	}
	answer(conn, msg, result, err.text);
	changed(conn->keeper);
}

static void take_gone(struct keeper *keeper, const struct launch_msg *msg)
{
	struct kept *kept = find(keeper, msg->name);

	if (kept != NULL) {
		let_go(keeper, kept);
		log_info(keeper->log, MODULE, "let-go", "volume=%s volumes=%u", msg->name,
			keeper->status.volumes);
		changed(keeper);
	}
}

static void take_message(
	struct conn *conn, const struct launch_msg *msg, const int *fds, unsigned fd_count)
{
	struct keeper *keeper = conn->keeper;

	if (msg->kind == LAUNCH_VOLUME) {
		take_volume(conn, msg, fds, fd_count);
		return;
	}
	close_fds(fds, fd_count);
	if (msg->kind == LAUNCH_GONE) {
		take_gone(keeper, msg);
	} else if (msg->kind == LAUNCH_READY) {
		keeper->status.synced = true;
		log_info(keeper->log, MODULE, "synced", "volumes=%u", keeper->status.volumes);
		changed(keeper);
	} else {
		log_warning(keeper->log, MODULE, "unknown-message", "kind=%u", msg->kind);
	}
}

/* false: the connection is gone. */
static bool receive(struct conn *conn)
{
	for (;;) {
		struct launch_msg msg;
		int fds[LAUNCH_FDS_MAX];
		unsigned fd_count = 0;
		int result = launch_receive(conn->watch.fd, &msg, fds, &fd_count);

		if (result == -EAGAIN) {
			return true;
		}
		if (result != 0) {
			if (result == -EPROTO) {
				log_error(conn->keeper->log, MODULE, "bad-message",
					"help=is the launcher of another release?");
			}
			hang_up(conn);
			return false;
		}
		take_message(conn, &msg, fds, fd_count);
	}
}

static void conn_ready(struct loop_watch *watch, uint32_t events)
{
	struct conn *conn = container_of(watch, struct conn, watch);

	/* One that waits says nothing yet, or it says that it is gone. */
	if (conn != conn->keeper->current) {
		if ((events & (EPOLLHUP | EPOLLERR)) != 0) {
			hang_up(conn);
		}
		return;
	}
	if (receive(conn)) {
		flush(conn);
	}
}

/* ---- who connects ---- */

static bool is_allowed(const struct keeper *keeper, int fd)
{
	struct ucred peer = {0};
	socklen_t size = sizeof(peer);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0 ||
		(peer.uid != 0 && peer.uid != geteuid())) {
		log_warning(keeper->log, MODULE, "stranger", "pid=%d uid=%u", peer.pid, peer.uid);
		return false;
	}
	if (keeper->waiting_count >= WAITING_MAX) {
		log_warning(keeper->log, MODULE, "too-many-launchers", "pid=%d", peer.pid);
		return false;
	}
	return true;
}

static void take_connection(struct keeper *keeper, int fd)
{
	struct conn *conn = is_allowed(keeper, fd) ? calloc(1, sizeof(*conn)) : NULL;

	if (conn == NULL) {
		close(fd);
		return;
	}
	conn->keeper = keeper;
	conn->watch.fd = fd;
	conn->watch.events = keeper->current == NULL ? EPOLLIN : 0;
	conn->watch.ready = conn_ready;
	list_init(&conn->answers);
	if (loop_watch_add(keeper->loop, &conn->watch) < 0) {
		close(fd);
		free(conn);
	} else if (keeper->current == NULL) {
		begin(keeper, conn);
	} else {
		log_info(keeper->log, MODULE, "launcher-waits",
			"reason=another one is still connected");
		list_push_back(&keeper->waiting, &conn->node);
		keeper->waiting_count++;
	}
}

static void listener_ready(struct loop_watch *watch, uint32_t events)
{
	struct keeper *keeper = container_of(watch, struct keeper, listener);

	(void)events;
	for (;;) {
		int fd = accept4(watch->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (fd >= 0) {
			take_connection(keeper, fd);
		} else if (errno == EMFILE || errno == ENFILE || errno == ENOMEM ||
			   errno == ENOBUFS) {
			log_error(
				keeper->log, MODULE, "accept-failed", "error=%s", err_name(errno));
			loop_watch_change(keeper->loop, watch, 0);
			loop_timer_start(keeper->loop, &keeper->accept_again, ACCEPT_AGAIN_MS);
			return;
		} else if (errno != EINTR && errno != ECONNABORTED) {
			return;
		}
	}
}

static void accept_again(struct loop_timer *timer)
{
	struct keeper *keeper = container_of(timer, struct keeper, accept_again);

	loop_watch_change(keeper->loop, &keeper->listener, EPOLLIN);
}

/* ---- birth and death ---- */

/* Does somebody listen there? */
static bool is_in_use(const struct sockaddr_un *address)
{
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	bool in_use = fd >= 0 && (connect(fd, (const void *)address, sizeof(*address)) == 0 ||
					 (errno != ECONNREFUSED && errno != ENOENT));

	if (fd >= 0) {
		close(fd);
	}
	return in_use;
}

static int listen_on(struct keeper *keeper, const char *path, struct err *err)
{
	struct sockaddr_un *address = &keeper->address;
	struct stat status;
	int fd;

	if (strlen(path) >= sizeof(address->sun_path)) {
		return err_set(err, -ENAMETOOLONG, "keeper socket %s: the path is too long", path);
	}
	if (lstat(path, &status) == 0 && !S_ISSOCK(status.st_mode)) {
		return err_set(err, -EEXIST, "%s is there and is no socket: remove it", path);
	}
	address->sun_family = AF_UNIX;
	memcpy(address->sun_path, path, strlen(path) + 1);
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0) {
		return err_set(err, -errno, "keeper socket: %s", err_describe(errno));
	}
	if (is_in_use(address)) {
		close(fd);
		return err_set(err, -EADDRINUSE, "another keeper listens on %s", path);
	}
	(void)unlink(path);
	mode_t before = umask(0777 & ~MODE);
	int result = bind(fd, (const void *)address, sizeof(*address)) < 0 ? -errno : 0;

	(void)umask(before);
	if (result == 0 && listen(fd, (int)WAITING_MAX) < 0) {
		result = -errno;
	}
	if (result < 0) {
		close(fd);
		return err_set(err, result, "listen on %s: %s", path, err_describe(result));
	}
	keeper->listener.fd = fd;
	keeper->listener.events = EPOLLIN;
	keeper->listener.ready = listener_ready;
	return 0;
}

int keeper_new(struct loop *loop, const struct keeper_options *options, struct keeper **ret_keeper,
	struct err *err)
{
	struct keeper *keeper = calloc(1, sizeof(*keeper));
	int result;

	if (keeper == NULL) {
		return err_set(err, -ENOMEM, "keeper: out of memory");
	}
	keeper->loop = loop;
	keeper->log = options->log;
	keeper->options = *options;
	if (keeper->options.volumes_max == 0) {
		keeper->options.volumes_max = LAUNCH_VOLUMES_MAX;
	}
	keeper->accept_again.expired = accept_again;
	list_init(&keeper->volumes);
	list_init(&keeper->waiting);
	result = listen_on(keeper, options->socket_path, err);
	if (result == 0) {
		result = loop_watch_add(loop, &keeper->listener);
		if (result < 0) {
			(void)unlink(options->socket_path);
			close(keeper->listener.fd);
			(void)err_set(
				err, result, "watch the keeper's socket: %s", err_describe(result));
		}
	}
	if (result < 0) {
		free(keeper);
		return result;
	}
	*ret_keeper = keeper;
	return 0;
}

void keeper_free(struct keeper *keeper)
{
	struct list_node *node;

	if (keeper == NULL) {
		return;
	}
	keeper->options.changed = NULL;
	loop_timer_stop(&keeper->accept_again);
	loop_watch_remove(keeper->loop, &keeper->listener);
	(void)unlink(keeper->address.sun_path);
	close(keeper->listener.fd);
	while ((node = list_pop_front(&keeper->waiting)) != NULL) {
		conn_free(container_of(node, struct conn, node));
	}
	if (keeper->current != NULL) {
		conn_free(keeper->current);
	}
	while ((node = list_first(&keeper->volumes)) != NULL) {
		let_go(keeper, container_of(node, struct kept, node));
	}
	free(keeper);
}

void keeper_get_status(const struct keeper *keeper, struct keeper_status *ret_status)
{
	*ret_status = keeper->status;
}

bool keeper_holds(const struct keeper *keeper, const char *name, char *ret_device)
{
	const struct kept *kept = find(keeper, name);

	if (kept != NULL && ret_device != NULL) {
		memcpy(ret_device, kept->msg.device, sizeof(kept->msg.device));
	}
	return kept != NULL;
}
