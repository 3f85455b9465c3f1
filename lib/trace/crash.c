/* SPDX-License-Identifier: Apache-2.0 */
/* The handler that writes down that the process dies by its own fault. */
#include "trace/trace.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define STACK_BYTES (64u * 1024)

static const int signals[] = {SIGABRT, SIGSEGV, SIGBUS, SIGILL, SIGFPE};
#define SIGNALS ARRAY_COUNT(signals)

/* A handler is told nothing but the signal: what it needs must be global. */
static struct trace_head *watched;
static struct sigaction before[SIGNALS];
static _Alignas(64) unsigned char data_thread_stack[STACK_BYTES];

static int32_t thread_id(void)
{
	return (int32_t)syscall(SYS_gettid);
}

static void write_down(struct trace_head *head, int number)
{
	struct timespec now = {0};

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	head->crash_thread = thread_id();
	head->crash_monotonic_ns =
		(uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
	head->crash_work = head->work;
	atomic_store_explicit(&head->crash_signal, number, memory_order_release);
}

static void crashed(int number, siginfo_t *info, void *context)
{
	/* A fault of the processor, or raised by ourselves, as abort() does: not somebody's kill.
	 */
	bool own = info->si_code > 0 || info->si_pid == getpid();

	(void)context;
	if (watched != NULL && own && atomic_load(&watched->crash_signal) == 0) {
		write_down(watched, number);
	}
	for (unsigned i = 0; i < SIGNALS; i++) {
		if (signals[i] == number) {
			(void)sigaction(number, &before[i], NULL);
		}
	}
	if (info->si_code <= 0) {
		/* Comes when the handler has returned.  A fault comes again by itself, where it
		 * was. */
		(void)raise(number);
	}
}

void crash_watch(struct trace *trace)
{
	struct sigaction action = {
		.sa_sigaction = crashed, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART};

	assert(watched == NULL);
	(void)sigfillset(&action.sa_mask);
	watched = trace->head;
	for (unsigned i = 0; i < SIGNALS; i++) {
		(void)sigaction(signals[i], &action, &before[i]);
	}
}

void crash_watch_data_thread(struct trace *trace)
{
	stack_t stack = {.ss_sp = data_thread_stack, .ss_size = sizeof(data_thread_stack)};
	stack_t had;
	sigset_t set;

	trace->head->data_thread = thread_id();
	/* A sanitizer brings its own, and takes away what it finds at the thread's end. */
	if (sigaltstack(NULL, &had) == 0 && (had.ss_flags & SS_DISABLE) != 0) {
		memset(data_thread_stack, 0, sizeof(data_thread_stack));
		(void)sigaltstack(&stack, NULL);
	}
	/* Blocked, a fault would end the process without asking the handler. */
	(void)sigemptyset(&set);
	for (unsigned i = 0; i < SIGNALS; i++) {
		(void)sigaddset(&set, signals[i]);
	}
	(void)pthread_sigmask(SIG_UNBLOCK, &set, NULL);
}

void trace_free(struct trace *trace)
{
	if (trace == NULL) {
		return;
	}
	if (watched == trace->head) {
		for (unsigned i = 0; i < SIGNALS; i++) {
			(void)sigaction(signals[i], &before[i], NULL);
		}
		watched = NULL;
	}
	(void)munmap(trace->head, trace->bytes);
	free(trace);
}
