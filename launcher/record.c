/* SPDX-License-Identifier: Apache-2.0 */
#include "launcher/record.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define BOOT_SIZE 40
/* No volume's name begins with a dot. */
#define NEW_FILE ".new"

/* Numbers of devices and connections mean nothing after a reboot. */
static void read_boot(char boot[BOOT_SIZE])
{
	FILE *file = fopen("/proc/sys/kernel/random/boot_id", "re");

	if (file == NULL || fgets(boot, BOOT_SIZE, file) == NULL) {
		(void)snprintf(boot, BOOT_SIZE, "unknown");
	}
	boot[strcspn(boot, "\n")] = '\0';
	if (file != NULL) {
		(void)fclose(file);
	}
}

static int write_text(const char *path, const struct record *record)
{
	char boot[BOOT_SIZE];
	FILE *file = fopen(path, "we");

	if (file == NULL) {
		return -errno;
	}
	read_boot(boot);
	(void)fprintf(file, "boot=%s fuse_connection=%u disk_sequence=%" PRIu64 " device=%s\n",
		boot, record->fuse_connection, record->disk_sequence, record->device);
	return fclose(file) == 0 ? 0 : -errno;
}

int record_write(const char *folder, const struct record *record, struct err *err)
{
	char path[PATH_MAX];
	char new_path[PATH_MAX];
	int result;

	if ((size_t)snprintf(path, sizeof(path), "%s/%s", folder, record->name) >= sizeof(path) ||
		(size_t)snprintf(new_path, sizeof(new_path), "%s/" NEW_FILE, folder) >=
			sizeof(new_path)) {
		return err_set(err, -ENAMETOOLONG, "the path of %s is too long", folder);
	}
	result = write_text(new_path, record);
	if (result == 0 && rename(new_path, path) < 0) {
		result = -errno;
	}
	return result == 0 ? 0 : err_set(err, result, "writing %s: %s", path, err_describe(result));
}

void record_remove(const char *folder, const char *name)
{
	char path[PATH_MAX];

	(void)snprintf(
		path, sizeof(path), "%.*s/%s", PATH_MAX - LAUNCH_NAME_SIZE - 2, folder, name);
	(void)unlink(path);
}

static bool read_record(const char *folder, const char *name, struct record *ret_record)
{
	char path[PATH_MAX];
	char line[256] = "";
	char boot[BOOT_SIZE], now[BOOT_SIZE];
	int fields;
	FILE *file;

	*ret_record = (struct record){0};
	if (launch_check_name(name, NULL) != 0) {
		return false;
	}
	(void)snprintf(ret_record->name, sizeof(ret_record->name), "%s", name);
	(void)snprintf(
		path, sizeof(path), "%.*s/%s", PATH_MAX - LAUNCH_NAME_SIZE - 2, folder, name);
	file = fopen(path, "re");
	if (file == NULL || fgets(line, sizeof(line), file) == NULL) {
		line[0] = '\0';
	}
	if (file != NULL) {
		(void)fclose(file);
	}
	fields = sscanf(line, "boot=%39s fuse_connection=%u disk_sequence=%" SCNu64 " device=%63s",
		boot, &ret_record->fuse_connection, &ret_record->disk_sequence, ret_record->device);
	read_boot(now);
	return fields >= 3 && strcmp(boot, now) == 0;
}

void records_each(
	const char *folder, void (*found)(const struct record *record, void *ctx), void *ctx)
{
	DIR *dir = opendir(folder);
	const struct dirent *entry;

	while (dir != NULL && (entry = readdir(dir)) != NULL) {
		struct record record;

		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) {
			continue;
		}
		if (read_record(folder, entry->d_name, &record)) {
			found(&record, ctx);
		} else {
			(void)unlinkat(dirfd(dir), entry->d_name, 0);
		}
	}
	if (dir != NULL) {
		(void)closedir(dir);
	}
}
