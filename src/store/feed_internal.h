/*-------------------------------------------------------------------------
 *
 * feed_internal.h
 *		The changes feed; for feed*.c only.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DOCREP_STORE_FEED_INTERNAL_H
#define DOCREP_STORE_FEED_INTERNAL_H

#include "access/genam.h"
#include "access/htup.h"
#include "access/relscan.h"
#include "datatype/timestamp.h"
#include "executor/tuptable.h"
#include "store/feed.h"

/* One of the two streams that are merged. */
typedef struct FeedStream
{
	bool		in_dead;
	Relation	rel;
	Relation	index;
	IndexScanDesc scan;
	TupleTableSlot *slot;
	TupleTableSlot *again;		/* for rows read ahead, or NULL */
	AttrNumber	seq_attno;
	bool		has;			/* slot holds the next row */
	int64		seq;
} FeedStream;

/* A row read ahead: what tells it, and what the filter says of it. */
typedef struct FeedAhead
{
	char	   *id;
	int64		seq;
	bool		live;
	HeapTuple	tuple;			/* or NULL: to be looked up by id */

	/* set by docrep_feed_judge, in test_cxt */
	bool		pass;
	bool	   *passes;			/* DocFeedRow.passes, and how many there are */
	int32		npasses;
	int			sqlstate;		/* 0, or why the filter has no answer */
	const char *reason;
} FeedAhead;

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
	FeedStream	streams[2];		/* live, dead */

	/* rows read ahead: all of them by id, a batch under row security or for a filter */
	bool		by_id;
	FeedAhead  *rows;
	int			nrows;
	int			next_row;
	int			judged;			/* rows before this one have their verdict */
	bool		exhausted;
	MemoryContext rows_cxt;

	const DocFeedFilter *filter;	/* or NULL */
	MemoryContext test_cxt;		/* what it looks at */
	int			chunk;			/* rows that are judged at a time */
	int			patience;		/* ms, or 0 */
	TimestampTz last_given;
	bool		paused;
};

/* ---------- feed.c ---------- */

/* The stream whose row comes next, or NULL; its id; step to its next row. */
extern FeedStream *docrep_feed_choose(DocFeed *feed);
extern char *docrep_feed_stream_id(DocFeed *feed, FeedStream *s);
extern void docrep_feed_advance(DocFeed *feed, FeedStream *s);

/* A row did not pass: true if that has been going on for too long. */
extern bool docrep_feed_out_of_patience(DocFeed *feed);

/* ---------- feed_filter.c ---------- */

/* What of a row must be read for the filter. */
static inline int
docrep_feed_test_flags(const DocFeed *feed)
{
	return feed->filter->state_flags;
}

/*
 * Ask the filter about one row.  *passes gets what DocFeedRow.passes will be, in the
 * current context, and *n its length.
 */
extern bool docrep_feed_test_row(DocFeed *feed, const DocFeedRow *row, bool **passes, int32 *n);

/* Hand the verdict over with the row, in the current context. */
extern void docrep_feed_give_passes(DocFeedRow *row, const bool *passes, int32 n);

/* Ask it about the next of the rows read ahead: at least one. */
extern void docrep_feed_judge(DocFeed *feed);

/* ---------- feed_ahead.c ---------- */

/* Look the named documents up, and put those in range, which the role may see, in order. */
extern void docrep_feed_find_by_id(DocFeed *feed, const char *const *doc_ids, int n);

/* The next of the rows read ahead that passes; reads on if there are none left. */
extern bool docrep_feed_next_ahead(DocFeed *feed, DocFeedRow *row);

/* Read one of them again, with the same snapshot, into the current context. */
extern void docrep_feed_read_again(DocFeed *feed, const FeedAhead *from, int flags,
								   DocFeedRow *row);

#endif							/* DOCREP_STORE_FEED_INTERNAL_H */
