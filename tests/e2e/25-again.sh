#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Requests that come again, as a controller's do: the same is answered with what is there, another one is refused with what differs. A pool-agent
# that moved is found again. A block device is taken away by force: mounted, stalled, and while it is being unpublished.
. "$(dirname "$0")/lib.sh" again
cluster 512M
rpc() { # daemon Service/Method field=value...
	local socket=$run/$1.sock
	shift
	"$bin/tests/e2e/rpc/rpc" "$socket" "$@"
}
refused() { # what it must say, command...
	local pattern=$1
	shift
	if "$@" >"$dir/out" 2>&1; then die "accepted: $*"; fi
	grep -qE -- "$pattern" "$dir/out" || die "'$*' says '$(cat "$dir/out")', not '$pattern'"
}

note "replicas"
volume_uuid=11111111-1111-4111-8111-111111111111
uuid_of() { echo "2222222$1-2222-4222-8222-222222222222"; }
replica() { # pool-agent, further fields
	local name=$1
	shift
	rpc "$name" PoolAgent/CreateReplica pool="pool-$name" uuid="$(uuid_of "$name")" volume_name=v volume_uuid=$volume_uuid size_bytes=$((64 << 20)) \
		class_name=fast claim_namespace=ns claim_name=data "$@"
}
for name in a b c; do replica $name >"$dir/replica-$name" || die "create replica"; done
replica a | cmp - "$dir/replica-a" || die "the same replica again"
refused "EEXIST.*size_bytes '67108864', not '134217728'" replica a size_bytes=$((128 << 20))
replica a size_bytes=$((32 << 20)) | cmp - "$dir/replica-a" || die "one that has grown since"
refused "EEXIST.*kind 'data', not 'arbiter'" replica a size_bytes=0 kind=arbiter
refused "EEXIST.*volume_name 'v', not 'w'" replica a volume_name=w
refused "EEXIST.*volume_uuid '$volume_uuid', not" replica a volume_uuid="$(uuid_of a)"
refused "EEXIST.*class_name 'fast', not 'slow'" replica a class_name=slow
refused "EEXIST.*claim_name 'data', not ''" replica a claim_name=
[ "$(strake replica list -o json | jq length)" = 3 ] || die "more replicas than three"

note "the volume"
voter() { # pool-agent [address]
	strake replica list -o json | jq -r --arg id "$(uuid_of "$1")" --arg address "${2:-}" '.[] | select(.uuid == $id) |
		"replica=\(.uuid),agent=\(.agent),address=\(if $address == "" then .address else $address end),nsid=\(.nsid),local"'
}
va=$(voter a) vb=$(voter b) vc=$(voter c)
create() { strake volume create v --uuid $volume_uuid --size 64M "$@"; }
create --voter "$va" --voter "$vb" --voter "$vc" >/dev/null || die "create"
create --voter "$vc" --voter "$va" --voter "$vb" >/dev/null || die "the same volume again"
refused 'with 67108864 bytes, not' strake volume create v --uuid $volume_uuid --size 32M --voter "$va" --voter "$vb" --voter "$vc"
refused 'with uuid' strake volume create v --uuid "$(uuid_of a)" --size 64M --voter "$va" --voter "$vb" --voter "$vc"
refused 'with 3 voters, not 2' create --voter "$va" --voter "$vb"
refused 'as data, not arbiter' create --voter "$va" --voter "$vb" --voter "$vc,arbiter"
refused 'with min_insync 0, not 1' create --min-insync 1 --voter "$va" --voter "$vb" --voter "$vc"
strake volume open v --wait || die "open"
strake volume publish v || die "publish"
device=$(strake volume status v -o json | jq -r .device)

note "a pool-agent that moved, while the volume is open"
load_start 60
kill_9 c
sed -i "s/^address: .*/address: 127.0.0.1:$((base_port + 6))/" "$dir/c.yaml"
start_agent c
wait_for 10 "Degraded" state_is Degraded
create --voter "$va" --voter "$vb" --voter "$(voter c)" >/dev/null || die "create with the new address"
wait_for 60 "Online" state_is Online
load_end
grep -q "127.0.0.1:$((base_port + 6))" "$(find "$dir/state" -name v.json)" || die "the new address is not recorded"
equal

note "by force while it is mounted"
mkfs.ext4 -q "$device" && mkdir "$dir/mnt" && mount "$device" "$dir/mnt" || die "file system"
echo kept >"$dir/mnt/file" && sync -f "$dir/mnt"
refused 'is mounted at' strake volume unpublish v
strake volume unpublish v --force || die "unpublish --force"
if echo lost >"$dir/mnt/file" 2>/dev/null && sync -f "$dir/mnt" 2>/dev/null; then die "the device still writes"; fi
umount "$dir/mnt"
wait_for 10 "the loop device's end" sh -c "! losetup -a | grep -q '$dir'"
strake volume publish v || die "publish"
device=$(strake volume status v -o json | jq -r .device)
mount "$device" "$dir/mnt" && [ "$(cat "$dir/mnt/file")" = kept ] || die "what was synced is lost"
umount "$dir/mnt"

note "by force while it stalls and while an unpublish waits for it"
dd if="$device" of="$dir/first" bs=4k count=16 iflag=direct status=none || die "dd"
for name in b c; do kill -STOP "${pids[$name]}"; done
dd if="$dir/first" of="$device" bs=4k oflag=direct conv=notrunc status=none 2>"$dir/dd.err" &
wait_for 20 "Stalled" state_is Stalled
# Not by the CLI, which asks every daemon first.
rpc nexus Nexus/UnpublishVolume name=v >"$dir/waiting.out" 2>&1 &
waiting=$!
sleep 1
kill -0 $waiting || die "an unpublish of a stalled volume came back: $(cat "$dir/waiting.out")"
rpc nexus Nexus/UnpublishVolume name=v force=true >/dev/null || die "unpublish --force"
wait $waiting || die "the first unpublish: $(cat "$dir/waiting.out")"
losetup -a | grep "$dir" && die "the loop device is left"
rpc nexus Nexus/ListVolumes name=v | jq -e '.volumes[0] | .frontend == "" and .device == ""' >/dev/null || die "it is still published"
refused 'still ends' rpc nexus Nexus/PublishVolume name=v
rpc nexus Nexus/UnpublishVolume name=v >/dev/null || die "unpublish again"
rpc nexus Nexus/CloseVolume name=v >/dev/null || die "close"
for name in b c; do kill -CONT "${pids[$name]}"; done
strake volume open v --wait || die "open"
strake volume publish v || die "publish"
mount "$(strake volume status v -o json | jq -r .device)" "$dir/mnt" && [ "$(cat "$dir/mnt/file")" = kept ] || die "what was synced is lost"
umount "$dir/mnt"
equal
strake volume unpublish v --force && strake volume close v && strake volume delete v || die "delete"
note done
