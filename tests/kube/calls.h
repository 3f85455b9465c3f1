/* SPDX-License-Identifier: Apache-2.0 */
/* What the programs for single calls share: `PROGRAM SOCKET CALL [WORD ...] [KEY=VALUE ...]`. */
#ifndef TESTS_KUBE_CALLS_H
#define TESTS_KUBE_CALLS_H

#include "base/bytes.h"
#include "csi/csi.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct words {
	int count;
	char **words;
};

static inline char *option(const struct words *words, const char *key)
{
	size_t length = strlen(key);

	for (int i = 0; i < words->count; i++) {
		if (strncmp(words->words[i], key, length) == 0 && words->words[i][length] == '=') {
			return words->words[i] + length + 1;
		}
	}
	return NULL;
}

static inline long long number(const struct words *words, const char *key, long long fallback)
{
	const char *text = option(words, key);

	return text == NULL ? fallback : atoll(text);
}

/* The i-th word that is no option; "" when there are not so many. */
static inline char *plain(const struct words *words, int index)
{
	static char nothing[1];

	for (int i = 0; i < words->count; i++) {
		if (strchr(words->words[i], '=') == NULL && index-- == 0) {
			return words->words[i];
		}
	}
	return nothing;
}

struct called {
	struct grpc_client *client;
	unsigned timeout_ms;
	ProtobufCMessage *answer; /* owned, of the last call */
};

/* 0, or 1 after it printed the error. */
static inline int call(struct called *called, const char *path, const ProtobufCMessage *request,
	const ProtobufCMessageDescriptor *response)
{
	struct grpc_method method = {
		.path = path, .request = request->descriptor, .response = response};
	struct err err = {0};

	if (called->answer != NULL) {
		protobuf_c_message_free_unpacked(called->answer, NULL);
		called->answer = NULL;
	}
	if (grpc_client_call(called->client, &method, request, called->timeout_ms, &called->answer,
		    &err) < 0) {
		printf("%s: %s\n", grpc_code_name(grpc_code_from_errno(err.code)), err.text);
		return 1;
	}
	return 0;
}

struct command {
	const char *name;
	int (*run)(struct called *called, const struct words *words);
};

/* The exit code; 2: it was called in a wrong way. */
static inline int run_command(int argc, char **argv, const struct command *commands, size_t count)
{
	struct words words = {.count = argc - 3, .words = argv + 3};
	struct called called = {0};
	struct err err = {0};

	if (argc < 3) {
		(void)fprintf(stderr, "%s SOCKET CALL ...\n", argv[0]);
		return 2;
	}
	called.timeout_ms = (unsigned)number(&words, "timeout", 60000);
	if (grpc_client_new(argv[1], 5000, &called.client, &err) < 0) {
		printf("%s\n", err.text);
		return 1;
	}
	for (size_t i = 0; i < count; i++) {
		if (strcmp(argv[2], commands[i].name) == 0) {
			int code = commands[i].run(&called, &words);

			if (called.answer != NULL) {
				protobuf_c_message_free_unpacked(called.answer, NULL);
			}
			grpc_client_free(called.client);
			return code;
		}
	}
	(void)fprintf(stderr, "%s: no call %s\n", argv[0], argv[2]);
	return 2;
}

#endif
