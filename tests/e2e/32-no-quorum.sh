#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Too few replicas: requests wait, or fail after a time where the volume says so; both, and how many copies a write needs, change on a volume in use.
. "$(dirname "$0")/lib.sh" no-quorum
cluster 512M
volume 64M --on-no-quorum error:5
one_block() { dd if=/dev/urandom of="$device" bs=4k count=1 seek="$1" oflag=direct conv=notrunc status=none; }
policy() { strake volume status v | sed -n 's/^no quorum  *//p'; }

[ "$(policy)" = "requests fail after 5 s" ] || die "the policy is not shown: $(policy)"
one_block 0 || die "a write fails on a whole volume"
kill_9 b
kill_9 c
note "a write fails after 5 s"
SECONDS=0
one_block 1 2>/dev/null && die "acknowledged with one replica of three"
[ $SECONDS -ge 3 ] && [ $SECONDS -lt 30 ] || die "failed after $SECONDS s"
strake volume status v | grep -q "requests fail meanwhile" || die "the status does not say so"
SECONDS=0
one_block 2 2>/dev/null && die "acknowledged with one replica of three"
[ $SECONDS -lt 3 ] || die "the next one took $SECONDS s"

note "told to wait, it waits, until a replica is back"
strake volume set v --on-no-quorum stall || die "volume set"
[ "$(policy)" = "requests wait" ] || die "the policy is not shown: $(policy)"
one_block 3 & waiting=$!
sleep 8
kill -0 $waiting 2>/dev/null || die "a write ended"
start_agent b
wait $waiting || die "the write that waited failed"

note "three copies a write are wanted, then two"
strake volume set v --min-insync 3 || die "volume set"
wait_for 10 "Stalled" state_is Stalled
one_block 4 & waiting=$!
sleep 3
kill -0 $waiting 2>/dev/null || die "acknowledged with two copies of three"
strake volume set v --min-insync 2 || die "volume set"
wait $waiting || die "the write that waited failed"

note "what cannot be is refused, and the nexus remembers"
strake volume set v --min-insync 4 2>/dev/null && die "4 of 3"
strake volume set v 2>/dev/null && die "set nothing"
strake volume set v --on-no-quorum perhaps 2>/dev/null && die "perhaps"
strake volume set v --on-no-quorum error || die "volume set"
start_agent c
wait_for 60 "Online" state_is Online
kill -KILL "$(nexus_pid)"
wait_for 30 "Online after a restart" state_is Online
[ "$(policy)" = "requests fail after 30 s" ] || die "the nexus forgot: $(policy)"
strake volume status v | grep -q "^min-insync  2" || die "the nexus forgot min-insync"
equal
note done
