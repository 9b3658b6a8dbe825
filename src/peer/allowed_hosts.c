/*-------------------------------------------------------------------------
 *
 * allowed_hosts.c
 *		Which hosts replications of ordinary roles may connect to.
 *
 * Names match names and addresses match addresses and networks.  A name is
 * not resolved to be compared with a network: what it resolves to when it is
 * connected to may be something else.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <arpa/inet.h>
#include <sys/socket.h>

#include "peer/peers.h"

char	   *docrep_allowed_hosts = NULL;

/* An address as bytes: 4 or 16 of them, 0 if it is none. */
static int
parse_address(const char *text, uint8 *bytes)
{
	if (inet_pton(AF_INET, text, bytes) == 1)
		return 4;
	if (inet_pton(AF_INET6, text, bytes) == 1)
	{
		static const uint8 mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

		/* ::ffff:10.0.0.1 is 10.0.0.1 */
		if (memcmp(bytes, mapped, sizeof(mapped)) != 0)
			return 16;
		memmove(bytes, bytes + 12, 4);
		return 4;
	}
	return 0;
}

/* Is an address of len bytes in a network ("address" or "address/bits")? */
static bool
address_matches(const uint8 *address, int len, const char *network)
{
	char	   *text = pstrdup(network);
	char	   *slash = strchr(text, '/');
	uint8		base[16];
	long		bits = len * 8;

	if (slash != NULL)
	{
		char	   *end;

		*slash = '\0';
		bits = strtol(slash + 1, &end, 10);
		if (end == slash + 1 || *end != '\0' || bits < 0 || bits > len * 8)
			return false;
	}
	if (parse_address(text, base) != len)
		return false;
	if (memcmp(address, base, bits / 8) != 0)
		return false;
	return bits % 8 == 0 ||
		(address[bits / 8] ^ base[bits / 8]) >> (8 - bits % 8) == 0;
}

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

bool
docrep_host_allowed(const char *host)
{
	char	   *patterns;
	char	   *save = NULL;
	uint8		address[16];
	int			len = parse_address(host, address);
	bool		any = true;

	if (docrep_allowed_hosts == NULL)
		return true;
	patterns = pstrdup(docrep_allowed_hosts);
	for (char *p = strtok_r(patterns, ", \t\n", &save); p != NULL;
		 p = strtok_r(NULL, ", \t\n", &save))
	{
		any = false;
		if (len > 0 ? address_matches(address, len, p) || strcmp(p, "*") == 0 :
			name_matches(host, p))
			return true;
	}
	return any;
}
