/* SPDX-License-Identifier: Apache-2.0 */
#include "base/bytes.h"
#include "pool-agent/control/control.h"

#include <assert.h>

static void job_on_reactor(struct io_msg *msg)
{
	struct job *job = container_of(msg, struct job, to_reactor);

	task_wake(&job->task);
}

static void changes_progress(struct control *control)
{
	struct list_node *node;
	struct job *job;

	if (control->changing != NULL) {
		return;
	}
	node = list_pop_front(&control->queue);
	if (node == NULL) {
		return;
	}
	job = container_of(node, struct job, node);
	control->changing = job;
	if (job->begin != NULL) {
		job->begin(job);
	}
	if (job->err.code != 0) {
		/* In a turn of its own, so that a queue of refused ones does not nest. */
		loop_post(control->loop, &job->to_control);
		return;
	}
	job_look(job);
}

static void job_on_control(struct loop_msg *msg)
{
	struct job *job = container_of(msg, struct job, to_control);
	struct control *control = job->control;
	bool is_change = job->is_change;

	control->changing_goes_on = false;
	job->finish(job);
	if (is_change && !control->changing_goes_on) {
		control->changing = NULL;
		changes_progress(control);
	}
}

void job_init(struct job *job, struct control *control, struct grpc_call *call, task_step *step,
	void (*finish)(struct job *job))
{
	job->control = control;
	job->call = call;
	job->finish = finish;
	job->to_reactor.run = job_on_reactor;
	job->to_control.run = job_on_control;
	task_init(&job->task, &real_io(control->real)->runq, step);
}

void job_change(struct job *job, void (*begin)(struct job *job))
{
	job->begin = begin;
	job->is_change = true;
	list_push_back(&job->control->queue, &job->node);
	changes_progress(job->control);
}

void job_continue(struct job *job, task_step *step, void (*finish)(struct job *job))
{
	assert(job->is_change && job->control->changing == job);
	job->control->changing_goes_on = true;
	job->finish = finish;
	task_init(&job->task, &real_io(job->control->real)->runq, step);
	job_look(job);
}

void job_look(struct job *job)
{
	io_post(real_io(job->control->real), &job->to_reactor);
}

void job_end(struct job *job)
{
	/* From here on it is the control thread's. */
	task_done(&job->task);
	loop_post(job->control->loop, &job->to_control);
}

static void op_done(struct store_op *op)
{
	job_wake(op->ctx);
}

struct store_op *job_op(struct job *job)
{
	job->done = false;
	job->op = (struct store_op){.done = op_done, .ctx = job};
	return &job->op;
}

void job_wake(void *ctx)
{
	struct job *job = ctx;

	job->done = true;
	task_wake(&job->task);
}
