/* SPDX-License-Identifier: Apache-2.0 */
#include "kube/transfer.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

const struct kube_kind kube_pods = {"", "v1", "pods", "Pod", true};
const struct kube_kind kube_nodes = {"", "v1", "nodes", "Node", false};
const struct kube_kind kube_secrets = {"", "v1", "secrets", "Secret", true};
const struct kube_kind kube_events = {"events.k8s.io", "v1", "events", "Event", true};
const struct kube_kind kube_leases = {"coordination.k8s.io", "v1", "leases", "Lease", true};
const struct kube_kind kube_pvcs = {
	"", "v1", "persistentvolumeclaims", "PersistentVolumeClaim", true};
const struct kube_kind kube_pvs = {"", "v1", "persistentvolumes", "PersistentVolume", false};
const struct kube_kind kube_volume_attachments = {
	"storage.k8s.io", "v1", "volumeattachments", "VolumeAttachment", false};

static void add_metrics(struct kube *kube)
{
	struct metric_registry *to = kube->metrics;

	metric_add(to, &kube->metric_requests, METRIC_COUNTER, "strake_kube_requests_total",
		"Requests to the Kubernetes API that ended.", "%s", "");
	metric_add(to, &kube->metric_failures, METRIC_COUNTER, "strake_kube_request_failures_total",
		"Of those the ones without an answer, or with one of 429 or 5xx.", "%s", "");
	metric_add(to, &kube->metric_retries, METRIC_COUNTER, "strake_kube_request_retries_total",
		"Requests that were sent again.", "%s", "");
	kube->metric_seconds.buckets = kube->seconds_buckets;
	metric_add(to, &kube->metric_seconds, METRIC_HISTOGRAM, "strake_kube_request_seconds",
		"From a request to its end, with its retries.", "%s", "");
	metric_add(to, &kube->metric_connections, METRIC_COUNTER, "strake_kube_connections_total",
		"Connections to the API server that were begun because the one before did not "
		"answer, "
		"and the first.",
		"%s", "");
	metric_add(to, &kube->metric_watches, METRIC_COUNTER, "strake_kube_watches_total",
		"Watches that were begun.", "%s", "");
	metric_add(to, &kube->metric_relists, METRIC_COUNTER, "strake_kube_lists_total",
		"Lists for caches: the first, and again when the server forgot where the watch "
		"was.",
		"%s", "");
}

static void remove_metrics(struct kube *kube)
{
	struct metric *all[] = {&kube->metric_requests, &kube->metric_failures,
		&kube->metric_retries, &kube->metric_seconds, &kube->metric_connections,
		&kube->metric_watches, &kube->metric_relists};

	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		metric_remove(kube->metrics, all[i]);
	}
}

static uint64_t random_seed(const struct kube *kube)
{
	uint64_t seed = 0;

	if (getrandom(&seed, sizeof(seed), GRND_NONBLOCK) != sizeof(seed)) {
		seed = loop_now_ms(kube->loop) ^ (uint64_t)(uintptr_t)kube;
	}
	return seed;
}

int kube_new(const struct kube_options *options, struct kube **ret_kube, struct err *err)
{
	const char *folder = options->service_account_folder != NULL
				     ? options->service_account_folder
				     : "/var/run/secrets/kubernetes.io/serviceaccount";
	struct kube *kube = calloc(1, sizeof(*kube));

	if (kube == NULL || curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
		free(kube);
		return err_set(err, -ENOMEM, "no memory for the client of the API server");
	}
	kube->loop = options->loop;
	kube->log = options->log;
	kube->metrics = options->metrics;
	kube->request_timeout_ms =
		options->request_timeout_ms != 0 ? options->request_timeout_ms : 30000;
	list_init(&kube->lines);
	list_init(&kube->requests);
	rng_init(&kube->rng, random_seed(kube));
	add_metrics(kube);
	kube->user_agent = strdup(options->user_agent);
	kube->field_manager = strdup(options->field_manager);
	int result = kube->user_agent == NULL || kube->field_manager == NULL
			     ? err_set(err, -ENOMEM, "no memory for the client of the API server")
		     : options->kubeconfig != NULL
			     ? kube_config_load(options->kubeconfig, &kube->config, err)
			     : kube_config_in_cluster(folder, &kube->config, err);

	if (result == 0 && kube->config.token != NULL) {
		result = kube_token_check(kube->config.token, "the user's token", err);
	}
	if (result < 0) {
		kube_free(kube);
		return result;
	}
	*ret_kube = kube;
	return 0;
}

void kube_free(struct kube *kube)
{
	if (kube == NULL) {
		return;
	}
	assert(list_is_empty(&kube->requests));
	assert(kube->cache_count == 0 && kube->queue_count == 0);
	assert(kube->lease_count == 0 && kube->recorder_count == 0);
	kube_lines_free(kube);
	kube_config_done(&kube->config);
	remove_metrics(kube);
	free(kube->user_agent);
	free(kube->field_manager);
	free(kube);
	curl_global_cleanup();
}

struct loop *kube_loop(struct kube *kube)
{
	return kube->loop;
}
