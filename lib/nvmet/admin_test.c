/* SPDX-License-Identifier: Apache-2.0 */
/* Admin commands: identify, features, log pages, events, discovery. */
#include "base/testing.h"
#include "nvmet/env_test.h"
#include "nvmet/watched_test.h"

/* ---- identify ---- */

static uint16_t identify(struct env *env, uint8_t cns, uint32_t nsid, void *page)
{
	struct nvme_sqe sqe = {.opcode = NVME_ADMIN_IDENTIFY, .nsid = nsid, .cdw10 = cns};

	return admin_read(env, &sqe, page, NVME_IDENTIFY_SIZE);
}

static void identify_all(void **state)
{
	static struct env env;
	union {
		uint8_t bytes[NVME_IDENTIFY_SIZE];
		struct nvme_id_ctrl ctrl;
		struct nvme_id_ns ns;
	} page;
	struct watched watched;

	(void)state;
	env_init(&env);
	watched_add(&env, &watched);
	admin_open(&env, WATCHED_NQN, 0);
	assert_int_equal(identify(&env, NVME_CNS_CONTROLLER, 0, &page), 0);
	assert_string_equal(page.ctrl.subnqn, WATCHED_NQN);
	assert_memory_equal(page.ctrl.sn, "123                 ", 20);
	assert_int_equal(page.ctrl.ioccsz, 516);
	assert_int_equal(page.ctrl.mdts, 8);
	assert_int_equal(page.ctrl.nn, 5000);
	assert_int_equal(page.ctrl.cntlid, 1);
	assert_int_equal(page.ctrl.oncs, 0);
	assert_int_equal(identify(&env, NVME_CNS_NAMESPACE, 3, &page), 0);
	assert_int_equal(page.ns.nsze, 30);
	assert_int_equal(page.ns.lbaf[0].lbads, 12);
	assert_int_equal(page.ns.nguid[2], 3);
	assert_int_equal(identify(&env, NVME_CNS_NAMESPACE, 4, &page), 0);
	assert_true(bytes_are_zero(page.bytes, sizeof(page)));
	assert_int_equal(
		identify(&env, NVME_CNS_NAMESPACE, 5001, &page), NVME_SC_INVALID_NAMESPACE);
	assert_int_equal(identify(&env, NVME_CNS_NAMESPACE, 0, &page), NVME_SC_INVALID_NAMESPACE);
	assert_int_equal(identify(&env, NVME_CNS_NAMESPACE, NVME_NSID_ALL, &page),
		NVME_SC_INVALID_NAMESPACE);
	assert_int_equal(identify(&env, NVME_CNS_ACTIVE_NAMESPACES, 0, &page), 0);
	assert_int_equal(le32_get(page.bytes), 3);
	assert_int_equal(le32_get(page.bytes + 4), 5000);
	assert_int_equal(le32_get(page.bytes + 8), 0);
	assert_int_equal(identify(&env, NVME_CNS_ACTIVE_NAMESPACES, 3, &page), 0);
	assert_int_equal(le32_get(page.bytes), 5000);
	assert_int_equal(identify(&env, NVME_CNS_NAMESPACE_DESCRIPTORS, 3, &page), 0);
	assert_int_equal(page.bytes[0], NVME_NIDT_NGUID);
	assert_int_equal(page.bytes[20], NVME_NIDT_UUID);
	assert_int_equal(page.bytes[24 + 2], 3);
	assert_int_equal(page.bytes[40], NVME_NIDT_CSI);
	assert_int_equal(identify(&env, NVME_CNS_COMMAND_SET_NAMESPACE, 3, &page), 0);
	assert_int_equal(identify(&env, NVME_CNS_COMMAND_SET_CONTROLLER, 0, &page), 0);
	assert_int_equal(identify(&env, NVME_CNS_INDEPENDENT_NAMESPACE, 3, &page), 0);
	assert_int_equal(page.bytes[14], 1);
	assert_int_equal(identify(&env, NVME_CNS_COMMAND_SETS, 0, &page), 0);
	assert_int_equal(identify(&env, 0x77, 0, &page), NVME_SC_INVALID_FIELD);
	watched_remove(&env, &watched);
	env_done(&env);
}

/* ---- features, log pages, the rest of the admin commands ---- */

static struct nvme_cqe feature(struct env *env, bool set, uint32_t id, uint32_t value)
{
	struct nvme_sqe sqe = {.opcode = set ? NVME_ADMIN_SET_FEATURES : NVME_ADMIN_GET_FEATURES,
		.cdw10 = id,
		.cdw11 = value};

	return command(env, &env->admin, &sqe);
}

static void features(void **state)
{
	static const uint8_t stored[] = {NVME_FEATURE_ARBITRATION, NVME_FEATURE_ERROR_RECOVERY,
		NVME_FEATURE_WRITE_ATOMICITY, NVME_FEATURE_ASYNC_EVENT_CONFIG,
		NVME_FEATURE_TEMPERATURE};
	static struct env env;
	struct nvme_sqe host_id = {
		.opcode = NVME_ADMIN_GET_FEATURES, .cdw10 = NVME_FEATURE_HOST_ID, .cdw11 = 1};
	uint8_t id[16];
	struct nvme_cqe cqe;

	(void)state;
	env_init(&env);
	admin_open(&env, NQN, 0);
	for (size_t i = 0; i < sizeof(stored); i++) {
		assert_int_equal(feature(&env, true, stored[i], 0x111).status, 0);
		assert_int_equal(feature(&env, false, stored[i], 0).dw01, 0x111);
		assert_true(feature(&env, false, stored[i] | 1 << 8, 0).dw01 != 0x111);
		assert_int_equal(feature(&env, false, stored[i] | 3 << 8, 0).dw01, 4);
	}
	assert_int_equal(
		feature(&env, false, NVME_FEATURE_NUMBER_OF_QUEUES, 0).dw01, 62 | 62 << 16);
	assert_int_equal(
		feature(&env, true, NVME_FEATURE_NUMBER_OF_QUEUES, 3 | 1 << 16).dw01, 1 | 1 << 16);
	assert_int_equal(feature(&env, false, NVME_FEATURE_NUMBER_OF_QUEUES, 0).dw01, 1 | 1 << 16);
	assert_int_equal(feature(&env, false, NVME_FEATURE_VOLATILE_WRITE_CACHE, 0).dw01, 1);
	cqe = feature(&env, true, NVME_FEATURE_VOLATILE_WRITE_CACHE, 0);
	assert_int_equal(status_of(&cqe), NVME_SC_FEATURE_NOT_CHANGEABLE);
	assert_int_equal(feature(&env, true, NVME_FEATURE_KEEP_ALIVE_TIMER, 2001).status, 0);
	assert_int_equal(feature(&env, false, NVME_FEATURE_KEEP_ALIVE_TIMER, 0).dw01, 2100);
	cqe = feature(&env, true, NVME_FEATURE_POWER_MANAGEMENT, 1);
	assert_int_equal(status_of(&cqe), NVME_SC_INVALID_FIELD);
	cqe = feature(&env, true, NVME_FEATURE_ARBITRATION | 1u << 31, 1);
	assert_int_equal(status_of(&cqe), NVME_SC_FEATURE_NOT_SAVEABLE);
	cqe = feature(&env, false, 0x7e, 0);
	assert_int_equal(status_of(&cqe), NVME_SC_INVALID_FIELD);
	assert_int_equal(admin_read(&env, &host_id, id, sizeof(id)), 0);
	env_done(&env);
}

static uint16_t log_page(struct env *env, uint32_t page, uint64_t offset, void *to, uint32_t length)
{
	struct nvme_sqe sqe = {.opcode = NVME_ADMIN_GET_LOG_PAGE,
		.nsid = NVME_NSID_ALL,
		.cdw10 = page | (length / 4 - 1) << 16,
		.cdw12 = (uint32_t)offset,
		.cdw13 = (uint32_t)(offset >> 32)};

	return admin_read(env, &sqe, to, length);
}

static void log_pages(void **state)
{
	static struct env env;
	static uint8_t page[8192];
	struct nvme_sqe bad = {.opcode = NVME_ADMIN_GET_LOG_PAGE, .cdw10 = NVME_LOG_SMART};

	(void)state;
	env_init(&env);
	admin_open(&env, NQN, 0);
	assert_int_equal(log_page(&env, NVME_LOG_ERROR, 0, page, 8192), 0);
	assert_true(bytes_are_zero(page, 8192));
	assert_int_equal(log_page(&env, NVME_LOG_SMART, 0, page, 512), 0);
	assert_int_equal(page[3], 100);
	assert_int_equal(log_page(&env, NVME_LOG_FIRMWARE, 0, page, 512), 0);
	assert_int_equal(page[0], 1);
	assert_memory_equal(page + 8, STRAKE_VERSION, strlen(STRAKE_VERSION));
	assert_int_equal(log_page(&env, NVME_LOG_COMMAND_EFFECTS, 1024, page, 64), 0);
	assert_int_equal(le32_get(page + 4 * NVME_IO_WRITE), 3);
	assert_int_equal(log_page(&env, NVME_LOG_COMMAND_EFFECTS, 1 << 20, page, 64), 0);
	assert_true(bytes_are_zero(page, 64));
	assert_int_equal(log_page(&env, NVME_LOG_SUPPORTED_PAGES, 0, page, 1024), 0);
	assert_int_equal(le32_get(page + 4 * NVME_LOG_SMART), 1);
	assert_int_equal(log_page(&env, NVME_LOG_ANA, 0, page, 64), NVME_SC_INVALID_LOG_PAGE);
	assert_int_equal(
		log_page(&env, NVME_LOG_DISCOVERY, 0, page, 1024), NVME_SC_INVALID_LOG_PAGE);
	assert_int_equal(log_page(&env, NVME_LOG_SMART, 2, page, 64), NVME_SC_INVALID_FIELD);
	assert_int_equal(admin_read(&env, &bad, page, 512), NVME_SC_DATA_SGL_LENGTH_INVALID);
	env_done(&env);
}

static void other_admin_commands(void **state)
{
	static const uint8_t unknown[] = {
		NVME_ADMIN_CREATE_IO_CQ, NVME_ADMIN_DELETE_IO_SQ, 0x20, NVME_ADMIN_VENDOR_FIRST};
	static struct env env;
	struct nvme_sqe abort_sqe = {.opcode = NVME_ADMIN_ABORT, .cdw10 = 5};
	struct nvme_sqe disconnect = {.opcode = NVME_FABRICS, .nsid = NVME_FABRICS_DISCONNECT};
	struct nvme_cqe cqe;

	(void)state;
	env_init(&env);
	admin_start(&env);
	cqe = command(&env, &env.admin, &abort_sqe);
	assert_int_equal(cqe.status, 0);
	assert_int_equal(cqe.dw01, 1);
	for (size_t i = 0; i < sizeof(unknown); i++) {
		struct nvme_sqe sqe = {.opcode = unknown[i]};

		cqe = command(&env, &env.admin, &sqe);
		assert_int_equal(status_of(&cqe), NVME_SC_INVALID_OPCODE);
		assert_true((cqe.status & NVME_CQE_DNR) != 0);
	}
	io_start(&env, 0, 0);
	cqe = command(&env, &env.io, &disconnect);
	assert_int_equal(status_of(&cqe), NVME_SC_INVALID_OPCODE);
	env_done(&env);
}

/* ---- events ---- */

static void event_request(struct env *env, uint16_t cid)
{
	struct nvme_sqe sqe = {.opcode = NVME_ADMIN_ASYNC_EVENT_REQUEST, .cid = cid};
	uint8_t bytes[256];

	say(env, &env->admin, bytes, test_put_command(&env->admin, bytes, &sqe, NULL, 0));
}

static void nothing_comes(struct env *env)
{
	const uint8_t *data;
	struct pdu pdu;

	sim_run_for_ns(env->sim, MS(100));
	assert_false(test_peer_next(&env->admin, &pdu, &data));
}

static void events(void **state)
{
	static struct env env;
	static uint8_t page[4096];
	struct watched watched;
	struct nvme_cqe cqe;

	(void)state;
	env_init(&env);
	watched_add(&env, &watched);
	admin_open(&env, WATCHED_NQN, 0);
	for (uint16_t i = 0; i < 4; i++) {
		event_request(&env, (uint16_t)(100 + i));
	}
	nothing_comes(&env);
	event_request(&env, 104);
	cqe = expect(&env, &env.admin, PDU_CAPSULE_RESP).cqe;
	assert_int_equal(status_of(&cqe), NVME_SC_ASYNC_EVENT_LIMIT_EXCEEDED);
	/* Not asked for. */
	nvmet_namespaces_changed(env.target, &watched.subsys);
	nothing_comes(&env);
	(void)feature(&env, true, NVME_FEATURE_ASYNC_EVENT_CONFIG, NVME_OAES_NAMESPACES);
	nvmet_namespaces_changed(env.target, &watched.subsys);
	cqe = expect(&env, &env.admin, PDU_CAPSULE_RESP).cqe;
	assert_int_equal(cqe.status, 0);
	assert_int_equal(cqe.dw01, 0x40002);
	assert_true(cqe.cid >= 100 && cqe.cid < 104);
	/* No second one before the page was read. */
	nvmet_namespaces_changed(env.target, &watched.subsys);
	nothing_comes(&env);
	assert_int_equal(log_page(&env, NVME_LOG_CHANGED_NAMESPACES, 0, page, 4096), 0);
	assert_int_equal(le32_get(page), NVME_NSID_ALL);
	assert_int_equal(log_page(&env, NVME_LOG_CHANGED_NAMESPACES, 0, page, 4096), 0);
	assert_int_equal(le32_get(page), 0);
	nothing_comes(&env);
	nvmet_namespaces_changed(env.target, &watched.subsys);
	assert_int_equal(expect(&env, &env.admin, PDU_CAPSULE_RESP).cqe.dw01, 0x40002);
	watched_remove(&env, &watched);
	env_done(&env);
}

/* ---- discovery ---- */

static void discovery(void **state)
{
	static struct env env;
	static uint8_t page[4096];
	const struct nvme_log_discovery_entry *entry =
		(const struct nvme_log_discovery_entry *)(const void *)(page + 1024);
	struct watched watched;
	uint64_t generation;

	(void)state;
	env_init(&env);
	admin_open(&env, NVME_DISCOVERY_NQN, 0);
	assert_int_equal(log_page(&env, NVME_LOG_DISCOVERY, 0, page, 4096), 0);
	generation = le64_get(page);
	assert_int_equal(le64_get(page + 8), 1);
	assert_string_equal(entry->subnqn, NQN);
	assert_string_equal(entry->traddr, "10.0.0.2");
	assert_string_equal(entry->trsvcid, "4431");
	assert_int_equal(entry->trtype, 3);
	(void)feature(&env, true, NVME_FEATURE_ASYNC_EVENT_CONFIG, NVME_OAES_DISCOVERY);
	event_request(&env, 50);
	watched_add(&env, &watched);
	assert_int_equal(expect(&env, &env.admin, PDU_CAPSULE_RESP).cqe.dw01, 0x70f002);
	assert_int_equal(log_page(&env, NVME_LOG_DISCOVERY, 0, page, 16), 0);
	assert_int_equal(le64_get(page + 8), 2);
	assert_true(le64_get(page) > generation);
	/* An entry cut in the middle. */
	assert_int_equal(log_page(&env, NVME_LOG_DISCOVERY, 2048 + 256, page, 1024), 0);
	assert_string_equal((const char *)page, WATCHED_NQN);
	assert_true(bytes_are_zero(page + 768, 256));
	assert_int_equal(identify(&env, NVME_CNS_CONTROLLER, 0, page), 0);
	assert_int_equal(page[111], NVME_CNTRLTYPE_DISCOVERY);
	assert_int_equal(identify(&env, NVME_CNS_NAMESPACE, 1, page), NVME_SC_INVALID_FIELD);
	assert_int_equal(log_page(&env, NVME_LOG_SMART, 0, page, 512), NVME_SC_INVALID_LOG_PAGE);
	/* Two minutes without a word are the end, though the host asked for no keep-alive. */
	sim_run_for_ns(env.sim, SECONDS(119));
	assert_false(env.admin.over);
	sim_run_for_ns(env.sim, SECONDS(2));
	assert_true(env.admin.over);
	watched_remove(&env, &watched);
	env_done(&env);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(identify_all),
		cmocka_unit_test(features),
		cmocka_unit_test(log_pages),
		cmocka_unit_test(other_admin_commands),
		cmocka_unit_test(events),
		cmocka_unit_test(discovery),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
