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

/* The launcher tries again after this time when the postmaster had no room (ms). */
#define RETRY_REGISTER	1000
/* ... or when a job's side had more to do than it could. */
#define RETRY_SATURATED	500

static PoolWorker *pool;		/* docrep.max_workers of them */
static PoolWorker *mine = NULL; /* of this process */

/* Processes that this session or the launcher asked for, by place. */
typedef struct Asked
{
	BackgroundWorkerHandle *handle; /* NULL: none */
	uint64		generation;
} Asked;

static Asked *asked = NULL;

Size
docrep_pool_size(void)
{
	return mul_size(docrep_max_workers, sizeof(PoolWorker));
}

void
docrep_pool_startup_shmem(void)
{
	bool		found;

	pool = ShmemInitStruct("docrep pool", docrep_pool_size(), &found);
	if (!found)
		memset(pool, 0, docrep_pool_size());
}

/* ---------- giving jobs to processes, under JOBS_LOCK ---------- */

static void
set_state(PoolWorker *worker, PoolState state)
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

/* Length of what names the server in an endpoint's display: up to the path of a URL. */
static size_t
server_part(const char *display)
{
	const char *authority = strstr(display, "://");

	return authority ? authority + 3 + strcspn(authority + 3, "/") - display : strlen(display);
}

/* Are these two sides at the same server, or the same table of ours? */
static bool
same_side(const Job *a, const char *of_a, const Job *b, const char *of_b)
{
	size_t		n = server_part(of_a);

	if (n != server_part(of_b) || strncmp(of_a, of_b, n) != 0)
		return false;
	return strstr(of_a, "://") != NULL || a->database == b->database;
}

/*
 * Has a side of this job more to do than it can already, as a running job
 * noticed?  Then it waits: one more would only slow the others.
 */
static bool
is_saturated(const Job *job)
{
	for (int i = 0; i < docrep_max_workers; i++)
	{
		Job		   *other = pool[i].state == POOL_BUSY ? docrep_slot_of(pool[i].start.ref) : NULL;
		bool		source;
		bool		target;

		if (other == NULL || other == job || other->state != JOB_RUNNING || other->kind != JOB_REPLICATE)
			continue;
		LWLockAcquire(&other->figures_lock, LW_SHARED);
		source = other->figures.source_saturated;
		target = other->figures.target_saturated;
		LWLockRelease(&other->figures_lock);
		if ((source && same_side(job, job->source, other, other->source)) ||
			(target && same_side(job, job->target, other, other->target)))
			return true;
	}
	return false;
}

/* A process of the job's that has nothing to do; a place for a new one; or who shall make room. */
static PoolWorker *
find_worker(const Job *job, PoolWorker **place, PoolWorker **stranger)
{
	*place = *stranger = NULL;
	for (int i = 0; i < docrep_max_workers; i++)
	{
		PoolWorker *worker = &pool[i];

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

	if (job->kind == JOB_REPLICATE && is_saturated(job))
		return POOL_SATURATED;
	worker = find_worker(job, &place, &stranger);
	if (worker)
	{
		give(worker, job);
		set_state(worker, POOL_BUSY);
		docrep_wake_process(worker->pid);
		return POOL_ASSIGNED;
	}
	if (place)
	{
		give(place, job);
		set_state(place, POOL_STARTING);
		place->generation++;
		place->pid = 0;
		place->leave = false;
		start->place = (int) (place - pool);
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

/* The place is free, and the job that was meant for it back in the queue or failed. */
static void
process_missing(PoolWorker *worker, const JobError *problem)
{
	Job		   *job = docrep_slot_of(worker->start.ref);

	set_state(worker, POOL_FREE);
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
	memset(&worker, 0, sizeof(worker));
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	strlcpy(worker.bgw_library_name, "docrep", sizeof(worker.bgw_library_name));
	strlcpy(worker.bgw_function_name, "docrep_worker_main", sizeof(worker.bgw_function_name));
	strlcpy(worker.bgw_name, "docrep worker", sizeof(worker.bgw_name));
	strlcpy(worker.bgw_type, "docrep worker", sizeof(worker.bgw_type));
	worker.bgw_main_arg = Int32GetDatum(start->place);
	worker.bgw_notify_pid = MyProcPid;
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
	if (pool[start->place].state == POOL_STARTING &&
		pool[start->place].generation == start->generation)
		process_missing(&pool[start->place], problem);
	LWLockRelease(JOBS_LOCK);
	return false;
}

bool
docrep_pool_is_empty(void)
{
	bool		empty = true;

	LWLockAcquire(JOBS_LOCK, LW_SHARED);
	for (int i = 0; i < docrep_max_workers && empty; i++)
		empty = pool[i].state == POOL_FREE;
	LWLockRelease(JOBS_LOCK);
	return empty;
}

bool
docrep_pool_is_starting(void)
{
	bool		starting = false;

	LWLockAcquire(JOBS_LOCK, LW_SHARED);
	for (int i = 0; i < docrep_max_workers && !starting; i++)
		starting = pool[i].state == POOL_STARTING;
	LWLockRelease(JOBS_LOCK);
	return starting;
}

/* Has the process that was asked for ended before it came?  Known to who asked, at once. */
static bool
has_ended(int place)
{
	pid_t		pid;

	return asked != NULL && asked[place].handle != NULL &&
		asked[place].generation == pool[place].generation &&
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
		if (pool[i].state == POOL_STARTING && pool[i].pid == 0 &&
			(has_ended(i) ||
			 TimestampDifferenceExceeds(pool[i].since, GetCurrentTimestamp(), JOB_START_TIMEOUT)))
			process_missing(&pool[i], problem);
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
		Job		   *job = pool[i].state == POOL_BUSY ? docrep_slot_of(pool[i].start.ref) : NULL;

		if (job != NULL && job->state == JOB_IDLE)
			docrep_wake_process(pool[i].pid);
	}
}

/* Say that jobs wait because the server has no room for their processes, but not all the time. */
static void
report_shortage(const JobError *problem)
{
	static TimestampTz said = 0;
	TimestampTz now = GetCurrentTimestamp();

	if (said != 0 && !TimestampDifferenceExceeds(said, now, 60000))
		return;
	said = now;
	ereport(LOG,
			(errcode(problem->sqlstate),
			 errmsg("replications wait: %s", problem->message),
			 errhint("%s", problem->hint)));
}

/*
 * Find a process for the oldest job in the queue behind slot *after (-1: for
 * the very oldest).  False: no more, or no process is free.
 */
static bool
dispatch_one(int *after, bool *full, bool *saturated, bool *shortage)
{
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
		report_shortage(problem);
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

int
docrep_pool_running(RotationJob *jobs)
{
	int			n = 0;

	for (int i = 0; i < docrep_max_workers; i++)
	{
		Job		   *job = pool[i].state == POOL_BUSY ? docrep_slot_of(pool[i].start.ref) : NULL;

		if (job == NULL || job->stop != JOB_STOP_NONE || job->kind != JOB_REPLICATE)
			continue;
		jobs[n].index = docrep_slot_index(job);
		jobs[n].continuous = job->continuous;
		jobs[n].running_since = job->process_asked;
		n++;
	}
	return n;
}

void
docrep_pool_dismiss(Oid database)
{
	for (int i = 0; i < docrep_max_workers; i++)
	{
		if (pool[i].state == POOL_FREE ||
			(OidIsValid(database) && pool[i].database != database))
			continue;
		pool[i].leave = true;
		if (pool[i].state == POOL_IDLE)
			docrep_wake_process(pool[i].pid);
	}
}

void
docrep_pool_dismiss_idle(void)
{
	for (int i = 0; i < docrep_max_workers; i++)
	{
		if (pool[i].state != POOL_IDLE)
			continue;
		pool[i].leave = true;
		docrep_wake_process(pool[i].pid);
	}
}

bool
docrep_pool_idle_in_database(Oid database)
{
	for (int i = 0; i < docrep_max_workers; i++)
	{
		if (pool[i].database == database && pool[i].state == POOL_IDLE)
			return true;
	}
	return false;
}

/* ---------- the process's part ---------- */

bool
docrep_pool_enter(const PoolStart *start, JobStart *job)
{
	PoolWorker *worker = &pool[start->place];

	LWLockAcquire(JOBS_LOCK, LW_EXCLUSIVE);
	if (worker->state == POOL_STARTING && worker->generation == start->generation)
	{
		mine = worker;
		mine->pid = MyProcPid;
		set_state(mine, POOL_BUSY);
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
			!(job->kind == JOB_REPLICATE && is_saturated(job)))
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
		if (pool[i].state == POOL_FREE)
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
		set_state(mine, POOL_BUSY);
		*start = mine->start;
	}
	else
	{
		set_state(mine, POOL_IDLE);
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
	set_state(mine, POOL_FREE);
	docrep_wake_launcher();
	LWLockRelease(JOBS_LOCK);
	mine = NULL;
}
