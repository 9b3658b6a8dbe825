/*-------------------------------------------------------------------------
 *
 * change_finish.c
 *		The end of a change: from the tree and the winner to the row that is stored,
 *		and what is done once more when that row has come to the trigger.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "store/change_atts.h"
#include "store/change_internal.h"
#include "store/document.h"
#include "store/errcodes.h"
#include "store/resolution.h"
#include "store/rev_type.h"
#include "store/revisions.h"
#include "store/seqs.h"
#include "store/validation.h"
#include "utils/jsonb.h"

/* Has looking at it again changed nothing that is stored? */
static bool
is_as_stored(DocTable *table, DocChange *change)
{
	Jsonb	   *row;

	if (!change->again || change->nwrites > 0 || change->leaf_inserts != NIL ||
		change->leaf_deletes != NIL || change->marked != change->old_marked)
		return false;
	if (!change->marked)
		return true;
	row = docrep_change_row_doc(table, change);
	return row && compareJsonbContainers(&row->root, &change->doc->root) == 0;
}

/* Has the tree more than the trunk? */
bool
docrep_change_has_branches(const DocChange *change)
{
	const RevTree *tree = change->tree;
	int			nleaves = 0;

	for (int32 i = 0; i < tree->n && nleaves < 2; i++)
		nleaves += tree->nodes[i].nchildren == 0;
	return nleaves > 1 || change->nold_leaves > 1;
}

/* The tree and the trunk as the row has them, into the change. */
static void
pack_tree(DocTable *table, DocChange *change)
{
	bytea	   *trunk = NULL;
	uint8	   *inlined;
	uint8	   *new_trunk;
	size_t		inlined_len;
	size_t		new_trunk_len;
	RevTree    *tree = change->tree;

	change->tree_null = tree->n == 1 && tree->trunk_loaded;
	if (change->tree_null)
	{
		/* a single revision needs no tree: the row's _rev says it all */
		change->trunk_changed = true;
		change->trunk_null = true;
		return;
	}
	if (docrep_revtree_wants_flush(tree) && !tree->trunk_loaded)
		trunk = docrep_change_old_trunk(table, change);
	docrep_revtree_pack(tree, VARHDRSZ,
						trunk ? (uint8 *) VARDATA_ANY(trunk) : NULL,
						trunk ? VARSIZE_ANY_EXHDR(trunk) : 0,
						&inlined, &inlined_len,
						&change->trunk_changed, &new_trunk, &new_trunk_len);
	SET_VARSIZE(inlined, inlined_len + VARHDRSZ);
	change->tree_datum = PointerGetDatum(inlined);
	change->trunk_null = true;
	if (change->trunk_changed && new_trunk_len > 0)
	{
		SET_VARSIZE(new_trunk, new_trunk_len + VARHDRSZ);
		change->trunk_datum = PointerGetDatum(new_trunk);
		change->trunk_null = false;
	}
}

/* The trunk of a tombstone whose row goes: it must be fetched, not pointed to. */
static void
take_trunk_along(DocTable *table, DocChange *change)
{
	bytea	   *trunk;

	if (change->action != CHANGE_INSERT || !change->exists || change->trunk_changed)
		return;
	trunk = docrep_change_old_trunk(table, change);
	change->trunk_changed = true;
	change->trunk_datum = PointerGetDatum(trunk);
	change->trunk_null = trunk == NULL;
}

void
docrep_change_finish(DocTable *table, DocChange *change, bool anything_new)
{
	RevTree    *tree = change->tree;
	LeafState	leaf;
	int32		winner;
	bool		branches;

	change->action = CHANGE_NONE;
	if (!anything_new)
		return;
	if (change->write_atts)
		docrep_change_store_contents(table, &change, 1);
	branches = docrep_change_has_branches(change);
	if (branches)
		docrep_change_resolve(table, change);
	if (table->info.keeps_versions && change->exists)
		change->led_to = docrep_revisions_line(tree, &change->old_winner);
	docrep_revtree_stem(tree, table->info.revs_limit);
	winner = docrep_revtree_winner(tree);
	change->winner = tree->nodes[winner].rev;
	change->now_live = !tree->nodes[winner].deleted;
	docrep_change_leaf(table, change, &change->winner, &leaf);
	change->doc = leaf.doc;
	change->atts = leaf.atts;
	change->modified = leaf.modified;
	change->origin = leaf.origin;
	if (branches)
	{
		docrep_change_plan_leaves(table, change);
		docrep_change_plan_mark(table, change, &leaf);
		if (is_as_stored(table, change))
			return;
	}
	pack_tree(table, change);
	change->rev_datum = docrep_rev_datum(&change->winner);
	/* nothing that others would want to know of */
	change->seq = change->again && change->nwrites == 0 ? change->old_seq :
		docrep_seq_take(&table->info);
	if (change->exists && change->was_live)
		change->action = change->now_live ? CHANGE_UPDATE : CHANGE_DELETE;
	else
		change->action = change->now_live ? CHANGE_INSERT : CHANGE_DEAD;
	take_trunk_along(table, change);
}

/* ---------- rows that arrive at the trigger ---------- */

/*
 * A user's trigger has changed the body of an edit: that is its right, and
 * the revision follows.  The revision's bytes are shared by the tree's node,
 * so that they are replaced in place.
 */
static void
rehash_edit(DocTable *table, DocChange *change, Jsonb *doc)
{
	DocWrite   *write = change->writes[0];
	int32		node = docrep_revtree_find(change->tree, &write->rev);
	int32		parent = change->tree->nodes[node].parent;
	DocWrite	parsed;

	docrep_document_parse(doc, true, &parsed);
	if (parsed.body != doc)
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_BAD_REQUEST),
				 errmsg("a trigger put members that begin with \"_\" into document \"%s\"",
						change->id)));
	/* write->body stays: should the batch be tried again, the trigger meets it again */
	change->doc = doc;
	docrep_revision_hash(parent >= 0 ? &change->tree->nodes[parent].rev : NULL,
						 false, doc, change->write_atts ? &change->write_atts[0] : NULL,
						 (uint8 *) write->rev.bytes);
	change->rev_datum = docrep_rev_datum(&write->rev);
	pack_tree(table, change);
	take_trunk_along(table, change);
}

void
docrep_change_arrive(DocTable *table, DocChange *change, Datum doc)
{
	Jsonb	   *got = DatumGetJsonbP(doc);
	bool		same;

	change->seen = true;
	if (change->doc == NULL)
		same = JB_ROOT_IS_OBJECT(got) && JB_ROOT_COUNT(got) == 0;
	else
		same = (VARSIZE(got) == VARSIZE(change->doc) &&
				memcmp(got, change->doc, VARSIZE(got)) == 0) ||
			compareJsonbContainers(&got->root, &change->doc->root) == 0;
	if (same)
		 /* it is as it was planned */ ;
	else if (change->edit && change->nwrites - change->nadded == 1 && !change->marked &&
			 docrep_rev_eq(&change->writes[0]->rev, &change->winner))
		rehash_edit(table, change, DatumGetJsonbPCopy(doc));
	else
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_FORBIDDEN),
				 errmsg("a trigger changed the body of document \"%s\"", change->id),
				 errdetail("The body belongs to a revision that other servers hold too."),
				 errhint("Let the trigger leave rows alone whose revision comes from elsewhere.")));
	if (change->edit)
		docrep_validate_arrived(table, change);
}
