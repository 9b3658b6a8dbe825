/*-------------------------------------------------------------------------
 *
 * revtree_trunk.c
 *		The trunk part of a tree: loading it, and moving revisions there.
 *
 *-------------------------------------------------------------------------
 */
#include "revision/port.h"
#include "revision/revtree.h"
#include "revision/revtree_internal.h"
#include "revision/revtree_trunk.h"

/* how many nodes a tree keeps inline when it moves others to the trunk */
#define INLINE_KEPT		(REVTREE_INLINE_MAX + 1 - REVTREE_FLUSH)

/* a stored trunk that has been looked through */
typedef struct StoredTrunk
{
	uint32		first;			/* generation of the oldest entry */
	uint32		n;				/* number of entries */
	const uint8 *entries;
	const uint8 *end;
} StoredTrunk;

/*
 * Write an identifier; see the header.
 */
size_t
docrep_entry_write(const Rev *rev, uint8 *out)
{
	size_t		n = 0;

	if (!rev->hex)
		n = docrep_varint_write(out, rev->len);
	memcpy(out + n, rev->bytes, rev->len);
	return n + rev->len;
}

/*
 * Read an identifier; see the header.
 */
size_t
docrep_entry_read(uint8 tag, const uint8 *p, const uint8 *end, Rev *rev)
{
	uint32		len = REV_HASH_LEN;
	size_t		n = 0;

	rev->hex = (tag & ENTRY_STRING) == 0;
	if (!rev->hex)
	{
		n = docrep_varint_read(p, end, &len);
		if (n == 0 || len < 1 || len > REV_MAX_LEN || len == 2 * REV_HASH_LEN)
			return 0;
	}
	if (len > (size_t) (end - p) - n)
		return 0;
	rev->bytes = p + n;
	rev->len = (uint16) len;
	if (!rev->hex && memchr(rev->bytes, '\0', len) != NULL)
		return 0;
	return n + len;
}

/*
 * Read one entry of the trunk.  Returns the bytes read or 0.
 */
static size_t
read_entry(const uint8 *p, const uint8 *end, Rev *rev, bool *deleted)
{
	size_t		n;

	if (p >= end || (*p & ~(ENTRY_DELETED | ENTRY_STRING)) != 0)
		return 0;
	*deleted = (*p & ENTRY_DELETED) != 0;
	n = docrep_entry_read(*p, p + 1, end, rev);
	return n == 0 ? 0 : n + 1;
}

/*
 * Look through a stored trunk: false if it is malformed, or is not one whose
 * newest revision is the parent of the tree's trunk root, with as many
 * revisions as the tree uses.
 */
static bool
scan_trunk(const RevTree *tree, const uint8 *trunk, size_t len,
		   StoredTrunk *stored)
{
	const uint8 *p = trunk;
	uint32		top = tree->nodes[tree->trunk_root].rev.gen;
	size_t		used;

	stored->end = trunk + len;
	if (len < 1 || *p++ != REVTREE_VERSION)
		return false;
	used = docrep_varint_read(p, stored->end, &stored->first);
	if (used == 0 || stored->first < 1 || stored->first >= top)
		return false;
	p += used;
	stored->entries = p;
	stored->n = 0;
	while (p < stored->end)
	{
		Rev			rev;
		bool		deleted;

		used = read_entry(p, stored->end, &rev, &deleted);
		if (used == 0)
			return false;
		p += used;
		stored->n++;
	}
	return stored->n == top - stored->first && stored->n >= tree->trunk_used;
}

/*
 * Go past the oldest "n" entries of a trunk that has been looked through.
 */
static const uint8 *
skip_entries(const StoredTrunk *stored, uint32 n)
{
	const uint8 *p = stored->entries;
	Rev			rev;
	bool		deleted;

	while (n-- > 0)
		p += read_entry(p, stored->end, &rev, &deleted);
	return p;
}

/*
 * Load the trunk; see the header.
 */
bool
docrep_revtree_load_trunk(RevTree *tree, const uint8 *trunk, size_t len)
{
	StoredTrunk stored;
	const uint8 *p;
	uint32		gen;
	int32		n;

	if (tree->trunk_root < 0)
		return true;
	if (!scan_trunk(tree, trunk, len, &stored))
		return false;

	gen = tree->nodes[tree->trunk_root].rev.gen - tree->trunk_used;
	p = skip_entries(&stored, stored.n - tree->trunk_used);
	n = (int32) tree->trunk_used;
	docrep_revtree_prepend(tree, tree->trunk_root, n);
	for (int32 i = 0; i < n; i++)
	{
		RevNode    *node = &tree->nodes[i];

		p += read_entry(p, stored.end, &node->rev, &node->deleted);
		node->rev.gen = gen++;
	}
	tree->trunk_root = -1;
	tree->trunk_used = 0;
	tree->trunk_loaded = true;
	return true;
}

/*
 * For a node with a single child, how many nodes in a row, beginning there,
 * have a single child?  Fills lines, an entry a node.
 */
static void
measure_lines(const RevTree *tree, int32 *lines)
{
	for (int32 i = 0; i < tree->n; i++)
		lines[i] = 0;
	for (int32 i = tree->n - 1; i >= 0; i--)
	{
		int32		parent = tree->nodes[i].parent;

		if (parent >= 0 && tree->nodes[parent].nchildren == 1)
			lines[parent] = lines[i] + 1;
	}
}

/*
 * Decide what moves to the trunk: the line below the trunk root, or, without
 * a trunk that is in use, the longest line below a root.
 */
void
docrep_trunk_plan(const RevTree *tree, TrunkMove *move)
{
	int32		stack[REVTREE_STACK_NODES];
	int32	   *lines = stack;

	move->root = tree->trunk_root;
	move->n = 0;
	if (tree->n <= REVTREE_INLINE_MAX)
		return;

	if (tree->n > REVTREE_STACK_NODES)
		lines = palloc(sizeof(int32) * (size_t) tree->n);
	measure_lines(tree, lines);
	if (tree->trunk_root < 0)
	{
		for (int32 i = 0; i < tree->n; i++)
		{
			if (tree->nodes[i].parent < 0 &&
				(move->root < 0 || lines[i] > lines[move->root]))
				move->root = i;
		}
	}
	move->n = Min(lines[move->root], tree->n - INLINE_KEPT);
	if (move->n < REVTREE_FLUSH)
		move->n = 0;
	if (lines != stack)
		pfree(lines);
}

/*
 * Would pack move revisions?
 */
bool
docrep_revtree_wants_flush(const RevTree *tree)
{
	TrunkMove	move;

	docrep_trunk_plan(tree, &move);
	return move.n > 0;
}

/*
 * Make the new trunk; see the header.
 */
bool
docrep_trunk_extend(const RevTree *tree, const TrunkMove *move,
					const uint8 *old, size_t old_len, size_t reserve,
					uint8 **trunk, size_t *trunk_len)
{
	StoredTrunk stored;
	const uint8 *kept = NULL;
	size_t		kept_len = 0;
	uint32		first = tree->nodes[move->root].rev.gen;
	size_t		size;
	int32		node = -1;
	int32		left = move->n;
	uint8	   *p;

	if (tree->trunk_root >= 0)
	{
		if (old == NULL || !scan_trunk(tree, old, old_len, &stored))
			return false;
		first -= tree->trunk_used;
		kept = skip_entries(&stored, stored.n - tree->trunk_used);
		kept_len = (size_t) (stored.end - kept);
	}

	size = 1 + VARINT_MAX_SIZE + kept_len;
	for (int32 i = move->root; i < tree->n; i++)
		size += 1 + VARINT_MAX_SIZE + tree->nodes[i].rev.len;
	*trunk = palloc(reserve + size);
	p = *trunk + reserve;
	*p++ = REVTREE_VERSION;
	p += docrep_varint_write(p, first);
	if (kept_len > 0)
		memcpy(p, kept, kept_len);
	p += kept_len;
	for (int32 i = move->root; left > 0; i++)
	{
		if (tree->nodes[i].parent != node)
			continue;
		node = i;
		left--;
		*p++ = docrep_entry_tag(&tree->nodes[i]);
		p += docrep_entry_write(&tree->nodes[i].rev, p);
	}
	*trunk_len = (size_t) (p - (*trunk + reserve));
	return true;
}
