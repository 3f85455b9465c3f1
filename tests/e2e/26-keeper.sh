#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The launcher in a mount namespace of its own, as in a container that can die whole, and a keeper as another process: kills of launcher and nexus
# together, of the keeper, of all three, in the middle of publishing and unpublishing, and SIGTERM. What the keeper holds pauses and goes on, what
# nobody holds is cleaned away and comes back on a fresh device.
. "$(dirname "$0")/lib.sh" keeper
keeper=$run/keeper.sock
vol=kept-$$
# A container has a mount namespace of its own, and neither the machine's mounts of volumes nor FUSE's control files.
prefix[nexus]="unshare -m $dir/container"
launcher_options=(--keeper "$keeper")

rpc() { "$bin/tests/e2e/rpc/rpc" "$run/nexus.sock" "Nexus/$1" "name=$vol" "${@:2}"; }
keeper_says() { tail -n 1 "$dir/keeper.out" | grep -qx "$1"; }
start_keeper() {
	rm -f "$dir/keeper.out"
	"$bin/tests/e2e/keeper/test-keeper" "$keeper" >"$dir/keeper.out" 2>>"$dir/keeper.log" 3>&- &
	pids[keeper]=$!
	wait_for 10 "the keeper" grep -q . "$dir/keeper.out"
}
logged() { tail -c "+$((from + 1))" "$dir/nexus.log" | grep -q "\"event\":\"$1\""; } # since mark
mark() { from=$(stat -c %s "$dir/nexus.log"); }
state() { rpc ListVolumes | jq -r '.volumes[0].state'; }
device_of() { rpc ListVolumes | jq -r '.volumes[0].device'; }
is_served() { state_is Online && [ "$(device_of)" = "$device" ]; }
loops() { losetup -a | grep -F "/$vol)"; }
nothing_left() {
	if loops; then die "a loop device is left"; fi
	[ -z "$(ls "$run/records" "$run/volumes" | grep "$vol")" ] || die "a record or folder is left: $(ls "$run/records" "$run/volumes")"
	keeper_says "synced volumes=0" || die "the keeper holds something: $(tail -n 1 "$dir/keeper.out")"
}
kill_both() { # launcher and nexus at once
	local nexus
	nexus=$(nexus_pid)
	kill -KILL "${pids[nexus]}" $nexus 2>/dev/null
	wait "${pids[nexus]}" 2>/dev/null
	unset "pids[nexus]"
}
# Files with fsync on the file system, their sums kept for later.
files_start() {
	rm -f "$dir/files.stop"
	(
		for ((i = 0; ; i++)); do
			[ ! -e "$dir/files.stop" ] || exit 0
			head -c $((RANDOM * 4 + 1)) /dev/urandom >"$dir/file"
			dd if="$dir/file" of="$dir/mnt/file$((i % 200))" bs=64k conv=fsync status=none || exit 1
			sed -i "\\,/file$((i % 200))\$,d" "$dir/sums"
			printf '%s  %s\n' "$(sha256sum <"$dir/file" | cut -d' ' -f1)" "$dir/mnt/file$((i % 200))" >>"$dir/sums"
		done
	) &
	load_pid=$!
	fallocate -l 32M "$dir/mnt/blocks"
	"$blkcheck" load "$dir/mnt/blocks" --seconds 300 --stop "$dir/files.stop" >"$dir/load.json" 2>"$dir/load.log" &
	blocks_pid=$!
}
files_go_on() { # until two more are written
	local before
	before=$(stat -c %Y%s "$dir/sums")
	wait_for 30 "the load to go on" eval '[ "$(stat -c %Y%s "$dir/sums")" != '"$before"' ]'
	kill -0 $load_pid $blocks_pid 2>/dev/null || die "the load failed"
}
files_end() {
	touch "$dir/files.stop"
	wait $load_pid || die "a file could not be written"
	wait $blocks_pid || die "the load failed: $(cat "$dir/load.json" "$dir/load.log")"
	load_pid=
	note "load: $(cat "$dir/load.json")"
}

note "a launcher that waits for its keeper"
start_nexus_without_waiting() {
	printf '#!/bin/sh\numount -l %s/mnt /sys/fs/fuse/connections 2>/dev/null\nexec "$@"\n' "$dir" >"$dir/container" && chmod +x "$dir/container"
	# shellcheck disable=SC2086
	${prefix[nexus]} "$bin/launcher/strake-launcher" --run-dir "$run" "${launcher_options[@]}" -- "$bin/nexus/nexus" --config "$dir/nexus.yaml" >>"$dir/nexus.log" 2>&1 3>&- &
	pids[nexus]=$!
}
start_nexus() { # the first time before its keeper is there
	from=$(stat -c %s "$dir/nexus.log" 2>/dev/null || echo 0)
	if [ -z "${pids[keeper]:-}" ]; then
		start_nexus_without_waiting
		wait_for 10 "the launcher to say that it waits" logged waiting-for-keeper
		nexus_pid && die "the nexus runs although nobody knows what the keeper holds"
		start_keeper
	else
		start_nexus_without_waiting
	fi
	wait_for 20 "the nexus to serve" serves nexus "$from"
}
cluster 512M
strake volume create "$vol" --size 192M --replicas 3 >/dev/null && strake volume open "$vol" --wait >/dev/null || die "volume"
strake volume publish "$vol" >/dev/null || die "publish"
device=$(device_of)
wait_for 5 "the keeper to hold it" keeper_says "synced volumes=1"
mkfs.ext4 -q "$device" && mkdir "$dir/mnt" && mount "$device" "$dir/mnt" || die "file system"
: >"$dir/sums"
began=$(cut -d' ' -f1 /proc/uptime)
files_start
files_go_on

note "launcher and nexus killed at once"
for round in 1 2 3 4; do
	kill_both
	mark
	sleep "0.$((RANDOM % 5))"
	start_nexus
	logged adopted || die "it was not adopted"
	wait_for 30 "the same device, Online" is_served
	files_go_on
done

note "the keeper killed, and back; then launcher and nexus killed"
kill_9 keeper
mark
sleep 0.5
start_keeper
wait_for 10 "the keeper to hold it again" keeper_says "synced volumes=1"
kill_both
mark
start_nexus
logged adopted || die "it was not adopted"
wait_for 30 "the same device, Online" is_served
files_go_on

note "SIGTERM of the launcher, as in an upgrade"
for round in 1 2; do
	kill -TERM "${pids[nexus]}"
	wait "${pids[nexus]}" || die "the launcher ended with $?"
	loops >/dev/null || die "the device was taken away"
	sleep 0.3
	start_nexus
	wait_for 30 "the same device, Online" is_served
	files_go_on
done

note "SIGTERM while the keeper is away, which comes back in time"
kill_9 keeper
kill -TERM "${pids[nexus]}"
sleep 2
kill -0 "${pids[nexus]}" || die "the launcher did not wait for the keeper"
start_keeper
wait "${pids[nexus]}" || die "the launcher ended with $?"
loops >/dev/null || die "the device was taken away"
start_nexus
wait_for 30 "the same device, Online" is_served
files_go_on

note "a successor waits for the nexus before it"
ls -l "/proc/$(nexus_pid)/fd" | grep -q nexus.lock || die "the nexus does not hold on to the lock"
kill -TERM "${pids[nexus]}"
wait "${pids[nexus]}"
flock "$run/nexus.lock" sleep 3 &
sleep 0.3
mark
start_nexus_without_waiting
wait_for 5 "the launcher to say so" logged waiting-for-predecessor
nexus_pid && die "two nexuses on one request table"
wait_for 20 "the nexus to serve" serves nexus "$from"
wait_for 30 "the same device, Online" is_served
files_go_on

files_end
umount "$dir/mnt" && mount "$device" "$dir/mnt" || die "mount again"
sha256sum --quiet -c "$dir/sums" || die "a file differs"
note "$(wc -l <"$dir/sums") files read back; $(grep -o '"left_by_predecessor":[0-9]*' "$dir/nexus.log" | awk -F: '{n += $2} END {print n + 0}') requests were left by predecessors"
dmesg 2>/dev/null | awk -v began="$began" -v device="${device#/dev/}" '{line = $0; sub(/^\[ */, "")}
	$0 + 0 > began && $0 ~ "(I/O error, dev |EXT4-fs error.*)" device {print line; found = 1} END {exit !found}' && die "the kernel saw errors"
umount "$dir/mnt"
fsck.ext4 -nf "$device" >/dev/null || die "fsck"
strake volume compare "$vol" >/dev/null || die "the replicas differ"

note "a device that was taken over goes by force"
mount "$device" "$dir/mnt" || die "mount"
rpc UnpublishVolume >"$dir/out" 2>&1 && die "unpublished while it is mounted"
grep -q "is in use" "$dir/out" || die "the refusal says $(cat "$dir/out")"
rpc UnpublishVolume force=true >/dev/null || die "unpublish by force"
if dd if=/dev/urandom of="$dir/mnt/lost" bs=64k count=1 conv=fsync status=none 2>/dev/null; then die "the I/O did not fail"; fi
umount "$dir/mnt"
wait_for 5 "nothing left" nothing_left
rpc PublishVolume >/dev/null || die "publish"
device=$(device_of)

for record in whole half; do
	note "all three killed at once: the I/O fails, and a fresh device comes ($record record)"
	mount "$device" "$dir/mnt" || die "mount"
	sequence=$(cat "/sys/block/${device#/dev/}/diskseq")
	kill -KILL "${pids[keeper]}"
	kill_both
	wait "${pids[keeper]}" 2>/dev/null
	unset "pids[keeper]"
	if dd if=/dev/urandom of="$dir/mnt/lost" bs=64k count=1 conv=fsync status=none 2>/dev/null; then die "the I/O did not fail"; fi
	# Half: as if the launcher had not heard yet which device it was.
	[ $record = whole ] || sed -i 's/disk_sequence=.*/disk_sequence=0 device=/' "$run/records/$vol"
	start_keeper
	mark
	start_nexus
	logged leftover-cleaned || die "nothing was cleaned"
	umount "$dir/mnt"
	wait_for 30 "Online on another device" eval 'state_is Online && [ -b "$(device_of)" ]'
	device=$(device_of)
	[ "$(cat "/sys/block/${device#/dev/}/diskseq")" != "$sequence" ] || die "it is the dead device"
	wait_for 10 "one loop device" eval '[ "$(loops | wc -l)" = 1 ]'
	wait_for 5 "the keeper to hold it" keeper_says "synced volumes=1"
	mount "$device" "$dir/mnt" || die "mount"
	sha256sum --quiet -c "$dir/sums" || die "a file differs"
	umount "$dir/mnt"
done

note "a keeper that is not there: nothing is published, and SIGTERM takes the device away"
rpc UnpublishVolume >/dev/null || die "unpublish"
nothing_left
kill_9 keeper
sleep 0.3
if rpc PublishVolume >"$dir/out" 2>&1; then die "published without the keeper"; fi
grep -q "the keeper at $keeper is not connected" "$dir/out" || die "the refusal says $(cat "$dir/out")"
start_keeper
wait_for 10 "the keeper" keeper_says "synced volumes=0"

note "published is what the keeper has"
kill -STOP "${pids[keeper]}"
rpc PublishVolume >"$dir/out" 2>&1 &
publish=$!
wait_for 5 "the loop device" loops
sleep 0.5
kill -0 $publish || die "published before the keeper had it"
kill -CONT "${pids[keeper]}"
wait $publish || die "publish: $(cat "$dir/out")"
keeper_says "synced volumes=1" || die "the keeper does not have it"
rpc UnpublishVolume >/dev/null || die "unpublish"
kill -STOP "${pids[keeper]}"
rpc PublishVolume >"$dir/out" 2>&1 && die "published without the keeper"
grep -q "the keeper at $keeper did not take it" "$dir/out" || die "the refusal says $(cat "$dir/out")"
kill -CONT "${pids[keeper]}"
wait_for 5 "nothing left" nothing_left

rpc PublishVolume >/dev/null || die "publish"
kill_9 keeper
kill -TERM "${pids[nexus]}"
wait "${pids[nexus]}" || die "the launcher ended with $?"
start_keeper
if loops; then die "a loop device is left"; fi
start_nexus
wait_for 30 "Online" state_is Online

note "killed at any moment while it is published and unpublished"
device=
for round in $(seq 20); do
	(while rpc PublishVolume && rpc UnpublishVolume; do :; done) >/dev/null 2>&1 &
	toggle=$!
	sleep "0.$(printf %03d $((RANDOM % 400)))"
	case $((round % 5)) in
	0) kill -KILL "${pids[keeper]}" ;; # all three
	1) kill_9 keeper && start_keeper ;;
	esac
	kill_both
	wait $toggle
	kill -0 "${pids[keeper]}" 2>/dev/null || { wait "${pids[keeper]}" 2>/dev/null; start_keeper; }
	start_nexus
	wait_for 30 "round $round: Online" state_is Online
	wait_for 20 "round $round: publish" rpc PublishVolume
	dd if="$(device_of)" of=/dev/null bs=1M count=4 iflag=direct status=none || die "round $round: it cannot be read"
	[ "$(loops | wc -l)" = 1 ] || die "round $round: $(loops)"
	rpc UnpublishVolume >"$dir/out" 2>&1 || die "round $round: unpublish: $(cat "$dir/out")"
	wait_for 5 "round $round: nothing left" nothing_left
done
rpc PublishVolume >/dev/null && mount "$(device_of)" "$dir/mnt" && sha256sum --quiet -c "$dir/sums" || die "a file differs"
umount "$dir/mnt"
rpc UnpublishVolume >/dev/null || die "unpublish"
nothing_left
note done
