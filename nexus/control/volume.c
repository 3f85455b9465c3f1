/* SPDX-License-Identifier: Apache-2.0 */
/* The control side's volumes, and the way of an incarnation number into the state file. */
#include "nexus/control/control.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define INC_AGAIN_MS 1000

struct cvolume *control_find(struct control *control, const char *name)
{
	list_for_each (&control->volumes, node) {
		struct cvolume *cv = container_of(node, struct cvolume, node);

		if (strcmp(cv->record.name, name) == 0) {
			return cv;
		}
	}
	return NULL;
}

int cvolume_save(struct cvolume *cv, struct err *err)
{
	return volume_record_save(daemon_state_folder(cv->control->daemon), &cv->record, err);
}

/* ---- where the voters are ---- */

struct relocation {
	struct nexus *nexus;
	const struct volume_record *record;
};

static void relocate_there(void *ctx)
{
	const struct relocation *relocation = ctx;

	for (unsigned i = 0; i < relocation->record->voter_count; i++) {
		const struct volume_voter *voter = &relocation->record->voters[i];

		nexus_set_agent_address(relocation->nexus, &voter->agent, &voter->address);
	}
}

void cvolume_relocate(struct cvolume *cv)
{
	struct relocation relocation = {.nexus = cv->control->nexus, .record = &cv->record};

	log_info(daemon_log(cv->control->daemon), "control", "volume-relocated", "volume=%s",
		cv->record.name);
	reactor_ask(daemon_reactor(cv->control->daemon), relocate_there, &relocation);
}

/* ---- what may change while it is open ---- */

unsigned cvolume_min_insync(const struct cvolume *cv)
{
	if (cv->record.min_insync != 0) {
		return cv->record.min_insync;
	}
	if (cv->control->options.min_insync != 0) {
		return cv->control->options.min_insync;
	}
	return cv->record.copies <= 2 ? 1 : 2;
}

struct policy {
	struct cvolume *cv;
	unsigned min_insync;
	uint64_t no_quorum_ns;
};

static void set_policy_there(void *ctx)
{
	const struct policy *policy = ctx;

	if (policy->cv->volume != NULL) {
		volume_set_min_insync(policy->cv->volume, policy->min_insync);
		volume_set_no_quorum(policy->cv->volume, policy->no_quorum_ns);
	}
}

void cvolume_set_policy(struct cvolume *cv)
{
	struct policy policy = {
		.cv = cv,
		.min_insync = cvolume_min_insync(cv),
		.no_quorum_ns = cv->record.no_quorum_s * IO_NS_PER_S,
	};

	log_info(daemon_log(cv->control->daemon), "control", "volume-set",
		"volume=%s min_insync=%u no_quorum_s=%u", cv->record.name, cv->record.min_insync,
		cv->record.no_quorum_s);
	reactor_ask(daemon_reactor(cv->control->daemon), set_policy_there, &policy);
}

/* ---- inc, which must be on disk before it is used, and V, which the file follows ---- */

/* Reactor. */
static void file_post(struct cvolume *cv)
{
	if (cv->follow_wanted) {
		cv->told = cv->followed;
		cv->told_adding = cv->followed_adding;
		cv->told_waited = cv->waited;
		cv->told_is_new = true;
		cv->follow_wanted = false;
	}
	loop_post(daemon_loop(cv->control->daemon), &cv->inc_save);
}

/* Reactor. */
static void inc_back(struct io_msg *msg)
{
	struct cvolume *cv = container_of(msg, struct cvolume, inc_back);

	if (cv->blk != NULL && cv->shown_bytes != volume_blk(cv->volume)->size_bytes) {
		cv->shown_bytes = volume_blk(cv->volume)->size_bytes;
		nvmet_blk_resized(cv->blk);
	}
	if (atomic_load(&cv->inc_wanted) > cv->inc_saved || cv->follow_wanted) {
		/* The volume has taken a higher one, or others, meanwhile. */
		file_post(cv);
		return;
	}
	cv->inc_posted = false;
	if (cv->inc_waiter != NULL) {
		reactor_call_return(cv->inc_waiter);
		cv->inc_waiter = NULL;
	} else if (cv->volume != NULL) {
		volume_inc_saved(cv->volume);
	}
}

static void inc_save(struct cvolume *cv)
{
	struct control *control = cv->control;
	uint32_t inc = atomic_load(&cv->inc_wanted);
	struct err err = {0};

	cv->record.inc = inc;
	if (cv->told_is_new) {
		cv->record.waited = cv->told_waited;
	}
	/* What an operation is adding just now may be in the file already, and not be told yet. */
	if (cv->told_is_new && !cv->changes_voters) {
		(void)volume_record_follow(&cv->record, &cv->told, &cv->told_adding);
	}
	if (cvolume_save(cv, &err) < 0) {
		log_error(daemon_log(control->daemon), "control", "inc-not-saved",
			"volume=%s error=%s", cv->record.name, err.text);
		loop_timer_start(daemon_loop(control->daemon), &cv->inc_again, INC_AGAIN_MS);
		return;
	}
	cv->inc_saved = inc;
	cv->told_is_new = false;
	cv->inc_back.run = inc_back;
	io_post(daemon_io(control->daemon), &cv->inc_back);
	cvolume_follow_size(cv);
}

static void inc_save_run(struct loop_msg *msg)
{
	inc_save(container_of(msg, struct cvolume, inc_save));
}

static void inc_again_expired(struct loop_timer *timer)
{
	inc_save(container_of(timer, struct cvolume, inc_again));
}

/* Reactor. */
static void save_inc(struct volume *volume, uint32_t inc, void *ctx)
{
	struct cvolume *cv = ctx;

	(void)volume;
	atomic_store(&cv->inc_wanted, inc);
	if (!cv->inc_posted) {
		cv->inc_posted = true;
		file_post(cv);
	}
}

static bool same_voters(const struct cfg *a, const struct cfg *b)
{
	for (unsigned i = 0; i < a->voter_count; i++) {
		if (cfg_find(b, &a->voters[i].id) < 0) {
			return false;
		}
	}
	return a->voter_count == b->voter_count;
}

/* Reactor. */
static void voters_changed(struct volume *volume, void *ctx)
{
	struct cvolume *cv = ctx;
	struct epoch waited = volume_waited(volume);
	struct uuid adding;
	struct cfg cfg;

	volume_get_voters(volume, &cfg, &adding);
	if (cfg.gen == 0 ||
		(same_voters(&cfg, &cv->followed) && uuid_equal(&adding, &cv->followed_adding) &&
			cfg.size_bytes == cv->followed.size_bytes &&
			epoch_equal(&waited, &cv->waited))) {
		return;
	}
	cv->waited = waited;
	cv->followed = cfg;
	cv->followed_adding = adding;
	cv->follow_wanted = true;
	if (!cv->inc_posted) {
		cv->inc_posted = true;
		file_post(cv);
	}
}

/* ---- birth and death ---- */

struct cvolume *cvolume_new(struct control *control, const struct volume_record *record)
{
	struct cvolume *cv = calloc(1, sizeof(*cv));
	struct list_node *next = &control->volumes.head;

	if (cv == NULL) {
		return NULL;
	}
	cv->control = control;
	cv->record = *record;
	cv->inc_save.run = inc_save_run;
	cv->inc_again.expired = inc_again_expired;
	while (next->prev != &control->volumes.head &&
		strcmp(container_of(next->prev, struct cvolume, node)->record.name, record->name) >
			0) {
		next = next->prev;
	}
	list_insert_before(next, &cv->node);
	return cv;
}

void cvolume_free(struct cvolume *cv)
{
	compare_free(cv);
	loop_timer_stop(&cv->inc_again);
	list_remove(&cv->node);
	free(cv);
}

void cvolume_fill_options(
	struct cvolume *cv, bool host_may_have_lived_on, struct volume_options *ret_options)
{
	const struct volume_record *record = &cv->record;

	memset(ret_options, 0, sizeof(*ret_options));
	memcpy(ret_options->name, record->name, sizeof(ret_options->name));
	ret_options->uuid = record->uuid;
	ret_options->size_bytes = record->size_bytes;
	ret_options->lineage = record->lineage;
	ret_options->lineage_known = record->lineage_known;
	ret_options->attach = record->attach;
	ret_options->capability = record->capability;
	ret_options->inc_min = record->inc;
	ret_options->min_insync = cvolume_min_insync(cv);
	ret_options->no_quorum_ns = record->no_quorum_s * IO_NS_PER_S;
	ret_options->used = record->used;
	ret_options->voter_count = record->voter_count;
	memcpy(ret_options->voters, record->voters, sizeof(ret_options->voters));
	ret_options->host_may_have_lived_on = host_may_have_lived_on;
	if (host_may_have_lived_on) {
		ret_options->waited = record->waited;
	}
	ret_options->save_inc = save_inc;
	ret_options->changed = voters_changed;
	ret_options->ctx = cv;
	const struct crash *crash =
		crashes_find(&cv->control->crashes, &record->uuid, record->attach);

	if (crash != NULL && crash->count >= CRASHES_FAULT) {
		(void)snprintf(ret_options->fault, sizeof(ret_options->fault),
			"the nexus died %u times of its %s: unpublish and close it, then open it "
			"with --attach %u to try again",
			crash->count, crash->work, record->attach + 1);
	}
}
