/* SPDX-License-Identifier: Apache-2.0 */
/* For the tests of plans. */
#ifndef CSI_NODE_PLAN_TEST_H
#define CSI_NODE_PLAN_TEST_H

#include "csi-node/plan.h"
#include "objects/testing.h"

#include <stdio.h>
#include <string.h>

static inline char *text_of(const char *text)
{
	return (char *)(uintptr_t)text;
}

#endif
