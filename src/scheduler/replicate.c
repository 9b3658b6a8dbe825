/*-------------------------------------------------------------------------
 *
 * replicate.c
 *		docrep.replicate(): a job that replicates, or the end of one.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "miscadmin.h"
#include "scheduler/jobs.h"
#include "store/errcodes.h"
#include "store/json_text.h"
#include "store/preload.h"
#include "store/table.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"

PG_FUNCTION_INFO_V1(docrep_replicate);
PG_FUNCTION_INFO_V1(docrep_replicate_endpoints);

/*
 * Run a replication, or take part in one that runs already.  Returns the
 * one-shot's result as JSON text, NULL for a continuous one; *id is the job's,
 * which is another than the document's if the target was only now created.
 */
static char *
run_job(const Replication *replication, const char **id)
{
	JobRequest	request = {0};

	request.kind = JOB_REPLICATE;
	request.role = replication->role;
	request.id = replication->full_id;
	request.continuous = replication->continuous;
	request.retry_cycles = replication->retry_cycles;
	request.delay = replication->delay;
	request.source = replication->source->display;
	request.target = replication->target->display;
	request.request = docrep_replication_serialize(replication);
	return docrep_job_call(&request, id);
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

	if (job->kind != JOB_REPLICATE ||
		strcmp(job->source, asked->source->display) != 0 ||
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

/* Jobs that were asked to stop. */
typedef struct Stopped
{
	int			n;
	JobRef	   *refs;
	char		id[JOB_ID_SIZE];	/* of the first */
} Stopped;

/*
 * Ask those jobs of this database to stop that match and that the caller may
 * stop.
 */
static void
stop_jobs(Stopped *stopped, const char *id, const Replication *asked, JobMatch match,
		  bool *forbidden)
{
	JobView    *job = palloc(sizeof(JobView));
	int			cap = 16;
	int			i = 0;

	stopped->n = 0;
	stopped->refs = palloc(cap * sizeof(JobRef));
	while (docrep_job_next(&i, false, job))
	{
		bool		may_stop;

		if (job->database != MyDatabaseId)
			continue;
		may_stop = has_privs_of_role(GetUserId(), job->role);
		if ((match == MATCH_NAMES && !may_stop) || !job_matches(job, id, asked, match))
			continue;
		if (!may_stop)
		{
			*forbidden = true;
			continue;
		}
		docrep_job_stop(job->ref, JOB_STOP_CANCELLED, JOB_GRACE);
		if (stopped->n == 0)
			strlcpy(stopped->id, job->id, sizeof(stopped->id));
		if (stopped->n >= cap)
			stopped->refs = repalloc(stopped->refs, (cap *= 2) * sizeof(JobRef));
		stopped->refs[stopped->n++] = job->ref;
	}
	pfree(job);
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
	Stopped    *stopped = palloc(sizeof(Stopped));
	bool		forbidden = false;

	stop_jobs(stopped, id, asked, MATCH_ID, &forbidden);
	if (stopped->n == 0 && strchr(id, '+') == NULL)
		stop_jobs(stopped, id, asked, MATCH_BASE, &forbidden);
	if (stopped->n == 0 && asked->cancel_id == NULL)
		stop_jobs(stopped, id, asked, MATCH_NAMES, &forbidden);
	if (stopped->n == 0 && forbidden)
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_FORBIDDEN),
				 errmsg("replication %s belongs to another role", id)));
	if (stopped->n == 0)
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_NOT_FOUND),
				 errmsg("no replication %s is running", id)));
	for (int i = 0; i < stopped->n; i++)
		wait_until_gone(stopped->refs[i]);
	return stopped->id;
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
	PreventCommandIfReadOnly("docrep.replicate()");
	docrep_job_check_caller("replicate", "docrep.replicate()");
	result = run_job(replication, &id);
	if (replication->continuous)
		return JsonbPGetDatum(ok_result(id));
	if (result == NULL)
		elog(ERROR, "a replication finished without a result");
	return JsonbPGetDatum(docrep_json_parse(result));
}

/* The same, and whatever is logged meanwhile does not show the statement. */
static Datum
replicate(Jsonb *document)
{
	docrep_statement_hidden();
	return replicate_document(document);
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
