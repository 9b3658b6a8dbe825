/*-------------------------------------------------------------------------
 *
 * slots_area.c
 *		The scheduler's settings, and its shared memory.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <limits.h>

#include "scheduler/housekeeping.h"
#include "scheduler/pool.h"
#include "scheduler/slots.h"
#include "storage/ipc.h"
#include "storage/shmem.h"
#include "utils/guc.h"
#include "utils/memutils.h"

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
