/*-------------------------------------------------------------------------
 *
 * replicate.c
 *		docrep.replicate(): start a job and wait for it, or cancel one.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_authid.h"
#include "commands/extension.h"
#include "compat.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "scheduler/jobs.h"
#include "storage/ipc.h"
#include "storage/proc.h"
#include "store/errcodes.h"
#include "store/table.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(docrep_replicate);
PG_FUNCTION_INFO_V1(docrep_replicate_endpoints);

/* How a caller waits: for the end of a one-shot, or until a continuous job runs. */
typedef struct Wait
{
	JobRef		ref;
	JobStart	start;			/* if we asked for the process */
	BackgroundWorkerHandle *handle; /* NULL: another asked for it */
	bool		until_established;
	TimestampTz checked_locks;	/* when we last looked whether it waits for us */
} Wait;

/* A role without LOGIN cannot have a worker of its own. */
static void
check_role(void)
{
	HeapTuple	tuple = SearchSysCache1(AUTHOID, ObjectIdGetDatum(GetUserId()));
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
						GetUserNameFromId(GetUserId(), false)),
				 errdetail("A replication runs in a background worker that is connected as the role that asks for it."),
				 errhint("Use a role with LOGIN, or ALTER ROLE ... LOGIN.")));
}

/* What must hold before anything is started. */
static void
check_caller(void)
{
	if (RecoveryInProgress())
		ereport(ERROR,
				(errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION),
				 errmsg("cannot replicate during recovery"),
				 errhint("Run the replication on the primary.")));
	PreventCommandIfReadOnly("docrep.replicate()");
	if (InSecurityRestrictedOperation())
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("cannot start a replication within a security-restricted operation")));
	if (TransactionIdIsValid(GetTopTransactionIdIfAny()))
		ereport(ERROR,
				(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
				 errmsg("cannot replicate in a transaction that has written"),
				 errdetail("The replication runs in another process, which does not see what this transaction has written and may have to wait for its locks."),
				 errhint("Commit first, or call docrep.replicate() in a transaction of its own.")));
	if (docrep_paused)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("replication is paused on this server"),
				 errhint("Set docrep.paused to off in the configuration and reload it.")));
	check_role();
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
					 errdetail("The replication waits for a lock that this transaction holds, and this transaction waits for the replication."),
					 errhint("Call docrep.replicate() in a transaction of its own.")));
	}
	list_free(pids);
}

/* Our worker was registered: notice when it ends without having come. */
static void
check_process(Wait *wait, const JobView *job)
{
	pid_t		pid;
	JobError	problem;

	if (wait->handle == NULL || job->state != JOB_STARTING || job->pid != 0 ||
		GetBackgroundWorkerPid(wait->handle, &pid) != BGWH_STOPPED)
		return;
	docrep_job_error_set(&problem, ERRCODE_INSUFFICIENT_RESOURCES,
						 "the process of the replication could not be started", NULL,
						 "The server log may say why.");
	docrep_process_missing(&wait->start, &problem);
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
		check_process(wait, job);
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

/* Ask for the process of a job that we made. */
static void
start_process(Wait *wait, const char *id)
{
	JobError   *problem = palloc(sizeof(JobError));

	wait->handle = docrep_process_register(&wait->start, id, problem);
	if (wait->handle == NULL)
	{
		docrep_process_missing(&wait->start, problem);
		docrep_job_error_raise(problem);
	}
	pfree(problem);
}

/* Join the job, waiting for one that is just ending to be gone. */
static void
join_job(const JobRequest *request, Wait *wait, bool *created)
{
	while (!docrep_job_join(request, &wait->ref, created, &wait->start))
	{
		JobView		job;

		if (docrep_job_prepare_wait(wait->ref) && docrep_job_look(wait->ref, &job) &&
			job.state != JOB_FINISHED && job.state != JOB_CRASHING)
			docrep_job_sleep(JOB_GRACE);
		docrep_job_end_wait();
		docrep_jobs_press();
	}
}

/*
 * Run a replication, or take part in one that runs already.  Returns the
 * one-shot's result as JSON text, NULL for a continuous one; *id is the job's,
 * which is another than the document's if the target was only now created.
 */
static char *
run_job(const Replication *replication, const char **id)
{
	JobRequest	request;
	Wait	   *wait = palloc0(sizeof(Wait));
	JobView    *job = palloc(sizeof(JobView));
	bool		created;
	char	   *result = NULL;

	request.id = replication->full_id;
	request.database = MyDatabaseId;
	request.role = GetUserId();
	request.extension = get_extension_oid("docrep", false);
	request.continuous = replication->continuous;
	request.source = replication->source->display;
	request.target = replication->target->display;
	request.request = docrep_replication_serialize(replication);
	wait->until_established = replication->continuous;

	join_job(&request, wait, &created);
	PG_ENSURE_ERROR_CLEANUP(leave_on_error, PointerGetDatum(wait));
	{
		if (created)
			start_process(wait, request.id);
		wait_for_job(wait);
		raise_outcome(wait);
		if (!replication->continuous)
			result = docrep_job_result(wait->ref);
		*id = docrep_job_look(wait->ref, job) ? job->id : replication->full_id;
	}
	PG_END_ENSURE_ERROR_CLEANUP(leave_on_error, PointerGetDatum(wait));
	docrep_job_leave(wait->ref);
	return result;
}

/* How jobs that are to be cancelled are looked for. */
typedef enum JobMatch
{
	MATCH_ID,					/* the id */
	MATCH_BASE,					/* the id without "+continuous" and the like */
	MATCH_NAMES					/* the same document, but its tables have been dropped since */
} JobMatch;

/*
 * Was the job asked for with this document, which now has another id because
 * the names in it mean no or other tables?  Then it has the same id once the
 * tables are left out of account.
 */
static bool
same_names(const JobView *job, const Replication *asked)
{
	Replication *running;
	char	   *request;

	if (strcmp(job->source, asked->source->display) != 0 ||
		strcmp(job->target, asked->target->display) != 0)
		return false;
	request = docrep_job_request(job->ref);
	if (request == NULL)
		return false;
	running = docrep_replication_deserialize(request);
	running->source->identity = asked->source->identity;
	running->target->identity = asked->target->identity;
	docrep_replication_identify(running);
	return strcmp(running->id, asked->id) == 0;
}

/* Does what a user wants to cancel mean this job? */
static bool
job_matches(const JobView *job, const char *id, const Replication *asked, JobMatch match)
{
	switch (match)
	{
		case MATCH_ID:
			return strcmp(job->id, id) == 0;
		case MATCH_BASE:
			return strncmp(job->id, id, strlen(id)) == 0 && job->id[strlen(id)] == '+';
		case MATCH_NAMES:
			return same_names(job, asked);
	}
	return false;
}

/*
 * Ask those jobs of this database to stop that match and that the caller may
 * stop.  Returns how many; they are left at the front of jobs.
 */
static int
stop_jobs(JobView *jobs, int n, const char *id, const Replication *asked, JobMatch match,
		  bool *forbidden)
{
	int			stopped = 0;

	for (int i = 0; i < n; i++)
	{
		bool		may_stop = has_privs_of_role(GetUserId(), jobs[i].role);

		if (jobs[i].database != MyDatabaseId || (match == MATCH_NAMES && !may_stop) ||
			!job_matches(&jobs[i], id, asked, match))
			continue;
		if (!may_stop)
		{
			*forbidden = true;
			continue;
		}
		docrep_job_stop(jobs[i].ref, JOB_STOP_CANCELLED, JOB_GRACE);
		jobs[stopped++] = jobs[i];
	}
	return stopped;
}

/* Wait until a job that was asked to stop has no process any more. */
static void
wait_until_gone(JobRef ref)
{
	JobView	   *job = palloc(sizeof(JobView));

	while (docrep_job_prepare_wait(ref) && docrep_job_look(ref, job) &&
		   job->state != JOB_FINISHED)
	{
		docrep_job_sleep(JOB_GRACE);
		docrep_jobs_press();
	}
	docrep_job_end_wait();
	pfree(job);
}

/*
 * Cancel by the replication's id, in full or without its suffixes, or by its
 * document; returns the full id.
 */
static const char *
cancel_job(const Replication *asked)
{
	const char *id = asked->cancel_id ? asked->cancel_id : asked->full_id;
	JobView    *jobs;
	bool		forbidden = false;
	int			n = docrep_jobs_list(&jobs);
	int			stopped = stop_jobs(jobs, n, id, asked, MATCH_ID, &forbidden);

	if (stopped == 0 && strchr(id, '+') == NULL)
		stopped = stop_jobs(jobs, n, id, asked, MATCH_BASE, &forbidden);
	if (stopped == 0 && asked->cancel_id == NULL)
		stopped = stop_jobs(jobs, n, id, asked, MATCH_NAMES, &forbidden);
	if (stopped == 0 && forbidden)
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_FORBIDDEN),
				 errmsg("replication %s belongs to another role", id)));
	if (stopped == 0)
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_NOT_FOUND),
				 errmsg("no replication %s is running", id)));
	for (int i = 0; i < stopped; i++)
		wait_until_gone(jobs[i].ref);
	return jobs[0].id;
}

static void
push_string(JsonbParseState **state, const char *key, const char *value)
{
	JsonbValue	v;

	v.type = jbvString;
	v.val.string.val = unconstify(char *, key);
	v.val.string.len = strlen(key);
	pushJsonbValue(state, WJB_KEY, &v);
	v.val.string.val = unconstify(char *, value);
	v.val.string.len = strlen(value);
	pushJsonbValue(state, WJB_VALUE, &v);
}

/* {"ok": true, "_local_id": id} */
static Jsonb *
ok_result(const char *id)
{
	JsonbParseState *state = NULL;
	JsonbValue	v;

	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	v.type = jbvString;
	v.val.string.val = "ok";
	v.val.string.len = 2;
	pushJsonbValue(&state, WJB_KEY, &v);
	v.type = jbvBool;
	v.val.boolean = true;
	pushJsonbValue(&state, WJB_VALUE, &v);
	push_string(&state, "_local_id", id);
	return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
}

/* Do what a replication document says. */
static Datum
replicate_document(Jsonb *document)
{
	Replication *replication;
	const char *id;
	char	   *result;

	docrep_require_preload();
	replication = docrep_replication_parse(document);
	if (replication->cancel)
		return JsonbPGetDatum(ok_result(cancel_job(replication)));
	check_caller();
	result = run_job(replication, &id);
	if (replication->continuous)
		return JsonbPGetDatum(ok_result(id));
	if (result == NULL)
		elog(ERROR, "a replication finished without a result");
	return DirectFunctionCall1(jsonb_in, CStringGetDatum(result));
}

/* The same, and whatever is logged meanwhile does not show the statement. */
static Datum
replicate(Jsonb *document)
{
	Datum		result;

	docrep_statement_hidden();
	result = replicate_document(document);
	docrep_statement_shown();
	return result;
}

/* docrep.replicate(request jsonb) */
Datum
docrep_replicate(PG_FUNCTION_ARGS)
{
	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_BAD_REQUEST),
				 errmsg("the replication document must not be null")));
	return replicate(PG_GETARG_JSONB_P(0));
}

/* The options with source and target put in. */
static Jsonb *
document_of(const char *source, const char *target, Jsonb *options)
{
	JsonbParseState *state = NULL;
	JsonbIterator *it = JsonbIteratorInit(&options->root);
	JsonbIteratorToken token;
	JsonbValue	v;

	/* the first token opens the object, the last closes it */
	(void) JsonbIteratorNext(&it, &v, true);
	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	while ((token = JsonbIteratorNext(&it, &v, true)) == WJB_KEY || token == WJB_VALUE)
	{
		if (token == WJB_KEY && v.val.string.len == 6 &&
			(strncmp(v.val.string.val, "source", 6) == 0 ||
			 strncmp(v.val.string.val, "target", 6) == 0))
			ereport(ERROR,
					(errcode(ERRCODE_DOCREP_BAD_REQUEST),
					 errmsg("options must not hold \"%.6s\", which is an argument of its own",
							v.val.string.val)));
		pushJsonbValue(&state, token, &v);
	}
	push_string(&state, "source", source);
	push_string(&state, "target", target);
	return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
}

/* docrep.replicate(source text, target text, options jsonb) */
Datum
docrep_replicate_endpoints(PG_FUNCTION_ARGS)
{
	static const char *const names[] = {"source", "target", "options"};

	for (int i = 0; i < 3; i++)
	{
		if (PG_ARGISNULL(i))
			ereport(ERROR,
					(errcode(ERRCODE_DOCREP_BAD_REQUEST),
					 errmsg("\"%s\" must not be null", names[i])));
	}
	if (!JB_ROOT_IS_OBJECT(PG_GETARG_JSONB_P(2)))
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_BAD_REQUEST),
				 errmsg("\"options\" must be an object")));
	return replicate(document_of(text_to_cstring(PG_GETARG_TEXT_PP(0)),
								 text_to_cstring(PG_GETARG_TEXT_PP(1)),
								 PG_GETARG_JSONB_P(2)));
}
