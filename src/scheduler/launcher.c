/*-------------------------------------------------------------------------
 *
 * launcher.c
 *		One process a cluster that looks after all jobs.
 *
 * It gives processes to the jobs in the queue, starts failed ones again, lets
 * those that have had their process long give way, wakes parked ones, sends
 * late SIGTERMs, and has keepers and the watcher started.  It is connected to
 * no database, so that it holds none up, and reads shared catalogs only.  All
 * it knows is in shared memory: it may die and be started again at any time.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/interrupt.h"
#include "scheduler/homes.h"
#include "scheduler/pool.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "store/seqs.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

/* The watcher, when it was asked for and did not come, is asked for again after this time (ms). */
#define WATCHER_TIMEOUT	5000

static TimestampTz rotated;		/* when jobs gave way last */
static TimestampTz watcher_asked;
static RotationJob *rotation;	/* room for docrep.max_workers */

/* Register the launcher with the postmaster. */
void
docrep_scheduler_register_launcher(void)
{
	BackgroundWorker worker;

	docrep_describe_process(&worker, "docrep_launcher_main", "docrep launcher");
	worker.bgw_restart_time = 1;
	RegisterBackgroundWorker(&worker);
}

/* Tell others whom to wake; pid 0: nobody. */
static void
announce(int pid)
{
	LWLockAcquire(JOBS_LOCK, LW_EXCLUSIVE);
	docrep_jobs->launcher_pid = pid;
	LWLockRelease(JOBS_LOCK);
}

static void
leave(int code, Datum arg)
{
	LWLockReleaseAll();
	announce(0);
}

/* The shorter of two times in ms, of which -1 means none. */
static long
sooner(long a, long b)
{
	if (a < 0 || b < 0)
		return Max(a, b);
	return Min(a, b);
}

/*
 * Failed jobs, and those parked until some time, go into the queue when it has come;
 * returns ms until the next one, -1: none.
 */
static long
take_up_due(void)
{
	PacingLimits limits = docrep_pacing_limits();
	TimestampTz now = GetCurrentTimestamp();
	long		next = -1;

	LWLockAcquire(JOBS_LOCK, LW_EXCLUSIVE);
	for (int i = 0; i < docrep_jobs->used; i++)
	{
		JobHead    *head = &docrep_job_heads[i];
		Job		   *job = &docrep_job_slots[i];

		if (head->state == JOB_PARKED && head->due != 0)
		{
			if (head->due <= now)
				docrep_slot_unpark(job);
			else
				next = sooner(next, (long) Min((head->due - now) / 1000 + 1, INT_MAX));
			continue;
		}
		if (head->state != JOB_CRASHING)
			continue;
		if (head->due <= now && (job->held || docrep_pacing_due(&job->pacing, &limits, now)))
		{
			docrep_slot_unwatch(job);
			docrep_queue_add(job);
			docrep_slot_changed(job);
			continue;
		}
		if (head->due <= now)
			head->due = docrep_pacing_next(&job->pacing, &limits);
		next = sooner(next, Max(head->due - now, 0) / 1000 + 1);
	}
	LWLockRelease(JOBS_LOCK);
	return next;
}

/*
 * While jobs wait for a process, those that have had theirs for an interval
 * give way, a few at a time.  Returns ms until the next time, -1: nobody waits.
 */
static long
rotate(void)
{
	TimestampTz now = GetCurrentTimestamp();
	int64		interval = docrep_scheduler_interval * INT64CONST(1000);
	int			n;

	if (docrep_jobs->queued == 0)
		return -1;
	if (now < rotated + interval)
		return (rotated + interval - now) / 1000 + 1;
	rotated = now;
	LWLockAcquire(JOBS_LOCK, LW_EXCLUSIVE);
	n = docrep_pool_running(rotation);
	n = docrep_rotation_choose(rotation, n, docrep_jobs->queued, docrep_max_churn, interval, now);
	for (int i = 0; i < n; i++)
		docrep_job_stop_locked(&docrep_job_slots[rotation[i].index], JOB_STOP_TURN,
							   Max(interval / 1000, JOB_GRACE_TURN));
	LWLockRelease(JOBS_LOCK);
	return docrep_scheduler_interval;
}

/* Is a watcher wanted, and not there?  Returns ms until this is to be asked again, -1: no. */
static long
start_watcher(void)
{
	static TimestampTz said = 0;
	BackgroundWorker worker;
	bool		wanted;

	LWLockAcquire(JOBS_LOCK, LW_SHARED);
	wanted = docrep_jobs->remote > 0 && docrep_jobs->watcher_pid == 0;
	LWLockRelease(JOBS_LOCK);
	if (!wanted)
		return -1;
	if (watcher_asked != 0 &&
		!TimestampDifferenceExceeds(watcher_asked, GetCurrentTimestamp(), WATCHER_TIMEOUT))
		return WATCHER_TIMEOUT;
	watcher_asked = GetCurrentTimestamp();

	docrep_describe_process(&worker, "docrep_watcher_main", "docrep watcher");
	if (!RegisterDynamicBackgroundWorker(&worker, NULL))
		docrep_report_shortage(&said,
							   "replications from other servers wait: no background worker is free to watch their sources",
							   "Increase max_worker_processes.");
	return WATCHER_TIMEOUT;
}

/* Look after all jobs; returns ms until something is due, -1: nothing. */
static long
look_after_jobs(void)
{
	long		next = docrep_jobs_press();

	docrep_slots_reclaim();
	docrep_homes_look_after();
	docrep_pool_check();
	docrep_parked_take_woken();
	if (!docrep_paused)
	{
		next = sooner(next, take_up_due());
		next = sooner(next, docrep_pool_dispatch());
		next = sooner(next, rotate());
	}
	next = sooner(next, start_watcher());
	next = sooner(next, docrep_databases_look_after());

	/* processes that were asked for and died before they came */
	return docrep_pool_is_starting() ? sooner(next, 1000) : next;
}

/* The launcher's life. */
void
docrep_launcher_main(Datum arg)
{
	MemoryContext lap;

	pqsignal(SIGTERM, die);
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	BackgroundWorkerUnblockSignals();
	before_shmem_exit(leave, (Datum) 0);
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);

	rotation = MemoryContextAlloc(TopMemoryContext,
								  mul_size(docrep_max_workers, sizeof(RotationJob)));
	lap = AllocSetContextCreate(TopMemoryContext, "docrep launcher", ALLOCSET_DEFAULT_SIZES);
	announce(MyProcPid);
	docrep_wait_watch_woken();
	pgstat_report_activity(STATE_IDLE, NULL);

	for (;;)
	{
		long		timeout;

		MemoryContextSwitchTo(lap);
		timeout = look_after_jobs();
		MemoryContextSwitchTo(TopMemoryContext);
		MemoryContextReset(lap);

		(void) WaitLatch(MyLatch,
						 WL_LATCH_SET | WL_EXIT_ON_PM_DEATH | (timeout >= 0 ? WL_TIMEOUT : 0),
						 timeout, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
		}
	}
}
