/* SPDX-License-Identifier: Apache-2.0 */
/* Environment variables in values of the configuration. */
#ifndef DAEMON_EXPAND_H
#define DAEMON_EXPAND_H

#include "base/err.h"
#include "base/strbuf.h"

/* Appends the text with every ${NAME} replaced by that environment variable and $$ by a dollar.
 * -EINVAL with a text without place: a variable that is not set, a dollar that is neither. */
int expand(const char *text, struct strbuf *to, struct err *err) __must_check;

#endif
