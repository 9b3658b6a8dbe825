/*-------------------------------------------------------------------------
 *
 * call.c
 *		Calling a job from a session: start it or join it, and wait.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_authid.h"
#include "commands/extension.h"
#include "compat.h"
#include "miscadmin.h"
#include "scheduler/pool.h"
#include "storage/ipc.h"
#include "storage/proc.h"
#include "store/errcodes.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

/* How a caller waits: for the end of a one-shot, or until a continuous job runs. */
typedef struct Wait
{
	JobRef		ref;
	bool		until_established;
	TimestampTz checked_locks;	/* when we last looked whether it waits for us */
} Wait;

void
docrep_job_check_role(Oid role)
{
	HeapTuple	tuple = SearchSysCache1(AUTHOID, ObjectIdGetDatum(role));
	bool		login = !DOCREP_WORKER_NEEDS_LOGIN;

	if (HeapTupleIsValid(tuple))
	{
		login = login || ((Form_pg_authid) GETSTRUCT(tuple))->rolcanlogin;
		ReleaseSysCache(tuple);
	}
	if (!login)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION),
				 errmsg("role \"%s\" cannot run a replication because it is not permitted to log in",
						GetUserNameFromId(role, false)),
				 errdetail("A replication runs in a background worker that is connected as the role that asks for it."),
				 errhint("Use a role with LOGIN, or ALTER ROLE ... LOGIN.")));
}

void
docrep_job_check_caller(const char *doing, const char *function)
{
	if (RecoveryInProgress())
		ereport(ERROR,
				(errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION),
				 errmsg("cannot %s during recovery", doing),
				 errhint("Call %s on the primary.", function)));
	if (InSecurityRestrictedOperation())
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("cannot %s within a security-restricted operation", doing)));
	if (TransactionIdIsValid(GetTopTransactionIdIfAny()))
		ereport(ERROR,
				(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
				 errmsg("cannot %s in a transaction that has written", doing),
				 errdetail("%s works in another process, which does not see what this transaction has written and may have to wait for its locks.", function),
				 errhint("Commit first, or call %s in a transaction of its own.", function)));
	if (docrep_paused)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("replication is paused on this server"),
				 errhint("Set docrep.paused to off in the configuration and reload it.")));
	docrep_job_check_role(GetUserId());
}

/* Add the backends that block process pid to *pids; true if we are one of them. */
static bool
add_blockers(int pid, List **pids)
{
	Datum		value = DirectFunctionCall1(pg_blocking_pids, Int32GetDatum(pid));
	ArrayType  *array = DatumGetArrayTypeP(value);
	int			n = ArrayGetNItems(ARR_NDIM(array), ARR_DIMS(array));
	int32	   *blockers = (int32 *) ARR_DATA_PTR(array);

	for (int i = 0; i < n; i++)
	{
		if (blockers[i] == MyProcPid)
			return true;
		if (blockers[i] != 0)
			*pids = list_append_unique_int(*pids, blockers[i]);
	}
	return false;
}

/*
 * We wait for the worker with a latch, which the deadlock detector does not
 * see.  So look whether the worker waits, perhaps by way of others, for a lock
 * of ours; if so neither would ever go on.
 */
static void
check_deadlock(int worker_pid)
{
	List	   *pids = list_make1_int(worker_pid);

	for (int i = 0; i < list_length(pids) && i < 100; i++)
	{
		if (add_blockers(list_nth_int(pids, i), &pids))
			ereport(ERROR,
					(errcode(ERRCODE_T_R_DEADLOCK_DETECTED),
					 errmsg("deadlock detected"),
					 errdetail("The job waits for a lock that this transaction holds, and this transaction waits for the job."),
					 errhint("Call the function in a transaction of its own.")));
	}
	list_free(pids);
}

/* Wait for what the caller wants to know. */
static void
wait_for_job(Wait *wait)
{
	JobView	   *job = palloc(sizeof(JobView));
	int			lap = Max(DeadlockTimeout, 100);

	wait->checked_locks = GetCurrentTimestamp();
	while (docrep_job_prepare_wait(wait->ref) && docrep_job_look(wait->ref, job))
	{
		if (job->state == JOB_FINISHED || (wait->until_established && job->established))
			break;
		docrep_pool_check();
		docrep_job_sleep(lap);
		if (TimestampDifferenceExceeds(wait->checked_locks, GetCurrentTimestamp(), lap))
		{
			if (job->pid != 0)
				check_deadlock(job->pid);
			wait->checked_locks = GetCurrentTimestamp();
		}
	}
	docrep_job_end_wait();
	pfree(job);
}

/* Raise what went wrong with a job that has finished; returns if nothing did. */
static void
raise_outcome(const Wait *wait)
{
	JobView	   *job = palloc(sizeof(JobView));
	JobError   *error = palloc(sizeof(JobError));

	if (!docrep_job_look(wait->ref, job))
		elog(ERROR, "a replication job vanished while it was waited for");
	if (wait->until_established && job->established)
		return;
	if (job->stop != JOB_STOP_NONE)
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_INTERNAL),
				 errmsg("shutdown"),
				 errdetail(job->stop == JOB_STOP_CANCELLED ?
						   "The replication was cancelled." :
						   "The replication's database or extension went away.")));
	docrep_job_error(wait->ref, error);
	if (error->sqlstate != 0)
		docrep_job_error_raise(error);
	pfree(job);
	pfree(error);
}

/* Cleanup: the caller is interrupted, or ends. */
static void
leave_on_error(int code, Datum arg)
{
	docrep_job_leave(((Wait *) DatumGetPointer(arg))->ref);
}

/*
 * Ask for the process of a job that we made.  If the server has no room for it
 * the job waits for its turn; but for what?  With no process of ours at all there
 * may never be one.
 */
static void
start_process(const PoolStart *start)
{
	JobError   *problem = palloc(sizeof(JobError));

	if (!docrep_pool_register(start, problem) && docrep_pool_is_empty())
		docrep_job_error_raise(problem);
	pfree(problem);
}

/* Join the job, waiting for one that is just ending to be gone. */
static void
join_job(const JobRequest *request, Wait *wait, PoolStart *start, bool *start_process)
{
	bool		created;
	JobView    *job = palloc(sizeof(JobView));

	while (!docrep_job_join(request, &wait->ref, &created, start, start_process))
	{
		if (docrep_job_prepare_wait(wait->ref) && docrep_job_look(wait->ref, job) &&
			job->state != JOB_FINISHED && job->state != JOB_CRASHING)
			docrep_job_sleep(JOB_GRACE);
		docrep_job_end_wait();
		docrep_jobs_press();
	}
	pfree(job);
}

char *
docrep_job_call(JobRequest *request, const char **id)
{
	Wait	   *wait = palloc0(sizeof(Wait));
	JobView    *job = palloc(sizeof(JobView));
	PoolStart	start;
	bool		process_wanted;
	char	   *result = NULL;

	request->database = MyDatabaseId;
	if (!OidIsValid(request->role))
		request->role = GetUserId();
	request->extension = get_extension_oid("docrep", false);
	wait->until_established = request->continuous;

	join_job(request, wait, &start, &process_wanted);
	PG_ENSURE_ERROR_CLEANUP(leave_on_error, PointerGetDatum(wait));
	{
		if (process_wanted)
			start_process(&start);
		wait_for_job(wait);
		raise_outcome(wait);
		if (!request->continuous)
			result = docrep_job_result(wait->ref);
		if (id)
			*id = docrep_job_look(wait->ref, job) ? job->id : request->id;
	}
	PG_END_ENSURE_ERROR_CLEANUP(leave_on_error, PointerGetDatum(wait));
	docrep_job_leave(wait->ref);
	return result;
}
