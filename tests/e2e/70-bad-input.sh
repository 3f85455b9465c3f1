#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Bad input gets an error that names the thing and the way out; nothing is lost, nothing dies.
. "$(dirname "$0")/lib.sh" bad-input
cluster 128M

refused() { # what it must say, command...
	local pattern=$1
	shift
	if "$@" >"$dir/out" 2>&1; then die "accepted: $*"; fi
	grep -qiE -- "$pattern" "$dir/out" || die "'$*' says '$(cat "$dir/out")', not '$pattern'"
}

note "configuration files"
printf 'name: x\nadress: 127.0.0.1:1\n' >"$dir/bad.yaml"
refused 'bad.yaml:2.*adress' "$bin/pool-agent/pool-agent" --config "$dir/bad.yaml"
printf 'name: [x\n' >"$dir/bad.yaml"
refused 'bad.yaml' "$bin/pool-agent/pool-agent" --config "$dir/bad.yaml"
refused 'nowhere.yaml' "$bin/nexus/nexus" --config "$dir/nowhere.yaml"
printf 'name: y\nmin_insync: many\n' >"$dir/bad.yaml"
refused 'bad.yaml:2' "$bin/nexus/nexus" --config "$dir/bad.yaml"

printf 'name: z\naddress: ${STRAKE_NO_SUCH_VARIABLE}\n' >"$dir/bad.yaml"
refused 'bad.yaml:2:10: address: the environment variable STRAKE_NO_SUCH_VARIABLE is not set' "$bin/pool-agent/pool-agent" --config "$dir/bad.yaml"
printf 'name: z\naddress: 203.0.113.0/24\n' >"$dir/bad.yaml"
refused 'bad.yaml:2:10: address: this machine has no address in 203.0.113.0/24; it has: .*127.0.0.1' "$bin/pool-agent/pool-agent" --config "$dir/bad.yaml"
printf 'name: z\nexport:\n  address: 0.0.0.0/33\n' >"$dir/bad.yaml"
refused 'bad.yaml:3:12: export.address: .*neither an address nor a network' "$bin/nexus/nexus" --config "$dir/bad.yaml"

note "io_uring forbidden, and asked for"
deny=$bin/tests/e2e/deny-uring/deny-uring
for name in x y; do
	printf 'name: %s\nrun_dir: %s\nstate_dir: %s\nmetrics: {address: "unix:%s"}\n' $name "$dir/x-run" "$dir/x-state" "$dir/$name.metrics" >"$dir/$name.yaml"
	prefix[$name]=$deny
done
echo "address: 127.0.0.1:$((base_port + 6))" >>"$dir/x.yaml"
start x "$bin/pool-agent/pool-agent"
start y "$bin/nexus/nexus"
for name in x y; do
	grep '"event":"second-best-io"' "$dir/$name.log" | grep -q 'io_uring is forbidden here: allow it with' || die "$name does not say why it uses epoll"
	curl -s --unix-socket "$dir/$name.metrics" http://_/metrics | grep -q '^strake_reactor_info{reactor="0",backend="epoll"} 1$' || die "metrics of $name"
done
"$bin/cli/strake" --run-dir "$dir/x-run" daemon list -o json | jq -e 'length == 2 and all(.io | test("^epoll, [0-9]+ threads"))' >/dev/null || die "daemon list"
kill_9 y
kill_9 x
for program in pool-agent:x nexus:y; do
	config=$dir/${program#*:}.yaml
	program=$bin/${program%:*}/${program%:*}
	refused 'io_uring is forbidden.*allow it' env STRAKE_IO=io_uring "$deny" "$program" --config "$config"
	refused 'STRAKE_IO is "aio": it may be io_uring or epoll or unset' env STRAKE_IO=aio "$program" --config "$config"
done
rm -rf "$dir/x-run" "$dir/x-state"

note "pools"
refused 'exists' strake pool create pool-a --agent a --disk "file://$dir/pools/x" --size 1G
refused 'exist|is the disk of pool' strake pool create other --agent a --disk "file://$dir/pools/a" --size 1G
refused 'size|small' strake pool create other --agent a --disk "file://$dir/pools/x" --size 0
refused 'size|small' strake pool create other --agent a --disk "file://$dir/pools/x" --size 64K
refused 'size|K M G T|number' strake pool create other --agent a --disk "file://$dir/pools/x" --size 1Q
refused 'no pool "nowhere"' strake replica list --pool nowhere
refused 'no such|not exist|No such' strake pool create other --agent a --disk /dev/nothing-here
truncate -s 128M "$dir/ext4.img"
mkfs.ext4 -q "$dir/ext4.img"
loop=$(losetup -f --show "$dir/ext4.img")
refused 'ext4.*wipe|wipe.*ext4' strake pool create other --agent a --disk "$loop"
strake pool create other --agent a --disk "$loop" --wipe >/dev/null || die "--wipe"

note "two pool-agents on one pool"
sed "s/^name: a/name: a2/; s/:$base_port/:$((base_port + 5))/" "$dir/a.yaml" >"$dir/a2.yaml"
echo "pools: [{name: stolen, disk: \"file://$dir/pools/a\"}]" >>"$dir/a2.yaml"
start_agent a2
wait_for 20 "the second agent's verdict" sh -c "'$bin/cli/strake' --run-dir '$run' pool list -o json | jq -e '.[] | select(.name == \"stolen\" and .state == \"Faulted\")'"
strake pool list -o json | jq -r '.[] | select(.name == "stolen") | .reason' | grep -qiE 'lock|use|another' || die "the reason does not say that it is in use"
kill_9 a2
rm -f "$run/a2.sock"

# Each waits a while for the other to end.
timeout 20 "$bin/pool-agent/pool-agent" --config "$dir/a.yaml" >"$dir/again.a" 2>&1 &
again=$!
timeout 20 "$bin/nexus/nexus" --config "$dir/nexus.yaml" >"$dir/again.nexus" 2>&1 &
wait $! && die "a second nexus of the same name"
wait $again && die "a second pool-agent of the same name"
for name in a nexus; do
	grep -q 'is used by another process.*give this one another name' "$dir/again.$name" || die "$name says $(cat "$dir/again.$name")"
done
sed 's/^name: a/name: a3/' "$dir/a.yaml" >"$dir/a3.yaml"
refused "listen on 127.0.0.1:$base_port: Address already in use" timeout 20 "$bin/pool-agent/pool-agent" --config "$dir/a3.yaml"
[ "$(strake pool list -o json | jq -c 'map(.state) | unique')" = '["Online"]' ] || die "the first agents suffered: $(strake pool list)"

note "a pool of a newer format, or damaged"
crc32c() { # of the bytes on standard input
	local -a table
	local i k c crc=$((0xffffffff))
	for ((i = 0; i < 256; i++)); do
		for ((c = i, k = 0; k < 8; k++)); do c=$((c & 1 ? c >> 1 ^ 0x82f63b78 : c >> 1)); done
		table[i]=$c
	done
	for i in $(od -An -v -tu1); do crc=$((crc >> 8 ^ table[(crc ^ i) & 255])); done
	echo $((crc ^ 0xffffffff))
}
le32() { printf '%b' "$(printf '\\x%02x\\x%02x\\x%02x\\x%02x' $(($1 & 255)) $(($1 >> 8 & 255)) $(($1 >> 16 & 255)) $(($1 >> 24 & 255)))"; }
put() { dd of="$dir/pools/c" bs=1 seek="$1" conv=notrunc status=none; } # offset; bytes on standard input
pool_c() { strake pool list -o json | jq -r '.[] | select(.name == "pool-c") | .state + ": " + .reason'; }
size=$(stat -c %s "$dir/pools/c")
kill_9 c
cp --sparse=always "$dir/pools/c" "$dir/pools/c.good"
for at in 0 $((size - 4096)); do
	# Version 99, with the checksum that belongs to it.
	le32 99 | put $((at + 8))
	le32 0 | put $((at + 12))
	crc=$(dd if="$dir/pools/c" bs=4096 skip=$((at / 4096)) count=1 status=none | crc32c)
	le32 "$crc" | put $((at + 12))
done
sha256sum <"$dir/pools/c" >"$dir/newer.before"
start_agent c
pool_c | grep -q 'Faulted: .*version 99.*newer' || die "a newer format is not reported: $(pool_c)"
kill_9 c
sha256sum <"$dir/pools/c" | cmp -s - "$dir/newer.before" || die "a pool of a newer format was written to"

cp --sparse=always "$dir/pools/c.good" "$dir/pools/c"
for at in 0 $((size - 4096)); do echo damage | put $((at + 100)); done
start_agent c
pool_c | grep -q 'Faulted: .*superblock.*checksum' || die "damaged superblocks are not reported: $(pool_c)"
kill_9 c
cp --sparse=always "$dir/pools/c.good" "$dir/pools/c"
echo damage | put 100
start_agent c
pool_c | grep -q '^Online' || die "one damaged superblock of two: $(pool_c)"
rm "$dir/pools/c.good"

note "volumes"
refused 'size' strake volume create v --size 0 --replicas 3
refused 'no room|space|larger|larger than|too large|size' strake volume create v --size 100T --replicas 3
refused 'replicas|agents|pools' strake volume create v --size 64M --replicas 7
refused 'no volume|not found|unknown' strake volume open nothing
refused 'usage|unknown' strake volume frobnicate
strake pool list -o json | jq -e 'all(.replicas == 0 or .replicas == null)' >/dev/null || die "a refused creation left replicas"

note "gRPC messages with missing fields, and messages that are none"
cat >"$dir/grpc.py" <<-'PYTHON'
	import re, socket, struct, sys
	path, proto = sys.argv[1:]
	def frame(kind, flags, stream, body):
	    return struct.pack(">I", len(body))[1:] + bytes((kind, flags)) + struct.pack(">I", stream) + body
	def literal(name, value):
	    return b"\0" + bytes((len(name),)) + name.encode() + bytes((len(value),)) + value.encode()
	def call(method, message):
	    s = socket.socket(socket.AF_UNIX)
	    s.settimeout(10)
	    s.connect(path)
	    headers = b"".join(literal(*h) for h in ((":method", "POST"), (":scheme", "http"), (":path", method), (":authority", "x"),
	        ("content-type", "application/grpc"), ("te", "trailers")))
	    s.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, b"") + frame(1, 4, 1, headers) +
	        frame(0, 1, 1, b"\0" + struct.pack(">I", len(message)) + message))
	    data = b""
	    while True:
	        while len(data) >= 9:
	            size = int.from_bytes(data[:3], "big")
	            if len(data) < 9 + size:
	                break
	            kind, flags, stream = data[3], data[4], int.from_bytes(data[5:9], "big")
	            data = data[9 + size:]
	            if stream == 1 and (kind == 3 or flags & 1):
	                return
	        more = s.recv(65536)
	        if not more:
	            sys.exit(method + ": the connection ended without an answer")
	        data += more
	service, count = None, 0
	for line in open(proto):
	    service = (re.findall(r"^service (\w+)", line) or [service])[0]
	    for method in re.findall(r"^  rpc (\w+)", line):
	        # Nothing at all; a field cut off; texts that are none, numbers that are huge.
	        for message in (b"", b"\x0a\x7fx", b"\x0a\x02\xff\xfe\x12\x01\x00\x18" + b"\xff" * 9 + b"\x01", b"\x0a\x01v" * 3, b"\xff" * 64):
	            call("/strake.v1.%s/%s" % (service, method), message)
	            count += 1
	print("%d messages to %s" % (count, path.split("/")[-1]))
PYTHON
for name in a nexus; do
	python3 "$dir/grpc.py" "$run/$name.sock" proto/strake.proto || die "$name did not answer"
done
kill -0 "${pids[a]}" && nexus_pid >/dev/null || die "a daemon died"
grep -q nexus-died "$dir/nexus.log" && die "the nexus died"
strake volume list -o json | jq -e 'length == 0' >/dev/null || die "a volume came of it: $(strake volume list)"
[ "$(strake replica list -o json | jq length)" = 0 ] || die "a replica came of it"

note "strangers on the data port"
for bytes in '' 'GET / HTTP/1.0\r\n\r\n' '\x00\x00\x80\x00\xff\xff\xff\xff' '\x04\x00\x48\x00\x48\x00\x00\x00'; do
	printf "$bytes" | timeout 2 bash -c 'exec 3<>/dev/tcp/127.0.0.1/'$base_port'; cat >&3; timeout 0.5 cat <&3 >/dev/null'
done
perf() { "$bin/tests/bench/nvme-perf" --address 127.0.0.1 --port $base_port --seconds 1 --rw write "$@"; }
agent_nqn=$(strake daemon list -o json | jq -r '.[] | select(.name == "a").nqn')
refused 'is the subsystem NQN nqn.2025-01.io.strake:wrong right' perf --nqn nqn.2025-01.io.strake:wrong --hostnqn nqn.2025-01.io.strake:host:00000000-0000-4000-8000-000000000001
refused 'does not allow host nqn.x:y' perf --nqn "$agent_nqn" --hostnqn nqn.x:y
head -c 4096 /dev/urandom | timeout 2 bash -c "exec 3<>/dev/tcp/127.0.0.1/$base_port; cat >&3" 2>/dev/null
for name in a b c; do kill -0 "${pids[$name]}" || die "$name died"; done
volume 64M
# A host that looks like a nexus, but never fenced the replica.
refused 'access denied' perf --nqn "$agent_nqn" --hostnqn nqn.2025-01.io.strake:host:00000000-0000-4000-8000-000000000001
state_is Online || die "not Online: $(state)"
equal
note done
