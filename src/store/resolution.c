/*-------------------------------------------------------------------------
 *
 * resolution.c
 *		Conflicts as a change meets them: what the table's policy makes of them.
 *
 * A resolution is computed from the live leaves alone, by rules that give the same on
 * every database, so that several that resolve a conflict at once make the same revisions.
 * The winner (CouchDB's choice) is never closed with a tombstone, unless the document is to
 * be deleted: databases that choose differently can never lose the document by it.
 * See README.md, "Conflicts".
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "commands/async.h"
#include "store/companion.h"
#include "store/document.h"
#include "store/policy.h"
#include "store/resolution.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

/* What a resolution comes to. */
typedef struct Choice
{
	bool		deleted;		/* all versions are closed */
	Jsonb	   *doc;
	DocAtts		atts;
	TimestampTz modified;
	const pg_uuid_t *origin;
} Choice;

/* ---------- comparing ---------- */

static bool
same_version(const LeafState *a, const LeafState *b)
{
	DocAtts		x;
	DocAtts		y;

	if (!docrep_bodies_equal(a->doc, b->doc))
		return false;
	if (a->atts == NULL && b->atts == NULL)
		return true;
	docrep_atts_from_column(a->atts, &x);
	docrep_atts_from_column(b->atts, &y);
	return docrep_atts_equal(&x, &y);
}

/* ---------- adding revisions ---------- */

/* Add a revision that follows a leaf. */
static void
add_revision(DocChange *change, const Rev *parent, DocWrite *write, const DocAtts *atts)
{
	uint8	   *hash = palloc(REV_HASH_LEN);

	docrep_revision_hash(parent, write->deleted, write->body, atts, hash);
	write->id = change->id;
	write->rev.gen = parent->gen + 1;
	write->rev.len = REV_HASH_LEN;
	write->rev.hex = true;
	write->rev.bytes = hash;
	docrep_revtree_add(change->tree, docrep_revtree_find(change->tree, parent), &write->rev,
					   write->deleted);
	docrep_change_add(change, write, atts);
	change->nadded++;
}

void
docrep_change_close_leaf(DocChange *change, const Rev *leaf, TimestampTz modified)
{
	DocWrite   *write = palloc0(sizeof(DocWrite));
	DocAtts		none = {0};

	write->deleted = true;
	write->modified = modified;
	add_revision(change, leaf, write, &none);
}

/* Can a revision follow this one? */
static bool
can_follow(const Rev *rev)
{
	return rev->gen < REV_MAX_GENERATION;
}

/* Somebody has acted, or the conflict ended elsewhere: what was counted is of no interest. */
static void
forget_rounds(DocTable *table, DocChange *change)
{
	if (table->info.conflict_policy == 0 || change->nold_leaves < 2)
		return;
	if (change->edit || change->nold_live > 1)
		docrep_rounds_forget(table, change->id, false);
	else if (change->nwrites > 0)
		docrep_rounds_forget(table, change->id, true);
}

/* ---------- what goes along with an edit ---------- */

/* Index of a revision that is a live leaf, or -1. */
static int32
live_leaf(const RevTree *tree, const Rev *rev)
{
	int32		node = docrep_revtree_find(tree, rev);

	return node >= 0 && tree->nodes[node].nchildren == 0 && !tree->nodes[node].deleted ? node : -1;
}

/*
 * The stored winner has been superseded: leaves that said the same as it go with it; if it
 * was shown as a conflict and is now edited here, all others, too.  *unmerged gets the
 * number of versions that were in conflict before.  What is merged under a policy
 * that merges no more is a conflict like any other.
 */
static void
close_with_winner(DocTable *table, DocChange *change, int *unmerged)
{
	int32		winner = docrep_revtree_find(change->tree, &change->old_winner);
	/* one that is gone was purged, and what said the same is what is left of it */
	bool		superseded = winner >= 0 && change->tree->nodes[winner].nchildren > 0;
	bool		all = superseded && change->edit && change->old_marked && !change->keep_conflict;
	bool		merges = (table->info.conflict_policy & DOCREP_POLICY_IDENTICAL) != 0;

	/*
	 * Only what was in conflict can have had a problem; if there is one now it is written after
	 * this.  docrep_write_again does so for all of its documents.
	 */
	if ((table->info.conflict_policy & ~DOCREP_POLICY_IDENTICAL) != 0 && !change->edit &&
		change->nwrites > 0)
		docrep_rounds_settle(table, &change->id, 1, DT_NOEND);
	*unmerged = 1;
	for (int i = 1; i < change->nold_live; i++)
	{
		const Rev  *rev = &change->old_leaves[i];
		LeafState	leaf;
		bool		merged;

		merged = docrep_leaf_state(table, GetLatestSnapshot(), change->id, rev, &leaf) &&
			leaf.merged;
		if (!merged)
			(*unmerged)++;
		if (superseded && ((merged && merges) || all) && can_follow(rev) &&
			live_leaf(change->tree, rev) >= 0)
			docrep_change_close_leaf(change, rev,
									 change->nwrites > 0 ? change->writes[0]->modified : 0);
	}
}

void
docrep_change_close_deleted(DocTable *table, DocChange *change)
{
	int			unmerged;

	CommandCounterIncrement();
	forget_rounds(table, change);
	close_with_winner(table, change, &unmerged);
	for (int i = change->old_marked ? 0 : 1; i < change->nold_leaves; i++)
	{
		int32		node = docrep_revtree_find(change->tree, &change->old_leaves[i]);

		if (node < 0 || change->tree->nodes[node].nchildren > 0)
			change->leaf_deletes = lappend(change->leaf_deletes, &change->old_leaves[i]);
	}
}

/* ---------- the policy ---------- */

/* The live leaves, winner first, with what they say; merged is set where it is. */
static void
read_versions(DocTable *table, DocChange *change)
{
	bool		identical = (table->info.conflict_policy & DOCREP_POLICY_IDENTICAL) != 0;
	int32	   *leaves;
	int32		n = docrep_revtree_leaves(change->tree, &leaves);

	change->versions = palloc0(Max(n, 1) * sizeof(DocVersion));
	change->nversions = 0;
	for (int32 i = 0; i < n; i++)
	{
		const RevNode *node = &change->tree->nodes[leaves[i]];
		DocVersion *version = &change->versions[change->nversions];

		if (node->deleted)
			break;				/* live ones come first */
		version->rev = node->rev;
		docrep_change_leaf(table, change, &node->rev, &version->leaf);
		version->merged = identical && i > 0 &&
			same_version(&change->versions[0].leaf, &version->leaf);
		change->nversions++;
	}
	pfree(leaves);
}

static int
count_unmerged(const DocChange *change)
{
	int			n = 0;

	for (int i = 0; i < change->nversions; i++)
		n += change->versions[i].merged ? 0 : 1;
	return n;
}

/* The choice is one of the versions. */
static void
choose_version(const DocVersion *version, Choice *choice)
{
	choice->deleted = false;
	choice->doc = version->leaf.doc;
	docrep_atts_from_column(version->leaf.atts, &choice->atts);
	choice->modified = version->leaf.modified;
	choice->origin = version->leaf.origin;
}

/* The version that was written last; of several at once the one that CouchDB puts first. */
static const DocVersion *
latest_version(const DocChange *change)
{
	const DocVersion *latest = &change->versions[0];

	for (int i = 1; i < change->nversions; i++)
	{
		if (change->versions[i].leaf.modified > latest->leaf.modified)
			latest = &change->versions[i];
	}
	return latest;
}

/*
 * What the resolver answered.  A body that one of the versions has is that version, with its
 * attachments, time and origin; another one has the winner's attachments and origin and
 * the time of the latest.
 */
static void
choose_answer(const DocChange *change, Jsonb *body, bool deleted, Choice *choice)
{
	for (int i = 0; i < change->nversions && !deleted; i++)
	{
		if (docrep_bodies_equal(body, change->versions[i].leaf.doc))
		{
			choose_version(&change->versions[i], choice);
			return;
		}
	}
	choose_version(&change->versions[0], choice);
	choice->deleted = deleted;
	choice->doc = body;
	choice->modified = latest_version(change)->leaf.modified;
}

/* Go through the policy's steps; false: none of them has decided. */
static bool
decide(DocTable *table, DocChange *change, Choice *choice)
{
	const ResolverAsk *ask = change->ask;

	if (ask && ask->answer == RESOLVER_ANSWERED)
	{
		choose_answer(change, ask->body, ask->deleted, choice);
		return true;
	}
	if (ask && ask->answer == RESOLVER_FAILED)
	{
		docrep_rounds_problem(table, change->id, ask->error);
		return false;
	}
	if (table->info.conflict_policy & DOCREP_POLICY_LATEST)
	{
		choose_version(latest_version(change), choice);
		return true;
	}
	return false;
}

/*
 * Make the choice the document.  If that is what the winner says, it stays as it is; else
 * a revision that says it follows the winner.  All other live leaves are closed.
 */
static void
apply_choice(DocChange *change, const Choice *choice)
{
	const DocVersion *winner = &change->versions[0];
	DocAtts		winner_atts;

	docrep_atts_from_column(winner->leaf.atts, &winner_atts);
	if (choice->deleted)
		docrep_change_close_leaf(change, &winner->rev, choice->modified);
	else if (!docrep_bodies_equal(choice->doc, winner->leaf.doc) ||
			 !docrep_atts_equal(&choice->atts, &winner_atts))
	{
		DocWrite   *write = palloc0(sizeof(DocWrite));

		write->body = choice->doc;
		write->modified = choice->modified;
		write->origin = choice->origin;
		add_revision(change, &winner->rev, write, &choice->atts);
	}
	for (int i = 1; i < change->nversions; i++)
		docrep_change_close_leaf(change, &change->versions[i].rev, choice->modified);
}

/*
 * Has a conflict of the document been ended before?  Then there is a leaf that is deleted.  A
 * first resolution is not counted, as it has none before it: of most documents there is only one.
 */
static bool
was_resolved_before(const RevTree *tree)
{
	for (int32 i = 0; i < tree->n; i++)
	{
		if (tree->nodes[i].nchildren == 0 && tree->nodes[i].deleted)
			return true;
	}
	return false;
}

/* Let the policy resolve what it can. */
static void
apply_policy(DocTable *table, DocChange *change)
{
	Choice		choice;

	if (!decide(table, change, &choice))
		return;
	if (was_resolved_before(change->tree) && !docrep_rounds_next(table, change->id))
		return;
	apply_choice(change, &choice);
	change->nversions = 0;
	change->unresolved = choice.deleted ? 0 : 1;
}

/* ---------- telling ---------- */

/* Tell who listens that the table has a new conflict; more of a transaction are told once. */
static void
notify_conflict(DocTable *table)
{
	Async_Notify("docrep_conflict",
				 quote_qualified_identifier(get_namespace_name(RelationGetNamespace(table->rel)),
											RelationGetRelationName(table->rel)));
}

Jsonb *
docrep_conflict_marker(const DocVersion *versions, int n)
{
	RawBuilder	marker;
	RawBuilder	revs;

	docrep_raw_init(&revs, false, n);
	for (int i = 0; i < n; i++)
	{
		if (!versions[i].merged)
			docrep_raw_add_rev(&revs, NULL, &versions[i].rev);
	}
	docrep_raw_init(&marker, true, 1);
	docrep_raw_add_built(&marker, "Conflicts", &revs);
	return docrep_raw_finish(&marker);
}

/* ---------- all of it ---------- */

/* Is it a change that the policy resolves, and can a revision follow each of the versions? */
static bool
is_for_policy(const DocChange *change)
{
	if (change->unresolved < 2 || change->edit || (change->nwrites == 0 && !change->again))
		return false;
	for (int i = 0; i < change->nversions; i++)
	{
		if (!can_follow(&change->versions[i].rev))
			return false;
	}
	return true;
}

/* Find out what is in conflict, and close what goes with an edit. */
static void
look_at(DocTable *table, DocChange *change)
{
	int			unmerged = 1;
	int32		live;

	change->looked_at = true;
	if (change->nold_live > 1)
	{
		CommandCounterIncrement();
		close_with_winner(table, change, &unmerged);
	}
	change->old_unmerged = unmerged;
	live = docrep_revtree_live_leaves(change->tree);
	change->unresolved = live;
	if (live < 2 || change->edit)
		forget_rounds(table, change);
	if (live < 2)
		return;
	if (table->info.conflict_policy != 0 || change->again || unmerged < change->nold_live)
	{
		read_versions(table, change);
		change->unresolved = count_unmerged(change);
		change->policy_due = is_for_policy(change);
	}
}

void
docrep_changes_ask(DocTable *table, DocChange **changes, int n)
{
	ResolverAsk *asks;
	int			nasks = 0;

	if ((table->info.conflict_policy & DOCREP_POLICY_FUNCTION) == 0)
		return;
	asks = palloc0(n * sizeof(ResolverAsk));
	for (int i = 0; i < n; i++)
	{
		DocChange  *change = changes[i];

		if (!docrep_change_has_branches(change))
			continue;
		look_at(table, change);
		if (!change->policy_due)
			continue;
		asks[nasks].id = change->id;
		asks[nasks].versions = change->versions;
		asks[nasks].n = change->nversions;
		change->ask = &asks[nasks++];
	}
	docrep_resolver_ask(table, asks, nasks);
}

void
docrep_change_resolve(DocTable *table, DocChange *change)
{
	if (!change->looked_at)
		docrep_changes_ask(table, &change, 1);
	if (!change->looked_at)
		look_at(table, change);
	if (change->policy_due)
		apply_policy(table, change);
	if (change->unresolved > 1 && change->unresolved > change->old_unmerged)
		notify_conflict(table);
}
