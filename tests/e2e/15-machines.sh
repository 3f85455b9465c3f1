#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A volume across machines without Kubernetes: each machine makes its replica, one of them the volume.  (A machine is a run folder here: strake sees only
# the daemons of its own.)
. "$(dirname "$0")/lib.sh" machines
cluster 512M
far=$dir/far
mkdir -p "$far"
far_agent() { # name port
	cat >"$dir/$1.yaml" <<-YAML
	name: $1
	address: 127.0.0.1:$2
	run_dir: $far/$1
	state_dir: $dir/state
	YAML
	start_agent "$1"
	"$bin/cli/strake" --run-dir "$far/$1" pool create p --disk "file://$dir/pools/$1" --size 512M >/dev/null || die "pool create"
}
far_agent d $((base_port + 3))
far_agent e $((base_port + 4))
uuid=$(cat /proc/sys/kernel/random/uuid)
voter() { # run folder, further arguments: a replica there; the voter that it prints
	local folder=$1
	shift
	"$bin/cli/strake" --run-dir "$folder" replica create v --uuid "$uuid" "$@" | sed -n 's/^--voter //p'
}
local_voter=$(voter "$run" --pool pool-a --agent a --size 256M)
voters=(--voter "$local_voter,local" --voter "$(voter "$far/d" --pool p --size 256M)" --voter "$(voter "$far/e" --pool p --size 256M)")

note "wrong voters"
refused() { # what it must say, command...
	local pattern=$1
	shift
	if "$@" >"$dir/out" 2>&1; then die "accepted: $*"; fi
	grep -qE -- "$pattern" "$dir/out" || die "'$*' says '$(cat "$dir/out")', not '$pattern'"
}
refused 'needs --uuid' strake volume create v --size 256M "${voters[@]}"
refused 'nsid=N is missing' strake volume create v --size 256M --uuid "$uuid" --voter "${local_voter%,nsid*}"
refused 'cannot go with it' strake volume create v --size 256M --uuid "$uuid" "${voters[@]}" --replicas 3
refused 'twice' strake volume create v --size 256M --uuid "$uuid" "${voters[@]}" --voter "$local_voter"
refused 'no uuid' strake replica create v --uuid 12 --pool pool-a --agent a --size 256M
refused 'leave --size out' strake replica create v --uuid "$uuid" --arbiter --pool pool-a --agent a --size 256M

note "a volume of three machines, under load while one of them dies and comes back"
strake volume create v --size 256M --uuid "$uuid" "${voters[@]}" || die "volume create"
strake volume open v --wait || die "volume open"
strake volume publish v || die "volume publish"
device=$(strake volume status v -o json | jq -r .device)
load_start 60
sleep 2
kill_9 d
wait_for 30 "Degraded" state_is Degraded
start_agent d
wait_for 60 "Online" state_is Online
load_end
equal

note "two replicas and an arbiter"
uuid=$(cat /proc/sys/kernel/random/uuid)
"$bin/cli/strake" --run-dir "$far/e" replica create w --uuid "$uuid" --pool p --arbiter >"$dir/out" || die "arbiter"
strake volume create w --size 64M --uuid "$uuid" --voter "$(voter "$run" --pool pool-a --agent a --size 64M),local" \
	--voter "$(voter "$far/d" --pool p --size 64M)" --voter "$(sed -n 's/^--voter //p' "$dir/out")" || die "volume create"
strake volume open w --wait || die "volume open"
[ "$(strake volume status w -o json | jq '.replicas | length')" = 3 ] || die "$(strake volume status w)"

note "deleted"
strake volume close w >/dev/null || die "volume close"
refused 'keep-replicas' strake volume delete w
strake volume delete w --keep-replicas >"$dir/out" || die "volume delete"
[ "$(grep -c 'strake replica delete' "$dir/out")" = 3 ] || die "$(cat "$dir/out")"
"$bin/cli/strake" --run-dir "$far/e" replica delete "$(sed -n "s/.*:$((base_port + 4)): strake replica delete //p" "$dir/out")" || die "replica delete"
note done
