/* SPDX-License-Identifier: Apache-2.0 */
/* From nothing to ready: the queues one after the other, the controller's initialization between
 * the first and the rest, then keep-alive. */
#include "base/bytes.h"
#include "nvmeh/internal.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>

#define READY_POLL_NS (10 * IO_NS_PER_MS)

static const char *queue_state_text(const struct queue *queue)
{
	switch (queue->state) {
	case QUEUE_START:
	case QUEUE_CONNECTING:
		return "the TCP connection";
	case QUEUE_NEGOTIATING:
		return "ICResp";
	case QUEUE_ATTACHING:
	case QUEUE_UP:
		break;
	}
	return "the answer to Connect";
}

/* What the time ran out for. */
static const char *setup_state_text(const struct nvmeh *assoc)
{
	const struct queue *queue = &assoc->queues[assoc->setup.queue_index];

	switch (assoc->setup.state) {
	case SETUP_START:
	case SETUP_ADMIN_QUEUE:
	case SETUP_IO_QUEUE:
		return queue_state_text(queue);
	case SETUP_CAP:
		return "the answer to Property Get (CAP)";
	case SETUP_ENABLE:
		return "the answer to Property Set (CC)";
	case SETUP_STATUS:
	case SETUP_PAUSE:
		return "the controller to become ready (CSTS.RDY)";
	case SETUP_IDENTIFY:
		return "the answer to Identify Controller";
	case SETUP_QUEUE_COUNT:
		return "the answer to Set Features (Number of Queues)";
	}
	return "nothing";
}

static void setup_time_out(struct nvmeh *assoc)
{
	char address[IO_ADDRESS_TEXT_SIZE];

	assoc_fail(assoc, -ETIMEDOUT, "queue %u of %s: timed out waiting for %s",
		assoc->setup.queue_index, io_address_to_text(&assoc->options.address, address),
		setup_state_text(assoc));
}

/* ---- our own commands: one at a time
 * --------------------------------------------------------------------- */

static void own_cmd_done(struct nvmeh_cmd *cmd)
{
	struct nvmeh *assoc = cmd->ctx;

	assoc->cmd_done = true;
	task_wake(&assoc->setup.task);
	task_wake(&assoc->queues[assoc->setup.queue_index].setup);
	task_wake(&assoc->keep_alive.task);
}

/* data_length bytes of assoc->page go or come. */
static void own_cmd_submit(
	struct nvmeh *assoc, struct queue *queue, const struct nvme_sqe *sqe, uint32_t data_length)
{
	assoc->cmd_iov = (struct iovec){assoc->page, data_length};
	assoc->cmd = (struct nvmeh_cmd){
		.sqe = *sqe,
		.admin = queue->qid == 0,
		.iov = &assoc->cmd_iov,
		.iov_count = data_length > 0 ? 1 : 0,
		.length = data_length,
		.result = -ECONNRESET,
		.done = own_cmd_done,
		.ctx = assoc,
	};
	assoc->cmd_done = false;
	queue_submit_first(queue, &assoc->cmd);
}

/* Did the command succeed?  If not, the association has failed. */
static bool own_cmd_ok(struct nvmeh *assoc, const char *what)
{
	if (assoc->cmd.status == NVME_SC_SUCCESS) {
		return true;
	}
	assoc_fail(assoc, -ECONNREFUSED, "%s: %s (status %03xh)", what,
		nvme_status_text(assoc->cmd.status), assoc->cmd.status);
	return false;
}

/* ---- one queue
 * -------------------------------------------------------------------------------------------- */

static void icreq_send(struct queue *queue)
{
	const struct nvmeh_options *options = &queue->assoc->options;
	const struct pdu_encoding plain = {0};
	const struct pdu pdu = {
		.type = PDU_ICREQ,
		.icreq = {.header_digest = options->header_digest,
			.data_digest = options->data_digest},
	};
	uint8_t bytes[PDU_HEADER_MAX];

	send_raw(queue, bytes, pdu_encode(&pdu, &plain, bytes));
}

static void connect_submit(struct queue *queue)
{
	struct nvmeh *assoc = queue->assoc;
	struct nvme_connect_data *data = (struct nvme_connect_data *)(void *)assoc->page;
	const struct nvme_connect_cmd cmd = {
		.qid = queue->qid,
		.sqsize = (uint16_t)(queue->entries - 1),
		.kato_ms = queue->qid == 0 ? assoc->options.kato_ms : 0,
	};
	struct nvme_sqe sqe = {0};

	nvme_connect_put(&sqe, &cmd);
	memset(data, 0, sizeof(*data));
	memcpy(data->hostid, assoc->options.hostid, sizeof(data->hostid));
	data->cntlid = queue->qid == 0 ? NVME_CNTLID_DYNAMIC : assoc->cntlid;
	memcpy(data->subnqn, assoc->options.subnqn, sizeof(assoc->options.subnqn));
	memcpy(data->hostnqn, assoc->options.hostnqn, sizeof(assoc->options.hostnqn));
	data->subnqn[NVME_NQN_SIZE - 1] = '\0';
	data->hostnqn[NVME_NQN_SIZE - 1] = '\0';
	own_cmd_submit(assoc, queue, &sqe, sizeof(*data));
}

/* The answer to Connect: a refusal is explained as far as the completion tells. */
static bool connect_ok(struct queue *queue)
{
	struct nvmeh *assoc = queue->assoc;
	const struct nvmeh_cmd *cmd = &assoc->cmd;

	if (cmd->status == NVME_SC_CONNECT_INVALID_PARAMETERS) {
		assoc_fail(assoc, -ECONNREFUSED,
			"connect queue %u: the controller refuses a parameter (byte %u of the %s): "
			"is the "
			"subsystem NQN %s right?",
			queue->qid, (unsigned)(cmd->dw01 & 0xffffu),
			(cmd->dw01 & NVME_CONNECT_INVALID_IN_DATA) != 0 ? "data" : "command",
			assoc->options.subnqn);
		return false;
	}
	if (cmd->status == NVME_SC_CONNECT_INVALID_HOST) {
		assoc_fail(assoc, -EACCES, "connect queue %u: subsystem %s does not allow host %s",
			queue->qid, assoc->options.subnqn, assoc->options.hostnqn);
		return false;
	}
	if (!own_cmd_ok(assoc, "connect")) {
		return false;
	}
	if ((cmd->dw01 & NVME_CONNECT_AUTH_REQUIRED_MASK) != 0) {
		assoc_fail(
			assoc, -EACCES, "the controller asks for authentication, which we cannot");
		return false;
	}
	if (queue->qid == 0) {
		assoc->cntlid = (uint16_t)cmd->dw01;
	}
	return true;
}

void queue_setup_step(struct task *task)
{
	struct queue *queue = container_of(task, struct queue, setup);
	struct nvmeh *assoc = queue->assoc;
	char address[IO_ADDRESS_TEXT_SIZE];

	if (assoc_is_over(assoc)) {
		return;
	}
	switch (queue->state) {
	case QUEUE_START:
		queue_connect(queue);
		AWAIT(queue, QUEUE_CONNECTING, !queue->connecting);
		if (queue->connect.result != 0) {
			assoc_fail(assoc, queue->connect.result, "connect to %s: %s",
				io_address_to_text(&assoc->options.address, address),
				err_describe(queue->connect.result));
			return;
		}
		receive_start(queue);
		icreq_send(queue);
		AWAIT(queue, QUEUE_NEGOTIATING, queue->negotiated && !queue->sending);
		connect_submit(queue);
		AWAIT(queue, QUEUE_ATTACHING, assoc->cmd_done);
		if (!connect_ok(queue)) {
			return;
		}
		queue->state = QUEUE_UP;
		task_wake(&assoc->setup.task);
		return;
	case QUEUE_UP:
		return;
	}
	assert(false);
}

/* ---- the controller
 * ---------------------------------------------------------------------------------------- */

static void property_get(struct nvmeh *assoc, uint32_t offset, uint32_t size_code)
{
	const struct nvme_sqe sqe = {
		.opcode = NVME_FABRICS,
		.nsid = NVME_FABRICS_PROPERTY_GET,
		.cdw10 = size_code,
		.cdw11 = offset,
	};

	own_cmd_submit(assoc, &assoc->queues[0], &sqe, 0);
}

static void controller_enable(struct nvmeh *assoc)
{
	const struct nvme_sqe sqe = {
		.opcode = NVME_FABRICS,
		.nsid = NVME_FABRICS_PROPERTY_SET,
		.cdw11 = NVME_PROPERTY_CC,
		.cdw12 = NVME_CC_EN | 6u << NVME_CC_IOSQES_SHIFT | 4u << NVME_CC_IOCQES_SHIFT,
	};

	own_cmd_submit(assoc, &assoc->queues[0], &sqe, 0);
}

static void identify_controller(struct nvmeh *assoc)
{
	const struct nvme_sqe sqe = {
		.opcode = NVME_ADMIN_IDENTIFY,
		.cdw10 = NVME_CNS_CONTROLLER,
	};

	own_cmd_submit(assoc, &assoc->queues[0], &sqe, NVME_IDENTIFY_SIZE);
}

static void queue_count_set(struct nvmeh *assoc)
{
	uint32_t count = assoc->queue_count - 2u; /* 0's based */
	const struct nvme_sqe sqe = {
		.opcode = NVME_ADMIN_SET_FEATURES,
		.cdw10 = NVME_FEATURE_NUMBER_OF_QUEUES,
		.cdw11 = count | count << 16,
	};

	own_cmd_submit(assoc, &assoc->queues[0], &sqe, 0);
}

static void keep_alive_send(struct nvmeh *assoc)
{
	const struct nvme_sqe sqe = {.opcode = NVME_ADMIN_KEEP_ALIVE};

	own_cmd_submit(assoc, &assoc->queues[0], &sqe, 0);
}

/* CAP: the depth of the I/O queues is bounded by the controller's. */
static void cap_take(struct nvmeh *assoc)
{
	uint64_t entries = (assoc->cmd.dw01 & NVME_CAP_MQES_MASK) + 1;

	assoc->cap = assoc->cmd.dw01;
	for (unsigned i = 1; i < assoc->queue_count; i++) {
		queue_limit_entries(&assoc->queues[i], (unsigned)min_u64(entries, UINT16_MAX));
	}
}

static bool identify_take(struct nvmeh *assoc)
{
	const struct nvme_id_ctrl *id = (const struct nvme_id_ctrl *)(const void *)assoc->page;
	unsigned shift = 12 + NVME_CAP_MPSMIN(assoc->cap) + id->mdts;

	assoc->transfer_max = id->mdts == 0 || shift > 31 ? UINT32_MAX : (uint32_t)1 << shift;
	if ((id->sgls & 3u) == 0) {
		assoc_fail(assoc, -EPROTO, "the controller supports no SGLs");
		return false;
	}
	if (assoc->queue_count == 1) {
		return true;
	}
	if (id->ioccsz < 4 || id->icdoff != 0) {
		assoc_fail(assoc, -EPROTO,
			"the controller's capsule size %u or data offset %u is unusable",
			id->ioccsz, id->icdoff);
		return false;
	}
	for (unsigned i = 1; i < assoc->queue_count; i++) {
		assoc->queues[i].capsule_max =
			(uint32_t)min_u64((id->ioccsz - UINT64_C(4)) * 16, CAPSULE_MAX);
	}
	return true;
}

static bool queue_count_take(struct nvmeh *assoc)
{
	uint32_t granted = (uint32_t)assoc->cmd.dw01;
	uint32_t submission = (granted & 0xffffu) + 1, completion = (granted >> 16) + 1;

	if (min_u64(submission, completion) < assoc->queue_count - 1) {
		assoc_fail(assoc, -EUSERS, "the controller grants %u I/O queues of %u",
			(unsigned)min_u64(submission, completion), assoc->queue_count - 1);
		return false;
	}
	return true;
}

/* ---- the ladders
 * --------------------------------------------------------------------------------------------- */

static void setup_finish(struct nvmeh *assoc)
{
	io_timer_stop(&assoc->setup.deadline);
	assoc->setup.is_ready = true;
	for (unsigned i = 0; i < assoc->queue_count; i++) {
		assoc->queues[i].open = true;
		queue_dispatch(&assoc->queues[i]);
	}
	task_wake(&assoc->keep_alive.task);
	assoc->options.ready(assoc);
}

/* The answer to Property Get (CSTS) is here. */
static bool controller_lives(struct nvmeh *assoc)
{
	if (!own_cmd_ok(assoc, "property get CSTS")) {
		return false;
	}
	if ((assoc->cmd.dw01 & NVME_CSTS_CFS) != 0) {
		assoc_fail(assoc, -EIO, "the controller reports a fatal status (CSTS.CFS)");
		return false;
	}
	return true;
}

void setup_step(struct task *task)
{
	struct setup *setup = container_of(task, struct setup, task);
	struct nvmeh *assoc = container_of(setup, struct nvmeh, setup);

	if (assoc_is_over(assoc) || setup->is_ready) {
		return;
	}
	if (setup->state != SETUP_START && !io_timer_is_running(&setup->deadline)) {
		setup_time_out(assoc);
		return;
	}
	switch (setup->state) {
	case SETUP_START:
		io_timer_start_after(&setup->deadline, assoc->options.connect_timeout_ns);
		task_wake(&assoc->queues[0].setup);
		AWAIT(setup, SETUP_ADMIN_QUEUE, assoc->queues[0].state == QUEUE_UP);
		property_get(assoc, NVME_PROPERTY_CAP, NVME_PROPERTY_8_BYTES);
		AWAIT(setup, SETUP_CAP, assoc->cmd_done);
		if (!own_cmd_ok(assoc, "property get CAP")) {
			return;
		}
		cap_take(assoc);
		controller_enable(assoc);
		AWAIT(setup, SETUP_ENABLE, assoc->cmd_done);
		if (!own_cmd_ok(assoc, "property set CC")) {
			return;
		}
		for (;;) {
			property_get(assoc, NVME_PROPERTY_CSTS, 0);
			AWAIT(setup, SETUP_STATUS, assoc->cmd_done);
			if (!controller_lives(assoc)) {
				return;
			}
			if ((assoc->cmd.dw01 & NVME_CSTS_RDY) != 0) {
				break;
			}
			io_timer_start_after(&setup->pause, READY_POLL_NS);
			AWAIT(setup, SETUP_PAUSE, !io_timer_is_running(&setup->pause));
		}
		identify_controller(assoc);
		AWAIT(setup, SETUP_IDENTIFY, assoc->cmd_done);
		if (!own_cmd_ok(assoc, "identify controller") || !identify_take(assoc)) {
			return;
		}
		if (assoc->queue_count > 1) {
			queue_count_set(assoc);
			AWAIT(setup, SETUP_QUEUE_COUNT, assoc->cmd_done);
			if (!own_cmd_ok(assoc, "set number of queues") ||
				!queue_count_take(assoc)) {
				return;
			}
		}
		for (setup->queue_index = 1; setup->queue_index < assoc->queue_count;
			setup->queue_index++) {
			task_wake(&assoc->queues[setup->queue_index].setup);
			AWAIT(setup, SETUP_IO_QUEUE,
				assoc->queues[setup->queue_index].state == QUEUE_UP);
		}
		setup->queue_index = 0;
		setup_finish(assoc);
		return;
	}
	assert(false);
}

/* A controller that does not answer for the whole time-out is gone, whatever its connection says.
 */
void keep_alive_step(struct task *task)
{
	struct keep_alive *alive = container_of(task, struct keep_alive, task);
	struct nvmeh *assoc = container_of(alive, struct nvmeh, keep_alive);
	uint64_t kato_ns = assoc->options.kato_ms * IO_NS_PER_MS;

	if (assoc_is_over(assoc) || !assoc->setup.is_ready || kato_ns == 0) {
		return;
	}
	switch (alive->state) {
	case KEEP_ALIVE_START:
		for (;;) {
			io_timer_start_after(&alive->timer, kato_ns / 2);
			AWAIT(alive, KEEP_ALIVE_PAUSE, !io_timer_is_running(&alive->timer));
			keep_alive_send(assoc);
			io_timer_start_after(&alive->timer, kato_ns);
			AWAIT(alive, KEEP_ALIVE_SENT,
				assoc->cmd_done || !io_timer_is_running(&alive->timer));
			if (!assoc->cmd_done) {
				assoc_fail(assoc, -ETIMEDOUT,
					"keep-alive was not answered in %u ms",
					assoc->options.kato_ms);
				return;
			}
			if (!own_cmd_ok(assoc, "keep alive")) {
				return;
			}
		}
	}
	assert(false);
}
