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
#include "scheduler/pool.h"
#include "storage/latch.h"
#include "store/preload.h"
#include "store/table.h"
#include "utils/timestamp.h"

/*
 * The live job of (database, role, id); NULL: none.  Finished ones are past, as
 * are those of an extension that was dropped and created again.
 */
Job *
docrep_job_find(const JobRequest *request)
{
	uint32		hash = docrep_slot_hash(request->database, request->role, request->id);

	for (int i = 0; i < docrep_jobs->used; i++)
	{
		Job		   *job = &docrep_job_slots[i];

		if (docrep_job_heads[i].hash == hash &&
			job->state != JOB_FREE && job->state != JOB_FINISHED &&
			job->database == request->database &&
			job->role == request->role &&
			job->extension == request->extension &&
			strcmp(job->id, request->id) == 0)
			return job;
	}
	return NULL;
}

JobTexts
docrep_job_keep_texts(const JobRequest *request)
{
	JobTexts		texts;

	if (strlen(request->id) >= JOB_ID_SIZE)
		elog(ERROR, "replication id is too long");
	texts.task = request->task ? docrep_slots_keep_text(request->task) : InvalidDsaPointer;
	texts.request = docrep_slots_keep_text(request->request);
	return texts;
}

/* Those that no job has taken. */
void
docrep_job_release_texts(JobTexts *texts)
{
	if (DsaPointerIsValid(texts->request))
		dsa_free(docrep_slots_area(), texts->request);
	if (DsaPointerIsValid(texts->task))
		dsa_free(docrep_slots_area(), texts->task);
}

/* Make the job in a free slot, in the queue; NULL: there is none. */
Job *
docrep_job_make(const JobRequest *request, JobTexts *texts)
{
	Job		   *job = docrep_slot_take();

	if (job == NULL)
		return NULL;
	job->kind = request->kind;
	strlcpy(job->id, request->id, sizeof(job->id));
	job->database = request->database;
	job->role = request->role;
	job->extension = request->extension;
	job->continuous = request->continuous;
	docrep_job_text_copy(job->source, sizeof(job->source), request->source);
	docrep_job_text_copy(job->target, sizeof(job->target), request->target);
	job->request = texts->request;
	job->task = texts->task;
	texts->request = texts->task = InvalidDsaPointer;
	job->has_task = request->task != NULL;
	job->task_version = request->task_version;
	job->delay = request->delay;
	job->pacing.cycles = request->retry_cycles;
	docrep_slot_rehash(job);
	docrep_slot_event(job, JOB_ADDED, NULL);
	docrep_queue_add(job);
	return job;
}

bool
docrep_job_join(const JobRequest *request, JobRef *ref, bool *created, PoolStart *start,
				bool *start_process)
{
	JobTexts		texts;
	Job		   *job;
	bool		joined;
	bool		other_delay = false;

	docrep_require_preload();
	texts = docrep_job_keep_texts(request);

	LWLockAcquire(JOBS_LOCK, LW_EXCLUSIVE);
	*created = *start_process = false;
	joined = true;
	job = docrep_job_find(request);
	if (job == NULL)
	{
		job = docrep_job_make(request, &texts);
		if (job != NULL)
		{
			*created = true;
			*start_process = docrep_pool_find(job, start) == POOL_REGISTER;
			if (job->state == JOB_PENDING)
				docrep_wake_launcher();
		}
	}
	else if (job->stop != JOB_STOP_NONE)
		joined = false;
	else if (job->delay != request->delay)
		other_delay = true;
	else if (job->state == JOB_CRASHING && !job->held)
	{
		/* somebody cares: try now */
		docrep_slot_unwatch(job);
		docrep_queue_add(job);
		docrep_wake_launcher();
	}
	if (job != NULL && !other_delay)
	{
		*ref = docrep_slot_ref(job);
		if (joined)
			job->waiters++;
	}
	LWLockRelease(JOBS_LOCK);

	docrep_job_release_texts(&texts);
	if (other_delay)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_IN_USE),
				 errmsg("the replication runs already, with another delay"),
				 errhint("Cancel it first, or change \"delay\" in its row of docrep.replicator.")));
	if (job == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("too many replication jobs"),
				 errdetail("All %d slots for jobs are in use.", docrep_max_jobs),
				 errhint("Increase docrep.max_jobs, or cancel a job.")));
	return joined;
}

/* Ask a job to stop, with JOBS_LOCK held exclusively. */
void
docrep_job_stop_locked(Job *job, JobStop stop, int grace)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz at = TimestampTzPlusMilliseconds(now, grace);

	if (job->state == JOB_FINISHED)
		return;
	if (job->stop == JOB_STOP_NONE || at < job->stop_at)
		job->stop_at = at;
	if (stop > job->stop)
		docrep_slot_set_stop(job, stop);

	if (job->state == JOB_PENDING || job->state == JOB_PARKED || job->state == JOB_CRASHING)
	{
		/* there is no process that could do it */
		if (job->stop >= JOB_STOP_CANCELLED)
			docrep_slot_finish(job);
		else if (job->state == JOB_PARKED || job->stop == JOB_STOP_TURN)
			docrep_slot_set_stop(job, JOB_STOP_NONE);	/* in nobody's way */
		else
		{
			TimestampTz until = TimestampTzPlusMilliseconds(now, JOB_HOLD_OFF);

			if (job->state == JOB_CRASHING)
				until = Max(until, docrep_slot_head(job)->due);
			docrep_slot_hold(job, until);
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
		{
			if (!docrep_slot_head(job)->unreported)
				docrep_slot_set_state(job, JOB_FREE);
		}
		else if (!job->has_task && (!job->continuous || !job->established))
			docrep_job_stop_locked(job, JOB_STOP_CANCELLED, JOB_GRACE);
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
		docrep_job_stop_locked(job, stop, grace);
	LWLockRelease(JOBS_LOCK);
}

long
docrep_jobs_press(void)
{
	TimestampTz now = GetCurrentTimestamp();
	long		next = -1;

	LWLockAcquire(JOBS_LOCK, LW_EXCLUSIVE);
	for (int i = 0; i < docrep_jobs->used; i++)
	{
		Job		   *job = &docrep_job_slots[i];
		long		left;

		/* the pid is the job's own: it is cleared before its process ends */
		if (!docrep_job_heads[i].stopping || job->state == JOB_FREE || job->pid == 0)
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
copy_job(Job *job, JobView *view)
{
	view->ref = docrep_slot_ref(job);
	view->kind = job->kind;
	view->state = job->state;
	view->stop = job->stop;
	strlcpy(view->id, job->id, sizeof(view->id));
	view->database = job->database;
	view->role = job->role;
	view->extension = job->extension;
	view->continuous = job->continuous;
	view->established = job->established;
	view->held = job->held;
	view->has_task = job->has_task;
	view->task_version = job->task_version;
	view->reported = !docrep_slot_head(job)->unreported;
	view->start_no = job->start_no;
	view->pid = job->pid;
	view->failures = job->pacing.failures;
	view->process_asked = job->process_asked;
	view->next_start = docrep_slot_head(job)->due;
	view->started_on = job->started_on;
	strlcpy(view->source, job->source, sizeof(view->source));
	strlcpy(view->target, job->target, sizeof(view->target));
	view->error_sqlstate = job->error.sqlstate;
	view->unidentified = job->error.unidentified;
	strlcpy(view->error_message, job->error.message, sizeof(view->error_message));

	LWLockAcquire(&job->figures_lock, LW_SHARED);
	view->updated_on = job->updated_on;
	view->figures = job->figures;
	LWLockRelease(&job->figures_lock);
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

bool
docrep_job_next(int *index, bool finished, JobView *view)
{
	bool		found = false;

	docrep_require_preload();
	LWLockAcquire(JOBS_LOCK, LW_SHARED);
	for (; *index < docrep_jobs->used && !found; (*index)++)
	{
		JobState	state = docrep_job_heads[*index].state;

		if (state == JOB_FREE || (state == JOB_FINISHED && !finished))
			continue;
		copy_job(&docrep_job_slots[*index], view);
		found = true;
	}
	LWLockRelease(JOBS_LOCK);
	return found;
}

/* A copy of one of the job's texts, allocated; NULL: there is none. */
static char *
copy_text(JobRef ref, size_t which)
{
	dsa_area   *area = docrep_slots_area();
	char	   *text = NULL;
	Job		   *job;

	LWLockAcquire(JOBS_LOCK, LW_SHARED);
	job = docrep_slot_of(ref);
	if (job != NULL)
	{
		dsa_pointer kept = *(dsa_pointer *) ((char *) job + which);

		if (DsaPointerIsValid(kept))
			text = pstrdup(dsa_get_address(area, kept));
	}
	LWLockRelease(JOBS_LOCK);
	return text;
}

char *
docrep_job_request(JobRef ref)
{
	return copy_text(ref, offsetof(Job, request));
}

char *
docrep_job_result(JobRef ref)
{
	return copy_text(ref, offsetof(Job, result));
}

char *
docrep_job_task(JobRef ref)
{
	return copy_text(ref, offsetof(Job, task));
}

int
docrep_job_history(JobRef ref, JobEvent *events)
{
	Job		   *job;
	int			n = 0;

	LWLockAcquire(JOBS_LOCK, LW_SHARED);
	job = docrep_slot_of(ref);
	for (uint64 i = job ? job->nevents : 0; i > 0 && n < JOB_HISTORY; i--)
	{
		HistoryEntry *entry = &job->events[(i - 1) % JOB_HISTORY];
		JobEvent   *event = &events[n++];

		event->kind = entry->kind;
		event->at = entry->at;
		event->reason[0] = '\0';
		if (entry->reason > 0)
			strlcpy(event->reason, job->reasons[entry->reason - 1], JOB_REASON_SIZE);
	}
	LWLockRelease(JOBS_LOCK);
	return n;
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

const char *
docrep_job_state_name(JobState state)
{
	switch (state)
	{
		case JOB_PENDING:
			return "pending";
		case JOB_STARTING:
			return "starting";
		case JOB_RUNNING:
			return "running";
		case JOB_IDLE:
			return "idle";
		case JOB_PARKED:
			return "parked";
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
		case JOB_HOUSEKEEPING:
			return "housekeeping";
	}
	return "replication";
}
