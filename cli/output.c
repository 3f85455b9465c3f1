/* SPDX-License-Identifier: Apache-2.0 */
/* Tables for people, JSON for programs. */
#include "base/size.h"
#include "cli/cli.h"

#include <jansson.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

/* ---- tables ---- */

struct table {
	unsigned columns;
	unsigned count; /* cells, with the headers */
	unsigned capacity;
	char **cells; /* owned */
};

static void add_cell(struct table *table, char *text)
{
	if (table->count == table->capacity) {
		unsigned capacity = table->capacity * 2 + 64;
		char **cells = realloc(table->cells, capacity * sizeof(*cells));

		if (cells == NULL) {
			abort();
		}
		table->cells = cells;
		table->capacity = capacity;
	}
	table->cells[table->count++] = text;
}

struct table *table_new(unsigned columns, const char *const headers[])
{
	struct table *table = calloc(1, sizeof(*table));

	if (table == NULL) {
		abort();
	}
	table->columns = columns;
	for (unsigned i = 0; i < columns; i++) {
		table_cell(table, "%s", headers[i]);
	}
	return table;
}

void table_cell(struct table *table, const char *format, ...)
{
	char *text = NULL;
	va_list args;

	va_start(args, format);
	if (vasprintf(&text, format, args) < 0) {
		abort();
	}
	va_end(args);
	add_cell(table, text);
}

void table_print(const struct table *table, FILE *to)
{
	for (unsigned at = 0; at < table->count; at++) {
		unsigned column = at % table->columns;
		size_t width = 0;

		for (unsigned other = column; other < table->count; other += table->columns) {
			size_t length = strlen(table->cells[other]);

			width = length > width ? length : width;
		}
		if (column == table->columns - 1) {
			(void)fprintf(to, "%s\n", table->cells[at]);
		} else {
			(void)fprintf(to, "%-*s  ", (int)width, table->cells[at]);
		}
	}
}

void table_free(struct table *table)
{
	for (unsigned i = 0; i < table->count; i++) {
		free(table->cells[i]);
	}
	free(table->cells);
	free(table);
}

const char *size_cell(uint64_t bytes, char text[32])
{
	return bytes == 0 ? "-" : size_to_text(bytes, text);
}

const char *text_cell(const char *text)
{
	return text[0] == '\0' ? "-" : text;
}

/* ---- JSON, by the messages' descriptors ---- */

static json_t *message_to_json(const ProtobufCMessage *message, unsigned depth);

static json_t *u64_to_json(uint64_t value)
{
	char text[24];

	if (value <= INT64_MAX) {
		return json_integer((json_int_t)value);
	}
	(void)snprintf(text, sizeof(text), "%llu", (unsigned long long)value);
	return json_string(text);
}

/* Only what proto/strake.proto uses. */
static json_t *value_to_json(const ProtobufCFieldDescriptor *field, const void *at, unsigned depth)
{
	if (field->type == PROTOBUF_C_TYPE_STRING) {
		return json_string(*(const char *const *)at);
	}
	if (field->type == PROTOBUF_C_TYPE_BOOL) {
		return json_boolean(*(const protobuf_c_boolean *)at);
	}
	if (field->type == PROTOBUF_C_TYPE_UINT32) {
		return json_integer(*(const uint32_t *)at);
	}
	if (field->type == PROTOBUF_C_TYPE_UINT64) {
		return u64_to_json(*(const uint64_t *)at);
	}
	if (field->type == PROTOBUF_C_TYPE_MESSAGE) {
		const ProtobufCMessage *message = *(const ProtobufCMessage *const *)at;

		return message == NULL ? json_null() : message_to_json(message, depth - 1);
	}
	abort();
}

static size_t element_bytes(const ProtobufCFieldDescriptor *field)
{
	return field->type == PROTOBUF_C_TYPE_UINT32   ? sizeof(uint32_t)
	       : field->type == PROTOBUF_C_TYPE_BOOL   ? sizeof(protobuf_c_boolean)
	       : field->type == PROTOBUF_C_TYPE_UINT64 ? sizeof(uint64_t)
						       : sizeof(void *);
}

static json_t *message_to_json(const ProtobufCMessage *message, unsigned depth)
{
	json_t *object = json_object();

	if (depth == 0) {
		abort();
	}
	for (unsigned i = 0; i < message->descriptor->n_fields; i++) {
		const ProtobufCFieldDescriptor *field = &message->descriptor->fields[i];
		const char *at = (const char *)message + field->offset;
		json_t *value;

		if (field->label == PROTOBUF_C_LABEL_REPEATED) {
			size_t count = *(const size_t *)(const void *)((const char *)message +
								       field->quantifier_offset);
			const char *elements = *(const char *const *)(const void *)at;

			value = json_array();
			for (size_t j = 0; j < count; j++) {
				(void)json_array_append_new(
					value, value_to_json(field,
						       elements + j * element_bytes(field), depth));
			}
		} else {
			value = value_to_json(field, at, depth);
		}
		(void)json_object_set_new(object, field->name, value);
	}
	return object;
}

static void print_json(json_t *json, FILE *to)
{
	if (json == NULL || json_dumpf(json, to, JSON_INDENT(2)) < 0) {
		abort();
	}
	(void)fputc('\n', to);
	json_decref(json);
}

void json_print_message(const ProtobufCMessage *message, FILE *to)
{
	print_json(message_to_json(message, 8), to);
}

void json_print_daemons(const struct daemon *daemons, size_t count, FILE *to)
{
	json_t *array = json_array();

	for (size_t i = 0; i < count; i++) {
		const struct daemon *daemon = &daemons[i];
		bool is_agent = daemon->kind == DAEMON_AGENT;
		json_t *object = json_object();
		json_t *fields =
			message_to_json(is_agent ? &daemon->agent->base : &daemon->nexus->base, 8);

		(void)json_object_set_new(object, "name", json_string(daemon->name));
		(void)json_object_set_new(
			object, "kind", json_string(is_agent ? "pool-agent" : "nexus"));
		(void)json_object_update(object, fields);
		json_decref(fields);
		(void)json_array_append_new(array, object);
	}
	print_json(array, to);
}

void json_print_messages(const ProtobufCMessage *const *messages, size_t count, FILE *to)
{
	json_t *array = json_array();

	for (size_t i = 0; i < count; i++) {
		(void)json_array_append_new(array, message_to_json(messages[i], 8));
	}
	print_json(array, to);
}
