/*-------------------------------------------------------------------------
 *
 * revtree.c
 *		Revision trees in memory: building, looking up, leaves, checking.
 *
 * Parents always come before their children in the array, so that a loop
 * forwards sees a line of descent from old to new, and a loop backwards has
 * seen all children of a node before the node itself.  Most functions of this
 * floor are one such loop.
 *
 *-------------------------------------------------------------------------
 */
#include "revision/port.h"
#include "revision/revtree.h"
#include "revision/revtree_internal.h"

/*
 * An empty tree with room for cap nodes.
 */
RevTree *
docrep_revtree_new(int32 cap)
{
	RevTree    *tree = palloc(sizeof(RevTree));

	tree->n = 0;
	tree->cap = Max(cap, 1);
	tree->nodes = palloc(sizeof(RevNode) * (size_t) tree->cap);
	tree->trunk_root = -1;
	tree->trunk_used = 0;
	tree->trunk_loaded = true;
	tree->trunk_stored = false;
	tree->changed = false;
	tree->revs_limit = 0;
	return tree;
}

/*
 * Free a tree, not the bytes of its revisions.
 */
void
docrep_revtree_free(RevTree *tree)
{
	pfree(tree->nodes);
	pfree(tree);
}

/*
 * Make room for "extra" more nodes.
 */
void
docrep_revtree_reserve(RevTree *tree, int32 extra)
{
	size_t		want = (size_t) tree->n + (size_t) extra;

	if (want <= (size_t) tree->cap)
		return;
	want = Max(want, (size_t) tree->cap * 2);
	tree->nodes = repalloc(tree->nodes, sizeof(RevNode) * want);
	tree->cap = (int32) want;
}

/*
 * Append a node; see the header.
 */
int32
docrep_revtree_add(RevTree *tree, int32 parent, const Rev *rev, bool deleted)
{
	RevNode    *node;

	docrep_revtree_reserve(tree, 1);
	node = &tree->nodes[tree->n];
	node->rev = *rev;
	node->parent = parent;
	node->nchildren = 0;
	node->deleted = deleted;
	if (parent >= 0)
		tree->nodes[parent].nchildren++;
	tree->changed = true;
	return tree->n++;
}

/*
 * Put a line of n nodes in front and "root" under it; see the internal header.
 */
void
docrep_revtree_prepend(RevTree *tree, int32 root, int32 n)
{
	RevNode    *nodes;

	docrep_revtree_reserve(tree, n);
	nodes = tree->nodes;
	memmove(nodes + n, nodes, sizeof(RevNode) * (size_t) tree->n);
	tree->n += n;
	for (int32 i = n; i < tree->n; i++)
	{
		if (nodes[i].parent >= 0)
			nodes[i].parent += n;
	}
	for (int32 i = 0; i < n; i++)
	{
		nodes[i].parent = i - 1;
		nodes[i].nchildren = 1;
	}
	nodes[root + n].parent = n - 1;
	if (tree->trunk_root >= 0)
		tree->trunk_root += n;
}

/*
 * Drop nodes; see the internal header.  On return map holds the new indexes.
 */
void
docrep_revtree_compact(RevTree *tree, int32 *map)
{
	RevNode    *nodes = tree->nodes;
	int32		kept = 0;

	for (int32 i = 0; i < tree->n; i++)
	{
		int32		parent = nodes[i].parent;

		if (map[i] == REVTREE_DROP)
			continue;
		map[i] = kept;
		nodes[kept] = nodes[i];
		nodes[kept].nchildren = 0;
		nodes[kept].parent = parent < 0 ? -1 : map[parent];
		if (nodes[kept].parent >= 0)
			nodes[nodes[kept].parent].nchildren++;
		kept++;
	}
	if (tree->trunk_root >= 0)
	{
		tree->trunk_root = map[tree->trunk_root];
		if (tree->trunk_root < 0)
		{
			/* nothing is left that the trunk could carry */
			tree->trunk_used = 0;
			tree->trunk_loaded = true;
		}
	}
	tree->changed = true;
	tree->n = kept;
}

/*
 * Index of a revision or -1.  Looks at the newest nodes first, which is where
 * nearly all questions end.
 */
int32
docrep_revtree_find(const RevTree *tree, const Rev *rev)
{
	for (int32 i = tree->n - 1; i >= 0; i--)
	{
		if (docrep_rev_eq(&tree->nodes[i].rev, rev))
			return i;
	}
	return -1;
}

/*
 * Order of leaves: negative if a comes before b, as winner or in a list.
 */
static int
leaf_cmp(const RevNode *a, const RevNode *b)
{
	if (a->deleted != b->deleted)
		return a->deleted ? 1 : -1;
	return docrep_rev_cmp(&b->rev, &a->rev);
}

/*
 * The winning leaf or -1.
 */
int32
docrep_revtree_winner(const RevTree *tree)
{
	int32		best = -1;

	for (int32 i = 0; i < tree->n; i++)
	{
		if (tree->nodes[i].nchildren == 0 &&
			(best < 0 || leaf_cmp(&tree->nodes[i], &tree->nodes[best]) < 0))
			best = i;
	}
	return best;
}

/*
 * Number of leaves that are not deleted.
 */
int32
docrep_revtree_live_leaves(const RevTree *tree)
{
	int32		n = 0;

	for (int32 i = 0; i < tree->n; i++)
	{
		if (tree->nodes[i].nchildren == 0 && !tree->nodes[i].deleted)
			n++;
	}
	return n;
}

/*
 * qsort callback over pointers to leaves; equal leaves (possible with foreign
 * identifiers only) keep the order of their indexes.
 */
static int
leaf_ptr_cmp(const void *a, const void *b)
{
	const RevNode *x = *(const RevNode *const *) a;
	const RevNode *y = *(const RevNode *const *) b;
	int			c = leaf_cmp(x, y);

	if (c != 0)
		return c;
	return x < y ? -1 : (x > y ? 1 : 0);
}

/*
 * All leaves, winner first; see the header.
 */
int32
docrep_revtree_leaves(const RevTree *tree, int32 **leaves)
{
	const RevNode **ptrs;
	int32		n = 0;

	for (int32 i = 0; i < tree->n; i++)
		n += tree->nodes[i].nchildren == 0;
	*leaves = palloc(sizeof(int32) * (size_t) Max(n, 1));
	ptrs = palloc(sizeof(RevNode *) * (size_t) Max(n, 1));
	n = 0;
	for (int32 i = 0; i < tree->n; i++)
	{
		if (tree->nodes[i].nchildren == 0)
			ptrs[n++] = &tree->nodes[i];
	}
	if (n > 1)
		qsort(ptrs, (size_t) n, sizeof(RevNode *), leaf_ptr_cmp);
	for (int32 i = 0; i < n; i++)
		(*leaves)[i] = (int32) (ptrs[i] - tree->nodes);
	pfree(ptrs);
	return n;
}

/*
 * Could the unloaded trunk hold this revision?
 */
bool
docrep_revtree_maybe_in_trunk(const RevTree *tree, const Rev *rev)
{
	uint32		top;

	if (tree->trunk_root < 0)
		return false;
	top = tree->nodes[tree->trunk_root].rev.gen;
	return rev->gen < top && rev->gen >= top - tree->trunk_used;
}

/*
 * The path of a node, newest first.
 */
RevPath
docrep_revtree_path(const RevTree *tree, int32 node)
{
	RevPath		path;

	path.n = 0;
	for (int32 i = node; i >= 0; i = tree->nodes[i].parent)
		path.n++;
	path.revs = palloc(sizeof(Rev) * (size_t) Max(path.n, 1));
	path.n = 0;
	for (int32 i = node; i >= 0; i = tree->nodes[i].parent)
		path.revs[path.n++] = tree->nodes[i].rev;
	return path;
}

/*
 * qsort callback over pointers to nodes: by parent, then by revision.
 */
static int
sibling_cmp(const void *a, const void *b)
{
	const RevNode *x = *(const RevNode *const *) a;
	const RevNode *y = *(const RevNode *const *) b;

	if (x->parent != y->parent)
		return x->parent < y->parent ? -1 : 1;
	return docrep_rev_cmp(&x->rev, &y->rev);
}

/*
 * Are there two equal children of one parent, or two equal roots?  Equal
 * roots do not count while a trunk is unloaded, see docrep_revtree_stem.
 */
static bool
has_equal_siblings(const RevTree *tree)
{
	const RevNode **ptrs = palloc(sizeof(RevNode *) * (size_t) Max(tree->n, 1));
	bool		found = false;

	for (int32 i = 0; i < tree->n; i++)
		ptrs[i] = &tree->nodes[i];
	qsort(ptrs, (size_t) tree->n, sizeof(RevNode *), sibling_cmp);
	for (int32 i = 1; i < tree->n && !found; i++)
	{
		if (ptrs[i]->parent < 0 && tree->trunk_root >= 0)
			continue;
		found = sibling_cmp(&ptrs[i - 1], &ptrs[i]) == 0;
	}
	pfree(ptrs);
	return found;
}

/*
 * Structure check; see the header.
 */
const char *
docrep_revtree_check(const RevTree *tree)
{
	const RevNode *nodes = tree->nodes;
	int32	   *children;
	const char *wrong = NULL;

	if (tree->trunk_root >= tree->n ||
		(tree->trunk_root >= 0 &&
		 (nodes[tree->trunk_root].parent >= 0 || tree->trunk_used == 0 ||
		  tree->trunk_used >= nodes[tree->trunk_root].rev.gen)))
		return "the trunk does not fit its root";

	children = palloc(sizeof(int32) * (size_t) Max(tree->n, 1));
	memset(children, 0, sizeof(int32) * (size_t) tree->n);
	for (int32 i = 0; i < tree->n && wrong == NULL; i++)
	{
		int32		parent = nodes[i].parent;

		if (nodes[i].rev.gen < 1 || nodes[i].rev.gen > REV_MAX_GENERATION)
			wrong = "a generation is out of range";
		else if (parent >= i)
			wrong = "a parent does not come before its child";
		else if (parent >= 0 && nodes[parent].rev.gen + 1 != nodes[i].rev.gen)
			wrong = "a generation does not follow its parent's";
		else if (parent >= 0)
			children[parent]++;
	}
	for (int32 i = 0; i < tree->n && wrong == NULL; i++)
	{
		if (children[i] != nodes[i].nchildren)
			wrong = "a count of children is wrong";
	}
	pfree(children);
	if (wrong == NULL && has_equal_siblings(tree))
		wrong = "two siblings are equal";
	return wrong;
}
