/*-------------------------------------------------------------------------
 *
 * revtree_internal.h
 *		What the files of the revision tree share among themselves.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DOCREP_REVISION_REVTREE_INTERNAL_H
#define DOCREP_REVISION_REVTREE_INTERNAL_H

#include "revision/revtree.h"

/*
 * Scratch arrays of one number a node live on the stack for trees of the
 * usual size.
 */
#define REVTREE_STACK_NODES		64

/* the value in a map of nodes that stands for "this node goes" */
#define REVTREE_DROP			(-1)

/* Make room for "extra" more nodes. */
extern void docrep_revtree_reserve(RevTree *tree, int32 extra);

/*
 * Put a line of n nodes in front of all others and the node "root" (its index
 * before the call) under the last of it.  All indexes grow by n.  The caller
 * fills rev and deleted of nodes 0 to n - 1.
 */
extern void docrep_revtree_prepend(RevTree *tree, int32 root, int32 n);

/*
 * Drop the nodes whose entry in map is REVTREE_DROP; the others move up, and
 * those that lost their parent become roots.  Counts the children anew.
 */
extern void docrep_revtree_compact(RevTree *tree, int32 *map);

#endif							/* DOCREP_REVISION_REVTREE_INTERNAL_H */
