# SPDX-License-Identifier: Apache-2.0
# Sourced after pods.sh: a pod `load` on n1 with a verified load on its claim `load`, whose volume is $volume.

# The load is driven by files in a folder of n1, so that neither the API nor the kubelet is needed: `go` begins it, `stop` ends it.
load_folder=$cluster/nodes/n1/var-lib/load
load_pod() {
	pod load 'touch /keep/ready
		while sleep 0.1; do
			[ -e /keep/go ] || continue
			options=$(cat /keep/go)
			rm /keep/go
			blkcheck load /dev/load --seconds 1000 --stop /keep/stop $options >/keep/json 2>/keep/errors
			echo $? >/keep/status
		done' block=load node=n1 keep=/var/lib/load
	pod_runs load
	wait_for 20 "the load's shell" test -e "$load_folder/ready"
}
load_start() { # further options of the load
	rm -f "$load_folder"/{stop,status,json,errors}
	echo "$*" >"$load_folder/go"
	wait_for 20 "the load to begin" test ! -e "$load_folder/go"
	sleep 1
}
load_runs() { [ ! -e "$load_folder/status" ] || die "the load ended: $(cat "$load_folder"/{json,errors})"; }
load_finish() { # its exit status in $status
	touch "$load_folder/stop"
	wait_for 120 "the load to end" test -s "$load_folder/status"
	status=$(cat "$load_folder/status")
}
load_end() {
	load_finish
	[ "$status" = 0 ] || die "the load failed: $(cat "$load_folder"/{json,errors})"
	jq -e '.writes > 100' "$load_folder/json" >/dev/null || die "hardly any load: $(cat "$load_folder/json")"
	note "load: $(cat "$load_folder/json")"
}
generation() { strake n1 volume status "$volume" -o json | jq .generation; }
rebuilt_bytes() { # node: of the last rebuild of its replica
	local uuid
	uuid=$(kubectl get replicas.strake.io -o json | jq -r --arg volume "$volume" --arg node "$1" '.items[].spec | select(.volume == $volume and .node == $node).uuid')
	strake n1 volume status "$volume" -o json | jq --arg uuid "$uuid" '.replicas[] | select(.uuid == $uuid) | .rebuild_done_bytes // 0'
}
equal() { strake n1 volume compare "$volume" >"$dir/out" 2>&1 || die "the replicas differ: $(cat "$dir/out")"; }
