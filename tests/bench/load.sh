# SPDX-License-Identifier: Apache-2.0
# Sourced by the benches of replication, after tests/e2e/lib.sh: a constant load of fio on $device, and what its log tells.

engine=io_uring
[ "${STRAKE_IO:-}" != epoll ] || engine=libaio

header() { # more words
	local load
	read -r load _ </proc/loadavg
	echo "$(date +%F), Linux $(uname -r), $(nproc) x $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -1), load average $load; $*"
}
load_average() { cut -d' ' -f1 /proc/loadavg; }

# Random 4 KiB writes, one line a write in its log: time of the answer in ms since 1970, nanoseconds, -, -, offset.
constant_load() { # seconds IOPS depth, further arguments
	local seconds=$1 iops=$2 depth=$3
	shift 3
	rm -f "$dir"/fio_*.log
	fio --name=bench --filename="$device" --ioengine="$engine" --direct=1 --rw=randwrite --bs=4k --iodepth="$depth" --rate_iops="$iops" \
		--runtime="$seconds" --time_based --norandommap --random_generator=tausworthe64 --randrepeat=0 --write_lat_log="$dir/fio" --log_unix_epoch=1 \
		--log_offset=1 --output-format=json --output="$dir/fio.json" "$@" >"$dir/fio.out" 2>&1 3>&-
}
load_errors() { jq -r '.jobs[0].error' "$dir/fio.json"; }
now_ms() { awk -v t="$EPOCHREALTIME" 'BEGIN {printf "%.0f", t * 1000}'; }

# The longest time without an answer in ms, before the moment and after it.
gaps() { # ms since 1970
	awk -F', *' -v at="$1" 'NR > 1 {gap = $1 - last; if ($1 < at) {before = gap > before ? gap : before} else {after = gap > after ? gap : after}}
		{last = $1} END {print before + 0, after + 0}' "$dir/fio_lat.1.log"
}

# A network of its own for pool-agent c, behind a bridge, so that it can be cut off without anybody's being told.
network_gone() {
	ip netns del strake-bench-c 2>/dev/null
	ip netns del strake-bench-net 2>/dev/null
	ip link del strake-bench 2>/dev/null
}
network_of_c() {
	network_gone
	{
		ip netns add strake-bench-net && ip netns add strake-bench-c &&
			ip -n strake-bench-net link add br0 type bridge && ip -n strake-bench-net link set br0 up &&
			ip link add strake-bench type veth peer name host netns strake-bench-net &&
			ip -n strake-bench-net link add c type veth peer name eth0 netns strake-bench-c &&
			ip -n strake-bench-net link set host master br0 up && ip -n strake-bench-net link set c master br0 up &&
			ip addr add 10.76.0.1/24 dev strake-bench && ip link set strake-bench up &&
			ip -n strake-bench-c addr add 10.76.0.2/24 dev eth0 && ip -n strake-bench-c link set eth0 up && ip -n strake-bench-c link set lo up
	} || die "network namespaces"
	address[c]=10.76.0.2:$base_port
	prefix[c]="ip netns exec strake-bench-c"
}
cut_off_c() { ip -n strake-bench-net link set c nomaster; }
join_c() { ip -n strake-bench-net link set c master br0; }
# Instead of the cluster's own.
stopped=()
clean_up_all() {
	[ ${#stopped[@]} = 0 ] || kill -CONT "${stopped[@]}" 2>/dev/null
	cleanup
	network_gone
}
