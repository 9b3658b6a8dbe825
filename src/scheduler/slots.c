/*-------------------------------------------------------------------------
 *
 * slots.c
 *		The rules by which a slot changes hands.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <limits.h>

#include "common/hashfn.h"
#include "scheduler/pool.h"
#include "scheduler/slots.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "storage/shmem.h"
#include "utils/guc.h"
#include "utils/timestamp.h"

/* ---------- taking a slot, and giving it back ---------- */

Job *
docrep_slot_of(JobRef ref)
{
	Job		   *job;

	if (ref.index < 0 || ref.index >= docrep_jobs->used)
		return NULL;
	job = &docrep_job_slots[ref.index];
	return job->generation == ref.generation && job->state != JOB_FREE ? job : NULL;
}

/* Release the texts of a free slot. */
static void
reclaim(Job *job)
{
	dsa_pointer *const texts[] = {&job->request, &job->result, &job->task, &job->place};

	docrep_slot_head(job)->garbage = false;
	for (size_t i = 0; i < lengthof(texts); i++)
	{
		dsa_pointer text = *texts[i];

		*texts[i] = InvalidDsaPointer;
		if (DsaPointerIsValid(text))
			dsa_free(docrep_slots_area(), text);
	}
}

void
docrep_slots_reclaim(void)
{
	LWLockAcquire(JOBS_LOCK, LW_EXCLUSIVE);
	for (int i = 0; i < docrep_jobs->used; i++)
	{
		if (docrep_job_heads[i].garbage && docrep_job_heads[i].state == JOB_FREE)
			reclaim(&docrep_job_slots[i]);
	}
	LWLockRelease(JOBS_LOCK);
}

/* Make a slot that is used for the first time. */
static void
make_slot(Job *job)
{
	memset(job, 0, sizeof(Job));
	memset(docrep_slot_head(job), 0, sizeof(JobHead));
	ConditionVariableInit(&job->changed);
	LWLockInitialize(&job->figures_lock, JOBS_LOCK->tranche);
	docrep_jobs->used++;
}

/* Forget what the slot was used for before. */
static void
clear_slot(Job *job)
{
	TimestampTz now = GetCurrentTimestamp();

	if (docrep_slot_head(job)->garbage)
		reclaim(job);
	memset(docrep_slot_head(job), 0, sizeof(JobHead));
	docrep_slot_head(job)->next = -1;
	job->generation = ++docrep_jobs->last_generation;
	job->stop = JOB_STOP_NONE;
	job->stop_at = 0;
	job->has_task = false;
	job->task_version = 0;
	job->established = job->held = job->told = false;
	job->waiters = 0;
	job->start_no = 1;
	job->pid = 0;
	memset(&job->pacing, 0, sizeof(job->pacing));
	job->error.sqlstate = 0;
	job->source_local = job->watched = false;
	job->nevents = job->ncrashes = 0;
	job->started_on = job->process_asked = now;

	LWLockAcquire(&job->figures_lock, LW_EXCLUSIVE);
	memset(&job->figures, 0, sizeof(job->figures));
	job->figures.changes_pending = -1;
	job->updated_on = now;
	LWLockRelease(&job->figures_lock);
}

Job *
docrep_slot_take(void)
{
	for (int i = 0; i < docrep_max_jobs; i++)
	{
		Job		   *job = &docrep_job_slots[i];

		if (i == docrep_jobs->used)
			make_slot(job);
		else if (docrep_job_heads[i].state != JOB_FREE)
			continue;
		clear_slot(job);
		return job;
	}
	return NULL;
}

int
docrep_slots_free(void)
{
	int			n = docrep_max_jobs - docrep_jobs->used;

	for (int i = 0; i < docrep_jobs->used; i++)
		n += docrep_job_heads[i].state == JOB_FREE;
	return n;
}

uint32
docrep_slot_hash(Oid database, Oid role, const char *id)
{
	uint32		hash = hash_bytes((const unsigned char *) id, (int) strlen(id));

	return hash_combine(hash, hash_combine(hash_bytes_uint32(database), hash_bytes_uint32(role)));
}

void
docrep_slot_rehash(Job *job)
{
	docrep_slot_head(job)->hash = docrep_slot_hash(job->database, job->role, job->id);
}

/* ---------- what changes of a job ---------- */

void
docrep_slot_set_state(Job *job, JobState state)
{
	if (job->state == JOB_PENDING && state != JOB_PENDING)
		docrep_queue_remove(job);
	job->state = state;
	docrep_slot_head(job)->state = state;
	if (state == JOB_FREE)
	{
		docrep_slot_head(job)->garbage = true;
		docrep_database_slot_freed();
	}
}

void
docrep_slot_set_stop(Job *job, JobStop stop)
{
	job->stop = stop;
	docrep_slot_head(job)->stopping = stop != JOB_STOP_NONE;
}

/* Keep the reason of a crash; returns its number.  The oldest one goes. */
static int16
keep_reason(Job *job, const char *reason)
{
	int16		number = (int16) (job->ncrashes++ % JOB_REASONS) + 1;

	for (int i = 0; i < JOB_HISTORY; i++)
	{
		if (job->events[i].reason == number)
			job->events[i].reason = 0;
	}
	docrep_job_text_copy(job->reasons[number - 1], JOB_REASON_SIZE, reason);
	return number;
}

void
docrep_slot_event(Job *job, JobEventKind kind, const char *reason)
{
	HistoryEntry *entry = &job->events[job->nevents++ % JOB_HISTORY];

	entry->at = GetCurrentTimestamp();
	entry->kind = kind;
	entry->reason = reason ? keep_reason(job, reason) : 0;
}

void
docrep_slot_to_report(Job *job)
{
	if (!job->has_task)
		return;
	docrep_slot_head(job)->unreported = true;
	docrep_database_has_news(job->database);
}

void
docrep_slot_changed(Job *job)
{
	ConditionVariableBroadcast(&job->changed);
}

/* ---------- the queue ---------- */

void
docrep_queue_add(Job *job)
{
	int			i = docrep_slot_index(job);

	Assert(job->state != JOB_PENDING);
	job->state = JOB_PENDING;
	docrep_job_heads[i].state = JOB_PENDING;
	docrep_job_heads[i].next = -1;
	if (docrep_jobs->queue_last >= 0)
		docrep_job_heads[docrep_jobs->queue_last].next = i;
	else
		docrep_jobs->queue_first = i;
	docrep_jobs->queue_last = i;
	docrep_jobs->queued++;
}

void
docrep_queue_remove(Job *job)
{
	int			i = docrep_slot_index(job);
	int			before = -1;

	for (int at = docrep_jobs->queue_first; at >= 0 && at != i; at = docrep_job_heads[at].next)
		before = at;
	if (before >= 0)
		docrep_job_heads[before].next = docrep_job_heads[i].next;
	else
		docrep_jobs->queue_first = docrep_job_heads[i].next;
	if (docrep_jobs->queue_last == i)
		docrep_jobs->queue_last = before;
	docrep_job_heads[i].next = -1;
	docrep_jobs->queued--;
}

/* ---------- the end of a process, and of a job ---------- */

void
docrep_slot_finish(Job *job)
{
	bool		ended_well = DsaPointerIsValid(job->result) || job->error.sqlstate != 0;

	docrep_slot_unwatch(job);
	job->pid = 0;

	/*
	 * The texts stay: this may run in an exit callback, where giving memory
	 * back could fail.  The next taker of the slot or the launcher does it.
	 * What was stopped has nothing to tell its task, which has stopped it, or
	 * somebody else has: then its keeper sees that it is gone.
	 */
	if (job->has_task && ended_well && job->stop == JOB_STOP_NONE)
	{
		docrep_slot_set_state(job, JOB_FINISHED);
		docrep_slot_to_report(job);
	}
	else
	{
		docrep_slot_set_state(job, job->waiters > 0 ? JOB_FINISHED : JOB_FREE);
		if (job->has_task || job->kind == JOB_HOUSEKEEPING)
			docrep_database_has_news(job->database);
	}
	docrep_slot_changed(job);
	docrep_wake_launcher();
}

void
docrep_slot_hold(Job *job, TimestampTz until)
{
	docrep_slot_set_stop(job, JOB_STOP_NONE);
	job->held = true;
	docrep_slot_set_state(job, JOB_CRASHING);
	docrep_slot_head(job)->due = until;
}

/* A run failed, and will be tried again. */
static void
crash(Job *job)
{
	PacingLimits limits = docrep_pacing_limits();
	TimestampTz now = GetCurrentTimestamp();

	docrep_pacing_failed(&job->pacing, &limits, now,
						 hash_combine(docrep_slot_head(job)->hash, (uint32) now));
	job->held = false;
	docrep_slot_set_state(job, JOB_CRASHING);
	docrep_slot_head(job)->due = docrep_pacing_next(&job->pacing, &limits);
	docrep_slot_watch_source(job);

	/* a first failure that is the end of its process may be the server's shutdown */
	if (docrep_pacing_noted(&job->pacing) &&
		!(job->pacing.failures == 1 && job->error.sqlstate == ERRCODE_ADMIN_SHUTDOWN))
	{
		job->told = true;
		docrep_slot_to_report(job);
	}
}

/* Is this the end of the job, not of its process only? */
static bool
is_over(const Job *job, const JobError *error)
{
	if (job->stop >= JOB_STOP_CANCELLED || DsaPointerIsValid(job->result))
		return true;
	if (job->has_task)
		return false;
	return !job->continuous || !job->established;
}

void
docrep_slot_process_gone(Job *job, const JobError *error)
{
	bool		failed = error != NULL && error->sqlstate != 0;

	job->pid = 0;
	job->start_no++;
	if (failed)
		job->error = *error;
	else if (DsaPointerIsValid(job->result))
		job->error.sqlstate = 0;	/* of an earlier run, or it had to wait for a process */
	if (failed && job->stop == JOB_STOP_NONE)
		docrep_slot_event(job, JOB_CRASHED, error->message);
	else
		docrep_slot_event(job, JOB_STOPPED, NULL);

	if (is_over(job, error))
	{
		docrep_slot_finish(job);
		return;
	}
	if (job->stop == JOB_STOP_AWAY)
		docrep_slot_hold(job, TimestampTzPlusMilliseconds(GetCurrentTimestamp(), JOB_HOLD_OFF));
	else if (job->stop == JOB_STOP_TURN &&
			 (!failed || error->sqlstate == ERRCODE_ADMIN_SHUTDOWN))
	{
		docrep_slot_set_stop(job, JOB_STOP_NONE);
		docrep_queue_add(job);
	}
	else
	{
		docrep_slot_set_stop(job, JOB_STOP_NONE);
		crash(job);
	}
	docrep_slot_changed(job);
	docrep_wake_launcher();
}

/* ---------- waking ---------- */

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
