/*-------------------------------------------------------------------------
 *
 * model.h
 *		A slow revision tree to compare with: linked nodes, recursion, nothing
 *		packed, no trunk.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DOCREP_TEST_MODEL_H
#define DOCREP_TEST_MODEL_H

#include "unit.h"

typedef struct Model Model;

extern Model *model_new(void);
extern void model_free(Model *model);

/*
 * Merge a path.  *repaired tells whether a revision was there twice, at a
 * root and elsewhere, and was made one.
 */
extern RevMergeResult model_merge(Model *model, const RevPath *path,
								  bool deleted, bool *repaired);

extern void model_stem(Model *model, uint32 limit);

/* Remove the leaf that equals rev. */
extern void model_remove(Model *model, const Rev *rev);

/* How many nodes equal rev? */
extern int	model_count(const Model *model, const Rev *rev);

/* Number of nodes. */
extern int	model_size(const Model *model);

/* The winner; NULL if empty. */
extern const Rev *model_winner(const Model *model);

/*
 * The leaves' paths as numbers, sorted: two trees are equal if these are, and
 * their sizes.  "inner": with the deleted flags of revisions that are no
 * leaves.  Allocated; returns how many.
 */
extern int	model_digest(const Model *model, bool inner, uint64 **digest);
extern int	tree_digest(const RevTree *tree, bool inner, uint64 **digest);

/* Print as comments. */
extern void model_print(const Model *model);
extern void tree_print(const RevTree *tree);

/*
 * Is the (loaded) tree what the model is?  Prints both if not.  "inner" as
 * above: repairs of one revision with two pasts need not agree in that.
 */
extern bool model_equals(const Model *model, const RevTree *tree, bool inner);

#endif							/* DOCREP_TEST_MODEL_H */
