#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Pools are made and deleted, with the same request coming again and the pool-agent killed in between: what was begun is finished, a disk that is
# not ours is never touched.
. "$(dirname "$0")/lib.sh" pools
cluster 128M
rpc() { "$bin/tests/e2e/rpc/rpc" "$run/a.sock" "PoolAgent/$1" "${@:2}"; }
refused() { # what it must say, command...
	local pattern=$1
	shift
	if "$@" >"$dir/out" 2>&1; then die "accepted: $*"; fi
	grep -qE -- "$pattern" "$dir/out" || die "'$*' says '$(cat "$dir/out")', not '$pattern'"
}
there() { strake pool list -o json | jq -e --arg name "$1" '.[] | select(.name == $name)' >/dev/null; }
image=$dir/disk.img
truncate -s 128M "$image"
disk=$(losetup -f --show "$image")

note "the same pool again, and others of its name"
rpc CreatePool name=p disk="file://$dir/pools/p" size_bytes=$((64 << 20)) >"$dir/first" || die "create"
rpc CreatePool name=p disk="file://$dir/pools/p" size_bytes=$((64 << 20)) | cmp - "$dir/first" || die "the same pool again"
rpc CreatePool name=p disk="file://$dir/pools/p" size_bytes=$((64 << 20)) wipe=true | cmp - "$dir/first" || die "the same pool again, with wipe"
rpc CreatePool name=p disk="file://$dir/pools/p" | jq -e '.state == "Online"' >/dev/null || die "the same pool again, without its size"
refused "EEXIST.*67108864 bytes, not 134217728" rpc CreatePool name=p disk="file://$dir/pools/p" size_bytes=$((128 << 20))
refused "EEXIST.*on file://$dir/pools/p, not file://$dir/pools/q" rpc CreatePool name=p disk="file://$dir/pools/q" size_bytes=$((64 << 20))
refused "is the disk of pool p" rpc CreatePool name=q disk="file://$dir/pools/p"

note "a pool with replicas stays"
strake replica create r --agent a --pool p --size 4M >/dev/null || die "replica"
replica=$(strake replica list -o json --pool p | jq -r '.[0].uuid')
refused "it holds 1 replica: $replica; delete" strake pool delete p
strake pool list -o json | jq -e '.[] | select(.name == "p") | .state == "Online"' >/dev/null || die "the pool suffered"
strake replica delete "$replica" >/dev/null || die "replica delete"

note "deleted: its file goes; again; a new one in its place"
strake pool delete p || die "delete"
[ ! -e "$dir/pools/p" ] || die "the file is left"
if there p; then die "it is still there"; fi
rpc DeletePool name=p >/dev/null || die "a second deletion"
refused 'no pool "p"' strake pool delete p
strake pool create p --agent a --disk "file://$dir/pools/p" --size 64M >/dev/null && strake pool delete p >/dev/null || die "once more"

note "a file that was there stays, and a disk can be used again"
truncate -s 64M "$dir/pools/own"
strake pool create own --agent a --disk "file://$dir/pools/own" >/dev/null && strake pool delete own >/dev/null || die "a file that was there"
[ "$(stat -c %s "$dir/pools/own")" = 67108864 ] || die "a file that was there is gone"
strake pool create disk --agent a --disk "$disk" >/dev/null || die "a disk"
refused 'in use' strake pool create other --agent b --disk "$disk"
strake pool delete disk >/dev/null || die "delete"
[ "$(blkid -p "$disk"; cmp -n $((1 << 20)) "$disk" /dev/zero; cmp -n $((1 << 20)) -i $((127 << 20)):0 "$disk" /dev/zero)" = "" ] || die "the disk is not empty"
strake pool create other --agent b --disk "$disk" >/dev/null && strake pool delete other >/dev/null || die "the disk again"

note "configured pools are the file's"
kill_9 a
cat >>"$dir/a.yaml" <<-YAML
pools: [{name: fixed, disk: "file://$dir/pools/fixed", size: 64M}]
YAML
start_agent a
refused 'is in the configuration file' strake pool delete fixed
kill_9 a
sed -i '/^pools/d' "$dir/a.yaml"
start_agent a
refused 'not in the configuration file any more; forget' rpc DeletePool name=fixed
refused 'taken out of the configuration file' rpc CreatePool name=fixed disk="file://$dir/pools/fixed"
strake pool delete fixed --agent a --forget >/dev/null || die "forget"
refused 'exists already|Strake pool' rpc CreatePool name=fixed disk="file://$dir/pools/fixed"
rm "$dir/pools/fixed"

note "a disk that is lost is forgotten, when that is said"
strake pool create lost --agent a --disk "file://$dir/pools/lost" --size 64M >/dev/null && strake replica create r --agent a --pool lost --size 4M >/dev/null || die "create"
kill_9 a
mv "$dir/pools/lost" "$dir/pools/elsewhere"
start_agent a
refused 'not online.*does not exist; forget' strake pool delete lost
strake pool delete lost --forget || die "forget"
kill_9 a
mv "$dir/pools/elsewhere" "$dir/pools/lost"
start_agent a
if there lost; then die "it is back"; fi
rm "$dir/pools/lost"

note "killed at any moment while it makes and deletes pools"
hits=0
for ((round = 1; round <= 80 && hits < 12; round++)); do
	target=$([ $((round % 2)) = 0 ] && echo "$disk" || echo "file://$dir/pools/k")
	size=$([ $((round % 2)) = 0 ] && echo 0 || echo $((64 << 20)))
	what=$([ $((round % 4)) -lt 2 ] && echo CreatePool || echo DeletePool)
	[ $what = CreatePool ] || rpc CreatePool name=k disk="$target" size_bytes="$size" >/dev/null || die "round $round: create before"
	if [ $what = CreatePool ]; then rpc CreatePool name=k disk="$target" size_bytes="$size" >/dev/null 2>&1 & else rpc DeletePool name=k >/dev/null 2>&1 & fi
	request=$!
	sleep "0.0$(printf %02d $((RANDOM % 30)))"
	kill_9 a
	wait $request || hits=$((hits + 1))
	start_agent a
	if [ $what = CreatePool ]; then
		rpc CreatePool name=k disk="$target" size_bytes="$size" >"$dir/out" 2>&1 || die "round $round: $what again: $(cat "$dir/out")"
		jq -e '.state == "Online" and .replicas == 0' "$dir/out" >/dev/null || die "round $round: $(cat "$dir/out")"
	fi
	rpc DeletePool name=k >"$dir/out" 2>&1 || die "round $round: DeletePool again: $(cat "$dir/out")"
	[ ! -e "$dir/pools/k" ] || die "round $round: the file is left"
	cmp -s -n $((1 << 20)) "$disk" /dev/zero || die "round $round: the disk is not empty"
	if there k; then die "round $round: it is still there"; fi
done
note "$hits of $((round - 1)) kills hit"
[ "$hits" -ge 2 ] || die "the kills did not hit"
losetup -d "$disk"
note done
