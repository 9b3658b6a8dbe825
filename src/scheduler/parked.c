/*-------------------------------------------------------------------------
 *
 * parked.c
 *		Parked jobs: continuous, caught up, without a process.
 *
 * For a source in this cluster a token is left in the store, which wakes the
 * launcher at the end of the next transaction that writes to the table.
 * Remote sources are the watcher's business (watcher.c).  A job whose next work has
 * its time (changes that are not old enough yet) waits for that and nothing else.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "scheduler/slots.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "store/seqs.h"
#include "utils/timestamp.h"

/* For a job that crashed: any end of a transaction counts, from now on. */
#define ANY_COMMITS		PG_UINT64_MAX

/* Tells one wait of a job from another. */
static uint32
stamp_of(const Job *job)
{
	return (uint32) job->generation * 2654435761u + (uint32) job->start_no;
}

/* Leave a token for the job's source; false: something is there already. */
static bool
watch(Job *job, uint64 commits)
{
	job->watched = docrep_wait_park(job->source_database, &job->source_table, commits,
									docrep_slot_index(job), stamp_of(job));
	return job->watched;
}

void
docrep_slot_watch_source(Job *job)
{
	if (job->pacing.cycles && job->source_local && !job->watched)
		(void) watch(job, ANY_COMMITS);
}

void
docrep_slot_unwatch(Job *job)
{
	JobHead    *head = docrep_slot_head(job);

	if (job->watched)
		docrep_wait_unpark(job->source_database, &job->source_table,
						   docrep_slot_index(job), stamp_of(job));
	job->watched = false;
	if (head->remote)
	{
		head->remote = false;
		docrep_jobs->remote--;
		docrep_wake_process(docrep_jobs->watcher_pid);
	}
}

/* The place becomes the job's; returns the text that it replaces. */
static dsa_pointer
park_remotely(Job *job, dsa_pointer place)
{
	dsa_pointer old = job->place;

	job->place = place;
	docrep_slot_head(job)->remote = true;
	docrep_jobs->remote++;
	docrep_wake_process(docrep_jobs->watcher_pid);
	return old;
}

void
docrep_slot_unpark(Job *job)
{
	TimestampTz until = docrep_database_wanted_until(job->database);

	docrep_slot_unwatch(job);
	if (until > GetCurrentTimestamp())
		docrep_slot_hold(job, until);	/* not now: a statement wants us out of there */
	else
		docrep_queue_add(job);
	docrep_slot_changed(job);
}

/* This process leaves its job, which becomes parked; NULL: it is not its job, or has to end. */
static Job *
park(const JobStart *start)
{
	Job		   *job = docrep_slot_of(start->ref);

	if (job == NULL || job->start_no != start->start_no || job->pid != MyProcPid)
		return NULL;
	if (job->stop != JOB_STOP_NONE)
	{
		docrep_slot_process_gone(job, NULL);
		return NULL;
	}
	job->pid = 0;
	job->start_no++;			/* so that the token's stamp is another every time */
	docrep_slot_set_state(job, JOB_PARKED);
	docrep_slot_head(job)->due = 0;
	return job;
}

void
docrep_process_park(const JobStart *start, const DocrepWaitPlace *place, const char *remote)
{
	dsa_pointer text = InvalidDsaPointer;
	Job		   *job;

	if (!place->local)
		text = docrep_slots_keep_text(remote);
	LWLockAcquire(JOBS_LOCK, LW_EXCLUSIVE);
	job = park(start);
	if (job != NULL)
	{
		if (!place->local)
			text = park_remotely(job, text);
		else
		{
			job->source_local = true;
			job->source_database = place->database;
			job->source_table = place->table;
			if (!watch(job, place->commits))
				docrep_slot_unpark(job);
		}
		docrep_slot_changed(job);
		docrep_wake_launcher();
	}
	LWLockRelease(JOBS_LOCK);
	if (DsaPointerIsValid(text))
		dsa_free(docrep_slots_area(), text);
}

void
docrep_process_park_until(const JobStart *start, TimestampTz until)
{
	Job		   *job;

	LWLockAcquire(JOBS_LOCK, LW_EXCLUSIVE);
	job = park(start);
	if (job != NULL)
	{
		docrep_slot_head(job)->due = until;
		docrep_slot_changed(job);
		docrep_wake_launcher();
	}
	LWLockRelease(JOBS_LOCK);
}

void
docrep_job_unpark(JobRef ref)
{
	Job		   *job;

	LWLockAcquire(JOBS_LOCK, LW_EXCLUSIVE);
	job = docrep_slot_of(ref);
	if (job != NULL && job->state == JOB_PARKED)
	{
		docrep_slot_unpark(job);
		docrep_wake_launcher();
	}
	LWLockRelease(JOBS_LOCK);
}

/* A token that was woken: what it meant to the job. */
static void
take_token(int32 token, uint32 stamp)
{
	Job		   *job = &docrep_job_slots[token];
	PacingLimits limits = docrep_pacing_limits();

	if (token >= docrep_jobs->used || !job->watched || stamp_of(job) != stamp)
		return;
	job->watched = false;
	if (job->state == JOB_PARKED)
		docrep_slot_unpark(job);
	else if (job->state == JOB_CRASHING && !job->held)
	{
		TimestampTz now = GetCurrentTimestamp();

		docrep_pacing_commit(&job->pacing, &limits, now);
		if (docrep_pacing_due(&job->pacing, &limits, now))
			docrep_slot_head(job)->due = now;
		else
			docrep_slot_watch_source(job);
	}
}

void
docrep_parked_take_woken(void)
{
	int32		tokens[128];
	uint32		stamps[128];
	int			n;

	while ((n = docrep_wait_woken(tokens, stamps, lengthof(tokens))) > 0)
	{
		LWLockAcquire(JOBS_LOCK, LW_EXCLUSIVE);
		for (int i = 0; i < n; i++)
			take_token(tokens[i], stamps[i]);
		LWLockRelease(JOBS_LOCK);
	}
}

/* ---------- for the watcher ---------- */

bool
docrep_parked_next(int *index, JobRef *ref, int *start_no, Oid *role, char **place)
{
	dsa_area   *area = docrep_slots_area();
	bool		found = false;

	LWLockAcquire(JOBS_LOCK, LW_SHARED);
	for (; *index < docrep_jobs->used && !found; (*index)++)
	{
		Job		   *job = &docrep_job_slots[*index];

		if (docrep_job_heads[*index].state != JOB_PARKED || !docrep_job_heads[*index].remote)
			continue;
		*ref = docrep_slot_ref(job);
		*start_no = job->start_no;
		*role = job->role;
		*place = pstrdup(dsa_get_address(area, job->place));
		found = true;
	}
	LWLockRelease(JOBS_LOCK);
	return found;
}

bool
docrep_parked_still(JobRef ref, int start_no)
{
	Job		   *job;
	bool		still;

	LWLockAcquire(JOBS_LOCK, LW_SHARED);
	job = docrep_slot_of(ref);
	still = job != NULL && job->state == JOB_PARKED && job->start_no == start_no;
	LWLockRelease(JOBS_LOCK);
	return still;
}

static void
leave_watcher(int code, Datum arg)
{
	LWLockReleaseAll();
	LWLockAcquire(JOBS_LOCK, LW_EXCLUSIVE);
	if (docrep_jobs->watcher_pid == MyProcPid)
		docrep_jobs->watcher_pid = 0;
	docrep_wake_launcher();
	LWLockRelease(JOBS_LOCK);
}

bool
docrep_watcher_enter(void)
{
	bool		entered = false;

	before_shmem_exit(leave_watcher, (Datum) 0);
	LWLockAcquire(JOBS_LOCK, LW_EXCLUSIVE);
	if (docrep_jobs->watcher_pid == 0)
	{
		docrep_jobs->watcher_pid = MyProcPid;
		entered = true;
	}
	LWLockRelease(JOBS_LOCK);
	return entered;
}
