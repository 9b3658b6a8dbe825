/*-------------------------------------------------------------------------
 *
 * revtree_merge.c
 *		Merge a path of revisions into a tree, as CouchDB does.
 *
 * In steps: find where tree and path meet; decide whether the trunk has a say
 * in that; walk down both as long as they agree; add what the path knows more,
 * at the old end and at the new end; and tie in other roots that the path
 * turned out to contain.  Each step is one loop over the nodes.
 *
 *-------------------------------------------------------------------------
 */
#include "revision/port.h"
#include "revision/revtree.h"
#include "revision/revtree_internal.h"

/* what an unloaded trunk means for the path */
typedef enum TrunkSay
{
	TRUNK_SILENT,				/* nothing: the inline nodes decide */
	TRUNK_MATCHES,				/* path and tree meet in the trunk, and agree at
								 * least up to the trunk root */
	TRUNK_UNKNOWN				/* cannot tell without it */
} TrunkSay;

/* in the map of graft_roots: the node stays where it is, it moves behind */
#define GRAFT_STAYS		(-1)
#define GRAFT_MOVES		(-2)

static inline uint32
path_newest(const RevPath *path)
{
	return path->revs[0].gen;
}

static inline uint32
path_oldest(const RevPath *path)
{
	return path->revs[path->n - 1].gen;
}

/*
 * The path's revision of a generation that it covers.
 */
static inline const Rev *
path_at(const RevPath *path, uint32 gen)
{
	return &path->revs[path_newest(path) - gen];
}

/*
 * Does the path contain this revision?
 */
static inline bool
path_has(const RevPath *path, const Rev *rev)
{
	return rev->gen >= path_oldest(path) && rev->gen <= path_newest(path) &&
		docrep_rev_eq(rev, path_at(path, rev->gen));
}

static int32
root_of(const RevTree *tree, int32 node)
{
	while (tree->nodes[node].parent >= 0)
		node = tree->nodes[node].parent;
	return node;
}

/*
 * Which of two nodes does CouchDB come to first?  It goes through the trees
 * by root, and through each by depth, siblings in order.  Two nodes of one
 * tree are here of one generation.  True if a comes first.
 */
static bool
comes_first(const RevTree *tree, int32 a, int32 b)
{
	const RevNode *nodes = tree->nodes;
	int32		ra = root_of(tree, a);
	int32		rb = root_of(tree, b);

	if (ra != rb)
	{
		uint32		ga = nodes[ra].rev.gen;
		uint32		gb = nodes[rb].rev.gen;

		if (ra == tree->trunk_root)
			ga -= tree->trunk_used;
		if (rb == tree->trunk_root)
			gb -= tree->trunk_used;
		if (ga != gb)
			return ga < gb;
		return docrep_rev_cmp(&nodes[ra].rev, &nodes[rb].rev) < 0;
	}
	while (nodes[a].parent != nodes[b].parent)
	{
		a = nodes[a].parent;
		b = nodes[b].parent;
	}
	return docrep_rev_cmp(&nodes[a].rev, &nodes[b].rev) < 0;
}

/*
 * The node where path and tree meet, or -1: one that equals the path's oldest
 * revision, or a root younger than that which the path contains.  The trunk
 * root is no such root, its ancestors are known (see ask_trunk).
 */
static int32
find_meeting(const RevTree *tree, const RevPath *path)
{
	uint32		oldest = path_oldest(path);
	int32		found = -1;

	for (int32 i = 0; i < tree->n; i++)
	{
		const RevNode *node = &tree->nodes[i];

		if (node->rev.gen != oldest &&
			(node->parent >= 0 || i == tree->trunk_root))
			continue;
		if (path_has(path, &node->rev) &&
			(found < 0 || comes_first(tree, i, found)))
			found = i;
	}
	return found;
}

/*
 * Would stemming to tree->revs_limit drop all ancestors older than generation
 * "first", after the path has been merged under the trunk root?  It does if
 * even the youngest leaf there does not reach further back.
 */
static bool
stemming_drops_before(const RevTree *tree, const RevPath *path, uint32 first)
{
	uint32		lowest = path_newest(path);

	if (tree->revs_limit == 0)
		return false;
	for (int32 i = tree->trunk_root; i < tree->n; i++)
	{
		const RevNode *node = &tree->nodes[i];

		if (node->nchildren == 0 && node->rev.gen < lowest &&
			root_of(tree, i) == tree->trunk_root)
			lowest = node->rev.gen;
	}
	return lowest >= tree->revs_limit && lowest - tree->revs_limit + 1 >= first;
}

/*
 * What does an unloaded trunk say to this path?  "meeting" is where the inline
 * nodes meet it.
 *
 * A path that contains the trunk root is taken to have the same ancestors: a
 * revision's identifier stands for its history.
 */
static TrunkSay
ask_trunk(const RevTree *tree, const RevPath *path, int32 meeting)
{
	const Rev  *root;
	uint32		oldest = path_oldest(path);
	uint32		first;

	if (tree->trunk_root < 0)
		return TRUNK_SILENT;
	root = &tree->nodes[tree->trunk_root].rev;
	first = root->gen - tree->trunk_used;

	if (oldest >= root->gen || path_newest(path) < first)
		return TRUNK_SILENT;
	if (meeting < 0 && path_has(path, root) &&
		(oldest >= first || stemming_drops_before(tree, path, first)))
		return TRUNK_MATCHES;

	/* another tree holds all of the path's past: then the trunk does not */
	if (meeting >= 0 && tree->nodes[meeting].rev.gen == oldest &&
		oldest >= first && !path_has(path, root))
		return TRUNK_SILENT;
	return TRUNK_UNKNOWN;
}

/*
 * Go down from node, which the path contains, as long as a child equals the
 * path's next revision.  Returns the last node that does.
 */
static int32
walk_down(const RevTree *tree, const RevPath *path, int32 node)
{
	uint32		gen = tree->nodes[node].rev.gen;

	for (int32 i = node + 1; i < tree->n && gen < path_newest(path); i++)
	{
		if (tree->nodes[i].parent == node &&
			docrep_rev_eq(&tree->nodes[i].rev, path_at(path, gen + 1)))
		{
			node = i;
			gen++;
		}
	}
	return node;
}

/*
 * Put the path's revisions that are older than the root "root" over it.
 * Returns by how much the indexes grew.
 */
static int32
learn_ancestors(RevTree *tree, const RevPath *path, int32 root)
{
	int32		n = (int32) (tree->nodes[root].rev.gen - path_oldest(path));

	if (n <= 0)
		return 0;
	docrep_revtree_prepend(tree, root, n);
	tree->changed = true;
	for (int32 i = 0; i < n; i++)
	{
		tree->nodes[i].rev = path->revs[path->n - 1 - i];
		tree->nodes[i].deleted = false;
	}
	return n;
}

/*
 * Mark, in map, what happens to the nodes before "line" when the roots that
 * equal a node of the line (the nodes from "line" on, just added) are put
 * there: GRAFT_STAYS, GRAFT_MOVES (it becomes a descendant of the line), or
 * the index of the node of the line that it equals.  Returns the newest node
 * of the line that was found so, or -1, and if so whether it was a leaf.
 */
static int32
mark_grafts(RevTree *tree, int32 line, int32 *map, bool *was_leaf)
{
	RevNode    *nodes = tree->nodes;
	uint32		first = nodes[line].rev.gen;
	int32		last = tree->n - 1;
	int32		known = -1;

	for (int32 i = 0; i < line; i++)
	{
		RevNode    *node = &nodes[i];
		int32		parent = node->parent;
		int32		twin = -1;

		map[i] = GRAFT_STAYS;
		if (parent < 0 && i != tree->trunk_root)
		{
			if (node->rev.gen >= first &&
				node->rev.gen - first <= (uint32) (last - line))
				twin = line + (int32) (node->rev.gen - first);
		}
		else if (parent >= 0 && map[parent] != GRAFT_STAYS)
		{
			map[i] = GRAFT_MOVES;
			if (map[parent] >= 0 && map[parent] < last)
				twin = map[parent] + 1;
		}
		if (twin < 0 || !docrep_rev_eq(&node->rev, &nodes[twin].rev))
			continue;

		map[i] = twin;
		nodes[twin].deleted |= node->deleted;
		if (twin > known)
		{
			known = twin;
			*was_leaf = node->nchildren == 0;
		}
	}
	return known;
}

/*
 * Rebuild the array so that what mark_grafts marked is done.
 */
static void
apply_grafts(RevTree *tree, int32 line, const int32 *map)
{
	RevNode    *old = palloc(sizeof(RevNode) * (size_t) tree->n);
	int32	   *place = palloc(sizeof(int32) * (size_t) tree->n);
	int32		n = tree->n;

	memcpy(old, tree->nodes, sizeof(RevNode) * (size_t) n);
	tree->n = 0;
	for (int32 i = 0; i < n; i++)
	{
		if (i >= line || map[i] == GRAFT_STAYS)
			place[i] = docrep_revtree_add(tree, old[i].parent < 0 ? -1 : place[old[i].parent],
										  &old[i].rev, old[i].deleted);
	}
	for (int32 i = 0; i < line; i++)
	{
		if (map[i] >= 0)
			place[i] = place[map[i]];
		else if (map[i] == GRAFT_MOVES)
			place[i] = docrep_revtree_add(tree, place[old[i].parent],
										  &old[i].rev, old[i].deleted);
	}
	if (tree->trunk_root >= 0)
		tree->trunk_root = place[tree->trunk_root];
	pfree(place);
	pfree(old);
}

/*
 * Roots whose place turns out to be on the line of nodes that was just added
 * (from index "line" on) go there.  CouchDB gets to the same when its stemming
 * finds a revision twice.  "result" is what merge would return; returns what
 * it has to return.
 */
static RevMergeResult
graft_roots(RevTree *tree, int32 line, RevMergeResult result)
{
	int32		nroots = 0;
	int32	   *map;
	int32		known;
	bool		was_leaf = false;

	for (int32 i = 0; i < line && nroots == 0; i++)
	{
		uint32		gen = tree->nodes[i].rev.gen;
		uint32		first = tree->nodes[line].rev.gen;

		if (tree->nodes[i].parent < 0 && i != tree->trunk_root &&
			gen >= first && gen - first < (uint32) (tree->n - line) &&
			docrep_rev_eq(&tree->nodes[i].rev, &tree->nodes[line + (int32) (gen - first)].rev))
			nroots++;
	}
	if (nroots == 0)
		return result;

	map = palloc(sizeof(int32) * (size_t) line);
	known = mark_grafts(tree, line, map, &was_leaf);
	if (known == tree->n - 1)
		result = REVMERGE_KNOWN;
	else
		result = was_leaf ? REVMERGE_NEW_LEAF : REVMERGE_NEW_BRANCH;
	apply_grafts(tree, line, map);
	pfree(map);
	return result;
}

/*
 * Append the path's revisions from generation gen on under parent; the newest
 * gets the deleted flag.
 */
static void
append_line(RevTree *tree, const RevPath *path, int32 parent, uint32 gen,
			bool deleted)
{
	int32		n = (int32) (path_newest(path) - gen) + 1;

	docrep_revtree_reserve(tree, n);
	for (int32 i = n - 1; i >= 0; i--)
		parent = docrep_revtree_add(tree, parent, &path->revs[i],
									deleted && i == 0);
}

/*
 * Merge a path; see the header.
 */
RevMergeResult
docrep_revtree_merge(RevTree *tree, const RevPath *path, bool deleted)
{
	int32		node = find_meeting(tree, path);
	int32		line = tree->n;
	uint32		gen = path_oldest(path);
	RevMergeResult result = REVMERGE_NEW_BRANCH;

	switch (ask_trunk(tree, path, node))
	{
		case TRUNK_UNKNOWN:
			return REVMERGE_NEED_TRUNK;
		case TRUNK_MATCHES:
			node = walk_down(tree, path, tree->trunk_root);
			break;
		case TRUNK_SILENT:
			if (node >= 0)
			{
				int32		root = node;

				node = walk_down(tree, path, node);
				if (tree->nodes[root].parent < 0)
				{
					int32		shift = learn_ancestors(tree, path, root);

					node += shift;
					line += shift;
				}
			}
			break;
	}

	if (node >= 0)
	{
		gen = tree->nodes[node].rev.gen + 1;
		if (gen > path_newest(path))
			return REVMERGE_KNOWN;
		if (tree->nodes[node].nchildren == 0)
			result = REVMERGE_NEW_LEAF;
	}
	else if (tree->n == 0)
		result = REVMERGE_NEW_LEAF;

	append_line(tree, path, node, gen, deleted);
	return graft_roots(tree, line, result);
}
