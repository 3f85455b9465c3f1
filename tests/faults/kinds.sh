# SPDX-License-Identifier: Apache-2.0
# Sourced by tests/faults/run: the faults.  fault_KIND NODE VALUE injects one, waits until the status shows it (saw), and takes it away again.

# The kinds with the nodes that they are for, as often as they are in a deck; and what they count as.
deck=(
	kills:agent-dies:a kills:agent-dies:b kills:agent-dies:c kills:agent-returns:a kills:agent-returns:b kills:agent-returns:c
	kills:nexus-dies:a kills:nexus-dies:a kills:nexus-dies:a kills:launcher-dies:a kills:launcher-dies:a kills:keeper-dies:a
	stops:agent-stops:a stops:agent-stops:b stops:agent-stops:c stops:agent-stops:b stops:agent-stops:c
	stops:nexus-stops:a stops:nexus-stops:a stops:launcher-stops:a
	partitions:cut-both:b partitions:cut-both:c partitions:cut-input:b partitions:cut-input:c partitions:cut-output:b partitions:cut-output:c
	partitions:cut-nexus:a
	relay:relay-cut:a relay:relay-cut:b relay:relay-cut:c relay:relay-cut:b relay:relay-cut:c relay:relay-delay:b relay:relay-delay:c
	relay:relay-stall-up:b relay:relay-stall-down:c relay:relay-uneven:b relay:relay-uneven:c relay:relay-late:a relay:relay-late:b relay:relay-late:c
	disk:disk-read-error:a disk:disk-write-error:a disk:disk-write-error:b disk:disk-slow:a disk:disk-slow:b disk:disk-stuck:a disk:disk-stuck:b
	disk:disk-full:a disk:disk-full:b disk:pool-full:c
	all:all-die:a all:all-die:a all:power-cut:a all:power-cut:a
	kills:agent-and-nexus-die:b kills:cut-and-nexus-dies:c kills:rebuild-and-nexus-dies:b kills:stuck-and-launcher-dies:b stops:late-and-nexus-stops:c
	kills:two-agents-die:a kills:two-agents-die:b partitions:two-cut:a
)

others() { # node: the two other nodes
	local node
	for node in "${nodes[@]}"; do [ "$node" = "$1" ] || echo "$node"; done
}

# ---- processes ----

fault_agent-dies() { # node
	kill_9 "$1"
	saw_out "$1" v w
	writes_go_on v w
	start_agent "$1"
}

fault_agent-returns() { # node: back before it is left out, or just after
	kill_9 "$1"
	start_agent "$1"
	saw_session "$1" v w
}

fault_agent-stops() { # node ms
	local began=$EPOCHREALTIME left
	kill -STOP "${pids[$1]}"
	stopped=("${pids[$1]}")
	if [ "$2" -lt 2000 ]; then
		saw_pause "$2"
	else
		saw_out "$1" v w
		writes_go_on v w
		left=$(($2 - $(ms_since "$began")))
		[ $left -le 0 ] || sleep_ms $left
	fi
	kill -CONT "${pids[$1]}"
	stopped=()
}

fault_nexus-dies() {
	kill -KILL "$(nexus_pid)"
	saw_epoch v w
}

fault_nexus-stops() { # - ms
	local pid
	pid=$(nexus_pid)
	kill -STOP "$pid"
	stopped=("$pid")
	sleep_ms "$2"
	strake_quick volume status v >/dev/null 2>&1 && die "a stopped nexus answers"
	mark_writes
	sleep_ms 200
	if have_written v; then die "a stopped nexus writes"; fi
	kill -CONT "$pid"
	stopped=()
	writes_go_on v w
	saw "the nexus did not answer for $2 ms and nothing was written"
}

launcher_dies() {
	local pid
	pid=$(nexus_pid)
	kill -KILL "${pids[nexus]}" "$pid" 2>/dev/null
	wait "${pids[nexus]}" 2>/dev/null
	unset "pids[nexus]"
}

fault_launcher-dies() { # and with it the nexus
	launcher_dies
	start_nexus nexus
	saw_epoch v w
	until_true 30 "the keeper has it again" keeper_holds
}

fault_launcher-stops() { # - ms: nobody starts a nexus that dies meanwhile
	local pid
	pid=$(nexus_pid)
	kill -STOP "${pids[nexus]}"
	stopped=("${pids[nexus]}")
	kill -KILL "$pid"
	sleep_ms "$2"
	strake_quick volume status v >/dev/null 2>&1 && die "there is a nexus although the launcher is stopped"
	kill -CONT "${pids[nexus]}"
	stopped=()
	saw_epoch v w
}

fault_keeper-dies() {
	kill_9 keeper
	writes_go_on v w
	start_keeper
	until_true 30 "the keeper has it again" keeper_holds
	saw "the new keeper was given the volumes"
}

# ---- network ----

cut_off() { # node input|output|both
	local hook
	in_node "$1" nft add table inet cut
	for hook in input output; do
		[ "$2" = both ] || [ "$2" = $hook ] || continue
		in_node "$1" nft add chain inet cut $hook "{ type filter hook $hook priority 0; }"
		if [ $hook = input ]; then
			in_node "$1" nft add rule inet cut input iifname eth0 drop
		else
			in_node "$1" nft add rule inet cut output oifname eth0 drop
		fi
	done
}
heal() { in_node "$1" nft delete table inet cut; } # node

cut_and_join() { # node way
	cut_off "$1" "$2"
	saw_out "$1" v w
	writes_go_on v w
	heal "$1"
}
fault_cut-both() { cut_and_join "$1" both; }
fault_cut-input() { cut_and_join "$1" input; }
fault_cut-output() { cut_and_join "$1" output; }

fault_cut-nexus() { # - ms: from both others; nothing can be acknowledged
	cut_off a both
	saw_state Stalled v w
	no_writes "$2"
	heal a
}

relay() { # command route arguments
	local command=$1 node=$2
	shift 2
	tell relay "$command $((number_of[$node] - 1)) $*"
}

fault_relay-cut() { # node bytes
	relay cut "$1" "$2"
	saw_session "$1" w
}
fault_relay-delay() { # node ms
	relay delay "$1" both "$2" "$2"
	saw_out "$1" w
	writes_go_on v w
	relay clear "$1"
}
relay_stall() { # node way
	relay stall "$1" "$2"
	saw_out "$1" w
	writes_go_on v w
	relay clear "$1"
}
fault_relay-stall-up() { relay_stall "$1" up; }
fault_relay-stall-down() { relay_stall "$1" down; }

overtook() { # count before
	tell relay look
	[ "$(answered relay overtaken)" -gt "$1" ]
}
# Each connection has delays of its own: commands of the admin queue overtake those of the I/O queue, and those of a new association those of an old one.
fault_relay-uneven() { # node ms
	local overtaken
	tell relay look
	overtaken=$(answered relay overtaken)
	relay delay "$1" both 0 "$2"
	saw_session_or_out "$1" w
	relay clear "$1"
	if soon overtook $overtaken; then saw "$(($(answered relay overtaken) - overtaken)) overtaken"; else seen=; fi
}

refuses() { [ "$(refused_by "$1" w)" -gt "$2" ]; } # node, count before
# What was sent on the association before arrives when the next one is in use, and is refused.
fault_relay-late() { # node ms
	local refused
	relay stall "$1" up old
	saw_session "$1" w
	writes_go_on w
	sleep_ms "$2"
	refused=$(refused_by "$1" w)
	relay clear "$1"
	# Perhaps nothing but a heartbeat was on its way.
	if soon refuses "$1" "$refused"; then saw "$(($(refused_by "$1" w) - refused)) late commands refused"; else seen=; fi
}

# ---- disks ----

# A pool whose metadata could not be written has failed for good: its pool-agent must be started again.
agent_is_well() { ! tail -c "+$((agent_log + 1))" "$dir/$1.log" | grep -q '"event":"pool-failed"'; }
disk() { # node command
	tell "disk-$1" "$2"
}
disk_heals() { # node
	disk "$1" clear
	if agent_is_well "$1"; then return; fi
	saw_more "pool failed"
	kill_9 "$1"
	start_agent "$1"
}
disk_mark() { agent_log=$(stat -c %s "$dir/$1.log"); } # node

fault_disk-read-error() { # node, the one that is read from
	disk_mark "$1"
	disk "$1" "fail read EIO 300"
	saw_errors "$1" v w
	writes_go_on v w
	disk_heals "$1"
}
fault_disk-write-error() { # node permille
	disk_mark "$1"
	disk "$1" "fail write,zero,flush EIO $2"
	saw_errors "$1" v
	writes_go_on v w
	disk_heals "$1"
}
fault_disk-slow() { # node ms
	disk_mark "$1"
	disk "$1" "delay read,write,flush $2"
	saw_out "$1" v w
	writes_go_on v w
	disk_heals "$1"
}
fault_disk-stuck() { # node
	disk_mark "$1"
	disk "$1" "hold read,write,zero,flush"
	saw_out "$1" v w
	writes_go_on v w
	disk_heals "$1"
}

scratch_clear() { blkdiscard -o $((scratch_MiB * MiB)) -l $((64 * MiB)) "${device_of[v]}" || die "discard"; }
scratch_fill() { # MiB
	dd if=/dev/urandom of="${device_of[v]}" bs=1M seek=$scratch_MiB count="$1" oflag=direct conv=notrunc status=none 2>>"$dir/dd.log" ||
		{ errors=$((errors + 1)); die "a write failed although two replicas have room"; }
}
fault_disk-full() { # node
	disk_mark "$1"
	scratch_clear
	disk "$1" full
	scratch_fill 8
	saw_out "$1" v
	writes_go_on v w
	disk_heals "$1"
	scratch_clear
}
fault_pool-full() { # c
	scratch_fill 64
	saw_out "$1" v
	saw_reason "$1" v "pool full"
	writes_go_on v w
	scratch_clear
}

# ---- everything ----

agents_die() {
	local node
	kill -KILL "${pids[a]}" "${pids[b]}" "${pids[c]}" "$@" 2>/dev/null
	for node in "${nodes[@]}"; do
		wait "${pids[$node]}" 2>/dev/null
		unset "pids[$node]"
	done
}
agents_up() {
	local node
	for node in "${nodes[@]}"; do start_agent "$node"; done
}

fault_all-die() { # every daemon but the keeper: the host waits
	agents_die "$(nexus_pid)" "${pids[nexus]}"
	wait "${pids[nexus]}" 2>/dev/null
	unset "pids[nexus]"
	agents_up
	start_nexus nexus
	saw_epoch v w
	until_true 30 "the keeper has it again" keeper_holds
}

# Every process with the host's, as far as processes can show it: page cache and disks survive.
fault_power-cut() { # - who comes first
	local name hosts
	mapfile -t hosts < <(host_pids)
	agents_die "$(nexus_pid)" "${pids[nexus]}" "${pids[keeper]}" "${hosts[@]}"
	for name in nexus keeper load-v load-w fio; do
		wait "${pids[$name]}" 2>/dev/null
		unset "pids[$name]"
	done
	if [ "$2" = 0 ]; then
		agents_up
		start_keeper
		start_nexus nexus
	else
		start_keeper
		start_nexus nexus
		agents_up
	fi
	saw_epoch v w
	until_true 30 "the volumes are published" keeper_holds
	loads_begin --resume
}

# ---- two at a time ----

fault_agent-and-nexus-die() { # node
	kill -KILL "${pids[$1]}" "$(nexus_pid)"
	kill_9 "$1"
	saw_epoch v w
	saw_out "$1" v w
	writes_go_on v w
	start_agent "$1"
}
fault_cut-and-nexus-dies() { # node
	cut_off "$1" both
	kill -KILL "$(nexus_pid)"
	saw_epoch v w
	saw_out "$1" v w
	writes_go_on v w
	heal "$1"
}
fault_rebuild-and-nexus-dies() { # node ms
	kill_9 "$1"
	saw_out "$1" v w
	start_agent "$1"
	sleep_ms "$2"
	kill -KILL "$(nexus_pid)"
	saw_epoch v w
}
fault_stuck-and-launcher-dies() { # node
	disk_mark "$1"
	disk "$1" "hold write"
	launcher_dies
	start_nexus nexus
	saw_epoch v w
	saw_out "$1" v w
	writes_go_on v w
	disk_heals "$1"
}
fault_late-and-nexus-stops() { # node ms
	local pid
	relay stall "$1" up old
	pid=$(nexus_pid)
	kill -STOP "$pid"
	stopped=("$pid")
	sleep_ms "$2"
	kill -CONT "$pid"
	stopped=()
	saw_session "$1" w
	relay clear "$1"
}

# ---- beyond the quorum: nothing is acknowledged, nothing fails, and it goes on ----

fault_two-agents-die() { # node that stays, which of the others is back first
	local gone
	mapfile -t gone < <(others "$1")
	kill -KILL "${pids[${gone[0]}]}" "${pids[${gone[1]}]}"
	kill_9 "${gone[0]}"
	kill_9 "${gone[1]}"
	saw_state Stalled v w
	no_writes 500
	start_agent "${gone[$2]}"
	until_true 60 "it goes on with two" some_state v Degraded Online
	writes_go_on v w
	[ -n "${pids[${gone[0]}]:-}" ] || start_agent "${gone[0]}"
	[ -n "${pids[${gone[1]}]:-}" ] || start_agent "${gone[1]}"
}
fault_two-cut() {
	cut_off b both
	cut_off c both
	saw_state Stalled v w
	no_writes 500
	heal b
	heal c
}

# What a fault draws: ms, bytes, permille.
value_of() { # kind
	case $1 in
	# Not in between, where it may be left out or not.
	agent-stops) echo $((draw % 2 ? 500 + draw % 1300 : 2600 + draw % 3400)) ;;
	*-stops) echo $((500 + draw % 5500)) ;;
	cut-nexus) echo $((200 + draw % 1500)) ;;
	relay-cut) echo $((1 + draw % 200000)) ;;
	relay-delay) echo $((2200 + draw % 1500)) ;;
	relay-uneven) echo $((1500 + draw % 1500)) ;;
	relay-late) echo $((draw % 1500)) ;;
	disk-write-error) echo $((100 + draw % 901)) ;;
	disk-slow) echo $((2300 + draw % 1500)) ;;
	two-agents-die | power-cut) echo $((draw % 2)) ;;
	rebuild-and-nexus-dies) echo $((draw % 1200)) ;;
	*) echo 0 ;;
	esac
}
