/* SPDX-License-Identifier: Apache-2.0 */
#include "csi-node/mounts.h"

#include "base/strbuf.h"
#include "daemon/file.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <libmount/libmount.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define MOUNTINFO_BYTES_MAX (64u << 20)
#define STACKED_MAX         64

/* ---- mountinfo ---- */

/* The next word, with its \040 as they were. */
static bool take_word(const char **text, char *to, size_t size)
{
	const char *from = *text;
	size_t length = 0;

	while (*from != ' ' && *from != '\n' && *from != '\0') {
		char byte = *from++;

		if (byte == '\\' && from[0] >= '0' && from[0] <= '3' &&
			isdigit((unsigned char)from[1]) && isdigit((unsigned char)from[2])) {
			byte = (char)((from[0] - '0') * 64 + (from[1] - '0') * 8 + (from[2] - '0'));
			from += 3;
		}
		if (length + 1 < size) {
			to[length++] = byte;
		}
	}
	to[length] = '\0';
	*text = *from == ' ' ? from + 1 : from;
	return length > 0;
}

static bool has_option(const char *options, const char *name)
{
	size_t length = strlen(name);

	for (const char *at = options; at != NULL; at = strchr(at, ',')) {
		at += *at == ',';
		if (strncmp(at, name, length) == 0 && (at[length] == ',' || at[length] == '\0')) {
			return true;
		}
	}
	return false;
}

/* "36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue" */
static bool parse_line(const char **text, struct mount_entry *entry)
{
	char word[PATH_MAX], options[512], super_options[2048];
	unsigned major, minor;

	if (!take_word(text, word, sizeof(word)) || !take_word(text, word, sizeof(word)) ||
		!take_word(text, word, sizeof(word)) ||
		sscanf(word, "%u:%u", &major, &minor) != 2 ||
		!take_word(text, entry->root, sizeof(entry->root)) ||
		!take_word(text, entry->path, sizeof(entry->path)) ||
		!take_word(text, options, sizeof(options))) {
		return false;
	}
	do {
		if (!take_word(text, word, sizeof(word))) {
			return false;
		}
	} while (strcmp(word, "-") != 0);
	if (!take_word(text, entry->type, sizeof(entry->type))) {
		return false;
	}
	/* The source may be empty. */
	(void)take_word(text, word, sizeof(word));
	(void)take_word(text, super_options, sizeof(super_options));
	entry->device = makedev(major, minor);
	entry->is_read_only = has_option(options, "ro") || has_option(super_options, "ro");
	return true;
}

int mounts_parse(const char *text, struct mounts *ret_mounts, struct err *err)
{
	size_t capacity = 0;

	*ret_mounts = (struct mounts){0};
	while (*text != '\0') {
		if (ret_mounts->count == capacity) {
			capacity = capacity == 0 ? 64 : capacity * 2;
			struct mount_entry *more =
				realloc(ret_mounts->entries, capacity * sizeof(*more));

			if (more == NULL) {
				mounts_done(ret_mounts);
				return err_set(err, -ENOMEM, "no memory for the table of mounts");
			}
			ret_mounts->entries = more;
		}
		ret_mounts->count += parse_line(&text, &ret_mounts->entries[ret_mounts->count]);
		text += strcspn(text, "\n");
		text += *text == '\n';
	}
	return 0;
}

int mounts_read(struct mounts *ret_mounts, struct err *err)
{
	struct strbuf text;

	*ret_mounts = (struct mounts){0};
	strbuf_init(&text);
	int result = file_read("/proc/self/mountinfo", MOUNTINFO_BYTES_MAX, &text, err);

	result = result < 0 ? result : mounts_parse(strbuf_text(&text), ret_mounts, err);
	strbuf_done(&text);
	return result;
}

void mounts_done(struct mounts *mounts)
{
	free(mounts->entries);
	*mounts = (struct mounts){0};
}

const struct mount_entry *mounts_find(const struct mounts *mounts, const char *path)
{
	for (size_t i = mounts->count; i > 0; i--) {
		if (strcmp(mounts->entries[i - 1].path, path) == 0) {
			return &mounts->entries[i - 1];
		}
	}
	return NULL;
}

bool mount_is_node(const struct mount_entry *entry, const char *name)
{
	bool is_dev = strcmp(entry->type, "devtmpfs") == 0 || strcmp(entry->type, "tmpfs") == 0;
	const char *base = strrchr(entry->root, '/');

	/* Of /dev itself only the root is mounted, and a tmpfs of a pod has no loop devices. */
	return is_dev && base != NULL &&
	       (name != NULL ? strcmp(base + 1, name) == 0 : strncmp(base + 1, "loop", 4) == 0);
}

const struct mount_entry *mounts_find_user(const struct mounts *mounts, dev_t number,
	const char *name, const char *but_path, const char *but_other_path)
{
	for (size_t i = 0; i < mounts->count; i++) {
		const struct mount_entry *entry = &mounts->entries[i];
		bool is_user = (number != 0 && entry->device == number) ||
			       (name != NULL && mount_is_node(entry, name));

		if (is_user && (but_path == NULL || strcmp(entry->path, but_path) != 0) &&
			(but_other_path == NULL || strcmp(entry->path, but_other_path) != 0)) {
			return entry;
		}
	}
	return NULL;
}

/* The last part is not looked at: what is mounted there may not answer. */
int mount_path_resolve(const char *path, char ret_path[PATH_MAX], struct err *err)
{
	char copy[PATH_MAX], folder[PATH_MAX];
	size_t length = strlen(path);
	char *name;

	while (length > 1 && path[length - 1] == '/') {
		length--;
	}
	if (path[0] != '/' || length >= sizeof(copy) || length == 1) {
		return err_set(err, -EINVAL, "\"%.200s\" is no absolute path", path);
	}
	memcpy(copy, path, length);
	copy[length] = '\0';
	name = strrchr(copy, '/');
	*name++ = '\0';
	if (strcmp(name, "..") == 0 || strcmp(name, ".") == 0) {
		return err_set(err, -EINVAL, "\"%.200s\" is no plain path", path);
	}
	if (realpath(copy[0] == '\0' ? "/" : copy, folder) == NULL) {
		return err_set(err, -errno, "%s: %s", copy, err_describe(errno));
	}
	if (strlen(folder) + 1 + strlen(name) >= PATH_MAX) {
		return err_set(err, -ENAMETOOLONG, "%.200s: the path is too long", path);
	}
	int written =
		snprintf(ret_path, PATH_MAX, "%s/%s", strcmp(folder, "/") == 0 ? "" : folder, name);

	return written < 0 || written >= PATH_MAX ? err_set(err, -ENAMETOOLONG, "%.200s", path) : 0;
}

/* ---- mounting ---- */

int mount_file_system(const char *device, const char *path, const char *type, const char *options,
	struct err *err)
{
	struct libmnt_context *context = mnt_new_context();
	char text[256] = "";
	int result;

	if (context == NULL) {
		return err_set(err, -ENOMEM, "no memory to mount %s", device);
	}
	result = mnt_context_set_source(context, device);
	result = result < 0 ? result : mnt_context_set_target(context, path);
	result = result < 0 ? result : mnt_context_set_fstype(context, type);
	result = result < 0 ? result : mnt_context_set_options(context, options);
	if (result < 0) {
		mnt_free_context(context);
		return err_set(err, result, "mount %s: %s", device, err_describe(result));
	}
	result = mnt_context_mount(context);
	if (mnt_context_get_excode(context, result, text, sizeof(text)) != 0) {
		int code = mnt_context_syscall_called(context)
				   ? -mnt_context_get_syscall_errno(context)
				   : result;

		/* EINVAL is of the options, or of what is on the device. */
		(void)err_set(err, code < 0 ? code : -EIO, "mount -t %s -o '%s' %s %s: %s", type,
			options, device, path, text[0] != '\0' ? text : err_describe(code));
		result = err->code;
	}
	mnt_free_context(context);
	return result;
}

int mount_bind(const char *from, const char *to, bool is_read_only, struct err *err)
{
	struct mount_attr attributes = {.attr_set = MOUNT_ATTR_RDONLY};

	if (mount(from, to, NULL, MS_BIND, NULL) < 0) {
		return err_set(err, -errno, "bind %s to %s: %s", from, to, err_describe(errno));
	}
	/* Nothing but the one flag changes: nosuid and the like stay. */
	if (is_read_only && mount_setattr(AT_FDCWD, to, AT_SYMLINK_NOFOLLOW, &attributes,
				    sizeof(attributes)) < 0) {
		int code = -errno;

		(void)umount2(to, MNT_DETACH | UMOUNT_NOFOLLOW);
		return err_set(err, code, "make %s read-only: %s", to, err_describe(code));
	}
	return 0;
}

/* ---- unmounting ---- */

static bool is_below(const char *path, const char *folder)
{
	size_t length = strlen(folder);

	return strncmp(path, folder, length) == 0 && (path[length] == '/' || path[length] == '\0');
}

static bool link_is_below(int folder_fd, const char *name, const char *path)
{
	char target[PATH_MAX];
	ssize_t length = readlinkat(folder_fd, name, target, sizeof(target) - 1);

	if (length <= 0) {
		return false;
	}
	target[length] = '\0';
	return is_below(target, path);
}

static bool process_holds(int proc_fd, const char *pid, const char *path)
{
	char name[300];
	bool holds = false;

	for (unsigned i = 0; i < 2 && !holds; i++) {
		(void)snprintf(name, sizeof(name), "%s/%s", pid, i == 0 ? "cwd" : "root");
		holds = link_is_below(proc_fd, name, path);
	}
	(void)snprintf(name, sizeof(name), "%s/fd", pid);
	int fd = openat(proc_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *folder = fd < 0 ? NULL : fdopendir(fd);

	if (folder == NULL) {
		if (fd >= 0) {
			(void)close(fd);
		}
		return holds;
	}
	for (struct dirent *entry = readdir(folder); entry != NULL && !holds;
		entry = readdir(folder)) {
		holds = link_is_below(fd, entry->d_name, path);
	}
	(void)closedir(folder);
	return holds;
}

/* As far as this process's pid namespace shows it. */
static void describe_holder(const char *path, char *text, size_t size)
{
	DIR *proc = opendir("/proc");

	(void)snprintf(text, size, "a process that is not seen from here, or another mount");
	if (proc == NULL) {
		return;
	}
	for (struct dirent *entry = readdir(proc); entry != NULL; entry = readdir(proc)) {
		char name[300], command[64] = "?";
		FILE *file;

		if (!isdigit((unsigned char)entry->d_name[0]) ||
			!process_holds(dirfd(proc), entry->d_name, path)) {
			continue;
		}
		(void)snprintf(name, sizeof(name), "/proc/%s/comm", entry->d_name);
		file = fopen(name, "re");
		if (file != NULL) {
			if (fgets(command, sizeof(command), file) == NULL) {
				command[0] = '?';
			}
			(void)fclose(file);
		}
		command[strcspn(command, "\n")] = '\0';
		(void)snprintf(text, size, "process %.16s (%s)", entry->d_name, command);
		break;
	}
	(void)closedir(proc);
}

static bool is_mounted(const char *path)
{
	struct mounts mounts;
	struct err err = {0};
	/* Unreadable: umount2 will tell. */
	bool is_there = mounts_read(&mounts, &err) < 0 || mounts_find(&mounts, path) != NULL;

	mounts_done(&mounts);
	return is_there;
}

int mount_remove(const char *path, bool lazily, struct err *err)
{
	char holder[128];

	for (unsigned i = 0; i < STACKED_MAX && is_mounted(path); i++) {
		if (umount2(path, UMOUNT_NOFOLLOW | (lazily ? MNT_DETACH : 0)) == 0) {
			continue;
		}
		if (errno == EINVAL || errno == ENOENT) {
			/* Somebody else was faster. */
			return 0;
		}
		int code = -errno;

		if (code == -EBUSY) {
			describe_holder(path, holder, sizeof(holder));
			return err_set(err, code, "%s is in use by %s", path, holder);
		}
		return err_set(err, code, "umount %s: %s", path, err_describe(code));
	}
	return 0;
}
