/*-------------------------------------------------------------------------
 *
 * kept_feed.c
 *		See kept_feed.h.
 *
 * A document has one place in the feed, that of its last change.  Its former
 * versions have the places that they had, so that a delayed reader meets the one that
 * it wants where it was, and in its order.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/relscan.h"
#include "access/tableam.h"
#include "compat.h"
#include "miscadmin.h"
#include "store/companion.h"
#include "store/kept_feed.h"
#include "store/revisions_internal.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

struct KeptFeed
{
	DocTable   *table;
	MemoryContext cxt;
	MemoryContext test_cxt;		/* emptied for each row */
	Snapshot	snapshot;
	TimestampTz at;
	Relation	index;
	IndexScanDesc scan;
	TupleTableSlot *slot;
};

KeptFeed *
docrep_kept_feed_open(DocTable *table, Snapshot snapshot, int64 since, TimestampTz at)
{
	Relation	rel;
	MemoryContext cxt;
	MemoryContext old;
	KeptFeed   *feed;
	ScanKeyData key;

	if (!table->info.keeps_versions || table->row_security)
		return NULL;
	rel = docrep_kept_rel(table);
	cxt = AllocSetContextCreate(CurrentMemoryContext, "docrep kept feed", ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(cxt);
	feed = palloc0(sizeof(KeptFeed));
	feed->table = table;
	feed->cxt = cxt;
	feed->test_cxt = AllocSetContextCreate(cxt, "docrep kept feed row", ALLOCSET_DEFAULT_SIZES);
	feed->snapshot = snapshot;
	feed->at = at;
	feed->index = index_open(table->info.rev_seqidx_oid, AccessShareLock);
	feed->slot = table_slot_create(rel, NULL);
	ScanKeyInit(&key, 1, BTGreaterStrategyNumber, F_INT8GT, Int64GetDatum(since));
	feed->scan = docrep_index_beginscan(rel, feed->index, snapshot, 1);
	index_rescan(feed->scan, &key, 1, NULL, 0);
	MemoryContextSwitchTo(old);
	return feed;
}

/*
 * Can it be a version that the reader wants?  What replaced it before the time in question
 * had been made by then, too (or by a clock that was ahead, and then that is waited for).
 */
static bool
may_be_wanted(const KeptFeed *feed)
{
	bool		isnull;

	return DatumGetChar(slot_getattr(feed->slot, Anum_kept_kind, &isnull)) == KEPT_WINNER &&
		DatumGetTimestampTz(slot_getattr(feed->slot, Anum_kept_replaced_at, &isnull)) > feed->at;
}

/* Step to the next of those; the scan keeps what it allocates on the way. */
static bool
advance(KeptFeed *feed)
{
	MemoryContext old = MemoryContextSwitchTo(feed->cxt);
	bool		found;

	for (;;)
	{
		CHECK_FOR_INTERRUPTS();
		found = index_getnext_slot(feed->scan, ForwardScanDirection, feed->slot);
		if (!found || may_be_wanted(feed))
			break;
	}
	MemoryContextSwitchTo(old);
	return found;
}

/* Does the reader want the version at hand, and not one that came after it? */
static bool
is_wanted(KeptFeed *feed)
{
	MemoryContext old = MemoryContextSwitchTo(feed->test_cxt);
	KeptVersion last;
	bool		isnull;
	char	   *id = TextDatumGetCString(slot_getattr(feed->slot, Anum_kept_id, &isnull));
	int64		seq = DatumGetInt64(slot_getattr(feed->slot, Anum_kept_seq, &isnull));
	bool		wanted;

	wanted = !docrep_revision_as_of(feed->table, feed->snapshot, id, feed->at, &last) ||
		last.seq <= seq;
	MemoryContextSwitchTo(old);
	MemoryContextReset(feed->test_cxt);
	return wanted;
}

bool
docrep_kept_feed_next(KeptFeed *feed, KeptFeedRow *row)
{
	while (advance(feed))
	{
		bool		isnull;
		KeptVersion version;

		if (!is_wanted(feed))
			continue;
		docrep_kept_from_slot(feed->slot, false, &version);
		row->seq = version.seq;
		row->id = TextDatumGetCString(slot_getattr(feed->slot, Anum_kept_id, &isnull));
		row->rev = version.rev;
		row->deleted = version.deleted;
		row->modified = version.modified;
		row->young = version.modified > feed->at;
		return true;
	}
	return false;
}

void
docrep_kept_feed_close(KeptFeed *feed)
{
	index_endscan(feed->scan);
	ExecDropSingleTupleTableSlot(feed->slot);
	index_close(feed->index, AccessShareLock);
	MemoryContextDelete(feed->cxt);
}
