/*-------------------------------------------------------------------------
 *
 * slots.c
 *		Settings, shared memory, and the rules by which a slot changes hands.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <limits.h>

#include "common/hashfn.h"
#include "miscadmin.h"
#include "scheduler/housekeeping.h"
#include "scheduler/pool.h"
#include "scheduler/slots.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "storage/shmem.h"
#include "store/seqs.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

/* Requests and results begin here; more comes from dynamic shared memory. */
#define AREA_SIZE	(256 * 1024)
#define TRANCHE		"docrep_jobs"

int			docrep_max_jobs = 10000;
int			docrep_max_workers = 32;
int			docrep_park_after = 5000;
int			docrep_worker_linger = 5000;
int			docrep_scheduler_interval = 60000;
int			docrep_max_churn = 20;
bool		docrep_paused = false;

static int	max_retry_interval = 300;
static int	cycle_interval = 15000;

JobsShared *docrep_jobs = NULL;
JobHead    *docrep_job_heads = NULL;
Job		   *docrep_job_slots = NULL;
LWLockPadded *docrep_jobs_locks = NULL;

static void *area_place = NULL;
static dsa_area *area = NULL;

/* ---------- settings ---------- */

/* An integer that a reload of the configuration changes. */
static void
define_reloadable(const char *name, const char *what, const char *details, int *into,
				  int otherwise, int min, int max, int flags)
{
	DefineCustomIntVariable(name, what, details, into, otherwise, min, max,
							PGC_SIGHUP, flags, NULL, NULL, NULL);
}

/* Settings of the scheduler. */
void
docrep_scheduler_define_gucs(void)
{
	DefineCustomIntVariable("docrep.max_workers",
							"Sets the maximum number of processes that run replications at a time.",
							"Each counts under max_worker_processes too. Jobs that find none free wait for their turn.",
							&docrep_max_workers,
							32, 1, 10000,
							PGC_POSTMASTER, 0,
							NULL, NULL, NULL);
	DefineCustomIntVariable("docrep.max_jobs",
							"Sets the maximum number of replication jobs, running or not.",
							"Each that is used takes about 6 kB of shared memory.",
							&docrep_max_jobs,
							10000, 10, 1000000,
							PGC_POSTMASTER, 0,
							NULL, NULL, NULL);
	DefineCustomBoolVariable("docrep.paused",
							 "Pauses all replication of this server.",
							 "Running jobs finish their batch and wait, new ones are refused. Continuous jobs go on when it is off again.",
							 &docrep_paused,
							 false,
							 PGC_SIGHUP, 0,
							 NULL, NULL, NULL);
	define_reloadable("docrep.park_after",
					  "A continuous replication that has been idle for so long gives its process back; -1: never.",
					  "Its source is watched all the same. When others wait for a process it does so at once.",
					  &docrep_park_after, 5000, -1, INT_MAX, GUC_UNIT_MS);
	define_reloadable("docrep.worker_linger",
					  "A process without a job ends after this time.",
					  NULL,
					  &docrep_worker_linger, 5000, 0, INT_MAX, GUC_UNIT_MS);
	define_reloadable("docrep.scheduler_interval",
					  "While jobs wait for a process, those that have had theirs for so long give way.",
					  NULL,
					  &docrep_scheduler_interval, 60000, 10, INT_MAX, GUC_UNIT_MS);
	define_reloadable("docrep.max_churn",
					  "At most so many jobs give way at a time.",
					  NULL,
					  &docrep_max_churn, 20, 1, INT_MAX, 0);
	define_reloadable("docrep.max_retry_interval",
					  "The longest pause before a failed replication is tried again.",
					  "The first is a second, and it doubles with every failure in a row.",
					  &max_retry_interval, 300, 1, INT_MAX / 1000, GUC_UNIT_S);
	DefineCustomBoolVariable("docrep.housekeeping",
							 "Does what this session changes of tables' settings start housekeeping?",
							 "Otherwise it is cancelled until docrep.start_housekeeping().",
							 &docrep_housekeeping,
							 true,
							 PGC_USERSET, 0,
							 NULL, NULL, NULL);
	define_reloadable("docrep.housekeeping_interval",
					  "How often kept revisions and tombstones of a table are looked through for those beyond their bounds.",
					  "For tables that have such bounds: see docrep.set_revisions() and docrep.set_tombstone_max_age().",
					  &docrep_housekeeping_interval, 3600, 1, INT_MAX / 1000, GUC_UNIT_S);
	define_reloadable("docrep.housekeeping_timeout",
					  "A step of housekeeping that takes longer is ended, and tried again later; 0: none is.",
					  "It holds locks, and calls a table's resolver for conflicts.",
					  &docrep_housekeeping_timeout, 300, 0, INT_MAX / 1000, GUC_UNIT_S);
	define_reloadable("docrep.cycle_interval",
					  "With \"retry\": \"cycles\", how long a cycle lasts while the source stands still.",
					  NULL,
					  &cycle_interval, 15000, 1, INT_MAX, GUC_UNIT_MS);
}

PacingLimits
docrep_pacing_limits(void)
{
	PacingLimits limits;

	limits.backoff_min = JOB_BACKOFF_MIN * INT64CONST(1000);
	limits.backoff_max = max_retry_interval * USECS_PER_SEC;
	limits.cycle_interval = cycle_interval * INT64CONST(1000);
	limits.health_threshold = JOB_HEALTH_THRESHOLD * USECS_PER_SEC;
	return limits;
}

/* ---------- shared memory ---------- */

static Size
heads_size(void)
{
	return mul_size(docrep_max_jobs, sizeof(JobHead));
}

static Size
slots_size(void)
{
	return mul_size(docrep_max_jobs, sizeof(Job));
}

/* Ask for the memory and the locks. */
void
docrep_scheduler_request_shmem(void)
{
	Size		size = add_size(MAXALIGN(sizeof(JobsShared)), AREA_SIZE);

	size = add_size(size, heads_size());
	size = add_size(size, slots_size());
	size = add_size(size, docrep_pool_size());
	size = add_size(size, docrep_databases_size());
	RequestAddinShmemSpace(add_size(size, 8 * PG_CACHE_LINE_SIZE));
	RequestNamedLWLockTranche(TRANCHE, 1);
}

/* The memory of texts. */
static void
startup_area(void)
{
	bool		found;

	area_place = ShmemInitStruct("docrep job texts", AREA_SIZE, &found);
	if (!found)
	{
		/* as cumulative statistics do: pinned, so that it outlives its users */
		dsa_area   *made = dsa_create_in_place(area_place, AREA_SIZE,
											   JOBS_LOCK->tranche, NULL);

		dsa_pin(made);
		dsa_detach(made);
	}
}

/* Make the slots at server start (and after a crash), or find them. */
void
docrep_scheduler_startup_shmem(void)
{
	bool		found;

	area = NULL;
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	docrep_jobs_locks = GetNamedLWLockTranche(TRANCHE);
	docrep_jobs = ShmemInitStruct("docrep jobs", sizeof(JobsShared), &found);
	if (!found)
	{
		memset(docrep_jobs, 0, sizeof(JobsShared));
		docrep_jobs->queue_first = docrep_jobs->queue_last = -1;
	}
	docrep_job_heads = ShmemInitStruct("docrep job heads", heads_size(), &found);

	/* a slot is cleared when it is used first, so unused ones take no memory */
	docrep_job_slots = ShmemInitStruct("docrep job slots", slots_size(), &found);
	docrep_pool_startup_shmem();
	docrep_databases_startup_shmem();
	startup_area();
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

dsa_pointer
docrep_slots_keep_text(const char *text)
{
	Size		len = strlen(text) + 1;
	dsa_pointer kept = dsa_allocate(docrep_slots_area(), len);

	memcpy(dsa_get_address(docrep_slots_area(), kept), text, len);
	return kept;
}

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
