/* SPDX-License-Identifier: Apache-2.0 */
/* Leader election: never two, and somebody in the end. */
#include "kube/env_test.h"

#define LEASE "/apis/coordination.k8s.io/v1/namespaces/ns/leases/election"

struct candidate {
	struct kube_lease *lease;
	bool leads, is_freed;
	unsigned changes;
};

static void leading(void *ctx, bool leads)
{
	struct candidate *candidate = ctx;

	assert_true(candidate->leads != leads);
	candidate->leads = leads;
	candidate->changes++;
}

static void stand_for(
	struct env *env, struct candidate *candidate, const char *identity, unsigned renew_ms)
{
	struct err err = {0};
	struct kube_lease_options options = {.namespace = "ns",
		.name = "election",
		.identity = identity,
		.duration_ms = renew_ms * 3 / 2,
		.renew_ms = renew_ms,
		.retry_ms = 50,
		.leading = leading,
		.ctx = candidate};

	*candidate = (struct candidate){.leads = false};
	assert_int_equal(kube_lease_new(env->kube, &options, &candidate->lease, &err), 0);
}

/* A busy machine may keep everything waiting for a second. */
static void stand(struct env *env, struct candidate *candidate, const char *identity)
{
	stand_for(env, candidate, identity, 2000);
}

static void freed(void *ctx)
{
	struct candidate *candidate = ctx;

	assert_false(candidate->is_freed);
	candidate->is_freed = true;
}

static void leave(struct env *env, struct candidate *candidate)
{
	unsigned changes = candidate->changes;

	kube_lease_free(candidate->lease, freed, candidate);
	assert_false(candidate->is_freed);
	env_wait(env, candidate->is_freed);
	/* Who leaves knows it. */
	assert_int_equal(candidate->changes, changes);
}

static const char *holder(struct env *env)
{
	return kube_text(fake_api_get(env->api, LEASE), "spec.holderIdentity");
}

static void one_leads_and_the_next_follows(void **state)
{
	struct env env;
	struct candidate a, b;

	(void)state;
	env_open(&env);
	stand(&env, &a, "a");
	env_wait(&env, a.leads);
	assert_true(kube_lease_is_leading(a.lease));
	assert_string_equal(holder(&env), "a");
	stand(&env, &b, "b");
	/* Longer than the lease: it is renewed. */
	env_turn_for(&env, 3500);
	assert_true(a.leads && a.changes == 1);
	assert_false(b.leads);
	leave(&env, &a);
	env_wait(&env, b.leads);
	assert_string_equal(holder(&env), "b");
	assert_true(kube_number(fake_api_get(env.api, LEASE), "spec.leaseTransitions", 0) >= 1);
	leave(&env, &b);
	assert_string_equal(holder(&env), "");
	env_close(&env);
}

/* Its clock is decades off; only that it does not change counts. */
static void anothers_lease_runs_from_when_it_was_seen(void **state)
{
	struct env env;
	struct candidate a;

	(void)state;
	env_open(&env);
	fake_api_put(env.api, LEASE,
		"{\"spec\":{\"holderIdentity\":\"dead\",\"leaseDurationSeconds\":1,"
		"\"renewTime\":\"1999-01-01T00:00:00.000000Z\"}}");
	uint64_t begin_ms = loop_now_ms(env.loop);

	stand(&env, &a, "a");
	env_wait(&env, a.leads);
	assert_true(loop_now_ms(env.loop) - begin_ms >= 1000);
	leave(&env, &a);
	fake_api_put(env.api, LEASE,
		"{\"spec\":{\"holderIdentity\":\"other\",\"leaseDurationSeconds\":1,"
		"\"renewTime\":\"2999-01-01T00:00:00.000000Z\"}}");
	stand(&env, &a, "a");
	env_wait(&env, a.leads);
	leave(&env, &a);
	env_close(&env);
}

static void nobody_leads_without_the_server(void **state)
{
	struct env env;
	struct candidate a;

	(void)state;
	env_open(&env);
	stand(&env, &a, "a");
	env_wait(&env, a.leads);
	fake_http_freeze(env.http, true);
	env_wait(&env, !a.leads);
	assert_false(kube_lease_is_leading(a.lease));
	fake_http_freeze(env.http, false);
	env_wait(&env, a.leads);
	fake_http_stop(env.http);
	env_wait(&env, !a.leads);
	/* It cannot give back anything, and ends all the same. */
	leave(&env, &a);
	fake_http_start(env.http);
	env_close(&env);
}

/* Another has written the lease (somebody thought that we were dead): we stop at once. */
static void a_lost_lease_ends_the_reign(void **state)
{
	struct env env;
	struct candidate a;

	(void)state;
	env_open(&env);
	stand(&env, &a, "a");
	env_wait(&env, a.leads);
	fake_api_put(
		env.api, LEASE, "{\"spec\":{\"holderIdentity\":\"b\",\"leaseDurationSeconds\":1}}");
	env_wait(&env, !a.leads);
	assert_string_equal(holder(&env), "b");
	env_wait(&env, a.leads);
	/* Somebody else's label is no reason. */
	fake_api_put(env.api, LEASE, "{\"metadata\":{\"labels\":{\"a\":\"b\"}}}");
	env_turn_for(&env, 300);
	assert_true(a.leads && a.changes == 3);
	fake_api_delete(env.api, LEASE);
	env_turn_for(&env, 300);
	assert_string_equal(holder(&env), "a");
	assert_true(kube_lease_is_leading(a.lease));
	leave(&env, &a);
	env_close(&env);
}

/* A process that was stopped (or a machine that slept) asks before it acts: the answer is no,
 * whatever timer comes first. */
static void after_a_sleep_the_reign_is_over(void **state)
{
	struct env env;
	struct candidate a;

	(void)state;
	env_open(&env);
	stand(&env, &a, "a");
	env_wait(&env, a.leads);
	(void)usleep(2100000);
	assert_true(a.leads);
	assert_false(kube_lease_is_leading(a.lease));
	leave(&env, &a);
	env_close(&env);
}

struct election {
	struct candidate candidates[3];
};

static bool break_some(void *ctx, const struct fake_request *request)
{
	(void)ctx;
	switch (random() % 12) {
	case 0:
		fake_conn_cut_after(request->conn, 0);
		fake_conn_send(request->conn, "x", 1);
		return true;
	case 1:
		fake_reply(request->conn, 500, "", "{}");
		return true;
	case 2:
		/* Executed, but nobody is told. */
		fake_conn_cut_after(request->conn, 3);
		return false;
	case 3:
		return true;
	}
	return false;
}

static void never_two_lead_whatever_breaks(void **state)
{
	static const char *const names[] = {"a", "b", "c"};
	struct env env;
	struct election election;

	(void)state;
	srandom(7);
	env_open(&env);
	fake_api_set_hook(env.api, break_some, NULL);
	for (int i = 0; i < 3; i++) {
		stand_for(&env, &election.candidates[i], names[i], 700);
	}
	for (int i = 0; i < 1500; i++) {
		unsigned leaders = 0;

		env_turn_for(&env, 3);
		for (int j = 0; j < 3; j++) {
			struct candidate *candidate = &election.candidates[j];

			leaders += kube_lease_is_leading(candidate->lease);
			if (random() % 600 == 0) {
				leave(&env, candidate);
				stand_for(&env, candidate, names[j], 700);
			}
		}
		assert_true(leaders <= 1);
	}
	fake_api_set_hook(env.api, NULL, NULL);
	env_wait(&env, election.candidates[0].leads || election.candidates[1].leads ||
			       election.candidates[2].leads);
	for (int i = 0; i < 3; i++) {
		leave(&env, &election.candidates[i]);
	}
	env_close(&env);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_leads_and_the_next_follows),
		cmocka_unit_test(anothers_lease_runs_from_when_it_was_seen),
		cmocka_unit_test(nobody_leads_without_the_server),
		cmocka_unit_test(a_lost_lease_ends_the_reign),
		cmocka_unit_test(after_a_sleep_the_reign_is_over),
		cmocka_unit_test(never_two_lead_whatever_breaks),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
