/*-------------------------------------------------------------------------
 *
 * change_internal.h
 *		What is to happen to one document; for change.c, change_leaves.c and
 *		change_rows.c only.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DOCREP_STORE_CHANGE_INTERNAL_H
#define DOCREP_STORE_CHANGE_INTERNAL_H

#include "store/change.h"

/* The stored trunk, detoasted, or NULL. */
extern bytea *docrep_change_old_trunk(DocTable *table, DocChange *change);

/*
 * Which rows of losing leaves come and go.  Every losing leaf that is live
 * has one; a deleted one only if it has a body or attachments, or is younger than
 * the winner, whose time counts for those that have none.
 */
extern void docrep_change_plan_leaves(DocTable *table, DocChange *change);

/*
 * A conflict that is left, with policy mark: the row shows it, and the winner's body
 * (without its attachments, which stay with the row) is kept with those of the losing leaves.
 */
extern void docrep_change_plan_mark(DocTable *table, DocChange *change, const LeafState *winner);

/* Is it {}? */
extern bool docrep_change_body_is_empty(Jsonb *doc);

#endif							/* DOCREP_STORE_CHANGE_INTERNAL_H */
