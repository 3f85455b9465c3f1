/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/address.h"

#include "base/strbuf.h"

#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ADDRESS_BYTES_MAX 16u

struct network {
	int family;
	unsigned bits;
	uint8_t bytes[ADDRESS_BYTES_MAX];
	uint16_t port;
};

/* ---- the text ---- */

/* "16", "64]", "16:4430", "64]:4430" behind the slash.  Returns the port's text, "" without; NULL:
 * malformed. */
static const char *parse_bits(const char *text, bool bracket, unsigned bits_max, unsigned *ret_bits)
{
	char *end;
	unsigned long bits = strtoul(text, &end, 10);

	if (text[0] < '0' || text[0] > '9' || bits > bits_max) {
		return NULL;
	}
	*ret_bits = (unsigned)bits;
	if (bracket) {
		if (*end != ']') {
			return NULL;
		}
		end++;
	}
	if (*end == '\0') {
		return end;
	}
	return *end == ':' && end[1] != '\0' ? end + 1 : NULL;
}

static int parse_network(const char *text, struct network *network)
{
	const char *slash = strchr(text, '/');
	bool bracket = text[0] == '[';
	const char *host = bracket ? text + 1 : text;
	const char *port;
	char buffer[INET6_ADDRSTRLEN];
	char *end;

	if (slash == NULL || slash < host || (size_t)(slash - host) >= sizeof(buffer)) {
		return -EINVAL;
	}
	memcpy(buffer, host, (size_t)(slash - host));
	buffer[slash - host] = '\0';
	network->family = strchr(buffer, ':') != NULL ? AF_INET6 : AF_INET;
	if (inet_pton(network->family, buffer, network->bytes) != 1 ||
		(bracket && network->family == AF_INET)) {
		return -EINVAL;
	}
	port = parse_bits(
		slash + 1, bracket, network->family == AF_INET ? 32 : 128, &network->bits);
	if (port == NULL) {
		return -EINVAL;
	}
	if (*port != '\0') {
		unsigned long number = strtoul(port, &end, 10);

		if (*port < '0' || *port > '9' || *end != '\0' || number == 0 ||
			number > UINT16_MAX) {
			return -EINVAL;
		}
		network->port = (uint16_t)number;
	}
	return 0;
}

/* ---- the machine's addresses ---- */

static const uint8_t *bytes_of(const struct sockaddr *address)
{
	const void *any = address;

	return address->sa_family == AF_INET
		       ? (const void *)&((const struct sockaddr_in *)any)->sin_addr
		       : (const void *)&((const struct sockaddr_in6 *)any)->sin6_addr;
}

static bool is_inside(const struct network *network, const uint8_t *bytes)
{
	unsigned whole = network->bits / 8;
	unsigned rest = network->bits % 8;
	unsigned mask = 0xff00u >> rest & 0xffu;

	return memcmp(network->bytes, bytes, whole) == 0 &&
	       (rest == 0 || ((network->bytes[whole] ^ bytes[whole]) & mask) == 0);
}

/* Of this family, and of an interface that is up. */
static bool is_usable(const struct ifaddrs *entry, int family)
{
	return entry->ifa_addr != NULL && entry->ifa_addr->sa_family == family &&
	       (entry->ifa_flags & IFF_UP) != 0;
}

static void add_name(struct strbuf *to, const struct ifaddrs *entry)
{
	char text[INET6_ADDRSTRLEN] = "";

	(void)inet_ntop(entry->ifa_addr->sa_family, bytes_of(entry->ifa_addr), text, sizeof(text));
	strbuf_printf(to, "%s%s (%s)", to->length > 0 ? ", " : "", text, entry->ifa_name);
}

/* The machine's addresses of the family, those in the network or all, as "10.0.0.1 (eth0), ...". */
static void list_addresses(const struct network *network, const struct ifaddrs *machine,
	bool only_inside, struct strbuf *to)
{
	for (const struct ifaddrs *entry = machine; entry != NULL; entry = entry->ifa_next) {
		if (is_usable(entry, network->family) &&
			(!only_inside || is_inside(network, bytes_of(entry->ifa_addr)))) {
			add_name(to, entry);
		}
	}
}

/* One address may be on two interfaces. */
static unsigned count_inside(const struct network *network, const struct ifaddrs *machine,
	const struct ifaddrs **ret_found)
{
	size_t size = network->family == AF_INET ? 4 : ADDRESS_BYTES_MAX;
	unsigned count = 0;

	*ret_found = NULL;
	for (const struct ifaddrs *entry = machine; entry != NULL; entry = entry->ifa_next) {
		if (!is_usable(entry, network->family) ||
			!is_inside(network, bytes_of(entry->ifa_addr)) ||
			(*ret_found != NULL && memcmp(bytes_of((*ret_found)->ifa_addr),
						       bytes_of(entry->ifa_addr), size) == 0)) {
			continue;
		}
		*ret_found = entry;
		count++;
	}
	return count;
}

int daemon_address_choose(const char *text, uint16_t port_default, const struct ifaddrs *machine,
	struct io_address *ret_address, struct err *err)
{
	struct network network = {.port = port_default};
	const struct ifaddrs *found;
	struct strbuf names;
	unsigned count;

	if (strchr(text, '/') == NULL) {
		return io_address_parse(text, port_default, ret_address, err);
	}
	if (parse_network(text, &network) != 0) {
		return err_set(err, -EINVAL, "\"%.64s\" is neither an address nor a network: %s",
			text, DAEMON_ADDRESS_HELP);
	}
	count = count_inside(&network, machine, &found);
	if (count == 1) {
		*ret_address = (struct io_address){.port = network.port};
		(void)inet_ntop(network.family, bytes_of(found->ifa_addr), ret_address->host,
			sizeof(ret_address->host));
		return 0;
	}
	strbuf_init(&names);
	list_addresses(&network, machine, count > 1, &names);
	(void)err_set(err, -EADDRNOTAVAIL,
		count > 1 ? "this machine has several addresses in %.64s, give a smaller network "
			    "or the address: %.300s"
			  : "this machine has no address in %.64s; it has: %.300s",
		text, names.length > 0 ? strbuf_text(&names) : "none of this kind");
	strbuf_done(&names);
	return err->code;
}

int daemon_address_parse(
	const char *text, uint16_t port_default, struct io_address *ret_address, struct err *err)
{
	struct ifaddrs *machine = NULL;
	int result;

	if (strchr(text, '/') != NULL && getifaddrs(&machine) < 0) {
		return err_set(err, -errno, "asking for this machine's addresses: %s",
			err_describe(errno));
	}
	result = daemon_address_choose(text, port_default, machine, ret_address, err);
	if (machine != NULL) {
		freeifaddrs(machine);
	}
	return result;
}
