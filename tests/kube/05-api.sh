#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The API-only cluster that other tests use: comes up, keeps its data through kills, gives tokens, leaves nothing.
. "$(dirname "$0")/lib.sh" api
api_up

kubectl create configmap kept --from-literal=a=b >/dev/null || die "create"
note "API server killed and started"
cluster_api kill apiserver || die "kill"
! kubectl get configmap kept --request-timeout 2s >/dev/null 2>&1 || die "a killed API server answers"
cluster_api start apiserver || die "start"
[ "$(kubectl get configmap kept -o 'jsonpath={.data.a}')" = b ] || die "the object is lost"

note "etcd killed and started"
cluster_api kill etcd || die "kill"
cluster_api start etcd || die "start"
kept() { [ "$(kubectl get configmap kept -o 'jsonpath={.data.a}' --request-timeout 5s)" = b ]; }
wait_for 30 "the object after etcd's return" kept

note "a token names its node"
kubectl create serviceaccount someone >/dev/null || die "service account"
token=$(cluster_api token default/someone --node n1) || die "token"
server=$(cluster_api url)
who=$("$kube_bin/kubectl" --server "$server" --certificate-authority "$api/ca.crt" --token "$token" --kubeconfig /dev/null --cache-dir "$dir/cache" \
	auth whoami -o json) || die "the token is refused"
[ "$(jq -r .status.userInfo.username <<<"$who")" = system:serviceaccount:default:someone ] || die "$who"
[ "$(jq -r '.status.userInfo.extra["authentication.kubernetes.io/node-name"][0]' <<<"$who")" = n1 ] || die "$who"

note "taken away"
apiserver=$(cut -d ' ' -f 1 "$api/pids/apiserver")
etcd=$(cut -d ' ' -f 1 "$api/pids/etcd")
cluster_api down || die "down"
for pid in $apiserver $etcd; do
	# One that has ended may wait for its parent to notice.
	! grep -qs '^State:[[:space:]]*[^Z[:space:]]' "/proc/$pid/status" || die "process $pid is left"
done
[ ! -e "$api" ] || die "$api is left"
