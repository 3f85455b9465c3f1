#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Two replicas lost and back in every order: with one left nothing is acknowledged, the status says what is needed, and I/O goes on by itself.
. "$(dirname "$0")/lib.sh" two-lost
cluster 512M
volume 64M
for order in "a b a" "a b b" "b c b" "b c c" "c a c" "c a a"; do
	set -- $order
	note "lost: $1, then $2; back first: $3"
	# The last MiB is left to the write that must wait.
	load_start 120 --threads 4 --size $((63 * 1024 * 1024))
	sleep 0.5
	kill_9 "$1"
	wait_for 10 "Degraded" state_is Degraded
	kill_9 "$2"
	wait_for 10 "Stalled" state_is Stalled
	strake volume status v | grep -q "needs 1 of replicas" || die "the status does not say what is needed"
	dd if=/dev/urandom of="$device" bs=4k count=1 seek=16383 oflag=direct conv=notrunc status=none & waiting=$!
	sleep 1
	kill -0 $waiting 2>/dev/null || die "something was acknowledged with one replica left"
	other=$1
	[ "$3" = "$1" ] && other=$2
	start_agent "$3"
	wait_for 60 "I/O again" sh -c "'$bin/cli/strake' --run-dir '$run' volume status v -o json | jq -e '.state == \"Degraded\"'"
	wait $waiting || die "the write that waited failed"
	start_agent "$other"
	wait_for 90 "Online" state_is Online
	load_end
	equal
done
note done
