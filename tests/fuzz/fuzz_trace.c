/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Any bytes as the file of a trace, from the start of its head.  When it is taken for one, all of
 * it is read and printed.
 */
#include "trace/trace.h"

#include <stdlib.h>
#include <string.h>

#define RECORDS_MAX 64u
#define BYTES_MAX   (TRACE_HEAD_BYTES + RECORDS_MAX * sizeof(struct trace_record))

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_all(const struct trace_view *view)
{
	struct trace_record records[7];
	uint64_t cursor = 0, total = 0;
	struct strbuf text;
	unsigned count;

	strbuf_init(&text);
	trace_view_to_text(view, &text);
	while ((count = trace_view_read(view, &cursor, records, 7)) > 0) {
		total += count;
		for (unsigned i = 0; i < count; i++) {
			trace_record_to_text(view, &records[i], &text);
		}
	}
	if (total > view->head->record_count) {
		abort();
	}
	strbuf_done(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static _Alignas(64) unsigned char bytes[BYTES_MAX];
	struct trace_head *head = (void *)bytes;
	struct trace_view view;

	memset(bytes, 0, sizeof(bytes));
	/* The head is mostly unused: what follows its struct is records. */
	size_t in_head = size < sizeof(*head) ? size : sizeof(*head);
	size_t behind = size - in_head;

	memcpy(bytes, data, in_head);
	if (behind > sizeof(bytes) - TRACE_HEAD_BYTES) {
		behind = sizeof(bytes) - TRACE_HEAD_BYTES;
	}
	memcpy(bytes + TRACE_HEAD_BYTES, data + in_head, behind);
	/* As given, and with the size that its own count asks for. */
	if (trace_view_init(&view, bytes, size < BYTES_MAX ? size : BYTES_MAX, NULL) == 0) {
		read_all(&view);
	}
	if (head->record_count <= RECORDS_MAX &&
		trace_view_init(&view, bytes,
			TRACE_HEAD_BYTES + head->record_count * sizeof(struct trace_record),
			NULL) == 0) {
		read_all(&view);
	}
	return 0;
}
