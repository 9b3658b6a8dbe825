/*-------------------------------------------------------------------------
 *
 * destinations.c
 *		RavenDB's destinations document: where a document table is replicated to.
 *
 * Each destination becomes a continuous task, whose id is made of the table's
 * uuid and the destination's URL.  The document says all destinations there
 * are, so tasks of others are deleted.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "peer/http_url.h"
#include "replicator/json_members.h"
#include "scheduler/jobs.h"
#include "scheduler/task_secrets.h"
#include "scheduler/tasks.h"
#include "store/errcodes.h"
#include "store/sql_support.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"

/* One destination as it is given. */
typedef struct Destination
{
	char	   *url;
	char	   *database;
	char	   *user;
	char	   *password;
	char	   *api_key;
	bool		disabled;
	char	   *id;				/* of its task */
	Jsonb	   *document;		/* of its task */
} Destination;

/* A task that is there for the table. */
typedef struct Known
{
	char	   *id;
	Oid			owner;
	Jsonb	   *document;
	bool		wanted;
} Known;

PG_FUNCTION_INFO_V1(docrep_set_destinations);

static void
bad_destination(const char *what)
{
	ereport(ERROR,
			(errcode(ERRCODE_DOCREP_BAD_REQUEST),
			 errmsg("malformed destinations document: %s", what),
			 errhidestmt(true), errhidecontext(true)));
}

/* ---------- the document ---------- */

/* Read a member of a destination that is a text. */
static void
read_text(char **into, const RawMember *member)
{
	if (member->value.type != JENTRY_ISSTRING)
		bad_destination(psprintf("\"%.*s\" must be a string", (int) member->keylen, member->key));
	*into = docrep_raw_to_cstring(&member->value);
}

/* Read one destination's members. */
static void
read_destination(Destination *d, const RawValue *value)
{
	RawCursor	cursor;
	RawMember	member;

	if (!docrep_raw_is_object(value))
		bad_destination("a destination must be an object");
	docrep_raw_begin(&cursor, (const JsonbContainer *) value->data);
	while (docrep_raw_next(&cursor, &member))
	{
		char	   *key = pnstrdup(member.key, member.keylen);

		if (member.value.type == JENTRY_ISNULL)
			continue;
		if (strcmp(key, "Url") == 0)
			read_text(&d->url, &member);
		else if (strcmp(key, "Database") == 0)
			read_text(&d->database, &member);
		else if (strcmp(key, "Username") == 0)
			read_text(&d->user, &member);
		else if (strcmp(key, "Password") == 0)
			read_text(&d->password, &member);
		else if (strcmp(key, "ApiKey") == 0)
			read_text(&d->api_key, &member);
		else if (strcmp(key, "Disabled") == 0)
		{
			if (member.value.type != JENTRY_ISBOOL_TRUE && member.value.type != JENTRY_ISBOOL_FALSE)
				bad_destination("\"Disabled\" must be true or false");
			d->disabled = member.value.type == JENTRY_ISBOOL_TRUE;
		}
		else
			bad_destination(psprintf("\"%s\" of a destination is not supported", key));
	}
	if (d->url == NULL || d->url[0] == '\0')
		bad_destination("a destination needs a \"Url\"");
	if (d->password != NULL && d->user == NULL)
		bad_destination("\"Password\" needs \"Username\"");
	if (d->api_key != NULL && d->user != NULL)
		bad_destination("\"ApiKey\" and \"Username\" exclude each other");
}

/* ---------- endpoints ---------- */

static bool
is_postgres(const char *url)
{
	return pg_strncasecmp(url, "postgresql://", 13) == 0 || pg_strncasecmp(url, "postgres://", 11) == 0;
}

/* A server's URL, or that of a database on it, becomes the latter. */
static char *
http_url(const Destination *d, const char *table)
{
	char	   *url = pstrdup(d->url);
	char	   *path;

	while (url[0] != '\0' && url[strlen(url) - 1] == '/' &&
		   strlen(url) > (size_t) (strstr(url, "://") + 3 - url))
		url[strlen(url) - 1] = '\0';
	path = strchr(strstr(url, "://") + 3, '/');
	if (d->database)
		return psprintf("%s/%s", url, docrep_http_encode(d->database));
	return path ? url : psprintf("%s/%s", url, docrep_http_encode(table));
}

/* The target in the object form, with credentials. */
static void
add_http_target(RawBuilder *out, const Destination *d, const char *url)
{
	RawBuilder	target;
	RawBuilder	auth;
	RawBuilder	kind;

	if (d->user == NULL && d->api_key == NULL)
	{
		docrep_raw_add_text(out, "target", url);
		return;
	}
	docrep_raw_init(&target, true, 2);
	docrep_raw_init(&auth, true, 1);
	docrep_raw_init(&kind, true, 2);
	docrep_raw_add_text(&target, "url", url);
	if (d->api_key)
		docrep_raw_add_text(&kind, "api_key", d->api_key);
	else
	{
		docrep_raw_add_text(&kind, "username", d->user);
		docrep_raw_add_text(&kind, "password", d->password ? d->password : "");
	}
	docrep_raw_add_built(&auth, d->api_key ? "iam" : "basic", &kind);
	docrep_raw_add_built(&target, "auth", &auth);
	docrep_raw_add_built(out, "target", &target);
}

/* A Postgres URL without its table's name; *table: what it names, or what else is said. */
static char *
postgres_url(const Destination *d, const char **table)
{
	const char *hash = strrchr(d->url, '#');

	if (hash && d->database)
		bad_destination("\"Database\" and a table in \"Url\" exclude each other");
	if (d->database)
		*table = docrep_http_encode(d->database);
	else if (hash)
		*table = hash + 1;
	if (d->api_key)
		bad_destination("\"ApiKey\" is for HTTP");
	return hash ? pnstrdup(d->url, hash - d->url) : pstrdup(d->url);
}

/* A connection parameter more. */
static char *
with_parameter(const char *url, const char *name, const char *value)
{
	return psprintf("%s%c%s=%s", url, strchr(url, '?') ? '&' : '?', name, docrep_http_encode(value));
}

/* Add "target"; returns what of it may be shown. */
static char *
add_target(RawBuilder *out, const Destination *d, const char *table)
{
	char	   *url;

	if (docrep_http_is_url(d->url))
	{
		url = http_url(d, table);
		add_http_target(out, d, url);
		return docrep_task_strip_url(url);
	}
	if (is_postgres(d->url))
	{
		char	   *with;

		table = docrep_http_encode(quote_identifier(table));
		url = postgres_url(d, &table);
		with = url;
		if (d->user)
			with = with_parameter(with, "user", d->user);
		if (d->password)
			with = with_parameter(with, "password", d->password);
		docrep_raw_add_text(out, "target", psprintf("%s#%s", with, table));
		return docrep_task_strip_url(psprintf("%s#%s", url, table));
	}
	if (d->user || d->api_key || d->database)
		bad_destination("\"Database\" and credentials are for URLs");
	docrep_raw_add_text(out, "target", d->url);
	return d->url;
}

/* Make the id and the document of a destination's task. */
static void
make_task(Destination *d, Oid relid, const char *prefix)
{
	RawBuilder	out;
	char	   *table = get_rel_name(relid);
	char	   *shown;

	docrep_raw_init(&out, true, 5);
	docrep_raw_add_text(&out, "source",
						quote_qualified_identifier(get_namespace_name(get_rel_namespace(relid)), table));
	shown = add_target(&out, d, table);
	docrep_raw_add_bool(&out, "continuous", true);
	docrep_raw_add_text(&out, "retry", "cycles");
	if (d->disabled)
		docrep_raw_add_bool(&out, "disabled", true);
	d->document = docrep_raw_finish(&out);
	d->id = psprintf("%s%s", prefix, shown);
}

/* All destinations; *n of them. */
static Destination *
read_destinations(Jsonb *document, Oid relid, const char *prefix, int *n)
{
	RawValue	array;
	RawCursor	cursor;
	RawMember	item;
	Destination *result;

	if (!JB_ROOT_IS_OBJECT(document) || !docrep_raw_find(&document->root, "Destinations", &array) ||
		!docrep_raw_is_array(&array))
		bad_destination("it must be an object with an array \"Destinations\"");
	docrep_raw_begin(&cursor, &document->root);
	while (docrep_raw_next(&cursor, &item))
		if (item.keylen != 12 || memcmp(item.key, "Destinations", 12) != 0)
			bad_destination(psprintf("\"%.*s\" is not supported", (int) item.keylen, item.key));
	docrep_raw_begin(&cursor, (const JsonbContainer *) array.data);
	result = palloc0(sizeof(Destination) * Max(cursor.n, 1));
	*n = 0;
	while (docrep_raw_next(&cursor, &item))
	{
		Destination *d = &result[(*n)++];

		read_destination(d, &item.value);
		make_task(d, relid, prefix);
		for (int i = 0; i < *n - 1; i++)
			if (strcmp(result[i].id, d->id) == 0)
				bad_destination(psprintf("%s is there twice", d->id + strlen(prefix)));
	}
	return result;
}

/* ---------- tasks ---------- */

/* Run a statement as the caller, with an id and perhaps a document. */
static void
execute(const char *command, const char *id, Jsonb *document)
{
	Oid			types[] = {TEXTOID, JSONBOID};
	Datum		values[2];

	values[0] = CStringGetTextDatum(id);
	values[1] = document ? JsonbPGetDatum(document) : (Datum) 0;
	if (SPI_execute_with_args(command, document ? 2 : 1, types, values, NULL, false, 0) < 0)
		elog(ERROR, "could not execute \"%s\"", command);
}

/* The tasks that are there for the table, as far as the caller sees them. */
static Known *
known_tasks(const char *prefix, int *n)
{
	Known	   *known;
	bool		isnull;

	execute("SELECT _id, doc, owner::pg_catalog.oid FROM docrep.replicator"
			" WHERE pg_catalog.starts_with(_id, $1)", prefix, NULL);
	*n = (int) SPI_processed;
	known = palloc0(sizeof(Known) * Max(*n, 1));
	for (int i = 0; i < *n; i++)
	{
		HeapTuple	row = SPI_tuptable->vals[i];

		known[i].id = SPI_getvalue(row, SPI_tuptable->tupdesc, 1);
		known[i].document = DatumGetJsonbPCopy(SPI_getbinval(row, SPI_tuptable->tupdesc, 2, &isnull));
		known[i].owner = DatumGetObjectId(SPI_getbinval(row, SPI_tuptable->tupdesc, 3, &isnull));
	}
	return known;
}

/* A document without the members that begin with "_". */
static Jsonb *
without_special(Jsonb *document)
{
	RawBuilder	out;
	RawCursor	cursor;
	RawMember	member;

	docrep_raw_begin(&cursor, &document->root);
	docrep_raw_init(&out, true, cursor.n);
	while (docrep_raw_next(&cursor, &member))
		if (member.keylen == 0 || member.key[0] != '_')
			docrep_raw_add_member(&out, &member);
	return docrep_raw_finish(&out);
}

static bool
same_jsonb(Jsonb *a, Jsonb *b)
{
	return a == NULL || b == NULL ? a == b : compareJsonbContainers(&a->root, &b->root) == 0;
}

/* Does the task say what the destination says?  Then it is left alone. */
static bool
is_unchanged(const Known *task, const Destination *d)
{
	Jsonb	   *secrets;
	Jsonb	   *public = docrep_task_strip(d->document, &secrets);

	if (!same_jsonb(without_special(task->document), public))
		return false;
	return secrets == NULL || same_jsonb(secrets, docrep_task_secrets(task->id, task->owner));
}

/* Create the destination's task, or change it. */
static void
write_task(Known *known, int nknown, const Destination *d)
{
	for (int i = 0; i < nknown; i++)
	{
		if (strcmp(known[i].id, d->id) != 0)
			continue;
		known[i].wanted = true;
		if (!is_unchanged(&known[i], d))
			execute("UPDATE docrep.replicator SET doc = $2 WHERE _id OPERATOR(pg_catalog.=) $1",
					d->id, d->document);
		return;
	}
	execute("INSERT INTO docrep.replicator (_id, doc) VALUES ($1, $2)", d->id, d->document);
}

/* docrep.set_destinations(tbl, destinations) */
Datum
docrep_set_destinations(PG_FUNCTION_ARGS)
{
	Oid			relid = docrep_arg_table(fcinfo, 0);
	DocTable   *table;
	char	   *prefix;
	Destination *destinations;
	int			n;
	Known	   *known;
	int			nknown;

	docrep_statement_hidden();
	table = docrep_table_open(relid, AccessShareLock, ACL_SELECT);
	prefix = psprintf("destinations/%s/",
					  DatumGetCString(DirectFunctionCall1(uuid_out, UUIDPGetDatum(&table->info.uuid))));
	docrep_table_close(table, AccessShareLock);
	destinations = read_destinations(docrep_arg_jsonb(fcinfo, 1, "destinations"), relid, prefix, &n);

	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	known = known_tasks(prefix, &nknown);
	for (int i = 0; i < n; i++)
		write_task(known, nknown, &destinations[i]);
	for (int i = 0; i < nknown; i++)
		if (!known[i].wanted)
			execute("DELETE FROM docrep.replicator WHERE _id OPERATOR(pg_catalog.=) $1",
					known[i].id, NULL);
	SPI_finish();
	PG_RETURN_VOID();
}
