#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# csi-node without a kubelet and without csi-controller: three nodes' daemons, objects made by hand, CSI calls made one by one.
. "$(dirname "$0")/lib.sh" csi-node
. "$(dirname "$0")/node.sh"
api_up
trap node_cleanup EXIT
define_objects
node_rights
for node in n1 n2 n3; do make_node $node; start_node $node; done
uuid_of() { printf '00000000-0000-4000-8000-%012d' "$1"; }
staging() { echo "$dir/$1/kubelet/staging/$2"; } # node volume
target() { echo "$dir/$1/kubelet/pods/$3/$2"; }  # node volume pod

make_volume() { # name number size nodes...
	local i=0 node
	create "{\"apiVersion\":\"strake.io/v1alpha1\",\"kind\":\"Volume\",\"metadata\":{\"name\":\"$1\"},\"spec\":{\"size\":\"$3\",\"uuid\":\"$(uuid_of "$2")\",\"replicas\":$(($# - 3))}}"
	for node in "${@:4}"; do
		create "{\"apiVersion\":\"strake.io/v1alpha1\",\"kind\":\"Replica\",\"metadata\":{\"name\":\"$1-$i\",\"finalizers\":[\"strake.io/erase\"]},
			\"spec\":{\"volume\":\"$1\",\"volumeUUID\":\"$(uuid_of "$2")\",\"uuid\":\"$(uuid_of $(($2 * 1000 + i)))\",\"pool\":\"pool-$node\",
			\"node\":\"$node\",\"kind\":\"Data\",\"size\":\"$3\",\"slot\":$i}}"
		i=$((i + 1))
	done
	while [ $((--i)) -ge 0 ]; do wait_for 30 "replica $1-$i" is replicas.strake.io "$1-$i" '{.status.state}' Online; done
}
attach() { # volume number node
	kubectl patch volumes.strake.io "$1" --subresource status --type merge \
		-p "{\"status\":{\"attachment\":{\"number\":$2,\"node\":\"$3\",\"readOnly\":false}}}" >/dev/null || die "attach $1"
	mkdir -p "$(dirname "$(staging "${3:-n1}" "$1")")"
}
nexus_is() { is volumes.strake.io "$1" "{.status.nexus.$2}" "$3"; } # volume field value
stage() { calls "$1" stage "$2" "$(staging "$1" "$2")" "${@:3}"; }  # node volume attach=N...
# As a kubelet does, again and again: another program's mount namespace may have a copy of the mount for a while.
unstage() { wait_for 60 "unstage of $2 on $1" node_call "$1" unstage "$2" "$(staging "$1" "$2")"; }
publish() { # node volume pod [use]
	mkdir -p "$dir/$1/kubelet/pods/$3"
	calls "$1" publish "$2" "$(staging "$1" "$2")" "$(target "$@")" "${@:4}"
}
unpublish() { calls "$1" unpublish "$2" "$(target "$@")"; }

note "ready, and registered with a kubelet"
for node in n1 n2 n3; do wait_for 20 "$node to be ready" ready $node; done
register() { "$bin/tests/kube/node-call/node-call" "$dir/n1/kubelet/plugins_registry/csi.strake.io-reg.sock" registered "$@" >"$dir/out"; }
made() { stat -c %y "$dir/n1/kubelet/plugins_registry/csi.strake.io-reg.sock" 2>/dev/null; }
made_again() { [ -n "$(made)" ] && [ "$(made)" != "$1" ]; }
register || die "$(cat "$dir/out")"
grep -qx "CSIPlugin csi.strake.io $dir/n1/kubelet/plugins/csi.strake.io/csi.sock 1.0.0" "$dir/out" || die "$(cat "$dir/out")"
before=$(made)
register error=no || die "$(cat "$dir/out")"
wait_for 10 "a new registration socket after a refusal" made_again "$before"
mv "$dir/n1/kubelet/plugins_registry" "$dir/n1/kubelet/old" && mkdir "$dir/n1/kubelet/plugins_registry"
wait_for 10 "a registration socket in the new folder" register
calls n1 info && grep -qx 'n1 max=1000 csi.strake.io/node=n1' "$dir/out" || die "$(cat "$dir/out")"
refused UNIMPLEMENTED -- n1 expand

note "pools"
for node in n1 n2 n3; do make_pool pool-$node $node 1Gi; done
for node in n1 n2 n3; do wait_for 20 "pool-$node" is pools.strake.io pool-$node '{.status.state}' Online; done
[ "$(condition pools.strake.io pool-n1 Ready status)" = True ] || die "not Ready"
[ -n "$(object pools.strake.io pool-n1 '{.status.uuid}')" ] && [ -n "$(object pools.strake.io pool-n1 '{.status.agent}')" ] || die "no uuids"
is pools.strake.io pool-n1 '{.status.address}' "127.0.0.1:$((base_port + 1))" || die "$(object pools.strake.io pool-n1 '{.status}')"
create "{\"apiVersion\":\"strake.io/v1alpha1\",\"kind\":\"Pool\",\"metadata\":{\"name\":\"missing\"},\"spec\":{\"node\":\"n1\",\"disks\":[\"/dev/strake-none\"]}}"
wait_for 10 "reason DiskMissing" is_condition pools.strake.io missing Ready reason DiskMissing
kubectl delete pools.strake.io missing --wait=false >/dev/null

note "from objects to a file system"
make_volume one 1 256Mi n1 n2 n3
[ "$(object replicas.strake.io one-0 '{.status.nsid}')" -gt 0 ] || die "no nsid"
wait_for 10 "what is reserved" is pools.strake.io pool-n1 '{.status.reserved}' 256Mi
mkdir -p "$dir/n1/kubelet/staging"
refused NOT_FOUND -- n1 stage none "$(staging n1 none)" attach=1
refused FAILED_PRECONDITION 'attached to no node' -- n1 stage one "$(staging n1 one)" attach=1
attach one 1 n1
refused ABORTED -- n1 stage one "$(staging n1 one)" attach=2
refused INVALID_ARGUMENT 'at least 300 MiB' -- n1 stage one "$(staging n1 one)" attach=1 fs=xfs
refused FAILED_PRECONDITION -- n1 publish one "$(staging n1 one)" "$(target n1 one a)"
stage n1 one attach=1
nexus_is one node n1 || die "status.nexus: $(object volumes.strake.io one '{.status.nexus}')"
stage n1 one attach=1
publish n1 one a flag=noatime
publish n1 one a
publish n1 one b readonly=1
head -c 20M /dev/urandom | tee "$(target n1 one a)/data" | sha256sum >"$dir/sum"
sync -f "$(target n1 one a)/data"
sha256sum <"$(target n1 one b)/data" | cmp -s - "$dir/sum" || die "the other path shows something else"
! touch "$(target n1 one b)/x" 2>/dev/null || die "read-only can be written"
refused ALREADY_EXISTS -- n1 publish one "$(staging n1 one)" "$(target n1 one b)"
mkdir -p "$dir/n1/kubelet/pods/c"
refused FAILED_PRECONDITION 'for one pod' -- n1 publish one "$(staging n1 one)" "$(target n1 one c)" mode=6
refused FAILED_PRECONDITION 'still mounted at' -- n1 unstage one "$(staging n1 other)"
calls n1 stats one "$(target n1 one a)" && grep -q '^bytes total=2' "$dir/out" && grep -q ^inodes "$dir/out" || die "$(cat "$dir/out")"
refused NOT_FOUND -- n1 stats one "$dir/n1/none"
wait_for 10 "status.nexus to say Online" nexus_is one state Online

note "snapshots: pool format 0 has none, and the nexus is asked once"
make_snapshot() { # name volume number node: as csi-controller does
	create "{\"apiVersion\":\"strake.io/v1alpha1\",\"kind\":\"Snapshot\",\"metadata\":{\"name\":\"$1\"},\"spec\":{\"volume\":\"$2\",\"uuid\":\"$(uuid_of "$3")\"}}"
	kubectl patch snapshots.strake.io "$1" --subresource status --type merge -p "{\"status\":{\"node\":\"$4\"}}" >/dev/null || die "node of $1"
}
make_snapshot daily one 77 n1
wait_for 20 "it has failed" is snapshots.strake.io daily '{.status.state} {.status.readyToUse}' 'Failed false'
[ "$(condition snapshots.strake.io daily Ready reason)" = NotSupported ] || die "$(object snapshots.strake.io daily '{.status}')"
condition snapshots.strake.io daily Ready message | grep -Eq 'volume one: a snapshot needs pool format 1: replica [0-9a-f-]{36} of pool [0-9a-f-]{36}$' ||
	die "$(object snapshots.strake.io daily '{.status}')"
make_snapshot other two 78 n1
wait_for 20 "it is not open" is_condition snapshots.strake.io other Ready message 'volume two is not open yet on node n1'
sleep 5
[ "$(grep -c '"operation":"snapshot"' "$dir/n1-nexus.log")" = 1 ] || die "asked more than once: $(grep '"operation":"snapshot"' "$dir/n1-nexus.log")"
for name in daily other; do kubectl delete snapshots.strake.io $name --timeout=5s >/dev/null || die "$name stays"; done

note "csi-node killed and started: everything can be said again"
kill_9 n1-csi
start_csi_node n1
stage n1 one attach=1
publish n1 one a
unpublish n1 one b
unpublish n1 one b
sha256sum <"$(target n1 one a)/data" | cmp -s - "$dir/sum" || die "the data are others"

note "nexus killed: a pause"
kill -KILL "$(nexus_pid n1)"
sha256sum <"$(target n1 one a)/data" | cmp -s - "$dir/sum" || die "the data are others"
echo more >"$(target n1 one a)/more" && sync -f "$(target n1 one a)/more" || die "write after the nexus's return"

note "the API server killed: calls of mounted volumes work, and I/O"
cluster_api kill apiserver || die kill
echo away >"$(target n1 one a)/away" && sync -f "$(target n1 one a)/away" || die "write without the API"
calls n1 stats one "$(target n1 one a)"
unpublish n1 one a
refused UNAVAILABLE -- n1 stage one "$(staging n1 one)" attach=1
cluster_api start apiserver || die start
wait_for 30 "the API server" kubectl get volumes.strake.io one

note "unstaged, and on another node"
unstage n1 one
unstage n1 one
! grep -q " $dir/n1/kubelet/staging" /proc/self/mountinfo || die "still mounted"
[ -z "$(object volumes.strake.io one '{.status.nexus.node}')" ] || die "status.nexus is left"
[ -z "$(strake n1 volume list -o json | jq -r '.[].name')" ] || die "the nexus of n1 still has it"
attach one 2 n2
stage n2 one attach=2
publish n2 one a
sha256sum <"$(target n2 one a)/data" | cmp -s - "$dir/sum" || die "the data are others on n2"
[ "$(cat "$(target n2 one a)/away")" = away ] || die "a write is lost"

note "lost: another node has it now"
attach one 3 n1
stage n1 one attach=3
lost() { [ -z "$(strake n2 volume list -o json | jq -r '.[].name')" ]; }
wait_for 30 "n2 to give it up" lost
! dd if=/dev/zero "of=$(target n2 one a)/x" bs=4k count=1 conv=fsync 2>/dev/null || die "n2 can still write"
nexus_is one node n1 || die "status.nexus: $(object volumes.strake.io one '{.status.nexus}')"
unpublish n2 one a
unstage n2 one
nexus_is one node n1 || die "n2 took what n1 says away"

note "launcher and nexus killed, csi-node lives: a pause"
publish n1 one a
kill_launcher() { # node: and its nexus
	local nexus
	nexus=$(nexus_pid "$1")
	kill_9 "$1-nexus"
	kill -KILL "$nexus" 2>/dev/null
	wait_for 10 "the nexus to end" test ! -e "/proc/$nexus"
}
kill_launcher n1
dd if=/dev/urandom "of=$(target n1 one a)/paused" bs=1M count=4 conv=fsync 2>/dev/null &
writer=$!
! ready n1 || die "n1 is ready without a launcher"
start_nexus n1
wait $writer || die "the write that waited has failed"
sha256sum <"$(target n1 one a)/data" | cmp -s - "$dir/sum" || die "the data are others"
wait_for 20 "n1 to be ready" ready n1
stage n1 one attach=3

note "csi-node killed, then launcher and nexus: a pause too"
kill_9 n1-csi
start_csi_node n1
wait_for 20 "n1 to be ready" ready n1
kill_launcher n1
start_nexus n1
cmp <(tail -c 4M "$(target n1 one a)/paused" | wc -c) <(echo 4194304) || die "what was written in the pause"
echo again >"$(target n1 one a)/again" && sync -f "$(target n1 one a)/again" || die "write"

note "nexus, launcher and csi-node all killed: errors, and then staged anew"
kill_9 n1-csi
kill_launcher n1
start_csi_node n1
start_nexus n1
stage n1 one attach=3
publish n1 one a
sha256sum <"$(target n1 one a)/data" | cmp -s - "$dir/sum" || die "the data are others"
unpublish n1 one a
unstage n1 one

note "block"
stage n1 one attach=3 block=1
publish n1 one block block=1
publish n1 one block block=1
[ -b "$(target n1 one block)" ] || die "no block device"
calls n1 stats one "$(target n1 one block)" && grep -qx 'bytes total=268435456 used=0 available=0' "$dir/out" || die "$(cat "$dir/out")"
blkid -p "$(target n1 one block)" | grep -q ext4 || die "not the same volume"
unpublish n1 one block
[ ! -e "$(target n1 one block)" ] || die "the target is left"
unstage n1 one

note "two nodes that do not answer: the volume hangs, another one does not"
make_volume alone 3 64Mi n1
attach alone 1 n1
stage n1 one attach=3
publish n1 one a
for node in n2 n3; do kill -STOP "${pids[$node-agent]}"; done
dd if=/dev/zero "of=$(target n1 one a)/dirty" bs=1M count=8 2>/dev/null
wait_for 20 "it stalls" nexus_is one state Stalled
stage n1 alone attach=1
publish n1 alone a
unpublish n1 one a
refused DEADLINE_EXCEEDED -- n1 unstage one "$(staging n1 one)" timeout=2000
refused ABORTED 'NodeUnstageVolume is under way' -- n1 unstage one "$(staging n1 one)"
unpublish n1 alone a
unstage n1 alone
for node in n2 n3; do kill -CONT "${pids[$node-agent]}"; done
unstage n1 one
kubectl delete replicas.strake.io alone-0 --wait=false >/dev/null

note "opening waits for a majority, and says so"
for node in n2 n3; do kill -STOP "${pids[$node-agent]}"; done
refused UNAVAILABLE 'Opening' -- n1 stage one "$(staging n1 one)" attach=3 timeout=6000
for node in n2 n3; do kill -CONT "${pids[$node-agent]}"; done
stage n1 one attach=3
unstage n1 one

note "xfs"
make_volume two 2 320Mi n1 n2 n3
attach two 1 n1
stage n1 two attach=1 fs=xfs
grep -q "$(staging n1 two) .* - xfs" /proc/self/mountinfo || die "no xfs"
publish n1 two a fs=xfs
echo kept >"$(target n1 two a)/file"
unpublish n1 two a
unstage n1 two
refused FAILED_PRECONDITION 'holds xfs, not ext4' -- n1 stage two "$(staging n1 two)" attach=1
unstage n1 two
stage n1 two attach=1 fs=xfs
[ "$(cat "$(staging n1 two)/file")" = kept ] || die "the file is lost"
unstage n1 two
kubectl delete volumes.strake.io two --wait=false >/dev/null
kubectl delete replicas.strake.io two-0 two-1 two-2 --wait=false >/dev/null

note "erased"
attach one 3 ""
kubectl delete replicas.strake.io one-0 one-1 one-2 --wait=false >/dev/null
for i in 0 1 2; do wait_for 20 "replica one-$i to go" gone replicas.strake.io one-$i; done
[ "$(strake n1 replica list -o json | jq length)" = 0 ] || die "a replica is left"
kubectl patch pools.strake.io pool-n1 --type merge -p '{"metadata":{"finalizers":["strake.io/in-use"]}}' >/dev/null
kubectl delete pools.strake.io pool-n1 --wait=false >/dev/null
wait_for 20 "the pool to be released" is pools.strake.io pool-n1 '{.status.state}' Released
[ ! -e "$dir/n1/pools/pool-n1" ] || die "the pool's file is left"

note "what was lost while csi-node was away is not said any more"
kill_9 n1-csi
create '{"apiVersion":"strake.io/v1alpha1","kind":"Volume","metadata":{"name":"said"},"spec":{"size":"64Mi"}}'
kubectl patch volumes.strake.io said --subresource status --type merge -p '{"status":{"nexus":{"node":"n1","state":"Online"}}}' >/dev/null || die "said"
start_csi_node n1
wait_for 20 "status.nexus to go" is volumes.strake.io said '{.status.nexus}' ''

note "ended"
kill -TERM "${pids[n1-csi]}" && wait "${pids[n1-csi]}" || die "csi-node ends with $?"
unset 'pids[n1-csi]'
[ ! -e "$dir/n1/kubelet/plugins_registry/csi.strake.io-reg.sock" ] && [ ! -e "$dir/n1/kubelet/plugins/csi.strake.io/csi.sock" ] || die "sockets are left"
