/*-------------------------------------------------------------------------
 *
 * batch_changes.c
 *		Replication: a batch of a table's changes.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "store/age.h"
#include "store/batch_internal.h"
#include "store/seqs.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

/*
 * A filtered batch ends after this (ms), full or not, so that what was scanned in vain
 * makes it to a checkpoint and is not scanned again.
 */
#define FILTER_PATIENCE		1000
/* ... as does one that has met so many documents that are kept back. */
#define KEPT_BACK_A_BATCH	10000

/* Rows that are held back for their age are counted up to here, and estimated from here on. */
#define MAX_COUNTED_YOUNG	1000

/* The reading of a batch. */
typedef struct BatchRead
{
	DocTable   *table;
	const DocrepChangesRequest *request;
	const DocFeedFilter *filter;	/* or NULL */
	const KeepBack *rule;		/* or NULL */
	DocFeed    *feed;
	FormerRows	former;
	const char *epoch;
	int64		since;
	int64		scanned;		/* the number up to which all has been looked at */
	TimestampTz begun;
	int			kept_back;		/* rows that do not travel, ... */
	Size		kept_bytes;		/* ... and about what of memory they took */
	DocrepChanges *out;
} BatchRead;

/*
 * The nodes of a row that travel: its leaves that pass, or the winner.  Returns how
 * many there are.
 */
static int32
nodes_to_travel(const DocrepChangesRequest *request, DocFeedRow *row, int32 **nodes)
{
	int32		n;
	int32		kept = 0;

	if (request->winners_only)
	{
		*nodes = &row->state.winner;
		return 1;
	}
	n = docrep_revtree_leaves(row->state.tree, nodes);
	for (int32 i = 0; i < n; i++)
	{
		if (row->passes == NULL || row->passes[i])
			(*nodes)[kept++] = (*nodes)[i];
	}
	return kept;
}

/* A row of the feed into a change; with bodies if asked for. */
static void
fill_change(DocTable *table, const DocrepChangesRequest *request, DocFeed *feed,
			DocFeedRow *row, DocrepChanges *out)
{
	DocrepChange *change = docrep_changes_add(out);
	RevTree    *tree = row->state.tree;
	int32	   *leaves;
	int32		n = nodes_to_travel(request, row, &leaves);

	change->id = row->id;
	change->deleted = !row->state.live;
	change->modified = row->state.modified;
	change->nrevs = n;
	change->revs = palloc(n * sizeof(Rev));
	for (int i = 0; i < n; i++)
		change->revs[i] = tree->nodes[leaves[i]].rev;
	out->bytes += 64;
	if (!request->with_docs)
		return;
	change->docs = palloc0(n * sizeof(DocrepDoc));
	for (int i = 0; i < n; i++)
	{
		if (!docrep_batch_fill_doc(table, docrep_feed_snapshot(feed), row->id, &row->state,
								   leaves[i], request->min_age > 0, &change->docs[i]))
		{
			/* fetching will find what can be had */
			change->docs = NULL;
			return;
		}
		out->bytes += docrep_doc_size(&change->docs[i]);
	}
}

/* Has enough been read? */
static bool
batch_is_full(const BatchRead *read)
{
	return read->out->n >= read->request->max_rows ||
		read->out->bytes + read->kept_bytes >= read->request->max_bytes ||
		read->kept_back >= KEPT_BACK_A_BATCH ||
		((read->filter != NULL || read->rule != NULL) &&
		 TimestampDifferenceExceeds(read->begun, GetCurrentTimestamp(), FILTER_PATIENCE));
}

/* Does the table keep all of the row back?  Then it counts for the limits. */
static bool
is_kept_back(BatchRead *read, DocFeedRow *row)
{
	if (read->rule == NULL ||
		docrep_keep_back_from_row(read->rule, read->table, read->feed, row,
								  read->request->winners_only))
		return false;
	read->kept_back++;
	read->kept_bytes += 64 + (row->state.doc ? VARSIZE(row->state.doc) : 0);
	return true;
}

/*
 * When was a row changed, so far as it travels?  Each leaf has a time of its own; one that
 * is not stored has the winner's.
 */
static TimestampTz
row_modified(DocTable *table, const DocrepChangesRequest *request, DocFeed *feed,
			 DocFeedRow *row)
{
	TimestampTz youngest = 0;
	int32	   *leaves;
	int32		n = nodes_to_travel(request, row, &leaves);

	for (int32 i = 0; i < n; i++)
	{
		TimestampTz modified = row->state.modified;
		LeafState	stored;

		if (leaves[i] != row->state.winner &&
			docrep_leaf_state(table, docrep_feed_snapshot(feed), row->id,
							  &row->state.tree->nodes[leaves[i]].rev, &stored))
			modified = stored.modified;
		if (i == 0 || modified > youngest)
			youngest = modified;
	}
	return youngest;
}

/*
 * The row that has just been read, and with it all that follow, must wait for so long (ms).
 * They are counted as far as that is cheap.
 */
static void
hold_back(DocFeed *feed, int64 due_in, DocrepChanges *out)
{
	MemoryContext cxt = AllocSetContextCreate(CurrentMemoryContext, "docrep young changes",
											  ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(cxt);
	DocFeedRow	row;

	out->due_in = due_in;
	for (out->young = 1; out->young < MAX_COUNTED_YOUNG && docrep_feed_next(feed, &row); out->young++)
		MemoryContextReset(cxt);
	if (out->young == MAX_COUNTED_YOUNG)
		out->young += docrep_feed_pending(feed);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(cxt);
}

/* Is the row too young?  Then it ends the batch. */
static bool
is_too_young(BatchRead *read, DocFeedRow *row)
{
	int64		due_in;

	if (read->request->min_age <= 0)
		return false;
	due_in = docrep_age_due_in_ms(row_modified(read->table, read->request, read->feed, row),
								  read->request->min_age, read->out->source_now);
	if (due_in == 0)
		return false;
	hold_back(read->feed, due_in, read->out);
	return true;
}

/* Give the former winners that come before a number of the feed; one too young ends the batch. */
static FormerResult
give_former(BatchRead *read, int64 before)
{
	FormerResult given = docrep_former_give(&read->former, before, read->request->max_rows,
											read->epoch, &read->scanned, read->out);

	if (given == FORMER_YOUNG)
		hold_back(read->feed, docrep_age_due_in_ms(read->former.next.modified,
												   read->request->min_age,
												   read->out->source_now), read->out);
	return given;
}

/* Open the feed, and with it the former winners. */
static void
begin_reading(BatchRead *read)
{
	const DocrepChangesRequest *request = read->request;
	int			flags = request->with_docs ? DOCSTATE_BODY | DOCSTATE_TRUNK : 0;

	if (read->rule && docrep_keep_back_wants_bodies(read->rule))
		flags |= DOCSTATE_BODY;
	read->feed = docrep_feed_open(read->table, read->since, false, request->doc_ids,
								  request->ndoc_ids, flags);
	if (read->filter)
		docrep_feed_set_filter(read->feed, read->filter, FILTER_PATIENCE);
	read->epoch = docrep_seq_suffix(&read->table->info);
	read->out->at_end = true;
	read->out->source_now = read->begun;
	docrep_former_begin(&read->former, read->table, read->feed, request, read->filter,
						read->rule, read->since, read->begun);
}

/* Read rows until the batch is full or one is too young, or there are no more. */
static FormerResult
read_rows(BatchRead *read)
{
	FormerResult given = FORMER_GIVEN;
	DocFeedRow	row;

	while (docrep_feed_next(read->feed, &row))
	{
		bool		kept_back = is_kept_back(read, &row);

		given = give_former(read, row.state.seq);
		if (given != FORMER_GIVEN)
			break;
		/* what does not travel holds up nobody */
		if (!kept_back && is_too_young(read, &row))
			break;
		read->scanned = row.state.seq;
		if (!kept_back)
		{
			fill_change(read->table, read->request, read->feed, &row, read->out);
			read->out->rows[read->out->n - 1].seq = docrep_seq_text(row.state.seq, read->epoch);
		}
		if (batch_is_full(read))
		{
			read->out->at_end = false;
			break;
		}
	}
	return given;
}

/* The batch is read: say how far, and what comes after it. */
static void
end_reading(BatchRead *read, FormerResult given)
{
	DocrepChanges *out = read->out;

	if (docrep_feed_paused(read->feed))
		out->at_end = false;
	/* those before the end of what was scanned, rows that did not pass included */
	if (given == FORMER_GIVEN && out->young == 0)
		given = give_former(read, docrep_feed_scanned(read->feed) + 1);
	if (out->young > 0 || given == FORMER_FULL)
		out->at_end = false;
	else
		read->scanned = docrep_feed_scanned(read->feed);
	/* nothing was old enough: it stands where it stood, in the same words */
	if (out->young > 0 && read->scanned == read->since)
		out->last_seq = pstrdup(read->request->since);
	else
		out->last_seq = docrep_seq_text(read->scanned, read->epoch);
	out->pending = out->at_end ? 0 : out->young > 0 ? out->young : docrep_feed_pending(read->feed);
	docrep_former_end(&read->former);
	docrep_feed_close(read->feed);
}

void
docrep_batch_changes(DocTable *table, const DocrepChangesRequest *request,
					 const DocFeedFilter *filter, DocrepChanges *out)
{
	MemoryContext old = MemoryContextSwitchTo(out->cxt);
	BatchRead	read = {0};

	read.table = table;
	read.request = request;
	read.filter = filter;
	read.since = read.scanned = docrep_seq_parse(&table->info, request->since);
	read.rule = docrep_keep_back_rule(table);
	read.begun = GetCurrentTimestamp();
	read.out = out;
	begin_reading(&read);
	end_reading(&read, read_rows(&read));
	MemoryContextSwitchTo(old);
}
