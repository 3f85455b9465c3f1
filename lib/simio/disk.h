/* SPDX-License-Identifier: Apache-2.0 */
/* Within lib/simio: a disk's blocks. */
#ifndef SIMIO_DISK_H
#define SIMIO_DISK_H

#include "simio/internal.h"

struct version {
	struct version *older;
	uint64_t seq;
	bool durable;         /* the end of the chain */
	bool has_data;        /* else zeros */
	struct version *told; /* what it should be, when it is something else; or NULL */
	uint8_t data[];
};

struct block {
	struct version *newest; /* NULL: never written, zeros */
	bool listed;            /* in disk->unflushed */
	bool unreadable;        /* until it is written */
};

/* A block of a write that a crashed process had submitted. */
struct orphan {
	struct list_node node;
	size_t block;
	bool fua;
	struct version *version;
};

struct sim_disk {
	struct list_node node;
	struct sim *sim;
	struct sim_host *host;
	char name[32];
	uint64_t size_bytes;
	size_t block_count;
	struct block *blocks;
	size_t *unflushed;
	size_t unflushed_count;
	size_t unflushed_capacity;
	uint64_t seq;
	uint64_t power;
	struct list orphans;
	struct sim_disk_handle *handle;
	struct sim_disk_faults faults;
	uint64_t torn_offset;
	uint64_t torn_length;
	uint64_t operations, durable_operations;
	uint64_t at_write; /* the n-th write from now on lets the event run; 0: none */
	struct sim_event *at_write_event;
	void (*at_write_run)(struct sim_event *event);
	uint64_t busy_ns;                      /* by its speed, until then */
	uint64_t misdirect_from, misdirect_to; /* equal: none */
	uint64_t misdirect_length;
	bool lying;
	bool checks; /* what it gives */
};

/* NULL: zeros. */
struct version *sim_version_new(const uint8_t *data);
/* Takes the version. */
void sim_block_write(struct sim_disk *disk, size_t index, struct version *version, bool durable);
void sim_block_read(const struct sim_disk *disk, size_t index, uint8_t *to);

/* disk_damage.c: it goes somewhere else, once. */
bool sim_write_is_misdirected(struct sim_disk *disk, const struct io_disk_op *op);

#endif
