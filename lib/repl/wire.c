/* SPDX-License-Identifier: Apache-2.0 */
#include "repl/wire.h"

#include "base/bytes.h"

#include <errno.h>
#include <string.h>

#define WIRE_FUA_BIT (1u << 30)

static bool opcode_is_ranged(uint8_t opcode)
{
	return opcode == WIRE_WRITE || opcode == WIRE_READ || opcode == WIRE_WRITE_ZEROES ||
	       opcode == WIRE_DISCARD || opcode == WIRE_WRITE_UNCORRECTABLE;
}

static void hash_encode(const struct wire_io *io, struct nvme_sqe *sqe)
{
	sqe->cdw12 = (uint32_t)(io->block_count - 1);
	sqe->cdw3 = 0;
	sqe->cdw13 = 0;
	sqe->mptr = io->key[0];
	sqe->cdw14 = (uint32_t)io->key[1];
	sqe->cdw15 = (uint32_t)(io->key[1] >> 32);
}

static int hash_decode(const struct nvme_sqe *sqe, struct wire_io *ret_io)
{
	*ret_io = (struct wire_io){
		.opcode = sqe->opcode,
		.nsid = sqe->nsid,
		.session = sqe->cdw2,
		.slba = (uint64_t)sqe->cdw11 << 32 | sqe->cdw10,
		.block_count = (uint64_t)sqe->cdw12 + 1,
		.key = {sqe->mptr, (uint64_t)sqe->cdw15 << 32 | sqe->cdw14},
	};
	return ret_io->block_count > WIRE_HASH_BLOCKS_MAX ? -EINVAL : 0;
}

void wire_io_encode(const struct wire_io *io, struct nvme_sqe *ret_sqe)
{
	struct nvme_sqe sqe = {0};
	uint64_t ahead = io->seq - io->settled;

	sqe.opcode = io->opcode;
	sqe.nsid = io->nsid;
	sqe.cdw2 = io->session;
	sqe.cdw3 = io->wgen_low;
	sqe.mptr = io->seq;
	sqe.cdw10 = (uint32_t)io->slba;
	sqe.cdw11 = (uint32_t)(io->slba >> 32);
	sqe.cdw13 = ahead > UINT32_MAX ? UINT32_MAX : (uint32_t)ahead;
	sqe.cdw15 = io->snapshot;
	if (io->opcode == WIRE_HASH) {
		hash_encode(io, &sqe);
	} else if (opcode_is_ranged(io->opcode)) {
		uint64_t nlb = io->block_count - 1;

		sqe.cdw12 = (uint32_t)(nlb & 0xffff);
		sqe.cdw14 = (uint32_t)(nlb >> 16);
	}
	if (io->fua) {
		sqe.cdw12 |= WIRE_FUA_BIT;
	}
	*ret_sqe = sqe;
}

int wire_io_decode(const struct nvme_sqe *sqe, struct wire_io *ret_io)
{
	struct wire_io io = {0};

	if (sqe->opcode == WIRE_HASH) {
		return hash_decode(sqe, ret_io);
	}
	io.opcode = sqe->opcode;
	io.nsid = sqe->nsid;
	io.session = sqe->cdw2;
	io.wgen_low = sqe->cdw3;
	io.seq = sqe->mptr;
	io.slba = (uint64_t)sqe->cdw11 << 32 | sqe->cdw10;
	io.fua = (sqe->cdw12 & WIRE_FUA_BIT) != 0;
	if (io.seq < sqe->cdw13 && sqe->cdw13 != UINT32_MAX) {
		return -EINVAL;
	}
	io.settled = io.seq < sqe->cdw13 ? 0 : io.seq - sqe->cdw13;
	io.snapshot = sqe->cdw15;
	if (io.snapshot != 0 && io.opcode != WIRE_READ) {
		return -EINVAL;
	}
	if (opcode_is_ranged(io.opcode)) {
		io.block_count = ((uint64_t)sqe->cdw14 << 16 | (sqe->cdw12 & 0xffff)) + 1;
	} else if (io.opcode != WIRE_FLUSH) {
		return -EINVAL;
	}
	*ret_io = io;
	return 0;
}

void wire_hash_key(const uint64_t key[2], uint8_t ret_key[16])
{
	le64_put(ret_key, key[0]);
	le64_put(ret_key + 8, key[1]);
}

void wire_hash_put_stamp(uint8_t *answer, uint64_t stamp)
{
	memset(answer, 0, WIRE_HASH_SIZE(0));
	le64_put(answer, stamp);
}

uint64_t wire_hash_stamp(const uint8_t *answer)
{
	return le64_get(answer);
}

uint8_t *wire_hash_at(uint8_t *answer, uint64_t block)
{
	return answer + WIRE_HASH_SIZE(block);
}

void wire_snapshot_encode(uint64_t number, const struct uuid *id, struct nvme_sqe *sqe)
{
	sqe->cdw10 = (uint32_t)number;
	sqe->cdw11 = (uint32_t)(number >> 32);
	sqe->cdw12 = le32_get(id->b);
	sqe->cdw13 = le32_get(id->b + 4);
	sqe->cdw14 = le32_get(id->b + 8);
	sqe->cdw15 = le32_get(id->b + 12);
}

uint64_t wire_snapshot_decode(const struct nvme_sqe *sqe, struct uuid *ret_id)
{
	le32_put(ret_id->b, sqe->cdw12);
	le32_put(ret_id->b + 4, sqe->cdw13);
	le32_put(ret_id->b + 8, sqe->cdw14);
	le32_put(ret_id->b + 12, sqe->cdw15);
	return (uint64_t)sqe->cdw11 << 32 | sqe->cdw10;
}

static void token_encode(const struct token *token, uint8_t *to)
{
	le32_put(to, token->epoch.attach);
	le32_put(to + 4, token->epoch.inc);
	le64_put(to + 8, token->epoch.nonce);
	le32_put(to + 16, token->session);
}

static void token_decode(const uint8_t *from, struct token *ret_token)
{
	ret_token->epoch.attach = le32_get(from);
	ret_token->epoch.inc = le32_get(from + 4);
	ret_token->epoch.nonce = le64_get(from + 8);
	ret_token->session = le32_get(from + 16);
}

enum {
	FENCE_NSID = 0,
	FENCE_CAPABILITY_VERSION = 4,
	FENCE_CAPABILITY_KEY = 6,
	FENCE_REPLICA = 8,
	FENCE_TOKEN = 24,
	FENCE_MAC = 48,
};

void wire_fence_entry_encode(
	const struct wire_fence_entry *entry, uint8_t to[WIRE_FENCE_ENTRY_SIZE])
{
	memset(to, 0, WIRE_FENCE_ENTRY_SIZE);
	le32_put(to + FENCE_NSID, entry->nsid);
	le16_put(to + FENCE_CAPABILITY_VERSION, entry->capability.version);
	le16_put(to + FENCE_CAPABILITY_KEY, entry->capability.key);
	memcpy(to + FENCE_REPLICA, entry->replica.b, 16);
	token_encode(&entry->token, to + FENCE_TOKEN);
	memcpy(to + FENCE_MAC, entry->capability.mac, sizeof(entry->capability.mac));
}

int wire_fence_entry_decode(
	const uint8_t from[WIRE_FENCE_ENTRY_SIZE], struct wire_fence_entry *ret_entry)
{
	struct wire_fence_entry entry = {0};

	entry.nsid = le32_get(from + FENCE_NSID);
	entry.capability.version = le16_get(from + FENCE_CAPABILITY_VERSION);
	entry.capability.key = le16_get(from + FENCE_CAPABILITY_KEY);
	memcpy(entry.replica.b, from + FENCE_REPLICA, 16);
	token_decode(from + FENCE_TOKEN, &entry.token);
	memcpy(entry.capability.mac, from + FENCE_MAC, sizeof(entry.capability.mac));
	/* Attach 0 is nobody's: it is what a replica that was never fenced has promised. */
	if (entry.nsid == 0 || entry.nsid == UINT32_MAX || entry.token.epoch.attach == 0) {
		return -EBADMSG;
	}
	*ret_entry = entry;
	return 0;
}

enum {
	STATE_STATUS = 0,
	STATE_BLOCK_BYTES = 4,
	STATE_TOKEN = 8,
	STATE_POWER = 32,
	STATE_BOOT = 40,
	STATE_REGION_BYTES = 48,
	STATE_WINDOW_VALID = 56,
	STATE_MARK_COUNT = 60,
	STATE_CFG_VERSION = 64,
	STATE_NEWER = 68,
	STATE_MARKS = 2048,
	STATE_SNAPSHOTS = 96,
	STATE_SNAPSHOTS_KEPT = 104,
	STATE_VMETA = 4096,
};
_Static_assert(STATE_MARKS + MARKS_ENCODED_SIZE <= STATE_VMETA, "voter state");
_Static_assert(STATE_VMETA + VMETA_SIZE == WIRE_VOTER_STATE_SIZE, "voter state");

static bool status_has_vmeta(uint32_t status)
{
	return status == 0 || status == WIRE_STATUS_STALE_TOKEN || status == WIRE_STATUS_BUSY;
}

void wire_voter_state_encode(
	const struct wire_voter_state *state, uint8_t to[WIRE_VOTER_STATE_SIZE])
{
	memset(to, 0, WIRE_VOTER_STATE_SIZE);
	le32_put(to + STATE_STATUS, state->status);
	le32_put(to + STATE_BLOCK_BYTES, state->block_bytes);
	token_encode(&state->cur, to + STATE_TOKEN);
	le64_put(to + STATE_POWER, state->power);
	le64_put(to + STATE_BOOT, state->boot);
	le64_put(to + STATE_REGION_BYTES, state->region_bytes);
	to[STATE_WINDOW_VALID] = state->window_valid;
	le32_put(to + STATE_CFG_VERSION, state->cfg_version);
	to[STATE_NEWER] = state->newer;
	to[STATE_SNAPSHOTS] = state->snapshots;
	le64_put(to + STATE_SNAPSHOTS_KEPT, state->snapshots_kept);
	if (status_has_vmeta(state->status)) {
		struct vmeta vmeta = state->vmeta;

		le32_put(to + STATE_MARK_COUNT, vmeta.marks.count);
		marks_encode(&vmeta.marks, to + STATE_MARKS);
		vmeta.marks.count = 0;
		vmeta_encode(&vmeta, to + STATE_VMETA);
	}
}

int wire_voter_state_decode(
	const uint8_t from[WIRE_VOTER_STATE_SIZE], struct wire_voter_state *ret_state)
{
	struct wire_voter_state state = {0};

	state.status = le32_get(from + STATE_STATUS);
	state.block_bytes = le32_get(from + STATE_BLOCK_BYTES);
	token_decode(from + STATE_TOKEN, &state.cur);
	state.power = le64_get(from + STATE_POWER);
	state.boot = le64_get(from + STATE_BOOT);
	state.region_bytes = le64_get(from + STATE_REGION_BYTES);
	state.window_valid = from[STATE_WINDOW_VALID] == 1;
	/* Who does not tell is of the first. */
	state.cfg_version = (uint32_t)max_u64(le32_get(from + STATE_CFG_VERSION), 1);
	state.newer = from[STATE_NEWER] == 1;
	state.snapshots = from[STATE_SNAPSHOTS] == 1;
	state.snapshots_kept = le64_get(from + STATE_SNAPSHOTS_KEPT);
	if (status_has_vmeta(state.status)) {
		if (vmeta_decode(from + STATE_VMETA, &state.vmeta) != 0 ||
			marks_decode(from + STATE_MARKS, le32_get(from + STATE_MARK_COUNT),
				state.vmeta.size_bytes / 4096, &state.vmeta.marks) != 0 ||
			!is_power_of_two(state.block_bytes) || state.block_bytes < 512 ||
			state.block_bytes > 4096 || !is_power_of_two(state.region_bytes) ||
			state.region_bytes < state.block_bytes) {
			return -EBADMSG;
		}
	}
	*ret_state = state;
	return 0;
}

enum {
	WINDOW_VALID = 0,
	WINDOW_COUNT = 4,
	WINDOW_TOTAL = 8,
	WINDOW_PIECE_BYTES = 16,
	WINDOW_PIECES = 32,
};
_Static_assert(WINDOW_PIECES + 4 * WIRE_WINDOW_PIECES_MAX == WIRE_WINDOW_SIZE, "window");

void wire_window_encode(const struct wire_window *window, uint8_t to[WIRE_WINDOW_SIZE])
{
	memset(to, 0, WIRE_WINDOW_SIZE);
	to[WINDOW_VALID] = window->valid;
	le32_put(to + WINDOW_COUNT, window->count);
	le32_put(to + WINDOW_TOTAL, window->total);
	le64_put(to + WINDOW_PIECE_BYTES, window->piece_bytes);
	for (uint32_t i = 0; i < window->count; i++) {
		le32_put(to + WINDOW_PIECES + 4 * (size_t)i, window->pieces[i]);
	}
}

int wire_window_decode(const uint8_t from[WIRE_WINDOW_SIZE], struct wire_window *ret_window)
{
	ret_window->valid = from[WINDOW_VALID] == 1;
	ret_window->count = le32_get(from + WINDOW_COUNT);
	ret_window->total = le32_get(from + WINDOW_TOTAL);
	ret_window->piece_bytes = le64_get(from + WINDOW_PIECE_BYTES);
	if (ret_window->count > WIRE_WINDOW_PIECES_MAX || ret_window->count > ret_window->total ||
		!is_power_of_two(ret_window->piece_bytes) || ret_window->piece_bytes < 4096) {
		return -EBADMSG;
	}
	for (uint32_t i = 0; i < ret_window->count; i++) {
		ret_window->pieces[i] = le32_get(from + WINDOW_PIECES + 4 * (size_t)i);
	}
	return 0;
}

enum {
	SNAPSHOTS_COUNT = 0,
	SNAPSHOTS_TOTAL = 4,
	SNAPSHOTS_FIRST = 32,
	SNAPSHOT_NUMBER = 0,
	SNAPSHOT_ID = 8,
	SNAPSHOT_KEPT = 24,
	SNAPSHOT_SIZE = 32,
};
_Static_assert(SNAPSHOTS_FIRST + SNAPSHOT_SIZE * WIRE_SNAPSHOTS_MAX == WIRE_SNAPSHOT_LIST_SIZE,
	"list of snapshots");

void wire_snapshot_list_encode(
	const struct wire_snapshot_list *list, uint8_t to[WIRE_SNAPSHOT_LIST_SIZE])
{
	memset(to, 0, WIRE_SNAPSHOT_LIST_SIZE);
	le32_put(to + SNAPSHOTS_COUNT, list->count);
	le32_put(to + SNAPSHOTS_TOTAL, list->total);
	for (uint32_t i = 0; i < list->count; i++) {
		uint8_t *at = to + SNAPSHOTS_FIRST + SNAPSHOT_SIZE * (size_t)i;

		le64_put(at + SNAPSHOT_NUMBER, list->snapshots[i].number);
		memcpy(at + SNAPSHOT_ID, list->snapshots[i].id.b, 16);
		at[SNAPSHOT_KEPT] = list->snapshots[i].kept;
	}
}

int wire_snapshot_list_decode(
	const uint8_t from[WIRE_SNAPSHOT_LIST_SIZE], struct wire_snapshot_list *ret_list)
{
	ret_list->count = le32_get(from + SNAPSHOTS_COUNT);
	ret_list->total = le32_get(from + SNAPSHOTS_TOTAL);
	if (ret_list->count > WIRE_SNAPSHOTS_MAX || ret_list->count > ret_list->total) {
		return -EBADMSG;
	}
	for (uint32_t i = 0; i < ret_list->count; i++) {
		const uint8_t *at = from + SNAPSHOTS_FIRST + SNAPSHOT_SIZE * (size_t)i;
		struct wire_snapshot *snapshot = &ret_list->snapshots[i];

		snapshot->number = le64_get(at + SNAPSHOT_NUMBER);
		memcpy(snapshot->id.b, at + SNAPSHOT_ID, 16);
		snapshot->kept = at[SNAPSHOT_KEPT] == 1;
		if (snapshot->number == 0) {
			return -EBADMSG;
		}
	}
	return 0;
}

enum {
	HEARTBEAT_BOOT = 0,
	HEARTBEAT_LIST_NUMBER = 8,
	HEARTBEAT_COUNT = 12,
	HEARTBEAT_ALL = 16,
	HEARTBEAT_STOPPING = 17,
	HEARTBEAT_RESTART_WAIT = 20,
	HEARTBEAT_LOST = 32,
};
_Static_assert(HEARTBEAT_LOST + 4 * WIRE_HEARTBEAT_LOST_MAX <= WIRE_HEARTBEAT_SIZE, "heartbeat");

void wire_heartbeat_encode(const struct wire_heartbeat *heartbeat, uint8_t to[WIRE_HEARTBEAT_SIZE])
{
	memset(to, 0, WIRE_HEARTBEAT_SIZE);
	le64_put(to + HEARTBEAT_BOOT, heartbeat->boot);
	le32_put(to + HEARTBEAT_LIST_NUMBER, heartbeat->list_number);
	le32_put(to + HEARTBEAT_COUNT, heartbeat->lost_count);
	to[HEARTBEAT_ALL] = heartbeat->all;
	to[HEARTBEAT_STOPPING] = heartbeat->stopping;
	le32_put(to + HEARTBEAT_RESTART_WAIT, heartbeat->restart_wait_ms);
	for (unsigned i = 0; i < heartbeat->lost_count; i++) {
		le32_put(to + HEARTBEAT_LOST + 4 * (size_t)i, heartbeat->lost[i]);
	}
}

int wire_heartbeat_decode(
	const uint8_t from[WIRE_HEARTBEAT_SIZE], struct wire_heartbeat *ret_heartbeat)
{
	ret_heartbeat->boot = le64_get(from + HEARTBEAT_BOOT);
	ret_heartbeat->list_number = le32_get(from + HEARTBEAT_LIST_NUMBER);
	ret_heartbeat->lost_count = le32_get(from + HEARTBEAT_COUNT);
	ret_heartbeat->all = from[HEARTBEAT_ALL] != 0;
	ret_heartbeat->stopping = from[HEARTBEAT_STOPPING] != 0;
	ret_heartbeat->restart_wait_ms = le32_get(from + HEARTBEAT_RESTART_WAIT);
	if (ret_heartbeat->lost_count > WIRE_HEARTBEAT_LOST_MAX) {
		return -EBADMSG;
	}
	for (unsigned i = 0; i < ret_heartbeat->lost_count; i++) {
		ret_heartbeat->lost[i] = le32_get(from + HEARTBEAT_LOST + 4 * (size_t)i);
	}
	return 0;
}
