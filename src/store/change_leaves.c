/*-------------------------------------------------------------------------
 *
 * change_leaves.c
 *		The leaves of a document that is changed: where their bodies are, and which rows
 *		of losing ones come and go.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "store/change_internal.h"
#include "store/companion.h"
#include "store/document.h"
#include "store/policy.h"
#include "store/resolution.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

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
	if (!node->deleted || !docrep_change_body_is_empty(leaf.doc) || leaf.atts ||
		leaf.modified > change->modified)
		change->leaf_inserts = lappend(change->leaf_inserts,
									   make_leaf_row(node, &leaf, merged));
}

void
docrep_change_plan_leaves(DocTable *table, DocChange *change)
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
		!(change->edit && change->old_unmerged > 1 && !change->old_marked);
}

void
docrep_change_plan_mark(DocTable *table, DocChange *change, const LeafState *winner)
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
		}
		/* the winner has one if it was known: a deletion made again after its history was cut off */
		(void) docrep_leaf_delete(table, id, &node->rev);
		docrep_atts_from_column(atts, &writes[i].atts);
		writes[i].own_atts = true;
	}
	CommandCounterIncrement();
	return writes;
}
