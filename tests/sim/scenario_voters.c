/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/scenario_voters.h"

#define LONG_NS (60 * IO_NS_PER_S)

void open_whole(struct scenario *scenario)
{
	scenario_open(scenario, 0);
	await_whole(scenario);
}

struct slot *slot_of(struct scenario *scenario)
{
	return &scenario->world.slots[scenario->writer];
}

const struct cfg *cfg_of(struct scenario *scenario)
{
	return &scenario_volume(scenario)->cfg;
}

bool is_committed(void *scenario)
{
	return scenario_volume(scenario)->committed;
}

bool is_proposing(void *scenario)
{
	return scenario_volume(scenario)->proposal_open;
}

bool is_voter(struct scenario *scenario, unsigned agent)
{
	const struct volume *volume = scenario_volume(scenario);

	return volume->committed &&
	       cfg_find(&volume->cfg, &scenario->world.agents[agent].replica_id) >= 0;
}

void make(struct scenario *scenario, unsigned agent, enum voter_kind kind)
{
	struct node_agent *node = &scenario->world.agents[agent];

	assert_true(agent_make_replica(node, kind));
	while (node->making) {
		assert_true(sim_step(scenario->world.sim));
	}
	assert_true(node->has_replica && node->nsid != 0);
}

int ask_add(struct scenario *scenario, unsigned agent, struct err *err)
{
	struct volume_voter place = agent_place(&scenario->world.agents[agent], slot_of(scenario));

	places_add(&slot_of(scenario)->file, &place);
	return volume_add_voter(scenario_volume(scenario), &place, err);
}

int ask_remove(struct scenario *scenario, unsigned agent, struct err *err)
{
	return volume_remove_voter(
		scenario_volume(scenario), &scenario->world.agents[agent].replica_id, err);
}

void begin_add(struct scenario *scenario, unsigned agent)
{
	struct err err = {0};

	assert_int_equal(ask_add(scenario, agent, &err), 0);
}

void await_voter(struct scenario *scenario, unsigned agent, bool wanted)
{
	uint64_t end_ns = sim_now_ns(scenario->world.sim) + LONG_NS;

	while (is_voter(scenario, agent) != wanted) {
		assert_true(sim_now_ns(scenario->world.sim) < end_ns);
		assert_true(sim_step(scenario->world.sim));
	}
}

void add(struct scenario *scenario, unsigned agent, enum voter_kind kind)
{
	make(scenario, agent, kind);
	begin_add(scenario, agent);
	await_voter(scenario, agent, true);
	if (kind == VOTER_DATA) {
		await_replica(scenario, agent, REPLICA_INSYNC);
	}
}

void drop(struct scenario *scenario, unsigned agent)
{
	struct err err = {0};

	assert_int_equal(ask_remove(scenario, agent, &err), 0);
	await_voter(scenario, agent, false);
}

/* It knows the places of all who have a replica. */
void api_is_current(struct scenario *scenario)
{
	struct world *world = &scenario->world;
	struct places places = {.cfg = *cfg_of(scenario)};

	for (unsigned i = 0; i < world->options.voters; i++) {
		if (world->agents[i].has_replica) {
			struct volume_voter place =
				agent_place(&world->agents[i], slot_of(scenario));

			places_add(&places, &place);
		}
	}
	sim_cancel(world->sim, &world->api_saved);
	world->api = world->api_next = places;
}
