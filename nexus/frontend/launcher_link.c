/* SPDX-License-Identifier: Apache-2.0 */
#include "nexus/frontend/launcher_link.h"

#include "nexus/frontend/fuse.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define MODULE "launcher-link"

/* Asked of the launcher, not answered yet. */
struct pending {
	struct list_node node;
	uint64_t id;
	launcher_answer *answer;
	void *answer_ctx;
};

struct launcher_link {
	int fd;
	bool lost;
	const struct launcher_link_ops *ops;
	void *ctx;
	const struct log *log;
	struct list volumes; /* struct launcher_volume */
	struct list pending;
	uint64_t next_id;
};

struct launcher_volume *launcher_link_find(struct launcher_link *link, const char *name)
{
	list_for_each (&link->volumes, node) {
		struct launcher_volume *volume = container_of(node, struct launcher_volume, node);

		if (!volume->gone && strcmp(volume->name, name) == 0) {
			return volume;
		}
	}
	return NULL;
}

void launcher_link_release(struct launcher_volume *volume)
{
	list_remove(&volume->node);
	munmap(volume->table, volume->table_bytes);
	close(volume->fuse_fd);
	free(volume);
}

/* ---- messages of the launcher
 * ------------------------------------------------------------------------------------ */

/* The data path meets no page fault: one that has to wait for memory may wait for pages that only
 * this process can clean.  Not by MAP_POPULATE, which does nothing to what is locked on fault; not
 * by writing, as requests may be in there. */
static void fault_in(const void *memory, size_t size)
{
	for (size_t at = 0; at < size; at += FUSE_FRONTEND_PAGE) {
		(void)*((const volatile unsigned char *)memory + at);
	}
}

/* Takes over both descriptors, also when it fails. */
static int add_volume(struct launcher_link *link, const struct launch_msg *msg, const int *fds)
{
	struct launcher_volume *volume = calloc(1, sizeof(*volume));
	void *table = MAP_FAILED;

	if (volume != NULL && msg->table_bytes >= FUSE_FRONTEND_TABLE_BYTES) {
		table = mmap(NULL, msg->table_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fds[1], 0);
	}
	close(fds[1]);
	if (table == MAP_FAILED) {
		close(fds[0]);
		free(volume);
		return -ENOMEM;
	}
	fault_in(table, msg->table_bytes);
	/* User data: not for core dumps. */
	madvise(table, msg->table_bytes, MADV_DONTDUMP);
	volume->link = link;
	memcpy(volume->name, msg->name, sizeof(volume->name));
	memcpy(volume->device, msg->device, sizeof(volume->device));
	volume->size_bytes = msg->size_bytes;
	volume->block_bytes = msg->block_bytes;
	volume->fuse_fd = fds[0];
	volume->table = table;
	volume->table_bytes = msg->table_bytes;
	list_push_back(&link->volumes, &volume->node);
	log_info(link->log, MODULE, "held", "volume=%s device=%s", volume->name, volume->device);
	link->ops->held(volume, link->ctx);
	return 0;
}

static void volume_gone(struct launcher_link *link, const char *name)
{
	struct launcher_volume *volume = launcher_link_find(link, name);

	if (volume != NULL) {
		volume->gone = true;
		link->ops->gone(volume, link->ctx);
	}
}

static struct pending *take_pending(struct launcher_link *link, uint64_t id)
{
	list_for_each_safe (&link->pending, node, following) {
		struct pending *pending = container_of(node, struct pending, node);

		if (pending->id == id) {
			list_remove(node);
			return pending;
		}
	}
	return NULL;
}

static void answered(struct launcher_link *link, const struct launch_msg *msg)
{
	struct pending *pending = take_pending(link, msg->id);
	struct launcher_volume *volume = launcher_link_find(link, msg->name);

	if (volume != NULL && msg->result == 0) {
		memcpy(volume->device, msg->device, sizeof(volume->device));
	}
	if (pending != NULL) {
		pending->answer(pending->answer_ctx, msg->result, msg->device, msg->text);
		free(pending);
	}
}

static void end_pending(struct launcher_link *link, int result, const char *text)
{
	struct list_node *node;

	while ((node = list_pop_front(&link->pending)) != NULL) {
		struct pending *pending = container_of(node, struct pending, node);

		pending->answer(pending->answer_ctx, result, "", text);
		free(pending);
	}
}

static void link_lost(struct launcher_link *link, int result)
{
	log_error(link->log, MODULE, "launcher-lost", "error=%s", err_name(result));
	link->lost = true;
	end_pending(link, -ECONNRESET, "the launcher is gone");
	/* The owner stops watching the descriptor, which must be open for that. */
	link->ops->lost(link->ctx);
	close(link->fd);
	link->fd = -1;
}

static void take_message(
	struct launcher_link *link, const struct launch_msg *msg, const int *fds, unsigned fd_count)
{
	switch (msg->kind) {
	case LAUNCH_VOLUME:
		if (fd_count == LAUNCH_FDS_MAX) {
			if (add_volume(link, msg, fds) != 0) {
				log_error(link->log, MODULE, "table-not-mapped", "volume=%s",
					msg->name);
			}
			return;
		}
		break;
	case LAUNCH_READY:
		link->ops->ready(link->ctx);
		break;
	case LAUNCH_GONE:
		volume_gone(link, msg->name);
		break;
	case LAUNCH_DONE:
		answered(link, msg);
		break;
	default:
		log_warning(link->log, MODULE, "unknown-message", "kind=%u", msg->kind);
		break;
	}
	for (unsigned i = 0; i < fd_count; i++) {
		close(fds[i]);
	}
}

void launcher_link_process(struct launcher_link *link)
{
	while (!link->lost) {
		struct launch_msg msg;
		int fds[LAUNCH_FDS_MAX];
		unsigned fd_count = 0;
		int result = launch_receive(link->fd, &msg, fds, &fd_count);

		if (result == -EAGAIN) {
			return;
		}
		if (result == -EPROTO) {
			log_error(link->log, MODULE, "bad-message", NULL);
			continue;
		}
		if (result != 0) {
			link_lost(link, result);
			return;
		}
		take_message(link, &msg, fds, fd_count);
	}
}

/* ---- requests
 * ------------------------------------------------------------------------------------------------------
 */

static int ask(struct launcher_link *link, struct launch_msg *msg, launcher_answer *answer,
	void *answer_ctx, struct err *err)
{
	struct pending *pending;
	int result;

	if (link->lost) {
		return err_set(err, -ECONNRESET, "the launcher is gone: restart strake-launcher");
	}
	pending = calloc(1, sizeof(*pending));
	if (pending == NULL) {
		return err_set(err, -ENOMEM, "out of memory");
	}
	msg->id = ++link->next_id;
	result = launch_send(link->fd, msg, NULL, 0);
	if (result != 0) {
		free(pending);
		return err_set(err, result, "asking the launcher: %s", err_describe(result));
	}
	pending->id = msg->id;
	pending->answer = answer;
	pending->answer_ctx = answer_ctx;
	list_push_back(&link->pending, &pending->node);
	return 0;
}

void launcher_link_fill_publish(
	struct launch_msg *ret_msg, const char *name, uint64_t size_bytes, uint32_t block_bytes)
{
	launch_msg_init(ret_msg, LAUNCH_PUBLISH);
	memcpy(ret_msg->name, name, strnlen(name, sizeof(ret_msg->name) - 1));
	ret_msg->size_bytes = size_bytes;
	ret_msg->block_bytes = block_bytes;
	ret_msg->table_bytes = FUSE_FRONTEND_TABLE_BYTES;
	ret_msg->transfer_bytes = FUSE_FRONTEND_DATA_BYTES;
}

int launcher_link_publish(struct launcher_link *link, const struct launch_msg *volume,
	launcher_answer *answer, void *answer_ctx, struct err *err)
{
	struct launch_msg msg = *volume;

	return ask(link, &msg, answer, answer_ctx, err);
}

int launcher_link_unpublish(struct launcher_link *link, const char *name, uint32_t flags,
	launcher_answer *answer, void *answer_ctx, struct err *err)
{
	struct launch_msg msg;

	launch_msg_init(&msg, LAUNCH_UNPUBLISH);
	msg.flags = flags;
	memcpy(msg.name, name, strnlen(name, sizeof(msg.name) - 1));
	return ask(link, &msg, answer, answer_ctx, err);
}

/* ---- the link
 * ------------------------------------------------------------------------------------------------------
 */

/* The socket's number from the environment; -1 when there is none. */
static int inherited_fd(void)
{
	const char *text = getenv(LAUNCH_FD_ENVIRONMENT);
	char *end = NULL;
	long value;

	if (text == NULL || *text == '\0') {
		return -1;
	}
	errno = 0;
	value = strtol(text, &end, 10);
	if (errno != 0 || *end != '\0' || value < 0 || value > INT_MAX) {
		return -1;
	}
	return (int)value;
}

int launcher_link_new(const struct launcher_link_ops *ops, void *ctx, const struct log *log,
	struct launcher_link **ret_link, struct err *err)
{
	int fd = inherited_fd();
	struct launcher_link *link;

	if (fd < 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) < 0) {
		return err_set(err, -ENOENT,
			"not started by a launcher, which publishing needs: "
			"strake-launcher -- nexus --config FILE");
	}
	unsetenv(LAUNCH_FD_ENVIRONMENT);
	link = calloc(1, sizeof(*link));
	if (link == NULL) {
		return err_set(err, -ENOMEM, "out of memory");
	}
	link->fd = fd;
	link->ops = ops;
	link->ctx = ctx;
	link->log = log;
	list_init(&link->volumes);
	list_init(&link->pending);
	*ret_link = link;
	return 0;
}

void launcher_link_free(struct launcher_link *link)
{
	struct list_node *node;

	if (link == NULL) {
		return;
	}
	end_pending(link, -ECANCELED, "the nexus stops");
	while ((node = list_first(&link->volumes)) != NULL) {
		launcher_link_release(container_of(node, struct launcher_volume, node));
	}
	if (link->fd >= 0) {
		close(link->fd);
	}
	free(link);
}

int launcher_link_fd(const struct launcher_link *link)
{
	return link->fd;
}
