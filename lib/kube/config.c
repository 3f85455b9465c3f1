/* SPDX-License-Identifier: Apache-2.0 */
#include "kube/config.h"

#include "kube/internal.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <yaml.h>

#define FILE_BYTES_MAX (1024u * 1024)

void kube_config_done(struct kube_config *config)
{
	char **texts[] = {&config->server, &config->tls_server_name, &config->proxy_url,
		&config->ca_file, &config->ca_pem, &config->cert_file, &config->cert_pem,
		&config->key_file, &config->key_pem, &config->token, &config->token_file};

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		if (*texts[i] != NULL) {
			explicit_bzero(*texts[i], strlen(*texts[i]));
		}
		free(*texts[i]);
	}
	*config = (struct kube_config){0};
}

/* ---- texts ---- */

/* Printable ASCII only: it becomes part of a header. */
static bool is_plain(const char *text)
{
	for (; *text != '\0'; text++) {
		if (*text <= ' ' || *text > '~') {
			return false;
		}
	}
	return true;
}

int kube_token_check(char *token, const char *name, struct err *err)
{
	size_t length = strlen(token);

	while (length > 0 && strchr(" \t\r\n", token[length - 1]) != NULL) {
		token[--length] = '\0';
	}
	if (length == 0 || !is_plain(token)) {
		return err_set(err, -EINVAL, "%s: %s", name,
			length == 0 ? "the token is empty" : "that is no token");
	}
	return 0;
}

static int base64_value(char c)
{
	static const char letters[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	const char *at = c == '\0' ? NULL : strchr(letters, c);

	return at == NULL ? -1 : (int)(at - letters);
}

/* NULL: no base64, or its bytes are no text. */
static char *decode_base64(const char *text)
{
	char *decoded = malloc(strlen(text) / 4 * 3 + 4);
	size_t length = 0;
	uint32_t bits = 0;
	unsigned count = 0;

	if (decoded == NULL) {
		return NULL;
	}
	for (; *text != '\0' && *text != '='; text++) {
		int value = base64_value(*text);

		if (value < 0 && strchr(" \t\r\n", *text) != NULL) {
			continue;
		}
		if (value < 0) {
			free(decoded);
			return NULL;
		}
		bits = bits << 6 | (uint32_t)value;
		count += 6;
		if (count >= 8) {
			count -= 8;
			decoded[length++] = (char)(bits >> count & 0xff);
		}
	}
	decoded[length] = '\0';
	if (text[strspn(text, "= \t\r\n")] != '\0' || strlen(decoded) != length || length == 0) {
		free(decoded);
		return NULL;
	}
	return decoded;
}

static char *join_path(const char *folder, const char *path)
{
	char *joined = NULL;

	if (path[0] == '/') {
		return strdup(path);
	}
	return asprintf(&joined, "%s/%s", folder, path) < 0 ? NULL : joined;
}

/* ---- YAML ---- */

struct parse {
	const char *name, *folder; /* borrowed */
	yaml_document_t document;
	struct err *err;
};

static const yaml_node_t *member(struct parse *parse, const yaml_node_t *mapping, const char *key)
{
	if (mapping == NULL || mapping->type != YAML_MAPPING_NODE) {
		return NULL;
	}
	for (const yaml_node_pair_t *pair = mapping->data.mapping.pairs.start;
		pair < mapping->data.mapping.pairs.top; pair++) {
		const yaml_node_t *name = yaml_document_get_node(&parse->document, pair->key);

		if (name != NULL && name->type == YAML_SCALAR_NODE &&
			strcmp((const char *)name->data.scalar.value, key) == 0) {
			return yaml_document_get_node(&parse->document, pair->value);
		}
	}
	return NULL;
}

/* NULL: not there, empty, or no text. */
static const char *text_of(const yaml_node_t *node)
{
	if (node == NULL || node->type != YAML_SCALAR_NODE || node->data.scalar.length == 0 ||
		strlen((const char *)node->data.scalar.value) != node->data.scalar.length) {
		return NULL;
	}
	return (const char *)node->data.scalar.value;
}

static const char *member_text(struct parse *parse, const yaml_node_t *mapping, const char *key)
{
	return text_of(member(parse, mapping, key));
}

/* What `kind` ("cluster") is in the item of that name of the list `kind`s. */
static const yaml_node_t *find_named(
	struct parse *parse, const yaml_node_t *root, const char *kind, const char *wanted)
{
	char list_name[16];

	(void)snprintf(list_name, sizeof(list_name), "%ss", kind);
	const yaml_node_t *list = member(parse, root, list_name);

	if (list == NULL || list->type != YAML_SEQUENCE_NODE) {
		return NULL;
	}
	for (const yaml_node_item_t *item = list->data.sequence.items.start;
		item < list->data.sequence.items.top; item++) {
		const yaml_node_t *node = yaml_document_get_node(&parse->document, *item);
		const char *name = member_text(parse, node, "name");

		if (name != NULL && strcmp(name, wanted) == 0) {
			return member(parse, node, kind);
		}
	}
	return NULL;
}

static int no_memory(struct err *err)
{
	return err_set(err, -ENOMEM, "no memory for the kubeconfig");
}

/* Takes `KEY` (a file) or `KEY-data` (its text in base64, which comes first). */
static int take_file(struct parse *parse, const yaml_node_t *mapping, const char *key,
	char **ret_file, char **ret_text)
{
	char data_key[64];

	(void)snprintf(data_key, sizeof(data_key), "%s-data", key);
	const char *data = member_text(parse, mapping, data_key);
	const char *file = member_text(parse, mapping, key);

	if (data != NULL) {
		*ret_text = decode_base64(data);
		return *ret_text != NULL ? 0
					 : err_set(parse->err, -EINVAL, "%s: %s is no base64",
						   parse->name, data_key);
	}
	if (file != NULL) {
		*ret_file = join_path(parse->folder, file);
		return *ret_file != NULL ? 0 : no_memory(parse->err);
	}
	return 0;
}

static int take_text(
	struct parse *parse, const yaml_node_t *mapping, const char *key, char **ret_text)
{
	const char *text = member_text(parse, mapping, key);

	if (text == NULL) {
		return 0;
	}
	if (!is_plain(text)) {
		return err_set(parse->err, -EINVAL,
			"%s: %s holds a character that must not be there", parse->name, key);
	}
	*ret_text = strdup(text);
	return *ret_text != NULL ? 0 : no_memory(parse->err);
}

static int take_cluster(struct parse *parse, const yaml_node_t *cluster, struct kube_config *config)
{
	const char *insecure = member_text(parse, cluster, "insecure-skip-tls-verify");
	int result = take_text(parse, cluster, "server", &config->server);

	if (result == 0 && (config->server == NULL ||
				   (strncmp(config->server, "https://", 8) != 0 &&
					   strncmp(config->server, "http://", 7) != 0) ||
				   strpbrk(strchr(config->server, ':') + 3, "?#@") != NULL ||
				   strchr("/", strchr(config->server, ':')[3]) != NULL)) {
		result = err_set(parse->err, -EINVAL,
			"%s: the cluster's server must be like https://host:6443", parse->name);
	}
	if (result < 0) {
		return result;
	}
	size_t length = strlen(config->server);

	while (config->server[length - 1] == '/') {
		config->server[--length] = '\0';
	}
	config->insecure = insecure != NULL && strcmp(insecure, "true") == 0;
	result = take_text(parse, cluster, "tls-server-name", &config->tls_server_name);
	if (result == 0) {
		result = take_text(parse, cluster, "proxy-url", &config->proxy_url);
	}
	if (result == 0) {
		result = take_file(
			parse, cluster, "certificate-authority", &config->ca_file, &config->ca_pem);
	}
	return result;
}

static int take_user(struct parse *parse, const yaml_node_t *user, struct kube_config *config)
{
	static const char *const unknown[] = {"exec", "auth-provider", "username"};
	const char *file = member_text(parse, user, "tokenFile");

	for (size_t i = 0; i < sizeof(unknown) / sizeof(unknown[0]); i++) {
		if (member(parse, user, unknown[i]) != NULL) {
			return err_set(parse->err, -EINVAL,
				"%s: the user has \"%s\"; known are token, tokenFile and client "
				"certificates",
				parse->name, unknown[i]);
		}
	}
	int result =
		take_file(parse, user, "client-certificate", &config->cert_file, &config->cert_pem);

	if (result == 0) {
		result = take_file(parse, user, "client-key", &config->key_file, &config->key_pem);
	}
	if (result == 0 && (config->cert_file != NULL || config->cert_pem != NULL) !=
				   (config->key_file != NULL || config->key_pem != NULL)) {
		result = err_set(parse->err, -EINVAL,
			"%s: the user must have both client-certificate and client-key, or neither",
			parse->name);
	}
	/* As kubectl: the file has precedence. */
	if (result == 0 && file != NULL) {
		config->token_file = join_path(parse->folder, file);
		result = config->token_file != NULL ? 0 : no_memory(parse->err);
	} else if (result == 0) {
		result = take_text(parse, user, "token", &config->token);
	}
	return result;
}

static int refuse_missing(struct parse *parse, const char *kind, const char *name)
{
	return err_set(
		parse->err, -EINVAL, "%s: there is no %s \"%.64s\"", parse->name, kind, name);
}

static int take_document(struct parse *parse, struct kube_config *config)
{
	const yaml_node_t *root = yaml_document_get_root_node(&parse->document);
	const char *current = member_text(parse, root, "current-context");

	if (current == NULL) {
		return err_set(parse->err, -EINVAL, "%s: it has no current-context", parse->name);
	}
	const yaml_node_t *context = find_named(parse, root, "context", current);

	if (context == NULL) {
		return refuse_missing(parse, "context", current);
	}
	const char *cluster_name = member_text(parse, context, "cluster");
	const yaml_node_t *cluster =
		cluster_name == NULL ? NULL : find_named(parse, root, "cluster", cluster_name);

	if (cluster == NULL) {
		return refuse_missing(parse, "cluster", cluster_name != NULL ? cluster_name : "");
	}
	const char *user_name = member_text(parse, context, "user");
	const yaml_node_t *user =
		user_name == NULL ? NULL : find_named(parse, root, "user", user_name);

	if (user == NULL && user_name != NULL) {
		return refuse_missing(parse, "user", user_name);
	}
	int result = take_cluster(parse, cluster, config);

	return result == 0 && user != NULL ? take_user(parse, user, config) : result;
}

int kube_config_parse(const char *name, const char *folder, const char *text, size_t length,
	struct kube_config *ret_config, struct err *err)
{
	struct parse parse = {.name = name, .folder = folder, .err = err};
	yaml_parser_t parser;

	*ret_config = (struct kube_config){0};
	if (yaml_parser_initialize(&parser) == 0) {
		return no_memory(err);
	}
	yaml_parser_set_input_string(&parser, (const unsigned char *)text, length);
	if (yaml_parser_load(&parser, &parse.document) == 0) {
		int result = err_set(err, -EINVAL, "%s: line %zu: %s", name,
			parser.problem_mark.line + 1,
			parser.problem != NULL ? parser.problem : "malformed YAML");

		yaml_parser_delete(&parser);
		return result;
	}
	int result = take_document(&parse, ret_config);

	yaml_document_delete(&parse.document);
	yaml_parser_delete(&parser);
	if (result < 0) {
		kube_config_done(ret_config);
	}
	return result;
}

int kube_config_load(const char *path, struct kube_config *ret_config, struct err *err)
{
	struct strbuf text;
	const char *slash = strrchr(path, '/');

	strbuf_init(&text);
	int result = kube_file_read(path, FILE_BYTES_MAX, &text, err);
	char *folder = slash == NULL ? strdup(".") : strndup(path, (size_t)(slash - path));

	if (result == 0) {
		result = folder == NULL ? no_memory(err)
					: kube_config_parse(path, folder, strbuf_text(&text),
						  text.length, ret_config, err);
	}
	free(folder);
	if (text.text != NULL) {
		explicit_bzero(text.text, text.length);
	}
	strbuf_done(&text);
	return result;
}

int kube_config_in_cluster(const char *folder, struct kube_config *ret_config, struct err *err)
{
	const char *host = getenv("KUBERNETES_SERVICE_HOST");
	const char *port = getenv("KUBERNETES_SERVICE_PORT");
	struct kube_config config = {0};
	bool is_six = host != NULL && strchr(host, ':') != NULL;

	if (host == NULL || port == NULL || !is_plain(host) || !is_plain(port)) {
		return err_set(err, -ENOENT,
			"KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set: this is "
			"no pod, give a kubeconfig");
	}
	if (asprintf(&config.server, "https://%s%s%s:%s", is_six ? "[" : "", host,
		    is_six ? "]" : "", port) < 0) {
		config.server = NULL;
	}
	config.token_file = join_path(folder, "token");
	config.ca_file = join_path(folder, "ca.crt");
	if (config.server == NULL || config.token_file == NULL || config.ca_file == NULL) {
		kube_config_done(&config);
		return no_memory(err);
	}
	if (access(config.ca_file, R_OK) < 0) {
		int result = err_set(err, -errno, "%s: %s", config.ca_file, err_describe(errno));

		kube_config_done(&config);
		return result;
	}
	*ret_config = config;
	return 0;
}
