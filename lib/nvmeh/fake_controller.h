/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A controller for nvmeh's tests: answers by a simple script, keeps written data in memory, and
 * misbehaves on demand.  It shares only the codec with the host, so that an error of our own target
 * cannot hide one of the host.  Header only: the library must not have it.
 */
#ifndef NVMEH_FAKE_CONTROLLER_H
#define NVMEH_FAKE_CONTROLLER_H

#include "base/bytes.h"
#include "base/crc32c.h"
#include "io/io.h"
#include "nvme/pdu.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>

#ifndef FAKE_BUFFER_BYTES
#define FAKE_STORE_BYTES  (4u * 1024 * 1024)
#define FAKE_BUFFER_BYTES (4u * 1024 * 1024)
#endif
#ifndef FAKE_CONNS_MAX
#define FAKE_CONNS_MAX 8u
#endif
#define FAKE_BLOCK     4096u
#define FAKE_TRACE_MAX 4096u

struct fake;
struct fake_conn;

/* A command that waits for its H2CData. */
struct fake_write {
	bool used;
	struct nvme_sqe sqe;
	uint32_t length, got, ordered;
};

struct fake_conn {
	struct fake *fake;
	struct io_conn *conn; /* NULL: closed */
	struct io_send send;
	struct iovec send_iov;
	bool sending, closing;
	struct io_recv recv;
	uint8_t *in, *out, *flight; /* FAKE_BUFFER_BYTES each */
	size_t in_length, out_length;
	bool negotiated;
	uint16_t qid;
	struct pdu_limits limits;
	struct pdu_encoding encoding;
	struct fake_write writes[64];
};

/* Where the script stops to answer. */
enum fake_mute {
	FAKE_ANSWERS,
	FAKE_MUTE_IC,
	FAKE_MUTE_CONNECT,
	FAKE_MUTE_ADMIN,
	FAKE_MUTE_KEEP_ALIVE
};

struct fake {
	struct io *io;
	struct io_listener listener;
	struct fake_conn conns[FAKE_CONNS_MAX];
	unsigned conn_count;
	uint8_t *store;
	/* behaviour */
	bool header_digest, data_digest, success_flag;
	uint8_t cpda;
	uint32_t ioccsz_bytes, maxh2cdata, r2t_max, c2h_max;
	uint16_t mqes;
	uint32_t queues_granted;
	unsigned not_ready_polls; /* CSTS answers 0 this often */
	uint16_t connect_status;
	uint64_t connect_dw01;
	enum fake_mute mute;
	bool flip_data; /* one bit of each C2HData after its digest was made */
	/* Instead of the answer to an I/O command; true: handled. */
	bool (*misbehave)(struct fake_conn *conn, const struct nvme_sqe *sqe);
	/* What comes is dropped and never answered. */
	bool deaf;
	bool drop_h2c; /* H2CData are counted, not written */
	/* seen */
	uint64_t dropped_bytes;
	unsigned keep_alives, terms, capsules_with_data, r2ts;
	uint64_t trace[FAKE_TRACE_MAX]; /* CDW13 of each I/O command in order of arrival */
	unsigned trace_count;
};

static inline void fake_conn_send(struct fake_conn *conn);

static inline void fake_send_done(struct io_send *send)
{
	struct fake_conn *conn = send->ctx;

	conn->sending = false;
	fake_conn_send(conn);
}

static inline void fake_conn_send(struct fake_conn *conn)
{
	if (conn->sending || conn->out_length == 0 || conn->conn == NULL || conn->closing) {
		return;
	}
	memcpy(conn->flight, conn->out, conn->out_length);
	conn->send_iov = (struct iovec){conn->flight, conn->out_length};
	conn->out_length = 0;
	conn->sending = true;
	conn->send = (struct io_send){
		.iov = &conn->send_iov, .iov_count = 1, .done = fake_send_done, .ctx = conn};
	io_conn_send(conn->conn, &conn->send);
}

static inline void fake_put(struct fake_conn *conn, const void *bytes, size_t length)
{
	assert(conn->out_length + length <= FAKE_BUFFER_BYTES);
	memcpy(conn->out + conn->out_length, bytes, length);
	conn->out_length += length;
}

static inline void fake_put_pdu(struct fake_conn *conn, const struct pdu *pdu, const void *data)
{
	uint8_t header[PDU_HEADER_MAX], digest[4];

	fake_put(conn, header, pdu_encode(pdu, &conn->encoding, header));
	if (pdu->data_length > 0) {
		fake_put(conn, data, pdu->data_length);
		if (conn->fake->flip_data) {
			conn->out[conn->out_length - 1] ^= 1;
		}
	}
	if (pdu_has_data_digest(pdu, &conn->encoding)) {
		le32_put(digest, crc32c(data, pdu->data_length));
		fake_put(conn, digest, sizeof(digest));
	}
}

static inline void fake_respond(
	struct fake_conn *conn, uint16_t cid, uint16_t status, uint64_t dw01)
{
	const struct pdu pdu = {.type = PDU_CAPSULE_RESP,
		.cqe = {.cid = cid, .dw01 = dw01, .status = nvme_status_to_wire(status)}};

	fake_put_pdu(conn, &pdu, NULL);
}

static inline void fake_put_c2h(
	struct fake_conn *conn, const struct pdu_data *data, const uint8_t *from)
{
	const struct pdu pdu = {.type = PDU_C2H_DATA, .data_length = data->length, .data = *data};

	fake_put_pdu(conn, &pdu, from);
}

static inline void fake_put_r2t(
	struct fake_conn *conn, uint16_t cid, uint32_t offset, uint32_t length)
{
	const struct pdu pdu = {.type = PDU_R2T,
		.r2t = {.cccid = cid,
			.ttag = (uint16_t)(cid ^ 0x5555),
			.offset = offset,
			.length = length}};

	conn->fake->r2ts++;
	fake_put_pdu(conn, &pdu, NULL);
}

static inline void fake_send_data(
	struct fake_conn *conn, const struct nvme_sqe *sqe, const uint8_t *from, uint32_t length)
{
	bool success = conn->fake->success_flag;

	for (uint32_t at = 0; at < length;) {
		struct pdu_data data = {
			.cccid = sqe->cid,
			.offset = at,
			.length = (uint32_t)min_u64(length - at, conn->fake->c2h_max),
		};

		data.last = at + data.length == length;
		data.success = data.last && success;
		fake_put_c2h(conn, &data, from + at);
		at += data.length;
	}
	if (!success) {
		fake_respond(conn, sqe->cid, 0, 0);
	}
}

static inline uint32_t fake_length(const struct nvme_sqe *sqe)
{
	return le32_get(sqe->dptr + 8);
}

/* ---- commands
 * ------------------------------------------------------------------------------------------------
 */

static inline void fake_identify(struct fake_conn *conn, const struct nvme_sqe *sqe)
{
	struct nvme_id_ctrl id;
	struct nvme_id_ns ns;

	if ((sqe->cdw10 & 0xff) == NVME_CNS_NAMESPACE) {
		memset(&ns, 0, sizeof(ns));
		ns.nsze = ns.ncap = FAKE_STORE_BYTES / FAKE_BLOCK;
		ns.lbaf[0].lbads = 12;
		fake_send_data(conn, sqe, (const uint8_t *)&ns, sizeof(ns));
		return;
	}
	memset(&id, 0, sizeof(id));
	id.mdts = 8;
	id.sgls = NVME_SGLS_ANY_ALIGNMENT | NVME_SGLS_OFFSET;
	id.ioccsz = 4 + conn->fake->ioccsz_bytes / 16;
	fake_send_data(conn, sqe, (const uint8_t *)&id, sizeof(id));
}

static inline void fake_fabrics(
	struct fake_conn *conn, const struct nvme_sqe *sqe, const uint8_t *data)
{
	struct fake *fake = conn->fake;
	uint64_t value = 0;

	if (nvme_sqe_fctype(sqe) == NVME_FABRICS_CONNECT) {
		const struct nvme_connect_data *connect = (const void *)data;

		assert(data != NULL && strncmp(connect->subnqn, "nqn.fake", 8) == 0);
		conn->qid = nvme_connect_get(sqe).qid;
		assert(connect->cntlid == (conn->qid == 0 ? NVME_CNTLID_DYNAMIC : 7));
		if (fake->mute != FAKE_MUTE_CONNECT) {
			fake_respond(conn, sqe->cid, fake->connect_status,
				fake->connect_status != 0 ? fake->connect_dw01 : 7);
		}
		return;
	}
	if (nvme_sqe_fctype(sqe) == NVME_FABRICS_PROPERTY_GET) {
		if (sqe->cdw11 == NVME_PROPERTY_CAP) {
			value = fake->mqes | NVME_CAP_CQR | NVME_CAP_CSS_NVM;
		} else if (fake->not_ready_polls > 0) {
			fake->not_ready_polls--;
		} else {
			value = NVME_CSTS_RDY;
		}
	}
	if (fake->mute != FAKE_MUTE_ADMIN) {
		fake_respond(conn, sqe->cid, 0, value);
	}
}

static inline void fake_admin(struct fake_conn *conn, const struct nvme_sqe *sqe)
{
	uint32_t granted = conn->fake->queues_granted - 1;

	switch (sqe->opcode) {
	case NVME_ADMIN_IDENTIFY:
		fake_identify(conn, sqe);
		return;
	case NVME_ADMIN_SET_FEATURES:
		fake_respond(conn, sqe->cid, 0, granted | granted << 16);
		return;
	case NVME_ADMIN_KEEP_ALIVE:
		conn->fake->keep_alives++;
		if (conn->fake->mute != FAKE_MUTE_KEEP_ALIVE) {
			fake_respond(conn, sqe->cid, 0, 0);
		}
		return;
	default:
		fake_respond(conn, sqe->cid, NVME_SC_INVALID_OPCODE, 0);
		return;
	}
}

static inline void fake_order(struct fake_conn *conn, struct fake_write *write)
{
	uint32_t left = write->length - write->got;

	write->ordered = (uint32_t)min_u64(left, conn->fake->r2t_max);
	fake_put_r2t(conn, write->sqe.cid, write->got, write->ordered);
}

static inline uint8_t *fake_at(struct fake_conn *conn, const struct nvme_sqe *sqe, uint32_t length)
{
	uint64_t offset = (uint64_t)sqe->cdw10 * FAKE_BLOCK;

	assert(range_is_within(offset, length, FAKE_STORE_BYTES));
	return conn->fake->store + offset;
}

static inline void fake_io(struct fake_conn *conn, const struct nvme_sqe *sqe, const uint8_t *data,
	uint32_t data_length)
{
	struct fake *fake = conn->fake;
	uint32_t length = fake_length(sqe);

	if (fake->trace_count < FAKE_TRACE_MAX) {
		fake->trace[fake->trace_count++] = sqe->cdw13;
	}
	fake->capsules_with_data += data_length > 0;
	if (fake->misbehave != NULL && fake->misbehave(conn, sqe)) {
		return;
	}
	if (nvme_sqe_direction(sqe) == NVME_CONTROLLER_TO_HOST) {
		fake_send_data(conn, sqe, fake_at(conn, sqe, length), length);
	} else if (nvme_sqe_direction(sqe) == NVME_NO_DATA) {
		fake_respond(conn, sqe->cid, 0, 0x1122334455667788);
	} else if (data_length > 0) {
		assert(sqe->dptr[15] == NVME_SGL_TYPE_DATA_OFFSET && data_length == length);
		memcpy(fake_at(conn, sqe, length), data, length);
		fake_respond(conn, sqe->cid, 0, 0);
	} else {
		struct fake_write *write = conn->writes;

		while (write->used) {
			write++;
			assert(write < conn->writes + ARRAY_COUNT(conn->writes));
		}
		assert(sqe->dptr[15] == NVME_SGL_TYPE_TRANSPORT);
		*write = (struct fake_write){.used = true, .sqe = *sqe, .length = length};
		fake_order(conn, write);
	}
}

static inline void fake_h2c(struct fake_conn *conn, const struct pdu_data *pdu, const uint8_t *data)
{
	struct fake_write *write = conn->writes;

	if (conn->fake->drop_h2c) {
		conn->fake->dropped_bytes += pdu->length;
		return;
	}
	while (!write->used || write->sqe.cid != pdu->cccid) {
		write++;
		assert(write < conn->writes + ARRAY_COUNT(conn->writes));
	}
	assert(pdu->ttag == (pdu->cccid ^ 0x5555));
	assert(pdu->offset == write->got && pdu->length <= write->ordered);
	assert(pdu->last == (pdu->length == write->ordered));
	memcpy(fake_at(conn, &write->sqe, write->length) + write->got, data, pdu->length);
	write->got += pdu->length;
	write->ordered -= pdu->length;
	if (write->got == write->length) {
		fake_respond(conn, write->sqe.cid, 0, 0);
		write->used = false;
	} else if (write->ordered == 0) {
		fake_order(conn, write);
	}
}

/* ---- the stream
 * -------------------------------------------------------------------------------------------------
 */

static inline void fake_icreq(struct fake_conn *conn, const struct pdu_icreq *icreq)
{
	struct fake *fake = conn->fake;
	const struct pdu pdu = {.type = PDU_ICRESP,
		.icresp = {.cpda = fake->cpda,
			.header_digest = fake->header_digest,
			.data_digest = fake->data_digest,
			.maxh2cdata = fake->maxh2cdata}};

	(void)icreq;
	if (fake->mute == FAKE_MUTE_IC) {
		return;
	}
	fake_put_pdu(conn, &pdu, NULL);
	conn->limits.header_digest = conn->encoding.header_digest = fake->header_digest;
	conn->limits.data_digest = conn->encoding.data_digest = fake->data_digest;
	conn->limits.pda = fake->cpda;
	conn->limits.data_max = fake->maxh2cdata;
	conn->limits.capsule_data_max = (uint32_t)max_u64(fake->ioccsz_bytes, 8192);
}

static inline void fake_pdu(struct fake_conn *conn, const struct pdu *pdu, const uint8_t *data)
{
	switch (pdu->type) {
	case PDU_ICREQ:
		fake_icreq(conn, &pdu->icreq);
		return;
	case PDU_CAPSULE_CMD:
		if (pdu->sqe.opcode == NVME_FABRICS) {
			fake_fabrics(conn, &pdu->sqe, data);
		} else if (conn->qid == 0) {
			fake_admin(conn, &pdu->sqe);
		} else {
			fake_io(conn, &pdu->sqe, data, pdu->data_length);
		}
		return;
	case PDU_H2C_DATA:
		fake_h2c(conn, &pdu->data, data);
		return;
	case PDU_H2C_TERM:
		conn->fake->terms++;
		conn->closing = true;
		io_conn_close(conn->conn);
		return;
	case PDU_ICRESP:
	case PDU_C2H_TERM:
	case PDU_CAPSULE_RESP:
	case PDU_C2H_DATA:
	case PDU_R2T:
		break;
	}
	assert(false);
}

/* The length of the PDU at the start, 0 when it is not all there. */
static inline size_t fake_parse(struct fake_conn *conn)
{
	const uint8_t *data;
	struct pdu_frame frame;
	struct pdu_fault fault;
	struct pdu pdu;

	if (conn->in_length < PDU_COMMON_BYTES) {
		return 0;
	}
	if (pdu_frame_decode(&conn->limits, conn->in, &frame, &fault) != 0) {
		fprintf(stderr, "fake controller: %s\n", fault.text);
		assert(false);
	}
	if (conn->in_length < frame.total_bytes) {
		return 0;
	}
	assert(pdu_decode(&conn->limits, &frame, conn->in, &pdu, &fault) == 0);
	data = conn->in + frame.data_offset;
	if (frame.data_digest) {
		assert(le32_get(data + frame.data_length) == crc32c(data, frame.data_length));
	}
	fake_pdu(conn, &pdu, frame.data_length > 0 ? data : NULL);
	return frame.total_bytes;
}

static inline void fake_recv_start(struct fake_conn *conn);

static inline void fake_recv_done(struct io_recv *recv)
{
	struct fake_conn *conn = recv->ctx;
	size_t used;

	if (recv->result <= 0) {
		if (recv->result != -ECANCELED) {
			conn->closing = true;
			io_conn_close(conn->conn);
		}
		return;
	}
	conn->in_length += (size_t)recv->result;
	if (conn->fake->deaf) {
		conn->in_length = 0;
	}
	while (!conn->fake->deaf && !conn->closing && (used = fake_parse(conn)) > 0) {
		conn->in_length -= used;
		memmove(conn->in, conn->in + used, conn->in_length);
	}
	fake_conn_send(conn);
	if (!conn->closing) {
		fake_recv_start(conn);
	}
}

static inline void fake_recv_start(struct fake_conn *conn)
{
	conn->recv = (struct io_recv){
		.iov = {{conn->in + conn->in_length, FAKE_BUFFER_BYTES - conn->in_length}},
		.iov_count = 1,
		.done = fake_recv_done,
		.ctx = conn,
	};
	io_conn_recv(conn->conn, &conn->recv);
}

static inline void fake_closed(struct io_conn *io_conn)
{
	struct fake_conn *conn = io_conn->ctx;

	conn->conn = NULL;
}

static inline void fake_accepted(struct io_listener *listener, struct io_conn *io_conn)
{
	struct fake *fake = listener->ctx;
	struct fake_conn *conn = &fake->conns[fake->conn_count++];

	assert(fake->conn_count <= FAKE_CONNS_MAX);
	conn->fake = fake;
	conn->conn = io_conn;
	conn->limits = (struct pdu_limits){.receiver = PDU_ROLE_CONTROLLER};
	conn->in = io_zalloc(fake->io, FAKE_BUFFER_BYTES);
	conn->out = io_zalloc(fake->io, FAKE_BUFFER_BYTES);
	conn->flight = io_zalloc(fake->io, FAKE_BUFFER_BYTES);
	io_conn->ctx = conn;
	io_conn->closed = fake_closed;
	fake_recv_start(conn);
}

/* Well-behaved; the test changes what it wants before it connects. */
static inline void fake_start(struct fake *fake, struct io *io, const char *host, uint16_t port)
{
	struct err err;

	memset(fake, 0, sizeof(*fake));
	fake->io = io;
	fake->store = io_zalloc(io, FAKE_STORE_BYTES);
	fake->ioccsz_bytes = 8192;
	fake->maxh2cdata = 131072;
	fake->r2t_max = UINT32_MAX;
	fake->c2h_max = UINT32_MAX;
	fake->mqes = 127;
	fake->queues_granted = 8;
	fake->listener.accepted = fake_accepted;
	fake->listener.ctx = fake;
	(void)snprintf(
		fake->listener.address.host, sizeof(fake->listener.address.host), "%s", host);
	fake->listener.address.port = port;
	assert(io_listen(io, &fake->listener, &err) == 0);
}

#endif
