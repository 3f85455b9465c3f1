/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rpc SOCKET Service/Method [field=value...]: one call of proto/strake.proto with plain fields; the
 * answer as JSON on standard output, or an error and its text on standard error.
 */
#include "cli/cli.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define CALL_MS 60000u

static const ProtobufCServiceDescriptor *const services[] = {
	&strake__v1__pool_agent__descriptor,
	&strake__v1__nexus__descriptor,
};

static bool find_method(const char *name, struct grpc_method *ret_method, char path[128])
{
	const char *slash = strchr(name, '/');

	for (size_t i = 0; slash != NULL && i < sizeof(services) / sizeof(services[0]); i++) {
		size_t length = (size_t)(slash - name);
		const ProtobufCMethodDescriptor *method;

		if (strncmp(services[i]->short_name, name, length) != 0 ||
			services[i]->short_name[length] != '\0') {
			continue;
		}
		method = protobuf_c_service_descriptor_get_method_by_name(services[i], slash + 1);
		if (method != NULL) {
			(void)snprintf(path, 128, "/strake.v1.%s", name);
			*ret_method = (struct grpc_method){
				.path = path, .request = method->input, .response = method->output};
			return true;
		}
	}
	return false;
}

static bool set_field(ProtobufCMessage *message, char *argument)
{
	char *equals = strchr(argument, '=');
	const ProtobufCFieldDescriptor *field;
	unsigned char *at;

	if (equals == NULL) {
		return false;
	}
	*equals = '\0';
	field = protobuf_c_message_descriptor_get_field_by_name(message->descriptor, argument);
	if (field == NULL || field->label == PROTOBUF_C_LABEL_REPEATED) {
		return false;
	}
	at = (unsigned char *)message + field->offset;
	if (field->type == PROTOBUF_C_TYPE_STRING) {
		*(char **)(void *)at = equals + 1;
	} else if (field->type == PROTOBUF_C_TYPE_UINT64) {
		*(uint64_t *)(void *)at = strtoull(equals + 1, NULL, 10);
	} else if (field->type == PROTOBUF_C_TYPE_UINT32) {
		*(uint32_t *)(void *)at = (uint32_t)strtoul(equals + 1, NULL, 10);
	} else if (field->type == PROTOBUF_C_TYPE_BOOL) {
		*(protobuf_c_boolean *)(void *)at = strcmp(equals + 1, "true") == 0;
	} else {
		return false;
	}
	return true;
}

static int call(const char *socket, const struct grpc_method *method, ProtobufCMessage *request)
{
	ProtobufCMessage *response = NULL;
	struct grpc_client *client;
	struct err err = {0};
	int result = grpc_client_new(socket, 5000, &client, &err);

	if (result == 0) {
		result = grpc_client_call(client, method, request, CALL_MS, &response, &err);
		grpc_client_free(client);
	}
	if (result < 0) {
		(void)fprintf(stderr, "%s: %s\n", err_name(result), err.text);
		return 1;
	}
	json_print_message(response, stdout);
	cli_free(response);
	return 0;
}

int main(int argc, char **argv)
{
	struct grpc_method method;
	ProtobufCMessage *request;
	char path[128];
	int result;

	if (argc < 3 || !find_method(argv[2], &method, path)) {
		(void)fputs("usage: rpc SOCKET Service/Method [field=value...]\n", stderr);
		return 2;
	}
	request = calloc(1, method.request->sizeof_message);
	if (request == NULL) {
		return 1;
	}
	method.request->message_init(request);
	for (int i = 3; i < argc; i++) {
		if (!set_field(request, argv[i])) {
			(void)fprintf(stderr, "%s has no field as in %s\n", method.request->name,
				argv[i]);
			free(request);
			return 2;
		}
	}
	result = call(argv[1], &method, request);
	free(request);
	return result;
}
