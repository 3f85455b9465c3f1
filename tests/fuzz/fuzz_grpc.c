/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A client that sends anything to the gRPC server.  The input goes in after HTTP/2's preface in
 * pieces (the first byte says how large), then the server must still be able to stop with nothing
 * left.
 */
#include "api/strake.pb-c.h"
#include "base/bytes.h"
#include "grpc/grpc.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

static void require(bool condition)
{
	if (!condition) {
		abort();
	}
}

static void create_volume(struct grpc_call *call, const ProtobufCMessage *message)
{
	const Strake__V1__CreateVolumeRequest *request = (const void *)message;
	Strake__V1__Volume volume = STRAKE__V1__VOLUME__INIT;

	volume.name = request->name;
	volume.size_bytes = request->size_bytes;
	grpc_call_reply(call, &volume.base);
}

static const struct grpc_method methods[] = {
	{"/strake.v1.Nexus/CreateVolume", &strake__v1__create_volume_request__descriptor,
		&strake__v1__volume__descriptor, create_volume},
};

static void stopped(void *ctx)
{
	*(bool *)ctx = true;
}

static int connect_to(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);

	memcpy(address.sun_path, path, strlen(path) + 1);
	require(fd >= 0 && connect(fd, (const void *)&address, sizeof(address)) == 0);
	return fd;
}

static void talk(struct loop *loop, int fd, const uint8_t *data, size_t size, size_t piece)
{
	char scrap[4096];

	(void)!send(fd, preface, sizeof(preface) - 1, MSG_NOSIGNAL);
	while (size > 0) {
		size_t part = min_u64(size, piece);

		if (send(fd, data, part, MSG_NOSIGNAL) < 0) {
			break;
		}
		data += part;
		size -= part;
		loop_turn(loop, 0);
		(void)!recv(fd, scrap, sizeof(scrap), 0);
	}
	for (unsigned i = 0; i < 4; i++) {
		loop_turn(loop, 0);
		(void)!recv(fd, scrap, sizeof(scrap), 0);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char path[64];
	struct loop *loop = NULL;
	struct grpc_server *server = NULL;
	struct err err = {0};
	bool is_stopped = false;

	if (size < 1) {
		return 0;
	}
	(void)snprintf(path, sizeof(path), "/tmp/fuzz_grpc.%d", (int)getpid());
	struct grpc_server_options options = {.socket_path = path,
		.methods = methods,
		.method_count = ARRAY_COUNT(methods),
		.message_bytes_max = 4096,
		.budget_bytes = 8192};

	require(loop_new(&loop, &err) == 0 && grpc_server_new(loop, &options, &server, &err) == 0);
	int fd = connect_to(path);

	loop_turn(loop, 0);
	talk(loop, fd, data + 1, size - 1, (size_t)data[0] + 1);
	close(fd);
	grpc_server_stop(server, 0, stopped, &is_stopped);
	while (!is_stopped) {
		loop_turn(loop, 100);
	}
	loop_free(loop);
	return 0;
}
