/*-------------------------------------------------------------------------
 *
 * server.c
 *		Foreign servers as named connections: looking them up, and making
 *		endpoints of them.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/reloptions.h"
#include "catalog/pg_foreign_server.h"
#include "catalog/pg_user_mapping.h"
#include "compat.h"
#include "foreign/foreign.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "peer/http_url.h"
#include "peer/peers.h"
#include "peer/postgres_url.h"
#include "peer/server.h"
#include "store/errcodes.h"
#include "store/json_text.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/json.h"
#include "utils/syscache.h"
#include "utils/varlena.h"

/* ---------- names ---------- */

char *
docrep_server_split(const char *text, char **database)
{
	bool		quoted = false;
	const char *p;
	List	   *parts;
	int			n;

	for (p = text; *p != '\0' && (quoted || *p != ':'); p++)
		if (*p == '"')
			quoted = !quoted;
	if (*p == '\0' || !SplitIdentifierString(pnstrdup(text, p - text), '.', &parts) ||
		list_length(parts) != 1 || ((char *) linitial(parts))[0] == '\0')
		return NULL;
	p++;
	p += strspn(p, " \t\r\n");
	for (n = strlen(p); n > 0 && strchr(" \t\r\n", p[n - 1]) != NULL; n--)
		;
	if (n == 0)
		return NULL;
	*database = pnstrdup(p, n);
	return linitial(parts);
}

/*
 * The name of a CouchDB database as a segment of a URL.  Such names have no "%", so
 * where there is one it is taken to be written as in a URL already.
 */
static char *
database_segment(const char *database)
{
	StringInfoData buf;

	database = pg_server_to_any(database, strlen(database), PG_UTF8);
	if (strchr(database, '%') == NULL)
		return docrep_http_encode(database);
	initStringInfo(&buf);
	for (const char *p = database; *p != '\0'; p++)
	{
		char		one[2] = {*p, '\0'};

		appendStringInfoString(&buf, *p == '%' ? one : docrep_http_encode(one));
	}
	return buf.data;
}

char *
docrep_server_database(const DocrepServer *server, const char *database)
{
	char	   *name;

	if (server->postgres)
	{
		name = docrep_canonical_table_name(database);
		if (name == NULL)
			docrep_http_malformed("the name of the table is not valid");
		return name;
	}
	/* percent-encoding is made one by the endpoint's own normalization */
	name = docrep_http_endpoint_parse(psprintf("http://x/%s", database_segment(database)))->path;
	return name + 1;
}

/* ---------- looking up ---------- */

/* Take the options of a user mapping; false: the role has none. */
static bool
read_mapping(DocrepServer *server, Oid role, Oid serverid)
{
	HeapTuple	tuple = SearchSysCache2(USERMAPPINGUSERSERVER, ObjectIdGetDatum(role),
										ObjectIdGetDatum(serverid));
	Datum		options;
	bool		isnull;

	if (!HeapTupleIsValid(tuple))
		return false;
	options = SysCacheGetAttr(USERMAPPINGUSERSERVER, tuple, Anum_pg_user_mapping_umoptions,
							  &isnull);
	if (!isnull)
		docrep_server_read_options(server, untransformRelOptions(options), true);
	ReleaseSysCache(tuple);
	return true;
}

/* Raise 42501 unless the current role has USAGE. */
static void
check_usage(const ForeignServer *server)
{
	AclResult	result = docrep_may_use_server(server->serverid);

	if (result != ACLCHECK_OK)
		aclcheck_error(result, OBJECT_FOREIGN_SERVER, server->servername);
}

DocrepServer *
docrep_server_get(const char *name, bool missing_ok)
{
	ForeignServer *found = GetForeignServerByName(name, true);
	DocrepServer *server;

	if (found == NULL)
	{
		if (missing_ok)
			return NULL;
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_NOT_FOUND),
				 errmsg("server \"%s\" does not exist", name),
				 errhint("Endpoints of the form name:database name a server of CREATE SERVER ... FOREIGN DATA WRAPPER docrep.")));
	}
	if (strcmp(GetForeignDataWrapper(found->fdwid)->fdwname, "docrep") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_BAD_REQUEST),
				 errmsg("server \"%s\" is not one of the foreign data wrapper docrep", name)));
	check_usage(found);

	server = palloc0(sizeof(DocrepServer));
	server->name = pstrdup(found->servername);
	server->restricted = !superuser_arg(found->owner);
	docrep_server_read_options(server, found->options, false);
	if (server->nurls == 0)
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_BAD_REQUEST),
				 errmsg("server \"%s\" has no option \"url\"", name)));
	if (!read_mapping(server, GetUserId(), found->serverid))
		(void) read_mapping(server, InvalidOid, found->serverid);
	return server;
}

/* ---------- endpoints ---------- */

/* "scheme://" and the rest of a URL, with user and password in between. */
static char *
url_with_user(const char *url, const char *user, const char *password)
{
	int			scheme = strstr(url, "://") + 3 - url;

	if (user == NULL && password == NULL)
		return pstrdup(url);
	return psprintf("%.*s%s%s%s@%s", scheme, url, user ? docrep_http_encode(user) : "",
					password ? ":" : "", password ? docrep_http_encode(password) : "",
					url + scheme);
}

/* The member "headers". */
static void
put_headers(StringInfo out, const DocrepServer *server)
{
	char	   *copy = pstrdup(server->header ? server->header : "");
	char	   *state = NULL;

	appendStringInfoString(out, ",\"headers\":{");
	if (server->bearer_token)
		docrep_json_put_text(out, "Authorization", psprintf("Bearer %s", server->bearer_token));
	for (char *line = strtok_r(copy, "\r\n", &state); line; line = strtok_r(NULL, "\r\n", &state))
	{
		char	   *colon = strchr(line, ':');

		*colon = '\0';
		docrep_json_put_text(out, line, colon + 1 + strspn(colon + 1, " \t"));
	}
	appendStringInfoChar(out, '}');
}

/* The member "auth", if there is something to be said. */
static void
put_auth(StringInfo out, const DocrepServer *server)
{
	if (server->user)
	{
		appendStringInfoString(out, ",\"auth\":{\"basic\":{");
		docrep_json_put_text(out, "username", server->user);
		docrep_json_put_text(out, "password", server->password ? server->password : "");
		appendStringInfoString(out, "}}");
	}
	else if (server->iam_api_key)
	{
		appendStringInfoString(out, ",\"auth\":{\"iam\":{");
		docrep_json_put_text(out, "api_key", server->iam_api_key);
		if (server->iam_token_url)
			docrep_json_put_text(out, "url", server->iam_token_url);
		appendStringInfoString(out, "}}");
	}
}

/* A CouchDB's endpoint, in the object form. */
static char *
couchdb_text(const DocrepServer *server, const char *url, const char *database)
{
	StringInfoData out;
	int			n = strlen(url);

	if (server->password && !server->user)
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_BAD_REQUEST),
				 errmsg("the user mapping for server \"%s\" has a password and no user",
						server->name)));
	while (n > 0 && url[n - 1] == '/')
		n--;
	initStringInfo(&out);
	appendStringInfoChar(&out, '{');
	docrep_json_put_text(&out, "url", psprintf("%.*s/%s", n, url, database_segment(database)));
	put_headers(&out, server);
	put_auth(&out, server);
	appendStringInfoChar(&out, '}');
	return out.data;
}

/* A table of a Postgres server, as a URL. */
static char *
postgres_text(const DocrepServer *server, const char *url, const char *database)
{
	if (server->bearer_token || server->iam_api_key || server->header || server->proxy_user)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("the user mapping for server \"%s\" has options that only servers reached by HTTP have",
						server->name),
				 errhint("For postgresql:// there are user and password.")));
	return psprintf("%s#%s", url_with_user(url, server->user, server->password),
					docrep_http_encode(database));
}

/*
 * Who owns a server decides where it leads, also for superusers who use it.  So they may
 * be led only to where the owner may go itself.
 */
static void
restrict_endpoint(const DocrepServer *server, const char *text, const char *database)
{
	DocrepPgUrl *url;
	char	   *host;

	if (server->postgres)
	{
		url = docrep_pgurl_parse(text);
		url->display = psprintf("%s:%s", quote_identifier(server->name), database);
		docrep_pgurl_restrict(url);
		return;
	}
	host = docrep_http_endpoint_parse(text)->host;
	if (!docrep_host_possible(host, true))
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_FORBIDDEN),
				 errmsg("permission denied for endpoint %s:%s", quote_identifier(server->name),
						database),
				 errdetail("Host \"%s\" is not one that replications may connect to.", host),
				 errhint("See docrep.allowed_hosts and docrep.denied_hosts.")));
}

DocrepEndpoint *
docrep_server_endpoint(const DocrepServer *server, int url, const char *database)
{
	char	   *text = server->postgres ? postgres_text(server, server->urls[url], database) :
		couchdb_text(server, server->urls[url], database);

	if (server->restricted || !superuser())
		restrict_endpoint(server, text, database);
	return docrep_endpoint_parse(text, DOCREP_MISSING_ERROR);
}

/* ---------- options of connections ---------- */

void
docrep_server_complete_options(const DocrepServer *server, DocrepPeerOptions *options)
{
	int			take = server->given & ~options->given;

	if (take & DOCREP_GIVEN_CONNECTION_TIMEOUT)
		options->connection_timeout = server->connection_timeout;
	if (take & DOCREP_GIVEN_HTTP_CONNECTIONS)
		options->http_connections = server->http_connections;
	if (take & DOCREP_GIVEN_RETRIES_PER_REQUEST)
		options->retries_per_request = server->retries_per_request;
	if (take & DOCREP_GIVEN_REQUEST_TIMEOUT)
		options->request_timeout = server->request_timeout;
	options->given |= take;
	if (options->proxy == NULL && server->proxy)
		options->proxy = url_with_user(server->proxy, server->proxy_user, server->proxy_password);
	options->ssl_ca_file = server->ssl_ca_file;
	options->ssl_cert_file = server->ssl_cert_file;
	options->ssl_key_file = server->ssl_key_file;
	options->ssl_verify = server->ssl_verify;
	options->restricted = server->restricted;
}

void
docrep_server_check_options(const DocrepServer *server, const DocrepPeerOptions *options)
{
	if (server->postgres && options->proxy != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("server \"%s\" is reached by postgresql://, which knows no proxy",
						server->name),
				 errhint("Give \"source_proxy\" or \"target_proxy\" for the other side.")));
}
