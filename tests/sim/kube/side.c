/* SPDX-License-Identifier: Apache-2.0 */
/* The processes and their turns; what happens to them; what users do. */
#include "tests/sim/kube/side.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Of each process in a turn. */
#define STEPS 12

void side_wrong(struct kube_side *side, const char *format, ...)
{
	char text[400];
	va_list args;

	va_start(args, format);
	(void)vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	side->world.wrong(side->world.ctx, text);
}

void kube_node_name(unsigned node, char name[8])
{
	(void)snprintf(name, 8, "n%u", node % 10);
}

/* ---- beginning and end ---- */

static void take_line(
	void *ctx, enum log_level level, const char *module, const char *event, const char *pairs)
{
	struct process *process = ctx;
	char text[LOG_LINE_MAX + 200];

	(void)level;
	(void)module;
	(void)snprintf(text, sizeof(text), "%s: %s %s",
		process->node == KUBE_NODES_MAX ? "csi-controller" : process->node_name, event,
		pairs);
	process->side->world.trace(process->side->world.ctx, text);
}

static void process_init(struct kube_side *side, struct process *process, unsigned node)
{
	*process = (struct process){.side = side,
		.loop = sim_loop_new(),
		.node = node,
		.has_power = true,
		.log = {.sink = take_line, .ctx = process, .level_min = LOG_INFO}};
	kube_node_name(node, process->node_name);
	(void)snprintf(process->socket, sizeof(process->socket), "%u", node);
	for (size_t i = 0; i < sizeof(process->sealing_key); i++) {
		process->sealing_key[i] = (uint8_t)rng_u64(&side->rng);
	}
}

/* From the seed: the MACs that are made of it go over the simulated network. */
static void make_master(struct kube_side *side)
{
	/* 32 bytes as base64. */
	char text[] = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

	for (size_t i = 0; i < 42; i++) {
		text[i] = (char)('A' + (char)rng_below(&side->rng, 26));
	}
	fake_server_put(&side->server, "secrets",
		json_pack("{s:{s:s}, s:{s:s}}", "metadata", "name", "strake-master-key", "data",
			"key", text));
}

struct kube_side *kube_side_new(const struct kube_world *world)
{
	struct kube_side *side = calloc(1, sizeof(*side));

	assert(side != NULL && world->node_count <= KUBE_NODES_MAX);
	side->world = *world;
	rng_init(&side->rng, world->seed);
	sim_loop_set_clock(0);
	fake_server_init(&side->server, SIM_LOOP_WALL_S);
	side->server.changed = check_change;
	side->server.ctx = side;
	make_master(side);
	process_init(side, &side->controller, KUBE_NODES_MAX);
	for (unsigned i = 0; i < world->node_count; i++) {
		process_init(side, &side->nodes[i], i);
		kube_node_set_ready(side, i, true);
	}
	controller_process_start(&side->controller);
	for (unsigned i = 0; i < world->node_count; i++) {
		node_process_start(&side->nodes[i]);
	}
	return side;
}

void kube_side_free(struct kube_side *side)
{
	if (side == NULL) {
		return;
	}
	side->is_ending = true;
	controller_process_kill(&side->controller);
	sim_loop_free(side->controller.loop);
	for (unsigned i = 0; i < side->world.node_count; i++) {
		if (side->nodes[i].program != NULL) {
			node_process_kill(&side->nodes[i]);
		}
		sim_loop_free(side->nodes[i].loop);
	}
	fake_server_done(&side->server);
	json_decref(side->backup);
	free(side);
}

/* ---- turns ---- */

static bool reaches_api(const struct process *process)
{
	return !process->is_cut && !process->side->is_outage;
}

static void take_step(struct process *process)
{
	struct kube_side *side = process->side;
	bool is_reached = reaches_api(process);
	unsigned lost = side->is_healed ? 0 : (unsigned)side->world.lost_percent;

	switch (rng_below(&side->rng, 5)) {
	case 0:
		/* Without a server requests fail now and then, and are sent again. */
		if (is_reached || rng_percent(&side->rng, 3)) {
			(void)fake_kube_execute(process->kube, is_reached ? lost : 100);
		}
		return;
	case 1:
		(void)fake_kube_answer(process->kube);
		return;
	case 2:
		if (is_reached && sim_loop_clock_ms() >= process->deaf_until_ms) {
			(void)fake_kube_hear(process->kube);
		}
		return;
	case 3:
		(void)fake_kube_work(process->kube);
		return;
	default:
		(void)sim_loop_work(process->loop);
		return;
	}
}

static void take_turn(struct process *process)
{
	if (process->program == NULL) {
		return;
	}
	sim_loop_run_timers(process->loop);
	fake_kube_pass_time_until(process->kube, sim_loop_clock_ms());
	for (unsigned i = 0; i < STEPS; i++) {
		take_step(process);
	}
}

void kube_side_turn(struct kube_side *side, uint64_t now_ms)
{
	sim_loop_set_clock(now_ms);
	side->server.now_s = SIM_LOOP_WALL_S + (int64_t)(now_ms / 1000);
	take_turn(&side->controller);
	for (unsigned i = 0; i < side->world.node_count; i++) {
		take_turn(&side->nodes[i]);
	}
}

void kube_side_heal(struct kube_side *side)
{
	side->is_healed = true;
	side->is_outage = false;
	side->controller.deaf_until_ms = 0;
	for (unsigned i = 0; i < side->world.node_count; i++) {
		side->nodes[i].is_cut = false;
		side->nodes[i].deaf_until_ms = 0;
	}
}

/* ---- what happens ---- */

void kube_controller_crash(struct kube_side *side)
{
	controller_process_kill(&side->controller);
	controller_process_start(&side->controller);
}

void kube_node_crash(struct kube_side *side, unsigned node)
{
	struct process *process = &side->nodes[node];

	if (process->program != NULL) {
		node_process_kill(process);
		node_process_start(process);
	}
}

void kube_node_set_power(struct kube_side *side, unsigned node, bool on)
{
	struct process *process = &side->nodes[node];

	if (process->has_power == on) {
		return;
	}
	process->has_power = on;
	if (on) {
		node_process_start(process);
	} else {
		node_process_kill(process);
	}
}

void kube_node_set_cut(struct kube_side *side, unsigned node, bool cut)
{
	side->nodes[node].is_cut = cut;
}

bool kube_node_is_cut(const struct kube_side *side, unsigned node)
{
	return side->nodes[node].is_cut;
}

void kube_set_outage(struct kube_side *side, bool outage)
{
	side->is_outage = outage;
}

void kube_set_deaf(struct kube_side *side, unsigned process, uint64_t until_ms)
{
	struct process *of = process == KUBE_NODES_MAX ? &side->controller : &side->nodes[process];

	of->deaf_until_ms = until_ms;
}

void kube_node_set_ready(struct kube_side *side, unsigned node, bool ready)
{
	char name[8];
	json_t *object;

	kube_node_name(node, name);
	object = fake_server_copy(&side->server, "nodes", name);
	if (object == NULL) {
		object = json_pack("{s:{s:s}}", "metadata", "name", name);
	}
	json_t *status = json_pack("{s:[{s:s, s:s}]}", "conditions", "type", "Ready", "status",
		ready ? "True" : "Unknown");

	if (json_equal(status, json_object_get(object, "status"))) {
		json_decref(status);
		json_decref(object);
		return;
	}
	(void)json_object_set_new(object, "status", status);
	fake_server_put(&side->server, "nodes", object);
}

void kube_backup(struct kube_side *side)
{
	json_decref(side->backup);
	side->backup = json_deep_copy(side->server.objects);
}

void kube_restore(struct kube_side *side)
{
	assert(side->backup != NULL);
	side->was_restored = true;
	fake_server_restore(&side->server, side->backup);
	/* With its VolumeAttachment. */
	side->calls[KUBE_CALL_PUBLISH].attach = kube_attach_number(side);
}

/* ---- users ---- */

void kube_create_pool(struct kube_side *side, unsigned node)
{
	char name[8];

	kube_node_name(node, name);
	fake_server_put(&side->server, "pools",
		json_pack("{s:{s:s}, s:{s:s, s:[s]}}", "metadata", "name", name, "spec", "node",
			name, "disks", "/dev/sdb"));
}

void kube_delete_pool(struct kube_side *side, unsigned node)
{
	char name[8];

	kube_node_name(node, name);
	fake_server_delete(&side->server, "pools", name);
}

void kube_create_volume(struct kube_side *side, uint64_t size_bytes, unsigned replicas)
{
	char size[KUBE_QUANTITY_TEXT_SIZE];

	fake_server_put(&side->server, "volumes",
		json_pack("{s:{s:s}, s:{s:s, s:i}}", "metadata", "name", KUBE_VOLUME, "spec",
			"size", kube_quantity_to_text(size_bytes, size), "replicas",
			(int)replicas));
}

void kube_delete_volume(struct kube_side *side)
{
	fake_server_delete(&side->server, "volumes", KUBE_VOLUME);
}

static void set_spec(struct kube_side *side, const char *field, json_t *value)
{
	json_t *object = fake_server_copy(&side->server, "volumes", KUBE_VOLUME);

	if (object == NULL) {
		json_decref(value);
		return;
	}
	(void)json_object_set_new(json_object_get(object, "spec"), field, value);
	fake_server_put(&side->server, "volumes", object);
}

void kube_set_replicas(struct kube_side *side, unsigned replicas)
{
	set_spec(side, "replicas", json_integer((json_int_t)replicas));
}

void kube_set_size(struct kube_side *side, uint64_t size_bytes)
{
	char size[KUBE_QUANTITY_TEXT_SIZE];

	set_spec(side, "size", json_string(kube_quantity_to_text(size_bytes, size)));
}

void snapshot_name(unsigned index, char name[8])
{
	(void)snprintf(name, 8, "s%u", index % 100);
}

void kube_create_snapshot(struct kube_side *side, unsigned index)
{
	char name[8];

	snapshot_name(index, name);
	fake_server_put(&side->server, "snapshots",
		json_pack("{s:{s:s}, s:{s:s}}", "metadata", "name", name, "spec", "volume",
			KUBE_VOLUME));
}

void kube_delete_snapshot(struct kube_side *side, unsigned index)
{
	char name[8];

	snapshot_name(index, name);
	fake_server_delete(&side->server, "snapshots", name);
}

/* ---- calls ---- */

void kube_call_begin(struct kube_side *side, enum kube_call kind, unsigned node)
{
	struct call *call = &side->calls[kind];
	bool is_of_node = kind == KUBE_CALL_STAGE || kind == KUBE_CALL_UNSTAGE;
	char name[8];

	assert(!call->is_begun);
	kube_node_name(node, name);
	call->is_begun = true;
	call->is_forgotten = false;
	call->grpc = (struct grpc_call){0};
	call->process = is_of_node ? &side->nodes[node] : &side->controller;
	if (call->process->program == NULL) {
		grpc_call_failf(&call->grpc, -EAGAIN, "nobody answers");
	} else if (is_of_node) {
		node_call(call->process, kind, &call->grpc, side->calls[KUBE_CALL_PUBLISH].attach);
	} else {
		controller_call(call->process, kind, &call->grpc, name);
	}
}

enum kube_call_state kube_call_state(struct kube_side *side, enum kube_call kind)
{
	struct call *call = &side->calls[kind];

	if (!call->is_begun) {
		return KUBE_CALL_NONE;
	}
	if (!call->grpc.is_done) {
		return KUBE_CALL_RUNNING;
	}
	call->is_begun = false;
	if (call->is_forgotten) {
		return KUBE_CALL_NONE;
	}
	if (call->grpc.result == 0 && kind == KUBE_CALL_PUBLISH) {
		call->attach = kube_attach_number(side);
	}
	return call->grpc.result == 0 ? KUBE_CALL_DONE : KUBE_CALL_FAILED;
}

void kube_call_forget(struct kube_side *side, enum kube_call kind)
{
	side->calls[kind].is_forgotten = true;
	(void)kube_call_state(side, kind);
}

const char *kube_call_error(const struct kube_side *side, enum kube_call call)
{
	return side->calls[call].grpc.text;
}
