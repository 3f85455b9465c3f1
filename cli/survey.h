/* SPDX-License-Identifier: Apache-2.0 */
/* What the replicas of a volume that were found say of it together.  Pure. */
#ifndef CLI_SURVEY_H
#define CLI_SURVEY_H

#include "api/strake.pb-c.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SURVEY_MAX 64 /* replicas of one volume, those of before among them */

struct survey {
	size_t count;
	const Strake__V1__Replica *const *replicas; /* borrowed; of one volume */
};

/* The highest configuration of this lineage (0: of any) that a replica found has; NULL: none. */
const Strake__V1__Configuration *survey_newest(const struct survey *survey, uint64_t lineage);
/* Of a later lineage's volume this one is none any more. */
bool survey_is_left_behind(const struct survey *survey, const Strake__V1__Replica *replica);
/* It needs no recovery: those found are a majority of the voters of `cfg` with one in sync.  Else
 * `missing` says which voters of it were not found, or why they do not do. */
#define SURVEY_TEXT_SIZE 600
bool survey_can_open(const struct survey *survey, const Strake__V1__Configuration *cfg,
	char missing[SURVEY_TEXT_SIZE]);
/* The highest write generation and attach number that anybody found has. */
uint64_t survey_wgen(const struct survey *survey);
uint32_t survey_attach(const struct survey *survey);
/* The one whose uuid begins so; NULL: none or several (*ret_count says which). */
const Strake__V1__Replica *survey_find(
	const struct survey *survey, const char *uuid, unsigned *ret_count);
/* FenceReplica failed so: a disk or a pool-agent that does not do what it is told, which is as good
 * as not there.  Any other failure is an answer, as that a higher attach number has the replica. */
bool survey_is_unreached(int code);

#endif
