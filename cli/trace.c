/* SPDX-License-Identifier: Apache-2.0 */
/* What a daemon's data thread did last, from the file that it left: it need not live. */
#include "trace/trace.h"

#include "cli/cli.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define POLL_MS 100

struct trace_file {
	void *bytes; /* mapped */
	size_t size;
	dev_t device;
	ino_t inode;
	struct trace_view view;
};

static int map_trace(const char *path, struct trace_file *ret_file)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct err err = {0};
	struct stat st;

	if (fd < 0) {
		return cli_fail("%s: %s%s", path, err_describe(errno),
			errno == ENOENT ? "; `ls` its folder to see which daemons left one (the "
					  "folder must be on a tmpfs)"
					: "");
	}
	void *bytes = fstat(fd, &st) < 0 || st.st_size == 0
			      ? MAP_FAILED
			      : mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);

	close(fd);
	if (bytes == MAP_FAILED) {
		return cli_fail("%s: it cannot be read", path);
	}
	*ret_file = (struct trace_file){
		.bytes = bytes,
		.size = (size_t)st.st_size,
		.device = st.st_dev,
		.inode = st.st_ino,
	};
	if (trace_view_init(&ret_file->view, bytes, ret_file->size, &err) < 0) {
		(void)munmap(bytes, ret_file->size);
		return cli_fail("%s: %s", path, err.text);
	}
	return 0;
}

static int print(struct strbuf *text)
{
	bool failed = strbuf_failed(text) || fputs(strbuf_text(text), stdout) < 0;

	strbuf_done(text);
	strbuf_init(text);
	return failed ? cli_fail("cannot print: %s", err_describe(errno)) : 0;
}

/* All that is there, and how many a follower was too slow for; 0 and *ret_any, or 1. */
static int print_records(const struct trace_view *view, uint64_t *cursor, bool *ret_any)
{
	struct trace_record records[256];
	struct strbuf text;
	uint64_t before = *cursor;
	unsigned count;
	int result = 0;

	strbuf_init(&text);
	*ret_any = false;
	while (result == 0 && (count = trace_view_read(view, cursor, records, 256)) > 0) {
		*ret_any = true;
		if (before != 0 && *cursor - before > count) {
			strbuf_printf(&text,
				"(%llu records were overwritten before they were read)\n",
				(unsigned long long)(*cursor - before - count));
		}
		before = *cursor;
		for (unsigned i = 0; i < count; i++) {
			trace_record_to_text(view, &records[i], &text);
			strbuf_append(&text, "\n");
		}
		result = print(&text);
	}
	strbuf_done(&text);
	return result;
}

/* The daemon was started again: another file has this name. */
static bool is_replaced(const struct trace_file *file, const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 && (st.st_ino != file->inode || st.st_dev != file->device);
}

/* One process of the daemon, from its oldest record; with `follow` to its end. */
static int print_process(const char *path, bool follow)
{
	const struct timespec pause = {.tv_nsec = POLL_MS * 1000000};
	struct trace_file file;
	struct strbuf text;
	uint64_t cursor = 0;
	bool any, last = !follow;
	int result = map_trace(path, &file);

	if (result != 0) {
		return result;
	}
	strbuf_init(&text);
	trace_view_to_text(&file.view, &text);
	result = print(&text);
	while (result == 0) {
		result = print_records(&file.view, &cursor, &any);
		if (last) {
			break;
		}
		/* Once more after its end was seen: nothing is left out. */
		last = is_replaced(&file, path);
		if (!any && !last) {
			(void)fflush(stdout);
			(void)nanosleep(&pause, NULL);
		}
	}
	strbuf_done(&text);
	(void)munmap(file.bytes, file.size);
	return result;
}

int daemon_trace(struct cli *cli)
{
	const struct args *args = &cli->args;
	char path[PATH_MAX];
	int result;

	if (args->output == OUTPUT_JSON) {
		(void)cli_fail("daemon trace prints text only");
		return EXIT_USAGE;
	}
	if (args->follow && args->previous) {
		(void)cli_fail("--previous is over: there is nothing to --follow");
		return EXIT_USAGE;
	}
	trace_path(args->run_dir, args->name, args->previous, path, sizeof(path));
	do {
		result = print_process(path, args->follow);
	} while (result == 0 && args->follow);
	return result;
}
