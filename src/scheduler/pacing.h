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

/* How a job that fails is tried again.  All zeroes: a job that never failed; set "cycles". */
typedef struct Pacing
{
	bool		cycles;			/* RavenDB's pacing, else exponential back-off */
	int			failures;		/* in a row */
	int64		next;			/* exponential: when to try again.  cycles: when the current
								 * cycle ends by itself */
	int64		cycles_left;	/* cycles that have to end before the next attempt */
	int64		last_failure;	/* 0: none */
	int64		opened;			/* when the present run had opened both peers, 0: not yet */
} Pacing;

/* What pacing depends on that can be set; microseconds. */
typedef struct PacingLimits
{
	int64		backoff_min;	/* pause after the first failure */
	int64		backoff_max;
	int64		cycle_interval; /* a cycle ends after this time even if the source stands still */
	int64		health_threshold;	/* a run that stood for longer than this was a healthy one;
									 * CouchDB's is two minutes */
} PacingLimits;

/*
 * The run has both peers open.  With exponential back-off a failure later than
 * health_threshold after this follows a healthy run, and counts as the first.
 * The time in which a run tries to reach its peers is none in which it is
 * healthy: retries of requests can make it longer than any threshold.
 */
extern void docrep_pacing_opened(Pacing *pacing, int64 now);

/* A run failed.  random: any 32 bits, for the jitter of the back-off. */
extern void docrep_pacing_failed(Pacing *pacing, const PacingLimits *limits, int64 now,
								 uint32 random);

/* A run got somewhere: forget the failures. */
extern void docrep_pacing_succeeded(Pacing *pacing);

/*
 * Shall people be told of the failures yet?  With "cycles" not of the first,
 * which is most likely a passing one and is tried again at once.
 */
extern bool docrep_pacing_noted(const Pacing *pacing);

/*
 * The source committed something: with "cycles" the current cycle ends.  True:
 * that was the last one, it is time for the next attempt.
 */
extern bool docrep_pacing_commit(Pacing *pacing, const PacingLimits *limits, int64 now);

/* Is it time for the next attempt?  Ends cycles whose time is over. */
extern bool docrep_pacing_due(Pacing *pacing, const PacingLimits *limits, int64 now);

/* When docrep_pacing_due will say yes if the source stands still. */
extern int64 docrep_pacing_next(const Pacing *pacing, const PacingLimits *limits);

/* A job that has a process, as rotation sees it. */
typedef struct RotationJob
{
	int32		index;			/* the caller's own */
	bool		continuous;
	int64		running_since;	/* when it got its process */
} RotationJob;

/*
 * At the end of a scheduling interval: which of the n jobs that have a process
 * give it to the "waiting" jobs in the queue?  As CouchDB: only continuous ones, those
 * that had theirs longest first, at most max_churn, none that had it for less
 * than min_run.  Sorts jobs; returns how many of them, from the front, have to stop.
 */
extern int	docrep_rotation_choose(RotationJob *jobs, int n, int waiting, int max_churn,
								   int64 min_run, int64 now);

#endif							/* DOCREP_SCHEDULER_PACING_H */
