#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Bad input gets an error that names the thing and the way out; nothing is lost, nothing dies.
. "$(dirname "$0")/lib.sh" bad-input
cluster 512M

refused() { # what it must say, command...
	local pattern=$1
	shift
	if "$@" >"$dir/out" 2>&1; then die "accepted: $*"; fi
	grep -qiE -- "$pattern" "$dir/out" || die "'$*' says '$(cat "$dir/out")', not '$pattern'"
}

note "configuration files"
printf 'name: x\nadress: 127.0.0.1:1\n' >"$dir/bad.yaml"
refused 'bad.yaml:2.*adress' "$bin/pool-agent/pool-agent" --config "$dir/bad.yaml"
printf 'name: [x\n' >"$dir/bad.yaml"
refused 'bad.yaml' "$bin/pool-agent/pool-agent" --config "$dir/bad.yaml"
refused 'nowhere.yaml' "$bin/nexus/nexus" --config "$dir/nowhere.yaml"
printf 'name: y\nmin_insync: many\n' >"$dir/bad.yaml"
refused 'bad.yaml:2' "$bin/nexus/nexus" --config "$dir/bad.yaml"

note "pools"
refused 'exists' strake pool create pool-a --agent a --disk "file://$dir/pools/x" --size 1G
refused 'exist|is the disk of pool' strake pool create other --agent a --disk "file://$dir/pools/a" --size 1G
refused 'size|small' strake pool create other --agent a --disk "file://$dir/pools/x" --size 0
refused 'size|small' strake pool create other --agent a --disk "file://$dir/pools/x" --size 64K
refused 'size|K M G T|number' strake pool create other --agent a --disk "file://$dir/pools/x" --size 1Q
refused 'no such|not exist|No such' strake pool create other --agent a --disk /dev/nothing-here
truncate -s 128M "$dir/ext4.img"
mkfs.ext4 -q "$dir/ext4.img"
loop=$(losetup -f --show "$dir/ext4.img")
refused 'ext4.*wipe|wipe.*ext4' strake pool create other --agent a --disk "$loop"
strake pool create other --agent a --disk "$loop" --wipe >/dev/null || die "--wipe"

note "two pool-agents on one pool"
sed 's/^name: a/name: a2/; s/:4530/:4590/' "$dir/a.yaml" >"$dir/a2.yaml"
echo "pools: [{name: stolen, disk: \"file://$dir/pools/a\"}]" >>"$dir/a2.yaml"
start_agent a2
wait_for 20 "the second agent's verdict" sh -c "'$bin/cli/strake' --run-dir '$run' pool list -o json | jq -e '.[] | select(.name == \"stolen\" and .state == \"Faulted\")'"
strake pool list -o json | jq -r '.[] | select(.name == "stolen") | .reason' | grep -qiE 'lock|use|another' || die "the reason does not say that it is in use"
kill_9 a2
rm -f "$run/a2.sock"

note "a pool of a newer format, or damaged"
crc32c() { # of the bytes on standard input
	local -a table
	local i k c crc=$((0xffffffff))
	for ((i = 0; i < 256; i++)); do
		for ((c = i, k = 0; k < 8; k++)); do c=$((c & 1 ? c >> 1 ^ 0x82f63b78 : c >> 1)); done
		table[i]=$c
	done
	for i in $(od -An -v -tu1); do crc=$((crc >> 8 ^ table[(crc ^ i) & 255])); done
	echo $((crc ^ 0xffffffff))
}
le32() { printf '%b' "$(printf '\\x%02x\\x%02x\\x%02x\\x%02x' $(($1 & 255)) $(($1 >> 8 & 255)) $(($1 >> 16 & 255)) $(($1 >> 24 & 255)))"; }
put() { dd of="$dir/pools/c" bs=1 seek="$1" conv=notrunc status=none; } # offset; bytes on standard input
pool_c() { strake pool list -o json | jq -r '.[] | select(.name == "pool-c") | .state + ": " + .reason'; }
size=$(stat -c %s "$dir/pools/c")
kill_9 c
cp --sparse=always "$dir/pools/c" "$dir/pools/c.good"
for at in 0 $((size - 4096)); do
	# Version 99, with the checksum that belongs to it.
	le32 99 | put $((at + 8))
	le32 0 | put $((at + 12))
	crc=$(dd if="$dir/pools/c" bs=4096 skip=$((at / 4096)) count=1 status=none | crc32c)
	le32 "$crc" | put $((at + 12))
done
sha256sum <"$dir/pools/c" >"$dir/newer.before"
start_agent c
pool_c | grep -q 'Faulted: .*version 99.*newer' || die "a newer format is not reported: $(pool_c)"
kill_9 c
sha256sum <"$dir/pools/c" | cmp -s - "$dir/newer.before" || die "a pool of a newer format was written to"

cp --sparse=always "$dir/pools/c.good" "$dir/pools/c"
for at in 0 $((size - 4096)); do echo damage | put $((at + 100)); done
start_agent c
pool_c | grep -q 'Faulted: .*superblock.*checksum' || die "damaged superblocks are not reported: $(pool_c)"
kill_9 c
cp --sparse=always "$dir/pools/c.good" "$dir/pools/c"
echo damage | put 100
start_agent c
pool_c | grep -q '^Online' || die "one damaged superblock of two: $(pool_c)"
rm "$dir/pools/c.good"

note "volumes"
refused 'size' strake volume create v --size 0 --replicas 3
refused 'no room|space|larger|larger than|too large|size' strake volume create v --size 100T --replicas 3
refused 'replicas|agents|pools' strake volume create v --size 64M --replicas 7
refused 'no volume|not found|unknown' strake volume open nothing
refused 'usage|unknown' strake volume frobnicate
strake pool list -o json | jq -e 'all(.replicas == 0 or .replicas == null)' >/dev/null || die "a refused creation left replicas"

note "strangers on the data port"
for bytes in '' 'GET / HTTP/1.0\r\n\r\n' '\x00\x00\x80\x00\xff\xff\xff\xff' '\x04\x00\x48\x00\x48\x00\x00\x00'; do
	printf "$bytes" | timeout 2 bash -c 'exec 3<>/dev/tcp/127.0.0.1/4530; cat >&3; timeout 1 cat <&3 >/dev/null'
done
"$bin/tests/bench/nvme-perf" --address 127.0.0.1 --port 4530 --nqn nqn.2025-01.io.strake:wrong --hostnqn nqn.x:y --seconds 1 --rw read >"$dir/out" 2>&1 && die "a wrong NQN was taken"
head -c 4096 /dev/urandom | timeout 2 bash -c "exec 3<>/dev/tcp/127.0.0.1/4530; cat >&3" 2>/dev/null
for name in a b c; do kill -0 "${pids[$name]}" || die "$name died"; done
volume 64M
equal
note done
