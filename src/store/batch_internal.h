/*-------------------------------------------------------------------------
 *
 * batch_internal.h
 *		What a replication asks of a table; for batch.c, batch_changes.c, batch_former.c
 *		and batch_fetch.c only.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DOCREP_STORE_BATCH_INTERNAL_H
#define DOCREP_STORE_BATCH_INTERNAL_H

#include "store/batch.h"
#include "store/feed.h"
#include "store/kept_feed.h"
#include "store/not_replicated.h"

/* ---------- batch.c ---------- */

/*
 * One leaf of a document (a node of state's tree) as it travels.  False: it is live but its
 * body is not here (the table was restored without its companions), so it cannot travel.
 * late: for a delayed reader, who may lack more revisions than a stemmed tree has of the
 * leaf's history.
 */
extern bool docrep_batch_fill_doc(DocTable *table, Snapshot snapshot, const char *id,
								  DocState *state, int32 node, bool late, DocrepDoc *doc);

/* ---------- batch_former.c ---------- */

/* Former winners that a reader with min_age is to get, merged with the feed. */
typedef struct FormerRows
{
	DocTable   *table;
	DocFeed    *feed;			/* of the table's present winners */
	KeptFeed   *kept;			/* NULL: there are none (any more) */
	KeptFeedRow next;
	const char **ids;			/* doc_ids, sorted; or NULL */
	int			nids;
	const DocFeedFilter *filter;
	const KeepBack *rule;		/* or NULL */
	MemoryContext cxt;			/* what the filter looks at */
} FormerRows;

/* What became of former winners that were to be given. */
typedef enum FormerResult
{
	FORMER_GIVEN,
	FORMER_FULL,				/* the batch holds no more */
	FORMER_YOUNG				/* the next is too young, and ends the batch */
} FormerResult;

/*
 * Begin with those after "since", for a reader of the feed to whom filter and rule (or NULL)
 * apply; "now" is what its min_age counts from.  None, if it has no min_age.
 */
extern void docrep_former_begin(FormerRows *former, DocTable *table, DocFeed *feed,
								const DocrepChangesRequest *request,
								const DocFeedFilter *filter, const KeepBack *rule,
								int64 since, TimestampTz now);

/*
 * Add those that come before a number of the feed to a batch of at most max_rows.
 * *scanned moves with them.
 */
extern FormerResult docrep_former_give(FormerRows *former, int64 before, int max_rows,
									   const char *epoch, int64 *scanned, DocrepChanges *out);

extern void docrep_former_end(FormerRows *former);

#endif							/* DOCREP_STORE_BATCH_INTERNAL_H */
