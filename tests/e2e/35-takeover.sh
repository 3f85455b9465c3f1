#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A second nexus takes a volume over with a higher attach number while the first writes: the first is Superseded and its I/O fails, every write
# that was acknowledged is there, and nothing of the first lands afterwards.
. "$(dirname "$0")/lib.sh" takeover
cluster 512M
volume 64M
first=$device

# The second nexus gets the record of the volume as a controller would give it.
sed "s/^name: nexus/name: nexus2/; s/:$((base_port + 9))/:$((base_port + 8))/" "$dir/nexus.yaml" >"$dir/nexus2.yaml"
record=$(find "$dir/state" -name v.json)
second_record=${record/nexus/nexus2}
mkdir -p "$(dirname "$second_record")"
jq '.opened = false | .frontend = "" | .boot_id = "" | .inc = 0' "$record" >"$second_record" || die "the record of the volume"
mkdir "$dir/run2"
start nexus2 "$bin/launcher/strake-launcher" --run-dir "$dir/run2" -- "$bin/nexus/nexus"
status_of() { strake volume status v --nexus "$1" -o json | jq -r "$2"; }
[ "$(status_of nexus2 .state)" = Closed ] || die "the second nexus does not know the volume: $(status_of nexus2 .)"

note "data of the first"
dd if=/dev/urandom of="$dir/known" bs=1M count=32 status=none
dd if="$dir/known" of="$first" bs=1M seek=32 oflag=direct conv=notrunc,fsync status=none || die "dd"

note "the second takes over while the first writes"
"$blkcheck" load "$first" --seconds 60 --size $((32 << 20)) --keep "$dir/acked" >"$dir/load.json" 2>"$dir/load.log" &
load_pid=$!
sleep 1
strake volume open v --nexus nexus2 --attach 2 --wait || die "open --attach 2"
wait_for 20 "Superseded" eval '[ "$(status_of nexus .state)" = Superseded ]'
wait_for 20 "the end of the first's load" eval '! kill -0 $load_pid 2>/dev/null'
if wait $load_pid; then die "the first's I/O went on"; fi
load_pid=
note "the first: $(cat "$dir/load.json")"
grep -q 'Input/output error' "$dir/load.log" || die "the load ended otherwise: $(head -3 "$dir/load.log")"
if dd if="$first" of=/dev/null bs=4k count=1 iflag=direct status=none 2>/dev/null; then die "the first still reads"; fi
[ "$(status_of nexus2 .epoch)" = 2.1 ] || die "epoch $(status_of nexus2 .epoch)"

note "everything that was acknowledged is there"
strake volume publish v --nexus nexus2 || die "publish"
second=$(status_of nexus2 .device)
dd if="$second" bs=1M skip=32 iflag=direct status=none | cmp - "$dir/known" || die "the data differ"
"$blkcheck" kept "$second" --keep "$dir/acked" || die "acknowledged writes of the first are gone"
dd if=/dev/urandom of="$second" bs=1M count=32 oflag=direct conv=notrunc,fsync status=none || die "the second does not write"
sha256sum <"$second" >"$dir/sum"
strake volume compare v --nexus nexus2 || die "the replicas differ"

note "the first stays out after a restart"
kill -KILL "$(nexus_pid nexus)"
wait_for 20 "the first nexus again" eval '[ "$(status_of nexus .state)" = Superseded ]'
sleep 1
[ "$(status_of nexus .state)" = Superseded ] || die "the first is $(status_of nexus .state)"
[ "$(status_of nexus2 .state)" = Online ] || die "the second is $(status_of nexus2 .state)"
sha256sum <"$second" | cmp - "$dir/sum" || die "the data changed"
strake volume unpublish v --nexus nexus && strake volume close v --nexus nexus || die "the superseded volume cannot be closed"
strake volume compare v --nexus nexus2 || die "the replicas differ"

note "an older attach number is refused"
strake volume unpublish v --nexus nexus2 && strake volume close v --nexus nexus2 || die "close"
if strake volume open v --nexus nexus2 --attach 1 2>"$dir/refused"; then die "attach 1 after 2"; fi
grep -q 'older' "$dir/refused" || die "the refusal does not say why: $(cat "$dir/refused")"
note done
