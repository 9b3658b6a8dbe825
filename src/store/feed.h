/*-------------------------------------------------------------------------
 *
 * feed.h
 *		Reading the changes feed: live rows and tombstones merged by seq.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DOCREP_STORE_FEED_H
#define DOCREP_STORE_FEED_H

#include "store/state.h"

typedef struct DocFeed DocFeed;

typedef struct DocFeedRow
{
	char	   *id;
	DocState	state;			/* body and trunk as the feed's flags ask */
	bool	   *passes;			/* with a filter of all leaves: which of them pass, in the order
								 * of docrep_revtree_leaves; NULL: all */
} DocFeedRow;

/* A revision that a filter is asked about. */
typedef struct DocFeedLeaf
{
	const char *id;
	const RevTree *tree;		/* with its trunk, if that is asked for */
	int32		node;			/* of the revision, in tree->nodes */
	Jsonb	   *body;			/* NULL: not asked for, or {} */
	Jsonb	   *atts;			/* column _attachments; NULL: not asked for, or none */

	/* the answers of passes_many */
	bool		passes;
	int			sqlstate;		/* 0; else there is no answer, and reason is the message */
	const char *reason;
} DocFeedLeaf;

/*
 * Which documents are wanted, as the floor above says (src/filter/).  Asked
 * about rows that the role may see, in memory that is emptied for the next.
 */
typedef struct DocFeedFilter
{
	void	   *arg;
	bool		all_leaves;		/* asked about every leaf, and a row passes if one does; else
								 * about the winner */
	int			state_flags;	/* DOCSTATE_*: what it wants to see */
	bool		(*id_passes) (void *arg, const char *id);	/* may any revision of it pass? */
	bool		(*passes) (void *arg, const DocFeedLeaf *leaf);

	/*
	 * NULL, or the same of many, where asking about each would take long: rows are read ahead
	 * for it.  What is wrong with one is told in its answer, and raised when its turn comes.
	 */
	void		(*passes_many) (void *arg, DocFeedLeaf *leaves, int n);
} DocFeedFilter;

/*
 * Open the feed after seq "since" (ascending), or from the end down to since
 * (descending).  Takes the horizon, flushes WAL up to it, takes a snapshot
 * and registers it.  doc_ids, if not NULL: only these (looked up by id, not
 * scanned for).  flags: DOCSTATE_*.
 */
extern DocFeed *docrep_feed_open(DocTable *table, int64 since, bool descending,
								 const char *const *doc_ids, int ndoc_ids, int flags);

/*
 * Pass over what the filter does not let through.  patience, if not 0: after so many
 * ms the feed ends before its end (docrep_feed_paused) when it has met nothing but such
 * rows since it was opened or gave the last one; and it ends before a row about which the filter
 * has no answer, unless that is the first it met, so that what comes before is not lost.
 */
extern void docrep_feed_set_filter(DocFeed *feed, const DocFeedFilter *filter, int patience);

/*
 * Next row in order of seq, allocated in CurrentMemoryContext; false at the
 * end.  Rows that row security hides are passed over.
 */
extern bool docrep_feed_next(DocFeed *feed, DocFeedRow *row);

/* Did docrep_feed_next return false for want of patience? */
extern bool docrep_feed_paused(DocFeed *feed);

/* How far has been scanned: the seq to go on from; horizon - 1 at the end. */
extern int64 docrep_feed_scanned(DocFeed *feed);

/* How many rows are left, about (by seq's distance; exact when none or by id), filter or not. */
extern int64 docrep_feed_pending(DocFeed *feed);

/*
 * Read on to the end and return how many rows there were: exact, and quicker
 * than asking for them.
 */
extern int64 docrep_feed_count_rest(DocFeed *feed);

/* The snapshot that rows are read with, for docrep_leaf_read. */
extern Snapshot docrep_feed_snapshot(DocFeed *feed);

extern void docrep_feed_close(DocFeed *feed);

#endif							/* DOCREP_STORE_FEED_H */
