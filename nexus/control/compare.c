/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Compares the replicas of a volume: pieces are read from each directly, under the range lock
 * (reactor), and hashed and compared here, so that the data thread is not held up.
 */
#include "base/bytes.h"
#include "nexus/control/control.h"

#include <errno.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define PIECE_BYTES  (512u * 1024)
#define SHA256_BYTES 32

struct compared {
	struct uuid replica;
	bool is_data;
	char error[VOLUME_REASON_SIZE]; /* "": it takes part */
	uint64_t bytes;
	EVP_MD_CTX *hash; /* owned */
	char sha256[2 * SHA256_BYTES + 1];
};

struct compare {
	struct cvolume *cv;
	bool running, cancelled;
	uint64_t size_bytes, done_bytes;
	bool differs;
	uint64_t first_difference;
	char error[VOLUME_REASON_SIZE];
	unsigned count;
	struct compared replicas[REPL_VOTERS_MAX];
	uint8_t *memory; /* owned while running: PIECE_BYTES for each */

	struct reactor_call call;
	struct volume_compare piece; /* reactor */
	struct volume_status status; /* reactor, after each piece */
};

static void next_piece(struct compare *compare);

void compare_free(struct cvolume *cv)
{
	struct compare *compare = cv->compare;

	if (compare == NULL) {
		return;
	}
	for (unsigned i = 0; i < compare->count; i++) {
		EVP_MD_CTX_free(compare->replicas[i].hash);
	}
	if (compare->memory != NULL) {
		(void)munmap(compare->memory, (size_t)compare->count * PIECE_BYTES);
	}
	free(compare);
	cv->compare = NULL;
}

/* ---- the reactor's part ---- */

static void piece_done(struct volume_compare *piece)
{
	struct compare *compare = piece->ctx;

	volume_get_status(compare->cv->volume, &compare->status);
	reactor_call_return(&compare->call);
}

static void piece_there(struct reactor_call *call)
{
	struct compare *compare = container_of(call, struct compare, call);

	compare->piece.done = piece_done;
	compare->piece.ctx = compare;
	volume_compare(compare->cv->volume, &compare->piece);
}

/* ---- the end ---- */

static void finish_hash(struct compared *replica)
{
	uint8_t digest[EVP_MAX_MD_SIZE];
	unsigned length = 0;

	if (replica->hash == NULL || EVP_DigestFinal_ex(replica->hash, digest, &length) != 1) {
		return;
	}
	for (unsigned i = 0; i < SHA256_BYTES && i < length; i++) {
		(void)snprintf(replica->sha256 + (size_t)2 * i, 3, "%02x", digest[i]);
	}
}

static void finish(struct compare *compare, const char *error)
{
	struct cvolume *cv = compare->cv;

	compare->running = false;
	(void)snprintf(compare->error, sizeof(compare->error), "%s", error);
	for (unsigned i = 0; i < compare->count; i++) {
		if (compare->replicas[i].is_data && compare->replicas[i].error[0] == '\0' &&
			error[0] == '\0') {
			finish_hash(&compare->replicas[i]);
		}
		EVP_MD_CTX_free(compare->replicas[i].hash);
		compare->replicas[i].hash = NULL;
	}
	(void)munmap(compare->memory, (size_t)compare->count * PIECE_BYTES);
	compare->memory = NULL;
	log_info(daemon_log(cv->control->daemon), "control", "compared",
		"volume=%s differs=%d bytes=%llu error=%s", cv->record.name, (int)compare->differs,
		(unsigned long long)compare->done_bytes, error);
	if (cv->control->stopping) {
		control_stop_step(cv->control);
	}
}

/* ---- one piece ---- */

/* Which replicas there are is known with the first piece. */
static void name_replicas(struct compare *compare)
{
	for (unsigned i = 0; i < compare->status.replica_count; i++) {
		const struct volume_replica_status *status = &compare->status.replicas[i];

		compare->replicas[i].replica = status->replica;
		compare->replicas[i].is_data = status->kind == VOTER_DATA &&
					       (status->membership == MEMBERSHIP_VOTER ||
						       status->membership == MEMBERSHIP_REMOVING);
	}
}

/* A replica that is not in sync differs by right: it is left out, and said so. */
static void leave_out(struct compare *compare)
{
	if (compare->done_bytes == 0) {
		name_replicas(compare);
	}
	for (unsigned i = 0; i < compare->count; i++) {
		struct compared *replica = &compare->replicas[i];
		const struct volume_replica_status *status = &compare->status.replicas[i];

		if (!replica->is_data || replica->error[0] != '\0') {
			continue;
		}
		if (!uuid_equal(&status->replica, &replica->replica)) {
			(void)snprintf(replica->error, sizeof(replica->error),
				"it is no replica of the volume any more");
		} else if (compare->piece.results[i] < 0) {
			(void)snprintf(replica->error, sizeof(replica->error),
				"not read at offset %llu: %s (%s)",
				(unsigned long long)compare->done_bytes,
				err_describe(compare->piece.results[i]),
				replica_state_name(status->state));
		} else if (status->state != REPLICA_INSYNC) {
			(void)snprintf(replica->error, sizeof(replica->error), "not in sync: %s",
				replica_state_name(status->state));
		}
	}
}

/* Offset of the first byte in which they differ; `length` when they are equal. */
static uint32_t first_difference(const uint8_t *one, const uint8_t *other, uint32_t length)
{
	uint32_t at = 0;

	if (memcmp(one, other, length) == 0) {
		return length;
	}
	while (one[at] == other[at]) {
		at++;
	}
	return at;
}

/* Hashes and compares what was read; returns how many replicas take part. */
static unsigned take_piece(struct compare *compare)
{
	const uint8_t *first = NULL;
	uint32_t length = compare->piece.length;
	uint32_t smallest = length;
	unsigned count = 0;

	for (unsigned i = 0; i < compare->count; i++) {
		struct compared *replica = &compare->replicas[i];
		const uint8_t *bytes = compare->memory + (size_t)i * PIECE_BYTES;

		if (!replica->is_data || replica->error[0] != '\0') {
			continue;
		}
		(void)EVP_DigestUpdate(replica->hash, bytes, length);
		replica->bytes += length;
		count++;
		if (first == NULL) {
			first = bytes;
		} else {
			smallest =
				(uint32_t)min_u64(smallest, first_difference(first, bytes, length));
		}
	}
	if (smallest < length && !compare->differs) {
		compare->differs = true;
		compare->first_difference = compare->done_bytes + smallest;
	}
	return count;
}

static void piece_returned(struct reactor_call *call)
{
	struct compare *compare = container_of(call, struct compare, call);

	leave_out(compare);
	unsigned count = take_piece(compare);

	if (compare->cancelled) {
		finish(compare, "the nexus is stopping");
	} else if (count == 0) {
		finish(compare, "no replica could be read");
	} else {
		compare->done_bytes += compare->piece.length;
		if (compare->done_bytes == compare->size_bytes) {
			finish(compare, "");
		} else {
			next_piece(compare);
		}
	}
}

static void next_piece(struct compare *compare)
{
	compare->piece.offset = compare->done_bytes;
	compare->piece.length =
		(uint32_t)min_u64(PIECE_BYTES, compare->size_bytes - compare->done_bytes);
	for (unsigned i = 0; i < compare->count; i++) {
		compare->piece.buffers[i] = compare->memory + (size_t)i * PIECE_BYTES;
	}
	compare->call.run = piece_there;
	compare->call.done = piece_returned;
	reactor_call(daemon_reactor(compare->cv->control->daemon), &compare->call);
}

/* ---- public ---- */

static int start_hashes(struct compare *compare)
{
	for (unsigned i = 0; i < compare->count; i++) {
		struct compared *replica = &compare->replicas[i];

		replica->hash = EVP_MD_CTX_new();
		if (replica->hash == NULL ||
			EVP_DigestInit_ex(replica->hash, EVP_sha256(), NULL) != 1) {
			return -ENOMEM;
		}
	}
	return 0;
}

int compare_start(struct cvolume *cv, struct err *err)
{
	if (compare_is_running(cv)) {
		return 0;
	}
	if (!cv->is_open || cv->control->stopping) {
		return err_set(
			err, -EBUSY, "volume %s is not open; open it first", cv->record.name);
	}
	compare_free(cv);
	struct compare *compare = calloc(1, sizeof(*compare));

	if (compare == NULL) {
		return err_set(err, -ENOMEM, "no memory to compare volume %s", cv->record.name);
	}
	cv->compare = compare;
	compare->cv = cv;
	compare->count = REPL_VOTERS_MAX;
	compare->size_bytes = cv->record.size_bytes;
	/* Given back at the end: an idle nexus stays small. */
	void *memory = mmap(NULL, (size_t)compare->count * PIECE_BYTES, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	compare->memory = memory == MAP_FAILED ? NULL : memory;
	if (compare->memory == NULL || start_hashes(compare) < 0) {
		compare_free(cv);
		return err_set(err, -ENOMEM, "no memory to compare volume %s", cv->record.name);
	}
	(void)madvise(memory, (size_t)compare->count * PIECE_BYTES, MADV_DONTDUMP);
	compare->running = true;
	next_piece(compare);
	return 0;
}

void compare_cancel(struct cvolume *cv)
{
	if (cv->compare != NULL) {
		cv->compare->cancelled = true;
	}
}

bool compare_is_running(const struct cvolume *cv)
{
	return cv->compare != NULL && cv->compare->running;
}

void compare_reply(const struct cvolume *cv, struct grpc_call *call)
{
	Strake__V1__CompareVolumeResponse response = STRAKE__V1__COMPARE_VOLUME_RESPONSE__INIT;
	Strake__V1__CompareReplica replicas[REPL_VOTERS_MAX];
	Strake__V1__CompareReplica *pointers[REPL_VOTERS_MAX];
	char uuids[REPL_VOTERS_MAX][UUID_TEXT_SIZE];
	struct compare *compare = cv->compare;
	size_t count = 0;

	if (compare == NULL) {
		grpc_call_failf(call, -ENOENT, "volume %s was not compared since the nexus started",
			cv->record.name);
		return;
	}
	for (unsigned i = 0; i < compare->count; i++) {
		struct compared *replica = &compare->replicas[i];

		if (!replica->is_data) {
			continue;
		}
		strake__v1__compare_replica__init(&replicas[count]);
		replicas[count].uuid = uuid_to_text(&replica->replica, uuids[count]);
		replicas[count].bytes = replica->bytes;
		replicas[count].sha256 = replica->sha256;
		replicas[count].error = replica->error;
		pointers[count] = &replicas[count];
		count++;
	}
	response.running = compare->running;
	response.done_bytes = compare->done_bytes;
	response.size_bytes = compare->size_bytes;
	response.differs = compare->differs;
	response.first_difference = compare->first_difference;
	response.error = compare->error;
	response.replicas = pointers;
	response.n_replicas = count;
	grpc_call_reply(call, &response.base);
}
