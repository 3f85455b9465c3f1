/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The backend over io_uring.  Where the kernel has them SINGLE_ISSUER, COOP_TASKRUN and
 * DEFER_TASKRUN are used, else a plain ring.
 */
#ifndef URING_URING_H
#define URING_URING_H

struct real_backend;

extern const struct real_backend uring_backend;

#endif
