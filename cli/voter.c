/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/voter.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PART_SIZE 160

enum { SEEN_REPLICA = 1, SEEN_AGENT = 2, SEEN_ADDRESS = 4, SEEN_NSID = 8, SEEN_ALL = 15 };

static int parse_uuid(
	const char *key, const char *value, char ret_text[UUID_TEXT_SIZE], struct err *err)
{
	struct uuid uuid;

	if (uuid_parse(value, &uuid) < 0) {
		return err_set(err, -EINVAL, "%s: \"%s\" is no uuid", key, value);
	}
	(void)uuid_to_text(&uuid, ret_text);
	return 0;
}

static int parse_nsid(const char *value, uint32_t *ret_nsid, struct err *err)
{
	char *end;
	unsigned long number;

	errno = 0;
	number = strtoul(value, &end, 10);
	if (value[0] < '0' || value[0] > '9' || *end != '\0' || errno != 0 || number == 0 ||
		number > UINT32_MAX - 1) {
		return err_set(err, -EINVAL, "nsid: \"%s\" is no namespace number", value);
	}
	*ret_nsid = (uint32_t)number;
	return 0;
}

static int parse_address(struct voter *voter, const char *value, struct err *err)
{
	const char *colon = strrchr(value, ':');

	if (colon == NULL || colon == value || colon[1] == '\0' ||
		strlen(value) >= sizeof(voter->address)) {
		return err_set(err, -EINVAL, "address: \"%s\" is not HOST:PORT", value);
	}
	(void)snprintf(voter->address, sizeof(voter->address), "%s", value);
	return 0;
}

static int parse_part(struct voter *voter, char *part, unsigned *seen, struct err *err)
{
	char *value = strchr(part, '=');
	unsigned bit = 0;
	int result = 0;

	if (strcmp(part, "local") == 0) {
		voter->local = true;
		return 0;
	}
	if (strcmp(part, "arbiter") == 0) {
		voter->arbiter = true;
		return 0;
	}
	if (value != NULL) {
		*value++ = '\0';
		bit = strcmp(part, "replica") == 0   ? SEEN_REPLICA
		      : strcmp(part, "agent") == 0   ? SEEN_AGENT
		      : strcmp(part, "address") == 0 ? SEEN_ADDRESS
		      : strcmp(part, "nsid") == 0    ? SEEN_NSID
						     : 0;
	}
	if (bit == 0) {
		return err_set(err, -EINVAL,
			"\"%s\" is none of replica=, agent=, address=, nsid=, local, arbiter",
			part);
	}
	if ((*seen & bit) != 0) {
		return err_set(err, -EINVAL, "%s= is there twice", part);
	}
	*seen |= bit;
	if (bit == SEEN_REPLICA) {
		result = parse_uuid(part, value, voter->replica, err);
	} else if (bit == SEEN_AGENT) {
		result = parse_uuid(part, value, voter->agent, err);
	} else if (bit == SEEN_ADDRESS) {
		result = parse_address(voter, value, err);
	} else {
		result = parse_nsid(value, &voter->nsid, err);
	}
	return result;
}

int voter_parse(const char *text, struct voter *ret_voter, struct err *err)
{
	unsigned seen = 0;

	memset(ret_voter, 0, sizeof(*ret_voter));
	for (const char *at = text;; at++) {
		size_t length = strcspn(at, ",");
		char part[PART_SIZE];

		if (length >= sizeof(part)) {
			return err_set(err, -EINVAL, "\"%.32s...\" is too long", at);
		}
		(void)snprintf(part, sizeof(part), "%.*s", (int)length, at);
		int result = parse_part(ret_voter, part, &seen, err);

		if (result < 0) {
			return result;
		}
		at += length;
		if (*at == '\0') {
			break;
		}
	}
	if (seen != SEEN_ALL) {
		return err_set(err, -EINVAL, "%s is missing",
			(seen & SEEN_REPLICA) == 0   ? "replica=UUID"
			: (seen & SEEN_AGENT) == 0   ? "agent=UUID"
			: (seen & SEEN_ADDRESS) == 0 ? "address=HOST:PORT"
						     : "nsid=N");
	}
	return 0;
}

char *voter_to_text(const struct voter *voter, char text[VOTER_TEXT_SIZE])
{
	(void)snprintf(text, VOTER_TEXT_SIZE, "replica=%s,agent=%s,address=%s,nsid=%u%s%s",
		voter->replica, voter->agent, voter->address, voter->nsid,
		voter->local ? ",local" : "", voter->arbiter ? ",arbiter" : "");
	return text;
}
