/* SPDX-License-Identifier: Apache-2.0 */
/* A pool-agent with one pool in a simulated world, and hosts that send it commands one by one.  For
 * tests. */
#ifndef POOL_AGENT_TESTING_WORLD_H
#define POOL_AGENT_TESTING_WORLD_H

#include "base/testing.h"
#include "nvmeh/nvmeh.h"
#include "pool-agent/agent.h"
#include "repl/wire.h"
#include "simio/simio.h"

#define WORLD_REPLICA_BYTES (UINT64_C(64) << 20)
#define WORLD_REGION_BYTES  (UINT64_C(4) << 20)

struct world {
	struct sim *sim;
	struct sim_host *agent_host, *nexus_host;
	struct sim_disk *disk;
	struct sim_process *agent_process, *nexus_process;
	struct io_disk *handle;
	struct store *store;
	struct agent *agent;
	struct store_replica *replica, *arbiter;
	struct uuid replica_id, arbiter_id;
	uint32_t nsid, arbiter_nsid;
	bool flag;
};

int world_setup(void **state);
int world_teardown(void **state);
/* The agent ends in order or crashes, and starts again on the same pool. */
void world_stop_agent(struct world *world);
void world_start_agent(struct world *world);
void world_crash_agent(struct world *world);
struct store_replica *world_create_replica(
	struct world *world, enum voter_kind kind, const char *name, struct uuid *ret_id);

/* One association. */
struct host {
	struct world *world;
	struct nvmeh *assoc;
	bool ready, failed, closed;
	char reason[256];
};

/* `number` goes into the host's NQN. */
struct uuid host_uuid(unsigned number);
void host_start(struct host *host, struct world *world, unsigned number);
void host_connect(struct host *host, struct world *world, const char *subnqn, const char *hostnqn);
void host_close(struct host *host);
void world_subnqn(char nqn[NVME_NQN_SIZE]);

/* One command with room for its data. */
struct command {
	struct nvmeh_cmd cmd;
	struct iovec iov;
	bool done;
	uint8_t data[1 << 16] __attribute__((aligned(4096)));
};

void command_send(struct host *host, struct command *command, uint32_t length);
void command_wait(struct host *host, struct command *command);
/* Both; returns the status. */
uint16_t command_run(struct host *host, struct command *command, uint32_t length);

struct token token_make(uint32_t attach, uint32_t inc, uint32_t session);
/* FENCE of one namespace, then its state; returns the state's status. */
uint32_t host_fence(
	struct host *host, const struct token *token, struct wire_voter_state *ret_state);
uint32_t host_fence_replica(struct host *host, uint32_t nsid, const struct uuid *id,
	const struct token *token, struct wire_voter_state *ret_state);
void fence_prepare(
	struct command *command, uint32_t nsid, const struct uuid *id, const struct token *token);
uint16_t host_voter_state(struct host *host, uint32_t nsid, struct wire_voter_state *ret_state);
/* A configuration of the replica and the arbiter with S = {replica} if insync. */
struct cfg cfg_make(
	const struct world *world, const struct token *token, uint32_t gen, bool insync);
uint16_t host_accept(struct host *host, uint32_t nsid, uint32_t session, const struct cfg *cfg);
uint16_t host_accept_k(struct host *host, uint32_t session, const struct cfg *cfg, uint64_t k);
uint16_t host_resize(struct host *host, uint32_t nsid, uint32_t session, uint64_t size_bytes);
uint16_t host_mark(struct host *host, uint32_t session, uint64_t clean, bool rebuilding);
void host_heartbeat(struct host *host, uint32_t confirmed, struct wire_heartbeat *ret_heartbeat);
unsigned host_lost_count(struct host *host, uint32_t confirmed);
uint64_t host_boot(struct host *host);
/* One 4096-byte block filled with `fill`. */
void write_prepare(struct command *command, const struct world *world, uint32_t session,
	uint64_t slba, uint8_t fill);
uint16_t host_write(struct host *host, uint32_t session, uint64_t slba, uint8_t fill);
/* -status when it fails, else the block's byte (asserted to be the same everywhere). */
int host_read(struct host *host, uint32_t session, uint64_t slba);
/* The command of `io` without data. */
uint16_t host_io(struct host *host, const struct wire_io *io);

#endif
