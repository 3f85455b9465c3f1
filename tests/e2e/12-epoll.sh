#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Where io_uring is forbidden, as container run-times do: everything goes on over epoll.  Random operations compared with a plain file,
# verification at depth, kills under verified load, a file system.
. "$(dirname "$0")/lib.sh" epoll
deny=$bin/tests/e2e/deny-uring/deny-uring
for name in a b c nexus; do prefix[$name]=$deny; done
cluster 512M
strake daemon list -o json | jq -e 'length == 4 and all(.io | startswith("epoll, "))' >/dev/null || die "not over epoll: $(strake daemon list)"
for name in a b c nexus; do
	grep '"event":"second-best-io"' "$dir/$name.log" | grep -q 'io_uring is forbidden here.*it is epoll, which costs' || die "$name does not say why"
done
volume 64M
"$blkcheck" random "$device" --file "$dir/plain" --ops 3000 --seed 3 || die "random operations"
fio --name=verify --filename="$device" --rw=randwrite --bs=4k --iodepth=32 --ioengine=libaio --direct=1 --size=48m \
	--verify=crc32c --do_verify=1 --verify_fatal=1 --aux-path="$dir" >"$dir/fio.log" 2>&1 || die "fio: $(tail -5 "$dir/fio.log")"
equal

note "a pool-agent and the nexus killed under load"
load_start 60
sleep 1
kill_9 b
wait_for 10 "Degraded" state_is Degraded
start_agent b
before=$(nexus_pid)
kill -KILL "$before"
wait_for 20 "another nexus" sh -c "p=\$(pgrep -P ${pids[nexus]} -x nexus) && [ \"\$p\" != $before ]"
wait_for 60 "Online" state_is Online
sleep 1
load_end
equal

note "a file system, discard"
mkfs.ext4 -q "$device" && mkdir "$dir/mnt" && mount "$device" "$dir/mnt" || die "file system"
cp -a /usr/include/linux "$dir/mnt/" || die "copy"
umount "$dir/mnt" && mount "$device" "$dir/mnt" && diff -r /usr/include/linux "$dir/mnt/linux" || die "the tree differs"
rm -r "$dir/mnt/linux" && fstrim "$dir/mnt" && umount "$dir/mnt" && fsck.ext4 -nf "$device" >/dev/null || die "fstrim, fsck"
equal
strake volume unpublish v && strake volume close v && strake volume delete v || die "delete"
note done
