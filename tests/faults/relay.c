/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A TCP relay that delays, stalls and cuts what it carries.
 *
 *   fault-relay PIPES LISTEN=TARGET ...
 *
 * Both are IPv4 ADDRESS:PORT; the routes are numbered from 0.  Each line to the named pipe PIPES.in
 * is a command, each is answered with one line to PIPES.out: "ok connections=C held=BYTES cuts=N
 * overtaken=N", counted since the start, or "error".
 *
 *   delay ROUTE up|down|both MIN MAX [old]
 *     Each connection, each way: what arrives is passed on after a time of its own between MIN and
 *     MAX ms, drawn anew every second.  Bytes of one connection stay in order, those of two
 *     connections do not.  old: not in connections that come later.
 *   stall ROUTE up|down|both [old]
 *     Nothing is passed on.
 *   cut ROUTE BYTES
 *     After so many bytes more of the route's, in the middle of whatever it is, all its connections
 *     are reset.
 *   clear ROUTE
 *     What is held is passed on at once, and from now on what arrives.
 *   look
 *     Only the answer.
 *
 * up is from who connects to the target.  What one side has sent is passed on also after that side
 * has hung up, as by a network: a connection that was given up can still deliver.
 */
#include "tests/faults/commands.h"

#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define ROUTES_MAX      8u
#define CONNECTIONS_MAX 64u
#define CHUNK           65536u
#define HELD_MAX        (8u << 20) /* of one direction; then nothing more is read */
#define REDRAW_NS       1000000000u
#define NEVER           UINT64_MAX

enum { UP, DOWN };

struct rule {
	uint64_t min_ns, max_ns; /* NEVER: stalled */
};

struct chunk {
	struct chunk *next;
	uint64_t due_ns, arrived_ns;
	size_t length, sent;
	uint8_t data[];
};

struct way {
	struct rule rule;
	uint64_t delay_ns, redraw_ns;
	uint64_t last_due_ns;
	struct chunk *first, **last;
	size_t held;
	bool ended; /* its source has hung up */
	bool dead;  /* its destination has */
};

struct connection {
	bool used, connecting;
	unsigned route;
	int fd[2]; /* [UP]: who connected, source of what goes up; [DOWN]: the target */
	struct way way[2];
};

struct route {
	int fd;
	struct sockaddr_in target;
	struct rule rule[2]; /* of connections to come */
	uint64_t cut_after;  /* bytes; NEVER */
};

static int command_fd;
static struct route routes[ROUTES_MAX];
static unsigned route_count;
static struct connection connections[CONNECTIONS_MAX];
static uint64_t cuts, overtaken, last_passed_ns[ROUTES_MAX][2];

static void fail(const char *what)
{
	fprintf(stderr, "fault-relay: %s: %s\n", what, strerror(errno));
	exit(1);
}

static uint64_t now_ns(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

/* ---- connections ---- */

static void way_drop(struct way *way)
{
	while (way->first != NULL) {
		struct chunk *chunk = way->first;

		way->first = chunk->next;
		free(chunk);
	}
	way->last = &way->first;
	way->held = 0;
}

static void connection_close(struct connection *connection, bool reset)
{
	struct linger linger = {.l_onoff = 1};

	for (unsigned i = 0; i < 2; i++) {
		if (reset) {
			(void)setsockopt(
				connection->fd[i], SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
		}
		close(connection->fd[i]);
		way_drop(&connection->way[i]);
	}
	connection->used = false;
}

static void way_begin(struct way *way, const struct rule *rule)
{
	*way = (struct way){.rule = *rule, .last = &way->first};
}

static void route_accept(unsigned number)
{
	struct route *route = &routes[number];
	struct connection *connection = NULL;
	int fd = accept4(route->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC), target, on = 1;

	if (fd < 0) {
		return;
	}
	for (unsigned i = 0; i < CONNECTIONS_MAX && connection == NULL; i++) {
		connection = connections[i].used ? NULL : &connections[i];
	}
	target = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (connection == NULL || target < 0 ||
		(connect(target, (struct sockaddr *)&route->target, sizeof(route->target)) != 0 &&
			errno != EINPROGRESS)) {
		close(fd);
		close(target);
		return;
	}
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	(void)setsockopt(target, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	*connection = (struct connection){
		.used = true, .connecting = true, .route = number, .fd = {fd, target}};
	way_begin(&connection->way[UP], &route->rule[UP]);
	way_begin(&connection->way[DOWN], &route->rule[DOWN]);
}

static void route_cut(unsigned number)
{
	for (unsigned i = 0; i < CONNECTIONS_MAX; i++) {
		if (connections[i].used && connections[i].route == number) {
			connection_close(&connections[i], true);
		}
	}
	routes[number].cut_after = NEVER;
	cuts++;
}

/* ---- what is carried ---- */

static uint64_t way_due(struct way *way, uint64_t now)
{
	if (way->rule.min_ns == NEVER) {
		return NEVER;
	}
	if (now >= way->redraw_ns) {
		uint64_t span = way->rule.max_ns - way->rule.min_ns;

		way->delay_ns =
			way->rule.min_ns + (span > 0 ? (uint64_t)random() * 1000 % (span + 1) : 0);
		way->redraw_ns = now + REDRAW_NS;
	}
	if (now + way->delay_ns > way->last_due_ns) {
		way->last_due_ns = now + way->delay_ns;
	}
	return way->last_due_ns;
}

/* From the side that is the way's source; false: it has hung up. */
static bool way_read(struct connection *connection, unsigned direction)
{
	struct way *way = &connection->way[direction];
	struct chunk *chunk = malloc(sizeof(*chunk) + CHUNK);
	ssize_t length;

	if (chunk == NULL) {
		fail("memory");
	}
	length = read(connection->fd[direction], chunk->data, CHUNK);
	if (length <= 0) {
		free(chunk);
		return length < 0 && (errno == EAGAIN || errno == EINTR);
	}
	chunk->next = NULL;
	chunk->sent = 0;
	chunk->length = (size_t)length;
	chunk->arrived_ns = now_ns();
	chunk->due_ns = way_due(way, chunk->arrived_ns);
	*way->last = chunk;
	way->last = &chunk->next;
	way->held += (size_t)length;
	if (way->dead) {
		way_drop(way);
	}
	return true;
}

/* Bytes of the route that may still pass before it is cut. */
static size_t route_allows(const struct route *route, size_t length)
{
	return route->cut_after < length ? (size_t)route->cut_after : length;
}

/* Passes on what is due; false: that was all, the connection is over. */
static bool way_write(struct connection *connection, unsigned direction, uint64_t now)
{
	struct way *way = &connection->way[direction];
	struct route *route = &routes[connection->route];

	while (way->first != NULL && way->first->due_ns <= now) {
		struct chunk *chunk = way->first;
		size_t wanted = route_allows(route, chunk->length - chunk->sent);
		ssize_t sent = send(connection->fd[1 - direction], chunk->data + chunk->sent,
			wanted, MSG_NOSIGNAL);

		if (sent < 0 && (errno == EAGAIN || errno == EINTR)) {
			return true;
		}
		if (sent < 0) {
			/* The other way goes on until it has delivered what it holds. */
			way->dead = true;
			way_drop(way);
			return true;
		}
		chunk->sent += (size_t)sent;
		way->held -= (size_t)sent;
		if (route->cut_after != NEVER) {
			route->cut_after -= (uint64_t)sent;
			if (route->cut_after == 0) {
				route_cut(connection->route);
				return true;
			}
		}
		if (chunk->sent < chunk->length) {
			return true;
		}
		overtaken += chunk->arrived_ns < last_passed_ns[connection->route][direction];
		last_passed_ns[connection->route][direction] = chunk->arrived_ns;
		way->first = chunk->next;
		way->last = way->first == NULL ? &way->first : way->last;
		free(chunk);
	}
	return way->dead || way->first != NULL || !way->ended;
}

/* ---- commands ---- */

static void way_set(struct way *way, const struct rule *rule, bool clear)
{
	way->rule = *rule;
	way->redraw_ns = 0;
	if (clear) {
		way->last_due_ns = 0;
		for (struct chunk *chunk = way->first; chunk != NULL; chunk = chunk->next) {
			chunk->due_ns = 0;
		}
	}
}

static void set_rule(unsigned route, unsigned direction, struct rule rule, bool old, bool clear)
{
	for (unsigned i = 0; i < CONNECTIONS_MAX; i++) {
		if (connections[i].used && connections[i].route == route) {
			way_set(&connections[i].way[direction], &rule, clear);
		}
	}
	if (!old) {
		routes[route].rule[direction] = rule;
	}
}

static void set_rules(unsigned route, const char *which, struct rule rule, bool old, bool clear)
{
	for (unsigned direction = UP; direction <= DOWN; direction++) {
		if (strcmp(which, "both") == 0 ||
			strcmp(which, direction == UP ? "up" : "down") == 0) {
			set_rule(route, direction, rule, old, clear);
		}
	}
}

static bool obey(const char *line)
{
	char which[8] = "", old[8] = "";
	unsigned route = 0;
	uint64_t a, b;
	bool is_way;

	if (strcmp(line, "look") == 0) {
		return true;
	}
	if (sscanf(line, "%*s %u %7s", &route, which) < 1 || route >= route_count) {
		return false;
	}
	is_way = strcmp(which, "up") == 0 || strcmp(which, "down") == 0 ||
		 strcmp(which, "both") == 0;
	if (sscanf(line, "delay %*u %*s %" SCNu64 " %" SCNu64 " %7s", &a, &b, old) >= 2 && is_way &&
		a <= b) {
		set_rules(route, which, (struct rule){a * 1000000, b * 1000000},
			strcmp(old, "old") == 0, false);
		return true;
	}
	if (strncmp(line, "stall ", 6) == 0 && is_way) {
		(void)sscanf(line, "%*s %*u %*s %7s", old);
		set_rules(
			route, which, (struct rule){NEVER, NEVER}, strcmp(old, "old") == 0, false);
		return true;
	}
	if (sscanf(line, "cut %*u %" SCNu64, &a) == 1) {
		routes[route].cut_after = a > 0 ? a : 1;
		return true;
	}
	if (strncmp(line, "clear ", 6) == 0) {
		set_rules(route, "both", (struct rule){0, 0}, false, true);
		routes[route].cut_after = NEVER;
		return true;
	}
	return false;
}

static void tell(char *text, size_t size)
{
	unsigned count = 0;
	size_t held = 0;

	for (unsigned i = 0; i < CONNECTIONS_MAX; i++) {
		if (connections[i].used) {
			count++;
			held += connections[i].way[UP].held + connections[i].way[DOWN].held;
		}
	}
	(void)snprintf(text, size, "connections=%u held=%zu cuts=%" PRIu64 " overtaken=%" PRIu64,
		count, held, cuts, overtaken);
}

/* ---- the loop ---- */

/* What to wait for at fd[side]: more to carry from it, and room for what is due to it. */
static short events_of(const struct connection *connection, unsigned side, uint64_t now)
{
	const struct way *from = &connection->way[side], *to = &connection->way[1 - side];
	short events = 0;

	if (connection->connecting) {
		return side == DOWN ? POLLOUT : 0;
	}
	if (!from->ended && from->held < HELD_MAX) {
		events |= POLLIN;
	}
	if (to->first != NULL && to->first->due_ns <= now) {
		events |= POLLOUT;
	}
	return events;
}

static int time_left_ms(uint64_t now)
{
	uint64_t next_ns = now + 1000000000u;

	for (unsigned i = 0; i < CONNECTIONS_MAX * 2; i++) {
		const struct connection *connection = &connections[i / 2];
		const struct chunk *first = connection->used ? connection->way[i % 2].first : NULL;

		if (first != NULL && first->due_ns > now && first->due_ns < next_ns) {
			next_ns = first->due_ns;
		}
	}
	return (int)((next_ns - now + 999999) / 1000000);
}

static bool target_connected(struct connection *connection)
{
	int error = 0;
	socklen_t size = sizeof(error);

	(void)getsockopt(connection->fd[DOWN], SOL_SOCKET, SO_ERROR, &error, &size);
	connection->connecting = false;
	return error == 0;
}

static void connection_serve(struct connection *connection, const struct pollfd polled[2])
{
	if (connection->connecting && polled[DOWN].revents != 0 && !target_connected(connection)) {
		connection_close(connection, true);
		return;
	}
	for (unsigned side = UP; side <= DOWN && !connection->connecting; side++) {
		struct way *way = &connection->way[side];

		if ((polled[side].revents & (POLLIN | POLLHUP | POLLERR)) != 0 && !way->ended &&
			way->held < HELD_MAX) {
			way->ended = !way_read(connection, side);
		}
		if (!way_write(connection, side, now_ns())) {
			connection_close(connection, false);
			return;
		}
		if (!connection->used) {
			return; /* cut */
		}
	}
	/* Connecting takes as long as it takes; but who waits may give up. */
	if (connection->connecting && (polled[UP].revents & (POLLHUP | POLLERR)) != 0) {
		connection_close(connection, true);
	}
}

static void serve(void)
{
	static struct pollfd polled[1 + ROUTES_MAX + CONNECTIONS_MAX * 2];
	struct pollfd *of_connections = polled + 1 + route_count;

	for (;;) {
		uint64_t now = now_ns();

		polled[0] = (struct pollfd){.fd = command_fd, .events = POLLIN};
		for (unsigned i = 0; i < route_count; i++) {
			polled[1 + i] = (struct pollfd){.fd = routes[i].fd, .events = POLLIN};
		}
		for (unsigned i = 0; i < CONNECTIONS_MAX * 2; i++) {
			const struct connection *connection = &connections[i / 2];
			short events = connection->used ? events_of(connection, i % 2, now) : 0;
			/* A side that hung up would report it for ever. */
			bool watched = connection->used && (events != 0 || connection->connecting);

			of_connections[i] = (struct pollfd){
				.fd = watched ? connection->fd[i % 2] : -1, .events = events};
		}
		if (poll(polled, 1 + route_count + CONNECTIONS_MAX * 2, time_left_ms(now)) < 0 &&
			errno != EINTR) {
			fail("poll");
		}
		if (polled[0].revents != 0) {
			commands_read(obey, tell);
		}
		for (unsigned i = 0; i < CONNECTIONS_MAX; i++) {
			if (connections[i].used) {
				connection_serve(&connections[i], &of_connections[i * 2]);
			}
		}
		for (unsigned i = 0; i < route_count; i++) {
			if (polled[1 + i].revents != 0) {
				route_accept(i);
			}
		}
	}
}

static bool parse_address(char *text, struct sockaddr_in *ret_address)
{
	char *port = strchr(text, ':');

	if (port == NULL) {
		return false;
	}
	*port++ = '\0';
	*ret_address = (struct sockaddr_in){
		.sin_family = AF_INET, .sin_port = htons((uint16_t)strtoul(port, NULL, 10))};
	return inet_pton(AF_INET, text, &ret_address->sin_addr) == 1;
}

static void route_listen(char *text)
{
	struct route *route = &routes[route_count];
	struct sockaddr_in address;
	char *target = strchr(text, '=');
	int on = 1;

	if (target == NULL || route_count == ROUTES_MAX) {
		fprintf(stderr, "fault-relay: %s: not LISTEN=TARGET, or too many\n", text);
		exit(2);
	}
	*target++ = '\0';
	if (!parse_address(text, &address) || !parse_address(target, &route->target)) {
		fprintf(stderr, "fault-relay: %s: not ADDRESS:PORT\n", text);
		exit(2);
	}
	route->cut_after = NEVER;
	route->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (route->fd < 0 ||
		setsockopt(route->fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) != 0 ||
		bind(route->fd, (struct sockaddr *)&address, sizeof(address)) != 0 ||
		listen(route->fd, 16) != 0) {
		fail("listen");
	}
	route_count++;
}

int main(int argc, char **argv)
{
	if (argc < 3) {
		fprintf(stderr, "usage: fault-relay PIPES LISTEN=TARGET ...\n");
		return 2;
	}
	signal(SIGPIPE, SIG_IGN);
	srandom((unsigned)now_ns());
	for (int i = 2; i < argc; i++) {
		route_listen(argv[i]);
	}
	command_fd = commands_open(argv[1]);
	serve();
	return 0;
}
