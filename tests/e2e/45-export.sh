#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A volume exported over NVMe/TCP, used by a host that knows nothing of Strake, while pool-agents die and come back.
. "$(dirname "$0")/lib.sh" export
cluster 512M
strake volume create v --size 128M --replicas 3 || die "create"
strake volume open v --wait || die "open"
strake volume publish v --frontend nvme || die "publish"
nqn=$(strake volume status v -o json | jq -r .nqn)
[ -n "$nqn" ] || die "no NQN"
host=nqn.2025-01.io.strake:host:00000000-0000-4000-8000-000000000001
perf() { "$bin/tests/bench/nvme-perf" --address 127.0.0.1 --port $((base_port + 9)) --nqn "$nqn" --hostnqn $host --depth 16 "$@"; }

for name in a b c; do
	note "pool-agent $name killed under load, and back"
	perf --rw mixed --seconds 7 >"$dir/perf.json" 2>"$dir/perf.log" &
	load_pid=$!
	sleep 1
	kill_9 $name
	wait_for 10 "Degraded" state_is Degraded
	start_agent $name
	wait_for 60 "Online" state_is Online
	wait $load_pid || die "the host saw an error: $(cat "$dir/perf.log")"
	load_pid=
	jq -e '.errors == 0 and .iops > 0' "$dir/perf.json" >/dev/null || die "errors: $(cat "$dir/perf.json")"
	note "$(jq -r '"\(.iops | floor) IOPS, longest \(.latency_us.max / 1000 | floor) ms, \(.errors) errors"' "$dir/perf.json")"
	equal
done

note "a write that spans the largest transfer, sequential, with digests"
perf --rw write --size 131072 --seconds 1 --sequential --digests both >"$dir/perf.json" 2>"$dir/perf.log" || die "$(cat "$dir/perf.log")"
equal
note "another NQN is refused"
if "$bin/tests/bench/nvme-perf" --address 127.0.0.1 --port $((base_port + 9)) --nqn "$nqn-x" --hostnqn $host --rw read --seconds 1 >"$dir/out" 2>&1; then
	die "a wrong NQN was taken"
fi
strake volume unpublish v && strake volume close v && strake volume delete v || die "delete"
note done
