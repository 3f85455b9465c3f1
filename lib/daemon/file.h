/* SPDX-License-Identifier: Apache-2.0 */
/* Small files and folders of a daemon.  Control thread only: these calls block. */
#ifndef DAEMON_FILE_H
#define DAEMON_FILE_H

#include "base/err.h"
#include "base/strbuf.h"
#include "base/uuid.h"

#include <stddef.h>
#include <sys/types.h>

/* Appends the whole file.  -ENOENT; -EFBIG above max_bytes. */
int file_read(const char *path, size_t max_bytes, struct strbuf *to, struct err *err) __must_check;
/* Replaces it so that after a crash at any moment either the old or the new text is there:
 * temporary file, fsync, rename, fsync of the folder. */
int file_replace(const char *path, const char *text, size_t length, struct err *err) __must_check;
/* Durable when it returns; a file that is not there is fine. */
int file_remove(const char *path, struct err *err) __must_check;
/* The folder and those above it that are missing. */
int folder_make(const char *path, mode_t mode, struct err *err) __must_check;
/*
 * Takes the folder for this process (flock on its file "lock"), waiting up to wait_ms for a
 * predecessor that is just going.  The descriptor is kept until the end.  -EBUSY names who has it.
 */
int folder_lock(const char *path, unsigned wait_ms, int *ret_fd, struct err *err) __must_check;
/* The uuid that is kept in a file; made with the first call. */
int file_uuid(const char *path, struct uuid *ret_uuid, struct err *err) __must_check;

#endif
