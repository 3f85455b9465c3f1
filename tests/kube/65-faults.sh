#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What a pod with a verified load on its volume sees when daemons die: a pause at most, and an error only where both owners of its
# block device die at once.
. "$(dirname "$0")/lib.sh" faults
. "$(dirname "$0")/pods.sh"
. "$(dirname "$0")/load.sh"
strake_up

nexus_is_back() { # pid before
	# What the objects say may still be of the one before.
	is_another n1 nexus "$1" && [ "$(strake n1 volume status "$volume" -o json | jq -r .state)" = Online ] && in_sync "$volume"
}

block_claim load 256Mi
claim spare 64Mi
load_pod
volume=$(volume_of load)
wait_for 30 "the volume" in_sync "$volume"

for node in n1 n2 n3; do
	note "The pool-agent of $node dies under load, and is away until the volume is Degraded"
	before=$(generation)
	load_start
	# Else the kubelet has it back before anybody is put out.
	signal_daemon $node kubelet STOP
	signal_daemon $node pool-agent KILL
	wait_for 30 "Degraded" volume_is "$volume" '{.status.state}' Degraded
	is_condition volumes.strake.io "$volume" Redundant status False || die "it is Redundant: $(object volumes.strake.io "$volume" '{.status}')"
	signal_daemon $node kubelet CONT
	wait_for 120 "Online" in_sync "$volume"
	load_end
	jq -e '(.longest_ms | type) == "number" and .longest_ms < 10000' "$load_folder/json" >/dev/null || die "a pause longer than 10 s"
	[ "$(generation)" -gt "$before" ] || die "generation is still $before"
	[ "$(rebuilt_bytes $node)" -gt 0 ] || die "the rebuild of the replica on $node moved nothing"
	equal
done

note "The nexus dies: its launcher starts another one"
pid=$(daemon_pid n1 nexus)
load_start
signal_daemon n1 nexus KILL
wait_for 60 "another nexus" nexus_is_back "$pid"
load_end

note "csi-node dies and is back; then nexus and launcher die together"
pid=$(daemon_pid n1 csi-node)
load_start
signal_daemon n1 csi-node KILL
wait_for 60 "another csi-node" is_another n1 csi-node "$pid"
wait_for 60 "the daemons to be ready" daemons_ready
load_runs
pid=$(daemon_pid n1 nexus)
signal_daemon n1 strake-launcher KILL
wait_for 90 "another nexus" nexus_is_back "$pid"
load_end
equal

note "The pod of the nexus is deleted, as an upgrade does"
pid=$(daemon_pid n1 nexus)
load_start
delete pod -n $namespace "$(daemon_pod nexus n1)"
wait_for 90 "another nexus" nexus_is_back "$pid"
load_end
equal

note "nexus, launcher and csi-node die at once: an I/O error; with another pod what was acknowledged is there"
load_start --keep /keep/kept
# None of them may find the others alive.
for daemon in kubelet strake-launcher csi-node; do signal_daemon n1 $daemon STOP; done
signal_daemon n1 nexus KILL
for daemon in strake-launcher csi-node; do signal_daemon n1 $daemon KILL; done
signal_daemon n1 kubelet CONT
wait_for 60 "the load to end" test -s "$load_folder/status"
grep -q 'Input/output error' "$load_folder/errors" || die "the load saw: $(cat "$load_folder"/{json,errors})"
kubectl delete pod load --wait=false >/dev/null || die "delete"
wait_for 120 "the daemons to be ready" daemons_ready
wait_for 120 "the pod to be gone" gone pod load
pod kept 'blkcheck kept /dev/load --keep /keep/kept' block=load node=n1 keep=/var/lib/load
pod_succeeds kept
note "what the load had acknowledged: $(cat "$dir/out")"
delete pod kept
load_pod
wait_for 60 "Online" in_sync "$volume"
equal

# A volume can be mounted and unmounted.
mounts() { # node
	pod "mounts-$1" 'date >>/spare/log && sync && tail -n 1 /spare/log' claim=spare "node=$1"
	pod_succeeds "mounts-$1" 180
	delete pod "mounts-$1"
}
restart_kubelet() { # node
	local pid
	pid=$(daemon_pid "$1" kubelet)
	signal_daemon "$1" kubelet KILL
	wait_for 30 "another kubelet" is_another "$1" kubelet "$pid"
	sleep 2
	wait_for 60 "$1 to be Ready" node_ready "$1"
}
load_start
note "The kubelet is restarted"
restart_kubelet n1
mounts n1

note "csi-node is restarted, by its DaemonSet"
delete pod -n $namespace "$(daemon_pod csi-node n1)"
wait_for 90 "the daemons to be ready" daemons_ready
mounts n1

note "Both at once"
signal_daemon n1 csi-node KILL
restart_kubelet n1
wait_for 90 "the daemons to be ready" daemons_ready
mounts n1

note "csi-controller is restarted"
kubectl rollout restart -n $namespace deployment strake-csi-controller >/dev/null || die "restart"
kubectl rollout status -n $namespace deployment strake-csi-controller --timeout 120s >/dev/null || die "csi-controller does not come back"
mounts n2
load_end
equal

note "The API server is away for a minute, in which a pool-agent dies: I/O goes on, and nothing else restarts"
restarts() { kubectl get pods -n $namespace -o 'jsonpath={range .items[*]}{.metadata.name}{" "}{.status.containerStatuses[*].restartCount}{"\n"}{end}'; }
agent=$(daemon_pod pool-agent n2)
before=$(restarts | grep -v "^$agent ")
load_start
cluster control freeze apiserver || die "freeze"
sleep 10
pid=$(daemon_pid n2 pool-agent)
signal_daemon n2 pool-agent KILL
for _ in 1 2 3 4 5; do sleep 10; load_runs; done
is_another n2 pool-agent "$pid" || die "the pool-agent is not back"
cluster control thaw apiserver || die "thaw"
wait_for 120 "Online" in_sync "$volume"
load_end
equal
wait_for 60 "the daemons to be ready" daemons_ready
[ "$(restarts | grep -v "^$agent ")" = "$before" ] || die "restarts: before
$before
after
$(restarts)"
mounts n3

note "taken away"
delete pod load
delete_claims
strake_down
