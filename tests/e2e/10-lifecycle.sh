#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What a user does from pool to deletion: a file system with a real tree, all replicas equal, one flipped byte seen, all space back.
. "$(dirname "$0")/lib.sh" lifecycle
# As in Kubernetes: the address from the environment, or by a network.
export STRAKE_TEST_HOST=::1 STRAKE_TEST_PORT_A=${STRAKE_TEST_PORT:-4530}
address[a]='"[${STRAKE_TEST_HOST}]:${STRAKE_TEST_PORT_A}"'
address[b]=127.0.0.0/8:$((STRAKE_TEST_PORT_A + 1))
cluster 1G
strake daemon list -o json | jq -r '.[] | select(.kind == "pool-agent").address' | paste -sd' ' |
	grep -qx "\[::1\]:$base_port 127.0.0.1:$((base_port + 1)) 127.0.0.1:$((base_port + 2))" || die "addresses: $(strake daemon list)"
note "pools, volume, device"
volume 256M
state_is Online || die "not Online: $(state)"
mkfs.ext4 -q "$device" && mkdir "$dir/mnt" && mount "$device" "$dir/mnt" || die "file system"
cp -a /usr/include "$dir/mnt/" || die "copy"
(cd /usr/include && find . -type f -print0 | sort -z | xargs -0 sha256sum) >"$dir/sums"
sync
umount "$dir/mnt" && mount "$device" "$dir/mnt" || die "mount again"
(cd "$dir/mnt/include" && sha256sum --quiet -c "$dir/sums") || die "the tree differs"
if strake volume unpublish v 2>"$dir/refused"; then die "unpublished while it is mounted"; fi
grep -q mnt "$dir/refused" || die "the refusal does not name the mount: $(cat "$dir/refused")"
umount "$dir/mnt"
fsck.ext4 -nf "$device" >/dev/null || die "fsck"
equal
note "the tables and their JSON"
strake pool list | grep -q pool-b || die "pool list"
strake replica list | grep -q v || die "replica list"
strake pool list -o json | jq -e 'length == 3' >/dev/null || die "pool list -o json"
strake volume list -o json | jq -e '.[0].replicas | length == 3' >/dev/null || die "volume list -o json"

note "a byte flipped in a pool file is seen"
strake volume unpublish v || die "unpublish"
strake volume publish v || die "publish"
device=$(strake volume status v -o json | jq -r .device)
head -c 1M /dev/urandom >"$dir/known"
dd if="$dir/known" of="$device" bs=1M seek=100 oflag=direct status=none || die "dd"
equal
# Not with grep: random bytes have ends of lines in them, and a pool file's holes are lines of any length.
at=$(python3 -c 'import mmap, sys
known = open(sys.argv[1], "rb").read(64)
pool = open(sys.argv[2], "rb")
print(mmap.mmap(pool.fileno(), 0, access=mmap.ACCESS_READ).find(known))' "$dir/known" "$dir/pools/b")
[ "$at" -ge 0 ] || die "the block is not found in the pool file"
python3 -c 'import sys
with open(sys.argv[1], "r+b") as pool:
	pool.seek(int(sys.argv[2]))
	byte = pool.read(1)[0] ^ 0xff
	pool.seek(int(sys.argv[2]))
	pool.write(bytes([byte]))' "$dir/pools/b" $((at + 5)) || die "the byte is not flipped"
sync "$dir/pools/b"
if out=$(strake volume compare v 2>&1); then die "the flipped byte was not seen: $out"; fi
echo "$out"
echo "$out" | grep -q $((100 * 1024 * 1024 + 5)) || die "not the first differing offset"

note "a volume is deleted while the nexus uses others on the same pool-agents"
strake volume create w --size 64M && strake volume open w --wait && strake volume close w && strake volume delete w || die "second volume"
[ "$(strake replica list --volume w -o json | jq length)" = 0 ] || die "replicas of w are left: $(strake replica list)"

note "deletion gives all space back"
if strake volume delete v 2>/dev/null; then die "deleted while published"; fi
strake volume unpublish v && strake volume close v && strake volume delete v || die "delete"
wait_for 20 "the space" sh -c "'$bin/cli/strake' --run-dir '$run' pool list -o json | jq -e 'all(.used_bytes == 0 or .used_bytes == null)'"
losetup -a | grep "$dir" && die "a loop device is left"
note done
