#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# 20-csi-sanity once more, as where io_uring is forbidden.  (No folder's name begins with another's: tests/clean takes both.)
STRAKE_IO=epoll exec "$(dirname "$0")/20-csi-sanity.sh" epoll-csi-sanity
