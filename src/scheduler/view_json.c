/*-------------------------------------------------------------------------
 *
 * view_json.c
 *		What CouchDB answers at /_scheduler/docs and /_scheduler/jobs.
 *
 * The rows are those of the views, read as the caller, who sees in them what he
 * may see.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "scheduler/views.h"
#include "store/errcodes.h"
#include "store/sql_support.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"

PG_FUNCTION_INFO_V1(docrep_scheduler_docs_json);
PG_FUNCTION_INFO_V1(docrep_scheduler_doc_json);
PG_FUNCTION_INFO_V1(docrep_scheduler_jobs_json);
PG_FUNCTION_INFO_V1(docrep_scheduler_job_json);

/* The most rows that others than administrators get at once. */
#define MAX_ROWS	200

/* What a replicator database is called where there is one of them. */
#define REPLICATOR	"'_replicator'"

#define ISO_TIME(column) \
	"to_char(" column " AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')"

#define DOC_OBJECT \
	"jsonb_build_object('database', " REPLICATOR ", 'doc_id', doc_id, 'id', id, 'node', node," \
	" 'source', source, 'target', target, 'state', state, 'info', info," \
	" 'error_count', error_count, 'proxy', proxy," \
	" 'start_time', " ISO_TIME("start_time") ", 'last_updated', " ISO_TIME("last_updated") ")"

#define JOB_OBJECT \
	"jsonb_build_object('database', CASE WHEN doc_id IS NOT NULL THEN " REPLICATOR " END," \
	" 'id', id, 'pid', pid::text, 'source', source, 'target', target, 'user', user_name," \
	" 'doc_id', doc_id, 'history', history, 'info', info, 'node', node," \
	" 'start_time', " ISO_TIME("start_time") ")"

static const char *const states[] = {
	"initializing", "error", "pending", "running", "crashing", "completed", "failed"
};

/* Run a query that gives one jsonb; NULL: no row. */
static Jsonb *
query_json(const char *query, int nargs, Oid *types, Datum *values, const char *nulls)
{
	MemoryContext caller = CurrentMemoryContext;
	Jsonb	   *result = NULL;
	int			rc;

	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	rc = SPI_execute_with_args(query, nargs, types, values, nulls, false, 1);
	if (rc != SPI_OK_SELECT)
		elog(ERROR, "could not execute \"%s\": %s", query, SPI_result_code_string(rc));
	if (SPI_processed > 0)
	{
		bool		isnull;
		Datum		d = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
		MemoryContext old = MemoryContextSwitchTo(caller);

		result = DatumGetJsonbPCopy(d);
		MemoryContextSwitchTo(old);
	}
	SPI_finish();
	return result;
}

/* Parameter max_rows; -1: all. */
static int
arg_max_rows(FunctionCallInfo fcinfo, int argno)
{
	int			max = PG_ARGISNULL(argno) ? -1 : PG_GETARG_INT32(argno);

	if (max < 0 && !PG_ARGISNULL(argno))
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_BAD_REQUEST),
				 errmsg("\"max_rows\" must not be negative")));
	if (!docrep_view_sees_all() && (max < 0 || max > MAX_ROWS))
		max = MAX_ROWS;
	return max;
}

/* Parameter skip; NULL is 0. */
static int
arg_skip(FunctionCallInfo fcinfo, int argno)
{
	int			skip = PG_ARGISNULL(argno) ? 0 : PG_GETARG_INT32(argno);

	if (skip < 0)
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_BAD_REQUEST),
				 errmsg("\"skip\" must not be negative")));
	return skip;
}

/* One of the seven, with blanks around it taken off; DR400 for anything else. */
static const char *
known_state(char *name)
{
	char	   *end = name + strlen(name);

	while (*name == ' ')
		name++;
	while (end > name && end[-1] == ' ')
		*--end = '\0';
	for (int i = 0; i < lengthof(states); i++)
	{
		if (strcmp(name, states[i]) == 0)
			return states[i];
	}
	ereport(ERROR,
			(errcode(ERRCODE_DOCREP_BAD_REQUEST),
			 errmsg("unknown state \"%s\" in \"states\"", name),
			 errhint("States are initializing, error, pending, running, crashing, completed and failed.")));
}

/* "running,pending" as text[]. */
static Datum
parse_states(char *list)
{
	Datum		items[lengthof(states)];
	int			n = 0;
	char	   *next = list;

	while (next)
	{
		char	   *item = next;
		char	   *comma = strchr(item, ',');
		const char *state;
		int			i;

		next = comma ? comma + 1 : NULL;
		if (comma)
			*comma = '\0';
		state = known_state(item);
		for (i = 0; i < n && strcmp(TextDatumGetCString(items[i]), state) != 0; i++)
			;
		if (i == n)
			items[n++] = CStringGetTextDatum(state);
	}
	return PointerGetDatum(construct_array(items, n, TEXTOID, -1, false, TYPALIGN_INT));
}

/* docrep.scheduler_docs_json(states, max_rows, skip) */
Datum
docrep_scheduler_docs_json(PG_FUNCTION_ARGS)
{
	Oid			types[] = {TEXTARRAYOID, INT4OID, INT4OID};
	Datum		values[3] = {0};
	char		nulls[] = "   ";
	int			max_rows = arg_max_rows(fcinfo, 1);

	values[2] = Int32GetDatum(arg_skip(fcinfo, 2));
	if (PG_ARGISNULL(0))
		nulls[0] = 'n';
	else
		values[0] = parse_states(text_to_cstring(PG_GETARG_TEXT_PP(0)));
	if (max_rows < 0)
		nulls[1] = 'n';
	else
		values[1] = Int32GetDatum(max_rows);
	PG_RETURN_JSONB_P(query_json(
		"WITH d AS MATERIALIZED (SELECT * FROM docrep.scheduler_docs),"
		" page AS (SELECT * FROM d WHERE $1 IS NULL OR state = ANY ($1)"
		"  ORDER BY doc_id COLLATE \"C\" LIMIT $2 OFFSET $3)"
		" SELECT jsonb_build_object('total_rows', (SELECT count(*) FROM d), 'offset', $3,"
		"  'docs', coalesce((SELECT jsonb_agg(" DOC_OBJECT " ORDER BY doc_id COLLATE \"C\") FROM page), '[]'))",
		3, types, values, nulls));
}

/* docrep.scheduler_jobs_json(max_rows, skip) */
Datum
docrep_scheduler_jobs_json(PG_FUNCTION_ARGS)
{
	Oid			types[] = {INT4OID, INT4OID};
	Datum		values[2] = {0};
	char		nulls[] = "  ";
	int			max_rows = arg_max_rows(fcinfo, 0);

	values[1] = Int32GetDatum(arg_skip(fcinfo, 1));
	if (max_rows < 0)
		nulls[0] = 'n';
	else
		values[0] = Int32GetDatum(max_rows);
	PG_RETURN_JSONB_P(query_json(
		"WITH j AS MATERIALIZED (SELECT * FROM docrep.scheduler_jobs),"
		" page AS (SELECT * FROM j ORDER BY id COLLATE \"C\", doc_id COLLATE \"C\", user_name LIMIT $1 OFFSET $2)"
		" SELECT jsonb_build_object('total_rows', (SELECT count(*) FROM j), 'offset', $2,"
		"  'jobs', coalesce((SELECT jsonb_agg(" JOB_OBJECT
		"   ORDER BY id COLLATE \"C\", doc_id COLLATE \"C\", user_name) FROM page), '[]'))",
		2, types, values, nulls));
}

/* One object by its id; DR404 if there is none that the caller may see. */
static Datum
one_object(FunctionCallInfo fcinfo, const char *query, const char *what)
{
	Oid			types[] = {TEXTOID};
	char	   *id = docrep_arg_id(fcinfo, 0, "id");
	Datum		values[] = {CStringGetTextDatum(id)};
	Jsonb	   *result = query_json(query, 1, types, values, NULL);

	if (result == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_NOT_FOUND),
				 errmsg("no %s \"%s\"", what, id)));
	PG_RETURN_JSONB_P(result);
}

/* docrep.scheduler_doc_json(id) */
Datum
docrep_scheduler_doc_json(PG_FUNCTION_ARGS)
{
	return one_object(fcinfo,
					  "SELECT " DOC_OBJECT " FROM docrep.scheduler_docs WHERE doc_id = $1 COLLATE \"C\"",
					  "replication task");
}

/* docrep.scheduler_job_json(id) */
Datum
docrep_scheduler_job_json(PG_FUNCTION_ARGS)
{
	return one_object(fcinfo,
					  "SELECT " JOB_OBJECT " FROM docrep.scheduler_jobs WHERE id = $1"
					  " ORDER BY doc_id COLLATE \"C\", user_name",
					  "replication job");
}
