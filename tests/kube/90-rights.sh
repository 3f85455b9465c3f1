#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What the chart's roles grant was used by the tests before this one, as the audit logs of their API servers tell, or is listed with
# its reason in deploy/rbac-unused.txt; and nothing was asked for that is not granted.
. "$(dirname "$0")/lib.sh" rights
namespace=strake-system
for needed in 60-pods 65-faults 70-nodes 75-limits; do
	[ -e "$audit_logs/$needed.log" ] || { echo "there is no audit log of $needed: run the tests before this one"; exit 77; }
done
api_up
kubectl create namespace $namespace >/dev/null || die "namespace"
"$kube_bin/helm" template strake deploy/helm --namespace $namespace --show-only templates/rbac.yaml >"$dir/rbac.yaml" || die "helm"
kubectl apply -f "$dir/rbac.yaml" >/dev/null || die "roles"

# Lines "PROGRAM VERB GROUP/RESOURCE", the group "core" where it has no name.  A role has its program's name; those of the sidecars
# are their projects'.
kubectl get clusterroles,roles -A -l app.kubernetes.io/name=strake -o json | jq -r '
	.items[] | (.metadata.name | ltrimstr("strake-")) as $program | select($program | test("provisioner|attacher") | not) |
	.rules[] | (.apiGroups[] | if . == "" then "core" else . end) as $group | .resources[] as $resource | .verbs[] |
	"\($program) \(.) \($group)/\($resource)"' | sort -u >"$dir/granted"
[ "$(wc -l <"$dir/granted")" -gt 20 ] || die "granted: $(cat "$dir/granted")"

# The sidecars are in the pod of csi-controller and speak as its account.
jq -r '
	select((.user.username // "") | startswith("system:serviceaccount:'$namespace':strake-")) |
	select((.userAgent // "") | test("^csi-(provisioner|attacher)/") | not) | select(.objectRef.resource != null) |
	"\(.user.username | split(":")[3] | ltrimstr("strake-")) \(.verb) " +
	"\(if (.objectRef.apiGroup // "") == "" then "core" else .objectRef.apiGroup end)/\(.objectRef.resource)" +
	(if .objectRef.subresource then "/" + .objectRef.subresource else "" end) +
	"\t\(.annotations["authorization.k8s.io/decision"])"' "$audit_logs"/*.log | sort -u >"$dir/asked"
grep -P '\tallow$' "$dir/asked" | cut -f 1 | sort -u >"$dir/used"
note "$(wc -l <"$dir/granted") rights are granted, $(comm -12 "$dir/granted" "$dir/used" | wc -l) were used"

note "Rights that nobody used"
listed=$(grep -v '^#' deploy/rbac-unused.txt)
[ "$(grep -c . <<<"$listed")" -le 5 ] || die "deploy/rbac-unused.txt has more than 5 lines"
comm -23 "$dir/granted" "$dir/used" >"$dir/unused"
while read -r right; do
	grep -q "^$right: ." <<<"$listed" || die "granted, not used, and not listed with its reason in deploy/rbac-unused.txt: $right"
	note "  $(grep "^$right: " <<<"$listed")"
done <"$dir/unused"
while IFS=: read -r right _; do
	[ -z "$right" ] || grep -qxF "$right" "$dir/granted" || die "deploy/rbac-unused.txt lists what is not granted: $right"
done <<<"$listed"

note "Rights that were asked for and are not there"
# An uninstalled csi-controller gives its Lease back when its roles are gone already.
if grep -P '\tforbid$' "$dir/asked" | grep -v '^csi-controller update coordination.k8s.io/leases'; then die "see above"; fi
