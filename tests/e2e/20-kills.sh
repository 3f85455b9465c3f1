#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# SIGKILL and restart of each process under verified load: no error, no wrong byte, all replicas equal in the end.
. "$(dirname "$0")/lib.sh" kills
cluster 1G
volume 256M

for name in a b c; do
	note "pool-agent $name: SIGKILL under load, away until the volume is Degraded"
	load_start 60
	sleep 1
	kill_9 $name
	wait_for 10 "Degraded" state_is Degraded
	strake volume status v -o json | jq -e '[.replicas[] | select(.state != "Online") | .reason] | length == 1 and .[0] != ""' >/dev/null ||
		die "the status does not say why: $(strake volume status v)"
	start_agent $name
	wait_for 60 "Online" state_is Online
	sleep 1
	load_end
	jq -e '.longest_ms < 10000' "$dir/load.json" >/dev/null || die "a pause longer than 10 s"
	equal
done

note "a pool-agent killed and back at once stays in sync"
generation=$(strake volume status v -o json | jq .generation)
load_start 60
sleep 1
kill_9 b
start_agent b
sleep 4
load_end
[ "$(strake volume status v -o json | jq .generation)" = "$generation" ] || die "it was ejected although it was back within 2 s"
equal

note "the nexus killed twice under load: a pause, no error"
load_start 60
for round in 1 2; do
	sleep 1
	before=$(nexus_pid)
	kill -KILL "$before"
	wait_for 20 "another nexus" sh -c "p=\$(pgrep -P ${pids[nexus]} -x nexus) && [ \"\$p\" != $before ]"
	wait_for 30 "Online" state_is Online
done
sleep 2
load_end
equal

note "all pool-agents and the nexus killed at once, and back"
load_start 60
sleep 1
kill -KILL "$(nexus_pid)"
for name in a b c; do kill_9 $name; done
for name in a b c; do start_agent $name; done
wait_for 60 "Online" state_is Online
sleep 1
load_end
equal

note "SIGSTOP of a pool-agent for some seconds under load"
load_start 60
sleep 1
kill -STOP "${pids[c]}"
wait_for 10 "Degraded" state_is Degraded
sleep 1
kill -CONT "${pids[c]}"
wait_for 60 "Online" state_is Online
load_end
equal
note done
