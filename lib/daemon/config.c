/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/config.h"

#include "base/bytes.h"
#include "base/size.h"
#include "base/strbuf.h"
#include "daemon/expand.h"
#include "daemon/file.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#define FILE_BYTES_MAX (1024u * 1024)
#define PATH_SIZE      256
#define DEPTH_MAX      8
#define VALUES_MAX     4096

struct value {
	char *path;                   /* owned, with indexes */
	const struct config_key *key; /* NULL: a mapping in a list, or a list */
	char *text;                   /* owned */
	uint64_t number;
	size_t line, column;
	unsigned count; /* of a list */
};

struct config {
	char *name; /* owned */
	const struct config_key *keys;
	size_t key_count;
	struct value *values; /* owned */
	size_t value_count, value_capacity;
};

void config_free(struct config *config)
{
	if (config == NULL) {
		return;
	}
	for (size_t i = 0; i < config->value_count; i++) {
		free(config->values[i].path);
		free(config->values[i].text);
	}
	free(config->values);
	free(config->name);
	free(config);
}

static int no_memory(struct err *err)
{
	return err_set(err, -ENOMEM, "no memory for the configuration");
}

/* ---- paths ---- */

/* "pools[2].disk" and "pools[].disk" are the same but for the index. */
static bool path_matches(const char *path, const char *pattern)
{
	while (*path != '\0' && *path == *pattern) {
		if (*path++ == '[') {
			path += strspn(path, "0123456789");
		}
		pattern++;
	}
	return *path == *pattern;
}

static const struct config_key *find_key(const struct config *config, const char *path)
{
	for (size_t i = 0; i < config->key_count; i++) {
		if (path_matches(path, config->keys[i].path)) {
			return &config->keys[i];
		}
	}
	return NULL;
}

static const struct value *find_value(const struct config *config, const char *path)
{
	for (size_t i = 0; i < config->value_count; i++) {
		if (strcmp(config->values[i].path, path) == 0) {
			return &config->values[i];
		}
	}
	return NULL;
}

/* The pattern's rest when `path` (with indexes) leads to it, else NULL.  "" leads to everything. */
static const char *pattern_below(const char *path, const char *pattern)
{
	if (*path == '\0') {
		return pattern;
	}
	while (*path != '\0') {
		if (*path != *pattern) {
			return NULL;
		}
		if (*path++ == '[') {
			path += strspn(path, "0123456789");
		}
		pattern++;
	}
	return *pattern == '.' ? pattern + 1 : *pattern == '[' || *pattern == '\0' ? pattern : NULL;
}

/* The names that may stand in the mapping at `path`, as "a, b, c". */
static void list_known(const struct config *config, const char *path, struct strbuf *to)
{
	for (size_t i = 0; i < config->key_count; i++) {
		const char *rest = pattern_below(path, config->keys[i].path);
		size_t length = rest == NULL ? 0 : strcspn(rest, ".[");
		const char *before = i == 0 ? NULL : pattern_below(path, config->keys[i - 1].path);

		/* Keys of one mapping stand together in the table: each name is listed once. */
		if (length == 0 || (before != NULL && strcspn(before, ".[") == length &&
					   strncmp(before, rest, length) == 0)) {
			continue;
		}
		strbuf_append(to, to->length > 0 ? ", " : "");
		strbuf_append_bytes(to, rest, length);
	}
}

/* ---- errors with their place ---- */

__attribute__((format(printf, 4, 5))) static int refuse_at(const struct config *config,
	const yaml_mark_t *mark, struct err *err, const char *format, ...)
{
	char text[ERR_TEXT_MAX];
	va_list args;

	va_start(args, format);
	(void)vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	return err_set(err, -EINVAL, "%s:%zu:%zu: %s", config->name, mark->line + 1,
		mark->column + 1, text);
}

int config_refuse(
	const struct config *config, struct err *err, const char *path, const char *format, ...)
{
	const struct value *value = find_value(config, path);
	char text[ERR_TEXT_MAX];
	va_list args;

	va_start(args, format);
	(void)vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	if (value == NULL) {
		return err_set(err, -EINVAL, "%s: %s: %s", config->name, path, text);
	}
	return err_set(err, -EINVAL, "%s:%zu:%zu: %s: %s", config->name, value->line, value->column,
		path, text);
}

/* ---- values ---- */

/* 0 or -EINVAL with a text without place. */
static int parse_number(
	const struct config_key *key, const char *text, uint64_t *ret_number, struct err *err)
{
	char *end;

	if (key->type == CONFIG_SIZE) {
		int result = size_parse(text, ret_number, err);

		if (result < 0) {
			return result;
		}
	} else {
		errno = 0;
		*ret_number = strtoull(text, &end, 10);
		if (text[0] < '0' || text[0] > '9' || *end != '\0' || errno != 0) {
			return err_set(err, -EINVAL, "\"%.64s\" is no whole number", text);
		}
	}
	if (*ret_number < key->min || (key->max != 0 && *ret_number > key->max)) {
		return err_set(err, -EINVAL, "%s is out of range; allowed: %" PRIu64 " to %" PRIu64,
			text, key->min, key->max != 0 ? key->max : UINT64_MAX);
	}
	return 0;
}

static int check_value(
	const struct config_key *key, const char *text, uint64_t *ret_number, struct err *err)
{
	size_t length = strlen(text);

	*ret_number = 0;
	switch (key->type) {
	case CONFIG_STRING:
		if (length < key->min || (key->max != 0 && length > key->max)) {
			return err_set(
				err, -EINVAL, length == 0 ? "must not be empty" : "is too long");
		}
		return 0;
	case CONFIG_SIZE:
	case CONFIG_UINT:
		return parse_number(key, text, ret_number, err);
	case CONFIG_BOOL:
		*ret_number = strcmp(text, "true") == 0;
		return *ret_number == 1 || strcmp(text, "false") == 0
			       ? 0
			       : err_set(err, -EINVAL, "\"%.64s\" is neither true nor false", text);
	}
	return -EINVAL;
}

static struct value *new_value(
	struct config *config, const char *path, const char *text, const yaml_mark_t *mark)
{
	if (config->value_count == config->value_capacity) {
		size_t capacity = config->value_capacity * 2 + 16;
		struct value *values = realloc(config->values, capacity * sizeof(*values));

		if (values == NULL) {
			return NULL;
		}
		config->values = values;
		config->value_capacity = capacity;
	}
	struct value value = {.path = strdup(path),
		.text = text == NULL ? NULL : strdup(text),
		.line = mark->line + 1,
		.column = mark->column + 1};

	if (value.path == NULL || (text != NULL && value.text == NULL)) {
		free(value.path);
		free(value.text);
		return NULL;
	}
	config->values[config->value_count] = value;
	return &config->values[config->value_count++];
}

/* ---- walking the document ---- */

/* A node that is still to be looked at; a stack instead of recursion. */
struct visit {
	const yaml_node_t *node;
	char path[PATH_SIZE];
	unsigned depth;
};

struct walk {
	struct config *config;
	yaml_document_t *document;
	struct visit *visits; /* owned */
	size_t count, capacity;
};

static int push_visit(
	struct walk *walk, int node, const char *path, unsigned depth, struct err *err)
{
	const yaml_node_t *found = yaml_document_get_node(walk->document, node);

	if (depth > DEPTH_MAX || walk->count + walk->config->value_count >= VALUES_MAX) {
		/* Also where aliases make a circle or a bomb. */
		return refuse_at(walk->config, &found->start_mark, err,
			"nested too deeply, or too many values");
	}
	if (walk->count == walk->capacity) {
		size_t capacity = walk->capacity * 2 + 16;
		struct visit *visits = realloc(walk->visits, capacity * sizeof(*visits));

		if (visits == NULL) {
			return no_memory(err);
		}
		walk->visits = visits;
		walk->capacity = capacity;
	}
	struct visit *visit = &walk->visits[walk->count++];

	visit->node = found;
	visit->depth = depth;
	(void)snprintf(visit->path, sizeof(visit->path), "%s", path);
	return 0;
}

static bool leads_to_a_key(const struct config *config, const char *path)
{
	for (size_t i = 0; i < config->key_count; i++) {
		if (pattern_below(path, config->keys[i].path) != NULL) {
			return true;
		}
	}
	return false;
}

static int refuse_key(
	const struct walk *walk, const yaml_node_t *key, const char *parent, struct err *err)
{
	struct strbuf known;

	strbuf_init(&known);
	list_known(walk->config, parent, &known);
	int result = refuse_at(walk->config, &key->start_mark, err,
		"unknown key \"%.64s\"; known keys%s%s: %s",
		key->type == YAML_SCALAR_NODE ? (const char *)key->data.scalar.value
					      : "(not a name)",
		parent[0] != '\0' ? " in " : "", parent, strbuf_text(&known));

	strbuf_done(&known);
	return result;
}

static bool is_scalar_with_nul(const yaml_node_t *node)
{
	return node->type == YAML_SCALAR_NODE &&
	       strlen((const char *)node->data.scalar.value) != node->data.scalar.length;
}

static int visit_pair(
	struct walk *walk, const struct visit *visit, const yaml_node_pair_t *pair, struct err *err)
{
	const yaml_node_t *key = yaml_document_get_node(walk->document, pair->key);
	const char *dot = visit->path[0] != '\0' ? "." : "";
	char path[PATH_SIZE];

	if (key->type != YAML_SCALAR_NODE || is_scalar_with_nul(key) ||
		strpbrk((const char *)key->data.scalar.value, ".[") != NULL) {
		return refuse_key(walk, key, visit->path, err);
	}
	int length = snprintf(path, sizeof(path), "%s%s%s", visit->path, dot,
		(const char *)key->data.scalar.value);

	if ((size_t)length >= sizeof(path) || !leads_to_a_key(walk->config, path)) {
		return refuse_key(walk, key, visit->path, err);
	}
	for (const yaml_node_pair_t *before = visit->node->data.mapping.pairs.start; before < pair;
		before++) {
		const yaml_node_t *other = yaml_document_get_node(walk->document, before->key);

		if (other->type == YAML_SCALAR_NODE &&
			strcmp((const char *)other->data.scalar.value,
				(const char *)key->data.scalar.value) == 0) {
			return refuse_at(walk->config, &key->start_mark, err,
				"key \"%s\" is there twice", path);
		}
	}
	return push_visit(walk, pair->value, path, visit->depth + 1, err);
}

static int visit_mapping(struct walk *walk, const struct visit *visit, struct err *err)
{
	int result = 0;

	if (!leads_to_a_key(walk->config, visit->path) ||
		find_key(walk->config, visit->path) != NULL) {
		return refuse_at(walk->config, &visit->node->start_mark, err,
			"%s must not be a mapping", visit->path);
	}
	if (visit->path[0] != '\0' &&
		new_value(walk->config, visit->path, NULL, &visit->node->start_mark) == NULL) {
		return no_memory(err);
	}
	for (const yaml_node_pair_t *pair = visit->node->data.mapping.pairs.start;
		result == 0 && pair < visit->node->data.mapping.pairs.top; pair++) {
		result = visit_pair(walk, visit, pair, err);
	}
	return result;
}

static int visit_sequence(struct walk *walk, const struct visit *visit, struct err *err)
{
	char path[PATH_SIZE];
	unsigned count = 0;
	int result = 0;

	(void)snprintf(path, sizeof(path), "%.*s[]", (int)sizeof(path) - 3, visit->path);
	if (visit->path[0] == '\0' || !leads_to_a_key(walk->config, path)) {
		return refuse_at(walk->config, &visit->node->start_mark, err,
			"%s must not be a list",
			visit->path[0] != '\0' ? visit->path : "the configuration");
	}
	for (const yaml_node_item_t *item = visit->node->data.sequence.items.start;
		result == 0 && item < visit->node->data.sequence.items.top; item++, count++) {
		(void)snprintf(
			path, sizeof(path), "%.*s[%u]", (int)sizeof(path) - 16, visit->path, count);
		result = push_visit(walk, *item, path, visit->depth + 1, err);
	}
	if (result < 0) {
		return result;
	}
	struct value *value = new_value(walk->config, visit->path, NULL, &visit->node->start_mark);

	if (value == NULL) {
		return no_memory(err);
	}
	value->count = count;
	return 0;
}

/* The value as it is written, with its environment variables. */
static int take_value(struct walk *walk, const struct visit *visit, const struct config_key *key,
	const char *text, struct err *err)
{
	struct err why = {0};
	uint64_t number;

	if (check_value(key, text, &number, &why) < 0) {
		return refuse_at(walk->config, &visit->node->start_mark, err, "%s: %s%s%s",
			visit->path, why.text, key->help != NULL ? "; it is " : "",
			key->help != NULL ? key->help : "");
	}
	struct value *value = new_value(walk->config, visit->path, text, &visit->node->start_mark);

	if (value == NULL) {
		return no_memory(err);
	}
	value->key = key;
	value->number = number;
	return 0;
}

static int visit_scalar(struct walk *walk, const struct visit *visit, struct err *err)
{
	const struct config_key *key = find_key(walk->config, visit->path);
	const char *text = (const char *)visit->node->data.scalar.value;
	struct strbuf expanded;
	struct err why = {0};
	int result;

	if (key == NULL) {
		return refuse_at(walk->config, &visit->node->start_mark, err,
			"%s must be a mapping or a list%s",
			visit->path[0] != '\0' ? visit->path : "the configuration",
			text[0] == '\0' ? ", it is empty" : "");
	}
	if (is_scalar_with_nul(visit->node)) {
		return refuse_at(walk->config, &visit->node->start_mark, err,
			"%s holds a NUL character", visit->path);
	}
	strbuf_init(&expanded);
	result = expand(text, &expanded, &why);
	if (result < 0) {
		result = refuse_at(walk->config, &visit->node->start_mark, err, "%s: %s",
			visit->path, why.text);
	} else {
		result = take_value(walk, visit, key, strbuf_text(&expanded), err);
	}
	strbuf_done(&expanded);
	return result;
}

static int visit_next(struct walk *walk, struct err *err)
{
	struct visit visit = walk->visits[--walk->count];

	switch (visit.node->type) {
	case YAML_MAPPING_NODE:
		return visit_mapping(walk, &visit, err);
	case YAML_SEQUENCE_NODE:
		return visit_sequence(walk, &visit, err);
	case YAML_SCALAR_NODE:
		return visit_scalar(walk, &visit, err);
	case YAML_NO_NODE:
		break;
	}
	return err_set(err, -EINVAL, "%s: malformed document", walk->config->name);
}

static int walk_document(struct config *config, yaml_document_t *document, struct err *err)
{
	struct walk walk = {.config = config, .document = document};
	/* An empty file is an empty configuration. */
	int result = yaml_document_get_root_node(document) == NULL
			     ? 0
			     : push_visit(&walk, 1, "", 0, err);

	while (result == 0 && walk.count > 0) {
		result = visit_next(&walk, err);
	}
	free(walk.visits);
	return result;
}

/* ---- what is missing ---- */

static int check_required_in_list(
	const struct config *config, const struct config_key *key, struct err *err)
{
	char path[PATH_SIZE];
	size_t head = strcspn(key->path, "[");

	(void)snprintf(path, sizeof(path), "%.*s", (int)head, key->path);
	unsigned count = config_count(config, path);

	for (unsigned i = 0; i < count; i++) {
		(void)snprintf(path, sizeof(path), "%.*s[%u]%s", (int)head, key->path, i,
			key->path + head + 2);
		if (find_value(config, path) == NULL) {
			char item[PATH_SIZE];

			(void)snprintf(item, sizeof(item), "%.*s[%u]", (int)head, key->path, i);
			return config_refuse(config, err, item, "key \"%s\" is missing (%s)",
				key->path + head + 3, key->help != NULL ? key->help : "required");
		}
	}
	return 0;
}

static int check_required(const struct config *config, struct err *err)
{
	for (size_t i = 0; i < config->key_count; i++) {
		const struct config_key *key = &config->keys[i];
		int result = 0;

		if (!key->required) {
			continue;
		}
		if (strchr(key->path, '[') != NULL) {
			result = check_required_in_list(config, key, err);
		} else if (find_value(config, key->path) == NULL) {
			result = err_set(err, -EINVAL, "%s: key \"%s\" is missing (%s)",
				config->name, key->path,
				key->help != NULL ? key->help : "required");
		}
		if (result < 0) {
			return result;
		}
	}
	return 0;
}

/* ---- parsing ---- */

static int refuse_yaml(const struct config *config, const yaml_parser_t *parser, struct err *err)
{
	if (parser->error == YAML_MEMORY_ERROR) {
		return no_memory(err);
	}
	yaml_mark_t mark = parser->problem_mark;

	if (parser->error == YAML_READER_ERROR) {
		return err_set(err, -EINVAL, "%s: byte %zu: %s", config->name,
			parser->problem_offset,
			parser->problem != NULL ? parser->problem : "malformed");
	}
	return refuse_at(config, &mark, err, "%s%s%s",
		parser->context != NULL ? parser->context : "", parser->context != NULL ? ": " : "",
		parser->problem != NULL ? parser->problem : "malformed YAML");
}

static int parse_text(struct config *config, const char *text, size_t length, struct err *err)
{
	yaml_parser_t parser;
	yaml_document_t document, second;

	if (yaml_parser_initialize(&parser) == 0) {
		return no_memory(err);
	}
	yaml_parser_set_input_string(&parser, (const unsigned char *)text, length);
	if (yaml_parser_load(&parser, &document) == 0) {
		int result = refuse_yaml(config, &parser, err);

		yaml_parser_delete(&parser);
		return result;
	}
	int result = walk_document(config, &document, err);

	if (result == 0 && yaml_document_get_root_node(&document) != NULL) {
		if (yaml_parser_load(&parser, &second) == 0) {
			result = refuse_yaml(config, &parser, err);
		} else {
			const yaml_node_t *root = yaml_document_get_root_node(&second);

			if (root != NULL) {
				result = refuse_at(
					config, &root->start_mark, err, "a second document");
			}
			yaml_document_delete(&second);
		}
	}
	yaml_document_delete(&document);
	yaml_parser_delete(&parser);
	return result;
}

int config_parse(const char *name, const char *text, size_t length, const struct config_key *keys,
	size_t key_count, struct config **ret_config, struct err *err)
{
	struct config *config = calloc(1, sizeof(*config));

	if (config == NULL || (config->name = strdup(name)) == NULL) {
		free(config);
		return no_memory(err);
	}
	config->keys = keys;
	config->key_count = key_count;
	int result = parse_text(config, text, length, err);

	result = result < 0 ? result : check_required(config, err);
	if (result < 0) {
		config_free(config);
		return result;
	}
	*ret_config = config;
	return 0;
}

int config_load(const char *path, const struct config_key *keys, size_t key_count,
	struct config **ret_config, struct err *err)
{
	struct strbuf text;

	strbuf_init(&text);
	int result = file_read(path, FILE_BYTES_MAX, &text, err);

	if (result == 0) {
		result = config_parse(
			path, strbuf_text(&text), text.length, keys, key_count, ret_config, err);
	}
	strbuf_done(&text);
	return result;
}

/* ---- asking ---- */

__attribute__((format(printf, 3, 0))) static const struct config_key *look_up(
	const struct config *config, const struct value **ret_value, const char *format,
	va_list args)
{
	char path[PATH_SIZE];
	int length = vsnprintf(path, sizeof(path), format, args);

	assert(length > 0 && (size_t)length < sizeof(path));
	*ret_value = find_value(config, path);
	return find_key(config, path);
}

const char *config_string(const struct config *config, const char *path_format, ...)
{
	const struct value *value;
	va_list args;

	va_start(args, path_format);
	const struct config_key *key = look_up(config, &value, path_format, args);
	va_end(args);
	assert(key != NULL && key->type == CONFIG_STRING);
	return value != NULL ? value->text : key->fallback;
}

uint64_t config_number(const struct config *config, const char *path_format, ...)
{
	const struct value *value;
	uint64_t number = 0;
	va_list args;

	va_start(args, path_format);
	const struct config_key *key = look_up(config, &value, path_format, args);
	va_end(args);
	assert(key != NULL && (key->type == CONFIG_UINT || key->type == CONFIG_SIZE));
	if (value != NULL) {
		return value->number;
	}
	if (key->fallback != NULL) {
		int result = parse_number(key, key->fallback, &number, NULL);

		assert(result == 0);
	}
	return number;
}

bool config_bool(const struct config *config, const char *path_format, ...)
{
	const struct value *value;
	va_list args;

	va_start(args, path_format);
	const struct config_key *key = look_up(config, &value, path_format, args);
	va_end(args);
	assert(key != NULL && key->type == CONFIG_BOOL);
	return value != NULL ? value->number != 0
			     : key->fallback != NULL && strcmp(key->fallback, "true") == 0;
}

bool config_has(const struct config *config, const char *path_format, ...)
{
	const struct value *value;
	va_list args;

	va_start(args, path_format);
	(void)look_up(config, &value, path_format, args);
	va_end(args);
	return value != NULL;
}

unsigned config_count(const struct config *config, const char *list)
{
	const struct value *value = find_value(config, list);

	return value == NULL ? 0 : value->count;
}
