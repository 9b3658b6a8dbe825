/*-------------------------------------------------------------------------
 *
 * track.c
 *		The triggers of a document table: plain DML keeps revisions.
 *
 * The BEFORE ROW trigger fills in the bookkeeping columns, for a user's
 * statement from the change that it makes, for a batch's from the batch.  It
 * must be the last BEFORE ROW trigger, so that nobody changes the row after
 * it.  An INSERT has no side effects there, since ON CONFLICT may throw the
 * row away; what an INSERT or DELETE leaves to be settled with the tombstones
 * is done in AFTER triggers (settle.c), which are queued only when needed.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/pg_trigger.h"
#include "commands/trigger.h"
#include "common/hashfn.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "store/batch_rows.h"
#include "store/change.h"
#include "store/companion.h"
#include "store/document.h"
#include "store/errcodes.h"
#include "store/preload.h"
#include "store/rev_type.h"
#include "store/seqs.h"
#include "store/validation.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

/* The columns of a new row that the trigger sets, by number in the table. */
typedef struct NewColumns
{
	Datum	   *values;
	bool	   *nulls;
	bool	   *replaces;
} NewColumns;

static void
set_column(NewColumns *cols, AttrNumber attno, Datum value, bool isnull)
{
	cols->values[attno - 1] = value;
	cols->nulls[attno - 1] = isnull;
	cols->replaces[attno - 1] = true;
}

static void
make_columns(NewColumns *cols, int natts)
{
	cols->values = palloc0(natts * sizeof(Datum));
	cols->nulls = palloc0(natts * sizeof(bool));
	cols->replaces = palloc0(natts * sizeof(bool));
}

/*
 * A change's bookkeeping into the new row.  A trunk that stays is that of the
 * old row (NULL: none), whatever the new one brings.
 */
static void
set_bookkeeping(const DocTableInfo *info, NewColumns *cols, DocChange *change,
				TupleTableSlot *old)
{
	Datum		trunk = (Datum) 0;
	bool		isnull = true;

	set_column(cols, info->a_rev, change->rev_datum, false);
	set_column(cols, info->a_seq, Int64GetDatum(change->seq), false);
	set_column(cols, info->a_modified, TimestampTzGetDatum(change->modified), false);
	set_column(cols, info->a_tree, change->tree_datum, change->tree_null);
	if (change->trunk_changed)
	{
		trunk = change->trunk_datum;
		isnull = change->trunk_null;
	}
	else if (old)
		trunk = slot_getattr(old, info->a_trunk, &isnull);
	set_column(cols, info->a_trunk, trunk, isnull);
	set_column(cols, info->a_attachments, JsonbPGetDatum(change->atts), change->atts == NULL);
	set_column(cols, info->a_origin, UUIDPGetDatum(change->origin), change->origin == NULL);
	/* a row that showed a conflict may show it no longer, as the policy is another */
	if (change->marked || change->keep_conflict)
		set_column(cols, info->a_doc, change->doc ? JsonbPGetDatum(change->doc) :
				   DirectFunctionCall1(jsonb_in, CStringGetDatum("{}")), false);
}

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

static void
forged(Relation rel, const char *column)
{
	ereport(ERROR,
			(errcode(ERRCODE_DOCREP_BAD_REQUEST),
			 errmsg("column \"%s\" of document table \"%s\" cannot be written",
					column, RelationGetRelationName(rel)),
			 errhint("docrep keeps it; leave it out of the statement.")));
}

static void
update_conflict(const char *id)
{
	ereport(ERROR,
			(errcode(ERRCODE_DOCREP_CONFLICT),
			 errmsg("Document update conflict."),
			 errdetail("The _rev given for document \"%s\" is not its current revision.", id)));
}

/*
 * Read id and doc of a new row.  Members that begin with "_" are taken out of
 * the body: *doc_changed.  write->path is the _rev given in the body.
 */
static void
read_document(const DocTableInfo *info, TupleTableSlot *slot, DocWrite *write, bool *id_changed,
			  bool *doc_changed)
{
	bool		isnull;
	Datum		id = slot_getattr(slot, info->a_id, &isnull);
	char	   *column_id = isnull ? NULL : TextDatumGetCString(id);
	Datum		doc = slot_getattr(slot, info->a_doc, &isnull);
	Jsonb	   *given;

	if (isnull)
		ereport(ERROR,
				(errcode(ERRCODE_NOT_NULL_VIOLATION),
				 errmsg("column \"doc\" of a document table cannot be NULL")));
	given = DatumGetJsonbP(doc);
	memset(write, 0, sizeof(*write));
	docrep_document_parse(given, true, write);
	*doc_changed = write->body != given;
	*id_changed = column_id == NULL;
	if (write->deleted)
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_BAD_REQUEST),
				 errmsg("_deleted cannot be set in a row of a document table"),
				 errhint("Use DELETE, or docrep.put().")));
	if (column_id && write->id && strcmp(column_id, write->id) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_BAD_REQUEST),
				 errmsg("column _id is \"%s\" but the document's _id is \"%s\"",
						column_id, write->id)));
	if (column_id)
	{
		const char *problem = docrep_id_problem(column_id, strlen(column_id));

		if (problem)
			ereport(ERROR,
					(errcode(ERRCODE_DOCREP_BAD_REQUEST),
					 errmsg("bad _id: %s", problem)));
		write->id = column_id;
	}
	else if (write->id == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_BAD_REQUEST),
				 errmsg("a document needs an _id"),
				 errhint("Give it in the column _id or as a member _id of doc; docrep.put() makes one.")));
}

/* ---------- INSERT ---------- */

static void
check_insert_columns(Relation rel, const DocTableInfo *info, TupleTableSlot *slot)
{
	const AttrNumber attnos[] = {info->a_seq, info->a_modified, info->a_tree, info->a_trunk,
	info->a_attachments, info->a_origin};

	/* native logical replication brings the publisher's: they are not ours */
	if (SessionReplicationRole == SESSION_REPLICATION_ROLE_REPLICA)
		return;
	for (size_t i = 0; i < lengthof(attnos); i++)
	{
		if (!slot_attisnull(slot, attnos[i]))
			forged(rel, get_attname(info->relid, attnos[i], false));
	}
}

/* The _rev given in the column or, failing that, in the body. */
static bool
given_rev(const DocTableInfo *info, TupleTableSlot *slot, DocWrite *write, Rev *rev)
{
	bool		isnull;
	Datum		d = slot_getattr(slot, info->a_rev, &isnull);

	if (!isnull && SessionReplicationRole != SESSION_REPLICATION_ROLE_REPLICA)
	{
		docrep_datum_rev(d, rev);
		return true;
	}
	if (write->path.n == 0)
		return false;
	*rev = write->path.revs[0];
	return true;
}

/* A document without attachments of an id that has no tombstone: nothing to look up, nothing to merge. */
static void
first_revision(const DocTableInfo *info, DocWrite *write, NewColumns *cols)
{
	uint8		hash[REV_HASH_LEN];
	Rev			rev = {.gen = 1, .len = REV_HASH_LEN, .hex = true, .bytes = hash};

	docrep_revision_hash(NULL, false, write->body, NULL, hash);
	set_column(cols, info->a_rev, docrep_rev_datum(&rev), false);
	set_column(cols, info->a_seq, Int64GetDatum(docrep_seq_take(info)), false);
	set_column(cols, info->a_modified, TimestampTzGetDatum(GetCurrentTimestamp()), false);
	set_column(cols, info->a_tree, (Datum) 0, true);
	set_column(cols, info->a_trunk, (Datum) 0, true);
	set_column(cols, info->a_attachments, (Datum) 0, true);
	set_column(cols, info->a_origin, (Datum) 0, true);
}

/* The edit that a row makes; what is wrong with its attachments is raised. */
static void
edit_or_raise(DocTable *table, DocChange *change, DocWrite *write)
{
	if (!docrep_change_edit(table, change, write))
		ereport(ERROR,
				(errcode(write->sqlstate),
				 errmsg("%s", write->reason),
				 write->of_marker ?
				 errhint("docrep.conflicts(...) has the versions of document \"%s\"; docrep.get(...) with conflicts => true has the winner.",
						 write->id) : 0));
}

/*
 * Is the revision the live document's?  Then the INSERT will meet its row: an
 * upsert whose _rev is right.  The row stays locked, so that it stays right.
 */
static bool
is_current(DocTable *table, const char *id, const Rev *rev)
{
	TupleTableSlot *live = docrep_lock_row(table, DOC_IN_REL, id);
	DocState	state;

	if (live == NULL)
		return false;
	docrep_state_from_slot(table, false, live, 0, &state);
	return docrep_rev_eq(rev, &state.tree->nodes[state.winner].rev);
}

/*
 * A document of an id that may have a tombstone, which it then goes on from.
 * The tombstone is locked here although the row may yet be thrown away: who
 * merges into the tombstone takes the same locks in the same order.
 */
static void
over_tombstone(Relation rel, const DocTableInfo *info, DocWrite *write, const Rev *given,
			   NewColumns *cols)
{
	DocTable   *table = docrep_table_attach(rel);
	TupleTableSlot *dead = docrep_lock_row(table, DOC_IN_DEAD, write->id);
	DocChange	change;

	docrep_change_begin(table, &change, write->id, true, dead, true);
	if (given && (dead ? !docrep_rev_eq(given, &change.old_winner) :
				  !is_current(table, write->id, given)))
		update_conflict(write->id);
	if (dead == NULL && write->atts.n == 0)
	{
		docrep_validate_insert(rel, NULL, write, given);
		first_revision(info, write, cols);
	}
	else
	{
		edit_or_raise(table, &change, write);
		docrep_validate_insert(rel, &change, write, given);
		docrep_change_finish(table, &change, true);
		set_bookkeeping(info, cols, &change, NULL);
	}
	docrep_table_close(table, NoLock);
}

static void
insert_columns(TriggerData *td, const DocTableInfo *info, TupleTableSlot *slot,
			   DocWrite *write, NewColumns *cols)
{
	Rev			rev;
	bool		has_rev = given_rev(info, slot, write, &rev);

	docrep_seq_register(info);
	write->path.n = 0;
	if (!has_rev && write->atts.n == 0 && !docrep_dead_maybe_used(info))
	{
		docrep_validate_insert(td->tg_relation, NULL, write, NULL);
		first_revision(info, write, cols);
		return;
	}
	over_tombstone(td->tg_relation, info, write, has_rev ? &rev : NULL, cols);
}

/*
 * The last row that an INSERT of a user's brought attachments with.  If the same
 * command goes on with an update of the same document, it is the DO UPDATE of
 * ON CONFLICT, in which nothing of the row but columns is left.
 */
static struct
{
	Oid			relid;
	TransactionId transaction;
	CommandId	command;
	uint32		id_hash;
}			brought;

static uint32
hash_id(const char *id)
{
	return hash_bytes((const unsigned char *) id, strlen(id));
}

/* Note that an INSERT brings attachments. */
static void
note_brought(const DocTableInfo *info, const char *id)
{
	brought.relid = info->relid;
	brought.transaction = GetTopTransactionId();	/* contents have been written */
	brought.command = GetCurrentCommandId(false);
	brought.id_hash = hash_id(id);
}

/* An UPDATE that brings none, right after such an INSERT, would lose them without a word. */
static void
check_brought(const DocTableInfo *info, const char *id)
{
	if (brought.relid != info->relid || brought.transaction != GetTopTransactionIdIfAny() ||
		brought.command != GetCurrentCommandId(false) || brought.id_hash != hash_id(id))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("ON CONFLICT DO UPDATE cannot bring attachments"),
			 errdetail("Document \"%s\" is there already, and its attachments are no part of what DO UPDATE sets.", id),
			 errhint("Use docrep.put(), or UPDATE with _attachments in doc.")));
}

static void
id_changed_by_trigger(const char *new_id)
{
	ereport(ERROR,
			(errcode(ERRCODE_DOCREP_FORBIDDEN),
			 errmsg("a trigger changed the _id of a document to \"%s\"", new_id),
			 errdetail("The _id belongs to a revision that others know.")));
}

/* A user's trigger has written the row since the batch looked at it: do it over. */
static void
check_old_row(DocChange *change, HeapTuple old)
{
	if (!ItemPointerEquals(&old->t_self, &change->tid))
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("a trigger has written document \"%s\", which the same batch writes",
						change->id)));
}

/* A batch's row; the table is only described when a body has to be looked at again. */
static void
batch_arrive(Relation rel, const DocTableInfo *info, DocChange *change, TupleTableSlot *slot)
{
	DocTable   *table = palloc0(sizeof(DocTable));
	bool		isnull;
	Datum		doc = slot_getattr(slot, info->a_doc, &isnull);

	if (isnull)
		ereport(ERROR,
				(errcode(ERRCODE_NOT_NULL_VIOLATION),
				 errmsg("column \"doc\" of a document table cannot be NULL")));
	table->info = *info;
	table->rel = rel;
	docrep_change_arrive(table, change, doc);
	docrep_table_close(table, NoLock);
}

static HeapTuple
track_insert(TriggerData *td, const DocTableInfo *info)
{
	TupleTableSlot *slot = td->tg_trigslot;
	TupleDesc	desc = RelationGetDescr(td->tg_relation);
	NewColumns	cols;
	bool		isnull;
	text	   *id = (text *) DatumGetPointer(slot_getattr(slot, info->a_id, &isnull));

	make_columns(&cols, desc->natts);
	if (docrep_batch_running(info->relid, CHANGE_INSERT))
	{
		DocChange  *change = isnull ? NULL :
			docrep_batch_find(info->relid, CHANGE_INSERT, VARDATA_ANY(id), VARSIZE_ANY_EXHDR(id));

		if (change == NULL)
			id_changed_by_trigger(isnull ? "" : text_to_cstring(id));
		docrep_validation_note(info->relid, change->id);
		batch_arrive(td->tg_relation, info, change, slot);
		set_bookkeeping(info, &cols, change, NULL);
		return heap_modify_tuple(td->tg_trigtuple, desc, cols.values, cols.nulls, cols.replaces);
	}

	{
		DocWrite	write;
		bool		id_changed;
		bool		doc_changed;

		check_insert_columns(td->tg_relation, info, slot);
		read_document(info, slot, &write, &id_changed, &doc_changed);
		docrep_validation_note(info->relid, write.id);
		insert_columns(td, info, slot, &write, &cols);
		brought.relid = InvalidOid;
		if (write.atts.n > 0)
			note_brought(info, write.id);
		if (id_changed)
			set_column(&cols, info->a_id, CStringGetTextDatum(write.id), false);
		if (doc_changed)
			set_column(&cols, info->a_doc, JsonbPGetDatum(write.body), false);
	}
	return heap_modify_tuple(td->tg_trigtuple, desc, cols.values, cols.nulls, cols.replaces);
}

/* ---------- UPDATE ---------- */

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
			forged(td->tg_relation, get_attname(info->relid, attnos[i], false));
	}
	if (!same_column(desc, info->a_rev, old, new))
		update_conflict(write->id);
	if (write->path.n > 0)
	{
		docrep_datum_rev(slot_getattr(old, info->a_rev, &isnull), &current);
		if (!docrep_rev_eq(&current, &write->path.revs[0]))
			update_conflict(write->id);
	}
}

static char *
row_id(const DocTableInfo *info, TupleTableSlot *slot)
{
	bool		isnull;

	return TextDatumGetCString(slot_getattr(slot, info->a_id, &isnull));
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
	edit_or_raise(table, &change, &tombstone);
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
	over_tombstone(td->tg_relation, info, write, NULL, cols);
}

/* Does an UPDATE of a row that shows a conflict, and not its document, leave doc as it is? */
static bool
leaves_marker(DocTable *table, DocChange *change, const DocWrite *write)
{
	Jsonb	   *row = change->old_marked ? docrep_change_row_doc(table, change) : NULL;

	return row && write->body &&
		compareJsonbContainers(&row->root, &write->body->root) == 0;
}

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
	edit_or_raise(table, &change, write);
	docrep_validate_edit(table, &change);
	docrep_change_finish(table, &change, true);
	set_bookkeeping(info, cols, &change, td->tg_trigslot);
	docrep_change_write_companions(table, &change);
	docrep_table_close(table, NoLock);
}

static HeapTuple
track_update(TriggerData *td, const DocTableInfo *info)
{
	TupleTableSlot *slot = td->tg_newslot;
	TupleDesc	desc = RelationGetDescr(td->tg_relation);
	char	   *old_id = row_id(info, td->tg_trigslot);
	NewColumns	cols;
	DocChange  *change = docrep_batch_find(info->relid, CHANGE_UPDATE, old_id, strlen(old_id));

	make_columns(&cols, desc->natts);
	docrep_validation_note(info->relid, old_id);
	if (change)
	{
		check_old_row(change, td->tg_trigtuple);
		if (!same_column(desc, info->a_id, td->tg_trigslot, slot))
			id_changed_by_trigger(slot_attisnull(slot, info->a_id) ? "" : row_id(info, slot));
		batch_arrive(td->tg_relation, info, change, slot);
		set_bookkeeping(info, &cols, change, td->tg_trigslot);
		return heap_modify_tuple(td->tg_newtuple, desc, cols.values, cols.nulls, cols.replaces);
	}

	{
		DocWrite	write;
		bool		id_changed;
		bool		doc_changed;

		read_document(info, slot, &write, &id_changed, &doc_changed);
		check_update_columns(td, info, &write);
		docrep_validation_note(info->relid, write.id);
		write.keep_atts = !write.has_atts;
		if (write.keep_atts)
			check_brought(info, old_id);
		if (strcmp(old_id, write.id) == 0)
			update_same_id(td, info, &write, &cols);
		else
			update_id(td, info, old_id, &write, &cols);
		if (id_changed)
			set_column(&cols, info->a_id, CStringGetTextDatum(write.id), false);
		if (doc_changed && !cols.replaces[info->a_doc - 1])
			set_column(&cols, info->a_doc, JsonbPGetDatum(write.body), false);
	}
	return heap_modify_tuple(td->tg_newtuple, desc, cols.values, cols.nulls, cols.replaces);
}

/* ---------- DELETE ---------- */

static HeapTuple
track_delete(TriggerData *td, const DocTableInfo *info)
{
	char	   *id = row_id(info, td->tg_trigslot);
	DocTable   *table;
	DocChange	change;
	DocChange  *batched = docrep_batch_find(info->relid, CHANGE_DELETE, id, strlen(id));
	DocWrite	write = {.id = id, .deleted = true};

	docrep_validation_note(info->relid, id);
	if (batched)
	{
		check_old_row(batched, td->tg_trigtuple);
		batched->seen = true;
		return td->tg_trigtuple;
	}
	table = docrep_table_attach(td->tg_relation);
	docrep_change_begin(table, &change, id, false, td->tg_trigslot, true);
	write.path.n = 1;
	write.path.revs = &change.old_winner;
	edit_or_raise(table, &change, &write);
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
		return PointerGetDatum(track_insert(td, info));
	if (TRIGGER_FIRED_BY_UPDATE(td->tg_event))
		return PointerGetDatum(track_update(td, info));
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
