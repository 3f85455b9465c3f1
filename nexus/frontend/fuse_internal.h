/* SPDX-License-Identifier: Apache-2.0 */
/* What the parts of the FUSE frontend share: the table's layout, a slot, and what a request turns
 * into. */
#ifndef NEXUS_FRONTEND_FUSE_INTERNAL_H
#define NEXUS_FRONTEND_FUSE_INTERNAL_H

#include "nexus/frontend/fuse.h"

#include <linux/fuse.h>
#include <stdatomic.h>

#define FUSE_TABLE_MAGIC   "STRKFUSE"
#define FUSE_TABLE_VERSION 1u

/* First page of the table. */
struct fuse_table_head {
	char magic[8]; /* written last; zero: fresh */
	uint32_t version;
	uint32_t slot_count;
	uint32_t data_bytes;
	uint32_t block_bytes;
	uint64_t size_bytes;
	char name[FUSE_FRONTEND_NAME_SIZE];
	uint32_t init_done; /* INIT was answered: the kernel does not ask again */
};

/* Header and arguments of a write end exactly at the end of the slot's page, so that the payload is
 * page-aligned. */
#define FUSE_REQUEST_HEAD_BYTES (sizeof(struct fuse_in_header) + sizeof(struct fuse_write_in))
#define FUSE_REQUEST_OFFSET     (FUSE_FRONTEND_PAGE - FUSE_REQUEST_HEAD_BYTES)
#define FUSE_ARGS_OFFSET        (FUSE_REQUEST_OFFSET + sizeof(struct fuse_in_header))
#define FUSE_READ_BYTES         (FUSE_REQUEST_HEAD_BYTES + FUSE_FRONTEND_DATA_BYTES)

_Static_assert(FUSE_REQUEST_HEAD_BYTES == 80, "the kernel's layout");
_Static_assert(sizeof(struct fuse_read_in) == sizeof(struct fuse_write_in),
	"a read's data does not touch its arguments");

#define FUSE_DIRENTS_BYTES 256

union fuse_answer_body {
	struct fuse_init_out init;
	struct fuse_entry_out entry;
	struct fuse_attr_out attr;
	struct fuse_open_out open;
	struct fuse_write_out write;
	struct fuse_statfs_out statfs;
	char dirents[FUSE_DIRENTS_BYTES];
};

struct fuse_slot_page {
	/* Equals the unique of the request when it was executed: written after done_result and
	 * before the answer. */
	_Atomic uint64_t done_unique;
	int32_t done_result; /* 0 or negative errno for the kernel */
	uint32_t reserved;
	struct fuse_out_header out;
	union fuse_answer_body body;
	unsigned char unused[FUSE_REQUEST_OFFSET - 16 - sizeof(struct fuse_out_header) -
			     sizeof(union fuse_answer_body)];
	struct fuse_in_header in;
	unsigned char args[sizeof(struct fuse_write_in)]; /* longer ones go on in data */
	unsigned char data[FUSE_FRONTEND_DATA_BYTES];
};

_Static_assert(offsetof(struct fuse_slot_page, in) == FUSE_REQUEST_OFFSET, "layout");
_Static_assert(offsetof(struct fuse_slot_page, data) == FUSE_FRONTEND_PAGE, "layout");
_Static_assert(sizeof(struct fuse_slot_page) == FUSE_FRONTEND_PAGE + FUSE_FRONTEND_DATA_BYTES,
	"slots follow one another");

/* What to do with a request. */
enum fuse_plan {
	FUSE_PLAN_SILENT, /* the kernel expects no answer */
	FUSE_PLAN_ANSWER, /* the answer is in the slot's page: error, body_bytes */
	FUSE_PLAN_DEVICE, /* slot->req is filled in: ask the device */
};

enum fuse_slot_state {
	FUSE_SLOT_FREE,
	FUSE_SLOT_ARM,
	FUSE_SLOT_AWAIT_REQUEST,
	FUSE_SLOT_TAKEN,
	FUSE_SLOT_AWAIT_DEVICE,
	FUSE_SLOT_AWAIT_ANSWER,
	FUSE_SLOT_AWAIT_RELEASED,
};

struct fuse_slot {
	struct list_node node; /* in frontend->free while FREE */
	struct task task;
	enum fuse_slot_state state;
	struct fuse_frontend *frontend;
	struct fuse_slot_page *page;

	struct io_fd_op read;
	struct iovec read_iov;
	bool read_pending;

	enum fuse_plan plan;
	bool again;          /* left by a predecessor */
	int error;           /* of the answer */
	uint32_t body_bytes; /* of the answer, from page->body */
	uint32_t data_bytes; /* READ: of the answer, from page->data */
	struct blk_req req;
	struct iovec req_iov;
	bool device_done, released;

	struct io_fd_op answer;
	struct iovec answer_iov[2];
	bool answer_pending;
};

struct fuse_frontend {
	struct io *io;
	struct blk_dev *dev;
	int fuse_fd;
	char name[FUSE_FRONTEND_NAME_SIZE];
	uint64_t object;
	struct fuse_table_head *head;
	struct fuse_slot slots[FUSE_FRONTEND_SLOTS];
	struct list free;

	/* Reads waiting in the kernel.  One request wakes them all, so there are only as many as
	 * bursts are long. */
	unsigned armed, armed_target, quiet;
	unsigned in_flight;

	bool gone, closing;
	struct task close_task;
	void (*closed)(void *ctx);
	void *closed_ctx;

	unsigned executed_again, answered_again;
	struct metric requests, errors, recovered;
};

/* Reads the request in the slot's page and decides; everything that needs no device is answered
 * here. */
enum fuse_plan fuse_plan_request(struct fuse_slot *slot, size_t request_bytes);
/* The device has done its part: the answer's error and body. */
void fuse_plan_result(struct fuse_slot *slot, int result);
/* The answer that a predecessor had marked. */
void fuse_plan_again(struct fuse_slot *slot);

#endif
