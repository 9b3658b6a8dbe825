/*-------------------------------------------------------------------------
 *
 * inspect.c
 *		docrep.verify() and docrep.preflight(): jobs whose results are rows.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "replicator/inspection.h"
#include "replicator/json_members.h"
#include "scheduler/jobs.h"
#include "store/errcodes.h"
#include "store/preload.h"
#include "store/sql_support.h"
#include "store/table.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/tuplestore.h"

PG_FUNCTION_INFO_V1(docrep_verify);
PG_FUNCTION_INFO_V1(docrep_preflight);

#define MAX_COLUMNS		6

typedef enum ColumnType
{
	COLUMN_TEXT,
	COLUMN_BIGINT,
	COLUMN_JSONB
} ColumnType;

/* A column of the result, and the member of a row that fills it. */
typedef struct Column
{
	const char *member;
	ColumnType	type;
} Column;

static const Column verify_columns[] = {
	{"id", COLUMN_TEXT},
	{"rev", COLUMN_TEXT},
	{"difference", COLUMN_TEXT},
	{"source", COLUMN_JSONB},
	{"target", COLUMN_JSONB},
};

static const Column preflight_columns[] = {
	{"kind", COLUMN_TEXT},
	{"id", COLUMN_TEXT},
	{"rev", COLUMN_TEXT},
	{"detail", COLUMN_TEXT},
	{"bytes", COLUMN_BIGINT},
	{"n", COLUMN_BIGINT},
};

/* A member as a column's value; false: NULL. */
static bool
column_value(const Column *column, JsonbContainer *row, Datum *value)
{
	JsonbValue	member;

	if (!docrep_json_member(row, column->member, &member) || member.type == jbvNull)
		return false;
	switch (column->type)
	{
		case COLUMN_TEXT:
			*value = CStringGetTextDatum(docrep_json_text(&member));
			break;
		case COLUMN_BIGINT:
			*value = Int64GetDatum(docrep_json_member_int(row, column->member, 0));
			break;
		case COLUMN_JSONB:
			*value = JsonbPGetDatum(JsonbValueToJsonb(&member));
			break;
	}
	return true;
}

/* Put the rows of an array of objects into a tuplestore. */
static void
put_rows(Jsonb *array, const Column *columns, int ncolumns, Tuplestorestate *rows, TupleDesc desc)
{
	MemoryContext cxt = AllocSetContextCreate(CurrentMemoryContext, "docrep rows",
											  ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(cxt);
	JsonbIterator *it = JsonbIteratorInit(&array->root);
	JsonbIteratorToken token;
	JsonbValue	row;

	if (desc->natts != ncolumns)
		elog(ERROR, "the function is of another version");
	MemoryContextSwitchTo(old);
	while ((token = JsonbIteratorNext(&it, &row, true)) != WJB_DONE)
	{
		Datum		values[MAX_COLUMNS] = {0};
		bool		nulls[MAX_COLUMNS];

		if (token != WJB_ELEM || row.type != jbvBinary)
			continue;
		MemoryContextSwitchTo(cxt);
		for (int i = 0; i < ncolumns; i++)
			nulls[i] = !column_value(&columns[i], row.val.binary.data, &values[i]);
		tuplestore_putvalues(rows, desc, values, nulls);
		MemoryContextSwitchTo(old);
	}
	MemoryContextDelete(cxt);
}

/* Run the job, and return what it found. */
static Jsonb *
run_job(Inspection *inspection)
{
	JobRequest	request = {0};
	char	   *result;

	request.kind = inspection->verify ? JOB_VERIFY : JOB_PREFLIGHT;
	request.id = inspection->id;
	request.continuous = false;
	request.source = inspection->source->display;
	request.target = inspection->target ? inspection->target->display : "";
	request.request = docrep_inspection_serialize(inspection);
	result = docrep_job_call(&request, NULL);
	if (result == NULL)
		elog(ERROR, "a job finished without a result");
	return docrep_json_parse(result);
}

/* The arguments from the first to the one before n must not be NULL. */
static void
check_arguments(FunctionCallInfo fcinfo, const char *const *names, int n)
{
	for (int i = 0; i < n; i++)
	{
		if (PG_ARGISNULL(i))
			ereport(ERROR,
					(errcode(ERRCODE_DOCREP_BAD_REQUEST),
					 errmsg("\"%s\" must not be null", names[i])));
	}
}

/* Both functions: target NULL means preflight. */
static void
inspect(FunctionCallInfo fcinfo, const char *source, const char *target, Jsonb *options,
		const Column *columns, int ncolumns)
{
	TupleDesc	desc;
	Tuplestorestate *rows = docrep_srf_begin(fcinfo, &desc);
	Jsonb	   *found;

	docrep_require_preload();
	docrep_statement_hidden();	/* it may hold credentials */
	if (target)
		docrep_job_check_caller("verify", "docrep.verify()");
	else
		docrep_job_check_caller("look through a source", "docrep.preflight()");
	found = run_job(docrep_inspection_parse(source, target, options));
	put_rows(found, columns, ncolumns, rows, desc);
}

/* docrep.verify(source text, target text, options jsonb) */
Datum
docrep_verify(PG_FUNCTION_ARGS)
{
	static const char *const names[] = {"source", "target", "options"};

	check_arguments(fcinfo, names, lengthof(names));
	inspect(fcinfo, text_to_cstring(PG_GETARG_TEXT_PP(0)), text_to_cstring(PG_GETARG_TEXT_PP(1)),
			PG_GETARG_JSONB_P(2), verify_columns, lengthof(verify_columns));
	return (Datum) 0;
}

/* docrep.preflight(source text, options jsonb) */
Datum
docrep_preflight(PG_FUNCTION_ARGS)
{
	static const char *const names[] = {"source", "options"};

	check_arguments(fcinfo, names, lengthof(names));
	inspect(fcinfo, text_to_cstring(PG_GETARG_TEXT_PP(0)), NULL,
			PG_GETARG_JSONB_P(1), preflight_columns, lengthof(preflight_columns));
	return (Datum) 0;
}
