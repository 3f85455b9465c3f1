#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# lib/kube against a real etcd and kube-apiserver: every kind of request, 1200 objects in pages, Events, a cache that survives a killed, a
# forgetful and a frozen server, leases whose holder is killed, stopped or leaves.
set -u
cd "$(dirname "$0")/../.."
top=$PWD
client=$top/${STRAKE_BUILD:-build/release}/tests/kube/client/kube-client
dir=/tmp/strake-kube-10
port=${STRAKE_KUBE_PORT:-$((${STRAKE_TEST_PORT:-4530} + 60))}
api=$top/tools/cluster/api
. tools/cluster/paths.sh
export KUBECONFIG=$dir/api/admin.kubeconfig
declare -A pids=()

[ -x "$kube_bin/kube-apiserver" ] || { echo "no kube-apiserver: run tools/cluster/build"; exit 77; }

note() { printf '%(%H:%M:%S)T - %s\n' -1 "$*"; }
exec 3>&1
die() {
	{
		echo "FAILED: $*"
		for log in "$dir"/*.out "$dir"/*.log; do echo "== $log"; grep -v request_seconds "$log" | tail -n 15; done
	} >&3
	exit 1
}
kubectl() { "$kube_bin/kubectl" "$@"; }
server() { "$api" "$@" --dir "$dir/api" >>"$dir/api.log" 2>&1 || die "tools/cluster/api $*"; }
wait_for() { # seconds what command...
	local end=$((SECONDS + $1)) what=$2
	shift 2
	while ! "$@" >/dev/null 2>&1; do
		[ $SECONDS -lt $end ] || die "waited in vain for: $what"
		sleep 0.1
	done
}
end() { # the clients, the server, the folder
	local pid
	for pid in "${pids[@]}"; do kill -CONT "$pid"; kill -KILL "$pid"; done 2>/dev/null
	"$api" down --dir "$dir/api" >/dev/null 2>&1
	rm -rf --one-file-system "$dir"
}
begin() { # name arguments...: the client in the background
	local name=$1
	shift
	"$client" "$KUBECONFIG" default "$@" >"$dir/$name.out" 2>"$dir/$name.log" 3>&- </dev/null &
	pids[$name]=$!
}
finish() { # name
	kill -TERM "${pids[$1]}"
	wait "${pids[$1]}" || die "the client $1 ended with $?"
	unset "pids[$1]"
}
says() { grep -q "$2" "$dir/$1.out"; } # name text
set_key() { kubectl patch configmap "$1" --type merge -p "{\"data\":{\"key\":\"$2\"}}" >/dev/null || die "patch $1"; }
make() { kubectl create configmap "$1" --from-literal=key="$2" >/dev/null || die "create $1"; }

"$api" down --dir "$dir/api" >/dev/null 2>&1
rm -rf --one-file-system "$dir"
mkdir -p "$dir"
trap end EXIT
server up --port "$port" --no-audit
note "requests"
for command in requests "many 1200" events; do
	# shellcheck disable=SC2086
	timeout 120 "$client" "$KUBECONFIG" default $command >"$dir/${command%% *}.out" 2>"$dir/${command%% *}.log" ||
		die "kube-client $command"
	tail -n 2 "$dir/${command%% *}.out"
done

note "who we are and who the server is"
fields() { kubectl config view --raw -o "jsonpath={.clusters[0].cluster.$1}"; }
kubeconfig() { # user, further keys of the cluster
	printf 'current-context: x\ncontexts: [{name: x, context: {cluster: c, user: u}}]\nusers: [{name: u, user: %s}]\nclusters: [{name: c, cluster: {server: "%s", %s}}]\n' \
		"$1" "$(fields server)" "$2" >"$dir/kubeconfig"
}
ca="certificate-authority: $dir/api/ca.crt"
answers() { # text that the client must end with or say
	timeout 60 "$client" "$dir/kubeconfig" default requests >"$dir/identity.out" 2>&1 && die "that should not work"
	grep -q "$1" "$dir/identity.out" || die "it does not say $1"
}
kubectl create serviceaccount nobody >/dev/null
"$api" token default/nobody --dir "$dir/api" >"$dir/token" || die "no token"
kubeconfig '{tokenFile: token}' "$ca"
answers 'get of what is not there: EPERM'
kubeconfig '{token: wrong}' "$ca"
answers 'get of what is not there: EACCES'
kubeconfig '{tokenFile: token}' "$ca, tls-server-name: kubernetes.default.svc"
answers 'get of what is not there: EPERM'
kubeconfig '{tokenFile: token}' "$ca, tls-server-name: another.name"
answers 'another.name'
kubeconfig '{tokenFile: token}' 'insecure-skip-tls-verify: true'
answers 'get of what is not there: EPERM'
kubeconfig '{tokenFile: token}' 'tls-server-name: kubernetes.default.svc'
answers 'SSL certificate problem'
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout /dev/null -out "$dir/other.crt" -subj /CN=other 2>/dev/null
kubeconfig '{tokenFile: token}' "certificate-authority-data: $(base64 -w 0 "$dir/other.crt")"
answers 'SSL certificate problem'

note "a cache, its server killed"
make a 1
make b 1
make c 1
begin follow follow
wait_for 10 "the list" says follow '^synced'
says follow '^new default/a 1' || die "a is not in the list"
server kill apiserver
sleep 2
server start apiserver
set_key a 2
wait_for 40 "a change after the server's return" says follow '^changed default/a 2'

note "the server forgets what the cache has not seen"
kill -STOP "${pids[follow]}"
# Its connection goes, else the changes wait in the socket.
server kill apiserver
server start apiserver
set_key a 3
make d 1
kubectl delete configmap b >/dev/null
revision=$(kubectl get configmap d -o 'jsonpath={.metadata.resourceVersion}')
curl -sS --fail --noproxy '*' "http://127.0.0.1:$((port + 1))/v3/kv/compaction" -d "{\"revision\":\"$revision\",\"physical\":true}" \
	>>"$dir/api.log" 2>&1 || die "etcd does not compact"
server kill apiserver
server start apiserver
kill -CONT "${pids[follow]}"
wait_for 60 "the change of a" says follow '^changed default/a 3'
wait_for 10 "the end of b" says follow '^gone default/b'
wait_for 10 "the new d" says follow '^new default/d 1'
[ "$(grep -c 'default/c' "$dir/follow.out")" -eq 1 ] || die "c did not change, but that was reported"
grep -q '^strake_kube' "$dir/follow.log" && die "the client ended"

note "a server that is frozen for 30 s"
server freeze apiserver
sleep 30
server thaw apiserver
set_key a 4
wait_for 60 "a change after that" says follow '^changed default/a 4'
finish follow
lists=$(sed -n 's/^strake_kube_lists_total //p' "$dir/follow.log")
[ "$lists" -eq 2 ] || die "$lists lists: one at first and one after what was forgotten would do"

note "a lease: its holder is killed"
begin one lead election one
wait_for 20 "one to lead" says one '^leading'
begin two lead election two
sleep 3
says two '^leading' && die "two lead"
kill -KILL "${pids[one]}"
wait "${pids[one]}" 2>/dev/null
unset "pids[one]"
wait_for 30 "two to lead" says two '^leading'

note "its holder is stopped"
begin three lead election three
sleep 1
kill -STOP "${pids[two]}"
wait_for 30 "three to lead" says three '^leading'
kill -CONT "${pids[two]}"
wait_for 10 "two to know" says two '^over'

note "its holder leaves"
finish three
says three '^given back' || die "three did not give the lease back"
[ "$(kubectl get lease election -o 'jsonpath={.spec.holderIdentity}')" != three ] || die "three has the lease still"
wait_for 20 "two to lead" eval '[ "$(grep -c "^leading" "$dir/two.out")" -eq 2 ]'

note "the server is away"
server freeze apiserver
wait_for 10 "two to give up" eval '[ "$(grep -c "^over" "$dir/two.out")" -eq 2 ]'
server thaw apiserver
wait_for 60 "two to lead again" eval '[ "$(grep -c "^leading" "$dir/two.out")" -eq 3 ]'
finish two
note "all as it should be"
