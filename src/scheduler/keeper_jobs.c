/*-------------------------------------------------------------------------
 *
 * keeper_jobs.c
 *		The jobs that a keeper finds, and what their tasks are to say of them.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "replicator/delayed.h"
#include "replicator/json_members.h"
#include "scheduler/keeper.h"
#include "store/jsonb_raw.h"

/* What the keeper keeps of a job; NULL: it is not that of a task here. */
static KeeperJob *
copy_job(const JobView *view)
{
	KeeperJob  *job;
	char	   *task;

	if (view->database != MyDatabaseId || !view->has_task)
		return NULL;
	task = docrep_job_task(view->ref);
	if (task == NULL)
		return NULL;
	job = palloc0(sizeof(KeeperJob));
	job->task = task;
	job->ref = view->ref;
	job->state = view->state;
	job->stop = view->stop;
	job->start_no = view->start_no;
	job->version = view->task_version;
	job->reported = view->reported;
	job->failing = view->failures > 0 && view->error_sqlstate != 0 && !view->held;
	job->id = pstrdup(view->id);
	if (!job->reported && view->error_sqlstate != 0)
		job->error = pstrdup(view->error_message);
	if (!job->reported && job->state == JOB_FINISHED)
	{
		job->figures = palloc(sizeof(ReplicationStats));
		*job->figures = view->figures;
	}
	return job;
}

static int
compare_jobs(const void *a, const void *b)
{
	return strcmp((*(KeeperJob *const *) a)->task, (*(KeeperJob *const *) b)->task);
}

KeeperJob **
docrep_keeper_jobs(int *n)
{
	JobView    *view = palloc(sizeof(JobView));
	int			cap = 64;
	KeeperJob **jobs = palloc(cap * sizeof(KeeperJob *));
	int			index = 0;

	*n = 0;
	while (docrep_job_next(&index, true, view))
	{
		KeeperJob  *job = copy_job(view);

		if (job == NULL)
			continue;
		if (*n >= cap)
			jobs = repalloc(jobs, (cap *= 2) * sizeof(KeeperJob *));
		jobs[(*n)++] = job;
	}
	pfree(view);
	qsort(jobs, *n, sizeof(KeeperJob *), compare_jobs);
	return jobs;
}

KeeperJob *
docrep_keeper_job(JobRef ref)
{
	JobView    *view = palloc(sizeof(JobView));
	KeeperJob  *job = docrep_job_look(ref, view) ? copy_job(view) : NULL;

	pfree(view);
	return job;
}

KeeperJob *
docrep_keeper_find_job(KeeperJob **jobs, int n, const char *task, int64 version)
{
	int			lo = 0;
	int			hi = n;

	/* the first of the task's, which has several while an older version's ends */
	while (lo < hi)
	{
		int			mid = (lo + hi) / 2;

		if (strcmp(jobs[mid]->task, task) < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	for (; lo < n && strcmp(jobs[lo]->task, task) == 0; lo++)
		if (jobs[lo]->version == version)
			return jobs[lo];
	return NULL;
}

/* A sequence, or null if there is none. */
static void
add_seq(RawBuilder *out, const char *name, const char *seq)
{
	if (seq[0] != '\0')
		docrep_raw_add_text(out, name, seq);
	else
		docrep_raw_add_null(out, name);
}

/* The figures of a finished job, as CouchDB's _replication_stats. */
static Jsonb *
stats_of(const ReplicationStats *figures)
{
	RawBuilder	out;

	docrep_raw_init(&out, true, 13);
	docrep_raw_add_int64(&out, "revisions_checked", figures->revisions_checked);
	docrep_raw_add_int64(&out, "missing_revisions_found", figures->missing_revisions_found);
	docrep_raw_add_int64(&out, "docs_read", figures->docs_read);
	docrep_raw_add_int64(&out, "docs_written", figures->docs_written);
	docrep_raw_add_int64(&out, "doc_write_failures", figures->doc_write_failures);
	docrep_raw_add_int64(&out, "bulk_get_docs", figures->bulk_get_docs);
	docrep_raw_add_int64(&out, "bulk_get_attempts", figures->bulk_get_attempts);
	if (figures->changes_pending >= 0)
		docrep_raw_add_int64(&out, "changes_pending", figures->changes_pending);
	else
		docrep_raw_add_null(&out, "changes_pending");
	add_seq(&out, "checkpointed_source_seq", figures->checkpointed_source_seq);
	add_seq(&out, "source_seq", figures->source_seq);
	add_seq(&out, "through_seq", figures->through_seq);
	if (figures->delay > 0)
	{
		StringInfoData delayed;

		initStringInfo(&delayed);
		docrep_delayed_put(&delayed, figures);
		docrep_raw_add_jsonb(&out, "delayed", docrep_json_parse(delayed.data));
	}
	return docrep_raw_finish(&out);
}

/* Are two texts equal, NULL being one, too? */
static bool
same_text(const char *a, const char *b)
{
	return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

KeeperReport *
docrep_keeper_job_report(const KeeperTask *task, const KeeperJob *job)
{
	KeeperReport *report = palloc0(sizeof(KeeperReport));

	report->id = task->id;
	report->version = task->version;
	report->replication_id = job->id;
	report->has_job = true;
	report->ref = job->ref;
	report->job_state = job->state;
	report->start_no = job->start_no;
	if (job->state == JOB_FINISHED && job->error == NULL)
	{
		report->shown = report->state = TASK_COMPLETED;
		report->stats = stats_of(job->figures);
	}
	else if (job->state == JOB_FINISHED)
	{
		report->shown = report->state = TASK_FAILED;
		report->reason = job->error;
	}
	else if (job->failing)
	{
		report->shown = TASK_ERROR;
		report->reason = job->error;
	}
	else
		report->shown = "triggered";

	/* a job that fails again and again for the same reason is not news */
	if (report->state == NULL && same_text(report->shown, task->shown) &&
		same_text(report->reason, task->reason) &&
		same_text(report->replication_id, task->replication_id))
		return NULL;
	return report;
}
