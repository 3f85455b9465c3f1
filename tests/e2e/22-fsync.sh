#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The nexus killed again and again under fio with fsync: the device pauses, every fsync ends well, every byte reads back; a file system on it too.
. "$(dirname "$0")/lib.sh" fsync
cluster 512M
volume 256M
began=$(cut -d' ' -f1 /proc/uptime)

kill_nexus() { # times
	local round before
	for ((round = 0; round < $1; round++)); do
		sleep 0.7
		before=$(nexus_pid)
		kill -KILL "$before"
		wait_for 20 "another nexus" sh -c "p=\$(pgrep -P ${pids[nexus]} -x nexus) && [ \"\$p\" != $before ]"
		wait_for 30 "Online" state_is Online
	done
}

note "fio with fsync on the device"
fio --name=fsync --filename="$device" --rw=randwrite --bs=4k --iodepth=8 --ioengine=io_uring --direct=1 --size=64m --fsync=16 \
	--runtime=8 --time_based --verify=crc32c --verify_fatal=1 --verify_backlog=1024 --aux-path="$dir" --output-format=json \
	--output="$dir/fio.json" >"$dir/fio.log" 2>&1 &
load_pid=$!
kill_nexus 4
wait $load_pid || die "fio: $(cat "$dir/fio.log" "$dir/fio.json")"
jq -e '.jobs[0] | .error == 0 and .sync.total_ios > 0 and .write.total_ios > 0' "$dir/fio.json" >/dev/null || die "fio: $(cat "$dir/fio.json")"
note "$(jq -r '.jobs[0] | "\(.write.total_ios) writes, \(.sync.total_ios) fsyncs, longest fsync \(.sync.lat_ns.max / 1000000 | floor) ms"' "$dir/fio.json")"
load_pid=
left=$(grep -o '"left_by_predecessor":[0-9]*' "$dir/nexus.log" | awk -F: '{n += $2} END {print n + 0}')
[ "$left" -gt 0 ] || die "no kill hit a request in flight"
note "$left requests were left by predecessors and answered"
equal

note "a file system, files with fsync, and a nexus killed meanwhile"
mkfs.ext4 -q "$device" && mkdir "$dir/mnt" && mount "$device" "$dir/mnt" || die "file system"
(
	for ((i = 0; ; i++)); do
		[ ! -e "$dir/files.stop" ] || exit 0
		head -c $((RANDOM * 4 + 1)) /dev/urandom >"$dir/file"
		dd if="$dir/file" of="$dir/mnt/file$i" bs=64k conv=fsync status=none || exit 1
		printf '%s  %s\n' "$(sha256sum <"$dir/file" | cut -d' ' -f1)" "$dir/mnt/file$i" >>"$dir/sums"
	done
) &
load_pid=$!
kill_nexus 2
touch "$dir/files.stop"
wait $load_pid || die "a file could not be written"
load_pid=
umount "$dir/mnt" && mount "$device" "$dir/mnt" || die "mount again"
sha256sum --quiet -c "$dir/sums" || die "a file differs"
note "$(wc -l <"$dir/sums") files read back"
dmesg 2>/dev/null | awk -v began="$began" -v device="${device#/dev/}" '{line = $0; sub(/^\[ */, "")}
	$0 + 0 > began && $0 ~ "(I/O error, dev |EXT4-fs error.*)" device {print line; found = 1} END {exit !found}' && die "the kernel saw errors"
umount "$dir/mnt"
fsck.ext4 -nf "$device" >/dev/null || die "fsck"
equal
note done
