/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of this folder share. */
#ifndef SIM_KUBE_SIDE_H
#define SIM_KUBE_SIDE_H

#include "base/log.h"
#include "csi-controller/testing/fake_kube.h"
#include "tests/sim/kube/kube.h"
#include "tests/sim/kube/loop.h"

#define KUBE_SEAL_KEY_BYTES 32

/* A client of the API server with what it runs: csi-controller, or a node's csi-node. */
struct process {
	struct kube_side *side;
	struct kube *kube;
	struct loop *loop; /* outlives it */
	void *program;     /* struct controller, struct node; NULL: it does not run */
	unsigned node;
	char node_name[8];
	char socket[16];
	uint8_t sealing_key[KUBE_SEAL_KEY_BYTES];
	bool is_cut, has_power;
	uint64_t deaf_until_ms;
	struct log log;
};

struct call {
	struct grpc_call grpc;
	bool is_begun, is_forgotten;
	struct process *process;
	int64_t attach; /* of the last publication */
};

struct kube_side {
	struct kube_world world;
	struct rng rng;
	struct fake_server server;
	json_t *backup;
	struct process controller, nodes[KUBE_NODES_MAX];
	struct call calls[KUBE_CALL_COUNT];
	bool is_outage, is_healed, was_restored;
	bool is_ending; /* nothing is checked any more */
};

void side_wrong(struct kube_side *side, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* controller.c */
void controller_process_start(struct process *process);
void controller_process_kill(struct process *process);
void controller_call(struct process *process, enum kube_call call, struct grpc_call *grpc,
	const char *node_name);

/* node.c */
void node_process_start(struct process *process);
void node_process_kill(struct process *process);
void node_call(struct process *process, enum kube_call call, struct grpc_call *grpc,
	int64_t attach_number);

void snapshot_name(unsigned index, char name[8]);

/* check.c: the server's look at each change */
void check_change(void *side, const char *key, const json_t *before, const json_t *object);

#endif
