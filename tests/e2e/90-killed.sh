#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A test that is killed in its middle leaves things behind; tests/clean takes all of it away, and the same test runs again.
# Alone: it uses another test's folder.
set -u
cd "$(dirname "$0")/../.."
[ "$(id -u)" -eq 0 ] && [ -c /dev/fuse ] && [ -c /dev/loop-control ] ||
	{ echo "needs root, /dev/fuse and /dev/loop-control"; exit 77; }
script=tests/e2e/10-lifecycle.sh dir=/tmp/strake-e2e-lifecycle
note() { printf '%(%H:%M:%S)T - %s\n' -1 "$*"; }
die() { echo "FAILED: $*"; tests/clean --only $dir; exit 1; }
trap 'tests/clean --only $dir >/dev/null 2>&1; rm -f "$log"' EXIT
trap 'exit 143' TERM INT HUP
log=$(mktemp)

for moment in run/c.sock mnt/include; do
	note "killed once $moment is there"
	setsid "$script" >"$log" 2>&1 &
	pid=$!
	for _ in $(seq 600); do
		[ -e $dir/$moment ] && break
		kill -0 $pid 2>/dev/null || { cat "$log"; die "the test ended before $moment"; }
		sleep 0.05
	done
	[ -e $dir/$moment ] || die "$moment never came"
	kill -KILL -- -$pid 2>/dev/null || kill -KILL $pid
	wait $pid 2>/dev/null
	if tests/clean --only $dir --check >/dev/null; then die "nothing was left: the kill came too late"; fi
	tests/clean --only $dir
	for _ in $(seq 50); do
		tests/clean --only $dir --check >/dev/null && break
		sleep 0.1
	done
	tests/clean --only $dir --check || die "not everything was taken away"
	losetup -a | grep $dir && die "a loop device is left"
	grep $dir /proc/mounts && die "a mount is left"
done
note "and again, to its end"
"$script" >"$log" 2>&1 || { cat "$log"; die "it does not run again"; }
tests/clean --only $dir --check || die "it left something"
note done
