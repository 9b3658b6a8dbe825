/*-------------------------------------------------------------------------
 *
 * open_doc.c
 *		A document opened for reading, and the revisions of it that one asks for.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "store/open_doc.h"

/* Open a document as of the snapshot. */
void
docrep_open_doc(OpenDoc *doc, DocTable *table, Snapshot snapshot, const char *id, int flags)
{
	bool		visible;

	doc->table = table;
	doc->snapshot = snapshot;
	doc->id = id;
	docrep_visible_ids(table, &id, 1, &visible);
	doc->found = visible && docrep_state_read(table, snapshot, id, flags, &doc->state);
}

/* Is node "ancestor" on the way from "node" to its root, or node itself? */
static bool
descends_from(const RevTree *tree, int32 node, int32 ancestor)
{
	/* parents have lower indexes */
	while (node > ancestor)
		node = tree->nodes[node].parent;
	return node == ancestor;
}

/* The leaves that a request for rev is answered with; see open_doc.h. */
int
docrep_open_doc_leaves(OpenDoc *doc, const Rev *rev, bool latest, int32 **nodes)
{
	const RevTree *tree = doc->state.tree;
	int32	   *leaves;
	int32		nleaves;
	int32		asked;
	int			n = 0;

	if (!doc->found)
		return 0;
	nleaves = docrep_revtree_leaves(tree, &leaves);
	*nodes = leaves;
	if (rev == NULL)
		return nleaves;
	asked = docrep_revtree_find(tree, rev);
	if (asked < 0)
		return 0;
	for (int32 i = 0; i < nleaves; i++)
	{
		if (leaves[i] == asked || (latest && descends_from(tree, leaves[i], asked)))
			leaves[n++] = leaves[i];
	}
	return n;
}

/* A leaf's body and attachments. */
void
docrep_open_doc_leaf(OpenDoc *doc, int32 leaf, Jsonb **body, Jsonb **atts)
{
	TimestampTz modified;

	*body = doc->state.doc;
	*atts = doc->state.atts;
	if (leaf != doc->state.winner)
		docrep_leaf_body(doc->table, doc->snapshot, doc->id, &doc->state.tree->nodes[leaf],
						 body, atts, &modified);
}

/* A leaf as JSON. */
Jsonb *
docrep_open_doc_json(OpenDoc *doc, int32 leaf, const DocShow *show)
{
	Jsonb	   *body;
	Jsonb	   *atts;

	docrep_open_doc_leaf(doc, leaf, &body, &atts);
	return docrep_document_show(doc->id, doc->state.tree, leaf, body, atts, show);
}
