/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/survey.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static bool has_cfg(const Strake__V1__Replica *replica)
{
	return replica->configuration != NULL && replica->configuration->generation != 0;
}

static bool is_higher(const Strake__V1__Configuration *a, const Strake__V1__Configuration *b)
{
	if (a->attach != b->attach) {
		return a->attach > b->attach;
	}
	return a->inc != b->inc ? a->inc > b->inc : a->generation > b->generation;
}

const Strake__V1__Configuration *survey_newest(const struct survey *survey, uint64_t lineage)
{
	const Strake__V1__Configuration *newest = NULL;

	for (size_t i = 0; i < survey->count; i++) {
		const Strake__V1__Configuration *cfg = survey->replicas[i]->configuration;

		if (has_cfg(survey->replicas[i]) && (lineage == 0 || cfg->lineage == lineage) &&
			(newest == NULL || is_higher(cfg, newest))) {
			newest = cfg;
		}
	}
	return newest;
}

bool survey_is_left_behind(const struct survey *survey, const Strake__V1__Replica *replica)
{
	const Strake__V1__Configuration *newest = survey_newest(survey, 0);

	return has_cfg(replica) && replica->configuration->lineage != newest->lineage;
}

static const Strake__V1__Replica *find_voter(
	const struct survey *survey, const Strake__V1__ConfigurationVoter *voter)
{
	for (size_t i = 0; i < survey->count; i++) {
		if (strcmp(survey->replicas[i]->uuid, voter->replica) == 0) {
			return survey->replicas[i];
		}
	}
	return NULL;
}

/* Why the voter does not do; NULL: it does. */
static const char *unfit(const Strake__V1__Replica *replica, const Strake__V1__Configuration *cfg)
{
	if (replica == NULL) {
		return "not found";
	}
	if (strcmp(replica->state, "Exported") == 0) {
		return "exported";
	}
	if (strcmp(replica->state, "Abstains") == 0) {
		return "its metadata are unreadable";
	}
	if (strcmp(replica->state, "Newer") == 0) {
		return "its metadata are newer than its pool-agent: upgrade the pool-agent";
	}
	return has_cfg(replica) && replica->configuration->lineage != cfg->lineage
		       ? "of another lineage"
		       : NULL;
}

bool survey_can_open(const struct survey *survey, const Strake__V1__Configuration *cfg,
	char missing[SURVEY_TEXT_SIZE])
{
	size_t votes = 0, used = 0;
	bool has_member = false;

	missing[0] = '\0';
	for (size_t i = 0; i < cfg->n_voters; i++) {
		const Strake__V1__ConfigurationVoter *voter = cfg->voters[i];
		const Strake__V1__Replica *replica = find_voter(survey, voter);
		const char *why = unfit(replica, cfg);

		if (why == NULL) {
			votes++;
			has_member |= voter->in_sync && strcmp(replica->state, "Rebuilding") != 0;
		} else if (used < SURVEY_TEXT_SIZE) {
			used += (size_t)snprintf(missing + used, SURVEY_TEXT_SIZE - used,
				"%s%.8s (%s): %s", used == 0 ? "" : ", ", voter->replica,
				voter->in_sync                        ? "in sync"
				: strcmp(voter->kind, "arbiter") == 0 ? "arbiter"
								      : "out of sync",
				why);
		}
	}
	return votes >= cfg->n_voters / 2 + 1 && has_member;
}

uint64_t survey_wgen(const struct survey *survey)
{
	uint64_t wgen = 0;

	for (size_t i = 0; i < survey->count; i++) {
		const Strake__V1__Replica *replica = survey->replicas[i];

		if (has_cfg(replica) && replica->configuration->wgen > wgen) {
			wgen = replica->configuration->wgen;
		}
	}
	return wgen;
}

uint32_t survey_attach(const struct survey *survey)
{
	uint32_t attach = 0;

	for (size_t i = 0; i < survey->count; i++) {
		const Strake__V1__Replica *replica = survey->replicas[i];

		attach = replica->promised > attach ? replica->promised : attach;
		if (has_cfg(replica) && replica->configuration->attach > attach) {
			attach = replica->configuration->attach;
		}
	}
	return attach;
}

const Strake__V1__Replica *survey_find(
	const struct survey *survey, const char *uuid, unsigned *ret_count)
{
	const Strake__V1__Replica *found = NULL;

	*ret_count = 0;
	for (size_t i = 0; i < survey->count; i++) {
		if (strncmp(survey->replicas[i]->uuid, uuid, strlen(uuid)) == 0) {
			found = survey->replicas[i];
			(*ret_count)++;
		}
	}
	return *ret_count == 1 ? found : NULL;
}

bool survey_is_unreached(int code)
{
	return code == -EIO || code == -ETIMEDOUT || code == -EAGAIN || code == -ENOENT ||
	       code == -EPROTO || code == -EBADMSG;
}
