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
	HELD_PUBLISHED,
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
	uint32_t block_bytes;
	int fuse_fd, table_fd;
	bool told;         /* the nexus that runs now has the descriptors */
	uint64_t asked;    /* id of the request to answer; 0: nobody waits */
	bool data_is_lost; /* it is taken away even if it cannot be flushed */
	struct worker worker;
};

struct launcher {
	struct log log;
	char volumes_folder[PATH_MAX];
	char **command; /* of the nexus */
	sigset_t signals_before;
	int signal_fd;

	pid_t nexus;  /* 0: not running */
	int nexus_fd; /* our end of the socketpair, -1 */
	bool ready_sent;
	struct list outbox; /* messages that did not fit into the socket */
	bool ever_lived;    /* a nexus ran long enough to believe in its configuration */
	uint64_t started_ns, restart_ns, backoff_ns;

	bool stopping, forced;
	uint64_t stop_deadline_ns;
	bool term_sent, kill_sent;
	bool finished;
	int exit_code;

	struct list volumes;
	unsigned volume_count;

	/* For poll(): the signals, the nexus, then the helpers of the volumes in `polled_volumes`.
	 */
	struct pollfd polled[LAUNCHER_VOLUMES_MAX + 2];
	struct held *polled_volumes[LAUNCHER_VOLUMES_MAX + 2];
};

uint64_t launcher_now_ns(void);

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

/* ---- held.c: volumes ---- */
struct held *held_find(struct launcher *launcher, const char *name);
void held_publish(struct launcher *launcher, const struct launch_msg *msg);
void held_unpublish(struct launcher *launcher, const struct launch_msg *msg);
/* The helper's pipe is readable. */
void held_worker_ready(struct launcher *launcher, struct held *held);
/* For the launcher's stop: begins to take it away; flushes what is mounted on it when it cannot. */
void held_stop(struct launcher *launcher, struct held *held);
/* Takes it away without waiting for anybody; who waits for it is answered with result and text. */
void held_force(struct launcher *launcher, struct held *held, int result, const char *text);
/* What a killed launcher left below the folder of volumes. */
void held_clean_leftovers(struct launcher *launcher);

#endif
