/* SPDX-License-Identifier: Apache-2.0 */
/* The 4 KiB image of a voter's metadata: its place on disk, and in the answer to FENCE. */
#include "base/bytes.h"
#include "base/crc32c.h"
#include "repl/record.h"

#include <errno.h>
#include <string.h>

/* Incompatible features that this version understands.  A reader that does not know the marks would
 * show what they cover. */
#define VMETA_FEATURE_MARKS  (1u << 0) /* set as long as there are marks */
#define VMETA_FEATURES_KNOWN VMETA_FEATURE_MARKS

#define MARK_BLOCK_BYTES 4096u

enum {
	VMETA_AT_MAGIC = 0,
	VMETA_AT_VERSION = 4,
	VMETA_AT_SEQ = 8,
	VMETA_AT_CRC = 16,
	VMETA_AT_FEATURES = 20,
	VMETA_AT_STATE = 24,
	VMETA_AT_KIND = 25,
	VMETA_AT_REBUILDING = 26,
	VMETA_AT_KEY_NUMBERS = 28,
	VMETA_AT_VOLUME = 32,
	VMETA_AT_REPLICA = 48,
	VMETA_AT_NAME = 64,
	VMETA_AT_PROMISED = 128,
	VMETA_AT_CLEAN = 144,
	VMETA_AT_SIZE = 152,
	VMETA_AT_POOL = 160,
	VMETA_AT_SLOT = 176,
	VMETA_AT_MARK_COUNT = 180,
	VMETA_AT_CAPKEY = 192,
	VMETA_AT_CLASS = 256,
	VMETA_AT_CLAIM_NAMESPACE = 320,
	VMETA_AT_CLAIM_NAME = 384,
	VMETA_AT_CFG = 512,
	VMETA_AT_MARKS = 2048,
	VMETA_AT_END = VMETA_AT_MARKS + MARKS_ENCODED_SIZE,
};
_Static_assert(VMETA_AT_CFG + CFG_ENCODED_SIZE <= VMETA_AT_MARKS && VMETA_AT_END <= VMETA_SIZE,
	"vmeta encoding");

static uint32_t vmeta_crc(const uint8_t from[VMETA_SIZE])
{
	static const uint8_t zero[4];
	uint32_t crc = crc32c(from, VMETA_AT_CRC);

	crc = crc32c_extend(crc, zero, sizeof(zero));
	return crc32c_extend(crc, from + VMETA_AT_CRC + 4, VMETA_SIZE - VMETA_AT_CRC - 4);
}

static void name_encode(const char *name, uint8_t *to)
{
	memcpy(to, name, strnlen(name, REPL_NAME_SIZE - 1));
}

/* A name fills its 64 bytes with NULs; the last one is always NUL. */
static int name_decode(const uint8_t *from, char ret_name[REPL_NAME_SIZE])
{
	size_t length = strnlen((const char *)from, REPL_NAME_SIZE);

	if (length == REPL_NAME_SIZE || !bytes_are_zero(from + length, REPL_NAME_SIZE - length)) {
		return -EBADMSG;
	}
	memcpy(ret_name, from, REPL_NAME_SIZE);
	return 0;
}

void vmeta_encode(const struct vmeta *vmeta, uint8_t to[VMETA_SIZE])
{
	memset(to, 0, VMETA_SIZE);
	le32_put(to + VMETA_AT_MAGIC, VMETA_MAGIC);
	le32_put(to + VMETA_AT_VERSION, VMETA_VERSION);
	le64_put(to + VMETA_AT_SEQ, vmeta->seq);
	le32_put(to + VMETA_AT_FEATURES, vmeta->marks.count > 0 ? VMETA_FEATURE_MARKS : 0);
	to[VMETA_AT_STATE] = (uint8_t)vmeta->state;
	to[VMETA_AT_KIND] = (uint8_t)vmeta->kind;
	to[VMETA_AT_REBUILDING] = vmeta->rebuilding;
	memcpy(to + VMETA_AT_VOLUME, vmeta->volume.b, 16);
	memcpy(to + VMETA_AT_REPLICA, vmeta->replica.b, 16);
	name_encode(vmeta->name, to + VMETA_AT_NAME);
	le32_put(to + VMETA_AT_PROMISED, vmeta->promised.attach);
	le32_put(to + VMETA_AT_PROMISED + 4, vmeta->promised.inc);
	le64_put(to + VMETA_AT_PROMISED + 8, vmeta->promised.nonce);
	le64_put(to + VMETA_AT_CLEAN, vmeta->clean);
	le64_put(to + VMETA_AT_SIZE, vmeta->size_bytes);
	memcpy(to + VMETA_AT_POOL, vmeta->pool.b, 16);
	le32_put(to + VMETA_AT_SLOT, vmeta->slot);
	for (unsigned i = 0; i < 2; i++) {
		le16_put(to + VMETA_AT_KEY_NUMBERS + i * 2, vmeta->keys[i].number);
		memcpy(to + VMETA_AT_CAPKEY + i * CAPABILITY_SECRET_SIZE, vmeta->keys[i].secret,
			CAPABILITY_SECRET_SIZE);
	}
	name_encode(vmeta->class_name, to + VMETA_AT_CLASS);
	name_encode(vmeta->claim_namespace, to + VMETA_AT_CLAIM_NAMESPACE);
	name_encode(vmeta->claim_name, to + VMETA_AT_CLAIM_NAME);
	cfg_encode(&vmeta->cfg, to + VMETA_AT_CFG);
	le32_put(to + VMETA_AT_MARK_COUNT, vmeta->marks.count);
	marks_encode(&vmeta->marks, to + VMETA_AT_MARKS);
	le32_put(to + VMETA_AT_CRC, vmeta_crc(to));
}

bool vmeta_equal(const struct vmeta *a, const struct vmeta *b)
{
	uint8_t of_a[VMETA_SIZE], of_b[VMETA_SIZE];

	vmeta_encode(a, of_a);
	vmeta_encode(b, of_b);
	return memcmp(of_a, of_b, VMETA_SIZE) == 0;
}

static int vmeta_decode_names(const uint8_t *from, struct vmeta *vmeta)
{
	if (name_decode(from + VMETA_AT_NAME, vmeta->name) != 0 ||
		name_decode(from + VMETA_AT_CLASS, vmeta->class_name) != 0 ||
		name_decode(from + VMETA_AT_CLAIM_NAMESPACE, vmeta->claim_namespace) != 0 ||
		name_decode(from + VMETA_AT_CLAIM_NAME, vmeta->claim_name) != 0) {
		return -EBADMSG;
	}
	return 0;
}

static int vmeta_decode_marks(const uint8_t *from, struct vmeta *vmeta)
{
	uint32_t count = le32_get(from + VMETA_AT_MARK_COUNT);

	if ((count > 0) != ((le32_get(from + VMETA_AT_FEATURES) & VMETA_FEATURE_MARKS) != 0)) {
		return -EBADMSG;
	}
	return marks_decode(
		from + VMETA_AT_MARKS, count, vmeta->size_bytes / MARK_BLOCK_BYTES, &vmeta->marks);
}

int vmeta_decode(const uint8_t from[VMETA_SIZE], struct vmeta *ret_vmeta)
{
	struct vmeta vmeta = {0};

	if (bytes_are_zero(from, VMETA_SIZE)) {
		return -ENODATA;
	}
	if (le32_get(from + VMETA_AT_MAGIC) != VMETA_MAGIC ||
		le32_get(from + VMETA_AT_CRC) != vmeta_crc(from)) {
		return -EBADMSG;
	}
	if (le32_get(from + VMETA_AT_VERSION) != VMETA_VERSION ||
		(le32_get(from + VMETA_AT_FEATURES) & ~VMETA_FEATURES_KNOWN) != 0) {
		return -EOPNOTSUPP;
	}
	if (from[VMETA_AT_STATE] < VMETA_CREATING || from[VMETA_AT_STATE] > VMETA_DELETED ||
		from[VMETA_AT_KIND] > VOTER_ARBITER || from[VMETA_AT_REBUILDING] > 1) {
		return -EBADMSG;
	}
	vmeta.seq = le64_get(from + VMETA_AT_SEQ);
	vmeta.state = (enum vmeta_state)from[VMETA_AT_STATE];
	vmeta.kind = (enum voter_kind)from[VMETA_AT_KIND];
	vmeta.rebuilding = from[VMETA_AT_REBUILDING] == 1;
	memcpy(vmeta.volume.b, from + VMETA_AT_VOLUME, 16);
	memcpy(vmeta.replica.b, from + VMETA_AT_REPLICA, 16);
	vmeta.promised.attach = le32_get(from + VMETA_AT_PROMISED);
	vmeta.promised.inc = le32_get(from + VMETA_AT_PROMISED + 4);
	vmeta.promised.nonce = le64_get(from + VMETA_AT_PROMISED + 8);
	vmeta.clean = le64_get(from + VMETA_AT_CLEAN);
	vmeta.size_bytes = le64_get(from + VMETA_AT_SIZE);
	memcpy(vmeta.pool.b, from + VMETA_AT_POOL, 16);
	vmeta.slot = le32_get(from + VMETA_AT_SLOT);
	for (unsigned i = 0; i < 2; i++) {
		vmeta.keys[i].number = le16_get(from + VMETA_AT_KEY_NUMBERS + i * 2);
		memcpy(vmeta.keys[i].secret, from + VMETA_AT_CAPKEY + i * CAPABILITY_SECRET_SIZE,
			CAPABILITY_SECRET_SIZE);
	}
	if (vmeta.size_bytes > REPL_SIZE_MAX || vmeta_decode_names(from, &vmeta) != 0 ||
		cfg_decode(from + VMETA_AT_CFG, &vmeta.cfg) != 0 ||
		vmeta_decode_marks(from, &vmeta) != 0) {
		return -EBADMSG;
	}
	*ret_vmeta = vmeta;
	return 0;
}
