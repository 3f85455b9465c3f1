# SPDX-License-Identifier: Apache-2.0
# Sourced after lib.sh: Strake on three nodes as its chart and its images install it, a Pool on each, and pods with claims.
namespace=strake-system
nodes=(n1 n2 n3)
pool_size=4Gi
test_image=strake.local/test:1 # busybox and blkcheck

# Further arguments are helm's.
strake_up() {
	tools/images build --no-deps >"$top/build/images-build.log" 2>&1 || { tail -n 20 "$top/build/images-build.log"; exit 1; }
	cluster_up --nodes 3 --images build/images/*.tar
	tools/image-tar --name $test_image --busybox --libs --file "$bin/tests/e2e/blkcheck/blkcheck:/bin/blkcheck" "$dir/test.tar" >/dev/null &&
		cluster load all "$dir/test.tar" >>"$dir/up.log" 2>&1 || die "the test's image"
	cluster helm install strake deploy/helm --namespace $namespace --create-namespace --wait --timeout 3m "$@" >"$dir/helm.log" 2>&1 ||
		die "helm install: $(cat "$dir/helm.log")"
	rm "$dir/helm.log"
	local node
	for node in "${nodes[@]}"; do
		make "{apiVersion: strake.io/v1alpha1, kind: Pool, metadata: {name: pool-$node, labels: {on: $node}},
		  spec: {node: $node, disks: ['file:///var/lib/strake/pool?size=$pool_size']}}"
	done
	for node in "${nodes[@]}"; do wait_for 60 "pool-$node" is pools.strake.io "pool-$node" '{.status.state}' Online; done
	note "Strake is installed, three pools are Online"
}
# Nothing of Strake is open any more when a test has ended well; of one that failed the logs are kept.
strake_down() {
	local node
	for node in "${nodes[@]}"; do kubectl delete pools.strake.io "pool-$node" --timeout 60s >/dev/null || die "pool-$node is not deleted"; done
	cluster helm uninstall strake --namespace $namespace --wait --timeout 3m >"$dir/out" 2>&1 || die "helm uninstall: $(cat "$dir/out")"
	keep_audit
	gather_logs
	gather_logs() { :; }
	cluster_down /pvc-
}
keep_audit() { mkdir -p "$audit_logs" && cat "$cluster"/log/audit*.log >"$audit_logs/$(basename "$0" .sh).log"; }
gather_logs() {
	local pod file
	kubectl get pods -n $namespace -o 'jsonpath={range .items[*]}{.metadata.name} {.metadata.labels.app}-{.spec.nodeName}{"\n"}{end}' --request-timeout 5s 2>/dev/null |
		while read -r pod file; do
			kubectl logs -n $namespace "$pod" --all-containers --prefix --timestamps >"$dir/${file#strake-}.log" 2>/dev/null
			kubectl logs -n $namespace "$pod" --all-containers --prefix --timestamps --previous >"$dir/${file#strake-}-before.log" 2>/dev/null ||
				rm -f "$dir/${file#strake-}-before.log"
		done
	kubectl get events -A --sort-by=.metadata.creationTimestamp --request-timeout 5s >"$dir/events.log" 2>/dev/null
	kubectl get strake,pvc,pv,volumeattachments,pods -A -o wide --request-timeout 5s >"$dir/objects.log" 2>/dev/null
}

make() { kubectl apply -f - >"$dir/out" 2>&1 <<<"$1" || die "not made: $(cat "$dir/out")"; }
claim() { # name size [further lines of its spec]
	make "apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: $1}
spec:
  resources: {requests: {storage: $2}}
  storageClassName: strake
  accessModes: [ReadWriteOnce]
  ${3:-}"
}
block_claim() { claim "$1" "$2" 'volumeMode: Block'; }
# A pod with claims: a file system at /CLAIM, a block device as /dev/CLAIM.  Its settings: node=, claim=, read_only= and block=
# (of claims, may come again), security= and limits= (of the container), keep= (a folder of the node at /keep).
pod() { # name command settings...
	local name=$1 command=$2 setting node='' mounts='' devices='' volumes='' security='{}' limits='{}' pod_security='{}'
	shift 2
	for setting; do
		case $setting in
		node=*) node="nodeSelector: {kubernetes.io/hostname: ${setting#*=}}" ;;
		claim=* | read_only=*)
			mounts+="{name: ${setting#*=}, mountPath: /${setting#*=}}, "
			volumes+="{name: ${setting#*=}, persistentVolumeClaim: {claimName: ${setting#*=}, readOnly: $([[ $setting == read_only=* ]] && echo true || echo false)}}, " ;;
		block=*)
			devices+="{name: ${setting#*=}, devicePath: /dev/${setting#*=}}, "
			volumes+="{name: ${setting#*=}, persistentVolumeClaim: {claimName: ${setting#*=}}}, " ;;
		keep=*)
			mounts+="{name: keep, mountPath: /keep}, "
			volumes+="{name: keep, hostPath: {path: ${setting#*=}, type: DirectoryOrCreate}}, " ;;
		pod_security=*) pod_security=${setting#*=} ;;
		security=*) security=${setting#*=} ;;
		limits=*) limits=${setting#*=} ;;
		*) die "setting $setting" ;;
		esac
	done
	make "apiVersion: v1
kind: Pod
metadata: {name: $name, labels: {app: $name}}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 1
  $node
  securityContext: $pod_security
  containers:
  - name: main
    image: $test_image
    command: [sh, -c, $(printf '%s' "$command" | jq -Rs .)]
    securityContext: $security
    resources: {limits: $limits}
    volumeMounts: [${mounts%, }]
    volumeDevices: [${devices%, }]
  volumes: [${volumes%, }]"
}
pod_ended() { [[ $(object pod "$1" '{.status.phase}') =~ ^(Succeeded|Failed)$ ]]; }
# Waits for its end, which must be good; its output is in $dir/out.
pod_succeeds() { # name [seconds]
	wait_for "${2:-120}" "pod $1 to end: $(kubectl describe pod "$1" 2>&1 | tail -n 8)" pod_ended "$1"
	kubectl logs "$1" >"$dir/out" 2>&1
	pod_phase "$1" Succeeded || die "pod $1 failed: $(tail -n 20 "$dir/out")"
}
pod_runs() { wait_for "${2:-120}" "pod $1 to run: $(kubectl describe pod "$1" 2>&1 | tail -n 8)" pod_phase "$1" Running; } # name [seconds]
delete() { kubectl delete "$@" --timeout 120s >"$dir/out" 2>&1 || die "delete $*: $(cat "$dir/out")"; }

# Nobody has a volume any more.
no_volumes() {
	local found
	found=$(kubectl get volumes.strake.io,replicas.strake.io,pv -o name) && [ -z "$found" ]
}
delete_claims() {
	delete pvc --all
	wait_for 180 "all volumes to be deleted" no_volumes
}

volume_of() { object pv "$(object pvc "$1" '{.spec.volumeName}')" '{.spec.csi.volumeHandle}'; } # claim
volume_is() { is volumes.strake.io "$1" "$2" "$3"; }                                    # volume path value
in_sync() { volume_is "$1" '{.status.state} {.status.inSync}' 'Online 3/3'; }           # volume
# strake in the nexus's pod of a node.
strake() { # node arguments...
	local node=$1
	shift
	kubectl exec -n $namespace "$(daemon_pod nexus "$node")" -- strake "$@"
}
daemon_pod() { # daemon node
	kubectl get pods -n $namespace -l "app=strake-$1" --field-selector "spec.nodeName=$2" -o 'jsonpath={.items[0].metadata.name}'
}
# The process of a daemon on a node: strake-launcher, nexus, pool-agent, csi-node, kubelet; as the node numbers it.
daemon_pid() { cluster exec "$1" pgrep -x "$2" | head -n 1; } # node daemon
signal_daemon() { # node daemon signal
	local pid
	pid=$(daemon_pid "$1" "$2") && [ -n "$pid" ] || die "no $2 runs on $1"
	cluster exec "$1" kill "-$3" "$pid" || die "kill -$3 $2 on $1"
}
is_another() { # node daemon pid: it runs again
	local pid
	pid=$(daemon_pid "$1" "$2") && [ -n "$pid" ] && [ "$pid" != "$3" ]
}
daemons_ready() { # as many as the DaemonSets want, and the controller
	local ready
	ready=$(kubectl get daemonsets -n $namespace -o 'jsonpath={range .items[*]}{.status.numberReady}{" "}{.status.desiredNumberScheduled}{"\n"}{end}') || return 1
	[ "$(sort -u <<<"$ready")" = "3 3" ] && [ "$(kubectl get deployment -n $namespace strake-csi-controller -o 'jsonpath={.status.readyReplicas}')" = 1 ]
}
