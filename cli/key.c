/* SPDX-License-Identifier: Apache-2.0 */
#include "base/hex.h"
#include "cli/cli.h"
#include "repl/capability.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

static int read_secret(const char *path, uint8_t ret_secret[CAPABILITY_SECRET_SIZE])
{
	char text[HEX_TEXT_SIZE(CAPABILITY_SECRET_SIZE) + 2] = "";
	struct stat st;
	FILE *file = fopen(path, "re");

	if (file == NULL || fstat(fileno(file), &st) < 0) {
		int result = cli_fail("--key-file %s: %s", path, err_describe(errno));

		if (file != NULL) {
			(void)fclose(file);
		}
		return result;
	}
	size_t length = fread(text, 1, sizeof(text) - 1, file);

	(void)fclose(file);
	if (length > 0 && text[length - 1] == '\n') {
		text[length - 1] = '\0';
	}
	if (hex_parse(text, ret_secret, CAPABILITY_SECRET_SIZE) < 0) {
		return cli_fail(
			"--key-file %s: not 64 hexadecimal digits; (umask 077; openssl rand -hex "
			"32 >FILE) makes such a file",
			path);
	}
	if ((st.st_mode & (S_IRWXG | S_IRWXO)) != 0) {
		return cli_fail("--key-file %s: others may read it; chmod 600 it first", path);
	}
	return 0;
}

int cli_volume_key(const struct args *args, const char *volume_uuid, struct volume_key *ret_key)
{
	uint8_t master[CAPABILITY_SECRET_SIZE];
	struct uuid volume;

	*ret_key = (struct volume_key){0};
	if (args->key_file == NULL) {
		if (args->key_number != 0) {
			(void)cli_fail("--key-number needs --key-file");
			return EXIT_USAGE;
		}
		return 0;
	}
	if (args->key_number > UINT16_MAX || uuid_parse(volume_uuid, &volume) < 0) {
		(void)cli_fail("--key-number: at most %d", UINT16_MAX);
		return EXIT_USAGE;
	}
	int result = read_secret(args->key_file, master);

	if (result == 0) {
		volume_key_derive(master, &volume,
			(uint16_t)(args->key_number == 0 ? 1 : args->key_number), ret_key);
	}
	return result;
}
