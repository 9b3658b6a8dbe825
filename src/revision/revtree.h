/*-------------------------------------------------------------------------
 *
 * revtree.h
 *		Revision trees: merge, winner, leaves, stemming, ancestry.
 *
 * The rules are those of CouchDB's key tree.  A document's revisions form a
 * forest: several roots are possible when histories were stemmed or begin
 * independently.
 *
 * A tree is stored in two parts.  The inline part holds the newest
 * revisions.  The trunk part, if any, holds older ones: a single line of
 * revisions of consecutive generations, oldest first, that ends in the parent
 * of one root of the inline part (the "trunk root").  An update appends to
 * the inline part only; every REVTREE_FLUSH revisions the oldest inline ones
 * move to the trunk.  So an update costs the same whatever the length of the
 * history.  How many revisions of the trunk still count under the revs_limit
 * is written in the inline part, so that the trunk need not be rewritten to be
 * stemmed.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DOCREP_REVISION_REVTREE_H
#define DOCREP_REVISION_REVTREE_H

#include "revision/rev.h"

/* when the inline part of a tree holds more nodes than this ... */
#define REVTREE_INLINE_MAX	32
/* ... and its oldest ones form a line, this many of them move to the trunk */
#define REVTREE_FLUSH		24

typedef struct RevNode
{
	Rev			rev;
	int32		parent;			/* index of the parent in nodes, always lower
								 * than the own index; -1: a root */
	int32		nchildren;		/* 0: a leaf */
	bool		deleted;		/* the edit was a deletion */
} RevNode;

typedef struct RevTree
{
	int32		n;				/* nodes in use */
	int32		cap;			/* nodes allocated */
	RevNode    *nodes;
	int32		trunk_root;		/* node whose ancestors are in the trunk, or -1 */
	uint32		trunk_used;		/* newest revisions of the trunk that count */
	bool		trunk_loaded;	/* the trunk's revisions are in nodes (then
								 * trunk_root is -1), or there is no trunk */
	bool		trunk_stored;	/* a trunk lies beside the packed tree that this
								 * one was unpacked from; pack must replace or
								 * remove it if it is not used any more */
	bool		changed;		/* not what was unpacked any more: a merge that
								 * answers KNOWN may have added ancestors, or
								 * made a leaf an ancestor */
	uint32		revs_limit;		/* a hint for merge: the limit to which the
								 * caller will stem next; 0: unknown */
} RevTree;

/* A line of revisions as in _revisions: newest first, consecutive generations. */
typedef struct RevPath
{
	int32		n;
	Rev		   *revs;			/* revs[i + 1].gen == revs[i].gen - 1 */
} RevPath;

typedef enum RevMergeResult
{
	REVMERGE_KNOWN,				/* the path's newest revision was there: the
								 * tree may at most have learnt older ancestors */
	REVMERGE_NEW_LEAF,			/* it extends what was a leaf, or the tree was
								 * empty */
	REVMERGE_NEW_BRANCH,		/* it began a branch or a root of its own */
	REVMERGE_NEED_TRUNK			/* nothing done: load the trunk and try again */
} RevMergeResult;

/*
 * Indexes of nodes hold until the next call of load_trunk, merge, stem or
 * remove_leaf on the tree; each of them may renumber.
 */

/* An empty tree with room for cap nodes. */
extern RevTree *docrep_revtree_new(int32 cap);

/* Free a tree; for long loops, and programs without memory contexts. */
extern void docrep_revtree_free(RevTree *tree);

/*
 * Unpack the inline part.  Revisions point into "packed", which must outlive
 * the tree.  NULL if it is malformed (bad version byte, parents that do not
 * come first, generations that do not follow each other, lengths that run
 * over, ...).  Never reads outside [packed, packed + len).
 */
extern RevTree *docrep_revtree_unpack(const uint8 *packed, size_t len);

/*
 * Put the trunk's used revisions under the trunk root.  False (and no change)
 * if the trunk is malformed or does not fit.  A no-op on a tree without one.
 */
extern bool docrep_revtree_load_trunk(RevTree *tree, const uint8 *trunk, size_t len);

/*
 * Merge a path whose newest revision has the given deleted flag (its
 * ancestors, when they are new, count as not deleted), by the rules of
 * CouchDB's merge: the path attaches where its oldest revision is found, or,
 * when the tree's root is younger than the path's oldest, where that root is
 * found in the path (the tree then learns older ancestors); else it becomes a
 * root of its own.  A root that the path shows to be a descendant of other
 * revisions is put there.  Does not stem.  path->revs' bytes must outlive the
 * tree.
 *
 * The trunk is needed when the path leaves the tree below the trunk root, or
 * could add ancestors older than the trunk's oldest that stemming to
 * tree->revs_limit would not drop at once.
 */
extern RevMergeResult docrep_revtree_merge(RevTree *tree, const RevPath *path,
										   bool deleted);

/*
 * Append a child of node "parent" (-1: a new root).  Returns its index.  The
 * generation must be parent's + 1; the caller has made sure that no such
 * child exists.
 */
extern int32 docrep_revtree_add(RevTree *tree, int32 parent, const Rev *rev, bool deleted);

/* Index of a revision, leaf or not, or -1.  Does not look into an unloaded trunk. */
extern int32 docrep_revtree_find(const RevTree *tree, const Rev *rev);

/* The winning leaf: live before deleted, then highest in docrep_rev_cmp. -1: empty tree. */
extern int32 docrep_revtree_winner(const RevTree *tree);

/*
 * The leaves' indexes, winner first, in CouchDB's order (live before deleted,
 * then descending); allocated; returns their number.
 */
extern int32 docrep_revtree_leaves(const RevTree *tree, int32 **leaves);

/* Number of leaves that are not deleted. */
extern int32 docrep_revtree_live_leaves(const RevTree *tree);

/*
 * Is "rev" in the tree's unloaded trunk, perhaps?  True when the tree has an
 * unloaded trunk and rev's generation is one that the trunk covers.
 */
extern bool docrep_revtree_maybe_in_trunk(const RevTree *tree, const Rev *rev);

/*
 * Keep, of every leaf's path, the newest "limit" revisions (limit >= 1); a
 * revision stays as long as one leaf needs it.  Works with an unloaded trunk
 * by lowering trunk_used.  A revision that becomes a root here and equals
 * another node is merged with that one (unless a trunk is unloaded).
 */
extern void docrep_revtree_stem(RevTree *tree, uint32 limit);

/*
 * Remove a leaf, and those ancestors that no other leaf needs, as purge does.
 * Right with an unloaded trunk, too: the trunk goes with its root.
 */
extern void docrep_revtree_remove_leaf(RevTree *tree, int32 leaf);

/*
 * The path of a node, newest first.  Includes the trunk only when it is
 * loaded.  Allocated; Rev bytes are shared with the tree.
 */
extern RevPath docrep_revtree_path(const RevTree *tree, int32 node);

/*
 * Pack.  *trunk_changed tells whether a new trunk was made in *trunk
 * (*trunk_len 0: there is none any more); otherwise the stored trunk stays as
 * it is.  old_trunk is the stored trunk (or NULL), wanted when revisions have
 * to move there: when the tree has an unloaded trunk, more than
 * REVTREE_INLINE_MAX inline nodes, and old_trunk is NULL, the inline part
 * just grows, which is correct but slower.  A tree whose trunk was loaded
 * comes out with a new trunk or none.  The outputs are allocated with
 * "reserve" unused bytes in front (for a varlena header), not counted in the
 * lengths:
 * *inlined and *trunk point to what was allocated, the data is at + reserve.
 * *trunk is NULL when *trunk_len is 0.
 */
extern void docrep_revtree_pack(const RevTree *tree, size_t reserve,
								const uint8 *old_trunk, size_t old_trunk_len,
								uint8 **inlined, size_t *inlined_len,
								bool *trunk_changed,
								uint8 **trunk, size_t *trunk_len);

/*
 * Pack all nodes inline, whatever their number; a stored trunk stays as it is.
 * For values that have no place for a trunk beside them.
 */
extern void docrep_revtree_pack_inline(const RevTree *tree, size_t reserve,
									   uint8 **inlined, size_t *inlined_len);

/*
 * True if pack would move revisions to a trunk, so that old_trunk is wanted if
 * there is one.
 */
extern bool docrep_revtree_wants_flush(const RevTree *tree);

/*
 * Structure check for docrep.check(): NULL, or what is wrong.  Parents, child
 * counts, generations, trunk root, no two equal siblings.
 */
extern const char *docrep_revtree_check(const RevTree *tree);

#endif							/* DOCREP_REVISION_REVTREE_H */
