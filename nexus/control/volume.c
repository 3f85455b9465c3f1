/* SPDX-License-Identifier: Apache-2.0 */
/* The control side's volumes, and the way of an incarnation number into the state file. */
#include "nexus/control/control.h"

#include <errno.h>
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

/* ---- inc: it must be on disk before it is used ---- */

/* Reactor. */
static void inc_back(struct io_msg *msg)
{
	struct cvolume *cv = container_of(msg, struct cvolume, inc_back);

	if (atomic_load(&cv->inc_wanted) > cv->inc_saved) {
		/* The volume has taken a higher one meanwhile. */
		loop_post(daemon_loop(cv->control->daemon), &cv->inc_save);
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
	if (cvolume_save(cv, &err) < 0) {
		log_error(daemon_log(control->daemon), "control", "inc-not-saved",
			"volume=%s error=%s", cv->record.name, err.text);
		loop_timer_start(daemon_loop(control->daemon), &cv->inc_again, INC_AGAIN_MS);
		return;
	}
	cv->inc_saved = inc;
	cv->inc_back.run = inc_back;
	io_post(daemon_io(control->daemon), &cv->inc_back);
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
		loop_post(daemon_loop(cv->control->daemon), &cv->inc_save);
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
	ret_options->attach = record->attach;
	ret_options->capability = record->capability;
	ret_options->inc_min = record->inc;
	ret_options->min_insync =
		record->min_insync != 0 ? record->min_insync : cv->control->options.min_insync;
	ret_options->voter_count = record->voter_count;
	memcpy(ret_options->voters, record->voters, sizeof(ret_options->voters));
	ret_options->host_may_have_lived_on = host_may_have_lived_on;
	ret_options->save_inc = save_inc;
	ret_options->ctx = cv;
}
