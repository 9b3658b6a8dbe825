/*-------------------------------------------------------------------------
 *
 * feed.c
 *		Reading the changes feed: live rows and tombstones merged by seq.
 *
 * The horizon is taken first and the snapshot second (see seqs.c), whatever
 * the isolation level of the transaction: under REPEATABLE READ, too, a feed
 * shows what is committed now.  The snapshot is registered, not pushed.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "access/tableam.h"
#include "compat.h"
#include "miscadmin.h"
#include "store/companion.h"
#include "store/feed_internal.h"
#include "store/seqs.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

/* ---------- streams ---------- */

static void
open_stream(DocFeed *feed, FeedStream *s, bool in_dead)
{
	DocTable   *table = feed->table;
	ScanKeyData keys[2];
	MemoryContext old = MemoryContextSwitchTo(feed->cxt);

	s->in_dead = in_dead;
	s->rel = in_dead ? docrep_dead_rel(table) : table->rel;
	s->seq_attno = in_dead ? Anum_dead_seq : table->info.a_seq;
	s->index = index_open(in_dead ? table->info.dead_seqidx_oid : table->info.seqidx_oid,
						  AccessShareLock);
	s->slot = table_slot_create(s->rel, NULL);
	ScanKeyInit(&keys[0], 1, BTGreaterStrategyNumber, F_INT8GT, Int64GetDatum(feed->since));
	ScanKeyInit(&keys[1], 1, BTLessStrategyNumber, F_INT8LT, Int64GetDatum(feed->horizon));
	s->scan = docrep_index_beginscan(s->rel, s->index, feed->snapshot, 2);
	index_rescan(s->scan, keys, 2, NULL, 0);
	MemoryContextSwitchTo(old);
}

/*
 * Step to the stream's next row.  In the feed's own context: the index scan keeps
 * what it allocates on the way (the list of dead index entries), and callers
 * reset theirs after every row.
 */
void
docrep_feed_advance(DocFeed *feed, FeedStream *s)
{
	MemoryContext old = MemoryContextSwitchTo(feed->cxt);
	bool		isnull;

	s->has = index_getnext_slot(s->scan,
								feed->descending ? BackwardScanDirection : ForwardScanDirection,
								s->slot);
	if (s->has)
		s->seq = DatumGetInt64(slot_getattr(s->slot, s->seq_attno, &isnull));
	MemoryContextSwitchTo(old);
}

static void
close_stream(FeedStream *s)
{
	if (s->scan == NULL)
		return;
	if (s->again)
		ExecDropSingleTupleTableSlot(s->again);
	index_endscan(s->scan);
	index_close(s->index, NoLock);
	ExecDropSingleTupleTableSlot(s->slot);
	s->scan = NULL;
}

/* The stream whose row comes next, or NULL. */
FeedStream *
docrep_feed_choose(DocFeed *feed)
{
	FeedStream *live = &feed->streams[0];
	FeedStream *dead = &feed->streams[1];

	if (!live->has || !dead->has)
		return live->has ? live : dead->has ? dead : NULL;
	return (live->seq < dead->seq) != feed->descending ? live : dead;
}

char *
docrep_feed_stream_id(DocFeed *feed, FeedStream *s)
{
	bool		isnull;
	Datum		id = slot_getattr(s->slot, s->in_dead ? Anum_dead_id : feed->table->info.a_id,
								  &isnull);

	return TextDatumGetCString(id);
}

static void
fill_row(DocFeed *feed, FeedStream *s, int flags, DocFeedRow *row)
{
	row->id = docrep_feed_stream_id(feed, s);
	row->passes = NULL;
	docrep_state_from_slot(feed->table, s->in_dead, s->slot, flags, &row->state);
	if (flags & DOCSTATE_BODY)
		docrep_state_unmark(feed->table, feed->snapshot, row->id, &row->state);
}

/* The next row of the merged streams, before row security. */
static bool
next_merged(DocFeed *feed, DocFeedRow *row)
{
	FeedStream *s = docrep_feed_choose(feed);

	CHECK_FOR_INTERRUPTS();
	if (s == NULL)
		return false;
	fill_row(feed, s, feed->flags, row);
	docrep_feed_advance(feed, s);
	return true;
}

/* ---------- the filter ---------- */

bool
docrep_feed_out_of_patience(DocFeed *feed)
{
	if (feed->patience == 0 ||
		!TimestampDifferenceExceeds(feed->last_given, GetCurrentTimestamp(), feed->patience))
		return false;
	feed->paused = true;
	return true;
}

/*
 * The next row of the merged streams that passes, without row security.  A row is
 * read once for the filter and, if it passes, once more for the caller.
 */
static bool
next_passing(DocFeed *feed, DocFeedRow *row)
{
	FeedStream *s;

	while ((s = docrep_feed_choose(feed)) != NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(feed->test_cxt);
		DocFeedRow	tested;
		bool	   *passes = NULL;
		int32		n = 0;
		bool		pass;

		CHECK_FOR_INTERRUPTS();
		MemoryContextReset(feed->test_cxt);
		pass = feed->filter->id_passes(feed->filter->arg, docrep_feed_stream_id(feed, s));
		if (pass)
		{
			fill_row(feed, s, docrep_feed_test_flags(feed), &tested);
			pass = docrep_feed_test_row(feed, &tested, &passes, &n);
		}
		MemoryContextSwitchTo(old);
		if (pass)
		{
			fill_row(feed, s, feed->flags, row);
			docrep_feed_give_passes(row, passes, n);
			docrep_feed_advance(feed, s);
			return true;
		}
		feed->scanned = s->seq;
		docrep_feed_advance(feed, s);
		if (docrep_feed_out_of_patience(feed))
			return false;
	}
	return false;
}

/* ---------- the feed ---------- */

DocFeed *
docrep_feed_open(DocTable *table, int64 since, bool descending,
				 const char *const *doc_ids, int ndoc_ids, int flags)
{
	MemoryContext cxt = AllocSetContextCreate(CurrentMemoryContext, "docrep feed",
											  ALLOCSET_DEFAULT_SIZES);
	DocFeed    *feed = MemoryContextAllocZero(cxt, sizeof(DocFeed));

	feed->table = table;
	feed->cxt = cxt;
	feed->since = Max(since, 0);
	feed->descending = descending;
	feed->flags = flags;
	feed->scanned = feed->since;
	feed->horizon = docrep_seq_horizon(&table->info);
	docrep_seq_flush(&table->info);
	feed->snapshot = RegisterSnapshot(GetLatestSnapshot());
	feed->rows_cxt = AllocSetContextCreate(cxt, "docrep feed rows", ALLOCSET_DEFAULT_SIZES);
	if (doc_ids)
	{
		feed->by_id = true;
		docrep_feed_find_by_id(feed, doc_ids, ndoc_ids);
		return feed;
	}
	for (int i = 0; i < 2; i++)
	{
		open_stream(feed, &feed->streams[i], i == 1);
		docrep_feed_advance(feed, &feed->streams[i]);
	}
	return feed;
}

void
docrep_feed_set_filter(DocFeed *feed, const DocFeedFilter *filter, int patience)
{
	feed->filter = filter;
	feed->chunk = 1;
	feed->patience = patience;
	feed->last_given = GetCurrentTimestamp();
	feed->test_cxt = AllocSetContextCreate(feed->cxt, "docrep feed filter",
										   ALLOCSET_DEFAULT_SIZES);
}

bool
docrep_feed_next(DocFeed *feed, DocFeedRow *row)
{
	bool		found;

	feed->paused = false;
	if (feed->by_id || feed->table->row_security || (feed->filter && feed->filter->passes_many))
		found = docrep_feed_next_ahead(feed, row);
	else if (feed->filter)
		found = next_passing(feed, row);
	else
		found = next_merged(feed, row);
	if (found && feed->patience > 0)
		feed->last_given = GetCurrentTimestamp();
	if (found)
		feed->scanned = row->state.seq;
	else if (!feed->paused)
		feed->scanned = feed->descending ? feed->since : Max(feed->horizon - 1, feed->since);
	return found;
}

bool
docrep_feed_paused(DocFeed *feed)
{
	return feed->paused;
}

int64
docrep_feed_scanned(DocFeed *feed)
{
	return feed->scanned;
}

int64
docrep_feed_pending(DocFeed *feed)
{
	if (feed->by_id)
		return feed->nrows - feed->next_row;
	if (!feed->streams[0].has && !feed->streams[1].has && feed->next_row >= feed->nrows)
		return 0;
	return feed->descending ? feed->scanned - feed->since - 1 : feed->horizon - 1 - feed->scanned;
}

int64
docrep_feed_count_rest(DocFeed *feed)
{
	int64		n = 0;

	if (feed->by_id || feed->table->row_security || feed->filter)
	{
		DocFeedRow	row;
		MemoryContext cxt = AllocSetContextCreate(CurrentMemoryContext, "docrep feed count",
												  ALLOCSET_SMALL_SIZES);
		MemoryContext old = MemoryContextSwitchTo(cxt);

		feed->flags = 0;
		for (; docrep_feed_next(feed, &row); n++)
			MemoryContextReset(cxt);
		MemoryContextSwitchTo(old);
		MemoryContextDelete(cxt);
		return n;
	}
	/* without taking rows apart, and one stream after the other */
	for (int i = 0; i < 2; i++)
	{
		for (; feed->streams[i].has; n++)
		{
			CHECK_FOR_INTERRUPTS();
			docrep_feed_advance(feed, &feed->streams[i]);
		}
	}
	return n;
}

Snapshot
docrep_feed_snapshot(DocFeed *feed)
{
	return feed->snapshot;
}

void
docrep_feed_close(DocFeed *feed)
{
	close_stream(&feed->streams[0]);
	close_stream(&feed->streams[1]);
	UnregisterSnapshot(feed->snapshot);
	MemoryContextDelete(feed->cxt);
}
