#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A volume with a key: only who has the master secret opens it, a restart needs nobody, and the key changes.
. "$(dirname "$0")/lib.sh" key
cluster 512M
(umask 077; openssl rand -hex 32 >"$dir/key"; openssl rand -hex 32 >"$dir/other-key"; openssl rand -hex 32 >"$dir/key-2")

note "what is no key file is refused"
cp "$dir/key" "$dir/open-key" && chmod 644 "$dir/open-key"
if strake volume create v --size 64M --key-file "$dir/open-key" 2>"$dir/out"; then die "a secret that others may read was taken"; fi
grep -q "chmod 600" "$dir/out" || die "no way out: $(cat "$dir/out")"
if strake volume create v --size 64M --key-file "$dir/nexus.yaml" 2>"$dir/out"; then die "a file without a secret was taken"; fi
grep -q "64 hexadecimal digits" "$dir/out" || die "no way out: $(cat "$dir/out")"

strake volume create v --size 64M --replicas 3 --key-file "$dir/key" >"$dir/out" || die "create"
grep -q -- "open v --wait --key-file $dir/key" "$dir/out" || die "what comes next is not said: $(cat "$dir/out")"
replicas=$(strake replica list --volume v -o json | jq -r '.[].uuid')
strake replica list --volume v -o json | jq -e 'all(.key_number == 1)' >/dev/null || die "not all have the key"
if strake replica list -o json | grep -q "$(cat "$dir/key")"; then die "the secret is shown"; fi

refused() { strake volume status v -o json | jq -e '[.replicas[] | select(.state == "Faulted" and (.reason | contains("not authorized")))] | length == 3' >/dev/null; }
note "not opened without the secret, nor with another one"
strake volume open v || die "open"
wait_for 10 "all replicas to refuse" refused
strake volume close v || die "close"
strake volume open v --key-file "$dir/other-key" || die "open"
wait_for 10 "all replicas to refuse" refused
strake volume close v || die "close"

note "opened with it; nexus and pool-agents restart without"
strake volume open v --key-file "$dir/key" --wait || die "open with the secret"
strake volume publish v >/dev/null || die "publish"
device=$(strake volume status v -o json | jq -r .device)
load_start 60
kill -KILL "$(nexus_pid)"
wait_for 20 "Online after a restart of the nexus" state_is Online
kill_9 a
wait_for 10 Degraded state_is Degraded
start_agent a
wait_for 30 "Online after a restart of an agent" state_is Online
[ "$(stat -c %a "$dir/state/nexus/volumes/v.json" 2>/dev/null || stat -c %a "$dir/state/volumes/v.json")" = 600 ] || die "others may read the capability"

note "a replica that takes another's place is made with the key"
strake volume remove-replica v "$(strake volume status v -o json | jq -r '.replicas[0].uuid')" || die "remove-replica"
if strake volume add-replica v --wait 2>"$dir/out"; then die "a replica without the key was added"; fi
grep -q "has a key: give --key-file" "$dir/out" || die "not why: $(cat "$dir/out")"
strake volume add-replica v --key-file "$dir/key" --wait || die "add-replica"
replicas=$(strake volume status v -o json | jq -r '.replicas[].uuid')
[ "$(strake replica list --volume v -o json | jq '[.[] | select(.key_number == 1)] | length')" = 3 ] || die "not all have the key"

note "the next key to each replica; the capability of the one before is good until the next attachment"
for replica in $replicas; do
	strake replica set-key "$replica" --key-file "$dir/key-2" --key-number 2 >/dev/null || die "set-key"
	strake replica set-key "$replica" --key-file "$dir/key-2" --key-number 2 >/dev/null || die "set-key again"
done
if strake replica set-key "$replica" --key-file "$dir/key" --key-number 1 2>"$dir/out"; then die "an older key came back"; fi
grep -q "has key 2 already" "$dir/out" || die "not why: $(cat "$dir/out")"
kill -KILL "$(nexus_pid)"
wait_for 20 "Online with the key before" state_is Online
load_end
equal
strake volume unpublish v && strake volume close v || die "close"
strake volume open v --attach 2 --key-file "$dir/key-2" --key-number 2 --wait || die "open with the next key"
strake volume close v || die "close"
for replica in $replicas; do strake replica set-key "$replica" --key-file "$dir/other-key" --key-number 3 >/dev/null || die "set-key"; done
strake volume open v --attach 3 --key-file "$dir/key" || die "open"
wait_for 10 "the first key to be refused" refused
strake volume close v && strake volume delete v || die "delete"
note done
