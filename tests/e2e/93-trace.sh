#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The trace of a daemon that lives, followed: what it does now is seen, and so is its successor after it was killed; the follower ends when its reader
# is gone, and with the signal that ends it.
. "$(dirname "$0")/lib.sh" trace
cluster 256M
volume 64M
followers=()
follow() { # daemon, file
	"$bin/cli/strake" --run-dir "$run" daemon trace "$1" --follow >"$2" 2>"$2.err" 3>&- &
	followers+=($!)
}
trap 'kill "${followers[@]}" 2>/dev/null; cleanup' EXIT
write_at() { # block
	dd if=/dev/urandom of="$device" bs=4096 seek="$1" count=1 oflag=direct conv=notrunc status=none || die "write"
}
seen() { grep -q " host_ack volume=[0-9a-f]* request=write" <(sed -n "/ host_issue volume=[0-9a-f]* request=write offset=$(($1 * 4096)) /,\$p" "$dir/nexus.trace"); }
committed() { grep -c " journal_commit records=" "$dir/a.trace"; }

note "what the daemons do now"
follow nexus "$dir/nexus.trace"
follow a "$dir/a.trace"
wait_for 5 "the trace of the nexus" grep -q "^nexus [0-9.]*, process $(nexus_pid)" "$dir/nexus.trace"
write_at 100
wait_for 5 "the write in the trace" seen 100
wait_for 5 "its journal record in the trace of a" grep -q " journal_commit records=" "$dir/a.trace"
before=$(committed)
write_at 8000
wait_for 5 "the next write in the trace" seen 8000
more_committed() { [ "$(committed)" -gt "$before" ]; }
wait_for 5 "the next journal record" more_committed

note "the next process"
first=$(nexus_pid)
kill -KILL "$first" || die "no nexus"
another() { local now; now=$(nexus_pid) && [ "$now" != "$first" ] && grep -q "^nexus [0-9.]*, process $now" "$dir/nexus.trace"; }
wait_for 10 "the trace of the next nexus" another
wait_for 10 "Online" state_is Online
write_at 200
wait_for 5 "a write in it" seen 200
[ "$(grep -c "^nexus [0-9.]*, process" "$dir/nexus.trace")" = 2 ] || die "not two processes: $(grep "^nexus" "$dir/nexus.trace")"

note "one that is too slow"
kill -STOP "${followers[0]}"
fio --name=trace --filename="$device" --rw=randwrite --bs=4k --iodepth=16 --ioengine=libaio --direct=1 --number_ios=6000 \
	--output="$dir/fio.out" || die "fio"
! grep -q "records were overwritten" "$dir/nexus.trace" || die "it was not slow yet"
kill -CONT "${followers[0]}"
wait_for 5 "the gap to be told" grep -qE "^\([0-9]+ records were overwritten before they were read\)$" "$dir/nexus.trace"
write_at 300
wait_for 5 "what comes after it" seen 300

note "nobody reads any more"
timeout 20 "$bin/cli/strake" --run-dir "$run" daemon trace nexus --follow 2>/dev/null | head -n 1 >/dev/null
[ "${PIPESTATUS[0]}" != 124 ] || die "it follows for nobody"
for pid in "${followers[@]}"; do
	kill -0 "$pid" 2>/dev/null || die "a follower ended by itself: $(cat "$dir"/*.trace.err)"
	kill -TERM "$pid"
	wait "$pid"
	[ $? = 143 ] || die "a follower ended otherwise"
done
followers=()
note done
