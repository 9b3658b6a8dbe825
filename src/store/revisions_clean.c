/*-------------------------------------------------------------------------
 *
 * revisions_clean.c
 *		docrep.clean_revisions(): kept versions that are beyond their bounds.
 *
 * Those that are too old are at the beginning of the index on kept_seq, so that
 * looking for them costs nothing when there are none.  How many there are of a
 * document is seen to when it is written; only after the bounds have become
 * narrower, or a hold has ended, are all documents looked at, once, by a walk
 * that is remembered in docrep.revision_cleaning.
 *
 * Nothing is locked and nobody waited for: a row that somebody else is just
 * deleting is passed over.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/relscan.h"
#include "access/tableam.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "compat.h"
#include "miscadmin.h"
#include "store/companion.h"
#include "store/companion_internal.h"
#include "store/errcodes.h"
#include "store/internal_sql.h"
#include "store/revisions_internal.h"
#include "store/sql_support.h"
#include "store/table_settings.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

typedef struct Cleaning
{
	DocTable   *table;
	TableSettings *settings;
	TimestampTz held;			/* what was replaced from here on stays */
	int64		left;			/* how many rows may still be removed */
	int64		removed;
	bool		passed_over;	/* a row that somebody else is just deleting, and may yet leave */
} Cleaning;

/* Delete a row.  False: that was the last one for now. */
static bool
remove_row(Cleaning *c, ItemPointer tid)
{
	if (docrep_kept_delete(c->table, tid, false))
	{
		c->removed++;
		c->left--;
	}
	else
		c->passed_over = true;
	return c->left > 0;
}

/* ---------- by age ---------- */

/* What was replaced before this is to go for its age; DT_NOBEGIN: nothing is. */
static TimestampTz
oldest_kept(Cleaning *c)
{
	if (c->settings->revisions_keep < 0)
		return c->held;
	if (c->settings->revisions_max_age == NULL)
		return DT_NOBEGIN;
	return Min(c->held, docrep_time_before(GetCurrentTimestamp(),
										   c->settings->revisions_max_age));
}

/*
 * From the oldest on, until one is met that stays.  What a replication has
 * brought has the time of its source, and tells nothing of those that follow.
 */
static void
remove_old(Cleaning *c)
{
	TimestampTz before = oldest_kept(c);
	Relation	rel = docrep_kept_rel(c->table);
	Snapshot	snapshot;
	Relation	index;
	IndexScanDesc scan;
	TupleTableSlot *slot;

	if (before == DT_NOBEGIN)
		return;
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	index = index_open(c->table->info.rev_keptidx_oid, AccessShareLock);
	slot = table_slot_create(rel, NULL);
	scan = docrep_index_beginscan(rel, index, snapshot, 0);
	index_rescan(scan, NULL, 0, NULL, 0);
	while (index_getnext_slot(scan, ForwardScanDirection, slot))
	{
		bool		isnull;
		char		kind = DatumGetChar(slot_getattr(slot, Anum_kept_kind, &isnull));

		CHECK_FOR_INTERRUPTS();
		if (DatumGetTimestampTz(slot_getattr(slot, Anum_kept_replaced_at, &isnull)) < before)
		{
			if (!remove_row(c, &slot->tts_tid))
				break;
		}
		else if (kind == KEPT_WINNER || kind == KEPT_CONFLICT)
			break;
	}
	index_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	index_close(index, AccessShareLock);
	UnregisterSnapshot(snapshot);
}

/* ---------- by number ---------- */

/* The rows of one document, oldest first. */
typedef struct DocRows
{
	char	   *id;
	ItemPointerData *tids;
	TimestampTz *replaced;
	int			n;
	int			cap;
} DocRows;

static void
add_row(DocRows *rows, TupleTableSlot *slot)
{
	bool		isnull;

	if (rows->n >= rows->cap)
	{
		rows->cap = Max(rows->cap * 2, 64);
		rows->tids = rows->tids ?
			repalloc_huge(rows->tids, rows->cap * sizeof(ItemPointerData)) :
			palloc(rows->cap * sizeof(ItemPointerData));
		rows->replaced = rows->replaced ?
			repalloc_huge(rows->replaced, rows->cap * sizeof(TimestampTz)) :
			palloc(rows->cap * sizeof(TimestampTz));
	}
	rows->tids[rows->n] = slot->tts_tid;
	rows->replaced[rows->n++] = DatumGetTimestampTz(slot_getattr(slot, Anum_kept_replaced_at,
																 &isnull));
}

/* How many versions of the document are to be kept: none if there is no such document. */
static int
wanted(Cleaning *c, const char *id)
{
	if (docrep_find_row(c->table, DOC_IN_REL, GetLatestSnapshot(), id) != NULL)
		return c->settings->revisions_keep;
	if (docrep_find_row(c->table, DOC_IN_DEAD, GetLatestSnapshot(), id) == NULL)
		return 0;
	return c->settings->revisions_keep_deleted ? c->settings->revisions_keep : 0;
}

/* Remove what a document has too many of.  False: no more for now. */
static bool
thin_out(Cleaning *c, DocRows *rows)
{
	int			surplus = rows->n - (rows->n > 0 ? wanted(c, rows->id) : 0);

	for (int i = 0; i < surplus; i++)
	{
		if (rows->replaced[i] < c->held && !remove_row(c, &rows->tids[i]))
			return false;
	}
	return true;
}

/* Begin a walk by id after one (NULL: with the first). */
static IndexScanDesc
begin_walk(Cleaning *c, Relation rel, Relation index, Snapshot snapshot, const char *after)
{
	IndexScanDesc scan = docrep_index_beginscan(rel, index, snapshot, after ? 1 : 0);
	ScanKeyData key;

	if (after)
		ScanKeyEntryInitialize(&key, 0, 1, BTGreaterStrategyNumber, InvalidOid,
							   C_COLLATION_OID, F_TEXT_GT, CStringGetTextDatum(after));
	index_rescan(scan, after ? &key : NULL, after ? 1 : 0, NULL, 0);
	return scan;
}

/*
 * Look at documents after an id until enough has been removed.  Returns the id
 * up to which all is done, or NULL: all of them.
 */
static char *
walk(Cleaning *c, char *after)
{
	Relation	rel = docrep_kept_rel(c->table);
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	Relation	index = index_open(c->table->info.rev_pk_oid, AccessShareLock);
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	IndexScanDesc scan = begin_walk(c, rel, index, snapshot, after);
	DocRows		rows = {0};
	bool		more = true;
	bool		found;

	do
	{
		bool		isnull;
		char	   *id = NULL;

		CHECK_FOR_INTERRUPTS();
		found = index_getnext_slot(scan, ForwardScanDirection, slot);
		if (found)
			id = TextDatumGetCString(slot_getattr(slot, Anum_kept_id, &isnull));
		if (rows.id && (!found || strcmp(id, rows.id) != 0))
		{
			more = thin_out(c, &rows);
			if (!more)
				break;
			if (after)
				pfree(after);
			after = rows.id;
			rows.id = NULL;
			rows.n = 0;
		}
		if (!found)
			break;
		if (rows.id)
			pfree(id);
		else
			rows.id = id;
		add_row(&rows, slot);
	} while (more);
	index_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	index_close(index, AccessShareLock);
	UnregisterSnapshot(snapshot);
	return found ? (after ? after : pstrdup("")) : NULL;
}

/* ---------- what is remembered ---------- */

void
docrep_revisions_recheck(const pg_uuid_t *uuid)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[] = {UUIDOID};
	Datum		values[1];
	InternalSql sql;

	values[0] = UUIDPGetDatum(uuid);
	docrep_internal_begin(&sql);
	docrep_internal_execute(&plan,
							"INSERT INTO docrep.revision_cleaning (tbl, done_to) VALUES ($1, '')"
							" ON CONFLICT (tbl) DO UPDATE SET done_to = ''",
							1, types, values, NULL, false, 0);
	docrep_internal_end(&sql);
}

/* Up to which id a walk has come; NULL: none is under way. */
static char *
walk_position(const pg_uuid_t *uuid)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[] = {UUIDOID};
	Datum		values[1];
	InternalSql sql;
	MemoryContext cxt = CurrentMemoryContext;
	char	   *result = NULL;

	values[0] = UUIDPGetDatum(uuid);
	docrep_internal_begin(&sql);
	docrep_internal_execute(&plan,
							"SELECT done_to FROM docrep.revision_cleaning WHERE tbl = $1 FOR UPDATE",
							1, types, values, NULL, false, 1);
	if (SPI_processed > 0)
		result = MemoryContextStrdup(cxt, SPI_getvalue(SPI_tuptable->vals[0],
													   SPI_tuptable->tupdesc, 1));
	docrep_internal_end(&sql);
	return result;
}

/* Note it; NULL: the walk is over. */
static void
note_position(const pg_uuid_t *uuid, const char *done_to)
{
	static SPIPlanPtr update = NULL;
	static SPIPlanPtr remove = NULL;
	Oid			types[] = {UUIDOID, TEXTOID};
	Datum		values[2];
	InternalSql sql;

	values[0] = UUIDPGetDatum(uuid);
	docrep_internal_begin(&sql);
	if (done_to)
	{
		values[1] = CStringGetTextDatum(done_to);
		docrep_internal_execute(&update,
								"UPDATE docrep.revision_cleaning SET done_to = $2 WHERE tbl = $1",
								2, types, values, NULL, false, 0);
	}
	else
		docrep_internal_execute(&remove, "DELETE FROM docrep.revision_cleaning WHERE tbl = $1",
								1, types, values, NULL, false, 0);
	docrep_internal_end(&sql);
}

/* Go on with the walk that is under way, if there is one. */
static void
remove_surplus(Cleaning *c)
{
	char	   *position = walk_position(&c->table->info.uuid);

	if (position == NULL)
		return;
	if (c->settings->revisions_keep < 0)
		position = NULL;		/* all go by their age */
	else
		position = walk(c, *position ? position : NULL);
	/* it is looked at again at the next time */
	if (position == NULL && c->passed_over)
		position = "";
	note_position(&c->table->info.uuid, position);
}

/* Remove holds that are over; their versions are then looked at. */
static void
remove_expired_holds(DocTable *table)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[] = {UUIDOID};
	Datum		values[1];
	InternalSql sql;
	bool		any;

	values[0] = UUIDPGetDatum(&table->info.uuid);
	docrep_internal_begin(&sql);
	docrep_internal_execute(&plan,
							"DELETE FROM docrep.version_holds WHERE tbl = $1 AND NOT ("
							DOCREP_HOLD_IN_FORCE ")",
							1, types, values, NULL, false, 0);
	any = SPI_processed > 0;
	docrep_internal_end(&sql);
	if (any)
	{
		docrep_revisions_recheck(&table->info.uuid);
		CacheInvalidateRelcacheByRelid(table->info.relid);
	}
}

PG_FUNCTION_INFO_V1(docrep_clean_revisions);

/* docrep.clean_revisions(tbl, max_rows): how many were removed.  Owner only. */
Datum
docrep_clean_revisions(PG_FUNCTION_ARGS)
{
	Cleaning	c = {0};
	int64		held_for;

	c.table = docrep_table_open(docrep_arg_table(fcinfo, 0), RowExclusiveLock, 0);
	docrep_table_check_owner(c.table);
	PreventCommandIfReadOnly("docrep.clean_revisions()");
	c.left = docrep_arg_int32(fcinfo, 1, "max_rows");
	if (c.left < 1)
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_BAD_REQUEST),
				 errmsg("\"max_rows\" must be 1 or more")));
	remove_expired_holds(c.table);
	c.settings = docrep_settings_read(&c.table->info.uuid);
	held_for = docrep_revisions_held(&c.table->info.uuid);
	c.held = held_for > 0 ? GetCurrentTimestamp() - held_for : DT_NOEND;
	remove_old(&c);
	if (c.left > 0)
		remove_surplus(&c);
	docrep_table_close(c.table, NoLock);
	PG_RETURN_INT64(c.removed);
}
