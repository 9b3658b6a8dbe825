/*-------------------------------------------------------------------------
 *
 * track_update.c
 *		UPDATE of a document table.
 *
 * Companions are written at once, as the row is locked.  An UPDATE of the _id
 * deletes one document and makes another.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "executor/executor.h"
#include "store/batch_rows.h"
#include "store/companion.h"
#include "store/document.h"
#include "store/errcodes.h"
#include "store/rev_type.h"
#include "store/track_internal.h"
#include "store/validation.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

/* Has a column the same value in both rows? */
static bool
same_column(TupleDesc desc, AttrNumber attno, TupleTableSlot *old, TupleTableSlot *new)
{
	bool		oldnull;
	bool		newnull;
	Datum		o = slot_getattr(old, attno, &oldnull);
	Datum		n = slot_getattr(new, attno, &newnull);
	Form_pg_attribute att = TupleDescAttr(desc, attno - 1);

	if (oldnull || newnull)
		return oldnull == newnull;

	/* the usual case first: the same pointer into TOAST, which must not be followed */
	return datumIsEqual(o, n, att->attbyval, att->attlen) ||
		datum_image_eq(o, n, att->attbyval, att->attlen);
}

/*
 * Bookkeeping columns must be as they were; a _rev, in the column or in the
 * body, must be the current one.
 */
static void
check_update_columns(TriggerData *td, const DocTableInfo *info, DocWrite *write)
{
	const AttrNumber attnos[] = {info->a_seq, info->a_modified, info->a_tree, info->a_trunk,
	info->a_attachments, info->a_origin};
	TupleDesc	desc = RelationGetDescr(td->tg_relation);
	TupleTableSlot *old = td->tg_trigslot;
	TupleTableSlot *new = td->tg_newslot;
	bool		isnull;
	Rev			current;

	if (SessionReplicationRole == SESSION_REPLICATION_ROLE_REPLICA)
		return;
	for (size_t i = 0; i < lengthof(attnos); i++)
	{
		if (!same_column(desc, attnos[i], old, new))
			docrep_track_forged(td->tg_relation, get_attname(info->relid, attnos[i], false));
	}
	if (!same_column(desc, info->a_rev, old, new))
		docrep_track_conflict(write->id);
	if (write->path.n > 0)
	{
		docrep_datum_rev(slot_getattr(old, info->a_rev, &isnull), &current);
		if (!docrep_rev_eq(&current, &write->path.revs[0]))
			docrep_track_conflict(write->id);
	}
}

/*
 * A new _id: the old document is deleted, and what is left of the row is a
 * document inserted under the new id, with its attachments.
 */
static void
update_id(TriggerData *td, const DocTableInfo *info, const char *old_id, DocWrite *write,
		  NewColumns *cols)
{
	DocTable   *table = docrep_table_attach(td->tg_relation);
	DocChange	change;
	DocWrite	tombstone = {.id = old_id, .deleted = true};

	docrep_change_begin(table, &change, old_id, false, td->tg_trigslot, true);
	tombstone.path.n = 1;
	tombstone.path.revs = &change.old_winner;
	docrep_track_edit(table, &change, &tombstone);
	docrep_validate_edit(table, &change);
	if (write->keep_atts)
	{
		docrep_atts_from_column(docrep_change_old_atts(table, &change), &write->atts);
		write->own_atts = true;
		write->keep_atts = false;
	}
	docrep_change_finish(table, &change, true);
	if (change.now_live || change.old_marked)
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_CONFLICT),
				 errmsg("the _id of document \"%s\" cannot be changed while it has conflicts", old_id),
				 errhint("Resolve the conflict first.")));
	docrep_change_write_companions(table, &change);
	docrep_table_close(table, NoLock);

	write->path.n = 0;
	docrep_track_over_tombstone(td->tg_relation, info, write, NULL, cols);
}

/* Does an UPDATE of a row that shows a conflict, and not its document, leave doc as it is? */
static bool
leaves_marker(DocTable *table, DocChange *change, const DocWrite *write)
{
	Jsonb	   *row = change->old_marked ? docrep_change_row_doc(table, change) : NULL;

	return row && write->body &&
		compareJsonbContainers(&row->root, &write->body->root) == 0;
}

/* An edit of the document: its row, its companions. */
static void
update_same_id(TriggerData *td, const DocTableInfo *info, DocWrite *write, NewColumns *cols)
{
	DocTable   *table = docrep_table_attach(td->tg_relation);
	DocChange	change;

	docrep_change_begin(table, &change, write->id, false, td->tg_trigslot, false);
	if (leaves_marker(table, &change, write))
	{
		write->body = docrep_change_old_doc(table, &change);
		change.keep_conflict = true;
	}
	write->path.n = 1;
	write->path.revs = &change.old_winner;
	docrep_track_edit(table, &change, write);
	docrep_validate_edit(table, &change);
	docrep_change_finish(table, &change, true);
	docrep_track_bookkeeping(info, cols, &change, td->tg_trigslot);
	docrep_change_write_companions(table, &change);
	docrep_table_close(table, NoLock);
}

HeapTuple
docrep_track_update(TriggerData *td, const DocTableInfo *info)
{
	TupleTableSlot *slot = td->tg_newslot;
	TupleDesc	desc = RelationGetDescr(td->tg_relation);
	char	   *old_id = docrep_track_id(info, td->tg_trigslot);
	NewColumns	cols;
	DocChange  *change = docrep_batch_find(info->relid, CHANGE_UPDATE, old_id, strlen(old_id));

	docrep_track_columns(&cols, desc->natts);
	docrep_validation_note(info->relid, old_id);
	if (change)
	{
		docrep_track_check_old(change, td->tg_trigtuple);
		if (!same_column(desc, info->a_id, td->tg_trigslot, slot))
			docrep_track_id_changed(slot_attisnull(slot, info->a_id) ? "" : docrep_track_id(info, slot));
		docrep_track_arrive(td->tg_relation, info, change, slot);
		docrep_track_bookkeeping(info, &cols, change, td->tg_trigslot);
		return heap_modify_tuple(td->tg_newtuple, desc, cols.values, cols.nulls, cols.replaces);
	}

	{
		DocWrite	write;
		bool		id_changed;
		bool		doc_changed;

		docrep_track_read(info, slot, &write, &id_changed, &doc_changed);
		check_update_columns(td, info, &write);
		docrep_validation_note(info->relid, write.id);
		write.keep_atts = !write.has_atts;
		if (write.keep_atts)
			docrep_track_check_brought(info, old_id);
		if (strcmp(old_id, write.id) == 0)
			update_same_id(td, info, &write, &cols);
		else
			update_id(td, info, old_id, &write, &cols);
		if (id_changed)
			docrep_track_set(&cols, info->a_id, CStringGetTextDatum(write.id), false);
		if (doc_changed && !cols.replaces[info->a_doc - 1])
			docrep_track_set(&cols, info->a_doc, JsonbPGetDatum(write.body), false);
	}
	return heap_modify_tuple(td->tg_newtuple, desc, cols.values, cols.nulls, cols.replaces);
}
