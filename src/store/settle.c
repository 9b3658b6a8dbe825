/*-------------------------------------------------------------------------
 *
 * settle.c
 *		What a plain INSERT or DELETE leaves to be settled afterwards, and purge.
 *
 * The AFTER ROW triggers of a document table have WHEN conditions in C
 * (insert_unsettled, delete_unsettled), which are asked right after the row
 * and its index entries are in, so that nothing is queued for the usual row.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "commands/trigger.h"
#include "executor/tuptable.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "store/batch_rows.h"
#include "store/change.h"
#include "store/companion.h"
#include "store/document.h"
#include "store/errcodes.h"
#include "store/resolution.h"
#include "store/rev_type.h"
#include "store/revisions.h"
#include "store/seqs.h"
#include "utils/builtins.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

PG_FUNCTION_INFO_V1(docrep_insert_unsettled);

/*
 * docrep.insert_unsettled(tbl oid, id text, rev docrep.rev): must the row just
 * inserted be settled with a tombstone?  Yes if it goes on from one, or if
 * tombstones have been announced since the table of them was looked at.
 */
Datum
docrep_insert_unsettled(PG_FUNCTION_ARGS)
{
	Oid			relid = PG_GETARG_OID(0);
	const DocTableInfo *info = docrep_table_info_cached(relid);
	Rev			rev;

	if (info == NULL || docrep_dead_epoch_moved(info))
		PG_RETURN_BOOL(true);
	docrep_datum_rev(PG_GETARG_DATUM(2), &rev);
	if (rev.gen > 1)
	{
		text	   *id = PG_GETARG_TEXT_PP(1);

		/* a batch removes the tombstones that it knows of by itself */
		PG_RETURN_BOOL(!docrep_batch_contains(relid, CHANGE_INSERT, VARDATA_ANY(id),
											  VARSIZE_ANY_EXHDR(id)));
	}
	PG_RETURN_BOOL(false);
}

PG_FUNCTION_INFO_V1(docrep_delete_unsettled);

/*
 * docrep.delete_unsettled(tbl oid, id text, tree docrep.revtree): does the
 * deletion of the row bring a conflict to light?
 */
Datum
docrep_delete_unsettled(PG_FUNCTION_ARGS)
{
	bytea	   *packed;
	RevTree    *tree;
	text	   *id;
	bool		result;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1) || PG_ARGISNULL(2))
		PG_RETURN_BOOL(false);
	packed = DatumGetByteaPP(PG_GETARG_DATUM(2));
	tree = docrep_revtree_unpack((uint8 *) VARDATA_ANY(packed), VARSIZE_ANY_EXHDR(packed));
	result = tree == NULL || docrep_revtree_live_leaves(tree) > 1;
	if (!result)
		PG_RETURN_BOOL(false);
	id = PG_GETARG_TEXT_PP(1);
	PG_RETURN_BOOL(!docrep_batch_contains(PG_GETARG_OID(0), CHANGE_DELETE, VARDATA_ANY(id),
										  VARSIZE_ANY_EXHDR(id)));
}

static void
check_after_row(FunctionCallInfo fcinfo)
{
	TriggerData *td = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_AFTER(td->tg_event) ||
		!TRIGGER_FIRED_FOR_ROW(td->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("not called as an AFTER ROW trigger of a document table")));
}

static char *
slot_id(DocTable *table, TupleTableSlot *slot)
{
	bool		isnull;

	return TextDatumGetCString(slot_getattr(slot, table->info.a_id, &isnull));
}

/*
 * The row was inserted as an edit, and its revision turns out to be one that
 * the tombstone has buried: the same body, inserted, deleted and inserted
 * again.  Merged as it is the row would be deleted although its INSERT came
 * last, so it goes on from the tombstone, as it would have with a tombstone
 * that it had seen.
 */
static void
go_on_from(DocTable *table, DocState *row, DocChange *tomb, DocChange *batched)
{
	DocWrite	edit = {.id = tomb->id, .body = row->doc, .own_atts = true};
	ItemPointerData dead_tid = tomb->tid;

	docrep_atts_from_column(row->atts, &edit.atts);
	docrep_change_load_trunk(table, tomb);
	docrep_change_edit(table, tomb, &edit);
	docrep_change_finish(table, tomb, true);

	/* finished as an insertion, which brings the trunk along; but the row is there */
	tomb->action = CHANGE_UPDATE;
	tomb->tid = row->tid;
	docrep_batch_execute(table, &tomb, 1, CHANGE_UPDATE);
	if (!tomb->seen)
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_FORBIDDEN),
				 errmsg("document \"%s\" could not be written", tomb->id),
				 errdetail("A trigger or a row security policy of the table kept the row away.")));
	tomb->tid = dead_tid;
	docrep_change_write_companions(table, tomb);
	if (batched)
		batched->writes[0]->rev = docrep_rev_copy(&edit.rev);
}

/* The row learns the tombstone's revisions. */
static void
merge_tombstone(DocTable *table, DocChange *tomb, DocChange *batched)
{
	int			n;
	DocWrite   *writes;

	/* what the batch has still to write of the document was planned without them */
	if (batched && (batched->leaf_inserts != NIL || batched->leaf_deletes != NIL))
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("document \"%s\" was written by another transaction at the same time",
						tomb->id),
				 errhint("Try again.")));
	docrep_change_load_trunk(table, tomb);
	writes = docrep_gather_leaves(table, tomb->id, tomb->tree, &tomb->old_winner,
								  docrep_change_old_doc(table, tomb),
								  docrep_change_old_atts(table, tomb),
								  tomb->old_modified, docrep_change_old_origin(table, tomb), &n);
	docrep_row_delete(table, docrep_dead_rel(table), &tomb->tid);
	CommandCounterIncrement();
	docrep_write_merged(table, writes, n);
}

/*
 * Does the row's revision go on from the tombstone's?  Usually its tree says so;
 * with a revs_limit of 1 the parent is gone from there, but the revision is still
 * the hash of it and the body.
 */
static bool
goes_on_from(DocState *row, const Rev *tombstone)
{
	const Rev  *rev = &row->tree->nodes[row->winner].rev;
	uint8		hash[REV_HASH_LEN];
	DocAtts		atts;

	if (docrep_revtree_find(row->tree, tombstone) >= 0)
		return true;
	if (rev->gen != tombstone->gen + 1 || rev->len != REV_HASH_LEN)
		return false;
	docrep_atts_from_column(row->atts, &atts);
	docrep_revision_hash(tombstone, false, row->doc, &atts, hash);
	return memcmp(hash, rev->bytes, REV_HASH_LEN) == 0;
}

/* A document is in both tables: row is what is live of it, and locked as tomb is. */
static void
settle_row(DocTable *table, DocState *row, DocChange *tomb)
{
	DocChange  *batched = docrep_batch_peek(table->info.relid, CHANGE_INSERT,
											tomb->id, strlen(tomb->id));
	const Rev  *rev = &row->tree->nodes[row->winner].rev;

	if (batched && batched->exists)
		return;					/* the batch has merged with it, and will delete it */
	if (goes_on_from(row, &tomb->old_winner))
	{
		if (table->info.keeps_versions)
		{
			tomb->led_to = docrep_revisions_line(row->tree, &tomb->old_winner);
			docrep_revisions_keep_settled(table, tomb, docrep_revisions_ended(table, tomb));
		}
		docrep_row_delete(table, docrep_dead_rel(table), &tomb->tid);
	}
	else if ((batched == NULL || batched->edit) &&
			 docrep_revtree_find(tomb->tree, rev) >= 0)
		go_on_from(table, row, tomb, batched);
	else
		merge_tombstone(table, tomb, batched);
}

PG_FUNCTION_INFO_V1(docrep_settle_insert);

/*
 * AFTER INSERT, and AFTER UPDATE of _id: if a tombstone of the id is there,
 * either the row goes on from it, and it is deleted, or it came from another
 * transaction meanwhile, and the two become one.  A user's trigger may have
 * changed the row since, or deleted it: what is there now counts.
 */
Datum
docrep_settle_insert(PG_FUNCTION_ARGS)
{
	TriggerData *td = (TriggerData *) fcinfo->context;
	DocTable   *table;
	TupleTableSlot *slot;
	TupleTableSlot *dead;
	char	   *id;

	check_after_row(fcinfo);
	table = docrep_table_attach(td->tg_relation);
	slot = TRIGGER_FIRED_BY_UPDATE(td->tg_event) ? td->tg_newslot : td->tg_trigslot;
	id = slot_id(table, slot);
	CommandCounterIncrement();
	dead = docrep_lock_row(table, DOC_IN_DEAD, id);
	slot = dead ? docrep_lock_row(table, DOC_IN_REL, id) : NULL;
	if (slot)
	{
		DocState	row;
		DocChange	tomb;

		docrep_state_from_slot(table, false, slot, DOCSTATE_BODY, &row);
		docrep_state_unmark(table, GetLatestSnapshot(), id, &row);
		docrep_change_begin(table, &tomb, id, true, dead, true);
		settle_row(table, &row, &tomb);
	}
	docrep_table_close(table, NoLock);
	return PointerGetDatum(NULL);
}

PG_FUNCTION_INFO_V1(docrep_settle_delete);

/*
 * AFTER DELETE of a document with a live conflict: the deletion is a leaf
 * like any other, and the best of the others is the document now.
 */
Datum
docrep_settle_delete(PG_FUNCTION_ARGS)
{
	TriggerData *td = (TriggerData *) fcinfo->context;
	DocTable   *table;
	DocChange	change;
	DocWrite	deletion = {.deleted = true};
	List	   *ended = NIL;
	ListCell   *lc;
	DocWrite   *writes;
	int			n;
	char	   *id;

	check_after_row(fcinfo);
	table = docrep_table_attach(td->tg_relation);
	id = slot_id(table, td->tg_trigslot);
	docrep_change_begin(table, &change, id, false, td->tg_trigslot, true);
	deletion.id = id;
	deletion.path.n = 1;
	deletion.path.revs = &change.old_winner;
	docrep_change_edit(table, &change, &deletion);
	docrep_change_close_deleted(table, &change);
	docrep_change_load_trunk(table, &change);
	if (table->info.keeps_versions)
		ended = docrep_revisions_ended(table, &change);
	foreach(lc, change.leaf_deletes)
		(void) docrep_leaf_delete(table, id, lfirst(lc));
	writes = docrep_gather_leaves(table, id, change.tree, &deletion.rev, NULL, NULL, 0, NULL, &n);
	docrep_write_merged(table, writes, n);
	if (table->info.keeps_versions)
		docrep_revisions_keep_settled(table, &change, ended);
	docrep_table_close(table, NoLock);
	return PointerGetDatum(NULL);
}

/* ---------- purge ---------- */

/* The document is to be forgotten whole. */
static void
purge_all(DocTable *table, DocChange *change)
{
	/* a marked row's winner has one, too */
	for (int i = 0; i < change->nold_leaves; i++)
		(void) docrep_leaf_delete(table, change->id, &change->old_leaves[i]);
	docrep_revisions_forget(table, change->id);
	if (table->info.conflict_policy != 0 && change->nold_leaves > 1)
		docrep_rounds_forget(table, change->id, false);
	if (!change->was_live)
		docrep_row_delete(table, docrep_dead_rel(table), &change->tid);
	else
	{
		change->action = CHANGE_DELETE;
		docrep_batch_execute(table, &change, 1, CHANGE_DELETE);
		if (!change->seen)
			ereport(ERROR,
					(errcode(ERRCODE_DOCREP_FORBIDDEN),
					 errmsg("document \"%s\" could not be purged", change->id),
					 errdetail("A trigger or a row security policy of the table kept the row away.")));
	}
}

int
docrep_write_purge(DocTable *table, const char *id, const Rev *revs, int nrevs, bool *purged)
{
	TupleTableSlot *slot;
	DocChange	base;
	DocChange  *change = &base;
	bool		in_dead = false;
	int			n = 0;

	memset(purged, 0, nrevs * sizeof(bool));
	docrep_table_check(table, ACL_DELETE);
	PreventCommandIfReadOnly("docrep.purge()");
	docrep_seq_register(&table->info);
	slot = docrep_lock_row(table, DOC_IN_REL, id);
	if (slot == NULL)
	{
		in_dead = true;
		slot = docrep_lock_row(table, DOC_IN_DEAD, id);
	}
	if (slot == NULL)
		return 0;
	docrep_change_begin(table, change, id, in_dead, slot, true);
	docrep_change_load_trunk(table, change);
	for (int i = 0; i < nrevs; i++)
	{
		int32		node = docrep_revtree_find(change->tree, &revs[i]);

		if (node < 0 || change->tree->nodes[node].nchildren > 0)
			continue;
		docrep_revtree_remove_leaf(change->tree, node);
		purged[i] = true;
		n++;
	}
	if (n == 0)
		return 0;
	if (change->tree->n == 0)
		purge_all(table, change);
	else
	{
		change->purge = true;
		docrep_change_finish(table, change, true);
		if (change->action != CHANGE_DEAD)
			docrep_batch_execute(table, &change, 1, change->action);
		docrep_change_write_companions(table, change);
		docrep_revisions_forget_missing(table, id, change->tree);
	}
	return n;
}
