/* SPDX-License-Identifier: Apache-2.0 */
#include "kube/transfer.h"

#include "base/bytes.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#define CONNECT_TIMEOUT_MS 10000
/* A line with watches that said nothing for so long is asked whether it is still there. */
#define SILENCE_MS         30000
#define PROBE_TIMEOUT_MS   15000
#define TOKEN_AGE_MS       60000
#define TOKEN_BYTES_MAX    65536u
#define RETRY_AFTER_MAX_MS 60000u

struct kube_line {
	struct list_node node;
	struct kube *kube;
	CURLM *multi;
	/* curl's sockets are in an epoll of their own: that curl closes one unasked harms nobody.
	 */
	struct loop_watch watch;
	struct loop_timer curl_timer;  /* curl's */
	struct loop_timer probe_timer; /* runs while there are transfers */
	struct loop_timer ready_timer; /* something is ready though no socket is */
	struct list transfers;
	struct list ready;
	uint64_t heard_ms; /* when the last bytes came; 0: never */
	uint64_t busy_ms;  /* since when something is to be heard */
	bool retired;
	unsigned turning; /* in curl, or in someone's ready */
	struct kube_transfer probe;
	bool probing;
};

/* ---- tokens ---- */

static bool stat_differs(const struct stat *a, const struct stat *b)
{
	return a->st_ino != b->st_ino || a->st_size != b->st_size || a->st_dev != b->st_dev ||
	       a->st_mtim.tv_sec != b->st_mtim.tv_sec || a->st_mtim.tv_nsec != b->st_mtim.tv_nsec;
}

static void token_set(struct kube *kube, char *token)
{
	if (kube->token != NULL) {
		explicit_bzero(kube->token, strlen(kube->token));
	}
	free(kube->token);
	kube->token = token;
}

void kube_token_refresh(struct kube *kube, bool must)
{
	const char *path = kube->config.token_file;
	struct stat stat_now = {0};
	struct strbuf text;
	struct err err = {0};

	if (path == NULL) {
		return;
	}
	uint64_t now_ms = loop_now_ms(kube->loop);

	(void)stat(path, &stat_now);
	if (!must && kube->token != NULL && now_ms - kube->token_read_ms < TOKEN_AGE_MS &&
		!stat_differs(&stat_now, &kube->token_stat)) {
		return;
	}
	strbuf_init(&text);
	int result = kube_file_read(path, TOKEN_BYTES_MAX, &text, &err);

	if (result == 0 && text.text == NULL) {
		result = err_set(&err, -EINVAL, "%s is empty", path);
	}
	if (result == 0) {
		result = kube_token_check(text.text, path, &err);
	}
	if (result < 0) {
		/* The old one may still be good; the next request tries again. */
		log_warning(kube->log, "kube", "token-unreadable", "error=%s", err.text);
		strbuf_done(&text);
		return;
	}
	token_set(kube, text.text);
	kube->token_read_ms = now_ms;
	kube->token_stat = stat_now;
}

bool kube_token_is_new(struct kube *kube, const struct kube_transfer *refused)
{
	if (kube->config.cert_file != NULL) {
		/* Read again with the next connection. */
		kube_line_retire(kube);
		return true;
	}
	kube_token_refresh(kube, true);
	return kube->token != NULL &&
	       (refused->token == NULL || strcmp(kube->token, refused->token) != 0);
}

/* ---- what curl calls ---- */

static void make_ready(struct kube_transfer *transfer)
{
	if (!list_is_linked(&transfer->ready_node)) {
		list_push_back(&transfer->line->ready, &transfer->ready_node);
	}
}

static size_t body_received(char *from, size_t size, size_t count, void *ctx)
{
	struct kube_transfer *transfer = ctx;
	size_t length = size * count;

	transfer->line->heard_ms = loop_now_ms(transfer->kube->loop);
	/* What curl reads in one go comes on top of what a stream's owner left there. */
	if (transfer->received.length + length > KUBE_BODY_BYTES_MAX + 4u * 1024 * 1024) {
		transfer->too_large = true;
		return 0;
	}
	strbuf_append_bytes(&transfer->received, from, length);
	if (strbuf_failed(&transfer->received)) {
		return 0;
	}
	if (transfer->is_stream) {
		make_ready(transfer);
	}
	return length;
}

static size_t header_received(char *from, size_t size, size_t count, void *ctx)
{
	struct kube_transfer *transfer = ctx;
	long status = 0;

	(void)from;
	transfer->line->heard_ms = loop_now_ms(transfer->kube->loop);
	(void)curl_easy_getinfo(transfer->easy, CURLINFO_RESPONSE_CODE, &status);
	if (status >= 200 && status < 1000 && transfer->status == 0) {
		transfer->status = (unsigned)status;
		if (transfer->is_stream) {
			make_ready(transfer);
		}
	}
	return size * count;
}

/* Without a seek function curl cannot send a body twice, which it otherwise does on its own when a
 * connection breaks that was used before: a write could be executed twice. */
static size_t body_wanted(char *to, size_t size, size_t count, void *ctx)
{
	struct kube_transfer *transfer = ctx;
	size_t length = min_u64(size * count, transfer->body_length - transfer->body_sent);

	memcpy(to, transfer->body + transfer->body_sent, length);
	transfer->body_sent += length;
	return length;
}

static int socket_made(void *ctx, curl_socket_t fd, curlsocktype purpose)
{
	unsigned timeout_ms = SILENCE_MS;

	(void)ctx;
	(void)purpose;
	/* curl's sockets would be inherited by every mount and mkfs that we start. */
	(void)fcntl(fd, F_SETFD, FD_CLOEXEC);
	/* Bytes, or probes of keepalive, that nobody acknowledges for so long end the connection.
	 */
	(void)setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &timeout_ms, sizeof(timeout_ms));
	return CURL_SOCKOPT_OK;
}

static int socket_changed(CURL *easy, curl_socket_t fd, int what, void *ctx, void *socket_ctx)
{
	struct kube_line *line = ctx;
	struct epoll_event event = {.data.fd = fd};

	(void)easy;
	(void)socket_ctx;
	if (what == CURL_POLL_REMOVE) {
		(void)epoll_ctl(line->watch.fd, EPOLL_CTL_DEL, fd, NULL);
		return 0;
	}
	event.events = ((what & CURL_POLL_IN) != 0 ? (uint32_t)EPOLLIN : 0) |
		       ((what & CURL_POLL_OUT) != 0 ? (uint32_t)EPOLLOUT : 0);
	if (epoll_ctl(line->watch.fd, EPOLL_CTL_MOD, fd, &event) == 0) {
		return 0;
	}
	return errno == ENOENT && epoll_ctl(line->watch.fd, EPOLL_CTL_ADD, fd, &event) == 0 ? 0
											    : -1;
}

static int timer_changed(CURLM *multi, long delay_ms, void *ctx)
{
	struct kube_line *line = ctx;

	(void)multi;
	if (delay_ms < 0) {
		loop_timer_stop(&line->curl_timer);
	} else {
		loop_timer_start(line->kube->loop, &line->curl_timer, (uint64_t)delay_ms);
	}
	return 0;
}

/* ---- the end of a transfer ---- */

static int connect_errno(CURL *easy)
{
	long code = 0;

	(void)curl_easy_getinfo(easy, CURLINFO_OS_ERRNO, &code);
	return code > 0 && code < 4096 && code != EINPROGRESS ? -(int)code : -ECONNREFUSED;
}

static int curl_to_errno(const struct kube_transfer *transfer, CURLcode code)
{
	switch ((int)code) {
	case CURLE_OK:
		return 0;
	case CURLE_COULDNT_CONNECT:
		return connect_errno(transfer->easy);
	case CURLE_COULDNT_RESOLVE_HOST:
	case CURLE_COULDNT_RESOLVE_PROXY:
		return -EHOSTUNREACH;
	case CURLE_OPERATION_TIMEDOUT:
		return -ETIMEDOUT;
	case CURLE_OUT_OF_MEMORY:
		return -ENOMEM;
	case CURLE_WRITE_ERROR:
		return transfer->too_large ? -EPROTO : -ENOMEM;
	case CURLE_GOT_NOTHING:
	case CURLE_RECV_ERROR:
	case CURLE_SEND_ERROR:
	case CURLE_SEND_FAIL_REWIND:
	case CURLE_PARTIAL_FILE:
	case CURLE_HTTP2:
	case CURLE_HTTP2_STREAM:
		return -ECONNRESET;
	}
	/* Certificates, and what is no HTTP. */
	return -EPROTO;
}

static void transfer_ended(struct kube_transfer *transfer, CURLcode code)
{
	struct kube_line *line = transfer->line;
	curl_off_t retry_after_s = 0, connect_us = 0;
	const char *text =
		transfer->curl_text[0] != '\0' ? transfer->curl_text : curl_easy_strerror(code);

	if (transfer->ended) {
		return;
	}
	transfer->ended = true;
	transfer->result = curl_to_errno(transfer, code);
	(void)curl_easy_getinfo(transfer->easy, CURLINFO_RETRY_AFTER, &retry_after_s);
	transfer->retry_after_ms =
		retry_after_s <= 0 ? 0
				   : min_u64((uint64_t)retry_after_s * 1000, RETRY_AFTER_MAX_MS);
	if (transfer->result < 0) {
		(void)curl_easy_getinfo(transfer->easy, CURLINFO_PRETRANSFER_TIME_T, &connect_us);
		transfer->never_sent = connect_us == 0 && transfer->status == 0;
		(void)err_set(&transfer->err, transfer->result, "%s: %s",
			transfer->kube->config.server,
			transfer->too_large ? "the answer is above 32 MiB" : text);
	}
	/* Nothing at all came over the line since this was sent: it is dead, whatever TCP says. */
	if (transfer->result == -ETIMEDOUT && line->heard_ms < transfer->started_ms &&
		line->kube->line == line) {
		kube_line_retire(line->kube);
	}
	make_ready(transfer);
}

static void line_free(struct kube_line *line)
{
	loop_timer_stop(&line->curl_timer);
	loop_timer_stop(&line->probe_timer);
	loop_timer_stop(&line->ready_timer);
	if (line->multi != NULL) {
		(void)curl_multi_cleanup(line->multi);
	}
	/* curl closes its connections, and may set its timer for that. */
	loop_timer_stop(&line->curl_timer);
	loop_watch_remove(line->kube->loop, &line->watch);
	if (line->watch.fd >= 0) {
		close(line->watch.fd);
	}
	if (line->kube->line == line) {
		line->kube->line = NULL;
	}
	list_remove_if_linked(&line->node);
	free(line);
}

static void free_if_over(struct kube_line *line)
{
	if (line->retired && line->turning == 0 && list_is_empty(&line->transfers)) {
		line_free(line);
	}
}

/* After each call into curl: what ended, and everybody who has something to look at. */
static void look(struct kube_line *line)
{
	struct CURLMsg *message;
	int left;

	while ((message = curl_multi_info_read(line->multi, &left)) != NULL) {
		struct kube_transfer *transfer = NULL;

		if (message->msg == CURLMSG_DONE &&
			curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE,
				(char **)&transfer) == CURLE_OK) {
			transfer_ended(transfer, message->data.result);
		}
	}
	for (;;) {
		struct list_node *node = list_pop_front(&line->ready);

		if (node == NULL) {
			break;
		}
		struct kube_transfer *transfer =
			container_of(node, struct kube_transfer, ready_node);

		transfer->ready(transfer);
	}
	line->turning--;
	free_if_over(line);
}

static void sockets_ready(struct loop_watch *watch, uint32_t events)
{
	struct kube_line *line = container_of(watch, struct kube_line, watch);
	struct epoll_event ready[16];
	int running;
	int count = epoll_wait(watch->fd, ready, ARRAY_COUNT(ready), 0);

	(void)events;
	line->turning++;
	for (int i = 0; i < count; i++) {
		int what = ((ready[i].events & EPOLLIN) != 0 ? CURL_CSELECT_IN : 0) |
			   ((ready[i].events & EPOLLOUT) != 0 ? CURL_CSELECT_OUT : 0) |
			   ((ready[i].events & (EPOLLERR | EPOLLHUP)) != 0 ? CURL_CSELECT_ERR : 0);

		(void)curl_multi_socket_action(line->multi, ready[i].data.fd, what, &running);
	}
	look(line);
}

static void curl_timer_expired(struct loop_timer *timer)
{
	struct kube_line *line = container_of(timer, struct kube_line, curl_timer);
	int running;

	line->turning++;
	(void)curl_multi_socket_action(line->multi, CURL_SOCKET_TIMEOUT, 0, &running);
	look(line);
}

static void ready_timer_expired(struct loop_timer *timer)
{
	struct kube_line *line = container_of(timer, struct kube_line, ready_timer);

	line->turning++;
	look(line);
}

/* ---- lines ---- */

static void probe_ready(struct kube_transfer *transfer)
{
	struct kube_line *line = transfer->line;

	/* Any answer is one; none retired the line. */
	line->probing = false;
	kube_transfer_end(transfer);
}

static void probe_timer_expired(struct loop_timer *timer)
{
	struct kube_line *line = container_of(timer, struct kube_line, probe_timer);
	struct kube_transfer_options options = {.method = "GET",
		.path = "/version",
		.timeout_ms = PROBE_TIMEOUT_MS,
		.ready = probe_ready};
	struct err err = {0};

	if (line->retired || list_is_empty(&line->transfers)) {
		return;
	}
	loop_timer_start(line->kube->loop, timer, SILENCE_MS / 3);
	if (!line->probing && line == line->kube->line &&
		loop_now_ms(line->kube->loop) - max_u64(line->heard_ms, line->busy_ms) >=
			SILENCE_MS) {
		line->probing = kube_transfer_start(line->kube, &line->probe, &options, &err) == 0;
	}
}

static struct kube_line *line_new(struct kube *kube)
{
	struct kube_line *line = calloc(1, sizeof(*line));

	if (line == NULL) {
		return NULL;
	}
	line->kube = kube;
	list_init(&line->transfers);
	list_init(&line->ready);
	line->curl_timer.expired = curl_timer_expired;
	line->probe_timer.expired = probe_timer_expired;
	line->ready_timer.expired = ready_timer_expired;
	line->watch.fd = epoll_create1(EPOLL_CLOEXEC);
	line->watch.events = EPOLLIN;
	line->watch.ready = sockets_ready;
	line->multi = curl_multi_init();
	if (line->watch.fd < 0 || line->multi == NULL ||
		loop_watch_add(kube->loop, &line->watch) < 0) {
		line_free(line);
		return NULL;
	}
	(void)curl_multi_setopt(line->multi, CURLMOPT_PIPELINING, (long)CURLPIPE_MULTIPLEX);
	(void)curl_multi_setopt(line->multi, CURLMOPT_SOCKETFUNCTION, socket_changed);
	(void)curl_multi_setopt(line->multi, CURLMOPT_SOCKETDATA, line);
	(void)curl_multi_setopt(line->multi, CURLMOPT_TIMERFUNCTION, timer_changed);
	(void)curl_multi_setopt(line->multi, CURLMOPT_TIMERDATA, line);
	list_push_back(&kube->lines, &line->node);
	metric_inc(&kube->metric_connections, 1);
	return line;
}

void kube_line_retire(struct kube *kube)
{
	struct kube_line *line = kube->line;

	if (line == NULL) {
		return;
	}
	kube->line = NULL;
	line->retired = true;
	list_for_each (&line->transfers, node) {
		struct kube_transfer *transfer = container_of(node, struct kube_transfer, node);

		if (transfer->is_stream && !transfer->ended) {
			transfer->ended = true;
			transfer->result = err_set(&transfer->err, -ETIMEDOUT,
				"%s: the connection does not answer", kube->config.server);
			make_ready(transfer);
		}
	}
	loop_timer_start(kube->loop, &line->ready_timer, 0);
}

void kube_lines_free(struct kube *kube)
{
	list_for_each_safe (&kube->lines, node, following) {
		struct kube_line *line = container_of(node, struct kube_line, node);

		assert(line->turning == 0);
		if (line->probing) {
			line->probing = false;
			line->retired = false;
			kube_transfer_end(&line->probe);
		}
		assert(list_is_empty(&line->transfers));
		line_free(line);
	}
	token_set(kube, NULL);
}

/* ---- starting ---- */

static void set_blob(CURL *easy, CURLoption option, char *text)
{
	struct curl_blob blob = {.data = text, .len = strlen(text), .flags = CURL_BLOB_NOCOPY};

	(void)curl_easy_setopt(easy, option, &blob);
}

static void set_tls(CURL *easy, const struct kube_config *config)
{
	(void)curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, config->insecure ? 0L : 1L);
	(void)curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, config->insecure ? 0L : 2L);
	/* Authorities and certificates are rotated: they are read with each connection. */
	(void)curl_easy_setopt(easy, CURLOPT_CA_CACHE_TIMEOUT, 0L);
	if (config->ca_pem != NULL || config->ca_file != NULL) {
		/* Those of the system are trusted besides, unless they are taken away. */
		(void)curl_easy_setopt(easy, CURLOPT_CAPATH, (char *)NULL);
	}
	if (config->ca_pem != NULL) {
		set_blob(easy, CURLOPT_CAINFO_BLOB, config->ca_pem);
	} else if (config->ca_file != NULL) {
		(void)curl_easy_setopt(easy, CURLOPT_CAINFO, config->ca_file);
	}
	if (config->cert_pem != NULL) {
		set_blob(easy, CURLOPT_SSLCERT_BLOB, config->cert_pem);
	} else if (config->cert_file != NULL) {
		(void)curl_easy_setopt(easy, CURLOPT_SSLCERT, config->cert_file);
	}
	if (config->key_pem != NULL) {
		set_blob(easy, CURLOPT_SSLKEY_BLOB, config->key_pem);
	} else if (config->key_file != NULL) {
		(void)curl_easy_setopt(easy, CURLOPT_SSLKEY, config->key_file);
	}
}

static bool add_header(struct kube_transfer *transfer, const char *header)
{
	struct curl_slist *longer = curl_slist_append(transfer->headers, header);

	if (longer != NULL) {
		transfer->headers = longer;
	}
	return longer != NULL;
}

static bool set_headers(struct kube_transfer *transfer, const struct kube_transfer_options *options)
{
	struct kube *kube = transfer->kube;
	const char *token = kube->config.token != NULL ? kube->config.token : kube->token;
	struct strbuf header;
	bool is_set = add_header(transfer, "Accept: application/json") &&
		      /* curl would wait a second for the server's "100 Continue". */
		      add_header(transfer, "Expect:");

	strbuf_init(&header);
	if (options->content_type != NULL) {
		strbuf_printf(&header, "Content-Type: %s", options->content_type);
		is_set = is_set && !strbuf_failed(&header) && add_header(transfer, header.text);
		strbuf_done(&header);
	}
	if (token != NULL) {
		transfer->token = strdup(token);
		strbuf_printf(&header, "Authorization: Bearer %s", token);
		is_set = is_set && transfer->token != NULL && !strbuf_failed(&header) &&
			 add_header(transfer, header.text);
		strbuf_done(&header);
	}
	(void)curl_easy_setopt(transfer->easy, CURLOPT_HTTPHEADER, transfer->headers);
	return is_set;
}

/* The certificate is for another name than the server's address: curl is given the name in the URL,
 * and the address to connect to. */
static bool set_url(struct kube_transfer *transfer, const char *path)
{
	const struct kube_config *config = &transfer->kube->config;
	struct strbuf url;

	strbuf_init(&url);
	if (config->tls_server_name == NULL || strncmp(config->server, "https://", 8) != 0) {
		strbuf_printf(&url, "%s%s", config->server, path);
	} else {
		const char *authority = config->server + 8;
		size_t length = strcspn(authority, "/");
		const char *port = authority[0] == '[' ? strchr(authority, ']') : authority;

		port = port == NULL ? NULL : memchr(port, ':', length - (size_t)(port - authority));
		strbuf_printf(&url, "::%.*s%s", (int)length, authority, port == NULL ? ":443" : "");
		if (!strbuf_failed(&url)) {
			transfer->connect_to = curl_slist_append(NULL, url.text);
		}
		(void)curl_easy_setopt(transfer->easy, CURLOPT_CONNECT_TO, transfer->connect_to);
		strbuf_done(&url);
		strbuf_printf(
			&url, "https://%s%s%s", config->tls_server_name, authority + length, path);
		if (transfer->connect_to == NULL) {
			url.failed = true;
		}
	}
	bool is_set = !strbuf_failed(&url) &&
		      curl_easy_setopt(transfer->easy, CURLOPT_URL, url.text) == CURLE_OK;

	strbuf_done(&url);
	return is_set;
}

static void set_options(struct kube_transfer *transfer, const struct kube_transfer_options *options)
{
	CURL *easy = transfer->easy;
	const struct kube_config *config = &transfer->kube->config;

	(void)curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
	/* A thread that waits for DNS is left behind, not waited for. */
	(void)curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L);
	(void)curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
	(void)curl_easy_setopt(easy, CURLOPT_PATH_AS_IS, 1L);
	(void)curl_easy_setopt(
		easy, CURLOPT_PROXY, config->proxy_url != NULL ? config->proxy_url : "");
	(void)curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_2TLS);
	(void)curl_easy_setopt(easy, CURLOPT_PIPEWAIT, 1L);
	(void)curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)CONNECT_TIMEOUT_MS);
	(void)curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)options->timeout_ms);
	(void)curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
	(void)curl_easy_setopt(easy, CURLOPT_TCP_KEEPIDLE, 15L);
	(void)curl_easy_setopt(easy, CURLOPT_TCP_KEEPINTVL, 5L);
	(void)curl_easy_setopt(easy, CURLOPT_SOCKOPTFUNCTION, socket_made);
	(void)curl_easy_setopt(easy, CURLOPT_USERAGENT, transfer->kube->user_agent);
	(void)curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, transfer->curl_text);
	(void)curl_easy_setopt(easy, CURLOPT_PRIVATE, transfer);
	(void)curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, body_received);
	(void)curl_easy_setopt(easy, CURLOPT_WRITEDATA, transfer);
	(void)curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, header_received);
	(void)curl_easy_setopt(easy, CURLOPT_HEADERDATA, transfer);
	if (options->body != NULL) {
		(void)curl_easy_setopt(easy, CURLOPT_UPLOAD, 1L);
		(void)curl_easy_setopt(easy, CURLOPT_READFUNCTION, body_wanted);
		(void)curl_easy_setopt(easy, CURLOPT_READDATA, transfer);
		(void)curl_easy_setopt(
			easy, CURLOPT_INFILESIZE_LARGE, (curl_off_t)options->body_length);
	}
	(void)curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, options->method);
	set_tls(easy, config);
}

int kube_transfer_start(struct kube *kube, struct kube_transfer *transfer,
	const struct kube_transfer_options *options, struct err *err)
{
	if (kube->line == NULL) {
		kube->line = line_new(kube);
	}
	*transfer = (struct kube_transfer){.kube = kube,
		.line = kube->line,
		.body = options->body,
		.body_length = options->body_length,
		.is_stream = options->is_stream,
		.ready = options->ready,
		.started_ms = loop_now_ms(kube->loop)};
	kube_token_refresh(kube, false);
	transfer->easy = kube->line == NULL ? NULL : curl_easy_init();
	if (transfer->easy == NULL || !set_headers(transfer, options) ||
		!set_url(transfer, options->path)) {
		kube_transfer_end(transfer);
		return err_set(err, -ENOMEM, "no memory for a request");
	}
	set_options(transfer, options);
	if (curl_multi_add_handle(kube->line->multi, transfer->easy) != CURLM_OK) {
		kube_transfer_end(transfer);
		return err_set(err, -ENOMEM, "curl takes no request");
	}
	list_push_back(&kube->line->transfers, &transfer->node);
	if (!loop_timer_is_running(&kube->line->probe_timer)) {
		kube->line->busy_ms = transfer->started_ms;
		loop_timer_start(kube->loop, &kube->line->probe_timer, SILENCE_MS / 3);
	}
	return 0;
}

void kube_transfer_end(struct kube_transfer *transfer)
{
	struct kube_line *line = transfer->line;

	if (transfer->easy != NULL) {
		if (list_is_linked(&transfer->node)) {
			(void)curl_multi_remove_handle(line->multi, transfer->easy);
			list_remove(&transfer->node);
		}
		curl_easy_cleanup(transfer->easy);
	}
	list_remove_if_linked(&transfer->ready_node);
	curl_slist_free_all(transfer->headers);
	curl_slist_free_all(transfer->connect_to);
	if (transfer->token != NULL) {
		explicit_bzero(transfer->token, strlen(transfer->token));
	}
	free(transfer->token);
	strbuf_done(&transfer->received);
	transfer->easy = NULL;
	transfer->headers = transfer->connect_to = NULL;
	transfer->token = NULL;
	transfer->line = NULL;
	if (line != NULL) {
		free_if_over(line);
	}
}
