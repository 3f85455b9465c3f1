/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The Kubernetes side of a simulated cluster: an API server in memory, the shipped csi-controller,
 * the shipped csi-node of each node, and what external-attacher and kubelets call.  All of it on
 * the simulated clock, in turns; what a daemon of a node does is csi-node/daemons.h, which
 * cluster_daemons.c has for the simulated pool-agents and nexuses.
 *
 * One at a time in a process.  (Nothing of csi-* or lib/objects is included here: they and the
 * nexus have types of the same names.)
 */
#ifndef SIM_KUBE_KUBE_H
#define SIM_KUBE_KUBE_H

#include "base/rng.h"
#include "base/uuid.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define KUBE_NODES_MAX 7
#define KUBE_VOLUME    "v"

struct kube_side;

/* What it asks of the world. */
struct kube_world {
	void *ctx;
	unsigned node_count;
	uint64_t seed;
	uint64_t replace_after_s;
	uint64_t lost_percent; /* of requests, and of answers */
	void (*trace)(void *ctx, const char *text);
	/* Something that must never be. */
	void (*wrong)(void *ctx, const char *text);
	/* Of the configuration that was committed last. */
	bool (*has_vote)(void *ctx, const struct uuid *replica);
	unsigned (*vote_count)(void *ctx);
	bool has_snapshots; /* the pools have them */
	/* It was committed, under this number. */
	bool (*is_snapshot)(void *ctx, const struct uuid *id, uint64_t number);
};

struct kube_side *kube_side_new(const struct kube_world *world);
void kube_side_free(struct kube_side *side);
/* Some steps of every process, at this time. */
void kube_side_turn(struct kube_side *side, uint64_t now_ms);
/* No faults any more: everything is heard and answered. */
void kube_side_heal(struct kube_side *side);

/* ---- what happens to it ---- */

void kube_node_name(unsigned node, char name[8]);
void kube_controller_crash(struct kube_side *side); /* and starts again at once */
void kube_node_crash(struct kube_side *side, unsigned node);
/* The host has no power: csi-node does nothing, and begins anew when it has. */
void kube_node_set_power(struct kube_side *side, unsigned node, bool on);
/* The node reaches no API server. */
void kube_node_set_cut(struct kube_side *side, unsigned node, bool cut);
bool kube_node_is_cut(const struct kube_side *side, unsigned node);
/* Nobody does. */
void kube_set_outage(struct kube_side *side, bool outage);
/* Watches of a process say nothing until then; node KUBE_NODES_MAX: csi-controller's. */
void kube_set_deaf(struct kube_side *side, unsigned process, uint64_t until_ms);
/* What node lifecycle says of it. */
void kube_node_set_ready(struct kube_side *side, unsigned node, bool ready);
void kube_backup(struct kube_side *side);
void kube_restore(struct kube_side *side); /* to the last backup */

/* ---- what users do ---- */

void kube_create_pool(struct kube_side *side, unsigned node);
void kube_delete_pool(struct kube_side *side, unsigned node);
void kube_create_volume(struct kube_side *side, uint64_t size_bytes, unsigned replicas);
void kube_delete_volume(struct kube_side *side);
void kube_set_replicas(struct kube_side *side, unsigned replicas);
void kube_set_size(struct kube_side *side, uint64_t size_bytes);
/* Of the volume; its name is made of the index. */
void kube_create_snapshot(struct kube_side *side, unsigned index);
void kube_delete_snapshot(struct kube_side *side, unsigned index);

/* ---- calls of external-attacher and kubelets; one of each kind at a time ---- */

enum kube_call { KUBE_CALL_PUBLISH, KUBE_CALL_UNPUBLISH, KUBE_CALL_STAGE, KUBE_CALL_UNSTAGE };
#define KUBE_CALL_COUNT 4
enum kube_call_state { KUBE_CALL_NONE, KUBE_CALL_RUNNING, KUBE_CALL_DONE, KUBE_CALL_FAILED };

void kube_call_begin(struct kube_side *side, enum kube_call call, unsigned node);
/* An end is told once. */
enum kube_call_state kube_call_state(struct kube_side *side, enum kube_call call);
/* Nobody waits for the one that is under way any more. */
void kube_call_forget(struct kube_side *side, enum kube_call call);
const char *kube_call_error(const struct kube_side *side, enum kube_call call);

/* ---- what the objects say ---- */

bool kube_volume_is_there(const struct kube_side *side);
bool kube_volume_is_available(const struct kube_side *side);
unsigned kube_volume_replicas(const struct kube_side *side); /* spec */
uint64_t kube_volume_size(const struct kube_side *side);
uint32_t kube_attach_number(const struct kube_side *side);
int kube_attached_node(const struct kube_side *side); /* -1: none */
bool kube_pool_is_there(const struct kube_side *side, unsigned node);
unsigned kube_replica_count(const struct kube_side *side);  /* objects, deleted ones too */
unsigned kube_snapshot_count(const struct kube_side *side); /* objects */
/* "" without an object, or before it says anything. */
const char *kube_snapshot_state(const struct kube_side *side, unsigned index);
/* Of its condition Ready, or Deletable. */
const char *kube_snapshot_message(
	const struct kube_side *side, unsigned index, const char *condition);
/* The node of the live data replica (its voter) of so many; -1. */
int kube_replica_node(const struct kube_side *side, unsigned index);
/* Whether all is as it is wanted, while the volume is open with this epoch; else `why` says what is
 * not. */
bool kube_is_at_rest(const struct kube_side *side, const char *epoch, uint64_t size_bytes,
	char *why, size_t size);
/* status.nexus names the node, in service. */
bool kube_nexus_is_said(const struct kube_side *side, unsigned node);

#endif
