/*-------------------------------------------------------------------------
 *
 * delayed.c
 *		What a run holds back because it is younger than the replication's delay.
 *
 * A Postgres source knows when each of its changes was made, and ends a batch before
 * the first that is too young, by its own clock.  Of other sources each change is marked
 * with the time at which it was seen first (seen_marks.c); a batch is what a mark holds,
 * once that is old enough, and asks the source for exactly those revisions.
 *
 * The source's read_seq is then how far it has been seen, and through_seq, as ever, up
 * to where the target has everything.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <limits.h>

#include "replicator/delay_rules.h"
#include "replicator/delayed.h"
#include "replicator/engine.h"
#include "replicator/json_members.h"
#include "replicator/seen_marks.h"
#include "store/age.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

int			docrep_max_delayed_changes = 1000000;

/* How much longer than for the delay the source is to keep what is replaced (ms), at least. */
#define HOLD_MARGIN		(10 * 60 * 1000)
/* A long run asks for that again after this time (ms). */
#define HOLD_AGAIN		(30 * 60 * 1000)

struct Delayed
{
	int64		delay;			/* ms */
	bool		by_marks;

	/* of a source that tells times: */
	int64		young;			/* held back there */
	TimestampTz due;			/* when the first of it is old enough */
	TimestampTz ask;			/* when to ask again */

	TimestampTz held;			/* when it was asked to keep what is replaced */

	/* by marks: */
	SeenMarks	marks;
	int64		finished;		/* marks up to this number are at the target ... */
	int64		saved;			/* ... and have been removed */
	TimestampTz looked;			/* when the source was last read to its end; 0: not yet */
};

void
docrep_replicator_define_gucs(void)
{
	DefineCustomIntVariable("docrep.max_delayed_changes",
							"Of how many changes a delayed replication from a CouchDB remembers when they were seen.",
							"What comes after them counts as seen later, when some of them have been replicated.",
							&docrep_max_delayed_changes,
							1000000, 1, INT_MAX,
							PGC_SIGHUP, 0,
							NULL, NULL, NULL);
}

/* ---------- what is told of it ---------- */

/* Have the figures say what waits. */
static void
note_figures(Run *run)
{
	Delayed    *d = run->delayed;
	ReplicationStats *stats = &run->stats;

	stats->delay = d->delay;
	stats->delayed = d->by_marks ? d->marks.waiting : d->young;
	if (!d->by_marks)
		stats->delayed_until = d->young > 0 ? d->due : 0;
	else
		stats->delayed_until = d->marks.next_seen == 0 ? 0 :
			docrep_delay_after(d->marks.next_seen, d->delay);
}

void
docrep_delayed_put(StringInfo out, const ReplicationStats *stats)
{
	appendStringInfoChar(out, '{');
	docrep_json_put_int(out, "delay_ms", stats->delay);
	docrep_json_put_int(out, "waiting", stats->delayed);
	if (stats->delayed_until != 0 && IS_VALID_TIMESTAMP(stats->delayed_until))
		docrep_json_put_text(out, "until", docrep_json_time(stats->delayed_until));
	docrep_json_put_int(out, "clock_skew_ms", stats->clock_skew / 1000);
	if (stats->tells_times)
		docrep_json_put_bool(out, "former_versions", stats->former_versions);
	appendStringInfoChar(out, '}');
}

void
docrep_delayed_put_result(const Run *run, StringInfo out)
{
	if (run->delayed == NULL)
		return;
	docrep_json_put_name(out, "delayed");
	docrep_delayed_put(out, &run->stats);
}

/* ---------- the beginning ---------- */

/* Go on with the marks that there are. */
static void
start_marks(Run *run)
{
	Delayed    *d = run->delayed;
	char	   *since;
	char	   *through;

	docrep_seen_open(&d->marks, run->replication->id,
					 run->replication->use_checkpoints ? run->start_seq.data : NULL,
					 &since, &through);
	if (through)
		docrep_seq_set(&run->read_seq, through);

	/* where there are no checkpoints the marks say where it goes on */
	if (since && !run->replication->use_checkpoints)
		docrep_seq_set(&run->through_seq, since);
	d->finished = d->saved = d->marks.taken;
}

/*
 * What is replaced at the source while it is younger than the delay is still wanted when
 * it is old enough, and a little later.
 */
void
docrep_delayed_hold(Run *run)
{
	Delayed    *d = run->delayed;

	run->stats.former_versions = run->source->ops->hold_versions != NULL &&
		run->source->ops->hold_versions(run->source, run->replication->id,
										d->delay + Max(d->delay / 10, HOLD_MARGIN));
	run->stats.tells_times = true;
	d->held = GetCurrentTimestamp();
	MemoryContextSwitchTo(run->scratch);
}

bool
docrep_delayed_hold_due(const Run *run)
{
	return run->delayed != NULL && !run->delayed->by_marks &&
		TimestampDifferenceExceeds(run->delayed->held, GetCurrentTimestamp(), HOLD_AGAIN);
}

void
docrep_delayed_start(Run *run)
{
	MemoryContext caller = CurrentMemoryContext;

	if (run->replication->delay == 0)
	{
		if (!run->source->ops->tells_times)
			docrep_seen_clear(run->replication->id);
		return;
	}
	MemoryContextSwitchTo(run->cxt);
	run->delayed = palloc0(sizeof(Delayed));
	run->delayed->delay = run->replication->delay;
	run->delayed->by_marks = !run->source->ops->tells_times;
	if (run->delayed->by_marks)
		start_marks(run);
	else
		docrep_delayed_hold(run);
	note_figures(run);
	MemoryContextSwitchTo(caller);
}

bool
docrep_delayed_by_marks(const Run *run)
{
	return run->delayed != NULL && run->delayed->by_marks;
}

/* ---------- sources that tell times ---------- */

void
docrep_delayed_note_read(Run *run, const DocrepChanges *changes)
{
	Delayed    *d = run->delayed;

	if (d == NULL || d->by_marks)
		return;
	d->young = changes->young;
	d->due = changes->young == 0 ? 0 :
		docrep_delay_after(GetCurrentTimestamp(),
						   changes->due_in + docrep_delay_slack(d->delay));
	d->ask = Min(d->due, docrep_delay_after(GetCurrentTimestamp(),
											docrep_delay_ask_again(d->delay)));
	run->stats.clock_skew = changes->skew;
	note_figures(run);
}

/* ---------- marks ---------- */

/* A task that is held has such a run to see when changes are made, and writes nothing. */
static bool
is_held(const Run *run)
{
	return run->replication->held_since != NULL;
}

/* Is there room for more of them? */
static bool
may_look(const Delayed *d)
{
	return d->marks.waiting < docrep_max_delayed_changes;
}

/* When is the source to be looked at again, if something waits; 0: not before that is gone. */
static TimestampTz
next_look(const Delayed *d)
{
	if (!may_look(d))
		return 0;
	return docrep_delay_after(d->looked, docrep_delay_look_interval(d->delay));
}

bool
docrep_delayed_look_due(const Run *run)
{
	const Delayed *d = run->delayed;

	if (d == NULL || !d->by_marks || !may_look(d))
		return false;
	if (!run->at_end || d->looked == 0)
		return true;
	return d->marks.waiting > 0 && next_look(d) <= GetCurrentTimestamp();
}

/* Read some changes of the source, and remember that they are there. */
void
docrep_delayed_look(Run *run)
{
	Delayed    *d = run->delayed;
	MemoryContext cxt = AllocSetContextCreate(run->cxt, "docrep look", ALLOCSET_DEFAULT_SIZES);
	DocrepChangesRequest request = {0};
	DocrepChanges changes;

	docrep_transfer_fill_request(run, &request);
	request.max_rows = DELAY_MARK_CHANGES;
	request.with_docs = false;
	MemoryContextSwitchTo(cxt);
	docrep_changes_init(&changes, cxt);
	run->source->ops->send_changes(run->source, &request);
	MemoryContextSwitchTo(cxt);
	run->source->ops->recv_changes(run->source, &changes);
	MemoryContextSwitchTo(cxt);
	docrep_transfer_note_changes(run, request.since, &changes);
	if (changes.n > 0)
	{
		docrep_seen_add(&d->marks, request.since, &changes, d->delay);
		run->idle_since = 0;
	}
	/* nothing that the target lacks lies between; while it is held not even that is written */
	else if (d->marks.waiting == 0 && run->nbatches == 0 && !is_held(run))
		docrep_seq_set(&run->through_seq, changes.last_seq);
	docrep_seq_set(&run->read_seq, changes.last_seq);
	if (!may_look(d))
		run->at_end = true;
	if (run->at_end)
		d->looked = GetCurrentTimestamp();
	note_figures(run);
	MemoryContextSwitchTo(run->scratch);
	MemoryContextDelete(cxt);
}

bool
docrep_delayed_mark_due(const Run *run)
{
	const Delayed *d = run->delayed;

	return d->marks.next_seen != 0 && !is_held(run) &&
		docrep_age_due_in(d->marks.next_seen, d->delay, GetCurrentTimestamp()) == 0;
}

void
docrep_delayed_take_mark(Run *run, Batch *batch)
{
	batch->mark = docrep_seen_take(&run->delayed->marks, &batch->changes);
	run->pending_after_read = run->delayed->marks.waiting;
	note_figures(run);
}

void
docrep_delayed_finished(Run *run, const Batch *batch)
{
	if (batch->mark != 0)
		run->delayed->finished = batch->mark;
}

void
docrep_delayed_saved(Run *run)
{
	Delayed    *d = run->delayed;

	if (d == NULL || d->saved == d->finished)
		return;
	docrep_seen_forget(&d->marks, d->finished);
	d->saved = d->finished;
}

/* ---------- waiting ---------- */

TimestampTz
docrep_delayed_due_at(const Run *run)
{
	const Delayed *d = run->delayed;

	if (d == NULL)
		return 0;
	if (!d->by_marks)
		return d->young > 0 ? d->ask : 0;
	if (d->marks.waiting == 0)
		return 0;
	if (is_held(run))
		return may_look(d) ? next_look(d) : DT_NOEND;
	return docrep_delay_sooner(docrep_delay_after(d->marks.next_seen, d->delay), next_look(d));
}

long
docrep_delayed_due_in(const Run *run, long max)
{
	TimestampTz due = docrep_delayed_due_at(run);
	TimestampTz now = GetCurrentTimestamp();

	if (due == 0)
		return -1;
	if (due <= now)
		return 0;
	return (long) Min((due - now) / 1000 + 1, (int64) max);
}

void
docrep_delayed_wake(Run *run)
{
	/* marks and looks see for themselves */
	if (run->delayed->by_marks)
		return;
	run->at_end = false;
	run->idle_since = 0;
}
