/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The NVMe/TCP target against a host that says anything.  Input: 1 byte of options, 1 byte that
 * says how the rest is cut into sends, then what the host sends.  Options: bits 1:0 from where on
 * (0 the first byte, 1 an admin queue, 2 an I/O queue with a write that waits for 4 KiB by R2T),
 * bits 2 and 3 header and data digests, bit 4: the input is commands of 64 bytes each, to which the
 * header is added.
 */
#include "nvmet/dev_test.h"
#include "nvmet/nvmet.h"
#include "nvmet/peer_test.h"
#include "simio/simio.h"

#include <stdio.h>

#define NQN       "nqn.test:volume"
#define DEV_BYTES (1u << 20)
#define MS(n)     ((n) * IO_NS_PER_MS)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct run {
	struct sim *sim;
	struct sim_process *server, *client;
	struct bufpool *pool;
	struct nvmet *target;
	struct nvmet_blk *blk;
	struct test_dev dev;
	bool blk_removed, closed;
	struct test_peer admin, io;
};

static void require(bool condition)
{
	if (!condition) {
		abort();
	}
}

static void set_flag(void *ctx)
{
	*(bool *)ctx = true;
}

static void run_start(struct run *run)
{
	const struct uuid uuid = {{1}};
	struct nvmet_options options = {.address = {"10.0.0.2", 4431}, .queues_max = 8};
	struct io *io;
	struct err err;

	run->sim = sim_new(1, NULL);
	run->client = sim_process_new(sim_host_new(run->sim, "10.0.0.1"), "client");
	run->server = sim_process_new(sim_host_new(run->sim, "10.0.0.2"), "server");
	io = sim_process_io(run->server);
	require(bufpool_new(io, 1 << 20, &run->pool) == 0);
	options.buffers = run->pool;
	require(nvmet_new(io, &options, &run->target, &err) == 0);
	test_dev_init(&run->dev, io, DEV_BYTES, 512);
	require(nvmet_blk_new(run->target, io, &run->dev.dev, NQN, &uuid, &run->blk, &err) == 0);
}

static void run_end(struct run *run)
{
	test_peer_close(&run->admin);
	test_peer_close(&run->io);
	nvmet_blk_remove(run->blk, set_flag, &run->blk_removed);
	require(sim_run_until_flag(run->sim, &run->blk_removed, 60 * IO_NS_PER_S));
	nvmet_close(run->target, set_flag, &run->closed);
	require(sim_run_until_flag(run->sim, &run->closed, 60 * IO_NS_PER_S));
	sim_run_for_ns(run->sim, IO_NS_PER_S);
	require(bufpool_used_bytes(run->pool) == 0);
	bufpool_free(run->pool);
	test_dev_done(&run->dev);
	sim_process_exit(run->server);
	sim_process_exit(run->client);
	sim_free(run->sim);
}

static void say(struct run *run, struct test_peer *peer, const uint8_t *bytes, size_t length)
{
	test_peer_send(peer, bytes, length);
	for (unsigned i = 0; i < 1000 && peer->sending; i++) {
		sim_run_for_ns(run->sim, MS(1));
	}
	sim_run_for_ns(run->sim, MS(2));
	/* A send to a connection that nobody reads any more may never end. */
	if (peer->sending) {
		test_peer_close(peer);
		sim_run_for_ns(run->sim, MS(1));
	}
}

static void open_queue(struct run *run, struct test_peer *peer, uint16_t qid, unsigned digests)
{
	const struct nvme_connect_cmd cmd = {
		.qid = qid, .sqsize = 31, .cattr = NVME_CATTR_DISABLE_SQ_FLOW};
	struct nvme_connect_data data = {.cntlid = qid == 0 ? NVME_CNTLID_DYNAMIC : 1};
	uint8_t bytes[1500];

	(void)snprintf(data.subnqn, sizeof(data.subnqn), NQN);
	say(run, peer, bytes, test_put_icreq(peer, bytes, digests));
	say(run, peer, bytes, test_put_connect(peer, bytes, 1, &cmd, &data));
}

static void peer_connect(struct run *run, struct test_peer *peer)
{
	test_peer_connect(peer, sim_process_io(run->client), "10.0.0.2", 4431);
	require(sim_run_until_flag(run->sim, &peer->connected, IO_NS_PER_S));
}

/* The connection that the input goes to. */
static struct test_peer *run_prepare(struct run *run, unsigned from, unsigned digests)
{
	struct nvme_sqe enable = {
		.opcode = NVME_FABRICS, .cdw11 = NVME_PROPERTY_CC, .cdw12 = 0x460001};
	struct nvme_sqe queues = {.opcode = NVME_ADMIN_SET_FEATURES,
		.cdw10 = NVME_FEATURE_NUMBER_OF_QUEUES,
		.cdw11 = 3 | 3 << 16};
	struct nvme_sqe write = {.opcode = NVME_IO_WRITE, .cid = 9, .nsid = 1, .cdw12 = 7};
	uint8_t bytes[256];

	peer_connect(run, &run->admin);
	if (from == 0) {
		return &run->admin;
	}
	open_queue(run, &run->admin, 0, from == 1 ? digests : 0);
	say(run, &run->admin, bytes, test_put_command(&run->admin, bytes, &enable, NULL, 0));
	say(run, &run->admin, bytes, test_put_command(&run->admin, bytes, &queues, NULL, 0));
	if (from == 1) {
		return &run->admin;
	}
	peer_connect(run, &run->io);
	open_queue(run, &run->io, 1, digests);
	say(run, &run->io, bytes, test_put_command(&run->io, bytes, &write, NULL, 4096));
	return &run->io;
}

static void say_commands(struct run *run, struct test_peer *peer, const uint8_t *data, size_t size)
{
	for (; size >= sizeof(struct nvme_sqe); size -= sizeof(struct nvme_sqe)) {
		struct pdu pdu = {.type = PDU_CAPSULE_CMD};
		uint8_t bytes[PDU_HEADER_MAX];

		memcpy(&pdu.sqe, data, sizeof(pdu.sqe));
		say(run, peer, bytes, test_put_pdu(peer, bytes, &pdu, NULL));
		data += sizeof(struct nvme_sqe);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct run *run;
	struct test_peer *peer;
	uint8_t options, cut;

	if (size < 2 || size > TEST_PEER_OUT) {
		return 0;
	}
	options = data[0];
	cut = data[1];
	data += 2;
	size -= 2;
	run = calloc(1, sizeof(*run));
	require(run != NULL);
	run_start(run);
	peer = run_prepare(run, options & 3u, options >> 2 & 3u);
	if ((options & 16) != 0) {
		say_commands(run, peer, data, size);
	} else {
		size_t piece = cut == 0 ? size : (size_t)cut * 8;

		for (size_t at = 0; at < size; at += piece) {
			say(run, peer, data + at, min_u64(piece, size - at));
		}
	}
	/* Long enough for everything that a clock ends. */
	sim_run_for_ns(run->sim, 15 * IO_NS_PER_S);
	run_end(run);
	free(run);
	return 0;
}
