#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The cluster that other tests use: three nodes run pods, nodes and control plane fail and come back, nothing is left.
. "$(dirname "$0")/lib.sh" cluster
cluster_up --nodes 3
tail -n 1 "$dir/up.log"

pod() { # name node command... ; further settings of the container in $container, of the pod in $spec
	local name=$1 node=$2
	shift 2
	cat <<-YAML
	---
	apiVersion: v1
	kind: Pod
	metadata: {name: $name}
	spec:
	  nodeName: $node
	  restartPolicy: Never
	  terminationGracePeriodSeconds: 1
	  containers:
	  - name: main
	    image: strake.local/busybox:1
	    command: [sh, -c, $(printf '%s' "$*" | jq -Rs .)]
	    $container
	  $spec
	YAML
}
container='' spec=''

note "a pod on each node; what it says is in its log"
for node in n1 n2 n3; do pod "hello-$node" $node 'echo I am $HOSTNAME; nc 10.96.0.1 443 </dev/null && echo API reached'; done |
	kubectl apply -f - >/dev/null || die "pods"
for node in n1 n2 n3; do
	wait_for 60 "the pod on $node" pod_phase hello-$node Succeeded
	[ "$(kubectl logs hello-$node)" = "$(printf 'I am hello-%s\nAPI reached' $node)" ] || die "log: $(kubectl logs hello-$node)"
done
[ "$(kubectl get node n2 -o 'jsonpath={.status.addresses[?(@.type=="InternalIP")].address}')" = 10.88.0.12 ] || die "address of n2"

note "what a daemon of a node needs: fusectl, devices, direct I/O, mounts that the kubelet sees, and other nodes do not"
container='securityContext: {privileged: true}
    volumeMounts: [{name: dev, mountPath: /machine-dev}, {name: pool, mountPath: /pool},
      {name: kubelet, mountPath: /var/lib/kubelet, mountPropagation: Bidirectional},
      {name: modules, mountPath: /lib/modules}, {name: missing, mountPath: /missing}]'
spec='hostNetwork: true
  volumes: [{name: dev, hostPath: {path: /dev}}, {name: pool, hostPath: {path: /var/lib/strake, type: DirectoryOrCreate}},
    {name: kubelet, hostPath: {path: /var/lib/kubelet}}, {name: modules, hostPath: {path: /lib/modules}},
    {name: missing, hostPath: {path: /opt/strake-missing}}]'
pod daemon n1 'set -e; mount -t fusectl none /sys/fs/fuse/connections; [ -c /machine-dev/fuse ]; [ -c /machine-dev/loop-control ]
	dd if=/dev/zero of=/pool/file bs=4096 count=4 oflag=direct; mkdir /var/lib/kubelet/m; mount -t tmpfs m /var/lib/kubelet/m
	echo seen >/var/lib/kubelet/m/file; ip addr show eth0; echo done; sleep 1000' | kubectl apply -f - >/dev/null || die "pod"
container='' spec=''
daemon_done() { kubectl logs daemon | grep -q '^done$'; }
wait_for 60 "the daemon: $(kubectl logs daemon 2>&1)" daemon_done
kubectl logs daemon | grep -q 10.88.0.11 || die "not the node's network"
[ "$(cluster exec n1 cat /var/lib/kubelet/m/file)" = seen ] || die "the kubelet does not see the mount"
! cluster exec n2 test -e /var/lib/kubelet/m || die "n2 sees a mount of n1"
[ ! -e /opt/strake-missing ] || die "a hostPath that was missing is made on the machine"
[ ! -e /var/lib/kubelet/m ] || die "the machine sees a mount of n1"

note "helm"
mkdir -p "$dir/chart/templates"
printf 'apiVersion: v2\nname: trivial\nversion: 1.0.0\nkubeVersion: ">=1.32.0-0"\n' >"$dir/chart/Chart.yaml"
printf 'apiVersion: v1\nkind: ConfigMap\nmetadata: {name: {{ .Release.Name }}-map}\ndata: {of: "{{ .Capabilities.KubeVersion.Minor }}"}\n' \
	>"$dir/chart/templates/map.yaml"
cluster helm template one "$dir/chart" | grep -q 'of: "36"' || die "helm template"
cluster helm install one "$dir/chart" --wait >/dev/null || die "helm install"
[ "$(kubectl get configmap one-map -o 'jsonpath={.data.of}')" = 36 ] || die "the chart's object"
cluster helm uninstall one >/dev/null || die "helm uninstall"

note "a second cluster beside it, which is then killed and cleaned away"
tools/cluster/up --nodes 1 --dir "$dir/second" >"$dir/second.log" 2>&1 || die "the second cluster does not come up"
[ "$(tools/cluster/kubectl --dir "$dir/second" get nodes -o name)" = node/n1 ] || die "nodes of the second cluster"
tests/clean --only "$dir/second" >"$dir/clean.log" 2>&1
second=strake-$(printf '%s' "$dir/second" | sha256sum | cut -c 1-6)
tests/leftovers compare "$dir/before" "$dir/second" "$second" || die "something is left of the second cluster"

note "power failure of n3"
cluster node kill n3 || die "kill"
from=$SECONDS
wait_for 60 "n3 to be NotReady" node_not_ready n3
note "NotReady after $((SECONDS - from)) s"
cluster node start n3 || die "start"
wait_for 60 "n3 to be Ready" node_ready n3
note "a pod on it again"
kubectl delete pod hello-n3 >/dev/null || die "delete"
pod hello-n3 n3 'echo again' | kubectl apply -f - >/dev/null || die "pod"
wait_for 60 "the pod on n3" pod_phase hello-n3 Succeeded

note "n2 frozen, its cable taken out"
cluster node freeze n2 || die "freeze"
wait_for 60 "n2 to be NotReady" node_not_ready n2
cluster node thaw n2 || die "thaw"
wait_for 60 "n2 to be Ready" node_ready n2
cluster node cut n2 || die "cut"
wait_for 60 "n2 to be NotReady" node_not_ready n2
cluster node join n2 || die "join"
wait_for 60 "n2 to be Ready" node_ready n2

note "control plane killed and started, then everything at once"
kubectl create configmap kept --from-literal=a=b >/dev/null || die "create"
kept() { [ "$(kubectl get configmap kept -o 'jsonpath={.data.a}')" = b ]; }
cluster control kill || die "control kill"
! kubectl get nodes --request-timeout 2s >/dev/null 2>&1 || die "a killed control plane answers"
[ "$(cluster exec n1 cat /var/lib/kubelet/m/file)" = seen ] || die "a pod ended with the control plane"
cluster control start || die "control start"
kept || die "the object is lost"
cluster node freeze n1 || die "freeze"
cluster node kill all || die "kill all"
cluster control kill || die "control kill"
cluster control start || die "control start"
cluster node start all || die "start all"
kept || die "the object is lost"
[ "$(cluster exec n1 stat -c %s /var/lib/strake/file)" = 16384 ] || die "the node's data are lost"
for node in n1 n2 n3; do wait_for 60 "$node to be Ready" node_ready $node; done
grep -q '"verb":"create","user":{"username":"admin".*"resource":"configmaps"' "$cluster/log/audit.log" || die "nothing in the audit log"

note "taken away"
cluster_down
