/*-------------------------------------------------------------------------
 *
 * process.c
 *		Processes of jobs: how one is asked for, comes, reports and leaves.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "scheduler/slots.h"
#include "storage/lwlock.h"
#include "utils/timestamp.h"

BackgroundWorkerHandle *
docrep_process_register(const JobStart *start, const char *id, JobError *problem)
{
	BackgroundWorker worker;
	BackgroundWorkerHandle *handle;

	memset(&worker, 0, sizeof(worker));
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	strlcpy(worker.bgw_library_name, "docrep", sizeof(worker.bgw_library_name));
	strlcpy(worker.bgw_function_name, "docrep_worker_main", sizeof(worker.bgw_function_name));
	snprintf(worker.bgw_name, sizeof(worker.bgw_name), "docrep worker: %s", id);
	strlcpy(worker.bgw_type, "docrep worker", sizeof(worker.bgw_type));
	worker.bgw_main_arg = Int32GetDatum(start->ref.index);
	worker.bgw_notify_pid = MyProcPid;
	StaticAssertStmt(sizeof(JobStart) <= BGW_EXTRALEN, "JobStart does not fit into bgw_extra");
	memcpy(worker.bgw_extra, start, sizeof(JobStart));

	if (RegisterDynamicBackgroundWorker(&worker, &handle))
		return handle;
	docrep_job_error_set(problem, ERRCODE_CONFIGURATION_LIMIT_EXCEEDED,
						 "no background worker is free for the replication",
						 NULL,
						 "Increase max_worker_processes, or cancel a job.");
	return NULL;
}

void
docrep_process_missing(const JobStart *start, const JobError *problem)
{
	Job		   *job;

	LWLockAcquire(JOBS_LOCK, LW_EXCLUSIVE);
	job = docrep_slot_of(start->ref);
	if (job != NULL && job->start_no == start->start_no &&
		job->state == JOB_STARTING && job->pid == 0)
	{
		job->start_no++;		/* should it come after all, it finds itself stale */
		docrep_slot_process_gone(job, problem);
	}
	LWLockRelease(JOBS_LOCK);
}

bool
docrep_process_take_start(JobRef ref, JobStart *start)
{
	Job		   *job;
	bool		taken = false;

	LWLockAcquire(JOBS_LOCK, LW_EXCLUSIVE);
	job = docrep_slot_of(ref);
	if (job != NULL && job->state == JOB_CRASHING &&
		job->next_start <= GetCurrentTimestamp())
	{
		job->state = JOB_STARTING;
		job->held = false;
		job->start_no++;
		job->process_asked = GetCurrentTimestamp();
		start->ref = ref;
		start->start_no = job->start_no;
		start->database = job->database;
		start->role = job->role;
		docrep_slot_changed(job);
		taken = true;
	}
	LWLockRelease(JOBS_LOCK);
	return taken;
}

bool
docrep_process_enter(const JobStart *start)
{
	Job		   *job;
	bool		wanted = false;

	LWLockAcquire(JOBS_LOCK, LW_EXCLUSIVE);
	job = docrep_slot_of(start->ref);
	if (job != NULL && job->start_no == start->start_no && job->state == JOB_STARTING)
	{
		if (job->stop == JOB_STOP_NONE)
		{
			job->pid = MyProcPid;
			docrep_slot_changed(job);
			wanted = true;
		}
		else
			docrep_slot_process_gone(job, NULL);
	}
	LWLockRelease(JOBS_LOCK);
	return wanted;
}

char *
docrep_process_request(JobRef ref)
{
	dsa_area   *area = docrep_slots_area();

	/* the request of a job that has a process does not change */
	return pstrdup(dsa_get_address(area, docrep_jobs->jobs[ref.index].request));
}

void
docrep_process_identify(JobRef ref, const char *id)
{
	Job		   *job = &docrep_jobs->jobs[ref.index];

	LWLockAcquire(JOBS_LOCK, LW_EXCLUSIVE);
	strlcpy(job->id, id, sizeof(job->id));
	LWLockRelease(JOBS_LOCK);
}

void
docrep_process_progress(JobRef ref, const ReplicationStats *figures, bool idle, bool healthy)
{
	Job		   *job = &docrep_jobs->jobs[ref.index];
	JobState	state = idle ? JOB_IDLE : JOB_RUNNING;

	LWLockAcquire(FIGURES_LOCK(ref.index), LW_EXCLUSIVE);
	job->figures = *figures;
	job->updated_on = GetCurrentTimestamp();
	LWLockRelease(FIGURES_LOCK(ref.index));

	/* nobody else writes these while we are the job's process */
	if (job->state == state && job->established && !(healthy && job->failures > 0))
		return;
	LWLockAcquire(JOBS_LOCK, LW_EXCLUSIVE);
	job->state = state;
	job->established = true;
	if (healthy)
	{
		job->failures = 0;
		job->error.sqlstate = 0;
	}
	docrep_slot_changed(job);
	LWLockRelease(JOBS_LOCK);
}

bool
docrep_process_stop_asked(JobRef ref)
{
	/* one word, and a late answer does no harm: no lock */
	return *((volatile JobStop *) &docrep_jobs->jobs[ref.index].stop) != JOB_STOP_NONE;
}

void
docrep_process_set_result(JobRef ref, const char *result)
{
	dsa_area   *area = docrep_slots_area();
	Size		len = strlen(result) + 1;
	dsa_pointer text = dsa_allocate(area, len);

	memcpy(dsa_get_address(area, text), result, len);
	LWLockAcquire(JOBS_LOCK, LW_EXCLUSIVE);
	docrep_jobs->jobs[ref.index].result = text;
	LWLockRelease(JOBS_LOCK);
}

void
docrep_process_leave(const JobStart *start, const JobError *error, bool orphaned)
{
	Job		   *job;

	LWLockAcquire(JOBS_LOCK, LW_EXCLUSIVE);
	job = docrep_slot_of(start->ref);
	if (job != NULL && job->start_no == start->start_no && job->pid == MyProcPid)
	{
		if (orphaned)
			job->stop = JOB_STOP_ORPHANED;
		docrep_slot_process_gone(job, error);
	}
	LWLockRelease(JOBS_LOCK);
}
