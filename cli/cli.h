/* SPDX-License-Identifier: Apache-2.0 */
/* strake: drives the daemons of this machine over their sockets. */
#ifndef CLI_CLI_H
#define CLI_CLI_H

#include "api/strake.pb-c.h"
#include "base/err.h"
#include "base/uuid.h"
#include "grpc/grpc.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#define EXIT_USAGE 2

#define NAMES_MAX   64  /* of an option that may be repeated */
#define DAEMONS_MAX 256 /* sockets in the run folder */

enum output { OUTPUT_TABLE, OUTPUT_WIDE, OUTPUT_JSON };

struct names {
	unsigned count;
	const char *names[NAMES_MAX]; /* borrowed from argv */
};

struct args {
	const char *run_dir;
	enum output output;
	const char *name;   /* the positional argument behind noun and verb, or NULL */
	const char *second; /* and the one behind it, or NULL */
	uint64_t size_bytes;
	bool has_size;
	const char *disk;
	bool wipe;
	bool overcommit;
	struct names agents;
	struct names pools;
	struct names locals;
	struct names voters;
	struct uuid uuid; /* of the volume */
	bool has_uuid;
	bool arbiter;
	bool keep_replicas;
	const char *nexus;
	const char *volume;
	const char *frontend;
	unsigned replicas;
	unsigned min_insync;
	unsigned no_quorum_s; /* 0: stall */
	bool has_no_quorum;
	unsigned attach;
	const char *key_file; /* NULL: none */
	unsigned key_number;  /* 0: 1 */
	bool force;
	bool forget;
	bool accept_data_loss;
	bool half_rebuilt;
	bool read_only;
	bool wait;
	bool previous;
	bool follow;
	unsigned timeout_s;
};

enum daemon_kind { DAEMON_AGENT, DAEMON_NEXUS };

struct daemon {
	enum daemon_kind kind;
	char name[64]; /* the socket's, without ".sock" */
	char path[256];
	struct grpc_client *client;
	Strake__V1__Agent *agent;     /* of an agent; owned */
	Strake__V1__NexusInfo *nexus; /* of a nexus; owned */
};

struct cli {
	struct args args;
	bool discovered;
	unsigned daemon_count;
	struct daemon *daemons; /* owned, DAEMONS_MAX */
};

/* ---- daemons.c ---- */

/* Asks every socket of the run folder what it is; those that do not answer are named on standard
 * error.  0, or -1 after an error text. */
int cli_discover(struct cli *cli) __must_check;
void cli_done(struct cli *cli);
/* The n-th daemon of a kind, NULL behind the last. */
struct daemon *cli_daemon(struct cli *cli, enum daemon_kind kind, unsigned n);
struct daemon *cli_find_agent(struct cli *cli, const char *uuid);
/* The one that --agent or --nexus names, or the only one; NULL after an error text. */
struct daemon *cli_choose_agent(struct cli *cli);
struct daemon *cli_choose_nexus(struct cli *cli);
/* The nexus that has the volume; *ret_volume is freed with protobuf_c_message_free_unpacked. */
struct daemon *cli_find_volume(struct cli *cli, const char *name, Strake__V1__Volume **ret_volume);
/* One call; the answer or NULL with `err` filled in. */
void *cli_call(struct daemon *daemon, const char *method, const ProtobufCMessage *request,
	struct err *err);
void cli_free(void *message);
void cli_pause_ms(unsigned ms);

/* "strake: ..." on standard error; returns 1, the exit code. */
int cli_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* ---- key.c ---- */

struct volume_key;
/* The volume's key from the master secret in --key-file; without that number 0.  0, or an exit code
 * after an error text. */
int cli_volume_key(const struct args *args, const char *volume_uuid, struct volume_key *ret_key);

/* ---- output.c ---- */

struct table;
struct table *table_new(unsigned columns, const char *const headers[]);
/* Cells in order; each is copied. */
void table_cell(struct table *table, const char *format, ...) __attribute__((format(printf, 2, 3)));
void table_print(const struct table *table, FILE *to);
void table_free(struct table *table);

/* A message, or an array of them, as JSON.  Unset fields are there with their zero values. */
void json_print_message(const ProtobufCMessage *message, FILE *to);
void json_print_messages(const ProtobufCMessage *const *messages, size_t count, FILE *to);
/* The daemons with the names of their sockets and their kinds, which their own messages lack. */
void json_print_daemons(const struct daemon *daemons, size_t count, FILE *to);

/* "12.5M", and "-" for 0. */
const char *size_cell(uint64_t bytes, char text[32]);
const char *text_cell(const char *text); /* "-" for "" */

/* ---- commands: the exit code ---- */

int pool_create(struct cli *cli);
int pool_list(struct cli *cli);
int pool_show(struct cli *cli);
int pool_delete(struct cli *cli);
int replica_list(struct cli *cli);
int replica_show(struct cli *cli);
int replica_create(struct cli *cli);
int replica_delete(struct cli *cli);
int replica_set_key(struct cli *cli);
int replica_export(struct cli *cli);
int replica_unexport(struct cli *cli);
int volume_create(struct cli *cli);
int volume_open(struct cli *cli);
int volume_set(struct cli *cli);
int volume_publish(struct cli *cli);
int volume_status(struct cli *cli);
int volume_list(struct cli *cli);
int volume_unpublish(struct cli *cli);
int volume_close(struct cli *cli);
int volume_delete(struct cli *cli);
int volume_compare(struct cli *cli);
int volume_add_replica(struct cli *cli);
int volume_remove_replica(struct cli *cli);
int volume_move_replica(struct cli *cli);
int volume_resize(struct cli *cli);
int snapshot_create(struct cli *cli);
int snapshot_list(struct cli *cli);
int volume_recover(struct cli *cli);
int volume_scan(struct cli *cli);
int volume_import(struct cli *cli);
int daemon_list(struct cli *cli);
int daemon_trace(struct cli *cli);

#endif
