/* SPDX-License-Identifier: Apache-2.0 */
/* Commands for a program that runs: lines that come by one named pipe and are answered, each with
 * one line, by another. */
#ifndef FAULTS_COMMANDS_H
#define FAULTS_COMMANDS_H

#include <stdbool.h>
#include <stddef.h>

/* Makes PREFIX.in and PREFIX.out.  Returns the descriptor to wait for; ends the program when it
 * cannot. */
int commands_open(const char *prefix);
/* When it is readable: each line goes to obey, which returns false for one that it does not know,
 * else it is answered "ok " and what `tell` puts into the text. */
void commands_read(bool (*obey)(const char *line), void (*tell)(char *text, size_t size));

#endif
