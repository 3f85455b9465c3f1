/* SPDX-License-Identifier: Apache-2.0 */
/* For tests: a simulated world with a target that serves a device, and a host of hand-made bytes.
 */
#ifndef NVMET_ENV_TEST_H
#define NVMET_ENV_TEST_H

#include "base/testing.h"
#include "nvmet/dev_test.h"
#include "nvmet/nvmet.h"
#include "nvmet/peer_test.h"
#include "simio/simio.h"

#include <errno.h>
#include <stdio.h>

#define NQN        "nqn.test:volume"
#define HOST_NQN   "nqn.test:host"
#define BLOCK      512u
#define DEV_BYTES  (1u << 20)
#define MS(n)      ((n) * IO_NS_PER_MS)
#define SECONDS(n) ((n) * IO_NS_PER_S)

struct env {
	struct sim *sim;
	struct sim_process *server, *client;
	struct bufpool *pool;
	struct nvmet *target;
	struct nvmet_blk *blk;
	struct test_dev dev;
	bool blk_removed, target_closed;
	struct test_peer admin, io;
	/* Where the bytes to the I/O queue are cut; SIZE_MAX: nowhere; every_byte: everywhere */
	size_t cut, sent;
	bool every_byte;
};

static inline void set_flag(void *ctx)
{
	*(bool *)ctx = true;
}

static inline void env_init(struct env *env)
{
	const struct uuid uuid = {{1, 2, 3}};
	struct nvmet_options target = {.address = {"10.0.0.2", 4431}};
	struct io *io;
	struct err err;

	memset(env, 0, sizeof(*env));
	env->cut = SIZE_MAX;
	env->sim = sim_new(1, NULL);
	env->client = sim_process_new(sim_host_new(env->sim, "10.0.0.1"), "client");
	env->server = sim_process_new(sim_host_new(env->sim, "10.0.0.2"), "server");
	io = sim_process_io(env->server);
	assert_int_equal(bufpool_new(io, 1 << 20, &env->pool), 0);
	target.buffers = env->pool;
	assert_int_equal(nvmet_new(io, &target, &env->target, &err), 0);
	test_dev_init(&env->dev, io, DEV_BYTES, BLOCK);
	assert_int_equal(
		nvmet_blk_new(env->target, io, &env->dev.dev, NQN, &uuid, &env->blk, &err), 0);
}

static inline void env_done(struct env *env)
{
	test_peer_close(&env->admin);
	test_peer_close(&env->io);
	nvmet_blk_remove(env->blk, set_flag, &env->blk_removed);
	assert_true(sim_run_until_flag(env->sim, &env->blk_removed, SECONDS(20)));
	nvmet_close(env->target, set_flag, &env->target_closed);
	assert_true(sim_run_until_flag(env->sim, &env->target_closed, SECONDS(20)));
	sim_run_for_ns(env->sim, SECONDS(1));
	bufpool_free(env->pool);
	test_dev_done(&env->dev);
	sim_process_exit(env->server);
	sim_process_exit(env->client);
	sim_free(env->sim);
}

static inline void peer_open(struct env *env, struct test_peer *peer)
{
	test_peer_connect(peer, sim_process_io(env->client), "10.0.0.2", 4431);
	assert_true(sim_run_until_flag(env->sim, &peer->connected, SECONDS(2)));
}

static inline void say(struct env *env, struct test_peer *peer, const uint8_t *bytes, size_t length)
{
	while (length > 0) {
		size_t here = length;

		if (peer == &env->io && env->every_byte) {
			here = 1;
		} else if (peer == &env->io && env->cut > env->sent &&
			   env->cut < env->sent + length) {
			here = env->cut - env->sent;
		}
		test_peer_send(peer, bytes, here);
		sim_run_for_ns(env->sim, MS(2));
		bytes += here;
		length -= here;
		env->sent += here;
	}
}

static inline struct pdu expect(struct env *env, struct test_peer *peer, enum pdu_type type)
{
	const uint8_t *data;
	struct pdu pdu;

	for (unsigned i = 0; !test_peer_next(peer, &pdu, &data); i++) {
		assert_true(i < 100);
		sim_run_for_ns(env->sim, MS(1));
	}
	if (pdu.type != type) {
		fail_msg("%s came, %s was expected", pdu_type_name(pdu.type), pdu_type_name(type));
	}
	return pdu;
}

/* ---- a session ---- */

static inline void negotiate(struct env *env, struct test_peer *peer, unsigned digests)
{
	uint8_t bytes[256];

	peer_open(env, peer);
	say(env, peer, bytes, test_put_icreq(peer, bytes, digests));
	(void)expect(env, peer, PDU_ICRESP);
}

static inline void connect_data(struct nvme_connect_data *data, uint16_t cntlid)
{
	memset(data, 0, sizeof(*data));
	data->cntlid = cntlid;
	(void)snprintf(data->subnqn, sizeof(data->subnqn), NQN);
	(void)snprintf(data->hostnqn, sizeof(data->hostnqn), HOST_NQN);
}

static inline struct nvme_cqe command(struct env *env, struct test_peer *peer, struct nvme_sqe *sqe)
{
	uint8_t bytes[256];

	say(env, peer, bytes, test_put_command(peer, bytes, sqe, NULL, 0));
	return expect(env, peer, PDU_CAPSULE_RESP).cqe;
}

static inline struct nvme_cqe connect_queue(struct env *env, struct test_peer *peer,
	const struct nvme_connect_cmd *cmd, const struct nvme_connect_data *data)
{
	uint8_t bytes[1500];

	say(env, peer, bytes, test_put_connect(peer, bytes, 77, cmd, data));
	return expect(env, peer, PDU_CAPSULE_RESP).cqe;
}

/* The admin queue, enabled, with I/O queues granted. */
static inline void admin_start(struct env *env)
{
	const struct nvme_connect_cmd cmd = {.sqsize = 31};
	struct nvme_sqe enable = {.opcode = NVME_FABRICS,
		.nsid = NVME_FABRICS_PROPERTY_SET,
		.cdw11 = NVME_PROPERTY_CC,
		.cdw12 = 0x460001};
	struct nvme_sqe queues = {.opcode = NVME_ADMIN_SET_FEATURES,
		.cdw10 = NVME_FEATURE_NUMBER_OF_QUEUES,
		.cdw11 = 0x3ff03ff};
	struct nvme_connect_data data;

	negotiate(env, &env->admin, 0);
	connect_data(&data, NVME_CNTLID_DYNAMIC);
	assert_int_equal(connect_queue(env, &env->admin, &cmd, &data).dw01, 1);
	assert_int_equal(command(env, &env->admin, &enable).status, 0);
	assert_int_equal(command(env, &env->admin, &queues).dw01, 62 | 62 << 16);
}

static inline void io_start(struct env *env, unsigned digests, uint8_t cattr)
{
	const struct nvme_connect_cmd cmd = {.qid = 1, .sqsize = 7, .cattr = cattr};
	struct nvme_connect_data data;

	env->sent = 0;
	negotiate(env, &env->io, digests);
	connect_data(&data, 1);
	assert_int_equal(connect_queue(env, &env->io, &cmd, &data).status, 0);
}

#endif
