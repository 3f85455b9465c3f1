/* SPDX-License-Identifier: Apache-2.0 */
/* Notes: what is remembered of an object between two steps. */
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_note_is_its_queues_and_names_until_it_is_forgotten),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
