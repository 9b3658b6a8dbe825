/*-------------------------------------------------------------------------
 *
 * verify_gather.c
 *		Reading some documents as both sides have them.
 *
 * Bodies are not kept, only digests of them, so that it does not matter how large
 * they are.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "replicator/verify.h"
#include "utils/memutils.h"

/* Where the revisions of one side go. */
typedef struct Gathering
{
	Verify	   *v;
	MemoryContext cxt;
	DocPair    *pairs;
	int			n;
	int			side;
} Gathering;

static int
compare_pair_id(const void *id, const void *pair)
{
	return strcmp(id, ((const DocPair *) pair)->id);
}

/* The side of a document that is gathered, or NULL if nobody asked for it. */
static DocSide *
find_side(Gathering *g, const char *id)
{
	DocPair    *pair = bsearch(id, g->pairs, g->n, sizeof(DocPair), compare_pair_id);

	return pair ? &pair->side[g->side] : NULL;
}

/* The leaf of a revision; made if it is new.  In the context of the gathering. */
static Leaf *
leaf_of(DocSide *side, const Rev *rev)
{
	Leaf	   *leaf;
	uint8	   *bytes;

	for (int i = 0; i < side->n; i++)
	{
		if (docrep_rev_eq(&side->leaves[i].rev, rev))
			return &side->leaves[i];
	}
	if (side->n >= side->cap)
	{
		side->cap = Max(2, side->cap * 2);
		side->leaves = side->leaves ?
			repalloc(side->leaves, side->cap * sizeof(Leaf)) :
			palloc(side->cap * sizeof(Leaf));
	}
	leaf = &side->leaves[side->n++];
	memset(leaf, 0, sizeof(*leaf));
	bytes = palloc(Max(rev->len, 1));
	memcpy(bytes, rev->bytes, rev->len);
	leaf->rev = *rev;
	leaf->rev.bytes = bytes;
	return leaf;
}

/* A path with its bytes, copied. */
static RevPath
copy_path(const RevPath *path)
{
	RevPath		copy = {path->n, palloc(Max(path->n, 1) * sizeof(Rev))};
	Size		len = 0;
	uint8	   *bytes;

	for (int i = 0; i < path->n; i++)
		len += path->revs[i].len;
	bytes = palloc(Max(len, 1));
	for (int i = 0; i < path->n; i++)
	{
		copy.revs[i] = path->revs[i];
		copy.revs[i].bytes = bytes;
		memcpy(bytes, path->revs[i].bytes, path->revs[i].len);
		bytes += path->revs[i].len;
	}
	return copy;
}

/* What is told of attachments, copied; contents at hand become digests. */
static void
copy_atts(Gathering *g, const DocrepDoc *doc, Leaf *leaf)
{
	int			n = doc->atts.n;

	if (g->v->inspection->attachments == INSPECT_ATTS_NONE)
		return;
	leaf->atts.n = n;
	leaf->atts.atts = palloc(Max(n, 1) * sizeof(DocAtt));
	leaf->contents = palloc0(Max(n, 1) * sizeof(Digest));
	leaf->digested = palloc0(Max(n, 1) * sizeof(bool));
	for (int i = 0; i < n; i++)
	{
		DocAtt	   *att = &leaf->atts.atts[i];

		*att = doc->atts.atts[i];
		att->name = pstrdup(att->name);
		att->content_type = att->content_type ? pstrdup(att->content_type) : NULL;
		att->digest = att->digest ? pstrdup(att->digest) : NULL;
		att->encoding = att->encoding ? pstrdup(att->encoding) : NULL;
		if (att->data != NULL && g->v->inspection->attachments == INSPECT_ATTS_CONTENTS)
		{
			leaf->contents[i] = docrep_digest_content(g->v, g->v->peer[g->side], doc,
													  &doc->atts.atts[i]);
			leaf->digested[i] = true;
		}
		att->data = NULL;
	}
}

/* ReaderTakesDoc */
static void
take_doc(void *arg, const DocrepDoc *doc)
{
	Gathering  *g = arg;
	DocSide    *side = doc->raw_id || doc->id == NULL || doc->path.n == 0 ? NULL :
		find_side(g, doc->id);
	MemoryContext old;
	Leaf	   *leaf;

	if (side == NULL)
		return;
	old = MemoryContextSwitchTo(g->cxt);
	leaf = leaf_of(side, &doc->path.revs[0]);
	if (!leaf->here)
	{
		leaf->here = true;
		leaf->deleted = doc->deleted;
		leaf->path = copy_path(&doc->path);
		copy_atts(g, doc, leaf);
		if (doc->unreadable)
			leaf->problem = pstrdup(doc->reason ? doc->reason : "it could not be read");
		MemoryContextSwitchTo(g->v->scratch);
		leaf->body = docrep_digest_body(g->v, doc);
		MemoryContextReset(g->v->scratch);
		digest_add(&side->digest, docrep_digest_leaf(g->v, doc));
	}
	MemoryContextSwitchTo(old);
}

/* The leaves that the feed names. */
static void
take_rows(Gathering *g, const DocrepChanges *changes)
{
	MemoryContext old = MemoryContextSwitchTo(g->cxt);

	for (int i = 0; i < changes->n; i++)
	{
		DocSide    *side = find_side(g, changes->rows[i].id);

		for (int j = 0; side && j < changes->rows[i].nrevs; j++)
			(void) leaf_of(side, &changes->rows[i].revs[j]);
	}
	MemoryContextSwitchTo(old);
}

/* Is the revision an ancestor of a leaf that came? */
static bool
has_descendant(const DocSide *side, const Rev *rev)
{
	for (int i = 0; i < side->n; i++)
	{
		const RevPath *path = &side->leaves[i].path;

		for (int j = 1; j < path->n; j++)
		{
			if (path->revs[j].gen == rev->gen)
			{
				if (docrep_rev_eq(&path->revs[j], rev))
					return true;
				break;
			}
		}
	}
	return false;
}

/* Leaves that were edited between the feed and the fetch came as what they are now. */
static void
drop_outdated(DocSide *side)
{
	int			n = 0;

	for (int i = 0; i < side->n; i++)
	{
		if (side->leaves[i].here || !has_descendant(side, &side->leaves[i].rev))
			side->leaves[n++] = side->leaves[i];
	}
	side->n = n;
}

DocPair *
docrep_verify_gather(Verify *v, const char *const *ids, int n, MemoryContext cxt)
{
	DocPair    *pairs = MemoryContextAllocZero(cxt, Max(n, 1) * sizeof(DocPair));
	Reader		readers[2];
	bool		more = true;

	for (int i = 0; i < n; i++)
		pairs[i].id = MemoryContextStrdup(cxt, ids[i]);
	for (int side = SOURCE; side <= TARGET; side++)
	{
		docrep_reader_begin(&readers[side], v->peer[side], v->cxt, GATHER_MAX, true, false);
		readers[side].doc_ids = ids;
		readers[side].ndoc_ids = n;
		docrep_reader_ask(&readers[side]);
	}
	while (more)
	{
		more = false;
		for (int side = SOURCE; side <= TARGET; side++)
			more |= docrep_reader_next(&readers[side]);
		for (int side = SOURCE; side <= TARGET; side++)
		{
			Gathering	g = {v, cxt, pairs, n, side};

			if (readers[side].batch == NULL)
				continue;
			docrep_reader_docs(&readers[side], take_doc, &g);
			take_rows(&g, &readers[side].batch->changes);
		}
	}
	for (int side = SOURCE; side <= TARGET; side++)
	{
		docrep_reader_end(&readers[side]);
		for (int i = 0; i < n; i++)
			drop_outdated(&pairs[i].side[side]);
	}
	return pairs;
}
