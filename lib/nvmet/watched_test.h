/* SPDX-License-Identifier: Apache-2.0 */
/* For tests: a subsystem that counts and remembers, beside the served device. */
#ifndef NVMET_WATCHED_TEST_H
#define NVMET_WATCHED_TEST_H

#include "nvmet/env_test.h"

struct watched {
	struct nvmet_subsys subsys;
	unsigned gone, vendor, removed;
	bool is_removed;
	struct nvmet_ctrl *ctrl;
	struct nvmet_req *held;
	bool hold;
};

#define WATCHED_NQN "nqn.test:watched"

static inline bool watched_ns_info(
	struct nvmet_subsys *subsys, uint32_t nsid, struct nvmet_ns_info *ret_info)
{
	(void)subsys;
	if (nsid != 3 && nsid != 5000) {
		return false;
	}
	*ret_info = (struct nvmet_ns_info){
		.block_count = nsid * 10, .block_bytes = 4096, .uuid = {{7, 7, (uint8_t)nsid}}};
	return true;
}

static inline uint32_t watched_ns_next(struct nvmet_subsys *subsys, uint32_t after)
{
	(void)subsys;
	return after < 3 ? 3 : after < 5000 ? 5000 : 0;
}

static inline void watched_admin(struct nvmet_subsys *subsys, struct nvmet_req *req)
{
	struct watched *watched = subsys->ctx;

	watched->vendor++;
	watched->ctrl = req->ctrl;
	*nvmet_ctrl_owner(req->ctrl) = watched;
	if (watched->hold) {
		watched->held = req;
		return;
	}
	nvmet_req_complete(req, NVME_SC_SUCCESS, req->length);
}

static inline void watched_io(struct nvmet_subsys *subsys, struct nvmet_req *req)
{
	(void)subsys;
	nvmet_req_complete(req, NVME_SC_INVALID_OPCODE, 0);
}

static inline void watched_gone(struct nvmet_subsys *subsys, struct nvmet_ctrl *ctrl)
{
	struct watched *watched = subsys->ctx;

	assert_ptr_equal(*nvmet_ctrl_owner(ctrl), watched->ctrl != NULL ? watched : NULL);
	watched->gone++;
}

static inline void watched_removed(struct nvmet_subsys *subsys)
{
	struct watched *watched = subsys->ctx;

	watched->removed++;
	watched->is_removed = true;
}

static inline bool watched_host_allowed(struct nvmet_subsys *subsys, const char *hostnqn)
{
	(void)subsys;
	return strcmp(hostnqn, "nqn.test:asked") == 0;
}

static const char watched_hosts[][NVME_NQN_SIZE] = {HOST_NQN, "nqn.test:other"};

static const struct nvmet_subsys_ops watched_ops = {
	.ns_info = watched_ns_info,
	.ns_next = watched_ns_next,
	.io = watched_io,
	.admin_vendor = watched_admin,
	.ctrl_gone = watched_gone,
	.host_allowed = watched_host_allowed,
};

static inline void watched_add(struct env *env, struct watched *watched)
{
	memset(watched, 0, sizeof(*watched));
	watched->subsys = (struct nvmet_subsys){
		.ops = &watched_ops,
		.ctx = watched,
		.nqn = WATCHED_NQN,
		.serial = "123",
		.model = "watched",
		.allowed_hosts = watched_hosts,
		.allowed_host_count = 2,
		.in_discovery = true,
		.removed = watched_removed,
	};
	assert_int_equal(nvmet_add(env->target, &watched->subsys), 0);
	assert_int_equal(nvmet_add(env->target, &watched->subsys), -EEXIST);
}

static inline void watched_remove(struct env *env, struct watched *watched)
{
	nvmet_remove(env->target, &watched->subsys);
	assert_true(sim_run_until_flag(env->sim, &watched->is_removed, SECONDS(20)));
	assert_int_equal(watched->removed, 1);
}

static inline uint16_t status_of(const struct nvme_cqe *cqe)
{
	return nvme_status_from_wire(cqe->status);
}

/* An enabled admin queue of any subsystem. */
static inline void admin_open(struct env *env, const char *subnqn, uint32_t kato_ms)
{
	const struct nvme_connect_cmd cmd = {.sqsize = 31, .kato_ms = kato_ms};
	struct nvme_sqe enable = {
		.opcode = NVME_FABRICS, .cdw11 = NVME_PROPERTY_CC, .cdw12 = 0x460001};
	struct nvme_connect_data data;

	negotiate(env, &env->admin, 0);
	connect_data(&data, NVME_CNTLID_DYNAMIC);
	(void)snprintf(data.subnqn, sizeof(data.subnqn), "%s", subnqn);
	assert_int_equal(connect_queue(env, &env->admin, &cmd, &data).status, 0);
	assert_int_equal(command(env, &env->admin, &enable).status, 0);
}

/* A command with data to the host, on the admin queue. */
static inline uint16_t admin_read(struct env *env, struct nvme_sqe *sqe, void *to, uint32_t length)
{
	uint8_t bytes[256];
	const uint8_t *data;
	struct pdu pdu;

	say(env, &env->admin, bytes, test_put_command(&env->admin, bytes, sqe, NULL, length));
	for (unsigned i = 0; !test_peer_next(&env->admin, &pdu, &data); i++) {
		assert_true(i < 100);
		sim_run_for_ns(env->sim, MS(1));
	}
	if (pdu.type == PDU_CAPSULE_RESP) {
		return status_of(&pdu.cqe);
	}
	assert_int_equal(pdu.type, PDU_C2H_DATA);
	assert_int_equal(pdu.data.length, length);
	memcpy(to, data, length);
	pdu = expect(env, &env->admin, PDU_CAPSULE_RESP);
	return status_of(&pdu.cqe);
}

#endif
