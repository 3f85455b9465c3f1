/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The process that outlives the nexus: it starts it again when it dies, and holds for each
 * published volume what must not die with it: the /dev/fuse descriptor and the table with the
 * requests in flight.
 *
 * One thread with poll().  It never waits for the nexus: whatever could (opening the file, binding
 * and unbinding the loop device, unmounting) is done by helper processes, one for each volume at a
 * time.
 */
#ifndef LAUNCHER_LAUNCHER_H
#define LAUNCHER_LAUNCHER_H

#include "base/list.h"
#include "base/log.h"
#include "launch/launch.h"
#include "launcher/worker.h"

#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define LAUNCHER_VOLUMES_MAX LAUNCH_VOLUMES_MAX

enum held_state {
	HELD_ATTACHING, /* the helper binds the loop device */
	HELD_KEEPING,   /* it is bound; the keeper must have it before that is told */
	HELD_PUBLISHED,
	HELD_GROWING,   /* the helper lets the loop device see that its file has grown */
	HELD_DETACHING, /* the helper takes everything away */
};

/* One published volume. */
struct held {
	struct list_node node;
	enum held_state state;
	char name[LAUNCH_NAME_SIZE];
	char device[LAUNCH_DEVICE_SIZE]; /* "" until it is bound */
	char folder[PATH_MAX];           /* where it is mounted */
	uint64_t size_bytes, table_bytes;
	uint64_t wanted_bytes; /* while HELD_GROWING */
	uint32_t block_bytes;
	uint32_t fuse_connection;
	uint64_t disk_sequence; /* of the device's binding; 0: unknown */
	int fuse_fd, table_fd;
	bool told;                 /* the nexus that runs now has the descriptors */
	uint64_t asked;            /* id of the request to answer; 0: nobody waits */
	bool data_is_lost;         /* it is taken away even if it cannot be flushed */
	bool offered;              /* the keeper that is connected was sent it */
	bool kept;                 /* and holds it */
	uint64_t keep_id;          /* of what it was sent */
	uint64_t keep_deadline_ns; /* while HELD_KEEPING */
	struct worker worker;
};

struct launcher {
	struct log log;
	char volumes_folder[PATH_MAX];
	char records_folder[PATH_MAX];
	char **command; /* of the nexus */
	sigset_t signals_before;
	int signal_fd;
	/* Locks that their heirs hold on to: a successor of ours waits for the nexus and for the
	 * helpers to be gone. */
	int nexus_lock_fd, helpers_lock_fd;
	bool begun; /* leftovers are cleaned, the nexus may run */

	const char *keeper_path; /* NULL: none */
	int keeper_fd;           /* -1: not connected */
	bool keeper_ready;       /* it has told all that it holds */
	bool keeper_ready_sent;
	uint64_t keeper_retry_ns, keeper_backoff_ns, keeper_said_ns;
	uint64_t keep_next_id;
	struct list keeper_outbox; /* GONE, that were not sent yet */

	pid_t nexus;  /* 0: not running */
	int nexus_fd; /* our end of the socketpair, -1 */
	bool ready_sent;
	struct list outbox; /* messages that did not fit into the socket */
	bool ever_lived;    /* a nexus ran long enough to believe in its configuration */
	uint64_t started_ns, restart_ns, backoff_ns;

	bool stopping;
	bool keeper_given_up; /* its time to take what it lacks is over */
	uint64_t stop_deadline_ns;
	bool term_sent, kill_sent;
	bool finished;
	int exit_code;

	struct list volumes;
	unsigned volume_count;

	/* For poll(): the signals, the nexus, the keeper, then the helpers of the volumes in
	 * `polled_volumes`. */
	struct pollfd polled[LAUNCHER_VOLUMES_MAX + 3];
	struct held *polled_volumes[LAUNCHER_VOLUMES_MAX + 3];
};

uint64_t launcher_now_ns(void);
/* Once, when it is known what a predecessor left with the keeper. */
void launcher_begin(struct launcher *launcher);

/* ---- nexus.c: the process ---- */
void nexus_start(struct launcher *launcher);
void nexus_reap(struct launcher *launcher);
/* Sends what there is to send: new volumes, READY, answers. */
void nexus_flush(struct launcher *launcher);
bool nexus_wants_write(const struct launcher *launcher);
void nexus_receive(struct launcher *launcher);
void nexus_answer(struct launcher *launcher, uint64_t id, const struct held *held, int result,
	const char *text);
void nexus_tell_gone(struct launcher *launcher, const struct held *held);

/* ---- keeper.c: the process that outlives us ---- */
/* When keeper_retry_ns is over. */
void keeper_connect(struct launcher *launcher);
void keeper_receive(struct launcher *launcher);
void keeper_flush(struct launcher *launcher);
bool keeper_wants_write(const struct launcher *launcher);
void keeper_tell_gone(struct launcher *launcher, const char *name);
/* Holds all that is published, and nothing is on its way. */
bool keeper_has_all(const struct launcher *launcher);

/* ---- adopt.c: volumes of a predecessor ---- */
/* The keeper holds this: taken over, or known already, or refused.  Takes the descriptors over. */
void held_offered(
	struct launcher *launcher, const struct launch_msg *msg, const int *fds, unsigned fd_count);
/* What nobody holds any more. */
void held_clean_leftovers(struct launcher *launcher);

/* ---- held.c: volumes ---- */
struct held *held_find(struct launcher *launcher, const char *name);
/* NULL: no memory, or the path is too long.  Without descriptors. */
struct held *held_new(struct launcher *launcher, const struct launch_msg *msg);
/* The size of the table is what the message says. */
int held_check_sizes(const struct launch_msg *msg, struct err *err) __must_check;
int held_record(const struct launcher *launcher, const struct held *held, struct err *err);
void held_publish(struct launcher *launcher, const struct launch_msg *msg);
void held_unpublish(struct launcher *launcher, const struct launch_msg *msg);
/* The keeper's answer to what it was sent. */
void held_kept(struct launcher *launcher, struct held *held, int result, const char *text);
/* The keeper has not taken it in time. */
void held_keep_expired(struct launcher *launcher, struct held *held);
/* The helper's pipe is readable. */
void held_worker_ready(struct launcher *launcher, struct held *held);
/* For the launcher's stop: begins to take it away; flushes what is mounted on it when it cannot. */
void held_stop(struct launcher *launcher, struct held *held);
/* Takes it away without waiting for anybody; who waits for it is answered with result and text. */
void held_force(struct launcher *launcher, struct held *held, int result, const char *text);
/* At the end: lets go of all that is left to the keeper. */
void held_leave_all(struct launcher *launcher);
/* Unbinds the device as soon as nobody uses it, and says who does. */
void held_drop_device(struct launcher *launcher, const char *device);

#endif
