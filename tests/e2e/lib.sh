# SPDX-License-Identifier: Apache-2.0
# Sourced by the tests on real processes: pool-agents and a nexus (under its launcher) in one folder.  Everything that a test starts ends with it.
#
#	. tests/e2e/lib.sh NAME
set -u
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
top=$PWD
bin=$top/${STRAKE_BUILD:-build/release}
blkcheck=$bin/tests/e2e/blkcheck/blkcheck
dir=/tmp/strake-e2e-$1
run=$dir/run
export STRAKE_RUN_DIR=$run
declare -A pids=()   # name -> pid
declare -A prefix=() # name -> command before it (ip netns exec ...)
declare -A address=()
base_port=${STRAKE_TEST_PORT:-4530}

[ "$(id -u)" -eq 0 ] && [ -c /dev/fuse ] && [ -c /dev/loop-control ] ||
	{ echo "needs root, /dev/fuse and /dev/loop-control"; exit 77; }

note() { printf '%(%H:%M:%S)T - %s\n' -1 "$*"; }
# Says it on the script's own output: a condition of wait_for may die too, and what such prints is not seen.
exec 3>&1
die() {
	{
		echo "FAILED: $*"
		strake volume list 2>&1 | head -20
		strake volume status v 2>/dev/null
		for log in "$dir"/*.log; do echo "== $log"; tail -n 15 "$log"; done
	} >&3
	exit 1
}
strake() { "$bin/cli/strake" --run-dir "$run" "$@"; }

wait_for() { # seconds what command...
	local end=$((SECONDS + $1)) what=$2
	shift 2
	while ! "$@" >/dev/null 2>&1; do
		[ $SECONDS -lt $end ] || die "waited in vain for: $what"
		sleep 0.1
	done
}

agent_config() { # name index address
	cat >"$dir/$1.yaml" <<-YAML
	name: $1
	address: $3
	run_dir: $run
	state_dir: $dir/state
	YAML
}

# A daemon that was killed leaves its socket behind: only its own word tells that the new one serves.
serves() {
	kill -0 "${pids[$1]}" 2>/dev/null || die "$1 ended"
	tail -c "+$(($2 + 1))" "$dir/$1.log" | grep -q '"event":"serving"'
}
start() { # name command...
	local name=$1 from
	shift
	from=$(stat -c %s "$dir/$name.log" 2>/dev/null || echo 0)
	${prefix[$name]:-} "$@" --config "$dir/$name.yaml" >>"$dir/$name.log" 2>&1 3>&- &
	pids[$name]=$!
	wait_for 20 "$name to serve" serves "$name" "$from"
}
start_agent() { start "$1" "$bin/pool-agent/pool-agent"; } # name
# The launcher's pid is kept under the nexus's name.
launcher_options=()
start_nexus() { start "$1" "$bin/launcher/strake-launcher" --run-dir "$run" "${launcher_options[@]}" -- "$bin/nexus/nexus"; } # name

nexus_pid() { pgrep -P "${pids[${1:-nexus}]}" -x nexus; }

# Ends a process by its pid and waits for it.
kill_9() { # name
	kill -KILL "${pids[$1]}" 2>/dev/null
	wait "${pids[$1]}" 2>/dev/null
	unset "pids[$1]"
}

# Three pool-agents a, b, c with a pool each, and a nexus.  cluster [pool size] [further nexus yaml]
cluster() {
	local size=${1:-1G} index=0 name
	tests/clean --only "$dir" >/dev/null 2>&1
	mkdir -p "$dir/pools" "$run"
	trap cleanup EXIT
	# In memory, as /run is: traces are only there.
	mount -t tmpfs -o size=64M,mode=755 strake-run "$run" || die "mount $run"
	trap 'exit 143' TERM INT HUP
	for name in a b c; do
		address[$name]=${address[$name]:-127.0.0.1:$((base_port + index))}
		agent_config $name $index "${address[$name]}"
		start_agent $name
		index=$((index + 1))
	done
	cat >"$dir/nexus.yaml" <<-YAML
	name: nexus
	run_dir: $run
	state_dir: $dir/state
	export:
	  address: ${nexus_address:-127.0.0.1}:$((base_port + 9))
	${2:-}
	YAML
	start_nexus nexus
	for name in a b c; do
		strake pool create "pool-$name" --agent $name --disk "file://$dir/pools/$name" --size "${pool_size[$name]:-$size}" >/dev/null ||
			die "pool create"
	done
}
declare -A pool_size=()

# A volume `v`, published: $device.
volume() { # size, further arguments of create
	local size=$1
	shift
	strake volume create v --size "$size" --replicas 3 "$@" || die "volume create"
	strake volume open v --wait || die "volume open"
	strake volume publish v || die "volume publish"
	device=$(strake volume status v -o json | jq -r '.device')
	[ -b "$device" ] || die "no block device: $device"
}

state() { strake volume status v -o json | jq -r .state; }
state_is() { [ "$(state)" = "$1" ]; }
equal() { strake volume compare v || die "the replicas differ"; }

load_start() { # seconds, further arguments
	local seconds=$1
	shift
	rm -f "$dir/load.stop"
	"$blkcheck" load "$device" --seconds "$seconds" --stop "$dir/load.stop" "$@" >"$dir/load.json" 2>"$dir/load.log" &
	load_pid=$!
}
load_end() {
	touch "$dir/load.stop"
	wait "$load_pid" || die "the load failed: $(cat "$dir/load.json" "$dir/load.log")"
	note "load: $(cat "$dir/load.json")"
}

cleanup() {
	local name
	[ -z "${load_pid:-}" ] || kill -KILL "$load_pid" 2>/dev/null
	awk -v d="$dir/" -v run="$run" 'index($5, d) == 1 && $5 != run && $0 !~ / - fuse/ {print $5}' /proc/self/mountinfo | tac | xargs -r umount -l 2>/dev/null
	for name in "${!pids[@]}"; do
		[[ $name == nexus* ]] && kill -TERM "${pids[$name]}" 2>/dev/null
	done
	sleep 0.5
	for name in "${!pids[@]}"; do kill -TERM "${pids[$name]}" 2>/dev/null; done
	sleep 0.3
	for name in "${!pids[@]}"; do kill -KILL "${pids[$name]}" 2>/dev/null; done
	mkdir -p "$top/build/test-logs/e2e" && cp "$dir"/*.log "$top/build/test-logs/e2e/" 2>/dev/null
	tests/clean --only "$dir" >/dev/null 2>&1
}
