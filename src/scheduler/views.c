/*-------------------------------------------------------------------------
 *
 * views.c
 *		The function under docrep.active_tasks, and what the other views' functions
 *		share with it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_authid.h"
#include "commands/dbcommands.h"
#include "commands/extension.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "replicator/delayed.h"
#include "replicator/json_members.h"
#include "scheduler/jobs.h"
#include "scheduler/views.h"
#include "store/sql_support.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

PG_FUNCTION_INFO_V1(docrep_active_tasks);

/* CouchDB's own name of a node that was given none. */
#define NODE_DEFAULT	"nonode@nohost"

void
docrep_view_put(ViewRow *row, Datum value, bool null)
{
	Assert(row->n < VIEW_COLUMNS);
	row->values[row->n] = value;
	row->nulls[row->n++] = null;
}

void
docrep_view_put_text(ViewRow *row, const char *text)
{
	if (text == NULL || text[0] == '\0')
		docrep_view_put(row, (Datum) 0, true);
	else
		docrep_view_put(row, CStringGetTextDatum(text), false);
}

bool
docrep_view_sees_all(void)
{
	return has_privs_of_role(GetUserId(), ROLE_PG_READ_ALL_STATS);
}

bool
docrep_view_may_see(const JobView *job, Oid extension)
{
	return job->database == MyDatabaseId && job->extension == extension &&
		(has_privs_of_role(GetUserId(), job->role) || docrep_view_sees_all());
}

const char *
docrep_view_state(const JobView *job)
{
	switch (job->state)
	{
		case JOB_FREE:
		case JOB_PENDING:
			return "pending";
		case JOB_STARTING:
		case JOB_RUNNING:
		case JOB_IDLE:
		case JOB_PARKED:
			return "running";
		case JOB_CRASHING:
			if (job->held)
				return "pending";
			return job->unidentified ? "error" : "crashing";
		case JOB_FINISHED:
			return job->error_sqlstate == 0 ? "completed" : "failed";
	}
	return "pending";
}

const char *
docrep_view_node(void)
{
	const char *name = GetConfigOption("docrep.node_name", true, false);

	return name && name[0] != '\0' ? name : NODE_DEFAULT;
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

/* What waits because it is too young, as jsonb. */
static Datum
delayed_json(const ReplicationStats *figures)
{
	StringInfoData out;

	initStringInfo(&out);
	docrep_delayed_put(&out, figures);
	return JsonbPGetDatum(docrep_json_parse(out.data));
}

/* In the order of the function's columns in watching.sql. */
static void
fill_row(ViewRow *row, const JobView *job, const char *database)
{
	const ReplicationStats *f = &job->figures;
	int			progress = progress_of(f);

	row->n = 0;
	docrep_view_put(row, Int32GetDatum(job->pid), job->pid == 0);
	docrep_view_put_text(row, job->id);
	docrep_view_put_text(row, job->has_task ? docrep_job_task(job->ref) : NULL);
	docrep_view_put_text(row, job->source);
	docrep_view_put_text(row, job->target);
	docrep_view_put(row, BoolGetDatum(job->continuous), false);
	docrep_view_put(row, Int64GetDatum(f->changes_pending), f->changes_pending < 0);
	docrep_view_put_text(row, f->checkpointed_source_seq);
	docrep_view_put_text(row, f->source_seq);
	docrep_view_put_text(row, f->through_seq);
	docrep_view_put(row, Int64GetDatum(f->docs_read), false);
	docrep_view_put(row, Int64GetDatum(f->docs_written), false);
	docrep_view_put(row, Int64GetDatum(f->doc_write_failures), false);
	docrep_view_put(row, Int64GetDatum(f->missing_revisions_found), false);
	docrep_view_put(row, Int64GetDatum(f->revisions_checked), false);
	docrep_view_put(row, Int64GetDatum(f->bulk_get_attempts), false);
	docrep_view_put(row, Int64GetDatum(f->bulk_get_docs), false);
	docrep_view_put(row, TimestampTzGetDatum(job->started_on), false);
	docrep_view_put(row, TimestampTzGetDatum(job->updated_on), false);
	docrep_view_put(row, Int32GetDatum(progress), progress < 0);
	docrep_view_put_text(row, docrep_job_state_name(job->state));
	docrep_view_put(row, ObjectIdGetDatum(job->role), false);
	docrep_view_put(row, Int32GetDatum(job->failures), false);
	docrep_view_put_text(row, job->error_sqlstate == 0 ? NULL : job->error_message);
	docrep_view_put(row, TimestampTzGetDatum(job->next_start), job->state != JOB_CRASHING);
	docrep_view_put_text(row, docrep_job_kind_name(job->kind));
	docrep_view_put_text(row, database);
	docrep_view_put_text(row, docrep_view_node());
	if (f->delay > 0)
		docrep_view_put(row, delayed_json(f), false);
	else
		docrep_view_put(row, (Datum) 0, true);
}

/* docrep.active_tasks(): one row a job that is not finished */
Datum
docrep_active_tasks(PG_FUNCTION_ARGS)
{
	TupleDesc	desc;
	Tuplestorestate *rows = docrep_srf_begin(fcinfo, &desc);
	MemoryContext scratch = AllocSetContextCreate(CurrentMemoryContext, "docrep job",
												  ALLOCSET_DEFAULT_SIZES);
	Oid			extension = get_extension_oid("docrep", false);
	const char *database = get_database_name(MyDatabaseId);
	JobView    *job = palloc(sizeof(JobView));
	ViewRow    *row = palloc(sizeof(ViewRow));
	int			index = 0;

	while (docrep_job_next(&index, false, job))
	{
		MemoryContext old;

		CHECK_FOR_INTERRUPTS();
		if (!docrep_view_may_see(job, extension))
			continue;
		old = MemoryContextSwitchTo(scratch);
		fill_row(row, job, database);
		MemoryContextSwitchTo(old);
		if (desc->natts != row->n)
			elog(ERROR, "docrep.active_tasks() is of another version");
		tuplestore_putvalues(rows, desc, row->values, row->nulls);
		MemoryContextReset(scratch);
	}
	MemoryContextDelete(scratch);
	return (Datum) 0;
}
