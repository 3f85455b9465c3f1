/* SPDX-License-Identifier: Apache-2.0 */
/* Registration with a kubelet that is played. */
#include "api/pluginregistration.pb-c.h"
#include "base/testing.h"
#include "csi-node/registration.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static const struct grpc_method get_info = {"/pluginregistration.Registration/GetInfo",
	&pluginregistration__info_request__descriptor, &pluginregistration__plugin_info__descriptor,
	NULL};
static const struct grpc_method notify = {
	"/pluginregistration.Registration/NotifyRegistrationStatus",
	&pluginregistration__registration_status__descriptor,
	&pluginregistration__registration_status_response__descriptor, NULL};

struct fixture {
	char folder[32], registry[64], socket[100];
	struct loop *loop;
	struct registration registration;
	pthread_t thread;
};

static void *run_loop(void *ctx)
{
	loop_run(ctx);
	return NULL;
}

static int setup(void **state)
{
	struct fixture *fixture = calloc(1, sizeof(*fixture));
	struct err err = {0};

	assert_non_null(fixture);
	(void)snprintf(fixture->folder, sizeof(fixture->folder), "/tmp/registration.XXXXXX");
	assert_non_null(mkdtemp(fixture->folder));
	(void)snprintf(fixture->registry, sizeof(fixture->registry), "%s/plugins_registry",
		fixture->folder);
	(void)snprintf(fixture->socket, sizeof(fixture->socket), "%s/csi.strake.io-reg.sock",
		fixture->registry);
	assert_int_equal(loop_new(&fixture->loop, &err), 0);
	registration_start(&fixture->registration, fixture->loop, &log_null, fixture->folder,
		"/kubelet/csi.sock");
	assert_int_equal(pthread_create(&fixture->thread, NULL, run_loop, fixture->loop), 0);
	*state = fixture;
	return 0;
}

static void stopped(void *ctx)
{
	*(bool *)ctx = true;
}

static int teardown(void **state)
{
	struct fixture *fixture = *state;
	bool is_over = false;

	loop_stop(fixture->loop);
	assert_int_equal(pthread_join(fixture->thread, NULL), 0);
	registration_stop(&fixture->registration, stopped, &is_over);
	while (!is_over) {
		loop_turn(fixture->loop, 100);
	}
	assert_int_equal(access(fixture->socket, F_OK), -1);
	loop_free(fixture->loop);
	(void)rmdir(fixture->registry);
	(void)rmdir(fixture->folder);
	free(fixture);
	return 0;
}

static void pause_ms(long ms)
{
	struct timespec pause = {.tv_nsec = ms * 1000000};

	(void)nanosleep(&pause, NULL);
}

/* What a kubelet does when it sees a socket. */
static void register_as(const struct fixture *fixture, bool is_taken)
{
	Pluginregistration__InfoRequest request = PLUGINREGISTRATION__INFO_REQUEST__INIT;
	Pluginregistration__RegistrationStatus status =
		PLUGINREGISTRATION__REGISTRATION_STATUS__INIT;
	ProtobufCMessage *answer = NULL;
	struct grpc_client *client;
	struct err err = {0};

	while (grpc_client_new(fixture->socket, 1000, &client, &err) < 0) {
		pause_ms(20);
	}
	assert_int_equal(
		grpc_client_call(client, &get_info, &request.base, 5000, &answer, &err), 0);
	const Pluginregistration__PluginInfo *info = (const void *)answer;

	assert_string_equal(info->type, "CSIPlugin");
	assert_string_equal(info->name, "csi.strake.io");
	assert_string_equal(info->endpoint, "/kubelet/csi.sock");
	assert_int_equal(info->n_supported_versions, 1);
	assert_string_equal(info->supported_versions[0], "1.0.0");
	protobuf_c_message_free_unpacked(answer, NULL);
	status.plugin_registered = is_taken;
	assert_int_equal(grpc_client_call(client, &notify, &status.base, 5000, &answer, &err), 0);
	protobuf_c_message_free_unpacked(answer, NULL);
	grpc_client_free(client);
}

static struct timespec made(const struct fixture *fixture)
{
	struct stat info;

	return lstat(fixture->socket, &info) == 0 ? info.st_mtim : (struct timespec){0};
}

static bool is_other(struct timespec now, struct timespec before)
{
	return now.tv_sec != 0 && (now.tv_sec != before.tv_sec || now.tv_nsec != before.tv_nsec);
}

static void test_registers_when_the_folder_is_there_and_again_when_it_is_new(void **state)
{
	const struct fixture *fixture = *state;
	char old[128], old_socket[160];

	pause_ms(50);
	assert_int_equal(mkdir(fixture->registry, 0700), 0);
	register_as(fixture, true);
	/* A kubelet that was restarted dials again. */
	register_as(fixture, true);
	(void)snprintf(old, sizeof(old), "%s.old", fixture->registry);
	(void)snprintf(old_socket, sizeof(old_socket), "%s/csi.strake.io-reg.sock", old);
	assert_int_equal(rename(fixture->registry, old), 0);
	assert_int_equal(mkdir(fixture->registry, 0700), 0);
	register_as(fixture, true);
	(void)unlink(old_socket);
	assert_int_equal(rmdir(old), 0);
}

static void test_a_refusal_is_answered_with_a_new_socket(void **state)
{
	const struct fixture *fixture = *state;
	struct timespec before;

	assert_int_equal(mkdir(fixture->registry, 0700), 0);
	register_as(fixture, true);
	before = made(fixture);
	register_as(fixture, false);
	while (!is_other(made(fixture), before)) {
		pause_ms(20);
	}
	register_as(fixture, true);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			test_registers_when_the_folder_is_there_and_again_when_it_is_new, setup,
			teardown),
		cmocka_unit_test_setup_teardown(
			test_a_refusal_is_answered_with_a_new_socket, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
