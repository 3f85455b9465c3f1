/* SPDX-License-Identifier: Apache-2.0 */
/* A replica that no volume uses, shown to any NVMe/TCP host as a plain subsystem of its own; one
 * that belongs to a volume, which does not use it now, read-only. */
#include "base/bytes.h"
#include "pool-agent/internal.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>

struct export
{
	struct blk_dev dev;
	struct ns *ns;
	struct nvmet_blk *blk;
	char nqn[NVME_NQN_SIZE];
	bool removing;
	void (*removed)(void *ctx);
	void *removed_ctx;
};

/* In blk_req.private_state. */
struct export_io {
	struct store_io io;
	struct task task; /* answers what was refused */
	struct blk_req *req;
	int refusal;
};

static struct export *export_of(struct blk_dev *dev)
{
	return container_of(dev, struct export, dev);
}

static void export_io_end(struct blk_req *req, int result)
{
	req->result = result;
	req->done(req);
	req->released(req);
}

static void export_io_done(struct store_io *io)
{
	struct export_io *eio = io->ctx;
	struct blk_req *req = eio->req;

	/* The host's status table knows no other reason. */
	export_io_end(req, io->result == 0 || io->result == -ENOSPC ? io->result : -EIO);
}

static void export_refuse_step(struct task *task)
{
	struct export_io *eio = container_of(task, struct export_io, task);

	export_io_end(eio->req, eio->refusal);
}

static enum store_io_kind kind_of(enum blk_kind kind)
{
	switch (kind) {
	case BLK_READ:
		return STORE_READ;
	case BLK_WRITE:
		return STORE_WRITE;
	case BLK_FLUSH:
		return STORE_FLUSH;
	case BLK_ZERO:
		return STORE_ZERO;
	case BLK_DISCARD:
		return STORE_DISCARD;
	}
	assert(false && "not a kind");
	return STORE_FLUSH;
}

static void export_submit(struct blk_dev *dev, struct blk_req *req)
{
	struct export *export = export_of(dev);
	struct export_io *eio = req->private_state;

	assert(dev->req_private_bytes >= sizeof(*eio));
	eio->req = req;
	eio->refusal = 0;
	if (dev->read_only && req->kind != BLK_READ && req->kind != BLK_FLUSH) {
		eio->refusal = -EROFS;
	} else if (req->kind != BLK_FLUSH &&
		   (!range_is_within(req->offset, req->length, dev->size_bytes) ||
			   (req->offset | req->length) % STORE_BLOCK_BYTES != 0)) {
		eio->refusal = -ERANGE;
	}
	if (eio->refusal != 0) {
		task_init(&eio->task, &export->ns->agent->io->runq, export_refuse_step);
		task_wake(&eio->task);
		return;
	}
	eio->io.kind = kind_of(req->kind);
	eio->io.fua = req->fua;
	eio->io.wgen = 1; /* above every clean: a volume that uses the replica later compares what
			     was written */
	eio->io.offset = req->kind == BLK_FLUSH ? 0 : req->offset;
	eio->io.length = req->kind == BLK_FLUSH ? 0 : req->length;
	eio->io.iov = req->iov;
	eio->io.iov_count = req->iov_count;
	eio->io.result = 0;
	eio->io.done = export_io_done;
	eio->io.ctx = eio;
	store_submit(export->ns->replica, &eio->io);
}

static const struct blk_dev_ops export_ops = {.submit = export_submit};

const char *export_nqn(const struct export *export)
{
	return export->nqn;
}

/* Who uses the replica already?  0 when nobody. */
static int export_judge(const struct ns *ns, bool read_only, struct err *err)
{
	const struct vmeta *vmeta;

	if (ns->abstains) {
		return err_set(err, -EIO, "%s", ns_why_abstains(ns));
	}
	vmeta = store_replica_vmeta(ns->replica);
	if (ns->kind == VOTER_ARBITER) {
		return err_set(err, -EINVAL, "it is an arbiter and has no data");
	}
	if (vmeta->cfg.gen != 0 && !read_only) {
		return err_set(err, -EBUSY,
			"it belongs to volume %s: export the volume instead, or what this replica "
			"has read-only",
			vmeta->name);
	}
	if (ns->gate_closed || ns->assoc != NULL) {
		return err_set(err, -EBUSY, "a nexus is opening volume %s with it", vmeta->name);
	}
	if (ns->export != NULL) {
		return err_set(err, -EEXIST, "it is exported already as %s", ns->export->nqn);
	}
	return 0;
}

int agent_replica_export(
	struct agent *agent, struct store_replica *replica, bool read_only, struct err *err)
{
	struct ns *ns = agent_find_replica(agent, replica);
	struct export *export;
	int result;

	if (ns == NULL || ns->removing || agent->closing) {
		return err_set(err, -ENOENT, "it is being removed");
	}
	result = export_judge(ns, read_only, err);
	if (result != 0) {
		return result;
	}
	export = io_zalloc(agent->io, sizeof(*export));
	if (export == NULL) {
		return err_set(err, -ENOMEM, "out of memory");
	}
	export->dev = (struct blk_dev){
		.ops = &export_ops,
		.size_bytes = ns->size_bytes,
		.block_bytes = STORE_BLOCK_BYTES,
		.req_private_bytes = sizeof(struct export_io),
		.read_only = read_only,
	};
	export->ns = ns;
	snprintf(export->nqn, sizeof(export->nqn), "nqn.2025-01.io.strake:volume:%s",
		store_replica_vmeta(replica)->name);
	result = nvmet_blk_new(
		agent->target, agent->io, &export->dev, export->nqn, &ns->id, &export->blk, err);
	if (result != 0) {
		io_free(agent->io, export);
		return result;
	}
	ns->export = export;
	agent->export_count++;
	return 0;
}

static void export_removed(void *ctx)
{
	struct export *export = ctx;
	struct ns *ns = export->ns;
	struct agent *agent = ns->agent;
	void (*removed)(void *ctx) = export->removed;
	void *removed_ctx = export->removed_ctx;

	ns->export = NULL;
	agent->export_count--;
	io_free(agent->io, export);
	task_wake(&ns->task);
	if (agent->closing) {
		task_wake(&agent->close_task);
	}
	if (removed != NULL) {
		removed(removed_ctx);
	}
}

void export_remove(struct export *export)
{
	if (!export->removing) {
		export->removing = true;
		nvmet_blk_remove(export->blk, export_removed, export);
	}
}

void agent_replica_unexport(
	struct agent *agent, struct store_replica *replica, void (*removed)(void *ctx), void *ctx)
{
	struct ns *ns = agent_find_replica(agent, replica);

	assert(ns != NULL && ns->export != NULL && !ns->export->removing);
	ns->export->removed = removed;
	ns->export->removed_ctx = ctx;
	export_remove(ns->export);
}
