# SPDX-License-Identifier: Apache-2.0
# Sourced by tests/faults/run: three nodes in network namespaces, joined by a bridge, and a relay in one of its own.  The nexus, its launcher and a keeper
# are on node a.  Volume v goes straight to the pool-agents, volume w through the relay.  The pools of a and b lie on disks that can fail (fault-disk), that
# of c in a plain file.

nodes=(a b c)
volumes=(v w)
ns_prefix=strake-faults
# Each daemon has a folder: strake asks all whose sockets are in one, and would wait for a pool-agent that is stopped.
declare -A run_of=([nexus]=$run [a]=$dir/a [b]=$dir/b [c]=$dir/c)
declare -A number_of=([a]=1 [b]=2 [c]=3)
keeper=$run/keeper.sock
MiB=$((1 << 20))

in_node() { # node command...
	local node=$1
	shift
	ip netns exec $ns_prefix-"$node" "$@"
}

namespaces_gone() {
	local name
	for name in net relay "${nodes[@]}"; do ip netns del $ns_prefix-$name 2>/dev/null; done
}

namespaces_make() {
	local name number=1
	namespaces_gone
	ip netns add $ns_prefix-net && ip -n $ns_prefix-net link add br0 type bridge && ip -n $ns_prefix-net link set br0 up || die "namespaces"
	for name in "${nodes[@]}" relay; do
		ip netns add $ns_prefix-$name
		ip -n $ns_prefix-net link add v$name type veth peer name eth0 netns $ns_prefix-$name
		ip -n $ns_prefix-net link set v$name master br0 up
		ip -n $ns_prefix-$name addr add 10.79.0.$number/24 dev eth0
		ip -n $ns_prefix-$name link set eth0 up
		ip -n $ns_prefix-$name link set lo up
		prefix[$name]="ip netns exec $ns_prefix-$name"
		number=$((number + 1))
	done
	prefix[nexus]=${prefix[a]}
}

# ---- programs that take commands: a line to one pipe, a line from another ----

declare -A answers=()
start_commanded() { # name command...
	local name=$1
	shift
	"$@" >>"$dir/$name.log" 2>&1 3>&- &
	pids[$name]=$!
	wait_for 20 "$name" test -p "$dir/$name.in"
	tell "$name" look
}
tell() { # name command: the answer goes to answers[name]
	local line
	echo "$2" 1<>"$dir/$1.in"
	read -r -t 20 line <>"$dir/$1.out" || die "$1 does not answer '$2'"
	[[ $line == ok* ]] || die "$1 does not know '$2'"
	answers[$1]=$line
}
answered() { # name field
	[[ ${answers[$1]} =~ \ $2=([0-9]+) ]] && echo "${BASH_REMATCH[1]}"
}

# ---- the daemons ----

node_config() { # node
	mkdir -p "${run_of[$1]}"
	cat >"$dir/$1.yaml" <<-YAML
	name: $1
	address: 10.79.0.${number_of[$1]}:4430
	run_dir: ${run_of[$1]}
	state_dir: $dir/state
	YAML
}
strake_on() { # node, or nexus; arguments...
	local node=$1
	shift
	timeout 20 "$bin/cli/strake" --run-dir "${run_of[$node]}" "$@"
}
start_keeper() {
	rm -f "$dir/keeper.out"
	"$bin/tests/e2e/keeper/test-keeper" "$keeper" >"$dir/keeper.out" 2>>"$dir/keeper.log" 3>&- &
	pids[keeper]=$!
	wait_for 20 "the keeper" test -s "$dir/keeper.out"
}
keeper_holds() { tail -n 1 "$dir/keeper.out" | grep -qx "synced volumes=${#volumes[@]}"; }

disk_start() { # node size
	mkdir -p "$dir/disk-$1"
	truncate -s "$2" "$dir/pools/$1"
	start_commanded "disk-$1" "$bin/tests/faults/fault-disk" "$dir/disk-$1" "$dir/pools/$1" "$dir/disk-$1"
}

nodes_up() {
	local node target=()
	for node in "${nodes[@]}"; do target+=("10.79.0.4:443${number_of[$node]}=10.79.0.${number_of[$node]}:4430"); done
	# shellcheck disable=SC2086
	start_commanded relay ${prefix[relay]} "$bin/tests/faults/fault-relay" "$dir/relay" "${target[@]}"
	disk_start a 512M
	disk_start b 512M
	for node in "${nodes[@]}"; do
		node_config "$node"
		start_agent "$node"
	done
	strake_on a pool create p --disk "file://$dir/disk-a/disk" >/dev/null || die "pool create"
	strake_on b pool create p --disk "file://$dir/disk-b/disk" >/dev/null || die "pool create"
	# Too small for all that the volumes may hold.
	strake_on c pool create p --disk "file://$dir/pools/c" --size 100M >/dev/null || die "pool create"
	cat >"$dir/nexus.yaml" <<-YAML
	name: nexus
	run_dir: $run
	state_dir: $dir/state
	export:
	  address: 10.79.0.1:4450
	YAML
	launcher_options=(--keeper "$keeper")
	start_keeper
	start_nexus nexus
}

volume_make() { # volume
	local volume=$1 node voter uuid voters=()
	uuid=$(cat /proc/sys/kernel/random/uuid)
	for node in "${nodes[@]}"; do
		voter=$(strake_on "$node" replica create "$volume" --uuid "$uuid" --pool p --size 96M | sed -n 's/^--voter //p')
		[ -n "$voter" ] || die "replica create"
		[ "$volume" = v ] || voter=$(sed "s/address=[^,]*/address=10.79.0.4:443${number_of[$node]}/" <<<"$voter")
		[ "$node" != a ] || voter+=,local
		voters+=(--voter "$voter")
	done
	strake_on nexus volume create "$volume" --uuid "$uuid" --size 96M "${voters[@]}" >/dev/null || die "volume create"
	strake_on nexus volume open "$volume" --wait >/dev/null || die "volume open"
	strake_on nexus volume publish "$volume" >/dev/null || die "volume publish"
}
