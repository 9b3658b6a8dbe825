/*-------------------------------------------------------------------------
 *
 * revtree_pack.c
 *		The inline part of a tree as bytes.
 *
 * The format is in README.md.  Whatever unpack accepts, pack could have
 * written: every value has one form only.
 *
 *-------------------------------------------------------------------------
 */
#include "revision/port.h"
#include "revision/revtree.h"
#include "revision/revtree_internal.h"
#include "revision/revtree_trunk.h"

#define HEAD_TRUNK		0x80	/* in the first byte, over the version */

/* how a node's entry names its parent, in the tag byte */
#define PARENT_MASK		0x0c
#define PARENT_PREVIOUS	0x00	/* the entry before */
#define PARENT_DISTANT	0x04	/* a varint says how many entries back */
#define PARENT_NONE		0x08	/* a root; a varint gives the generation */
#define TAG_MASK		(ENTRY_DELETED | ENTRY_STRING | PARENT_MASK)

/*
 * Read one node's entry at p as node number i of tree.  Returns the bytes
 * read, 0 if it is malformed.
 */
static size_t
unpack_node(RevTree *tree, int32 i, const uint8 *p, const uint8 *end)
{
	const uint8 *start = p;
	RevNode    *node = &tree->nodes[i];
	uint32		value;
	uint8		tag;
	size_t		n;

	if (p >= end)
		return 0;
	tag = *p++;
	if ((tag & ~TAG_MASK) != 0)
		return 0;

	switch (tag & PARENT_MASK)
	{
		case PARENT_PREVIOUS:
			node->parent = i - 1;
			break;
		case PARENT_DISTANT:
			n = docrep_varint_read(p, end, &value);
			if (n == 0 || value < 2 || value > (uint32) i)
				return 0;
			p += n;
			node->parent = i - (int32) value;
			break;
		case PARENT_NONE:
			n = docrep_varint_read(p, end, &value);
			if (n == 0 || value < 1 || value > REV_MAX_GENERATION)
				return 0;
			p += n;
			node->parent = -1;
			node->rev.gen = value;
			break;
		default:
			return 0;
	}
	if ((tag & PARENT_MASK) != PARENT_NONE)
	{
		if (node->parent < 0 ||
			tree->nodes[node->parent].rev.gen >= REV_MAX_GENERATION)
			return 0;
		node->rev.gen = tree->nodes[node->parent].rev.gen + 1;
		tree->nodes[node->parent].nchildren++;
	}

	n = docrep_entry_read(tag, p, end, &node->rev);
	if (n == 0)
		return 0;
	p += n;
	node->nchildren = 0;
	node->deleted = (tag & ENTRY_DELETED) != 0;
	return (size_t) (p - start);
}

/*
 * Read what comes before the nodes, into tree and *n.  Returns the bytes read
 * or 0.
 */
static size_t
unpack_head(RevTree *tree, uint32 *n, const uint8 *packed, const uint8 *end)
{
	const uint8 *p = packed;
	uint32		root = 0;
	size_t		len;

	if (p >= end || (*p & ~HEAD_TRUNK) != REVTREE_VERSION)
		return 0;
	if ((*p++ & HEAD_TRUNK) != 0)
	{
		len = docrep_varint_read(p, end, &tree->trunk_used);
		if (len == 0 || tree->trunk_used < 1)
			return 0;
		p += len;
		len = docrep_varint_read(p, end, &root);
		if (len == 0 || root >= REV_MAX_GENERATION)
			return 0;
		p += len;
		tree->trunk_root = (int32) root;
		tree->trunk_loaded = false;
		tree->trunk_stored = true;
	}
	len = docrep_varint_read(p, end, n);
	if (len == 0)
		return 0;
	p += len;
	/* each node takes ENTRY_MIN_SIZE bytes or more: no count lies far */
	if (*n > (size_t) (end - p) / ENTRY_MIN_SIZE)
		return 0;
	return (size_t) (p - packed);
}

/*
 * Unpack; see the header.
 */
RevTree *
docrep_revtree_unpack(const uint8 *packed, size_t len)
{
	const uint8 *end = packed + len;
	RevTree    *tree = docrep_revtree_new(0);
	uint32		n;
	size_t		used;

	used = unpack_head(tree, &n, packed, end);
	if (used == 0)
		goto malformed;
	packed += used;

	/* one more than needed: the usual next thing is an update */
	docrep_revtree_reserve(tree, (int32) n + 1);
	for (int32 i = 0; i < (int32) n; i++)
	{
		used = unpack_node(tree, i, packed, end);
		if (used == 0)
			goto malformed;
		packed += used;
	}
	tree->n = (int32) n;
	if (packed != end)
		goto malformed;
	if (tree->trunk_root >= 0 &&
		(tree->trunk_root >= tree->n ||
		 tree->nodes[tree->trunk_root].parent >= 0 ||
		 tree->nodes[tree->trunk_root].rev.gen <= tree->trunk_used))
		goto malformed;
	return tree;

malformed:
	docrep_revtree_free(tree);
	return NULL;
}

/*
 * Write one node as entry number i, its parent being number "parent".
 * Returns the bytes written.
 */
static size_t
pack_node(const RevNode *node, int32 i, int32 parent, uint8 *out)
{
	uint8	   *tag = out++;
	size_t		n = 1;
	size_t		len = 0;

	if (parent < 0)
	{
		*tag = PARENT_NONE;
		len = docrep_varint_write(out, node->rev.gen);
	}
	else if (parent == i - 1)
		*tag = PARENT_PREVIOUS;
	else
	{
		*tag = PARENT_DISTANT;
		len = docrep_varint_write(out, (uint32) (i - parent));
	}
	n += len;
	*tag |= docrep_entry_tag(node);
	return n + docrep_entry_write(&node->rev, out + len);
}

/*
 * Write the inline part: the nodes whose entry in map is not REVTREE_DROP,
 * with the numbers that map gets here.  "root" is the node whose parent is in
 * the trunk (-1: none) and "used" how many revisions of the trunk count.
 */
static void
write_inline(const RevTree *tree, int32 *map, int32 root, uint32 used,
			 size_t reserve, uint8 **inlined, size_t *inlined_len)
{
	size_t		size = 1 + 3 * VARINT_MAX_SIZE;
	uint8	   *start;
	uint8	   *p;
	int32		n = 0;

	for (int32 i = 0; i < tree->n; i++)
	{
		if (map[i] == REVTREE_DROP)
			continue;
		map[i] = n++;
		size += 1 + 2 * VARINT_MAX_SIZE + tree->nodes[i].rev.len;
	}

	*inlined = palloc(reserve + size);
	start = p = *inlined + reserve;
	*p++ = REVTREE_VERSION | (root >= 0 ? HEAD_TRUNK : 0);
	if (root >= 0)
	{
		p += docrep_varint_write(p, used);
		p += docrep_varint_write(p, (uint32) map[root]);
	}
	p += docrep_varint_write(p, (uint32) n);
	for (int32 i = 0; i < tree->n; i++)
	{
		int32		parent = tree->nodes[i].parent;

		if (map[i] != REVTREE_DROP)
			p += pack_node(&tree->nodes[i], map[i],
						   parent < 0 ? -1 : map[parent], p);
	}
	*inlined_len = (size_t) (p - start);
}

/*
 * Pack; see the header.
 */
void
docrep_revtree_pack(const RevTree *tree, size_t reserve,
					const uint8 *old_trunk, size_t old_trunk_len,
					uint8 **inlined, size_t *inlined_len,
					bool *trunk_changed, uint8 **trunk, size_t *trunk_len)
{
	int32		stack[REVTREE_STACK_NODES];
	int32	   *map = stack;
	int32		root = tree->trunk_root;
	uint32		used = tree->trunk_used;
	TrunkMove	move;

	*trunk = NULL;
	*trunk_len = 0;
	if (tree->n > REVTREE_STACK_NODES)
		map = palloc(sizeof(int32) * (size_t) tree->n);
	memset(map, 0, sizeof(int32) * (size_t) tree->n);

	docrep_trunk_plan(tree, &move);
	if (move.n > 0 && docrep_trunk_extend(tree, &move, old_trunk, old_trunk_len,
										  reserve, trunk, trunk_len))
	{
		int32		node = -1;
		int32		left = move.n;

		used += (uint32) move.n;
		for (int32 i = move.root; left >= 0; i++)
		{
			if (tree->nodes[i].parent != node)
				continue;
			node = i;
			if (left-- > 0)
				map[i] = REVTREE_DROP;
			else
				root = i;
		}
	}
	/* what is stored stays while the tree hangs on it as it is */
	*trunk_changed = *trunk_len > 0 || (tree->trunk_stored && root < 0);
	write_inline(tree, map, root, used, reserve, inlined, inlined_len);
	if (map != stack)
		pfree(map);
}

/*
 * Pack everything inline; see the header.
 */
void
docrep_revtree_pack_inline(const RevTree *tree, size_t reserve,
						   uint8 **inlined, size_t *inlined_len)
{
	int32	   *map = palloc(sizeof(int32) * (size_t) Max(tree->n, 1));

	memset(map, 0, sizeof(int32) * (size_t) tree->n);
	write_inline(tree, map, tree->trunk_root, tree->trunk_used, reserve,
				 inlined, inlined_len);
	pfree(map);
}
