/*-------------------------------------------------------------------------
 *
 * keeper.c
 *		The process that keeps the jobs of a database in step with its tasks.
 *
 * It makes jobs of rows of docrep.replicator, stops those whose row is gone,
 * changed or disabled, and writes into the rows what became of them.  It is
 * started when there is something to do (databases.c), looks at all tasks
 * once, then for a short while at those that change, and ends.
 *
 * It also has the housekeeping of document tables begun when that is due
 * (keeper_housekeeping.c).
 *
 * It is connected as the bootstrap superuser, and runs no user's code: it
 * writes rows below the executor, and reads docrep's own tables only.  What
 * the owner of docrep.replicator has put into its indexes is evaluated as that
 * role (keeper_report.c).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "commands/extension.h"
#include "compat.h"
#include "miscadmin.h"
#include "peer/server.h"
#include "pgstat.h"
#include "postmaster/interrupt.h"
#include "scheduler/housekeeping.h"
#include "scheduler/keeper.h"
#include "scheduler/slots.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lmgr.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

/* How long it stays when there is nothing to do (ms): the next task may come at once. */
#define LINGER			1000
/* ... and when other databases wait for a keeper. */
#define LINGER_CROWDED	100
/* Pause between two looks (ms), so that a flood of news becomes a few of them. */
#define BREATHE			20
/* When a row is locked, or an older job still ends: look again after this time (ms), ... */
#define LOOK_AGAIN		100
/* ... for so long (ms), and then leave it to another keeper after that time (ms). */
#define GIVE_UP			3000
#define COME_BACK		3000

static MemoryContext look_cxt;	/* of one look */
static MemoryContext next_cxt;	/* of what one look leaves to the next: */
static List *later = NIL;		/* ids of tasks to be looked at again */
static char **known = NULL;		/* tasks that had a job, sorted */
static int	nknown = 0;

/* ---------- lists of ids ---------- */

static int
compare_ids(const void *a, const void *b)
{
	return strcmp(*(char *const *) a, *(char *const *) b);
}

static KeeperTask *
find_task(const KeeperLook *look, const char *id)
{
	int			lo = 0;
	int			hi = look->ntasks;

	while (lo < hi)
	{
		int			mid = (lo + hi) / 2;
		int			c = strcmp(look->tasks[mid].id, id);

		if (c == 0)
			return &look->tasks[mid];
		if (c < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return NULL;
}

/* Ids of tasks that had a job at the last look, and have none now: somebody else has ended it. */
static List *
add_bereft(List *ids, const KeeperLook *look)
{
	int			j = 0;

	for (int i = 0; i < nknown; i++)
	{
		while (j < look->njobs && strcmp(look->jobs[j]->task, known[i]) < 0)
			j++;
		if (j == look->njobs || strcmp(look->jobs[j]->task, known[i]) != 0)
			ids = lappend(ids, known[i]);
	}
	return ids;
}

/* Ids of tasks whose jobs have something to say. */
static List *
add_reporting(List *ids, const KeeperLook *look)
{
	for (int i = 0; i < look->njobs; i++)
		if (!look->jobs[i]->reported)
			ids = lappend(ids, look->jobs[i]->task);
	return ids;
}

/* ---------- one look ---------- */

/* Should the task have a job? */
static bool
wants_job(const KeeperTask *task)
{
	return !task->disabled && !task->held && (task->state == NULL || strcmp(task->state, TASK_ERROR) == 0);
}

/* Is a task among those that are looked at?  Sorted by id, as ids need not be. */
static bool
is_looked_at(char **ids, int n, const char *id)
{
	return n > 0 && bsearch(&id, ids, n, sizeof(char *), compare_ids) != NULL;
}

/* Stop jobs whose task is gone, another one by now, or not to run. */
static void
stop_jobs(KeeperLook *look, List *ids)
{
	int			n = list_length(ids);
	char	  **sorted = palloc(sizeof(char *) * Max(n, 1));

	for (int i = 0; i < n; i++)
		sorted[i] = list_nth(ids, i);
	qsort(sorted, n, sizeof(char *), compare_ids);
	for (int i = 0; i < look->njobs; i++)
	{
		KeeperJob  *job = look->jobs[i];
		KeeperTask *task;

		if (!look->all && !is_looked_at(sorted, n, job->task))
			continue;
		task = find_task(look, job->task);
		if (task && task->version == job->version && wants_job(task))
			continue;
		if (job->state == JOB_FINISHED)
			docrep_job_reported(job->ref, job->state, job->start_no);
		else if (job->stop < JOB_STOP_CANCELLED)
			docrep_job_stop(job->ref, JOB_STOP_CANCELLED, JOB_GRACE);
	}
}

/* Make the job of a task; docrep_keeper_read_requests calls it. */
static void
submit(const JobRequest *request, void *arg)
{
	KeeperLook	   *look = arg;
	KeeperTask *task = find_task(look, request->task);
	MemoryContext old = MemoryContextSwitchTo(look_cxt);
	KeeperJob  *job;
	JobRef		ref;
	char	   *other;

	if (task)
		task->handled = true;

	/* written since it was read: its news are still to come */
	if (task == NULL || task->version != request->task_version)
	{
		MemoryContextSwitchTo(old);
		return;
	}
	switch (docrep_job_submit(request, &ref))
	{
		case JOB_SUBMITTED:
			if (task->state)
				docrep_keeper_clear_error(task->id, task->version);
			job = docrep_keeper_job(ref);
			if (job)
				docrep_keeper_report_job(look, task, job);
			break;
		case JOB_SUBMIT_ENDING:
			look->again = lappend(look->again, task->id);
			break;
		case JOB_SUBMIT_DUPLICATE:
			other = docrep_job_task(ref);
			if (other)
				docrep_keeper_add_report(look, task, TASK_FAILED, TASK_FAILED,
										 psprintf("replication %s is that of task \"%s\" already", request->id, other));
			else
				look->again = lappend(look->again, task->id);
			break;
		case JOB_SUBMIT_FULL:
			look->full++;
			docrep_keeper_cannot_submit(look, task, psprintf("all %d slots for jobs are in use: see docrep.max_jobs",
															 docrep_max_jobs));
			break;
	}
	MemoryContextSwitchTo(old);
}

/* See that each task has the job that it should have, and says what it should say. */
static void
look_at_tasks(KeeperLook *look)
{
	List	   *wanted = NIL;
	bool		waiting = false;
	ListCell   *lc;

	for (int i = 0; i < look->ntasks; i++)
	{
		KeeperTask *task = &look->tasks[i];
		KeeperJob  *job = docrep_keeper_find_job(look->jobs, look->njobs, task->id, task->version);
		const char *lost;

		if (!wants_job(task))
		{
			if (task->shown == NULL && task->state != NULL)
				docrep_keeper_add_report(look, task, strcmp(task->state, TASK_HELD) == 0 ? TASK_FAILED :
										 task->state, task->state, task->reason);
		}
		else if ((lost = docrep_keeper_lost_right(task)) != NULL)
		{
			docrep_keeper_add_report(look, task, TASK_FAILED, TASK_FAILED, lost);
			if (job)
				docrep_job_stop(job->ref, JOB_STOP_CANCELLED, JOB_GRACE);
		}
		else if (job && (job->stop < JOB_STOP_CANCELLED || job->state == JOB_FINISHED))
			docrep_keeper_report_job(look, task, job);
		else if (task->due || look->slots-- > 0)
			wanted = lappend(wanted, task->id);
		else
			waiting = true;
	}
	docrep_keeper_read_requests(wanted, submit, look);
	if (waiting || look->full > 0)
		docrep_keeper_wants_slot();

	/* a session is just writing them, and may yet roll back */
	foreach(lc, wanted)
		if (!find_task(look, lfirst(lc))->handled)
			look->again = lappend(look->again, lfirst(lc));
}

/* What the next look has to know of this one. */
static void
remember(const KeeperLook *look)
{
	int			n;
	KeeperJob **jobs = docrep_keeper_jobs(&n);
	MemoryContext fresh = AllocSetContextCreate(TopMemoryContext, "docrep keeper",
												ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(fresh);
	ListCell   *lc;

	known = palloc(sizeof(char *) * Max(n, 1));
	nknown = 0;
	for (int i = 0; i < n; i++)
		if (nknown == 0 || strcmp(known[nknown - 1], jobs[i]->task) != 0)
			known[nknown++] = pstrdup(jobs[i]->task);
	later = NIL;
	foreach(lc, look->again)
		later = lappend(later, pstrdup(lfirst(lc)));
	MemoryContextSwitchTo(old);
	if (next_cxt)
		MemoryContextDelete(next_cxt);
	next_cxt = fresh;
}

/* Is the extension there?  Waits for a DROP EXTENSION that is under way. */
static bool
lock_extension(void)
{
	Oid			found = get_extension_oid("docrep", true);

	if (!OidIsValid(found))
		return false;
	LockDatabaseObject(ExtensionRelationId, found, 0, AccessShareLock);
	return get_extension_oid("docrep", true) == found;
}

/* The sooner of two times, of which 0 means never. */
static TimestampTz
sooner(TimestampTz a, TimestampTz b)
{
	if (a == 0 || b == 0)
		return Max(a, b);
	return Min(a, b);
}

/*
 * Look at all tasks, or at those with news.  False: the extension is gone.
 * *busy: there was something to do; *retry: when a task is to be tried again.
 */
static bool
look_once(bool all, bool *busy, TimestampTz *retry)
{
	KeeperLook		look = {0};
	List	   *ids;
	Oid			extension;
	Oid			housekeeper;
	TimestampTz housekeeping;

	MemoryContextReset(look_cxt);
	look.slots = docrep_keeper_take_slots(&look.all);
	look.all |= all;
	look.told = true;
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	if (!lock_extension())
	{
		CommitTransactionCommand();
		docrep_jobs_forget_reports(MyDatabaseId);
		return false;
	}
	PushActiveSnapshot(GetTransactionSnapshot());
	MemoryContextSwitchTo(look_cxt);
	if (look.all)
		docrep_keeper_hold_strangers();

	/* the jobs first: one that changes after this is news */
	look.jobs = docrep_keeper_jobs(&look.njobs);
	ids = list_concat(docrep_keeper_take_ids(), later);
	ids = add_reporting(add_bereft(ids, &look), &look);
	*busy = ids != NIL;
	if (look.all || ids != NIL)
	{
		look.tasks = docrep_keeper_read(look.all ? NIL : ids, &look.ntasks);
		stop_jobs(&look, ids);
		look_at_tasks(&look);
	}
	housekeeper = docrep_keeper_claim_housekeeping(&housekeeping);
	*retry = sooner(docrep_keeper_next_retry(), housekeeping);
	extension = get_extension_oid("docrep", true);
	PopActiveSnapshot();
	CommitTransactionCommand();
	if (OidIsValid(housekeeper) && !docrep_housekeeping_submit(housekeeper, extension))
		*retry = sooner(*retry, TimestampTzPlusMilliseconds(GetCurrentTimestamp(), COME_BACK));
	MemoryContextSwitchTo(look_cxt);

	if (look.full > 0 && !look.told)
		ereport(LOG,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("%d replication tasks wait for a free slot for their jobs", look.full),
				 errhint("Increase docrep.max_jobs, currently %d.", docrep_max_jobs)));
	*busy |= look.reports != NIL;
	look.again = list_concat(look.again, docrep_keeper_write(look.reports));
	MemoryContextSwitchTo(look_cxt);
	remember(&look);
	return true;
}

/* ---------- the process ---------- */

/* Wait for ms, or until there is news; true: there is some.  Not so long when others wait for us to go. */
static bool
wait_for_news(long ms)
{
	TimestampTz begun = GetCurrentTimestamp();

	pgstat_report_activity(STATE_IDLE, NULL);
	for (;;)
	{
		long		left;

		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
		}
		ResetLatch(MyLatch);
		if (docrep_keeper_take_news())
			return true;
		if (docrep_keeper_others_wait())
			ms = Min(ms, LINGER_CROWDED);
		left = ms - (long) ((GetCurrentTimestamp() - begun) / 1000);
		if (left <= 0)
			return false;
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, left,
						 PG_WAIT_EXTENSION);
	}
}

/* Let what comes at once come together. */
static void
breathe(void)
{
	(void) WaitLatch(MyLatch, WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, BREATHE, PG_WAIT_EXTENSION);
	CHECK_FOR_INTERRUPTS();
}

/* Look until there is nothing more to do. */
static void
keep(void)
{
	bool		all = true;
	TimestampTz retry = 0;
	TimestampTz idle_since = GetCurrentTimestamp();

	(void) docrep_keeper_take_news();
	for (;;)
	{
		bool		busy;
		bool		news;

		pgstat_report_activity(STATE_RUNNING, "look at replication tasks");
		if (!look_once(all, &busy, &retry))
			return;
		all = false;
		if (!IsTransactionOrTransactionBlock())
			pgstat_report_stat(false);
		if (nknown == 0 && later == NIL && !busy)
			break;				/* no tasks here: hold nobody up */
		breathe();
		news = wait_for_news(later ? LOOK_AGAIN : LINGER);
		if (news)
			idle_since = GetCurrentTimestamp();
		else if (later == NIL ||
				 TimestampDifferenceExceeds(idle_since, GetCurrentTimestamp(), GIVE_UP))
			break;
	}
	if (later)
		retry = sooner(retry, TimestampTzPlusMilliseconds(GetCurrentTimestamp(), COME_BACK));
	if (retry != 0)
		docrep_keeper_again(retry);
}

/* The keeper's life; its database is in bgw_extra. */
void
docrep_keeper_main(Datum arg)
{
	Oid			database;

	memcpy(&database, MyBgworkerEntry->bgw_extra, sizeof(database));
	pqsignal(SIGTERM, die);
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	BackgroundWorkerUnblockSignals();
	if (!docrep_keeper_enter(database))
		proc_exit(0);
	BackgroundWorkerInitializeConnectionByOid(database, InvalidOid, 0);
	docrep_pin_settings("docrep keeper", "pg_catalog, pg_temp");
	look_cxt = AllocSetContextCreate(TopMemoryContext, "docrep keeper's look",
									 ALLOCSET_DEFAULT_SIZES);
	keep();
	pgstat_report_stat(true);
	proc_exit(0);
}
