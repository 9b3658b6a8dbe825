/*-------------------------------------------------------------------------
 *
 * write.h
 *		Writing documents in batches: edits, and revisions as they are.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DOCREP_STORE_WRITE_H
#define DOCREP_STORE_WRITE_H

#include "store/state.h"

typedef struct DocWrite
{
	/* in */
	const char *id;				/* validated by docrep_document_parse or the caller */
	Jsonb	   *body;			/* an object without members that begin with "_"; NULL: {} */
	bool		deleted;
	RevPath		path;			/* as they are: the revision and its ancestors, newest
								 * first (n >= 1). edits: n = 0, or the _rev that was given */
	TimestampTz modified;		/* 0: now */

	/* out */
	Rev			rev;			/* the revision now stored (bytes allocated) */
	int			sqlstate;		/* 0: stored, or there already */
	char	   *reason;			/* with sqlstate */
	bool		known;			/* nothing was written: the revision was there */
} DocWrite;

/*
 * Store revisions as they are (new_edits = false).  A document that a
 * constraint, policy or trigger refuses gets its sqlstate and reason while the
 * others are stored.  Serialization failures, deadlocks, cancel and the like
 * are raised.  Several revisions of one document may be in one batch.
 * Needs INSERT, UPDATE and DELETE on the table as each is used.
 */
extern void docrep_write_revisions(DocTable *table, DocWrite *writes, int n);

/*
 * Make edits (new_edits = true): a stale or missing _rev on an existing
 * document gets sqlstate DR409 in its row; what a constraint, policy or
 * trigger refuses likewise gets its sqlstate.
 */
extern void docrep_write_edits(DocTable *table, DocWrite *writes, int n);

#endif							/* DOCREP_STORE_WRITE_H */
