/*-------------------------------------------------------------------------
 *
 * dispatch.c
 *		Starting processes of the pool, and giving them to the queue.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "scheduler/homes.h"
#include "scheduler/pool.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

/* The launcher tries again after this time when the postmaster had no room (ms). */
#define RETRY_REGISTER	1000
/* ... or when a job's side had more to do than it could. */
#define RETRY_SATURATED	500

/* Processes that this session or the launcher asked for, by place. */
typedef struct Asked
{
	BackgroundWorkerHandle *handle; /* NULL: none */
	uint64		generation;
} Asked;

static Asked *asked = NULL;

/* The place is free, and the job that was meant for it back in the queue or failed. */
static void
process_missing(PoolWorker *worker, const JobError *problem)
{
	Job		   *job = docrep_slot_of(worker->start.ref);

	docrep_pool_set_state(worker, POOL_FREE);
	worker->generation++;		/* should it come after all, it finds itself stale */
	if (job == NULL || job->start_no != worker->start.start_no || job->state != JOB_STARTING)
		return;
	job->start_no++;
	job->error = *problem;
	if (job->stop != JOB_STOP_NONE)
		docrep_slot_process_gone(job, NULL);
	else
	{
		docrep_queue_add(job);
		docrep_slot_changed(job);

		/* a session leaves it to the launcher, which may know who can make room */
		if (docrep_jobs->launcher_pid != MyProcPid)
			docrep_wake_launcher();
	}
}

bool
docrep_pool_register(const PoolStart *start, JobError *problem)
{
	BackgroundWorker worker;
	BackgroundWorkerHandle *handle;
	MemoryContext old;
	bool		registered;

	if (asked == NULL)
		asked = MemoryContextAllocZero(TopMemoryContext, mul_size(docrep_max_workers, sizeof(Asked)));
	docrep_describe_process(&worker, "docrep_worker_main", "docrep worker");
	worker.bgw_main_arg = Int32GetDatum(start->place);
	StaticAssertStmt(sizeof(PoolStart) <= BGW_EXTRALEN, "PoolStart does not fit into bgw_extra");
	memcpy(worker.bgw_extra, start, sizeof(PoolStart));

	old = MemoryContextSwitchTo(TopMemoryContext);
	registered = RegisterDynamicBackgroundWorker(&worker, &handle);
	MemoryContextSwitchTo(old);
	if (registered)
	{
		if (asked[start->place].handle)
			pfree(asked[start->place].handle);
		asked[start->place].handle = handle;
		asked[start->place].generation = start->generation;
		return true;
	}
	docrep_job_error_set(problem, ERRCODE_CONFIGURATION_LIMIT_EXCEEDED,
						 "no background worker is free for the replication",
						 NULL,
						 "Increase max_worker_processes, or cancel a job.");
	LWLockAcquire(JOBS_LOCK, LW_EXCLUSIVE);
	if (docrep_pool[start->place].state == POOL_STARTING &&
		docrep_pool[start->place].generation == start->generation)
		process_missing(&docrep_pool[start->place], problem);
	LWLockRelease(JOBS_LOCK);
	return false;
}

/* Has the process that was asked for ended before it came?  Known to who asked, at once. */
static bool
has_ended(int place)
{
	pid_t		pid;

	return asked != NULL && asked[place].handle != NULL &&
		asked[place].generation == docrep_pool[place].generation &&
		GetBackgroundWorkerPid(asked[place].handle, &pid) == BGWH_STOPPED;
}

void
docrep_pool_check(void)
{
	JobError   *problem = palloc(sizeof(JobError));

	docrep_job_error_set(problem, ERRCODE_INSUFFICIENT_RESOURCES,
						 "the process of the replication could not be started", NULL,
						 "The server log may say why.");
	LWLockAcquire(JOBS_LOCK, LW_EXCLUSIVE);
	for (int i = 0; i < docrep_max_workers; i++)
	{
		if (docrep_pool[i].state == POOL_STARTING && docrep_pool[i].pid == 0 &&
			(has_ended(i) ||
			 TimestampDifferenceExceeds(docrep_pool[i].since, GetCurrentTimestamp(), JOB_START_TIMEOUT)))
			process_missing(&docrep_pool[i], problem);
	}
	LWLockRelease(JOBS_LOCK);
	pfree(problem);
}

/* ---------- the launcher's part ---------- */

/* Those who are idle with a job may give their process back to the ones in the queue. */
static void
ask_idle_jobs(void)
{
	for (int i = 0; i < docrep_max_workers; i++)
	{
		Job		   *job = docrep_pool[i].state == POOL_BUSY ? docrep_slot_of(docrep_pool[i].start.ref) : NULL;

		if (job != NULL && job->state == JOB_IDLE)
			docrep_wake_process(docrep_pool[i].pid);
	}
}

/*
 * Find a process for the oldest job in the queue behind slot *after (-1: for
 * the very oldest).  False: no more, or no process is free.
 */
static bool
dispatch_one(int *after, bool *full, bool *saturated, bool *shortage)
{
	static TimestampTz said = 0;
	JobError   *problem;
	PoolStart	start;
	PoolAnswer	answer = POOL_FULL;
	Job		   *job;
	JobRef		ref;
	Oid			database;
	Oid			role;
	int			i;

	LWLockAcquire(JOBS_LOCK, LW_EXCLUSIVE);
	i = *after < 0 ? docrep_jobs->queue_first : docrep_job_heads[*after].next;
	if (i >= 0)
	{
		job = &docrep_job_slots[i];
		ref = docrep_slot_ref(job);
		database = job->database;
		role = job->role;
	}
	LWLockRelease(JOBS_LOCK);
	if (i < 0)
		return false;
	if (docrep_home_state(database, role) == HOME_GONE)
	{
		ereport(LOG, (errmsg("a replication ends: its database or role was dropped")));
		docrep_job_stop(ref, JOB_STOP_ORPHANED, 0);
		return true;
	}

	LWLockAcquire(JOBS_LOCK, LW_EXCLUSIVE);
	job = docrep_slot_of(ref);
	if (job != NULL && job->state == JOB_PENDING)
	{
		answer = docrep_pool_find(job, &start);
		if (answer == POOL_FULL || answer == POOL_SATURATED)
		{
			if (answer == POOL_FULL)
				*full = true;
			else
				*saturated = true;
			*after = i;
		}
	}
	LWLockRelease(JOBS_LOCK);

	if (answer != POOL_REGISTER)
		return true;
	problem = palloc(sizeof(JobError));
	if (!docrep_pool_register(&start, problem))
	{
		docrep_report_shortage(&said, psprintf("replications wait: %s", problem->message),
							   problem->hint);
		*shortage = true;
	}
	pfree(problem);
	return !*shortage;
}

long
docrep_pool_dispatch(void)
{
	int			after = -1;
	bool		full = false;
	bool		saturated = false;
	bool		shortage = false;

	if (docrep_paused)
		return -1;

	/*
	 * When the pool is full, those behind the first may still find an idle
	 * process of their own; but looking at all of a long queue is not worth it.
	 */
	for (int looked = 0; looked < 1000 && dispatch_one(&after, &full, &saturated, &shortage);)
	{
		if (full)
			looked += 100;
		else if (saturated)
			looked++;
	}
	if (full || shortage)
	{
		LWLockAcquire(JOBS_LOCK, LW_EXCLUSIVE);
		ask_idle_jobs();
		if (shortage)
			docrep_pool_dismiss_idle();
		LWLockRelease(JOBS_LOCK);
	}
	if (saturated)
		return RETRY_SATURATED;
	return shortage ? RETRY_REGISTER : -1;
}
