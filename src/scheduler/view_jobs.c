/*-------------------------------------------------------------------------
 *
 * view_jobs.c
 *		The function under docrep.scheduler_jobs and docrep.scheduler_docs: jobs
 *		in CouchDB's words.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "commands/extension.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "pgtime.h"
#include "replicator/delayed.h"
#include "replicator/json_members.h"
#include "scheduler/views.h"
#include "store/sql_support.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(docrep_job_rows);

/* CouchDB's names of what happens to a job; indexed by JobEventKind. */
static const char *const event_names[] = {"added", "started", "stopped", "crashed"};

/* A time as CouchDB writes it: ISO 8601, UTC, seconds. */
static char *
time_text(TimestampTz at)
{
	pg_time_t	seconds = timestamptz_to_time_t(at);
	char		text[32];

	pg_strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", pg_gmtime(&seconds));
	return pstrdup(text);
}

/* The job's figures under CouchDB's names, as jsonb. */
static Datum
stats_json(const ReplicationStats *f)
{
	StringInfoData out;

	initStringInfo(&out);
	appendStringInfoChar(&out, '{');
	docrep_json_put_int(&out, "revisions_checked", f->revisions_checked);
	docrep_json_put_int(&out, "missing_revisions_found", f->missing_revisions_found);
	docrep_json_put_int(&out, "docs_read", f->docs_read);
	docrep_json_put_int(&out, "docs_written", f->docs_written);
	docrep_json_put_int(&out, "doc_write_failures", f->doc_write_failures);
	docrep_json_put_int(&out, "bulk_get_attempts", f->bulk_get_attempts);
	docrep_json_put_int(&out, "bulk_get_docs", f->bulk_get_docs);
	if (f->changes_pending >= 0)
		docrep_json_put_int(&out, "changes_pending", f->changes_pending);
	else
	{
		docrep_json_put_name(&out, "changes_pending");
		appendStringInfoString(&out, "null");
	}
	docrep_json_put_seq(&out, "checkpointed_source_seq",
						f->checkpointed_source_seq[0] ? f->checkpointed_source_seq : NULL);
	docrep_json_put_seq(&out, "source_seq", f->source_seq[0] ? f->source_seq : NULL);
	docrep_json_put_seq(&out, "through_seq", f->through_seq[0] ? f->through_seq : NULL);
	if (f->delay > 0)
	{
		docrep_json_put_name(&out, "delayed");
		docrep_delayed_put(&out, f);
	}
	appendStringInfoChar(&out, '}');
	return JsonbPGetDatum(docrep_json_parse(out.data));
}

/* The job's history, newest event first, as a jsonb array. */
static Datum
history_json(JobRef ref)
{
	JobEvent	events[JOB_HISTORY];
	int			n = docrep_job_history(ref, events);
	StringInfoData out;

	initStringInfo(&out);
	appendStringInfoChar(&out, '[');
	for (int i = 0; i < n; i++)
	{
		appendStringInfoString(&out, i > 0 ? ",{" : "{");
		docrep_json_put_text(&out, "timestamp", time_text(events[i].at));
		docrep_json_put_text(&out, "type", event_names[events[i].kind]);
		if (events[i].reason[0] != '\0')
			docrep_json_put_text(&out, "reason", events[i].reason);
		appendStringInfoChar(&out, '}');
	}
	appendStringInfoChar(&out, ']');
	return JsonbPGetDatum(docrep_json_parse(out.data));
}

/* In the order of the function's columns in watching.sql. */
static void
fill_row(ViewRow *row, const JobView *job, bool history)
{
	row->n = 0;
	docrep_view_put_text(row, job->has_task ? docrep_job_task(job->ref) : NULL);
	docrep_view_put(row, Int64GetDatum(job->task_version), !job->has_task);
	docrep_view_put_text(row, job->id);
	docrep_view_put(row, Int32GetDatum(job->pid), job->pid == 0);
	docrep_view_put_text(row, job->source);
	docrep_view_put_text(row, job->target);
	docrep_view_put(row, ObjectIdGetDatum(job->role), false);
	docrep_view_put_text(row, docrep_view_state(job));
	docrep_view_put(row, BoolGetDatum(job->continuous), false);
	docrep_view_put(row, TimestampTzGetDatum(job->started_on), false);
	docrep_view_put(row, TimestampTzGetDatum(job->updated_on), false);
	if (job->established)
		docrep_view_put(row, stats_json(&job->figures), false);
	else
		docrep_view_put(row, (Datum) 0, true);
	docrep_view_put_text(row, job->error_sqlstate == 0 ? NULL : job->error_message);
	docrep_view_put(row, Int32GetDatum(job->failures), false);
	docrep_view_put(row, TimestampTzGetDatum(job->next_start), job->state != JOB_CRASHING);
	if (history)
		docrep_view_put(row, history_json(job->ref), false);
	else
		docrep_view_put(row, (Datum) 0, true);
}

/*
 * docrep.job_rows(finished, history): the replications among the jobs that the
 * caller may see; with finished also those that are over, with history what
 * happened to each.
 */
Datum
docrep_job_rows(PG_FUNCTION_ARGS)
{
	TupleDesc	desc;
	Tuplestorestate *rows = docrep_srf_begin(fcinfo, &desc);
	MemoryContext scratch = AllocSetContextCreate(CurrentMemoryContext, "docrep job",
												  ALLOCSET_DEFAULT_SIZES);
	bool		finished = PG_GETARG_BOOL(0);
	bool		history = PG_GETARG_BOOL(1);
	Oid			extension = get_extension_oid("docrep", false);
	JobView    *job = palloc(sizeof(JobView));
	ViewRow    *row = palloc(sizeof(ViewRow));
	int			index = 0;

	while (docrep_job_next(&index, finished, job))
	{
		MemoryContext old;

		CHECK_FOR_INTERRUPTS();
		if (job->kind != JOB_REPLICATE || !docrep_view_may_see(job, extension))
			continue;
		old = MemoryContextSwitchTo(scratch);
		fill_row(row, job, history);
		MemoryContextSwitchTo(old);
		if (desc->natts != row->n)
			elog(ERROR, "docrep.job_rows() is of another version");
		tuplestore_putvalues(rows, desc, row->values, row->nulls);
		MemoryContextReset(scratch);
	}
	MemoryContextDelete(scratch);
	return (Datum) 0;
}
