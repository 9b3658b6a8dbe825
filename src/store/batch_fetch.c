/*-------------------------------------------------------------------------
 *
 * batch_fetch.c
 *		Replication: the revisions that a target misses.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "store/batch_internal.h"
#include "store/origins.h"
#include "store/revisions.h"
#include "utils/snapmgr.h"

/* Does node descend from ancestor? */
static bool
descends(const RevTree *tree, int32 node, int32 ancestor)
{
	while (node > ancestor)
		node = tree->nodes[node].parent;
	return node == ancestor;
}

/* Add a leaf, unless it cannot travel or (rule, if not NULL) is kept back. */
static void
add_doc(DocTable *table, const KeepBack *rule, const char *id, DocState *state, int32 node,
		bool late, DocrepDocs *out)
{
	DocrepDoc  *doc = docrep_docs_add(out);

	if (docrep_batch_fill_doc(table, GetActiveSnapshot(), id, state, node, late,
							  doc) &&
		(rule == NULL || docrep_keep_back_reason(rule, id, &doc->path.revs[0], doc->deleted,
												 doc->body) == NULL))
		out->bytes += docrep_doc_size(doc);
	else
		out->n--;
}

/* A revision that has been replaced, if it is kept, unless rule keeps it back. */
static void
add_former_doc(DocTable *table, const KeepBack *rule, const char *id, DocState *state,
			   const Rev *rev, DocrepDocs *out)
{
	KeptVersion version;
	DocrepDoc  *doc;

	if (!docrep_revision_find(table, GetActiveSnapshot(), id, rev, &version))
		return;
	if (rule != NULL &&
		docrep_keep_back_reason(rule, id, &version.rev, version.deleted, version.doc) != NULL)
		return;
	doc = docrep_docs_add(out);
	doc->id = unconstify(char *, id);
	doc->path = docrep_revision_path(table, GetActiveSnapshot(), id, state->tree, rev);
	doc->deleted = version.deleted;
	doc->modified = version.modified;
	doc->body = version.doc;
	doc->has_origin = true;
	doc->origin = version.has_origin ? version.origin : *docrep_table_node(table);
	docrep_doc_fill_atts(table, GetActiveSnapshot(), version.atts, doc);
	out->bytes += docrep_doc_size(doc);
}

/*
 * One wanted revision: itself if it is a leaf, or the leaves that it has become; or, if it is
 * not the latest that is wanted (by a reader who comes late), itself as it is kept.
 */
static void
fetch_rev(DocTable *table, const KeepBack *rule, const char *id, DocState *state, const Rev *rev,
		  bool latest, DocrepDocs *out)
{
	int32		node = docrep_revtree_find(state->tree, rev);
	int32	   *leaves;
	int32		n;

	if (node >= 0 && state->tree->nodes[node].nchildren == 0)
	{
		add_doc(table, rule, id, state, node, !latest, out);
		return;
	}
	if (!latest)
	{
		add_former_doc(table, rule, id, state, rev, out);
		return;
	}
	if (node < 0)
		return;
	n = docrep_revtree_leaves(state->tree, &leaves);
	for (int32 i = 0; i < n; i++)
	{
		if (descends(state->tree, leaves[i], node))
			add_doc(table, rule, id, state, leaves[i], !latest, out);
	}
}

/* Do the policies let the current role see the document? */
static bool
row_visible(DocTable *table, const char *id)
{
	bool		visible;

	if (!table->row_security)
		return true;
	docrep_visible_ids(table, &id, 1, &visible);
	return visible;
}

bool
docrep_batch_fetch(DocTable *table, const DocrepChanges *changes, bool latest,
				   int *row, int *rev, Size max_bytes, DocrepDocs *out)
{
	MemoryContext old = MemoryContextSwitchTo(out->cxt);
	const KeepBack *rule = docrep_keep_back_rule(table);

	for (; *row < changes->n; (*row)++, *rev = 0)
	{
		const DocrepChange *change = &changes->rows[*row];
		DocState	state;
		bool		read = false;
		bool		exists = false;

		CHECK_FOR_INTERRUPTS();
		for (; *rev < change->nrevs; (*rev)++)
		{
			if (change->missing && !change->missing[*rev])
				continue;
			if (out->bytes >= max_bytes)
			{
				MemoryContextSwitchTo(old);
				return true;
			}
			if (!read)
			{
				exists = row_visible(table, change->id) &&
					docrep_state_read(table, GetActiveSnapshot(), change->id,
									  DOCSTATE_BODY | DOCSTATE_TRUNK, &state);
				read = true;
			}
			if (exists)
				fetch_rev(table, rule, change->id, &state, &change->revs[*rev], latest, out);
		}
	}
	MemoryContextSwitchTo(old);
	return false;
}
