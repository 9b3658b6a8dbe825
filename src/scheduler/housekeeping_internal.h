/*-------------------------------------------------------------------------
 *
 * housekeeping_internal.h
 *		A step of housekeeping; for housekeeping.c and housekeeping_steps.c only.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DOCREP_SCHEDULER_HOUSEKEEPING_INTERNAL_H
#define DOCREP_SCHEDULER_HOUSEKEEPING_INTERNAL_H

#include "scheduler/housekeeping.h"
#include "utils/uuid.h"

/* A row of docrep.table_jobs that was marked for this process. */
typedef struct HousekeepingTask
{
	pg_uuid_t	tbl;
	Oid			relid;
	char	   *kind;
	int64		version;
	char	   *position;		/* NULL: at the beginning */
	bool		fresh;			/* a round begins */
	bool		timed_out;		/* the last step took too long */
} HousekeepingTask;

/* What a step has done. */
typedef struct HousekeepingProgress
{
	int64		done;
	char	   *position;		/* where the next one goes on */
	bool		finished;		/* there is none */
	bool		over;			/* ... and nothing asks for this kind any more */
	int64		total;			/* with the first one: about how much there is, -1: not known */
} HousekeepingProgress;

/* ---------- housekeeping_steps.c ---------- */

/*
 * A step holds locks, and what it calls may hang: it has its time.  The timeout of statements is
 * what there is for that, and it is not in use here.
 */
extern void docrep_housekeeping_begin_limit(void);

/* The end of that time.  It may have struck just now, when nothing was left to be interrupted. */
extern void docrep_housekeeping_end_limit(void);

/* One step of a task; what came of it in the current context. */
extern void docrep_housekeeping_step(const HousekeepingTask *task,
									 HousekeepingProgress *progress);

#endif							/* DOCREP_SCHEDULER_HOUSEKEEPING_INTERNAL_H */
