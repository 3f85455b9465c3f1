/* SPDX-License-Identifier: Apache-2.0 */
/* An HTTP/1.1 server for tests, on the loop of what is tested.  It can break in every way. */
#ifndef KUBE_TESTING_FAKE_HTTP_H
#define KUBE_TESTING_FAKE_HTTP_H

#include "base/strbuf.h"
#include "grpc/loop.h"

struct fake_http;
struct fake_conn;

struct fake_request {
	struct fake_conn *conn; /* to answer on: at once or later, once */
	const char *method, *path, *query, *body, *authorization,
		*content_type; /* until the callback returns */
	size_t body_length;
};

struct fake_http_options {
	struct loop *loop;
	void (*request)(void *ctx, const struct fake_request *request);
	/* The connection is gone: no answer any more. */
	void (*closed)(void *ctx, struct fake_conn *conn);
	void *ctx;
};

/* Listens on 127.0.0.1. */
struct fake_http *fake_http_new(const struct fake_http_options *options);
void fake_http_free(struct fake_http *http);
unsigned fake_http_port(const struct fake_http *http);
unsigned fake_http_conn_count(const struct fake_http *http);
/* As a process that died, and is there again at the same port. */
void fake_http_stop(struct fake_http *http);
void fake_http_start(struct fake_http *http);
/* As a process that was stopped: what is sent stays in the kernel. */
void fake_http_freeze(struct fake_http *http, bool frozen);

/* `headers`: more lines, each with its \r\n. */
void fake_reply(struct fake_conn *conn, unsigned status, const char *headers, const char *body);
void fake_stream_begin(struct fake_conn *conn);
void fake_stream_send(struct fake_conn *conn, const void *bytes, size_t length);
void fake_stream_end(struct fake_conn *conn);
/* Of all that is sent from now on only so many bytes leave; then the connection closes. */
void fake_conn_cut_after(struct fake_conn *conn, size_t bytes);
void fake_conn_close(struct fake_conn *conn);
/* Half of it: no more bytes come, but the connection stays. */
void fake_conn_half_close(struct fake_conn *conn);
/* Bytes as they are. */
void fake_conn_send(struct fake_conn *conn, const void *bytes, size_t length);

/* A parameter of a query, decoded; false: not there. */
bool fake_query(const char *query, const char *key, char *value, size_t size);

#endif
