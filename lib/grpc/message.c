/* SPDX-License-Identifier: Apache-2.0 */
#include "base/bytes.h"
#include "grpc/internal.h"

#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

nghttp2_nv grpc_header(const char *name, const char *value)
{
	/* nghttp2 copies both and takes them as not const. */
	return (nghttp2_nv){
		.name = (uint8_t *)(uintptr_t)name,
		.namelen = strlen(name),
		.value = (uint8_t *)(uintptr_t)value,
		.valuelen = strlen(value),
		.flags = NGHTTP2_NV_FLAG_NONE,
	};
}

/* ---- receiving ---- */

static enum grpc_code take_prefix(struct grpc_inbox *inbox, grpc_inbox_admit *admit, void *ctx)
{
	uint32_t length;

	memcpy(&length, inbox->prefix + 1, sizeof(length));
	length = ntohl(length);
	if (inbox->prefix[0] != 0) {
		/* 1: compressed, by an encoding that nobody agreed on; the rest is undefined. */
		return inbox->prefix[0] == 1 ? GRPC_UNIMPLEMENTED : GRPC_INTERNAL;
	}
	enum grpc_code code = admit(ctx, length);

	if (code != GRPC_OK) {
		return code;
	}
	inbox->bytes = malloc(length > 0 ? length : 1);
	if (inbox->bytes == NULL) {
		return GRPC_RESOURCE_EXHAUSTED;
	}
	inbox->length = length;
	inbox->whole = length == 0;
	return GRPC_OK;
}

enum grpc_code grpc_inbox_push(struct grpc_inbox *inbox, const uint8_t *data, size_t length,
	grpc_inbox_admit *admit, void *ctx)
{
	while (length > 0) {
		if (inbox->whole) {
			/* A second message in a unary call. */
			return GRPC_INTERNAL;
		}
		if (inbox->prefix_length < GRPC_PREFIX_BYTES) {
			inbox->prefix[inbox->prefix_length++] = *data++;
			length--;
			if (inbox->prefix_length == GRPC_PREFIX_BYTES) {
				enum grpc_code code = take_prefix(inbox, admit, ctx);

				if (code != GRPC_OK) {
					return code;
				}
			}
			continue;
		}
		size_t part = min_u64(length, inbox->length - inbox->received);

		memcpy(inbox->bytes + inbox->received, data, part);
		inbox->received += (uint32_t)part;
		data += part;
		length -= part;
		inbox->whole = inbox->received == inbox->length;
	}
	return GRPC_OK;
}

void grpc_inbox_done(struct grpc_inbox *inbox)
{
	free(inbox->bytes);
	memset(inbox, 0, sizeof(*inbox));
}

/* ---- strings ---- */

/* Length of the UTF-8 character at `at` (left bytes to the end), 0 when it is none. */
static size_t utf8_length(const uint8_t *at, size_t left)
{
	static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
	size_t length = at[0] < 0x80       ? 1
			: at[0] >> 5 == 6  ? 2
			: at[0] >> 4 == 14 ? 3
			: at[0] >> 3 == 30 ? 4
					   : 0;

	if (length <= 1) {
		return length;
	}
	if (length > left) {
		return 0;
	}
	uint32_t value = at[0] & (0x7fu >> length);

	for (size_t i = 1; i < length; i++) {
		if (at[i] >> 6 != 2) {
			return 0;
		}
		value = value << 6 | (at[i] & 0x3fu);
	}
	bool is_surrogate = value >= 0xd800 && value <= 0xdfff;

	return value < least[length] || value > 0x10ffff || is_surrogate ? 0 : length;
}

static bool string_is_proper(const uint8_t *text, size_t length)
{
	while (length > 0) {
		size_t character = text[0] == 0 ? 0 : utf8_length(text, length);

		if (character == 0) {
			return false;
		}
		text += character;
		length -= character;
	}
	return true;
}

static bool take_varint(const uint8_t **at, const uint8_t *end, uint64_t *ret_value)
{
	uint64_t value = 0;

	for (unsigned shift = 0; shift < 64 && *at < end; shift += 7) {
		uint8_t byte = *(*at)++;

		value |= (uint64_t)(byte & 0x7f) << shift;
		if ((byte & 0x80) == 0) {
			*ret_value = value;
			return true;
		}
	}
	return false;
}

static bool skip(const uint8_t **at, const uint8_t *end, uint64_t length)
{
	if (length > (uint64_t)(end - *at)) {
		return false;
	}
	*at += length;
	return true;
}

/* Messages that wait to be looked at, instead of recursion. */
struct scan {
	const ProtobufCMessageDescriptor *types[GRPC_DEPTH_MAX];
	const uint8_t *ends[GRPC_DEPTH_MAX];
	unsigned depth;
	unsigned fields;
	unsigned fields_max;
};

/* One length-delimited field: a string is checked, a message is entered, the rest is passed over.
 */
static bool scan_delimited(struct scan *scan, const ProtobufCFieldDescriptor *field,
	const uint8_t **at, const uint8_t *end, uint64_t length)
{
	if (length > (uint64_t)(end - *at) || scan->fields++ == scan->fields_max) {
		return false;
	}
	if (field != NULL && field->type == PROTOBUF_C_TYPE_MESSAGE) {
		if (scan->depth == GRPC_DEPTH_MAX) {
			return false;
		}
		scan->types[scan->depth] = field->descriptor;
		scan->ends[scan->depth++] = *at + length;
		return true;
	}
	if (field != NULL && field->type == PROTOBUF_C_TYPE_STRING &&
		!string_is_proper(*at, length)) {
		return false;
	}
	*at += length;
	return true;
}

/*
 * protobuf-c checks neither UTF-8 nor NUL, at which its C strings would end early, nor the depth of
 * messages; so the encoded bytes are looked at before it unpacks them.  So is their number: two
 * bytes of an empty message become a hundred in memory.
 */
static bool message_is_proper(const ProtobufCMessageDescriptor *type, const uint8_t *at,
	size_t length, unsigned fields_max)
{
	struct scan scan = {
		.types = {type}, .ends = {at + length}, .depth = 1, .fields_max = fields_max};

	while (scan.depth > 0) {
		const uint8_t *end = scan.ends[scan.depth - 1];
		uint64_t key, value;

		if (at == end) {
			scan.depth--;
			continue;
		}
		if (!take_varint(&at, end, &key) || key >> 3 == 0 || key >> 3 > UINT32_MAX) {
			return false;
		}
		const ProtobufCFieldDescriptor *field = protobuf_c_message_descriptor_get_field(
			scan.types[scan.depth - 1], (unsigned)(key >> 3));
		unsigned wire_type = key & 7;
		bool good = wire_type == 0   ? take_varint(&at, end, &value)
			    : wire_type == 1 ? skip(&at, end, 8)
			    : wire_type == 5 ? skip(&at, end, 4)
			    : wire_type == 2 ? take_varint(&at, end, &value) &&
						       scan_delimited(&scan, field, &at, end, value)
					     : false;

		if (!good) {
			return false;
		}
	}
	return true;
}

ProtobufCMessage *grpc_unpack(
	const ProtobufCMessageDescriptor *type, const uint8_t *bytes, size_t length)
{
	if (!message_is_proper(type, bytes, length, GRPC_FIELDS_MAX)) {
		return NULL;
	}
	return protobuf_c_message_unpack(type, NULL, length, bytes);
}

/* ---- sending ---- */

int grpc_outbox_fill(struct grpc_outbox *outbox, const ProtobufCMessage *message, uint32_t max)
{
	size_t length = protobuf_c_message_get_packed_size(message);
	uint32_t length_be = htonl((uint32_t)length);

	if (length > max) {
		return -EMSGSIZE;
	}
	uint8_t *bytes = malloc(GRPC_PREFIX_BYTES + length);

	if (bytes == NULL) {
		return -ENOMEM;
	}
	bytes[0] = 0;
	memcpy(bytes + 1, &length_be, sizeof(length_be));
	(void)protobuf_c_message_pack(message, bytes + GRPC_PREFIX_BYTES);
	if (!message_is_proper(message->descriptor, bytes + GRPC_PREFIX_BYTES, length, UINT_MAX)) {
		free(bytes);
		return -EBADMSG;
	}
	*outbox = (struct grpc_outbox){.bytes = bytes, .length = GRPC_PREFIX_BYTES + length};
	return 0;
}

void grpc_outbox_done(struct grpc_outbox *outbox)
{
	free(outbox->bytes);
	memset(outbox, 0, sizeof(*outbox));
}

size_t grpc_outbox_take(struct grpc_outbox *outbox, uint8_t *to, size_t room)
{
	size_t part = min_u64(room, outbox->length - outbox->sent);

	memcpy(to, outbox->bytes + outbox->sent, part);
	outbox->sent += part;
	return part;
}
