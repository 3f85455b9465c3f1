/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLI_COMMAND_H
#define CLI_COMMAND_H

/* The whole program; returns the exit code: 0, 1 it did not work, 2 wrong usage. */
int command_main(int argc, char **argv);

#endif
