/*-------------------------------------------------------------------------
 *
 * feed_ahead.c
 *		Rows of the changes feed that are read ahead: those asked for by id, and
 *		batches for row security and for filters that are asked about many at once.
 *
 * They live in the feed's memory, and what is handed out goes into the caller's.
 * What was read from a stream is kept as it lies in the table (long bodies stay out of
 * line) and taken apart for each; what was found by id is looked up again.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "miscadmin.h"
#include "store/feed_internal.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/rel.h"

/* rows that are checked against row security at a time */
#define POLICY_BATCH	500

/* a batch ends when its rows, as they lie in the table, are this long */
#define MAX_BYTES		(1024 * 1024)

/* ---------- by id ---------- */

static int
compare_rows(const void *a, const void *b)
{
	int64		sa = ((const FeedAhead *) a)->seq;
	int64		sb = ((const FeedAhead *) b)->seq;

	return sa < sb ? -1 : sa > sb;
}

static int
compare_rows_descending(const void *a, const void *b)
{
	return compare_rows(b, a);
}

static int
compare_ids(const void *a, const void *b)
{
	return strcmp(*(const char *const *) a, *(const char *const *) b);
}

/* Drop the rows that the role may not see. */
static void
apply_policies(DocFeed *feed)
{
	const char **ids = palloc(Max(feed->nrows, 1) * sizeof(char *));
	bool	   *visible = palloc(Max(feed->nrows, 1) * sizeof(bool));
	int			kept = 0;

	for (int i = 0; i < feed->nrows; i++)
		ids[i] = feed->rows[i].id;
	docrep_visible_ids(feed->table, ids, feed->nrows, visible);
	for (int i = 0; i < feed->nrows; i++)
	{
		if (visible[i] && feed->rows[i].live)
			feed->rows[kept++] = feed->rows[i];
	}
	feed->nrows = kept;
}

/* Look one document up; false: it is not there, or not in range. */
static bool
find_one(DocFeed *feed, const char *id, FeedAhead *ahead)
{
	MemoryContext old = MemoryContextSwitchTo(feed->rows_cxt);
	DocState	state;
	bool		found;

	MemoryContextReset(feed->rows_cxt);
	found = docrep_state_read(feed->table, feed->snapshot, id, 0, &state);
	MemoryContextSwitchTo(old);
	if (!found || state.seq <= feed->since || state.seq >= feed->horizon)
		return false;
	memset(ahead, 0, sizeof(*ahead));
	ahead->id = pstrdup(id);
	ahead->seq = state.seq;
	ahead->live = state.live;
	return true;
}

void
docrep_feed_find_by_id(DocFeed *feed, const char *const *doc_ids, int n)
{
	MemoryContext old = MemoryContextSwitchTo(feed->cxt);
	const char **ids = palloc(Max(n, 1) * sizeof(char *));

	memcpy(ids, doc_ids, n * sizeof(char *));
	qsort(ids, n, sizeof(char *), compare_ids);
	feed->rows = palloc_extended(Max(n, 1) * sizeof(FeedAhead), MCXT_ALLOC_HUGE);
	for (int i = 0; i < n; i++)
	{
		CHECK_FOR_INTERRUPTS();
		if (i > 0 && strcmp(ids[i], ids[i - 1]) == 0)
			continue;
		if (find_one(feed, ids[i], &feed->rows[feed->nrows]))
			feed->nrows++;
	}
	pfree(ids);
	qsort(feed->rows, feed->nrows, sizeof(FeedAhead),
		  feed->descending ? compare_rows_descending : compare_rows);
	if (feed->table->row_security)
		apply_policies(feed);
	MemoryContextSwitchTo(old);
}

/* ---------- batches ---------- */

/* Keep the next row of the merged streams; false at their end.  *bytes grows. */
static bool
keep_next(DocFeed *feed, Size *bytes)
{
	FeedStream *s = docrep_feed_choose(feed);
	FeedAhead  *ahead = &feed->rows[feed->nrows];

	CHECK_FOR_INTERRUPTS();
	if (s == NULL)
		return false;
	memset(ahead, 0, sizeof(*ahead));
	ahead->id = docrep_feed_stream_id(feed, s);
	ahead->seq = s->seq;
	ahead->live = !s->in_dead;
	ahead->tuple = ExecCopySlotHeapTuple(s->slot);
	*bytes += ahead->tuple->t_len;
	feed->nrows++;
	docrep_feed_advance(feed, s);
	return true;
}

/* Read a batch, and under row security keep what may be seen; false at the end. */
static bool
read_batch(DocFeed *feed)
{
	int			max_rows = feed->table->row_security ? POLICY_BATCH : feed->chunk;

	while (!feed->exhausted)
	{
		MemoryContext old;
		Size		bytes = 0;

		MemoryContextReset(feed->rows_cxt);
		old = MemoryContextSwitchTo(feed->rows_cxt);
		feed->rows = palloc(max_rows * sizeof(FeedAhead));
		feed->nrows = feed->next_row = feed->judged = 0;
		while (feed->nrows < max_rows && bytes < MAX_BYTES && !feed->exhausted)
			feed->exhausted = !keep_next(feed, &bytes);
		if (feed->table->row_security)
			apply_policies(feed);
		MemoryContextSwitchTo(old);
		if (feed->nrows > 0)
			return true;
	}
	return false;
}

/* A slot for rows of a stream that were kept. */
static TupleTableSlot *
slot_again(DocFeed *feed, FeedStream *s)
{
	if (s->again == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(feed->cxt);

		s->again = MakeSingleTupleTableSlot(RelationGetDescr(s->rel), &TTSOpsHeapTuple);
		MemoryContextSwitchTo(old);
	}
	return s->again;
}

void
docrep_feed_read_again(DocFeed *feed, const FeedAhead *from, int flags, DocFeedRow *row)
{
	row->id = pstrdup(from->id);
	row->passes = NULL;
	if (from->tuple)
	{
		FeedStream *s = &feed->streams[from->live ? 0 : 1];
		TupleTableSlot *slot = slot_again(feed, s);

		ExecStoreHeapTuple(from->tuple, slot, false);
		docrep_state_from_slot(feed->table, s->in_dead, slot, flags, &row->state);
		if (flags & DOCSTATE_BODY)
			docrep_state_unmark(feed->table, feed->snapshot, row->id, &row->state);
		ExecClearTuple(slot);
	}
	else if (!docrep_state_read(feed->table, feed->snapshot, row->id, flags, &row->state))
		elog(ERROR, "document \"%s\" is gone from its snapshot", row->id);
}

/* ---------- handing out ---------- */

/*
 * The filter has no answer about the next row.  True: the feed ends before it, as there is
 * something to be kept that comes before; else it is raised.
 */
static bool
ends_before_failure(DocFeed *feed, const FeedAhead *ahead)
{
	if (feed->patience > 0 && feed->scanned > feed->since)
	{
		feed->paused = true;
		return true;
	}
	ereport(ERROR,
			(errcode(ahead->sqlstate),
			 errmsg_internal("%s", ahead->reason)));
}

bool
docrep_feed_next_ahead(DocFeed *feed, DocFeedRow *row)
{
	for (;;)
	{
		const FeedAhead *from;

		CHECK_FOR_INTERRUPTS();
		if (feed->next_row >= feed->nrows && (feed->by_id || !read_batch(feed)))
			return false;
		from = &feed->rows[feed->next_row];
		if (feed->filter && feed->judged <= feed->next_row)
			docrep_feed_judge(feed);
		if (feed->filter && from->sqlstate != 0 && ends_before_failure(feed, from))
			return false;
		feed->next_row++;
		if (feed->filter == NULL || from->pass)
		{
			docrep_feed_read_again(feed, from, feed->flags, row);
			if (feed->filter)
				docrep_feed_give_passes(row, from->passes, from->npasses);
			return true;
		}
		feed->scanned = from->seq;
		if (docrep_feed_out_of_patience(feed))
			return false;
	}
}
