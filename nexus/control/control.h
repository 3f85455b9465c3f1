/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The nexus's control side: volumes as the state files and the clients know them, their frontends,
 * and the gRPC service.  Control thread; what is marked "reactor" is touched only there.
 */
#ifndef NEXUS_CONTROL_CONTROL_H
#define NEXUS_CONTROL_CONTROL_H

#include "api/strake.pb-c.h"
#include "daemon/daemon.h"
#include "nexus/control/crash.h"
#include "nexus/control/state.h"
#include "nexus/frontend/fuse.h"
#include "nexus/frontend/launcher_link.h"
#include "nvmet/nvmet.h"

struct control_options {
	struct uuid uuid; /* nil: made and kept in the state folder */
	struct io_address export_address;
	unsigned min_insync; /* of volumes that name none; 0: the protocol's default */
	size_t buffer_bytes;
	/* As in nexus_options. */
	size_t dirty_bytes;
	unsigned rebuilds;
	uint64_t rebuild_rate_min, rebuild_rate_max;
};

struct compare; /* compare.c */
struct job;

struct cvolume {
	struct list_node node;
	struct control *control;
	struct volume_record record;
	bool is_open;              /* `volume` is there */
	bool changes_voters;       /* `job` does: V is followed at its end */
	struct job *job;           /* the operation under way, or NULL */
	struct grpc_call *forcing; /* asks for a forced unpublish when `job` has ended, or NULL */

	/* reactor */
	struct volume *volume;
	struct fuse_frontend *fuse;
	struct nvmet_blk *blk;
	bool inc_posted;                 /* an inc, or V, is on its way to the state file */
	struct reactor_call *inc_waiter; /* a close waits for it to be back */

	/* V: what the state file is to follow */
	struct cfg followed; /* reactor: as told last */
	struct uuid followed_adding;
	bool follow_wanted; /* reactor: it is to be told */
	struct cfg told;    /* the reactor's until it is posted, then the control thread's */
	struct uuid told_adding;
	struct epoch waited, told_waited; /* likewise */
	bool told_is_new;

	/* inc: reactor -> state file -> reactor */
	_Atomic uint32_t inc_wanted;
	uint32_t inc_saved;
	struct loop_msg inc_save;
	struct loop_timer inc_again;
	struct io_msg inc_back;

	uint64_t shown_bytes; /* reactor: that the hosts of the export were told last */

	/* fuse */
	struct launcher_volume *held; /* the launcher's, NULL when it does not hold the volume */
	struct reactor_call fuse_call;
	bool fuse_busy, fuse_serves;
	uint64_t size_refused; /* to which the launcher did not let the device grow; 0: none */
	int fuse_result;
	struct err fuse_err;

	/* nvme */
	bool exported;

	struct compare *compare; /* the running or last one */

	/* stop */
	struct reactor_call stop_call;
	bool stop_sent, stop_busy;
	unsigned stop_pending; /* reactor */
};

struct control {
	struct daemon *daemon; /* borrowed */
	struct control_options options;
	struct uuid uuid;
	struct launcher_link *link; /* NULL: not started by a launcher */
	struct err link_err;        /* why */
	bool link_ready;            /* the launcher has told what it holds */
	struct loop_watch link_watch;
	struct list volumes; /* struct cvolume, in order of names */
	struct crashes crashes;
	bool stopping;
	void (*stopped)(void *ctx);
	void *stopped_ctx;
	struct reactor_call call; /* start and stop */
	int result;
	struct err err;
	bool closed_all;

	/* reactor */
	struct nexus *nexus;
	struct nvmet *target; /* of the exports; made with the first */
	struct bufpool *target_buffers;
};

/* Makes the nexus, opens and publishes what the state files say. */
int control_start(struct control *control, struct daemon *daemon,
	const struct control_options *options, struct err *err) __must_check;
/* Closes everything but the daemon; the volumes stay marked as open for the next start. */
void control_stop(struct control *control, void (*stopped)(void *ctx), void *ctx);
/* Something that the end waits for has happened. */
void control_stop_step(struct control *control);
extern const struct grpc_method control_methods[];
extern const size_t control_method_count;

/* ---- volume.c ---- */
struct cvolume *control_find(struct control *control, const char *name);
struct cvolume *cvolume_new(struct control *control, const struct volume_record *record);
void cvolume_free(struct cvolume *cv); /* closed */
int cvolume_save(struct cvolume *cv, struct err *err) __must_check;
/* The policy that counts: the volume's own, the nexus's, or the protocol's default. */
unsigned cvolume_min_insync(const struct cvolume *cv);
/* The record says where the voters are now: what is connecting goes there at once, the rest with
 * the next open. */
void cvolume_relocate(struct cvolume *cv);
/* The record's min_insync and no_quorum_s are what counts now. */
void cvolume_set_policy(struct cvolume *cv);
/* The nexus's options for a volume that is being opened. */
void cvolume_fill_options(
	struct cvolume *cv, bool host_may_have_lived_on, struct volume_options *ret_options);

/* ---- job.c: operations on one volume ---- */
/* `call` NULL: by the nexus itself.  `capability` NULL: the recorded one, if it is for `attach`. */
void job_open(struct cvolume *cv, uint32_t attach, const struct capability *capability,
	struct grpc_call *call);
void job_close(struct cvolume *cv, struct grpc_call *call);
void job_publish(struct cvolume *cv, enum frontend_kind frontend, struct grpc_call *call);
/* `force`: also while another operation is under way, which it ends.  One that publishes is ended in
 * any case. */
void job_unpublish(struct cvolume *cv, bool force, struct grpc_call *call);
/* voters.c */
void job_add_voter(struct cvolume *cv, const struct volume_voter *voter, struct grpc_call *call);
void job_remove_voter(struct cvolume *cv, const struct uuid *replica, struct grpc_call *call);
/* snapshot.c */
/* `name` is valid until the next turn. */
void job_snapshot(struct cvolume *cv, const char *name, struct grpc_call *call);

/* resize.c */
void job_resize(struct cvolume *cv, uint64_t size_bytes, struct grpc_call *call);
/* The block device grows if it is smaller than the volume, and nothing else is under way. */
void cvolume_follow_size(struct cvolume *cv);
/* Something that an operation may wait for has happened. */
void job_wake(struct cvolume *cv);
bool job_is_in_reactor(const struct cvolume *cv);
/* Publishes what the record says, when it is not published. */
void control_republish(struct cvolume *cv);

/* ---- frontend.c ---- */
/* Brings the fuse side to what it should be: called whenever that may have changed. */
void fuse_step(struct cvolume *cv);
/* No frontend, none coming or going, and the launcher's descriptors are given back. */
bool fuse_is_gone(const struct cvolume *cv);
extern const struct launcher_link_ops control_link_ops;
/* Reactor: shows the volume over NVMe/TCP. */
int export_add(struct cvolume *cv, struct err *err) __must_check;

#define EXPORT_NQN_PREFIX "nqn.2025-01.io.strake:volume:"

/* ---- compare.c ---- */
int compare_start(struct cvolume *cv, struct err *err) __must_check;
void compare_cancel(struct cvolume *cv);
bool compare_is_running(const struct cvolume *cv);
void compare_reply(const struct cvolume *cv, struct grpc_call *call);
void compare_free(struct cvolume *cv);

/* ---- reply.c ---- */
void reply_volume(struct grpc_call *call, struct cvolume *cv);
void reply_volumes(struct grpc_call *call, struct control *control, const char *name);

#endif
