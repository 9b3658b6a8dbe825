/*-------------------------------------------------------------------------
 *
 * launcher.c
 *		One process a cluster that looks after jobs whose callers do not.
 *
 * It starts failed continuous jobs again, sends late SIGTERMs, and finishes
 * what was left half-way by processes that never came.  It is connected to no
 * database, so that it holds none up, and reads shared catalogs only.  All it
 * knows is in shared memory: it may die and be started again at any time.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/interrupt.h"
#include "scheduler/slots.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

/* A start that this launcher asked for, until its process is there. */
typedef struct PendingStart
{
	BackgroundWorkerHandle *handle; /* NULL: nothing pending */
	JobStart	start;
} PendingStart;

static PendingStart *pending;	/* one a slot */

/* Register the launcher with the postmaster. */
void
docrep_scheduler_register_launcher(void)
{
	BackgroundWorker worker;

	memset(&worker, 0, sizeof(worker));
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = 1;
	strlcpy(worker.bgw_library_name, "docrep", sizeof(worker.bgw_library_name));
	strlcpy(worker.bgw_function_name, "docrep_launcher_main", sizeof(worker.bgw_function_name));
	strlcpy(worker.bgw_name, "docrep launcher", sizeof(worker.bgw_name));
	strlcpy(worker.bgw_type, "docrep launcher", sizeof(worker.bgw_type));
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

/* Are the job's database and role still there? */
static bool
has_home(const JobView *job)
{
	bool		there;

	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	there = SearchSysCacheExists1(DATABASEOID, ObjectIdGetDatum(job->database)) &&
		SearchSysCacheExists1(AUTHOID, ObjectIdGetDatum(job->role));
	CommitTransactionCommand();
	return there;
}

/* Start a crashing job whose time has come. */
static void
start_job(const JobView *job)
{
	PendingStart *p = &pending[job->ref.index];
	JobError	problem;
	MemoryContext old;

	if (!has_home(job))
	{
		ereport(LOG, (errmsg("replication %s ends: its database or role was dropped", job->id)));
		docrep_job_stop(job->ref, JOB_STOP_ORPHANED, 0);
		return;
	}
	if (!docrep_process_take_start(job->ref, &p->start))
		return;
	if (p->handle)
		pfree(p->handle);
	old = MemoryContextSwitchTo(TopMemoryContext);
	p->handle = docrep_process_register(&p->start, job->id, &problem);
	MemoryContextSwitchTo(old);
	if (p->handle == NULL)
	{
		ereport(LOG,
				(errcode(problem.sqlstate),
				 errmsg("replication %s cannot be started: %s", job->id, problem.message),
				 errhint("%s", problem.hint)));
		docrep_process_missing(&p->start, &problem);
	}
}

/* A job waits for its process: will it come? */
static void
check_start(const JobView *job)
{
	PendingStart *p = &pending[job->ref.index];
	JobStart	start;
	JobError	problem;
	pid_t		pid;
	bool		ours = p->handle != NULL && p->start.ref.generation == job->ref.generation &&
		p->start.start_no == job->start_no;

	if (!(ours && GetBackgroundWorkerPid(p->handle, &pid) == BGWH_STOPPED) &&
		!TimestampDifferenceExceeds(job->process_asked, GetCurrentTimestamp(), JOB_START_TIMEOUT))
		return;
	start.ref = job->ref;
	start.start_no = job->start_no;
	docrep_job_error_set(&problem, ERRCODE_INSUFFICIENT_RESOURCES,
						 "the process of the replication could not be started", NULL,
						 "The server log may say why.");
	docrep_process_missing(&start, &problem);
}

/* The shorter of two times in ms, of which -1 means none. */
static long
sooner(long a, long b)
{
	if (a < 0 || b < 0)
		return Max(a, b);
	return Min(a, b);
}

/* Look after all jobs; returns ms until something is due, -1: nothing. */
static long
look_after_jobs(void)
{
	JobView    *jobs;
	int			n;
	long		next = docrep_jobs_press();

	docrep_slots_reclaim();
	n = docrep_jobs_list(&jobs);
	for (int i = 0; i < n; i++)
	{
		TimestampTz now = GetCurrentTimestamp();

		if (jobs[i].state == JOB_STARTING && jobs[i].pid == 0)
		{
			check_start(&jobs[i]);
			next = sooner(next, JOB_START_TIMEOUT);
		}
		else if (jobs[i].state == JOB_CRASHING && !docrep_paused)
		{
			if (jobs[i].next_start <= now)
				start_job(&jobs[i]);
			else
				next = sooner(next, (jobs[i].next_start - now) / 1000 + 1);
		}
	}
	return next;
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

	pending = MemoryContextAllocZero(TopMemoryContext,
									 mul_size(docrep_max_workers, sizeof(PendingStart)));
	lap = AllocSetContextCreate(TopMemoryContext, "docrep launcher", ALLOCSET_DEFAULT_SIZES);
	announce(MyProcPid);
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
