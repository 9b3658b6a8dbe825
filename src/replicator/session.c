/*-------------------------------------------------------------------------
 *
 * session.c
 *		Where a run starts, and the checkpoints it leaves.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "replicator/engine.h"
#include "replicator/json_members.h"
#include "store/errcodes.h"
#include "utils/timestamp.h"

/*
 * A checkpoint that travels with every batch carries only the newest sessions:
 * that is enough to meet the source's document, which has them all.
 */
#define TRAVELLING_HISTORY	4

/* A continuous run that falls idle records where it is after this long ... */
#define IDLE_CHECKPOINT_MS		1000
/* ... but not more often than this. */
#define IDLE_CHECKPOINT_GAP_MS	5000

/* What CouchDB's replicator calls the beginning of every feed. */
#define SEQ_START	"0"

/* Before bodies were ever compared: bring them along, but ask the target first. */
#define RATIO_NEW_TARGET	0.91
/* A target that was replicated to before: find out. */
#define RATIO_KNOWN_TARGET	0.5

void
docrep_seq_set(StringInfo seq, const char *value)
{
	resetStringInfo(seq);
	appendStringInfoString(seq, value);
}

/* Raise what a side said to a checkpoint again, with the way out if it was refused. */
static void
rethrow_with_hint(const Run *run, const DocrepPeer *peer)
{
	ErrorData  *edata = CopyErrorData();

	if (edata->hint == NULL &&
		(edata->sqlerrcode == ERRCODE_DOCREP_UNAUTHORIZED ||
		 edata->sqlerrcode == ERRCODE_DOCREP_FORBIDDEN ||
		 edata->sqlerrcode == ERRCODE_INSUFFICIENT_PRIVILEGE))
	{
		FlushErrorState();
		edata->hint = pstrdup(peer == run->source ?
							  "A source that cannot be written to can be replicated from "
							  "with \"use_checkpoints\": false." :
							  "A target that takes documents but no checkpoints can be "
							  "replicated to with \"use_checkpoints\": false.");
		ReThrowError(edata);
	}
	PG_RE_THROW();
}

/* Read a side's checkpoint. */
static Checkpoint *
read_checkpoint(Run *run, DocrepPeer *peer)
{
	char	   *volatile json = NULL;

	PG_TRY();
	{
		json = peer->ops->get_local(peer, run->replication->id);
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(run->cxt);
		rethrow_with_hint(run, peer);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(run->cxt);
	return docrep_checkpoint_parse(json);
}

/*
 * since_seq counts once: when the last run was given the same one, its
 * progress since then is not thrown away.
 */
static bool
since_seq_is_new(const Run *run)
{
	const char *since_seq = run->replication->since_seq;

	if (since_seq == NULL)
		return false;
	return run->found == NULL || run->found->since_seq == NULL ||
		strcmp(run->found->since_seq, since_seq) != 0;
}

void
docrep_session_start(Run *run)
{
	const char *ancestor = NULL;

	MemoryContextSwitchTo(run->cxt);
	docrep_checkpoint_new_session(run->session_id);
	run->start_time = docrep_checkpoint_time_now();
	run->last_saved = GetCurrentTimestamp();
	initStringInfo(&run->start_seq);
	initStringInfo(&run->read_seq);
	initStringInfo(&run->through_seq);
	initStringInfo(&run->saved_seq);

	if (run->replication->use_checkpoints)
	{
		Checkpoint *source = read_checkpoint(run, run->source);

		run->found = read_checkpoint(run, run->target);
		ancestor = docrep_checkpoint_ancestor(source, run->found, &run->old, &run->nold);
	}
	run->missing_ratio = ancestor ? RATIO_KNOWN_TARGET : RATIO_NEW_TARGET;
	if (run->replication->since_seq && (ancestor == NULL || since_seq_is_new(run)))
		ancestor = run->replication->since_seq;

	docrep_seq_set(&run->start_seq, ancestor ? ancestor : SEQ_START);
	docrep_seq_set(&run->read_seq, run->start_seq.data);
	docrep_seq_set(&run->through_seq, run->start_seq.data);
	docrep_seq_set(&run->saved_seq, run->start_seq.data);
	strlcpy(run->stats.source_seq, run->start_seq.data, sizeof(run->stats.source_seq));
	strlcpy(run->stats.through_seq, run->start_seq.data, sizeof(run->stats.through_seq));
	strlcpy(run->stats.checkpointed_source_seq, run->start_seq.data,
			sizeof(run->stats.checkpointed_source_seq));
	run->stats.changes_pending = -1;
}

bool
docrep_session_unsaved(const Run *run)
{
	return run->replication->use_checkpoints &&
		strcmp(run->through_seq.data, run->saved_seq.data) != 0;
}

long
docrep_session_due_in(const Run *run, long max)
{
	int			interval = run->replication->checkpoint_interval;
	TimestampTz due = TimestampTzPlusMilliseconds(run->last_saved, interval);

	if (!docrep_session_unsaved(run))
		return max;
	if (run->idle_since != 0)
	{
		TimestampTz rested = TimestampTzPlusMilliseconds(run->idle_since, IDLE_CHECKPOINT_MS);
		TimestampTz spaced = TimestampTzPlusMilliseconds(run->last_saved,
														 IDLE_CHECKPOINT_GAP_MS);

		due = Min(due, Max(rested, spaced));
	}
	/* A session that one side does not know yet would count for nothing after a crash. */
	else if (!run->session_saved && !run->at_end)
		return 0;
	return Min(max, TimestampDifferenceMilliseconds(GetCurrentTimestamp(), due));
}

bool
docrep_session_due(const Run *run)
{
	return docrep_session_unsaved(run) && docrep_session_due_in(run, 1) == 0;
}

/* This session as an entry of the history, up to "seq". */
static CheckpointEntry
make_entry(Run *run, const char *seq)
{
	CheckpointEntry entry = {0};

	entry.session_id = run->session_id;
	entry.start_time = run->start_time;
	entry.end_time = docrep_checkpoint_time_now();
	entry.start_last_seq = run->start_seq.data;
	entry.end_last_seq = seq;
	entry.recorded_seq = seq;
	entry.missing_checked = run->stats.revisions_checked;
	entry.missing_found = run->stats.missing_revisions_found;
	entry.docs_read = run->stats.docs_read;
	entry.docs_written = run->stats.docs_written;
	entry.doc_write_failures = run->stats.doc_write_failures;
	entry.bulk_get_docs = run->stats.bulk_get_docs;
	entry.bulk_get_attempts = run->stats.bulk_get_attempts;
	return entry;
}

/* The checkpoint document for "seq", in the current context. */
static char *
print_checkpoint(Run *run, const char *seq, int max_history)
{
	CheckpointEntry entry = make_entry(run, seq);
	CheckpointExtras extras;

	extras.source = run->replication->source->display;
	extras.target = run->replication->target->display;
	extras.source_uuid = run->source->uuid;
	extras.target_uuid = run->target->uuid;
	extras.since_seq = run->replication->since_seq;
	return docrep_checkpoint_print(&entry, &extras, run->old, run->nold, max_history);
}

char *
docrep_session_travelling(Run *run, const char *seq)
{
	return print_checkpoint(run, seq, TRAVELLING_HISTORY);
}

/* Write the checkpoint document to a side. */
static void
write_checkpoint(Run *run, DocrepPeer *peer, const char *json)
{
	PG_TRY();
	{
		peer->ops->put_local(peer, run->replication->id, json);
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(run->cxt);
		rethrow_with_hint(run, peer);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(run->scratch);
}

void
docrep_session_flush(Run *run)
{
	if (run->unflushed)
		run->target->ops->flush(run->target);
	run->unflushed = false;
	MemoryContextSwitchTo(run->scratch);
}

void
docrep_session_save(Run *run)
{
	char	   *json;

	MemoryContextSwitchTo(run->scratch);
	json = print_checkpoint(run, run->through_seq.data, CHECKPOINT_MAX_HISTORY);
	docrep_session_flush(run);
	docrep_lease_check(run);
	write_checkpoint(run, run->source, json);
	write_checkpoint(run, run->target, json);

	docrep_seq_set(&run->saved_seq, run->through_seq.data);
	strlcpy(run->stats.checkpointed_source_seq, run->saved_seq.data,
			sizeof(run->stats.checkpointed_source_seq));
	run->session_saved = true;
	run->last_saved = GetCurrentTimestamp();
	docrep_delayed_saved(run);
}

/*
 * Nothing new: the answer is the old session's, as CouchDB gives it.  Otherwise
 * the history begins with this one.
 */
char *
docrep_session_result(Run *run)
{
	CheckpointEntry entry = make_entry(run, run->through_seq.data);
	bool		no_changes = strcmp(run->start_seq.data, run->through_seq.data) == 0;
	const char *session_id = no_changes && run->nold > 0 ?
		run->old[0].session_id : run->session_id;
	StringInfoData out;

	initStringInfo(&out);
	appendStringInfoString(&out, "{");
	docrep_json_put_bool(&out, "ok", true);
	if (no_changes)
		docrep_json_put_bool(&out, "no_changes", true);
	docrep_json_put_text(&out, "session_id", session_id);
	docrep_json_put_seq(&out, "source_last_seq", run->through_seq.data);
	docrep_json_put_int(&out, "replication_id_version", REPLICATION_ID_VERSION);
	docrep_json_put_text(&out, "start_time", entry.start_time);
	docrep_json_put_text(&out, "end_time", entry.end_time);
	docrep_checkpoint_put_counts(&out, &entry);
	docrep_checkpoint_put_history(&out, no_changes ? NULL : &entry, run->old, run->nold,
								  CHECKPOINT_MAX_HISTORY);
	docrep_delayed_put_result(run, &out);
	appendStringInfoChar(&out, '}');
	return out.data;
}
