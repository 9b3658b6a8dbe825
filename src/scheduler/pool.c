/*-------------------------------------------------------------------------
 *
 * pool.c
 *		The pool of job processes, and who gets one.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/interrupt.h"
#include "scheduler/homes.h"
#include "scheduler/pool.h"
#include "storage/latch.h"
#include "storage/shmem.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

PoolWorker *docrep_pool;		/* docrep.max_workers of them */
static PoolWorker *mine = NULL; /* of this process */

Size
docrep_pool_size(void)
{
	return mul_size(docrep_max_workers, sizeof(PoolWorker));
}

void
docrep_pool_startup_shmem(void)
{
	bool		found;

	docrep_pool = ShmemInitStruct("docrep pool", docrep_pool_size(), &found);
	if (!found)
		memset(docrep_pool, 0, docrep_pool_size());
}

/* ---------- giving jobs to processes, under JOBS_LOCK ---------- */

void
docrep_pool_set_state(PoolWorker *worker, PoolState state)
{
	worker->state = state;
	worker->since = GetCurrentTimestamp();
}

/* The worker has the job from now on. */
static void
give(PoolWorker *worker, Job *job)
{
	docrep_slot_set_state(job, JOB_STARTING);
	job->held = false;
	job->process_asked = GetCurrentTimestamp();
	worker->start.ref = docrep_slot_ref(job);
	worker->start.start_no = job->start_no;
	worker->start.database = job->database;
	worker->start.role = job->role;
	docrep_slot_changed(job);
}

/* A process of the job's that has nothing to do; a place for a new one; or who shall make room. */
static PoolWorker *
find_worker(const Job *job, PoolWorker **place, PoolWorker **stranger)
{
	*place = *stranger = NULL;
	for (int i = 0; i < docrep_max_workers; i++)
	{
		PoolWorker *worker = &docrep_pool[i];

		if (worker->state == POOL_FREE)
			*place = *place ? *place : worker;
		else if (worker->state != POOL_IDLE || worker->leave)
			continue;
		else if (worker->database == job->database && worker->role == job->role)
			return worker;
		else if (*stranger == NULL || worker->since < (*stranger)->since)
			*stranger = worker;
	}
	return NULL;
}

PoolAnswer
docrep_pool_find(Job *job, PoolStart *start)
{
	PoolWorker *place;
	PoolWorker *stranger;
	PoolWorker *worker;

	if (job->kind == JOB_REPLICATE && docrep_job_is_saturated(job))
		return POOL_SATURATED;
	worker = find_worker(job, &place, &stranger);
	if (worker)
	{
		give(worker, job);
		docrep_pool_set_state(worker, POOL_BUSY);
		docrep_wake_process(worker->pid);
		return POOL_ASSIGNED;
	}
	if (place)
	{
		give(place, job);
		docrep_pool_set_state(place, POOL_STARTING);
		place->generation++;
		place->pid = 0;
		place->leave = false;
		start->place = (int) (place - docrep_pool);
		start->generation = place->generation;
		start->database = place->database = job->database;
		start->role = place->role = job->role;
		return POOL_REGISTER;
	}
	if (stranger)
	{
		stranger->leave = true;
		docrep_wake_process(stranger->pid);
	}
	return POOL_FULL;
}

bool
docrep_pool_is_empty(void)
{
	bool		empty = true;

	LWLockAcquire(JOBS_LOCK, LW_SHARED);
	for (int i = 0; i < docrep_max_workers && empty; i++)
		empty = docrep_pool[i].state == POOL_FREE;
	LWLockRelease(JOBS_LOCK);
	return empty;
}

bool
docrep_pool_is_starting(void)
{
	bool		starting = false;

	LWLockAcquire(JOBS_LOCK, LW_SHARED);
	for (int i = 0; i < docrep_max_workers && !starting; i++)
		starting = docrep_pool[i].state == POOL_STARTING;
	LWLockRelease(JOBS_LOCK);
	return starting;
}

int
docrep_pool_running(RotationJob *jobs)
{
	int			n = 0;

	for (int i = 0; i < docrep_max_workers; i++)
	{
		Job		   *job = docrep_pool[i].state == POOL_BUSY ? docrep_slot_of(docrep_pool[i].start.ref) : NULL;

		if (job == NULL || job->stop != JOB_STOP_NONE || job->kind != JOB_REPLICATE)
			continue;
		jobs[n].index = docrep_slot_index(job);
		jobs[n].continuous = job->continuous;
		/* a turn begins with the run: on a slow machine it would be over before that */
		jobs[n].running_since = job->state == JOB_STARTING ?
			job->process_asked + JOB_START_TIME * INT64CONST(1000) :
			Max(job->process_asked, job->pacing.opened);
		n++;
	}
	return n;
}

void
docrep_pool_dismiss(Oid database)
{
	for (int i = 0; i < docrep_max_workers; i++)
	{
		if (docrep_pool[i].state == POOL_FREE ||
			(OidIsValid(database) && docrep_pool[i].database != database))
			continue;
		docrep_pool[i].leave = true;
		if (docrep_pool[i].state == POOL_IDLE)
			docrep_wake_process(docrep_pool[i].pid);
	}
}

void
docrep_pool_dismiss_idle(void)
{
	for (int i = 0; i < docrep_max_workers; i++)
	{
		if (docrep_pool[i].state != POOL_IDLE)
			continue;
		docrep_pool[i].leave = true;
		docrep_wake_process(docrep_pool[i].pid);
	}
}

bool
docrep_pool_idle_in_database(Oid database)
{
	for (int i = 0; i < docrep_max_workers; i++)
	{
		if (docrep_pool[i].database == database && docrep_pool[i].state == POOL_IDLE)
			return true;
	}
	return false;
}

/* ---------- the process's part ---------- */

bool
docrep_pool_enter(const PoolStart *start, JobStart *job)
{
	PoolWorker *worker = &docrep_pool[start->place];

	LWLockAcquire(JOBS_LOCK, LW_EXCLUSIVE);
	if (worker->state == POOL_STARTING && worker->generation == start->generation)
	{
		mine = worker;
		mine->pid = MyProcPid;
		docrep_pool_set_state(mine, POOL_BUSY);
		*job = mine->start;
	}
	LWLockRelease(JOBS_LOCK);
	return mine != NULL;
}

/* With the lock held: the oldest pending job of this process's database and role; NULL: none. */
static Job *
next_job(void)
{
	if (docrep_paused || mine->leave)
		return NULL;
	for (int i = docrep_jobs->queue_first; i >= 0; i = docrep_job_heads[i].next)
	{
		Job		   *job = &docrep_job_slots[i];

		if (job->database == mine->database && job->role == mine->role &&
			!(job->kind == JOB_REPLICATE && docrep_job_is_saturated(job)))
			return job;
	}
	return NULL;
}

/*
 * Is there an older job in the queue, of another database or role, that has no
 * process to go to?  Then this one ends and leaves its place to it.
 */
static bool
others_first(const Job *next)
{
	Job		   *first;

	if (docrep_jobs->queue_first < 0)
		return false;
	first = &docrep_job_slots[docrep_jobs->queue_first];
	if (first == next || (first->database == mine->database && first->role == mine->role))
		return false;
	for (int i = 0; i < docrep_max_workers; i++)
	{
		if (docrep_pool[i].state == POOL_FREE)
			return false;
	}
	return true;
}

bool
docrep_pool_next(JobStart *start)
{
	Job		   *job;

	LWLockAcquire(JOBS_LOCK, LW_EXCLUSIVE);
	job = next_job();
	if (others_first(job))
	{
		mine->leave = true;
		job = NULL;
	}
	if (job)
	{
		give(mine, job);
		docrep_pool_set_state(mine, POOL_BUSY);
		*start = mine->start;
	}
	else
	{
		docrep_pool_set_state(mine, POOL_IDLE);
		mine->start.ref.generation = 0;
		docrep_wake_launcher();
	}
	LWLockRelease(JOBS_LOCK);
	return job != NULL;
}

bool
docrep_pool_wait(JobStart *start)
{
	TimestampTz begun = GetCurrentTimestamp();

	for (;;)
	{
		long		left = docrep_worker_linger -
			TimestampDifferenceMilliseconds(begun, GetCurrentTimestamp());
		bool		given;

		LWLockAcquire(JOBS_LOCK, LW_EXCLUSIVE);
		given = mine->state == POOL_BUSY;
		if (given)
			*start = mine->start;
		else if (left <= 0 || mine->leave)
		{
			mine->leave = true;
			left = 0;
		}
		LWLockRelease(JOBS_LOCK);
		if (given)
			return true;
		if (left <= 0)
			return false;

		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 left, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
		}
	}
}

void
docrep_pool_leave(void)
{
	Job		   *job;

	if (mine == NULL)
		return;
	LWLockAcquire(JOBS_LOCK, LW_EXCLUSIVE);
	mine->pid = 0;

	/* a job that was given while this process was about to end */
	job = mine->state == POOL_BUSY ? docrep_slot_of(mine->start.ref) : NULL;
	if (job != NULL && job->state == JOB_STARTING && job->pid == 0 &&
		job->start_no == mine->start.start_no)
	{
		job->start_no++;
		if (job->stop != JOB_STOP_NONE)
			docrep_slot_process_gone(job, NULL);
		else
			docrep_queue_add(job);
	}
	docrep_pool_set_state(mine, POOL_FREE);
	docrep_wake_launcher();
	LWLockRelease(JOBS_LOCK);
	mine = NULL;
}
