/*-------------------------------------------------------------------------
 *
 * task_functions.c
 *		SQL functions for tasks: start, cancel, clean_tasks, resume_tasks.
 *
 * They write docrep.replicator as their caller, who needs the privileges on
 * it that the same statement would need.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "scheduler/jobs.h"
#include "scheduler/tasks.h"
#include "store/document.h"
#include "store/errcodes.h"
#include "store/internal_sql.h"
#include "store/preload.h"
#include "store/rev_type.h"
#include "store/sql_support.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

/* A process that is asked to stop for hold() may finish what it is at in this time (ms). */
#define HOLD_GRACE		100

/* How long cancel() waits for a process to be gone (ms). */
#define CANCEL_TIMEOUT	5000

PG_FUNCTION_INFO_V1(docrep_start);
PG_FUNCTION_INFO_V1(docrep_cancel);
PG_FUNCTION_INFO_V1(docrep_hold);
PG_FUNCTION_INFO_V1(docrep_release);
PG_FUNCTION_INFO_V1(docrep_clean_tasks);
PG_FUNCTION_INFO_V1(docrep_resume_tasks);

/* An argument that names a task; DR400 if it cannot. */
static char *
task_id(FunctionCallInfo fcinfo, int argno)
{
	char	   *id = docrep_arg_id(fcinfo, argno, "id");
	const char *problem = docrep_id_problem(id, strlen(id));

	if (problem == NULL && strncmp(id, "_design/", 8) == 0)
		problem = "a design document is no task";
	if (problem)
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_BAD_REQUEST),
				 errmsg("bad id: %s", problem)));
	return id;
}

/* ---------- start ---------- */

/* The replication document that the arguments make. */
static Jsonb *
task_document(const char *source, const char *target, const Jsonb *options)
{
	RawBuilder	out;
	RawCursor	cursor;
	RawMember	member;

	if (!JB_ROOT_IS_OBJECT(options))
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_BAD_REQUEST),
				 errmsg("\"options\" must be an object")));
	docrep_raw_begin(&cursor, &options->root);
	docrep_raw_init(&out, true, cursor.n + 2);
	while (docrep_raw_next(&cursor, &member))
	{
		char	   *key = pnstrdup(member.key, member.keylen);

		if (strcmp(key, "source") == 0 || strcmp(key, "target") == 0)
			ereport(ERROR,
					(errcode(ERRCODE_DOCREP_BAD_REQUEST),
					 errmsg("options must not hold \"%s\", which is an argument of its own", key)));
		if (key[0] == '_')
			ereport(ERROR,
					(errcode(ERRCODE_DOCREP_BAD_REQUEST),
					 errmsg("options must not hold \"%s\"", key)));
		docrep_raw_add_member(&out, &member);
	}
	docrep_raw_add_text(&out, "source", source);
	docrep_raw_add_text(&out, "target", target);
	return docrep_raw_finish(&out);
}

/* An argument that is an endpoint. */
static char *
endpoint_argument(FunctionCallInfo fcinfo, int argno, const char *name)
{
	if (PG_ARGISNULL(argno))
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_BAD_REQUEST),
				 errmsg("\"%s\" must not be null", name)));
	return text_to_cstring(PG_GETARG_TEXT_PP(argno));
}

/* docrep.start(id, source, target, options): the new row's revision. */
Datum
docrep_start(PG_FUNCTION_ARGS)
{
	DocWrite	write = {0};
	DocTable   *table;

	docrep_statement_hidden();
	write.id = task_id(fcinfo, 0);
	write.body = task_document(endpoint_argument(fcinfo, 1, "source"),
							   endpoint_argument(fcinfo, 2, "target"),
							   docrep_arg_jsonb(fcinfo, 3, "options"));
	table = docrep_table_open(docrep_replicator_relid(), RowExclusiveLock, ACL_INSERT);
	docrep_write_edits(table, &write, 1, false);
	if (write.sqlstate != 0)
		ereport(ERROR,
				(errcode(write.sqlstate),
				 errmsg("%s", write.reason),
				 write.sqlstate == ERRCODE_DOCREP_CONFLICT ?
				 errdetail("A task \"%s\" exists.", write.id) : 0));
	docrep_table_close(table, NoLock);
	PG_RETURN_DATUM(docrep_rev_datum(&write.rev));
}

/* ---------- cancel ---------- */

/*
 * Wait until a job that was asked to stop has no process any more, but not for ever: false
 * if it still has.  Time in which the machine stood still does not count, as the process had
 * none of it either.
 */
static bool
wait_until_gone(JobRef ref)
{
	JobView    *job = palloc(sizeof(JobView));
	TimestampTz before = GetCurrentTimestamp();
	long		waited = 0;
	bool		there;

	while ((there = docrep_job_prepare_wait(ref) && docrep_job_look(ref, job) &&
			job->state != JOB_FINISHED && job->state != JOB_FREE) && waited < CANCEL_TIMEOUT)
	{
		TimestampTz now;

		docrep_job_sleep(JOB_GRACE / 4);
		docrep_jobs_press();
		now = GetCurrentTimestamp();
		waited += Min(TimestampDifferenceMilliseconds(before, now), JOB_GRACE / 4);
		before = now;
	}
	docrep_job_end_wait();
	pfree(job);
	return !there;
}

/*
 * Stop the jobs of a task whose row this transaction has deleted, or holds.  Should it
 * be rolled back, the keeper makes the job again.  A process that does not end is told of.
 */
static void
stop_task(const char *id, int grace)
{
	JobView    *job = palloc(sizeof(JobView));
	int			index = 0;

	while (docrep_job_next(&index, false, job))
	{
		char	   *task;

		if (job->database != MyDatabaseId || !job->has_task)
			continue;
		task = docrep_job_task(job->ref);
		if (task == NULL || strcmp(task, id) != 0)
			continue;
		docrep_job_stop(job->ref, JOB_STOP_CANCELLED, grace);
		if (!wait_until_gone(job->ref))
			ereport(WARNING,
					(errmsg("the process of task \"%s\" was told to end, but has not ended yet", id),
					 errdetail("What it is just writing may still be committed."),
					 errhint("docrep.active_tasks shows it, by its pid, for as long as it is there.")));
	}
	pfree(job);
}

/* docrep.cancel(id) */
Datum
docrep_cancel(PG_FUNCTION_ARGS)
{
	char	   *id = task_id(fcinfo, 0);
	Oid			types[] = {TEXTOID};
	Datum		values[1];
	uint64		deleted;

	docrep_require_preload();
	values[0] = CStringGetTextDatum(id);
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	if (SPI_execute_with_args("DELETE FROM docrep.replicator WHERE _id OPERATOR(pg_catalog.=) $1",
							  1, types, values, NULL, false, 0) != SPI_OK_DELETE)
		elog(ERROR, "could not delete a task");
	deleted = SPI_processed;
	SPI_finish();
	if (deleted == 0)
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_NOT_FOUND),
				 errmsg("task \"%s\" does not exist", id)));
	stop_task(id, JOB_GRACE);
	PG_RETURN_VOID();
}

/* ---------- hold and release ---------- */

/* Run a statement with the task's id, as the caller; returns how many rows it is about. */
static uint64
about_task(const char *id, const char *statement, int expected)
{
	Oid			types[] = {TEXTOID};
	Datum		values[1];
	uint64		n;

	values[0] = CStringGetTextDatum(id);
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	if (SPI_execute_with_args(statement, 1, types, values, NULL, false, 0) != expected)
		elog(ERROR, "could not execute \"%s\"", statement);
	n = SPI_processed;
	SPI_finish();
	return n;
}

/* Nothing was updated: fine if it is as it should be (found by "same"), else an error. */
static void
check_same(const char *id, const char *same)
{
	if (about_task(id, same, SPI_OK_SELECT) > 0)
		return;
	if (about_task(id, "SELECT FROM docrep.replicator WHERE _id OPERATOR(pg_catalog.=) $1",
				   SPI_OK_SELECT) > 0)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied for task \"%s\"", id),
				 errdetail("It belongs to a role whose privileges the current one does not have.")));
	ereport(ERROR,
			(errcode(ERRCODE_DOCREP_NOT_FOUND),
			 errmsg("task \"%s\" does not exist", id)));
}

/*
 * docrep.hold(id).  The document says so, so that it outlives everything that the task
 * does; the job is stopped before that is committed, as nothing more is to be written.
 */
Datum
docrep_hold(PG_FUNCTION_ARGS)
{
	char	   *id = task_id(fcinfo, 0);

	docrep_require_preload();
	if (about_task(id, "UPDATE docrep.replicator SET doc = doc OPERATOR(pg_catalog.||)"
				   " pg_catalog.jsonb_build_object('held_since', pg_catalog.clock_timestamp())"
				   " WHERE _id OPERATOR(pg_catalog.=) $1"
				   " AND NOT doc OPERATOR(pg_catalog.?) 'held_since'", SPI_OK_UPDATE) == 0)
		check_same(id, "SELECT FROM docrep.replicator WHERE _id OPERATOR(pg_catalog.=) $1"
				   " AND doc OPERATOR(pg_catalog.?) 'held_since'");
	stop_task(id, HOLD_GRACE);
	PG_RETURN_VOID();
}

/* docrep.release(id) */
Datum
docrep_release(PG_FUNCTION_ARGS)
{
	char	   *id = task_id(fcinfo, 0);

	if (about_task(id, "UPDATE docrep.replicator SET doc = doc OPERATOR(pg_catalog.-) 'held_since'"
				   " WHERE _id OPERATOR(pg_catalog.=) $1"
				   " AND doc OPERATOR(pg_catalog.?) 'held_since'", SPI_OK_UPDATE) == 0)
		check_same(id, "SELECT FROM docrep.replicator WHERE _id OPERATOR(pg_catalog.=) $1"
				   " AND NOT doc OPERATOR(pg_catalog.?) 'held_since'");
	PG_RETURN_VOID();
}

/* ---------- clean_tasks ---------- */

/* An argument that is an array of texts without nulls; DR400 otherwise. */
static ArrayType *
text_array(FunctionCallInfo fcinfo, int argno, const char *name)
{
	ArrayType  *array = PG_ARGISNULL(argno) ? NULL : PG_GETARG_ARRAYTYPE_P(argno);

	if (array == NULL || array_contains_nulls(array))
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_BAD_REQUEST),
				 errmsg("\"%s\" must not be null or contain nulls", name)));
	return array;
}

/* DR400 unless all of them are states of tasks that are over. */
static void
check_states(ArrayType *states)
{
	Datum	   *values;
	int			n;

	deconstruct_array(states, TEXTOID, -1, false, TYPALIGN_INT, &values, NULL, &n);
	for (int i = 0; i < n; i++)
	{
		char	   *state = TextDatumGetCString(values[i]);

		if (strcmp(state, TASK_COMPLETED) != 0 && strcmp(state, TASK_FAILED) != 0 &&
			strcmp(state, TASK_HELD) != 0)
			ereport(ERROR,
					(errcode(ERRCODE_DOCREP_BAD_REQUEST),
					 errmsg("tasks that are \"%s\" cannot be cleaned up", state),
					 errhint("States of tasks that do not run are completed, failed and held.")));
	}
}

/* docrep.clean_tasks(older_than, states): how many were deleted. */
Datum
docrep_clean_tasks(PG_FUNCTION_ARGS)
{
	ArrayType  *states = text_array(fcinfo, 1, "states");
	Oid			types[] = {INTERVALOID, TEXTARRAYOID};
	Oid			delete_types[] = {TEXTARRAYOID, INT8ARRAYOID};
	Datum		values[2];
	Datum		ids;
	Datum		versions;
	bool		isnull;
	MemoryContext caller = CurrentMemoryContext;
	InternalSql sql;
	int64		deleted;
	static SPIPlanPtr plan = NULL;

	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_BAD_REQUEST),
				 errmsg("\"older_than\" must not be null")));
	check_states(states);
	values[0] = PG_GETARG_DATUM(0);
	values[1] = PointerGetDatum(states);
	docrep_internal_begin(&sql);
	docrep_internal_execute(&plan,
							"SELECT coalesce(array_agg(id), '{}'), coalesce(array_agg(version), '{}')"
							" FROM docrep.task_state WHERE state = ANY ($2)"
							" AND last_updated <= clock_timestamp() - $1",
							2, types, values, NULL, false, 0);
	MemoryContextSwitchTo(caller);
	ids = PointerGetDatum(DatumGetArrayTypePCopy(SPI_getbinval(SPI_tuptable->vals[0],
															   SPI_tuptable->tupdesc, 1, &isnull)));
	versions = PointerGetDatum(DatumGetArrayTypePCopy(SPI_getbinval(SPI_tuptable->vals[0],
																	SPI_tuptable->tupdesc, 2, &isnull)));
	docrep_internal_end(&sql);

	/* as the caller: what it may not see it does not delete */
	values[0] = ids;
	values[1] = versions;
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	if (SPI_execute_with_args("DELETE FROM docrep.replicator r"
							  " USING ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2)) AS over(id, version)"
							  " WHERE r._id OPERATOR(pg_catalog.=) over.id"
							  " AND r._seq OPERATOR(pg_catalog.=) over.version",
							  2, delete_types, values, NULL, false, 0) != SPI_OK_DELETE)
		elog(ERROR, "could not delete tasks");
	deleted = (int64) SPI_processed;
	SPI_finish();
	PG_RETURN_INT64(deleted);
}

/* ---------- resume_tasks ---------- */

/* Ids of the tasks that are held, of those given or all. */
static List *
held_tasks(FunctionCallInfo fcinfo)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[] = {TEXTARRAYOID};
	Datum		values[1] = {0};
	MemoryContext caller = CurrentMemoryContext;
	List	   *ids = NIL;
	InternalSql sql;

	if (!PG_ARGISNULL(0))
		values[0] = PointerGetDatum(text_array(fcinfo, 0, "ids"));
	docrep_internal_begin(&sql);
	docrep_internal_execute(&plan,
							"SELECT id FROM docrep.task_state WHERE state = 'held'"
							" AND ($1 IS NULL OR id = ANY ($1)) ORDER BY id",
							1, types, values, PG_ARGISNULL(0) ? "n" : " ", false, 0);
	MemoryContextSwitchTo(caller);
	for (uint64 i = 0; i < SPI_processed; i++)
		ids = lappend(ids, SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1));
	docrep_internal_end(&sql);
	return ids;
}

/* Write a task anew, so that its document is read; true: the caller may, and has. */
static bool
write_anew(const char *id)
{
	Oid			types[] = {TEXTOID};
	Datum		values[1];
	bool		done;

	values[0] = CStringGetTextDatum(id);
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	if (SPI_execute_with_args("UPDATE docrep.replicator SET doc = doc"
							  " WHERE _id OPERATOR(pg_catalog.=) $1",
							  1, types, values, NULL, false, 0) != SPI_OK_UPDATE)
		elog(ERROR, "could not write a task");
	done = SPI_processed > 0;
	SPI_finish();
	return done;
}

/* Is the error one of the task's document, so that others may yet be resumed? */
static bool
is_of_document(int sqlstate)
{
	switch (ERRCODE_TO_CATEGORY(sqlstate))
	{
		case MAKE_SQLSTATE('D', 'R', '0', '0', '0'):
		case MAKE_SQLSTATE('0', 'A', '0', '0', '0'):
		case MAKE_SQLSTATE('2', '2', '0', '0', '0'):
		case MAKE_SQLSTATE('4', '2', '0', '0', '0'):
		case MAKE_SQLSTATE('2', '8', '0', '0', '0'):
			return true;
		default:
			return false;
	}
}

/* Resume one task; what is wrong with its document makes it failed.  True: it goes on. */
static bool
resume_task(const char *id)
{
	MemoryContext caller = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	volatile bool done = false;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(caller);
	PG_TRY();
	{
		done = write_anew(id);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		ErrorData  *edata;

		MemoryContextSwitchTo(caller);
		edata = CopyErrorData();
		if (!is_of_document(edata->sqlerrcode))
			PG_RE_THROW();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		docrep_task_fail(id, edata->message);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(caller);
	CurrentResourceOwner = owner;
	return done;
}

/* docrep.resume_tasks(ids): how many go on. */
Datum
docrep_resume_tasks(PG_FUNCTION_ARGS)
{
	/* else each would fail for it */
	DocTable   *table = docrep_table_open(docrep_replicator_relid(), RowExclusiveLock,
										  ACL_SELECT | ACL_UPDATE);
	int64		resumed = 0;
	ListCell   *lc;
	List	   *ids = held_tasks(fcinfo);

	foreach(lc, ids)
		resumed += resume_task(lfirst(lc));
	docrep_table_close(table, NoLock);
	PG_RETURN_INT64(resumed);
}
