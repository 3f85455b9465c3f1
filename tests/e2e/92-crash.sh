#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A volume whose work makes the nexus assert: the nexus is started again, executes the request again, and dies again; the third one opens
# that volume last and Faulted, and the other volume goes on.  What the dead process did can be read.  Core dumps have none of the users' data.
# The nexus is that of the mutants preset, which dies of a write of a certain pattern: the shipped one has nothing of it.
. "$(dirname "$0")/lib.sh" crash
(cmake --preset mutants && nice cmake --build --preset mutants --target nexus) >/dev/null 2>&1 || die "build of preset mutants"
poison="strake dies here"
[ "$(strings -a "$top/build/mutants/nexus/nexus" | grep -c "$poison")" -gt 0 ] || die "the nexus of the mutants preset cannot be made to die"
for program in nexus/nexus pool-agent/pool-agent launcher/strake-launcher; do
	[ "$(strings -a "$bin/$program" | grep -c "$poison")" = 0 ] || die "the shipped $program can be made to die"
done

# Cores fall into $dir.
cores=yes
case $(cat /proc/sys/kernel/core_pattern) in /* | '|'*) cores= ; note "core dumps are not looked at: /proc/sys/kernel/core_pattern sends them elsewhere" ;; esac
[ -z "$cores" ] || ulimit -c unlimited
start_agent() { cd "$dir" && start "$1" "$bin/pool-agent/pool-agent" && cd "$top" || die "start $1"; }
start_nexus() {
	cd "$dir" && start "$1" "$bin/launcher/strake-launcher" --run-dir "$run" -- "$top/build/mutants/nexus/nexus" && cd "$top" || die "start $1"
}
# What was written by the user.  Longer than a register of the processor: what it has just moved may be in the core, with the registers.
data="of the user and for nobody else to see, least of all for those who are sent the core dump of a daemon that has only passed it on"
no_data_in_core() { # program, a text that must be there
	local core
	[ -n "$cores" ] || return 0
	for core in "$dir"/core*; do
		[ -s "$core" ] || die "$1 left no core"
		LC_ALL=C grep -qaF "$2" "$core" || die "the core of $1 has not even its memory: $core"
		! LC_ALL=C grep -qaF "$data" "$core" || die "the user's data is in the core of $1: $core"
		note "core of $1: $(stat -c %s "$core") bytes, none of the user's data"
		rm -f "$core"
	done
}
deaths() { grep -c '"event":"nexus-died"' "$dir/nexus.log"; }
# A trace ends within a line of the tool, not with a broken pipe.
trace_has() { # daemon, pattern, options
	local daemon=$1 pattern=$2
	shift 2
	strake daemon trace "$daemon" "$@" >"$dir/trace.$daemon" || die "trace of $daemon"
	grep -qE "$pattern" "$dir/trace.$daemon" || die "the trace of $daemon has no $pattern: $(head -n 3 "$dir/trace.$daemon"; tail -n 5 "$dir/trace.$daemon")"
}

cluster 512M
volume 128M
poisoned=$device
id=$(strake volume status v -o json | jq -r .uuid)
id=${id%%-*}
strake volume create w --size 64M --replicas 3 >/dev/null && strake volume open w --wait >/dev/null || die "second volume"
device=$(strake volume publish w) && [ -b "$device" ] || die "second device"
yes "$data" | dd of="$poisoned" bs=64k count=128 iflag=fullblock oflag=direct status=none || die "write"
dd if="$poisoned" bs=64k count=128 iflag=direct status=none | sha256sum >"$dir/before" || die "read"
load_start 300

note "a write that the nexus dies of"
printf '%s %s' "$poison" "$data" | dd of="$poisoned" bs=4096 seek=4096 conv=sync oflag=direct status=none 2>"$dir/dd" && die "the write was acknowledged"
grep -q "Input/output error" "$dir/dd" || die "the write failed otherwise: $(cat "$dir/dd")"
[ "$(deaths)" = 2 ] || die "the nexus died $(deaths) times, not twice"
serves_now() { strake volume list -o json | jq -e "length == 2" >/dev/null; }
wait_for 10 "the third nexus" serves_now
no_data_in_core nexus 'volume="v",replica="'
trace_has nexus "died of signal 6 at work=write volume=$id" --previous
grep -q " host_issue volume=$id request=write offset=16777216 length=4096" "$dir/trace.nexus" || die "the request is not in the trace of the dead nexus"
grep -q '"event":"predecessor-crashed","signal":6,"work":"write"' "$dir/nexus.log" || die "the log does not say what the nexus died of"

note "that volume is Faulted, the other one serves"
check_faulted() {
	strake volume status v -o json |
		jq -e '.state == "Faulted" and (.reason | test("^the nexus died 2 times of its write: .*--attach 2"))' >/dev/null ||
		die "not Faulted, or for another reason: $(strake volume status v)"
	! dd if="$poisoned" of=/dev/null bs=4096 count=1 iflag=direct status=none 2>/dev/null || die "a Faulted volume was read"
	other_is_online() { [ "$(strake volume status w -o json | jq -r .state)" = Online ]; }
	wait_for 20 "the other volume" other_is_online
}
check_faulted
awk '/"event":"operation-done".*"operation":"open"/ {print}' "$dir/nexus.log" | tail -n 2 | grep -o '"volume":"[vw]"' | tr '\n' ' ' | grep -q '"w" "volume":"v"' ||
	die "it was not opened last"
trace_has nexus " host_ack volume=[0-9a-f]{8} request=write offset=[0-9]+ error=0"
trace_has a " journal_commit records=[0-9]+ seq="

note "a nexus that somebody else kills is nobody's fault, and the volume stays Faulted"
kill_nexus() { # signal
	before=$(nexus_pid)
	kill "-$1" "$before" || die "no nexus"
	another() { local now; now=$(nexus_pid) && [ "$now" != "$before" ] && serves_now; }
	wait_for 10 "the next nexus" another
}
for round in 1 2 3; do
	sleep 0.3
	kill_nexus KILL
done
check_faulted
[ "$(jq -c '[.crashes[] | [.work, .count]]' "$dir/state/nexus/crashes.json")" = '[["write",2]]' ] || die "counted: $(cat "$dir/state/nexus/crashes.json")"

note "opened for another attachment"
strake volume unpublish v >/dev/null && strake volume close v >/dev/null || die "unpublish, close"
strake volume open v >/dev/null || die "open as before"
[ "$(state)" = Faulted ] || die "opened as before it is $(state)"
strake volume close v >/dev/null && strake volume open v --attach 2 --wait >/dev/null || die "open for another attachment"
poisoned=$(strake volume publish v) && [ -b "$poisoned" ] || die "publish"
dd if="$poisoned" bs=64k count=128 iflag=direct status=none | sha256sum | cmp -s - "$dir/before" || die "what was written before is not there"
dd if="$poisoned" bs=4096 skip=4096 count=1 iflag=direct status=none | cmp -s - <(head -c 4096 /dev/zero) || die "the write that was not acknowledged is there"
wait_for 20 "Online" state_is Online
equal
load_end
[ "$(deaths)" = 5 ] || die "the nexus died $(deaths) times, not two and three"

note "cores of a nexus that has copied and read, and of a pool-agent"
yes "$data" | dd of="$poisoned" bs=64k count=128 iflag=fullblock oflag=direct status=none || die "write"
kill_nexus KILL
equal_again() { strake volume status v -o json | jq -e '.state == "Online" and .resync_regions == 0' >/dev/null; }
wait_for 30 "v to be resynced" equal_again
dd if="$poisoned" of=/dev/null bs=64k count=128 iflag=direct status=none || die "read"
kill_nexus ABRT
no_data_in_core nexus 'volume="v",replica="'
kill -ABRT "${pids[c]}" && wait "${pids[c]}" 2>/dev/null
unset "pids[c]"
no_data_in_core pool-agent pool-c
start_agent c
for daemon in nexus c; do
	trace_has "$daemon" "^[a-z-]+ [0-9.]+, process" --previous
	! grep -q "died of" "$dir/trace.$daemon" || die "an ABRT of somebody else counts as its own"
done
note done
