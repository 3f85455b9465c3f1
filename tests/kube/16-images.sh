#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The images of tools/images: every program in them runs without anything else, file systems are made with what is there, and
# a second build gives the same bytes.
. "$(dirname "$0")/lib.sh" images
tests/clean --only "$dir" >/dev/null 2>&1
mkdir -p "$dir"
trap cleanup EXIT
trap 'exit 143' TERM INT HUP

note "built twice"
for round in first second; do
	tools/images build --no-deps --no-sidecars --tag test --save "$dir/$round" >"$dir/$round.log" 2>&1 || die "$round: $(cat "$dir/$round.log")"
done
for image in strake-data strake-csi; do
	cmp "$dir/first/$image.tar" "$dir/second/$image.tar" || die "$image is not the same"
	size=$(stat -c %s "$dir/first/$image.tar")
	[ "$size" -lt $((32 << 20)) ] || die "$image has grown to $((size >> 20)) MiB: has a library come along?"
done
tools/images unpack "$dir/root" || die "unpack"
if tools/images build --tag 'a b' >"$dir/out" 2>&1; then die "a tag with a blank"; fi
grep -q 'letters, digits' "$dir/out" || die "$(cat "$dir/out")"

note "programs"
runs() { # image program arguments: it starts, whatever it says
	chroot "$dir/root/$1" "${@:2}" >"$dir/out" 2>&1
	local result=$?
	[ $result -lt 126 ] || die "$*: status $result: $(cat "$dir/out")"
}
for program in nexus pool-agent strake-launcher strake; do
	runs strake-data $program --help
	grep -qi usage "$dir/out" || die "$program: $(cat "$dir/out")"
done
runs strake-csi csi-controller --help
runs strake-csi strake-uninstall-check
grep -q 'this is no pod' "$dir/out" || die "$(cat "$dir/out")"
for program in blkid dumpe2fs tune2fs; do runs strake-csi $program -V; done

note "file systems"
truncate -s 400M "$dir/root/strake-csi/tmp/ext4" "$dir/root/strake-csi/tmp/xfs"
in_csi() { chroot "$dir/root/strake-csi" "$@" >"$dir/out" 2>&1 || die "$*: $(cat "$dir/out")"; }
# A pod has these.
: >"$dir/root/strake-csi/dev/null"
mkdir -p "$dir/root/strake-csi/proc/self"
: >"$dir/root/strake-csi/proc/self/mounts"
in_csi mkfs.ext4 /tmp/ext4
in_csi fsck.ext4 -fn /tmp/ext4
in_csi resize2fs /tmp/ext4 300M
in_csi mkfs.xfs /tmp/xfs
in_csi xfs_repair -n /tmp/xfs
in_csi blkid -o value -s TYPE /tmp/xfs
grep -qx xfs "$dir/out" || die "blkid: $(cat "$dir/out")"
# The defaults of mke2fs.conf are there.
in_csi dumpe2fs -h /tmp/ext4
grep -q metadata_csum "$dir/out" || die "ext4 without checksums: $(cat "$dir/out")"
