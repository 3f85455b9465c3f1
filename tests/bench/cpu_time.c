/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/bench/cpu_time.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <time.h>

/* schedstat counts nanoseconds, stat only clock ticks of 10 ms. */
static uint64_t thread_time(pid_t pid, const char *tid)
{
	char path[320];
	uint64_t ns = 0;
	FILE *file;

	(void)snprintf(path, sizeof(path), "/proc/%d/task/%s/schedstat", (int)pid, tid);
	file = fopen(path, "re");
	if (file == NULL) {
		return 0;
	}
	if (fscanf(file, "%" SCNu64, &ns) != 1) {
		ns = 0;
	}
	(void)fclose(file);
	return ns;
}

int cpu_time_of_pid(pid_t pid, uint64_t *ret_ns)
{
	char path[64];
	struct dirent *entry;
	uint64_t ns = 0;
	DIR *directory;

	(void)snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
	directory = opendir(path);
	if (directory == NULL) {
		return -ESRCH;
	}
	while ((entry = readdir(directory)) != NULL) {
		if (entry->d_name[0] != '.') {
			ns += thread_time(pid, entry->d_name);
		}
	}
	(void)closedir(directory);
	*ret_ns = ns;
	return 0;
}

uint64_t cpu_time_of_self(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}
