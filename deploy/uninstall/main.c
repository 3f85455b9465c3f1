/* SPDX-License-Identifier: Apache-2.0 */
/*
 * strake-uninstall-check [KUBECONFIG]: fails while there are Volumes or PersistentVolumes of
 * Strake. Helm runs it before it takes anything away: without csi-controller and csi-node such
 * volumes could neither be unmounted nor deleted.
 */
#include "objects/objects.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#define REQUEST_TIMEOUT_MS 30000u
#define NAMES_SHOWN        10u

struct check {
	struct loop *loop;
	struct kube *kube;
	bool is_done;
	unsigned found;
};

static void answered(struct kube_request *request)
{
	struct check *check = request->ctx;

	check->is_done = true;
	if (request->result == 0) {
		(void)json_incref(request->response);
	}
}

static void show(struct check *check, const char *what, const json_t *object)
{
	const char *namespace = kube_text(object, "spec.claimRef.namespace");
	const char *claim = kube_text(object, "spec.claimRef.name");

	check->found++;
	if (check->found > NAMES_SHOWN) {
		return;
	}
	if (claim[0] == 0) {
		namespace = kube_text(object, "spec.claim.namespace");
		claim = kube_text(object, "spec.claim.name");
	}
	printf("%s %s", what, kube_name(object));
	if (claim[0] != 0) {
		printf(" (claim %s in namespace %s)", claim, namespace);
	}
	printf("\n");
}

/* All of the kind, or those whose spec.csi.driver is ours. */
static int look(struct check *check, const struct kube_kind *kind, bool by_driver, struct err *err)
{
	struct kube_request request = {
		.verb = KUBE_LIST,
		.kind = kind,
		.timeout_ms = REQUEST_TIMEOUT_MS,
		.done = answered,
		.ctx = check,
	};
	const json_t *object;
	size_t index;

	check->is_done = false;
	kube_send(check->kube, &request);
	while (!check->is_done) {
		loop_turn(check->loop, -1);
	}
	/* The kind is not there: no Strake, nothing to lose. */
	if (request.result == -ENOENT) {
		return 0;
	}
	if (request.result < 0) {
		*err = request.err;
		return request.result;
	}
	json_array_foreach(json_object_get(request.response, "items"), index, object)
	{
		if (!by_driver ||
			strcmp(kube_text(object, "spec.csi.driver"), OBJECTS_DRIVER) == 0) {
			show(check, kind->kind, object);
		}
	}
	json_decref(request.response);
	return 0;
}

static int run(struct check *check, const char *kubeconfig, struct err *err)
{
	struct metric_registry metrics;
	struct kube_options options = {
		.log = &log_null,
		.metrics = &metrics,
		.kubeconfig = kubeconfig,
		.user_agent = "strake-uninstall-check/" STRAKE_VERSION,
		.field_manager = "strake-uninstall-check",
	};
	int result = loop_new(&check->loop, err);

	if (result < 0) {
		return result;
	}
	metric_registry_init(&metrics);
	options.loop = check->loop;
	result = kube_new(&options, &check->kube, err);
	if (result == 0) {
		result = look(check, &objects_volumes, false, err);
		result = result < 0 ? result : look(check, &kube_pvs, true, err);
		kube_free(check->kube);
	}
	metric_registry_done(&metrics);
	loop_free(check->loop);
	return result;
}

int main(int argc, char **argv)
{
	struct check check = {0};
	struct err err = {0};

	if (argc > 2 || (argc == 2 && argv[1][0] == '-')) {
		(void)fprintf(stderr, "usage: strake-uninstall-check [KUBECONFIG]\n");
		return 2;
	}
	(void)signal(SIGPIPE, SIG_IGN);
	if (run(&check, argv[1], &err) < 0) {
		printf("strake-uninstall-check: %s\n", err.text);
		return 1;
	}
	if (check.found == 0) {
		printf("no Volume and no PersistentVolume of Strake is left\n");
		return 0;
	}
	if (check.found > NAMES_SHOWN) {
		printf("... and %u more\n", check.found - NAMES_SHOWN);
	}
	printf("Strake is not uninstalled while these exist: nobody could unmount or delete them "
	       "any more. "
	       "Delete the claims first; or uninstall with --no-hooks, which leaves them as they "
	       "are.\n");
	return 1;
}
