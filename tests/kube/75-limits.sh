#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What cannot be says so, where its user looks: Events and conditions.  And a pod that dirties all the memory that its node has.
. "$(dirname "$0")/lib.sh" limits
. "$(dirname "$0")/pods.sh"
strake_up

class() { # name parameters
	make "{apiVersion: storage.k8s.io/v1, kind: StorageClass, metadata: {name: $1}, provisioner: csi.strake.io, parameters: {$2}}"
}
immediate_claim() { # class name size
	make "{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {name: $2},
	  spec: {storageClassName: $1, accessModes: [ReadWriteOnce], resources: {requests: {storage: $3}}}}"
}
events_of() { kubectl get events --field-selector "involvedObject.name=$1" -o 'jsonpath={range .items[*]}{.reason}: {.message}{"\n"}{end}'; }
says() { events_of "$1" | grep -qF -- "$2"; }
waits_and_says() { # what, its event
	wait_for 60 "an Event of $1 that says '$2'" says "$1" "$2"
	note "  $(events_of "$1" | grep -F -- "$2" | head -n 1 | cut -c 1-220)"
}
pool() { # name node disk [more]
	make "{apiVersion: strake.io/v1alpha1, kind: Pool, metadata: {name: $1}, spec: {node: $2, disks: ['$3']${4:-}}}"
}
pool_says() { # name reason text
	wait_for 60 "Pool $1 to be $2" is_condition pools.strake.io "$1" Ready reason "$2"
	[[ $(condition pools.strake.io "$1" Ready message) == *"$3"* ]] || die "Pool $1 says: $(condition pools.strake.io "$1" Ready message)"
	note "  $1: $(condition pools.strake.io "$1" Ready message)"
}
refused() { # text kubectl arguments...
	local text=$1
	shift
	if kubectl "$@" >"$dir/out" 2>&1; then die "taken: $*"; fi
	grep -qF -- "$text" "$dir/out" || die "$* says '$(cat "$dir/out")', not '$text'"
	note "  $(grep -F -- "$text" "$dir/out" | head -n 1 | cut -c 1-220)"
}

note "StorageClasses with parameters that are not there, or make no sense"
class unknown 'replicaz: "3"'
immediate_claim unknown unknown 64Mi
waits_and_says unknown 'parameter "replicaz" is unknown: there are replicas, minInsync, frontend, poolSelector, dataLocality'
class many 'replicas: "9"'
immediate_claim many many 64Mi
waits_and_says many 'replicas'

note "Sizes that cannot be"
class now 'replicas: "3"'
immediate_claim now huge 100Pi
waits_and_says huge 'TiB'
immediate_claim now large 1Ti
waits_and_says large 'short'
waits_and_says large 'pool-n3: '
class xfs 'csi.storage.k8s.io/fstype: xfs'
immediate_claim xfs small 64Mi
waits_and_says small 'at least 300 MiB'
immediate_claim now tiny 1
pod tiny 'df -k /tiny | tail -n 1' claim=tiny
pod_succeeds tiny
delete pod tiny

note "Pools on disks that are not there, that are in use, that hold something"
pool missing n1 /dev/strake-is-not-there
pool_says missing DiskMissing /dev/strake-is-not-there
pool twice n2 'file:///var/lib/strake/pool?size=4Gi'
pool_says twice DiskInUse /var/lib/strake/pool
truncate -s 1G "$dir/disk"
disk=$(losetup -f --show "$dir/disk") || die "losetup"
drop_disk() { [ -z "${disk:-}" ] || losetup -d "$disk"; disk=; }
trap 'drop_disk; cleanup' EXIT
mkfs.ext4 -q "$disk" || die "mkfs"
pool full n3 "$disk"
pool_says full DiskInUse ext4
kubectl patch pools.strake.io full --type merge -p '{"spec":{"wipe":true}}' >/dev/null || die "wipe"
wait_for 60 "the Pool with wipe" is pools.strake.io full '{.status.state}' Online
pool nowhere n9 /dev/sdb
wait_for 30 "a Pool of a node that is not there" is pools.strake.io nowhere '{.status.state}' Unknown
delete pools.strake.io missing twice full nowhere

note "Objects that are edited by hand into nonsense"
claim data 64Mi
pod data 'echo data >/data/file; sync; sleep 1000' claim=data node=n1
pod_runs data
volume=$(volume_of data)
wait_for 30 "the volume" in_sync "$volume"
edit() { echo "patch $1 $2 --type merge -p $3"; }
# shellcheck disable=SC2046 # words without blanks
{
refused 'does not shrink' $(edit volumes.strake.io "$volume" '{"spec":{"size":"1Mi"}}')
refused 'spec.replicas' $(edit volumes.strake.io "$volume" '{"spec":{"replicas":9}}')
refused 'spec.size' $(edit volumes.strake.io "$volume" '{"spec":{"size":"many"}}')
refused 'a pool stays on its node' $(edit pools.strake.io pool-n1 '{"spec":{"node":"n2"}}')
refused 'a Replica cannot be changed' $(edit replicas.strake.io "$(kubectl get replicas.strake.io -o 'jsonpath={.items[0].metadata.name}')" '{"spec":{"pool":"pool-n9"}}')
}
# What the controller keeps is put right again.
kubectl patch volumes.strake.io "$volume" --subresource status --type merge -p '{"status":{"state":"Faulted","inSync":"0/9"}}' >/dev/null || die "status"
wait_for 30 "the state to be put right" in_sync "$volume"
kubectl delete volumes.strake.io "$volume" --wait=false >/dev/null || die "delete"
sleep 3
kubectl exec data -- cat /data/file >"$dir/out" 2>&1 || die "a Volume that is in use was deleted under its pod: $(cat "$dir/out")"
kubectl delete pools.strake.io pool-n3 --wait=false >/dev/null || die "delete"
wait_for 30 "the Pool to say what is on it" is_condition pools.strake.io pool-n3 Deletable reason HasReplicas
note "  pool-n3: $(condition pools.strake.io pool-n3 Deletable message)"
delete pod data
delete_claims
wait_for 60 "the Pool to be gone" gone pools.strake.io pool-n3
pool pool-n3 n3 "file:///var/lib/strake/pool?size=$pool_size"
wait_for 60 "another pool-n3" is pools.strake.io pool-n3 '{.status.state}' Online

# Writes 768 MiB, and reads them back from the disks.
claim big 1Gi
writes_much() { # name, settings of the pod
	pod "$1" 'until [ -e /keep/go ]; do sleep 0.2; done
		rm -f /big/*
		dd if=/dev/urandom of=/big/a bs=1M count=384 && dd if=/big/a of=/big/b bs=1M && sync && cmp /big/a /big/b && sha256sum </big/b' \
		claim=big node=n1 keep=/var/lib/test "${@:2}"
	pod_runs "$1"
	wait_for 30 "the volume" in_sync "$(volume_of big)"
}
writes_well() { # pod; daemons of its node before
	touch "$cluster/nodes/n1/var-lib/test/go"
	pod_succeeds "$1" 300
	note "  $(tail -n 1 "$dir/out")"
	rm "$cluster/nodes/n1/var-lib/test/go"
	delete pod "$1"
	[ "$(daemons_of_n1)" = "$2" ] || die "daemons of n1 were killed: $(daemons_of_n1), before $2"
}
daemons_of_n1() { local name; for name in strake-launcher nexus pool-agent csi-node; do daemon_pid n1 $name; done; }

note "A pod dirties page cache up to its limit"
writes_much writer limits='{memory: 48Mi}'
writes_well writer "$(daemons_of_n1)"

note "Pods and daemons of a node dirty page cache up to what the node has"
cgroup() { # file of version 1, of version 2
	local path=/sys/fs/cgroup/memory/$prefix-n1/$1
	[ -e "$path" ] || path=/sys/fs/cgroup/$prefix-n1/$2
	echo "$path"
}
writes_much writer limits='{memory: 1Gi}'
before=$(daemons_of_n1)
used=$(cat "$(cgroup memory.usage_in_bytes memory.current)")
limit=$((used + 96 * 1048576))
echo $limit >"$(cgroup memory.limit_in_bytes memory.max)" || die "the memory of n1 cannot be limited"
note "  n1 uses $((used >> 20)) MiB and may have $((limit >> 20))"
writes_well writer "$before"
echo -1 >"$(cgroup memory.limit_in_bytes memory.max)" 2>/dev/null || echo max >"$(cgroup memory.limit_in_bytes memory.max)"
pod reader 'sha256sum </big/b' claim=big node=n2
pod_succeeds reader
delete pod reader

note "taken away"
delete pods --all
delete_claims
drop_disk
strake_down
