/* SPDX-License-Identifier: Apache-2.0 */
#include "io/io.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

void io_init(struct io *io, const struct io_ops *ops, void *ctx, uint64_t seed,
	struct metric_registry *metrics)
{
	*io = (struct io){.ops = ops, .ctx = ctx, .log = log_null, .metrics = metrics};
	runq_init(&io->runq);
	rng_init(&io->rng, seed);
}

static size_t whole_pages(size_t size)
{
	return (size + IO_PAGE_BYTES - 1) & ~(size_t)(IO_PAGE_BYTES - 1);
}

void *io_zalloc_data(struct io *io, size_t size)
{
	void *memory = size > SIZE_MAX - IO_PAGE_BYTES
			       ? NULL
			       : io_zalloc_aligned(io, IO_PAGE_BYTES, whole_pages(size));

	if (memory != NULL) {
		io->ops->dump(io, memory, whole_pages(size), false);
	}
	return memory;
}

void io_free_data(struct io *io, void *memory, size_t size)
{
	if (memory != NULL) {
		/* The pages are for anything now: what was in them would be dumped with that. */
		memset(memory, 0, whole_pages(size));
		io->ops->dump(io, memory, whole_pages(size), true);
		io_free(io, memory);
	}
}

static int malformed(const char *text, struct err *err)
{
	return err_set(err, -EINVAL,
		"\"%.80s\" is not an address: write a numeric one with a port, like 10.0.0.1:4430 "
		"or "
		"[fd00::1]:4430",
		text);
}

/* 0, or -EINVAL when the text is not 1 to 5 digits up to 65535. */
static int parse_port(const char *text, uint16_t *ret_port)
{
	unsigned port = 0;
	size_t length = strlen(text);

	if (length == 0 || length > 5) {
		return -EINVAL;
	}
	for (; *text != '\0'; text++) {
		if (*text < '0' || *text > '9') {
			return -EINVAL;
		}
		port = port * 10 + (unsigned)(*text - '0');
	}
	if (port > UINT16_MAX) {
		return -EINVAL;
	}
	*ret_port = (uint16_t)port;
	return 0;
}

/* Checks `length` characters as a numeric address of the family and stores them in their usual
 * form. */
static int parse_host(int family, const char *text, size_t length, char host[IO_HOST_TEXT_SIZE])
{
	char copy[IO_HOST_TEXT_SIZE];
	unsigned char binary[sizeof(struct in6_addr)];

	if (length >= sizeof(copy)) {
		return -EINVAL;
	}
	memcpy(copy, text, length);
	copy[length] = '\0';
	if (inet_pton(family, copy, binary) != 1 ||
		inet_ntop(family, binary, host, IO_HOST_TEXT_SIZE) == NULL) {
		return -EINVAL;
	}
	return 0;
}

int io_address_parse(
	const char *text, uint16_t port_default, struct io_address *ret_address, struct err *err)
{
	struct io_address address = {.port = port_default};
	const char *colon = strchr(text, ':');
	const char *host = text;
	const char *host_end;
	int family = AF_INET6;

	if (text[0] == '[') {
		host = text + 1;
		host_end = strchr(host, ']');
		if (host_end == NULL || (host_end[1] != '\0' && host_end[1] != ':')) {
			return malformed(text, err);
		}
		colon = host_end[1] == ':' ? host_end + 1 : NULL;
	} else if (colon != NULL && strchr(colon + 1, ':') != NULL) {
		/* More than one colon and no brackets: an IPv6 address without a port. */
		host_end = text + strlen(text);
		colon = NULL;
	} else {
		family = AF_INET;
		host_end = colon != NULL ? colon : text + strlen(text);
	}
	if (parse_host(family, host, (size_t)(host_end - host), address.host) != 0) {
		return malformed(text, err);
	}
	if (colon != NULL && parse_port(colon + 1, &address.port) != 0) {
		return malformed(text, err);
	}
	*ret_address = address;
	return 0;
}

char *io_address_to_text(const struct io_address *address, char text[IO_ADDRESS_TEXT_SIZE])
{
	const char *format = strchr(address->host, ':') != NULL ? "[%s]:%u" : "%s:%u";

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
	(void)snprintf(text, IO_ADDRESS_TEXT_SIZE, format, address->host, address->port);
#pragma GCC diagnostic pop
	return text;
}
