/*-------------------------------------------------------------------------
 *
 * revtree_trunk.h
 *		The trunk part of a tree as bytes, and what it shares with the inline
 *		part: the entry of one revision.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DOCREP_REVISION_REVTREE_TRUNK_H
#define DOCREP_REVISION_REVTREE_TRUNK_H

#include "revision/revtree.h"

/* of both parts; a reader refuses any other */
#define REVTREE_VERSION		1

#define VARINT_MAX_SIZE		5

/* bits of an entry's tag byte that both parts have */
#define ENTRY_DELETED		0x01
#define ENTRY_STRING		0x02	/* a length and a string; else 16 bytes */

/* tag, length, one byte */
#define ENTRY_MIN_SIZE		3

static inline uint8
docrep_entry_tag(const RevNode *node)
{
	return (node->deleted ? ENTRY_DELETED : 0) |
		(node->rev.hex ? 0 : ENTRY_STRING);
}

/*
 * Write what follows the tag: the identifier.  Returns the bytes written, at
 * most VARINT_MAX_SIZE + rev->len.
 */
extern size_t docrep_entry_write(const Rev *rev, uint8 *out);

/*
 * Read it into rev (not its generation).  Returns the bytes read, 0 if it is
 * malformed.
 */
extern size_t docrep_entry_read(uint8 tag, const uint8 *p, const uint8 *end,
								Rev *rev);

/* Which revisions move to the trunk: n on the line that begins at root. */
typedef struct TrunkMove
{
	int32		root;
	int32		n;
} TrunkMove;

/* Decide what moves; n is 0 if nothing does. */
extern void docrep_trunk_plan(const RevTree *tree, TrunkMove *move);

/*
 * Make the trunk that holds what counts of the old one and then the moved
 * revisions.  False if the old one is needed and not given, or does not fit.
 */
extern bool docrep_trunk_extend(const RevTree *tree, const TrunkMove *move,
								const uint8 *old, size_t old_len, size_t reserve,
								uint8 **trunk, size_t *trunk_len);

#endif							/* DOCREP_REVISION_REVTREE_TRUNK_H */
