/* SPDX-License-Identifier: Apache-2.0 */
/* What server and client share. */
#ifndef GRPC_INTERNAL_H
#define GRPC_INTERNAL_H

#include "base/strbuf.h"
#include "grpc/grpc.h"

#include <nghttp2/nghttp2.h>
#include <stdint.h>

#define GRPC_PREFIX_BYTES 5u /* compressed flag, length */
#define GRPC_MESSAGE_MAX  (4u * 1024 * 1024)
#define GRPC_TEXT_MAX     512 /* of grpc-message, decoded */
#define GRPC_DEPTH_MAX    16
#define GRPC_FIELDS_MAX   131072u /* strings, bytes and messages in a received message */

/* ---- status.c ---- */

/* Bytes outside of printable ASCII, and '%', as %XX. */
void grpc_percent_encode(const char *text, struct strbuf *to);
/* Cuts what does not fit; a malformed escape stays as it is. */
void grpc_percent_decode(const char *text, size_t length, char *to, size_t to_bytes);
/* "100m", "5S".  0 or -EINVAL. */
int grpc_timeout_parse(const char *text, size_t length, uint64_t *ret_ms);

/* ---- message.c ---- */

/* A message as it arrives: its prefix, then its bytes. */
struct grpc_inbox {
	uint8_t prefix[GRPC_PREFIX_BYTES];
	unsigned prefix_length;
	uint8_t *bytes; /* owned */
	uint32_t length, received;
	bool whole; /* prefix and bytes are there */
};

/* Called when the prefix is complete: may refuse the length before memory is taken. */
typedef enum grpc_code grpc_inbox_admit(void *ctx, uint32_t length);
/* GRPC_OK, or why the message is refused. */
enum grpc_code grpc_inbox_push(struct grpc_inbox *inbox, const uint8_t *data, size_t length,
	grpc_inbox_admit *admit, void *ctx);
void grpc_inbox_done(struct grpc_inbox *inbox);

/* Unpacks what may be trusted to hold proper strings (UTF-8, no NUL).  NULL: malformed. */
ProtobufCMessage *grpc_unpack(
	const ProtobufCMessageDescriptor *type, const uint8_t *bytes, size_t length);

/* A message as it is sent. */
struct grpc_outbox {
	uint8_t *bytes; /* owned; with the prefix */
	size_t length, sent;
};

/* 0; -ENOMEM; -EMSGSIZE larger than max; -EBADMSG when a string is not UTF-8, which the other side
 * could not decode. */
int grpc_outbox_fill(struct grpc_outbox *outbox, const ProtobufCMessage *message, uint32_t max);
void grpc_outbox_done(struct grpc_outbox *outbox);
/* The next bytes of it, for nghttp2's read callback. */
size_t grpc_outbox_take(struct grpc_outbox *outbox, uint8_t *to, size_t room);

nghttp2_nv grpc_header(const char *name, const char *value);

#endif
