/* SPDX-License-Identifier: Apache-2.0 */
/* What the csi-nodes of all Ready nodes say of Pools (10 GiB each), Replicas and Volumes, on a
 * fake_server. */
#ifndef CSI_CONTROLLER_TESTING_FAKE_NODES_H
#define CSI_CONTROLLER_TESTING_FAKE_NODES_H

#include "csi-controller/testing/fake_kube.h"

/* A public key for which can be sealed; nobody opens it. */
#define FAKE_SEALING_KEY "CQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="

struct fake_nodes {
	struct fake_server *server;
	struct rng *rng;
	unsigned refuse_percent; /* of the tries to make a replica */
	/* {volume uuid: {replica uuid: state}}: the voters of each volume that was ever open, as
	 * they themselves know it; owned by the test. */
	json_t *voters;
};

/* Makes a Node, or changes whether it is Ready. */
void fake_node_put(struct fake_server *server, const char *name, bool is_ready);
/* Any one object is looked at: made, erased, opened, closed, released. */
void fake_nodes_step(struct fake_nodes *nodes);
/* All of them are. */
void fake_nodes_all(struct fake_nodes *nodes);

#endif
