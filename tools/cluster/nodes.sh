# SPDX-License-Identifier: Apache-2.0
# Sourced after lib.sh: nodes, each in namespaces of its own, and the cgroups and networks of a cluster.

node_names() { seq -f n%g "$nodes"; }
node_address() { echo "10.88.0.$((10 + ${1#n}))"; } # name
is_node() { [[ $1 =~ ^n[1-9][0-9]*$ ]] && [ "${1#n}" -le "$nodes" ]; }
need_nodes() {
	read_settings
	[ "$kind" = nodes ] || fail "$dir holds a cluster without nodes: use tools/cluster/api"
	control_place
}
# Names given by hand: `all`, or some.
chosen_nodes() {
	local name
	[ $# -gt 0 ] || wrong "name nodes, or all"
	[ "$*" != all ] || { node_names; return; }
	for name in "$@"; do
		is_node "$name" || fail "there is no node $name: they are n1 to n$nodes"
		echo "$name"
	done
}

# ---- cgroups: one for each node, so that a node can be frozen, and kubelets do not clean away each other's pods ----

unified_cgroups() { [ "$(stat -f -c %T /sys/fs/cgroup)" = cgroup2fs ]; }
cgroup_roots() { # every hierarchy: of version 1 there are several, and an empty one of version 2 may be beside them
	if unified_cgroups; then
		echo /sys/fs/cgroup
	else
		awk '$0 ~ / - cgroup2? / && index($5, "/sys/fs/cgroup/") == 1 {print $5}' /proc/self/mountinfo
	fi
}
make_cgroup() { # node
	local root controller file
	if unified_cgroups; then
		# The kubelet wants for its root whatever the machine has.
		for controller in $(cat /sys/fs/cgroup/cgroup.controllers); do
			echo "+$controller" >/sys/fs/cgroup/cgroup.subtree_control 2>/dev/null || true
		done
		for controller in cpu memory pids; do
			grep -qw "$controller" /sys/fs/cgroup/cgroup.subtree_control ||
				fail "cgroup v2: the controller $controller cannot be enabled in /sys/fs/cgroup/cgroup.subtree_control" \
					"(in a container: its root cgroup must hold no processes)"
		done
		# Processes only in leaves.
		mkdir -p "/sys/fs/cgroup/$prefix-$1/system"
		return
	fi
	for root in $(cgroup_roots); do
		mkdir -p "$root/$prefix-$1"
		for file in cpuset.cpus cpuset.mems; do
			[ ! -e "$root/$file" ] || cat "$root/$file" >"$root/$prefix-$1/$file"
		done
	done
}
remove_cgroup() { # node
	local root tries
	for root in $(cgroup_roots); do
		for ((tries = 0; tries < 50; tries++)); do
			[ -d "$root/$prefix-$1" ] || break
			find "$root/$prefix-$1" -depth -type d -exec rmdir {} + 2>/dev/null || sleep 0.1
		done
	done
}
# What a process of the node itself joins: pods have cgroups below the kubelet's.
own_cgroup() { # node
	if unified_cgroups; then echo "/sys/fs/cgroup/$prefix-$1/system/cgroup.procs"; else echo "/sys/fs/cgroup/freezer/$prefix-$1/cgroup.procs"; fi
}
set_frozen() { # node yes|no
	local freezer=/sys/fs/cgroup/freezer/$prefix-$1/freezer.state unified=/sys/fs/cgroup/$prefix-$1/cgroup.freeze
	if unified_cgroups; then
		if [ "$2" = yes ]; then echo 1 >"$unified"; else echo 0 >"$unified"; fi
	else
		if [ "$2" = yes ]; then echo FROZEN >"$freezer"; else echo THAWED >"$freezer"; fi
	fi
}

# ---- networks ----

# The control plane's namespace has the bridge that joins the nodes, and forwards between them.  The address of the service
# "kubernetes" is on its loopback and the API server listens on 443: pods reach it there without kube-proxy and DNS.
make_networks() {
	local name cp=$prefix-cp
	ip netns add "$cp"
	ip -n "$cp" link set lo up
	ip -n "$cp" addr add "$service_address/32" dev lo
	ip -n "$cp" link add br0 type bridge
	ip -n "$cp" addr add "$control_address/24" dev br0
	ip -n "$cp" link set br0 up
	nsenter "--net=/run/netns/$cp" sh -c 'echo 1 >/proc/sys/net/ipv4/ip_forward'
	for name in $(node_names); do
		ip netns add "$prefix-$name"
		ip -n "$prefix-$name" link set lo up
		ip -n "$prefix-$name" link add eth0 type veth peer name "$name" netns "$cp"
		ip -n "$prefix-$name" addr add "$(node_address "$name")/24" dev eth0
		ip -n "$prefix-$name" link set eth0 up
		ip -n "$prefix-$name" route add default via "$control_address"
		ip -n "$cp" link set "$name" master br0 up
		ip -n "$cp" route add "10.244.${name#n}.0/24" via "$(node_address "$name")"
		nsenter "--net=/run/netns/$prefix-$name" sh -c 'echo 1 >/proc/sys/net/ipv4/ip_forward'
	done
}
# With what still runs in them: commands of a user, and what `up` had started and not noted yet when it was killed.
remove_networks() {
	local name
	for name in cp $(node_names); do
		[ -e "/run/netns/$prefix-$name" ] || continue
		ip netns pids "$prefix-$name" | xargs -r kill -KILL 2>/dev/null || true
		ip netns del "$prefix-$name"
	done
}

# ---- a node ----

cni_config() { # node
	cat <<-JSON
	{"cniVersion": "0.4.0", "name": "strake", "plugins": [
	  {"type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": false, "hairpinMode": true,
	   "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.244.${1#n}.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
	  {"type": "portmap", "capabilities": {"portMappings": true}}]}
	JSON
}
containerd_config() { # folder of the node
	cat <<-TOML
	version = 2
	root = "/var/lib/containerd"
	state = "/run/containerd"
	disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.aufs",
	  "io.containerd.snapshotter.v1.devmapper", "io.containerd.tracing.processor.v1.otlp", "io.containerd.internal.v1.tracing"]
	[grpc]
	  address = "/run/containerd/containerd.sock"
	[plugins."io.containerd.grpc.v1.cri"]
	  sandbox_image = "strake.local/pause:1"
	  restrict_oom_score_adj = true
	  disable_apparmor = true
	  disable_hugetlb_controller = true
	  [plugins."io.containerd.grpc.v1.cri".cni]
	    bin_dir = "$1/bin/cni"
	    conf_dir = "$1/cni"
	  [plugins."io.containerd.grpc.v1.cri".containerd]
	    default_runtime_name = "runc"
	    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
	      runtime_type = "io.containerd.runc.v2"
	      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
	        SystemdCgroup = false
	TOML
}
# A node is NotReady 12 s after its last word: it has four tries.  Online expansion waits for the next pass over the pods
# (syncFrequency).  volumePluginDir would otherwise be made in the machine's /usr.
kubelet_config() { # node, folder of the node
	cat <<-YAML
	apiVersion: kubelet.config.k8s.io/v1beta1
	kind: KubeletConfiguration
	authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: $pki/ca.crt}}
	authorization: {mode: Webhook}
	cgroupDriver: cgroupfs
	cgroupRoot: /$prefix-$1
	failCgroupV1: false
	failSwapOn: false
	maxOpenFiles: $(ulimit -Hn)
	containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
	resolvConf: $2/resolv.conf
	volumePluginDir: /var/lib/kubelet/volumeplugins
	evictionHard: {memory.available: 100Mi, nodefs.available: 1%, nodefs.inodesFree: 1%, imagefs.available: 1%}
	imageGCHighThresholdPercent: 100
	imageGCLowThresholdPercent: 99
	nodeStatusUpdateFrequency: 3s
	nodeLeaseDurationSeconds: 12
	syncFrequency: 5s
	volumeStatsAggPeriod: 10s
	YAML
}
make_node() { # node
	local folder=$dir/nodes/$1
	mkdir -p "$folder"/{run,var-lib,var-log,cni,bin,sysctl}
	cni_config "$1" >"$folder/cni/10-strake.conflist"
	containerd_config "$folder" >"$folder/containerd.toml"
	kubelet_config "$1" "$folder" >"$folder/kubelet.yaml"
	echo "nameserver 127.0.0.1" >"$folder/resolv.conf"
	make_cert "$1" "system:node:$1" system:nodes
	make_kubeconfig "$folder/kubeconfig" "$1" "$server"
	make_cgroup "$1"
}
start_node() { # node
	! pid_of "node-$1" >/dev/null || fail "$1 runs"
	# shellcheck disable=SC2016
	spawn "node-$1" sh -c 'echo $$ >"$0" && exec "$@"' "$(own_cgroup "$1")" \
		nsenter "--net=/run/netns/$prefix-$1" unshare --mount --uts --ipc --pid --fork --kill-child --mount-proc \
		"$cluster_tools/node-init" "$1" "$(node_address "$1")" "$dir" "$kube_bin"
}
# The first process of the node's pid namespace.
node_init() { # node
	local pid init
	pid=$(pid_of "node-$1") && init=$(cat "/proc/$pid/task/$pid/children" 2>/dev/null) && [ -n "$init" ] || return 1
	echo "${init% }"
}
# SIGKILL waits in a frozen process until it is thawed.
kill_nodes() { # node...
	local name init=()
	for name in "$@"; do
		init+=("$(node_init "$name" || true)")
		signal_if_there "node-$name" KILL
		set_frozen "$name" no 2>/dev/null || true
	done
	for name in "$@"; do abort_fuse "$name"; done
	for name in "$@"; do
		kill_process "node-$name"
		# Only when the last process of a namespace has ended does its first one end.
		while [ -n "${init[0]}" ] && started_at "${init[0]}" >/dev/null; do sleep 0.02; done
		init=("${init[@]:1}")
		# Those of its pods would be nothing but an error for the next kubelet, which looks 3 s at each.
		remove_cgroup "$name"
		make_cgroup "$name"
		detach_loops "$name"
	done
}
# Of each volume that a node has published its launcher notes the loop device and the FUSE connection.
records_of() { # node: lines "loop device, FUSE connection"
	local record device sequence connection
	for record in "$dir/nodes/$1"/run/strake/records/*; do
		device=$(grep -os 'device=/dev/loop[0-9]*' "$record") || continue
		sequence=$(grep -o 'disk_sequence=[0-9]*' "$record")
		connection=$(grep -o 'fuse_connection=[0-9]*' "$record")
		[ "$(cat "/sys/block/${device#*/dev/}/diskseq" 2>/dev/null)" = "${sequence#*=}" ] || continue
		echo "${device#*=} ${connection#*=}"
	done
	return 0
}
# What waits in the kernel for an answer of a nexus gets an error: else the nexus's own threads may wait, and never end.
abort_fuse() { # node
	local connection
	while read -r _ connection; do
		echo 1 >"/sys/fs/fuse/connections/$connection/abort"
	done < <(records_of "$1") 2>/dev/null || true
}
# A machine's loop devices end with it, but those of a node are this machine's.  On each of a pod with a block volume the kubelet
# has another one.  One that went by itself is no error.
detach_loops() { # node, whose processes are dead
	local device
	while read -r device _; do
		losetup --list --noheadings --output NAME,BACK-MAJ:MIN,BACK-INO |
			awk -v on="$(mountpoint -d /dev) $(stat -c %i "$device")" '$2 " " $3 == on {print $1}' | xargs -r losetup --detach || true
		losetup --detach "$device" || true
	done < <(records_of "$1") 2>/dev/null
}
signal_if_there() { # name signal
	local pid
	! pid=$(pid_of "$1") || kill "-$2" "$pid" 2>/dev/null || true
}
in_node() { # node command...
	local init
	init=$(node_init "$1") || fail "$1 does not run"
	shift
	nsenter --target "$init" --mount --uts --ipc --net --pid --wd=/ "$@"
}
has_containerd() { [ -S "$dir/nodes/$1/run/containerd/containerd.sock" ] && in_node "$1" ctr version >/dev/null 2>&1; } # node
load_image() { # node tar
	in_node "$1" ctr --namespace k8s.io images import - <"$2" >/dev/null || fail "$2 cannot be imported on $1"
}
