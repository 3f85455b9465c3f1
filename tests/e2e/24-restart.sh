#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Every process killed at once and started again, as after a crash of the node: pools, volumes, device and export come back by themselves, with
# everything that was flushed.
. "$(dirname "$0")/lib.sh" restart
cluster 512M
volume 128M
strake volume create w --size 64M --replicas 3 >/dev/null && strake volume open w --wait && strake volume publish w --frontend nvme || die "second volume"
nqn=$(strake volume status w -o json | jq -r .nqn)
strake volume create closed --size 16M --replicas 3 >/dev/null || die "third volume"
mkfs.ext4 -q "$device" && mkdir "$dir/mnt" && mount "$device" "$dir/mnt" || die "file system"
cp -a /usr/include/linux "$dir/mnt/" && sync -f "$dir/mnt" || die "copy"

for round in 1 2; do
	note "everything killed while the file system is mounted and written to ($round)"
	dd if=/dev/zero of="$dir/mnt/unflushed" bs=1M count=8 status=none
	nexus=$(nexus_pid)
	kill -KILL "${pids[nexus]}" "$nexus" "${pids[a]}" "${pids[b]}" "${pids[c]}"
	for name in nexus a b c; do kill_9 $name; done
	wait_for 10 "the nexus's end" test ! -d "/proc/$nexus"
	umount -l "$dir/mnt"

	# Round 1: pool-agents first; round 2: the nexus first, it waits for them.
	[ $round -eq 2 ] || for name in a b c; do start_agent $name; done
	start_nexus nexus
	[ $round -eq 1 ] || for name in a b c; do start_agent $name; done
	wait_for 30 "Online" state_is Online
	published() { device=$(strake volume status v -o json | jq -r .device); [ -b "$device" ] && [ "$(blockdev --getsize64 "$device")" = $((128 << 20)) ]; }
	wait_for 20 "the device" published
	[ "$(strake pool list -o json | jq -c 'map(.state) | unique')" = '["Online"]' ] || die "pools: $(strake pool list)"
	[ "$(losetup -a | grep -c "$dir")" = 1 ] || die "loop devices: $(losetup -a | grep "$dir")"
	strake volume list -o json | jq -e '.[] | select(.name == "closed" and .state == "Closed")' >/dev/null || die "the closed volume: $(strake volume list)"
	exported() { strake volume status w -o json | jq -e --arg nqn "$nqn" '.state == "Online" and .nqn == $nqn' >/dev/null; }
	wait_for 20 "the export" exported
	"$bin/tests/bench/nvme-perf" --address 127.0.0.1 --port $((base_port + 9)) --nqn "$nqn" \
		--hostnqn nqn.2025-01.io.strake:host:00000000-0000-4000-8000-000000000001 --rw mixed --seconds 1 >"$dir/perf.json" ||
		die "the export does not serve"
	fsck.ext4 -p "$device" >"$dir/fsck" || [ $? -eq 1 ] || die "fsck: $(cat "$dir/fsck")"
	mount "$device" "$dir/mnt" || die "mount"
	diff -r /usr/include/linux "$dir/mnt/linux" >/dev/null || die "what was synced is not there"
	sync -f "$dir/mnt"
	equal
done
umount "$dir/mnt"
strake volume delete closed || die "delete"
note done
