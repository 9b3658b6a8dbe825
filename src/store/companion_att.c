/*-------------------------------------------------------------------------
 *
 * companion_att.c
 *		Rows of att_<uuid>, the contents of attachments.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/stratnum.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "common/sha2.h"
#include "compat.h"
#include "executor/executor.h"
#include "storage/lmgr.h"
#include "store/companion.h"
#include "store/companion_internal.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"

TupleTableSlot *
docrep_att_first(DocTable *table, Snapshot snapshot, int64 file, int32 part, bool any)
{
	Companions *c = docrep_companions_get(table);
	IdScan	   *s = docrep_companion_scan(table, &c->att_scan, docrep_att_rel(table),
										  table->info.att_pk_oid, 2);
	ScanKeyData keys[2];

	ScanKeyInit(&keys[0], 1, any ? BTGreaterEqualStrategyNumber : BTEqualStrategyNumber,
				any ? F_INT8GE : F_INT8EQ, Int64GetDatum(file));
	ScanKeyInit(&keys[1], 2, BTGreaterEqualStrategyNumber, F_INT4GE, Int32GetDatum(part));
	s->scan->xs_snapshot = snapshot;
	index_rescan(s->scan, keys, 2, NULL, 0);
	return docrep_companion_next(table, s) ? s->slot : NULL;
}

TupleTableSlot *
docrep_att_next(DocTable *table)
{
	IdScan	   *s = &docrep_companions_get(table)->att_scan;

	return docrep_companion_next(table, s) ? s->slot : NULL;
}

TupleTableSlot *
docrep_att_by_sha(DocTable *table, Snapshot snapshot, const uint8 *sha256)
{
	Companions *c = docrep_companions_get(table);
	IdScan	   *s = docrep_companion_scan(table, &c->sha_scan, docrep_att_rel(table),
										  table->info.att_sha_oid, 1);
	ScanKeyData key;
	bytea	   *value = palloc(VARHDRSZ + PG_SHA256_DIGEST_LENGTH);
	bool		found;

	SET_VARSIZE(value, VARHDRSZ + PG_SHA256_DIGEST_LENGTH);
	memcpy(VARDATA(value), sha256, PG_SHA256_DIGEST_LENGTH);
	ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_BYTEAEQ, PointerGetDatum(value));
	s->scan->xs_snapshot = snapshot;
	index_rescan(s->scan, &key, 1, NULL, 0);
	found = docrep_companion_next(table, s);
	pfree(value);
	return found ? s->slot : NULL;
}

/*
 * Speculatively, so that who inserts the same contents at the same time does
 * not end in an error but looks again.
 */
bool
docrep_att_insert_header(DocTable *table, Datum *values, bool *nulls)
{
	Relation	rel = docrep_att_rel(table);
	Writer	   *w = docrep_companion_writer(table, rel);
	HeapTuple	tuple = heap_form_tuple(RelationGetDescr(rel), values, nulls);
	uint32		token;
	bool		stands;

	ExecForceStoreHeapTuple(tuple, w->slot, false);
	stands = docrep_companion_speculate(w, table->info.att_sha_oid, &token);
	table_tuple_complete_speculative(rel, w->slot, token, stands);
	SpeculativeInsertionLockRelease(GetCurrentTransactionId());
	ExecClearTuple(w->slot);
	heap_freetuple(tuple);
	ResetPerTupleExprContext(w->estate);
	return stands;
}

void
docrep_att_insert_parts(DocTable *table, TupleTableSlot **slots, int n)
{
	Relation	rel = docrep_att_rel(table);
	Writer	   *w = docrep_companion_writer(table, rel);

	table_multi_insert(rel, slots, n, GetCurrentCommandId(true), 0, NULL);
	for (int i = 0; i < n; i++)
	{
		docrep_insert_index_tuples(w->rri, slots[i], w->estate, false, NULL, NIL);
		ResetPerTupleExprContext(w->estate);
	}
}
