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

#include "access/xact.h"
#include "miscadmin.h"
#include "scheduler/databases.h"
#include "scheduler/pool.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/shmem.h"
#include "utils/timestamp.h"

Databases *docrep_databases;

Size
docrep_databases_size(void)
{
	return sizeof(Databases);
}

void
docrep_databases_startup_shmem(void)
{
	bool		found;

	docrep_databases = ShmemInitStruct("docrep databases", sizeof(Databases), &found);
	if (!found)
	{
		memset(docrep_databases, 0, sizeof(Databases));
		docrep_databases->look_at_all = true;
	}
}

Place *
docrep_database_place(Oid database, bool make)
{
	Place	   *empty = NULL;

	for (int i = 0; i < PLACES; i++)
	{
		Place	   *place = &docrep_databases->places[i];

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

void
docrep_database_release_place(Place *place)
{
	if (!place->news && !place->starting && place->pid == 0 && place->again == 0 &&
		!place->wants_slot && !place->slot_came &&
		place->not_before <= GetCurrentTimestamp())
		place->database = InvalidOid;
}

void
docrep_database_has_news(Oid database)
{
	Place	   *place = docrep_database_place(database, true);

	if (place == NULL)
	{
		docrep_databases->look_at_all = true;
		docrep_databases->seen = InvalidOid;
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
	Place	   *place = docrep_database_place(database, true);

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
	Place	   *place = docrep_database_place(database, false);

	if (place == NULL)
		return;
	place->not_before = place->wanted_until = 0;
	place->news = true;
}

TimestampTz
docrep_database_wanted_until(Oid database)
{
	Place	   *place = docrep_database_place(database, false);

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
	place = docrep_database_place(DatumGetObjectId(arg), false);
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
		docrep_database_release_place(place);
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
	place = docrep_database_place(database, true);
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
	place = docrep_database_place(MyDatabaseId, false);
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
	return *((volatile bool *) &docrep_databases->crowded);
}

void
docrep_keeper_again(TimestampTz at)
{
	Place	   *place;

	LWLockAcquire(JOBS_LOCK, LW_EXCLUSIVE);
	place = docrep_database_place(MyDatabaseId, true);
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
	if (!docrep_databases->slots_wanted)
		return;
	docrep_databases->slots_wanted = false;
	for (int i = 0; i < PLACES; i++)
	{
		Place	   *place = &docrep_databases->places[i];

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
	place = docrep_database_place(MyDatabaseId, true);
	if (place != NULL)
	{
		place->wants_slot = docrep_databases->slots_wanted = true;

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
	place = docrep_database_place(MyDatabaseId, false);
	*came = place != NULL && place->slot_came;
	if (place != NULL)
		place->slot_came = false;
	n = docrep_slots_free();
	LWLockRelease(JOBS_LOCK);
	return n;
}
