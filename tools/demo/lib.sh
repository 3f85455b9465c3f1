# SPDX-License-Identifier: Apache-2.0
# Sourced by tools/quickstart and its parts beside this file: one clock for all of them, and how they say what they do.

# A comma in numbers would be none that programs read.
export LC_ALL=C
. "$(dirname "${BASH_SOURCE[0]}")/../cluster/lib.sh"
me=quickstart
begin=${STRAKE_QUICKSTART_BEGIN:-$begin}
export STRAKE_QUICKSTART_BEGIN=$begin
step_begin=$begin

seconds_since() { printf %.1f "$(((${EPOCHREALTIME/./} - $1) / 100000))e-1"; } # microseconds
step() { # text
	step_begin=${EPOCHREALTIME/./}
	echo
	say "$1"
}
tell() { printf '          %s\n' "$*"; }
tell_all() { sed -u 's/^/          /'; }
took() { tell "took $(seconds_since "$step_begin") s"; }

# What a condition says to stderr is seen: it may end the script with a reason.
wait_for() { # seconds what command...
	local end=$((SECONDS + $1)) what=$2
	shift 2
	while ! "$@" >/dev/null; do
		[ $SECONDS -lt $end ] || fail "waited in vain for: $what"
		sleep 0.1
	done
}
free_mib() { df --output=avail -B 1M "$1" | tail -n 1 | tr -d ' '; } # folder
