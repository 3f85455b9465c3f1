/* SPDX-License-Identifier: Apache-2.0 */
/* The association's memory and life cycle; see internal.h for the other files. */
#include "base/bytes.h"
#include "nvmeh/internal.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#define TERM_TIMEOUT_NS (200 * IO_NS_PER_MS)

bool assoc_is_over(const struct nvmeh *assoc)
{
	return assoc->fail_code != 0 || assoc->closing;
}

void assoc_fail(struct nvmeh *assoc, int code, const char *format, ...)
{
	va_list args;

	if (assoc_is_over(assoc)) {
		return;
	}
	assert(code < 0);
	assoc->fail_code = code;
	va_start(args, format);
	(void)vsnprintf(assoc->reason, sizeof(assoc->reason), format, args);
	va_end(args);
	task_wake(&assoc->life);
}

void assoc_fail_pdu(struct queue *queue, const struct pdu_fault *fault, const uint8_t *header,
	size_t header_length)
{
	struct nvmeh *assoc = queue->assoc;

	if (assoc_is_over(assoc)) {
		return;
	}
	assoc->term_queue = queue;
	assoc->term_length =
		pdu_term_encode(PDU_ROLE_HOST, fault, header, header_length, assoc->term);
	assoc_fail(assoc, -EPROTO,
		"queue %u: the controller broke the protocol: %s (FES %u, FEI %u)", queue->qid,
		fault->text, fault->fes, fault->fei);
}

/* ---- life cycle
 * ------------------------------------------------------------------------------------- */

static bool queues_are_down(const struct nvmeh *assoc)
{
	for (unsigned i = 0; i < assoc->queue_count; i++) {
		if (!queue_is_down(&assoc->queues[i])) {
			return false;
		}
	}
	return true;
}

static void timers_stop(struct nvmeh *assoc)
{
	io_timer_stop(&assoc->life_timer);
	io_timer_stop(&assoc->setup.deadline);
	io_timer_stop(&assoc->setup.pause);
	io_timer_stop(&assoc->keep_alive.timer);
}

static void assoc_free(struct nvmeh *assoc)
{
	struct io *io = assoc->io;

	if (assoc->queues != NULL) {
		for (unsigned i = 0; i < assoc->queue_count; i++) {
			queue_free(&assoc->queues[i]);
		}
		io_free(io, assoc->queues);
	}
	task_done(&assoc->life);
	task_done(&assoc->setup.task);
	task_done(&assoc->keep_alive.task);
	timers_stop(assoc);
	if (assoc->page != NULL) {
		io_free(io, assoc->page);
	}
	io_free(io, assoc);
}

/* Their effect is unknown, unless the answer was here already. */
static void dead_complete(struct nvmeh *assoc)
{
	struct list now;
	struct list_node *node;

	list_init(&now);
	list_splice_back(&now, &assoc->dead);
	while ((node = list_pop_front(&now)) != NULL) {
		struct nvmeh_cmd *cmd = container_of(node, struct nvmeh_cmd, node);

		if (cmd != &assoc->cmd) {
			cmd->done(cmd);
		}
	}
}

static bool term_is_possible(const struct nvmeh *assoc)
{
	return assoc->term_queue != NULL && assoc->term_queue->conn != NULL && !assoc->closing;
}

/* Time is up, or nobody is interested any more. */
static bool term_is_over(const struct nvmeh *assoc)
{
	return assoc->closing || !io_timer_is_running(&assoc->life_timer);
}

static void queues_shut(struct nvmeh *assoc)
{
	timers_stop(assoc);
	for (unsigned i = 0; i < assoc->queue_count; i++) {
		queue_shut(&assoc->queues[i]);
	}
}

static void queues_bury(struct nvmeh *assoc)
{
	for (unsigned i = 0; i < assoc->queue_count; i++) {
		queue_bury(&assoc->queues[i], &assoc->dead);
	}
}

static void life_step(struct task *task)
{
	struct nvmeh *assoc = container_of(task, struct nvmeh, life);
	struct queue *queue = assoc->term_queue;

	switch (assoc->state) {
	case LIFE_START:
		AWAIT(assoc, LIFE_RUNNING, assoc_is_over(assoc));
		io_timer_start_after(&assoc->life_timer, TERM_TIMEOUT_NS);
		/* The controller is told why and hangs up; one that does not is not waited for. */
		if (term_is_possible(assoc)) {
			AWAIT(assoc, LIFE_SEND_FREE, !queue->sending || term_is_over(assoc));
			if (!term_is_over(assoc)) {
				send_raw(queue, assoc->term, assoc->term_length);
				AWAIT(assoc, LIFE_TERM_SENT,
					!queue->sending || term_is_over(assoc));
			}
			if (!term_is_over(assoc)) {
				receive_end(queue);
				AWAIT(assoc, LIFE_HUNG_UP, queue->hung_up || term_is_over(assoc));
			}
		}
		queues_shut(assoc);
		if (!assoc->closing) {
			assoc->options.failed(assoc, assoc->fail_code, assoc->reason);
		}
		AWAIT(assoc, LIFE_DRAINING, queues_are_down(assoc));
		queues_bury(assoc);
		dead_complete(assoc);
		AWAIT(assoc, LIFE_DOWN, assoc->closing || !list_is_empty(&assoc->dead));
		dead_complete(assoc);
		if (!assoc->closing || !list_is_empty(&assoc->dead)) {
			/* Still in LIFE_DOWN: whoever closes or submits wakes it. */
			return;
		}
		assoc->options.closed(assoc);
		assoc_free(assoc);
		return;
	}
	assert(false);
}

/* ---- public
 * ------------------------------------------------------------------------------------------ */

static int assoc_init(struct nvmeh *assoc)
{
	struct io *io = assoc->io;
	int err;

	assoc->page = io_zalloc_aligned(io, 4096, NVME_IDENTIFY_SIZE);
	assoc->queues = io_zalloc(io, sizeof(*assoc->queues) * (assoc->options.io_queues + 1));
	if (assoc->page == NULL || assoc->queues == NULL) {
		return -ENOMEM;
	}
	for (unsigned i = 0; i <= assoc->options.io_queues; i++) {
		assoc->queue_count = i + 1;
		err = queue_init(&assoc->queues[i], assoc, i);
		if (err != 0) {
			return err;
		}
	}
	return 0;
}

int nvmeh_new(struct io *io, const struct nvmeh_options *options, struct nvmeh **ret_assoc)
{
	struct nvmeh *assoc = io_zalloc(io, sizeof(*assoc));
	int err;

	if (assoc == NULL) {
		return -ENOMEM;
	}
	assert(options->io_queues < UINT16_MAX);
	assert(options->ready != NULL && options->failed != NULL && options->closed != NULL);
	assoc->io = io;
	assoc->options = *options;
	if (assoc->options.connect_timeout_ns == 0) {
		assoc->options.connect_timeout_ns = SETUP_TIMEOUT_DEFAULT;
	}
	list_init(&assoc->dead);
	task_init(&assoc->life, &io->runq, life_step);
	task_init(&assoc->setup.task, &io->runq, setup_step);
	task_init(&assoc->keep_alive.task, &io->runq, keep_alive_step);
	io_timer_init(&assoc->life_timer, io, &assoc->life);
	io_timer_init(&assoc->setup.deadline, io, &assoc->setup.task);
	io_timer_init(&assoc->setup.pause, io, &assoc->setup.task);
	io_timer_init(&assoc->keep_alive.timer, io, &assoc->keep_alive.task);
	err = assoc_init(assoc);
	if (err != 0) {
		assoc_free(assoc);
		return err;
	}
	task_wake(&assoc->life);
	task_wake(&assoc->setup.task);
	*ret_assoc = assoc;
	return 0;
}

void *nvmeh_ctx(const struct nvmeh *assoc)
{
	return assoc->options.ctx;
}

void nvmeh_close(struct nvmeh *assoc)
{
	assert(!assoc->closing);
	assoc->closing = true;
	task_wake(&assoc->life);
}

uint16_t nvmeh_cntlid(const struct nvmeh *assoc)
{
	return assoc->cntlid;
}

uint32_t nvmeh_transfer_max(const struct nvmeh *assoc)
{
	return assoc->transfer_max;
}

void nvmeh_get_stats(const struct nvmeh *assoc, struct nvmeh_stats *ret_stats)
{
	*ret_stats = assoc->stats;
}

void nvmeh_submit(struct nvmeh *assoc, struct nvmeh_cmd *cmd)
{
	struct queue *queue;

	assert(cmd->admin || cmd->queue + 1 < assoc->queue_count);
	cmd->node = (struct list_node){NULL, NULL};
	cmd->result = -ECONNRESET;
	cmd->status = 0;
	cmd->dnr = false;
	cmd->dw01 = 0;
	cmd->transferred = 0;
	cmd->abandoned = false;
	if (assoc_is_over(assoc)) {
		list_push_back(&assoc->dead, &cmd->node);
		task_wake(&assoc->life);
		return;
	}
	queue = &assoc->queues[cmd->admin ? 0 : cmd->queue + 1];
	list_push_back(&queue->waiting, &cmd->node);
	queue_dispatch(queue);
}

bool nvmeh_abandon(struct nvmeh *assoc, struct nvmeh_cmd *cmd)
{
	const struct queue *queue = &assoc->queues[cmd->admin ? 0 : cmd->queue + 1];

	assert(nvme_sqe_direction(&cmd->sqe) == NVME_CONTROLLER_TO_HOST);
	if (receive_is_into(queue, cmd)) {
		return false;
	}
	cmd->abandoned = true;
	return true;
}
