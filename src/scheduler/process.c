/*-------------------------------------------------------------------------
 *
 * process.c
 *		Processes of jobs: how one is asked for, comes, reports and leaves.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "scheduler/slots.h"
#include "storage/lwlock.h"
#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

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
			job->before = job->figures; /* nobody else changes those of a job */
			docrep_slot_event(job, JOB_STARTED, NULL);
			docrep_slot_changed(job);
			wanted = true;
		}
		else
			docrep_slot_process_gone(job, NULL);
	}
	LWLockRelease(JOBS_LOCK);
	return wanted;
}

/* The job's process is here, though not ready yet. */
bool
docrep_process_expect(const JobStart *start)
{
	Job		   *job;
	bool		wanted = false;

	LWLockAcquire(JOBS_LOCK, LW_EXCLUSIVE);
	job = docrep_slot_of(start->ref);
	if (job != NULL && job->start_no == start->start_no && job->state == JOB_STARTING)
	{
		job->pid = MyProcPid;
		wanted = true;
	}
	LWLockRelease(JOBS_LOCK);
	return wanted;
}

void
docrep_process_source(JobRef ref, const DocrepEndpoint *source)
{
	Job		   *job = &docrep_job_slots[ref.index];
	Datum		uuid;
	pg_uuid_t	table;

	if (strcmp(source->kind, "local") != 0)
		return;
	uuid = DirectFunctionCall1(uuid_in, CStringGetDatum(source->spec));
	table = *DatumGetUUIDP(uuid);
	LWLockAcquire(JOBS_LOCK, LW_EXCLUSIVE);
	docrep_slot_unwatch(job);
	job->source_local = true;
	job->source_database = MyDatabaseId;
	job->source_table = table;
	LWLockRelease(JOBS_LOCK);
}

char *
docrep_process_request(JobRef ref)
{
	dsa_area   *area = docrep_slots_area();

	/* the request of a job that has a process does not change */
	return pstrdup(dsa_get_address(area, docrep_job_slots[ref.index].request));
}

void
docrep_process_identify(JobRef ref, const char *id)
{
	Job		   *job = &docrep_job_slots[ref.index];

	LWLockAcquire(JOBS_LOCK, LW_EXCLUSIVE);
	if (strcmp(job->id, id) != 0)
	{
		strlcpy(job->id, id, sizeof(job->id));
		docrep_slot_rehash(job);
		docrep_slot_to_report(job);
	}
	LWLockRelease(JOBS_LOCK);
}

/* Counts go on from run to run. */
static void
add_counts(ReplicationStats *sum, const ReplicationStats *more)
{
	sum->docs_read += more->docs_read;
	sum->docs_written += more->docs_written;
	sum->doc_write_failures += more->doc_write_failures;
	sum->missing_revisions_found += more->missing_revisions_found;
	sum->revisions_checked += more->revisions_checked;
	sum->bulk_get_attempts += more->bulk_get_attempts;
	sum->bulk_get_docs += more->bulk_get_docs;
}

/* What was cut to fit is cut at a character's border: other sides' sequences may be anything. */
static void
trim_seq(char *seq)
{
	seq[pg_mbcliplen(seq, (int) strlen(seq), STATS_SEQ_SIZE - 1)] = '\0';
}

void
docrep_process_progress(JobRef ref, const ReplicationStats *figures, bool idle, bool healthy)
{
	Job		   *job = &docrep_job_slots[ref.index];
	JobState	state = idle ? JOB_IDLE : JOB_RUNNING;

	LWLockAcquire(&job->figures_lock, LW_EXCLUSIVE);
	job->figures = *figures;
	trim_seq(job->figures.source_seq);
	trim_seq(job->figures.through_seq);
	trim_seq(job->figures.checkpointed_source_seq);
	add_counts(&job->figures, &job->before);
	job->updated_on = GetCurrentTimestamp();
	LWLockRelease(&job->figures_lock);

	/* nobody else writes these while we are the job's process */
	if (job->state == state && job->established && !(healthy && job->pacing.failures > 0))
		return;
	LWLockAcquire(JOBS_LOCK, LW_EXCLUSIVE);
	if (job->state == JOB_STARTING)
		docrep_pacing_opened(&job->pacing, GetCurrentTimestamp());
	docrep_slot_set_state(job, state);
	job->established = true;
	if (healthy)
	{
		if (job->told)
			docrep_slot_to_report(job);
		job->told = false;
		docrep_pacing_succeeded(&job->pacing);
		job->error.sqlstate = 0;
	}
	docrep_slot_changed(job);
	LWLockRelease(JOBS_LOCK);
}

bool
docrep_process_stop_asked(JobRef ref)
{
	/* one word, and a late answer does no harm: no lock */
	return *((volatile JobStop *) &docrep_job_slots[ref.index].stop) != JOB_STOP_NONE;
}

bool
docrep_process_others_wait(void)
{
	/* looked at without the lock: a late answer does no harm */
	return *((volatile int *) &docrep_jobs->queued) > 0;
}

long
docrep_process_park_in(JobRef ref, long idle)
{
	if (docrep_process_others_wait())
		return 0;
	if (docrep_park_after < 0)
		return -1;
	return Max(docrep_park_after - idle, 0);
}

void
docrep_process_postpone(const JobStart *start, int ms, const char *reason)
{
	Job		   *job;

	LWLockAcquire(JOBS_LOCK, LW_EXCLUSIVE);
	job = docrep_slot_of(start->ref);
	if (job != NULL && job->start_no == start->start_no && job->pid == MyProcPid)
	{
		if (job->stop != JOB_STOP_NONE)
			docrep_slot_process_gone(job, NULL);
		else
		{
			job->pid = 0;
			job->start_no++;
			job->established = true;
			docrep_job_error_set(&job->error, ERRCODE_OBJECT_IN_USE, reason, NULL, NULL);
			docrep_slot_event(job, JOB_STOPPED, NULL);
			docrep_slot_hold(job, TimestampTzPlusMilliseconds(GetCurrentTimestamp(), ms));
			docrep_slot_changed(job);
			docrep_wake_launcher();
		}
	}
	LWLockRelease(JOBS_LOCK);
}

void
docrep_process_set_result(JobRef ref, const char *result)
{
	dsa_area   *area = docrep_slots_area();
	Size		len = strlen(result) + 1;
	dsa_pointer text = dsa_allocate(area, len);

	memcpy(dsa_get_address(area, text), result, len);
	LWLockAcquire(JOBS_LOCK, LW_EXCLUSIVE);
	docrep_job_slots[ref.index].result = text;
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
