#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A pool's file that is not there yet when its pool-agent starts (a late mount) and then comes with a pool in it: it is opened, never formatted.
. "$(dirname "$0")/lib.sh" late-pool
cluster 512M
volume 64M
"$blkcheck" random "$device" --file "$dir/plain" --ops 200 || die "load"
before=$(strake pool list -o json | jq -r '.[] | select(.name == "pool-c") | .uuid')
[ -n "$before" ] || die "no uuid"
kill_9 c
cat >"$dir/c.yaml" <<-YAML
name: c
address: ${address[c]}
run_dir: $run
state_dir: $dir/fresh-state
pools:
  - {name: pool-c, disk: "file://$dir/late/c", size: 512M}
YAML
# The ports of a killed process may be taken for a moment longer, and the new state folder makes nobody wait: the agent waits for them.
metrics=$((base_port + 8))
printf 'metrics: {address: "127.0.0.1:%s"}\n' $metrics >>"$dir/c.yaml"
python3 - $metrics "${address[c]##*:}" >"$dir/holder" <<-'PY' &
	import socket, sys, time
	held = [socket.create_server(("127.0.0.1", int(port))) for port in sys.argv[1:]]
	print("taken", flush=True)
	for one in held:
	    time.sleep(1)
	    one.close()
PY
wait_for 10 "the ports to be taken" grep -q taken "$dir/holder"
start_agent c
pool_state() { strake pool list -o json | jq -r '.[] | select(.name == "pool-c") | .state'; }
[ "$(pool_state)" = Faulted ] || die "a pool without its folder is $(pool_state)"
mkdir "$dir/late.part"
mv "$dir/pools/c" "$dir/late.part/c"
mv "$dir/late.part" "$dir/late"
pool_is_online() { [ "$(pool_state)" = Online ]; }
wait_for 20 "the pool" pool_is_online
[ "$(strake pool list -o json | jq -r '.[] | select(.name == "pool-c") | .uuid')" = "$before" ] || die "another pool is in its place"
strake replica list -o json | jq -e '[.[] | select(.pool == "pool-c")] | length == 1' >/dev/null || die "its replica is gone"
note done
