/* SPDX-License-Identifier: Apache-2.0 */
/* The kernel's requests, checked and decided: a root folder with one file, the volume. */
#include "base/bytes.h"
#include "nexus/frontend/fuse_internal.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <string.h>
#include <sys/stat.h>

#define NODE_ROOT ((uint64_t)FUSE_ROOT_ID)
#define NODE_FILE UINT64_C(2)

/* Older kernels than 4.20 cannot tell how many pages a request has. */
#define MINOR_MIN 28u

/* The default of 12 would limit direct I/O to a depth of 12. */
#define MAX_BACKGROUND 128u
/* As many as 512-byte pieces of a request may touch: a request must never be cut in the middle of a
 * block because of this. */
#define MAX_PAGES 256u

/* The file never changes but through us. */
#define ATTR_VALID_S UINT64_C(31536000)

/* Newer than the header we build with; in flags2. */
#define FLAG2_DIRECT_IO_ALLOW_MMAP (UINT32_C(1) << 4)

static const unsigned char *request_args(const struct fuse_slot *slot)
{
	return (const unsigned char *)slot->page + FUSE_ARGS_OFFSET;
}

/* An answer without a body: 0 or a negative errno. */
static enum fuse_plan answer(struct fuse_slot *slot, int error)
{
	slot->error = error;
	return FUSE_PLAN_ANSWER;
}

static enum fuse_plan answer_body(struct fuse_slot *slot, size_t bytes)
{
	slot->body_bytes = (uint32_t)bytes;
	return FUSE_PLAN_ANSWER;
}

/*
 * What the kernel was told.  A successor serves before its volume is open, when it may not know how
 * much it has grown: what the kernel asks for beyond that is for the volume to judge.
 */
static uint64_t fuse_size_bytes(const struct fuse_frontend *frontend)
{
	frontend->head->size_bytes = max_u64(frontend->head->size_bytes, frontend->dev->size_bytes);
	return frontend->head->size_bytes;
}

static void fill_attr(const struct fuse_frontend *frontend, uint64_t node, struct fuse_attr *attr)
{
	bool is_file = node == NODE_FILE;

	*attr = (struct fuse_attr){
		.ino = node,
		.size = is_file ? fuse_size_bytes(frontend) : 0,
		.blocks = is_file ? fuse_size_bytes(frontend) / 512 : 0,
		.mode = is_file ? S_IFREG | 0600 : S_IFDIR | 0500,
		.nlink = is_file ? 1 : 2,
		.blksize = FUSE_FRONTEND_PAGE,
	};
}

/* ---- requests about the file
 * ------------------------------------------------------------------------------------ */

static enum fuse_plan plan_init(struct fuse_slot *slot, size_t args_bytes)
{
	const unsigned char *args = request_args(slot);
	struct fuse_init_out *out = &slot->page->body.init;
	struct fuse_init_in in = {0};
	uint32_t wanted = FUSE_ASYNC_READ | FUSE_BIG_WRITES | FUSE_ASYNC_DIO | FUSE_MAX_PAGES |
			  FUSE_PARALLEL_DIROPS | FUSE_INIT_EXT;

	if (args_bytes < offsetof(struct fuse_init_in, flags2)) {
		return answer(slot, -EPROTO);
	}
	memcpy(&in, args, min_u64(args_bytes, sizeof(in)));
	*out = (struct fuse_init_out){
		.major = FUSE_KERNEL_VERSION, .minor = FUSE_KERNEL_MINOR_VERSION};
	if (in.major > FUSE_KERNEL_VERSION) {
		/* The kernel asks again with the version that we named. */
		return answer_body(slot, sizeof(*out));
	}
	if (in.major < FUSE_KERNEL_VERSION || in.minor < MINOR_MIN) {
		return answer(slot, -EPROTO);
	}
	out->flags = in.flags & wanted;
	if ((in.flags & FUSE_INIT_EXT) != 0) {
		out->flags2 = in.flags2 & FLAG2_DIRECT_IO_ALLOW_MMAP;
	}
	out->max_readahead = in.max_readahead;
	out->max_background = MAX_BACKGROUND;
	out->congestion_threshold = MAX_BACKGROUND / 4 * 3;
	out->max_write = FUSE_FRONTEND_DATA_BYTES;
	out->max_pages = MAX_PAGES;
	out->time_gran = 1;
	return answer_body(slot, sizeof(*out));
}

static enum fuse_plan plan_lookup(struct fuse_slot *slot, size_t args_bytes)
{
	const unsigned char *name = request_args(slot);
	struct fuse_entry_out *out = &slot->page->body.entry;
	size_t length = strlen(slot->frontend->name);

	if (slot->page->in.nodeid != NODE_ROOT || args_bytes != length + 1 ||
		memcmp(name, slot->frontend->name, length + 1) != 0) {
		return answer(slot, -ENOENT);
	}
	*out = (struct fuse_entry_out){
		.nodeid = NODE_FILE,
		.entry_valid = ATTR_VALID_S,
		.attr_valid = ATTR_VALID_S,
	};
	fill_attr(slot->frontend, NODE_FILE, &out->attr);
	return answer_body(slot, sizeof(*out));
}

static enum fuse_plan plan_getattr(struct fuse_slot *slot)
{
	struct fuse_attr_out *out = &slot->page->body.attr;

	*out = (struct fuse_attr_out){.attr_valid = ATTR_VALID_S};
	fill_attr(slot->frontend, slot->page->in.nodeid, &out->attr);
	return answer_body(slot, sizeof(*out));
}

static enum fuse_plan plan_open(struct fuse_slot *slot, size_t args_bytes)
{
	struct fuse_open_out *out = &slot->page->body.open;

	if (args_bytes < sizeof(struct fuse_open_in)) {
		return answer(slot, -EPROTO);
	}
	if ((le32_get(request_args(slot)) & O_TRUNC) != 0) {
		return answer(slot, -EPERM);
	}
	/* Without parallel direct writes one lock around each write would serialise them. */
	*out = (struct fuse_open_out){.open_flags = FOPEN_DIRECT_IO | FOPEN_PARALLEL_DIRECT_WRITES};
	return answer_body(slot, sizeof(*out));
}

static enum fuse_plan plan_opendir(struct fuse_slot *slot)
{
	slot->page->body.open = (struct fuse_open_out){0};
	return answer_body(slot, sizeof(slot->page->body.open));
}

static enum fuse_plan plan_statfs(struct fuse_slot *slot)
{
	slot->page->body.statfs = (struct fuse_statfs_out){
		.st =
			{
				.blocks = fuse_size_bytes(slot->frontend) / FUSE_FRONTEND_PAGE,
				.bsize = FUSE_FRONTEND_PAGE,
				.frsize = FUSE_FRONTEND_PAGE,
				.files = 2,
				.namelen = FUSE_FRONTEND_NAME_SIZE - 1,
			},
	};
	return answer_body(slot, sizeof(slot->page->body.statfs));
}

static size_t put_dirent(char *to, uint64_t node, uint64_t next, const char *name)
{
	struct fuse_dirent entry = {
		.ino = node,
		.off = next,
		.namelen = (uint32_t)strlen(name),
		.type = (node == NODE_FILE ? S_IFREG : S_IFDIR) >> 12,
	};
	size_t bytes = FUSE_DIRENT_ALIGN(FUSE_NAME_OFFSET + entry.namelen);

	memset(to, 0, bytes);
	memcpy(to, &entry, FUSE_NAME_OFFSET);
	memcpy(to + FUSE_NAME_OFFSET, name, entry.namelen);
	return bytes;
}

static enum fuse_plan plan_readdir(struct fuse_slot *slot, size_t args_bytes)
{
	const char *names[] = {".", "..", slot->frontend->name};
	const uint64_t nodes[] = {NODE_ROOT, NODE_ROOT, NODE_FILE};
	struct fuse_read_in in;
	size_t bytes = 0;

	_Static_assert(
		FUSE_DIRENTS_BYTES >= 3 * (FUSE_NAME_OFFSET + 8) + FUSE_FRONTEND_NAME_SIZE, "fits");
	if (args_bytes < sizeof(in)) {
		return answer(slot, -EPROTO);
	}
	memcpy(&in, request_args(slot), sizeof(in));
	for (uint64_t i = in.offset; i < ARRAY_COUNT(names); i++) {
		if (bytes + FUSE_DIRENT_ALIGN(FUSE_NAME_OFFSET + strlen(names[i])) > in.size) {
			break;
		}
		bytes += put_dirent(slot->page->body.dirents + bytes, nodes[i], i + 1, names[i]);
	}
	return answer_body(slot, bytes);
}

/* ---- requests for the device
 * ------------------------------------------------------------------------------------ */

static bool is_aligned(const struct fuse_slot *slot, uint64_t offset, uint64_t length)
{
	return ((offset | length) & (slot->frontend->dev->block_bytes - 1)) == 0;
}

static enum fuse_plan ask_device(
	struct fuse_slot *slot, enum blk_kind kind, uint64_t offset, uint64_t length)
{
	slot->req.kind = kind;
	slot->req.fua = false;
	slot->req.offset = offset;
	slot->req.length = length;
	slot->req.iov = NULL;
	slot->req.iov_count = 0;
	if (kind == BLK_READ || kind == BLK_WRITE) {
		slot->req_iov = (struct iovec){slot->page->data, length};
		slot->req.iov = &slot->req_iov;
		slot->req.iov_count = 1;
	}
	return FUSE_PLAN_DEVICE;
}

static enum fuse_plan plan_read(struct fuse_slot *slot, size_t args_bytes)
{
	uint64_t device_bytes = fuse_size_bytes(slot->frontend);
	struct fuse_read_in in;
	uint64_t length;

	if (args_bytes < sizeof(in)) {
		return answer(slot, -EPROTO);
	}
	memcpy(&in, request_args(slot), sizeof(in));
	if (in.offset >= device_bytes || in.size == 0) {
		return answer(slot, 0);
	}
	length = min_u64(in.size, device_bytes - in.offset);
	if (length > FUSE_FRONTEND_DATA_BYTES || !is_aligned(slot, in.offset, length)) {
		return answer(slot, -EINVAL);
	}
	return ask_device(slot, BLK_READ, in.offset, length);
}

static enum fuse_plan plan_write(struct fuse_slot *slot, size_t args_bytes)
{
	uint64_t device_bytes = fuse_size_bytes(slot->frontend);
	struct fuse_write_in in;

	if (args_bytes < sizeof(in)) {
		return answer(slot, -EPROTO);
	}
	memcpy(&in, request_args(slot), sizeof(in));
	if (in.size != args_bytes - sizeof(in) || in.size > FUSE_FRONTEND_DATA_BYTES) {
		return answer(slot, -EPROTO);
	}
	if (!range_is_within(in.offset, in.size, device_bytes)) {
		return answer(slot, -EFBIG);
	}
	if (in.size == 0 || !is_aligned(slot, in.offset, in.size)) {
		return answer(slot, -EINVAL);
	}
	ask_device(slot, BLK_WRITE, in.offset, in.size);
	slot->req.fua = (in.flags & O_DSYNC) != 0;
	return FUSE_PLAN_DEVICE;
}

static enum fuse_plan plan_fallocate(struct fuse_slot *slot, size_t args_bytes)
{
	struct fuse_fallocate_in in;

	if (args_bytes < sizeof(in)) {
		return answer(slot, -EPROTO);
	}
	memcpy(&in, request_args(slot), sizeof(in));
	if (!range_is_within(in.offset, in.length, fuse_size_bytes(slot->frontend))) {
		return answer(slot, -EFBIG);
	}
	if (in.length == 0 || !is_aligned(slot, in.offset, in.length)) {
		return answer(slot, -EINVAL);
	}
	if (in.mode == (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE)) {
		return ask_device(slot, BLK_DISCARD, in.offset, in.length);
	}
	if ((in.mode & ~(uint32_t)FALLOC_FL_KEEP_SIZE) == FALLOC_FL_ZERO_RANGE) {
		return ask_device(slot, BLK_ZERO, in.offset, in.length);
	}
	return answer(slot, -EOPNOTSUPP);
}

static enum fuse_plan plan_fsync(struct fuse_slot *slot)
{
	return ask_device(slot, BLK_FLUSH, 0, 0);
}

/* ---- the parts' interface
 * ---------------------------------------------------------------------------------------- */

/* Requests that name the file or the root by its node. */
static enum fuse_plan plan_for_node(struct fuse_slot *slot, uint32_t opcode, size_t args_bytes)
{
	bool is_file = slot->page->in.nodeid == NODE_FILE;

	if (!is_file && slot->page->in.nodeid != NODE_ROOT) {
		return answer(slot, -ENOENT);
	}
	switch (opcode) {
	case FUSE_GETATTR:
		return plan_getattr(slot);
	case FUSE_SETATTR:
		return answer(slot, -EPERM);
	case FUSE_ACCESS:
	case FUSE_RELEASE:
	case FUSE_RELEASEDIR:
	case FUSE_FSYNCDIR:
		return answer(slot, 0);
	case FUSE_OPENDIR:
		return is_file ? answer(slot, -ENOTDIR) : plan_opendir(slot);
	case FUSE_READDIR:
		return is_file ? answer(slot, -ENOTDIR) : plan_readdir(slot, args_bytes);
	case FUSE_OPEN:
		return is_file ? plan_open(slot, args_bytes) : answer(slot, -EISDIR);
	case FUSE_READ:
		return is_file ? plan_read(slot, args_bytes) : answer(slot, -EISDIR);
	case FUSE_WRITE:
		return is_file ? plan_write(slot, args_bytes) : answer(slot, -EISDIR);
	case FUSE_FALLOCATE:
		return is_file ? plan_fallocate(slot, args_bytes) : answer(slot, -EISDIR);
	case FUSE_FSYNC:
		return is_file ? plan_fsync(slot) : answer(slot, -EISDIR);
	default:
		/* Also for the rest: the kernel remembers and does not ask again. */
		return answer(slot, -ENOSYS);
	}
}

enum fuse_plan fuse_plan_request(struct fuse_slot *slot, size_t request_bytes)
{
	uint32_t opcode = slot->page->in.opcode;
	size_t args_bytes;

	if (request_bytes < sizeof(struct fuse_in_header) || request_bytes > FUSE_READ_BYTES) {
		return answer(slot, -EPROTO);
	}
	args_bytes = request_bytes - sizeof(struct fuse_in_header);
	switch (opcode) {
	case FUSE_FORGET:
	case FUSE_BATCH_FORGET:
	case FUSE_INTERRUPT:
		return FUSE_PLAN_SILENT;
	case FUSE_INIT:
		return plan_init(slot, args_bytes);
	case FUSE_DESTROY:
		return answer(slot, 0);
	case FUSE_LOOKUP:
		return plan_lookup(slot, args_bytes);
	case FUSE_STATFS:
		return plan_statfs(slot);
	default:
		return plan_for_node(slot, opcode, args_bytes);
	}
}

/* Errors that the block layer knows how to pass on; everything else is an I/O error for the host.
 */
static int host_error(int result)
{
	return result == 0 || result == -ENOSPC ? result : -EIO;
}

void fuse_plan_result(struct fuse_slot *slot, int result)
{
	slot->error = host_error(result);
	if (slot->req.kind == BLK_READ) {
		slot->data_bytes = (uint32_t)slot->req.length;
	} else if (slot->req.kind == BLK_WRITE) {
		slot->page->body.write =
			(struct fuse_write_out){.size = (uint32_t)slot->req.length};
		slot->body_bytes = sizeof(slot->page->body.write);
	}
}

void fuse_plan_again(struct fuse_slot *slot)
{
	int result = slot->page->done_result;

	/* Nothing is submitted by planning: it gives back what the answer is made of. */
	if (fuse_plan_request(slot, slot->page->in.len) != FUSE_PLAN_DEVICE) {
		return;
	}
	assert(slot->req.kind != BLK_READ);
	fuse_plan_result(slot, 0);
	slot->error = result;
}
