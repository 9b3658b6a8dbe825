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

#include "access/genam.h"
#include "access/relscan.h"
#include "access/table.h"
#include "access/tableam.h"
#include "compat.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "store/companion.h"
#include "store/feed.h"
#include "store/seqs.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

/* rows that are checked against row security at a time */
#define POLICY_BATCH 500

/* One of the two streams that are merged. */
typedef struct Stream
{
	bool		in_dead;
	Relation	rel;
	Relation	index;
	IndexScanDesc scan;
	TupleTableSlot *slot;
	AttrNumber	seq_attno;
	bool		has;			/* slot holds the next row */
	int64		seq;
} Stream;

struct DocFeed
{
	DocTable   *table;
	MemoryContext cxt;
	Snapshot	snapshot;
	int64		since;
	int64		horizon;
	bool		descending;
	int			flags;
	int64		scanned;
	Stream		streams[2];		/* live, dead */

	/* doc_ids: rows found by id, in order of seq */
	bool		by_id;
	/* rows read ahead: all of them by id, a batch under row security */
	DocFeedRow *rows;
	int			nrows;
	int			next_row;
	bool		exhausted;
	MemoryContext rows_cxt;

	const DocFeedFilter *filter;	/* or NULL */
	MemoryContext test_cxt;		/* what it looks at */
	int			patience;		/* ms, or 0 */
	TimestampTz last_given;
	bool		paused;
};

/* ---------- streams ---------- */

static void
open_stream(DocFeed *feed, Stream *s, bool in_dead)
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
static void
advance(DocFeed *feed, Stream *s)
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
close_stream(Stream *s)
{
	if (s->scan == NULL)
		return;
	index_endscan(s->scan);
	index_close(s->index, NoLock);
	ExecDropSingleTupleTableSlot(s->slot);
	s->scan = NULL;
}

/* The stream whose row comes next, or NULL. */
static Stream *
choose(DocFeed *feed)
{
	Stream	   *live = &feed->streams[0];
	Stream	   *dead = &feed->streams[1];

	if (!live->has || !dead->has)
		return live->has ? live : dead->has ? dead : NULL;
	return (live->seq < dead->seq) != feed->descending ? live : dead;
}

static char *
stream_id(DocFeed *feed, Stream *s)
{
	bool		isnull;
	Datum		id = slot_getattr(s->slot, s->in_dead ? Anum_dead_id : feed->table->info.a_id,
								  &isnull);

	return TextDatumGetCString(id);
}

static void
fill_row(DocFeed *feed, Stream *s, int flags, DocFeedRow *row)
{
	row->id = stream_id(feed, s);
	row->passes = NULL;
	docrep_state_from_slot(feed->table, s->in_dead, s->slot, flags, &row->state);
	if (flags & DOCSTATE_BODY)
		docrep_state_unmark(feed->table, feed->snapshot, row->id, &row->state);
}

/* The next row of the merged streams, before row security. */
static bool
next_merged(DocFeed *feed, DocFeedRow *row)
{
	Stream	   *s = choose(feed);

	CHECK_FOR_INTERRUPTS();
	if (s == NULL)
		return false;
	fill_row(feed, s, feed->flags, row);
	advance(feed, s);
	return true;
}

/* ---------- the filter ---------- */

/* What of a row must be read for the filter. */
static int
test_flags(const DocFeed *feed)
{
	return feed->filter->wants_bodies ? DOCSTATE_BODY : 0;
}

/* Ask the filter about one leaf. */
static bool
test_leaf(DocFeed *feed, const DocFeedRow *row, int32 node)
{
	const DocFeedFilter *filter = feed->filter;
	const DocState *state = &row->state;
	const RevNode *leaf = &state->tree->nodes[node];
	Jsonb	   *body = NULL;
	Jsonb	   *atts;

	if (node == state->winner)
		body = state->doc;
	else if (filter->wants_bodies)
		(void) docrep_leaf_read(feed->table, feed->snapshot, row->id, &leaf->rev, &body,
								&atts, NULL);
	return filter->passes(filter->arg, row->id, &leaf->rev, leaf->deleted, body);
}

/*
 * Ask the filter about a row.  *passes gets what DocFeedRow.passes will be, in the current
 * context, and *n its length.
 */
static bool
test_row(DocFeed *feed, const DocFeedRow *row, bool **passes, int32 *n)
{
	int32	   *leaves;
	bool		any = false;
	bool		all = true;

	*passes = NULL;
	if (!feed->filter->all_leaves)
		return test_leaf(feed, row, row->state.winner);
	*n = docrep_revtree_leaves(row->state.tree, &leaves);
	*passes = palloc(*n * sizeof(bool));
	for (int32 i = 0; i < *n; i++)
	{
		(*passes)[i] = test_leaf(feed, row, leaves[i]);
		any |= (*passes)[i];
		all &= (*passes)[i];
	}
	if (all)
		*passes = NULL;
	return any;
}

/* A row did not pass: true if that has been going on for too long. */
static bool
out_of_patience(DocFeed *feed)
{
	if (feed->patience == 0 ||
		!TimestampDifferenceExceeds(feed->last_given, GetCurrentTimestamp(), feed->patience))
		return false;
	feed->paused = true;
	return true;
}

/* Hand the verdict over with the row, in the current context. */
static void
give_passes(DocFeedRow *row, const bool *passes, int32 n)
{
	row->passes = NULL;
	if (passes)
		row->passes = memcpy(palloc(n * sizeof(bool)), passes, n * sizeof(bool));
}

/*
 * The next row of the merged streams that passes, without row security.  A row is
 * read once for the filter and, if it passes, once more for the caller.
 */
static bool
next_passing(DocFeed *feed, DocFeedRow *row)
{
	Stream	   *s;

	while ((s = choose(feed)) != NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(feed->test_cxt);
		DocFeedRow	tested;
		bool	   *passes = NULL;
		int32		n = 0;
		bool		pass;

		CHECK_FOR_INTERRUPTS();
		MemoryContextReset(feed->test_cxt);
		pass = feed->filter->id_passes(feed->filter->arg, stream_id(feed, s));
		if (pass)
		{
			fill_row(feed, s, test_flags(feed), &tested);
			pass = test_row(feed, &tested, &passes, &n);
		}
		MemoryContextSwitchTo(old);
		if (pass)
		{
			fill_row(feed, s, feed->flags, row);
			give_passes(row, passes, n);
			advance(feed, s);
			return true;
		}
		feed->scanned = s->seq;
		advance(feed, s);
		if (out_of_patience(feed))
			return false;
	}
	return false;
}

/* ---------- rows read ahead ---------- */

static int
compare_rows(const void *a, const void *b)
{
	int64		sa = ((const DocFeedRow *) a)->state.seq;
	int64		sb = ((const DocFeedRow *) b)->state.seq;

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

/* Look the named documents up, and put those in range in order. */
static void
find_by_id(DocFeed *feed, const char *const *doc_ids, int n)
{
	MemoryContext old = MemoryContextSwitchTo(feed->cxt);
	const char **ids = palloc(Max(n, 1) * sizeof(char *));

	memcpy(ids, doc_ids, n * sizeof(char *));
	qsort(ids, n, sizeof(char *), compare_ids);
	feed->rows = palloc(Max(n, 1) * sizeof(DocFeedRow));
	for (int i = 0; i < n; i++)
	{
		DocFeedRow *row = &feed->rows[feed->nrows];

		CHECK_FOR_INTERRUPTS();
		if (i > 0 && strcmp(ids[i], ids[i - 1]) == 0)
			continue;
		/* bodies are fetched one at a time, when the row is handed out */
		if (!docrep_state_read(feed->table, feed->snapshot, ids[i],
							   feed->flags & ~DOCSTATE_BODY, &row->state))
			continue;
		if (row->state.seq <= feed->since || row->state.seq >= feed->horizon)
			continue;
		row->id = pstrdup(ids[i]);
		feed->nrows++;
	}
	qsort(feed->rows, feed->nrows, sizeof(DocFeedRow),
		  feed->descending ? compare_rows_descending : compare_rows);
	MemoryContextSwitchTo(old);
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
		if (visible[i] && feed->rows[i].state.live)
			feed->rows[kept++] = feed->rows[i];
	}
	feed->nrows = kept;
}

/* Under row security: read a batch and keep what may be seen; false at the end. */
static bool
read_ahead(DocFeed *feed)
{
	MemoryContext old;

	while (!feed->exhausted)
	{
		MemoryContextReset(feed->rows_cxt);
		old = MemoryContextSwitchTo(feed->rows_cxt);
		feed->rows = palloc(POLICY_BATCH * sizeof(DocFeedRow));
		feed->nrows = feed->next_row = 0;
		while (feed->nrows < POLICY_BATCH)
		{
			if (!next_merged(feed, &feed->rows[feed->nrows]))
			{
				feed->exhausted = true;
				break;
			}
			feed->nrows++;
		}
		apply_policies(feed);
		MemoryContextSwitchTo(old);
		if (feed->nrows > 0)
			return true;
	}
	return false;
}

/* Read a row that was read ahead again, with the same snapshot, into the current context. */
static void
read_again(DocFeed *feed, const DocFeedRow *from, int flags, DocFeedRow *row)
{
	row->id = pstrdup(from->id);
	row->passes = NULL;
	if (!docrep_state_read(feed->table, feed->snapshot, row->id, flags, &row->state))
		elog(ERROR, "document \"%s\" is gone from its snapshot", row->id);
}

/* Does a row that was read ahead pass?  *passes and *n as of test_row, in test_cxt. */
static bool
test_read_ahead(DocFeed *feed, const DocFeedRow *from, bool **passes, int32 *n)
{
	MemoryContext old;
	DocFeedRow	row;
	bool		pass;

	*passes = NULL;
	if (feed->filter == NULL)
		return true;
	MemoryContextReset(feed->test_cxt);
	old = MemoryContextSwitchTo(feed->test_cxt);
	pass = feed->filter->id_passes(feed->filter->arg, from->id);
	if (pass)
	{
		read_again(feed, from, test_flags(feed), &row);
		pass = test_row(feed, &row, passes, n);
	}
	MemoryContextSwitchTo(old);
	return pass;
}

/*
 * Hand out the next of the rows read ahead.  Those live in the feed's memory and
 * go with it or with the next batch, so the document is read once more, with the
 * same snapshot, into the caller's.
 */
static bool
next_read_ahead(DocFeed *feed, DocFeedRow *row)
{
	for (;;)
	{
		const DocFeedRow *from;
		bool	   *passes;
		int32		n = 0;

		CHECK_FOR_INTERRUPTS();
		if (feed->next_row >= feed->nrows && (feed->by_id || !read_ahead(feed)))
			return false;
		from = &feed->rows[feed->next_row++];
		if (test_read_ahead(feed, from, &passes, &n))
		{
			read_again(feed, from, feed->flags, row);
			give_passes(row, passes, n);
			return true;
		}
		feed->scanned = from->state.seq;
		if (out_of_patience(feed))
			return false;
	}
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
		find_by_id(feed, doc_ids, ndoc_ids);
		if (table->row_security)
			apply_policies(feed);
		return feed;
	}
	for (int i = 0; i < 2; i++)
	{
		open_stream(feed, &feed->streams[i], i == 1);
		advance(feed, &feed->streams[i]);
	}
	return feed;
}

void
docrep_feed_set_filter(DocFeed *feed, const DocFeedFilter *filter, int patience)
{
	feed->filter = filter;
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
	if (feed->by_id || feed->table->row_security)
		found = next_read_ahead(feed, row);
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
			advance(feed, &feed->streams[i]);
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
