/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#ifndef PR_SET_IO_FLUSHER
#define PR_SET_IO_FLUSHER 57
#endif

/* Above -1000, so that a leak of ours is still somebody's end. */
#define OOM_SCORE "-900"

/* A daemon with many volumes; what is mapped counts, not what is touched. */
#define LOCK_ROOM_BYTES (UINT64_C(512) << 20)

static int write_oom_score(void)
{
	int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);

	if (fd < 0) {
		return -errno;
	}
	int result = write(fd, OOM_SCORE, strlen(OOM_SCORE)) < 0 ? -errno : 0;

	close(fd);
	return result;
}

/*
 * MCL_FUTURE makes every mapping fail that would go over the limit of locked memory, so without the
 * right or the room to lock all that comes the process is better off unlocked.  Locking a range on
 * fault takes no memory: it is a question.
 */
static int lock_memory(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_MEMLOCK, &limit) == 0) {
		limit.rlim_cur = limit.rlim_max;
		(void)setrlimit(RLIMIT_MEMLOCK, &limit);
	}
	void *room = mmap(NULL, LOCK_ROOM_BYTES, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (room == MAP_FAILED) {
		return -errno;
	}
	int result = mlock2(room, LOCK_ROOM_BYTES, MLOCK_ONFAULT) < 0 ? -errno : 0;

	(void)munmap(room, LOCK_ROOM_BYTES);
	if (result < 0) {
		return result;
	}
	/* What is there is read in, the code of rare paths too: it is needed when something has
	 * failed. */
	return mlockall(MCL_CURRENT) < 0 || mlockall(MCL_FUTURE | MCL_ONFAULT) < 0 ? -errno : 0;
}

void memory_rules_apply(struct memory_rules *ret_rules)
{
	/* Two arenas, and big messages straight from the system: what they took goes back when they
	 * are freed. */
	(void)mallopt(M_ARENA_MAX, 2);
	(void)mallopt(M_MMAP_THRESHOLD, 128 * 1024);
	(void)mallopt(M_TRIM_THRESHOLD, 256 * 1024);
	/* A page that is touched costs a page. */
	(void)prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0);
	/* A crash leaves a core where the system is set up for it. */
	(void)prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
	ret_rules->io_flusher = prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0) < 0 ? -errno : 0;
	ret_rules->locked = lock_memory();
	ret_rules->oom_score = write_oom_score();
}

void memory_rules_log(const struct memory_rules *rules, const struct log *log)
{
	if (rules->io_flusher < 0) {
		log_warning(log, "daemon", "io-flusher-refused", "error=%s hint=%s",
			err_describe(rules->io_flusher),
			"grant CAP_SYS_RESOURCE; without it a machine short of memory can hang");
	}
	if (rules->locked < 0) {
		log_warning(log, "daemon", "mlockall-refused", "error=%s hint=%s",
			err_describe(rules->locked),
			"grant CAP_IPC_LOCK or raise the limit of locked memory (ulimit -l)");
	}
	if (rules->oom_score < 0) {
		log_warning(log, "daemon", "oom-score-refused", "error=%s hint=%s",
			err_describe(rules->oom_score), "grant CAP_SYS_RESOURCE");
	}
}
