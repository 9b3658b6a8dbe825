/*-------------------------------------------------------------------------
 *
 * homes.c
 *		Are the database and the role of a job still there?
 *
 * A job that is parked would not notice that its role was dropped before its
 * source changes, so the session that drops a role says so.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/pg_database.h"
#include "miscadmin.h"
#include "scheduler/homes.h"
#include "scheduler/slots.h"
#include "utils/syscache.h"

HomeState
docrep_home_state(Oid database, Oid role)
{
	HomeState	state = HOME_GONE;
	HeapTuple	tuple;

	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	tuple = SearchSysCache1(DATABASEOID, ObjectIdGetDatum(database));
	if (HeapTupleIsValid(tuple))
	{
		state = ((Form_pg_database) GETSTRUCT(tuple))->datallowconn ? HOME_OPEN : HOME_CLOSED;
		ReleaseSysCache(tuple);
	}
	if (OidIsValid(role) && !SearchSysCacheExists1(AUTHOID, ObjectIdGetDatum(role)))
		state = HOME_GONE;
	CommitTransactionCommand();
	return state;
}

void
docrep_role_dropped(void)
{
	if (docrep_jobs == NULL)
		return;
	LWLockAcquire(JOBS_LOCK, LW_EXCLUSIVE);
	docrep_jobs->role_dropped = true;
	docrep_wake_launcher();
	LWLockRelease(JOBS_LOCK);
}

/* The job in slot i, and where it is at home; false: nobody's slot, or one that is over. */
static bool
home_of(int i, JobRef *ref, Oid *database, Oid *role)
{
	Job		   *job = &docrep_job_slots[i];
	bool		found;

	LWLockAcquire(JOBS_LOCK, LW_SHARED);
	found = docrep_job_heads[i].state != JOB_FREE && docrep_job_heads[i].state != JOB_FINISHED;
	if (found)
	{
		*ref = docrep_slot_ref(job);
		*database = job->database;
		*role = job->role;
	}
	LWLockRelease(JOBS_LOCK);
	return found;
}

void
docrep_homes_look_after(void)
{
	JobRef		ref;
	Oid			database;
	Oid			role;

	if (!docrep_jobs->role_dropped)
		return;
	LWLockAcquire(JOBS_LOCK, LW_EXCLUSIVE);
	docrep_jobs->role_dropped = false;
	LWLockRelease(JOBS_LOCK);
	for (int i = 0; i < docrep_jobs->used; i++)
	{
		if (home_of(i, &ref, &database, &role) && docrep_home_state(database, role) == HOME_GONE)
			docrep_job_stop(ref, JOB_STOP_ORPHANED, JOB_GRACE);
	}
}
