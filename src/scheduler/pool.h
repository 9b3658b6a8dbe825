/*-------------------------------------------------------------------------
 *
 * pool.h
 *		The pool of job processes, and the queue of jobs that want one.
 *
 * A process belongs to one (database, role) for its life, and does one job of
 * these after the other.  When it has none it stays for a while, because the
 * next one then starts without a fork and with warm caches.
 *
 * Everything is in shared memory under JOBS_LOCK.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DOCREP_SCHEDULER_POOL_H
#define DOCREP_SCHEDULER_POOL_H

#include "scheduler/slots.h"

typedef enum PoolState
{
	POOL_FREE = 0,
	POOL_STARTING,				/* asked for, not there yet */
	POOL_BUSY,					/* has a job */
	POOL_IDLE					/* has none, and waits for one */
} PoolState;

typedef struct PoolWorker
{
	PoolState	state;
	uint64		generation;		/* of the use of this place */
	int			pid;
	Oid			database;
	Oid			role;
	bool		leave;			/* it shall end when it has no job */
	TimestampTz since;			/* in this state */
	JobStart	start;			/* the job that it has, or was asked for with */
} PoolWorker;

/* What a new process gets; travels in bgw_extra. */
typedef struct PoolStart
{
	int			place;
	uint64		generation;
	Oid			database;
	Oid			role;
} PoolStart;

/* What became of a job that wants a process. */
typedef enum PoolAnswer
{
	POOL_ASSIGNED,				/* an idle process has it */
	POOL_REGISTER,				/* a place was taken: register the process with docrep_pool_register */
	POOL_SATURATED,				/* its source or target has more to do than it can: later */
	POOL_FULL					/* no process is free; one that idles for another role may have been
								 * asked to leave */
} PoolAnswer;

/* ---------- jobs.c, for submit.c and send_away.c too ---------- */

/* Copies in shared memory of what a request says; made outside of JOBS_LOCK. */
typedef struct JobTexts
{
	dsa_pointer request;
	dsa_pointer task;
} JobTexts;

extern JobTexts docrep_job_keep_texts(const JobRequest *request);

/* Those that no job has taken. */
extern void docrep_job_release_texts(JobTexts *texts);

/*
 * With JOBS_LOCK held exclusively: the live job of (database, role, id) or NULL;
 * a new one, in the queue, or NULL if there is no slot.
 */
extern Job *docrep_job_find(const JobRequest *request);
extern Job *docrep_job_make(const JobRequest *request, JobTexts *texts);

/* With JOBS_LOCK held exclusively: docrep_job_stop. */
extern void docrep_job_stop_locked(Job *job, JobStop stop, int grace);

/*
 * Find the job of the request's (database, role, id), or make it, and count
 * the caller as one that waits for it.  *created: it is new.  *start_process:
 * the caller registers its process with *start.  False, and nothing done: it is
 * there but ending; wait for *ref and try again.  No free slot: 53400.
 */
extern bool docrep_job_join(const JobRequest *request, JobRef *ref, bool *created,
							PoolStart *start, bool *start_process);

/* ---------- saturation.c ---------- */

/*
 * With JOBS_LOCK held: has a side of this job more to do than it can already, as a
 * running job noticed?  Then it waits: one more would only slow the others.
 */
extern bool docrep_job_is_saturated(const Job *job);

/* ---------- pool.c and dispatch.c ---------- */

extern PoolWorker *docrep_pool; /* docrep.max_workers of them */

/* With JOBS_LOCK held exclusively. */
extern void docrep_pool_set_state(PoolWorker *worker, PoolState state);

extern Size docrep_pool_size(void);
extern void docrep_pool_startup_shmem(void);

/* With JOBS_LOCK held exclusively: find a process for a pending job. */
extern PoolAnswer docrep_pool_find(Job *job, PoolStart *start);

/*
 * Without the lock: have the postmaster start it.  False: it cannot, the place
 * is free again and the job back in the queue; *problem says why.
 */
extern bool docrep_pool_register(const PoolStart *start, JobError *problem);

/*
 * For the launcher: give processes to the queue, oldest first, as far as there
 * are any.  Returns ms until it should be tried again, -1: when something changes.
 */
extern long docrep_pool_dispatch(void);

/* For the launcher: processes that were asked for and did not come; places of processes that died. */
extern void docrep_pool_check(void);

/* For the process: take the place; false: not wanted any more.  *job: what to do first. */
extern bool docrep_pool_enter(const PoolStart *start, JobStart *job);

/* For the process: the next job of its (database, role), if there is one. */
extern bool docrep_pool_next(JobStart *job);

/* For the process: wait for one; false: end. */
extern bool docrep_pool_wait(JobStart *job);

/* For the process, at exit. */
extern void docrep_pool_leave(void);

/* With JOBS_LOCK held exclusively: idle processes of a database (all: InvalidOid) shall end. */
extern void docrep_pool_dismiss(Oid database);

/* With JOBS_LOCK held exclusively: processes without a job shall end: the server needs room for others. */
extern void docrep_pool_dismiss_idle(void);

/* With JOBS_LOCK held: is there a process without a job in this database? */
extern bool docrep_pool_idle_in_database(Oid database);

/* With JOBS_LOCK held: the replications that have a process, into an array of docrep.max_workers. */
extern int	docrep_pool_running(RotationJob *jobs);

/* Has the pool no process at all? */
extern bool docrep_pool_is_empty(void);

/* Is one on its way? */
extern bool docrep_pool_is_starting(void);

#endif							/* DOCREP_SCHEDULER_POOL_H */
