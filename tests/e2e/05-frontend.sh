#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# The FUSE frontend and strake-launcher with real kernels' FUSE and loop devices, on a device of memory instead of a volume:
# a file system, kills of the "nexus" under verified load, refusals, and what is left after each kind of end.
set -u
cd "$(dirname "$0")/../.."
build=${STRAKE_BUILD:-build/release}
launcher=$PWD/$build/launcher/strake-launcher
program=$PWD/$build/tests/e2e/frontend/fuse-null
dir=/tmp/strake-e2e-frontend
run=$dir/run
pid=
launchers=()

[ "$(id -u)" -eq 0 ] && [ -c /dev/fuse ] && [ -c /dev/loop-control ] ||
	{ echo "needs root, /dev/fuse and /dev/loop-control"; exit 77; }

[ -x "$program" ] || { echo "$program is not built"; exit 1; }

die() { echo "FAILED: $*"; tail -n 20 "$dir/err"; exit 1; }
note() { echo "- $*"; }
nexus() { pgrep -P "$pid" -x fuse-null; }
wait_for() { # seconds what command...
	local tries=$(($1 * 20)) what=$2
	shift 2
	while ! "$@" >/dev/null 2>&1; do
		tries=$((tries - 1))
		[ $tries -gt 0 ] || die "waited in vain for: $what"
		sleep 0.05
	done
}
start() { # arguments of fuse-null
	: >"$dir/out"
	"$launcher" --run-dir "$run" -- "$program" --name vol1 --backing "$dir/shm/disk" "$@" >"$dir/out" 2>>"$dir/err" &
	pid=$!
	wait_for 10 "the block device" grep -q '^published' "$dir/out"
	device=$(awk '/^published/ {print $2}' "$dir/out")
}
stop() { kill -TERM "$pid"; wait "$pid" || die "the launcher ended with $?"; pid=; }
nothing_left() {
	losetup -a | grep "$dir" && die "a loop device is left"
	grep "$dir/run" /proc/mounts && die "a mount is left"
	[ -z "$(ls "$run/volumes")" ] || die "a folder is left"
}
clean() {
	[ ${#launchers[@]} = 0 ] || kill -KILL "${launchers[@]}" 2>/dev/null
	[ -z "$pid" ] || { kill -KILL "$pid" 2>/dev/null; wait "$pid" 2>/dev/null; }
	umount "$dir/mnt" 2>/dev/null
	if [ -d "$run" ]; then
		# A launcher cleans up what another left, and gives up at once as its nexus does.
		"$launcher" --run-dir "$run" -- /bin/false 2>/dev/null
	fi
	umount "$dir/shm" 2>/dev/null
	rm -rf "$dir"
}
trap clean EXIT
trap 'exit 143' TERM INT

clean
mkdir -p "$dir/mnt" "$dir/shm" "$run"
mount -t tmpfs tmpfs "$dir/shm" || exit 1
truncate -s 256M "$dir/shm/disk"
: >"$dir/err"

note "a file system with files"
start
[ "$(blockdev --getsize64 "$device")" = 268435456 ] || die "size"
[ "$(blockdev --getss "$device")" = 4096 ] || die "block size"
[ "$(cat "/sys/block/${device#/dev/}/loop/dio")" = 1 ] || die "direct I/O is off"
mkfs.ext4 -q "$device" && mount "$device" "$dir/mnt" || die "mkfs, mount"
cp -r /usr/include/linux "$dir/mnt/" && sync -f "$dir/mnt" || die "copying"
echo 3 >/proc/sys/vm/drop_caches
diff -r /usr/include/linux "$dir/mnt/linux" >/dev/null || die "files differ"

note "unpublish is refused while it is mounted"
kill -USR1 "$(nexus)"
wait_for 10 "the refusal" grep -q "unpublish EBUSY: $device is mounted at $dir/mnt" "$dir/out"
umount "$dir/mnt"

note "and while a process has it open"
sleep 100 <"$device" &
sleeper=$!
kill -USR1 "$(nexus)"
wait_for 10 "the refusal" grep -q "unpublish EBUSY: $device is in use by process $sleeper (sleep)" "$dir/out"
kill "$sleeper"; wait "$sleeper" 2>/dev/null
fsck.ext4 -fn "$device" >/dev/null 2>&1 || die "fsck"

note "unpublish"
kill -USR1 "$(nexus)"
wait_for 10 "unpublish" grep -q 'unpublish done' "$dir/out"
grep -q '^gone' "$dir/out" || die "the descriptors were not let go of"
nothing_left
stop

note "kills under verified load, with requests in flight each time"
start --delay-us 300
fio --name=load --filename="$device" --direct=1 --ioengine=io_uring --rw=randrw --bs=4k --iodepth=32 --size=128M \
	--io_size=96M --verify=crc32c --verify_fatal=1 --verify_state_save=0 --verify_backlog=512 >"$dir/fio" 2>&1 &
fio=$!
kills=0
while kill -0 "$fio" 2>/dev/null && [ $kills -lt 12 ]; do
	sleep 0.3
	victim=$(nexus) || continue
	kill -KILL "$victim" && kills=$((kills + 1))
done
wait "$fio" || { cat "$dir/fio"; die "fio saw an error"; }
again=$(grep -o '"left_by_predecessor":[0-9]*' "$dir/err" | awk -F: '{n += $2} END {print n + 0}')
note "  $kills kills, $again requests left by predecessors"
[ "$kills" -ge 2 ] && [ "$again" -gt 0 ] || die "the kills did not hit"
wait_for 10 "a nexus" nexus
dd if=/dev/zero of="$device" bs=4k count=1 oflag=direct conv=fsync,notrunc status=none || die "fsync"
blkdiscard -o 4096 -l 1048576 "$device" || die "discard"
blkdiscard -z -o 4096 -l 1048576 "$device" || die "zeroes"

note "the launcher's end while the nexus is dead"
kill -STOP "$(nexus)"
kill -KILL "$(nexus)"
stop
nothing_left

note "a killed launcher: the next one cleans up"
start
orphan=$(nexus)
kill -KILL "$pid"; wait "$pid" 2>/dev/null; pid=
wait_for 10 "the nexus's end" test ! -d "/proc/$orphan"
losetup -a | grep -q "$dir" || die "nothing to clean"
start
grep -q 'leftover-cleaned' "$dir/err" || die "it did not say so"
[ "$(losetup -a | grep -c "$dir")" = 1 ] || die "the old device is left"

note "a launcher's end while the device is mounted: cut off, nothing left"
mkfs.ext4 -q "$device" && mount "$device" "$dir/mnt" || die "mkfs, mount"
echo hello >"$dir/mnt/file"
stop
grep -q "\"device-in-use\",\"device\":\"$device\"" "$dir/err" || die "it did not say so"
umount "$dir/mnt"
nothing_left
start
mount "$device" "$dir/mnt" || die "mount"
[ "$(cat "$dir/mnt/file")" = hello ] || die "what was written back before the end is lost"
umount "$dir/mnt"
stop
nothing_left

note "many launchers that take loop devices at the same time"
many=12
for i in $(seq $many); do
	truncate -s 16M "$dir/shm/disk$i"
	"$launcher" --run-dir "$dir/run$i" -- "$program" --name "many$i" --backing "$dir/shm/disk$i" >"$dir/out$i" 2>>"$dir/err" &
	launchers[i]=$!
done
for i in $(seq $many); do
	wait_for 10 "the block device of launcher $i" grep -q '^published' "$dir/out$i"
done
[ "$(cat "$dir"/out[0-9]* | awk '/^published/ {print $2}' | sort -u | wc -l)" = $many ] || die "two have the same device"
kill -TERM "${launchers[@]}"
wait "${launchers[@]}" || die "a launcher ended with $?"
losetup -a | grep "$dir" && die "a loop device is left"

note "one launcher for a run folder, and a program that cannot start"
start
"$launcher" --run-dir "$run" -- /bin/true 2>"$dir/second" && die "a second launcher started"
grep -q 'another strake-launcher runs' "$dir/second" || die "it did not say why"
stop
"$launcher" --run-dir "$run" -- /nonexistent 2>"$dir/second"
[ $? -eq 127 ] || die "a program that does not exist"
echo passed
