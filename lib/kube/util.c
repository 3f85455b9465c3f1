/* SPDX-License-Identifier: Apache-2.0 */
#include "base/bytes.h"
#include "kube/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

int kube_file_read(const char *path, size_t bytes_max, struct strbuf *to, struct err *err)
{
	char bytes[4096];
	size_t begin = to->length;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	ssize_t got = -1;

	while (fd >= 0 && (got = read(fd, bytes, sizeof(bytes))) != 0) {
		if (got < 0 && errno == EINTR) {
			continue;
		}
		if (got < 0 || to->length - begin > bytes_max) {
			break;
		}
		strbuf_append_bytes(to, bytes, (size_t)got);
	}
	int code = fd < 0 || got < 0 ? -errno : 0;

	explicit_bzero(bytes, sizeof(bytes));
	if (fd >= 0) {
		close(fd);
	}
	if (code < 0) {
		return err_set(err, code, "%s: %s", path, err_describe(code));
	}
	if (to->length - begin > bytes_max) {
		return err_set(err, -EFBIG, "%s is above %zu bytes", path, bytes_max);
	}
	return strbuf_failed(to) ? err_set(err, -ENOMEM, "no memory for %s", path) : 0;
}

uint64_t kube_backoff_ms(struct kube *kube, unsigned tries, uint64_t min_ms, uint64_t max_ms)
{
	uint64_t delay_ms = tries >= 32 ? max_ms : min_u64(min_ms << tries, max_ms);

	return delay_ms / 2 + rng_below(&kube->rng, delay_ms / 2 + 1);
}

/* ---- URLs ---- */

void kube_url_escape(struct strbuf *to, const char *text)
{
	for (; *text != '\0'; text++) {
		unsigned char c = (unsigned char)*text;

		if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
			c == '-' || c == '.' || c == '_' || c == '~') {
			strbuf_append_bytes(to, text, 1);
		} else {
			strbuf_printf(to, "%%%02X", c);
		}
	}
}

static void append_segment(struct strbuf *to, const char *text)
{
	strbuf_append(to, "/");
	kube_url_escape(to, text);
}

void kube_url_path(struct strbuf *to, const struct kube_kind *kind, const char *namespace,
	const char *name, const char *subresource)
{
	if (kind->group[0] == '\0') {
		strbuf_append(to, "/api");
	} else {
		strbuf_append(to, "/apis");
		append_segment(to, kind->group);
	}
	append_segment(to, kind->version);
	if (kind->namespaced && namespace != NULL) {
		strbuf_append(to, "/namespaces");
		append_segment(to, namespace);
	}
	append_segment(to, kind->plural);
	if (name != NULL) {
		append_segment(to, name);
	}
	if (subresource != NULL) {
		append_segment(to, subresource);
	}
}

void kube_url_query(struct strbuf *to, const char *key, const char *value)
{
	if (value == NULL) {
		return;
	}
	strbuf_append(to, strchr(strbuf_text(to), '?') == NULL ? "?" : "&");
	strbuf_append(to, key);
	strbuf_append(to, "=");
	kube_url_escape(to, value);
}

/* ---- resource versions ---- */

static bool is_number(const char *text)
{
	return text[0] != '\0' && text[strspn(text, "0123456789")] == '\0';
}

int kube_version_compare(const char *a, const char *b)
{
	if (!is_number(a) || !is_number(b)) {
		return strcmp(a, b) == 0 ? 0 : is_number(a) ? -1 : 1;
	}
	a += strspn(a, "0");
	b += strspn(b, "0");
	size_t a_length = strlen(a), b_length = strlen(b);

	return a_length != b_length ? (a_length < b_length ? -1 : 1) : strcmp(a, b);
}

/* ---- times ---- */

char *kube_time_now(char text[KUBE_TIME_TEXT_SIZE])
{
	time_t now = time(NULL);
	struct tm parts;

	(void)gmtime_r(&now, &parts);
	(void)strftime(text, KUBE_TIME_TEXT_SIZE, "%Y-%m-%dT%H:%M:%SZ", &parts);
	return text;
}

char *kube_time_now_micro(char text[KUBE_TIME_TEXT_SIZE])
{
	struct timespec now;
	struct tm parts;

	(void)clock_gettime(CLOCK_REALTIME, &now);
	(void)gmtime_r(&now.tv_sec, &parts);
	size_t length = strftime(text, KUBE_TIME_TEXT_SIZE, "%Y-%m-%dT%H:%M:%S", &parts);

	(void)snprintf(text + length, KUBE_TIME_TEXT_SIZE - length, ".%06uZ",
		(unsigned)(now.tv_nsec / 1000) % 1000000);
	return text;
}
