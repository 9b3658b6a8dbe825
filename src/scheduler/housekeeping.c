/*-------------------------------------------------------------------------
 *
 * housekeeping.c
 *		The work itself: steps of a bounded size, each a transaction.
 *
 * Runs in a process of the pool, connected as the owner of the tables: what a
 * resolver, a CHECK or a trigger does is done with the owner's rights.  Only
 * docrep.table_jobs is read and written with docrep's own.  A step and the note
 * of it commit together, so that it is done once, whenever the server dies.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "compat.h"
#include "executor/spi.h"
#include "scheduler/housekeeping_internal.h"
#include "scheduler/pool.h"
#include "storage/lwlock.h"
#include "store/internal_sql.h"
#include "store/table.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"

/* A lock that is not had in this time is waited for without a process: the step is tried again. */
#define LOCK_TIMEOUT		"5s"
/* While others wait for a process, this one is given back after so long (ms). */
#define TURN				1000
/* Versions that are to be kept for less than this are looked at this often. */
#define SHORTEST_ROUND		"5 seconds"

int			docrep_housekeeping_interval = 3600;
int			docrep_housekeeping_timeout = 300;

/* ---------- rows ---------- */

/* The task that has waited longest, in the current context; NULL: there is none. */
static HousekeepingTask *
next_task(void)
{
	static SPIPlanPtr plan = NULL;
	MemoryContext caller = CurrentMemoryContext;
	HousekeepingTask	   *tasks;
	int			n;
	InternalSql sql;

	docrep_internal_begin(&sql);
	docrep_internal_execute(&plan,
							"SELECT tbl, kind, version, position, started_at IS NULL OR finished_at IS NOT NULL,"
							" coalesce(sqlstate = '57014', false) FROM docrep.table_jobs WHERE state IN ('starting', 'running')"
							" ORDER BY updated_at", 0, NULL, NULL, NULL, true, 0);
	MemoryContextSwitchTo(caller);
	n = (int) SPI_processed;
	tasks = palloc0(Max(n, 1) * sizeof(HousekeepingTask));
	for (int i = 0; i < n; i++)
	{
		HeapTuple	row = SPI_tuptable->vals[i];
		TupleDesc	desc = SPI_tuptable->tupdesc;
		bool		isnull;
		char	   *position = SPI_getvalue(row, desc, 4);

		tasks[i].tbl = *DatumGetUUIDP(SPI_getbinval(row, desc, 1, &isnull));
		tasks[i].kind = MemoryContextStrdup(caller, SPI_getvalue(row, desc, 2));
		tasks[i].version = DatumGetInt64(SPI_getbinval(row, desc, 3, &isnull));
		tasks[i].position = position ? MemoryContextStrdup(caller, position) : NULL;
		tasks[i].fresh = DatumGetBool(SPI_getbinval(row, desc, 5, &isnull));
		tasks[i].timed_out = DatumGetBool(SPI_getbinval(row, desc, 6, &isnull));
	}
	docrep_internal_end(&sql);

	/* one whose table has another owner by now is that one's: the keeper comes back to it */
	for (int i = 0; i < n; i++)
	{
		tasks[i].relid = docrep_table_by_uuid(&tasks[i].tbl);
		if (OidIsValid(tasks[i].relid) && docrep_is_owner(tasks[i].relid))
			return &tasks[i];
	}
	return NULL;
}

/*
 * Note what a step has done, unless something else has been asked for meanwhile.
 * What is to be kept for a shorter time than the interval is looked at as often as that.
 */
static void
note_progress(const HousekeepingTask *task, const HousekeepingProgress *progress)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[] = {UUIDOID, TEXTOID, INT8OID, TEXTOID, INT8OID, BOOLOID, BOOLOID, INT8OID,
	INT4OID, TIMESTAMPTZOID};
	Datum		values[10];
	char		nulls[] = "          ";
	InternalSql sql;

	values[0] = UUIDPGetDatum(&task->tbl);
	values[1] = CStringGetTextDatum(task->kind);
	values[2] = Int64GetDatum(task->version);
	values[3] = progress->position ? CStringGetTextDatum(progress->position) : (Datum) 0;
	nulls[3] = progress->position ? ' ' : 'n';
	values[4] = Int64GetDatum(progress->done);
	values[5] = BoolGetDatum(task->fresh);
	values[6] = BoolGetDatum(progress->finished);
	values[7] = Int64GetDatum(progress->total);
	nulls[7] = progress->total >= 0 ? ' ' : 'n';
	values[8] = Int32GetDatum(docrep_housekeeping_interval);
	values[9] = TimestampTzGetDatum(GetCurrentTimestamp());
	docrep_internal_begin(&sql);
	docrep_internal_execute(&plan,
							"UPDATE docrep.table_jobs SET position = $4, failures = 0,"
							" sqlstate = NULL, error = NULL, updated_at = $10,"
							" done = CASE WHEN $6 THEN 0 ELSE done END + $5,"
							" total = CASE WHEN $6 THEN $8 ELSE total END,"
							" started_at = CASE WHEN $6 THEN $10 ELSE started_at END,"
							" finished_at = CASE WHEN $7 THEN $10 END,"
							" state = CASE WHEN NOT $7 THEN 'running' WHEN kind = 'conflicts' THEN 'done'"
							"   ELSE 'waiting' END,"
							" next_at = CASE WHEN NOT $7 THEN $10 + interval '1 second'"
							"   WHEN kind <> 'conflicts' THEN $10 + LEAST($9 * interval '1 second',"
							"     (SELECT GREATEST(revisions_max_age, interval '" SHORTEST_ROUND "')"
							"      FROM docrep.table_settings s WHERE s.tbl = $1 AND $2 = 'revisions'"
							"      AND revisions_max_age IS NOT NULL)) END"
							" WHERE tbl = $1 AND kind = $2 AND version = $3",
							10, types, values, nulls, false, 0);
	docrep_internal_end(&sql);
}

/* The work is over: nothing is left to be looked after, unless somebody has just asked for it. */
static void
forget_task(const HousekeepingTask *task)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[] = {UUIDOID, TEXTOID, INT8OID};
	Datum		values[3];
	InternalSql sql;

	values[0] = UUIDPGetDatum(&task->tbl);
	values[1] = CStringGetTextDatum(task->kind);
	values[2] = Int64GetDatum(task->version);
	docrep_internal_begin(&sql);
	docrep_internal_execute(&plan,
							"DELETE FROM docrep.table_jobs WHERE tbl = $1 AND kind = $2 AND version = $3",
							3, types, values, NULL, false, 0);
	docrep_internal_end(&sql);
}

/* Note why a step failed. */
static void
note_error(const HousekeepingTask *task, const JobError *error)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[] = {UUIDOID, TEXTOID, INT8OID, TEXTOID, TEXTOID, FLOAT8OID};
	Datum		values[6];
	InternalSql sql;

	values[0] = UUIDPGetDatum(&task->tbl);
	values[1] = CStringGetTextDatum(task->kind);
	values[2] = Int64GetDatum(task->version);
	values[3] = CStringGetTextDatum(unpack_sql_state(error->sqlstate));
	values[4] = CStringGetTextDatum(error->message);
	values[5] = Float8GetDatum((double) docrep_pacing_limits().backoff_max / USECS_PER_SEC);
	docrep_internal_begin(&sql);
	docrep_internal_execute(&plan,
							"UPDATE docrep.table_jobs SET state = 'error', sqlstate = $4, error = $5,"
							" failures = GREATEST(failures, 1), updated_at = clock_timestamp(),"
							" next_at = clock_timestamp() + LEAST($6, 2.0 ^ LEAST(failures, 20))"
							"   * interval '1 second'"
							" WHERE tbl = $1 AND kind = $2 AND version = $3",
							6, types, values, NULL, false, 0);
	docrep_internal_end(&sql);
}

/* ---------- the run ---------- */

static void
begin_transaction(void)
{
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
}

static void
end_transaction(void)
{
	PopActiveSnapshot();
	CommitTransactionCommand();
}

/* A step failed: put in order what it left behind, and note why, in a transaction of its own. */
static void
step_failed(const HousekeepingTask *task, MemoryContext cxt)
{
	ErrorData  *edata;
	JobError   *error;

	MemoryContextSwitchTo(cxt);
	error = palloc0(sizeof(JobError));
	edata = CopyErrorData();
	FlushErrorState();
	LWLockReleaseAll();
	AbortOutOfAnyTransaction();
	docrep_job_error_copy(error, edata);
	begin_transaction();
	/* a table that has been dropped meanwhile is nobody's concern */
	if (docrep_table_by_uuid(&task->tbl) == task->relid)
	{
		ereport(LOG,
				(errcode(error->sqlstate),
				 errmsg("housekeeping (%s) of table \"%s\" failed: %s", task->kind,
						get_rel_name(task->relid), error->message),
				 error->detail[0] != '\0' ? errdetail_internal("%s", error->detail) : 0));
		note_error(task, error);
	}
	end_transaction();
	MemoryContextSwitchTo(cxt);
}

/* Do one step of what has waited longest; false: nothing is left. */
static bool
step(MemoryContext cxt)
{
	HousekeepingTask	   *volatile task = NULL;

	PG_TRY();
	{
		HousekeepingTask	   *chosen;

		begin_transaction();
		MemoryContextSwitchTo(cxt);
		chosen = next_task();
		task = chosen;
		if (chosen)
		{
			HousekeepingProgress	progress = {0};

			docrep_housekeeping_begin_limit();
			docrep_housekeeping_step(chosen, &progress);
			docrep_housekeeping_end_limit();
			if (progress.over)
				forget_task(chosen);
			else
				note_progress(chosen, &progress);
		}
		end_transaction();
		MemoryContextSwitchTo(cxt);
	}
	PG_CATCH();
	{
		docrep_housekeeping_end_limit();
		/* what is no task's fault ends the run, and the keeper comes back to it */
		if (task == NULL)
			PG_RE_THROW();
		step_failed(task, cxt);
	}
	PG_END_TRY();
	return task != NULL;
}

/*
 * Leave what was marked for this process and is not done yet to the next one, but for what
 * somebody has just cancelled or asked for anew.
 */
static void
give_back(void)
{
	static SPIPlanPtr plan = NULL;
	HousekeepingTask	   *task;
	InternalSql sql;

	begin_transaction();
	while ((task = next_task()) != NULL)
	{
		Oid			types[] = {UUIDOID, TEXTOID, INT8OID};
		Datum		values[3];

		values[0] = UUIDPGetDatum(&task->tbl);
		values[1] = CStringGetTextDatum(task->kind);
		values[2] = Int64GetDatum(task->version);
		docrep_internal_begin(&sql);
		docrep_internal_execute(&plan,
								"UPDATE docrep.table_jobs SET state = 'waiting', failures = 0,"
								" next_at = clock_timestamp()"
								" WHERE tbl = $1 AND kind = $2 AND version = $3",
								3, types, values, NULL, false, 0);
		docrep_internal_end(&sql);
		PopActiveSnapshot();
		CommandCounterIncrement();
		PushActiveSnapshot(GetTransactionSnapshot());
	}
	end_transaction();
}

char *
docrep_housekeeping_run(const ReplicationHooks *hooks)
{
	MemoryContext caller = CurrentMemoryContext;
	MemoryContext cxt = AllocSetContextCreate(caller, "docrep housekeeping",
											  ALLOCSET_DEFAULT_SIZES);
	TimestampTz begun = GetCurrentTimestamp();
	ReplicationStats figures = {0};
	bool		more = true;
	char	   *lock_timeout = pstrdup(GetConfigOption("lock_timeout", false, false));

	SetConfigOption("lock_timeout", LOCK_TIMEOUT, PGC_SUSET, PGC_S_SESSION);
	figures.changes_pending = -1;
	while (more)
	{
		hooks->progress(hooks->arg, &figures, false);
		if (hooks->should_stop(hooks->arg))
			break;
		MemoryContextReset(cxt);
		MemoryContextSwitchTo(cxt);
		more = step(cxt);
		if (more && docrep_process_others_wait() &&
			TimestampDifferenceExceeds(begun, GetCurrentTimestamp(), TURN))
		{
			give_back();
			break;
		}
	}
	/* the process goes on with others' jobs, perhaps */
	SetConfigOption("lock_timeout", lock_timeout, PGC_SUSET, PGC_S_SESSION);
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(cxt);
	return pstrdup("{}");
}
