/*-------------------------------------------------------------------------
 *
 * tombstones.c
 *		Counting tombstones that somebody has not seen yet, and removing old ones.
 *
 * Who has yet to see them is known further up (docrep.tombstone_holders), which
 * gives a number; here is what happens to the rows.
 *
 * A tombstone that is removed is purged: nothing is left that says that the
 * document ever was.  As with docrep.purge(), an INSERT that goes on from the
 * tombstone has locked its row, so it is waited for here, and one that comes
 * later waits for us and then begins a new document.  No sequence number is
 * taken and the table is not registered as written to, so no feed waits for
 * this transaction, however long it takes.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_authid.h"
#include "compat.h"
#include "miscadmin.h"
#include "store/companion.h"
#include "store/errcodes.h"
#include "store/revisions.h"
#include "store/seqs.h"
#include "store/sql_support.h"
#include "store/state.h"
#include "store/tombstones.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

/* Read by the view docrep.tombstone_holders. */
static int	tombstone_hold_limit = 0;

void
docrep_tombstones_define_gucs(void)
{
	DefineCustomIntVariable("docrep.tombstone_hold_limit",
							"Replications that are further behind than this hold back no tombstones; 0: all do.",
							NULL, &tombstone_hold_limit, 0, 0, INT_MAX,
							PGC_SUSET, GUC_UNIT_S, NULL, NULL, NULL);
}

/* A walk over the tombstones in order of their numbers. */
typedef struct TombScan
{
	Relation	index;
	TupleTableSlot *slot;
	IndexScanDesc scan;
	Snapshot	snapshot;
} TombScan;

/* Begin with the first number greater than seq, as of a snapshot. */
static void
begin_scan(TombScan *s, DocTable *table, Snapshot snapshot, int64 seq)
{
	Relation	rel = docrep_dead_rel(table);
	ScanKeyData key;

	s->snapshot = RegisterSnapshot(snapshot);
	s->index = index_open(table->info.dead_seqidx_oid, AccessShareLock);
	s->slot = table_slot_create(rel, NULL);
	s->scan = docrep_index_beginscan(rel, s->index, s->snapshot, 1);
	ScanKeyInit(&key, 1, BTGreaterStrategyNumber, F_INT8GT, Int64GetDatum(seq));
	index_rescan(s->scan, &key, 1, NULL, 0);
}

/* The next tombstone, with the time of its deletion; NULL: no more. */
static TupleTableSlot *
next_tombstone(TombScan *s, TimestampTz *modified)
{
	bool		isnull;

	CHECK_FOR_INTERRUPTS();
	if (!index_getnext_slot(s->scan, ForwardScanDirection, s->slot))
		return NULL;
	*modified = DatumGetTimestampTz(slot_getattr(s->slot, Anum_dead_modified, &isnull));
	return s->slot;
}

static void
end_scan(TombScan *s)
{
	index_endscan(s->scan);
	ExecDropSingleTupleTableSlot(s->slot);
	index_close(s->index, AccessShareLock);
	UnregisterSnapshot(s->snapshot);
}

PG_FUNCTION_INFO_V1(docrep_tombstones_after);

/*
 * docrep.tombstones_after(tbl, seq): how far a peer has come that has taken
 * everything up to seq (as a changes feed gave it), how many tombstones come
 * after that, and when the oldest of these was made.  For the owner of the
 * table, and who may monitor.
 */
Datum
docrep_tombstones_after(PG_FUNCTION_ARGS)
{
	TupleDesc	desc;
	DocTable   *table = docrep_table_open(docrep_arg_table(fcinfo, 0), AccessShareLock, 0);
	char	   *seq = docrep_arg_id(fcinfo, 1, "seq");
	int64		passed;
	int64		n = 0;
	TimestampTz oldest = 0;
	TimestampTz modified;
	TombScan	scan;
	Datum		values[3];
	bool		nulls[3] = {false, false, false};

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	if (!has_privs_of_role(GetUserId(), ROLE_PG_READ_ALL_STATS))
		docrep_table_check_owner(table);
	passed = docrep_seq_parse(&table->info, seq);
	begin_scan(&scan, table, GetLatestSnapshot(), passed);
	while (next_tombstone(&scan, &modified) != NULL)
	{
		if (n == 0 || modified < oldest)
			oldest = modified;
		n++;
	}
	end_scan(&scan);
	docrep_table_close(table, NoLock);
	values[0] = Int64GetDatum(passed);
	values[1] = Int64GetDatum(n);
	values[2] = TimestampTzGetDatum(oldest);
	nulls[2] = n == 0;
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}

/* How many tombstones a bounded step looks at for each that it may remove. */
#define LOOK_PER_ROW	20

/* One that is to go, and the number that it has. */
typedef struct OldTombstone
{
	char	   *id;
	int64		seq;
} OldTombstone;

/* Tombstones that are to go. */
typedef struct Removal
{
	DocTable   *table;
	int64		after;
	int64		up_to;
	TimestampTz before;
	int64		max;			/* how many at most */
	int64		passed;			/* after the search: up to which number all have been looked at */
	bool		at_end;			/* ... and there are no more */
	OldTombstone *found;
	int64		n;
	int64		cap;
} Removal;

/* Note one. */
static void
add_tombstone(Removal *r, TupleTableSlot *slot, int64 seq)
{
	bool		isnull;

	if (r->n >= r->cap)
	{
		r->cap = r->cap ? r->cap * 2 : 256;
		r->found = r->found ? repalloc_huge(r->found, r->cap * sizeof(OldTombstone)) :
			palloc(r->cap * sizeof(OldTombstone));
	}
	r->found[r->n].id = TextDatumGetCString(slot_getattr(slot, Anum_dead_id, &isnull));
	r->found[r->n++].seq = seq;
}

/*
 * Find them, as the statement sees them: it has asked who needs them by the same snapshot, and
 * whoever has come since may need what is newer.  At most r->max, among at most LOOK_PER_ROW
 * times as many.
 */
static void
find_tombstones(Removal *r)
{
	TombScan	scan;
	TimestampTz modified;
	TupleTableSlot *slot;
	int64		looked = 0;
	int64		max_looked = r->max > PG_INT64_MAX / LOOK_PER_ROW ? PG_INT64_MAX :
		r->max * LOOK_PER_ROW;

	begin_scan(&scan, r->table, GetActiveSnapshot(), r->after);
	r->passed = r->after;
	for (;;)
	{
		bool		isnull;
		int64		seq;

		slot = next_tombstone(&scan, &modified);
		seq = slot ? DatumGetInt64(slot_getattr(slot, Anum_dead_seq, &isnull)) : 0;
		if (slot == NULL || seq > r->up_to)
		{
			r->at_end = true;
			break;
		}
		if (r->n >= r->max || looked++ >= max_looked)
			break;
		if (modified <= r->before)
			add_tombstone(r, slot, seq);
		r->passed = seq;
	}
	end_scan(&scan);
}

static int
compare_ids(const void *a, const void *b)
{
	return strcmp(((const OldTombstone *) a)->id, ((const OldTombstone *) b)->id);
}

/*
 * Remove one, unless it has become something else meanwhile: a live document,
 * or the tombstone of a later deletion.
 */
static bool
remove_one(Removal *r, const OldTombstone *old)
{
	const char *id = old->id;
	TupleTableSlot *slot;
	DocState	state;
	int32	   *leaves;
	int32		n;

	if (docrep_lock_row(r->table, DOC_IN_REL, id) != NULL)
		return false;
	slot = docrep_lock_row(r->table, DOC_IN_DEAD, id);
	if (slot == NULL)
		return false;
	docrep_state_from_slot(r->table, true, slot, 0, &state);
	if (state.seq != old->seq)
		return false;
	n = docrep_revtree_leaves(state.tree, &leaves);
	for (int32 i = 0; i < n; i++)
	{
		if (leaves[i] != state.winner)
			(void) docrep_leaf_delete(r->table, id, &state.tree->nodes[leaves[i]].rev);
	}
	docrep_revisions_forget(r->table, id);
	docrep_row_delete(r->table, docrep_dead_rel(r->table), &state.tid);
	return true;
}

PG_FUNCTION_INFO_V1(docrep_remove_tombstones);

/* The arguments of docrep.remove_tombstones(). */
static void
read_removal(FunctionCallInfo fcinfo, Removal *r)
{
	r->up_to = PG_ARGISNULL(1) ? PG_INT64_MAX : PG_GETARG_INT64(1);
	if (PG_ARGISNULL(2))
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_BAD_REQUEST),
				 errmsg("\"older_than\" must not be NULL")));
	r->before = PG_GETARG_TIMESTAMPTZ(2);
	r->after = PG_ARGISNULL(3) ? 0 : Max(PG_GETARG_INT64(3), 0);
	r->max = PG_ARGISNULL(4) ? PG_INT64_MAX : PG_GETARG_INT32(4);
	if (r->max < 1)
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_BAD_REQUEST),
				 errmsg("\"max_rows\" must be 1 or more")));
}

/* Remove what was found; returns how many. */
static int64
remove_found(Removal *r)
{
	MemoryContext scratch = AllocSetContextCreate(CurrentMemoryContext, "docrep tombstone",
												  ALLOCSET_DEFAULT_SIZES);
	int64		removed = 0;

	/* in order of id, as all writers, so that none waits for another crosswise */
	qsort(r->found, r->n, sizeof(OldTombstone), compare_ids);
	for (int64 i = 0; i < r->n; i++)
	{
		MemoryContext old = MemoryContextSwitchTo(scratch);

		CHECK_FOR_INTERRUPTS();
		if (remove_one(r, &r->found[i]))
			removed++;
		MemoryContextSwitchTo(old);
		MemoryContextReset(scratch);
	}
	MemoryContextDelete(scratch);
	return removed;
}

/*
 * docrep.remove_tombstones(tbl, up_to, before, after, max_rows): purge tombstones
 * with numbers up to up_to (NULL: any) that were made before a time.  In steps: at
 * most max_rows, with numbers greater than after.  Returns how many, and up to
 * which number it has looked, NULL: at all.  Owner only.
 */
Datum
docrep_remove_tombstones(PG_FUNCTION_ARGS)
{
	Removal		r = {0};
	TupleDesc	desc;
	Datum		values[2];
	bool		nulls[2] = {false, false};

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	r.table = docrep_table_open(docrep_arg_table(fcinfo, 0), RowExclusiveLock, 0);
	docrep_table_check_owner(r.table);
	PreventCommandIfReadOnly("docrep.clean_tombstones()");
	read_removal(fcinfo, &r);
	find_tombstones(&r);
	values[0] = Int64GetDatum(remove_found(&r));
	docrep_table_close(r.table, NoLock);
	values[1] = Int64GetDatum(r.passed);
	nulls[1] = r.at_end;
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}
