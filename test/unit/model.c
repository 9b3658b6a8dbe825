/*-------------------------------------------------------------------------
 *
 * model.c
 *		See model.h.  The rules are those of CouchDB's key tree, written down
 *		as directly as possible: a list of trees sorted by depth and root, each
 *		a node with sorted children.
 *
 *-------------------------------------------------------------------------
 */
#include "model.h"

typedef struct Node
{
	Rev			rev;
	bool		deleted;
	bool		keep;			/* for sweep */
	struct Node *parent;
	struct Node *child;			/* the first, the others by next, sorted */
	struct Node *next;
} Node;

struct Model
{
	Node	   *roots;			/* sorted, by next */
};

typedef struct Leaf
{
	Node	   *node;
	int			length;			/* of its path */
	Node	  **path;			/* newest first */
} Leaf;

static uint64
hash_rev(uint64 h, const Rev *rev, bool deleted)
{
	h = (h ^ rev->gen) * UINT64_C(1099511628211);
	h = (h ^ (deleted ? 7 : 3)) * UINT64_C(1099511628211);
	for (int i = 0; i < rev->len; i++)
		h = (h ^ rev->bytes[i]) * UINT64_C(1099511628211);
	return h;
}

Model *
model_new(void)
{
	return calloc(1, sizeof(Model));
}

static void
free_nodes(Node *node)
{
	while (node != NULL)
	{
		Node	   *next = node->next;

		/* trees are deep: free the only child in the loop */
		if (node->child != NULL && node->child->next == NULL)
		{
			node->child->next = next;
			next = node->child;
		}
		else
			free_nodes(node->child);
		free(node);
		node = next;
	}
}

void
model_free(Model *model)
{
	free_nodes(model->roots);
	free(model);
}

/*
 * Insert into a sorted list of siblings.
 */
static Node *
new_node(Node **list, Node *parent, const Rev *rev, bool deleted)
{
	Node	   *node = calloc(1, sizeof(Node));

	node->rev = *rev;
	node->deleted = deleted;
	node->parent = parent;
	while (*list != NULL && docrep_rev_cmp(&(*list)->rev, rev) <= 0)
		list = &(*list)->next;
	node->next = *list;
	*list = node;
	return node;
}

/*
 * The first node of generation gen equal to rev in a depth-first walk.
 */
static Node *
seek(Node *node, const Rev *rev)
{
	for (; node != NULL; node = node->next)
	{
		Node	   *found;

		if (node->rev.gen == rev->gen)
		{
			if (docrep_rev_eq(&node->rev, rev))
				return node;
			continue;
		}
		found = seek(node->child, rev);
		if (found != NULL)
			return found;
	}
	return NULL;
}

/*
 * Go on from node with the path's revisions at[0], at[-1], ... at[-(n-1)].
 */
static RevMergeResult
extend(Node *node, const Rev *at, int n, bool deleted)
{
	bool		was_leaf;

	for (; n > 0; n--, at--)
	{
		Node	   *child = node->child;

		while (child != NULL && !docrep_rev_eq(&child->rev, at))
			child = child->next;
		if (child == NULL)
			break;
		node = child;
	}
	if (n == 0)
		return REVMERGE_KNOWN;
	was_leaf = node->child == NULL;
	for (; n > 0; n--, at--)
		node = new_node(&node->child, node, at, deleted && n == 1);
	return was_leaf ? REVMERGE_NEW_LEAF : REVMERGE_NEW_BRANCH;
}

static RevMergeResult
merge_path(Model *model, const RevPath *path, bool deleted)
{
	const Rev  *oldest = &path->revs[path->n - 1];
	bool		was_empty = model->roots == NULL;
	Node	   *node;

	for (Node **link = &model->roots; *link != NULL; link = &(*link)->next)
	{
		Node	   *root = *link;
		Node	   *next = root->next;
		int64_t		offset = (int64_t) root->rev.gen - oldest->gen;

		if (offset <= 0)
		{
			/* the walk must not run on into the next tree */
			root->next = NULL;
			node = seek(root, oldest);
			root->next = next;
			if (node != NULL)
				return extend(node, &path->revs[path->n - 1] - 1, path->n - 1, deleted);
			continue;
		}
		if (offset >= path->n ||
			!docrep_rev_eq(&root->rev, &path->revs[path->n - 1 - offset]))
			continue;

		/* the tree learns older ancestors */
		*link = next;
		root->next = NULL;
		node = new_node(&model->roots, NULL, oldest, false);
		for (int i = path->n - 2; i > path->n - 1 - offset; i--)
			node = new_node(&node->child, node, &path->revs[i], false);
		node->child = root;
		root->parent = node;
		return extend(root, &path->revs[path->n - 1 - offset] - 1,
					  path->n - 1 - (int) offset, deleted);
	}

	node = new_node(&model->roots, NULL, oldest, deleted && path->n == 1);
	if (path->n > 1)
		extend(node, oldest - 1, path->n - 1, deleted);
	return was_empty ? REVMERGE_NEW_LEAF : REVMERGE_NEW_BRANCH;
}

/*
 * Collect the leaves under a list of nodes.
 */
static int
collect(Node *node, Leaf **leaves, int n)
{
	for (; node != NULL; node = node->next)
	{
		Leaf	   *leaf;

		if (node->child != NULL)
		{
			n = collect(node->child, leaves, n);
			continue;
		}
		*leaves = realloc(*leaves, sizeof(Leaf) * (size_t) (n + 1));
		leaf = &(*leaves)[n++];
		leaf->node = node;
		leaf->length = 0;
		for (Node *up = node; up != NULL; up = up->parent)
			leaf->length++;
		leaf->path = malloc(sizeof(Node *) * (size_t) leaf->length);
		leaf->length = 0;
		for (Node *up = node; up != NULL; up = up->parent)
			leaf->path[leaf->length++] = up;
	}
	return n;
}

static int
all_leaves(const Model *model, Leaf **leaves)
{
	*leaves = NULL;
	return collect(model->roots, leaves, 0);
}

static void
free_leaves(Leaf *leaves, int n)
{
	for (int i = 0; i < n; i++)
		free(leaves[i].path);
	free(leaves);
}

static int
count(const Node *node, const Rev *rev)
{
	int			n = 0;

	for (; node != NULL; node = node->next)
		n += (rev == NULL || docrep_rev_eq(&node->rev, rev)) + count(node->child, rev);
	return n;
}

int
model_count(const Model *model, const Rev *rev)
{
	return count(model->roots, rev);
}

int
model_size(const Model *model)
{
	return count(model->roots, NULL);
}

static void
mark_deleted(Node *node, const Rev *rev)
{
	for (; node != NULL; node = node->next)
	{
		if (docrep_rev_eq(&node->rev, rev))
			node->deleted = true;
		mark_deleted(node->child, rev);
	}
}

static int
leaf_order(const void *a, const void *b)
{
	const Leaf *x = a;
	const Leaf *y = b;
	const Node *p = x->path[x->length - 1];
	const Node *q = y->path[y->length - 1];

	return docrep_rev_cmp(&p->rev, &q->rev);
}

/*
 * Make the model anew of the paths of its leaves.  Deleted flags come along.
 */
static void
rebuild(Model *model, Leaf *leaves, int n)
{
	Model		fresh = {NULL};

	qsort(leaves, (size_t) n, sizeof(Leaf), leaf_order);
	for (int i = 0; i < n; i++)
	{
		RevPath		path;

		path.n = leaves[i].length;
		path.revs = malloc(sizeof(Rev) * (size_t) path.n);
		for (int k = 0; k < path.n; k++)
			path.revs[k] = leaves[i].path[k]->rev;
		merge_path(&fresh, &path, leaves[i].node->deleted);
		free(path.revs);
	}
	for (int i = 0; i < n; i++)
	{
		for (int k = 0; k < leaves[i].length; k++)
		{
			if (leaves[i].path[k]->deleted)
				mark_deleted(fresh.roots, &leaves[i].path[k]->rev);
		}
	}
	free_nodes(model->roots);
	model->roots = fresh.roots;
}

/*
 * CouchDB's repair, when a root is also elsewhere.
 */
static bool
repair(Model *model)
{
	for (Node *root = model->roots; root != NULL; root = root->next)
	{
		Leaf	   *leaves;
		int			n;

		if (count(model->roots, &root->rev) < 2)
			continue;
		n = all_leaves(model, &leaves);
		rebuild(model, leaves, n);
		free_leaves(leaves, n);
		return true;
	}
	return false;
}

RevMergeResult
model_merge(Model *model, const RevPath *path, bool deleted, bool *repaired)
{
	RevMergeResult result = merge_path(model, path, deleted);

	*repaired = repair(model);
	return result;
}

/*
 * All nodes under a list, parents first, into an array.
 */
static int
flatten(Node *node, Node **nodes, int n)
{
	for (; node != NULL; node = node->next)
	{
		nodes[n++] = node;
		n = flatten(node->child, nodes, n);
	}
	return n;
}

/*
 * Take out the nodes that are not marked; their children become roots.
 */
static void
sweep(Model *model)
{
	int			n = model_size(model);
	Node	  **nodes = malloc(sizeof(Node *) * (size_t) (n + 1));

	flatten(model->roots, nodes, 0);
	model->roots = NULL;
	for (int i = 0; i < n; i++)
		nodes[i]->child = nodes[i]->next = NULL;
	for (int i = 0; i < n; i++)
	{
		Node	   *node = nodes[i];
		Node	  **list = &model->roots;

		if (!node->keep)
			continue;
		if (node->parent != NULL && node->parent->keep)
			list = &node->parent->child;
		else
			node->parent = NULL;
		while (*list != NULL && docrep_rev_cmp(&(*list)->rev, &node->rev) <= 0)
			list = &(*list)->next;
		node->next = *list;
		*list = node;
	}
	for (int i = 0; i < n; i++)
	{
		if (!nodes[i]->keep)
			free(nodes[i]);
		else
			nodes[i]->keep = false;
	}
	free(nodes);
}

void
model_stem(Model *model, uint32 limit)
{
	Leaf	   *leaves;
	int			n = all_leaves(model, &leaves);

	for (int i = 0; i < n; i++)
	{
		for (int k = 0; k < leaves[i].length && (uint32) k < limit; k++)
			leaves[i].path[k]->keep = true;
	}
	free_leaves(leaves, n);
	sweep(model);
	repair(model);
}

void
model_remove(Model *model, const Rev *rev)
{
	Leaf	   *leaves;
	int			n = all_leaves(model, &leaves);

	for (int i = 0; i < n; i++)
	{
		for (int k = 0; k < leaves[i].length; k++)
			leaves[i].path[k]->keep |= !docrep_rev_eq(&leaves[i].node->rev, rev);
	}
	free_leaves(leaves, n);
	sweep(model);
}

const Rev *
model_winner(const Model *model)
{
	Leaf	   *leaves;
	int			n = all_leaves(model, &leaves);
	const Node *best = NULL;

	for (int i = 0; i < n; i++)
	{
		const Node *node = leaves[i].node;

		if (best == NULL ||
			(best->deleted && !node->deleted) ||
			(best->deleted == node->deleted &&
			 docrep_rev_cmp(&node->rev, &best->rev) > 0))
			best = node;
	}
	free_leaves(leaves, n);
	return best == NULL ? NULL : &best->rev;
}

static int
number_cmp(const void *a, const void *b)
{
	uint64		x = *(const uint64 *) a;
	uint64		y = *(const uint64 *) b;

	return x < y ? -1 : (x > y ? 1 : 0);
}

int
model_digest(const Model *model, bool inner, uint64 **digest)
{
	Leaf	   *leaves;
	int			n = all_leaves(model, &leaves);

	*digest = malloc(sizeof(uint64) * (size_t) (n + 1));
	for (int i = 0; i < n; i++)
	{
		uint64		h = 17;

		for (int k = 0; k < leaves[i].length; k++)
			h = hash_rev(h, &leaves[i].path[k]->rev,
						 leaves[i].path[k]->deleted && (inner || k == 0));
		(*digest)[i] = h;
	}
	free_leaves(leaves, n);
	qsort(*digest, (size_t) n, sizeof(uint64), number_cmp);
	return n;
}

int
tree_digest(const RevTree *tree, bool inner, uint64 **digest)
{
	int			n = 0;

	*digest = malloc(sizeof(uint64) * (size_t) (tree->n + 1));
	for (int i = 0; i < tree->n; i++)
	{
		uint64		h = 17;

		if (tree->nodes[i].nchildren > 0)
			continue;
		for (int k = i; k >= 0; k = tree->nodes[k].parent)
			h = hash_rev(h, &tree->nodes[k].rev,
						 tree->nodes[k].deleted && (inner || k == i));
		(*digest)[n++] = h;
	}
	qsort(*digest, (size_t) n, sizeof(uint64), number_cmp);
	return n;
}

static void
print_rev(const Rev *rev, bool deleted)
{
	char		text[REV_TEXT_SIZE];

	docrep_rev_print(rev, text);
	printf(" %s%s", text, deleted ? "*" : "");
}

void
model_print(const Model *model)
{
	Leaf	   *leaves;
	int			n = all_leaves(model, &leaves);

	for (int i = 0; i < n; i++)
	{
		printf("# model:");
		for (int k = 0; k < leaves[i].length; k++)
			print_rev(&leaves[i].path[k]->rev, leaves[i].path[k]->deleted);
		printf("\n");
	}
	free_leaves(leaves, n);
}

void
tree_print(const RevTree *tree)
{
	for (int i = 0; i < tree->n; i++)
	{
		if (tree->nodes[i].nchildren > 0)
			continue;
		printf("# tree: ");
		for (int k = i; k >= 0; k = tree->nodes[k].parent)
			print_rev(&tree->nodes[k].rev, tree->nodes[k].deleted);
		printf("\n");
	}
}

bool
model_equals(const Model *model, const RevTree *tree, bool inner)
{
	uint64	   *a;
	uint64	   *b;
	int			na = model_digest(model, inner, &a);
	int			nb = tree_digest(tree, inner, &b);
	const Rev  *winner = model_winner(model);
	int			w = docrep_revtree_winner(tree);
	bool		same;

	same = na == nb && memcmp(a, b, sizeof(uint64) * (size_t) na) == 0 &&
		model_size(model) == tree->n &&
		(w < 0 ? winner == NULL :
		 winner != NULL && docrep_rev_eq(winner, &tree->nodes[w].rev));
	free(a);
	free(b);
	if (!same && !unit_failing())
	{
		model_print(model);
		tree_print(tree);
	}
	return same;
}
