#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What the daemons cost with one open volume: memory after a load (asserted: 32 MiB each), CPU of 10 idle seconds (printed only).
# And all that the data path needs is there before the first request: it meets no page fault.
# Alone: it looks at what idle daemons cost.
. "$(dirname "$0")/lib.sh" idle
cluster 512M
volume 256M
awk '/strake-requests/ {found = 1} found && /^Size:/ {size = $2} found && /^Rss:/ {print size, $2; exit}' "/proc/$(nexus_pid)/smaps" >"$dir/table"
read -r size resident <"$dir/table" || die "the nexus has no table of requests"
[ "$size" -gt 4096 ] && [ "$resident" = "$size" ] || die "of the $size KiB for requests only $resident are resident"
# Its code and that of its libraries, whatever ran of it.
if [ "$(awk '/^VmLck/ {print $2}' "/proc/$(nexus_pid)/status")" -gt 0 ]; then
	awk '/^[0-9a-f]+-/ {code = $2 == "r-xp" && $6 ~ "^/"; file = $6} code && /^Size:/ {size = $2} code && /^Rss:/ {all++; if ($2 != size) print file, size, $2}
		END {if (all < 2) print "no code"}' "/proc/$(nexus_pid)/smaps" >"$dir/code"
	[ ! -s "$dir/code" ] || die "code that is not resident (file, KiB, of them resident): $(cat "$dir/code")"
fi
# The data thread's stack, of which it uses less until something fails.
awk '/^[0-9a-f]+-/ {anonymous = NF == 5} /^Size:/ {size = $2} /^Rss:/ && anonymous && size == 512 && $2 > 448 {found = 1} END {exit !found}' \
	"/proc/$(nexus_pid)/smaps" || die "the data thread's stack is not resident"
load_start 60
sleep 2
load_end
sleep 1
cpu_ms() { # of all threads, also of those that ended meanwhile
	awk -v hz="$(getconf CLK_TCK)" '{sub(/.*\) /, ""); print ($12 + $13) * 1000 / hz}' "/proc/$1/stat"
}
pids[nexus-itself]=$(nexus_pid)
names="a b c nexus nexus-itself"
declare -A before
for name in $names; do before[$name]=$(cpu_ms "${pids[$name]}"); done
sleep 10
too_much=
for name in $names; do
	used=$(($(cpu_ms "${pids[$name]}") - ${before[$name]}))
	rss=$(awk '/^VmRSS/ {print $2}' "/proc/${pids[$name]}/status")
	note "$(printf '%-16s %5.2f %% of a core, %5.1f MiB resident' "$(cat "/proc/${pids[$name]}/comm")" \
		"$(awk -v n=$used 'BEGIN {print n / 100}')" "$(awk -v k="$rss" 'BEGIN {print k / 1024}')")"
	[ "$rss" -le 32768 ] || too_much="$too_much $name"
done
unset "pids[nexus-itself]"
[ -z "$too_much" ] || die "more than 32 MiB:$too_much"
note done
