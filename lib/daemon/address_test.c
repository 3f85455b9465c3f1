/* SPDX-License-Identifier: Apache-2.0 */
#include "base/testing.h"
#include "daemon/address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <string.h>

#define INTERFACES_MAX 8

/* A machine with these addresses, "!10.0.0.1" of an interface that is down. */
struct machine {
	struct ifaddrs entries[INTERFACES_MAX];
	union {
		struct sockaddr any;
		struct sockaddr_in four;
		struct sockaddr_in6 six;
	} addresses[INTERFACES_MAX];
};

static const struct ifaddrs *make(struct machine *machine, const char *const *texts)
{
	static char name[] = "eth0";
	unsigned i;

	memset(machine, 0, sizeof(*machine));
	for (i = 0; texts[i] != NULL; i++) {
		bool is_down = texts[i][0] == '!';
		const char *text = texts[i] + is_down;

		if (inet_pton(AF_INET, text, &machine->addresses[i].four.sin_addr) == 1) {
			machine->addresses[i].any.sa_family = AF_INET;
		} else {
			assert_int_equal(
				inet_pton(AF_INET6, text, &machine->addresses[i].six.sin6_addr), 1);
			machine->addresses[i].any.sa_family = AF_INET6;
		}
		machine->entries[i].ifa_name = name;
		machine->entries[i].ifa_addr = &machine->addresses[i].any;
		machine->entries[i].ifa_flags = is_down ? 0 : IFF_UP;
		machine->entries[i].ifa_next =
			texts[i + 1] != NULL ? &machine->entries[i + 1] : NULL;
	}
	return machine->entries;
}

static const char *const usual[] = {"127.0.0.1", "10.1.2.3", "192.168.7.9", "!10.1.9.9", "::1",
	"fd00:0:0:5::7", "fe80::1", NULL};

static void chooses(const char *text, const char *host, uint16_t port)
{
	struct machine machine;
	struct io_address address;
	struct err err = {0};

	if (daemon_address_choose(text, 4430, make(&machine, usual), &address, &err) != 0) {
		fail_msg("%s: %s", text, err.text);
	}
	assert_string_equal(address.host, host);
	assert_int_equal(address.port, port);
}

static void test_a_network_is_this_machines_address_in_it(void **state)
{
	(void)state;
	chooses("10.0.0.0/8", "10.1.2.3", 4430);
	chooses("10.1.2.3/32", "10.1.2.3", 4430);
	chooses("10.1.0.0/15:4500", "10.1.2.3", 4500);
	chooses("192.168.7.8/31", "192.168.7.9", 4430);
	chooses("fd00::/32", "fd00:0:0:5::7", 4430);
	chooses("[fd00:0:0:5::/64]:99", "fd00:0:0:5::7", 99);
	chooses("fd00:0:0:5::/64:98", "fd00:0:0:5::7", 98);
	chooses("[fd00:0:0:5::/64]", "fd00:0:0:5::7", 4430);
	chooses("fd00:0:0:4::/63", "fd00:0:0:5::7", 4430);
}

static void test_plain_addresses_are_what_they_are(void **state)
{
	(void)state;
	chooses("10.0.0.1", "10.0.0.1", 4430);
	chooses("10.0.0.1:5", "10.0.0.1", 5);
	chooses("fd00::9", "fd00::9", 4430);
	chooses("[fd00::9]:5", "fd00::9", 5);
	chooses("0.0.0.0", "0.0.0.0", 4430);
}

static void refuses(
	const char *const *machine_addresses, const char *text, int code, const char *what)
{
	struct machine machine;
	struct io_address address;
	struct err err = {0};

	assert_int_equal(daemon_address_choose(
				 text, 4430, make(&machine, machine_addresses), &address, &err),
		code);
	if (strstr(err.text, what) == NULL) {
		fail_msg("%s: \"%s\" lacks \"%s\"", text, err.text, what);
	}
}

static void test_none_or_several(void **state)
{
	static const char *const twins[] = {"10.0.0.1", "10.0.0.2", "10.0.0.1", "172.16.0.1", NULL};
	static const char *const same[] = {"10.0.0.1", "10.0.0.1", NULL};
	struct machine machine;
	struct io_address address;
	struct err err;

	(void)state;
	refuses(usual, "172.16.0.0/12", -EADDRNOTAVAIL,
		"no address in 172.16.0.0/12; it has: 127.0.0.1 (eth0), 10.1.2.3 (eth0), "
		"192.168.7.9 (eth0)");
	refuses(usual, "2001::/16", -EADDRNOTAVAIL, "it has: ::1 (eth0), fd00:0:0:5::7 (eth0)");
	refuses(twins, "10.0.0.0/24", -EADDRNOTAVAIL,
		"several addresses in 10.0.0.0/24, give a smaller network or the address: "
		"10.0.0.1 (eth0), 10.0.0.2 (eth0)");
	refuses(same, "::/0", -EADDRNOTAVAIL, "none of this kind");
	assert_int_equal(
		daemon_address_choose("10.0.0.0/8", 1, make(&machine, same), &address, &err), 0);
}

static void test_malformed(void **state)
{
	static const char *const bad[] = {"10.0.0.0/", "10.0.0.0/33", "10.0.0/8", "/8",
		"fd00::/129", "[fd00::/64", "[10.0.0.0/8]", "10.0.0.0/8:", "10.0.0.0/8:0",
		"10.0.0.0/8:70000", "10.0.0.0/8:1x", "10.0.0.0/8x", "10.0.0.0/-1", "[/8"};

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		refuses(usual, bad[i], -EINVAL, "neither an address nor a network");
	}
}

static void test_this_machine(void **state)
{
	struct io_address address;
	struct err err = {0};

	(void)state;
	assert_int_equal(daemon_address_parse("127.0.0.1/32", 7, &address, &err), 0);
	assert_string_equal(address.host, "127.0.0.1");
	assert_int_equal(address.port, 7);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_network_is_this_machines_address_in_it),
		cmocka_unit_test(test_plain_addresses_are_what_they_are),
		cmocka_unit_test(test_none_or_several),
		cmocka_unit_test(test_malformed),
		cmocka_unit_test(test_this_machine),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
