# SPDX-License-Identifier: Apache-2.0
# Sourced by the scripts beside it: a cluster's folder, its processes, its certificates.
#
# All that a cluster has lies in its folder: `settings` (what it was made with), pids/NAME, log/, pki/, etcd/, nodes/NAME/.
. "$(dirname "${BASH_SOURCE[0]}")/paths.sh"

me=cluster/$(basename "$0")
fail() { echo "$me: $*" >&2; exit 1; }
begin=${EPOCHREALTIME/[.,]/}
say() { printf '[%5.1f s] %s\n' "$(((${EPOCHREALTIME/[.,]/} - begin) / 100000))e-1" "$*"; }

# Where a proxy fetches modules, nothing of a cluster is behind it.
export NO_PROXY=${NO_PROXY:-${no_proxy:-}},10.88.0.0/16,10.96.0.0/16,10.244.0.0/16

# The comment at the head of the script that is run.
usage() { awk 'NR > 3 && !/^#/ {exit} NR > 3 {sub(/^# ?/, ""); print}' "$0"; }
wrong() { echo "$me: $1" >&2; usage >&2; exit 2; }

# ---- the folder ----

default_dir=${STRAKE_CLUSTER_DIR:-/tmp/strake-cluster-$(id -u)}

# Names that others on this machine can see are made from the folder's: several clusters do not meet.
use_dir() { # folder
	dir=$(realpath -m "$1")
	log=$dir/log pki=$dir/pki
	prefix=strake-$(printf '%s' "$dir" | sha256sum | cut -c 1-6)
}
has_cluster() { [ -e "$dir/settings" ]; }
# Takes `kind` (nodes or api), `nodes`, `port`, `audit` from the folder.
read_settings() {
	has_cluster || fail "there is no cluster in $dir (--dir names another folder)"
	. "$dir/settings"
}
make_dir() {
	! has_cluster || fail "there is a cluster in $dir already; tools/cluster/${1:-down} --dir $dir takes it away"
	if [ -d "$dir" ] && [ -n "$(ls -A "$dir")" ]; then
		fail "$dir is not empty: name a new folder with --dir"
	fi
	mkdir -p "$dir"/{log,pki,pids}
}

# Of `--dir FOLDER` in front of arguments that are for another program.
leading_dir() {
	use_dir "$default_dir"
	shift_by=0
	if [ "${1:-}" = --dir ]; then
		use_dir "${2:?folder}"
		shift_by=2
	fi
}

need_programs() { # group...
	"$cluster_tools/build" "$@" >&2 || exit 1
}

# ---- processes ----

started_at() { # pid; of two processes with one pid the time of start differs
	local stat
	stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
	stat=${stat##*) }
	# A zombie has ended.
	[ "${stat%% *}" != Z ] || return 1
	awk '{print $20}' <<<"$stat"
}
# With a session of its own and no descriptor of ours: it outlives the script, and nobody waits for its output.
spawn() { # name command...
	local name=$1 pid
	shift
	setsid "$@" >>"$log/$name.log" 2>&1 </dev/null 3>&- 4>&- 5>&- 6>&- 7>&- 8>&- 9>&- &
	pid=$!
	disown
	echo "$pid $(started_at $pid)" >"$dir/pids/$name"
}
pid_of() { # name; fails when it does not run
	local pid start
	read -r pid start 2>/dev/null <"$dir/pids/$1" || return 1
	[ "$(started_at "$pid")" = "$start" ] || return 1
	echo "$pid"
}
signal() { # name signal
	local pid
	pid=$(pid_of "$1") || fail "$1 does not run"
	kill "-$2" "$pid"
}
kill_process() { # name; one that is not there is no error
	local pid
	if pid=$(pid_of "$1"); then
		kill -KILL "$pid" 2>/dev/null || true
		while pid_of "$1" >/dev/null; do sleep 0.02; done
		# Its first thread may be a zombie while others still have its sockets.
		while [ "$(ls "/proc/$pid/task" 2>/dev/null | wc -l)" -gt 1 ]; do sleep 0.02; done
	fi
	rm -f "$dir/pids/$1"
}

wait_for() { # seconds what command...
	local end=$((SECONDS + $1)) what=$2
	shift 2
	until "$@" >/dev/null 2>&1; do
		[ $SECONDS -lt $end ] || fail "waited in vain for: $what (logs are in $log)"
		sleep 0.1
	done
}

# ---- certificates ----

make_ca() {
	openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$pki/ca.key" -subj /CN=strake-test-ca \
		-days 3650 -out "$pki/ca.crt" 2>/dev/null
	# Signs the tokens of service accounts.
	openssl ecparam -name prime256v1 -genkey -noout -out "$pki/sa.key"
	openssl ec -in "$pki/sa.key" -pubout -out "$pki/sa.pub" 2>/dev/null
	cp "$pki/ca.crt" "$dir/ca.crt"
}
make_cert() { # file user group [further names]
	local file=$pki/$1
	openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$file.key" -subj "/O=$3/CN=$2" \
		-out "$file.csr" 2>/dev/null
	openssl x509 -req -in "$file.csr" -CA "$pki/ca.crt" -CAkey "$pki/ca.key" -CAcreateserial -days 3650 -out "$file.crt" \
		-extfile <(printf 'keyUsage=digitalSignature\nextendedKeyUsage=serverAuth,clientAuth\n%s' "${4:+subjectAltName=$4}") 2>/dev/null
}
# With everything in it, so that it can be carried into a container.
make_kubeconfig() { # file certificate server
	cat >"$1" <<-YAML
	apiVersion: v1
	kind: Config
	clusters:
	- name: strake
	  cluster: {server: "$3", certificate-authority-data: $(base64 -w 0 "$pki/ca.crt")}
	users:
	- name: $2
	  user: {client-certificate-data: $(base64 -w 0 "$pki/$2.crt"), client-key-data: $(base64 -w 0 "$pki/$2.key")}
	contexts:
	- name: strake
	  context: {cluster: strake, user: $2}
	current-context: strake
	YAML
	chmod 600 "$1"
}

# ---- etcd and API server: where they listen, the two kinds of cluster differ ----

# Sets: enter (command in front of a process of the control plane), api_address, api_port, etcd_port, server.
control_place() {
	enter=()
	if [ "$kind" = nodes ]; then
		# Not `ip netns exec`: that mounts a new /sys without cgroups.
		enter=(nsenter "--net=/run/netns/$prefix-cp")
		api_address=$control_address api_port=443 etcd_port=2379
		server=https://$api_address
	else
		api_address=127.0.0.1 api_port=$port etcd_port=$((port + 1))
		server=https://$api_address:$api_port
	fi
}
control_address=10.88.0.1  # in the cluster's own network namespaces, so the same for all clusters
service_address=10.96.0.1  # of the service "kubernetes"

# Data survive the process, not the machine: that is what --unsafe-no-fsync gives up.
start_etcd() {
	local client=http://127.0.0.1:$etcd_port peer=http://127.0.0.1:$((etcd_port + 1))
	spawn etcd "${enter[@]}" "$kube_bin/etcd" --name strake --data-dir "$dir/etcd" --unsafe-no-fsync --logger zap --log-level warn \
		--listen-client-urls $client --advertise-client-urls $client \
		--listen-peer-urls $peer --initial-advertise-peer-urls $peer --initial-cluster strake=$peer
}
audit_flags() {
	[ "$audit" = yes ] || return 0
	cat >"$pki/audit-policy.yaml" <<-YAML
	apiVersion: audit.k8s.io/v1
	kind: Policy
	omitStages: [RequestReceived]
	rules:
	- level: Metadata
	YAML
	echo "--audit-policy-file=$pki/audit-policy.yaml --audit-log-path=$log/audit.log"
}
start_apiserver() {
	local where=(--bind-address=0.0.0.0 "--advertise-address=$api_address")
	# A loopback address may not be advertised, and without nodes nobody asks for it.
	[ "$kind" = nodes ] || where=(--bind-address=127.0.0.1 --advertise-address=192.0.2.1 --endpoint-reconciler-type=none)
	# shellcheck disable=SC2046
	spawn apiserver "${enter[@]}" "$kube_bin/kube-apiserver" "--etcd-servers=http://127.0.0.1:$etcd_port" \
		"${where[@]}" "--secure-port=$api_port" --service-cluster-ip-range=10.96.0.0/16 \
		--client-ca-file="$pki/ca.crt" --tls-cert-file="$pki/apiserver.crt" --tls-private-key-file="$pki/apiserver.key" \
		--service-account-issuer=https://kubernetes.default.svc \
		--service-account-key-file="$pki/sa.pub" --service-account-signing-key-file="$pki/sa.key" \
		--kubelet-client-certificate="$pki/kubelet-client.crt" --kubelet-client-key="$pki/kubelet-client.key" \
		--kubelet-preferred-address-types=InternalIP \
		--requestheader-client-ca-file="$pki/ca.crt" --requestheader-allowed-names=front-proxy \
		--authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction --allow-privileged=true $(audit_flags)
}
kubectl() { "${enter[@]}" env KUBERC=off KUBECACHEDIR="$dir/cache" "$kube_bin/kubectl" --kubeconfig "$dir/admin.kubeconfig" "$@"; }
api_ready() {
	pid_of etcd >/dev/null || { tail -n 5 "$log/etcd.log" >&2; fail "etcd ended; its log is $log/etcd.log"; }
	pid_of apiserver >/dev/null || { tail -n 5 "$log/apiserver.log" >&2; fail "the API server ended; its log is $log/apiserver.log"; }
	[ "$(kubectl get --raw /readyz --request-timeout 5s 2>/dev/null)" = ok ]
}
wait_api() { # like wait_for, but what api_ready dies of is seen
	local end=$((SECONDS + 120))
	until api_ready; do
		[ $SECONDS -lt $end ] || fail "waited in vain for the API server (logs are in $log)"
		sleep 0.1
	done
}

# ---- controllers and scheduler, which only a cluster with nodes has ----

control_parts=(etcd apiserver controller-manager scheduler)
# A node that has not been heard of for 12 s (Kubernetes: 50 s) is NotReady: the kubelets are set to match (nodes.sh).
start_controller_manager() {
	local config=$pki/controller-manager.kubeconfig
	spawn controller-manager "${enter[@]}" "$kube_bin/kube-controller-manager" --kubeconfig="$config" \
		--authentication-kubeconfig="$config" --authorization-kubeconfig="$config" \
		--root-ca-file="$pki/ca.crt" --service-account-private-key-file="$pki/sa.key" \
		--cluster-signing-cert-file="$pki/ca.crt" --cluster-signing-key-file="$pki/ca.key" \
		--use-service-account-credentials=true --leader-elect=false --bind-address=127.0.0.1 --flex-volume-plugin-dir="$dir/flex" \
		--node-monitor-period=2s --node-monitor-grace-period=12s
}
start_scheduler() {
	local config=$pki/scheduler.kubeconfig
	spawn scheduler "${enter[@]}" "$kube_bin/kube-scheduler" --kubeconfig="$config" \
		--authentication-kubeconfig="$config" --authorization-kubeconfig="$config" --leader-elect=false --bind-address=127.0.0.1
}
