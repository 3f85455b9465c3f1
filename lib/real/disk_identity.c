/* SPDX-License-Identifier: Apache-2.0 */
/* What the kernel tells about a disk: who holds it and when its unflushed writes may be gone. */
#include "real/backend.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

/* FNV-1a, finished by a mixing step; it only has to differ, nobody attacks it. */
static uint64_t hash_bytes(uint64_t hash, const void *from, size_t length)
{
	const unsigned char *bytes = from;

	for (size_t i = 0; i < length; i++) {
		hash = (hash ^ bytes[i]) * UINT64_C(0x100000001B3);
	}
	return hash ^ hash >> 29;
}

/* Bytes read, without the line end. */
static size_t read_small_file(const char *path, char *text, size_t text_size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0) {
		return 0;
	}
	ssize_t length = read(fd, text, text_size - 1);

	close(fd);
	if (length <= 0) {
		return 0;
	}
	while (length > 0 && text[length - 1] == '\n') {
		length--;
	}
	text[length] = '\0';
	return (size_t)length;
}

uint64_t real_disk_power(int fd)
{
	uint64_t hash = UINT64_C(0xCBF29CE484222325);
	struct stat status;
	char boot_id[64];
	size_t length =
		read_small_file("/proc/sys/kernel/random/boot_id", boot_id, sizeof(boot_id));

	if (length == 0 || fstat(fd, &status) != 0) {
		uint64_t power = 0;

		/* Unknown means that something may have been lost. */
		(void)!getrandom(&power, sizeof(power), 0);
		return power;
	}
	hash = hash_bytes(hash, boot_id, length);
	if (S_ISBLK(status.st_mode)) {
		uint64_t sequence = 0;

		hash = hash_bytes(hash, &status.st_rdev, sizeof(status.st_rdev));
#ifdef BLKGETDISKSEQ
		/* A device that was detached and attached again has another number. */
		if (ioctl(fd, BLKGETDISKSEQ, &sequence) != 0) {
			sequence = 0;
		}
#endif
		return hash_bytes(hash, &sequence, sizeof(sequence));
	}
	hash = hash_bytes(hash, &status.st_dev, sizeof(status.st_dev));
	return hash_bytes(hash, &status.st_ino, sizeof(status.st_ino));
}

void real_disk_lock_holder(int fd, char *text, size_t text_size)
{
	struct stat status;
	char line[256];
	FILE *locks = fopen("/proc/locks", "re");

	if (locks == NULL) {
		return;
	}
	while (fstat(fd, &status) == 0 && fgets(line, sizeof(line), locks) != NULL) {
		unsigned device_major, device_minor;
		uint64_t inode;
		int process;

		/* "1: FLOCK  ADVISORY  WRITE 1234 08:01:5678 0 EOF" */
		if (sscanf(line, "%*d: FLOCK %*s %*s %d %x:%x:%" SCNu64, &process, &device_major,
			    &device_minor, &inode) != 4 ||
			inode != status.st_ino ||
			makedev(device_major, device_minor) != status.st_dev) {
			continue;
		}
		char path[64];
		char name[64] = "";

		(void)snprintf(path, sizeof(path), "/proc/%d/comm", process);
		(void)read_small_file(path, name, sizeof(name));
		(void)snprintf(text, text_size, " (process %d%s%s)", process,
			name[0] != '\0' ? ", " : "", name);
		break;
	}
	(void)fclose(locks);
}
