/*-------------------------------------------------------------------------
 *
 * rejected.h
 *		Replicated documents that the table refused: kept, to be looked at and
 *		tried again.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DOCREP_STORE_REJECTED_H
#define DOCREP_STORE_REJECTED_H

#include "store/batch.h"

/*
 * Keep those of the batch that have an sqlstate.  One row for a revision of
 * a document; a later refusal replaces its reason.
 */
extern void docrep_rejected_keep(DocTable *table, const DocrepDocs *docs,
								 const DocrepWriteOrigin *origin);

/*
 * If the table has documents that were refused for a missing parent row
 * (23503), try them again: a child may come before its parent in order of
 * seq.  Cheap when there are none.
 */
extern void docrep_rejected_retry(DocTable *table, const DocrepWriteOrigin *origin);

/*
 * Call a function for the attachments of each of the table's rejected documents
 * that has any, as of now: their contents are kept.
 */
extern void docrep_rejected_attachments(DocTable *table, void (*function) (void *arg, Jsonb *column),
										void *arg);

/*
 * SET CONSTRAINTS ALL IMMEDIATE for this transaction: a deferred constraint
 * would otherwise fail all of the batch at its commit.
 */
extern void docrep_constraints_immediate(void);

/*
 * Was a revision refused that the current role may know of?  Then its SQLSTATE
 * and the reason, allocated in cxt.  In a transaction, with a snapshot.
 */
extern bool docrep_rejected_find(const pg_uuid_t *table, const char *id, const char *rev,
								 MemoryContext cxt, char **error, char **reason);

/* Are there any such revisions of the table at all?  Likewise. */
extern bool docrep_rejected_any(const pg_uuid_t *table);

/* ---------- rejected.c ---------- */

/* For rejected_retry.c: the path that a row of docrep.rejected has.  False: it is none. */
extern bool docrep_rejected_path(bytea *data, RevPath *path);

#endif							/* DOCREP_STORE_REJECTED_H */
