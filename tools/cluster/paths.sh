# SPDX-License-Identifier: Apache-2.0
# Sourced by the scripts beside it: where the programs of the test cluster are.
cluster_tools=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
kube_cache=${STRAKE_KUBE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/strake/kube}

# Named after all that decides what is built: another version never meets an old program.
kube_dir=$kube_cache/$(cat "$cluster_tools"/mod*/go.mod "$cluster_tools"/mod*/go.sum "$cluster_tools/build" | sha256sum | cut -c 1-16)
kube_bin=$kube_dir/bin
