/* SPDX-License-Identifier: Apache-2.0 */
/* A small HTTP server for GET (metrics and health) on a control loop.  One request a connection. */
#ifndef DAEMON_HTTP_H
#define DAEMON_HTTP_H

#include "base/strbuf.h"
#include "grpc/loop.h"

#include <stdint.h>

struct http_server;

/* Appends the body; returns the HTTP status (200, 404, 503).  *content_type is text/plain unless
 * set. */
typedef unsigned http_get(
	void *ctx, const char *path, struct strbuf *body, const char **content_type);

/* address: "127.0.0.1:9500", "[::1]:9500", or "unix:/path" (mode 0660). */
int http_server_new(struct loop *loop, const char *address, http_get *get, void *ctx,
	struct http_server **ret_server, struct err *err) __must_check;
void http_server_free(struct http_server *server);
/* The TCP port that it listens on, 0 for a unix socket. */
uint16_t http_server_port(const struct http_server *server);

#endif
