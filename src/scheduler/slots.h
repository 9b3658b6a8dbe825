/*-------------------------------------------------------------------------
 *
 * slots.h
 *		The array of job slots in shared memory.  Private to jobs.c, slots.c,
 *		process.c and launcher.c.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DOCREP_SCHEDULER_SLOTS_H
#define DOCREP_SCHEDULER_SLOTS_H

#include "scheduler/jobs.h"
#include "storage/condition_variable.h"
#include "storage/lwlock.h"
#include "utils/dsa.h"

/* Protected by JOBS_LOCK unless said otherwise. */
typedef struct Job
{
	uint64		generation;		/* of the slot's use; moves when it is given out */
	JobState	state;
	JobStop		stop;
	TimestampTz stop_at;		/* with stop: when to send SIGTERM */

	JobKind		kind;
	char		id[JOB_ID_SIZE];
	Oid			database;
	Oid			role;
	Oid			extension;
	bool		continuous;
	TimestampTz started_on;
	char		source[JOB_ENDPOINT_SIZE];
	char		target[JOB_ENDPOINT_SIZE];
	dsa_pointer request;		/* with its NUL; kept after the slot became free
								 * until somebody can release it */
	dsa_pointer result;			/* likewise, or invalid */

	bool		established;
	bool		held;			/* crashing only because it was sent away */
	int			waiters;		/* callers that wait for it */
	int			start_no;		/* a process with an older one ends itself */
	int			pid;
	TimestampTz process_asked;
	int			failures;
	TimestampTz next_start;
	JobError	error;

	ConditionVariable changed;	/* broadcast after changes of the above */

	/* under FIGURES_LOCK of the slot */
	TimestampTz updated_on;
	ReplicationStats figures;
} Job;

typedef struct JobsShared
{
	int			launcher_pid;	/* 0: none; under JOBS_LOCK */
	uint64		last_generation;
	Job			jobs[FLEXIBLE_ARRAY_MEMBER];
} JobsShared;

extern JobsShared *docrep_jobs; /* NULL: no shared memory */
extern LWLockPadded *docrep_jobs_locks;

#define JOBS_LOCK			(&docrep_jobs_locks[0].lock)
#define FIGURES_LOCK(i)		(&docrep_jobs_locks[1 + (i)].lock)

/* This process's hold on the memory of requests and results. */
extern dsa_area *docrep_slots_area(void);

/* With JOBS_LOCK held: the job that ref means, or NULL. */
extern Job *docrep_slot_of(JobRef ref);

/* With JOBS_LOCK held exclusively: a free slot, cleared, with a generation; or NULL. */
extern Job *docrep_slot_take(void);

/* With JOBS_LOCK held exclusively: no process any more and never again. */
extern void docrep_slot_finish(Job *job);

/*
 * With JOBS_LOCK held exclusively: the process is gone or never came.  Finishes
 * the job, or makes it crashing.  error: NULL or what ended the run.
 */
extern void docrep_slot_process_gone(Job *job, const JobError *error);

/* With JOBS_LOCK held exclusively: wake those who wait for the job. */
extern void docrep_slot_changed(Job *job);

/* Release memory of free slots; for the launcher. */
extern void docrep_slots_reclaim(void);

/* Wake a process of ours by pid, if it is there. */
extern void docrep_wake_process(int pid);

/* With JOBS_LOCK held: wake the launcher. */
extern void docrep_wake_launcher(void);

static inline int
docrep_slot_index(const Job *job)
{
	return (int) (job - docrep_jobs->jobs);
}

#endif							/* DOCREP_SCHEDULER_SLOTS_H */
