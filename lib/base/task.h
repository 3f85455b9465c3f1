/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Named-state ladders: the one form of asynchronous control flow in Strake.
 *
 * An operation is a struct with a `struct task` and a `state` in it and one step function that
 *reads from top to bottom; AWAIT marks the only places where it can stop.  A completion writes down
 *what happened and wakes the task; it decides nothing and never calls the step itself.  A wake is
 *only a hint: the condition is tested again.
 *
 *	switch (op->state) {
 *	case OP_START:
 *		submit(op);
 *		AWAIT(op, OP_AWAIT_DISK, op->disk_done);
 *		...
 *	}
 *
 * Nothing but *op survives an AWAIT.  There is no `default:` in a state switch.
 */
#ifndef BASE_TASK_H
#define BASE_TASK_H

#include "base/list.h"

#include <stdbool.h>
#include <stdint.h>

#define AWAIT(op, name, condition) AWAIT_AT((op)->state, name, condition)

/* For a struct with more than one ladder: `place` is the state member of this one. */
#define AWAIT_AT(place, name, condition)                                                           \
	do {                                                                                       \
		(place) = (name);                                                                  \
		__attribute__((fallthrough));                                                      \
	case (name):                                                                               \
		if (!(condition)) {                                                                \
			return;                                                                    \
		}                                                                                  \
	} while (0)

struct task;
typedef void task_step(struct task *task);

/* What a thread is working on, for whoever asks what it died of.  Numbers whose meaning is the
 * users': operation 0 is nothing. */
struct task_work {
	uint64_t object;
	uint64_t operation;
};

/* The run queue of one reactor.  One thread. */
struct runq {
	struct list ready;
	uint64_t steps;         /* steps run so far, for metrics */
	struct task_work *work; /* borrowed; where it is written down: in own_work, or where it
			      outlives the process */
	struct task_work own_work;
};

struct task {
	struct list_node node; /* in runq->ready while queued */
	struct runq *runq;     /* borrowed for the task's life */
	task_step *step;
};

void runq_init(struct runq *runq);

/* Runs at most `budget` steps in order of waking.  Returns true if tasks are still queued. */
bool runq_run(struct runq *runq, unsigned budget);

static inline bool runq_is_empty(const struct runq *runq)
{
	return list_is_empty(&runq->ready);
}

/* From here to the end of the step the thread works on this; a completion, which is no step, ends
 * with runq_work_done(). */
static inline void runq_work(struct runq *runq, uint64_t object, uint64_t operation)
{
	runq->work->object = object;
	runq->work->operation = operation;
}

static inline void runq_work_done(struct runq *runq)
{
	runq->work->operation = 0;
}

void task_init(struct task *task, struct runq *runq, task_step *step);

/* Queues the task; a task that is queued already stays where it is. */
void task_wake(struct task *task);

/* Takes the task out of the queue if it is there.  Required before its memory is freed. */
void task_done(struct task *task);

static inline bool task_is_queued(const struct task *task)
{
	return list_is_linked(&task->node);
}

#endif
