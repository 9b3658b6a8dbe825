/*-------------------------------------------------------------------------
 *
 * pacing.h
 *		When a job that failed is tried again, and which jobs give way to others.
 *
 * Pure functions of what they are given, time and chance included: tests run
 * days of this in a moment.  No Postgres besides the types of port.h; times are
 * microseconds of any epoch.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DOCREP_SCHEDULER_PACING_H
#define DOCREP_SCHEDULER_PACING_H

#include "revision/port.h"

/* How a job that fails is tried again. */
typedef struct Pacing
{
	bool		cycles;			/* RavenDB's pacing, else exponential back-off */
	int			failures;		/* in a row */
	int64_t		next;			/* exponential: when to try again.  cycles: when the current
								 * cycle ends by itself */
	int64_t		cycles_left;	/* cycles that have to end before the next attempt */
	int64_t		last_failure;	/* 0: none */
} Pacing;

/* What pacing depends on that can be set; microseconds. */
typedef struct PacingLimits
{
	int64_t		backoff_min;	/* pause after the first failure */
	int64_t		backoff_max;
	int64_t		cycle_interval; /* a cycle ends after this time even if the source stands still */
} PacingLimits;

/* A run failed.  random: any 32 bits, for the jitter of the back-off. */
extern void docrep_pacing_failed(Pacing *pacing, const PacingLimits *limits, int64_t now,
								 uint32_t random);

/* A run got somewhere: forget the failures. */
extern void docrep_pacing_succeeded(Pacing *pacing);

/* The source committed something: with "cycles" the current cycle ends. */
extern void docrep_pacing_commit(Pacing *pacing, const PacingLimits *limits, int64_t now);

/* Is it time for the next attempt?  Ends cycles whose time is over. */
extern bool docrep_pacing_due(Pacing *pacing, const PacingLimits *limits, int64_t now);

/* When docrep_pacing_due should be asked again. */
extern int64_t docrep_pacing_next(const Pacing *pacing);

/* A job that has a process, as rotation sees it. */
typedef struct RotationJob
{
	int32_t		index;			/* the caller's own */
	bool		continuous;
	int64_t		running_since;	/* when it got its process */
} RotationJob;

/*
 * At the end of a scheduling interval: which of the n jobs that have a process
 * give it to the "waiting" jobs in the queue?  As CouchDB: only continuous ones, those
 * that had theirs longest first, at most max_churn, none that had it for less
 * than min_run.  Sorts jobs; returns how many of them, from the front, have to stop.
 */
extern int	docrep_rotation_choose(RotationJob *jobs, int n, int waiting, int max_churn,
								   int64_t min_run, int64_t now);

#endif							/* DOCREP_SCHEDULER_PACING_H */
