#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# csi-controller against a real API server, with no more rights than it needs.  Its nodes are fake-node processes, which do what a
# csi-node would as if the daemons had done it.
. "$(dirname "$0")/lib.sh" csi-controller
api_up
define_objects

socket=$dir/csi.sock
program=$bin/csi-controller/csi-controller
gib=1073741824
csi() { "$bin/tests/kube/csi-call/csi-call" "$socket" "$@"; }
refused() { # what it must say, a call...
	local say=$1
	shift
	if csi "$@" >"$dir/out"; then die "not refused: $*"; fi
	grep -qF -- "$say" "$dir/out" || die "$* says '$(cat "$dir/out")', not '$say'"
}
replicas_of() { # volume [path]
	kubectl get replicas.strake.io --field-selector "spec.volume=$1" -o "jsonpath={range .items[*]}${2:-{.metadata.name\}}{'\n'}{end}" | sort
}
count() { grep -c . <<<"$1" || true; }

make_node() { # name
	printf '{"apiVersion":"v1","kind":"Node","metadata":{"name":"%s"}}' "$1" | kubectl create -f - >/dev/null || die "node $1"
	set_node "$1" True
}
set_node() { # name True|False|Unknown
	kubectl patch node "$1" --subresource status --type merge \
		-p "{\"status\":{\"conditions\":[{\"type\":\"Ready\",\"status\":\"$2\"}]}}" >/dev/null || die "node $1"
}
make_pool() { # name node size
	printf '{"apiVersion":"strake.io/v1alpha1","kind":"Pool","metadata":{"name":"%s"},"spec":{"node":"%s","disks":["file:///x?size=%s"]}}' \
		"$1" "$2" "$3" | kubectl create -f - >/dev/null || die "pool $1"
}
start_node() { # name [arguments]
	"$bin/tests/kube/fake-node/fake-node" --kubeconfig "$api/admin.kubeconfig" --node "$1" "${@:2}" >>"$dir/$1.log" 2>&1 &
	pids[$1]=$!
}
start_controller() { # name socket port
	cat >"$dir/$1.yaml" <<-EOF
	name: $1
	identity: $1
	csi_socket: $2
	kubeconfig: $dir/controller.kubeconfig
	namespace: strake
	metrics:
	  address: 127.0.0.1:$3
	EOF
	"$program" --config "$dir/$1.yaml" >>"$dir/$1.log" 2>&1 &
	pids[$1]=$!
}
leads() { csi list; }

note "The account of the chart"
kubectl create namespace strake >/dev/null
"$kube_bin/helm" template strake deploy/helm --namespace strake --show-only templates/rbac.yaml 2>"$dir/rbac.log" |
	kubectl apply -f - >>"$dir/rbac.log" 2>&1 || die "the chart's rights"
token=$(cluster_api token strake/strake-csi-controller) || die "no token"
cp "$api/admin.kubeconfig" "$dir/controller.kubeconfig"
KUBERC=off "$kube_bin/kubectl" --kubeconfig "$dir/controller.kubeconfig" config set-credentials controller "--token=$token" >/dev/null
KUBERC=off "$kube_bin/kubectl" --kubeconfig "$dir/controller.kubeconfig" config set-context --current --user controller >/dev/null
rm -rf "$dir/cache"

note "Pools are taken in and their nodes labelled"
for i in 1 2 3 4 5; do make_node n$i; start_node n$i; done
for i in 1 2 3 4; do make_pool p$i n$i 20Gi; done
start_controller c1 "$socket" $((port + 5))
wait_for 20 "the controller to lead" leads
[ "$(csi probe)" = ready ] || die "it does not say that it is ready"
ready() { [ "$(curl -s "127.0.0.1:$((port + 5))/readyz")" = ok ]; }
ready || die "readyz"
for i in 1 2 3 4; do
	wait_for 20 "pool p$i" is pools.strake.io p$i '{.status.state}{.metadata.finalizers[0]}' Onlinestrake.io/in-use
	wait_for 20 "label of n$i" is node n$i '{.metadata.labels.strake\.io/pool-agent}' true
	wait_for 20 "p$i deletable" is_condition pools.strake.io p$i Deletable reason NoReplicas
done
is node n5 '{.metadata.labels.strake\.io/pool-agent}' '' || die "n5 has no pool"
# Capacity of the third largest pool.
[ "$(csi capacity)" = $((20 * gib)) ] || die "capacity $(csi capacity)"
[ "$(csi capacity replicas=5)" = 0 ] || die "capacity of 5 replicas"

note "A volume is made, found again, attached, detached, deleted"
make_claim() {
	kubectl create -f - >/dev/null <<<'{"apiVersion":"v1","kind":"PersistentVolumeClaim","metadata":{"name":"claim","namespace":"default"},
		"spec":{"accessModes":["ReadWriteOnce"],"resources":{"requests":{"storage":"30Gi"}}}}' || die "claim"
	# Nobody takes it away here.
	kubectl patch pvc claim --type merge -p '{"metadata":{"finalizers":null}}' >/dev/null || die "finalizers of the claim"
}
make_claim
[ "$(csi create a size=$gib node=n4 csi.storage.k8s.io/pvc/name=claim csi.storage.k8s.io/pvc/namespace=default)" = "a $gib topologies=0" ] || die "create"
is volumes.strake.io a '{.status.state}{.status.inSync}{.spec.claim.name}' Online3/3claim || die "status of a"
[ "$(count "$(replicas_of a)")" = 3 ] || die "replicas of a"
replicas_of a '{.spec.node}' | grep -qx n4 || die "none is on the preferred node"
is_condition pools.strake.io p4 Deletable reason HasReplicas || wait_for 5 "p4 not deletable" is_condition pools.strake.io p4 Deletable reason HasReplicas
csi create a size=$gib >/dev/null || die "the same again"
refused ALREADY_EXISTS create a size=$((2 * gib)) limit=$((2 * gib))
refused ALREADY_EXISTS create a size=$gib replicas=2
refused "there are replicas, minInsync" create b replica=2
refused "strict-local is not there yet" create b dataLocality=strict-local
refused "ask for ReadWriteOnce" create b mode=5
refused OUT_OF_RANGE create b size=1 limit=1000
[ "$(csi validate a)" = confirmed ] || die "validate"
csi validate a mode=5 | grep -q '^refused: .*ReadWriteOnce' || die "validate RWX"
refused NOT_FOUND validate nothing
[ "$(csi publish a n5)" = 1 ] || die "publish"
[ "$(csi publish a n5)" = 1 ] || die "publish again"
refused "ALREADY_EXISTS" publish a n5 readonly=1
refused "FAILED_PRECONDITION: volume a is attached to node n5" publish a n1
refused "NOT_FOUND: there is no node n9" publish a n9
refused "NOT_FOUND" publish nothing n1
refused "FAILED_PRECONDITION: volume a is attached to node n5" delete a
wait_for 10 "open on n5" is_condition volumes.strake.io a Published message 'on node n5, /dev/loop1'
[ "$(csi list)" = "a n5" ] || die "list: $(csi list)"
[ "$(csi get a)" = "a $gib n5" ] || die "get"
csi unpublish a n1 || die "unpublish of another node"
csi unpublish a n5 || die "unpublish"
is volumes.strake.io a '{.status.nexus}' '' || die "it did not wait for the nexus"
[ "$(csi publish a n2)" = 2 ] || die "the number is not raised"
csi unpublish a || die "unpublish of wherever it is"
csi delete a && csi delete a && csi delete 'No/such' || die "delete"
gone volumes.strake.io a && [ -z "$(replicas_of a)" ] || die "something is left of a"

note "A node that keeps it open is waited for, a dead one is not"
csi create held size=$gib >/dev/null && csi publish held n5 >/dev/null || die "held"
wait_for 10 "open on n5" is volumes.strake.io held '{.status.nexus.node}' n5
kubectl annotate volumes.strake.io held test/hold=1 >/dev/null
refused "ABORTED: volume held waits for node n5 to close it" unpublish held n5 timeout=2000
set_node n5 Unknown
csi unpublish held n5 timeout=3000 || die "unpublish of a dead node"
set_node n5 True
kubectl annotate volumes.strake.io held test/hold- >/dev/null
csi delete held || die "delete held"

note "Snapshots: whose csi-node takes them, and why nobody's does"
make_snapshot() { # name volume
	printf '{"apiVersion":"strake.io/v1alpha1","kind":"Snapshot","metadata":{"name":"%s"},"spec":{"volume":"%s"}}' "$1" "$2" |
		kubectl create -f - >/dev/null || die "snapshot $1"
}
snapshot_is() { is snapshots.strake.io daily '{.status.state} {.status.node}' "$1"; } # state and node
make_snapshot daily later
wait_for 10 "no such Volume" is_condition snapshots.strake.io daily Ready message 'there is no Volume later'
[ -n "$(object snapshots.strake.io daily '{.spec.uuid}')" ] || die "it has no uuid"
csi create later size=$gib >/dev/null || die "later"
wait_for 10 "attached nowhere" is_condition snapshots.strake.io daily Ready reason VolumeDetached
snapshot_is 'Pending ' || die "$(object snapshots.strake.io daily '{.status}')"
csi publish later n5 >/dev/null || die "publish later"
wait_for 10 "n5 to be told" snapshot_is 'Creating n5'
set_node n5 Unknown
wait_for 10 "n5 is away" is_condition snapshots.strake.io daily Ready reason NodeNotReady
snapshot_is 'Pending ' || die "$(object snapshots.strake.io daily '{.status}')"
set_node n5 True
wait_for 10 "n5 to be told again" snapshot_is 'Creating n5'
# As its csi-node says it.
kubectl patch snapshots.strake.io daily --subresource status --type merge -p '{"status":{"state":"Ready","readyToUse":true,
	"volumeUUID":"'"$(object volumes.strake.io later '{.spec.uuid}')"'"}}' >/dev/null || die "status of daily"
wait_for 10 "it is held, and no node's" is snapshots.strake.io daily '{.metadata.finalizers[0]}{.status.node}' strake.io/snapshot
kubectl delete snapshot.strake.io daily --wait=false >/dev/null
wait_for 10 "what keeps it" is_condition snapshots.strake.io daily Deletable message \
	'a snapshot cannot be deleted alone yet: it goes with its Volume later'
make_snapshot never nothing
wait_for 10 "no such Volume" is_condition snapshots.strake.io never Ready reason VolumeNotFound
kubectl delete snapshot.strake.io never --timeout=5s >/dev/null || die "one that was never made stays"
csi unpublish later n5 && csi delete later || die "delete later"
wait_for 10 "daily goes with its Volume" gone snapshots.strake.io daily

note "20 at once spread, and no pool is promised twice"
for i in {1..20}; do csi create many-$i size=$gib >"$dir/many-$i.out" 2>&1 & done
wait $(jobs -p | grep -vxF "$(printf '%s\n' "${pids[@]}")")
for i in {1..20}; do grep -q "^many-$i " "$dir/many-$i.out" || die "many-$i: $(cat "$dir/many-$i.out")"; done
placed=$(kubectl get replicas.strake.io -o 'jsonpath={range .items[*]}{.spec.pool}{"\n"}{end}' | sort | uniq -c)
[ "$(awk '$1 != 15' <<<"$placed")" = "" ] || die "not spread: $placed"
[ "$(csi capacity)" = $((5 * gib)) ] || die "capacity $(csi capacity)"
[ "$(count "$(csi list max=15)")" = 16 ] || die "page"
next=$(csi list max=15 | sed -n 's/^next //p')
[ "$(count "$(csi list max=15 "token=$next")")" = 5 ] || die "second page"
refused ABORTED list token=nonsense
for i in {1..20}; do csi delete many-$i >"$dir/many-$i.out" 2>&1 & done
wait $(jobs -p | grep -vxF "$(printf '%s\n' "${pids[@]}")")
[ -z "$(csi list)" ] || die "left: $(csi list)"

note "What has no place says why, to the claim too, and is made when there is one"
refused "ABORTED: volume big is not ready yet: 0 of 3 replicas have a place; pool p1: 10.0 GiB short; pool p2: 10.0 GiB short" \
	create big size=$((30 * gib)) timeout=2000 csi.storage.k8s.io/pvc/name=claim csi.storage.k8s.io/pvc/namespace=default
is_condition volumes.strake.io big Available reason Unplaceable || die "condition of big"
[ -z "$(replicas_of big)" ] || die "some replicas were made"
event() { kubectl get events -n "$1" -o json | grep -q "$2"; }
wait_for 10 "an Event on the Volume" event default 'volumes\|Unplaceable'
wait_for 10 "an Event on the claim" event default 'volume big: 0 of 3 replicas'
for i in 1 2 3; do make_pool big$i n$i 40Gi; done
wait_for 10 "big is made" is_condition volumes.strake.io big Available status True
csi create big size=$((30 * gib)) >/dev/null || die "asked again"
csi delete big || die "delete big"

note "and is given up when its claim is gone, and nobody was told that it is there"
of_claim=(size=$((50 * gib)) timeout=1000 csi.storage.k8s.io/pvc/name=claim csi.storage.k8s.io/pvc/namespace=default)
claim_uid=$(object pvc claim '{.metadata.uid}')
for name in unwanted "pvc-$claim_uid"; do
	for i in 1 2; do refused "ABORTED: volume $name is not ready yet" create "$name" "${of_claim[@]}"; done
done
kubectl delete pvc claim >/dev/null || die "delete claim"
refused "NOT_FOUND: volume unwanted is not made: its claim is gone" create unwanted "${of_claim[@]}"
make_claim
refused "NOT_FOUND: volume pvc-$claim_uid is not made: its claim is gone" create "pvc-$claim_uid" "${of_claim[@]}"
refused "NOT_FOUND: volume unwanted2 is not made: its claim is gone" create unwanted2 size=$gib timeout=1000 \
	csi.storage.k8s.io/pvc/name=nobody csi.storage.k8s.io/pvc/namespace=default
gone volumes.strake.io unwanted2 || die "it was made"
gone volumes.strake.io unwanted && gone volumes.strake.io "pvc-$claim_uid" || die "they are left"
for i in 1 2 3; do kubectl delete pool.strake.io big$i --wait=false >/dev/null; done
for i in 1 2 3; do wait_for 10 "pool big$i is released" gone pools.strake.io big$i; done

note "A pool without space is passed over"
kubectl annotate pools.strake.io p1 test/refuse=NoSpace >/dev/null
csi create other size=$gib node=n1 >/dev/null || die "other"
! replicas_of other '{.spec.pool}' | grep -qx p1 || die "it is on p1"
kubectl annotate pools.strake.io p1 test/refuse- >/dev/null
csi delete other || die "delete other"

note "Made by hand"
kubectl create -f - >/dev/null <<<'{"apiVersion":"strake.io/v1alpha1","kind":"Volume","metadata":{"name":"hand"},"spec":{"size":"1Gi","replicas":2}}'
wait_for 10 "hand" is volumes.strake.io hand '{.status.state}{.status.inSync}' Online2/2
[ "$(csi publish hand n1)" = 1 ] || die "publish hand"
kubectl delete volume.strake.io hand --wait=false >/dev/null
wait_for 10 "kept in use" is volumes.strake.io hand '{.status.state} {.status.reason}' 'Deleting is attached to node n1'
csi unpublish hand n1 || die "unpublish hand"
wait_for 10 "hand goes" gone volumes.strake.io hand

note "Killed at any moment, everything is made and deleted in the end"
for i in {1..6}; do kubectl create -f - >/dev/null <<<'{"apiVersion":"strake.io/v1alpha1","kind":"Volume","metadata":{"name":"kill-'$i'"},"spec":{"size":"1Gi"}}'; done &
for pause in 0.05 0.15 0.4 0.1; do
	sleep $pause
	kill_9 c1
	start_controller c1 "$socket" $((port + 5))
	sleep 0.7
done
wait %?kubectl 2>/dev/null
for i in {1..6}; do wait_for 40 "kill-$i" is volumes.strake.io kill-$i '{.status.state}{.status.inSync}' Online3/3; done
[ "$(kubectl get replicas.strake.io -o name | wc -l)" = 18 ] || die "$(kubectl get replicas.strake.io)"
for i in {1..6}; do
	[ "$(replicas_of kill-$i '{.spec.node}' | uniq | wc -l)" = 3 ] || die "kill-$i: $(replicas_of kill-$i '{.spec.node}')"
done
for i in {1..6}; do kubectl delete volume.strake.io kill-$i --wait=false >/dev/null; done
sleep 0.1
kill_9 c1
start_controller c1 "$socket" $((port + 5))
for i in {1..6}; do wait_for 40 "kill-$i goes" gone volumes.strake.io kill-$i; done
[ -z "$(kubectl get replicas.strake.io -o name)" ] || die "$(kubectl get replicas.strake.io)"

note "The second of two waits until the first is gone"
wait_for 20 "the controller to lead" leads
first=$socket
start_controller c2 "$dir/second.sock" $((port + 6))
socket=$dir/second.sock
wait_for 20 "the second is ready" sh -c "[ \"\$(curl -s 127.0.0.1:$((port + 6))/readyz)\" = ok ]"
refused "UNAVAILABLE: this csi-controller is not the leader" create x size=$gib
kill -TERM "${pids[c1]}"
wait "${pids[c1]}" || die "c1 ends with $?"
unset 'pids[c1]'
wait_for 10 "the second leads" leads
csi create x size=$gib >/dev/null && csi delete x || die "by the second"
start_controller c1 "$first" $((port + 5))
kill_9 c2
socket=$first
wait_for 30 "the first leads again" leads

note "Nobody waits for a node that is away; its replica is erased when it is back"
csi create away size=$gib replicas=4 >/dev/null || die "away"
lost=$(kubectl get replicas.strake.io --field-selector spec.node=n4 -o 'jsonpath={.items[0].metadata.name}')
kill -STOP "${pids[n4]}"
set_node n4 Unknown
wait_for 10 "p4 is unknown" is pools.strake.io p4 '{.status.state}' Unknown
wait_for 10 "away is degraded" is volumes.strake.io away '{.status.state}{.status.inSync}' Degraded3/4
csi delete away timeout=10000 || die "delete away"
[ "$(kubectl get replicas.strake.io -o name)" = "replica.strake.io/$lost" ] || die "$(kubectl get replicas.strake.io)"
set_node n4 True
kill -CONT "${pids[n4]}"
wait_for 10 "it is erased" gone replicas.strake.io "$lost"
wait_for 10 "p4 is back" is pools.strake.io p4 '{.status.state}' Online

note "A pool in use stays until it is not; that of a node that is gone for good goes"
csi create kept size=$gib replicas=4 >/dev/null || die "kept"
kubectl delete pool.strake.io p3 --wait=false >/dev/null
wait_for 10 "who uses p3" is_condition pools.strake.io p3 Deletable reason HasReplicas
names_it() { kubectl get pools.strake.io p3 -o yaml | grep -q '1 replicas: kept-'; }
wait_for 10 "its name" names_it
kill_9 n4
kubectl delete node n4 >/dev/null
kubectl delete pool.strake.io p4 --wait=false >/dev/null
csi delete kept timeout=10000 || die "delete kept"
wait_for 10 "p3 goes" gone pools.strake.io p3
wait_for 10 "p4 goes" gone pools.strake.io p4
[ -z "$(kubectl get replicas.strake.io -o name)" ] || die "$(kubectl get replicas.strake.io)"
wait_for 10 "n3 has no pool any more" is node n3 '{.metadata.labels.strake\.io/pool-agent}' ''
is node n1 '{.metadata.labels.strake\.io/pool-agent}' true || die "n1 lost its label"

# Not later: a server that was just started forbids everything for a moment.
! grep -h 'HTTP 403' "$dir"/c1.log "$dir"/c2.log || die "a right is missing"

note "The API server dies and comes back"
make_pool p3 n3 20Gi
cluster_api kill apiserver >/dev/null 2>&1
csi create back size=$gib timeout=3000 >"$dir/out" 2>&1
cluster_api start apiserver >"$dir/again.log" 2>&1 || die "the API server does not come back"
made() { csi create back size=$gib timeout=5000; }
wait_for 60 "back is made" made
csi delete back || die "delete back"

note "What csi-sanity says of the Controller service"
kill_9 n1
start_node n1 --socket "$dir/node.sock"
wait_for 10 "the node's socket" test -S "$dir/node.sock"
"$kube_bin/csi-sanity" --csi.endpoint="unix://$dir/node.sock" --csi.controllerendpoint="unix://$socket" --csi.mountdir="$dir/mnt" \
	--csi.stagingdir="$dir/stage" --csi.testvolumesize=$gib --ginkgo.skip='Node Service' --ginkgo.no-color >"$dir/sanity.log" 2>&1 ||
	die "csi-sanity: $(grep -A30 FAILED "$dir/sanity.log" | head -60)"
grep -E '^(Ran|SUCCESS)' "$dir/sanity.log"
[ -z "$(kubectl get volumes.strake.io,replicas.strake.io -o name)" ] || die "left: $(kubectl get strake)"

kill -TERM "${pids[c1]}"
wait "${pids[c1]}" || die "c1 ends with $?"
unset 'pids[c1]'
