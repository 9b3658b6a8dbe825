/*-------------------------------------------------------------------------
 *
 * worker.c
 *		The process of jobs: one database, one role, one run after the other.
 *
 * It never changes its role: a user's trigger could change it back
 * (docs/architecture.md, "Workers").  When a run ends well the process takes
 * the next job of its database and role, or waits a while for one (pool.c); when
 * it fails the process ends with it, and whatever state it may have been left in.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_extension.h"
#include "commands/extension.h"
#include "compat.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/interrupt.h"
#include "replicator/inspection.h"
#include "scheduler/housekeeping.h"
#include "scheduler/pool.h"
#include "storage/condition_variable.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lmgr.h"
#include "storage/lwlock.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"

static JobStart start;			/* the current job */
static bool in_job = false;
static JobView *job;			/* what it was when it was taken up */
static JobError last_error;
static bool failed = false;		/* the last run was no good */
static bool parked = false;		/* ... or left the waiting to others */
static int	postponed;			/* ... or is to be tried again after so many ms; 0: no */
static char postponed_for[JOB_MESSAGE_SIZE];
static DocrepWaitPlace place;	/* where */
static char *place_text;		/* ... if it is remote, in job_cxt */
static TimestampTz parked_until;	/* ... or, if not 0, until when */
static MemoryContext job_cxt;	/* memory of the job at hand */
static emit_log_hook_type previous_log_hook = NULL;

/* what the figures were when the run began, to see whether it got anywhere */
static bool first_progress = true;
static char told_id[JOB_ID_SIZE];	/* the id that the slot has from this process */
static Replication *replication;	/* what is run, if it is one */
static char first_checkpoint[sizeof(((ReplicationStats *) NULL)->checkpointed_source_seq)];

/* Keep what ends this process, as nothing else tells it to an exit callback. */
static void
keep_error(ErrorData *edata)
{
	if (edata->elevel >= ERROR)
		docrep_job_error_copy(&last_error, edata);
	if (previous_log_hook)
		previous_log_hook(edata);
}

/* Exit callback: leave the job, however this process ends. */
static void
leave_job(int code, Datum arg)
{
	/* whoever failed while holding one is not coming back for it */
	LWLockReleaseAll();
	if (in_job && last_error.sqlstate == 0)
		docrep_job_error_set(&last_error, ERRCODE_INTERNAL_ERROR,
							 "the replication's process ended unexpectedly", NULL, NULL);
	if (in_job)
		docrep_process_leave(&start, &last_error, false);
	docrep_pool_leave();
}

/* What a worker's session is set to: what all have, and row security on. */
static void
pin_settings(const char *id)
{
	char		name[NAMEDATALEN];

	snprintf(name, sizeof(name), "docrep worker: %s", id);
	docrep_pin_settings(name, "pg_catalog, docrep, pg_temp");
	SetConfigOption("row_security", "on", PGC_SUSET, PGC_S_SESSION);
}

/*
 * Is the extension still the one that the job was asked from?  Waits for a
 * DROP EXTENSION that is under way.  The lock is let go at once, or we would
 * hold up the next one; that one finds us by its hook.
 */
static bool
extension_is_there(Oid expected)
{
	Oid			found;

	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	found = get_extension_oid("docrep", true);
	if (OidIsValid(found))
	{
		LockDatabaseObject(ExtensionRelationId, found, 0, AccessShareLock);
		found = get_extension_oid("docrep", true);
	}
	CommitTransactionCommand();
	return OidIsValid(found) && found == expected;
}

/* Take up signals: end, configuration. */
static void
handle_signals(void)
{
	CHECK_FOR_INTERRUPTS();
	if (ConfigReloadPending)
	{
		ConfigReloadPending = false;
		ProcessConfigFile(PGC_SIGHUP);
	}
}

/* While docrep.paused is on, wait here, between two batches. */
static void
wait_while_paused(void)
{
	if (!docrep_paused)
		return;
	pgstat_report_activity(STATE_IDLE, "paused (docrep.paused is on)");
	while (docrep_paused && !docrep_process_stop_asked(start.ref))
	{
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_EXIT_ON_PM_DEATH, -1, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		handle_signals();
	}
}

/* ReplicationHooks.should_stop; the place where a pause takes effect, too. */
static bool
run_should_stop(void *arg)
{
	handle_signals();
	wait_while_paused();
	return docrep_process_stop_asked(start.ref);
}

/* ReplicationHooks.progress */
static void
run_progress(void *arg, const ReplicationStats *figures, bool idle)
{
	bool		healthy;

	/* before anybody waiting is told that the job runs; it changes with a filter's code */
	if (replication && (first_progress || strcmp(told_id, replication->full_id) != 0))
	{
		docrep_process_identify(start.ref, replication->full_id);
		strlcpy(told_id, replication->full_id, sizeof(told_id));
	}
	if (first_progress)
		strlcpy(first_checkpoint, figures->checkpointed_source_seq, sizeof(first_checkpoint));
	first_progress = false;
	healthy = idle || strcmp(first_checkpoint, figures->checkpointed_source_seq) != 0;

	docrep_process_progress(start.ref, figures, idle && job->continuous, healthy);
	handle_signals();
	wait_while_paused();
	pgstat_report_activity(idle ? STATE_IDLE : STATE_RUNNING, (const char *) arg);
	if (!IsTransactionOrTransactionBlock())
		pgstat_report_stat(false);
}

/* ReplicationHooks.park_in */
static long
run_park_in(void *arg, long idle)
{
	return docrep_process_park_in(start.ref, idle);
}

/* ReplicationHooks.park: what the run's memory holds of it goes with the run. */
static void
run_park(void *arg, const DocrepWaitPlace *where)
{
	MemoryContext caller = MemoryContextSwitchTo(job_cxt);

	parked = true;
	place = *where;
	place_text = place.local ? NULL : docrep_wait_place_serialize(where);
	MemoryContextSwitchTo(caller);
}

/* ReplicationHooks.park_until */
static void
run_park_until(void *arg, TimestampTz until)
{
	parked = true;
	parked_until = until;
}

/* ReplicationHooks.postpone */
static void
run_postpone(void *arg, int ms, const char *reason)
{
	postponed = Max(ms, 1);
	docrep_job_text_copy(postponed_for, sizeof(postponed_for), reason);
}

/* What stands before a job's id in the log: the ids of others than replications say what they are. */
static const char *
log_prefix(void)
{
	return job->kind == JOB_REPLICATE ? "replication " : "";
}

/* Put what a failed run left behind in order, and keep its error. */
static void
catch_error(MemoryContext cxt)
{
	ErrorData  *edata;

	MemoryContextSwitchTo(cxt);
	edata = CopyErrorData();
	FlushErrorState();
	LWLockReleaseAll();
	ConditionVariableCancelSleep();
	pgstat_report_wait_end();
	AbortOutOfAnyTransaction();
	docrep_job_error_copy(&last_error, edata);
	last_error.unidentified = replication != NULL && replication->identifying;
	ereport(LOG,
			(errcode(last_error.sqlstate),
			 errmsg("%s%s failed: %s", log_prefix(),
					job->id, last_error.message),
			 last_error.detail[0] != '\0' ? errdetail_internal("%s", last_error.detail) : 0));
}

/* Do the job's work; returns its result. */
static char *
do_work(const ReplicationHooks *hooks)
{
	char	   *request = docrep_process_request(start.ref);

	switch (job->kind)
	{
		case JOB_REPLICATE:
			break;
		case JOB_VERIFY:
			return docrep_verify_run(docrep_inspection_deserialize(request), hooks);
		case JOB_PREFLIGHT:
			return docrep_preflight_run(docrep_inspection_deserialize(request), hooks);
		case JOB_HOUSEKEEPING:
			return docrep_housekeeping_run(hooks);
	}
	replication = docrep_replication_deserialize(request);
	docrep_process_source(start.ref, replication->source);
	return docrep_replication_run(replication, hooks);
}

/* What pg_stat_activity shows. */
static char *
describe(void)
{
	switch (job->kind)
	{
		case JOB_REPLICATE:
			break;
		case JOB_VERIFY:
			return psprintf("compare %s with %s", job->source, job->target);
		case JOB_PREFLIGHT:
			return psprintf("look through %s", job->source);
		case JOB_HOUSEKEEPING:
			return pstrdup("housekeeping of document tables");
	}
	return psprintf("replicate %s to %s", job->source, job->target);
}

/* Say how the run ended. */
static void
report_end(char *result)
{
	if (parked && parked_until != 0)
		docrep_process_park_until(&start, parked_until);
	else if (parked)
		docrep_process_park(&start, &place, place_text);
	else if (postponed > 0)
		docrep_process_postpone(&start, postponed, postponed_for);
	else
	{
		if (!job->continuous && !docrep_process_stop_asked(start.ref))
			docrep_process_set_result(start.ref, result);
		last_error.sqlstate = 0;
		docrep_process_leave(&start, NULL, false);
	}
}

/* One run, in memory of its own. */
static void
run_job(void)
{
	MemoryContext cxt = AllocSetContextCreate(TopMemoryContext, "docrep replication",
											  ALLOCSET_DEFAULT_SIZES);
	char	   *activity;
	ReplicationHooks hooks;

	job_cxt = cxt;
	MemoryContextSwitchTo(cxt);
	activity = describe();
	hooks.arg = activity;
	hooks.progress = run_progress;
	hooks.resumed = job->established;
	hooks.should_stop = run_should_stop;
	hooks.park_in = run_park_in;
	hooks.park = run_park;
	hooks.park_until = run_park_until;
	hooks.postpone = run_postpone;
	pgstat_report_activity(STATE_RUNNING, activity);

	PG_TRY();
	{
		report_end(do_work(&hooks));
	}
	PG_CATCH();
	{
		catch_error(cxt);
		failed = true;
		docrep_process_leave(&start, &last_error, false);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(TopMemoryContext);
	MemoryContextDelete(cxt);
}

/* From taking a job up to having left it. */
static void
do_job(void)
{
	/* what was set before the job was asked for counts, also if the last one ends just now */
	handle_signals();
	if (!docrep_process_enter(&start) || !docrep_job_look(start.ref, job))
		return;
	in_job = true;
	first_progress = true;
	parked = false;
	parked_until = 0;
	postponed = 0;
	replication = NULL;
	last_error.sqlstate = 0;
	pin_settings(job->id);

	if (!extension_is_there(job->extension))
	{
		docrep_job_error_set(&last_error, ERRCODE_UNDEFINED_OBJECT,
							 "extension docrep was dropped from the database", NULL, NULL);
		docrep_process_leave(&start, &last_error, true);
	}
	else
	{
		bool		told = job->continuous && !job->established;

		ereport(told ? LOG : DEBUG1,
				(errmsg("%s%s from %s to %s starts", log_prefix(), job->id, job->source, job->target)));
		run_job();
		ereport(job->continuous && !parked ? LOG : DEBUG1,
				(errmsg("%s%s ends", log_prefix(), job->id)));
	}
	in_job = false;
	pgstat_report_activity(STATE_IDLE, NULL);
	pgstat_report_stat(true);
}

/* The process's life. */
void
docrep_worker_main(Datum arg)
{
	PoolStart	pool_start;

	memcpy(&pool_start, MyBgworkerEntry->bgw_extra, sizeof(pool_start));
	pqsignal(SIGTERM, die);
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	BackgroundWorkerUnblockSignals();

	/* before the connection, so that it runs after that one's own callbacks */
	before_shmem_exit(leave_job, (Datum) 0);
	if (!docrep_pool_enter(&pool_start, &start))
		proc_exit(0);
	job = MemoryContextAllocZero(TopMemoryContext, sizeof(JobView));
	previous_log_hook = emit_log_hook;
	emit_log_hook = keep_error;

	/* a failure to connect is the first job's */
	in_job = docrep_process_expect(&start);
	BackgroundWorkerInitializeConnectionByOid(pool_start.database, pool_start.role,
											  DOCREP_WORKER_FLAGS);
	in_job = false;
	do
	{
		do_job();
	} while (!failed && (docrep_pool_next(&start) || docrep_pool_wait(&start)));
	proc_exit(0);
}
