#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Daemons that may not set PR_SET_IO_FLUSHER or lock memory say so, in log and metrics, and go on; where they may, every thread has it.
. "$(dirname "$0")/lib.sh" memory-rules
mkdir -p "$dir/pools" "$run"
trap cleanup EXIT
trap 'exit 143' TERM INT HUP

# CAP_SYS_RESOURCE: bit 24.
may() { [ $((0x$(awk '/^CapBnd/ {print $2}' /proc/self/status) >> 24 & 1)) -eq 1 ]; }
metric() { curl -s --unix-socket "$dir/$1.metrics" http://x/metrics | sed -n "s/^$2[^ ]* //p"; }
flushers() { # process: how many of its threads have PF_MEMALLOC_NOIO and PF_LOCAL_THROTTLE, of how many
	sed 's/.*) //' /proc/"$1"/task/*/stat 2>/dev/null |
		while read -r _ _ _ _ _ _ flags _; do echo $(((flags & 0x180000) == 0x180000)); done |
		awk '{all++; with += $1} END {print with "/" all}'
}
for name in free bound; do
	agent_config $name 0 "127.0.0.1:$base_port"
	echo "metrics: {address: \"unix:$dir/$name.metrics\"}" >>"$dir/$name.yaml"
done
cat >"$dir/nexus.yaml" <<YAML
name: nexus
run_dir: $run
state_dir: $dir/state
export: {port: $((base_port + 9))}
metrics: {address: "unix:$dir/nexus.metrics"}
YAML

note "without the rights"
unprivileged=(bash -c 'ulimit -l 8192; exec setpriv --bounding-set -sys_resource,-ipc_lock "$@"' -)
start bound "${unprivileged[@]}" "$bin/pool-agent/pool-agent"
start nexus "${unprivileged[@]}" "$bin/launcher/strake-launcher" --run-dir "$run" -- "$bin/nexus/nexus"
for name in bound nexus; do
	[ "$(metric $name strake_io_flusher)" = 0 ] || die "$name: strake_io_flusher is '$(metric $name strake_io_flusher)', not 0"
	[ "$(metric $name strake_memory_locked)" = 0 ] || die "$name: strake_memory_locked is '$(metric $name strake_memory_locked)', not 0"
	for event in io-flusher-refused mlockall-refused; do
		grep '"level":"warning"' "$dir/$name.log" | grep -q "\"event\":\"$event\"" || die "$name does not warn of $event"
	done
done
strake pool create p --agent bound --disk "file://$dir/pools/p" --size 256M || die "pool create"
volume 64M --replicas 1
dd if=/dev/urandom of="$device" bs=1M count=16 oflag=direct status=none || die "write"
kill_9 bound

note "with what this machine allows"
start_agent free
if may; then
	[ "$(metric free strake_io_flusher)" = 1 ] || die "strake_io_flusher is not 1"
	found=$(flushers "${pids[free]}")
	[ "${found%/*}" = "${found#*/}" ] || die "only $found threads have PF_MEMALLOC_NOIO"
else
	note "no CAP_SYS_RESOURCE here"
	[ "$(metric free strake_io_flusher)" = 0 ] || die "strake_io_flusher is not 0"
	grep -q io-flusher-refused "$dir/free.log" || die "no warning"
fi
note done
