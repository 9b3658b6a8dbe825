/*-------------------------------------------------------------------------
 *
 * endpoint.c
 *		Reading what a replication document gives as source or target.
 *
 * In this order: an object ("{"), a URL (scheme://), a table of a foreign
 * server (an unquoted ":"), else a document table of this database.
 *
 * Whatever may hold credentials is never repeated in a message, and the
 * statement and context that hold it are kept out of the log.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "compat.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "peer/http_url.h"
#include "peer/peers.h"
#include "peer/postgres_url.h"
#include "peer/server.h"
#include "store/errcodes.h"
#include "store/table.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/uuid.h"
#include "utils/varlena.h"

/* Refuse an endpoint; "what" shows nothing of it that may be a secret. */
static void
malformed(const char *what)
{
	ereport(ERROR,
			(errcode(ERRCODE_DOCREP_BAD_REQUEST),
			 errmsg("malformed endpoint: %s", what),
			 errhidestmt(true), errhidecontext(true)));
}

char *
docrep_canonical_table_name(const char *name)
{
	List	   *parts;
	StringInfoData buf;
	ListCell   *cell;

	if (!SplitIdentifierString(pstrdup(name), '.', &parts) ||
		list_length(parts) < 1 || list_length(parts) > 2)
		return NULL;
	initStringInfo(&buf);
	foreach(cell, parts)
	{
		const char *part = lfirst(cell);

		if (part[0] == '\0')
			return NULL;
		appendStringInfo(&buf, "%s%s", buf.len > 0 ? "." : "", quote_identifier(part));
	}
	return buf.data;
}

/* ---------- tables of this database ---------- */

static DocrepEndpoint *
make_endpoint(const char *kind, char *spec, char *display, char *identity)
{
	DocrepEndpoint *endpoint = palloc(sizeof(DocrepEndpoint));

	endpoint->kind = pstrdup(kind);
	endpoint->spec = spec;
	endpoint->display = display;
	endpoint->identity = identity;
	return endpoint;
}

/* "relation" if the search_path finds it, else "schema.relation". */
static char *
table_display(Oid relid)
{
	char	   *schema = RelationIsVisible(relid) ? NULL :
		get_namespace_name(get_rel_namespace(relid));

	return quote_qualified_identifier(schema, get_rel_name(relid));
}

/* A table that is there: known by its uuid from here on. */
static DocrepEndpoint *
existing_table(Oid relid)
{
	DocTable   *table;
	char	   *uuid;

	if (pg_class_aclcheck(relid, GetUserId(), ACL_SELECT) != ACLCHECK_OK)
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_FORBIDDEN),
				 errmsg("permission denied for endpoint %s", table_display(relid)),
				 errdetail("To replicate from or to a document table a role needs SELECT on it.")));
	table = docrep_table_open(relid, AccessShareLock, 0);
	uuid = DatumGetCString(DirectFunctionCall1(uuid_out, UUIDPGetDatum(&table->info.uuid)));
	docrep_table_close(table, AccessShareLock);
	return make_endpoint("local", uuid, table_display(relid), psprintf("local:%s", uuid));
}

/*
 * A table that the replication will make, in the schema where the caller
 * would make it.  It has no uuid yet, so its identity is its name.
 */
static DocrepEndpoint *
future_table(const char *name)
{
	RangeVar   *range = makeRangeVarFromNameList(docrep_name_list(name));
	Oid			schema = RangeVarGetCreationNamespace(range);
	AclResult	result = docrep_may_create_in(schema);
	char	   *qualified;

	if (result != ACLCHECK_OK)
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_FORBIDDEN),
				 errmsg("permission denied for endpoint %s", name),
				 errdetail("To create it, the role needs CREATE on schema \"%s\".",
						   get_namespace_name(schema))));
	qualified = quote_qualified_identifier(get_namespace_name(schema), range->relname);
	return make_endpoint("local", qualified, pstrdup(name), psprintf("local:name:%s", qualified));
}

static DocrepEndpoint *
parse_table(const char *text, DocrepMissing missing)
{
	char	   *name = docrep_canonical_table_name(text);
	Oid			relid;

	if (name == NULL)
		malformed("it is not the name of a table");
	relid = docrep_table_by_name(name, missing != DOCREP_MISSING_ERROR);
	if (OidIsValid(relid))
		return existing_table(relid);
	if (missing == DOCREP_MISSING_NAME)
		return make_endpoint("local", pstrdup(name), pstrdup(name), psprintf("local:name:%s", name));
	return future_table(name);
}

/* ---------- URLs, the object form, foreign servers ---------- */

/* Length of the scheme of a text that begins with scheme://, else 0. */
static int
scheme_length(const char *text)
{
	int			n = 0;

	if (!isalpha((unsigned char) text[0]))
		return 0;
	while (isalnum((unsigned char) text[n]) || (text[n] != '\0' && strchr("+.-", text[n])))
		n++;
	return strncmp(text + n, "://", 3) == 0 ? n : 0;
}

/* An endpoint of CouchDB's, as a URL or an object. */
static DocrepEndpoint *
parse_couchdb(const char *text)
{
	DocrepHttpEndpoint *e = docrep_http_endpoint_parse(text);

	/* what its name is resolved to is looked at when it is connected to */
	if (!docrep_host_possible(e->host, !superuser()))
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_FORBIDDEN),
				 errmsg("permission denied for endpoint %s", e->display),
				 errdetail("Host \"%s\" is not one that replications may connect to.", e->host),
				 errhint("See docrep.allowed_hosts and docrep.denied_hosts."),
				 errhidestmt(true), errhidecontext(true)));
	return make_endpoint("couchdb", pstrdup(text), e->display, e->identity);
}

static DocrepEndpoint *
parse_postgres(const char *text)
{
	DocrepPgUrl *url = docrep_pgurl_parse(text);

	if (!superuser())
		docrep_pgurl_restrict(url);
	return make_endpoint("postgres", pstrdup(text), url->display, url->identity);
}

static DocrepEndpoint *
parse_url(const char *text)
{
	char	   *scheme = pnstrdup(text, scheme_length(text));

	if (pg_strcasecmp(scheme, "postgresql") == 0 || pg_strcasecmp(scheme, "postgres") == 0)
		return parse_postgres(text);
	if (!docrep_http_is_url(text))
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_BAD_REQUEST),
				 errmsg("malformed endpoint: unknown scheme \"%s\"", scheme),
				 errhint("Known are postgresql, http and https."),
				 errhidestmt(true), errhidecontext(true)));
	return parse_couchdb(text);
}

/* Is there a ":" outside of double quotes? */
static bool
has_unquoted_colon(const char *text)
{
	bool		quoted = false;

	for (; *text != '\0'; text++)
	{
		if (*text == '"')
			quoted = !quoted;
		else if (*text == ':' && !quoted)
			return true;
	}
	return false;
}

/*
 * A database of a foreign server.  It is known by the server's name, whatever URL
 * leads there.  Its URLs, and what the role may say in them, are looked at now and
 * again when it is opened, as they may be changed in between.
 */
static DocrepEndpoint *
parse_server(const char *text, DocrepMissing missing)
{
	char	   *database;
	char	   *name = docrep_server_split(text, &database);
	DocrepServer *server;
	char	   *spec;

	if (name == NULL)
		malformed("it is neither the name of a table nor of the form server:database");
	server = docrep_server_get(name, missing == DOCREP_MISSING_NAME);
	if (server != NULL)
	{
		for (int i = 0; i < server->nurls && missing != DOCREP_MISSING_NAME; i++)
			(void) docrep_server_endpoint(server, i, database);
		database = docrep_server_database(server, database);
	}
	spec = psprintf("%s:%s", quote_identifier(name), database);
	return make_endpoint("server", spec, pstrdup(spec), psprintf("server:%s", spec));
}

DocrepEndpoint *
docrep_endpoint_parse(const char *text, DocrepMissing missing)
{
	text += strspn(text, " \t\r\n");
	if (*text == '\0')
		malformed("it is empty");
	if (*text == '{')
		return parse_couchdb(text);
	if (scheme_length(text) > 0)
		return parse_url(text);
	if (has_unquoted_colon(text))
		return parse_server(text, missing);
	return parse_table(text, missing);
}

/* The foreign server of an endpoint that names one; NULL: it is not there. */
static DocrepServer *
server_of(const DocrepEndpoint *endpoint)
{
	char	   *database;

	return docrep_server_get(docrep_server_split(endpoint->spec, &database), true);
}

bool
docrep_endpoint_is_postgres(const DocrepEndpoint *endpoint)
{
	DocrepServer *server;

	if (strcmp(endpoint->kind, "server") != 0)
		return strcmp(endpoint->kind, "postgres") == 0;
	server = server_of(endpoint);
	return server != NULL && server->postgres;
}

bool
docrep_endpoint_is_http(const DocrepEndpoint *endpoint)
{
	DocrepServer *server;

	if (strcmp(endpoint->kind, "server") != 0)
		return strcmp(endpoint->kind, "couchdb") == 0;
	server = server_of(endpoint);
	return server != NULL && !server->postgres;
}
