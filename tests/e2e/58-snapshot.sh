#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A snapshot of a volume in pools that have none (pool format 0): it is said what it needs and whose pool that is, before anything
# is stopped, and nothing is changed.
. "$(dirname "$0")/lib.sh" snapshot

field() { strake volume status v -o json | jq -r ".$1"; }
refused() { # what the text must hold, command...
	local text=$1
	shift
	"$@" >"$dir/refused" 2>&1 && die "was not refused: $*"
	grep -Eq "$text" "$dir/refused" || die "refused with another text ($text): $(cat "$dir/refused")"
}

cluster 1G
volume 64M
"$blkcheck" load "$device" --seconds 8 >"$dir/load.log" 2>&1 &
load=$!
sleep 1
generation=$(field generation)

note "needs pool format 1, and says whose pool; again and again, under load"
for _ in 1 2 3; do
	refused 'needs pool format 1: replica [0-9a-f-]{36} of pool [0-9a-f-]{36}' strake snapshot create v s1
done
replica=$(grep -Eo 'replica [0-9a-f-]{36}' "$dir/refused" | cut -d' ' -f2)
strake volume status v -o json | jq -e --arg id "$replica" '.replicas[] | select(.uuid == $id)' >/dev/null ||
	die "it names $replica, which is no replica of the volume"
[ "$(strake snapshot list v | wc -l)" -eq 1 ] || die "there are snapshots: $(strake snapshot list v)"
[ "$(field snapshots)" = 0 ] || die "the volume tells of $(field snapshots) snapshots"
[ "$(field generation)" = "$generation" ] || die "a refused snapshot changed the configuration"

note "what else is refused"
refused '1 to 63 characters' strake snapshot create v "$(printf 'x%.0s' {1..64})"
refused 'nobody|no volume|none' strake snapshot create nobody s1

wait "$load" || die "the load failed: $(tail -n 3 "$dir/load.log")"
equal
strake volume unpublish v >/dev/null || die "unpublish"
strake volume close v >/dev/null || die "close"
refused 'not open' strake snapshot create v s1
note "passed"
