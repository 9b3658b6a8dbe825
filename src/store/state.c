/*-------------------------------------------------------------------------
 *
 * state.c
 *		What is stored of one document: tree, winner, bodies.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "executor/tuptable.h"
#include "store/companion.h"
#include "store/rev_type.h"
#include "store/state.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

RevTree *
docrep_tree_from_datum(const Rev *rev, Datum tree, bool isnull)
{
	RevTree    *result;
	bytea	   *packed;

	if (isnull)
	{
		result = docrep_revtree_new(2);
		docrep_revtree_add(result, -1, rev, false);
		result->changed = false;	/* this is how it is stored */
		return result;
	}
	packed = DatumGetByteaPCopy(tree);
	result = docrep_revtree_unpack((uint8 *) VARDATA_ANY(packed), VARSIZE_ANY_EXHDR(packed));
	if (result == NULL || result->n == 0)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("a stored revision tree is malformed")));
	return result;
}

static void
load_trunk(DocState *state)
{
	if (state->trunk &&
		!docrep_revtree_load_trunk(state->tree, (uint8 *) VARDATA_ANY(state->trunk),
								   VARSIZE_ANY_EXHDR(state->trunk)))
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("the stored older part of a revision tree is malformed")));
}

void
docrep_state_from_slot(DocTable *table, bool in_dead, TupleTableSlot *slot,
					   int flags, DocState *state)
{
	const DocTableInfo *info = &table->info;
	bool		isnull;
	Datum		d;
	Rev			rev;

	state->live = !in_dead;
	state->tid = slot->tts_tid;
	state->seq = DatumGetInt64(slot_getattr(slot, in_dead ? Anum_dead_seq : info->a_seq, &isnull));
	state->modified = DatumGetTimestampTz(slot_getattr(slot, in_dead ? Anum_dead_modified :
													   info->a_modified, &isnull));
	d = slot_getattr(slot, in_dead ? Anum_dead_rev : info->a_rev, &isnull);
	if (isnull)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("a row of document table \"%s\" has no _rev",
						RelationGetRelationName(table->rel)),
				 errdetail("It was written while docrep's triggers were disabled."),
				 errhint("Delete the row while they are, and write the document again.")));
	docrep_datum_rev(PointerGetDatum(DatumGetByteaPCopy(d)), &rev);
	d = slot_getattr(slot, in_dead ? Anum_dead_tree : info->a_tree, &isnull);
	state->tree = docrep_tree_from_datum(&rev, d, isnull);
	if (isnull && in_dead)
		state->tree->nodes[0].deleted = true;

	state->trunk = NULL;
	state->doc = NULL;
	state->atts = NULL;
	state->origin = NULL;
	state->marked = false;
	if (!state->tree->trunk_loaded)
	{
		d = slot_getattr(slot, in_dead ? Anum_dead_trunk : info->a_trunk, &isnull);
		if (isnull)
			ereport(ERROR,
					(errcode(ERRCODE_DATA_CORRUPTED),
					 errmsg("the older part of a revision tree is missing")));
		if (flags & DOCSTATE_TRUNK)
		{
			state->trunk = DatumGetByteaPCopy(d);
			load_trunk(state);
		}
	}
	state->winner = docrep_revtree_winner(state->tree);
	if (flags & DOCSTATE_BODY)
	{
		d = slot_getattr(slot, in_dead ? Anum_dead_doc : info->a_doc, &isnull);
		if (!isnull)
			state->doc = DatumGetJsonbPCopy(d);
	}
	if (flags & (DOCSTATE_BODY | DOCSTATE_ATTS))
	{
		d = slot_getattr(slot, in_dead ? Anum_dead_attachments : info->a_attachments, &isnull);
		if (!isnull)
			state->atts = DatumGetJsonbPCopy(d);
		d = slot_getattr(slot, in_dead ? Anum_dead_origin : info->a_origin, &isnull);
		state->origin = docrep_uuid_copy(d, isnull);
	}
}

void
docrep_state_unmark(DocTable *table, Snapshot snapshot, const char *id, DocState *state)
{
	LeafState	leaf;

	if (!state->live || docrep_revtree_live_leaves(state->tree) < 2 ||
		!docrep_leaf_state(table, snapshot, id, &state->tree->nodes[state->winner].rev, &leaf))
		return;
	state->doc = leaf.doc;
	state->marked = true;
}

bool
docrep_state_read(DocTable *table, Snapshot snapshot, const char *id,
				  int flags, DocState *state)
{
	TupleTableSlot *slot = docrep_find_row(table, DOC_IN_REL, snapshot, id);
	bool		in_dead = false;

	if (slot == NULL)
	{
		in_dead = true;
		slot = docrep_find_row(table, DOC_IN_DEAD, snapshot, id);
	}
	if (slot == NULL)
		return false;
	docrep_state_from_slot(table, in_dead, slot, flags, state);
	if (flags & DOCSTATE_BODY)
		docrep_state_unmark(table, snapshot, id, state);
	return true;
}

const pg_uuid_t *
docrep_uuid_copy(Datum value, bool isnull)
{
	pg_uuid_t  *copy;

	if (isnull)
		return NULL;
	copy = palloc(sizeof(pg_uuid_t));
	*copy = *DatumGetUUIDP(value);
	return copy;
}

bool
docrep_leaf_state(DocTable *table, Snapshot snapshot, const char *id,
				  const Rev *rev, LeafState *leaf)
{
	TupleTableSlot *slot = docrep_leaf_find(table, snapshot, id, rev);
	bool		isnull;
	Datum		d;

	memset(leaf, 0, sizeof(*leaf));
	if (slot == NULL)
		return false;
	d = slot_getattr(slot, Anum_leaf_doc, &isnull);
	leaf->doc = isnull ? NULL : DatumGetJsonbPCopy(d);
	d = slot_getattr(slot, Anum_leaf_attachments, &isnull);
	leaf->atts = isnull ? NULL : DatumGetJsonbPCopy(d);
	leaf->deleted = DatumGetBool(slot_getattr(slot, Anum_leaf_deleted, &isnull));
	leaf->modified = DatumGetTimestampTz(slot_getattr(slot, Anum_leaf_modified, &isnull));
	d = slot_getattr(slot, Anum_leaf_origin, &isnull);
	leaf->origin = docrep_uuid_copy(d, isnull);
	leaf->merged = DatumGetBool(slot_getattr(slot, Anum_leaf_merged, &isnull));
	return true;
}

bool
docrep_leaf_read(DocTable *table, Snapshot snapshot, const char *id,
				 const Rev *rev, Jsonb **doc, Jsonb **atts, TimestampTz *modified)
{
	LeafState	leaf;

	if (!docrep_leaf_state(table, snapshot, id, rev, &leaf))
		return false;
	*doc = leaf.doc;
	*atts = leaf.atts;
	if (modified)
		*modified = leaf.modified;
	return true;
}

void
docrep_leaf_body(DocTable *table, Snapshot snapshot, const char *id,
				 const RevNode *leaf, Jsonb **doc, Jsonb **atts, TimestampTz *modified)
{
	*doc = NULL;
	*atts = NULL;
	if (!docrep_leaf_read(table, snapshot, id, &leaf->rev, doc, atts, modified) && !leaf->deleted)
		docrep_leaf_missing(id, &leaf->rev);
}

void
docrep_leaf_missing(const char *id, const Rev *rev)
{
	char	   *text = palloc(2 * (Size) rev->len + 16);

	docrep_rev_print(rev, text);
	ereport(ERROR,
			(errcode(ERRCODE_DATA_CORRUPTED),
			 errmsg("the body of revision %s of document \"%s\" is missing", text, id),
			 errhint("SELECT * FROM docrep.check(...) lists what is wrong with a document table; "
					 "docrep.delete(...) and docrep.purge(...) of the revision mend this.")));
}

/* Mark the ids that a query of the role's own finds. */
static void
visible_by_policy(DocTable *table, const char *const *ids, int n, bool *visible)
{
	Datum	   *datums = palloc(n * sizeof(Datum));
	Oid			types[] = {TEXTARRAYOID};
	Datum		values[1];
	char	   *query;

	for (int i = 0; i < n; i++)
		datums[i] = CStringGetTextDatum(ids[i]);
	values[0] = PointerGetDatum(construct_array(datums, n, TEXTOID, -1, false, TYPALIGN_INT));
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	query = psprintf("SELECT u.ord FROM pg_catalog.unnest($1) WITH ORDINALITY u(id, ord)"
					 " WHERE EXISTS (SELECT FROM ONLY %s t"
					 " WHERE t._id OPERATOR(pg_catalog.=) u.id COLLATE pg_catalog.\"C\")",
					 quote_qualified_identifier(get_namespace_name(RelationGetNamespace(table->rel)),
												RelationGetRelationName(table->rel)));
	if (SPI_execute_with_args(query, 1, types, values, NULL, false, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not look through the row security policies");
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		bool		isnull;
		int64		position = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[i],
														   SPI_tuptable->tupdesc, 1, &isnull));

		visible[position - 1] = true;
	}
	SPI_finish();
}

void
docrep_visible_ids(DocTable *table, const char *const *ids, int n, bool *visible)
{
	memset(visible, table->row_security ? 0 : 1, n * sizeof(bool));
	if (table->row_security && n > 0)
		visible_by_policy(table, ids, n, visible);
}
