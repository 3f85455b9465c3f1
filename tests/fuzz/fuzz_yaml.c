/* SPDX-License-Identifier: Apache-2.0 */
/* The daemons' configuration.  What is accepted must hold what the table demands; what is refused
 * must say so. */
#include "base/bytes.h"
#include "daemon/config.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct config_key keys[] = {
	{"name", CONFIG_STRING, true, NULL, 1, 48, "the name"},
	{"log_level", CONFIG_STRING, false, "info", 1, 16, NULL},
	{"export.address", CONFIG_STRING, false, "0.0.0.0", 1, 64, NULL},
	{"export.port", CONFIG_UINT, false, "4431", 1, 65535, NULL},
	{"buffers", CONFIG_SIZE, false, "8M", 1 << 20, 0, "a size"},
	{"strict", CONFIG_BOOL, false, "true", 0, 0, NULL},
	{"pools[].name", CONFIG_STRING, true, NULL, 1, 63, NULL},
	{"pools[].disk", CONFIG_STRING, true, NULL, 1, 0, NULL},
	{"pools[].size", CONFIG_SIZE, false, "1G", 0, 0, NULL},
	{"hosts[]", CONFIG_STRING, false, NULL, 1, 0, NULL},
};

static void require(bool condition)
{
	if (!condition) {
		abort();
	}
}

static void check_accepted(const struct config *config)
{
	const char *name = config_string(config, "name");
	uint64_t port = config_number(config, "export.port");

	require(name != NULL && strlen(name) >= 1 && strlen(name) <= 48);
	require(port >= 1 && port <= 65535);
	require(config_number(config, "buffers") >= 1 << 20);
	(void)config_bool(config, "strict");
	for (unsigned i = 0; i < config_count(config, "pools"); i++) {
		require(config_string(config, "pools[%u].disk", i) != NULL);
		(void)config_number(config, "pools[%u].size", i);
	}
	for (unsigned i = 0; i < config_count(config, "hosts"); i++) {
		require(config_string(config, "hosts[%u]", i) != NULL);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct config *config = NULL;
	struct err err = {0};
	int result =
		config_parse("f", (const char *)data, size, keys, ARRAY_COUNT(keys), &config, &err);

	if (result == 0) {
		check_accepted(config);
		config_free(config);
	} else {
		require(err.code == result && err.text[0] != '\0');
	}
	return 0;
}
