/*-------------------------------------------------------------------------
 *
 * http_url.c
 *		URLs of CouchDB endpoints, taken apart and normalized.
 *
 * scheme://[user[:password]@]host[:port]/path, where the path's last segment
 * is the database.  Case of the host, default port, slashes at the end and
 * ways of percent-encoding make no difference.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <arpa/inet.h>
#include <curl/curl.h>

#include "common/cryptohash.h"
#include "common/sha2.h"
#include "lib/stringinfo.h"
#include "peer/http.h"
#include "peer/http_url.h"
#include "utils/resowner.h"

bool
docrep_http_is_url(const char *text)
{
	return pg_strncasecmp(text, "http://", 7) == 0 || pg_strncasecmp(text, "https://", 8) == 0;
}

int
docrep_http_default_port(const char *scheme)
{
	return strcmp(scheme, "https") == 0 ? 443 : 80;
}

char *
docrep_http_encode(const char *text)
{
	return docrep_http_escape(text);
}

/*
 * A worker reads its endpoints outside of any transaction, but what OpenSSL
 * allocates wants an owner.  This one stays, and is empty between calls.
 */
static ResourceOwner
digest_owner(void)
{
	static ResourceOwner owner = NULL;

	if (owner == NULL)
		owner = ResourceOwnerCreate(NULL, "docrep digests");
	return owner;
}

/* The SHA-256 of a text; false: it could not be computed. */
static bool
sha256(const char *text, uint8 *digest)
{
	pg_cryptohash_ctx *ctx = pg_cryptohash_create(PG_SHA256);
	bool		done;

	if (ctx == NULL)
		return false;
	done = pg_cryptohash_init(ctx) >= 0 &&
		pg_cryptohash_update(ctx, (const uint8 *) text, strlen(text)) >= 0 &&
		pg_cryptohash_final(ctx, digest, PG_SHA256_DIGEST_LENGTH) >= 0;
	pg_cryptohash_free(ctx);
	return done;
}

char *
docrep_http_digest(const char *text)
{
	uint8		digest[PG_SHA256_DIGEST_LENGTH];
	ResourceOwner owner = CurrentResourceOwner;
	StringInfoData buf;
	bool		done;

	if (owner == NULL)
		CurrentResourceOwner = digest_owner();
	done = sha256(text, digest);
	CurrentResourceOwner = owner;
	if (!done)
		elog(ERROR, "could not compute a digest");
	initStringInfo(&buf);
	for (int i = 0; i < 8; i++)
		appendStringInfo(&buf, "%02x", digest[i]);
	return buf.data;
}

/* ---------- percent-encoding ---------- */

/* The value of two hexadecimal digits, or -1. */
static int
hex_pair(const char *p)
{
	int			value = 0;

	for (int i = 0; i < 2; i++)
	{
		if (p[i] >= '0' && p[i] <= '9')
			value = value * 16 + (p[i] - '0');
		else if ((p[i] | 0x20) >= 'a' && (p[i] | 0x20) <= 'f')
			value = value * 16 + ((p[i] | 0x20) - 'a' + 10);
		else
			return -1;
	}
	return value;
}

/* Decode len bytes; neither NUL nor control characters may come of it. */
static char *
decode(const char *text, int len)
{
	char	   *out = palloc(len + 1);
	int			n = 0;

	for (int i = 0; i < len; i++)
	{
		int			c = (unsigned char) text[i];

		if (c == '%')
		{
			c = i + 2 < len ? hex_pair(text + i + 1) : -1;
			if (c < 0)
				docrep_http_malformed("the URL has a \"%\" without two hexadecimal digits");
			if (c < ' ' || c == 0x7f)
				docrep_http_malformed("the URL contains an encoded control character");
			i += 2;
		}
		out[n++] = c;
	}
	out[n] = '\0';
	return out;
}

/* The one way of writing a path: each segment decoded and encoded again. */
static char *
normalize_path(const char *path, int len)
{
	StringInfoData buf;
	int			begin = 1;

	while (len > 1 && path[len - 1] == '/')
		len--;
	initStringInfo(&buf);
	for (int i = 1; i <= len; i++)
	{
		char	   *segment;

		if (i < len && path[i] != '/')
			continue;
		segment = decode(path + begin, i - begin);
		if (strcmp(segment, ".") == 0 || strcmp(segment, "..") == 0)
			docrep_http_malformed("the URL's path contains \".\" or \"..\"");
		if (segment[0] == '\0' && i == len)
			docrep_http_malformed("the URL names no database");
		appendStringInfo(&buf, "/%s", docrep_http_escape(segment));
		begin = i + 1;
	}
	return buf.data;
}

/* ---------- parts ---------- */

void
docrep_http_check_credentials(const char *user, const char *password)
{
	if (user[0] == '\0' || strchr(user, ':') != NULL)
		docrep_http_malformed("the user's name is empty or contains a colon");
	for (const char *p = user; *p != '\0'; p++)
		if ((unsigned char) *p < ' ' || *p == 0x7f)
			docrep_http_malformed("the user's name contains a control character");
	for (const char *p = password; p != NULL && *p != '\0'; p++)
		if ((unsigned char) *p < ' ' || *p == 0x7f)
			docrep_http_malformed("the password contains a control character");
}

/* "user" or "user:password" */
static void
parse_userinfo(DocrepHttpEndpoint *e, const char *text, int len)
{
	const char *colon = memchr(text, ':', len);

	if (len == 0)
		return;
	e->user = decode(text, colon ? colon - text : len);
	e->password = colon ? decode(colon + 1, text + len - colon - 1) : pstrdup("");
	docrep_http_check_credentials(e->user, e->password);
}

/* Check and keep the host's name or address, in lower case. */
static void
parse_host(DocrepHttpEndpoint *e, const char *text, int len, bool bracketed)
{
	uint8		address[16];

	if (len == 0)
		docrep_http_malformed("the URL names no host");
	if (len > 255)
		docrep_http_malformed("the URL's host is too long");
	e->host = pnstrdup(text, len);
	for (char *p = e->host; *p != '\0'; p++)
	{
		*p = pg_ascii_tolower((unsigned char) *p);
		if (!bracketed && !(*p >= 'a' && *p <= 'z') && !(*p >= '0' && *p <= '9') &&
			strchr("-._", *p) == NULL)
			docrep_http_malformed("the URL's host is not valid");
	}
	if (bracketed && inet_pton(AF_INET6, e->host, address) != 1)
		docrep_http_malformed("the URL's address is not valid");
	if (bracketed)
	{
		/* there are many ways of writing it */
		char		canonical[INET6_ADDRSTRLEN];

		e->host = pstrdup(inet_ntop(AF_INET6, address, canonical, sizeof(canonical)));
	}
}

/* "host", "host:port", "[address]", "[address]:port" */
static void
parse_host_port(DocrepHttpEndpoint *e, const char *text, int len)
{
	const char *end = text + len;
	const char *port;

	if (len > 0 && text[0] == '[')
	{
		const char *close = memchr(text, ']', len);

		if (close == NULL)
			docrep_http_malformed("the URL's address lacks its \"]\"");
		parse_host(e, text + 1, close - text - 1, true);
		port = close + 1;
	}
	else
	{
		port = memchr(text, ':', len);
		if (port == NULL)
			port = end;
		parse_host(e, text, port - text, false);
	}
	e->port = docrep_http_default_port(e->scheme);
	if (port == end)
		return;
	if (*port != ':' || end - port == 1 || end - port > 6 ||
		(int) strspn(port + 1, "0123456789") < end - port - 1)
		docrep_http_malformed("the URL's port is not a number");
	e->port = atoi(port + 1);
	if (e->port < 1 || e->port > 65535)
		docrep_http_malformed("the URL's port is out of range");
}

/* Refuse what no URL contains. */
static void
check_characters(const char *url)
{
	for (const char *p = url; *p != '\0'; p++)
		if ((unsigned char) *p <= ' ' || *p == 0x7f || *p == '\\')
			docrep_http_malformed("the URL contains a space, a control character or a backslash");
}

void
docrep_http_url_parse(DocrepHttpEndpoint *e, const char *url)
{
	const char *authority = strstr(url, "://") + 3;
	const char *path = authority + strcspn(authority, "/?#");
	const char *host = authority;
	int			pathlen = strcspn(path, "?#");

	check_characters(url);
	e->scheme = pg_strncasecmp(url, "https", 5) == 0 ? "https" : "http";
	for (const char *p = authority; p < path; p++)
		if (*p == '@')
			host = p + 1;
	if (host > authority)
		parse_userinfo(e, authority, host - authority - 1);
	parse_host_port(e, host, path - host);
	if (path[pathlen] != '\0')
		docrep_http_malformed("the URL has a query or a fragment");
	if (pathlen == 0)
		docrep_http_malformed("the URL names no database");
	e->path = normalize_path(path, pathlen);
	e->root = pnstrdup(e->path, strrchr(e->path, '/') - e->path);
	e->server = psprintf(strchr(e->host, ':') ? "%s://[%s]" : "%s://%s", e->scheme, e->host);
	if (e->port != docrep_http_default_port(e->scheme))
		e->server = psprintf("%s:%d", e->server, e->port);
}

void
docrep_http_check_token_url(const char *url)
{
	DocrepHttpEndpoint e = {0};
	const char *path;

	if (!docrep_http_is_url(url))
		docrep_http_malformed("\"auth.iam.url\" must begin with http:// or https://");
	check_characters(url);
	e.scheme = pg_strncasecmp(url, "https", 5) == 0 ? "https" : "http";
	url = strstr(url, "://") + 3;
	path = url + strcspn(url, "/?#");
	if (memchr(url, '@', path - url) != NULL)
		docrep_http_malformed("\"auth.iam.url\" contains a user");
	parse_host_port(&e, url, path - url);
}

/* A part of a URL as libcurl reads it; NULL if it is none, or has no such part. */
static char *
url_part(const char *url, CURLUPart part, unsigned int flags)
{
	CURLU	   *u = curl_url();
	char	   *found = NULL;
	char	   *result = NULL;

	if (u != NULL && curl_url_set(u, CURLUPART_URL, url, CURLU_NON_SUPPORT_SCHEME) == CURLUE_OK &&
		curl_url_get(u, part, &found, flags) == CURLUE_OK)
		result = MemoryContextAllocExtended(CurrentMemoryContext, strlen(found) + 1,
											MCXT_ALLOC_NO_OOM);
	if (result != NULL)
		strcpy(result, found);
	curl_free(found);
	curl_url_cleanup(u);
	return result;
}

char *
docrep_http_url_host(const char *url)
{
	char	   *host = url_part(url, CURLUPART_HOST, 0);
	Size		n;

	if (host == NULL || host[0] == '\0')
		return NULL;
	n = strlen(host);
	return host[0] == '[' && host[n - 1] == ']' ? pnstrdup(host + 1, n - 2) : host;
}

char *
docrep_http_url_password(const char *url)
{
	return url_part(url, CURLUPART_PASSWORD, CURLU_URLDECODE);
}

bool
docrep_proxy_is_url(const char *url)
{
	return docrep_http_url_host(url) != NULL;
}
