/*-------------------------------------------------------------------------
 *
 * track_row.c
 *		The rows of plain DML: what a new one brings, what the trigger sets in it,
 *		and what is refused.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "executor/executor.h"
#include "store/document.h"
#include "store/errcodes.h"
#include "store/json_text.h"
#include "store/track_internal.h"
#include "store/validation.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

void
docrep_track_set(NewColumns *cols, AttrNumber attno, Datum value, bool isnull)
{
	cols->values[attno - 1] = value;
	cols->nulls[attno - 1] = isnull;
	cols->replaces[attno - 1] = true;
}

void
docrep_track_columns(NewColumns *cols, int natts)
{
	cols->values = palloc0(natts * sizeof(Datum));
	cols->nulls = palloc0(natts * sizeof(bool));
	cols->replaces = palloc0(natts * sizeof(bool));
}

void
docrep_track_bookkeeping(const DocTableInfo *info, NewColumns *cols, DocChange *change,
						 TupleTableSlot *old)
{
	Datum		trunk = (Datum) 0;
	bool		isnull = true;

	docrep_track_set(cols, info->a_rev, change->rev_datum, false);
	docrep_track_set(cols, info->a_seq, Int64GetDatum(change->seq), false);
	docrep_track_set(cols, info->a_modified, TimestampTzGetDatum(change->modified), false);
	docrep_track_set(cols, info->a_tree, change->tree_datum, change->tree_null);
	if (change->trunk_changed)
	{
		trunk = change->trunk_datum;
		isnull = change->trunk_null;
	}
	else if (old)
		trunk = slot_getattr(old, info->a_trunk, &isnull);
	docrep_track_set(cols, info->a_trunk, trunk, isnull);
	docrep_track_set(cols, info->a_attachments, JsonbPGetDatum(change->atts), change->atts == NULL);
	docrep_track_set(cols, info->a_origin, UUIDPGetDatum(change->origin), change->origin == NULL);
	/* a row that showed a conflict may show it no longer, as the policy is another */
	if (change->marked || change->keep_conflict)
		docrep_track_set(cols, info->a_doc, change->doc ? JsonbPGetDatum(change->doc) :
						 JsonbPGetDatum(docrep_json_parse("{}")), false);
}

void
docrep_track_forged(Relation rel, const char *column)
{
	ereport(ERROR,
			(errcode(ERRCODE_DOCREP_BAD_REQUEST),
			 errmsg("column \"%s\" of document table \"%s\" cannot be written",
					column, RelationGetRelationName(rel)),
			 errhint("docrep keeps it; leave it out of the statement.")));
}

void
docrep_track_conflict(const char *id)
{
	ereport(ERROR,
			(errcode(ERRCODE_DOCREP_CONFLICT),
			 errmsg("Document update conflict."),
			 errdetail("The _rev given for document \"%s\" is not its current revision.", id)));
}

void
docrep_track_read(const DocTableInfo *info, TupleTableSlot *slot, DocWrite *write, bool *id_changed,
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

void
docrep_track_edit(DocTable *table, DocChange *change, DocWrite *write)
{
	if (!docrep_change_edit(table, change, write))
		ereport(ERROR,
				(errcode(write->sqlstate),
				 errmsg("%s", write->reason),
				 write->of_marker ?
				 errhint("docrep.conflicts(...) has the versions of document \"%s\"; docrep.get(...) with conflicts => true has the winner.",
						 write->id) : 0));
}

void
docrep_track_id_changed(const char *new_id)
{
	ereport(ERROR,
			(errcode(ERRCODE_DOCREP_FORBIDDEN),
			 errmsg("a trigger changed the _id of a document to \"%s\"", new_id),
			 errdetail("The _id belongs to a revision that others know.")));
}

void
docrep_track_check_old(DocChange *change, HeapTuple old)
{
	if (!ItemPointerEquals(&old->t_self, &change->tid))
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("a trigger has written document \"%s\", which the same batch writes",
						change->id)));
}

void
docrep_track_arrive(Relation rel, const DocTableInfo *info, DocChange *change, TupleTableSlot *slot)
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

char *
docrep_track_id(const DocTableInfo *info, TupleTableSlot *slot)
{
	bool		isnull;

	return TextDatumGetCString(slot_getattr(slot, info->a_id, &isnull));
}
