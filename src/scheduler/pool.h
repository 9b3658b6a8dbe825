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
	POOL_FULL					/* no process is free; one that idles for another role may have been
								 * asked to leave */
} PoolAnswer;

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

/* Is there any process of the pool in this database? */
extern bool docrep_pool_in_database(Oid database);

#endif							/* DOCREP_SCHEDULER_POOL_H */
