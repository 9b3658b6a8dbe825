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

/* A node as JSON.  What is said of its history counts the versions that are kept. */
static Jsonb *
show_node(OpenDoc *doc, const RevTree *tree, int32 node, Jsonb *body, Jsonb *atts,
		  const DocShow *asked)
{
	DocShow		show = *asked;

	if (show.revs_info && doc->table->info.revisions_keep >= 0)
	{
		KeptVersion *kept;

		show.nkept = docrep_revisions_of(doc->table, doc->snapshot, doc->id, false, &kept);
		show.kept = kept;
	}
	return docrep_document_show(doc->id, tree, node, body, atts, &show);
}

/* A leaf as JSON. */
Jsonb *
docrep_open_doc_json(OpenDoc *doc, int32 leaf, const DocShow *show)
{
	Jsonb	   *body;
	Jsonb	   *atts;

	docrep_open_doc_leaf(doc, leaf, &body, &atts);
	return show_node(doc, doc->state.tree, leaf, body, atts, show);
}

/* A former version. */
bool
docrep_open_doc_kept(OpenDoc *doc, const Rev *rev, KeptVersion *version)
{
	return doc->found && doc->table->info.revisions_keep >= 0 &&
		docrep_revision_find(doc->table, doc->snapshot, doc->id, rev, version);
}

/*
 * The tree with a former version in it, and which node that is.  The tree may
 * have forgotten the revision, and is then one of this revision alone.
 */
static RevTree *
kept_tree(OpenDoc *doc, const KeptVersion *version, int32 *node)
{
	RevTree    *tree = doc->state.tree;

	if (docrep_revtree_maybe_in_trunk(tree, &version->rev) && !tree->trunk_loaded)
	{
		docrep_state_read(doc->table, doc->snapshot, doc->id, DOCSTATE_BODY | DOCSTATE_TRUNK,
						  &doc->state);
		tree = doc->state.tree;
	}
	*node = docrep_revtree_find(tree, &version->rev);
	if (*node < 0)
	{
		tree = docrep_revtree_new(2);
		*node = docrep_revtree_add(tree, -1, &version->rev, version->deleted);
	}
	tree->nodes[*node].deleted = version->deleted;
	return tree;
}

/* A former version as JSON. */
Jsonb *
docrep_open_doc_kept_json(OpenDoc *doc, const Rev *rev, const DocShow *show)
{
	KeptVersion version;
	RevTree    *tree;
	int32		node;

	if (!docrep_open_doc_kept(doc, rev, &version))
		return NULL;
	tree = kept_tree(doc, &version, &node);
	return show_node(doc, tree, node, version.doc, version.atts, show);
}
