/* SPDX-License-Identifier: Apache-2.0 */
/* Sizes as people write them: "64M", "10G", "1T", "4096", also "10Gi"/"10GiB".  Powers of 1024. */
#ifndef BASE_SIZE_H
#define BASE_SIZE_H

#include "base/err.h"

#include <stdint.h>

#define KIB (UINT64_C(1) << 10)
#define MIB (UINT64_C(1) << 20)
#define GIB (UINT64_C(1) << 30)
#define TIB (UINT64_C(1) << 40)

#define SIZE_TEXT_SIZE 24

/* 0, or -EINVAL / -ERANGE with a text that shows what is accepted. */
int size_parse(const char *text, uint64_t *ret_bytes, struct err *err) __must_check;

/* Shortest exact or two-decimal form: "64M", "1.50G", "0".  Returns text. */
char *size_to_text(uint64_t bytes, char text[SIZE_TEXT_SIZE]);

#endif
