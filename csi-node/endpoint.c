/* SPDX-License-Identifier: Apache-2.0 */
#include "csi-node/endpoint.h"

#include "daemon/file.h"

#include <errno.h>
#include <libgen.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define LOOK_MS       1000
#define CLOSE_MS      5000
#define SOCKET_LENGTH 108

static void server_closed(void *ctx)
{
	struct endpoint *endpoint = ctx;

	endpoint->closing_count--;
	if (endpoint->is_stopping && endpoint->closing_count == 0 && endpoint->stopped != NULL) {
		void (*stopped)(void *ctx) = endpoint->stopped;

		endpoint->stopped = NULL;
		stopped(endpoint->stopped_ctx);
	}
}

/* Its socket goes at once, its calls in flight have a while. */
static void close_server(struct endpoint *endpoint, unsigned grace_ms)
{
	struct grpc_server *server = endpoint->server;

	if (server != NULL) {
		endpoint->server = NULL;
		endpoint->closing_count++;
		grpc_server_stop(server, grace_ms, server_closed, endpoint);
	}
}

static int make_folder(const struct endpoint *endpoint, struct err *err)
{
	char path[SOCKET_LENGTH];
	struct stat stat_of;

	if (snprintf(path, sizeof(path), "%s", endpoint->path) >= (int)sizeof(path)) {
		return err_set(err, -ENAMETOOLONG, "%s is too long for a socket", endpoint->path);
	}
	const char *folder = dirname(path);

	if (stat(folder, &stat_of) == 0) {
		return 0;
	}
	return endpoint->makes_folder ? folder_make(folder, 0750, err)
				      : err_set(err, -ENOENT, "%s is not there yet", folder);
}

static int bind_server(struct endpoint *endpoint, struct err *err)
{
	struct grpc_server_options options = {
		.socket_path = endpoint->path,
		.methods = endpoint->methods,
		.method_count = endpoint->method_count,
		.ctx = endpoint->ctx,
	};
	struct stat stat_of;
	int result = make_folder(endpoint, err);

	result = result < 0 ? result
			    : grpc_server_new(endpoint->loop, &options, &endpoint->server, err);
	if (result == 0 && lstat(endpoint->path, &stat_of) == 0) {
		endpoint->inode = stat_of.st_ino;
		endpoint->device = stat_of.st_dev;
	}
	return result;
}

static bool is_replaced(const struct endpoint *endpoint)
{
	struct stat stat_of;

	return lstat(endpoint->path, &stat_of) < 0 || stat_of.st_ino != endpoint->inode ||
	       stat_of.st_dev != endpoint->device;
}

static void look(struct endpoint *endpoint)
{
	struct err err = {0};

	if (endpoint->server != NULL && is_replaced(endpoint)) {
		log_warning(endpoint->log, "node", "socket-gone", "socket=%s", endpoint->path);
		close_server(endpoint, CLOSE_MS);
	}
	if (endpoint->server == NULL) {
		if (bind_server(endpoint, &err) == 0) {
			endpoint->has_warned = false;
			log_info(endpoint->log, "node", "serving", "socket=%s", endpoint->path);
			if (endpoint->bound != NULL) {
				endpoint->bound(endpoint);
			}
		} else if (!endpoint->has_warned) {
			endpoint->has_warned = true;
			log_warning(endpoint->log, "node", "not-serving", "socket=%s error=%s",
				endpoint->path, err.text);
		}
	}
}

static void timer_expired(struct loop_timer *timer)
{
	struct endpoint *endpoint = container_of(timer, struct endpoint, timer);

	look(endpoint);
	loop_timer_start(endpoint->loop, timer, LOOK_MS);
}

void endpoint_start(struct endpoint *endpoint)
{
	endpoint->timer.expired = timer_expired;
	timer_expired(&endpoint->timer);
}

void endpoint_rebind(struct endpoint *endpoint)
{
	if (!endpoint->is_stopping) {
		close_server(endpoint, CLOSE_MS);
		look(endpoint);
	}
}

void endpoint_stop(
	struct endpoint *endpoint, unsigned grace_ms, void (*stopped)(void *ctx), void *ctx)
{
	endpoint->is_stopping = true;
	endpoint->stopped = stopped;
	endpoint->stopped_ctx = ctx;
	loop_timer_stop(&endpoint->timer);
	endpoint->closing_count++;
	close_server(endpoint, grace_ms);
	server_closed(endpoint);
}
