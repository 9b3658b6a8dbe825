/*-------------------------------------------------------------------------
 *
 * compact.c
 *		docrep.compact(): contents of attachments that no revision uses.
 *
 * Writers are not kept out.  A file that is unused as of a snapshot can come
 * into use again only through a writer that finds it by its contents or its
 * number, and such a writer locks the header FOR KEY SHARE until it commits.
 * So the header is locked FOR UPDATE here, passing over those that are locked,
 * and then all documents are looked at again that have changed since the
 * snapshot: whoever had the lock before is committed and seen, whoever comes
 * after waits and then finds the file gone.  Versions that are kept carry the
 * number of the change that kept them, and are looked at again by that.  Documents
 * in docrep.rejected keep their files, too.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "compat.h"
#include "miscadmin.h"
#include "store/companion.h"
#include "store/content.h"
#include "store/errcodes.h"
#include "store/feed.h"
#include "store/rejected.h"
#include "store/seqs.h"
#include "store/sql_support.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

/* files that are locked, looked at again and deleted together */
#define BATCH		256

typedef struct Compaction
{
	DocTable   *table;
	MemoryContext scratch;
	HTAB	   *used;			/* int64: files in use */
	int64		seen;			/* documents below this number have been looked at */
	TimestampTz older_than;
	int64	   *candidates;
	int			ncandidates;
	int			cap;
	int64		files;
	int64		bytes;
	int64		incomplete;
} Compaction;

/* ---------- files in use ---------- */

static void
note_used(void *arg, Jsonb *column)
{
	Compaction *c = arg;
	DocAtts		atts;

	docrep_atts_from_column(column, &atts);
	for (int i = 0; i < atts.n; i++)
		(void) hash_search(c->used, &atts.atts[i].file, HASH_ENTER, NULL);
}

/* The files that a row names. */
static void
note_slot(Compaction *c, TupleTableSlot *slot, AttrNumber attno)
{
	bool		isnull;
	Datum		d = slot_getattr(slot, attno, &isnull);
	MemoryContext old;

	CHECK_FOR_INTERRUPTS();
	if (isnull)
		return;
	old = MemoryContextSwitchTo(c->scratch);
	note_used(c, DatumGetJsonbP(d));
	MemoryContextSwitchTo(old);
	MemoryContextReset(c->scratch);
}

/* All rows of one of the tables, as of the snapshot. */
static void
scan_table(Compaction *c, Relation rel, AttrNumber attno, Snapshot snapshot)
{
	TableScanDesc scan = table_beginscan(rel, snapshot, 0, NULL);
	TupleTableSlot *slot = table_slot_create(rel, NULL);

	while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
		note_slot(c, slot, attno);
	ExecDropSingleTupleTableSlot(slot);
	table_endscan(scan);
}

/* All attachments of a document, as of the snapshot. */
static void
note_document(Compaction *c, const char *id, const DocState *state, Snapshot snapshot)
{
	int32	   *leaves;
	int32		n = docrep_revtree_leaves(state->tree, &leaves);

	note_used(c, state->atts);
	for (int32 i = 0; i < n; i++)
	{
		Jsonb	   *doc;
		Jsonb	   *column;

		if (leaves[i] != state->winner &&
			docrep_leaf_read(c->table, snapshot, id, &state->tree->nodes[leaves[i]].rev,
							 &doc, &column, NULL))
			note_used(c, column);
	}
}

/* The rows of the table, or of the tombstones, from a number on. */
static void
scan_changed(Compaction *c, bool in_dead, Snapshot snapshot)
{
	const DocTableInfo *info = &c->table->info;
	Relation	rel = in_dead ? docrep_dead_rel(c->table) : c->table->rel;
	Relation	index = index_open(in_dead ? info->dead_seqidx_oid : info->seqidx_oid,
								   AccessShareLock);
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	IndexScanDesc scan = docrep_index_beginscan(rel, index, snapshot, 1);
	ScanKeyData key;

	ScanKeyInit(&key, 1, BTGreaterEqualStrategyNumber, F_INT8GE, Int64GetDatum(c->seen));
	index_rescan(scan, &key, 1, NULL, 0);
	while (index_getnext_slot(scan, ForwardScanDirection, slot))
	{
		MemoryContext old = MemoryContextSwitchTo(c->scratch);
		bool		isnull;
		DocState	state;
		char	   *id = TextDatumGetCString(slot_getattr(slot, in_dead ? Anum_dead_id : info->a_id,
														  &isnull));

		CHECK_FOR_INTERRUPTS();
		docrep_state_from_slot(c->table, in_dead, slot, DOCSTATE_ATTS, &state);
		note_document(c, id, &state, snapshot);
		MemoryContextSwitchTo(old);
		MemoryContextReset(c->scratch);
	}
	index_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	index_close(index, AccessShareLock);
}

/* The versions kept from a number on. */
static void
scan_kept(Compaction *c, Snapshot snapshot)
{
	Relation	rel = docrep_kept_rel(c->table);
	Relation	index = index_open(c->table->info.rev_keptidx_oid, AccessShareLock);
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	IndexScanDesc scan = docrep_index_beginscan(rel, index, snapshot, 1);
	ScanKeyData key;

	ScanKeyInit(&key, 1, BTGreaterEqualStrategyNumber, F_INT8GE, Int64GetDatum(c->seen));
	index_rescan(scan, &key, 1, NULL, 0);
	while (index_getnext_slot(scan, ForwardScanDirection, slot))
		note_slot(c, slot, Anum_kept_attachments);
	index_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	index_close(index, AccessShareLock);
}

/* Look at what has been committed since the last look, and at all that was rejected. */
static void
look_again(Compaction *c)
{
	int64		horizon = docrep_seq_horizon(&c->table->info);
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());

	scan_changed(c, false, snapshot);
	scan_changed(c, true, snapshot);
	scan_kept(c, snapshot);
	UnregisterSnapshot(snapshot);
	docrep_rejected_attachments(c->table, note_used, c);
	c->seen = horizon;
}

/* ---------- candidates ---------- */

static void
add_candidate(Compaction *c, int64 file)
{
	if (c->ncandidates >= c->cap)
	{
		c->cap = c->cap ? c->cap * 2 : BATCH;
		c->candidates = c->candidates ?
			repalloc_huge(c->candidates, c->cap * sizeof(int64)) :
			palloc(c->cap * sizeof(int64));
	}
	c->candidates[c->ncandidates++] = file;
}

/*
 * Files that are old enough and unused so far.  One index look-up a file: their
 * parts are stepped over.  Parts without a header belong to nothing.
 */
static void
find_candidates(Compaction *c, Snapshot snapshot)
{
	int64		next = PG_INT64_MIN;
	TupleTableSlot *slot;

	while ((slot = docrep_att_first(c->table, snapshot, next, 0, true)) != NULL)
	{
		int64		file = docrep_att_slot_file(slot);
		ContentHeader header;

		CHECK_FOR_INTERRUPTS();
		docrep_content_header(slot, &header);
		if (hash_search(c->used, &file, HASH_FIND, NULL) == NULL &&
			(docrep_att_slot_part(slot) != 0 || header.at <= c->older_than))
			add_candidate(c, file);
		if (file == PG_INT64_MAX)
			break;
		next = file + 1;
	}
}

/* ---------- removal ---------- */

/*
 * Lock a file's first row against writers; false: one of them has it, or it has
 * gone, or it is an old upload that has just been finished.
 */
static bool
lock_file(Compaction *c, int64 file, bool *complete)
{
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	TupleTableSlot *slot = docrep_att_first(c->table, snapshot, file, 0, false);
	TM_Result	result = TM_Deleted;
	TM_FailureData tmfd;

	if (slot)
	{
		ContentHeader header;

		docrep_content_header(slot, &header);
		*complete = header.complete;
		if (header.at <= c->older_than)
			result = table_tuple_lock(docrep_att_rel(c->table), &slot->tts_tid, snapshot, slot,
									  GetCurrentCommandId(true), LockTupleExclusive,
									  LockWaitSkip, 0, &tmfd);
	}
	UnregisterSnapshot(snapshot);
	return result == TM_Ok;
}

static void
remove_batch(Compaction *c, const int64 *files, int n)
{
	int64		locked[BATCH];
	bool		complete[BATCH];
	int			nlocked = 0;

	for (int i = 0; i < n; i++)
	{
		if (lock_file(c, files[i], &complete[nlocked]))
			locked[nlocked++] = files[i];
	}
	look_again(c);
	for (int i = 0; i < nlocked; i++)
	{
		int64		bytes;

		if (hash_search(c->used, &locked[i], HASH_FIND, NULL) != NULL)
			continue;
		bytes = docrep_content_delete(c->table, locked[i]);
		if (complete[i])
			c->files++;
		else
			c->incomplete++;
		c->bytes += bytes;
	}
}

static HTAB *
make_set(void)
{
	HASHCTL		ctl;

	memset(&ctl, 0, sizeof(ctl));
	ctl.keysize = sizeof(int64);
	ctl.entrysize = sizeof(int64);
	ctl.hcxt = CurrentMemoryContext;
	return hash_create("docrep files in use", 1024, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

/* Everything, in the order that matters: horizon, snapshot, locks, second look. */
static void
run(Compaction *c)
{
	Snapshot	snapshot;

	c->seen = docrep_seq_horizon(&c->table->info);
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	scan_table(c, c->table->rel, c->table->info.a_attachments, snapshot);
	scan_table(c, docrep_dead_rel(c->table), Anum_dead_attachments, snapshot);
	scan_table(c, docrep_leaf_rel(c->table), Anum_leaf_attachments, snapshot);
	scan_table(c, docrep_kept_rel(c->table), Anum_kept_attachments, snapshot);
	find_candidates(c, snapshot);
	UnregisterSnapshot(snapshot);
	for (int i = 0; i < c->ncandidates; i += BATCH)
		remove_batch(c, &c->candidates[i], Min(BATCH, c->ncandidates - i));
}

PG_FUNCTION_INFO_V1(docrep_compact);

/* docrep.compact(tbl, grace): {"files_removed": ..., "bytes_removed": ..., "incomplete_removed": ...} */
Datum
docrep_compact(PG_FUNCTION_ARGS)
{
	Compaction	c = {0};
	RawBuilder	result;

	c.table = docrep_table_open(docrep_arg_table(fcinfo, 0), RowExclusiveLock, 0);
	docrep_table_check_owner(c.table);
	PreventCommandIfReadOnly("docrep.compact()");
	if (PG_ARGISNULL(1))
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_BAD_REQUEST),
				 errmsg("\"grace\" must not be NULL")));
	c.older_than = DatumGetTimestampTz(DirectFunctionCall2(timestamptz_mi_interval,
														   TimestampTzGetDatum(GetCurrentTimestamp()),
														   PG_GETARG_DATUM(1)));
	c.used = make_set();
	c.scratch = AllocSetContextCreate(CurrentMemoryContext, "docrep compact",
									  ALLOCSET_DEFAULT_SIZES);
	run(&c);
	docrep_table_close(c.table, NoLock);
	docrep_raw_init(&result, true, 3);
	docrep_raw_add_int64(&result, "files_removed", c.files);
	docrep_raw_add_int64(&result, "bytes_removed", c.bytes);
	docrep_raw_add_int64(&result, "incomplete_removed", c.incomplete);
	PG_RETURN_JSONB_P(docrep_raw_finish(&result));
}
