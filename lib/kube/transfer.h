/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HTTP exchanges over libcurl.  All of them share one HTTP/2 connection, the line.  A line that
 * does not answer is retired: its watches end, new transfers take a new one, what else is on it may
 * finish until its time is over.
 */
#ifndef KUBE_TRANSFER_H
#define KUBE_TRANSFER_H

#include "kube/internal.h"

#include <curl/curl.h>

struct kube_transfer;

struct kube_transfer_options {
	const char *method;
	const char *path;         /* with query, from "/" on */
	const char *content_type; /* of the body; NULL without one */
	const char *body;         /* borrowed until kube_transfer_end */
	size_t body_length;
	unsigned timeout_ms; /* of all; 0: none */
	bool is_stream;      /* ready is called for headers and bytes too */
	/* From the loop; may end this transfer or any other and free their memory. */
	void (*ready)(struct kube_transfer *transfer);
};

struct kube_transfer {
	struct list_node node;       /* of its line */
	struct list_node ready_node; /* of its line's ready list */
	struct kube *kube;
	struct kube_line *line;
	CURL *easy;
	struct curl_slist *headers, *connect_to;
	char curl_text[CURL_ERROR_SIZE];
	const char *body;
	size_t body_length, body_sent;
	bool is_stream;
	void (*ready)(struct kube_transfer *transfer);
	uint64_t started_ms;
	char *token; /* which was sent */

	struct strbuf received; /* a stream's owner takes from its beginning */
	bool too_large;

	unsigned status; /* 0: no answer yet */
	bool ended;
	int result;              /* of an ended one: 0 when an answer came whole */
	bool never_sent;         /* it had not even a connection */
	uint64_t retry_after_ms; /* 0: the server did not say */
	struct err err;
};

/* -ENOMEM; else ready is called later, at the latest when it ended. */
int kube_transfer_start(struct kube *kube, struct kube_transfer *transfer,
	const struct kube_transfer_options *options, struct err *err) __must_check;
/* Breaks it off if it runs.  Nothing for one that was not started. */
void kube_transfer_end(struct kube_transfer *transfer);

/* The connection is not to be trusted (it does not answer, who we are has changed). */
void kube_line_retire(struct kube *kube);
void kube_lines_free(struct kube *kube);

/* Reads the token file when it changed, when the last time is a minute ago, or when `must`. */
void kube_token_refresh(struct kube *kube, bool must);
/* Who we are was refused: true when there is something new to try, a token or a certificate. */
bool kube_token_is_new(struct kube *kube, const struct kube_transfer *refused);

#endif
