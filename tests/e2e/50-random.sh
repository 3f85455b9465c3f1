#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# 10,000 random operations compared with a plain file; fio's verification at depth.
. "$(dirname "$0")/lib.sh" random
cluster 512M
volume 64M
for seed in 1 2; do
	"$blkcheck" random "$device" --file "$dir/plain" --ops 5000 --seed $seed || die "seed $seed"
done
fio --name=verify --filename="$device" --rw=randwrite --bs=4k --iodepth=32 --ioengine=io_uring --direct=1 --size=48m \
	--verify=crc32c --do_verify=1 --verify_fatal=1 --aux-path="$dir" >"$dir/fio.log" 2>&1 || die "fio: $(tail -5 "$dir/fio.log")"
equal
note done
