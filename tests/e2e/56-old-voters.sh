#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A second nexus knows the voters of before only, and one of them was replaced since: those that it reaches lead it to those of today, it
# says whose place it lacks, and goes on when it is told; the one that was replaced is none of them, however it is reached.
. "$(dirname "$0")/lib.sh" old-voters
cluster 512M
address[d]=127.0.0.1:$((base_port + 3))
agent_config d 0 "${address[d]}"
start_agent d
strake pool create pool-d --agent d --disk "file://$dir/pools/d" --size 512M >/dev/null || die "pool create"
volume 64M --agent a --agent b --agent c --min-insync 1
agent_uuid() { strake daemon list -o json | jq -r --arg name "$1" '.[] | select(.name == $name and .kind == "pool-agent") | .uuid'; }
status_of() { strake volume status v --nexus "$1" -o json | jq -r "$2"; }
replica_on() { status_of nexus ".replicas[] | select(.agent == \"$(agent_uuid "$1")\") | .uuid"; }

# As a controller would have told the second nexus, before anything changed.
sed "s/^name: nexus/name: nexus2/; s/:$((base_port + 9))/:$((base_port + 8))/" "$dir/nexus.yaml" >"$dir/nexus2.yaml"
record=$(find "$dir/state" -name v.json)
mkdir -p "$(dirname "${record/nexus/nexus2}")" "$dir/run2"
jq '.opened = false | .frontend = "" | .boot_id = "" | .inc = 0' "$record" >"${record/nexus/nexus2}" || die "the record of the volume"

note "c is replaced by d, and more is written"
c=$(replica_on c)
strake volume add-replica v --pool pool-d --wait || die "add-replica"
strake volume remove-replica v "$c" --keep-replicas || die "remove-replica"
strake replica list -o json | jq -e --arg uuid "$c" '.[] | select(.uuid == $uuid and .state == "Removed")' >/dev/null ||
	die "the replaced replica does not know that it was removed"
jq -e --arg uuid "$c" '.used and ([.voters[].replica] | index($uuid) | not) and (.voters | length == 3)' "$record" >/dev/null ||
	die "the state file does not follow: $(cat "$record")"
d=$(replica_on d)
place="replica=$d,agent=$(agent_uuid d),address=${address[d]},nsid=$(status_of nexus ".replicas[] | select(.uuid == \"$d\") | .nsid")"
dd if=/dev/urandom of="$dir/known" bs=1M count=64 status=none
dd if="$dir/known" of="$device" bs=1M oflag=direct conv=notrunc,fsync status=none || die "dd"
strake volume unpublish v && strake volume close v || die "close"
kill_9 a
kill_9 b

note "only the one that was replaced, and d, of whom it does not know"
start nexus2 "$bin/launcher/strake-launcher" --run-dir "$dir/run2" -- "$bin/nexus/nexus"
strake volume open v --nexus nexus2 --attach 2 || die "open --attach 2"
lacks() { status_of nexus2 .reason | grep -q "needs voter.*$d.*: place unknown"; }
wait_for 20 "the status to name d's replica" lacks
start_agent a
sleep 3
lacks && [ "$(status_of nexus2 .state)" = Opening ] || die "with a: $(status_of nexus2 .state), $(status_of nexus2 .reason)"

note "told where it is"
strake volume add-replica v --nexus nexus2 --voter "$place" --timeout 30 || die "add-replica --voter"
wait_for 20 "serving" eval '[ "$(status_of nexus2 .state)" = Degraded ]'
[ "$(status_of nexus2 '[.replicas[] | select(.membership == "Voter")] | length')" = 3 ] || die "not three voters"
[ -z "$(status_of nexus2 ".replicas[] | select(.uuid == \"$c\") | .uuid")" ] || die "the one that was replaced is listed"
strake volume publish v --nexus nexus2 || die "publish"
dd if="$(status_of nexus2 .device)" bs=1M iflag=direct status=none | cmp - "$dir/known" || die "the data differ"
start_agent b
wait_for 60 Online eval '[ "$(status_of nexus2 .state)" = Online ]'
strake volume compare v --nexus nexus2 || die "the replicas differ"
note done
