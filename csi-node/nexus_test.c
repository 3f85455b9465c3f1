/* SPDX-License-Identifier: Apache-2.0 */
/* What the nexus is asked for. */
#include "base/bytes.h"
#include "base/testing.h"
#include "csi-node/daemons.h"
#include "grpc/grpc.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A nexus with one volume, on a thread of its own; it answers with these codes. */
struct fixture {
	char folder[64], path[96];
	struct loop *loop;
	struct grpc_server *server;
	pthread_t thread;
	struct loop_msg stop;
	int unpublish, close, forget;
	char asked[8]; /* the letters of the calls */
};

static bool is_refused(struct grpc_call *call, char letter, int code)
{
	struct fixture *fixture = grpc_call_ctx(call);
	size_t length = strlen(fixture->asked);

	if (length + 1 < sizeof(fixture->asked)) {
		fixture->asked[length] = letter;
	}
	if (code < 0) {
		grpc_call_failf(call, code, "told so");
	}
	return code < 0;
}

static void reply_volume(struct grpc_call *call)
{
	Strake__V1__Volume volume = STRAKE__V1__VOLUME__INIT;

	grpc_call_reply(call, &volume.base);
}

static void unpublish_volume(struct grpc_call *call, const ProtobufCMessage *request)
{
	const struct fixture *fixture = grpc_call_ctx(call);

	(void)request;
	if (!is_refused(call, 'u', fixture->unpublish)) {
		reply_volume(call);
	}
}

static void close_volume(struct grpc_call *call, const ProtobufCMessage *request)
{
	const struct fixture *fixture = grpc_call_ctx(call);

	(void)request;
	if (!is_refused(call, 'c', fixture->close)) {
		reply_volume(call);
	}
}

static void delete_volume(struct grpc_call *call, const ProtobufCMessage *request)
{
	const struct fixture *fixture = grpc_call_ctx(call);
	Strake__V1__DeleteVolumeResponse response = STRAKE__V1__DELETE_VOLUME_RESPONSE__INIT;

	(void)request;
	if (!is_refused(call, 'f', fixture->forget)) {
		grpc_call_reply(call, &response.base);
	}
}

static const struct grpc_method methods[] = {
	{"/strake.v1.Nexus/UnpublishVolume", &strake__v1__unpublish_volume_request__descriptor,
		&strake__v1__volume__descriptor, unpublish_volume},
	{"/strake.v1.Nexus/CloseVolume", &strake__v1__close_volume_request__descriptor,
		&strake__v1__volume__descriptor, close_volume},
	{"/strake.v1.Nexus/DeleteVolume", &strake__v1__delete_volume_request__descriptor,
		&strake__v1__delete_volume_response__descriptor, delete_volume},
};

static void server_stopped(void *ctx)
{
	struct fixture *fixture = ctx;

	loop_stop(fixture->loop);
}

static void stop_run(struct loop_msg *msg)
{
	struct fixture *fixture = container_of(msg, struct fixture, stop);

	grpc_server_stop(fixture->server, 2000, server_stopped, fixture);
}

static void *serve(void *ctx)
{
	struct fixture *fixture = ctx;

	loop_run(fixture->loop);
	return NULL;
}

static void start(struct fixture *fixture)
{
	struct grpc_server_options options = {
		.socket_path = fixture->path,
		.methods = methods,
		.method_count = ARRAY_COUNT(methods),
		.ctx = fixture,
	};
	struct err err = {0};

	(void)snprintf(fixture->folder, sizeof(fixture->folder), "/tmp/nexus_test.XXXXXX");
	assert_non_null(mkdtemp(fixture->folder));
	(void)snprintf(fixture->path, sizeof(fixture->path), "%s/socket", fixture->folder);
	fixture->stop.run = stop_run;
	assert_int_equal(loop_new(&fixture->loop, &err), 0);
	if (grpc_server_new(fixture->loop, &options, &fixture->server, &err) < 0) {
		fail_msg("%s", err.text);
	}
	assert_int_equal(pthread_create(&fixture->thread, NULL, serve, fixture), 0);
}

static void stop(struct fixture *fixture)
{
	loop_post(fixture->loop, &fixture->stop);
	pthread_join(fixture->thread, NULL);
	loop_free(fixture->loop);
	assert_int_equal(rmdir(fixture->folder), 0);
}

/* `asked`: the calls that the nexus shall get. */
static int take_away(int unpublish, int close, int forget, const char *asked)
{
	struct fixture fixture = {.unpublish = unpublish, .close = close, .forget = forget};
	struct err err = {0};
	int result;

	start(&fixture);
	result = nexus_take_away(fixture.path, "v", true, &err);
	stop(&fixture);
	assert_string_equal(fixture.asked, asked);
	return result;
}

static void test_what_is_gone_is_fine(void **state)
{
	(void)state;
	assert_int_equal(take_away(0, 0, 0, "ucf"), 0);
	assert_int_equal(take_away(-ENOENT, -ENOENT, -ENOENT, "ucf"), 0);
}

static void test_a_volume_without_its_device_is_closed_and_forgotten(void **state)
{
	(void)state;
	assert_int_equal(take_away(-ENOENT, 0, 0, "ucf"), 0);
	assert_int_equal(take_away(-ENOENT, -EINVAL, 0, "uc"), -EINVAL);
}

static void test_nothing_follows_a_failure(void **state)
{
	(void)state;
	assert_int_equal(take_away(-EINVAL, 0, 0, "u"), -EINVAL);
	assert_int_equal(take_away(0, -EINVAL, 0, "uc"), -EINVAL);
	assert_int_equal(take_away(0, 0, -EINVAL, "ucf"), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_is_gone_is_fine),
		cmocka_unit_test(test_a_volume_without_its_device_is_closed_and_forgotten),
		cmocka_unit_test(test_nothing_follows_a_failure),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
