/*-------------------------------------------------------------------------
 *
 * databases_launch.c
 *		Which databases get a keeper: the launcher's part.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_database.h"
#include "scheduler/databases.h"
#include "scheduler/homes.h"
#include "scheduler/pool.h"
#include "storage/shmem.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

/* In order of oid, for qsort. */
static int
compare_oids(const void *a, const void *b)
{
	Oid			x = *(const Oid *) a;
	Oid			y = *(const Oid *) b;

	return x < y ? -1 : x > y;
}

/* The databases that can be connected to, in order of oid; *n of them, allocated. */
static Oid *
list_databases(int *n)
{
	MemoryContext caller = CurrentMemoryContext;
	int			cap = 64;
	Oid		   *oids = palloc(cap * sizeof(Oid));
	Relation	rel;
	TableScanDesc scan;
	HeapTuple	tuple;

	*n = 0;
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	(void) GetTransactionSnapshot();
	rel = table_open(DatabaseRelationId, AccessShareLock);
	scan = table_beginscan_catalog(rel, 0, NULL);
	while ((tuple = heap_getnext(scan, ForwardScanDirection)) != NULL)
	{
		Form_pg_database form = (Form_pg_database) GETSTRUCT(tuple);

		if (!form->datallowconn)
			continue;
		if (*n >= cap)
			oids = repalloc(oids, (cap *= 2) * sizeof(Oid));
		oids[(*n)++] = form->oid;
	}
	table_endscan(scan);
	table_close(rel, AccessShareLock);
	CommitTransactionCommand();
	MemoryContextSwitchTo(caller);
	qsort(oids, *n, sizeof(Oid), compare_oids);
	return oids;
}

/* News may be anywhere: note as many databases as there are places for. */
static void
look_at_all(void)
{
	int			n;
	Oid		   *oids = list_databases(&n);

	LWLockAcquire(JOBS_LOCK, LW_EXCLUSIVE);
	docrep_databases->look_at_all = false;
	for (int i = 0; i < n; i++)
	{
		Place	   *place;

		if (oids[i] <= docrep_databases->seen)
			continue;
		place = docrep_database_place(oids[i], true);
		if (place == NULL)
		{
			docrep_databases->look_at_all = true;	/* the rest when there is room */
			break;
		}
		place->news = true;
		docrep_databases->seen = oids[i];
	}
	if (!docrep_databases->look_at_all)
		docrep_databases->seen = InvalidOid;
	LWLockRelease(JOBS_LOCK);
	pfree(oids);
}

/* Ask the postmaster for a keeper. */
static bool
register_keeper(Oid database)
{
	BackgroundWorker worker;

	docrep_describe_process(&worker, "docrep_keeper_main", "docrep keeper");
	memcpy(worker.bgw_extra, &database, sizeof(Oid));
	return RegisterDynamicBackgroundWorker(&worker, NULL);
}

/* The sooner of two times to wait; -1 is never. */
static long
sooner(long a, long b)
{
	return a < 0 ? b : Min(a, b);
}

/*
 * With the lock held: a database that wants a keeper and may have one now.
 * *next: in how many ms it should be looked at again, -1: not at all.
 */
static Place *
choose_place(long *next)
{
	TimestampTz now = GetCurrentTimestamp();
	Place	   *chosen = NULL;
	int			running = 0;

	*next = -1;
	for (int i = 0; i < PLACES; i++)
	{
		Place	   *place = &docrep_databases->places[i];

		if (!OidIsValid(place->database))
			continue;
		if (place->again != 0 && place->again <= now)
		{
			place->again = 0;
			place->news = true;
			docrep_wake_process(place->pid);
		}
		if (place->again != 0)
			*next = sooner(*next, (place->again - now) / 1000 + 1);
		if (place->starting && TimestampDifferenceExceeds(place->asked, now, KEEPER_TIMEOUT))
			place->starting = false;
		if (place->starting)	/* one that never comes wakes nobody */
			*next = sooner(*next, KEEPER_TIMEOUT);
		if (place->starting || place->pid != 0)
			running++;
		else if (place->not_before > now)
			*next = sooner(*next, (place->not_before - now) / 1000 + 1);
		else if (!place->news)
			docrep_database_release_place(place);
		else if (chosen == NULL || place->asked < chosen->asked)
			chosen = place;
	}
	docrep_databases->crowded = chosen != NULL && running >= KEEPERS;
	return docrep_databases->crowded ? NULL : chosen;
}

/* With the lock held: keepers that only wait for more to do leave now. */
static void
ask_keepers_to_leave(void)
{
	for (int i = 0; i < PLACES; i++)
	{
		if (OidIsValid(docrep_databases->places[i].database))
			docrep_wake_process(docrep_databases->places[i].pid);
	}
}

/* No keeper for the database for so many ms, because of its state if it is not open. */
static void
put_off(Oid database, HomeState state, long ms)
{
	Place	   *place;

	LWLockAcquire(JOBS_LOCK, LW_EXCLUSIVE);
	place = docrep_database_place(database, false);
	if (place != NULL && state != HOME_GONE)
	{
		place->starting = false;
		place->closed = state == HOME_CLOSED;
		place->not_before = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), ms);
	}
	else if (place != NULL && place->pid == 0)
		place->database = InvalidOid;
	LWLockRelease(JOBS_LOCK);
}

long
docrep_databases_look_after(void)
{
	static TimestampTz said = 0;
	long		next;

	if (docrep_databases->look_at_all)
		look_at_all();
	for (;;)
	{
		Oid			database = InvalidOid;
		Place	   *place;
		HomeState	state;

		LWLockAcquire(JOBS_LOCK, LW_EXCLUSIVE);
		place = choose_place(&next);
		if (docrep_databases->crowded)
			ask_keepers_to_leave();
		if (place != NULL)
		{
			database = place->database;
			place->starting = true;
			place->asked = GetCurrentTimestamp();
		}
		LWLockRelease(JOBS_LOCK);
		if (!OidIsValid(database))
			return next;
		state = docrep_home_state(database, InvalidOid);
		if (state != HOME_OPEN)
		{
			put_off(database, state, CLOSED_RETRY);
			if (state == HOME_GONE)
				docrep_jobs_forget_reports(database);
		}
		else if (!register_keeper(database))
		{
			put_off(database, state, REGISTER_RETRY);
			LWLockAcquire(JOBS_LOCK, LW_EXCLUSIVE);
			docrep_pool_dismiss_idle();
			LWLockRelease(JOBS_LOCK);
			docrep_report_shortage(&said,
								   "replication tasks wait: no background worker is free to look at them",
								   "Increase max_worker_processes.");
			return REGISTER_RETRY;
		}
	}
}
