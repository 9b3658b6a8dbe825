/*-------------------------------------------------------------------------
 *
 * track_insert.c
 *		INSERT into a document table.
 *
 * An INSERT has no side effects in the BEFORE trigger, since ON CONFLICT may
 * throw the row away; but it looks at the tombstone, from which the document
 * goes on.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "common/hashfn.h"
#include "executor/executor.h"
#include "store/batch_rows.h"
#include "store/companion.h"
#include "store/document.h"
#include "store/rev_type.h"
#include "store/seqs.h"
#include "store/track_internal.h"
#include "store/validation.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

/* Bookkeeping columns are not for an INSERT to bring. */
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
			docrep_track_forged(rel, get_attname(info->relid, attnos[i], false));
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
	docrep_track_set(cols, info->a_rev, docrep_rev_datum(&rev), false);
	docrep_track_set(cols, info->a_seq, Int64GetDatum(docrep_seq_take(info)), false);
	docrep_track_set(cols, info->a_modified, TimestampTzGetDatum(GetCurrentTimestamp()), false);
	docrep_track_set(cols, info->a_tree, (Datum) 0, true);
	docrep_track_set(cols, info->a_trunk, (Datum) 0, true);
	docrep_track_set(cols, info->a_attachments, (Datum) 0, true);
	docrep_track_set(cols, info->a_origin, (Datum) 0, true);
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

void
docrep_track_over_tombstone(Relation rel, const DocTableInfo *info, DocWrite *write, const Rev *given,
							NewColumns *cols)
{
	DocTable   *table = docrep_table_attach(rel);
	TupleTableSlot *dead = docrep_lock_row(table, DOC_IN_DEAD, write->id);
	DocChange	change;

	docrep_change_begin(table, &change, write->id, true, dead, true);
	if (given && (dead ? !docrep_rev_eq(given, &change.old_winner) :
				  !is_current(table, write->id, given)))
		docrep_track_conflict(write->id);
	if (dead == NULL && write->atts.n == 0)
	{
		docrep_validate_insert(rel, NULL, write, given);
		first_revision(info, write, cols);
	}
	else
	{
		docrep_track_edit(table, &change, write);
		docrep_validate_insert(rel, &change, write, given);
		docrep_change_finish(table, &change, true);
		docrep_track_bookkeeping(info, cols, &change, NULL);
	}
	docrep_table_close(table, NoLock);
}

/* What the trigger sets in the row of a user's INSERT. */
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
	docrep_track_over_tombstone(td->tg_relation, info, write, has_rev ? &rev : NULL, cols);
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

/* The hash by which an id is remembered. */
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

void
docrep_track_check_brought(const DocTableInfo *info, const char *id)
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

HeapTuple
docrep_track_insert(TriggerData *td, const DocTableInfo *info)
{
	TupleTableSlot *slot = td->tg_trigslot;
	TupleDesc	desc = RelationGetDescr(td->tg_relation);
	NewColumns	cols;
	bool		isnull;
	text	   *id = (text *) DatumGetPointer(slot_getattr(slot, info->a_id, &isnull));

	docrep_track_columns(&cols, desc->natts);
	if (docrep_batch_running(info->relid, CHANGE_INSERT))
	{
		DocChange  *change = isnull ? NULL :
			docrep_batch_find(info->relid, CHANGE_INSERT, VARDATA_ANY(id), VARSIZE_ANY_EXHDR(id));

		if (change == NULL)
			docrep_track_id_changed(isnull ? "" : text_to_cstring(id));
		docrep_validation_note(info->relid, change->id);
		docrep_track_arrive(td->tg_relation, info, change, slot);
		docrep_track_bookkeeping(info, &cols, change, NULL);
		return heap_modify_tuple(td->tg_trigtuple, desc, cols.values, cols.nulls, cols.replaces);
	}

	{
		DocWrite	write;
		bool		id_changed;
		bool		doc_changed;

		check_insert_columns(td->tg_relation, info, slot);
		docrep_track_read(info, slot, &write, &id_changed, &doc_changed);
		docrep_validation_note(info->relid, write.id);
		insert_columns(td, info, slot, &write, &cols);
		brought.relid = InvalidOid;
		if (write.atts.n > 0)
			note_brought(info, write.id);
		if (id_changed)
			docrep_track_set(&cols, info->a_id, CStringGetTextDatum(write.id), false);
		if (doc_changed)
			docrep_track_set(&cols, info->a_doc, JsonbPGetDatum(write.body), false);
	}
	return heap_modify_tuple(td->tg_trigtuple, desc, cols.values, cols.nulls, cols.replaces);
}
