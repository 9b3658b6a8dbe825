/*-------------------------------------------------------------------------
 *
 * slots.c
 *		Settings, shared memory, and the rules by which a slot changes hands.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <limits.h>

#include "docrep.h"
#include "miscadmin.h"
#include "scheduler/slots.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "storage/shmem.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

/* Requests and results begin here; more comes from dynamic shared memory. */
#define AREA_SIZE	(256 * 1024)
#define TRANCHE		"docrep_jobs"

int			docrep_max_workers = 32;
bool		docrep_paused = false;

JobsShared *docrep_jobs = NULL;
LWLockPadded *docrep_jobs_locks = NULL;

static void *area_place = NULL;
static dsa_area *area = NULL;

/* Settings of the scheduler. */
void
docrep_scheduler_define_gucs(void)
{
	DefineCustomIntVariable("docrep.max_workers",
							"Sets the maximum number of replication jobs at a time.",
							"Each running job is a background worker and counts under max_worker_processes too.",
							&docrep_max_workers,
							32, 1, 10000,
							PGC_POSTMASTER, 0,
							NULL, NULL, NULL);
	DefineCustomBoolVariable("docrep.paused",
							 "Pauses all replication of this server.",
							 "Running jobs finish their batch and wait, new ones are refused. Continuous jobs go on when it is off again.",
							 &docrep_paused,
							 false,
							 PGC_SIGHUP, 0,
							 NULL, NULL, NULL);
}

static Size
slots_size(void)
{
	return MAXALIGN(add_size(offsetof(JobsShared, jobs),
							 mul_size(docrep_max_workers, sizeof(Job))));
}

/* Ask for the memory and the locks. */
void
docrep_scheduler_request_shmem(void)
{
	RequestAddinShmemSpace(add_size(slots_size(), AREA_SIZE));
	RequestNamedLWLockTranche(TRANCHE, 1 + docrep_max_workers);
}

/* Make the slots at server start (and after a crash), or find them. */
void
docrep_scheduler_startup_shmem(void)
{
	bool		found;

	area = NULL;
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	docrep_jobs = ShmemInitStruct("docrep jobs", slots_size(), &found);
	docrep_jobs_locks = GetNamedLWLockTranche(TRANCHE);
	if (!found)
	{
		memset(docrep_jobs, 0, slots_size());
		for (int i = 0; i < docrep_max_workers; i++)
			ConditionVariableInit(&docrep_jobs->jobs[i].changed);
	}

	area_place = ShmemInitStruct("docrep job texts", AREA_SIZE, &found);
	if (!found)
	{
		/* as cumulative statistics do: pinned, so that it outlives its users */
		dsa_area   *made = dsa_create_in_place(area_place, AREA_SIZE,
											   JOBS_LOCK->tranche, NULL);

		dsa_pin(made);
		dsa_detach(made);
	}
	LWLockRelease(AddinShmemInitLock);
}

dsa_area *
docrep_slots_area(void)
{
	if (area == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);
		dsa_area   *attached = dsa_attach_in_place(area_place, NULL);

		dsa_pin_mapping(attached);
		on_shmem_exit(dsa_on_shmem_exit_release_in_place, PointerGetDatum(area_place));
		area = attached;
		MemoryContextSwitchTo(old);
	}
	return area;
}

Job *
docrep_slot_of(JobRef ref)
{
	Job		   *job = &docrep_jobs->jobs[ref.index];

	return job->generation == ref.generation && job->state != JOB_FREE ? job : NULL;
}

/* Release the texts of a free slot. */
static void
reclaim(Job *job)
{
	dsa_pointer request = job->request;
	dsa_pointer result = job->result;

	job->request = job->result = InvalidDsaPointer;
	if (DsaPointerIsValid(request))
		dsa_free(docrep_slots_area(), request);
	if (DsaPointerIsValid(result))
		dsa_free(docrep_slots_area(), result);
}

void
docrep_slots_reclaim(void)
{
	LWLockAcquire(JOBS_LOCK, LW_EXCLUSIVE);
	for (int i = 0; i < docrep_max_workers; i++)
	{
		if (docrep_jobs->jobs[i].state == JOB_FREE)
			reclaim(&docrep_jobs->jobs[i]);
	}
	LWLockRelease(JOBS_LOCK);
}

Job *
docrep_slot_take(void)
{
	for (int i = 0; i < docrep_max_workers; i++)
	{
		Job		   *job = &docrep_jobs->jobs[i];

		if (job->state != JOB_FREE)
			continue;
		reclaim(job);
		job->generation = ++docrep_jobs->last_generation;
		job->stop = JOB_STOP_NONE;
		job->stop_at = 0;
		job->established = job->held = false;
		job->waiters = 0;
		job->start_no = 1;
		job->pid = 0;
		job->failures = 0;
		job->next_start = 0;
		job->error.sqlstate = 0;
		job->started_on = job->process_asked = GetCurrentTimestamp();

		LWLockAcquire(FIGURES_LOCK(i), LW_EXCLUSIVE);
		memset(&job->figures, 0, sizeof(job->figures));
		job->figures.changes_pending = -1;
		job->updated_on = job->started_on;
		LWLockRelease(FIGURES_LOCK(i));
		return job;
	}
	return NULL;
}

void
docrep_slot_changed(Job *job)
{
	ConditionVariableBroadcast(&job->changed);
}

void
docrep_slot_finish(Job *job)
{
	job->pid = 0;

	/*
	 * The texts stay: this may run in an exit callback, where giving memory
	 * back could fail.  The next taker of the slot or the launcher does it.
	 */
	job->state = job->waiters > 0 ? JOB_FINISHED : JOB_FREE;
	docrep_slot_changed(job);
	docrep_wake_launcher();
}

void
docrep_slot_process_gone(Job *job, const JobError *error)
{
	TimestampTz now = GetCurrentTimestamp();

	job->pid = 0;
	if (error != NULL && error->sqlstate != 0)
		job->error = *error;

	if (!job->continuous || !job->established || job->stop >= JOB_STOP_CANCELLED)
	{
		docrep_slot_finish(job);
		return;
	}

	job->state = JOB_CRASHING;
	if (job->stop == JOB_STOP_AWAY)
	{
		job->stop = JOB_STOP_NONE;
		job->held = true;
		job->next_start = TimestampTzPlusMilliseconds(now, JOB_HOLD_OFF);
	}
	else
	{
		int			pause = JOB_BACKOFF_MAX;

		if (job->failures < 16)
			pause = Min(JOB_BACKOFF_MIN << job->failures, JOB_BACKOFF_MAX);
		job->failures++;
		job->next_start = TimestampTzPlusMilliseconds(now, pause);
	}
	docrep_slot_changed(job);
	docrep_wake_launcher();
}

void
docrep_wake_process(int pid)
{
	PGPROC	   *proc = pid == 0 ? NULL : BackendPidGetProc(pid);

	/* at worst this wakes a stranger once for nothing */
	if (proc != NULL)
		SetLatch(&proc->procLatch);
}

void
docrep_wake_launcher(void)
{
	docrep_wake_process(docrep_jobs->launcher_pid);
}
