# SPDX-License-Identifier: Apache-2.0
# Sourced by tests/faults/run: what the host does meanwhile, and what is known of it.  On each volume a blkcheck that keeps a record of every write; on one
# of them rounds of fio with verification.

load_bytes=$((16 * MiB))   # blkcheck's part of each volume, from 0
fio_offset=$((16 * MiB)) fio_bytes=$((8 * MiB))
scratch_MiB=32             # from there on it is for faults that need room
declare -A p=()            # [volume.writes] and so on, by progress
declare -A device_of=()
lost=0

load_begin() { # volume ["--resume"]
	local volume=$1
	"$blkcheck" load "${device_of[$volume]}" --seconds 1000000 --threads 4 --size $load_bytes --seed "$RANDOM" --keep "$dir/keep-$volume" --sync \
		--progress "$dir/progress-$volume" --stop "$dir/load.stop" ${2:+"$2"} >"$dir/load-$volume.json" 2>>"$dir/load-$volume.log" 3>&- &
	pids[load-$volume]=$!
}

# fio has no state of its own that would outlive it: who kills it begins a new round.
fio_rounds() {
	local round
	round=$(cat "$dir/fio.rounds" 2>/dev/null || echo 0)
	while [ ! -e "$dir/load.stop" ]; do
		fio --name=verify --filename="${device_of[w]}" --offset=$fio_offset --size=$fio_bytes --rw=randwrite --bs=4k --iodepth=4 --ioengine=libaio \
			--direct=1 --rate_iops=600 --randseed=$RANDOM --verify=crc32c --do_verify=1 --verify_fatal=1 --aux-path="$dir" --output="$dir/fio.out" &
		wait $! || { cat "$dir/fio.out" >>"$dir/fio.log"; return 1; }
		round=$((round + 1))
		echo $round >"$dir/fio.rounds"
	done
}
fio_begin() {
	fio_rounds >>"$dir/fio.log" 2>&1 3>&- &
	pids[fio]=$!
}

loads_begin() { # ["--resume"]
	local volume
	for volume in "${volumes[@]}"; do
		device_of[$volume]=$(strake_on nexus volume status "$volume" -o json | jq -r .device)
		[ -b "${device_of[$volume]}" ] || die "volume $volume has no block device"
		load_begin "$volume" "${1:-}"
	done
	fio_begin
}
host_pids() {
	local volume
	for volume in "${volumes[@]}"; do echo "${pids[load-$volume]}"; done
	echo "${pids[fio]}"
	pgrep -P "${pids[fio]}" -x fio
}

progress() { # volume: what its blkcheck has done
	local volume=$1 writes reads errors wrong oldest
	[ -s "$dir/progress-$volume" ] && read -r writes reads errors wrong oldest <"$dir/progress-$volume" || return 1
	p[$volume.writes]=$writes p[$volume.reads]=$reads p[$volume.errors]=$errors p[$volume.wrong]=$wrong p[$volume.oldest_ms]=$oldest
}

loads_run() {
	local volume
	for volume in "${volumes[@]}"; do progress "$volume" || return 1; done
}

# The host has seen neither an error nor a wrong byte.
loads_check() {
	local volume
	for volume in "${volumes[@]}"; do
		[ -n "${pids[load-$volume]:-}" ] && progress "$volume" || continue
		[ "${p[$volume.errors]}" = 0 ] || { errors=$((errors + p[$volume.errors])); die "I/O error on $volume: $(tail -n 3 "$dir/load-$volume.log")"; }
		[ "${p[$volume.wrong]}" = 0 ] || { lost=$((lost + p[$volume.wrong])); die "wrong data on $volume: $(tail -n 3 "$dir/load-$volume.log")"; }
		kill -0 "${pids[load-$volume]}" 2>/dev/null || die "the load on $volume ended: $(tail -n 3 "$dir/load-$volume.log")"
	done
	[ -z "${pids[fio]:-}" ] || kill -0 "${pids[fio]}" 2>/dev/null || { errors=$((errors + 1)); die "fio failed: $(grep -v '^$' "$dir/fio.log" | tail -n 10)"; }
}

# More writes were acknowledged than when `mark_writes` was called.
declare -A marked=()
mark_writes() {
	local volume
	for volume in "${volumes[@]}"; do
		progress "$volume"
		marked[$volume]=${p[$volume.writes]}
	done
}
have_written() { # volume...
	local volume
	for volume in "$@"; do
		progress "$volume" && [ "${p[$volume.writes]}" -gt "${marked[$volume]}" ] || return 1
	done
}
writes_go_on() { # volume...
	mark_writes
	until_true 40 "writes go on on $*" have_written "$@"
}
