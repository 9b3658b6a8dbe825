/*-------------------------------------------------------------------------
 *
 * views.c
 *		The function under docrep.active_tasks.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_authid.h"
#include "commands/extension.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "scheduler/jobs.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

PG_FUNCTION_INFO_V1(docrep_active_tasks);

#define ACTIVE_TASKS_COLUMNS	26

Tuplestorestate *
docrep_begin_rows(FunctionCallInfo fcinfo, TupleDesc *desc)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	Tuplestorestate *rows;
	MemoryContext old;

	if (rsinfo == NULL || !IsA(rsinfo, ReturnSetInfo) ||
		(rsinfo->allowedModes & SFRM_Materialize) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("set-valued function called in context that cannot accept a set")));
	old = MemoryContextSwitchTo(rsinfo->econtext->ecxt_per_query_memory);
	if (get_call_result_type(fcinfo, NULL, desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	*desc = CreateTupleDescCopy(*desc);
	rows = tuplestore_begin_heap(true, false, work_mem);
	rsinfo->returnMode = SFRM_Materialize;
	rsinfo->setResult = rows;
	rsinfo->setDesc = *desc;
	MemoryContextSwitchTo(old);
	return rows;
}

/* Jobs of this database are seen by their owners and by who may monitor. */
static bool
may_see(const JobView *job, Oid extension)
{
	return job->database == MyDatabaseId && job->extension == extension &&
		(has_privs_of_role(GetUserId(), job->role) ||
		 has_privs_of_role(GetUserId(), ROLE_PG_READ_ALL_STATS));
}

/* Percent of the revisions known of that are done, or -1. */
static int
progress_of(const ReplicationStats *figures)
{
	if (figures->changes_pending < 0)
		return -1;
	if (figures->changes_pending == 0)
		return 100;
	return (int) (figures->revisions_checked * 100 /
				  (figures->revisions_checked + figures->changes_pending));
}

/* The next columns of a row, from left to right. */
typedef struct Row
{
	int			n;
	Datum		values[ACTIVE_TASKS_COLUMNS];
	bool		nulls[ACTIVE_TASKS_COLUMNS];
} Row;

static void
put(Row *row, Datum value, bool null)
{
	Assert(row->n < ACTIVE_TASKS_COLUMNS);
	row->values[row->n] = value;
	row->nulls[row->n++] = null;
}

/* Text; empty is null. */
static void
put_text(Row *row, const char *text)
{
	if (text[0] == '\0')
		put(row, (Datum) 0, true);
	else
		put(row, CStringGetTextDatum(text), false);
}

/* In the order of the function's columns in scheduler.sql. */
static void
fill_row(Row *row, const JobView *job)
{
	const ReplicationStats *f = &job->figures;
	int			progress = progress_of(f);

	row->n = 0;
	put(row, Int32GetDatum(job->pid), job->pid == 0);
	put_text(row, job->id);
	put_text(row, "");			/* doc_id: of jobs that tables ask for */
	put_text(row, job->source);
	put_text(row, job->target);
	put(row, BoolGetDatum(job->continuous), false);
	put(row, Int64GetDatum(f->changes_pending), f->changes_pending < 0);
	put_text(row, f->checkpointed_source_seq);
	put_text(row, f->source_seq);
	put_text(row, f->through_seq);
	put(row, Int64GetDatum(f->docs_read), false);
	put(row, Int64GetDatum(f->docs_written), false);
	put(row, Int64GetDatum(f->doc_write_failures), false);
	put(row, Int64GetDatum(f->missing_revisions_found), false);
	put(row, Int64GetDatum(f->revisions_checked), false);
	put(row, Int64GetDatum(f->bulk_get_attempts), false);
	put(row, Int64GetDatum(f->bulk_get_docs), false);
	put(row, TimestampTzGetDatum(job->started_on), false);
	put(row, TimestampTzGetDatum(job->updated_on), false);
	put(row, Int32GetDatum(progress), progress < 0);
	put_text(row, docrep_job_state_name(job->state));
	put(row, ObjectIdGetDatum(job->role), false);
	put(row, Int32GetDatum(job->failures), false);
	put_text(row, job->error_sqlstate == 0 ? "" : job->error_message);
	put(row, TimestampTzGetDatum(job->next_start), job->state != JOB_CRASHING);
	put_text(row, docrep_job_kind_name(job->kind));
}

/* docrep.active_tasks(): one row a job that is not finished */
Datum
docrep_active_tasks(PG_FUNCTION_ARGS)
{
	TupleDesc	desc;
	Tuplestorestate *rows = docrep_begin_rows(fcinfo, &desc);
	JobView    *job = palloc(sizeof(JobView));
	int			i = 0;
	Oid			extension = get_extension_oid("docrep", false);
	Row			row;

	if (desc->natts != ACTIVE_TASKS_COLUMNS)
		elog(ERROR, "docrep.active_tasks() is of another version");
	while (docrep_job_next(&i, false, job))
	{
		if (!may_see(job, extension))
			continue;
		fill_row(&row, job);
		tuplestore_putvalues(rows, desc, row.values, row.nulls);
	}
	return (Datum) 0;
}
