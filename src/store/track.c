/*-------------------------------------------------------------------------
 *
 * track.c
 *		The triggers of a document table: plain DML keeps revisions.
 *
 * The BEFORE ROW trigger fills in the bookkeeping columns, for a user's
 * statement from the change that it makes, for a batch's from the batch.  It
 * must be the last BEFORE ROW trigger, so that nobody changes the row after
 * it.  What an INSERT and an UPDATE bring is in track_insert.c and
 * track_update.c, how a row is read and filled in is in track_row.c, and what
 * is left to be settled with the tombstones is done in AFTER triggers
 * (settle.c), which are queued only when needed.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_trigger.h"
#include "store/batch_rows.h"
#include "store/companion.h"
#include "store/document.h"
#include "store/preload.h"
#include "store/seqs.h"
#include "store/track_internal.h"
#include "store/validation.h"
#include "utils/rel.h"

/*
 * Nobody may come after us: a trigger that changes or drops the row then
 * would leave a revision that does not fit its body.
 */
static void
check_last(TriggerData *td)
{
	TriggerDesc *desc = td->tg_relation->trigdesc;

	for (int i = desc->numtriggers - 1; i >= 0; i--)
	{
		Trigger    *t = &desc->triggers[i];

		if (t->tgoid == td->tg_trigger->tgoid)
			return;
		if (TRIGGER_FOR_ROW(t->tgtype) && TRIGGER_FOR_BEFORE(t->tgtype) &&
			(t->tgtype & (TRIGGER_TYPE_INSERT | TRIGGER_TYPE_UPDATE | TRIGGER_TYPE_DELETE)) &&
			t->tgenabled != TRIGGER_DISABLED)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("trigger \"%s\" of document table \"%s\" fires after docrep's own",
							t->tgname, RelationGetRelationName(td->tg_relation)),
					 errdetail("Triggers fire in order of their names, and docrep must see the row as it will be stored."),
					 errhint("Give the trigger a name that sorts before \"%s\".", DOCREP_TRACK_TRIGGER)));
	}
}

/* A row goes: its document is deleted.  Returns the row, which says go on. */
static HeapTuple
track_delete(TriggerData *td, const DocTableInfo *info)
{
	char	   *id = docrep_track_id(info, td->tg_trigslot);
	DocTable   *table;
	DocChange	change;
	DocChange  *batched = docrep_batch_find(info->relid, CHANGE_DELETE, id, strlen(id));
	DocWrite	write = {.id = id, .deleted = true};

	docrep_validation_note(info->relid, id);
	if (batched)
	{
		docrep_track_check_old(batched, td->tg_trigtuple);
		batched->seen = true;
		return td->tg_trigtuple;
	}
	table = docrep_table_attach(td->tg_relation);
	docrep_change_begin(table, &change, id, false, td->tg_trigslot, true);
	write.path.n = 1;
	write.path.revs = &change.old_winner;
	docrep_track_edit(table, &change, &write);
	docrep_validate_edit(table, &change);

	/* a live conflict comes to light: settle.c inserts it once the row is gone */
	if (docrep_revtree_live_leaves(change.tree) == 0)
	{
		docrep_change_finish(table, &change, true);
		docrep_change_write_companions(table, &change);
	}
	else
		docrep_seq_register(info);
	docrep_table_close(table, NoLock);
	return td->tg_trigtuple;
}

PG_FUNCTION_INFO_V1(docrep_track_change);

/* BEFORE INSERT OR UPDATE OR DELETE FOR EACH ROW, argument: the table's uuid. */
Datum
docrep_track_change(PG_FUNCTION_ARGS)
{
	TriggerData *td = (TriggerData *) fcinfo->context;
	const DocTableInfo *info;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_BEFORE(td->tg_event) ||
		!TRIGGER_FIRED_FOR_ROW(td->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("docrep.track_change is a BEFORE ROW trigger of document tables")));
	docrep_require_preload();
	info = docrep_table_info(td->tg_relation);
	if (info == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("\"%s\" is not a document table",
						RelationGetRelationName(td->tg_relation)),
				 errhint("Use docrep.create_table().")));
	check_last(td);
	if (TRIGGER_FIRED_BY_INSERT(td->tg_event))
		return PointerGetDatum(docrep_track_insert(td, info));
	if (TRIGGER_FIRED_BY_UPDATE(td->tg_event))
		return PointerGetDatum(docrep_track_update(td, info));
	return PointerGetDatum(track_delete(td, info));
}

PG_FUNCTION_INFO_V1(docrep_refuse_truncate);

/* BEFORE TRUNCATE: a TRUNCATE leaves no tombstones, so nobody would learn of it. */
Datum
docrep_refuse_truncate(PG_FUNCTION_ARGS)
{
	TriggerData *td = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("docrep.refuse_truncate is a trigger of document tables")));
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("document table \"%s\" cannot be truncated",
					RelationGetRelationName(td->tg_relation)),
			 errdetail("TRUNCATE would leave no tombstones, and the documents would come back by replication."),
			 errhint("Use DELETE, or docrep.drop_table() and docrep.create_table().")));
}
