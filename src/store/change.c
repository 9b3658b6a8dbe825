/*-------------------------------------------------------------------------
 *
 * change.c
 *		What is to happen to one document.
 *
 * Every write path ends here: plain DML through the triggers, put and
 * bulk_docs, replication.  A change begins with the stored row, takes one or
 * more writes, and ends with the rows that have to be written.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "executor/tuptable.h"
#include "store/change.h"
#include "store/change_atts.h"
#include "store/companion.h"
#include "store/document.h"
#include "store/errcodes.h"
#include "store/policy.h"
#include "store/resolution.h"
#include "store/rev_type.h"
#include "store/revisions.h"
#include "store/seqs.h"
#include "store/validation.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

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

/* The stored trunk, detoasted, or NULL. */
static bytea *
old_trunk(DocTable *table, DocChange *change)
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
	trunk = old_trunk(table, change);
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

/* ---------- bodies ---------- */

static bool
rev_in(const Rev *rev, const Rev *list, int n)
{
	for (int i = 0; i < n; i++)
	{
		if (docrep_rev_eq(rev, &list[i]))
			return true;
	}
	return false;
}

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

/* A losing leaf that is stored; a live one must be. */
static void
find_losing_leaf(DocTable *table, DocChange *change, const Rev *rev, LeafState *leaf)
{
	RevNode    *node = &change->tree->nodes[docrep_revtree_find(change->tree, rev)];

	CommandCounterIncrement();
	if (docrep_leaf_state(table, GetLatestSnapshot(), change->id, rev, leaf))
		return;
	leaf->modified = change->old_modified;
	leaf->deleted = node->deleted;
	if (!node->deleted)
		docrep_leaf_missing(change->id, rev);
}

/* One time for all that comes in with a change. */
static TimestampTz
time_of_change(DocChange *change)
{
	if (change->now == 0)
		change->now = GetCurrentTimestamp();
	return change->now;
}

void
docrep_change_leaf(DocTable *table, DocChange *change, const Rev *rev, LeafState *leaf)
{
	memset(leaf, 0, sizeof(*leaf));
	for (int i = change->nwrites - 1; i >= 0; i--)
	{
		DocWrite   *w = change->writes[i];

		if (docrep_rev_eq(&w->rev, rev))
		{
			leaf->doc = w->body;
			leaf->atts = change->write_atts ? docrep_atts_to_column(&change->write_atts[i]) : NULL;
			leaf->modified = w->modified != 0 ? w->modified : time_of_change(change);
			leaf->origin = w->origin;
			leaf->deleted = w->deleted;
			return;
		}
	}
	if (change->exists && docrep_rev_eq(&change->old_winner, rev))
	{
		leaf->doc = docrep_change_old_doc(table, change);
		leaf->atts = docrep_change_old_atts(table, change);
		leaf->modified = change->old_modified;
		leaf->origin = docrep_change_old_origin(table, change);
		leaf->deleted = !change->was_live;
	}
	else
		find_losing_leaf(table, change, rev, leaf);
}

static bool
body_is_empty(Jsonb *doc)
{
	return doc == NULL || JB_ROOT_COUNT(doc) == 0;
}

/* The row that a losing leaf gets. */
static LeafRow *
make_leaf_row(const RevNode *node, const LeafState *leaf, bool merged)
{
	LeafRow    *row = palloc0(sizeof(LeafRow));

	row->rev = node->rev;
	row->deleted = node->deleted;
	row->doc = leaf->doc;
	row->atts = leaf->atts;
	row->modified = leaf->modified;
	row->origin = leaf->origin;
	row->merged = merged;
	return row;
}

/* What has been found out about a live leaf, or NULL. */
static const DocVersion *
find_version(const DocChange *change, const Rev *rev)
{
	for (int i = 0; i < change->nversions; i++)
	{
		if (docrep_rev_eq(&change->versions[i].rev, rev))
			return &change->versions[i];
	}
	return NULL;
}

/* A losing leaf's row, if it has to be written. */
static void
plan_leaf(DocTable *table, DocChange *change, const RevNode *node)
{
	const DocVersion *version = find_version(change, &node->rev);
	bool		merged = version && version->merged;
	LeafState	leaf;

	if (change->nold_leaves > 1 && rev_in(&node->rev, change->old_leaves + 1,
										  change->nold_leaves - 1))
	{
		if (version == NULL || version->leaf.merged == merged)
			return;
		change->leaf_deletes = lappend(change->leaf_deletes,
									   unconstify(Rev *, &version->rev));
	}
	if (version)
		leaf = version->leaf;
	else
		docrep_change_leaf(table, change, &node->rev, &leaf);
	if (!node->deleted || !body_is_empty(leaf.doc) || leaf.atts ||
		leaf.modified > change->modified)
		change->leaf_inserts = lappend(change->leaf_inserts,
									   make_leaf_row(node, &leaf, merged));
}

/*
 * Which rows of losing leaves come and go.  Every losing leaf that is live
 * has one; a deleted one only if it has a body or attachments, or is younger than
 * the winner, whose time counts for those that have none.
 */
static void
plan_leaves(DocTable *table, DocChange *change)
{
	RevTree    *tree = change->tree;
	int32	   *leaves;
	int32		n = docrep_revtree_leaves(tree, &leaves);
	Rev		   *losers = palloc(Max(n, 1) * sizeof(Rev));

	for (int32 i = 1; i < n; i++)
	{
		losers[i - 1] = tree->nodes[leaves[i]].rev;
		plan_leaf(table, change, &tree->nodes[leaves[i]]);
	}
	for (int i = 1; i < change->nold_leaves; i++)
	{
		if (!rev_in(&change->old_leaves[i], losers, Max(n - 1, 0)))
			change->leaf_deletes = lappend(change->leaf_deletes, &change->old_leaves[i]);
	}
}

/*
 * Is the row to show the conflict that is left?  An edit of a document whose conflict it
 * does not show, as when a constraint refuses the marker, stores what it was given.
 */
static bool
wants_mark(DocTable *table, const DocChange *change)
{
	return change->now_live && change->unresolved > 1 && change->nversions > 1 &&
		(table->info.conflict_policy & DOCREP_POLICY_MARK) != 0 &&
		!(change->edit && change->old_conflict && !change->old_marked);
}

/*
 * A conflict that is left, with policy mark: the row shows it, and the winner's body
 * (without its attachments, which stay with the row) is kept with those of the losing leaves.
 */
static void
plan_mark(DocTable *table, DocChange *change, const LeafState *winner)
{
	bool		same;

	change->marked = wants_mark(table, change);
	same = change->marked && change->old_marked &&
		docrep_rev_eq(&change->winner, &change->old_winner);
	if (change->old_marked && !same)
		change->leaf_deletes = lappend(change->leaf_deletes, &change->old_winner);
	if (!change->marked)
		return;
	if (!same)
	{
		LeafRow    *row = palloc0(sizeof(LeafRow));

		row->rev = change->winner;
		row->doc = winner->doc;
		row->merged = true;
		row->modified = winner->modified;
		row->origin = winner->origin;
		change->leaf_inserts = lappend(change->leaf_inserts, row);
	}
	change->doc = docrep_conflict_marker(change->versions, change->nversions);
}

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

static bool
has_branches(const RevTree *tree)
{
	int			nleaves = 0;

	for (int32 i = 0; i < tree->n && nleaves < 2; i++)
		nleaves += tree->nodes[i].nchildren == 0;
	return nleaves > 1;
}

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
		trunk = old_trunk(table, change);
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
	trunk = old_trunk(table, change);
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
	branches = change->nold_leaves > 1 || has_branches(tree);
	if (branches)
		docrep_change_resolve(table, change);
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
		plan_leaves(table, change);
		plan_mark(table, change, &leaf);
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

/* ---------- companions ---------- */

void
docrep_change_dead_values(DocTable *table, const DocChange *change, Datum *values, bool *nulls)
{
	memset(nulls, 0, Natts_dead * sizeof(bool));
	values[Anum_dead_id - 1] = CStringGetTextDatum(change->id);
	nulls[Anum_dead_doc - 1] = body_is_empty(change->doc);
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
		bytea	   *trunk = old_trunk(table, (DocChange *) change);

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

DocWrite *
docrep_gather_leaves(DocTable *table, const char *id, RevTree *tree, const Rev *winner,
					 Jsonb *winner_doc, Jsonb *winner_atts, TimestampTz modified,
					 const pg_uuid_t *origin, int *n)
{
	int32	   *leaves;
	DocWrite   *writes;

	CommandCounterIncrement();
	*n = docrep_revtree_leaves(tree, &leaves);
	writes = palloc0(Max(*n, 1) * sizeof(DocWrite));
	for (int i = 0; i < *n; i++)
	{
		RevNode    *node = &tree->nodes[leaves[i]];
		Jsonb	   *atts = winner_atts;
		LeafState	leaf;

		writes[i].id = id;
		writes[i].deleted = node->deleted;
		writes[i].path = docrep_revtree_path(tree, leaves[i]);
		writes[i].modified = modified;
		writes[i].origin = origin;
		if (docrep_rev_eq(&node->rev, winner))
			writes[i].body = winner_doc;
		else
		{
			atts = NULL;
			if (docrep_leaf_state(table, GetLatestSnapshot(), id, &node->rev, &leaf))
			{
				writes[i].body = leaf.doc;
				atts = leaf.atts;
				writes[i].modified = leaf.modified;
				writes[i].origin = leaf.origin;
			}
			else if (!node->deleted)
				docrep_leaf_missing(id, &node->rev);
			(void) docrep_leaf_delete(table, id, &node->rev);
		}
		docrep_atts_from_column(atts, &writes[i].atts);
		writes[i].own_atts = true;
	}
	CommandCounterIncrement();
	return writes;
}
