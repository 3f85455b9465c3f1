/* SPDX-License-Identifier: Apache-2.0 */
#include "launch/launch.h"

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

union fd_control {
	struct cmsghdr align;
	char bytes[CMSG_SPACE(sizeof(int) * LAUNCH_FDS_MAX)];
};

void launch_msg_init(struct launch_msg *msg, enum launch_kind kind)
{
	memset(msg, 0, sizeof(*msg));
	msg->magic = LAUNCH_MAGIC;
	msg->version = LAUNCH_VERSION;
	msg->kind = (uint16_t)kind;
}

int launch_send(int socket_fd, const struct launch_msg *msg, const int *fds, unsigned fd_count)
{
	struct launch_msg copy = *msg;
	struct iovec iov = {&copy, sizeof(copy)};
	struct msghdr header = {.msg_iov = &iov, .msg_iovlen = 1};
	union fd_control control;
	ssize_t sent;

	assert(fd_count <= LAUNCH_FDS_MAX);
	if (fd_count > 0) {
		memset(&control, 0, sizeof(control));
		header.msg_control = control.bytes;
		header.msg_controllen = CMSG_SPACE(sizeof(int) * fd_count);
		struct cmsghdr *cmsg = CMSG_FIRSTHDR(&header);

		cmsg->cmsg_level = SOL_SOCKET;
		cmsg->cmsg_type = SCM_RIGHTS;
		cmsg->cmsg_len = CMSG_LEN(sizeof(int) * fd_count);
		memcpy(CMSG_DATA(cmsg), fds, sizeof(int) * fd_count);
	}
	do {
		sent = sendmsg(socket_fd, &header, MSG_NOSIGNAL | MSG_DONTWAIT);
	} while (sent < 0 && errno == EINTR);
	if (sent < 0) {
		return errno == EPIPE ? -ECONNRESET : -errno;
	}
	return 0;
}

static bool ends_with_nul(const char *text, size_t size)
{
	return memchr(text, '\0', size) != NULL;
}

static bool is_valid(const struct launch_msg *msg, ssize_t received, int flags)
{
	return received == sizeof(*msg) && (flags & (MSG_TRUNC | MSG_CTRUNC)) == 0 &&
	       msg->magic == LAUNCH_MAGIC && msg->version == LAUNCH_VERSION &&
	       ends_with_nul(msg->name, sizeof(msg->name)) &&
	       ends_with_nul(msg->device, sizeof(msg->device)) &&
	       ends_with_nul(msg->text, sizeof(msg->text));
}

static unsigned take_fds(struct msghdr *header, int fds[LAUNCH_FDS_MAX])
{
	unsigned count = 0;

	for (struct cmsghdr *cmsg = CMSG_FIRSTHDR(header); cmsg != NULL;
		cmsg = CMSG_NXTHDR(header, cmsg)) {
		if (cmsg->cmsg_level != SOL_SOCKET || cmsg->cmsg_type != SCM_RIGHTS) {
			continue;
		}
		size_t bytes = cmsg->cmsg_len - CMSG_LEN(0);

		for (size_t i = 0; i < bytes / sizeof(int); i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(cmsg) + i * sizeof(int), sizeof(fd));
			if (count < LAUNCH_FDS_MAX) {
				fds[count++] = fd;
			} else {
				close(fd);
			}
		}
	}
	return count;
}

int launch_receive(int socket_fd, struct launch_msg *ret_msg, int ret_fds[LAUNCH_FDS_MAX],
	unsigned *ret_fd_count)
{
	struct iovec iov = {ret_msg, sizeof(*ret_msg)};
	union fd_control control;
	struct msghdr header = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.bytes,
		.msg_controllen = sizeof(control.bytes),
	};
	int fds[LAUNCH_FDS_MAX] = {-1, -1};
	unsigned fd_count;
	ssize_t received;

	do {
		received = recvmsg(socket_fd, &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	} while (received < 0 && errno == EINTR);
	if (received < 0) {
		return errno == EWOULDBLOCK ? -EAGAIN : -errno;
	}
	if (received == 0) {
		return -ECONNRESET;
	}
	fd_count = take_fds(&header, fds);
	if (!is_valid(ret_msg, received, header.msg_flags)) {
		for (unsigned i = 0; i < fd_count; i++) {
			close(fds[i]);
		}
		return -EPROTO;
	}
	memcpy(ret_fds, fds, sizeof(fds));
	*ret_fd_count = fd_count;
	return 0;
}

static bool is_name_byte(char byte)
{
	return (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') ||
	       (byte >= '0' && byte <= '9') || byte == '.' || byte == '_' || byte == '-';
}

int launch_check_name(const char *name, struct err *err)
{
	size_t length = strnlen(name, LAUNCH_NAME_SIZE);

	if (length == 0 || length >= LAUNCH_NAME_SIZE || name[0] == '.' || name[0] == '-') {
		return err_set(err, -EINVAL,
			"\"%.*s\" is no name of a volume: 1 to %d of a-z A-Z 0-9 . _ -, beginning "
			"with a letter, digit or _",
			LAUNCH_NAME_SIZE, name, LAUNCH_NAME_SIZE - 1);
	}
	for (size_t i = 0; i < length; i++) {
		if (!is_name_byte(name[i])) {
			return err_set(err, -EINVAL,
				"the name of a volume has only a-z A-Z 0-9 . _ -, not as in \"%s\"",
				name);
		}
	}
	return 0;
}
