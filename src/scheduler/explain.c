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

#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "replicator/json_members.h"
#include "scheduler/explain.h"
#include "scheduler/views.h"
#include "store/errcodes.h"
#include "store/companion.h"
#include "store/local_docs.h"
#include "store/not_replicated.h"
#include "store/seqs.h"
#include "store/sql_support.h"
#include "store/state.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(docrep_explain);

/* What a step says of the document. */
typedef enum Verdict
{
	PASSES,						/* not stopped here */
	DONE,						/* it has arrived */
	WAITS,						/* stopped here for now */
	STOPS,						/* stopped here until somebody does something */
	UNKNOWN						/* cannot be told from here */
} Verdict;

static const char *const verdict_names[] = {"passes", "done", "waits", "stops", "unknown"};

/* A side of the replication. */
typedef struct Side
{
	DocTable   *table;			/* NULL: not in this database, or not for this role */
	bool		found;			/* the document is stored there, and the role may see it */
	DocState	state;
	char		rev[REV_TEXT_SIZE]; /* its winner */
} Side;

typedef struct Explanation
{
	Tuplestorestate *rows;
	TupleDesc	desc;
	ExplainTask *task;
	const char *id;				/* of the document */
	Snapshot	snapshot;
	Side		source;
	Side		target;
	char	   *first[UNKNOWN + 1]; /* the first detail with each verdict */
} Explanation;

/* Add a row. */
static void add(Explanation *e, const char *step, Verdict verdict,
				const char *format,...) pg_attribute_printf(4, 5);

static void
add(Explanation *e, const char *step, Verdict verdict, const char *format,...)
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
		add(e, "task", WAITS, "it is completed: what changed after it ended waits for another run");
	else if (strcmp(task->state, "error") == 0)
		add(e, "task", WAITS, "it is in state error and tried again%s%s: %s",
			task->retry_at ? " at " : "", task->retry_at ? task->retry_at : "", reason);
	else if (strcmp(task->state, "held") == 0)
		add(e, "task", STOPS, "it is held until docrep.resume_tasks(): %s", reason);
	else
		add(e, "task", STOPS, "it has failed and is not tried again: %s", reason);
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
		add(e, "task", STOPS, "it is held since %s; docrep.release() lets it go on", task->held_since);
	else if (task->disabled)
		add(e, "task", STOPS, "it is disabled");
	else if (docrep_paused)
		add(e, "task", WAITS, "replication is paused on this server (docrep.paused)");
	else if (job == NULL)
		add(e, "task", WAITS, "it has not been scheduled yet");
	else if (job->state == JOB_CRASHING)
		add(e, "task", WAITS, "it has failed %d times in a row and is started again at %s: %s",
			job->failures, timestamptz_to_str(job->next_start),
			job->error_sqlstate ? job->error_message : "it was sent away");
	else if (job->state == JOB_FINISHED && job->error_sqlstate)
		add(e, "task", STOPS, "it has failed: %s", job->error_message);
	else if (job->state == JOB_FINISHED)
		add(e, "task", WAITS, "it is completed: what changed after it ended waits for another run");
	else if (job->state == JOB_PENDING)
		add(e, "task", WAITS, "it waits for a process");
	else
		add(e, "task", PASSES, "it is %s", docrep_job_state_name(job->state));
	if (job && job->figures.delayed > 0)
		add(e, "delay", WAITS, INT64_FORMAT " changes are younger than its delay, or follow one that is; the first is due at %s",
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
		add(e, "source", UNKNOWN, "%s cannot be looked at from here",
			e->task->replication->source->display);
	else if (!source->found)
		add(e, "source", STOPS, "the source has no such document: never stored, purged, or not visible to this role");
	else
		add(e, "source", PASSES, "the source has %s %s with number " INT64_FORMAT ", of %s",
			source->state.live ? "revision" : "tombstone", source->rev, source->state.seq,
			timestamptz_to_str(source->state.modified));
}

/* ---------- which documents ---------- */

/* Why the source's table keeps a leaf back; NULL: it does not. */
static const char *
leaf_kept_back(Explanation *e, const KeepBack *rule, DocState *state, int32 node)
{
	const RevNode *leaf = &state->tree->nodes[node];
	Jsonb	   *body = NULL;
	LeafState	stored;

	if (node == state->winner)
		body = state->doc;
	else if (docrep_leaf_state(e->source.table, e->snapshot, e->id, &leaf->rev, &stored))
		body = stored.doc;
	return docrep_keep_back_reason(rule, e->id, &leaf->rev, leaf->deleted, body);
}

/* What the source's table keeps back from every replication. */
static void
explain_rule(Explanation *e)
{
	const KeepBack *rule = e->source.found ? docrep_keep_back_rule(e->source.table) : NULL;
	const char *reason = NULL;
	DocState	state;
	int32	   *leaves;
	int32		n;
	int32		kept = 0;

	if (rule == NULL || !docrep_state_read(e->source.table, e->snapshot, e->id, DOCSTATE_BODY, &state))
		return;
	n = docrep_revtree_leaves(state.tree, &leaves);
	for (int32 i = 0; i < n; i++)
	{
		const char *why = leaf_kept_back(e, rule, &state, leaves[i]);

		reason = why ? why : reason;
		kept += why != NULL;
	}
	if (kept == 0)
		add(e, "rule", PASSES, "the source table's rule does not keep it back");
	else if (kept < n)
		add(e, "rule", PASSES, "%d of its %d revisions are kept back by the source table's rule: %s",
			kept, n, reason);
	else
		add(e, "rule", STOPS, "it is kept back by the source table's rule: %s", reason);
}

static bool
is_among(const char *id, char **ids, int n)
{
	for (int i = 0; i < n; i++)
	{
		if (strcmp(ids[i], id) == 0)
			return true;
	}
	return false;
}

/* Is the id one of those that paths name? */
static bool
passes_paths(const Replication *r, const char *id)
{
	DocrepFilterSpec paths = {.paths = r->filter.paths, .npaths = r->filter.npaths};

	return docrep_filter_is_empty(&paths) ||
		docrep_filter_id_passes(docrep_filter_compile(&paths, NULL), id, false);
}

/* What a replication's filter is called. */
static const char *
filter_name(const Replication *r)
{
	if (r->filter.filter && strcmp(r->filter.filter, "_view") == 0)
		return psprintf("filter \"_view\" of \"%s\"", docrep_filter_view_param(&r->filter));
	if (r->filter.filter)
		return psprintf("filter \"%s\"", r->filter.filter);
	return r->filter.selector ? "the selector" : "prevent_deletions";
}

/* Ask the filter of a source that is here. */
static void
explain_answer(Explanation *e)
{
	const Replication *r = e->task->replication;
	const char *name = filter_name(r);
	ExplainFilter answer;

	docrep_explain_ask_filter(r, e->source.table->info.relid, e->id, &answer);
	if (answer.problem)
		add(e, "filter", STOPS, "%s has no answer: %s", name, answer.problem);
	else if (!answer.found)
		add(e, "filter", STOPS, "role %s, as which the replication reads, does not see the document",
			GetUserNameFromId(r->role, false));
	else if (answer.passing == 0)
		add(e, "filter", STOPS, "%s does not let it pass", name);
	else if (answer.passing < answer.asked)
		add(e, "filter", PASSES, "%s lets %d of its %d revisions pass", name, answer.passing,
			answer.asked);
	else
		add(e, "filter", PASSES, "%s lets it pass", name);
}

/* Is anything asked but the id? */
static bool
looks_at_revisions(const DocrepFilterSpec *filter)
{
	return filter->filter || filter->selector || filter->prevent_deletions;
}

/* filter, selector, prevent_deletions. */
static void
explain_asked(Explanation *e)
{
	const Replication *r = e->task->replication;

	if (e->source.table == NULL)
		add(e, "filter", UNKNOWN, "%s is asked at %s, which cannot be looked at from here",
			filter_name(r), r->source->display);
	else if (!e->source.found)
		add(e, "filter", UNKNOWN, "there is no document about which %s could be asked",
			filter_name(r));
	else if (!docrep_explain_may_ask(r))
		add(e, "filter", UNKNOWN, "%s is asked as role %s, which this role may not become",
			filter_name(r), GetUserNameFromId(r->role, false));
	else
		explain_answer(e);
}

/* doc_ids, filter, selector, paths, and design documents. */
static void
explain_filter(Explanation *e)
{
	const Replication *r = e->task->replication;

	if (!passes_paths(r, e->id))
		add(e, "filter", STOPS, "its id is not among those of paths");
	else if (r->doc_ids && !is_among(e->id, r->doc_ids, r->ndoc_ids))
		add(e, "filter", STOPS, "its id is not among the %d of doc_ids", r->ndoc_ids);
	else if (looks_at_revisions(&r->filter))
		explain_asked(e);
	else if (r->doc_ids)
		add(e, "filter", PASSES, "its id is among those of doc_ids");
	else if (r->filter.paths)
		add(e, "filter", PASSES, "its id is among those of paths");
	else
		add(e, "filter", PASSES, "all documents are replicated");
	if (strncmp(e->id, "_design/", 8) == 0 && strcmp(r->target->kind, "local") == 0 &&
		!r->user_is_admin)
		add(e, "design document", STOPS,
			"a replication without the admin role does not write design documents into tables here");
	if (r->winning_revs_only && e->source.found)
		add(e, "revisions", PASSES, "of its revisions only the winner is replicated (winning_revs_only)");
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
		add(e, "checkpoint", e->task->job ? UNKNOWN : WAITS,
			"nothing is recorded of how far the replication is");
		return false;
	}
	if (e->source.table == NULL || !e->source.found || !is_own_seq(seq))
	{
		add(e, "checkpoint", UNKNOWN, "the replication has everything up to %s", seq);
		return false;
	}
	passed = docrep_seq_parse(&e->source.table->info, seq);
	if (e->source.state.seq > passed)
	{
		add(e, "checkpoint", WAITS, "its number comes after %s, up to which the replication is", seq);
		return false;
	}
	if (r->since_seq && is_own_seq(r->since_seq) &&
		e->source.state.seq <= docrep_seq_parse(&e->source.table->info, r->since_seq))
	{
		add(e, "checkpoint", STOPS, "its number is not after since_seq, %s", r->since_seq);
		return false;
	}
	add(e, "checkpoint", PASSES, "the replication has passed its number, up to %s", seq);
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

		add(e, "rejected", STOPS, "the target refused revision %s (%s): %s",
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
		add(e, "target", UNKNOWN, "%s cannot be looked at from here",
			e->task->replication->target->display);
		return false;
	}
	if (!target->found)
	{
		add(e, "target", source->found ? WAITS : UNKNOWN, "the target has no such document");
		return false;
	}
	if (!source->found)
	{
		add(e, "target", UNKNOWN, "the target has %s %s",
			target->state.live ? "revision" : "tombstone", target->rev);
		return false;
	}
	if (docrep_revtree_find(target->state.tree,
							&source->state.tree->nodes[source->state.winner].rev) < 0)
	{
		add(e, "target", WAITS, "the target has %s, not %s", target->rev, source->rev);
		return false;
	}
	add(e, "target", DONE, strcmp(source->rev, target->rev) == 0 ?
		"the target has %s" : "the target has %s, and shows %s", source->rev, target->rev);
	return true;
}

/* ---------- all of it ---------- */

/* The last row. */
static void
sum_up(Explanation *e, bool arrived, bool passed)
{
	if (arrived)
		add(e, "summary", DONE, "It has been replicated: %s.", e->first[DONE]);
	else if (e->first[STOPS])
		add(e, "summary", STOPS, "It is not replicated: %s.", e->first[STOPS]);
	else if (passed && e->target.table)
		add(e, "summary", STOPS,
			"The replication has passed it, but the target lacks it: it was purged there, or a trigger or policy kept it away.");
	else if (passed)
		add(e, "summary", DONE,
			"The replication has passed it: it was sent, or refused by the target, where docrep.rejected_docs or the count doc_write_failures tells.");
	else if (e->first[WAITS])
		add(e, "summary", WAITS, "It is not replicated yet: %s.", e->first[WAITS]);
	else
		add(e, "summary", UNKNOWN, "Nothing here stops it; what %s has can only be told there.",
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
	e->rows = docrep_begin_rows(fcinfo, &e->desc);
	explain_task(e);
	if (e->task->replication == NULL)
	{
		add(e, "summary", STOPS, "It is not replicated: %s.",
			e->first[STOPS] ? e->first[STOPS] : "the task could not be read");
		return (Datum) 0;
	}
	e->snapshot = RegisterSnapshot(GetLatestSnapshot());
	explain_sides(e, tbl);
	explain_source(e);
	explain_rule(e);
	explain_filter(e);
	passed = explain_progress(e);
	explain_rejected(e);
	arrived = explain_target(e);
	sum_up(e, arrived, passed);
	close_sides(e);
	UnregisterSnapshot(e->snapshot);
	return (Datum) 0;
}
