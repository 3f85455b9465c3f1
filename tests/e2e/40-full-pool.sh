#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A full pool on one replica: that replica leaves, I/O goes on; full pools everywhere: the host gets ENOSPC, what is there can be overwritten.
. "$(dirname "$0")/lib.sh" full-pool
pool_size[c]=96M
cluster 512M
volume 256M --overcommit
note "one pool is too small"
dd if=/dev/urandom of="$device" bs=1M count=200 oflag=direct status=none || die "a write failed although two pools have room"
wait_for 10 "Degraded" state_is Degraded
strake volume status v | grep -qi "pool full" || die "the status does not say why: $(strake volume status v)"
sha256sum <"$device" >"$dir/before"
sha256sum <"$device" | cmp - "$dir/before" || die "reads differ"
strake volume unpublish v && strake volume close v && strake volume delete v || die "delete"

note "all pools are too small"
for name in a b; do
	strake pool create "small-$name" --agent $name --disk "file://$dir/pools/small-$name" --size 96M >/dev/null || die "pool create"
done
strake volume create w --size 256M --replicas 3 --pool small-a --pool small-b --pool pool-c --overcommit || die "volume create"
strake volume open w --wait && strake volume publish w || die "publish"
device=$(strake volume status w -o json | jq -r .device)
dd if=/dev/urandom of="$device" bs=1M count=200 oflag=direct status=none 2>"$dir/dd.log" && die "200 MiB fitted into 96"
grep -qi "space" "$dir/dd.log" || note "dd says: $(cat "$dir/dd.log")"
dd if=/dev/urandom of="$device" bs=1M count=8 oflag=direct conv=notrunc,fsync status=none || die "overwriting failed"
dd if="$device" of=/dev/null bs=1M count=128 iflag=direct status=none || die "reading failed"
blkdiscard -o 0 -l $((64 * 1024 * 1024)) "$device" || die "discard"
sleep 2
dd if=/dev/urandom of="$device" bs=1M count=8 seek=160 oflag=direct status=none || die "no space after a discard"
# Pools of one size are not full at the same write: one may have left S, and comes back when there is room.
wait_for 60 "Online" eval '[ "$(strake volume status w -o json | jq -r .state)" = Online ]'
strake volume compare w || die "the replicas differ"
strake volume unpublish w && strake volume close w && strake volume delete w || die "delete"
note done
