/*-------------------------------------------------------------------------
 *
 * send_away.c
 *		Processes leave a database that a statement wants for itself.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "scheduler/pool.h"
#include "utils/timestamp.h"

/* Does this job have to go? */
static bool
is_in_the_way(const Job *job, Oid database, bool one_shots)
{
	return job->state != JOB_FREE && job->state != JOB_FINISHED && job->state != JOB_PARKED &&
		job->database == database &&
		(job->continuous || job->has_task || job->kind == JOB_HOUSEKEEPING || one_shots);
}

/*
 * Ask what is in a database to go away; true: something is still there, and
 * *left is a job that has a process or has one coming, if it is a job.
 */
static bool
ask_away(Oid database, bool one_shots, JobRef *left)
{
	bool		any;

	left->index = -1;
	LWLockAcquire(JOBS_LOCK, LW_EXCLUSIVE);
	for (int i = 0; i < docrep_jobs->used; i++)
	{
		Job		   *job = &docrep_job_slots[i];

		if (!is_in_the_way(job, database, one_shots))
			continue;
		if (job->stop == JOB_STOP_NONE && !(job->state == JOB_CRASHING && job->held))
			docrep_job_stop_locked(job, job->continuous || job->has_task ?
								   JOB_STOP_AWAY : JOB_STOP_CANCELLED, JOB_GRACE_DDL);
		if (is_in_the_way(job, database, one_shots) && job->state != JOB_CRASHING)
			*left = docrep_slot_ref(job);
	}
	docrep_pool_dismiss(database);
	any = left->index >= 0 || docrep_pool_idle_in_database(database);
	if (docrep_database_dismiss_keeper(database))
		any = true;
	LWLockRelease(JOBS_LOCK);
	return any;
}

void
docrep_jobs_send_away(Oid database, bool one_shots)
{
	TimestampTz deadline = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), JOB_HOLD_OFF);
	JobRef		left;

	if (docrep_jobs == NULL)
		return;
	while (ask_away(database, one_shots, &left) && GetCurrentTimestamp() < deadline)
	{
		JobView    *view = palloc(sizeof(JobView));

		if (left.index < 0)
			docrep_job_sleep(5);
		else if (docrep_job_prepare_wait(left) && docrep_job_look(left, view) &&
				 view->state != JOB_FINISHED && view->state != JOB_CRASHING)
			docrep_job_sleep(100);
		docrep_jobs_press();
		pfree(view);
	}
	docrep_job_end_wait();
}

void
docrep_jobs_call_back(Oid database)
{
	if (docrep_jobs == NULL)
		return;
	LWLockAcquire(JOBS_LOCK, LW_EXCLUSIVE);
	for (int i = 0; i < docrep_jobs->used; i++)
	{
		Job		   *job = &docrep_job_slots[i];

		if (job->state == JOB_FREE || job->database != database)
			continue;

		/* a parked one has to find out, too, whether its database is still there */
		if (job->state == JOB_PARKED || (job->state == JOB_CRASHING && job->held))
		{
			docrep_slot_unwatch(job);
			job->held = false;
			docrep_queue_add(job);
		}
	}
	docrep_database_call_back(database);
	docrep_wake_launcher();
	LWLockRelease(JOBS_LOCK);
}
