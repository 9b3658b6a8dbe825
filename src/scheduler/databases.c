/*-------------------------------------------------------------------------
 *
 * databases.c
 *		Which databases have tasks to look at, and their keepers.
 *
 * No process stays connected to a database only because it might have tasks:
 * that would take a worker slot each and stand in the way of DROP DATABASE.
 * A keeper is started when there is something to do for it: by a transaction
 * that wrote tasks, by jobs that have something to report, and once in every
 * database when the server starts or is promoted.
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
#include "miscadmin.h"
#include "scheduler/homes.h"
#include "scheduler/pool.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/shmem.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

/* Databases that can have news at a time; the others are found by looking at all. */
#define PLACES			64
/* Keepers that run at a time. */
#define KEEPERS			2
/* A keeper that was asked for and did not come in this time (ms) is asked for again. */
#define KEEPER_TIMEOUT	30000
/* One that failed is started again after this time (ms), */
#define KEEPER_RETRY	5000
/* ... or, when the postmaster had no room for it, */
#define REGISTER_RETRY	1000
/* ... or when the database takes no connections. */
#define CLOSED_RETRY	10000

/* Protected by JOBS_LOCK. */
typedef struct Place
{
	Oid			database;		/* InvalidOid: free */
	bool		news;
	bool		starting;		/* a process was asked for at "asked" */
	bool		closed;			/* it takes no connections: not_before is when to look again */
	int			pid;
	TimestampTz asked;
	TimestampTz not_before;		/* no keeper until then */
	TimestampTz wanted_until;	/* a statement wants the database for itself until then */
	TimestampTz again;			/* there will be news then; 0: no */
	bool		wants_slot;		/* tasks wait for a free slot */
	bool		slot_came;		/* ... and there is one now */
} Place;

typedef struct Databases
{
	bool		look_at_all;	/* news may be in any database after "seen" */
	Oid			seen;
	bool		slots_wanted;	/* by any of the places */
	bool		crowded;		/* databases wait for a keeper */
	Place		places[PLACES];
} Databases;

static Databases *databases;

Size
docrep_databases_size(void)
{
	return sizeof(Databases);
}

void
docrep_databases_startup_shmem(void)
{
	bool		found;

	databases = ShmemInitStruct("docrep databases", sizeof(Databases), &found);
	if (!found)
	{
		memset(databases, 0, sizeof(Databases));
		databases->look_at_all = true;
	}
}

/* The database's place, or a free one made its own; NULL: all are taken. */
static Place *
place_of(Oid database, bool make)
{
	Place	   *empty = NULL;

	for (int i = 0; i < PLACES; i++)
	{
		Place	   *place = &databases->places[i];

		if (place->database == database)
			return place;
		if (!OidIsValid(place->database) && empty == NULL)
			empty = place;
	}
	if (!make || empty == NULL)
		return NULL;
	memset(empty, 0, sizeof(Place));
	empty->database = database;
	return empty;
}

/* The place is not needed any more if nothing is to be remembered. */
static void
release_place(Place *place)
{
	if (!place->news && !place->starting && place->pid == 0 && place->again == 0 &&
		!place->wants_slot && !place->slot_came &&
		place->not_before <= GetCurrentTimestamp())
		place->database = InvalidOid;
}

void
docrep_database_has_news(Oid database)
{
	Place	   *place = place_of(database, true);

	if (place == NULL)
	{
		databases->look_at_all = true;
		databases->seen = InvalidOid;
	}
	else
	{
		place->news = true;
		if (place->closed)
			place->not_before = 0;
		place->closed = false;
		docrep_wake_process(place->pid);
	}
	docrep_wake_launcher();
}

bool
docrep_database_dismiss_keeper(Oid database)
{
	Place	   *place = place_of(database, true);

	if (place == NULL)
		return false;
	place->not_before = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), JOB_HOLD_OFF);
	place->wanted_until = place->not_before;
	if (place->pid != 0)
		kill(place->pid, SIGTERM);
	return place->pid != 0;
}

void
docrep_database_call_back(Oid database)
{
	Place	   *place = place_of(database, false);

	if (place == NULL)
		return;
	place->not_before = place->wanted_until = 0;
	place->news = true;
}

TimestampTz
docrep_database_wanted_until(Oid database)
{
	Place	   *place = place_of(database, false);

	return place ? place->wanted_until : 0;
}

void
docrep_database_tell(Oid database)
{
	if (docrep_jobs == NULL)
		return;
	LWLockAcquire(JOBS_LOCK, LW_EXCLUSIVE);
	docrep_database_has_news(database);
	LWLockRelease(JOBS_LOCK);
}

/* ---------- sessions that write tasks ---------- */

static bool wrote_tasks = false;

static void
transaction_ended(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_COMMIT && wrote_tasks)
		docrep_database_tell(MyDatabaseId);
	if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT || event == XACT_EVENT_PREPARE)
		wrote_tasks = false;
}

void
docrep_tasks_changed(void)
{
	static bool registered = false;

	if (!registered)
		RegisterXactCallback(transaction_ended, NULL);
	registered = true;
	wrote_tasks = true;
}

/* ---------- keepers ---------- */

static void
leave_keeper(int code, Datum arg)
{
	Place	   *place;

	LWLockReleaseAll();
	LWLockAcquire(JOBS_LOCK, LW_EXCLUSIVE);
	place = place_of(DatumGetObjectId(arg), false);
	if (place != NULL && place->pid == MyProcPid)
	{
		place->pid = 0;

		/* it failed half-way: again, but not at once */
		if (code != 0)
		{
			place->news = true;
			place->not_before = Max(place->not_before,
									TimestampTzPlusMilliseconds(GetCurrentTimestamp(), KEEPER_RETRY));
		}
		release_place(place);
	}
	docrep_wake_launcher();
	LWLockRelease(JOBS_LOCK);
}

bool
docrep_keeper_enter(Oid database)
{
	Place	   *place;
	bool		entered = false;

	before_shmem_exit(leave_keeper, ObjectIdGetDatum(database));
	LWLockAcquire(JOBS_LOCK, LW_EXCLUSIVE);
	place = place_of(database, true);
	if (place != NULL && place->pid == 0)
	{
		/* who comes and must not stay makes room for the next one, too */
		place->starting = false;
		if (place->not_before <= GetCurrentTimestamp())
		{
			place->pid = MyProcPid;
			entered = true;
		}
	}
	LWLockRelease(JOBS_LOCK);
	return entered;
}

bool
docrep_keeper_take_news(void)
{
	Place	   *place;
	bool		news = false;

	LWLockAcquire(JOBS_LOCK, LW_EXCLUSIVE);
	place = place_of(MyDatabaseId, false);
	if (place != NULL)
	{
		news = place->news;
		place->news = false;
	}
	LWLockRelease(JOBS_LOCK);
	return news;
}

bool
docrep_keeper_others_wait(void)
{
	/* a late answer does no harm: no lock */
	return *((volatile bool *) &databases->crowded);
}

void
docrep_keeper_again(TimestampTz at)
{
	Place	   *place;

	LWLockAcquire(JOBS_LOCK, LW_EXCLUSIVE);
	place = place_of(MyDatabaseId, true);
	if (place == NULL)
		docrep_database_has_news(MyDatabaseId);
	else if (place->again == 0 || at < place->again)
		place->again = at;
	docrep_wake_launcher();
	LWLockRelease(JOBS_LOCK);
}

/* ---------- tasks that wait for a slot ---------- */

void
docrep_database_slot_freed(void)
{
	if (!databases->slots_wanted)
		return;
	databases->slots_wanted = false;
	for (int i = 0; i < PLACES; i++)
	{
		Place	   *place = &databases->places[i];

		if (!OidIsValid(place->database) || !place->wants_slot)
			continue;
		place->wants_slot = false;
		place->slot_came = true;
		docrep_database_has_news(place->database);
	}
}

void
docrep_keeper_wants_slot(void)
{
	Place	   *place;

	LWLockAcquire(JOBS_LOCK, LW_EXCLUSIVE);
	place = place_of(MyDatabaseId, true);
	if (place != NULL)
	{
		place->wants_slot = databases->slots_wanted = true;

		/* it may have come since the keeper looked */
		if (docrep_slots_free() > 0)
			docrep_database_slot_freed();
	}
	LWLockRelease(JOBS_LOCK);
}

int
docrep_keeper_take_slots(bool *came)
{
	Place	   *place;
	int			n;

	LWLockAcquire(JOBS_LOCK, LW_EXCLUSIVE);
	place = place_of(MyDatabaseId, false);
	*came = place != NULL && place->slot_came;
	if (place != NULL)
		place->slot_came = false;
	n = docrep_slots_free();
	LWLockRelease(JOBS_LOCK);
	return n;
}

/* ---------- the launcher's part ---------- */

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
	databases->look_at_all = false;
	for (int i = 0; i < n; i++)
	{
		Place	   *place;

		if (oids[i] <= databases->seen)
			continue;
		place = place_of(oids[i], true);
		if (place == NULL)
		{
			databases->look_at_all = true;	/* the rest when there is room */
			break;
		}
		place->news = true;
		databases->seen = oids[i];
	}
	if (!databases->look_at_all)
		databases->seen = InvalidOid;
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
		Place	   *place = &databases->places[i];

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
		if (place->starting || place->pid != 0)
			running++;
		else if (place->not_before > now)
			*next = sooner(*next, (place->not_before - now) / 1000 + 1);
		else if (!place->news)
			release_place(place);
		else if (chosen == NULL || place->asked < chosen->asked)
			chosen = place;
	}
	databases->crowded = chosen != NULL && running >= KEEPERS;
	return databases->crowded ? NULL : chosen;
}

/* With the lock held: keepers that only wait for more to do leave now. */
static void
ask_keepers_to_leave(void)
{
	for (int i = 0; i < PLACES; i++)
	{
		if (OidIsValid(databases->places[i].database))
			docrep_wake_process(databases->places[i].pid);
	}
}

/* No keeper for the database for so many ms, because of its state if it is not open. */
static void
put_off(Oid database, HomeState state, long ms)
{
	Place	   *place;

	LWLockAcquire(JOBS_LOCK, LW_EXCLUSIVE);
	place = place_of(database, false);
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

	if (databases->look_at_all)
		look_at_all();
	for (;;)
	{
		Oid			database = InvalidOid;
		Place	   *place;
		HomeState	state;

		LWLockAcquire(JOBS_LOCK, LW_EXCLUSIVE);
		place = choose_place(&next);
		if (databases->crowded)
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
