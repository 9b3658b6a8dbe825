/*-------------------------------------------------------------------------
 *
 * change_rows.c
 *		The rows of a changed document in the companions: its losing leaves and its
 *		tombstone.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "executor/tuptable.h"
#include "store/change_internal.h"
#include "store/companion.h"
#include "store/errcodes.h"
#include "store/rev_type.h"
#include "store/revisions.h"
#include "store/seqs.h"
#include "utils/builtins.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

bool
docrep_change_body_is_empty(Jsonb *doc)
{
	return doc == NULL || JB_ROOT_COUNT(doc) == 0;
}

void
docrep_change_dead_values(DocTable *table, const DocChange *change, Datum *values, bool *nulls)
{
	memset(nulls, 0, Natts_dead * sizeof(bool));
	values[Anum_dead_id - 1] = CStringGetTextDatum(change->id);
	nulls[Anum_dead_doc - 1] = docrep_change_body_is_empty(change->doc);
	if (!nulls[Anum_dead_doc - 1])
		values[Anum_dead_doc - 1] = JsonbPGetDatum(change->doc);
	nulls[Anum_dead_attachments - 1] = change->atts == NULL;
	if (change->atts)
		values[Anum_dead_attachments - 1] = JsonbPGetDatum(change->atts);
	values[Anum_dead_origin - 1] = UUIDPGetDatum(change->origin);
	nulls[Anum_dead_origin - 1] = change->origin == NULL;
	values[Anum_dead_rev - 1] = change->rev_datum;
	values[Anum_dead_seq - 1] = Int64GetDatum(change->seq);
	values[Anum_dead_modified - 1] = TimestampTzGetDatum(change->modified);
	values[Anum_dead_tree - 1] = change->tree_datum;
	nulls[Anum_dead_tree - 1] = change->tree_null;
	if (change->trunk_changed)
	{
		values[Anum_dead_trunk - 1] = change->trunk_datum;
		nulls[Anum_dead_trunk - 1] = change->trunk_null;
	}
	else
	{
		/* the value moves to another table: it must be fetched, not pointed to */
		bytea	   *trunk = docrep_change_old_trunk(table, (DocChange *) change);

		values[Anum_dead_trunk - 1] = PointerGetDatum(trunk);
		nulls[Anum_dead_trunk - 1] = trunk == NULL;
	}
}

static void
write_leaves(DocTable *table, DocChange *change)
{
	ListCell   *lc;

	foreach(lc, change->leaf_deletes)
		(void) docrep_leaf_delete(table, change->id, lfirst(lc));
	foreach(lc, change->leaf_inserts)
	{
		LeafRow    *row = lfirst(lc);
		Datum		values[Natts_leaf];
		bool		nulls[Natts_leaf] = {0};

		values[Anum_leaf_id - 1] = CStringGetTextDatum(change->id);
		values[Anum_leaf_rev - 1] = docrep_rev_datum(&row->rev);
		nulls[Anum_leaf_doc - 1] = row->doc == NULL;
		if (row->doc)
			values[Anum_leaf_doc - 1] = JsonbPGetDatum(row->doc);
		nulls[Anum_leaf_attachments - 1] = row->atts == NULL;
		if (row->atts)
			values[Anum_leaf_attachments - 1] = JsonbPGetDatum(row->atts);
		values[Anum_leaf_deleted - 1] = BoolGetDatum(row->deleted);
		values[Anum_leaf_modified - 1] = TimestampTzGetDatum(row->modified);
		values[Anum_leaf_origin - 1] = UUIDPGetDatum(row->origin);
		nulls[Anum_leaf_origin - 1] = row->origin == NULL;
		values[Anum_leaf_merged - 1] = BoolGetDatum(row->merged);
		docrep_companion_insert(table, docrep_leaf_rel(table), values, nulls);
	}
}

/*
 * Has this transaction written the stored row?  Then the row may be one whose
 * tombstone is still to be settled (a user's AFTER trigger came first).
 */
static bool
made_here(const DocChange *change)
{
	return TransactionIdIsCurrentTransactionId(HeapTupleHeaderGetXmin(change->old_tuple->t_data));
}

/*
 * A tombstone's row.  A new one of an id that is nowhere needs care: see
 * docrep_dead_insert_new.  If somebody else was faster, all of the batch is
 * done over.
 */
static void
write_dead(DocTable *table, DocChange *change)
{
	Relation	dead = docrep_dead_rel(table);
	Datum		values[Natts_dead];
	bool		nulls[Natts_dead];

	docrep_change_dead_values(table, change, values, nulls);
	if (change->exists && !change->was_live)
	{
		HeapTuple	tuple = heap_form_tuple(RelationGetDescr(dead), values, nulls);

		docrep_row_update(table, dead, &change->tid, tuple);
	}
	else if (change->exists)
	{
		TupleTableSlot *slot = made_here(change) && docrep_dead_maybe_used(&table->info) ?
			docrep_lock_row(table, DOC_IN_DEAD, change->id) : NULL;

		if (slot)
		{
			ItemPointerData tid = slot->tts_tid;

			docrep_row_update(table, dead, &tid,
							  heap_form_tuple(RelationGetDescr(dead), values, nulls));
			return;
		}
		docrep_dead_mark_used(&table->info);
		docrep_companion_insert(table, dead, values, nulls);
		docrep_dead_epoch_bump(&table->info);
	}
	else if (!docrep_dead_insert_new(table, change->id, values, nulls))
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("document \"%s\" was written by another transaction at the same time",
						change->id),
				 errhint("Try again.")));
}

/*
 * The document is live again.  Unless a user's trigger was so fast as to delete
 * it once more, and the tombstone is another by now.
 */
static void
delete_dead(DocTable *table, DocChange *change)
{
	TupleTableSlot *slot = docrep_lock_row(table, DOC_IN_DEAD, change->id);

	if (slot && ItemPointerEquals(&slot->tts_tid, &change->tid))
		docrep_row_delete(table, docrep_dead_rel(table), &change->tid);
}

void
docrep_change_write_companions(DocTable *table, DocChange *change)
{
	if (change->action == CHANGE_NONE)
		return;
	if (table->info.keeps_versions && !change->purge)
		docrep_revisions_keep(table, change);
	if (change->leaf_deletes != NIL || change->leaf_inserts != NIL)
		write_leaves(table, change);
	if (!change->now_live)
		write_dead(table, change);
	else if (change->exists && !change->was_live)
		delete_dead(table, change);
}
