/* SPDX-License-Identifier: Apache-2.0 */
/* Notes: what is remembered of an object between two steps; and bodies of requests. */
#include "base/testing.h"
#include "csi-node/node.h"

#include <stdio.h>

#define NOTES 1000

static const char *name_of(unsigned i, char text[16])
{
	(void)snprintf(text, 16, "replica-%u", i);
	return text;
}

static void test_a_note_is_its_queues_and_names_until_it_is_forgotten(void **state)
{
	struct node node = {0};
	char text[16];

	(void)state;
	for (unsigned queue = 0; queue < QUEUE_COUNT; queue++) {
		for (unsigned i = 0; i < NOTES; i++) {
			note_get(&node, queue, name_of(i, text))->written_ms = queue * NOTES + i;
		}
	}
	for (unsigned queue = 0; queue < QUEUE_COUNT; queue++) {
		for (unsigned i = 0; i < NOTES; i++) {
			assert_int_equal(note_get(&node, queue, name_of(i, text))->written_ms,
				queue * NOTES + i);
		}
	}
	note_forget(&node, QUEUE_REPLICAS, "replica-7");
	note_forget(&node, QUEUE_REPLICAS, "nothing");
	assert_int_equal(note_get(&node, QUEUE_REPLICAS, "replica-7")->written_ms, 0);
	assert_int_equal(note_get(&node, QUEUE_POOLS, "replica-7")->written_ms, 7);
	for (unsigned queue = 0; queue < QUEUE_COUNT; queue++) {
		for (unsigned i = 0; i < NOTES; i++) {
			note_forget(&node, queue, name_of(i, text));
		}
		keys_done(&node.notes[queue]);
	}
}

/* Names come again: what is decided of a deleted object must not hit the next one of its name. */
static void test_a_finalizer_is_taken_from_that_very_object(void **state)
{
	json_t *object = json_pack("{s:{s:s, s:s, s:[s, s]}}", "metadata", "name", "v-1", "uid",
		"u-1", "finalizers", "other", OBJECTS_FINALIZER_REPLICA);
	json_t *patch = finalizer_removal(object, OBJECTS_FINALIZER_REPLICA);
	const json_t *first = json_array_get(patch, 0);

	(void)state;
	assert_int_equal(json_array_size(patch), 3);
	assert_string_equal(kube_text(first, "op"), "test");
	assert_string_equal(kube_text(first, "path"), "/metadata/uid");
	assert_string_equal(kube_text(first, "value"), "u-1");
	assert_string_equal(kube_text(json_array_get(patch, 2), "path"), "/metadata/finalizers/1");
	assert_null(finalizer_removal(object, OBJECTS_FINALIZER_POOL));
	json_decref(patch);
	json_decref(object);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_note_is_its_queues_and_names_until_it_is_forgotten),
		cmocka_unit_test(test_a_finalizer_is_taken_from_that_very_object),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
