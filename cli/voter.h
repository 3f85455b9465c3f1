/* SPDX-License-Identifier: Apache-2.0 */
/* A voter as the user names it, for volumes whose replicas are on other machines.  Pure. */
#ifndef CLI_VOTER_H
#define CLI_VOTER_H

#include "base/err.h"
#include "base/uuid.h"

#include <stdbool.h>
#include <stdint.h>

#define VOTER_TEXT_SIZE 256

struct voter {
	char replica[UUID_TEXT_SIZE];
	char agent[UUID_TEXT_SIZE];
	char address[128]; /* host:port; the nexus looks closer */
	uint32_t nsid;
	bool local; /* on the nexus's own node: read first */
	bool arbiter;
};

/* "replica=UUID,agent=UUID,address=HOST:PORT,nsid=N[,local][,arbiter]", in any order; -EINVAL with
 * a text that names what is wrong or missing. */
int voter_parse(const char *text, struct voter *ret_voter, struct err *err) __must_check;
/* The same text of a voter; returns text. */
char *voter_to_text(const struct voter *voter, char text[VOTER_TEXT_SIZE]);

#endif
