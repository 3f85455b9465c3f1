#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Nodes fail: a dead or cut-off node's volumes open on another one, and when it comes back it finds itself refused; claims are
# deleted while a node is away; everything is killed at once and started again.
. "$(dirname "$0")/lib.sh" nodes
. "$(dirname "$0")/pods.sh"
strake_up

nodes_ready() { local node; for node in "${nodes[@]}"; do node_ready "$node" || return 1; done; }
seconds_since() { awk -v a="$1" -v b="$(date +%s.%N)" 'BEGIN {printf "%.1f", b - a}'; } # date +%s.%N
refused_by_agents() { # how often pool-agents refused a nexus
	local node
	for node in "${nodes[@]}"; do
		cluster exec "$node" curl -fs "http://10.88.0.1${node#n}:9501/metrics" 2>/dev/null
	done | awk '/^strake_(agent_fences|replica)_refused_total/ {sum += $NF} END {print sum + 0}'
}
is_refused() { [ "$(refused_by_agents)" -gt "$1" ]; } # more than
has_no_volume() { [ "$(strake "$1" volume list -o json | jq length)" = 0 ]; } # node: its nexus
folder_of() { echo "$cluster/nodes/$1/var-lib/test"; }                       # node

# A database that fits on a page: appends a number, syncs it, and only then notes it on the node's own disk, which the test reads when
# the node is dead.  It is wherever it may be, on n1 if it may.
database='n=$(tail -n 1 /log/log 2>/dev/null || echo 0)
n=${n:-0}
date +%s.%N >/keep/begun
while n=$((n + 1)); do
	echo $n >>/log/log && sync -d /log/log && echo $n >/keep/noted.new && mv /keep/noted.new /keep/noted || exit 1
	sleep 0.02
done'
make "apiVersion: apps/v1
kind: Deployment
metadata: {name: database}
spec:
  replicas: 1
  strategy: {type: Recreate}
  selector: {matchLabels: {app: database}}
  template:
    metadata: {labels: {app: database}}
    spec:
      terminationGracePeriodSeconds: 1
      affinity:
        nodeAffinity:
          preferredDuringSchedulingIgnoredDuringExecution:
          - {weight: 100, preference: {matchExpressions: [{key: kubernetes.io/hostname, operator: In, values: [n1]}]}}
      containers:
      - name: main
        image: $test_image
        command: [sh, -c, $(jq -Rs . <<<"$database")]
        volumeMounts: [{name: log, mountPath: /log}, {name: keep, mountPath: /keep}]
      volumes:
      - {name: log, persistentVolumeClaim: {claimName: log}}
      - {name: keep, hostPath: {path: /var/lib/test, type: DirectoryOrCreate}}"
# Where a pod of the database runs.
database_node() { kubectl get pods -l app=database -o json | jq -r '.items[] | select(.metadata.deletionTimestamp == null and .status.phase == "Running") | .spec.nodeName'; }
noted() { cat "$(folder_of "$1")/noted" 2>/dev/null || echo 0; } # node
writes_on() { # node [more than]
	[ "$(database_node)" = "$1" ] && [ "$(noted "$1")" -gt "${2:-0}" ]
}
read_log() { kubectl exec deploy/database -- cat /log/log >"$dir/log-now"; }
# Every number up to what was noted is there, once and in order.
log_is_whole() { # number
	wait_for 60 "the log to be read" read_log
	awk -v upto="$1" '$1 != NR {print "line " NR " is " $1; exit 1} END {if (NR < upto) {print NR " lines, " upto " were noted"; exit 1}}' "$dir/log-now" ||
		die "the database lost what it had synced"
}
others_than() { printf '%s\n' "${nodes[@]}" | grep -vx "$1"; }

begin=$(date +%s.%N)
claim log 256Mi
wait_for 120 "the database on n1" writes_on n1
note "from the claim to the first write: $(seconds_since "$begin") s"
log=$(volume_of log)
block_claim load 256Mi
pod load 'blkcheck load /dev/load --seconds 1000 --keep /keep/kept >/keep/json 2>/keep/errors' block=load node=n1 keep=/var/lib/test
pod_runs load
load=$(volume_of load)
wait_for 60 "the volumes" in_sync "$load"
wait_for 60 "the volumes" in_sync "$log"
sleep 3

# The database on node $1, which does not answer any more, goes on elsewhere: on node $now; and the block device too.
moves_from() {
	local from=$1 number begin
	number=$(noted "$from")
	wait_for 60 "$from to be NotReady" node_not_ready "$from"
	note "NotReady; the administrator says that it is out of service"
	begin=$(date +%s.%N)
	kubectl taint node "$from" node.kubernetes.io/out-of-service=nodeshutdown:NoExecute >/dev/null || die "taint"
	is_elsewhere() {
		now=$(database_node)
		[ -n "$now" ] && [ "$now" != "$from" ] && [ "$(noted "$now")" -gt "$number" ]
	}
	now=
	wait_for 180 "the database elsewhere" is_elsewhere
	now=$(database_node)
	note "the database writes on $now, $(seconds_since "$begin") s after the taint"
	log_is_whole "$number"
	wait_for 30 "status.nexus to say $now" volume_is "$log" '{.status.nexus.node}' "$now"
}
returned() { # node: nothing of what it lost is left on it, and all is whole again
	wait_for 90 "$1 to be Ready" node_ready "$1"
	kubectl taint node "$1" node.kubernetes.io/out-of-service- >/dev/null || die "taint"
	wait_for 120 "the daemons to be ready" daemons_ready
	wait_for 120 "the nexus of $1 to have no volume" has_no_volume "$1"
	wait_for 120 "the volume to be whole" in_sync "$log"
	wait_for 60 "$1 to have no device of Strake" no_devices "$1"
}
no_devices() { local found; found=$(ls "$cluster/nodes/$1/run/strake/records") && [ -z "$found" ]; } # node

note "The node of the pods dies"
cluster node kill n1 || die "kill"
moves_from n1
cp "$(folder_of n1)/kept" "$dir/kept"
mkdir -p "$(folder_of "$now")" && cp "$dir/kept" "$(folder_of "$now")/kept"
wait_for 60 "the pod of the dead node to be gone" gone pod load
pod check 'blkcheck kept /dev/load --keep /keep/kept' block=load node="$now" keep=/var/lib/test
pod_succeeds check
note "what the load had acknowledged: $(cat "$dir/out")"
delete pod check
before=$(refused_by_agents)

note "It comes back: its nexus opens what it had, and is refused"
cluster node start n1 || die "start"
wait_for 120 "a refusal" is_refused "$before"
note "refused $(refused_by_agents) times"
returned n1
wait_for 120 "the volume to be whole" in_sync "$load"

note "A node loses its network, its pods go on writing; it is left behind, comes back and is refused"
from=$now
before=$(refused_by_agents)
pod load 'blkcheck load /dev/load --seconds 1000 --keep /keep/kept >/keep/json 2>/keep/errors; sleep 1000' block=load node="$from" keep=/var/lib/test
pod_runs load
sleep 2
cluster node cut "$from" || die "cut"
moves_from "$from"
cluster node join "$from" || die "join"
wait_for 120 "a refusal" is_refused "$before"
note "refused $(($(refused_by_agents) - before)) times"
returned "$from"
wait_for 60 "the pod that was left behind to be gone" gone pod load
cp "$(folder_of "$from")/kept" "$(folder_of "$now")/kept"
pod check 'blkcheck kept /dev/load --keep /keep/kept' block=load node="$now" keep=/var/lib/test
pod_succeeds check
note "what the load had acknowledged: $(cat "$dir/out")"
delete pod check

note "Claims are deleted while a node is off"
away=$(others_than "$now" | head -n 1)
for name in first second; do
	block_claim $name 64Mi
	pod $name "head -c 16777216 /dev/urandom >/dev/$name; sync" block=$name node="$now"
	pod_succeeds $name
	delete pod $name
	wait_for 60 "the volume to be detached" volume_is "$(volume_of $name)" '{.status.attachment.node}' ''
done
full=$(stat -c %b "$cluster/nodes/$away/var-lib/strake/pool")
cluster node kill "$away" || die "kill"
wait_for 60 "$away to be NotReady" node_not_ready "$away"
delete pvc first second
two_volumes() { [ "$(kubectl get volumes.strake.io -o name | wc -l)" = 2 ]; }
wait_for 180 "their volumes to be deleted: $(kubectl get strake)" two_volumes
left_on() { kubectl get replicas.strake.io --field-selector "spec.node=$1" -o json | jq '[.items[] | select(.metadata.deletionTimestamp)] | length'; }
[ "$(left_on "$away")" = 2 ] || die "Replicas that wait for $away: $(kubectl get replicas.strake.io)"
cluster node start "$away" || die "start"
none_left() { [ "$(left_on "$away")" = 0 ]; }
wait_for 120 "its replicas to be erased" none_left
# 32 MiB, less what the others needed meanwhile.
emptier() {
	blocks=$(stat -c %b "$cluster/nodes/$away/var-lib/strake/pool")
	[ "$blocks" -lt $((full - 16 * 2048)) ]
}
wait_for 60 "the room of both to be back on its disk" emptier
note "  the file of its pool had $((full / 2)) KiB, now $((blocks / 2))"
wait_for 120 "the volume to be whole" in_sync "$log"

note "All nodes, etcd and the API server are killed, and started again"
wait_for 60 "the daemons to be ready" daemons_ready
cluster node kill all || die "kill"
cluster control kill || die "control kill"
number=$(noted "$now")
cluster control start || die "control start"
cluster node start all || die "start"
wait_for 120 "the nodes" nodes_ready
wait_for 180 "the database to write again on $now: $(kubectl get pods -o wide)" writes_on "$now" "$number"
log_is_whole "$number"
wait_for 120 "the volume to be whole" in_sync "$log"
pod check 'blkcheck kept /dev/load --keep /keep/kept' block=load node="$now" keep=/var/lib/test
pod_succeeds check
delete pod check

note "A node is gone for good, and an impatient administrator takes its Pool away by hand"
away=$(others_than "$now" | head -n 1)
cluster node kill "$away" || die "kill"
delete node "$away"
kubectl delete pools.strake.io "pool-$away" --wait=false >/dev/null || die "delete"
wait_for 30 "the Pool to say what waits for it" is_condition pools.strake.io "pool-$away" Deletable reason HasReplicas
kubectl patch pools.strake.io "pool-$away" --type merge -p '{"metadata":{"finalizers":null}}' >/dev/null || die "finalizers"
orphaned() { kubectl get replicas.strake.io --field-selector "spec.node=$away" -o json | jq -e '[.items[].status.state] | . == ["Orphaned"]'; }
# That of the volume that is open has left; the other one's has nobody whom it could leave.
wait_for 60 "its one Replica to be Orphaned: $(kubectl get replicas.strake.io)" orphaned
wait_for 30 "the volume to be Degraded" volume_is "$log" '{.status.state} {.status.inSync}' 'Degraded 2/3'
number=$(noted "$now")
wait_for 30 "the database to go on" writes_on "$now" "$number"

note "taken away"
delete deployment database
delete pods --all
delete_claims
mapfile -t nodes < <(others_than "$away")
strake_down
