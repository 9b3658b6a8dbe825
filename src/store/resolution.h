/*-------------------------------------------------------------------------
 *
 * resolution.h
 *		Conflicts as a change meets them: what the table's policy makes of them.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DOCREP_STORE_RESOLUTION_H
#define DOCREP_STORE_RESOLUTION_H

#include "store/change.h"

/*
 * All writes of a change are in, and the tree has, or had, more than one leaf.  Adds to the
 * change what closes conflicts: tombstones of versions that said the same as the one that
 * was edited and, if the change is not an edit, what the policy wants.  What is left is in
 * change->versions, and change->unresolved tells how many there are.
 */
extern void docrep_change_resolve(DocTable *table, DocChange *change);

/*
 * If the policy has a resolver, ask it about all of several changes at once, before
 * docrep_change_finish goes on with each; those that are NONE by then are not to be among them.
 */
extern void docrep_changes_ask(DocTable *table, DocChange **changes, int n);

/* Add the tombstone that closes a leaf. */
extern void docrep_change_close_leaf(DocChange *change, const Rev *leaf, TimestampTz modified);

/*
 * A plain DELETE of a document with more live versions, once the deletion is in the tree:
 * close those that go along, and list in change->leaf_deletes the rows of leaves that are none any more.
 */
extern void docrep_change_close_deleted(DocTable *table, DocChange *change);

/* What a conflicted document's row shows with policy mark. */
extern Jsonb *docrep_conflict_marker(const DocVersion *versions, int n);

/* ---------- resolution_rounds.c ---------- */

/*
 * May a conflict of the document be resolved once more without somebody doing something
 * about it?  Counts it.  False: it has been too often; that is noted, and said the first time.
 */
extern bool docrep_rounds_next(DocTable *table, const char *id);

/* Note why a conflict could not be resolved. */
extern void docrep_rounds_problem(DocTable *table, const char *id, const ErrorData *error);

/* Forget what is noted of a document; only_old: only if it is not of the last minutes. */
extern void docrep_rounds_forget(DocTable *table, const char *id, bool only_old);

/*
 * The policy has been, or is about to be, tried again on these documents: what it had failed
 * with before a time is no problem any more, unless that it was tried too often.
 */
extern void docrep_rounds_settle(DocTable *table, const char **ids, int n, TimestampTz before);

extern void docrep_rounds_forget_all(DocTable *table);

#endif							/* DOCREP_STORE_RESOLUTION_H */
