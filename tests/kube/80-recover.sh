#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# All nodes lose power and two of three never come back, with the majority of the volume's voters: an operator decides that the
# replica on the third one is the volume (docs/kubernetes.md, "When all replicas in sync are lost"), and it gets its copies again.
. "$(dirname "$0")/lib.sh" recover
. "$(dirname "$0")/pods.sh"
strake_up

block_claim data 64Mi
command='[ -e /keep/content ] || { head -c 16777216 /dev/urandom >/keep/content.new && cat /keep/content.new >/dev/data && sync /dev/data && mv /keep/content.new /keep/content; }
while sleep 1; do :; done'
pod writer "$command" block=data node=n3 keep=/var/lib/test
pod_runs writer
volume=$(volume_of data)
content_is_written() { [ -e "$cluster/nodes/n3/var-lib/test/content" ]; }
wait_for 60 "the content" content_is_written
wait_for 60 "the volume" in_sync "$volume"
replica=$(kubectl get replicas.strake.io --field-selector "spec.node=n3" -o 'jsonpath={.items[0].spec.uuid}')

note "Power is cut; n1 and n2 are lost for good, and so are their disks"
cluster node kill all || die "kill"
cluster node start n3 || die "start"
delete node n1 n2
for node in n1 n2; do
	kubectl delete pools.strake.io "pool-$node" --wait=false >/dev/null || die "delete"
	kubectl patch pools.strake.io "pool-$node" --type merge -p '{"metadata":{"finalizers":null}}' >/dev/null || die "finalizers"
done
wait_for 90 "n3 to be Ready" node_ready n3
delete pod writer
read_back() { pod reader 'head -c 16777216 /dev/data | cmp - /keep/content && echo same' block=data node=n3 keep=/var/lib/test; }
read_back
is_refused() {
	strake n3 volume status "$volume" -o json | jq -e '.state == "Opening" and (.reason | contains("needs"))' || return 1
	strake n3 volume recover "$volume" "$replica" --accept-data-loss >"$dir/out" 2>&1 && die "it was recovered while it is open"
	grep -q "volume close $volume" "$dir/out"
}
wait_for 180 "the volume to say what it needs, and recover what to do first" is_refused

note "An operator decides: $replica is the volume"
# The kubelet goes on asking for the volume meanwhile.
recovered() {
	strake n3 volume close "$volume" >/dev/null 2>&1
	strake n3 volume recover "$volume" "$replica" --accept-data-loss >"$dir/out" 2>&1
}
wait_for 60 "the recovery" recovered
grep -q 'WHAT WAS WRITTEN WITHOUT IT IS LOST' "$dir/out" || die "it does not say what is lost: $(cat "$dir/out")"
lineage=$(sed -n 's/.*(lineage \([0-9a-f]*\)).*/\1/p' "$dir/out")
# The kubelet would ask for the volume again after up to two minutes; for another pod it asks at once.
delete pod reader
read_back
pod_succeeds reader 240
grep -q same "$dir/out" || die "$(cat "$dir/out")"
is_of_lineage() { [[ "$(object volumes.strake.io "$volume" '{.status.record}')" == *" $lineage" ]]; }
wait_for 30 "status.record to name lineage $lineage" is_of_lineage
delete pod reader

note "Other nodes with other disks come; the volume has three replicas again, and opens elsewhere"
cluster node start n1 n2 || die "start"
for node in n1 n2; do
	wait_for 90 "$node to be Ready" node_ready $node
	make "{apiVersion: strake.io/v1alpha1, kind: Pool, metadata: {name: again-$node}, spec: {node: $node, disks: ['file:///var/lib/strake/again?size=$pool_size']}}"
	wait_for 120 "again-$node" is pools.strake.io "again-$node" '{.status.state}' Online
done
pod elsewhere 'head -c 16777216 /dev/data | sha256sum && sleep 1000' block=data node=n1
pod_runs elsewhere
wait_for 180 "the volume: $(kubectl get strake)" in_sync "$volume"
strake n1 volume compare "$volume" >"$dir/out" 2>&1 || die "the replicas differ: $(cat "$dir/out")"
[ "$(kubectl logs elsewhere | cut -c 1-64)" = "$(sha256sum <"$cluster/nodes/n3/var-lib/test/content" | cut -c 1-64)" ] || die "other content: $(kubectl logs elsewhere)"
delete pod elsewhere
delete_claims
nodes=(n3)
kubectl delete pools.strake.io again-n1 again-n2 --timeout 60s >/dev/null || die "the new pools are not deleted"
strake_down
note done
