# SPDX-License-Identifier: Apache-2.0
# Sourced after lib.sh: nodes that are only processes of this machine, each a folder $dir/NAME with a pool-agent, a nexus under its
# launcher, a csi-node, and a kubelet's folder without a kubelet.  API server: api_up.
base_port=${STRAKE_TEST_PORT:-4530}
declare -A node_index=()
node_count=0

[ "$(id -u)" -eq 0 ] && [ -c /dev/fuse ] && [ -c /dev/loop-control ] ||
	{ echo "needs root, /dev/fuse and /dev/loop-control"; exit 77; }

# A kubeconfig for a service account with the rights that csi-node needs, and no more.
node_rights() {
	kubectl create namespace strake >/dev/null && kubectl create serviceaccount -n strake csi-node >/dev/null || die "account"
	kubectl create -f - >/dev/null <<-EOF || die "rights"
	apiVersion: rbac.authorization.k8s.io/v1
	kind: ClusterRole
	metadata: {name: csi-node}
	rules:
	- {apiGroups: [strake.io], resources: [pools, replicas, volumes, snapshots], verbs: [get, list, watch]}
	- {apiGroups: [strake.io], resources: [pools/status, replicas/status, volumes/status, snapshots/status], verbs: [patch]}
	- {apiGroups: [strake.io], resources: [replicas], verbs: [patch]}
	---
	apiVersion: rbac.authorization.k8s.io/v1
	kind: ClusterRoleBinding
	metadata: {name: csi-node}
	roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: csi-node}
	subjects:
	- {kind: ServiceAccount, name: csi-node, namespace: strake}
	EOF
}

# Daemons of a node say in their log that they serve; after a kill only what is new in it counts.
logged() { tail -c "+$(($2 + 1))" "$dir/$1.log" | grep -q "$3"; }
node_start() { # process what-it-says command...
	local process=$1 says=$2 from
	shift 2
	from=$(stat -c %s "$dir/$process.log" 2>/dev/null || echo 0)
	"$@" --config "$dir/$process.yaml" >>"$dir/$process.log" 2>&1 3>&- &
	pids[$process]=$!
	wait_for 20 "$process to say $says" logged "$process" "$from" "$says"
}
start_agent() { node_start "$1-agent" '"event":"serving"' "$bin/pool-agent/pool-agent"; } # node
# The launcher's pid is kept under the nexus's name.
start_nexus() { # node
	node_start "$1-nexus" '"event":"serving"' "$bin/launcher/strake-launcher" --run-dir "$dir/$1/run" \
		--keeper "$dir/$1/run/keeper.sock" -- "$bin/nexus/nexus"
}
start_csi_node() { node_start "$1-csi" '"event":"serving","socket":"[^"]*csi.sock"' "$bin/csi-node/csi-node"; } # node
nexus_pid() { pgrep -P "${pids[$1-nexus]}" -x nexus; } # node

# Folders, configuration and a Node object; starts nothing.
make_node() { # name
	local name=$1 index=$((++node_count)) token
	node_index[$name]=$index
	mkdir -p "$dir/$name/run" "$dir/$name/pools" "$dir/$name/kubelet/plugins_registry"
	token=$(cluster_api token strake/csi-node --node "$name") || die "token of $name"
	sed "s|user: {client-certificate.*|user: {token: $token}|" "$api/admin.kubeconfig" >"$dir/$name.kubeconfig"
	cat >"$dir/$name-agent.yaml" <<-YAML
	name: pool-agent
	address: 127.0.0.1:$((base_port + index))
	run_dir: $dir/$name/run
	state_dir: $dir/$name/state
	metrics:
	  address: unix:$dir/$name/agent.metrics
	YAML
	cat >"$dir/$name-nexus.yaml" <<-YAML
	name: nexus
	node: $name
	run_dir: $dir/$name/run
	state_dir: $dir/$name/state
	export:
	  address: 127.0.0.1:$((base_port + 20 + index))
	metrics:
	  address: unix:$dir/$name/nexus.metrics
	YAML
	cat >"$dir/$name-csi.yaml" <<-YAML
	name: csi-node
	node: $name
	run_dir: $dir/$name/run
	state_dir: $dir/$name/state
	kubelet_dir: $dir/$name/kubelet
	kubeconfig: $dir/$name.kubeconfig
	metrics:
	  address: 127.0.0.1:$((base_port + 40 + index))
	YAML
}
metrics_of() { curl -fs --unix-socket "$dir/$1/$2.metrics" http://_/metrics; } # node agent|nexus
start_node() { start_agent "$1" && start_csi_node "$1" && start_nexus "$1"; } # name
ready() { curl -fs "http://127.0.0.1:$((base_port + 40 + ${node_index[$1]}))/readyz" >/dev/null; } # node

node_call() { # node call...
	local name=$1
	shift
	"$bin/tests/kube/node-call/node-call" "$dir/$name/kubelet/plugins/csi.strake.io/csi.sock" "$@"
}
calls() { # node call...: must succeed; its answer is in $dir/out
	node_call "$@" >"$dir/out" || die "$*: $(cat "$dir/out")"
}
refused() { # code [text] -- node call...
	local say=$1 text=
	shift
	[ "$1" = -- ] || { text=$1; shift; }
	shift
	if node_call "$@" >"$dir/out"; then die "not refused: $*"; fi
	grep -q "^$say: " "$dir/out" && grep -qF -- "$text" "$dir/out" || die "$* says '$(cat "$dir/out")', not $say '$text'"
}
strake() { # node arguments...
	local name=$1
	shift
	"$bin/cli/strake" --run-dir "$dir/$name/run" "$@"
}

make_pool() { # name node size
	create "{\"apiVersion\":\"strake.io/v1alpha1\",\"kind\":\"Pool\",\"metadata\":{\"name\":\"$1\"},\"spec\":{\"node\":\"$2\",\"disks\":[\"file://$dir/$2/pools/$1?size=$3\"]}}"
}

# Mounts of a test go before its daemons: a file system on a dead device cannot be unmounted cleanly.
node_cleanup() {
	awk -v d="$dir/" 'index($5, d) == 1 && $0 !~ / - fuse/ {print $5}' /proc/self/mountinfo | tac | xargs -r umount -l 2>/dev/null
	local name
	for name in "${!pids[@]}"; do [[ $name != *-nexus ]] || kill -TERM "${pids[$name]}" 2>/dev/null; done
	sleep 0.5
	cleanup
}
