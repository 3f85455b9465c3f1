/* SPDX-License-Identifier: Apache-2.0 */
/* A store that was just opened, against the model and against itself. */
#ifndef STORE_SWEEP_CHECK_H
#define STORE_SWEEP_CHECK_H

#include "tests/store/workload.h"

#define NO_BLOCK UINT32_MAX

/*
 * Ends the process with case_failed() when anything is not as it may be.  power_lost: what no flush
 * covers may be gone.  torn: the block of the disk that was torn at 512 bytes (NO_BLOCK: none); if
 * it has data, each of its sectors is old or new.  Afterwards the model says that everything is as
 * it was found: it stays so.
 */
void check_opened(struct run *run, bool power_lost, uint32_t torn);
/* After everything in the background has come to its end. */
void check_settled(struct run *run);
/* The cells read through the store as the model has them; -EIO is allowed when faults are. */
void check_reads(struct run *run);

#endif
