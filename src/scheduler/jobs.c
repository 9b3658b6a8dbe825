/*-------------------------------------------------------------------------
 *
 * jobs.c
 *		What sessions do with jobs: join, leave, stop, look, wait.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <signal.h>

#include "miscadmin.h"
#include "pgstat.h"
#include "scheduler/slots.h"
#include "storage/latch.h"
#include "store/table.h"
#include "utils/timestamp.h"

/*
 * The live job of (database, role, id); NULL: none.  Finished ones are past, as
 * are those of an extension that was dropped and created again.
 */
static Job *
find_job(const JobRequest *request)
{
	for (int i = 0; i < docrep_max_workers; i++)
	{
		Job		   *job = &docrep_jobs->jobs[i];

		if (job->state != JOB_FREE && job->state != JOB_FINISHED &&
			job->database == request->database &&
			job->role == request->role &&
			job->extension == request->extension &&
			strcmp(job->id, request->id) == 0)
			return job;
	}
	return NULL;
}

/* Put what is asked for into a slot that was just taken. */
static void
fill_job(Job *job, const JobRequest *request, dsa_pointer text)
{
	job->kind = request->kind;
	strlcpy(job->id, request->id, sizeof(job->id));
	job->database = request->database;
	job->role = request->role;
	job->extension = request->extension;
	job->continuous = request->continuous;
	strlcpy(job->source, request->source, sizeof(job->source));
	strlcpy(job->target, request->target, sizeof(job->target));
	job->request = text;
	job->state = JOB_STARTING;
}

/* Fill what the process of a job gets to know it by. */
static void
fill_start(const Job *job, JobStart *start)
{
	start->ref.index = docrep_slot_index(job);
	start->ref.generation = job->generation;
	start->start_no = job->start_no;
	start->database = job->database;
	start->role = job->role;
}

bool
docrep_job_join(const JobRequest *request, JobRef *ref, bool *created, JobStart *start)
{
	Size		len = strlen(request->request) + 1;
	dsa_pointer text;
	Job		   *job;
	bool		joined;

	if (strlen(request->id) >= JOB_ID_SIZE)
		elog(ERROR, "replication id is too long");
	docrep_require_preload();

	/* outside of the lock, because this may fail or take a while */
	text = dsa_allocate(docrep_slots_area(), len);
	memcpy(dsa_get_address(docrep_slots_area(), text), request->request, len);

	LWLockAcquire(JOBS_LOCK, LW_EXCLUSIVE);
	*created = false;
	joined = true;
	job = find_job(request);
	if (job == NULL)
	{
		job = docrep_slot_take();
		if (job != NULL)
		{
			fill_job(job, request, text);
			text = InvalidDsaPointer;
			fill_start(job, start);
			*created = true;
		}
	}
	else if (job->stop != JOB_STOP_NONE)
		joined = false;
	else if (job->state == JOB_CRASHING && !job->held)
	{
		/* somebody cares: try now */
		job->next_start = GetCurrentTimestamp();
		docrep_wake_launcher();
	}
	if (job != NULL)
	{
		ref->index = docrep_slot_index(job);
		ref->generation = job->generation;
		if (joined)
			job->waiters++;
	}
	LWLockRelease(JOBS_LOCK);

	if (DsaPointerIsValid(text))
		dsa_free(docrep_slots_area(), text);
	if (job == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("too many replication jobs"),
				 errdetail("All %d slots for jobs are in use.", docrep_max_workers),
				 errhint("Increase docrep.max_workers, or cancel a job.")));
	return joined;
}

/* Ask a job to stop, with JOBS_LOCK held exclusively. */
static void
stop_job(Job *job, JobStop stop, int grace)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz at = TimestampTzPlusMilliseconds(now, grace);

	if (job->state == JOB_FINISHED)
		return;
	if (job->stop == JOB_STOP_NONE || at < job->stop_at)
		job->stop_at = at;
	if (stop > job->stop)
		job->stop = stop;

	if (job->state == JOB_CRASHING)
	{
		/* there is no process that could do it */
		if (job->stop >= JOB_STOP_CANCELLED)
			docrep_slot_finish(job);
		else
		{
			job->stop = JOB_STOP_NONE;
			job->held = true;
			job->next_start = Max(job->next_start,
								  TimestampTzPlusMilliseconds(now, JOB_HOLD_OFF));
		}
		return;
	}
	docrep_slot_changed(job);
	docrep_wake_process(job->pid);
	docrep_wake_launcher();		/* for the SIGTERM, should we be gone by then */
}

void
docrep_job_leave(JobRef ref)
{
	Job		   *job;

	LWLockAcquire(JOBS_LOCK, LW_EXCLUSIVE);
	job = docrep_slot_of(ref);
	if (job != NULL && --job->waiters == 0)
	{
		if (job->state == JOB_FINISHED)
			docrep_slot_finish(job);
		else if (!job->continuous || !job->established)
			stop_job(job, JOB_STOP_CANCELLED, JOB_GRACE);
	}
	LWLockRelease(JOBS_LOCK);
}

void
docrep_job_stop(JobRef ref, JobStop stop, int grace)
{
	Job		   *job;

	LWLockAcquire(JOBS_LOCK, LW_EXCLUSIVE);
	job = docrep_slot_of(ref);
	if (job != NULL)
		stop_job(job, stop, grace);
	LWLockRelease(JOBS_LOCK);
}

long
docrep_jobs_press(void)
{
	TimestampTz now = GetCurrentTimestamp();
	long		next = -1;

	LWLockAcquire(JOBS_LOCK, LW_EXCLUSIVE);
	for (int i = 0; i < docrep_max_workers; i++)
	{
		Job		   *job = &docrep_jobs->jobs[i];
		long		left;

		/* the pid is the job's own: it is cleared before its process ends */
		if (job->state == JOB_FREE || job->stop == JOB_STOP_NONE || job->pid == 0)
			continue;
		if (job->stop_at <= now)
		{
			kill(job->pid, SIGTERM);
			job->stop_at = TimestampTzPlusMilliseconds(now, JOB_GRACE);
		}
		left = (job->stop_at - now) / 1000 + 1;
		if (next < 0 || left < next)
			next = left;
	}
	LWLockRelease(JOBS_LOCK);
	return next;
}

/* Copy a job, with JOBS_LOCK held. */
static void
copy_job(const Job *job, JobView *view)
{
	int			i = docrep_slot_index(job);

	view->ref.index = i;
	view->ref.generation = job->generation;
	view->kind = job->kind;
	view->state = job->state;
	view->stop = job->stop;
	strlcpy(view->id, job->id, sizeof(view->id));
	view->database = job->database;
	view->role = job->role;
	view->extension = job->extension;
	view->continuous = job->continuous;
	view->established = job->established;
	view->start_no = job->start_no;
	view->pid = job->pid;
	view->failures = job->failures;
	view->process_asked = job->process_asked;
	view->next_start = job->next_start;
	view->started_on = job->started_on;
	strlcpy(view->source, job->source, sizeof(view->source));
	strlcpy(view->target, job->target, sizeof(view->target));
	view->error_sqlstate = job->error.sqlstate;
	strlcpy(view->error_message, job->error.message, sizeof(view->error_message));

	LWLockAcquire(FIGURES_LOCK(i), LW_SHARED);
	view->updated_on = job->updated_on;
	view->figures = job->figures;
	LWLockRelease(FIGURES_LOCK(i));
}

bool
docrep_job_look(JobRef ref, JobView *view)
{
	Job		   *job;

	LWLockAcquire(JOBS_LOCK, LW_SHARED);
	job = docrep_slot_of(ref);
	if (job != NULL)
		copy_job(job, view);
	LWLockRelease(JOBS_LOCK);
	return job != NULL;
}

int
docrep_jobs_list(JobView **views)
{
	int			n = 0;

	docrep_require_preload();
	*views = palloc(mul_size(docrep_max_workers, sizeof(JobView)));
	LWLockAcquire(JOBS_LOCK, LW_SHARED);
	for (int i = 0; i < docrep_max_workers; i++)
	{
		Job		   *job = &docrep_jobs->jobs[i];

		if (job->state != JOB_FREE && job->state != JOB_FINISHED)
			copy_job(job, &(*views)[n++]);
	}
	LWLockRelease(JOBS_LOCK);
	return n;
}

char *
docrep_job_request(JobRef ref)
{
	dsa_area   *area = docrep_slots_area();
	char	   *text = NULL;
	Job		   *job;

	LWLockAcquire(JOBS_LOCK, LW_SHARED);
	job = docrep_slot_of(ref);
	if (job != NULL && DsaPointerIsValid(job->request))
		text = pstrdup(dsa_get_address(area, job->request));
	LWLockRelease(JOBS_LOCK);
	return text;
}

char *
docrep_job_result(JobRef ref)
{
	dsa_area   *area = docrep_slots_area();
	char	   *text = NULL;
	Job		   *job;

	LWLockAcquire(JOBS_LOCK, LW_SHARED);
	job = docrep_slot_of(ref);
	if (job != NULL && DsaPointerIsValid(job->result))
		text = pstrdup(dsa_get_address(area, job->result));
	LWLockRelease(JOBS_LOCK);
	return text;
}

void
docrep_job_error(JobRef ref, JobError *error)
{
	Job		   *job;

	error->sqlstate = 0;
	LWLockAcquire(JOBS_LOCK, LW_SHARED);
	job = docrep_slot_of(ref);
	if (job != NULL)
		*error = job->error;
	LWLockRelease(JOBS_LOCK);
}

bool
docrep_job_prepare_wait(JobRef ref)
{
	Job		   *job;

	LWLockAcquire(JOBS_LOCK, LW_SHARED);
	job = docrep_slot_of(ref);
	if (job != NULL)
		ConditionVariablePrepareToSleep(&job->changed);
	LWLockRelease(JOBS_LOCK);
	return job != NULL;
}

void
docrep_job_sleep(long timeout)
{
	/*
	 * Not ConditionVariableTimedSleep, which goes back to sleep when the
	 * latch was set by another: here that may be the postmaster, telling that
	 * the job's process started or ended.
	 */
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
					 timeout, PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
}

void
docrep_job_end_wait(void)
{
	ConditionVariableCancelSleep();
}

/* Does this job count for docrep_jobs_send_away? */
static bool
is_of_database(const Job *job, Oid database, bool one_shots)
{
	return job->state != JOB_FREE && job->state != JOB_FINISHED &&
		job->database == database && (job->continuous || one_shots);
}

/*
 * Ask the jobs of a database to go away; returns one that still has a process,
 * or has one coming.
 */
static bool
ask_away(Oid database, bool one_shots, JobRef *left)
{
	bool		any = false;

	LWLockAcquire(JOBS_LOCK, LW_EXCLUSIVE);
	for (int i = 0; i < docrep_max_workers; i++)
	{
		Job		   *job = &docrep_jobs->jobs[i];

		if (!is_of_database(job, database, one_shots))
			continue;
		if (job->stop == JOB_STOP_NONE)
			stop_job(job, job->continuous ? JOB_STOP_AWAY : JOB_STOP_CANCELLED, JOB_GRACE_DDL);
		if (is_of_database(job, database, one_shots) && job->state != JOB_CRASHING)
		{
			left->index = i;
			left->generation = job->generation;
			any = true;
		}
	}
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
		JobView		view;

		if (docrep_job_prepare_wait(left) && docrep_job_look(left, &view) &&
			view.state != JOB_FINISHED && view.state != JOB_CRASHING)
			docrep_job_sleep(100);
		docrep_jobs_press();
	}
	docrep_job_end_wait();
}

void
docrep_jobs_call_back(Oid database)
{
	if (docrep_jobs == NULL)
		return;
	LWLockAcquire(JOBS_LOCK, LW_EXCLUSIVE);
	for (int i = 0; i < docrep_max_workers; i++)
	{
		Job		   *job = &docrep_jobs->jobs[i];

		if (job->state == JOB_CRASHING && job->database == database && job->held)
		{
			job->held = false;
			job->next_start = GetCurrentTimestamp();
		}
	}
	docrep_wake_launcher();
	LWLockRelease(JOBS_LOCK);
}

const char *
docrep_job_state_name(JobState state)
{
	switch (state)
	{
		case JOB_STARTING:
			return "starting";
		case JOB_RUNNING:
			return "running";
		case JOB_IDLE:
			return "idle";
		case JOB_CRASHING:
			return "crashing";
		case JOB_FINISHED:
			return "finished";
		case JOB_FREE:
			break;
	}
	return "free";
}

const char *
docrep_job_kind_name(JobKind kind)
{
	switch (kind)
	{
		case JOB_REPLICATE:
			break;
		case JOB_VERIFY:
			return "verify";
		case JOB_PREFLIGHT:
			return "preflight";
	}
	return "replication";
}
