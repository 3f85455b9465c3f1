/* SPDX-License-Identifier: Apache-2.0 */
/* Snapshots of volumes. */
#include "base/bytes.h"
#include "cli/cli.h"

#include <inttypes.h>

static void print_snapshots(struct cli *cli, const Strake__V1__Volume *volume)
{
	static const char *const headers[] = {"NUMBER", "ID"};
	struct table *table;

	if (cli->args.output == OUTPUT_JSON) {
		json_print_message(&volume->base, stdout);
		return;
	}
	table = table_new(ARRAY_COUNT(headers), headers);
	for (uint64_t number = 1; number <= volume->snapshots; number++) {
		table_cell(table, "%" PRIu64, number);
		/* Of older ones only the replicas know it. */
		table_cell(table, "%s", number == volume->snapshots ? volume->last_snapshot : "-");
	}
	table_print(table, stdout);
	table_free(table);
}

static void print_made(struct cli *cli, const Strake__V1__Snapshot *snapshot)
{
	static const char *const headers[] = {"NUMBER", "ID", "REPLICAS", "READY"};
	struct table *table;

	if (cli->args.output == OUTPUT_JSON) {
		json_print_message(&snapshot->base, stdout);
		return;
	}
	table = table_new(ARRAY_COUNT(headers), headers);
	table_cell(table, "%" PRIu64, snapshot->number);
	table_cell(table, "%s", snapshot->id);
	table_cell(table, "%zu", snapshot->n_replicas);
	table_cell(table, "%s", snapshot->ready ? "yes" : "no");
	table_print(table, stdout);
	table_free(table);
}

int snapshot_create(struct cli *cli)
{
	Strake__V1__CreateSnapshotRequest request = STRAKE__V1__CREATE_SNAPSHOT_REQUEST__INIT;
	Strake__V1__Volume *volume = NULL;
	Strake__V1__Snapshot *snapshot;
	struct err err = {0};
	struct daemon *nexus = cli_find_volume(cli, cli->args.name, &volume);

	if (nexus == NULL) {
		return 1;
	}
	cli_free(volume);
	request.name = (char *)(uintptr_t)cli->args.name;
	request.snapshot = (char *)(uintptr_t)cli->args.second;
	snapshot = cli_call(nexus, "CreateSnapshot", &request.base, &err);
	if (snapshot == NULL) {
		return cli_fail("%s: %s", nexus->name, err.text);
	}
	print_made(cli, snapshot);
	cli_free(snapshot);
	return 0;
}

int snapshot_list(struct cli *cli)
{
	Strake__V1__Volume *volume = NULL;
	struct daemon *nexus = cli_find_volume(cli, cli->args.name, &volume);

	if (nexus == NULL) {
		return 1;
	}
	print_snapshots(cli, volume);
	cli_free(volume);
	return 0;
}
