#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What a user does: claims and pods, file systems and block devices, on one node and then on another, and deletion.
. "$(dirname "$0")/lib.sh" pods
. "$(dirname "$0")/pods.sh"
strake_up

used_of() { cluster exec "$1" stat -c %b /var/lib/strake/pool; } # node: 512-byte blocks of the pool's file
pools_are_empty() { # and their status says so
	local node
	for node in "${nodes[@]}"; do is pools.strake.io "pool-$node" '{.status.replicas} {.status.used}' "0 $used_before" || return 1; done
}
used_before=$(object pools.strake.io pool-n1 '{.status.used}')
declare -A blocks_before=()
for node in "${nodes[@]}"; do blocks_before[$node]=$(used_of "$node"); done

note "A claim waits for a Pod; the Pod writes 64 MiB on n1, another one reads them on n2"
claim data 1Gi
pod writer 'head -c 67108864 /dev/urandom >/data/file && sync && sha256sum /data/file >/data/sum && sync && cat /data/sum' claim=data node=n1
pod_succeeds writer
sum=$(cut -d ' ' -f 1 "$dir/out")
[ ${#sum} -eq 64 ] || die "no checksum: $(cat "$dir/out")"
data=$(volume_of data)
wait_for 30 "the volume's state" in_sync "$data"
volume_is "$data" '{.spec.claim.namespace}/{.spec.claim.name} {.spec.size}' 'default/data 1Gi' || die "$(kubectl get volumes.strake.io -o yaml)"
delete pod writer
pod reader 'sha256sum -c /data/sum && sha256sum /data/file; stat -f -c %T /data; grep " /data " /proc/mounts' claim=data node=n2
pod_succeeds reader
grep -q "^$sum" "$dir/out" || die "other data on n2: $(cat "$dir/out")"
grep -q 'ext' "$dir/out" || die "no ext4: $(cat "$dir/out")"
[ "$(object pod reader '{.spec.nodeName}')" = n2 ] || die "the reader is on $(object pod reader '{.spec.nodeName}')"
volume_is "$data" '{.status.attachment.number}' 2 || die "the attach number is not 2: $(object volumes.strake.io "$data" '{.status.attachment}')"
kubectl get strake,pvc,pods
delete pod reader

note "xfs, mount options, fsGroup, a user who is not root, RWOP, read-only"
make 'apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: {name: strake-xfs}
provisioner: csi.strake.io
volumeBindingMode: WaitForFirstConsumer
parameters: {csi.storage.k8s.io/fstype: xfs, replicas: "2"}
mountOptions: [noatime]'
make 'apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: shared}
spec:
  resources: {requests: {storage: 1Gi}}
  storageClassName: strake-xfs
  accessModes: [ReadWriteOncePod]'
pod user 'id -u; touch /shared/mine && stat -c "group %g" /shared/mine; grep " /shared " /proc/mounts; df -m /shared | tail -n 1' \
	claim=shared node=n3 pod_security='{runAsUser: 1234, runAsGroup: 1234, fsGroup: 4321}'
pod_succeeds user
grep -q '^1234$' "$dir/out" && grep -q '^group 4321$' "$dir/out" && grep -q 'xfs.*noatime' "$dir/out" || die "$(cat "$dir/out")"
volume_is "$(volume_of shared)" '{.status.inSync}' 2/2 || die "not two replicas"
delete pod user
pod looker 'ls -l /shared/mine && if touch /shared/other; then exit 1; fi' read_only=shared node=n1
pod_succeeds looker
grep -q 'Read-only file system' "$dir/out" || die "$(cat "$dir/out")"
delete pod looker

note "A block device, its size, its data on another node"
block_claim raw 64Mi
pod block 'blockdev --getsize64 /dev/raw; head -c 4194304 /dev/urandom | tee /tmp/four >/dev/raw; sync; sha256sum </tmp/four' block=raw node=n2
pod_succeeds block
[ "$(head -n 1 "$dir/out")" = 67108864 ] || die "size: $(cat "$dir/out")"
sum=$(tail -n 1 "$dir/out")
delete pod block
pod block 'head -c 4194304 /dev/raw | sha256sum' block=raw node=n3
pod_succeeds block
[ "$(cat "$dir/out")" = "$sum" ] || die "other data on n3"
delete pod block

note "Statistics of the kubelet; what a metrics reader sees"
pod sleeper 'sleep 1000' claim=data node=n1
pod_runs sleeper
has_stats() {
	kubectl get --raw /api/v1/nodes/n1/proxy/stats/summary |
		jq -e '.pods[] | select(.podRef.name == "sleeper") | .volume[] | select(.pvcRef.name == "data") | .capacityBytes > 900000000 and .usedBytes > 64000000 and .inodes > 1000'
}
wait_for 90 "NodeGetVolumeStats in the kubelet's summary" has_stats

note "A Snapshot of a volume in use: what it needs is said, and nothing of it is left"
make "{apiVersion: strake.io/v1alpha1, kind: Snapshot, metadata: {name: daily}, spec: {volume: $data}}"
says_what_it_needs() { condition snapshots.strake.io daily Ready message | grep -q "$data: a snapshot needs pool format 1: replica "; }
wait_for 30 "the word of its nexus" says_what_it_needs
is snapshots.strake.io daily '{.status.state} {.status.readyToUse} {.spec.uuid}' "Failed false $(object snapshots.strake.io daily '{.spec.uuid}')" ||
	die "$(object snapshots.strake.io daily '{.status}')"
delete snapshots.strake.io daily
delete pod sleeper

note "20 claims at once, pods on all nodes"
for i in $(seq 20); do claim "many-$i" 32Mi; done >/dev/null
for i in $(seq 20); do pod "many-$i" 'echo I am '"$i"' >/many-'"$i"'/name && sync && cat /many-'"$i"'/name' "claim=many-$i" "node=n$((i % 3 + 1))"; done
for i in $(seq 20); do
	pod_succeeds "many-$i" 300
	[ "$(cat "$dir/out")" = "I am $i" ] || die "many-$i says $(cat "$dir/out")"
done
[ "$(kubectl get volumes.strake.io -o name | wc -l)" -eq 23 ] || die "$(kubectl get strake)"
delete pods --all
# shellcheck disable=SC2046
kubectl delete pvc --wait=false $(seq -f many-%g 20) >/dev/null || die "claims"

note "Names as long as they may be"
long_claim=claim-$(printf 'x%.0s' {1..122})
long_name=pod-$(printf 'y%.0s' {1..124})
claim "$long_claim" 32Mi
make "apiVersion: v1
kind: Pod
metadata: {name: $long_name}
spec:
  restartPolicy: Never
  containers:
  - {name: main, image: $test_image, command: [sh, -c, 'echo long >/data/file && cat /data/file'], volumeMounts: [{name: v, mountPath: /data}]}
  volumes: [{name: v, persistentVolumeClaim: {claimName: $long_claim}}]"
pod_succeeds "$long_name"
delete pod "$long_name"

note "Everything is deleted: room comes back, in the Pools and on the disks"
delete_claims
wait_for 90 "the Pools to be as they were" pools_are_empty
for node in "${nodes[@]}"; do
	after=$(used_of "$node")
	note "$node: the pool's file has $((after / 2)) KiB, $((blocks_before[$node] / 2)) before"
	[ "$after" -lt $((blocks_before[$node] + 8 * 2048)) ] || die "the disk of $node keeps what was deleted"
done
note "taken away"
strake_down
