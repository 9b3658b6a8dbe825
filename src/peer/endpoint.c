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
#include "common/jsonapi.h"
#include "compat.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "peer/peers.h"
#include "peer/postgres_url.h"
#include "store/errcodes.h"
#include "store/table.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/uuid.h"
#include "utils/varlena.h"
#if PG_VERSION_NUM >= 160000
#include "catalog/pg_namespace.h"
#endif

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
	AclResult	result;
	char	   *qualified;

#if PG_VERSION_NUM >= 160000
	result = object_aclcheck(NamespaceRelationId, schema, GetUserId(), ACL_CREATE);
#else
	result = pg_namespace_aclcheck(schema, GetUserId(), ACL_CREATE);
#endif
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

/* ---------- CouchDB's ---------- */

/* The end of what this version can do with a well-formed CouchDB endpoint. */
static void
no_couchdb_yet(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("CouchDB peers come with a later version"),
			 errdetail("This version replicates between document tables of this database and "
					   "of other Postgres servers."),
			 errhidestmt(true), errhidecontext(true)));
}

/* Check that an http(s) URL names a host and a database. */
static void
check_http_url(const char *url)
{
	const char *authority = strstr(url, "://") + 3;
	const char *path = authority + strcspn(authority, "/?#");
	const char *host = authority;
	const char *port;
	int			hostlen;

	for (const char *p = authority; p < path; p++)
		if (*p == '@')
			host = p + 1;
	port = host;
	if (*port == '[')
	{
		port += strcspn(port, "]");
		if (port >= path)
			malformed("the URL's address lacks its \"]\"");
		port++;
	}
	while (port < path && *port != ':')
		port++;
	hostlen = port - host;
	if (hostlen == 0)
		malformed("the URL names no host");
	if (port < path &&
		(path - port == 1 || path - port > 6 ||
		 (int) strspn(port + 1, "0123456789") != path - port - 1))
		malformed("the URL's port is not a number");
	if (*path != '/' || path[1 + strspn(path + 1, "/")] == '\0')
		malformed("the URL names no database");
	for (const char *p = url; *p != '\0'; p++)
		if ((unsigned char) *p <= ' ' || *p == 0x7f)
			malformed("the URL contains a space or a control character");
}

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

static bool
is_http(const char *text)
{
	int			n = scheme_length(text);

	return (n == 4 && pg_strncasecmp(text, "http", 4) == 0) ||
		(n == 5 && pg_strncasecmp(text, "https", 5) == 0);
}

/* Read JSON text; DR400, and not a word of it, if it is none. */
static Jsonb *
parse_json(const char *text)
{
#if PG_VERSION_NUM >= 170000
	JsonLexContext lexer;
	JsonLexContext *lex = makeJsonLexContextCstringLen(&lexer, text, strlen(text),
													   GetDatabaseEncoding(), false);
#else
	JsonLexContext *lex = makeJsonLexContextCstringLen(pstrdup(text), strlen(text),
													   GetDatabaseEncoding(), false);
#endif

	if (pg_parse_json(lex, &nullSemAction) != JSON_SUCCESS)
		malformed("the object is not valid JSON");
	return DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(text)));
}

/* Check that an object has no members but those named, of the type given. */
static void
check_members(JsonbContainer *object, const char *const *names, const int *types, int n)
{
	JsonbIterator *it = JsonbIteratorInit(object);
	JsonbValue	key;
	JsonbValue	value;

	(void) JsonbIteratorNext(&it, &key, true);
	while (JsonbIteratorNext(&it, &key, true) == WJB_KEY)
	{
		int			i;

		(void) JsonbIteratorNext(&it, &value, true);
		for (i = 0; i < n; i++)
			if (names[i] == NULL || (key.val.string.len == strlen(names[i]) &&
									 memcmp(key.val.string.val, names[i],
											key.val.string.len) == 0))
				break;
		if (i == n)
			malformed("the object has a member that is not known");
		if (value.type != types[i] ||
			(value.type == jbvBinary && !JsonContainerIsObject(value.val.binary.data)))
			malformed("a member of the object has the wrong type");
	}
}

/* A member that is an object, or NULL. */
static JsonbContainer *
object_member(JsonbContainer *object, const char *name)
{
	JsonbValue	value;

	if (getKeyJsonValueFromContainer(object, name, strlen(name), &value) == NULL)
		return NULL;
	return value.val.binary.data;
}

/*
 * CouchDB's object form:
 * {"url", "headers": {}, "auth": {"basic": {"username", "password"}}}
 */
static DocrepEndpoint *
parse_object(const char *text)
{
	static const char *const top[] = {"url", "headers", "auth"};
	static const int top_types[] = {jbvString, jbvBinary, jbvBinary};
	static const char *const any[] = {NULL};
	static const char *const auth_names[] = {"basic"};
	static const int object_type[] = {jbvBinary};
	static const char *const basic_names[] = {"username", "password"};
	static const int string_types[] = {jbvString, jbvString};
	Jsonb	   *json = parse_json(text);
	JsonbContainer *auth;
	JsonbContainer *part;
	JsonbValue	value;
	char	   *url;

	if (!JB_ROOT_IS_OBJECT(json))
		malformed("it is no object");
	check_members(&json->root, top, top_types, 3);
	if (getKeyJsonValueFromContainer(&json->root, "url", 3, &value) == NULL)
		malformed("the object has no member \"url\"");
	url = pnstrdup(value.val.string.val, value.val.string.len);
	if ((part = object_member(&json->root, "headers")) != NULL)
		check_members(part, any, string_types, 1);
	if ((auth = object_member(&json->root, "auth")) != NULL)
	{
		check_members(auth, auth_names, object_type, 1);
		if ((part = object_member(auth, "basic")) != NULL)
			check_members(part, basic_names, string_types, 2);
	}
	if (!is_http(url))
		malformed("the object form is for URLs that begin with http:// or https://");
	check_http_url(url);
	no_couchdb_yet();
	return NULL;
}

/* ---------- URLs and foreign servers ---------- */

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
	if (!is_http(text))
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_BAD_REQUEST),
				 errmsg("malformed endpoint: unknown scheme \"%s\"", scheme),
				 errhint("Known are postgresql, http and https."),
				 errhidestmt(true), errhidecontext(true)));
	check_http_url(text);
	no_couchdb_yet();
	return NULL;
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

DocrepEndpoint *
docrep_endpoint_parse(const char *text, DocrepMissing missing)
{
	text += strspn(text, " \t\r\n");
	if (*text == '\0')
		malformed("it is empty");
	if (*text == '{')
		return parse_object(text);
	if (scheme_length(text) > 0)
		return parse_url(text);
	if (has_unquoted_colon(text))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("endpoints of foreign servers (server:table) come with a later version"),
				 errhidestmt(true), errhidecontext(true)));
	return parse_table(text, missing);
}
