/*-------------------------------------------------------------------------
 *
 * allowed_hosts.c
 *		Which hosts replications may connect to: docrep.allowed_hosts for
 *		ordinary roles, docrep.denied_hosts for everybody.
 *
 * Names match names and addresses match addresses and networks.  A name is
 * not resolved to be compared with a network: what it resolves to when it is
 * connected to may be something else.  Where each address can be looked at as
 * it is connected to (libcurl, and libpq for the denied ones), rules do that.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "peer/peers.h"

char	   *docrep_allowed_hosts = NULL;
char	   *docrep_denied_hosts = NULL;
char	   *docrep_ssl_ca_file = NULL;

#define SEPARATORS ", \t\n"

/* An address or a network. */
typedef struct Network
{
	uint8		base[16];
	int			len;			/* 4 or 16 */
	int			bits;
} Network;

typedef struct NetworkList
{
	Network    *items;
	int			n;
} NetworkList;

struct DocrepHostRules
{
	bool		any;			/* each address that is not denied */
	bool		none;			/* the name is denied */
	NetworkList allowed;
	NetworkList denied;
};

/* ---------- addresses ---------- */

/* ::ffff:10.0.0.1 is 10.0.0.1.  Returns the length of what it is. */
static int
unmap(uint8 *bytes)
{
	static const uint8 mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

	if (memcmp(bytes, mapped, sizeof(mapped)) != 0)
		return 16;
	memmove(bytes, bytes + 12, 4);
	return 4;
}

/* An address as bytes: 4 or 16 of them, 0 if it is none. */
static int
parse_address(const char *text, uint8 *bytes)
{
	if (inet_pton(AF_INET, text, bytes) == 1)
		return 4;
	if (inet_pton(AF_INET6, text, bytes) == 1)
		return unmap(bytes);
	return 0;
}

/* The same of a host, which may be an address in one of its odd ways: "0x7f.1". */
static int
parse_host(const char *host, uint8 *bytes)
{
	struct in_addr odd;
	int			len = parse_address(host, bytes);

	if (len == 0 && inet_aton(host, &odd))
	{
		memcpy(bytes, &odd, 4);
		len = 4;
	}
	return len;
}

/* Read "address" or "address/bits"; false if it is neither. */
static bool
parse_network(const char *item, Network *network)
{
	char		text[64];
	const char *slash = strchr(item, '/');
	Size		n = slash ? slash - item : strlen(item);

	if (n >= sizeof(text))
		return false;
	memcpy(text, item, n);
	text[n] = '\0';
	network->len = parse_address(text, network->base);
	if (network->len == 0)
		return false;
	network->bits = network->len * 8;
	if (slash != NULL)
	{
		char	   *end;
		long		bits = strtol(slash + 1, &end, 10);

		if (end == slash + 1 || *end != '\0' || bits < 0 || bits > network->bits)
			return false;
		network->bits = (int) bits;
	}
	return true;
}

/* Is an address of len bytes in a network? */
static bool
is_in_network(const uint8 *address, int len, const Network *network)
{
	int			bits = network->bits;

	if (len != network->len || memcmp(address, network->base, bits / 8) != 0)
		return false;
	return bits % 8 == 0 ||
		(address[bits / 8] ^ network->base[bits / 8]) >> (8 - bits % 8) == 0;
}

static bool
is_in_list(const uint8 *address, int len, const NetworkList *list)
{
	for (int i = 0; i < list->n; i++)
		if (is_in_network(address, len, &list->items[i]))
			return true;
	return false;
}

/* 0.0.0.0 and :: lead to this host, as its loopback addresses do. */
static bool
is_unspecified(const uint8 *address, int len)
{
	for (int i = 0; i < len; i++)
		if (address[i] != 0)
			return false;
	return true;
}

/* Make an unspecified address the loopback address of its kind; returns len. */
static int
loopback(uint8 *address, int len)
{
	if (len == 4)
		address[0] = 127;
	address[len - 1] = 1;
	return len;
}

/* ---------- names ---------- */

/* Is a name the pattern's?  "*" stands for any characters. */
static bool
name_matches(const char *name, const char *pattern)
{
	for (; *pattern != '\0'; pattern++, name++)
	{
		if (*pattern == '*')
		{
			for (;; name++)
			{
				if (name_matches(name, pattern + 1))
					return true;
				if (*name == '\0')
					return false;
			}
		}
		if (pg_tolower((unsigned char) *name) != pg_tolower((unsigned char) *pattern))
			return false;
	}
	return *name == '\0';
}

/* ---------- lists ---------- */

/*
 * Read a setting for a host: its networks into *networks (if not NULL); *names
 * becomes true if the host's name matches an item, or its address one of the
 * networks.  Returns whether the list has any item.
 */
static bool
read_list(const char *setting, const char *host, NetworkList *networks, bool *matches)
{
	char	   *items = pstrdup(setting ? setting : "");
	char	   *save = NULL;
	uint8		address[16];
	int			len = parse_host(host, address);
	bool		any = false;

	*matches = false;
	if (networks != NULL)
	{
		networks->items = palloc(sizeof(Network) * (strlen(items) / 2 + 1));
		networks->n = 0;
	}
	for (char *p = strtok_r(items, SEPARATORS, &save); p != NULL;
		 p = strtok_r(NULL, SEPARATORS, &save))
	{
		Network		network;

		any = true;
		if (parse_network(p, &network))
		{
			if (len > 0 && is_in_network(address, len, &network))
				*matches = true;
			if (networks != NULL)
				networks->items[networks->n++] = network;
		}
		else if (len > 0 ? strcmp(p, "*") == 0 : name_matches(host, p))
			*matches = true;
	}
	pfree(items);
	return any;
}

bool
docrep_host_allowed(const char *host)
{
	bool		matches;

	return !read_list(docrep_allowed_hosts, host, NULL, &matches) || matches;
}

DocrepHostRules *
docrep_host_rules(const char *host, bool restricted)
{
	DocrepHostRules *rules = palloc0(sizeof(DocrepHostRules));
	bool		matches;

	(void) read_list(docrep_denied_hosts, host, &rules->denied, &rules->none);
	rules->any = !read_list(docrep_allowed_hosts, host, &rules->allowed, &matches) ||
		matches || !restricted;
	return rules;
}

bool
docrep_host_rules_allow(const DocrepHostRules *rules, const struct sockaddr *address)
{
	uint8		bytes[16];
	int			len;

	if (rules->none)
		return false;
	if (address->sa_family == AF_INET)
	{
		memcpy(bytes, &((const struct sockaddr_in *) address)->sin_addr, 4);
		len = 4;
	}
	else if (address->sa_family == AF_INET6)
	{
		memcpy(bytes, &((const struct sockaddr_in6 *) address)->sin6_addr, 16);
		len = unmap(bytes);
	}
	else
		return false;
	if (is_in_list(bytes, len, &rules->denied) ||
		(is_unspecified(bytes, len) && is_in_list(bytes, loopback(bytes, len), &rules->denied)))
		return false;
	return rules->any || is_in_list(bytes, len, &rules->allowed);
}

bool
docrep_host_possible(const char *host, bool restricted)
{
	DocrepHostRules *rules = docrep_host_rules(host, restricted);
	uint8		address[16];

	if (rules->none)
		return false;
	if (rules->any)
		return true;
	/* a name may have an address in one of the networks */
	return parse_host(host, address) == 0 && rules->allowed.n > 0;
}

bool
docrep_host_certain(const char *host, bool restricted)
{
	DocrepHostRules *rules = docrep_host_rules(host, restricted);
	uint8		address[16];
	int			len = parse_host(host, address);
	bool		listed;

	if (rules->none)
		return false;
	if (len > 0)
		return rules->any &&
			!(is_unspecified(address, len) && is_in_list(address, loopback(address, len), &rules->denied));
	if (!restricted)
		return true;
	if (read_list(docrep_allowed_hosts, host, NULL, &listed))
		return listed;
	return !read_list(docrep_denied_hosts, host, NULL, &listed);
}
