/* SPDX-License-Identifier: Apache-2.0 */
/* What is on a disk, before anything is written to it. */
#include "pool-agent/store/store_internal.h"

#define PROBE_BYTES (1024u * 1024)

enum probe_state { PROBE_START, PROBE_AWAIT_READ, PROBE_DONE };

struct probe {
	struct task task;
	int state;
	struct io *io;
	struct io_disk *disk;
	struct store_op *op;
	struct batch batch;
	struct batch_op ops[2];
	uint64_t length;  /* of each end */
	uint8_t *ends[2]; /* owned */
};

struct signature {
	size_t offset;
	const char *bytes;
	size_t length;
	const char *name;
};

/* Only for the message: anything that is not zero is refused. */
static const struct signature signatures[] = {
	{1080, "\x53\xef", 2, "an ext2, ext3 or ext4 filesystem"},
	{0, "XFSB", 4, "an XFS filesystem"},
	{65600, "_BHRfS_M", 8, "a btrfs filesystem"},
	{512, "LABELONE", 8, "an LVM physical volume"},
	{0, "LUKS\xba\xbe", 6, "a LUKS volume"},
	{4096, "\xfc\x4e\x2b\xa9", 4, "a Linux RAID member"},
	{4086, "SWAPSPACE2", 10, "swap space"},
	{512, "EFI PART", 8, "a GPT partition table"},
	{4096, "EFI PART", 8, "a GPT partition table"},
	{510, "\x55\xaa", 2, "a partition table or boot sector"},
};

static const char *signature_name(const uint8_t *start, uint64_t length)
{
	for (size_t i = 0; i < ARRAY_COUNT(signatures); i++) {
		const struct signature *signature = &signatures[i];

		if (range_is_within(signature->offset, signature->length, length) &&
			memcmp(start + signature->offset, signature->bytes, signature->length) ==
				0) {
			return signature->name;
		}
	}
	return "data of something else";
}

/* true: a pool, of whatever version and state. */
static bool probe_is_pool(struct probe *probe)
{
	uint64_t last = probe->disk->size_bytes / STORE_BLOCK_BYTES - 1;
	const uint8_t *copies[2] = {
		probe->ends[0], probe->ends[1] + probe->length - STORE_BLOCK_BYTES};
	uint64_t places[2] = {0, last};

	for (unsigned i = 0; i < 2; i++) {
		struct superblock sb;
		struct err err;
		char text[UUID_TEXT_SIZE];
		int result = superblock_decode(copies[i], places[i], &sb, &err);

		if (result == -ENODATA) {
			continue;
		}
		if (result == 0) {
			(void)err_set(&probe->op->err, -EEXIST, "the Strake pool %s (%s)", sb.name,
				uuid_to_text(&sb.uuid, text));
		} else {
			(void)err_set(&probe->op->err, -EEXIST, "a Strake pool (%s)", err.text);
		}
		return true;
	}
	return false;
}

/* Zeros, and what a format writes before its superblocks. */
static bool is_unfinished(const uint8_t *bytes, uint64_t length)
{
	for (uint64_t at = 0; at < length; at += STORE_BLOCK_BYTES) {
		if (le32_get(bytes + at) != JOURNAL_MAGIC &&
			!bytes_are_zero(bytes + at, STORE_BLOCK_BYTES)) {
			return false;
		}
	}
	return true;
}

static int probe_judge(struct probe *probe)
{
	int result = batch_take_result(&probe->batch);

	if (result != 0) {
		return err_set(&probe->op->err, result, "cannot be read: %s", err_describe(result));
	}
	if (probe_is_pool(probe)) {
		return STORE_PROBE_POOL;
	}
	if (bytes_are_zero(probe->ends[0], probe->length) &&
		bytes_are_zero(probe->ends[1], probe->length)) {
		return STORE_PROBE_EMPTY;
	}
	if (is_unfinished(probe->ends[0], probe->length) &&
		is_unfinished(probe->ends[1], probe->length)) {
		(void)err_set(&probe->op->err, -EEXIST, "an unfinished Strake pool");
		return STORE_PROBE_UNFINISHED;
	}
	(void)err_set(
		&probe->op->err, -EEXIST, "%s", signature_name(probe->ends[0], probe->length));
	return STORE_PROBE_OTHER;
}

int store_check_disk(const struct io_disk *disk, struct err *err)
{
	if (disk->block_bytes <= STORE_BLOCK_BYTES) {
		return 0;
	}
	return err_set(err, -EOPNOTSUPP,
		"the disk has blocks of %u bytes, a pool can be on disks with up to %u",
		disk->block_bytes, STORE_BLOCK_BYTES);
}

static void probe_free(struct probe *probe)
{
	struct io *io = probe->io;

	io_free(io, probe->ends[0]);
	io_free(io, probe->ends[1]);
	io_free(io, probe);
}

static void probe_step(struct task *task)
{
	struct probe *probe = container_of(task, struct probe, task);
	uint64_t end = probe->disk->size_bytes / STORE_BLOCK_BYTES;
	struct store_op *op = probe->op;
	int result;

	switch ((enum probe_state)probe->state) {
	case PROBE_START:
		batch_read(&probe->batch, &probe->ops[0], 0, probe->ends[0], probe->length);
		batch_read(&probe->batch, &probe->ops[1], end - probe->length / STORE_BLOCK_BYTES,
			probe->ends[1], probe->length);
		AWAIT(probe, PROBE_AWAIT_READ, probe->batch.pending == 0);
		result = probe_judge(probe);
		probe->state = PROBE_DONE;
		task_done(task);
		probe_free(probe);
		store_op_finish(op, result);
		return;
	case PROBE_DONE:
		return;
	}
}

void store_probe(struct io *io, struct io_disk *disk, struct store_op *op)
{
	uint64_t length =
		min_u64(PROBE_BYTES, disk->size_bytes / STORE_BLOCK_BYTES * STORE_BLOCK_BYTES);
	struct probe *probe;

	err_clear(&op->err);
	if (store_check_disk(disk, &op->err) != 0) {
		store_op_fail_later(io, NULL, op, op->err.code);
		return;
	}
	if (length == 0) {
		store_op_fail_later(io, NULL, op, STORE_PROBE_EMPTY);
		return;
	}
	probe = io_zalloc(io, sizeof(*probe));
	if (probe == NULL) {
		store_op_fail_later(io, NULL, op, err_set(&op->err, -ENOMEM, "no memory"));
		return;
	}
	probe->io = io;
	probe->disk = disk;
	probe->op = op;
	probe->length = length;
	probe->ends[0] = io_zalloc_aligned(io, STORE_BLOCK_BYTES, length);
	probe->ends[1] = io_zalloc_aligned(io, STORE_BLOCK_BYTES, length);
	if (probe->ends[0] == NULL || probe->ends[1] == NULL) {
		probe_free(probe);
		store_op_fail_later(io, NULL, op, err_set(&op->err, -ENOMEM, "no memory"));
		return;
	}
	task_init(&probe->task, &io->runq, probe_step);
	batch_init(&probe->batch, disk, &probe->task);
	task_wake(&probe->task);
}
