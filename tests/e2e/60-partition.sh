#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Three nodes in network namespaces: full and one-way partitions under verified load, and a nexus that is cut off from everybody.
. "$(dirname "$0")/lib.sh" partition
command -v nft >/dev/null || { echo "needs nftables"; exit 77; }
namespaces_gone() { for name in net a b c; do ip netns del strake-$name 2>/dev/null; done; }
namespaces_gone
trap namespaces_gone EXIT
ip netns add strake-net || die "namespaces"
ip -n strake-net link add br0 type bridge
ip -n strake-net link set br0 up
number=1
for name in a b c; do
	ip netns add strake-$name
	ip -n strake-net link add v$name type veth peer name eth0 netns strake-$name
	ip -n strake-net link set v$name master br0 up
	ip -n strake-$name addr add 10.77.0.$number/24 dev eth0
	ip -n strake-$name link set eth0 up
	ip -n strake-$name link set lo up
	address[$name]=10.77.0.$number:4430
	prefix[$name]="ip netns exec strake-$name"
	number=$((number + 1))
done
# The nexus lives on node a.
prefix[nexus]="ip netns exec strake-a"
nexus_address=10.77.0.1
cluster 512M
trap 'cleanup; namespaces_gone' EXIT
volume 128M

cut_off() { # node direction(input|output|both)
	ip netns exec "strake-$1" nft add table inet cut
	for hook in input output; do
		[ "$2" = both ] || [ "$2" = $hook ] || continue
		ip netns exec "strake-$1" nft add chain inet cut $hook "{ type filter hook $hook priority 0; }"
		ip netns exec "strake-$1" nft add rule inet cut $hook iif != lo drop 2>/dev/null ||
			ip netns exec "strake-$1" nft add rule inet cut $hook drop
	done
}
heal() { ip netns exec "strake-$1" nft delete table inet cut; }

for way in both input output; do
	note "node b cut off ($way) under load"
	load_start 120
	sleep 1
	cut_off b $way
	wait_for 20 "Degraded" state_is Degraded
	sleep 2
	heal b
	wait_for 90 "Online" state_is Online
	load_end
	jq -e '.longest_ms < 10000' "$dir/load.json" >/dev/null || die "a pause longer than 10 s"
	equal
done

note "the nexus's node is cut off from the other two: nothing is acknowledged, then it goes on"
load_start 120
sleep 1
ip netns exec strake-a nft add table inet cut
ip netns exec strake-a nft add chain inet cut output '{ type filter hook output priority 0; }'
ip netns exec strake-a nft add rule inet cut output oifname eth0 ip daddr != 10.77.0.1 drop
wait_for 20 "Stalled" state_is Stalled
sleep 3
heal a
wait_for 90 "Online" state_is Online
load_end
equal

note "the nexus's node is gone without a word: the pool-agents let go of its associations"
declare -A from=()
for name in b c; do from[$name]=$(stat -c %s "$dir/$name.log"); done
let_go() { tail -c "+$((from[$1] + 1))" "$dir/$1.log" | grep -q '"event":"association-ended"'; }
cut_off a both
kill_9 nexus
wait_for 60 "b to let go" let_go b
wait_for 60 "c to let go" let_go c
heal a
note done
