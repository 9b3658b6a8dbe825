/*-------------------------------------------------------------------------
 *
 * watcher.c
 *		The process that waits for the sources of parked jobs that are in other
 *		servers.
 *
 * It is connected to no database and runs nobody's code.  What it knows is in
 * shared memory, in the jobs' slots: it may die at any time, and the next one
 * picks up all that is parked.  The launcher starts it while there is something to
 * wait for; without that it ends after a while.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "peer/remote_watch.h"
#include "pgstat.h"
#include "postmaster/interrupt.h"
#include "scheduler/jobs.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

/* whoever parks a job, or has one leave, sets the latch; beyond that jobs are looked at so often (ms) */
#define LOOK_INTERVAL	10000

/* without anything to wait for it ends after this time (ms) */
#define LINGER			30000

/* keys that a step may bring */
#define MAX_NEWS		256

/* What is waited for, by the job's slot. */
typedef struct Watched
{
	JobRef		ref;
	int			start_no;
	bool		waiting;
} Watched;

static Watched *watched;		/* one a slot */

/* Look what has been parked, and is not parked any more. */
static void
look_at_jobs(void)
{
	int			index = 0;
	JobRef		ref;
	int			start_no;
	Oid			role;
	char	   *place;

	for (int i = 0; i < docrep_max_jobs; i++)
	{
		Watched    *w = &watched[i];

		if (!w->waiting || docrep_parked_still(w->ref, w->start_no))
			continue;
		w->waiting = false;
		docrep_remote_watch_remove(i);
	}
	while (docrep_parked_next(&index, &ref, &start_no, &role, &place))
	{
		Watched    *w = &watched[ref.index];

		if (!(w->waiting && w->ref.generation == ref.generation && w->start_no == start_no))
		{
			w->ref = ref;
			w->start_no = start_no;
			w->waiting = true;
			docrep_remote_watch_add(ref.index, docrep_wait_place_deserialize(place));
		}
		explicit_bzero(place, strlen(place));
		pfree(place);
	}
}

/* Wait, and let jobs run that have news.  True: jobs are to be looked at. */
static bool
wait_for_news(void)
{
	uint64		keys[MAX_NEWS];
	bool		woken = false;
	int			n = docrep_remote_watch_step(LOOK_INTERVAL, &woken, keys, MAX_NEWS);

	for (int i = 0; i < n; i++)
	{
		Watched    *w = &watched[keys[i]];

		if (!w->waiting)
			continue;
		w->waiting = false;
		if (docrep_parked_still(w->ref, w->start_no))
			docrep_job_unpark(w->ref);
	}
	return woken;
}

/* Serve signals. */
static void
serve_signals(void)
{
	CHECK_FOR_INTERRUPTS();
	if (ConfigReloadPending)
	{
		ConfigReloadPending = false;
		ProcessConfigFile(PGC_SIGHUP);
	}
}

/* The watcher's life. */
void
docrep_watcher_main(Datum arg)
{
	MemoryContext lap;
	TimestampTz useful = GetCurrentTimestamp();
	TimestampTz looked = 0;
	bool		woken = true;

	pqsignal(SIGTERM, die);
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);
	if (!docrep_watcher_enter())
		return;
	watched = MemoryContextAllocZero(TopMemoryContext,
									 mul_size(docrep_max_jobs, sizeof(Watched)));
	lap = AllocSetContextCreate(TopMemoryContext, "docrep watcher", ALLOCSET_DEFAULT_SIZES);
	docrep_remote_watch_start();
	pgstat_report_activity(STATE_IDLE, NULL);

	for (;;)
	{
		TimestampTz now = GetCurrentTimestamp();

		MemoryContextSwitchTo(lap);
		if (woken || TimestampDifferenceExceeds(looked, now, LOOK_INTERVAL))
		{
			look_at_jobs();
			looked = now;
		}
		woken = wait_for_news();
		MemoryContextSwitchTo(TopMemoryContext);
		MemoryContextReset(lap);
		serve_signals();

		now = GetCurrentTimestamp();
		if (docrep_remote_watch_count() > 0)
			useful = now;
		else if (TimestampDifferenceExceeds(useful, now, LINGER))
			break;
	}
}
