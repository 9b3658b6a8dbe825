/*-------------------------------------------------------------------------
 *
 * write.c
 *		Writing documents in batches: edits, and revisions as they are.
 *
 * A batch is worked off in order of id, so that two of them never wait for
 * each other crosswise.  How a range of its documents is written is in
 * write_range.c; what becomes of a range in which one is refused in
 * write_isolate.c.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "store/change.h"
#include "store/errcodes.h"
#include "store/policy.h"
#include "store/resolution.h"
#include "store/validation.h"
#include "store/write_internal.h"
#include "utils/timestamp.h"

DocWriteHook docrep_write_hook = NULL;

/* Order of id, for qsort. */
static int
compare_writes(const void *a, const void *b)
{
	DocWrite   *wa = *(DocWrite *const *) a;
	DocWrite   *wb = *(DocWrite *const *) b;
	int			c = strcmp(wa->id, wb->id);

	if (c != 0)
		return c;
	return wa < wb ? -1 : wa > wb;	/* one document's writes stay in order */
}

/* The writes, sorted and put together by document, into the job. */
static void
make_groups(WriteJob *job, DocWrite *writes, int n)
{
	DocWrite  **sorted = palloc(Max(n, 1) * sizeof(DocWrite *));

	for (int i = 0; i < n; i++)
		sorted[i] = &writes[i];
	qsort(sorted, n, sizeof(DocWrite *), compare_writes);
	job->groups = palloc(Max(n, 1) * sizeof(DocGroup));
	job->ngroups = 0;
	for (int i = 0; i < n; i++)
	{
		DocGroup	   *last = job->ngroups > 0 ? &job->groups[job->ngroups - 1] : NULL;

		if (last && strcmp(last->writes[0]->id, sorted[i]->id) == 0)
			last->n++;
		else
		{
			job->groups[job->ngroups].writes = &sorted[i];
			job->groups[job->ngroups++].n = 1;
		}
	}
}

/* Run without a subtransaction; who loses a race for a new id gets a conflict. */
static void
run_or_conflict(WriteJob *job)
{
	MemoryContext caller = CurrentMemoryContext;

	PG_TRY();
	{
		docrep_write_range(job, 0, job->ngroups);
	}
	PG_CATCH();
	{
		ErrorData  *edata;

		MemoryContextSwitchTo(caller);
		edata = CopyErrorData();
		if (edata->sqlerrcode != ERRCODE_UNIQUE_VIOLATION || !docrep_write_is_race(job, edata))
			PG_RE_THROW();
		FlushErrorState();
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_CONFLICT),
				 errmsg("Document update conflict."),
				 errdetail("Another session has just created a document of this id.")));
	}
	PG_END_TRY();
}

void
docrep_write_begin(DocTable *table)
{
	if (docrep_write_hook)
		docrep_write_hook(table, NULL, 0, true);
}

/* Check what comes in, and write it. */
static void
run_job(DocTable *table, DocWrite *writes, int n, bool edits, bool isolate, bool ask)
{
	WriteJob	job;

	if (n == 0)
		return;
	/* tombstones are written below the executor, which would say it */
	PreventCommandIfReadOnly("a write to a document table");
	/* before rows are locked, or anything is told */
	docrep_table_check_any(table, ACL_INSERT | ACL_UPDATE | ACL_DELETE);
	if (ask && docrep_write_hook)
		docrep_write_hook(table, writes, n, edits);
	job.table = table;
	job.edits = edits;
	job.isolate = isolate;
	job.again = false;
	job.ask = ask;
	job.cxt = CurrentMemoryContext;
	make_groups(&job, writes, n);
	if (isolate)
		docrep_write_isolated(&job);
	else
		run_or_conflict(&job);
}

void
docrep_write_revisions(DocTable *table, DocWrite *writes, int n, bool isolate)
{
	run_job(table, writes, n, false, isolate, true);
}

void
docrep_write_merged(DocTable *table, DocWrite *writes, int n)
{
	/* if the policy's row is refused, the document is written without the policy */
	bool		isolate = (table->info.conflict_policy & ~DOCREP_POLICY_IDENTICAL) != 0;

	run_job(table, writes, n, false, isolate, false);
	for (int i = 0; i < n; i++)
	{
		if (writes[i].sqlstate != 0)
			ereport(ERROR,
					(errcode(writes[i].sqlstate),
					 errmsg("%s", writes[i].reason)));
	}
}

void
docrep_write_again(DocTable *table, DocWrite *writes, int n)
{
	WriteJob	job = {.table = table, .isolate = true, .again = true};
	TimestampTz start = GetCurrentTimestamp();
	const char **tried = palloc(Max(n, 1) * sizeof(char *));
	int			ntried = 0;

	if (n == 0)
		return;
	PreventCommandIfReadOnly("a write to a document table");
	make_groups(&job, writes, n);
	docrep_write_isolated(&job);
	for (int i = 0; i < n; i++)
	{
		ErrorData	error = {.sqlerrcode = writes[i].sqlstate, .message = writes[i].reason};

		if (writes[i].sqlstate != 0)
			docrep_rounds_problem(table, writes[i].id, &error);
		else
			tried[ntried++] = writes[i].id;
	}
	if (ntried > 0)
		docrep_rounds_settle(table, tried, ntried, start);
}

void
docrep_write_edits(DocTable *table, DocWrite *writes, int n, bool isolate)
{
	run_job(table, writes, n, true, isolate, true);
}
