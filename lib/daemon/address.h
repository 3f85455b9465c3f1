/* SPDX-License-Identifier: Apache-2.0 */
/* Addresses to listen on, as a configuration gives them. */
#ifndef DAEMON_ADDRESS_H
#define DAEMON_ADDRESS_H

#include "base/err.h"
#include "io/io.h"

#include <stdint.h>

struct ifaddrs;

#define DAEMON_ADDRESS_HELP                                                                        \
	"10.0.0.1, 10.0.0.1:4430, fd00::1, [fd00::1]:4430; or a network, of which this machine "   \
	"has one address: 10.0.0.0/16, 10.0.0.0/16:4430, fd00::/64, [fd00::/64]:4430"

/*
 * A numeric address (io_address_parse), or a network with the number of its leading bits: then this
 * machine's only address in it.  -EINVAL: malformed; -EADDRNOTAVAIL: none or several, with the
 * candidates.
 */
int daemon_address_parse(const char *text, uint16_t port_default, struct io_address *ret_address,
	struct err *err) __must_check;

/* The same with the machine's addresses given. */
int daemon_address_choose(const char *text, uint16_t port_default, const struct ifaddrs *machine,
	struct io_address *ret_address, struct err *err) __must_check;

#endif
