/* SPDX-License-Identifier: Apache-2.0 */
#include "base/task.h"

void runq_init(struct runq *runq)
{
	list_init(&runq->ready);
	runq->steps = 0;
	runq->work = &runq->own_work;
	runq_work_done(runq);
}

bool runq_run(struct runq *runq, unsigned budget)
{
	while (budget > 0) {
		struct list_node *node = list_pop_front(&runq->ready);

		if (node == NULL) {
			return false;
		}
		struct task *task = container_of(node, struct task, node);

		runq->steps++;
		budget--;
		/* The step may free the task: it is not touched afterwards. */
		task->step(task);
		runq_work_done(runq);
	}
	return !runq_is_empty(runq);
}

void task_init(struct task *task, struct runq *runq, task_step *step)
{
	task->node = (struct list_node){0};
	task->runq = runq;
	task->step = step;
}

void task_wake(struct task *task)
{
	if (!list_is_linked(&task->node)) {
		list_push_back(&task->runq->ready, &task->node);
	}
}

void task_done(struct task *task)
{
	list_remove_if_linked(&task->node);
}
