/* SPDX-License-Identifier: Apache-2.0 */
/* Clients that keep to HTTP/2 but not to the rules: frames made by hand, and what the server says
 * to them. */
#include "api/strake.pb-c.h"
#include "base/bytes.h"
#include "base/testing.h"
#include "grpc/internal.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define DATA        0
#define HEADERS     1
#define RST_STREAM  3
#define SETTINGS    4
#define PING        6
#define GOAWAY      7
#define END_STREAM  1
#define END_HEADERS 4

struct fixture {
	char path[64];
	struct loop *loop;
	struct grpc_server *server;
	int fd; /* the client's end */
	struct strbuf sent;
	struct strbuf received;
	bool stopped, closed;
	unsigned handled;
	nghttp2_hd_inflater *inflater;
};

static void open_volume(struct grpc_call *call, const ProtobufCMessage *message)
{
	Strake__V1__Volume volume = STRAKE__V1__VOLUME__INIT;
	struct fixture *fixture = grpc_call_ctx(call);

	(void)message;
	fixture->handled++;
	grpc_call_reply(call, &volume.base);
}

static const struct grpc_method methods[] = {
	{"/strake.v1.Nexus/OpenVolume", &strake__v1__open_volume_request__descriptor,
		&strake__v1__volume__descriptor, open_volume},
};

static int setup(void **state)
{
	struct fixture *fixture = calloc(1, sizeof(*fixture));
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct err err = {0};

	(void)snprintf(
		fixture->path, sizeof(fixture->path), "/tmp/grpc_protocol_test.%d", (int)getpid());
	struct grpc_server_options options = {.socket_path = fixture->path,
		.methods = methods,
		.method_count = ARRAY_COUNT(methods),
		.ctx = fixture,
		.header_bytes_max = 2000};

	assert_int_equal(loop_new(&fixture->loop, &err), 0);
	assert_int_equal(grpc_server_new(fixture->loop, &options, &fixture->server, &err), 0);
	memcpy(address.sun_path, fixture->path, strlen(fixture->path) + 1);
	fixture->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
	assert_int_equal(connect(fixture->fd, (const void *)&address, sizeof(address)), 0);
	assert_int_equal(nghttp2_hd_inflate_new(&fixture->inflater), 0);
	strbuf_init(&fixture->sent);
	strbuf_init(&fixture->received);
	strbuf_append_bytes(&fixture->sent, NGHTTP2_CLIENT_MAGIC, NGHTTP2_CLIENT_MAGIC_LEN);
	*state = fixture;
	return 0;
}

static void stopped(void *ctx)
{
	((struct fixture *)ctx)->stopped = true;
}

/* Whatever a test did: the server can stop, with no call left. */
static int teardown(void **state)
{
	struct fixture *fixture = *state;

	close(fixture->fd);
	grpc_server_stop(fixture->server, 0, stopped, fixture);
	while (!fixture->stopped) {
		loop_turn(fixture->loop, 1000);
	}
	loop_free(fixture->loop);
	strbuf_done(&fixture->sent);
	strbuf_done(&fixture->received);
	nghttp2_hd_inflate_del(fixture->inflater);
	free(fixture);
	return 0;
}

/* ---- making frames ---- */

static void frame(struct fixture *fixture, unsigned type, unsigned flags, uint32_t stream,
	const void *body, size_t length)
{
	uint8_t head[9] = {(uint8_t)(length >> 16), (uint8_t)(length >> 8), (uint8_t)length,
		(uint8_t)type, (uint8_t)flags, (uint8_t)(stream >> 24), (uint8_t)(stream >> 16),
		(uint8_t)(stream >> 8), (uint8_t)stream};

	strbuf_append_bytes(&fixture->sent, head, sizeof(head));
	strbuf_append_bytes(&fixture->sent, body, length);
}

static void literal(struct strbuf *to, const char *name, const char *value)
{
	uint8_t byte = 0;

	assert_true(strlen(name) < 127 && strlen(value) < 127);
	strbuf_append_bytes(to, &byte, 1);
	byte = (uint8_t)strlen(name);
	strbuf_append_bytes(to, &byte, 1);
	strbuf_append(to, name);
	byte = (uint8_t)strlen(value);
	strbuf_append_bytes(to, &byte, 1);
	strbuf_append(to, value);
}

struct request {
	const char *method, *path, *content_type, *timeout;
	unsigned padding; /* headers of 100 bytes and more */
};

static void headers(
	struct fixture *fixture, unsigned flags, uint32_t stream, struct request request)
{
	struct strbuf block;

	strbuf_init(&block);
	literal(&block, ":method", request.method != NULL ? request.method : "POST");
	literal(&block, ":scheme", "http");
	literal(&block, ":authority", "localhost");
	literal(&block, ":path", request.path != NULL ? request.path : methods[0].path);
	literal(&block, "te", "trailers");
	literal(&block, "content-type",
		request.content_type != NULL ? request.content_type : "application/grpc+proto");
	if (request.timeout != NULL) {
		literal(&block, "grpc-timeout", request.timeout);
	}
	for (unsigned i = 0; i < request.padding; i++) {
		literal(&block, "x-padding",
			"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
			"xx");
	}
	frame(fixture, HEADERS, flags | END_HEADERS, stream, block.text, block.length);
	strbuf_done(&block);
}

static const char empty_message[5] = {0};

static void call(struct fixture *fixture, uint32_t stream, struct request request)
{
	headers(fixture, 0, stream, request);
	frame(fixture, DATA, END_STREAM, stream, empty_message, sizeof(empty_message));
}

/* ---- sending, and reading the answer ---- */

static void run(struct fixture *fixture)
{
	size_t sent = 0;

	for (unsigned idle = 0; idle < 3; idle++) {
		char buffer[4096];
		ssize_t got;

		if (sent < fixture->sent.length && !fixture->closed) {
			ssize_t part = send(fixture->fd, fixture->sent.text + sent,
				fixture->sent.length - sent, MSG_NOSIGNAL);

			sent += part > 0 ? (size_t)part : 0;
			idle = part > 0 ? 0 : idle;
		}
		loop_turn(fixture->loop, 0);
		while ((got = recv(fixture->fd, buffer, sizeof(buffer), 0)) > 0) {
			strbuf_append_bytes(&fixture->received, buffer, (size_t)got);
			idle = 0;
		}
		fixture->closed = fixture->closed || got == 0 || (got < 0 && errno != EAGAIN);
	}
	fixture->sent.length = 0;
}

struct answer {
	char http_status[8];
	char grpc_status[8];
	char message[200];
	bool reset;
	uint32_t reset_code;
	bool goaway;
	uint32_t goaway_code;
	char goaway_text[40];
};

static void keep(char *to, size_t room, const nghttp2_nv *header)
{
	(void)snprintf(to, room, "%.*s", (int)header->valuelen, (const char *)header->value);
}

static void read_block(
	struct fixture *fixture, const uint8_t *block, size_t length, struct answer *answer)
{
	int flags = 0;

	while ((flags & NGHTTP2_HD_INFLATE_FINAL) == 0) {
		nghttp2_nv header;
		ssize_t taken = nghttp2_hd_inflate_hd2(
			fixture->inflater, &header, &flags, block, length, 1);

		assert_true(taken >= 0);
		block += taken;
		length -= (size_t)taken;
		if ((flags & NGHTTP2_HD_INFLATE_EMIT) == 0 || answer == NULL) {
			continue;
		}
		if (header.namelen == 7 && memcmp(header.name, ":status", 7) == 0) {
			keep(answer->http_status, sizeof(answer->http_status), &header);
		} else if (header.namelen == 11 && memcmp(header.name, "grpc-status", 11) == 0) {
			keep(answer->grpc_status, sizeof(answer->grpc_status), &header);
		} else if (header.namelen == 12 && memcmp(header.name, "grpc-message", 12) == 0) {
			keep(answer->message, sizeof(answer->message), &header);
		}
	}
	(void)nghttp2_hd_inflate_end_headers(fixture->inflater);
}

static uint32_t number_at(const uint8_t *bytes)
{
	uint32_t number;

	memcpy(&number, bytes, sizeof(number));
	return ntohl(number);
}

/* What was received for a stream. */
static struct answer answer_of(struct fixture *fixture, uint32_t stream)
{
	const uint8_t *at = (const uint8_t *)strbuf_text(&fixture->received);
	const uint8_t *end = at + fixture->received.length;
	struct answer answer = {0};

	while (end - at >= 9) {
		size_t length = (size_t)at[0] << 16 | (size_t)at[1] << 8 | at[2];
		uint32_t its_stream = number_at(at + 5);
		const uint8_t *body = at + 9;

		if (at[3] == HEADERS) {
			read_block(fixture, body, length, its_stream == stream ? &answer : NULL);
		} else if (at[3] == RST_STREAM && its_stream == stream) {
			answer.reset = true;
			answer.reset_code = number_at(body);
		} else if (at[3] == GOAWAY) {
			answer.goaway = true;
			answer.goaway_code = number_at(body + 4);
			(void)snprintf(answer.goaway_text, sizeof(answer.goaway_text), "%.*s",
				(int)length - 8, (const char *)body + 8);
		}
		at = body + length;
	}
	fixture->received.length = 0;
	return answer;
}

/* ---- tests ---- */

static void test_a_proper_call(void **state)
{
	struct fixture *fixture = *state;

	frame(fixture, SETTINGS, 0, 0, NULL, 0);
	call(fixture, 1, (struct request){.timeout = "5S"});
	run(fixture);
	struct answer answer = answer_of(fixture, 1);

	assert_string_equal(answer.http_status, "200");
	assert_string_equal(answer.grpc_status, "0");
	assert_false(answer.reset);
	assert_int_equal(fixture->handled, 1);
}

static void test_requests_that_are_no_calls(void **state)
{
	static const struct {
		struct request request;
		const char *http_status, *grpc_status;
	} cases[] = {
		{{.method = "GET"}, "405", ""},
		{{.content_type = "text/html"}, "415", ""},
		{{.content_type = "application/grpcx"}, "415", ""},
		{{.path = "/nothing"}, "200", "12"},
		{{.timeout = "5"}, "200", "3"},
		{{.timeout = "123456789S"}, "200", "3"},
		{{.padding = 30}, "200", "8"},
	};
	struct fixture *fixture = *state;

	frame(fixture, SETTINGS, 0, 0, NULL, 0);
	for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
		uint32_t stream = (uint32_t)(2 * i + 1);

		/* The request goes on: the server ends it with RST_STREAM(NO_ERROR). */
		headers(fixture, 0, stream, cases[i].request);
		run(fixture);
		struct answer answer = answer_of(fixture, stream);

		assert_string_equal(answer.http_status, cases[i].http_status);
		assert_string_equal(answer.grpc_status, cases[i].grpc_status);
		assert_true(answer.reset);
		assert_int_equal(answer.reset_code, NGHTTP2_NO_ERROR);
	}
	call(fixture, 101, (struct request){0});
	run(fixture);
	assert_string_equal(answer_of(fixture, 101).grpc_status, "0");
	assert_int_equal(fixture->handled, 1);
}

static void test_messages_that_are_refused(void **state)
{
	static const struct {
		const char *bytes;
		size_t length;
		const char *grpc_status;
	} cases[] = {
		{"", 0, "13"},                        /* no message */
		{"\0\0\0\0\3\x0a", 6, "13"},          /* cut */
		{"\0\0\0\0\0\0\0\0\0\0", 10, "13"},   /* two */
		{"\1\0\0\0\0", 5, "12"},              /* compressed */
		{"\0\x7f\xff\xff\xff", 5, "8"},       /* 2 GiB */
		{"\0\0\0\0\2\x0a\x05", 7, "3"},       /* a field that ends behind the message */
		{"\0\0\0\0\3\x0a\1\xff", 8, "3"},     /* not UTF-8 */
		{"\0\0\0\0\5\x0a\3a\0b", 10, "3"},    /* NUL in a string */
		{"\0\0\0\0\2\x0c\x0c", 7, "3"},       /* a group */
		{"\0\0\0\0\4\x0a\2\xc0\x80", 9, "3"}, /* NUL in two bytes */
		{"\0\0\0\0\5\x0a\3\xed\xa0\x80", 10, "3"},       /* half of a surrogate pair */
		{"\0\0\0\0\7\x0a\2\xc3\xbc\x10\x80\1", 12, "0"}, /* "ü" and a number */
	};
	struct fixture *fixture = *state;

	frame(fixture, SETTINGS, 0, 0, NULL, 0);
	for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
		uint32_t stream = (uint32_t)(2 * i + 1);

		headers(fixture, 0, stream, (struct request){0});
		frame(fixture, DATA, END_STREAM, stream, cases[i].bytes, cases[i].length);
		run(fixture);
		assert_string_equal(answer_of(fixture, stream).grpc_status, cases[i].grpc_status);
	}
	assert_int_equal(fixture->handled, 1);
}

static void test_rapid_resets_end_the_connection(void **state)
{
	static const char cancel[] = "\0\0\0\x08";
	struct fixture *fixture = *state;
	unsigned rounds = 0;

	frame(fixture, SETTINGS, 0, 0, NULL, 0);
	while (!fixture->closed && rounds < 20000) {
		uint32_t stream = rounds++ * 2 + 1;

		headers(fixture, 0, stream, (struct request){0});
		frame(fixture, RST_STREAM, 0, stream, cancel, 4);
		if (rounds % 50 == 0) {
			run(fixture);
		}
	}
	assert_true(fixture->closed);
	assert_true(rounds < 5000);
}

static void test_too_many_pings(void **state)
{
	struct fixture *fixture = *state;

	frame(fixture, SETTINGS, 0, 0, NULL, 0);
	for (unsigned i = 0; i < 80; i++) {
		frame(fixture, PING, 0, 0, "12345678", 8);
	}
	run(fixture);
	struct answer answer = answer_of(fixture, 0);

	assert_true(answer.goaway);
	assert_int_equal(answer.goaway_code, NGHTTP2_ENHANCE_YOUR_CALM);
	assert_string_equal(answer.goaway_text, "too_many_pings");
	assert_true(fixture->closed);
}

static void test_a_client_that_calls_may_ping(void **state)
{
	struct fixture *fixture = *state;

	frame(fixture, SETTINGS, 0, 0, NULL, 0);
	for (unsigned i = 0; i < 200; i++) {
		frame(fixture, PING, 0, 0, "12345678", 8);
		if (i % 20 == 0) {
			call(fixture, i / 20 * 2 + 1, (struct request){.timeout = "5S"});
		}
		run(fixture);
	}
	assert_false(answer_of(fixture, 0).goaway);
	assert_int_equal(fixture->handled, 10);
	assert_false(fixture->closed);
}

static void test_deadline_of_a_client_that_does_not_finish(void **state)
{
	struct fixture *fixture = *state;

	frame(fixture, SETTINGS, 0, 0, NULL, 0);
	headers(fixture, 0, 1, (struct request){.timeout = "0m"});
	run(fixture);
	assert_string_equal(answer_of(fixture, 1).grpc_status, "4");
	assert_int_equal(fixture->handled, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_a_proper_call, setup, teardown),
		cmocka_unit_test_setup_teardown(test_requests_that_are_no_calls, setup, teardown),
		cmocka_unit_test_setup_teardown(test_messages_that_are_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(
			test_rapid_resets_end_the_connection, setup, teardown),
		cmocka_unit_test_setup_teardown(test_too_many_pings, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_client_that_calls_may_ping, setup, teardown),
		cmocka_unit_test_setup_teardown(
			test_deadline_of_a_client_that_does_not_finish, setup, teardown),
	};

	return cmocka_run_group_tests_name("protocol", tests, NULL, NULL);
}
