/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Secrets on their way through an object that everybody may read: sealed for the one node that has
 * the private key.  X25519 (RFC 7748) with a key pair of its own for each secret, HKDF-SHA256 (RFC
 * 5869), AES-256-GCM; all as base64.  Any thread.
 */
#ifndef OBJECTS_SEAL_H
#define OBJECTS_SEAL_H

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

#define SEAL_KEY_BYTES    32
#define SEAL_SECRET_BYTES 32
#define SEAL_PUBLIC_SIZE  45  /* a public key's text with NUL */
#define SEAL_TEXT_SIZE    109 /* a sealed secret's */

/* A private key, and its public one. */
int seal_key_make(uint8_t ret_key[SEAL_KEY_BYTES], struct err *err) __must_check;
int seal_key_public(const uint8_t key[SEAL_KEY_BYTES], char ret_public[SEAL_PUBLIC_SIZE],
	struct err *err) __must_check;

/* What is sealed with `purpose` (a text; not secret) opens with the same only.  -EINVAL: `public`
 * is no public key. */
int seal(const char *public, const char *purpose, const uint8_t secret[SEAL_SECRET_BYTES],
	char ret_sealed[SEAL_TEXT_SIZE], struct err *err) __must_check;
/* -EBADMSG: it was sealed for another key or purpose, or is none. */
int seal_open(const uint8_t key[SEAL_KEY_BYTES], const char *purpose, const char *sealed,
	uint8_t ret_secret[SEAL_SECRET_BYTES], struct err *err) __must_check;

/* Base64 (RFC 4648, section 4).  Returns text, of 4 * ((length + 2) / 3) + 1 bytes. */
char *base64_to_text(const void *bytes, size_t length, char *text);
/* 0, or -EINVAL: not exactly `length` bytes. */
int base64_parse(const char *text, void *ret_bytes, size_t length) __must_check;

#endif
