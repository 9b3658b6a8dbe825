/*-------------------------------------------------------------------------
 *
 * revtree_stem.c
 *		Take revisions out of a tree: stemming and the removal of leaves.
 *
 *-------------------------------------------------------------------------
 */
#include "revision/port.h"
#include "revision/revtree.h"
#include "revision/revtree_internal.h"

/* a leaf of the tree to rebuild, see merge_equal_nodes */
typedef struct LeafPath
{
	RevPath		path;
	bool		deleted;
} LeafPath;

/*
 * Turn "reach" into the map for compact: reach[i] is first how many revisions
 * of its path, itself included, node i has to keep for the leaf that asks
 * most; those with 0 or less go.  Returns how many go.  Lowers trunk_used.
 */
static int32
mark_stemmed(RevTree *tree, uint32 limit, int32 *reach)
{
	int32		dropped = 0;
	int32		want = (int32) Min(limit, (uint32) REV_MAX_GENERATION);

	for (int32 i = 0; i < tree->n; i++)
		reach[i] = tree->nodes[i].nchildren == 0 ? want : 0;
	for (int32 i = tree->n - 1; i >= 0; i--)
	{
		int32		parent = tree->nodes[i].parent;

		if (parent >= 0 && reach[i] - 1 > reach[parent])
			reach[parent] = reach[i] - 1;
	}
	if (tree->trunk_root >= 0 && reach[tree->trunk_root] > 0)
	{
		uint32		used = Min(tree->trunk_used,
							   (uint32) reach[tree->trunk_root] - 1);

		tree->changed |= used != tree->trunk_used;
		tree->trunk_used = used;
		if (used == 0)
		{
			tree->trunk_root = -1;
			tree->trunk_loaded = true;
		}
	}
	for (int32 i = 0; i < tree->n; i++)
	{
		if (reach[i] > 0)
			continue;
		reach[i] = REVTREE_DROP;
		dropped++;
	}
	return dropped;
}

/*
 * Will a node that becomes a root, by this map for compact, equal any other
 * node that stays?
 */
static bool
new_root_has_twin(const RevTree *tree, const int32 *map)
{
	const RevNode *nodes = tree->nodes;

	for (int32 r = 0; r < tree->n; r++)
	{
		if (map[r] == REVTREE_DROP || nodes[r].parent < 0 ||
			map[nodes[r].parent] != REVTREE_DROP)
			continue;
		for (int32 i = 0; i < tree->n; i++)
		{
			if (i != r && map[i] != REVTREE_DROP &&
				docrep_rev_eq(&nodes[i].rev, &nodes[r].rev))
				return true;
		}
	}
	return false;
}

/*
 * qsort callback: the path that begins earliest comes first, then by root.
 */
static int
leaf_path_cmp(const void *a, const void *b)
{
	const RevPath *x = &((const LeafPath *) a)->path;
	const RevPath *y = &((const LeafPath *) b)->path;

	return docrep_rev_cmp(&x->revs[x->n - 1], &y->revs[y->n - 1]);
}

/*
 * Build the tree anew from its leaves' paths, so that a root that equals
 * another node becomes one with it.  Only identifiers that do not depend on
 * their history, as tests and foreign systems make them, ever lead here.
 */
static void
merge_equal_nodes(RevTree *tree)
{
	int32	   *leaves;
	int32		n = docrep_revtree_leaves(tree, &leaves);
	LeafPath   *paths = palloc(sizeof(LeafPath) * (size_t) Max(n, 1));
	Rev		   *gone = palloc(sizeof(Rev) * (size_t) Max(tree->n, 1));
	int32		ngone = 0;

	for (int32 i = 0; i < n; i++)
	{
		paths[i].path = docrep_revtree_path(tree, leaves[i]);
		paths[i].deleted = tree->nodes[leaves[i]].deleted;
	}
	qsort(paths, (size_t) n, sizeof(LeafPath), leaf_path_cmp);
	for (int32 i = 0; i < tree->n; i++)
	{
		if (tree->nodes[i].deleted)
			gone[ngone++] = tree->nodes[i].rev;
	}

	tree->n = 0;
	for (int32 i = 0; i < n; i++)
	{
		docrep_revtree_merge(tree, &paths[i].path, paths[i].deleted);
		pfree(paths[i].path.revs);
	}
	/* paths know the flag of leaves only */
	for (int32 i = 0; i < ngone; i++)
		tree->nodes[docrep_revtree_find(tree, &gone[i])].deleted = true;
	pfree(gone);
	pfree(paths);
	pfree(leaves);
}

/*
 * Stem; see the header.
 */
void
docrep_revtree_stem(RevTree *tree, uint32 limit)
{
	int32		stack[REVTREE_STACK_NODES];
	int32	   *map = stack;
	int32		dropped;

	/* no path is longer than all there is */
	if ((uint64) tree->n + tree->trunk_used <= limit)
		return;

	if (tree->n > REVTREE_STACK_NODES)
		map = palloc(sizeof(int32) * (size_t) tree->n);
	dropped = mark_stemmed(tree, Max(limit, 1), map);
	if (dropped > 0)
	{
		bool		twins = new_root_has_twin(tree, map);

		docrep_revtree_compact(tree, map);
		if (twins && tree->trunk_root < 0)
			merge_equal_nodes(tree);
	}
	if (map != stack)
		pfree(map);
}

/*
 * Remove a leaf; see the header.
 */
void
docrep_revtree_remove_leaf(RevTree *tree, int32 leaf)
{
	int32	   *map = palloc(sizeof(int32) * (size_t) tree->n);
	int32		node = leaf;

	memset(map, 0, sizeof(int32) * (size_t) tree->n);
	do
	{
		map[node] = REVTREE_DROP;
		node = tree->nodes[node].parent;
	} while (node >= 0 && tree->nodes[node].nchildren == 1);
	docrep_revtree_compact(tree, map);
	pfree(map);
}
