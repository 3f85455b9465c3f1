#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Two replicas and an arbiter, each lost alone and together; then voters that come and go under load: added, removed, moved (also
# broken off, and with the nexus killed in between), a dead one replaced, one replica moved; what is refused, and why.
. "$(dirname "$0")/lib.sh" voters

replicas() { strake volume status v -o json | jq -r ".replicas[] | $1"; }
agent_name() { strake daemon list -o json | jq -r --arg uuid "$1" '.[] | select(.uuid == $uuid) | .name'; }
of_kind() { agent_name "$(replicas "select(.kind == \"$1\") | .agent" | sed -n "$2p")"; } # kind, which: the agent's name
replica_on() { # agent's name: the uuid of the replica there
	local uuid
	uuid=$(strake daemon list -o json | jq -r --arg name "$1" '.[] | select(.name == $name and .kind == "pool-agent") | .uuid')
	replicas "select(.agent == \"$uuid\") | .uuid"
}
voters() { replicas 'select(.membership == "Voter") | .uuid' | wc -l; }
refused() { # what the text must hold, command...
	local text=$1
	shift
	"$@" >"$dir/refused" 2>&1 && die "was not refused: $*"
	grep -q "$text" "$dir/refused" || die "refused with another text ($text): $(cat "$dir/refused")"
}
# Killed, and its successor has the volume.
kill_nexus() {
	local before
	before=$(nexus_pid)
	kill -KILL "$before"
	successor_serves() { [ -n "$(nexus_pid)" ] && [ "$(nexus_pid)" != "$before" ] && { state_is Online || state_is Degraded; }; }
	wait_for 60 "the nexus's successor" successor_serves
}
write_one() { dd if=/dev/urandom of="$device" bs=4k count=1 seek=16383 oflag=direct conv=notrunc status=none; }

cluster 512M
volume 64M --replicas 2
strake volume status v
[ "$(replicas 'select(.kind == "arbiter") | .state')" = Online ] || die "the arbiter is not Online"
strake volume list | grep -q '2 of 2' || die "the arbiter counts as a copy"
one=$(of_kind data 1) other=$(of_kind data 2) arbiter=$(of_kind arbiter 1)

note "a data replica dies ($other): it goes on with one copy"
load_start 300 --threads 4 --size $((63 * 1024 * 1024))
kill_9 "$other"
wait_for 10 Degraded state_is Degraded
write_one || die "no write with one copy"
start_agent "$other"
wait_for 60 Online state_is Online

note "the arbiter dies ($arbiter): nothing happens"
kill_9 "$arbiter"
sleep 3
state_is Online || die "without its arbiter the volume is $(state)"
write_one || die "no write without the arbiter"
start_agent "$arbiter"
wait_for 20 "the arbiter to be back" sh -c "'$bin/cli/strake' --run-dir '$run' volume status v -o json | jq -e '.replicas[] | select(.kind == \"arbiter\" and .state == \"Online\")'"

for back in "$arbiter" "$other"; do
	note "a data replica and the arbiter die: nothing is acknowledged until $back is back"
	kill_9 "$other"
	kill_9 "$arbiter"
	wait_for 10 Stalled state_is Stalled
	strake volume status v | grep -q 'needs a majority: 1 of 3' || die "the status does not say what is needed"
	write_one & waiting=$!
	sleep 1
	kill -0 $waiting 2>/dev/null || die "something was acknowledged without a majority"
	start_agent "$back"
	wait $waiting || die "the write that waited failed"
	[ "$back" = "$arbiter" ] && start_agent "$other" || start_agent "$arbiter"
	wait_for 60 Online state_is Online
done
load_end
equal

note "what is refused"
refused 'min_insync 3 with 2 data replicas' strake volume set v --min-insync 3
strake volume set v --min-insync 2 >/dev/null || die "min-insync 2"
refused 'has no replica' strake volume remove-replica v ffffffff
strake volume set v --min-insync 1 >/dev/null || die "min-insync 1"

note "a replica and an arbiter more, under load"
for name in d e; do
	address[$name]=127.0.0.1:$((base_port + ${#address[@]}))
	agent_config $name 0 "${address[$name]}"
	start_agent $name
	strake pool create "pool-$name" --agent $name --disk "file://$dir/pools/$name" --size 512M >/dev/null || die "pool create"
done
load_start 600 --threads 4
strake volume add-replica v --pool pool-d --wait || die "add-replica"
[ "$(voters)" = 4 ] || die "there are $(voters) voters"
strake volume add-replica v --pool pool-d || die "add-replica again"
[ "$(voters)" = 4 ] || die "the same again made $(voters) voters"
strake volume add-replica v --arbiter || die "add an arbiter"
[ "$(voters)" = 5 ] || die "there are $(voters) voters"
strake volume list | grep -q '3 of 3' || die "not three copies"
[ "$(strake volume status v -o json | jq .min_insync)" = 1 ] || die "min_insync has moved"
refused 'online pools on 1 different agents' strake volume add-replica v

note "the nexus dies: who opens finds all of them"
kill_nexus
wait_for 60 "Online with five voters" sh -c "'$bin/cli/strake' --run-dir '$run' volume status v -o json | jq -e '.state == \"Online\" and ([.replicas[] | select(.membership == \"Voter\")] | length) == 5'"

note "they go again"
strake volume remove-replica v "$(replica_on e)" || die "remove the arbiter"
gone=$(replica_on d)
strake volume remove-replica v "${gone:0:8}" || die "remove the replica"
[ "$(voters)" = 3 ] || die "there are $(voters) voters"
strake replica list -o json | jq -e --arg uuid "$gone" '.[] | select(.uuid == $uuid)' >/dev/null && die "the replica is still there"

note "moved from $one to d; broken off, and the nexus killed; given again"
old=$(replica_on "$one")
strake volume move-replica v "$old" --pool pool-d >"$dir/move.out" 2>&1 & move=$!
sleep 0.3
kill -KILL $move 2>/dev/null
wait $move 2>/dev/null
kill_nexus
strake volume move-replica v "$old" --pool pool-d || die "move-replica"
strake volume move-replica v "$old" --pool pool-d || die "move-replica once more"
[ "$(voters)" = 3 ] && [ -n "$(replica_on d)" ] && [ -z "$(replica_on "$one")" ] || die "it has not moved"
wait_for 60 Online state_is Online

note "$other dies for good; $one takes its place"
dead=$(replica_on "$other")
kill_9 "$other"
wait_for 10 Degraded state_is Degraded
strake volume add-replica v --pool "pool-$one" --wait || die "replace: add"
strake volume remove-replica v "$dead" || die "replace: remove"
wait_for 60 Online state_is Online
load_end
equal

note "one copy: the arbiter and a replica go, and the last one moves"
strake volume remove-replica v "$(replicas 'select(.kind == "arbiter") | .uuid')" || die "remove the arbiter"
strake volume remove-replica v "$(replica_on d)" || die "remove the second"
refused 'it is the last data replica' strake volume remove-replica v "$(replica_on "$one")"
load_start 600 --threads 2
strake volume move-replica v "$(replica_on "$one")" --pool pool-d || die "move the only one"
[ "$(voters)" = 1 ] && [ -n "$(replica_on d)" ] || die "the only one has not moved"
kill_nexus
wait_for 60 Online state_is Online
load_end
strake volume status v

note "three copies of it again"
strake volume add-replica v --pool "pool-$one" --wait || die "second"
strake volume add-replica v --pool pool-e --wait || die "third"
strake volume set v --min-insync 2 || die "min-insync"
wait_for 60 Online state_is Online
equal
note done
