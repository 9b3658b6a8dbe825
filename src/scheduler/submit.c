/*-------------------------------------------------------------------------
 *
 * submit.c
 *		What keepers do with jobs: make those of tasks, take their reports.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "scheduler/pool.h"
#include "store/preload.h"

/* Is the job this task's already? */
static bool
is_of_task(const Job *job, const char *task)
{
	return job->has_task && DsaPointerIsValid(job->task) &&
		strcmp(dsa_get_address(docrep_slots_area(), job->task), task) == 0;
}

/* A live job has the id that is asked for. */
static JobSubmit
meet(Job *job, const JobRequest *request, JobTexts *texts)
{
	if (job->stop != JOB_STOP_NONE)
		return JOB_SUBMIT_ENDING;
	if (!job->has_task && job->delay != request->delay)
	{
		/* it brings what the task must not bring yet, or holds back what it must not */
		docrep_job_stop_locked(job, JOB_STOP_CANCELLED, JOB_GRACE);
		return JOB_SUBMIT_ENDING;
	}
	if (!job->has_task)
	{
		/* what replicate() began goes on as the task's */
		job->has_task = true;
		job->task = texts->task;
		texts->task = InvalidDsaPointer;
		job->task_version = request->task_version;
		job->pacing.cycles = request->retry_cycles;
		return JOB_SUBMITTED;
	}
	if (!is_of_task(job, request->task))
		return JOB_SUBMIT_DUPLICATE;
	if (job->task_version == request->task_version)
		return JOB_SUBMITTED;
	docrep_job_stop_locked(job, JOB_STOP_CANCELLED, JOB_GRACE);
	return JOB_SUBMIT_ENDING;
}

JobSubmit
docrep_job_submit(const JobRequest *request, JobRef *ref)
{
	JobTexts	texts;
	JobSubmit	result = JOB_SUBMITTED;
	Job		   *job;

	docrep_require_preload();
	texts = docrep_job_keep_texts(request);
	LWLockAcquire(JOBS_LOCK, LW_EXCLUSIVE);
	job = docrep_job_find(request);
	if (job != NULL)
		result = meet(job, request, &texts);
	else if ((job = docrep_job_make(request, &texts)) == NULL)
		result = JOB_SUBMIT_FULL;
	else
	{
		docrep_slot_head(job)->unreported = true;
		docrep_wake_launcher();
	}
	if (job)
		*ref = docrep_slot_ref(job);
	LWLockRelease(JOBS_LOCK);
	docrep_job_release_texts(&texts);
	return result;
}

void
docrep_job_reported(JobRef ref, JobState state, int start_no)
{
	Job		   *job;

	LWLockAcquire(JOBS_LOCK, LW_EXCLUSIVE);
	job = docrep_slot_of(ref);
	if (job != NULL && job->state == state && job->start_no == start_no)
	{
		docrep_slot_head(job)->unreported = false;
		if (job->state == JOB_FINISHED && job->waiters == 0)
			docrep_slot_set_state(job, JOB_FREE);
	}
	LWLockRelease(JOBS_LOCK);
}

void
docrep_jobs_forget_reports(Oid database)
{
	LWLockAcquire(JOBS_LOCK, LW_EXCLUSIVE);
	for (int i = 0; i < docrep_jobs->used; i++)
	{
		Job		   *job = &docrep_job_slots[i];

		if (job->state != JOB_FINISHED || job->database != database)
			continue;
		docrep_job_heads[i].unreported = false;
		if (job->waiters == 0)
			docrep_slot_set_state(job, JOB_FREE);
	}
	LWLockRelease(JOBS_LOCK);
}
