/*-------------------------------------------------------------------------
 *
 * batch_rows.h
 *		The rows that a batch puts through the executor.
 *
 * A batch changes the document table by one INSERT, one UPDATE and one DELETE
 * that read their rows from docrep.batch_rows(), so that constraints,
 * generated columns, foreign keys, triggers and policies hold.  The tracking
 * trigger meets these rows and takes the bookkeeping from the batch.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DOCREP_STORE_BATCH_ROWS_H
#define DOCREP_STORE_BATCH_ROWS_H

#include "store/change.h"

/*
 * Put the changes of one action through the executor, as the current role.
 * Changes whose row did not arrive (a trigger or a policy kept it away) are
 * left with seen = false.
 */
extern void docrep_batch_execute(DocTable *table, DocChange **changes, int n, ChangeAction action);

/*
 * For the trigger: the change that the running statement is to make to this
 * id of this table, or NULL if there is none.
 */
extern DocChange *docrep_batch_find(Oid relid, ChangeAction action, const char *id, int idlen);

/* The same in a trigger's WHEN condition, after the fact. */
extern bool docrep_batch_contains(Oid relid, ChangeAction action, const char *id, int idlen);

/* The same in an AFTER trigger. */
extern DocChange *docrep_batch_peek(Oid relid, ChangeAction action, const char *id, int idlen);

/* For the trigger: is the row it has been called for one of a batch? */
extern bool docrep_batch_running(Oid relid, ChangeAction action);

/* The row that was met last, in the order of the batch: where an error may have come from. */
extern int	docrep_batch_last_seen(void);

#endif							/* DOCREP_STORE_BATCH_ROWS_H */
