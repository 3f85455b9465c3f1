#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# csi-controller and csi-node together, three nodes' real daemons, no kubelet: data move from node to node, also from one that died;
# then csi-sanity, all of it.
#
#	20-csi-sanity.sh [NAME]		the daemons are over what STRAKE_IO says; NAME is the folder's (lib.sh)
. "$(dirname "$0")/lib.sh" "${1:-csi-sanity}"
. "$(dirname "$0")/node.sh"
api_up
trap node_cleanup EXIT
define_objects
node_rights

socket=$dir/csi.sock
gib=1073741824
csi() { "$bin/tests/kube/csi-call/csi-call" "$socket" "$@" >"$dir/out" || die "$*: $(cat "$dir/out")"; }
set_node() { # name True|False|Unknown
	kubectl patch node "$1" --subresource status --type merge \
		-p "{\"status\":{\"conditions\":[{\"type\":\"Ready\",\"status\":\"$2\"}]}}" >/dev/null || die "node $1"
}
staging() { echo "$dir/$1/kubelet/staging/$2"; } # node volume
target() { echo "$dir/$1/kubelet/pods/$2"; }     # node volume
use() { # volume node: attached, staged, published
	csi publish "$1" "$2"
	mkdir -p "$dir/$2/kubelet/staging" "$dir/$2/kubelet/pods"
	calls "$2" stage "$1" "$(staging "$2" "$1")" "attach=$(cat "$dir/out")"
	calls "$2" publish "$1" "$(staging "$2" "$1")" "$(target "$2" "$1")"
}
release() { # volume node
	calls "$2" unpublish "$1" "$(target "$2" "$1")"
	wait_for 60 "unstage of $1 on $2" node_call "$2" unstage "$1" "$(staging "$2" "$1")"
	csi unpublish "$1" "$2"
}

# Who moves data is over what was asked for, if anything was; csi-node and csi-controller move none.
check_io() { # node
	local daemon
	for daemon in agent nexus; do
		metrics_of "$1" $daemon | grep -q "^strake_reactor_info{.*backend=\"${STRAKE_IO:-.*}\"} 1\$" ||
			die "$daemon of $1 is not over ${STRAKE_IO:-anything}: $(metrics_of "$1" $daemon | grep ^strake_reactor_info)"
	done
}

note "Three nodes and a controller${STRAKE_IO:+, over $STRAKE_IO}"
for node in n1 n2 n3; do make_node $node; set_node $node True; start_node $node; check_io $node; done
cat >"$dir/controller.yaml" <<EOF
name: controller
csi_socket: $socket
kubeconfig: $api/admin.kubeconfig
namespace: strake
EOF
"$bin/csi-controller/csi-controller" --config "$dir/controller.yaml" >"$dir/controller.log" 2>&1 &
pids[controller]=$!
for node in n1 n2 n3; do make_pool pool-$node $node 4Gi; done
for node in n1 n2 n3; do wait_for 30 "pool-$node" is pools.strake.io pool-$node '{.status.state}{.metadata.finalizers[0]}' Onlinestrake.io/in-use; done
leads() { "$bin/tests/kube/csi-call/csi-call" "$socket" list; }
wait_for 20 "the controller to lead" leads

note "Data move with the volume"
csi create one size=$gib node=n1
use one n1
head -c 20M /dev/urandom | tee "$(target n1 one)/data" | sha256sum >"$dir/sum"
wait_for 15 "it is online" is volumes.strake.io one '{.status.state} {.status.inSync}' 'Online 3/3'
wait_for 15 "it is published" is_condition volumes.strake.io one Published status True
release one n1
is volumes.strake.io one '{.status.nexus}' '' || die "status.nexus is left"
use one n2
sha256sum <"$(target n2 one)/data" | cmp -s - "$dir/sum" || die "other data on n2"
echo later >"$(target n2 one)/later" && sync -f "$(target n2 one)/later" || die "write on n2"

note "A dead node is left behind, its replica is copied again when it is back"
set_node n2 Unknown
for process in n2-csi n2-agent; do kill -STOP "${pids[$process]}"; done
stopped=$(nexus_pid n2)
kill -STOP "$stopped"
csi unpublish one n2
use one n3
sha256sum <"$(target n3 one)/data" | cmp -s - "$dir/sum" || die "other data on n3"
[ "$(cat "$(target n3 one)/later")" = later ] || die "what n2 wrote last is lost"
echo last >"$(target n3 one)/last" && sync -f "$(target n3 one)/last" || die "write on n3"
wait_for 30 "it is degraded" is volumes.strake.io one '{.status.state} {.status.inSync}' 'Degraded 2/3'
wait_for 10 "pool-n2 is unknown" is pools.strake.io pool-n2 '{.status.state}' Unknown
kill -CONT "$stopped"
for process in n2-agent n2-csi; do kill -CONT "${pids[$process]}"; done
set_node n2 True
wait_for 30 "pool-n2 is back" is pools.strake.io pool-n2 '{.status.state}' Online
wait_for 90 "it is whole again" is volumes.strake.io one '{.status.state} {.status.inSync}' 'Online 3/3'
calls n2 unpublish one "$(target n2 one)"
wait_for 60 "unstage on n2" node_call n2 unstage one "$(staging n2 one)"
release one n3
csi delete one
gone volumes.strake.io one || die "one is left"
[ -z "$(kubectl get replicas.strake.io -o name)" ] || die "replicas are left"

note "csi-sanity"
mkdir -p "$dir/n1/kubelet/sanity"
"$kube_bin/csi-sanity" --csi.endpoint="unix://$dir/n1/kubelet/plugins/csi.strake.io/csi.sock" --csi.controllerendpoint="unix://$socket" \
	--csi.mountdir="$dir/n1/kubelet/sanity/mount" --csi.stagingdir="$dir/n1/kubelet/sanity/stage" --csi.testvolumesize=$gib \
	--ginkgo.no-color --ginkgo.json-report="$dir/sanity.json" >"$dir/sanity.log" 2>&1 ||
	die "csi-sanity: $(grep -A40 FAILED "$dir/sanity.log" | head -120)"
specs() { jq -r ".[].SpecReports[] | select(.LeafNodeType == \"It\" and .State == \"$1\") | $2" "$dir/sanity.json"; } # state path
count_specs() { specs "$1" .LeafNodeText | wc -l; }
[ "$(count_specs passed)" -gt 0 ] || die "no spec passed"
echo "csi-sanity${STRAKE_IO:+ over $STRAKE_IO}: $(count_specs passed) passed, $(count_specs failed) failed, $(count_specs skipped) skipped, $(count_specs pending) pending"
# What it skips is for capabilities that we do not offer, and these are all: who takes one away, or offers one more, changes the list.
diff - <(specs skipped .Failure.Message | LC_ALL=C sort -u) >"$dir/reasons" <<EOF || die "its reasons to skip (>) are not those (<): $(cat "$dir/reasons")"
ControllerExpandVolume not supported
ControllerGetVolumeHealth not supported
ControllerListVolumeHealth not supported
ControllerModifyVolume not supported
CreateSnapshot not supported
DeleteSnapshot not supported
GetSnapshot not supported
GroupControllerService not supported
ListSnapshots not supported
Modify Volume not supported
Modify volume not supported
NodeExpandVolume not supported
NodeGetStorageHealth not supported
NodeGetVolumeHealth not supported
Snapshot not supported
Volume Cloning not supported
testnodevolumeattachlimit not enabled
EOF
[ -z "$(kubectl get volumes.strake.io,replicas.strake.io -o name)" ] || die "left: $(kubectl get strake)"
for node in n1 n2 n3; do
	[ -z "$(strake $node volume list -o json 2>/dev/null | jq -r '.[].name')" ] || die "the nexus of $node still has a volume"
	wait_for 20 "pool-$node is empty" is pools.strake.io pool-$node '{.status.replicas}' 0
done
