/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who may open a volume (docs/protocol.md 1.4).  A master secret is with the controller alone; from
 * it come a key for each volume, which its voters keep in vmeta, and a capability for each
 * attachment, which the nexus shows in FENCE:
 *
 *   K_vol      = HMAC-SHA256(master, "strake volume key" 0 volume key-number)
 *   capability = HMAC-SHA256(K_vol, "strake capability" 0 volume attach node key-number)
 *
 * numbers being little-endian (RFC 2104, FIPS 180-4).  It has no expiry: attach numbers order
 * attachments.  Any thread.
 */
#ifndef REPL_CAPABILITY_H
#define REPL_CAPABILITY_H

#include "base/uuid.h"

#include <stdbool.h>
#include <stdint.h>

#define CAPABILITY_SECRET_SIZE 32 /* of the master, of a volume's key, of a capability's MAC */
#define CAPABILITY_VERSION     1

/* A volume's key; number 0: none. */
struct volume_key {
	uint16_t number;
	uint8_t secret[CAPABILITY_SECRET_SIZE];
};

/* version 0: none is shown. */
struct capability {
	uint16_t version;
	uint16_t key; /* number of the volume key that it was made with */
	uint8_t mac[CAPABILITY_SECRET_SIZE];
};

/* `number` from 1. */
void volume_key_derive(const uint8_t master[CAPABILITY_SECRET_SIZE], const struct uuid *volume,
	uint16_t number, struct volume_key *ret_key);
bool volume_key_equal(const struct volume_key *a, const struct volume_key *b);

/* For the attachment `attach` of the volume to the node (the uuid of its nexus's host NQN). */
void capability_make(const struct volume_key *key, const struct uuid *volume, uint32_t attach,
	const struct uuid *node, struct capability *ret_capability);
/* The identity of a node that has a name: the uuid of its nexus's host NQN follows from it (RFC
 * 9562, version 8), so that who attaches volumes need not ask. */
void capability_node(const char *name, struct uuid *ret_node);
/* Does it hold for that attachment and node?  Compares in constant time. */
bool capability_fits(const struct capability *capability, const struct volume_key *key,
	const struct uuid *volume, uint32_t attach, const struct uuid *node);

/* As bytes, where a message or a file has it: version, key, MAC. */
#define CAPABILITY_ENCODED_SIZE (4 + CAPABILITY_SECRET_SIZE)
void capability_encode(const struct capability *capability, uint8_t to[CAPABILITY_ENCODED_SIZE]);
/* 0, or -EBADMSG: a version that is unknown, or key number 0. */
int capability_decode(
	const uint8_t from[CAPABILITY_ENCODED_SIZE], struct capability *ret_capability);

#endif
