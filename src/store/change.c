/*-------------------------------------------------------------------------
 *
 * change.c
 *		What is to happen to one document.
 *
 * Every write path ends here: plain DML through the triggers, put and
 * bulk_docs, replication.  A change begins with the stored row, takes one or
 * more writes, and ends (change_finish.c) with the rows that have to be
 * written.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "executor/tuptable.h"
#include "store/change_atts.h"
#include "store/change_internal.h"
#include "store/companion.h"
#include "store/document.h"
#include "store/errcodes.h"
#include "store/revisions.h"
#include "store/validation.h"
#include "utils/jsonb.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

Rev
docrep_rev_copy(const Rev *rev)
{
	Rev			result = *rev;
	uint8	   *bytes = palloc(Max(rev->len, 1));

	memcpy(bytes, rev->bytes, rev->len);
	result.bytes = bytes;
	return result;
}

void
docrep_change_begin(DocTable *table, DocChange *change, const char *id,
					bool in_dead, TupleTableSlot *slot, bool copy)
{
	DocState	state;
	int32	   *leaves;

	memset(change, 0, sizeof(*change));
	change->id = id;
	if (slot == NULL)
	{
		change->tree = docrep_revtree_new(2);
		change->tree->revs_limit = table->info.revs_limit;
		return;
	}
	docrep_state_from_slot(table, in_dead, slot, 0, &state);
	change->exists = true;
	change->was_live = state.live;
	change->tid = state.tid;
	change->old_tuple = copy ? ExecCopySlotHeapTuple(slot) :
		ExecFetchSlotHeapTuple(slot, true, NULL);
	change->tree = state.tree;
	change->tree->revs_limit = table->info.revs_limit;
	change->old_winner = state.tree->nodes[state.winner].rev;
	change->old_modified = state.modified;
	change->old_seq = state.seq;
	change->nold_leaves = docrep_revtree_leaves(state.tree, &leaves);
	change->old_leaves = palloc(Max(change->nold_leaves, 1) * sizeof(Rev));
	for (int i = 0; i < change->nold_leaves; i++)
	{
		change->old_leaves[i] = state.tree->nodes[leaves[i]].rev;
		change->nold_live += state.tree->nodes[leaves[i]].deleted ? 0 : 1;
	}
	pfree(leaves);
	if (change->nold_live > 1)
	{
		CommandCounterIncrement();
		change->old_marked = docrep_leaf_find(table, GetLatestSnapshot(), id,
											  &change->old_winner) != NULL;
	}
}

/* A column of the stored row: by the document table's number, or dead's. */
static Datum
old_attribute(DocTable *table, DocChange *change, AttrNumber live_attno,
			  AttrNumber dead_attno, bool *isnull)
{
	if (change->was_live)
		return heap_getattr(change->old_tuple, live_attno, RelationGetDescr(table->rel), isnull);
	return heap_getattr(change->old_tuple, dead_attno,
						RelationGetDescr(docrep_dead_rel(table)), isnull);
}

bytea *
docrep_change_old_trunk(DocTable *table, DocChange *change)
{
	bool		isnull;
	Datum		d;

	if (!change->exists)
		return NULL;
	d = old_attribute(table, change, table->info.a_trunk, Anum_dead_trunk, &isnull);
	return isnull ? NULL : DatumGetByteaP(d);
}

void
docrep_change_load_trunk(DocTable *table, DocChange *change)
{
	bytea	   *trunk;

	if (change->tree->trunk_loaded)
		return;
	trunk = docrep_change_old_trunk(table, change);
	if (trunk == NULL ||
		!docrep_revtree_load_trunk(change->tree, (uint8 *) VARDATA_ANY(trunk),
								   VARSIZE_ANY_EXHDR(trunk)))
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("the older part of the revision tree of document \"%s\" is malformed",
						change->id)));
}

void
docrep_change_add(DocChange *change, DocWrite *write, const DocAtts *atts)
{
	if (atts->n > 0 && change->write_atts == NULL)
		change->write_atts = palloc0((change->nwrites + 1) * sizeof(DocAtts));
	else if (change->write_atts)
		change->write_atts = repalloc(change->write_atts,
									  (change->nwrites + 1) * sizeof(DocAtts));
	if (change->write_atts)
		change->write_atts[change->nwrites] = *atts;
	if (change->writes == NULL)
		change->writes = palloc(sizeof(DocWrite *));
	else
		change->writes = repalloc(change->writes, (change->nwrites + 1) * sizeof(DocWrite *));
	change->writes[change->nwrites++] = write;
}

/*
 * The revision is there, with another parent than it now comes with.  A
 * companion holds one row of it, so its first history stands.
 */
static bool
contradicts(const RevTree *tree, const RevPath *path)
{
	int32		node = docrep_revtree_find(tree, &path->revs[0]);
	int32		parent;

	if (node < 0 || path->n < 2)
		return false;
	parent = tree->nodes[node].parent;
	return parent >= 0 && !docrep_rev_eq(&tree->nodes[parent].rev, &path->revs[1]);
}

bool
docrep_change_merge(DocTable *table, DocChange *change, DocWrite *write)
{
	RevMergeResult result;
	DocAtts		atts = {0};

	if (contradicts(change->tree, &write->path))
	{
		write->rev = docrep_rev_copy(&write->path.revs[0]);
		write->known = true;
		return true;
	}
	if (write->atts.n > 0)
	{
		/* what is known needs no contents, and a refusal must leave the tree alone */
		docrep_change_load_trunk(table, change);
		if (docrep_revtree_find(change->tree, &write->path.revs[0]) < 0 &&
			!docrep_change_merge_atts(table, change, write, &atts))
			return false;
	}
	result = docrep_revtree_merge(change->tree, &write->path, write->deleted);
	if (result == REVMERGE_NEED_TRUNK)
	{
		docrep_change_load_trunk(table, change);
		result = docrep_revtree_merge(change->tree, &write->path, write->deleted);
	}
	write->rev = docrep_rev_copy(&write->path.revs[0]);
	write->known = result == REVMERGE_KNOWN;
	if (!write->known)
		docrep_change_add(change, write, &atts);
	return true;
}

static bool
conflict(DocWrite *write)
{
	write->sqlstate = ERRCODE_DOCREP_CONFLICT;
	write->reason = "Document update conflict.";
	return false;
}

/*
 * The node that an edit goes on from: index, or -1 for one that is not there.
 * False: a conflict.  CouchDB's rules: any leaf may be edited, deleted ones too; a
 * _rev for an unknown id counts as its history; without a _rev a document
 * whose winner is deleted is created again on top of it.
 */
static bool
find_base(DocChange *change, DocWrite *write, int32 *base)
{
	RevTree    *tree = change->tree;

	*base = -1;
	if (write->path.n == 0)
	{
		int32		winner = docrep_revtree_winner(tree);

		if (winner >= 0 && (!tree->nodes[winner].deleted || write->deleted))
			return false;
		*base = winner;
		return true;
	}
	if (tree->n == 0)
		return true;
	*base = docrep_revtree_find(tree, &write->path.revs[0]);
	return *base >= 0 && tree->nodes[*base].nchildren == 0;
}

/* The array of a marker, or NULL. */
static JsonbContainer *
conflicts_of(Jsonb *doc, JsonbValue *space)
{
	JsonbValue *value = doc && JB_ROOT_IS_OBJECT(doc) ?
		getKeyJsonValueFromContainer(&doc->root, "Conflicts", strlen("Conflicts"), space) : NULL;

	return value && value->type == jbvBinary ? value->val.binary.data : NULL;
}

/*
 * Has the body been made of the marker that the row shows, as by doc || '{...}' or a trigger
 * that stamps documents?  Stored, it would end the conflict with what is nobody's version.
 */
static bool
is_made_of_marker(DocTable *table, DocChange *change, const DocWrite *write)
{
	JsonbValue	spaces[2];
	JsonbContainer *row;
	JsonbContainer *body;

	if (!change->old_marked || change->keep_conflict || write->deleted)
		return false;
	body = conflicts_of(write->body, &spaces[0]);
	row = body ? conflicts_of(docrep_change_row_doc(table, change), &spaces[1]) : NULL;
	return row && compareJsonbContainers(body, row) == 0;
}

bool
docrep_change_edit(DocTable *table, DocChange *change, DocWrite *write)
{
	RevTree    *tree = change->tree;
	uint8	   *hash = palloc(REV_HASH_LEN);
	const Rev  *parent = NULL;
	Rev			base_rev;
	int32		base;
	uint32		gen;
	DocAtts		atts;

	write->of_marker = false;
	if (!find_base(change, write, &base))
		return conflict(write);
	write->of_marker = is_made_of_marker(table, change, write);
	if (write->of_marker)
	{
		write->sqlstate = ERRCODE_DOCREP_CONFLICT;
		write->reason = "the document is in conflict, and the new body is made of the marker that its row shows";
		return false;
	}
	if (base >= 0)
	{
		base_rev = tree->nodes[base].rev;
		parent = &base_rev;
	}
	else if (write->path.n > 0)
		parent = &write->path.revs[0];	/* an unknown document's */
	if (parent && parent->gen >= REV_MAX_GENERATION)
		return conflict(write);
	gen = parent ? parent->gen + 1 : 1;
	if (!docrep_change_edit_atts(table, change, write, base >= 0 ? parent : NULL, gen, &atts))
		return false;
	if (base < 0 && parent)
		base = docrep_revtree_add(tree, -1, parent, false);
	docrep_revision_hash(parent, write->deleted, write->body, &atts, hash);
	write->rev.gen = gen;
	write->rev.len = REV_HASH_LEN;
	write->rev.hex = true;
	write->rev.bytes = hash;
	docrep_revtree_add(tree, base, &write->rev, write->deleted);
	docrep_change_add(change, write, &atts);
	change->nadded += write->closing ? 1 : 0;
	change->edit = true;
	return true;
}

/* ---------- the stored row ---------- */

Jsonb *
docrep_change_row_doc(DocTable *table, DocChange *change)
{
	bool		isnull;
	Datum		d = old_attribute(table, change, table->info.a_doc, Anum_dead_doc, &isnull);

	return isnull ? NULL : DatumGetJsonbPCopy(d);
}

Jsonb *
docrep_change_old_doc(DocTable *table, DocChange *change)
{
	LeafState	leaf;

	if (!change->old_marked)
		return docrep_change_row_doc(table, change);
	CommandCounterIncrement();
	if (!docrep_leaf_state(table, GetLatestSnapshot(), change->id, &change->old_winner, &leaf))
		docrep_leaf_missing(change->id, &change->old_winner);
	return leaf.doc;
}

Jsonb *
docrep_change_old_atts(DocTable *table, DocChange *change)
{
	bool		isnull;
	Datum		d = old_attribute(table, change, table->info.a_attachments, Anum_dead_attachments,
								  &isnull);

	return isnull ? NULL : DatumGetJsonbPCopy(d);
}

const pg_uuid_t *
docrep_change_old_origin(DocTable *table, DocChange *change)
{
	bool		isnull;
	Datum		d = old_attribute(table, change, table->info.a_origin, Anum_dead_origin, &isnull);

	return docrep_uuid_copy(d, isnull);
}
