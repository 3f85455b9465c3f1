#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A volume grows while it is used: under load, with a mounted file system on it, with a replica away that is rebuilt later, with
# the nexus and the launcher killed in the middle, and over NVMe/TCP; what is refused, and why.
. "$(dirname "$0")/lib.sh" resize

MIB=$((1024 * 1024))
size_of() { strake volume status v -o json | jq -r .size_bytes; }
recorded() { jq -r .size_bytes "$dir"/state/*/volumes/v.json 2>/dev/null || jq -r .size_bytes "$(find "$dir/state" -name 'v.json' | head -1)"; }
grown() { # MiB: the volume, its record, the block device
	[ "$(size_of)" = $(($1 * MIB)) ] && [ "$(recorded)" = $(($1 * MIB)) ] && [ "$(blockdev --getsize64 "$device")" = $(($1 * MIB)) ]
}
refused() { # what the text must hold, command...
	local text=$1
	shift
	"$@" >"$dir/refused" 2>&1 && die "was not refused: $*"
	grep -q "$text" "$dir/refused" || die "refused with another text ($text): $(cat "$dir/refused")"
}
resize() { strake volume resize v --size "$1M" >/dev/null || die "resize to $1M"; }
kill_nexus() {
	local before
	before=$(nexus_pid)
	kill -KILL "$before"
	successor_serves() { [ -n "$(nexus_pid)" ] && [ "$(nexus_pid)" != "$before" ] && { state_is Online || state_is Degraded; }; }
	wait_for 60 "the nexus's successor" successor_serves
}

cluster 1G
volume 64M
mkfs.ext4 -q "$device" || die "mkfs"
mkdir -p "$dir/mnt"
mount "$device" "$dir/mnt" || die "mount"
dd if=/dev/urandom of="$dir/mnt/data" bs=1M count=20 status=none && sync
sum=$(sha256sum <"$dir/mnt/data")

note "under a mounted file system, which then grows, too"
resize 128
grown 128 || die "$(size_of) bytes, recorded $(recorded), device $(blockdev --getsize64 "$device")"
if ! resize2fs "$device" >"$dir/resize2fs.log" 2>&1; then
	grep -q 'Permission denied' "$dir/resize2fs.log" || die "resize2fs: $(cat "$dir/resize2fs.log")"
	note "no CAP_SYS_RESOURCE here, which ext4 wants for a mounted file system: it grows while it is not mounted"
	umount "$dir/mnt"
	e2fsck -fp "$device" >"$dir/fsck.log" 2>&1
	resize2fs "$device" >"$dir/resize2fs.log" 2>&1 || die "resize2fs: $(cat "$dir/resize2fs.log")"
	mount "$device" "$dir/mnt" || die "mount"
fi
dd if=/dev/urandom of="$dir/mnt/more" bs=1M count=70 status=none && sync || die "the new space is not there"
[ "$(sha256sum <"$dir/mnt/data")" = "$sum" ] || die "the file changed"
equal

note "what is refused; again is no error"
refused 'does not shrink' strake volume resize v --size 64M
refused 'no multiple of 4096' strake volume resize v --size 134217729
refused 'above 64 TiB' strake volume resize v --size 65T
grown 128 || die "a refused resize changed something"
resize 128
umount "$dir/mnt"
e2fsck -fn "$device" >"$dir/fsck.log" 2>&1 || die "fsck: $(cat "$dir/fsck.log")"

note "under load, a replica away; it comes back and is rebuilt"
load_start 300 --threads 4 --size $((60 * MIB))
kill_9 c
wait_for 10 Degraded state_is Degraded
resize 160
grown 160 || die "did not grow without a replica"
dd if=/dev/urandom of="$device" bs=1M seek=130 count=30 oflag=direct conv=notrunc status=none || die "the new space cannot be written"
sum=$(dd if="$device" bs=1M skip=130 iflag=direct status=none | sha256sum)
start_agent c
wait_for 60 Online state_is Online
load_end
equal
kill_9 a
wait_for 10 Degraded state_is Degraded
[ "$(dd if="$device" bs=1M skip=130 iflag=direct status=none | sha256sum)" = "$sum" ] || die "the new space has another content"
start_agent a
wait_for 60 Online state_is Online

note "the nexus is killed in the middle, again and again; nobody sees an error"
load_start 300 --threads 4 --size $((60 * MIB))
size=160
for delay in 0 0.002 0.005 0.01 0.02 0.05; do
	size=$((size + 4))
	strake volume resize v --size "${size}M" >"$dir/resize.out" 2>&1 &
	resize_pid=$!
	sleep $delay
	kill_nexus
	wait $resize_pid
	again() { strake volume resize v --size "${size}M" >"$dir/resize.out" 2>&1; }
	wait_for 30 "the resize to $size MiB" again
	grown $size || die "$size MiB: $(size_of) bytes, recorded $(recorded), device $(blockdev --getsize64 "$device")"
done
wait_for 60 Online state_is Online
load_end
equal

note "the launcher, and with it the nexus, ends and starts: the device of the same size"
strake volume unpublish v || die "unpublish"
strake volume publish v >/dev/null || die "publish"
device=$(strake volume status v -o json | jq -r .device)
grown $size || die "published anew it has $(blockdev --getsize64 "$device") bytes"
strake volume unpublish v || die "unpublish"

note "over NVMe/TCP"
strake volume publish v --frontend nvme >/dev/null || die "publish nvme"
nqn=$(strake volume status v -o json | jq -r .nqn)
resize 192
"$bin/tests/bench/nvme-perf" --address 127.0.0.1 --port $((base_port + 9)) --nqn "$nqn" \
	--hostnqn nqn.2025-01.io.strake:host:00000000-0000-4000-8000-000000000001 --rw write --size 131072 --seconds 1 --sequential \
	>"$dir/perf.json" 2>"$dir/perf.log" || die "$(cat "$dir/perf.log")"
equal
strake volume unpublish v && strake volume close v || die "close"
refused 'open it first' strake volume resize v --size 256M
strake volume open v --wait >/dev/null || die "open"
[ "$(size_of)" = $((192 * MIB)) ] || die "opened anew it has $(size_of) bytes"
strake volume close v && strake volume delete v || die "delete"
note done
