/* SPDX-License-Identifier: Apache-2.0 */
#include "csi-controller/wait.h"

#include "base/bytes.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define WITHOUT_DEADLINE_MS 60000
/* The answer must reach the client, whose clock began earlier. */
#define MARGIN_MS 1000

static void wait_free(struct wait *wait)
{
	loop_timer_stop(&wait->timer);
	list_remove(&wait->node);
	free(wait);
}

static void timer_expired(struct loop_timer *timer)
{
	struct wait *wait = container_of(timer, struct wait, timer);

	(void)wait->check(wait, true);
	wait_free(wait);
}

void wait_for(struct controller *controller, const struct wait *wait)
{
	uint64_t left_ms = min_u64(grpc_call_left_ms(wait->call), WITHOUT_DEADLINE_MS);
	uint64_t margin_ms = min_u64(MARGIN_MS, left_ms / 4);
	struct wait *copy;

	if (!controller_leads(controller)) {
		grpc_call_failf(
			wait->call, -EAGAIN, "this csi-controller is not the leader any more");
		return;
	}
	copy = must_alloc(sizeof(*copy));
	*copy = *wait;
	copy->controller = controller;
	copy->timer = (struct loop_timer){.expired = timer_expired};
	copy->node = (struct list_node){0};
	if (copy->check(copy, false)) {
		free(copy);
		return;
	}
	list_push_back(&controller->waits, &copy->node);
	loop_timer_start(kube_loop(controller->kube), &copy->timer, left_ms - margin_ms);
}

void waits_check(struct controller *controller, const char *volume)
{
	list_for_each_safe (&controller->waits, node, following) {
		struct wait *wait = container_of(node, struct wait, node);

		if ((volume == NULL || strcmp(wait->volume, volume) == 0) &&
			wait->check(wait, false)) {
			wait_free(wait);
		}
	}
}

void waits_end(struct controller *controller, const char *why)
{
	list_for_each_safe (&controller->waits, node, following) {
		struct wait *wait = container_of(node, struct wait, node);

		grpc_call_failf(wait->call, -EAGAIN, "%s", why);
		wait_free(wait);
	}
}
