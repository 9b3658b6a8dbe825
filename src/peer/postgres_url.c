/*-------------------------------------------------------------------------
 *
 * postgres_url.c
 *		Endpoints in other Postgres servers: postgresql://...#table.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <arpa/inet.h>

#include "lib/stringinfo.h"
#include "libpq-fe.h"
#include "mb/pg_wchar.h"
#include "peer/peers.h"
#include "peer/postgres_url.h"
#include "store/errcodes.h"

/* The connection parameters that roles which are no superusers may give. */
static const char *const ordinary_keywords[] = {
	"user", "password", "host", "hostaddr", "port", "dbname", "sslmode",
	"connect_timeout", "application_name", "keepalives", "keepalives_idle",
	"keepalives_interval", "keepalives_count", "tcp_user_timeout",
	"target_session_attrs", "load_balance_hosts", "channel_binding",
	"ssl_min_protocol_version", "ssl_max_protocol_version", "sslsni",
};

/* Nothing of a malformed URL is shown: what is a password in it is not known. */
static void
malformed(const char *what)
{
	ereport(ERROR,
			(errcode(ERRCODE_DOCREP_BAD_REQUEST),
			 errmsg("malformed endpoint: %s", what),
			 errhint("The form is postgresql://user:password@host:port/dbname#table, "
					 "with special characters as %%XX."),
			 errhidestmt(true), errhidecontext(true)));
}

/* Value of a hexadecimal digit, or -1. */
static int
hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c = pg_tolower((unsigned char) c);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static char *
percent_decode(const char *text)
{
	char	   *result = palloc(strlen(text) + 1);
	char	   *out = result;

	for (const char *p = text; *p != '\0'; p++)
	{
		int			high;
		int			low;

		if (*p != '%')
		{
			*out++ = *p;
			continue;
		}
		high = hex_value(p[1]);
		low = high < 0 ? -1 : hex_value(p[2]);
		if (low < 0 || (high | low) == 0)
			malformed("a %-escape in the table's name is wrong");
		*out++ = (char) (high << 4 | low);
		p += 2;
	}
	*out = '\0';
	if (!pg_verifymbstr(result, out - result, true))
		malformed("the table's name is not in the server's encoding");
	return result;
}

static void
append_encoded(StringInfo buf, const char *text)
{
	bool		valid = pg_verifymbstr(text, strlen(text), true);

	for (const char *p = text; *p != '\0'; p++)
	{
		unsigned char c = (unsigned char) *p;

		if ((c > 127 && valid) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
			(c >= '0' && c <= '9') || strchr("-._~\"", c) != NULL)
			appendStringInfoChar(buf, *p);
		else
			appendStringInfo(buf, "%%%02X", c);
	}
}

/* The comma-separated elements of a parameter; one empty element for none. */
static char **
split_list(const char *list, int *n)
{
	char	   *copy = pstrdup(list ? list : "");
	char	  **items = palloc(sizeof(char *) * (strlen(copy) + 1));

	*n = 0;
	for (;;)
	{
		char	   *comma = strchr(copy, ',');

		items[(*n)++] = copy;
		if (comma == NULL)
			return items;
		*comma = '\0';
		copy = comma + 1;
	}
}

/*
 * scheme://user@host:port,.../dbname#table, in the canonical form that two
 * spellings of one endpoint share if "canonical", else as it was written.
 */
static char *
describe(const DocrepPgUrl *url, const char *scheme, bool canonical)
{
	StringInfoData buf;
	const char *user = docrep_pgurl_get(url, "user");
	const char *dbname = docrep_pgurl_get(url, "dbname");
	const char *host = docrep_pgurl_get(url, "host");
	int			nhosts;
	int			nports;
	char	  **hosts;
	char	  **ports;

	initStringInfo(&buf);
	appendStringInfo(&buf, "%s://", scheme);
	if (user != NULL)
	{
		append_encoded(&buf, user);
		appendStringInfoChar(&buf, '@');
	}
	hosts = split_list(host ? host : docrep_pgurl_get(url, "hostaddr"), &nhosts);
	ports = split_list(docrep_pgurl_get(url, "port"), &nports);
	for (int i = 0; i < nhosts; i++)
	{
		char	   *port = ports[nports == 1 ? 0 : Min(i, nports - 1)];

		if (i > 0)
			appendStringInfoChar(&buf, ',');
		if (canonical && hosts[i][0] != '/')
			for (char *p = hosts[i]; *p != '\0'; p++)
				*p = pg_tolower((unsigned char) *p);
		if (strchr(hosts[i], ':') != NULL)
			appendStringInfo(&buf, "[%s]", hosts[i]);
		else
			append_encoded(&buf, hosts[i]);
		if (port[0] != '\0' && !(canonical && strcmp(port, DEF_PGPORT_STR) == 0))
			appendStringInfo(&buf, ":%s", port);
	}
	appendStringInfoChar(&buf, '/');
	append_encoded(&buf, dbname ? dbname : "");
	appendStringInfoChar(&buf, '#');
	append_encoded(&buf, url->table);
	return buf.data;
}

/* Copy what libpq found. */
static void
copy_options(const PQconninfoOption *options, DocrepPgUrl *url)
{
	int			n = 0;

	while (options[n].keyword != NULL)
		n++;
	/* as many as libpq has, so that docrep_pgurl_set has room */
	url->keywords = palloc(sizeof(char *) * (n + 1));
	url->values = palloc(sizeof(char *) * (n + 1));
	for (int i = 0; i < n; i++)
	{
		if (options[i].val == NULL)
			continue;
		url->keywords[url->n] = pstrdup(options[i].keyword);
		url->values[url->n++] = pstrdup(options[i].val);
	}
}

/* Read the part before "#".  False: it is malformed. */
static bool
read_conninfo(const char *conninfo, DocrepPgUrl *url)
{
	PQconninfoOption *options;
	char	   *message = NULL;

	options = PQconninfoParse(conninfo, &message);
	if (options == NULL)
	{
		/* libpq's message quotes the URL */
		PQfreemem(message);
		return false;
	}
	PG_TRY();
	{
		copy_options(options, url);
	}
	PG_FINALLY();
	{
		PQconninfoFree(options);
	}
	PG_END_TRY();
	return true;
}

/* libpq finds out about a port only when it connects. */
static void
check_ports(const DocrepPgUrl *url)
{
	int			n;
	char	  **ports = split_list(docrep_pgurl_get(url, "port"), &n);

	for (int i = 0; i < n; i++)
	{
		size_t		len = strlen(ports[i]);

		if (len > 5 || strspn(ports[i], "0123456789") != len || (len > 0 && atoi(ports[i]) == 0) ||
			atoi(ports[i]) > 65535)
			malformed("the URL's port is not a number");
	}
}

DocrepPgUrl *
docrep_pgurl_parse(const char *text)
{
	DocrepPgUrl *url = palloc0(sizeof(DocrepPgUrl));
	char	   *conninfo = pstrdup(text);
	char	   *hash = strrchr(conninfo, '#');

	if (hash == NULL || hash[1] == '\0')
		malformed("the URL names no table after \"#\"");
	*hash = '\0';
	if (!read_conninfo(conninfo, url))
		malformed("the connection URL cannot be read");
	check_ports(url);
	url->table = docrep_canonical_table_name(percent_decode(hash + 1));
	if (url->table == NULL)
		malformed("the name of the table is not valid");
	url->display = describe(url, "postgresql", false);
	url->identity = describe(url, "postgres", true);
	docrep_socket_options_parse(NULL, &url->socket_options);
	return url;
}

const char *
docrep_pgurl_get(const DocrepPgUrl *url, const char *keyword)
{
	for (int i = 0; i < url->n; i++)
		if (strcmp(url->keywords[i], keyword) == 0)
			return url->values[i];
	return NULL;
}

void
docrep_pgurl_set(DocrepPgUrl *url, const char *keyword, const char *value)
{
	int			i = 0;

	while (i < url->n && strcmp(url->keywords[i], keyword) != 0)
		i++;
	if (i == url->n)
		url->keywords[url->n++] = pstrdup(keyword);
	url->values[i] = pstrdup(value);
}

/* Refuse with a reason. */
static void
forbidden(const DocrepPgUrl *url, const char *detail, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_DOCREP_FORBIDDEN),
			 errmsg("permission denied for endpoint %s", url->display),
			 errdetail_internal("%s", detail),
			 hint ? errhint("%s", hint) : 0,
			 errhidestmt(true), errhidecontext(true)));
}

/* Is it a host in a network, and one that may be connected to? */
static void
restrict_host(const DocrepPgUrl *url, const char *host, bool numeric)
{
	uint8		address[16];

	if (host[0] == '\0' || host[0] == '/' || host[0] == '@')
		forbidden(url, "Only superusers may connect through a socket of the server's machine.",
				  "Name a host in the URL.");
	if (numeric && inet_pton(AF_INET, host, address) != 1 &&
		inet_pton(AF_INET6, host, address) != 1)
		forbidden(url, "hostaddr is not an address.", NULL);
	if (!docrep_host_allowed(host))
		forbidden(url, psprintf("Host \"%s\" is not among docrep.allowed_hosts.", host), NULL);
}

void
docrep_pgurl_restrict(const DocrepPgUrl *url)
{
	const char *password = docrep_pgurl_get(url, "password");
	const char *hostaddr = docrep_pgurl_get(url, "hostaddr");
	int			nhosts;
	char	  **hosts;

	for (int i = 0; i < url->n; i++)
	{
		bool		ordinary = false;

		for (int j = 0; j < lengthof(ordinary_keywords) && !ordinary; j++)
			ordinary = strcmp(url->keywords[i], ordinary_keywords[j]) == 0;
		if (strcmp(url->keywords[i], "sslrootcert") == 0)
			ordinary = strcmp(url->values[i], "system") == 0;
		if (!ordinary)
			forbidden(url, psprintf("Only superusers may give the connection parameter \"%s\".",
									url->keywords[i]), NULL);
	}
	if (password == NULL || password[0] == '\0')
		forbidden(url, "Roles that are no superusers must give a password.",
				  "Otherwise the connection would be made as the server's operating system user.");

	/* where hostaddr is given, it is what libpq connects to */
	hosts = split_list(hostaddr ? hostaddr : docrep_pgurl_get(url, "host"), &nhosts);
	for (int i = 0; i < nhosts; i++)
		restrict_host(url, hosts[i], hostaddr != NULL);
	if (hostaddr != NULL)
	{
		const char *host = docrep_pgurl_get(url, "host");

		hosts = split_list(host ? host : "-", &nhosts);
		for (int i = 0; i < nhosts; i++)
			if (hosts[i][0] == '/' || hosts[i][0] == '@')
				restrict_host(url, hosts[i], false);
	}
}

/*
 * What a foreign server says about TLS.  Only superusers name files there, so they are
 * not looked at as those in a role's own URL are.
 */
static void
set_tls(DocrepPgUrl *url, const DocrepPeerOptions *options)
{
	const char *ca_file = options->ssl_ca_file;
	const char *verify = options->ssl_verify ? options->ssl_verify : ca_file ? "full" : NULL;

	if (ca_file == NULL && verify && strcmp(verify, "off") != 0 && docrep_ssl_ca_file[0] != '\0')
		ca_file = docrep_ssl_ca_file;
	if (verify)
		docrep_pgurl_set(url, "sslmode",
						 strcmp(verify, "full") == 0 ? "verify-full" :
						 strcmp(verify, "ca") == 0 ? "verify-ca" : "require");
	if (ca_file)
		docrep_pgurl_set(url, "sslrootcert", ca_file);
	if (options->ssl_cert_file)
	{
		docrep_pgurl_set(url, "sslcert", options->ssl_cert_file);
		docrep_pgurl_set(url, "sslkey", options->ssl_key_file ? options->ssl_key_file :
						 options->ssl_cert_file);
		url->certificate = true;
	}
}

void
docrep_pgurl_take_options(DocrepPgUrl *url, const DocrepPeerOptions *options)
{
	set_tls(url, options);
	docrep_socket_options_parse(options->socket_options, &url->socket_options);
	if (options->request_timeout > 0 && docrep_pgurl_get(url, "tcp_user_timeout") == NULL)
		docrep_pgurl_set(url, "tcp_user_timeout", psprintf("%d", options->request_timeout));
}
