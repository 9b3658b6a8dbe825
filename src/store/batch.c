/*-------------------------------------------------------------------------
 *
 * batch.c
 *		What travels: containers, one leaf as it travels, and which revisions of a batch
 *		are missing here.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "store/batch_internal.h"
#include "store/origins.h"
#include "store/revisions.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

/* ---------- containers ---------- */

void
docrep_docs_init(DocrepDocs *docs, MemoryContext cxt)
{
	memset(docs, 0, sizeof(*docs));
	docs->cxt = cxt;
}

DocrepDoc *
docrep_docs_add(DocrepDocs *docs)
{
	if (docs->n >= docs->cap)
	{
		int			cap = Max(64, docs->cap * 2);

		docs->docs = docs->docs ?
			repalloc_huge(docs->docs, cap * sizeof(DocrepDoc)) :
			MemoryContextAlloc(docs->cxt, cap * sizeof(DocrepDoc));
		docs->cap = cap;
	}
	memset(&docs->docs[docs->n], 0, sizeof(DocrepDoc));
	return &docs->docs[docs->n++];
}

void
docrep_changes_init(DocrepChanges *changes, MemoryContext cxt)
{
	memset(changes, 0, sizeof(*changes));
	changes->cxt = cxt;
	changes->pending = -1;
}

DocrepChange *
docrep_changes_add(DocrepChanges *changes)
{
	if (changes->n >= changes->cap)
	{
		int			cap = Max(64, changes->cap * 2);

		changes->rows = changes->rows ?
			repalloc_huge(changes->rows, cap * sizeof(DocrepChange)) :
			MemoryContextAlloc(changes->cxt, cap * sizeof(DocrepChange));
		changes->cap = cap;
	}
	memset(&changes->rows[changes->n], 0, sizeof(DocrepChange));
	return &changes->rows[changes->n++];
}

/* ---------- one leaf ---------- */

/* Size of a document with the contents that travel with it, for the byte limits. */
Size
docrep_doc_size(const DocrepDoc *doc)
{
	Size		size = doc->body ? VARSIZE(doc->body) : 64;

	for (int i = 0; i < doc->atts.n; i++)
		size += 64 + doc->atts.atts[i].datalen;
	return size;
}

/*
 * Bring an attachment's content along.  One that has not the length that the
 * revision says stays where it is: who reads it will be told.
 */
static void
load_content(DocTable *table, DocAtt *att)
{
	Size		len = (Size) att->encoded_length;
	char	   *data = palloc(len + 1);

	if (docrep_content_read(table, att->file, 0, data, len + 1) != len)
	{
		pfree(data);
		return;
	}
	att->data = data;
	att->datalen = len;
}

/* A leaf's attachments, with the contents that are small. */
void
docrep_doc_fill_atts(DocTable *table, Snapshot snapshot, Jsonb *column, DocrepDoc *doc)
{
	int64		inlined = 0;

	docrep_atts_from_column(column, &doc->atts);
	if (doc->atts.n == 0)
		return;
	PushActiveSnapshot(snapshot);
	for (int i = 0; i < doc->atts.n; i++)
	{
		DocAtt	   *att = &doc->atts.atts[i];

		if (att->encoded_length > DOCREP_ATT_INLINE ||
			inlined + att->encoded_length > DOCREP_ATT_INLINE_DOC)
			continue;
		load_content(table, att);
		inlined += att->datalen;
	}
	PopActiveSnapshot();
}

/*
 * One leaf of a document as it travels.  False: it is live but its body is not
 * here (the table was restored without its companions), so it cannot travel.
 * late: with as much of the winner's history as can be had.
 */
bool
docrep_batch_fill_doc(DocTable *table, Snapshot snapshot, const char *id, DocState *state,
					  int32 node, bool late, DocrepDoc *doc)
{
	RevNode    *leaf = &state->tree->nodes[node];
	Jsonb	   *atts = NULL;
	const pg_uuid_t *origin = NULL;
	LeafState	stored;

	doc->id = unconstify(char *, id);
	doc->path = late && node == state->winner && table->info.keeps_versions ?
		docrep_revision_path(table, snapshot, id, state->tree, &leaf->rev) :
		docrep_revtree_path(state->tree, node);
	doc->deleted = leaf->deleted;
	doc->modified = state->modified;
	if (node == state->winner)
	{
		doc->body = state->doc;
		atts = state->atts;
		origin = state->origin;
	}
	else if (docrep_leaf_state(table, snapshot, id, &leaf->rev, &stored))
	{
		doc->body = stored.doc;
		atts = stored.atts;
		doc->modified = stored.modified;
		origin = stored.origin;
	}
	else if (!leaf->deleted)
		return false;
	doc->has_origin = true;
	doc->origin = origin ? *origin : *docrep_table_node(table);
	docrep_doc_fill_atts(table, snapshot, atts, doc);
	return true;
}

/* ---------- which are missing ---------- */

/* Which revisions of one document are not in its tree? */
static void
diff_change(DocTable *table, DocrepChange *change)
{
	DocState	state;
	bool		exists = docrep_state_read(table, GetActiveSnapshot(), change->id, 0, &state);

	for (int i = 0; i < change->nrevs; i++)
	{
		change->missing[i] = !exists || docrep_revtree_find(state.tree, &change->revs[i]) < 0;
		if (change->missing[i] && exists &&
			docrep_revtree_maybe_in_trunk(state.tree, &change->revs[i]))
		{
			docrep_state_read(table, GetActiveSnapshot(), change->id, DOCSTATE_TRUNK, &state);
			change->missing[i] = docrep_revtree_find(state.tree, &change->revs[i]) < 0;
		}
	}
}

void
docrep_batch_diff(DocTable *table, DocrepChanges *changes)
{
	MemoryContext scratch = AllocSetContextCreate(CurrentMemoryContext, "docrep diff",
												  ALLOCSET_DEFAULT_SIZES);
	bool	   *visible = NULL;

	if (table->row_security)
	{
		const char **ids = palloc(Max(changes->n, 1) * sizeof(char *));

		visible = palloc(Max(changes->n, 1) * sizeof(bool));
		for (int i = 0; i < changes->n; i++)
			ids[i] = changes->rows[i].id;
		docrep_visible_ids(table, ids, changes->n, visible);
	}
	for (int i = 0; i < changes->n; i++)
	{
		DocrepChange *change = &changes->rows[i];
		MemoryContext old;

		CHECK_FOR_INTERRUPTS();
		change->missing = MemoryContextAlloc(changes->cxt, Max(change->nrevs, 1) * sizeof(bool));
		if (visible && !visible[i])
		{
			memset(change->missing, true, change->nrevs * sizeof(bool));
			continue;
		}
		old = MemoryContextSwitchTo(scratch);
		diff_change(table, change);
		MemoryContextSwitchTo(old);
		MemoryContextReset(scratch);
	}
	MemoryContextDelete(scratch);
}
