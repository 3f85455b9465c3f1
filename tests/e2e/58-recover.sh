#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Both replicas in sync are lost for good, and a stale one is there: nothing is opened without an operator's decision, which is refused
# while there is nothing to recover; then the stale one is the volume and gets its copies again, and what comes back is kept aside.
# Then the nexus's record of the volume is lost, and made anew from the replicas.
. "$(dirname "$0")/lib.sh" recover

replicas() { strake volume status v -o json | jq -r ".replicas[] | $1"; }
agent_uuid() { strake daemon list -o json | jq -r --arg name "$1" '.[] | select(.name == $name and .kind == "pool-agent") | .uuid'; }
replica_on() { strake replica list -o json | jq -r --arg agent "$(agent_uuid "$1")" '.[] | select(.volume_name == "v" and .agent == $agent) | .uuid'; }
refused() { # what the text must hold, command...
	local text=$1
	shift
	"$@" >"$dir/refused" 2>&1 && die "was not refused: $*"
	grep -q -- "$text" "$dir/refused" || die "refused with another text ($text): $(cat "$dir/refused")"
}
put() { dd if="$1" of="$device" bs=1M oflag=direct conv=notrunc,fsync status=none || die "dd"; }
same() { dd if="$device" bs=1M iflag=direct status=none | cmp - "$1"; }
open_and_publish() { # further arguments of open
	strake volume open v --wait "$@" || die "volume open"
	strake volume publish v || die "volume publish"
	device=$(strake volume status v -o json | jq -r .device)
}

cluster 512M
volume 64M --min-insync 1
for content in old new newest; do dd if=/dev/urandom of="$dir/$content" bs=1M count=64 status=none; done
put "$dir/old"

note "a is away while all is written anew; then b and c are lost"
kill_9 a
wait_for 10 Degraded state_is Degraded
put "$dir/new"
refused 'is Degraded' strake volume recover v "$(replica_on b)"
b=$(replica_on b)
strake volume unpublish v && strake volume close v || die "close"
refused 'nothing to recover' strake volume recover v "$b" --accept-data-loss
kill_9 b
kill_9 c
start_agent a
a=$(replica_on a)
strake volume open v || die "open"
needs() { strake volume status v -o json | jq -r .reason | grep -q needs; }
wait_for 20 "the status to say what it needs" needs
sleep 3
[ "$(state)" = Opening ] || die "the stale one was opened: $(state)"
refused 'unpublish v --force' strake volume recover v "$a" --accept-data-loss
# The kernel flushes what it binds a loop device to: publishing waits for the volume, and must not keep it.
strake volume publish v >"$dir/publish" 2>&1 &
publish=$!
sleep 1
timeout 10 "$bin/cli/strake" --run-dir "$run" volume unpublish v || die "what is just being published is not taken back"
wait $publish && die "it was published: $(cat "$dir/publish")"
strake volume close v || die "close"

note "an operator decides"
refused '--accept-data-loss' strake volume recover v "${a:0:8}"
grep -q 'in sync): not found' "$dir/refused" || die "it does not say who is missing: $(cat "$dir/refused")"
grep -q 'WHAT WAS WRITTEN WITHOUT IT IS LOST' "$dir/refused" || die "it does not say what is lost: $(cat "$dir/refused")"
[ "$(strake volume status v -o json | jq -r .state)" = Closed ] || die "it has changed something"
refused 'no replica "ffff"' strake volume recover v ffff --accept-data-loss
record=$(find "$dir/state" -name v.json)
cp "$record" "$dir/record.before"
strake volume recover v "${a:0:8}" --accept-data-loss || die "recover"
lineage=$(jq -r .lineage "$record")

note "as if it had been broken off before the nexus recorded it: given again, it goes on"
cp "$dir/record.before" "$record"
before=$(nexus_pid)
kill -KILL "$before"
is_back() { [ -n "$(nexus_pid)" ] && [ "$(nexus_pid)" != "$before" ] && [ "$(state)" = Closed ]; }
wait_for 30 "the nexus's successor" is_back
strake volume recover v "$a" --accept-data-loss || die "recover again"
[ "$(jq -r .lineage "$record")" = "$lineage" ] || die "it was recovered a second time"
refused 'nothing to recover' strake volume recover v "$a" --accept-data-loss
open_and_publish
same "$dir/old" || die "it does not hold what replica a held"
put "$dir/newest"

note "the old ones come back, and are kept aside"
start_agent b
start_agent c
c=$(replica_on c)
behind=$(strake replica list -o json | jq -r '.[] | select(.volume_name == "v") | .configuration.lineage' | sort | uniq -c | sort -n | awk 'END { print $1, NR }')
[ "$behind" = "2 2" ] || die "not two replicas of another lineage: $behind"
strake volume scan >"$dir/scan" || die "scan"
cat "$dir/scan"
awk '$1 == "v" && $4 == 1 && $5 == 2 { ok = 1 } END { exit !ok }' "$dir/scan" || die "scan: not one replica, and two left behind"
strake replica list | grep -c LeftBehind | grep -qx 2 || die "the list does not show two that are left behind: $(strake replica list)"
sleep 2
same "$dir/newest" || die "they have changed what it holds"
[ "$(replicas .uuid | wc -l)" = 1 ] || die "they are replicas of it again"
address_of() { strake replica list -o json | jq -r --arg uuid "$1" '.[] | select(.uuid == $uuid) | "replica=\(.uuid),agent=\(.agent),address=\(.address),nsid=\(.nsid)"'; }
refused 'another lineage' strake volume add-replica v --voter "$(address_of "$b")" --wait --timeout 6
strake volume remove-replica v "$b" --keep-replicas || die "take it back"

note "what is on them can be saved"
refused 'read-only' strake replica export "$b"
nqn=$(strake replica export "$b" --read-only) || die "export: $nqn"
[[ $nqn == "nqn.2025-01.io.strake:volume:v at "* ]] || die "export: $nqn"
refused 'it is exported' strake replica delete "$b"
strake replica unexport "$b" || die "unexport"

note "its copies are made again, beside them"
strake volume add-replica v --pool pool-b --wait --timeout 60 || die "add-replica b"
strake volume add-replica v --pool pool-c --wait --timeout 60 || die "add-replica c"
wait_for 30 Online state_is Online
equal
same "$dir/newest" || die "the data differ"
for uuid in "$b" "$c"; do
	strake replica list -o json | jq -e --arg uuid "$uuid" '.[] | select(.uuid == $uuid)' >/dev/null || die "the old replica $uuid is gone"
	strake replica delete "$uuid" || die "delete $uuid"
done

note "the nexus restarts, and knows the lineage"
kill -KILL "$(nexus_pid)"
wait_for 60 Online state_is Online
same "$dir/newest" || die "the data differ"

note "the record of the volume is lost"
strake volume unpublish v && strake volume close v || die "close"
refused 'no replica of a volume' strake volume import v --uuid 00000000-0000-0000-0000-000000000001
strake volume delete v --keep-replicas || die "forget it"
strake volume scan | awk '$1 == "v" && $3 == "-" && $4 == 3 && /can be opened/ { ok = 1 } END { exit !ok }' || die "scan: $(strake volume scan)"
strake volume import v >"$dir/import" || die "import"
cat "$dir/import"
attach=$(sed -n 's/.*--attach \([0-9]*\) .*/\1/p' "$dir/import")
open_and_publish --attach "$attach"
wait_for 30 Online state_is Online
same "$dir/newest" || die "the data differ"
equal
note done
