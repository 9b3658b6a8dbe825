/*-------------------------------------------------------------------------
 *
 * revisions_functions.c
 *		SQL functions: whether former versions are kept, and which there are.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/tableam.h"
#include "catalog/pg_type.h"
#include "compat.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "store/companion.h"
#include "store/errcodes.h"
#include "store/json_text.h"
#include "store/origins.h"
#include "store/rev_type.h"
#include "store/revisions_internal.h"
#include "store/sql_support.h"
#include "store/table_settings.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

/* ---------- settings ---------- */

static void
check_bounds(int32 keep, const Interval *max_age)
{
	TimestampTz now = GetCurrentTimestamp();

	if (keep < 1)
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_BAD_REQUEST),
				 errmsg("\"keep\" must be 1 or more, not %d", keep),
				 errhint("NULL keeps no former versions.")));
	if (max_age && docrep_time_before(now, max_age) >= now)
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_BAD_REQUEST),
				 errmsg("\"max_age\" must be longer than nothing")));
}

/*
 * Switch it on.  From when on all is kept is worth knowing only if it is true of
 * everybody: whoever is writing now does not know yet, and is waited for.
 */
static void
note_beginning(DocTable *table)
{
	docrep_settings_lock(table);
	docrep_settings_write(&table->info.uuid, "revisions_since", TIMESTAMPTZOID,
						  TimestampTzGetDatum(GetCurrentTimestamp()), false);
}

PG_FUNCTION_INFO_V1(docrep_set_revisions);

/* docrep.set_revisions(tbl, keep, max_age, keep_deleted): owner only; keep NULL switches it off. */
Datum
docrep_set_revisions(PG_FUNCTION_ARGS)
{
	DocTable   *table = docrep_table_open(docrep_arg_table(fcinfo, 0), AccessShareLock, 0);
	bool		off = PG_ARGISNULL(1);
	int32		keep = off ? 0 : PG_GETARG_INT32(1);
	Interval   *max_age = PG_ARGISNULL(2) ? NULL : PG_GETARG_INTERVAL_P(2);
	bool		keep_deleted = PG_ARGISNULL(3) || PG_GETARG_BOOL(3);
	const pg_uuid_t *uuid = &table->info.uuid;

	docrep_table_check_owner(table);

	/*
	 * A lock that no two have, or one would go on with what the other is just switching off; and
	 * no stronger one, as it may become that of note_beginning().  Not for others than the owner:
	 * it ends an autovacuum.
	 */
	LockRelationOid(table->info.relid, ShareUpdateExclusiveLock);
	if (!off)
	{
		check_bounds(keep, max_age);
		if (docrep_settings_read(uuid)->revisions_keep < 0)
			note_beginning(table);
	}
	/* before the settings, which are followed by what housekeeping has to do: a cleaning locks in this order */
	docrep_revisions_recheck(uuid);
	docrep_settings_write(uuid, "revisions_keep", INT4OID, Int32GetDatum(keep), off);
	docrep_settings_write(uuid, "revisions_max_age", INTERVALOID, IntervalPGetDatum(max_age),
						  max_age == NULL);
	docrep_settings_write(uuid, "revisions_keep_deleted", BOOLOID, BoolGetDatum(keep_deleted),
						  false);
	if (off)
		docrep_settings_write(uuid, "revisions_since", TIMESTAMPTZOID, (Datum) 0, true);
	CacheInvalidateRelcacheByRelid(table->info.relid);
	docrep_table_close(table, NoLock);
	PG_RETURN_VOID();
}

/* ---------- which there are ---------- */

typedef struct Listing
{
	DocTable   *table;
	Tuplestorestate *store;
	TupleDesc	desc;
	char	   *last_id;		/* of the document before, or NULL ... */
	bool		visible;		/* ... and whether the role may see it */
} Listing;

/* May the role see this document? */
static bool
is_visible(Listing *l, const char *id)
{
	if (!l->table->row_security)
		return true;
	if (l->last_id == NULL || strcmp(l->last_id, id) != 0)
	{
		if (l->last_id)
			pfree(l->last_id);
		l->last_id = MemoryContextStrdup(GetMemoryChunkContext(l->table), id);
		docrep_visible_ids(l->table, &id, 1, &l->visible);
	}
	return l->visible;
}

static void
put_version(Listing *l, TupleTableSlot *slot)
{
	KeptVersion version;
	Datum		values[9];
	bool		nulls[9] = {false};
	bool		isnull;
	Datum		id = slot_getattr(slot, Anum_kept_id, &isnull);

	if (!is_visible(l, TextDatumGetCString(id)))
		return;
	docrep_kept_from_slot(slot, true, &version);
	values[0] = id;
	values[1] = docrep_rev_datum(&version.rev);
	values[2] = version.doc ? JsonbPGetDatum(version.doc) :
		JsonbPGetDatum(docrep_json_parse("{}"));
	values[3] = BoolGetDatum(version.deleted);
	values[4] = TimestampTzGetDatum(version.modified);
	values[5] = CStringGetTextDatum(docrep_origin_text(l->table, version.has_origin ?
													   &version.origin : NULL));
	values[6] = TimestampTzGetDatum(version.replaced_at);
	values[7] = CStringGetTextDatum(docrep_kept_is_winner(version.kind) ? "winner" : "conflict");
	values[8] = BoolGetDatum(version.kind == KEPT_PEER_WINNER ||
							 version.kind == KEPT_PEER_CONFLICT);
	tuplestore_putvalues(l->store, l->desc, values, nulls);
}

/* All versions of all documents, in order of id, oldest first. */
static void
put_all(Listing *l, MemoryContext row_cxt)
{
	Relation	rel = docrep_kept_rel(l->table);
	Relation	index = index_open(l->table->info.rev_pk_oid, AccessShareLock);
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	IndexScanDesc scan = docrep_index_beginscan(rel, index, GetActiveSnapshot(), 0);

	index_rescan(scan, NULL, 0, NULL, 0);
	while (index_getnext_slot(scan, ForwardScanDirection, slot))
	{
		MemoryContext old = MemoryContextSwitchTo(row_cxt);

		CHECK_FOR_INTERRUPTS();
		put_version(l, slot);
		MemoryContextSwitchTo(old);
		MemoryContextReset(row_cxt);
	}
	index_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	index_close(index, AccessShareLock);
}

/* Those of one document. */
static void
put_document(Listing *l, const char *id, MemoryContext row_cxt)
{
	TupleTableSlot *slot;

	for (slot = docrep_kept_first(l->table, GetActiveSnapshot(), id, false); slot;
		 slot = docrep_kept_next(l->table))
	{
		MemoryContext old = MemoryContextSwitchTo(row_cxt);

		put_version(l, slot);
		MemoryContextSwitchTo(old);
		MemoryContextReset(row_cxt);
	}
}

PG_FUNCTION_INFO_V1(docrep_revisions);

/* docrep.revisions(tbl, doc_id): the former versions that are kept, if the table keeps any. */
Datum
docrep_revisions(PG_FUNCTION_ARGS)
{
	Listing		l = {0};
	MemoryContext row_cxt;

	l.store = docrep_srf_begin(fcinfo, &l.desc);
	l.table = docrep_table_open(docrep_arg_table(fcinfo, 0), AccessShareLock, ACL_SELECT);
	row_cxt = AllocSetContextCreate(CurrentMemoryContext, "docrep revision",
									ALLOCSET_DEFAULT_SIZES);
	if (l.table->info.revisions_keep >= 0)
	{
		if (PG_ARGISNULL(1))
			put_all(&l, row_cxt);
		else
			put_document(&l, text_to_cstring(PG_GETARG_TEXT_PP(1)), row_cxt);
	}
	docrep_table_close(l.table, NoLock);
	return (Datum) 0;
}
