/*-------------------------------------------------------------------------
 *
 * server_options.c
 *		Options of foreign servers and user mappings: reading and checking.
 *
 * Everybody may read a server's options, so nothing that is a secret is accepted
 * there; those of a user mapping are shown to its owner only.  Neither is repeated
 * in a message, and statements that fail here are kept out of the log.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <limits.h>

#include "access/reloptions.h"
#include "catalog/pg_foreign_server.h"
#include "catalog/pg_user_mapping.h"
#include "commands/defrem.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "peer/http_url.h"
#include "peer/postgres_url.h"
#include "peer/server.h"
#include "store/errcodes.h"

PG_FUNCTION_INFO_V1(docrep_server_options);

typedef enum OptionType
{
	OPTION_URLS,
	OPTION_PROXY,
	OPTION_FILE,				/* of this server's machine: for superusers */
	OPTION_VERIFY,
	OPTION_INT,
	OPTION_TOKEN_URL,
	OPTION_HEADER,
	OPTION_SECRET
} OptionType;

typedef struct OptionRule
{
	const char *name;
	bool		mapping;		/* of user mappings, else of servers */
	OptionType	type;
	int			min;			/* of OPTION_INT */
	int			offset;			/* in DocrepServer */
} OptionRule;

#define INTO(member) offsetof(DocrepServer, member)

static const OptionRule rules[] = {
	{"url", false, OPTION_URLS, 0, INTO(url)},
	{"proxy", false, OPTION_PROXY, 0, INTO(proxy)},
	{"ssl_ca_file", false, OPTION_FILE, 0, INTO(ssl_ca_file)},
	{"ssl_cert_file", false, OPTION_FILE, 0, INTO(ssl_cert_file)},
	{"ssl_key_file", false, OPTION_FILE, 0, INTO(ssl_key_file)},
	{"ssl_verify", false, OPTION_VERIFY, 0, INTO(ssl_verify)},
	{"connection_timeout", false, OPTION_INT, 1, INTO(connection_timeout)},
	{"http_connections", false, OPTION_INT, 1, INTO(http_connections)},
	{"retries_per_request", false, OPTION_INT, 0, INTO(retries_per_request)},
	{"request_timeout", false, OPTION_INT, 0, INTO(request_timeout)},
	{"user", true, OPTION_SECRET, 0, INTO(user)},
	{"password", true, OPTION_SECRET, 0, INTO(password)},
	{"bearer_token", true, OPTION_SECRET, 0, INTO(bearer_token)},
	{"header", true, OPTION_HEADER, 0, INTO(header)},
	{"iam_api_key", true, OPTION_SECRET, 0, INTO(iam_api_key)},
	{"iam_token_url", true, OPTION_TOKEN_URL, 0, INTO(iam_token_url)},
	{"proxy_user", true, OPTION_SECRET, 0, INTO(proxy_user)},
	{"proxy_password", true, OPTION_SECRET, 0, INTO(proxy_password)},
};

/* Refuse an option's value; "detail" repeats nothing of it. */
static void
bad_value(const char *name, const char *detail, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE),
			 errmsg("invalid value for option \"%s\"", name),
			 errdetail_internal("%s", detail),
			 hint ? errhint("%s", hint) : 0,
			 errhidestmt(true), errhidecontext(true)));
}

/* Refuse an option, telling which there are. */
static void
unknown_option(const char *name, bool mapping)
{
	StringInfoData names;

	initStringInfo(&names);
	for (size_t i = 0; i < lengthof(rules); i++)
		if (rules[i].mapping == mapping)
			appendStringInfo(&names, "%s%s", names.len > 0 ? ", " : "", rules[i].name);
	ereport(ERROR,
			(errcode(ERRCODE_FDW_INVALID_OPTION_NAME),
			 errmsg("invalid option \"%s\"", name),
			 errhint("Valid options in this context are: %s", names.data),
			 errhidestmt(true), errhidecontext(true)));
}

/* ---------- values ---------- */

/* Does a text go on, after spaces, with a URL's scheme and "://"? */
static bool
url_follows(const char *p)
{
	p += strspn(p, " \t\r\n");
	if (!isalpha((unsigned char) *p))
		return false;
	while (isalnum((unsigned char) *p) || (*p != '\0' && strchr("+.-", *p)))
		p++;
	return strncmp(p, "://", 3) == 0;
}

/*
 * Cut a list of URLs: at white space, and at commas that a URL follows, for one of
 * libpq's may itself name several hosts with commas.
 */
static void
split_urls(DocrepServer *server)
{
	char	   *copy = pstrdup(server->url);
	int			cap = 8;

	server->nurls = 0;
	server->urls = palloc(cap * sizeof(char *));
	for (char *p = copy; *p != '\0';)
	{
		char	   *begin;

		p += strspn(p, " \t\r\n,");
		if (*p == '\0')
			break;
		begin = p;
		while (*p != '\0' && strchr(" \t\r\n", *p) == NULL && !(*p == ',' && url_follows(p + 1)))
			p++;
		if (*p != '\0')
			*p++ = '\0';
		if (begin[strlen(begin) - 1] == ',')
			begin[strlen(begin) - 1] = '\0';
		if (server->nurls == cap)
			server->urls = repalloc(server->urls, (cap *= 2) * sizeof(char *));
		server->urls[server->nurls++] = begin;
	}
}

/* Is it a URL of libpq's? */
static bool
is_postgres_url(const char *url)
{
	return pg_strncasecmp(url, "postgresql://", 13) == 0 || pg_strncasecmp(url, "postgres://", 11) == 0;
}

/* Refuse credentials in a URL. */
static void
refuse_user(const char *name)
{
	bad_value(name, "It contains a user or a password, which everybody could read.",
			  name[0] == 'u' ? "Give them with CREATE USER MAPPING: user, password." :
			  "Give them with CREATE USER MAPPING: proxy_user, proxy_password.");
}

/* Is there a user in a URL "scheme://user@host"? */
static bool
has_user(const char *url)
{
	const char *p = strstr(url, "://") + 3;

	return memchr(p, '@', strcspn(p, "/?#")) != NULL;
}

/* One URL of a CouchDB server, without a database. */
static void
check_http_url(const char *url)
{
	if (has_user(url))
		refuse_user("url");
	(void) docrep_http_endpoint_parse(psprintf("%s%sx", url,
											   url[strlen(url) - 1] == '/' ? "" : "/"));
}

/* One URL of a Postgres server, without a table. */
static void
check_postgres_url(const char *url)
{
	static const char *const secrets[] = {"user", "password", "sslpassword", "passfile"};
	DocrepPgUrl *parsed;

	if (has_user(url))
		refuse_user("url");
	if (strchr(url, '#') != NULL)
		bad_value("url", "It names a table.", "The table is named in the endpoint, as server:table.");
	parsed = docrep_pgurl_parse(psprintf("%s#x", url));
	for (size_t i = 0; i < lengthof(secrets); i++)
		if (docrep_pgurl_get(parsed, secrets[i]) != NULL)
			refuse_user("url");
}

/* The URLs of a server: of one kind, and without users. */
static void
read_urls(DocrepServer *server)
{
	split_urls(server);
	if (server->nurls == 0)
		bad_value("url", "It is empty.", NULL);
	server->postgres = is_postgres_url(server->urls[0]);
	for (int i = 0; i < server->nurls; i++)
	{
		char	   *url = server->urls[i];

		if (!is_postgres_url(url) && !docrep_http_is_url(url))
			bad_value("url", "It must be a URL, or a list of URLs.",
					  "They begin with http://, https:// or postgresql://.");
		if (is_postgres_url(url) != server->postgres)
			bad_value("url", "All URLs of a server must be of one kind.", NULL);
		if (server->postgres)
			check_postgres_url(url);
		else
			check_http_url(url);
	}
}

/* A proxy's URL. */
static void
check_proxy(const char *url)
{
	static const char *const schemes[] = {"http://", "https://", "socks5://", "socks5h://"};

	for (size_t i = 0; i < lengthof(schemes); i++)
	{
		size_t		n = strlen(schemes[i]);

		if (pg_strncasecmp(url, schemes[i], n) == 0 && url[n] != '\0' &&
			strpbrk(url, " \t\r\n") == NULL)
		{
			if (has_user(url))
				refuse_user("proxy");
			return;
		}
	}
	bad_value("proxy", "It must be the URL of a proxy.",
			  "Known schemes are http, https, socks5 and socks5h.");
}

/* Refuse files to others than superusers: this server would read them for them. */
static void
check_file(const char *name, const char *value)
{
	if (!superuser())
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied to set option \"%s\"", name),
				 errdetail("The file is read by the operating system user of this server, so only superusers may name it."),
				 errhidestmt(true), errhidecontext(true)));
	if (value[0] == '\0')
		bad_value(name, "It is empty.", NULL);
}

/* Lines "Name: value", checked as those of an endpoint. */
static void
check_header(const char *value)
{
	char	   *copy = pstrdup(value);
	char	   *state = NULL;

	for (char *line = strtok_r(copy, "\r\n", &state); line; line = strtok_r(NULL, "\r\n", &state))
	{
		char	   *colon = strchr(line, ':');

		if (colon == NULL)
			bad_value("header", "A line has no colon.", "Write lines of the form \"Name: value\".");
		*colon = '\0';
		docrep_http_check_header(line, colon + 1 + strspn(colon + 1, " \t"));
	}
}

/* No control characters. */
static void
check_secret(const char *name, const char *value)
{
	for (const char *p = value; *p != '\0'; p++)
		if ((unsigned char) *p < ' ' || *p == 0x7f)
			bad_value(name, "It contains a control character.", NULL);
}

/* ---------- options ---------- */

static void
read_int(const OptionRule *rule, const char *value, int *into)
{
	char	   *end;
	long		number;

	errno = 0;
	number = strtol(value, &end, 10);
	if (errno != 0 || end == value || *end != '\0' || number < rule->min || number > INT_MAX)
		bad_value(rule->name, psprintf("It must be an integer between %d and %d.",
									   rule->min, INT_MAX), NULL);
	*into = (int) number;
}

/* Take one option. */
static void
read_option(DocrepServer *server, const OptionRule *rule, char *value)
{
	void	   *into = (char *) server + rule->offset;

	if (rule->type == OPTION_INT)
	{
		read_int(rule, value, into);
		server->given |= docrep_peer_option_given(rule->name);
		return;
	}
	*(char **) into = value;
	switch (rule->type)
	{
		case OPTION_URLS:
			read_urls(server);
			break;
		case OPTION_PROXY:
			check_proxy(value);
			break;
		case OPTION_VERIFY:
			if (strcmp(value, "full") != 0 && strcmp(value, "ca") != 0 && strcmp(value, "off") != 0)
				bad_value(rule->name, "It must be \"full\", \"ca\" or \"off\".", NULL);
			break;
		case OPTION_TOKEN_URL:
			docrep_http_check_token_url(value);
			break;
		case OPTION_HEADER:
			check_header(value);
			break;
		case OPTION_SECRET:
			check_secret(rule->name, value);
			break;
		case OPTION_FILE:		/* whoever set it was asked then */
		case OPTION_INT:
			break;
	}
}

/* What cannot be said together. */
static void
check_together(const DocrepServer *server, bool mapping)
{
	int			ways = (server->user || server->password ? 1 : 0) +
		(server->bearer_token ? 1 : 0) + (server->iam_api_key ? 1 : 0);

	if (mapping && ways > 1)
		bad_value(server->bearer_token ? "bearer_token" : "iam_api_key",
				  "There is more than one kind of credentials.",
				  "Give user and password, or bearer_token, or iam_api_key.");
	if (mapping && server->iam_token_url && !server->iam_api_key)
		bad_value("iam_token_url", "It needs iam_api_key.", NULL);
	if (mapping && server->proxy_password && !server->proxy_user)
		bad_value("proxy_password", "It needs proxy_user.", NULL);
	if (!mapping && server->postgres && server->proxy)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("option \"proxy\" is not supported for postgresql:// URLs")));
	if (!mapping && server->ssl_key_file && !server->ssl_cert_file)
		bad_value("ssl_key_file", "It needs ssl_cert_file.", NULL);
}

void
docrep_server_read_options(DocrepServer *server, List *options, bool mapping)
{
	ListCell   *cell;

	foreach(cell, options)
	{
		DefElem    *option = lfirst(cell);
		const OptionRule *rule = NULL;

		for (size_t i = 0; i < lengthof(rules) && rule == NULL; i++)
			if (rules[i].mapping == mapping && strcmp(rules[i].name, option->defname) == 0)
				rule = &rules[i];
		if (rule == NULL)
			unknown_option(option->defname, mapping);
		read_option(server, rule, defGetString(option));
	}
	check_together(server, mapping);
}

/* docrep.server_options(options text[], catalog oid): the wrapper's validator */
Datum
docrep_server_options(PG_FUNCTION_ARGS)
{
	List	   *options = untransformRelOptions(PG_GETARG_DATUM(0));
	Oid			catalog = PG_GETARG_OID(1);
	DocrepServer server = {0};
	ListCell   *cell;

	if (catalog != ForeignServerRelationId && catalog != UserMappingRelationId)
	{
		if (options != NIL)
			ereport(ERROR,
					(errcode(ERRCODE_FDW_INVALID_OPTION_NAME),
					 errmsg("invalid option \"%s\"", ((DefElem *) linitial(options))->defname),
					 errhint("There are no valid options in this context: they belong to servers and user mappings.")));
		PG_RETURN_VOID();
	}
	docrep_server_read_options(&server, options, catalog == UserMappingRelationId);
	if (catalog == UserMappingRelationId)
		PG_RETURN_VOID();

	/* all of them are looked at with each ALTER SERVER: whoever changes the URL would
	 * send the files' contents there */
	foreach(cell, options)
	{
		DefElem    *option = lfirst(cell);

		if (strncmp(option->defname, "ssl_", 4) == 0 && strcmp(option->defname, "ssl_verify") != 0)
			check_file(option->defname, defGetString(option));
	}
	if (server.nurls == 0)
		ereport(ERROR,
				(errcode(ERRCODE_FDW_OPTION_NAME_NOT_FOUND),
				 errmsg("a server of docrep needs the option \"url\"")));
	PG_RETURN_VOID();
}
