/* SPDX-License-Identifier: Apache-2.0 */
/* CreateSnapshot.  The snapshot's id follows from the volume and the name, so that a repeated call
 * is known as such by the voters themselves. */
#include "base/task.h"
#include "nexus/control/job.h"

#include <errno.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

enum snapshot_state { SNAPSHOT_START, SNAPSHOT_AWAIT_REACTOR, SNAPSHOT_DONE };

struct snapshot_job {
	struct job job;
	enum snapshot_state state;
	struct volume_snapshot snapshot;
	struct volume_status status; /* of the volume, when it was made */
};

static struct snapshot_job *snapshot_job_of(struct job *job)
{
	return (struct snapshot_job *)(void *)job;
}

/* RFC 9562, version 8. */
static void snapshot_id(const struct uuid *volume, const char *name, struct uuid *ret_id)
{
	static const char purpose[] = "strake snapshot"; /* with its NUL */
	uint8_t digest[EVP_MAX_MD_SIZE];
	EVP_MD_CTX *hash = EVP_MD_CTX_new();

	if (hash == NULL || EVP_DigestInit_ex(hash, EVP_sha256(), NULL) != 1 ||
		EVP_DigestUpdate(hash, purpose, sizeof(purpose)) != 1 ||
		EVP_DigestUpdate(hash, volume->b, sizeof(volume->b)) != 1 ||
		EVP_DigestUpdate(hash, name, strlen(name)) != 1 ||
		EVP_DigestFinal_ex(hash, digest, NULL) != 1) {
		abort();
	}
	EVP_MD_CTX_free(hash);
	memcpy(ret_id->b, digest, sizeof(ret_id->b));
	ret_id->b[6] = (uint8_t)((ret_id->b[6] & 0x0f) | 0x80);
	ret_id->b[8] = (uint8_t)((ret_id->b[8] & 0x3f) | 0x80);
}

/* Reactor. */
static void snapshot_made(struct volume_snapshot *snapshot)
{
	struct snapshot_job *its = snapshot->ctx;

	its->job.result = snapshot->result;
	its->job.err = snapshot->err;
	if (snapshot->result == 0) {
		volume_get_status(its->job.cv->volume, &its->status);
	}
	reactor_call_return(&its->job.reactor_call);
}

static void snapshot_there(struct job *job)
{
	struct snapshot_job *its = snapshot_job_of(job);

	its->snapshot.done = snapshot_made;
	its->snapshot.ctx = its;
	volume_snapshot(job->cv->volume, &its->snapshot);
}

/* Not the volume, as other jobs answer: of its snapshots that tells only how many they are. */
static void snapshot_reply(struct snapshot_job *its)
{
	const struct cfg *cfg = &its->status.cfg;
	Strake__V1__Snapshot message = STRAKE__V1__SNAPSHOT__INIT;
	char id[UUID_TEXT_SIZE], texts[REPL_VOTERS_MAX][UUID_TEXT_SIZE], *replicas[REPL_VOTERS_MAX];

	for (unsigned i = 0; i < cfg->voter_count; i++) {
		if (cfg->voters[i].insync) {
			replicas[message.n_replicas] = texts[message.n_replicas];
			(void)uuid_to_text(&cfg->voters[i].id, texts[message.n_replicas++]);
		}
	}
	message.id = uuid_to_text(&its->snapshot.id, id);
	message.number = its->snapshot.number;
	message.size_bytes = its->status.size_bytes;
	message.ready = its->snapshot.ready;
	message.replicas = replicas;
	grpc_call_reply(its->job.call, &message.base);
	its->job.call = NULL;
}

static void snapshot_step(struct job *job)
{
	struct snapshot_job *its = snapshot_job_of(job);

	switch (its->state) {
	case SNAPSHOT_START:
		if (!job->cv->is_open) {
			job_fail(job, -EBUSY, "it is not open; open it first");
		} else {
			job_call(job, snapshot_there);
			AWAIT(its, SNAPSHOT_AWAIT_REACTOR, !job->waiting);
		}
		if (job->result == 0 && job->call != NULL) {
			snapshot_reply(its);
		}
		its->state = SNAPSHOT_DONE;
		job_end(job);
		return;
	case SNAPSHOT_DONE:
		return;
	}
}

void job_snapshot(struct cvolume *cv, const char *name, struct grpc_call *call)
{
	struct snapshot_job *its = job_new(cv, call, "snapshot", sizeof(*its), snapshot_step);

	if (its != NULL) {
		snapshot_id(&cv->record.uuid, name, &its->snapshot.id);
		snapshot_step(&its->job);
	}
}
