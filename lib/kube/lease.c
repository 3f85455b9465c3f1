/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Leader election as client-go does it.  Nobody's wall clock is trusted: another's lease runs from
 * the moment when we saw it change, ours from the moment when we sent the renewal that was taken.
 * So we stop `renew_ms` after that, and nobody begins before `duration_ms` after it.
 *
 * The clock is CLOCK_BOOTTIME: a suspended machine's lease ends too.
 */
#include "kube/internal.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define DURATION_MS 15000
#define RENEW_MS    10000
#define RETRY_MS    2000
#define RELEASE_MS  3000
/* What another says of its lease is believed between these. */
#define OTHERS_MIN_S 1
#define OTHERS_MAX_S 3600

struct kube_lease {
	struct kube *kube;
	struct kube_lease_options options; /* texts owned */
	struct kube_request request;
	bool is_asking;
	struct loop_timer timer;    /* to the next step */
	struct loop_timer deadline; /* of our reign */

	json_t *object; /* owned; as last seen; NULL: never, or it is not there */
	uint64_t seen_ms;
	uint64_t sent_ms; /* of the write that is under way */

	bool is_leading;
	uint64_t leading_until_ms;

	bool is_ending;
	void (*freed)(void *ctx);
	void *freed_ctx;
	struct metric metric_leading;
};

static void step(struct kube_lease *lease);

static uint64_t now_ms(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_BOOTTIME, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

bool kube_lease_is_leading(const struct kube_lease *lease)
{
	return lease->is_leading && now_ms() < lease->leading_until_ms;
}

static void set_leading(struct kube_lease *lease, bool leads, const char *why)
{
	if (lease->is_leading == leads) {
		return;
	}
	lease->is_leading = leads;
	metric_set(&lease->metric_leading, leads);
	log_info(lease->kube->log, "kube", leads ? "leading" : "leading-over",
		"lease=%s identity=%s why=%s", lease->options.name, lease->options.identity, why);
	if (!leads) {
		loop_timer_stop(&lease->deadline);
	}
	if (!lease->is_ending) {
		lease->options.leading(lease->options.ctx, leads);
	}
}

static void deadline_expired(struct loop_timer *timer)
{
	struct kube_lease *lease = container_of(timer, struct kube_lease, deadline);

	if (now_ms() < lease->leading_until_ms) {
		loop_timer_start(lease->kube->loop, timer, lease->leading_until_ms - now_ms());
		return;
	}
	set_leading(lease, false, "it could not be renewed in time");
}

/* ---- what the lease says ---- */

static const char *holder_of(const json_t *object)
{
	return kube_text(object, "spec.holderIdentity");
}

static bool is_ours(const struct kube_lease *lease)
{
	return lease->object != NULL &&
	       strcmp(holder_of(lease->object), lease->options.identity) == 0;
}

static bool is_free(const struct kube_lease *lease)
{
	int64_t duration_s = kube_number(lease->object, "spec.leaseDurationSeconds", OTHERS_MIN_S);

	duration_s = duration_s < OTHERS_MIN_S   ? OTHERS_MIN_S
		     : duration_s > OTHERS_MAX_S ? OTHERS_MAX_S
						 : duration_s;
	return holder_of(lease->object)[0] == '\0' ||
	       now_ms() >= lease->seen_ms + (uint64_t)duration_s * 1000;
}

/* A lease whose spec is the same was not renewed. */
static void see(struct kube_lease *lease, json_t *object)
{
	bool changed = lease->object == NULL ||
		       !json_equal(kube_at(lease->object, "spec"), kube_at(object, "spec"));

	if (changed) {
		lease->seen_ms = now_ms();
	}
	json_decref(lease->object);
	lease->object = json_incref(object);
}

/* ---- asking ---- */

static void wait(struct kube_lease *lease, uint64_t delay_ms)
{
	loop_timer_start(lease->kube->loop, &lease->timer, delay_ms);
}

static void wait_for_retry(struct kube_lease *lease)
{
	uint64_t retry_ms = lease->options.retry_ms;

	/* Those who wait do not all come at once. */
	wait(lease, lease->is_leading ? retry_ms
				      : retry_ms + rng_below(&lease->kube->rng, retry_ms / 5 + 1));
}

static void send(struct kube_lease *lease, enum kube_verb verb, json_t *body,
	void (*done)(struct kube_request *))
{
	unsigned timeout_ms = lease->options.renew_ms / 2;

	lease->request = (struct kube_request){.verb = verb,
		.kind = &kube_leases,
		.namespace = lease->options.namespace,
		.name = lease->options.name,
		.body = body,
		.timeout_ms = lease->is_ending && timeout_ms > RELEASE_MS ? RELEASE_MS : timeout_ms,
		.done = done};
	lease->is_asking = true;
	lease->sent_ms = now_ms();
	kube_send(lease->kube, &lease->request);
	json_decref(body);
}

/* The lease with us (or, released, nobody) as its holder; a new reference. */
static json_t *make_body(const struct kube_lease *lease, const char *holder, int64_t duration_s)
{
	char now[KUBE_TIME_TEXT_SIZE];
	json_t *body = lease->object != NULL ? json_deep_copy(lease->object)
					     : json_pack("{s:s, s:s, s:{s:s, s:s}}", "apiVersion",
						       "coordination.k8s.io/v1", "kind", "Lease",
						       "metadata", "name", lease->options.name,
						       "namespace", lease->options.namespace);
	json_t *spec = json_object_get(body, "spec");
	int64_t transitions = kube_number(spec, "leaseTransitions", 0);

	if (!json_is_object(spec)) {
		spec = json_object();
		(void)json_object_set_new(body, "spec", spec);
	}
	(void)kube_time_now_micro(now);
	if (strcmp(kube_text(spec, "holderIdentity"), holder) != 0) {
		(void)json_object_set_new(spec, "acquireTime", json_string(now));
		(void)json_object_set_new(spec, "leaseTransitions",
			json_integer(lease->object == NULL || transitions >= INT32_MAX
					     ? 0
					     : transitions + (holder[0] != '\0')));
	}
	(void)json_object_set_new(spec, "holderIdentity", json_string(holder));
	(void)json_object_set_new(spec, "leaseDurationSeconds", json_integer(duration_s));
	(void)json_object_set_new(spec, "renewTime", json_string(now));
	return body;
}

static void finish(struct kube_lease *lease);

/* Every answer but to the release passes here; true: there is nothing more to do. */
static bool came_too_late(struct kube_lease *lease)
{
	lease->is_asking = false;
	if (lease->is_ending) {
		wait(lease, 0);
	}
	return lease->is_ending;
}

static void written(struct kube_request *request)
{
	struct kube_lease *lease = container_of(request, struct kube_lease, request);

	if (request->result == 0) {
		see(lease, request->response);
	}
	if (came_too_late(lease)) {
		return;
	}
	if (request->result == 0) {
		lease->leading_until_ms = lease->sent_ms + lease->options.renew_ms;
		if (now_ms() >= lease->leading_until_ms) {
			/* The answer took so long that it proves nothing. */
			wait(lease, 0);
			return;
		}
		loop_timer_start(
			lease->kube->loop, &lease->deadline, lease->leading_until_ms - now_ms());
		wait_for_retry(lease);
		set_leading(lease, true, "the lease is ours");
		return;
	}
	if (request->result == -ENOENT ||
		(lease->is_leading && (request->result == -EAGAIN || request->result == -EEXIST))) {
		/* Somebody wrote it, or took it away: the step reads it at once. */
		json_decref(lease->object);
		lease->object = NULL;
		wait(lease, 0);
		return;
	}
	if (request->result != -EAGAIN && request->result != -EEXIST) {
		log_warning(lease->kube->log, "kube", "lease-write-failed", "lease=%s error=%s",
			lease->options.name, request->err.text);
	}
	wait_for_retry(lease);
}

static void take(struct kube_lease *lease)
{
	int64_t duration_s = ((int64_t)lease->options.duration_ms + 999) / 1000;
	json_t *body = make_body(lease, lease->options.identity, duration_s);

	send(lease, lease->object != NULL ? KUBE_REPLACE : KUBE_CREATE, body, written);
}

static void read_done(struct kube_request *request)
{
	struct kube_lease *lease = container_of(request, struct kube_lease, request);

	if (came_too_late(lease)) {
		return;
	}
	if (request->result == -ENOENT) {
		json_decref(lease->object);
		lease->object = NULL;
		take(lease);
		return;
	}
	if (request->result < 0) {
		log_warning(lease->kube->log, "kube", "lease-read-failed", "lease=%s error=%s",
			lease->options.name, request->err.text);
		wait_for_retry(lease);
		return;
	}
	see(lease, request->response);
	if (!is_ours(lease)) {
		set_leading(lease, false, "somebody else has the lease");
	}
	/* `leading` may have ended the lease. */
	if (!lease->is_ending && (is_ours(lease) || is_free(lease))) {
		take(lease);
	} else if (!lease->is_ending) {
		wait_for_retry(lease);
	}
}

static void released(struct kube_request *request)
{
	finish(container_of(request, struct kube_lease, request));
}

static void step(struct kube_lease *lease)
{
	if (lease->is_ending && is_ours(lease)) {
		send(lease, KUBE_REPLACE, make_body(lease, "", 1), released);
	} else if (lease->is_ending) {
		finish(lease);
	} else if (lease->is_leading && is_ours(lease)) {
		take(lease);
	} else {
		send(lease, KUBE_GET, NULL, read_done);
	}
}

static void timer_expired(struct loop_timer *timer)
{
	step(container_of(timer, struct kube_lease, timer));
}

/* ---- life ---- */

static void free_lease(struct kube_lease *lease)
{
	loop_timer_stop(&lease->timer);
	loop_timer_stop(&lease->deadline);
	metric_remove(lease->kube->metrics, &lease->metric_leading);
	json_decref(lease->object);
	free((char *)(uintptr_t)lease->options.namespace);
	free((char *)(uintptr_t)lease->options.name);
	free((char *)(uintptr_t)lease->options.identity);
	lease->kube->lease_count--;
	free(lease);
}

static void finish(struct kube_lease *lease)
{
	void (*freed)(void *ctx) = lease->freed;
	void *ctx = lease->freed_ctx;

	free_lease(lease);
	if (freed != NULL) {
		freed(ctx);
	}
}

int kube_lease_new(struct kube *kube, const struct kube_lease_options *options,
	struct kube_lease **ret_lease, struct err *err)
{
	struct kube_lease *lease = calloc(1, sizeof(*lease));

	if (lease == NULL) {
		return err_set(err, -ENOMEM, "no memory for the lease %s", options->name);
	}
	kube->lease_count++;
	lease->kube = kube;
	lease->options = *options;
	lease->options.namespace = strdup(options->namespace);
	lease->options.name = strdup(options->name);
	lease->options.identity = strdup(options->identity);
	if (options->duration_ms == 0) {
		lease->options.duration_ms = DURATION_MS;
	}
	if (options->renew_ms == 0) {
		lease->options.renew_ms = RENEW_MS;
	}
	if (options->retry_ms == 0) {
		lease->options.retry_ms = RETRY_MS;
	}
	/* Else two could lead at once, or a single lost renewal ends a reign. */
	assert(lease->options.renew_ms < lease->options.duration_ms);
	assert(lease->options.retry_ms < lease->options.renew_ms);
	lease->timer.expired = timer_expired;
	lease->deadline.expired = deadline_expired;
	metric_add(kube->metrics, &lease->metric_leading, METRIC_GAUGE, "strake_kube_leading",
		"1: this process is the leader.", "lease=\"%s\"", options->name);
	if (lease->options.namespace == NULL || lease->options.name == NULL ||
		lease->options.identity == NULL) {
		free_lease(lease);
		return err_set(err, -ENOMEM, "no memory for the lease %s", options->name);
	}
	wait(lease, 0);
	*ret_lease = lease;
	return 0;
}

void kube_lease_free(struct kube_lease *lease, void (*freed)(void *ctx), void *ctx)
{
	assert(!lease->is_ending);
	lease->is_ending = true;
	lease->freed = freed;
	lease->freed_ctx = ctx;
	set_leading(lease, false, "it is given back");
	/* What is under way comes first: the release needs the version that it makes. */
	if (!lease->is_asking) {
		wait(lease, 0);
	}
}
