#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Replicas come and go under a verified load: spec.replicas, arbiters, a Pool that goes, a node that is away for too long; another
# node opens the volume with the voters that it has then.
. "$(dirname "$0")/lib.sh" replicas
. "$(dirname "$0")/pods.sh"
. "$(dirname "$0")/load.sh"
strake_up --set csiController.replaceAfterSeconds=10

make '{apiVersion: storage.k8s.io/v1, kind: StorageClass, metadata: {name: two}, provisioner: csi.strake.io,
  volumeBindingMode: WaitForFirstConsumer, parameters: {replicas: "2"}}'
make 'apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: load}
spec:
  resources: {requests: {storage: 256Mi}}
  storageClassName: two
  accessModes: [ReadWriteOnce]
  volumeMode: Block'
load_pod
volume=$(volume_of load)

# "Data n1 n2 Arbiter n3": who there is, of those that are not being deleted.
replicas() {
	kubectl get replicas.strake.io -o json | jq -r --arg volume "$volume" '
		[.items[] | select(.spec.volume == $volume and .metadata.deletionTimestamp == null).spec] | group_by(.kind) | reverse |
		map(.[0].kind + " " + (map(.node) | sort | join(" "))) | join(" ")'
}
has() { # inSync, data, arbiters: and all of them, and no others, have a vote
	volume_is "$volume" '{.status.state} {.status.inSync}' "Online $1" &&
		[ "$(kubectl get replicas.strake.io -o json | jq -r --arg volume "$volume" '[.items[].spec | select(.volume == $volume).kind] | "\(map(select(. == "Data")) | length) \(map(select(. == "Arbiter")) | length)"')" = "$2 $3" ] &&
		[ "$(strake n1 volume status "$volume" -o json | jq '[.replicas[] | select(.membership == "Voter" and .state == "Online")] | length')" = $(($2 + $3)) ]
}
becomes() { # inSync, data, arbiters
	wait_for 180 "$1 with $2 replicas and $3 arbiters: $(replicas)" has "$@"
	note "now $(replicas)"
}
want() { kubectl patch volumes.strake.io "$volume" --type merge -p "{\"spec\":{\"replicas\":$1}}" >"$dir/out" 2>&1 || die "$(cat "$dir/out")"; }

note "Two replicas have an arbiter, each on a node of its own"
wait_for 60 "the volume" has 2/2 2 1
[[ "$(replicas)" =~ ^Data\ n[123]\ n[123]\ Arbiter\ n[123]$ ]] || die "$(replicas)"
[ "$(strake n1 replica list --volume "$volume" -o json | jq -c 'map(.key_number) | unique')" = "[1]" ] || die "a replica has no key"

note "One of them dies: the other one goes on with the arbiter's vote"
victim=$(replicas | awk '{print $2 == "n1" ? $3 : $2}')
load_start
signal_daemon "$victim" kubelet STOP
signal_daemon "$victim" pool-agent KILL
wait_for 30 "Degraded" volume_is "$volume" '{.status.state}' Degraded
sleep 1
signal_daemon "$victim" kubelet CONT
wait_for 120 "Online" has 2/2 2 1
load_end
equal

note "Three"
load_start
want 3
becomes 3/3 3 0
load_runs
note "Two again"
want 2
becomes 2/2 2 1
load_runs
note "One"
want 1
becomes 1/1 1 0
load_end
node=$(replicas | cut -d ' ' -f 2)

note "The Pool that it is on is deleted: the replica moves, and the Pool goes"
load_start
kubectl delete pools.strake.io "pool-$node" --wait=false >/dev/null || die "delete of the pool"
wait_for 180 "pool-$node to go: $(object pools.strake.io "pool-$node" '{.status}')" gone pools.strake.io "pool-$node"
becomes 1/1 1 0
[ "$(replicas | cut -d ' ' -f 2)" != "$node" ] || die "it is still on $node"
make "{apiVersion: strake.io/v1alpha1, kind: Pool, metadata: {name: pool-$node}, spec: {node: $node, disks: ['file:///var/lib/strake/pool-again?size=$pool_size']}}"
wait_for 60 "pool-$node" is pools.strake.io "pool-$node" '{.status.state}' Online
want 3
becomes 3/3 3 0
load_end
equal

note "A node that is away for too long: there is no other place, and the Volume says so"
load_start
signal_daemon n3 kubelet STOP
signal_daemon n3 pool-agent KILL
no_place() { object volumes.strake.io "$volume" '{.status.conditions[?(@.type=="Redundant")].message}' | grep -q 'no place for another'; }
wait_for 90 "no place" no_place
note "With two wanted, it is the one that goes"
want 2
without_it() { volume_is "$volume" '{.status.inSync}' 2/2 && [[ "$(replicas)" != *n3* ]]; }
wait_for 120 "n3's replica to leave: $(replicas)" without_it
load_runs
signal_daemon n3 kubelet CONT
becomes 2/2 2 1
load_end
equal

note "Another node opens it with the voters that it has now"
delete pod load
pod after 'blkcheck load /dev/load --seconds 3 && echo served' block=load node=n2
pod_succeeds after
grep -q served "$dir/out" || die "$(cat "$dir/out")"
delete pod after

note "Its deletion gives everything back"
delete_claims
delete storageclass two
for node in "${nodes[@]}"; do
	wait_for 60 "the space of pool-$node" is pools.strake.io "pool-$node" '{.status.used}' 0
done
strake_down
note done
