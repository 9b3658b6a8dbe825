/*-------------------------------------------------------------------------
 *
 * write_internal.h
 *		A batch that is being written; for write*.c only.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DOCREP_STORE_WRITE_INTERNAL_H
#define DOCREP_STORE_WRITE_INTERNAL_H

#include "store/write.h"

/* All writes of one document. */
typedef struct DocGroup
{
	DocWrite  **writes;
	int			n;
} DocGroup;

typedef struct WriteJob
{
	DocTable   *table;
	DocGroup	   *groups;			/* in order of id */
	int			ngroups;
	bool		edits;
	bool		isolate;
	bool		again;			/* docrep_write_again */
	bool		ask;			/* validators, and the hook */
	MemoryContext cxt;			/* the caller's: for what is said of the writes */
} WriteJob;

/* ---------- write_range.c ---------- */

/* Write the groups [lo, hi). */
extern void docrep_write_range(WriteJob *job, int lo, int hi);

/* ---------- write_isolate.c ---------- */

/* Somebody inserted the same id between our look and our INSERT. */
extern bool docrep_write_is_race(WriteJob *job, ErrorData *edata);

/*
 * Write all groups, each in the end stored or refused.
 *
 * When some cannot be written together, the row that was met last is the
 * likely reason, unless it was the very first or last: then the error may have
 * come from the end of the statement.  What comes before it is tried again,
 * then it alone.  How many are tried at a time shrinks with each failure and
 * grows with each success, so that neither few refusals nor many make the
 * rest be worked through again and again.
 */
extern void docrep_write_isolated(WriteJob *job);

#endif							/* DOCREP_STORE_WRITE_INTERNAL_H */
