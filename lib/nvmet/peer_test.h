/* SPDX-License-Identifier: Apache-2.0 */
/* A host of hand-made bytes for tests: one connection to a target over any io. */
#ifndef NVMET_PEER_TEST_H
#define NVMET_PEER_TEST_H

#include "base/bytes.h"
#include "base/crc32c.h"
#include "io/io.h"
#include "nvme/pdu.h"

#include <assert.h>

#define TEST_PEER_IN  (64u * 1024)
#define TEST_PEER_OUT (16u * 1024)

struct test_peer {
	struct io_connect connect;
	struct io_conn *conn;
	bool connected, over, closed;
	struct io_recv recv;
	uint8_t in[TEST_PEER_IN];
	size_t in_length, in_taken;
	struct io_send send;
	bool sending;
	struct iovec send_iov;
	uint8_t out[TEST_PEER_OUT];
	size_t out_length;
	struct pdu_limits limits;
	struct pdu_encoding encoding;
};

static inline void test_peer_closed(struct io_conn *conn)
{
	struct test_peer *peer = conn->ctx;

	peer->closed = true;
}

static inline void test_peer_close(struct test_peer *peer)
{
	if (peer->conn != NULL) {
		struct io_conn *conn = peer->conn;

		peer->conn = NULL;
		peer->over = true;
		io_conn_close(conn);
	}
}

static inline void test_peer_receive(struct test_peer *peer);

static inline void test_peer_received(struct io_recv *recv)
{
	struct test_peer *peer = recv->ctx;

	if (recv->result <= 0) {
		peer->over = true;
		return;
	}
	peer->in_length += (size_t)recv->result;
	if (peer->conn != NULL) {
		test_peer_receive(peer);
	}
}

static inline void test_peer_receive(struct test_peer *peer)
{
	/* Beyond that nobody looks. */
	if (peer->in_length == sizeof(peer->in)) {
		peer->in_length = 0;
		peer->in_taken = 0;
	}
	peer->recv = (struct io_recv){
		.iov = {{peer->in + peer->in_length, sizeof(peer->in) - peer->in_length}},
		.iov_count = 1,
		.done = test_peer_received,
		.ctx = peer,
	};
	io_conn_recv(peer->conn, &peer->recv);
}

static inline void test_peer_connected(struct io_connect *connect)
{
	struct test_peer *peer = connect->ctx;

	assert(connect->result == 0);
	peer->conn = connect->conn;
	peer->conn->ctx = peer;
	peer->conn->closed = test_peer_closed;
	peer->connected = true;
	test_peer_receive(peer);
}

static inline void test_peer_connect(
	struct test_peer *peer, struct io *io, const char *host, uint16_t port)
{
	memset(peer, 0, sizeof(*peer));
	peer->limits = (struct pdu_limits){.receiver = PDU_ROLE_HOST, .data_max = UINT32_MAX};
	peer->connect = (struct io_connect){
		.to = {.port = port},
		.timeout_ns = IO_NS_PER_S,
		.done = test_peer_connected,
		.ctx = peer,
	};
	memcpy(peer->connect.to.host, host, strlen(host) + 1);
	io_connect(io, &peer->connect);
}

static inline void test_peer_sent(struct io_send *send)
{
	struct test_peer *peer = send->ctx;

	peer->sending = false;
}

/* One send at a time: the caller runs the world in between. */
static inline void test_peer_send(struct test_peer *peer, const uint8_t *bytes, size_t length)
{
	if (peer->conn == NULL || length == 0) {
		return;
	}
	assert(!peer->sending && length <= sizeof(peer->out));
	memcpy(peer->out, bytes, length);
	peer->send_iov = (struct iovec){peer->out, length};
	peer->send = (struct io_send){
		.iov = &peer->send_iov, .iov_count = 1, .done = test_peer_sent, .ctx = peer};
	peer->sending = true;
	io_conn_send(peer->conn, &peer->send);
}

/* ---- making PDUs: each returns the length ---- */

static inline size_t test_put_pdu(
	struct test_peer *peer, uint8_t *to, const struct pdu *pdu, const void *data)
{
	size_t length = pdu_encode(pdu, &peer->encoding, to);

	if (pdu->data_length > 0) {
		if (data != NULL) {
			memcpy(to + length, data, pdu->data_length);
		}
		length += pdu->data_length;
		if (pdu_has_data_digest(pdu, &peer->encoding)) {
			le32_put(to + length, crc32c(data, pdu->data_length));
			length += 4;
		}
	}
	return length;
}

/* `data` goes in the capsule; NULL: `length` bytes by R2T or C2HData. */
static inline size_t test_put_command(struct test_peer *peer, uint8_t *to,
	const struct nvme_sqe *sqe, const void *data, uint32_t length)
{
	const struct nvme_sgl sgl = {.in_capsule = data != NULL, .length = length};
	struct pdu pdu = {
		.type = PDU_CAPSULE_CMD, .data_length = data != NULL ? length : 0, .sqe = *sqe};

	pdu.sqe.flags |= NVME_SQE_PSDT_SGL;
	nvme_sgl_encode(pdu.sqe.dptr, &sgl);
	return test_put_pdu(peer, to, &pdu, data);
}

static inline size_t test_put_icreq(struct test_peer *peer, uint8_t *to, unsigned digests)
{
	const struct pdu pdu = {
		.type = PDU_ICREQ,
		.icreq = {.header_digest = (digests & 1) != 0, .data_digest = (digests & 2) != 0},
	};
	size_t length = test_put_pdu(peer, to, &pdu, NULL);

	peer->encoding.header_digest = pdu.icreq.header_digest;
	peer->encoding.data_digest = pdu.icreq.data_digest;
	return length;
}

static inline size_t test_put_connect(struct test_peer *peer, uint8_t *to, uint16_t cid,
	const struct nvme_connect_cmd *cmd, const struct nvme_connect_data *data)
{
	struct nvme_sqe sqe = {.cid = cid};

	nvme_connect_put(&sqe, cmd);
	return test_put_command(peer, to, &sqe, data, sizeof(*data));
}

static inline size_t test_put_h2c(
	struct test_peer *peer, uint8_t *to, const struct pdu_data *extent, const void *data)
{
	const struct pdu pdu = {
		.type = PDU_H2C_DATA, .data_length = extent->length, .data = *extent};

	return test_put_pdu(peer, to, &pdu, data);
}

/* The next whole PDU that was received; its data at *ret_data.  false: none yet. */
static inline bool test_peer_next(
	struct test_peer *peer, struct pdu *ret_pdu, const uint8_t **ret_data)
{
	const uint8_t *from = peer->in + peer->in_taken;
	size_t there = peer->in_length - peer->in_taken;
	struct pdu_frame frame;
	struct pdu_fault fault;

	if (there < PDU_COMMON_BYTES) {
		return false;
	}
	peer->limits.header_digest = peer->encoding.header_digest;
	peer->limits.data_digest = peer->encoding.data_digest;
	if (pdu_frame_decode(&peer->limits, from, &frame, &fault) != 0) {
		assert(false && "the target sent a bad PDU");
	}
	if (there < frame.total_bytes) {
		return false;
	}
	if (pdu_decode(&peer->limits, &frame, from, ret_pdu, &fault) != 0) {
		assert(false && "the target sent a bad PDU");
	}
	*ret_data = from + frame.data_offset;
	if (frame.data_digest) {
		assert(crc32c(*ret_data, frame.data_length) ==
			le32_get(*ret_data + frame.data_length));
	}
	peer->in_taken += frame.total_bytes;
	return true;
}

#endif
