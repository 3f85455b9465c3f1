/* SPDX-License-Identifier: Apache-2.0 */
/* JSON patches and merge patches, for the fake API server. */
#ifndef KUBE_TESTING_FAKE_PATCH_H
#define KUBE_TESTING_FAKE_PATCH_H

#include <jansson.h>
#include <stdbool.h>

/* RFC 7386. */
void fake_merge(json_t *object, const json_t *patch);
/* RFC 6902: test, add, replace, remove.  False: a test was lost, or a path is not there; `object`
 * is changed up to that. */
bool fake_json_patch(json_t *object, const json_t *patch);

#endif
