#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The definitions of Pool, Volume, Replica and Snapshot: what is right is taken, what is wrong is refused with the way out.
. "$(dirname "$0")/lib.sh" objects
api_up
define_objects

uuid=11111111-1111-4111-8111-111111111111
json() { # kind name spec [rest]
	printf '{"apiVersion":"strake.io/v1alpha1","kind":"%s","metadata":{"name":"%s"},"spec":%s%s}' "$1" "$2" "$3" "${4:-}"
}
pool() { json Pool "$1" "$2"; }
volume() { json Volume "$1" "$2"; }
replica() { json Replica "$1" "$2"; }
snapshot() { json Snapshot "$1" "$2"; }

taken() { # object
	kubectl apply --dry-run=server -f - <<<"$1" >"$dir/out" 2>&1 || die "refused: $1: $(cat "$dir/out")"
}
refused() { # what it must say, object
	if kubectl apply --dry-run=server -f - <<<"$2" >"$dir/out" 2>&1; then die "taken: $2"; fi
	grep -qF -- "$1" "$dir/out" || die "of $2 it says '$(cat "$dir/out")', not '$1'"
}
make() { kubectl apply -f - <<<"$1" >"$dir/out" 2>&1 || die "$(cat "$dir/out")"; }
# Changes what is there.
change() { kubectl patch "$1" "$2" --type merge -p "$3" >"$dir/out" 2>&1; }
change_refused() { # what it must say, kind, name, patch
	if change "$2" "$3" "$4"; then die "changed: $2 $3 $4"; fi
	grep -qF -- "$1" "$dir/out" || die "of $4 it says '$(cat "$dir/out")', not '$1'"
}

note "Pools"
taken "$(pool a '{"node":"n1","disks":["/dev/disk/by-id/nvme-x.1_2"]}')"
taken "$(pool a '{"node":"n1","disks":["file:///var/lib/strake/a?size=10Gi"],"wipe":true,"unschedulable":true}')"
taken "$(pool a '{"node":"n1","disks":["file:///var/lib/strake/a"]}')"
refused 'spec.disks' "$(pool a '{"node":"n1"}')"
refused 'spec.node' "$(pool a '{"disks":["/dev/sdb"]}')"
refused 'file:///path?size=10Gi' "$(pool a '{"node":"n1","disks":["sdb"]}')"
refused 'file:///path?size=10Gi' "$(pool a '{"node":"n1","disks":["file://relative"]}')"
refused 'file:///path?size=10Gi' "$(pool a '{"node":"n1","disks":["file:///a?sise=1Gi"]}')"
refused 'spec.disks' "$(pool a '{"node":"n1","disks":[]}')"
refused 'spec.disks' "$(pool a '{"node":"n1","disks":["/dev/sdb","/dev/sdc"]}')"
make "$(pool a '{"node":"n1","disks":["/dev/sdb"]}')"
make "$(pool b '{"node":"n2","disks":["/dev/sdb"]}')"
change_refused 'make another Pool' pools.strake.io a '{"spec":{"node":"n2"}}'
change_refused 'make another Pool' pools.strake.io a '{"spec":{"disks":["/dev/sdc"]}}'
change pools.strake.io a '{"spec":{"unschedulable":true}}' || die "cordon: $(cat "$dir/out")"

note "Volumes"
taken "$(volume db '{"size":"10Gi"}')"
taken "$(volume db '{"size":1073741824}')"
taken "$(volume db "{\"size\":\"1536Mi\",\"uuid\":\"$uuid\",\"replicas\":5,\"minInsync\":2,\"frontend\":\"fuse\",
	\"placement\":{\"preferredNode\":\"n1\",\"poolSelector\":{\"disk\":\"nvme\"}},\"claim\":{\"namespace\":\"x\",\"name\":\"y\"}}")"
[ "$(kubectl apply --dry-run=server -o 'jsonpath={.spec.replicas}' -f - <<<"$(volume db '{"size":"1Gi"}')")" = 3 ] || die "replicas is not 3"
for size in '"0"' '"1Ki"' '"1500Ki"' '"65Ti"' '"-1Gi"' '"ten"' '"1.5Gi"' 1048577; do
	refused 'a multiple of 1Mi, from 1Mi to 64Ti' "$(volume db "{\"size\":$size}")"
done
refused 'spec.size' "$(volume db '{}')"
refused 'spec.replicas' "$(volume db '{"size":"1Gi","replicas":0}')"
refused 'spec.replicas' "$(volume db '{"size":"1Gi","replicas":6}')"
refused 'minInsync must not be above replicas' "$(volume db '{"size":"1Gi","replicas":2,"minInsync":3}')"
refused 'spec.frontend' "$(volume db '{"size":"1Gi","frontend":"scsi"}')"
refused 'spec.uuid' "$(volume db '{"size":"1Gi","uuid":"x"}')"
refused 'DNS label' "$(volume a.b '{"size":"1Gi"}')"
refused 'DNS label' "$(volume "$(printf 'x%.0s' {1..64})" '{"size":"1Gi"}')"
make "$(volume db "{\"size\":\"1Gi\"}")"
change volumes.strake.io db "{\"spec\":{\"uuid\":\"$uuid\"}}" || die "the uuid cannot be filled in: $(cat "$dir/out")"
change volumes.strake.io db '{"spec":{"size":"1024Mi"}}' || die "the same size, written otherwise: $(cat "$dir/out")"
change_refused 'does not shrink' volumes.strake.io db '{"spec":{"size":"512Mi"}}'
change volumes.strake.io db '{"spec":{"size":"2Gi"}}' || die "it cannot grow: $(cat "$dir/out")"
change volumes.strake.io db '{"spec":{"replicas":2}}' || die "the number of replicas cannot be changed: $(cat "$dir/out")"
change_refused 'uuid of a volume cannot be changed' volumes.strake.io db '{"spec":{"uuid":"22222222-2222-4222-8222-222222222222"}}'
change_refused 'uuid of a volume cannot be changed' volumes.strake.io db '{"spec":{"uuid":null}}'

note "Replicas"
spec() { printf '{"volume":"db","volumeUUID":"%s","uuid":"%s","pool":"%s","node":"%s","kind":"%s","size":"1Gi","slot":0}' $uuid $uuid "$1" "$2" "${3:-Data}"; }
taken "$(replica db-x "$(spec a n1)")"
refused 'spec.kind' "$(replica db-x "$(spec a n1 Witness)")"
refused 'spec.uuid' "$(replica db-x "{\"volume\":\"db\",\"volumeUUID\":\"$uuid\",\"pool\":\"a\",\"node\":\"n1\",\"kind\":\"Data\",\"size\":\"1Gi\"}")"
make "$(replica db-x "$(spec a n1)")"
make "$(replica db-y "$(spec b n2)")"
change_refused 'change its Volume' replicas.strake.io db-x '{"spec":{"node":"n2"}}'
change_refused 'change its Volume' replicas.strake.io db-x '{"spec":{"size":"2Gi"}}'

note "Snapshots"
taken "$(snapshot daily '{"volume":"db"}')"
taken "$(snapshot daily "{\"volume\":\"not-there-yet\",\"uuid\":\"$uuid\"}")"
refused 'spec.volume' "$(snapshot daily '{}')"
refused 'spec.volume' "$(snapshot daily '{"volume":""}')"
refused 'spec.volume' "$(snapshot daily '{"volume":"a.b"}')"
refused 'spec.volume' "$(snapshot daily "{\"volume\":\"$(printf 'x%.0s' {1..64})\"}")"
refused 'spec.uuid' "$(snapshot daily '{"volume":"db","uuid":"x"}')"
make "$(snapshot daily '{"volume":"db"}')"
change_refused 'make another Snapshot' snapshots.strake.io daily '{"spec":{"volume":"other"}}'
change snapshots.strake.io daily "{\"spec\":{\"uuid\":\"$uuid\"}}" || die "the uuid cannot be filled in: $(cat "$dir/out")"
change_refused 'uuid of a snapshot cannot be changed' snapshots.strake.io daily '{"spec":{"uuid":"22222222-2222-4222-8222-222222222222"}}'
change_refused 'uuid of a snapshot cannot be changed' snapshots.strake.io daily '{"spec":{"uuid":null}}'

note "status is apart, and can be selected by"
kubectl patch volumes.strake.io db --subresource status --type merge \
	-p '{"status":{"state":"Online","inSync":"3/3","attachment":{"number":1,"node":"n2"}}}' >/dev/null || die "status"
select_names() { kubectl get "$1" --field-selector "$2" -o 'jsonpath={.items[*].metadata.name}'; }
[ "$(select_names replicas.strake.io spec.node=n2)" = db-y ] || die "Replicas by node"
[ "$(select_names replicas.strake.io spec.volume=db)" = 'db-x db-y' ] || die "Replicas by volume"
[ "$(select_names pools.strake.io spec.node=n1)" = a ] || die "Pools by node"
[ "$(select_names volumes.strake.io status.attachment.node=n2)" = db ] || die "Volumes by node"
[ -z "$(select_names volumes.strake.io status.attachment.node=n1)" ] || die "Volumes of another node"
[ -z "$(select_names volumes.strake.io status.nexus.node=n2)" ] || die "Volumes that are open on a node, when there is none"
kubectl patch volumes.strake.io db --subresource status --type merge -p '{"status":{"nexus":{"node":"n2"}}}' >/dev/null || die "status.nexus"
[ "$(select_names volumes.strake.io status.nexus.node=n2)" = db ] || die "Volumes that are open on a node"
kubectl patch volumes.strake.io db --subresource status --type merge -p '{"status":{"nexus":null}}' >/dev/null || die "status.nexus"
for kind in volumes.strake.io/db snapshots.strake.io/daily; do
	if kubectl patch "${kind%/*}" "${kind#*/}" --subresource status --type merge -p '{"status":{"state":"Splendid"}}' >/dev/null 2>&1; then
		die "a state that is none of $kind"
	fi
done
[ "$(select_names snapshots.strake.io spec.volume=db)" = daily ] || die "Snapshots by volume"
[ -z "$(select_names snapshots.strake.io status.node=n1)" ] || die "Snapshots that nobody is to take"
kubectl patch snapshots.strake.io daily --subresource status --type merge -p "{\"status\":{\"state\":\"Ready\",\"readyToUse\":true,
	\"node\":\"n1\",\"size\":\"2Gi\",\"creationTime\":\"2026-01-02T03:04:05Z\",\"volumeUUID\":\"$uuid\",
	\"replicas\":[{\"uuid\":\"$uuid\",\"name\":\"db-x\",\"number\":1}]}}" >/dev/null || die "status of a Snapshot"
[ "$(select_names snapshots.strake.io status.node=n1)" = daily ] || die "Snapshots by node"
[ "$(object snapshots.strake.io daily '{.status.replicas[0].name} {.status.replicas[0].number}')" = 'db-x 1' ] || die "$(object snapshots.strake.io daily '{.status}')"

status_refused() { # what it must say, status
	if kubectl patch volumes.strake.io db --subresource status --type merge -p "{\"status\":$2}" >"$dir/out" 2>&1; then die "taken: $2"; fi
	grep -qF -- "$1" "$dir/out" || die "of $2 it says '$(cat "$dir/out")', not '$1'"
}
status_refused 'never lowered' '{"attachment":{"number":0}}'
status_refused 'never lowered' '{"attachment":null}'

note "for people"
kubectl get strake >"$dir/out" 2>&1 || die "kubectl get strake: $(cat "$dir/out")"
grep -qE '^volume.strake.io/db +2Gi +3/3 +Online +n2' "$dir/out" || die "columns: $(cat "$dir/out")"
grep -qE '^snapshot.strake.io/daily +db +true +2Gi +Ready' "$dir/out" || die "columns: $(cat "$dir/out")"
kubectl get sks daily >/dev/null && kubectl get skp a >/dev/null && kubectl get skv db >/dev/null && kubectl get skr db-x >/dev/null || die "short names"
