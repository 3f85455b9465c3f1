#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# lib/kube against a real etcd and kube-apiserver: every kind of request, 1200 objects in pages, Events, who we are and who the server is; a
# cache that survives a killed, a forgetful and a frozen server; leases whose holder is killed, stopped or leaves.
. "$(dirname "$0")/lib.sh" client
client=$bin/tests/kube/client/kube-client
config=$api/admin.kubeconfig

server() { cluster_api "$@" >>"$dir/server.log" 2>&1 || die "tools/cluster/api $*"; }
begin() { # name arguments...: the client in the background
	local name=$1
	shift
	"$client" "$config" default "$@" >"$dir/$name.out.log" 2>"$dir/$name.log" 3>&- </dev/null &
	pids[$name]=$!
}
finish() { # name
	kill -TERM "${pids[$1]}"
	wait "${pids[$1]}" || die "the client $1 ended with $?"
	unset "pids[$1]"
}
says() { grep -q "$2" "$dir/$1.out.log"; } # name text
says_times() { [ "$(grep -c "$2" "$dir/$1.out.log")" -eq "$3" ]; } # name text count
set_key() { kubectl patch configmap "$1" --type merge -p "{\"data\":{\"key\":\"$2\"}}" >/dev/null || die "patch $1"; }
make() { kubectl create configmap "$1" --from-literal=key="$2" >/dev/null || die "create $1"; }

api_up
note "requests"
for command in requests "many 1200" events; do
	# shellcheck disable=SC2086
	timeout 120 "$client" "$config" default $command >"$dir/${command%% *}.out.log" 2>"$dir/${command%% *}.log" ||
		die "kube-client $command"
	tail -n 2 "$dir/${command%% *}.out.log"
done

note "who we are and who the server is"
fields() { kubectl config view --raw -o "jsonpath={.clusters[0].cluster.$1}"; }
kubeconfig() { # user, further keys of the cluster
	printf 'current-context: x\ncontexts: [{name: x, context: {cluster: c, user: u}}]\nusers: [{name: u, user: %s}]\nclusters: [{name: c, cluster: {server: "%s", %s}}]\n' \
		"$1" "$(fields server)" "$2" >"$dir/kubeconfig"
}
ca="certificate-authority: $api/ca.crt"
answers() { # text that the client must end with or say
	timeout 60 "$client" "$dir/kubeconfig" default requests >"$dir/identity.log" 2>&1 && die "that should not work"
	grep -q "$1" "$dir/identity.log" || die "it does not say $1"
}
kubectl create serviceaccount nobody >/dev/null
cluster_api token default/nobody >"$dir/token" || die "no token"
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
	>>"$dir/server.log" 2>&1 || die "etcd does not compact"
server kill apiserver
server start apiserver
kill -CONT "${pids[follow]}"
wait_for 60 "the change of a" says follow '^changed default/a 3'
wait_for 10 "the end of b" says follow '^gone default/b'
wait_for 10 "the new d" says follow '^new default/d 1'
says_times follow default/c 1 || die "c did not change, but that was reported"

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
kill_9 one
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
wait_for 20 "two to lead" says_times two '^leading' 2

note "the server is away"
server freeze apiserver
wait_for 10 "two to give up" says_times two '^over' 2
server thaw apiserver
wait_for 60 "two to lead again" says_times two '^leading' 3
finish two
note "all as it should be"
