/* SPDX-License-Identifier: Apache-2.0 */
#include "csi-node/worker.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

struct workers {
	struct loop *loop; /* borrowed */
	char name[16];
	unsigned thread_max;
	unsigned busy; /* the loop's */

	pthread_mutex_t lock;
	pthread_cond_t wake;
	struct list waiting;
	unsigned waiting_count, idle_count, thread_count;
	bool is_ending;
	pthread_t *threads; /* owned */
};

int workers_new(struct loop *loop, const char *name, unsigned thread_max,
	struct workers **ret_workers, struct err *err)
{
	struct workers *workers = calloc(1, sizeof(*workers));

	if (workers != NULL) {
		workers->threads = calloc(thread_max, sizeof(*workers->threads));
	}
	if (workers == NULL || workers->threads == NULL) {
		free(workers);
		return err_set(err, -ENOMEM, "no memory for the threads %s", name);
	}
	workers->loop = loop;
	(void)snprintf(workers->name, sizeof(workers->name), "%s", name);
	workers->thread_max = thread_max;
	list_init(&workers->waiting);
	pthread_mutex_init(&workers->lock, NULL);
	pthread_cond_init(&workers->wake, NULL);
	*ret_workers = workers;
	return 0;
}

static void work_back(struct loop_msg *msg)
{
	struct work *work = container_of(msg, struct work, back);

	work->workers->busy--;
	work->done(work);
}

/* NULL: the end. */
static struct work *next_work(struct workers *workers)
{
	struct list_node *node;

	pthread_mutex_lock(&workers->lock);
	workers->idle_count++;
	while (workers->waiting_count == 0 && !workers->is_ending) {
		pthread_cond_wait(&workers->wake, &workers->lock);
	}
	workers->idle_count--;
	node = list_pop_front(&workers->waiting);
	workers->waiting_count -= node != NULL;
	pthread_mutex_unlock(&workers->lock);
	return node == NULL ? NULL : container_of(node, struct work, node);
}

static void *thread_main(void *ctx)
{
	struct workers *workers = ctx;
	struct work *work;

	(void)pthread_setname_np(pthread_self(), workers->name);
	while ((work = next_work(workers)) != NULL) {
		work->run(work);
		work->back.run = work_back;
		loop_post(workers->loop, &work->back);
	}
	return NULL;
}

/* Signals are the loop's. */
static bool start_thread(struct workers *workers)
{
	sigset_t all, before;
	int result;

	(void)sigfillset(&all);
	(void)pthread_sigmask(SIG_SETMASK, &all, &before);
	result = pthread_create(
		&workers->threads[workers->thread_count], NULL, thread_main, workers);
	(void)pthread_sigmask(SIG_SETMASK, &before, NULL);
	workers->thread_count += result == 0;
	return result == 0;
}

void workers_submit(struct workers *workers, struct work *work)
{
	work->workers = workers;
	workers->busy++;
	pthread_mutex_lock(&workers->lock);
	list_push_back(&workers->waiting, &work->node);
	workers->waiting_count++;
	if (workers->waiting_count > workers->idle_count &&
		workers->thread_count < workers->thread_max && !start_thread(workers) &&
		workers->thread_count == 0) {
		/* Not even one: nothing would ever be done again. */
		abort();
	}
	pthread_cond_signal(&workers->wake);
	pthread_mutex_unlock(&workers->lock);
}

unsigned workers_busy(const struct workers *workers)
{
	return workers->busy;
}

void workers_free(struct workers *workers)
{
	if (workers == NULL) {
		return;
	}
	assert(workers->busy == 0);
	pthread_mutex_lock(&workers->lock);
	workers->is_ending = true;
	pthread_cond_broadcast(&workers->wake);
	pthread_mutex_unlock(&workers->lock);
	for (unsigned i = 0; i < workers->thread_count; i++) {
		(void)pthread_join(workers->threads[i], NULL);
	}
	pthread_cond_destroy(&workers->wake);
	pthread_mutex_destroy(&workers->lock);
	free(workers->threads);
	free(workers);
}
