/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/faults/commands.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int in_fd, out_fd;

static int pipe_open(const char *prefix, const char *suffix)
{
	char path[256];
	int fd;

	(void)snprintf(path, sizeof(path), "%s.%s", prefix, suffix);
	if (mkfifo(path, 0600) != 0 && errno != EEXIST) {
		perror(path);
		exit(1);
	}
	/* For both: there is always a writer, so never an end. */
	fd = open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0) {
		perror(path);
		exit(1);
	}
	return fd;
}

int commands_open(const char *prefix)
{
	out_fd = pipe_open(prefix, "out");
	in_fd = pipe_open(prefix, "in");
	return in_fd;
}

static void commands_answer(bool known, void (*tell)(char *text, size_t size))
{
	char told[192] = "", line[256];
	int length;

	if (known) {
		tell(told, sizeof(told));
	}
	length = snprintf(line, sizeof(line), "%s%s\n", known ? "ok " : "error", told);
	if (write(out_fd, line, (size_t)length) != length) {
		perror("answer");
	}
}

void commands_read(bool (*obey)(const char *line), void (*tell)(char *text, size_t size))
{
	static char text[1024];
	static size_t used;
	ssize_t length = read(in_fd, text + used, sizeof(text) - 1 - used);
	char *end;

	if (length <= 0) {
		return;
	}
	used += (size_t)length;
	text[used] = '\0';
	while ((end = strchr(text, '\n')) != NULL) {
		*end = '\0';
		commands_answer(obey(text), tell);
		used -= (size_t)(end + 1 - text);
		memmove(text, end + 1, used + 1);
	}
}
