/* SPDX-License-Identifier: Apache-2.0 */
/* The backend over epoll and a few threads for each disk, for nodes that lack or forbid io_uring.
 */
#ifndef EPOLL_EPOLL_H
#define EPOLL_EPOLL_H

struct real_backend;

extern const struct real_backend epoll_backend;

#endif
