/*-------------------------------------------------------------------------
 *
 * explain.c
 *		docrep.explain(): why did a replication carry a document or not?
 *
 * Goes through what a document passes on its way, one row a step, and sums up
 * in the last one.  What lies on another server cannot be looked at from here.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "replicator/json_members.h"
#include "scheduler/explain_internal.h"
#include "scheduler/views.h"
#include "store/errcodes.h"
#include "store/local_docs.h"
#include "store/seqs.h"
#include "store/sql_support.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(docrep_explain);

static const char *const verdict_names[] = {"passes", "done", "waits", "stops", "unknown"};

void
docrep_explain_add(Explanation *e, const char *step, Verdict verdict, const char *format,...)
{
	StringInfoData detail;
	Datum		values[3];
	bool		nulls[3] = {false, false, false};

	initStringInfo(&detail);
	for (;;)
	{
		va_list		args;
		int			needed;

		va_start(args, format);
		needed = appendStringInfoVA(&detail, format, args);
		va_end(args);
		if (needed == 0)
			break;
		enlargeStringInfo(&detail, needed);
	}
	if (e->first[verdict] == NULL)
		e->first[verdict] = detail.data;
	values[0] = CStringGetTextDatum(step);
	values[1] = CStringGetTextDatum(verdict_names[verdict]);
	values[2] = CStringGetTextDatum(detail.data);
	tuplestore_putvalues(e->rows, e->desc, values, nulls);
}

/* ---------- the task ---------- */

/* A task that has no job because of what its row says. */
static void
explain_row_state(Explanation *e)
{
	const ExplainTask *task = e->task;
	const char *reason = task->reason ? task->reason : "no reason is known";

	if (strcmp(task->state, "completed") == 0)
		docrep_explain_add(e, "task", WAITS, "it is completed: what changed after it ended waits for another run");
	else if (strcmp(task->state, "error") == 0)
		docrep_explain_add(e, "task", WAITS, "it is in state error and tried again%s%s: %s",
						   task->retry_at ? " at " : "", task->retry_at ? task->retry_at : "", reason);
	else if (strcmp(task->state, "held") == 0)
		docrep_explain_add(e, "task", STOPS, "it is held until docrep.resume_tasks(): %s", reason);
	else
		docrep_explain_add(e, "task", STOPS, "it has failed and is not tried again: %s", reason);
}

/* The task's or job's state. */
static void
explain_task(Explanation *e)
{
	const ExplainTask *task = e->task;
	const JobView *job = task->job;

	if (task->state)
		explain_row_state(e);
	else if (task->held_since)
		docrep_explain_add(e, "task", STOPS, "it is held since %s; docrep.release() lets it go on", task->held_since);
	else if (task->disabled)
		docrep_explain_add(e, "task", STOPS, "it is disabled");
	else if (docrep_paused)
		docrep_explain_add(e, "task", WAITS, "replication is paused on this server (docrep.paused)");
	else if (job == NULL)
		docrep_explain_add(e, "task", WAITS, "it has not been scheduled yet");
	else if (job->state == JOB_CRASHING)
		docrep_explain_add(e, "task", WAITS, "it has failed %d times in a row and is started again at %s: %s",
						   job->failures, timestamptz_to_str(job->next_start),
						   job->error_sqlstate ? job->error_message : "it was sent away");
	else if (job->state == JOB_FINISHED && job->error_sqlstate)
		docrep_explain_add(e, "task", STOPS, "it has failed: %s", job->error_message);
	else if (job->state == JOB_FINISHED)
		docrep_explain_add(e, "task", WAITS, "it is completed: what changed after it ended waits for another run");
	else if (job->state == JOB_PENDING)
		docrep_explain_add(e, "task", WAITS, "it waits for a process");
	else
		docrep_explain_add(e, "task", PASSES, "it is %s", docrep_job_state_name(job->state));
	if (job && job->figures.delayed > 0)
		docrep_explain_add(e, "delay", WAITS, INT64_FORMAT " changes are younger than its delay, or follow one that is; the first is due at %s",
						   job->figures.delayed, timestamptz_to_str(job->figures.delayed_until));
}

/* ---------- the two sides ---------- */

/* Look the document up in an open table. */
static void
look_up(Explanation *e, Side *side)
{
	bool		visible;

	docrep_visible_ids(side->table, &e->id, 1, &visible);
	side->found = visible &&
		docrep_state_read(side->table, e->snapshot, e->id, DOCSTATE_TRUNK, &side->state);
	if (side->found)
		(void) docrep_rev_print(&side->state.tree->nodes[side->state.winner].rev, side->rev);
}

/*
 * Is the endpoint a table here that the role may read?  Then open it and look
 * the document up.  Returns its oid, InvalidOid if it is none.
 */
static Oid
open_side(Explanation *e, Side *side, const DocrepEndpoint *endpoint)
{
	Oid			relid = InvalidOid;

	if (strcmp(endpoint->kind, "local") != 0)
		return InvalidOid;
	if (strlen(endpoint->spec) == 36 && strspn(endpoint->spec, "0123456789abcdef-") == 36)
		relid = docrep_table_by_uuid(DatumGetUUIDP(DirectFunctionCall1(uuid_in,
																	   CStringGetDatum(endpoint->spec))));
	else
		relid = docrep_table_by_name(endpoint->spec, true);
	if (!OidIsValid(relid) || pg_class_aclcheck(relid, GetUserId(), ACL_SELECT) != ACLCHECK_OK)
		return relid;
	side->table = docrep_table_open(relid, AccessShareLock, ACL_SELECT);
	look_up(e, side);
	return relid;
}

/* Open both sides; tbl must be one of them. */
static void
explain_sides(Explanation *e, Oid tbl)
{
	const Replication *r = e->task->replication;
	Oid			source = open_side(e, &e->source, r->source);
	Oid			target = open_side(e, &e->target, r->target);

	if (tbl != source && tbl != target)
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_BAD_REQUEST),
				 errmsg("the replication neither reads from nor writes to that table"),
				 errdetail("It is from %s to %s.", r->source->display, r->target->display)));
}

/* The document at the source. */
static void
explain_source(Explanation *e)
{
	const Side *source = &e->source;

	if (source->table == NULL)
		docrep_explain_add(e, "source", UNKNOWN, "%s cannot be looked at from here",
						   e->task->replication->source->display);
	else if (!source->found)
		docrep_explain_add(e, "source", STOPS, "the source has no such document: never stored, purged, or not visible to this role");
	else
		docrep_explain_add(e, "source", PASSES, "the source has %s %s with number " INT64_FORMAT ", of %s",
						   source->state.live ? "revision" : "tombstone", source->rev, source->state.seq,
						   timestamptz_to_str(source->state.modified));
}

/* ---------- how far the replication is ---------- */

/* source_last_seq of a checkpoint at a table; NULL: there is none. */
static char *
checkpoint_seq(DocTable *table, const char *id)
{
	Jsonb	   *doc = docrep_local_get(&table->info, id);

	return doc ? docrep_json_member_text(&doc->root, "source_last_seq") : NULL;
}

/* How far the replication says that it is: the job's word, or a checkpoint. */
static char *
progress_seq(Explanation *e)
{
	const ExplainTask *task = e->task;
	char	   *seq = NULL;

	if (task->job && task->job->established && task->job->figures.through_seq[0] != '\0')
		return pstrdup(task->job->figures.through_seq);
	if (task->checkpoint_id && e->target.table)
		seq = checkpoint_seq(e->target.table, task->checkpoint_id);
	if (seq == NULL && task->checkpoint_id && e->source.table)
		seq = checkpoint_seq(e->source.table, task->checkpoint_id);
	return seq;
}

/* Could a table of ours have given this sequence?  Checkpoints may be anything. */
static bool
is_own_seq(const char *seq)
{
	size_t		digits = strspn(seq, "0123456789");

	return digits > 0 && digits <= 18 &&
		(seq[digits] == '\0' ||
		 (seq[digits] == '-' && strlen(seq + digits + 1) == 16 &&
		  strspn(seq + digits + 1, "0123456789abcdef") == 16));
}

/* The document's number against where the replication is; true: it has been passed. */
static bool
explain_progress(Explanation *e)
{
	const Replication *r = e->task->replication;
	char	   *seq = progress_seq(e);
	int64		passed;

	if (seq == NULL)
	{
		docrep_explain_add(e, "checkpoint", e->task->job ? UNKNOWN : WAITS,
						   "nothing is recorded of how far the replication is");
		return false;
	}
	if (e->source.table == NULL || !e->source.found || !is_own_seq(seq))
	{
		docrep_explain_add(e, "checkpoint", UNKNOWN, "the replication has everything up to %s", seq);
		return false;
	}
	passed = docrep_seq_parse(&e->source.table->info, seq);
	if (e->source.state.seq > passed)
	{
		docrep_explain_add(e, "checkpoint", WAITS, "its number comes after %s, up to which the replication is", seq);
		return false;
	}
	if (r->since_seq && is_own_seq(r->since_seq) &&
		e->source.state.seq <= docrep_seq_parse(&e->source.table->info, r->since_seq))
	{
		docrep_explain_add(e, "checkpoint", STOPS, "its number is not after since_seq, %s", r->since_seq);
		return false;
	}
	docrep_explain_add(e, "checkpoint", PASSES, "the replication has passed its number, up to %s", seq);
	return true;
}

/* ---------- the target ---------- */

/* What the target has refused of the document, as the caller may see it. */
static void
explain_rejected(Explanation *e)
{
	Oid			types[] = {REGCLASSOID, TEXTOID};
	Datum		values[2];
	MemoryContext cxt = CurrentMemoryContext;

	if (e->target.table == NULL)
		return;
	values[0] = ObjectIdGetDatum(e->target.table->info.relid);
	values[1] = CStringGetTextDatum(e->id);
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	if (SPI_execute_with_args("SELECT rev, error, reason FROM docrep.rejected_docs"
							  " WHERE tbl = $1 AND id = $2 ORDER BY at DESC LIMIT 20",
							  2, types, values, NULL, false, 20) != SPI_OK_SELECT)
		elog(ERROR, "could not read docrep.rejected_docs");
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		HeapTuple	row = SPI_tuptable->vals[i];
		TupleDesc	desc = SPI_tuptable->tupdesc;
		MemoryContext old = MemoryContextSwitchTo(cxt);

		docrep_explain_add(e, "rejected", STOPS, "the target refused revision %s (%s): %s",
						   SPI_getvalue(row, desc, 1), SPI_getvalue(row, desc, 2), SPI_getvalue(row, desc, 3));
		MemoryContextSwitchTo(old);
	}
	SPI_finish();
}

/* What the target has; true: the source's winner is there. */
static bool
explain_target(Explanation *e)
{
	const Side *source = &e->source;
	const Side *target = &e->target;

	if (target->table == NULL)
	{
		docrep_explain_add(e, "target", UNKNOWN, "%s cannot be looked at from here",
						   e->task->replication->target->display);
		return false;
	}
	if (!target->found)
	{
		docrep_explain_add(e, "target", source->found ? WAITS : UNKNOWN, "the target has no such document");
		return false;
	}
	if (!source->found)
	{
		docrep_explain_add(e, "target", UNKNOWN, "the target has %s %s",
						   target->state.live ? "revision" : "tombstone", target->rev);
		return false;
	}
	if (docrep_revtree_find(target->state.tree,
							&source->state.tree->nodes[source->state.winner].rev) < 0)
	{
		docrep_explain_add(e, "target", WAITS, "the target has %s, not %s", target->rev, source->rev);
		return false;
	}
	docrep_explain_add(e, "target", DONE, strcmp(source->rev, target->rev) == 0 ?
					   "the target has %s" : "the target has %s, and shows %s", source->rev, target->rev);
	return true;
}

/* ---------- all of it ---------- */

/* The last row. */
static void
sum_up(Explanation *e, bool arrived, bool passed)
{
	if (arrived)
		docrep_explain_add(e, "summary", DONE, "It has been replicated: %s.", e->first[DONE]);
	else if (e->first[STOPS])
		docrep_explain_add(e, "summary", STOPS, "It is not replicated: %s.", e->first[STOPS]);
	else if (passed && e->target.table)
		docrep_explain_add(e, "summary", STOPS,
						   "The replication has passed it, but the target lacks it: it was purged there, or a trigger or policy kept it away.");
	else if (passed)
		docrep_explain_add(e, "summary", DONE,
						   "The replication has passed it: it was sent, or refused by the target, where docrep.rejected_docs or the count doc_write_failures tells.");
	else if (e->first[WAITS])
		docrep_explain_add(e, "summary", WAITS, "It is not replicated yet: %s.", e->first[WAITS]);
	else
		docrep_explain_add(e, "summary", UNKNOWN, "Nothing here stops it; what %s has can only be told there.",
						   e->source.table == NULL ? "the source" : "the target");
}

/* Close what explain_sides has opened. */
static void
close_sides(Explanation *e)
{
	if (e->source.table)
		docrep_table_close(e->source.table, NoLock);
	if (e->target.table)
		docrep_table_close(e->target.table, NoLock);
}

/* docrep.explain(id, tbl, doc_id): rows (step, verdict, detail) */
Datum
docrep_explain(PG_FUNCTION_ARGS)
{
	Explanation *e = palloc0(sizeof(Explanation));
	char	   *id = docrep_arg_id(fcinfo, 0, "id");
	Oid			tbl = docrep_arg_table(fcinfo, 1);
	bool		arrived;
	bool		passed;

	e->id = docrep_arg_id(fcinfo, 2, "doc_id");
	docrep_table_close(docrep_table_open(tbl, AccessShareLock, ACL_SELECT), NoLock);
	e->task = docrep_explain_find(id);
	e->rows = docrep_srf_begin(fcinfo, &e->desc);
	explain_task(e);
	if (e->task->replication == NULL)
	{
		docrep_explain_add(e, "summary", STOPS, "It is not replicated: %s.",
						   e->first[STOPS] ? e->first[STOPS] : "the task could not be read");
		return (Datum) 0;
	}
	e->snapshot = RegisterSnapshot(GetLatestSnapshot());
	explain_sides(e, tbl);
	explain_source(e);
	docrep_explain_rule(e);
	docrep_explain_filter(e);
	passed = explain_progress(e);
	explain_rejected(e);
	arrived = explain_target(e);
	sum_up(e, arrived, passed);
	close_sides(e);
	UnregisterSnapshot(e->snapshot);
	return (Datum) 0;
}
