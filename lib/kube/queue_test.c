/* SPDX-License-Identifier: Apache-2.0 */
/* Work queues. */
#include "kube/env_test.h"

struct shop {
	struct env env;
	struct kube_queue *queue;
	char begun[4096]; /* keys in their order, each with a blank */
	unsigned count, running, running_max;
	enum kube_queue_result result;
	bool is_inline, adds_itself, is_stopped;
};

static void work(void *ctx, const char *key)
{
	struct shop *shop = ctx;

	if (strlen(shop->begun) + strlen(key) + 2 < sizeof(shop->begun)) {
		(void)strcat(strcat(shop->begun, key), " ");
	}
	shop->count++;
	shop->running++;
	shop->running_max = shop->running > shop->running_max ? shop->running : shop->running_max;
	if (shop->adds_itself) {
		kube_queue_add(shop->queue, key);
	}
	if (shop->is_inline) {
		shop->running--;
		kube_queue_done(shop->queue, key, shop->result);
	}
}

static void open_shop(struct shop *shop, unsigned parallel_max)
{
	struct err err = {0};
	struct kube_queue_options options = {.name = "test",
		.parallel_max = parallel_max,
		.again_ms_min = 10,
		.again_ms_max = 40,
		.work = work,
		.ctx = shop};

	*shop = (struct shop){.result = KUBE_QUEUE_OK};
	env_open(&shop->env);
	assert_int_equal(kube_queue_new(shop->env.kube, &options, &shop->queue, &err), 0);
}

static void finish(struct shop *shop, const char *key, enum kube_queue_result result)
{
	shop->running--;
	kube_queue_done(shop->queue, key, result);
}

static void close_shop(struct shop *shop)
{
	kube_queue_free(shop->queue);
	env_close(&shop->env);
}

static void a_key_is_worked_on_once_however_often_it_is_added(void **state)
{
	struct shop shop;

	(void)state;
	open_shop(&shop, 0);
	for (int i = 0; i < 3; i++) {
		kube_queue_add(shop.queue, "a");
		kube_queue_add(shop.queue, "b");
	}
	/* Never from within add. */
	assert_int_equal(shop.count, 0);
	env_wait(&shop.env, shop.count == 2);
	env_turn_for(&shop.env, 20);
	assert_string_equal(shop.begun, "a b ");
	finish(&shop, "a", KUBE_QUEUE_OK);
	finish(&shop, "b", KUBE_QUEUE_OK);
	close_shop(&shop);
}

static void what_is_added_during_work_is_worked_on_again_afterwards(void **state)
{
	struct shop shop;

	(void)state;
	open_shop(&shop, 0);
	kube_queue_add(shop.queue, "a");
	env_wait(&shop.env, shop.count == 1);
	kube_queue_add(shop.queue, "a");
	kube_queue_add_after(shop.queue, "a", 0);
	env_turn_for(&shop.env, 20);
	assert_int_equal(shop.count, 1);
	finish(&shop, "a", KUBE_QUEUE_OK);
	env_wait(&shop.env, shop.count == 2);
	finish(&shop, "a", KUBE_QUEUE_OK);
	env_turn_for(&shop.env, 20);
	assert_int_equal(shop.count, 2);
	close_shop(&shop);
}

static void only_so_many_at_the_same_time(void **state)
{
	struct shop shop;
	char key[16];

	(void)state;
	open_shop(&shop, 3);
	for (int i = 0; i < 500; i++) {
		(void)snprintf(key, sizeof(key), "%d", i);
		kube_queue_add(shop.queue, key);
	}
	for (int i = 0; i < 500; i++) {
		env_wait(&shop.env, shop.count > (unsigned)i);
		(void)snprintf(key, sizeof(key), "%d", i);
		finish(&shop, key, KUBE_QUEUE_OK);
	}
	env_turn_for(&shop.env, 20);
	assert_int_equal(shop.count, 500);
	assert_int_equal(shop.running_max, 3);
	close_shop(&shop);
}

static void what_fails_comes_back_and_adding_it_does_not_wait(void **state)
{
	struct shop shop;

	(void)state;
	open_shop(&shop, 0);
	shop.is_inline = true;
	shop.result = KUBE_QUEUE_AGAIN;
	kube_queue_add(shop.queue, "a");
	env_wait(&shop.env, shop.count == 6);
	shop.result = KUBE_QUEUE_OK;
	kube_queue_add(shop.queue, "a");
	env_wait(&shop.env, shop.count == 7);
	env_turn_for(&shop.env, 60);
	assert_int_equal(shop.count, 7);
	kube_queue_add_after(shop.queue, "b", 30);
	kube_queue_add_after(shop.queue, "b", 600000);
	env_wait(&shop.env, shop.count == 8);
	kube_queue_add_after(shop.queue, "c", 600000);
	kube_queue_add_after(shop.queue, "c", 10);
	env_wait(&shop.env, shop.count == 9);
	kube_queue_add_after(shop.queue, "d", 600000);
	close_shop(&shop);
}

static void one_that_adds_itself_lets_others_live(void **state)
{
	struct shop shop;

	(void)state;
	open_shop(&shop, 1);
	shop.is_inline = true;
	shop.adds_itself = true;
	kube_queue_add(shop.queue, "a");
	kube_queue_add(shop.queue, "b");
	env_wait(&shop.env, shop.count >= 50);
	assert_memory_equal(shop.begun, "a b a b a b ", 12);
	close_shop(&shop);
}

static void stopped(void *ctx)
{
	struct shop *shop = ctx;

	assert_int_equal(shop->running, 0);
	assert_false(shop->is_stopped);
	shop->is_stopped = true;
}

static void stopping_waits_for_what_is_worked_on(void **state)
{
	struct shop shop;

	(void)state;
	open_shop(&shop, 1);
	kube_queue_add(shop.queue, "a");
	kube_queue_add(shop.queue, "b");
	env_wait(&shop.env, shop.count == 1);
	kube_queue_stop(shop.queue, stopped, &shop);
	kube_queue_add(shop.queue, "c");
	env_turn_for(&shop.env, 20);
	assert_false(shop.is_stopped);
	finish(&shop, "a", KUBE_QUEUE_AGAIN);
	assert_false(shop.is_stopped);
	env_wait(&shop.env, shop.is_stopped);
	env_turn_for(&shop.env, 20);
	assert_int_equal(shop.count, 1);
	close_shop(&shop);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_key_is_worked_on_once_however_often_it_is_added),
		cmocka_unit_test(what_is_added_during_work_is_worked_on_again_afterwards),
		cmocka_unit_test(only_so_many_at_the_same_time),
		cmocka_unit_test(what_fails_comes_back_and_adding_it_does_not_wait),
		cmocka_unit_test(one_that_adds_itself_lets_others_live),
		cmocka_unit_test(stopping_waits_for_what_is_worked_on),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
