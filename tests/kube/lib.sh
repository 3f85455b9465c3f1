# SPDX-License-Identifier: Apache-2.0
# Sourced by the tests against a Kubernetes API server (etcd and kube-apiserver in one folder: api_up) or a whole cluster
# (cluster_up), which end with the test.
#
#	. tests/kube/lib.sh NAME
set -u
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
top=$PWD
bin=$top/${STRAKE_BUILD:-build/release}
dir=/tmp/strake-kube-$1
kept_logs=$top/build/test-logs/kube/$1
audit_logs=$top/build/test-logs/audit # of the tests with nodes: 90-rights reads them
api=$dir/api
cluster=$dir/cluster
port=$((${STRAKE_TEST_PORT:-4530} + 60))
declare -A pids=() # name -> pid

note() { printf '%(%H:%M:%S)T - %s\n' -1 "$*"; }
# Says it on the script's own output: a condition of wait_for may die too, and what such prints is not seen.
exec 3>&1
die() {
	{
		echo "FAILED: $*"
		gather_logs
		for log in "$dir"/*.log; do [ ! -e "$log" ] || { echo "== $log"; tail -n 10 "$log" | cut -c 1-300; }; done
		echo "FAILED: $*"
	} >&3
	exit 1
}
# Puts what else there is into $dir/*.log.
gather_logs() { :; }
wait_for() { # seconds what command...
	local end=$((SECONDS + $1)) what=$2
	shift 2
	while ! "$@" >/dev/null 2>&1; do
		[ $SECONDS -lt $end ] || die "waited in vain for: $what"
		sleep 0.1
	done
}

cluster_api() { tools/cluster/api "$@" --dir "$api"; }
kubectl() { KUBERC=off "$kube_bin/kubectl" --kubeconfig "$api/admin.kubeconfig" --cache-dir "$dir/cache" "$@"; }

fresh_dir() {
	tests/clean --only "$dir" >/dev/null 2>&1
	mkdir -p "$dir"
	trap cleanup EXIT
	trap 'exit 143' TERM INT HUP
}
api_up() {
	fresh_dir
	kube_bin=$(tools/cluster/build --where)
	cluster_api up --port "$port" >"$dir/up.log" 2>&1 || die "the API server does not come up"
}

# A command of tools/cluster for the cluster with nodes.
cluster() { local command=$1; shift; tools/cluster/"$command" --dir "$cluster" "$@"; }
# Arguments as of tools/cluster/up.  From then on kubectl is the cluster's.
cluster_up() {
	[ "$(id -u)" -eq 0 ] || { echo "needs root"; exit 77; }
	fresh_dir
	# What is in the cluster's cgroups and namespaces has this in its name.
	prefix=strake-$(printf '%s' "$cluster" | sha256sum | cut -c 1-6)
	tests/leftovers note "$dir/before"
	cluster up "$@" >"$dir/up.log" 2>&1 || die "the cluster does not come up"
	kubectl() { cluster kubectl "$@"; }
}
cluster_down() {
	cluster down || die "down"
	tests/leftovers compare "$dir/before" "$cluster" "$prefix" "$@" >&3 || die "something is left of the cluster"
}
# Conditions for wait_for.
node_ready() { is_condition node "$1" Ready status True; }
node_not_ready() { is_condition node "$1" Ready status Unknown || is_condition node "$1" Ready status False; }
pod_phase() { [ "$(kubectl get pod "$1" -o 'jsonpath={.status.phase}')" = "$2" ]; }
object() { # kind name [path]: a value of it, "" without
	kubectl get "$1" "$2" -o "jsonpath=${3:-{.metadata.name\}}" 2>/dev/null
}
is() { # kind name path value; an object that is not there has no value, not even ""
	local value
	value=$(object "$1" "$2" "$3") && [ "$value" = "$4" ]
}
gone() { # kind name; a server that does not answer does not say so
	local found
	found=$(kubectl get "$1" "$2" --ignore-not-found -o name) && [ -z "$found" ]
}
condition() { # kind name type field
	object "$1" "$2" "{.status.conditions[?(@.type=='$3')].$4}"
}
is_condition() { [ "$(condition "$1" "$2" "$3" "$4")" = "$5" ]; }
create() { kubectl create -f - >/dev/null <<<"$1" || die "create $1"; }
# The kinds of Strake, usable when it returns.
define_objects() {
	kubectl apply -f deploy/helm/templates/crd-pools.yaml -f deploy/helm/templates/crd-volumes.yaml \
		-f deploy/helm/templates/crd-replicas.yaml -f deploy/helm/templates/crd-snapshots.yaml >"$dir/crd.log" 2>&1 || die "the definitions are refused"
	wait_for 30 "the kinds of Strake" kubectl get pools.strake.io,volumes.strake.io,replicas.strake.io,snapshots.strake.io
}

# Ends a process by its pid and waits for it.
kill_9() { # name
	kill -KILL "${pids[$1]}" 2>/dev/null
	wait "${pids[$1]}" 2>/dev/null
	unset "pids[$1]"
}

cleanup() {
	local name
	for name in "${!pids[@]}"; do kill -TERM "${pids[$name]}" 2>/dev/null; done
	[ ${#pids[@]} -eq 0 ] || sleep 0.5
	for name in "${!pids[@]}"; do kill -KILL "${pids[$name]}" 2>/dev/null; done
	gather_logs
	rm -rf "$kept_logs"
	mkdir -p "$kept_logs" && cp "$dir"/*.log "$api"/log/*.log "$cluster"/log/*.log "$kept_logs" 2>/dev/null
	[ ! -e "$api/settings" ] || cluster_api down >/dev/null 2>&1
	[ ! -e "$cluster/settings" ] || cluster down >/dev/null 2>&1
	tests/clean --only "$dir" >/dev/null 2>&1
}
