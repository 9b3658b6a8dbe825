/*-------------------------------------------------------------------------
 *
 * companion.c
 *		The companions of a document table, and direct access to rows.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/stratnum.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_collation.h"
#include "compat.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "store/companion.h"
#include "store/companion_internal.h"
#include "store/errcodes.h"
#include "store/rev_type.h"
#include "store/seqs.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

Companions *
docrep_companions_get(DocTable *table)
{
	if (table->companions == NULL)
	{
		MemoryContext cxt = AllocSetContextCreate(GetMemoryChunkContext(table),
												  "docrep companions",
												  ALLOCSET_SMALL_SIZES);

		table->companions = MemoryContextAllocZero(cxt, sizeof(Companions));
		table->companions->cxt = cxt;
	}
	return table->companions;
}

/*
 * Open a companion, with the lock that the table was opened with: readers on a
 * standby may have no other than AccessShareLock.  Before the lock was ours the
 * companion's owner may have altered it.
 */
static Relation
open_companion(DocTable *table, Oid relid)
{
	LOCKMODE	lockmode = table->lockmode == AccessShareLock ? AccessShareLock : RowExclusiveLock;
	Relation	rel = table_open(relid, lockmode);

	if (docrep_table_info_cached(table->info.relid) == NULL)
		docrep_companion_check(rel, relid == table->info.dead_relid ? COMPANION_DEAD :
							   relid == table->info.leaf_relid ? COMPANION_LEAF :
							   relid == table->info.rev_relid ? COMPANION_KEPT : COMPANION_ATT);
	return rel;
}

Relation
docrep_dead_rel(DocTable *table)
{
	Companions *c = docrep_companions_get(table);

	if (c->dead == NULL)
		c->dead = open_companion(table, table->info.dead_relid);
	return c->dead;
}

Relation
docrep_leaf_rel(DocTable *table)
{
	Companions *c = docrep_companions_get(table);

	if (c->leaf == NULL)
		c->leaf = open_companion(table, table->info.leaf_relid);
	return c->leaf;
}

Relation
docrep_att_rel(DocTable *table)
{
	Companions *c = docrep_companions_get(table);

	if (c->att == NULL)
		c->att = open_companion(table, table->info.att_relid);
	return c->att;
}

Relation
docrep_kept_rel(DocTable *table)
{
	Companions *c = docrep_companions_get(table);

	if (c->kept == NULL)
		c->kept = open_companion(table, table->info.rev_relid);
	return c->kept;
}

static void
end_scan(IdScan *s)
{
	if (s->scan == NULL)
		return;
	index_endscan(s->scan);
	index_close(s->index, NoLock);
	ExecDropSingleTupleTableSlot(s->slot);
	s->scan = NULL;
}

void
docrep_companions_close(DocTable *table)
{
	Companions *c = table->companions;

	if (c == NULL)
		return;
	end_scan(&c->rel_scan);
	end_scan(&c->dead_scan);
	end_scan(&c->leaf_scan);
	end_scan(&c->att_scan);
	end_scan(&c->sha_scan);
	end_scan(&c->kept_scan);
	for (int i = 0; i < c->nwriters; i++)
	{
		ExecCloseIndices(c->writers[i].rri);
		ExecDropSingleTupleTableSlot(c->writers[i].slot);
		FreeExecutorState(c->writers[i].estate);
	}
	if (c->dead)
		table_close(c->dead, NoLock);
	if (c->leaf)
		table_close(c->leaf, NoLock);
	if (c->att)
		table_close(c->att, NoLock);
	if (c->kept)
		table_close(c->kept, NoLock);
	MemoryContextDelete(c->cxt);
	table->companions = NULL;
}

void
docrep_companions_forget(DocTable *table)
{
	if (table->companions)
		MemoryContextDelete(table->companions->cxt);
	table->companions = NULL;
}

/* ---------- looking up by id ---------- */

IdScan *
docrep_companion_scan(DocTable *table, IdScan *s, Relation rel, Oid index_oid, int nkeys)
{
	if (s->scan == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(docrep_companions_get(table)->cxt);

		s->index = index_open(index_oid, AccessShareLock);
		s->slot = table_slot_create(rel, NULL);
		s->scan = docrep_index_beginscan(rel, s->index, SnapshotAny, nkeys);
		MemoryContextSwitchTo(old);
	}
	return s;
}

static IdScan *
scan_for(DocTable *table, DocPlace place)
{
	Companions *c = docrep_companions_get(table);

	if (place == DOC_IN_REL)
		return docrep_companion_scan(table, &c->rel_scan, table->rel, table->info.pk_oid, 1);
	return docrep_companion_scan(table, &c->dead_scan, docrep_dead_rel(table), table->info.dead_pk_oid, 1);
}

static Relation
place_rel(DocTable *table, DocPlace place)
{
	return place == DOC_IN_REL ? table->rel : docrep_dead_rel(table);
}

void
docrep_companion_id_key(ScanKey key, Datum id)
{
	ScanKeyEntryInitialize(key, 0, 1, BTEqualStrategyNumber, InvalidOid, C_COLLATION_OID,
						   F_TEXTEQ, id);
}

static void
rescan_id(IdScan *s, Snapshot snapshot, Datum id)
{
	ScanKeyData key;

	docrep_companion_id_key(&key, id);
	s->scan->xs_snapshot = snapshot;
	index_rescan(s->scan, &key, 1, NULL, 0);
}

/*
 * The scan's next row.  In the scan's own memory context: what the index keeps
 * from one call to the next (the rows it found dead) is allocated on the way,
 * and callers look each document up in a context that they reset.
 */
bool
docrep_companion_next(DocTable *table, IdScan *s)
{
	MemoryContext old = MemoryContextSwitchTo(docrep_companions_get(table)->cxt);
	bool		found = index_getnext_slot(s->scan, ForwardScanDirection, s->slot);

	MemoryContextSwitchTo(old);
	return found;
}

TupleTableSlot *
docrep_find_row(DocTable *table, DocPlace place, Snapshot snapshot, const char *id)
{
	IdScan	   *s = scan_for(table, place);

	rescan_id(s, snapshot, CStringGetTextDatum(id));
	if (!docrep_companion_next(table, s))
		return NULL;
	return s->slot;
}

void
docrep_wait_for(TransactionId xwait, uint32 token)
{
	if (token != 0)
		SpeculativeInsertionWait(xwait, token);
	else
		XactLockTableWait(xwait, NULL, NULL, XLTW_None);
}

TupleTableSlot *
docrep_probe_row(DocTable *table, DocPlace place, const char *id,
				 TransactionId *xwait, uint32 *token)
{
	IdScan	   *s = scan_for(table, place);
	SnapshotData dirty;
	bool		found;

	*xwait = InvalidTransactionId;
	*token = 0;
	InitDirtySnapshot(dirty);
	rescan_id(s, &dirty, CStringGetTextDatum(id));
	found = docrep_companion_next(table, s);
	if (found)
	{
		*xwait = TransactionIdIsValid(dirty.xmin) ? dirty.xmin : dirty.xmax;
		if (TransactionIdIsValid(dirty.xmin))
			*token = dirty.speculativeToken;
		ExecMaterializeSlot(s->slot);
	}
	s->scan->xs_snapshot = SnapshotAny;
	return found ? s->slot : NULL;
}

TupleTableSlot *
docrep_lock_row(DocTable *table, DocPlace place, const char *id)
{
	for (;;)
	{
		TransactionId xwait;
		uint32		token;
		TM_FailureData tmfd;
		TM_Result	result;
		TupleTableSlot *slot = docrep_probe_row(table, place, id, &xwait, &token);

		CHECK_FOR_INTERRUPTS();
		if (slot == NULL)
			return NULL;
		if (TransactionIdIsValid(xwait))
		{
			docrep_wait_for(xwait, token);
			continue;
		}
		PushActiveSnapshot(GetLatestSnapshot());
		result = table_tuple_lock(place_rel(table, place), &slot->tts_tid, GetActiveSnapshot(),
								  slot, GetCurrentCommandId(true), LockTupleNoKeyExclusive,
								  LockWaitBlock, 0, &tmfd);
		PopActiveSnapshot();
		switch (result)
		{
			case TM_Ok:
				return slot;
			case TM_Updated:
			case TM_Deleted:
				continue;
			case TM_Invisible:
				/* made by this very command */
				CommandCounterIncrement();
				continue;
			default:
				elog(ERROR, "unexpected table_tuple_lock status: %u", result);
		}
	}
}

/* The function behind "=" of the index's second column, which must be the revision. */
static RegProcedure
rev_equality(Relation index)
{
	Oid			type = index->rd_opcintype[1];
	Oid			operator = index->rd_index->indkey.values[1] != Anum_leaf_rev ? InvalidOid :
		get_opfamily_member(index->rd_opfamily[1], type, type, BTEqualStrategyNumber);

	if (!OidIsValid(operator))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("index \"%s\" is not on (_id, rev)", RelationGetRelationName(index)),
				 errhint("Create the primary key again.")));
	return get_opcode(operator);
}

TupleTableSlot *
docrep_leaf_find(DocTable *table, Snapshot snapshot, const char *id, const Rev *rev)
{
	Companions *c = docrep_companions_get(table);
	IdScan	   *s = docrep_companion_scan(table, &c->leaf_scan, docrep_leaf_rel(table),
							   table->info.leaf_pk_oid, 2);
	ScanKeyData keys[2];

	if (!RegProcedureIsValid(c->rev_equality))
		c->rev_equality = rev_equality(s->index);
	docrep_companion_id_key(&keys[0], CStringGetTextDatum(id));
	ScanKeyEntryInitialize(&keys[1], 0, 2, BTEqualStrategyNumber, InvalidOid, InvalidOid,
						   c->rev_equality, docrep_rev_datum(rev));
	s->scan->xs_snapshot = snapshot;
	index_rescan(s->scan, keys, 2, NULL, 0);
	return docrep_companion_next(table, s) ? s->slot : NULL;
}

/* ---------- changing rows ---------- */

Writer *
docrep_companion_writer(DocTable *table, Relation rel)
{
	Companions *c = docrep_companions_get(table);
	Writer	   *w;
	MemoryContext old;

	for (int i = 0; i < c->nwriters; i++)
	{
		if (c->writers[i].rel == rel)
			return &c->writers[i];
	}
	old = MemoryContextSwitchTo(c->cxt);
	w = &c->writers[c->nwriters++];
	w->rel = rel;
	w->estate = CreateExecutorState();
	w->rri = makeNode(ResultRelInfo);
	InitResultRelInfo(w->rri, rel, 1, NULL, 0);
	ExecOpenIndices(w->rri, true);
	w->slot = table_slot_create(rel, NULL);
	MemoryContextSwitchTo(old);
	return w;
}

void
docrep_companion_insert(DocTable *table, Relation rel, Datum *values, bool *nulls)
{
	Writer	   *w = docrep_companion_writer(table, rel);
	HeapTuple	tuple = heap_form_tuple(RelationGetDescr(rel), values, nulls);

	ExecForceStoreHeapTuple(tuple, w->slot, false);
	table_tuple_insert(rel, w->slot, GetCurrentCommandId(true), 0, NULL);
	docrep_insert_index_tuples(w->rri, w->slot, w->estate, false, NULL, NIL);
	ExecClearTuple(w->slot);
	heap_freetuple(tuple);
	ResetPerTupleExprContext(w->estate);
}

void
docrep_row_update(DocTable *table, Relation rel, ItemPointer tid, HeapTuple newtuple)
{
	Writer	   *w = docrep_companion_writer(table, rel);
	docrep_update_indexes update_indexes;

	ExecForceStoreHeapTuple(newtuple, w->slot, false);
	simple_table_tuple_update(rel, tid, w->slot, GetLatestSnapshot(), &update_indexes);
	/* as an insertion: for the hint that goes with an update the executor wants a range table */
	if (update_indexes)
		docrep_update_index_tuples(w->rri, w->slot, w->estate, update_indexes);
	ExecClearTuple(w->slot);
	ResetPerTupleExprContext(w->estate);
}

void
docrep_row_delete(DocTable *table, Relation rel, ItemPointer tid)
{
	simple_table_tuple_delete(rel, tid, GetLatestSnapshot());
}

bool
docrep_leaf_delete(DocTable *table, const char *id, const Rev *rev)
{
	TupleTableSlot *slot;

	CommandCounterIncrement();
	slot = docrep_leaf_find(table, GetLatestSnapshot(), id, rev);
	if (slot == NULL)
		return false;
	docrep_row_delete(table, docrep_leaf_rel(table), &slot->tts_tid);
	return true;
}

/*
 * Insert the writer's slot speculatively, a conflict being one in the index
 * "arbiter".  Returns whether it stands, still unconfirmed.
 */
bool
docrep_companion_speculate(Writer *w, Oid arbiter, uint32 *token)
{
	bool		conflict = false;
	List	   *arbiters = list_make1_oid(arbiter);

	*token = SpeculativeInsertionLockAcquire(GetCurrentTransactionId());
	table_tuple_insert_speculative(w->rel, w->slot, GetCurrentCommandId(true), 0, NULL, *token);
	docrep_insert_index_tuples(w->rri, w->slot, w->estate, true, &conflict, arbiters);
	list_free(arbiters);
	return !conflict;
}

/*
 * The protocol of README.md, "two tables, one id": the entry in dead first,
 * then the announcement, then a look for the id among the live rows.  Whoever
 * inserts a live row does the same the other way round, so that one of the two
 * sees the other.  The row stays speculative until nobody was seen, so that an
 * inserter who sees it waits for the outcome only, not for our transaction.
 */
bool
docrep_dead_insert_new(DocTable *table, const char *id, Datum *values, bool *nulls)
{
	Relation	dead = docrep_dead_rel(table);
	Writer	   *w = docrep_companion_writer(table, dead);
	HeapTuple	tuple = heap_form_tuple(RelationGetDescr(dead), values, nulls);
	TransactionId xwait = InvalidTransactionId;
	uint32		token = 0;
	uint32		own_token;
	bool		stands;
	bool		live = false;

	ExecForceStoreHeapTuple(tuple, w->slot, false);
	docrep_dead_mark_used(&table->info);
	stands = docrep_companion_speculate(w, table->info.dead_pk_oid, &own_token);
	if (stands)
	{
		docrep_dead_epoch_bump(&table->info);
		live = docrep_probe_row(table, DOC_IN_REL, id, &xwait, &token) != NULL;
	}
	table_tuple_complete_speculative(dead, w->slot, own_token, stands && !live);
	SpeculativeInsertionLockRelease(GetCurrentTransactionId());
	ExecClearTuple(w->slot);
	heap_freetuple(tuple);
	ResetPerTupleExprContext(w->estate);

	/* our own row in progress (xwait is us) cannot be: the caller has looked */
	if (TransactionIdIsValid(xwait) && !TransactionIdIsCurrentTransactionId(xwait))
		docrep_wait_for(xwait, token);
	return stands && !live;
}
