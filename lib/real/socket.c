/* SPDX-License-Identifier: Apache-2.0 */
/* Sockets, as every backend makes them. */
#include "real/backend.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <unistd.h>

#define BACKLOG 1024

/* ---- addresses --------------------------------------------------------------------------------
 */

static int sockaddr_from_address(const struct io_address *address,
	struct sockaddr_storage *ret_sockaddr, socklen_t *ret_length)
{
	struct sockaddr_in *v4 = (struct sockaddr_in *)(void *)ret_sockaddr;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)(void *)ret_sockaddr;

	memset(ret_sockaddr, 0, sizeof(*ret_sockaddr));
	if (inet_pton(AF_INET, address->host, &v4->sin_addr) == 1) {
		v4->sin_family = AF_INET;
		v4->sin_port = htons(address->port);
		*ret_length = sizeof(*v4);
		return 0;
	}
	if (inet_pton(AF_INET6, address->host, &v6->sin6_addr) == 1) {
		v6->sin6_family = AF_INET6;
		v6->sin6_port = htons(address->port);
		*ret_length = sizeof(*v6);
		return 0;
	}
	return -EINVAL;
}

void real_address_from_sockaddr(const struct sockaddr_storage *from, struct io_address *ret_address)
{
	const struct sockaddr_in *v4 = (const struct sockaddr_in *)(const void *)from;
	const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)(const void *)from;
	const void *host = &v4->sin_addr;
	int family = AF_INET;

	memset(ret_address, 0, sizeof(*ret_address));
	ret_address->port = ntohs(v4->sin_port);
	if (from->ss_family == AF_INET6) {
		ret_address->port = ntohs(v6->sin6_port);
		host = &v6->sin6_addr;
		family = AF_INET6;
		if (IN6_IS_ADDR_V4MAPPED(&v6->sin6_addr)) {
			host = &v6->sin6_addr.s6_addr[12];
			family = AF_INET;
		}
	}
	(void)inet_ntop(family, host, ret_address->host, sizeof(ret_address->host));
}

/* ---- listening --------------------------------------------------------------------------------
 */

static int open_listener(const struct io_address *address, int flags, int *ret_fd)
{
	struct sockaddr_storage at;
	socklen_t at_length;
	int one = 1;
	int fd = real_socket_for(address, flags, &at, &at_length);

	if (fd < 0) {
		return fd;
	}
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) != 0 ||
		bind(fd, (struct sockaddr *)(void *)&at, at_length) != 0 ||
		listen(fd, BACKLOG) != 0) {
		int error = -errno;

		close(fd);
		return error;
	}
	*ret_fd = fd;
	return 0;
}

static void learn_port(int fd, struct io_address *address)
{
	struct sockaddr_storage at = {0};
	socklen_t at_length = sizeof(at);
	struct io_address chosen;

	if (getsockname(fd, (struct sockaddr *)(void *)&at, &at_length) == 0) {
		real_address_from_sockaddr(&at, &chosen);
		address->port = chosen.port;
	}
}

int real_socket_listen(struct io_address *address, int flags, int *ret_fd, struct err *err)
{
	int error = open_listener(address, flags, ret_fd);

	if (error != 0) {
		char text[IO_ADDRESS_TEXT_SIZE];

		return err_set(err, error, "listen on %s: %s", io_address_to_text(address, text),
			err_describe(error));
	}
	learn_port(*ret_fd, address);
	return 0;
}

bool real_accept_is_short(int error)
{
	return error == -EMFILE || error == -ENFILE || error == -ENOBUFS || error == -ENOMEM;
}

/* ---- connections ------------------------------------------------------------------------------
 */

int real_socket_for(const struct io_address *to, int flags, struct sockaddr_storage *ret_to,
	socklen_t *ret_to_length)
{
	int error = sockaddr_from_address(to, ret_to, ret_to_length);

	if (error != 0) {
		return error;
	}
	int fd = socket(ret_to->ss_family, SOCK_STREAM | SOCK_CLOEXEC | flags, IPPROTO_TCP);

	return fd >= 0 ? fd : -errno;
}

void real_socket_ready(int fd, struct io_conn *conn, const struct io_address *peer)
{
	struct sockaddr_storage local = {0};
	socklen_t local_length = sizeof(local);
	int one = 1;

	/* Small answers must not wait for more to send. */
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	conn->peer = *peer;
	if (getsockname(fd, (struct sockaddr *)(void *)&local, &local_length) == 0) {
		real_address_from_sockaddr(&local, &conn->local);
	}
}

bool real_iov_advance(struct iovec **iov, unsigned *iov_count, size_t moved)
{
	while (*iov_count > 0 && moved >= (*iov)->iov_len) {
		moved -= (*iov)->iov_len;
		(*iov)++;
		(*iov_count)--;
	}
	if (*iov_count == 0) {
		return false;
	}
	(*iov)->iov_base = (char *)(*iov)->iov_base + moved;
	(*iov)->iov_len -= moved;
	return true;
}
