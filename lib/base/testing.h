/* SPDX-License-Identifier: Apache-2.0 */
/* cmocka with what must come before it, in an order that the formatter leaves alone.  For *_test.c
 * only. */
#ifndef BASE_TESTING_H
#define BASE_TESTING_H

/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
/* clang-format on */

#endif
