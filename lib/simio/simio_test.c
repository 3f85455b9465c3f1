/* SPDX-License-Identifier: Apache-2.0 */
#include "base/bytes.h"
#include "base/testing.h"
#include "simio/simio.h"

#include <errno.h>
#include <string.h>

#define STREAM_BYTES (300u * 1024)
#define PORT         4430

/* A server that reads everything, a client that sends a pattern in sends of random sizes. */
struct stream {
	struct sim *sim;
	struct sim_host *hosts[2];
	struct sim_process *processes[2];
	struct io_listener listener;
	struct io_connect connect;
	struct io_conn *client, *server;
	struct io_send send;
	struct io_recv recv;
	struct iovec send_iov[3];
	uint8_t out[7000];
	uint8_t in[5000];
	size_t sent, received, limit;
	int send_result;
	ssize_t recv_result;
	bool send_over, recv_over, wrong, client_closed, server_closed, connect_over;
};

static uint8_t pattern(size_t at)
{
	return (uint8_t)(at * 7 + at / 251);
}

static void server_recv(struct stream *stream)
{
	stream->recv.iov[0] = (struct iovec){stream->in, 1000};
	stream->recv.iov[1] = (struct iovec){stream->in + 1000, sizeof(stream->in) - 1000};
	stream->recv.iov_count = 2;
	io_conn_recv(stream->server, &stream->recv);
}

static void on_recv(struct io_recv *recv)
{
	struct stream *stream = recv->ctx;

	stream->recv_result = recv->result;
	if (recv->result <= 0) {
		stream->recv_over = true;
		return;
	}
	for (ssize_t i = 0; i < recv->result; i++) {
		if (stream->in[i] != pattern(stream->received++)) {
			stream->wrong = true;
		}
	}
	server_recv(stream);
}

static void client_send(struct stream *stream)
{
	size_t length = 1 + rng_below(sim_rng(stream->sim), sizeof(stream->out));

	length = length < stream->limit - stream->sent ? length : stream->limit - stream->sent;
	for (size_t i = 0; i < length; i++) {
		stream->out[i] = pattern(stream->sent + i);
	}
	stream->send_iov[0] = (struct iovec){stream->out, length / 3};
	stream->send_iov[1] = (struct iovec){stream->out + length / 3, 0};
	stream->send_iov[2] = (struct iovec){stream->out + length / 3, length - length / 3};
	stream->send.iov = stream->send_iov;
	stream->send.iov_count = 3;
	stream->sent += length;
	io_conn_send(stream->client, &stream->send);
}

static void on_send(struct io_send *send)
{
	struct stream *stream = send->ctx;

	stream->send_result = send->result;
	/* The transport must have taken the bytes: what is in the buffer now must never be seen. */
	memset(stream->out, 0xee, sizeof(stream->out));
	if (send->result != 0 || stream->sent == stream->limit) {
		stream->send_over = true;
		return;
	}
	client_send(stream);
}

static void on_closed(struct io_conn *conn)
{
	struct stream *stream = conn->ctx;

	if (conn == stream->client) {
		stream->client_closed = true;
	} else {
		stream->server_closed = true;
	}
}

static void on_accepted(struct io_listener *listener, struct io_conn *conn)
{
	struct stream *stream = listener->ctx;

	stream->server = conn;
	conn->ctx = stream;
	conn->closed = on_closed;
	server_recv(stream);
}

static void on_connected(struct io_connect *connect)
{
	struct stream *stream = connect->ctx;

	stream->connect_over = true;
	if (connect->result == 0) {
		stream->client = connect->conn;
		stream->client->ctx = stream;
		stream->client->closed = on_closed;
	}
}

static void stream_init(struct stream *stream, uint64_t seed)
{
	struct err err = {0};

	*stream = (struct stream){.sim = sim_new(seed, NULL), .limit = STREAM_BYTES};
	stream->hosts[0] = sim_host_new(stream->sim, "10.0.0.1");
	stream->hosts[1] = sim_host_new(stream->sim, "10.0.0.2");
	stream->processes[0] = sim_process_new(stream->hosts[0], "client");
	stream->processes[1] = sim_process_new(stream->hosts[1], "server");
	stream->send.ctx = stream;
	stream->send.done = on_send;
	stream->recv.ctx = stream;
	stream->recv.done = on_recv;
	stream->listener = (struct io_listener){.address = {.host = "10.0.0.2", .port = PORT},
		.accepted = on_accepted,
		.ctx = stream};
	assert_int_equal(
		io_listen(sim_process_io(stream->processes[1]), &stream->listener, &err), 0);
	stream->connect = (struct io_connect){.to = {.host = "10.0.0.2", .port = PORT},
		.timeout_ns = 2 * IO_NS_PER_S,
		.done = on_connected,
		.ctx = stream};
}

static void stream_connect(struct stream *stream)
{
	io_connect(sim_process_io(stream->processes[0]), &stream->connect);
	assert_false(stream->connect_over);
	assert_true(sim_run_until_flag(stream->sim, &stream->connect_over, 10 * IO_NS_PER_S));
}

static void stream_done(struct stream *stream)
{
	sim_free(stream->sim);
}

static uint64_t run_stream(uint64_t seed)
{
	struct stream stream;
	uint64_t hash;

	stream_init(&stream, seed);
	stream_connect(&stream);
	assert_int_equal(stream.connect.result, 0);
	client_send(&stream);
	assert_true(sim_run_until_flag(stream.sim, &stream.send_over, 100 * IO_NS_PER_S));
	assert_int_equal(stream.send_result, 0);
	while (stream.received < STREAM_BYTES && sim_step(stream.sim)) {
	}
	assert_int_equal(stream.received, STREAM_BYTES);
	io_conn_close(stream.client);
	assert_true(sim_run_until_flag(stream.sim, &stream.recv_over, 100 * IO_NS_PER_S));
	assert_true(stream.recv_result == 0 || stream.recv_result == -ECONNRESET);
	assert_false(stream.wrong);
	io_conn_close(stream.server);
	assert_true(sim_run_until_idle(stream.sim, 1000));
	assert_true(stream.client_closed && stream.server_closed);
	io_unlisten(sim_process_io(stream.processes[1]), &stream.listener);
	sim_process_exit(stream.processes[0]);
	sim_process_exit(stream.processes[1]);
	hash = sim_hash(stream.sim);
	stream_done(&stream);
	return hash;
}

static void test_stream_arrives_whole_and_in_order(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 40; seed++) {
		(void)run_stream(seed);
	}
}

static void test_same_seed_same_hash(void **state)
{
	uint64_t first = run_stream(7);

	(void)state;
	assert_true(first == run_stream(7));
	assert_true(first != run_stream(8));
}

/* What a crashed sender had sent arrives as a prefix, and then the peer hears of the end. */
static void test_crash_of_sender_leaves_a_prefix(void **state)
{
	size_t shortest = STREAM_BYTES;
	size_t longest = 0;

	(void)state;
	for (uint64_t seed = 1; seed <= 60; seed++) {
		struct stream stream;

		stream_init(&stream, seed);
		stream_connect(&stream);
		client_send(&stream);
		sim_run_for_ns(stream.sim, rng_below(sim_rng(stream.sim), 3 * IO_NS_PER_MS));
		sim_process_crash(stream.processes[0]);
		assert_true(sim_run_until_flag(stream.sim, &stream.recv_over, 10 * IO_NS_PER_S));
		assert_false(stream.wrong);
		assert_true(stream.received <= stream.sent);
		shortest = stream.received < shortest ? stream.received : shortest;
		longest = stream.received > longest ? stream.received : longest;
		stream_done(&stream);
	}
	assert_true(shortest < longest);
}

static void test_partition_holds_bytes_until_healed(void **state)
{
	struct stream stream;

	(void)state;
	stream_init(&stream, 3);
	stream_connect(&stream);
	sim_partition(stream.hosts[0], stream.hosts[1], true);
	client_send(&stream);
	sim_run_for_ns(stream.sim, 20 * IO_NS_PER_S);
	assert_int_equal(stream.received, 0);
	assert_false(stream.send_over);
	sim_partition(stream.hosts[0], stream.hosts[1], false);
	assert_true(sim_run_until_flag(stream.sim, &stream.send_over, 10 * IO_NS_PER_S));
	sim_run_for_ns(stream.sim, IO_NS_PER_S);
	assert_int_equal(stream.received, STREAM_BYTES);
	assert_false(stream.wrong);
	stream_done(&stream);
}

static void test_connect_fails_as_it_should(void **state)
{
	struct stream stream;

	(void)state;
	stream_init(&stream, 4);
	sim_partition(stream.hosts[1], stream.hosts[0], true);
	stream_connect(&stream);
	assert_int_equal(stream.connect.result, -ETIMEDOUT);
	sim_heal_all(stream.sim);
	stream.connect_over = false;
	stream.connect.to.port = PORT + 1;
	stream_connect(&stream);
	assert_int_equal(stream.connect.result, -ECONNREFUSED);
	stream_done(&stream);
}

/* The peer of a host without power hears nothing until the host is up again and it sends something.
 */
static void test_power_loss_is_silent(void **state)
{
	struct stream stream;

	(void)state;
	stream_init(&stream, 5);
	stream_connect(&stream);
	sim_host_power_loss(stream.hosts[1]);
	stream.limit = 100;
	client_send(&stream);
	assert_true(sim_run_until_flag(stream.sim, &stream.send_over, IO_NS_PER_S));
	assert_int_equal(stream.send_result, 0);
	stream.recv.iov[0] = (struct iovec){stream.in, sizeof(stream.in)};
	stream.recv.iov_count = 1;
	io_conn_recv(stream.client, &stream.recv);
	assert_false(sim_run_until_flag(stream.sim, &stream.recv_over, 20 * IO_NS_PER_S));
	sim_host_power_on(stream.hosts[1]);
	assert_true(sim_run_until_flag(stream.sim, &stream.recv_over, 20 * IO_NS_PER_S));
	assert_int_equal(stream.recv_result, -ECONNRESET);
	stream_done(&stream);
}

static void test_cut_resets_both_ends(void **state)
{
	struct stream stream;

	(void)state;
	stream_init(&stream, 6);
	stream.limit = SIZE_MAX;
	stream_connect(&stream);
	client_send(&stream);
	sim_run_for_ns(stream.sim, IO_NS_PER_MS);
	assert_true(sim_cut_random_connection(stream.sim));
	assert_true(sim_run_until_flag(stream.sim, &stream.recv_over, IO_NS_PER_S));
	assert_true(sim_run_until_flag(stream.sim, &stream.send_over, IO_NS_PER_S));
	assert_int_equal(stream.recv_result, -ECONNRESET);
	assert_int_equal(stream.send_result, -ECONNRESET);
	assert_false(stream.wrong);
	stream_done(&stream);
}

/* No byte more than that. */
static void test_cut_after_so_many_bytes(void **state)
{
	(void)state;
	for (size_t bytes = 0; bytes < 40000; bytes = 3 * bytes + 1) {
		struct stream stream;

		stream_init(&stream, 7 + bytes);
		stream.limit = SIZE_MAX;
		stream_connect(&stream);
		assert_true(sim_cut_random_connection_after(stream.sim, bytes));
		client_send(&stream);
		assert_true(sim_run_until_flag(stream.sim, &stream.recv_over, IO_NS_PER_S));
		assert_true(sim_run_until_flag(stream.sim, &stream.send_over, IO_NS_PER_S));
		assert_int_equal(stream.recv_result, -ECONNRESET);
		assert_true(stream.received <= bytes);
		assert_false(stream.wrong);
		stream_done(&stream);
	}
}

static void test_close_cancels_what_is_in_flight(void **state)
{
	struct stream stream;

	(void)state;
	stream_init(&stream, 9);
	stream_connect(&stream);
	sim_run_for_ns(stream.sim, IO_NS_PER_MS);
	io_conn_close(stream.server);
	assert_true(sim_run_until_flag(stream.sim, &stream.server_closed, IO_NS_PER_S));
	assert_true(stream.recv_over);
	assert_int_equal(stream.recv_result, -ECANCELED);
	stream_done(&stream);
}

/* ---- timers, messages, memory ---- */

struct ticker {
	struct task task;
	struct io_timer timer;
	struct io_msg msg;
	unsigned steps;
	bool posted;
};

static void ticker_step(struct task *task)
{
	struct ticker *ticker = container_of(task, struct ticker, task);

	ticker->steps++;
}

static void ticker_posted(struct io_msg *msg)
{
	container_of(msg, struct ticker, msg)->posted = true;
}

static void test_timers_messages_and_freeze(void **state)
{
	struct sim *sim = sim_new(1, NULL);
	struct sim_host *host = sim_host_new(sim, "10.0.0.1");
	struct sim_process *process = sim_process_new(host, "ticker");
	struct io *io = sim_process_io(process);
	struct ticker *ticker = io_zalloc(io, sizeof(*ticker));

	(void)state;
	task_init(&ticker->task, &io->runq, ticker_step);
	io_timer_init(&ticker->timer, io, &ticker->task);
	io_timer_start_after(&ticker->timer, IO_NS_PER_S);
	ticker->msg.run = ticker_posted;
	io_post(io, &ticker->msg);
	sim_run_for_ns(sim, IO_NS_PER_S - 1);
	assert_true(ticker->posted);
	assert_int_equal(ticker->steps, 0);
	sim_run_for_ns(sim, IO_NS_PER_MS);
	assert_int_equal(ticker->steps, 1);
	io_timer_start_after(&ticker->timer, IO_NS_PER_S);
	sim_process_freeze(process, 3 * IO_NS_PER_S);
	sim_run_for_ns(sim, 2 * IO_NS_PER_S);
	assert_int_equal(ticker->steps, 1);
	sim_run_for_ns(sim, 2 * IO_NS_PER_S);
	assert_int_equal(ticker->steps, 2);
	io_free(io, ticker);
	sim_process_fail_allocation(process, 2);
	ticker = io_zalloc_aligned(io, 4096, 10);
	assert_non_null(ticker);
	assert_int_equal((uintptr_t)ticker % 4096, 0);
	assert_null(io_zalloc(io, 10));
	assert_int_equal(sim_process_memory_bytes(process), 10);
	io_free(io, ticker);
	assert_true(sim_run_until_idle(sim, 10));
	sim_process_exit(process);
	sim_free(sim);
}

/* A clock that is 10 % too fast shows more time, and timers run by it; setting the rate makes no
 * jump. */
static void test_clock_rates(void **state)
{
	static const int64_t rates[] = {100000, -100000, 0};
	struct sim *sim = sim_new(1, NULL);
	struct sim_host *host = sim_host_new(sim, "10.0.0.1");
	struct sim_process *process = sim_process_new(host, "ticker");
	struct io *io = sim_process_io(process);
	struct ticker *ticker = io_zalloc(io, sizeof(*ticker));

	(void)state;
	task_init(&ticker->task, &io->runq, ticker_step);
	io_timer_init(&ticker->timer, io, &ticker->task);
	for (unsigned i = 0; i < ARRAY_COUNT(rates); i++) {
		uint64_t before_ns = io_now_ns(io);
		uint64_t second_ns =
			(uint64_t)((int64_t)IO_NS_PER_S * (1000000 + rates[i]) / 1000000);

		sim_host_set_clock_rate(host, rates[i]);
		assert_int_equal(io_now_ns(io), before_ns);
		io_timer_start_after(&ticker->timer, second_ns);
		sim_run_for_ns(sim, IO_NS_PER_S - IO_NS_PER_MS);
		assert_int_equal(ticker->steps, i);
		sim_run_for_ns(sim, IO_NS_PER_MS);
		assert_int_equal(io_now_ns(io) - before_ns, second_ns);
		sim_run_for_ns(sim, IO_NS_PER_MS);
		assert_int_equal(ticker->steps, i + 1);
	}
	io_free(io, ticker);
	sim_process_exit(process);
	sim_free(sim);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_stream_arrives_whole_and_in_order),
		cmocka_unit_test(test_same_seed_same_hash),
		cmocka_unit_test(test_crash_of_sender_leaves_a_prefix),
		cmocka_unit_test(test_partition_holds_bytes_until_healed),
		cmocka_unit_test(test_connect_fails_as_it_should),
		cmocka_unit_test(test_power_loss_is_silent),
		cmocka_unit_test(test_cut_resets_both_ends),
		cmocka_unit_test(test_cut_after_so_many_bytes),
		cmocka_unit_test(test_close_cancels_what_is_in_flight),
		cmocka_unit_test(test_clock_rates),
		cmocka_unit_test(test_timers_messages_and_freeze),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
