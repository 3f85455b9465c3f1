/* SPDX-License-Identifier: Apache-2.0 */
#include "nexus/nexus.h"

#include "nexus/mirror/volume_internal.h"
#include "repl/blockhash.h"

#include <errno.h>
#include <string.h>

#define BUFFER_BYTES (UINT64_C(8) << 20)

static void nexus_close_step(struct task *task)
{
	struct nexus *nexus = container_of(task, struct nexus, close_task);
	struct io *io = nexus->io;
	void (*closed)(void *ctx) = nexus->closed;
	void *ctx = nexus->closed_ctx;

	if (!list_is_empty(&nexus->peers.list)) {
		/* The last associations are being closed. */
		io_timer_start_after(&nexus->close_timer, 10 * IO_NS_PER_MS);
		return;
	}
	bufpool_free(nexus->buffers);
	dirty_store_done(&nexus->dirty_store, io);
	rebuilds_done(nexus);
	io_free(io, nexus);
	closed(ctx);
}

int nexus_new(struct io *io, const struct nexus_options *options, struct nexus **ret_nexus,
	struct err *err)
{
	struct nexus *nexus = io_zalloc(io, sizeof(*nexus));

	if (nexus == NULL) {
		return err_set(err, -ENOMEM, "out of memory");
	}
	nexus->io = io;
	nexus->options = *options;
	if (nexus->options.cfg_version == 0) {
		nexus->options.cfg_version = CFG_VERSION;
	}
	list_init(&nexus->volumes);
	task_init(&nexus->close_task, &io->runq, nexus_close_step);
	io_timer_init(&nexus->close_timer, io, &nexus->close_task);
	peers_init(&nexus->peers, io, &options->host_uuid,
		options->queue_depth != 0 ? options->queue_depth : 128);
	if (blockhash_prepare() != 0 ||
		bufpool_new(io, options->buffer_bytes != 0 ? options->buffer_bytes : BUFFER_BYTES,
			&nexus->buffers) != 0) {
		io_free(io, nexus);
		return err_set(err, -ENOMEM, "out of memory for copy buffers");
	}
	nexus->hedge_bytes_max =
		(options->buffer_bytes != 0 ? options->buffer_bytes : BUFFER_BYTES) / 4;
	if (dirty_store_init(&nexus->dirty_store, io,
		    options->dirty_bytes != 0 ? options->dirty_bytes : 2u << 20) != 0) {
		bufpool_free(nexus->buffers);
		io_free(io, nexus);
		return err_set(err, -ENOMEM, "out of memory for what absent replicas lack");
	}
	rebuilds_init(nexus);
	*ret_nexus = nexus;
	return 0;
}

void nexus_close(struct nexus *nexus, void (*closed)(void *ctx), void *ctx)
{
	assert(list_is_empty(&nexus->volumes));
	nexus->closed = closed;
	nexus->closed_ctx = ctx;
	task_wake(&nexus->close_task);
}

void nexus_set_agent_address(
	struct nexus *nexus, const struct uuid *agent, const struct io_address *address)
{
	peers_set_address(&nexus->peers, agent, address);
}

struct volume *nexus_find_volume(struct nexus *nexus, const char *name)
{
	list_for_each (&nexus->volumes, pos) {
		struct volume *volume = container_of(pos, struct volume, node);

		if (strcmp(volume->options.name, name) == 0) {
			return volume;
		}
	}
	return NULL;
}

struct volume *nexus_next_volume(struct nexus *nexus, struct volume *after)
{
	struct list_node *next = after == NULL ? nexus->volumes.head.next : after->node.next;

	return next == &nexus->volumes.head ? NULL : container_of(next, struct volume, node);
}
