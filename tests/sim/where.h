/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SIM_WHERE_H
#define SIM_WHERE_H

#include "pool-agent/store/store.h"

/* Bytes from the disk's beginning; UINT64_MAX: the block is in no cluster. */
uint64_t where_is(const struct store_replica *replica, uint64_t block);

#endif
