/* SPDX-License-Identifier: Apache-2.0 */
#include "repl/record.h"

#include "base/bytes.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static int compare_u32(uint32_t a, uint32_t b)
{
	return a < b ? -1 : a > b;
}

int epoch_compare(const struct epoch *a, const struct epoch *b)
{
	int order = compare_u32(a->attach, b->attach);

	return order != 0 ? order : compare_u32(a->inc, b->inc);
}

bool epoch_equal(const struct epoch *a, const struct epoch *b)
{
	return epoch_compare(a, b) == 0 && a->nonce == b->nonce;
}

int token_compare(const struct token *a, const struct token *b)
{
	int order = epoch_compare(&a->epoch, &b->epoch);

	return order != 0 ? order : compare_u32(a->session, b->session);
}

bool token_equal(const struct token *a, const struct token *b)
{
	return token_compare(a, b) == 0 && a->epoch.nonce == b->epoch.nonce;
}

int cfg_compare(const struct cfg *a, const struct cfg *b)
{
	int order;

	if (a->gen == 0 || b->gen == 0) {
		return (a->gen != 0) - (b->gen != 0);
	}
	order = epoch_compare(&a->epoch, &b->epoch);
	return order != 0 ? order : compare_u32(a->gen, b->gen);
}

bool cfg_equal(const struct cfg *a, const struct cfg *b)
{
	uint8_t encoded_a[CFG_ENCODED_SIZE];
	uint8_t encoded_b[CFG_ENCODED_SIZE];

	cfg_encode(a, encoded_a);
	cfg_encode(b, encoded_b);
	return memcmp(encoded_a, encoded_b, sizeof(encoded_a)) == 0;
}

int cfg_find(const struct cfg *cfg, const struct uuid *id)
{
	for (unsigned i = 0; i < cfg->voter_count; i++) {
		if (uuid_equal(&cfg->voters[i].id, id)) {
			return (int)i;
		}
	}
	return -1;
}

unsigned cfg_insync_count(const struct cfg *cfg)
{
	unsigned count = 0;

	for (unsigned i = 0; i < cfg->voter_count; i++) {
		count += cfg->voters[i].insync;
	}
	return count;
}

unsigned cfg_majority(const struct cfg *cfg)
{
	return cfg->voter_count / 2 + 1;
}

char *epoch_to_text(const struct epoch *epoch, char text[EPOCH_TEXT_SIZE])
{
	snprintf(text, EPOCH_TEXT_SIZE, "%" PRIu32 ".%" PRIu32, epoch->attach, epoch->inc);
	return text;
}

char *cfg_to_text(const struct cfg *cfg, char text[CFG_TEXT_SIZE])
{
	char id[UUID_TEXT_SIZE];
	int used;

	if (cfg->gen == 0) {
		snprintf(text, CFG_TEXT_SIZE, "none");
		return text;
	}
	used = snprintf(text, CFG_TEXT_SIZE,
		"%" PRIu32 ".%" PRIu32 "/%" PRIu32 " wgen %" PRIu64 " S={", cfg->epoch.attach,
		cfg->epoch.inc, cfg->gen, cfg->wgen);
	for (unsigned pass = 0; pass < 2; pass++) {
		for (unsigned i = 0; i < cfg->voter_count; i++) {
			if (pass == 0 && !cfg->voters[i].insync) {
				continue;
			}
			uuid_to_text(&cfg->voters[i].id, id);
			used += snprintf(text + used, (size_t)(CFG_TEXT_SIZE - used), "%s%.8s",
				text[used - 1] == '{' ? "" : ",", id);
		}
		used += snprintf(text + used, (size_t)(CFG_TEXT_SIZE - used), "%s",
			pass == 0 ? "} V={" : "}");
	}
	return text;
}

/* The encoding; docs/on-disk-format.md has the picture. */
enum {
	CFG_ATTACH = 0,
	CFG_INC = 4,
	CFG_NONCE = 8,
	CFG_GEN = 16,
	CFG_MIN_VERSION = 20,
	CFG_LINEAGE = 24,
	CFG_SIZE = 32,
	CFG_WGEN = 40,
	CFG_SNAP_SEQ = 48,
	CFG_SNAP_ID = 56,
	CFG_VOTER_COUNT = 72,
	CFG_INSYNC = 73,
	CFG_VOTERS = 80,
	CFG_VOTER_SIZE = 32,
	CFG_END = CFG_VOTERS + REPL_VOTERS_MAX * CFG_VOTER_SIZE,
};
_Static_assert(CFG_END <= CFG_ENCODED_SIZE, "cfg encoding");

static void epoch_encode(const struct epoch *epoch, uint8_t *to)
{
	le32_put(to, epoch->attach);
	le32_put(to + 4, epoch->inc);
	le64_put(to + 8, epoch->nonce);
}

static void epoch_decode(const uint8_t *from, struct epoch *ret_epoch)
{
	ret_epoch->attach = le32_get(from);
	ret_epoch->inc = le32_get(from + 4);
	ret_epoch->nonce = le64_get(from + 8);
}

void cfg_encode(const struct cfg *cfg, uint8_t to[CFG_ENCODED_SIZE])
{
	memset(to, 0, CFG_ENCODED_SIZE);
	if (cfg->gen == 0) {
		return;
	}
	epoch_encode(&cfg->epoch, to + CFG_ATTACH);
	le32_put(to + CFG_GEN, cfg->gen);
	le32_put(to + CFG_MIN_VERSION, cfg->min_version);
	le64_put(to + CFG_LINEAGE, cfg->lineage);
	le64_put(to + CFG_SIZE, cfg->size_bytes);
	le64_put(to + CFG_WGEN, cfg->wgen);
	le64_put(to + CFG_SNAP_SEQ, cfg->snap_seq);
	memcpy(to + CFG_SNAP_ID, cfg->snap_id.b, 16);
	to[CFG_VOTER_COUNT] = (uint8_t)cfg->voter_count;
	for (unsigned i = 0; i < cfg->voter_count; i++) {
		uint8_t *voter = to + CFG_VOTERS + i * CFG_VOTER_SIZE;

		memcpy(voter, cfg->voters[i].id.b, 16);
		le64_put(voter + 16, cfg->voters[i].power);
		voter[24] = (uint8_t)cfg->voters[i].kind;
		if (cfg->voters[i].insync) {
			to[CFG_INSYNC] = (uint8_t)(to[CFG_INSYNC] | 1u << i);
		}
	}
}

static int cfg_decode_voters(const uint8_t *from, struct cfg *cfg)
{
	uint8_t insync = from[CFG_INSYNC];

	cfg->voter_count = from[CFG_VOTER_COUNT];
	if (cfg->voter_count == 0 || cfg->voter_count > REPL_VOTERS_MAX ||
		insync >> cfg->voter_count != 0) {
		return -EBADMSG;
	}
	for (unsigned i = 0; i < cfg->voter_count; i++) {
		const uint8_t *raw = from + CFG_VOTERS + i * CFG_VOTER_SIZE;
		struct cfg_voter *voter = &cfg->voters[i];

		memcpy(voter->id.b, raw, 16);
		voter->power = le64_get(raw + 16);
		voter->insync = (insync >> i & 1) != 0;
		if (raw[24] > VOTER_ARBITER || uuid_is_nil(&voter->id) ||
			(raw[24] == VOTER_ARBITER && voter->insync)) {
			return -EBADMSG;
		}
		voter->kind = (enum voter_kind)raw[24];
		for (unsigned j = 0; j < i; j++) {
			if (uuid_equal(&cfg->voters[j].id, &voter->id)) {
				return -EBADMSG;
			}
		}
	}
	return 0;
}

int cfg_decode(const uint8_t from[CFG_ENCODED_SIZE], struct cfg *ret_cfg)
{
	struct cfg cfg = {0};

	cfg.gen = le32_get(from + CFG_GEN);
	if (cfg.gen == 0) {
		*ret_cfg = cfg;
		return 0;
	}
	epoch_decode(from + CFG_ATTACH, &cfg.epoch);
	cfg.min_version = le32_get(from + CFG_MIN_VERSION);
	cfg.lineage = le64_get(from + CFG_LINEAGE);
	cfg.size_bytes = le64_get(from + CFG_SIZE);
	cfg.wgen = le64_get(from + CFG_WGEN);
	cfg.snap_seq = le64_get(from + CFG_SNAP_SEQ);
	memcpy(cfg.snap_id.b, from + CFG_SNAP_ID, 16);
	if (cfg.size_bytes == 0 || cfg.size_bytes > REPL_SIZE_MAX || cfg.size_bytes % 512 != 0 ||
		cfg_decode_voters(from, &cfg) != 0) {
		return -EBADMSG;
	}
	*ret_cfg = cfg;
	return 0;
}
