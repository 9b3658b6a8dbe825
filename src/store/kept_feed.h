/*-------------------------------------------------------------------------
 *
 * kept_feed.h
 *		Former winners of documents in the order of the feed, for a reader that
 *		wants the table as it was some time ago.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DOCREP_STORE_KEPT_FEED_H
#define DOCREP_STORE_KEPT_FEED_H

#include "store/revisions.h"

typedef struct KeptFeed KeptFeed;

typedef struct KeptFeedRow
{
	int64		seq;			/* the document's, while this was the winner */
	char	   *id;
	Rev			rev;
	bool		deleted;
	TimestampTz modified;
	bool		young;			/* made after the time in question */
} KeptFeedRow;

/*
 * Open the former winners whose numbers are after "since", for a reader that wants what
 * was there at "at", by the versions' own times.  NULL: none are kept, or the role's view
 * of the table is restricted by row security.
 */
extern KeptFeed *docrep_kept_feed_open(DocTable *table, Snapshot snapshot, int64 since,
									   TimestampTz at);

/*
 * The next of them that is a document's last version made until then, or was made after it
 * where no later one is old enough; allocated in the current context.  False: no more.
 */
extern bool docrep_kept_feed_next(KeptFeed *feed, KeptFeedRow *row);

extern void docrep_kept_feed_close(KeptFeed *feed);

#endif							/* DOCREP_STORE_KEPT_FEED_H */
