/* SPDX-License-Identifier: Apache-2.0 */
/* Where the API server is and who we are: a kubeconfig file, or what a pod is given. */
#ifndef KUBE_CONFIG_H
#define KUBE_CONFIG_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>

/* All texts are owned; NULL: not given.  Never more than one of a file and its text. */
struct kube_config {
	char *server; /* "https://host:port/prefix", without a slash at the end */
	char *tls_server_name;
	char *proxy_url;
	bool insecure; /* the server's certificate is not checked */
	char *ca_file, *ca_pem;
	char *cert_file, *cert_pem;
	char *key_file, *key_pem;
	char *token, *token_file;
};

/* `folder` is where relative file names begin; `name` is for errors. */
int kube_config_parse(const char *name, const char *folder, const char *text, size_t length,
	struct kube_config *ret_config, struct err *err) __must_check;
int kube_config_load(
	const char *path, struct kube_config *ret_config, struct err *err) __must_check;
int kube_config_in_cluster(
	const char *folder, struct kube_config *ret_config, struct err *err) __must_check;
void kube_config_done(struct kube_config *config);

/* The text without white space at its end; -EINVAL when it cannot be in a header. */
int kube_token_check(char *token, const char *name, struct err *err) __must_check;

#endif
