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
#include "catalog/pg_type.h"
#include "compat.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "scheduler/housekeeping.h"
#include "scheduler/pool.h"
#include "storage/lwlock.h"
#include "store/internal_sql.h"
#include "store/table.h"
#include "store/table_settings.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

/* What a step does at most: documents whose conflicts are resolved, ... */
#define CONFLICTS_A_STEP	100
/* ... some at a time, as long as that takes no longer (ms) */
#define CONFLICTS_AT_A_TIME	10
#define CONFLICTS_TIME		10000
/* ... revisions or tombstones that are removed. */
#define ROWS_A_STEP			1000
/* A lock that is not had in this time is waited for without a process: the step is tried again. */
#define LOCK_TIMEOUT		"5s"
/* While others wait for a process, this one is given back after so long (ms). */
#define TURN				1000

int			docrep_housekeeping_interval = 3600;
int			docrep_housekeeping_timeout = 300;

/* A row of docrep.table_jobs that was marked for this process. */
typedef struct Task
{
	pg_uuid_t	tbl;
	Oid			relid;
	char	   *kind;
	int64		version;
	char	   *position;		/* NULL: at the beginning */
	bool		fresh;			/* a round begins */
	bool		timed_out;		/* the last step took too long */
} Task;

/* What a step has done. */
typedef struct Progress
{
	int64		done;
	char	   *position;		/* where the next one goes on */
	bool		finished;		/* there is none */
	bool		over;			/* ... and nothing asks for this kind any more */
	int64		total;			/* with the first one: about how much there is, -1: not known */
} Progress;

/* ---------- rows ---------- */

/* The task that has waited longest, in the current context; NULL: there is none. */
static Task *
next_task(void)
{
	static SPIPlanPtr plan = NULL;
	MemoryContext caller = CurrentMemoryContext;
	Task	   *tasks;
	int			n;
	InternalSql sql;

	docrep_internal_begin(&sql);
	docrep_internal_execute(&plan,
							"SELECT tbl, kind, version, position, started_at IS NULL OR finished_at IS NOT NULL,"
							" coalesce(sqlstate = '57014', false) FROM docrep.table_jobs WHERE state IN ('starting', 'running')"
							" ORDER BY updated_at", 0, NULL, NULL, NULL, true, 0);
	MemoryContextSwitchTo(caller);
	n = (int) SPI_processed;
	tasks = palloc0(Max(n, 1) * sizeof(Task));
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

/* Note what a step has done, unless something else has been asked for meanwhile. */
static void
note_progress(const Task *task, const Progress *progress)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[] = {UUIDOID, TEXTOID, INT8OID, TEXTOID, INT8OID, BOOLOID, BOOLOID, INT8OID,
	INT4OID};
	Datum		values[9];
	char		nulls[] = "         ";
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
	docrep_internal_begin(&sql);
	docrep_internal_execute(&plan,
							"UPDATE docrep.table_jobs SET position = $4, failures = 0,"
							" sqlstate = NULL, error = NULL, updated_at = clock_timestamp(),"
							" done = CASE WHEN $6 THEN 0 ELSE done END + $5,"
							" total = CASE WHEN $6 THEN $8 ELSE total END,"
							" started_at = CASE WHEN $6 THEN clock_timestamp() ELSE started_at END,"
							" finished_at = CASE WHEN $7 THEN clock_timestamp() END,"
							" state = CASE WHEN NOT $7 THEN 'running' WHEN kind = 'conflicts' THEN 'done'"
							"   ELSE 'waiting' END,"
							" next_at = CASE WHEN NOT $7 THEN clock_timestamp() + interval '1 second'"
							"   WHEN kind <> 'conflicts' THEN clock_timestamp() + $9 * interval '1 second' END"
							" WHERE tbl = $1 AND kind = $2 AND version = $3",
							9, types, values, nulls, false, 0);
	docrep_internal_end(&sql);
}

/* The work is over: nothing is left to be looked after, unless somebody has just asked for it. */
static void
forget_task(const Task *task)
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
note_error(const Task *task, const JobError *error)
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

/* ---------- steps, as the tables' owner ---------- */

/* A query of one row, with the table as its first argument; its first two columns as text. */
static void
query(const char *command, const Task *task, int max, const char *second, char **first,
	  char **other)
{
	Oid			types[] = {REGCLASSOID, INT4OID, TEXTOID};
	Datum		values[3];

	values[0] = ObjectIdGetDatum(task->relid);
	values[1] = Int32GetDatum(max);
	values[2] = second ? CStringGetTextDatum(second) : (Datum) 0;
	if (SPI_execute_with_args(command, 3, types, values, second ? NULL : "  n", false, 1) < 0 ||
		SPI_tuptable == NULL || SPI_processed != 1)
		elog(ERROR, "unexpected answer to \"%s\"", command);
	*first = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
	if (other)
		*other = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2);
}

/* A count as SQL gives it. */
static int64
count_of(const char *text)
{
	return text ? DatumGetInt64(DirectFunctionCall1(int8in, CStringGetDatum(text))) : 0;
}

/*
 * Resolve some conflicts again.  After a step that took too long one at a time, so that only
 * the document whose resolver hangs stays behind.
 */
static void
resolve_conflicts(const Task *task, Progress *progress)
{
	TimestampTz begun = GetCurrentTimestamp();
	char	   *n;

	if (task->fresh)
	{
		query("SELECT docrep.conflict_count($1)", task, 0, NULL, &n, NULL);
		progress->total = count_of(n);
	}
	progress->position = task->position;
	do
	{
		query("SELECT r.examined, r.last FROM docrep.resolve_conflicts($1, $2, $3) r", task,
			  task->timed_out ? 1 : CONFLICTS_AT_A_TIME, progress->position, &n,
			  &progress->position);
		progress->done += count_of(n);
		progress->finished = progress->position == NULL;
	} while (!progress->finished && !task->timed_out && progress->done < CONFLICTS_A_STEP &&
			 !TimestampDifferenceExceeds(begun, GetCurrentTimestamp(), CONFLICTS_TIME));
}

/* Is there to be no former version of the table any more?  Some may be passed over once. */
static bool
revisions_are_over(const Task *task)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[] = {UUIDOID};
	Datum		values[1];
	InternalSql sql;
	bool		over;

	if (docrep_settings_read(&task->tbl)->revisions_keep >= 0)
		return false;
	values[0] = UUIDPGetDatum(&task->tbl);
	docrep_internal_begin(&sql);
	docrep_internal_execute(&plan,
							"SELECT FROM docrep.version_holds WHERE tbl = $1 UNION ALL"
							" SELECT FROM docrep.revision_cleaning WHERE tbl = $1",
							1, types, values, NULL, false, 1);
	over = SPI_processed == 0;
	docrep_internal_end(&sql);
	return over;
}

/* Remove some of the kept revisions. */
static void
clean_revisions(const Task *task, Progress *progress)
{
	char	   *n;

	query("SELECT docrep.clean_revisions($1, $2)", task, ROWS_A_STEP, NULL, &n, NULL);
	progress->done = count_of(n);
	progress->finished = progress->done < ROWS_A_STEP;
	progress->over = progress->finished && revisions_are_over(task);
}

/*
 * Remove some tombstones.  Who holds them is asked in every step: a task that
 * comes meanwhile counts from its first moment on.
 */
static void
clean_tombstones(const Task *task, Progress *progress)
{
	Interval   *age = docrep_settings_read(&task->tbl)->tombstone_max_age;
	char	   *text;
	char	   *n;

	progress->finished = true;
	if (age == NULL)
		return;					/* not wanted any more, as of just now */
	text = DatumGetCString(DirectFunctionCall1(interval_out, IntervalPGetDatum(age)));
	query(psprintf("SELECT r.removed, r.passed"
				   " FROM (SELECT pg_catalog.min(h.passed) AS up_to FROM docrep.tombstone_holders h"
				   "   WHERE h.tbl = $1 AND h.counts) AS h,"
				   " LATERAL docrep.remove_tombstones($1, h.up_to,"
				   "   pg_catalog.now() - %s::interval, $3::bigint, $2) r",
				   quote_literal_cstr(text)),
		  task, ROWS_A_STEP, task->position, &n, &progress->position);
	progress->done = count_of(n);
	progress->finished = progress->position == NULL;
}

/*
 * A step holds locks, and what it calls may hang: it has its time.  The timeout of statements is
 * what there is for that, and it is not in use here.
 */
static void
begin_time_limit(void)
{
	if (docrep_housekeeping_timeout > 0)
		enable_timeout_after(STATEMENT_TIMEOUT, docrep_housekeeping_timeout * 1000);
}

/* It may have struck just now, when nothing was left to be interrupted. */
static void
end_time_limit(void)
{
	disable_timeout(STATEMENT_TIMEOUT, false);
	QueryCancelPending = false;
}

/* One step of a task; what came of it in the current context. */
static void
do_step(const Task *task, Progress *progress)
{
	MemoryContext caller = CurrentMemoryContext;

	progress->total = -1;
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	if (strcmp(task->kind, "conflicts") == 0)
		resolve_conflicts(task, progress);
	else if (strcmp(task->kind, "revisions") == 0)
		clean_revisions(task, progress);
	else
		clean_tombstones(task, progress);
	if (progress->position)
		progress->position = MemoryContextStrdup(caller, progress->position);
	SPI_finish();
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
step_failed(const Task *task, MemoryContext cxt)
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
	Task	   *volatile task = NULL;

	PG_TRY();
	{
		Task	   *chosen;

		begin_transaction();
		MemoryContextSwitchTo(cxt);
		chosen = next_task();
		task = chosen;
		if (chosen)
		{
			Progress	progress = {0};

			begin_time_limit();
			do_step(chosen, &progress);
			end_time_limit();
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
		end_time_limit();
		/* what is no task's fault ends the run, and the keeper comes back to it */
		if (task == NULL)
			PG_RE_THROW();
		step_failed(task, cxt);
	}
	PG_END_TRY();
	return task != NULL;
}

/* Leave what was marked for this process and is not done yet to the next one. */
static void
give_back(void)
{
	static SPIPlanPtr plan = NULL;
	Task	   *task;
	InternalSql sql;

	begin_transaction();
	while ((task = next_task()) != NULL)
	{
		Oid			types[] = {UUIDOID, TEXTOID};
		Datum		values[2];

		values[0] = UUIDPGetDatum(&task->tbl);
		values[1] = CStringGetTextDatum(task->kind);
		docrep_internal_begin(&sql);
		docrep_internal_execute(&plan,
								"UPDATE docrep.table_jobs SET state = 'waiting', failures = 0,"
								" next_at = clock_timestamp() WHERE tbl = $1 AND kind = $2",
								2, types, values, NULL, false, 0);
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
