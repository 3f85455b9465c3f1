#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The chart: it is clean, a real API server takes all of it, wrong values are errors; and what it lets csi-node do is what
# docs/kubernetes.md says, no more: by RBAC and the admission policy, with tokens that name their nodes.
. "$(dirname "$0")/lib.sh" chart
chart=deploy/helm
namespace=strake-system
api_up
helm() { "$kube_bin/helm" "$@"; }

note "lint and values"
helm lint --strict $chart >"$dir/lint.log" 2>&1 || die "helm lint: $(cat "$dir/lint.log")"
helm template strake $chart --namespace $namespace >"$dir/chart.yaml" || die "helm template"
helm template strake $chart --namespace $namespace --set ipFamily=IPv6,storageNetwork=fd00::/64,poolAgent.folders={/mnt/a} \
	--set image.pullSecrets={secret},uninstall.force=true,storageClass.mountOptions={discard} >"$dir/other.yaml" || die "other values"
grep -qF 'address: "[fd00::/64]:4430"' "$dir/other.yaml" || die "storageNetwork is not used"
wrong_values() { # what it must say, values
	if helm template strake $chart --set "$2" >"$dir/out" 2>&1; then die "taken: --set $2"; fi
	grep -qF -- "$1" "$dir/out" || die "of $2 it says '$(cat "$dir/out")'"
}
wrong_values "'nexusPort' not allowed" nexusPort=4430
wrong_values /storageNetwork storageNetwork=10.0.0.1
wrong_values /kubeletDir kubeletDir=var/lib/kubelet
wrong_values /poolAgent/port poolAgent.port=0
wrong_values /nexus/rebuild/maxConcurrent nexus.rebuild.maxConcurrent=0
wrong_values /nexus/rebuild/maxRate nexus.rebuild.maxRate=fast
wrong_values /poolAgent/windows poolAgent.windows=1
wrong_values /storageClass/replicas storageClass.replicas=6
wrong_values /image/registry image.registry=

note "all of it is taken by an API server"
kubectl create namespace $namespace >/dev/null || die "namespace"
define_objects
kubectl apply --server-side -n $namespace -f "$dir/chart.yaml" >"$dir/apply.log" 2>&1 || die "$(cat "$dir/apply.log")"
kubectl apply --server-side --dry-run=server -n $namespace -f "$dir/other.yaml" >"$dir/apply-other.log" 2>&1 || die "$(cat "$dir/apply-other.log")"
! grep -i warning "$dir/apply.log" || die "warnings"

kubectl create serviceaccount default >/dev/null || die "service account"
for example in deploy/examples/*.yaml; do
	kubectl create --dry-run=server -f "$example" >"$dir/out" 2>&1 || die "$example: $(cat "$dir/out")"
done

note "objects"
uuid=11111111-1111-4111-8111-111111111111
make() { kubectl apply -f - >"$dir/out" 2>&1 || die "$(cat "$dir/out")"; }
for node in n1 n2; do
	make <<-YAML
	{apiVersion: strake.io/v1alpha1, kind: Pool, metadata: {name: $node}, spec: {node: $node, disks: [/dev/sdb]}}
	---
	apiVersion: strake.io/v1alpha1
	kind: Replica
	metadata: {name: db-$node, finalizers: [strake.io/erase, example.com/other], labels: {a: b}}
	spec: {volume: db, volumeUUID: $uuid, uuid: $uuid, pool: $node, node: $node, kind: Data, size: 1Gi, slot: 0}
	YAML
done
make <<-YAML
{apiVersion: strake.io/v1alpha1, kind: Volume, metadata: {name: db}, spec: {size: 1Gi}}
YAML
make <<-YAML
{apiVersion: strake.io/v1alpha1, kind: Snapshot, metadata: {name: daily}, spec: {volume: db, uuid: $uuid}}
YAML
admin_status() { kubectl patch "$1" "$2" --subresource status --type merge -p "{\"status\":$3}" >"$dir/out" 2>&1 || die "$(cat "$dir/out")"; }
admin_status volumes.strake.io db '{"state":"Online","attachment":{"number":1,"node":"n1"}}'

server=$(cluster_api url)
for node in n1 n2; do
	printf -v "token_$node" %s "$(cluster_api token $namespace/strake-csi-node --node $node)" || die "token"
done
# shellcheck disable=SC2034 # by name, below
token_none=$(cluster_api token $namespace/strake-csi-node) || die "token"
token_controller=$(cluster_api token $namespace/strake-csi-controller) || die "token"
# Not by kubectl, which reads what it patches: for the status of an object csi-node has no right to do that.
send_patch() { # token plural name type patch [subresource]
	curl -s --fail-with-body --cacert "$api/ca.crt" -H "Authorization: Bearer $1" -H "Content-Type: application/$4-patch+json" \
		-X PATCH -d "$5" "$server/apis/strake.io/v1alpha1/$2/$3${6:+/$6}"
}
as() { # who kubectl arguments...
	local token=token_$1
	shift
	if [ "$1" = patch ]; then
		send_patch "${!token}" "${@:2}"
		return
	fi
	KUBERC=off "$kube_bin/kubectl" --server "$server" --certificate-authority "$api/ca.crt" --token "${!token}" --kubeconfig /dev/null \
		--cache-dir "$dir/cache" "$@"
}
may() { as "$@" >"$dir/out" 2>&1 || die "refused: $*: $(cat "$dir/out")"; }
may_not() { # what it must say, who, kubectl arguments
	local says=$1
	shift
	if as "$@" >"$dir/out" 2>&1; then die "taken: $*"; fi
	grep -qF -- "$says" "$dir/out" || die "of $* it says '$(cat "$dir/out")', not '$says'"
}
patch() { printf '%s' "patch $1 $2 ${4:-merge} $3"; } # plural name patch [type]
status() { printf '%s' "patch $1 $2 ${4:-merge} $3 status"; }
# As csi-node itself writes: applied, by its field manager, whoever had the fields before.
apply() { # who kind plural name status
	printf '{"apiVersion":"strake.io/v1alpha1","kind":"%s","metadata":{"name":"%s"},"status":%s}' "$2" "$4" "$5" >"$dir/applied.json"
	as "$1" apply --server-side --force-conflicts --field-manager strake-node --subresource status -f "$dir/applied.json" >"$dir/out" 2>&1
}
applied() { apply "$@" || die "refused: $*: $(cat "$dir/out")"; }
not_applied() { # what it must say, then as for apply
	local says=$1
	shift
	if apply "$@"; then die "taken: $*"; fi
	grep -qF -- "$says" "$dir/out" || die "of $* it says '$(cat "$dir/out")', not '$says'"
}

# Commands are put together of words without blanks; brackets of JSON are no patterns.
set -f
# shellcheck disable=SC2046
{
note "csi-node reads"
for kind in pools volumes replicas snapshots; do may n1 get $kind.strake.io; done
for kind in nodes secrets configmaps pods persistentvolumes; do may_not forbidden n1 get $kind; done

note "csi-node and Pools"
applied n1 Pool pools n1 '{"state":"Online","capacity":"10Gi","conditions":[{"type":"Ready","status":"True"}]}'
may n1 $(status pools n1 '{"status":{"used":"1Gi"}}')
not_applied 'csi-node of n1 may not change pools of node n2' n1 Pool pools n2 '{"state":"Faulted"}'
may_not 'csi-node of n1 may not change pools of node n2' n1 $(status pools n2 '{"status":{"used":"1Gi"}}')
may_not forbidden n1 $(patch pools n1 '{"spec":{"unschedulable":true}}')
may_not forbidden n1 $(patch pools n1 '{"metadata":{"labels":{"x":"y"}}}')
may n1 $(status pools n1 '{"metadata":{"labels":{"x":"y"}},"spec":{"unschedulable":true}}')
[ -z "$(kubectl get pools.strake.io n1 -o 'jsonpath={.metadata.labels.x}{.spec.unschedulable}' | sed s/false//)" ] || die "more than status was changed by way of it"
may_not forbidden n1 delete pools.strake.io n1
may_not forbidden n1 create -f - <<<'{"apiVersion":"strake.io/v1alpha1","kind":"Pool","metadata":{"name":"x"},"spec":{"node":"n1","disks":["/dev/sdc"]}}'
not_applied 'names no node' none Pool pools n1 '{"state":"Faulted"}'

note "csi-node and Replicas"
applied n1 Replica replicas db-n1 '{"state":"Online","nsid":1}'
not_applied 'csi-node of n1 may not change replicas of node n2' n1 Replica replicas db-n2 '{"state":"Online"}'
may_not 'while it is being deleted' n1 $(patch replicas db-n1 '{"metadata":{"finalizers":["example.com/other"]}}')
kubectl delete replicas.strake.io db-n1 db-n2 --wait=false >/dev/null || die "delete"
may_not 'change nothing of a Replica' n1 $(patch replicas db-n1 '{"metadata":{"finalizers":["strake.io/erase"]}}')
may_not 'change nothing of a Replica' n1 $(patch replicas db-n1 '{"metadata":{"finalizers":[]}}')
may_not 'change nothing of a Replica' n1 $(patch replicas db-n1 '{"metadata":{"labels":{"a":"c"}}}')
may_not 'change nothing of a Replica' n1 $(patch replicas db-n1 '{"metadata":{"annotations":{"a":"c"}}}')
may_not 'change nothing of a Replica' n1 $(patch replicas db-n1 "{\"metadata\":{\"ownerReferences\":[{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"name\":\"x\",\"uid\":\"$uuid\"}]}}")
may_not 'change nothing of a Replica' n1 $(patch replicas db-n1 '{"metadata":{"labels":{"a":"c"},"finalizers":["example.com/other"]}}')
may_not 'replicas of node n2' n1 $(patch replicas db-n2 '{"metadata":{"finalizers":["example.com/other"]}}')
may n1 $(patch replicas db-n1 '[{"op":"test","path":"/metadata/finalizers/0","value":"strake.io/erase"},{"op":"remove","path":"/metadata/finalizers/0"}]' json)
[ "$(kubectl get replicas.strake.io db-n1 -o 'jsonpath={.metadata.finalizers}')" = '["example.com/other"]' ] || die "the finalizer is there"
kubectl patch replicas.strake.io db-n2 --type merge -p '{"metadata":{"finalizers":["strake.io/erase"]}}' >/dev/null || die "finalizers"
may n2 $(patch replicas db-n2 '{"metadata":{"finalizers":null}}')
! kubectl get replicas.strake.io db-n2 >/dev/null 2>&1 || die "the erased Replica is still there"

note "csi-node and Volumes"
nexus() { printf '{"nexus":{"node":"%s","state":"Online","epoch":"1","replicas":[{"uuid":"%s","state":"Online"}]}}' "$1" $uuid; }
not_applied 'attached to n1' n2 Volume volumes db "$(nexus n2)"
not_applied 'to node n2' n1 Volume volumes db "$(nexus n2)"
applied n1 Volume volumes db "$(nexus n1)"
not_applied 'of node n1' n2 Volume volumes db "$(nexus n2)"
may_not 'of node n1' n2 $(status volumes db '{"status":{"nexus":null}}')
may_not 'may only change status.nexus' n1 $(status volumes db '{"status":{"state":"Faulted"}}')
may_not 'may only change status.nexus' n1 $(status volumes db '{"status":{"attachment":{"node":"n2"}}}')
may_not 'may only change status.nexus' n1 $(status volumes db '{"status":{"inSync":"3/3"}}')
may_not 'may only change status.nexus' n1 $(status volumes db '{"status":{"state":null}}')
may_not forbidden n1 $(patch volumes db '{"spec":{"minInsync":1}}')
may_not forbidden n1 delete volumes.strake.io db
# Detached: the node that has it open still says so, and takes it back.
admin_status volumes.strake.io db '{"attachment":{"number":1,"node":""}}'
may n1 $(status volumes db '{"status":{"nexus":{"state":"Stalled"}}}')
# Attached to another node, which takes over from a dead one.
admin_status volumes.strake.io db '{"attachment":{"number":2,"node":"n2"}}'
applied n2 Volume volumes db "$(nexus n2)"
not_applied 'of node n2' n1 Volume volumes db "$(nexus n1)"
may_not 'of node n2' n1 $(status volumes db '{"status":{"nexus":null}}')
# Closed: an apply without the field.
applied n2 Volume volumes db '{}'
[ -z "$(kubectl get volumes.strake.io db -o 'jsonpath={.status.nexus}')" ] || die "status.nexus is still there"

note "csi-node and Snapshots"
creating='{"state":"Creating","readyToUse":false,"conditions":[{"type":"Ready","status":"False"}]}'
not_applied 'csi-node of n1 may not change snapshots of no node' n1 Snapshot snapshots daily "$creating"
admin_status snapshots.strake.io daily '{"node":"n1","state":"Creating"}'
applied n1 Snapshot snapshots daily "$creating"
not_applied 'csi-node of n2 may not change snapshots of node n1' n2 Snapshot snapshots daily '{"state":"Ready","readyToUse":true}'
may_not 'may not change status.node' n1 $(status snapshots daily '{"status":{"node":"n2"}}')
may_not 'may not change status.node' n1 $(status snapshots daily '{"status":{"node":null}}')
may_not forbidden n1 $(patch snapshots daily '{"metadata":{"finalizers":["strake.io/snapshot"]}}')
may_not forbidden n1 $(patch snapshots daily '{"metadata":{"labels":{"a":"c"}}}')
may_not forbidden n1 delete snapshots.strake.io daily
may_not forbidden n1 create -f - <<<'{"apiVersion":"strake.io/v1alpha1","kind":"Snapshot","metadata":{"name":"x"},"spec":{"volume":"db"}}'
admin_status snapshots.strake.io daily '{"node":"n2"}'
applied n2 Snapshot snapshots daily '{"state":"Ready","readyToUse":true,"size":"1Gi"}'
not_applied 'csi-node of n1 may not change snapshots of node n2' n1 Snapshot snapshots daily "$creating"

note "others are not held"
token_other=$token_controller
may other $(status volumes db '{"status":{"state":"Degraded","attachment":{"number":3,"node":"n1"}}}')
may other $(patch pools n1 '{"metadata":{"finalizers":["strake.io/in-use"]}}')
may_not forbidden other get secrets
may_not forbidden other delete pools.strake.io n1
may other $(status snapshots daily '{"status":{"node":null}}')
may other $(patch snapshots daily '{"metadata":{"finalizers":["strake.io/snapshot"]}}')
may_not forbidden other delete snapshots.strake.io daily
}

note "uninstalling is refused while there are volumes"
cat >"$dir/uninstall.kubeconfig" <<YAML
{apiVersion: v1, kind: Config, current-context: c, contexts: [{name: c, context: {cluster: c, user: u}}],
 clusters: [{name: c, cluster: {server: "$server", certificate-authority: $api/ca.crt}}],
 users: [{name: u, user: {token: $(cluster_api token $namespace/strake-uninstall)}}]}
YAML
uninstall_check() { "$bin/deploy/uninstall/strake-uninstall-check" "$dir/uninstall.kubeconfig" >"$dir/out" 2>&1; }
if uninstall_check; then die "passed: $(cat "$dir/out")"; fi
grep -q '^Volume db$' "$dir/out" || die "$(cat "$dir/out")"
kubectl delete volumes.strake.io db >/dev/null || die "delete"
make <<-YAML
apiVersion: v1
kind: PersistentVolume
metadata: {name: other}
spec: {capacity: {storage: 1Gi}, accessModes: [ReadWriteOnce], hostPath: {path: /tmp}}
YAML
uninstall_check || die "$(cat "$dir/out")"
make <<-YAML
apiVersion: v1
kind: PersistentVolume
metadata: {name: ours}
spec:
  capacity: {storage: 1Gi}
  accessModes: [ReadWriteOnce]
  csi: {driver: csi.strake.io, volumeHandle: db}
  claimRef: {namespace: shop, name: data}
YAML
if uninstall_check; then die "passed: $(cat "$dir/out")"; fi
grep -qF 'PersistentVolume ours (claim data in namespace shop)' "$dir/out" || die "$(cat "$dir/out")"
