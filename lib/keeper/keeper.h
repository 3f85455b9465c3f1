/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Holds the /dev/fuse descriptors and request tables of a launcher's published volumes, and gives
 * them to the launcher that comes next.  It listens on a SOCK_SEQPACKET socket; only root and its
 * own user are heard.  It mounts nothing and touches no device.
 *
 * Each volume takes two descriptors: RLIMIT_NOFILE is the owner's business.
 */
#ifndef KEEPER_KEEPER_H
#define KEEPER_KEEPER_H

#include "base/err.h"
#include "base/log.h"
#include "grpc/loop.h"

#include <stdbool.h>
#include <stdint.h>

struct keeper;

struct keeper_options {
	const char *socket_path; /* made with mode 0600; one that nobody listens on is replaced */
	const struct log *log;   /* borrowed */
	unsigned volumes_max;    /* 0: LAUNCH_VOLUMES_MAX */
	/* Something in keeper_status changed.  From within the loop; may not free the keeper. May
	 * be NULL. */
	void (*changed)(struct keeper *keeper, void *ctx);
	void *ctx;
};

struct keeper_status {
	bool connected;      /* a launcher is there */
	bool synced;         /* and has told all that it holds: what it loses now is here */
	unsigned volumes;    /* held */
	uint64_t launchers;  /* that have connected */
	uint64_t given_back; /* volumes given to a launcher that came */
};

/* -EADDRINUSE: another keeper listens on the socket. */
int keeper_new(struct loop *loop, const struct keeper_options *options, struct keeper **ret_keeper,
	struct err *err) __must_check;
/* Lets go of everything: what no launcher holds fails from then on. */
void keeper_free(struct keeper *keeper);

void keeper_get_status(const struct keeper *keeper, struct keeper_status *ret_status);
static inline bool keeper_is_synced(const struct keeper *keeper)
{
	struct keeper_status status;

	keeper_get_status(keeper, &status);
	return status.synced;
}
/* Is a volume of this name held?  ret_device may be NULL, else has LAUNCH_DEVICE_SIZE bytes. */
bool keeper_holds(const struct keeper *keeper, const char *name, char *ret_device);

#endif
