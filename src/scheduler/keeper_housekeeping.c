/*-------------------------------------------------------------------------
 *
 * keeper_housekeeping.c
 *		A keeper's part in housekeeping: when is something due, and for whom.
 *
 * One job at a time in a database does what is due for the tables of one owner;
 * when it ends that is news for the keeper, which then looks for the next one.
 * Marking rows puts their next_at off a little, and more with each failure: that
 * is when they are looked at again if their process never comes, as its role may
 * not connect, or is killed.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "compat.h"
#include "miscadmin.h"
#include "scheduler/housekeeping.h"
#include "scheduler/pool.h"
#include "store/internal_sql.h"
#include "utils/builtins.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

/* Rows that are looked at in one go. */
#define ROWS_AT_A_TIME	1000

/* A row that is due. */
typedef struct DueRow
{
	pg_uuid_t	tbl;
	char	   *kind;
	bool		lost;			/* it was marked before, and its process is gone */
} DueRow;

/* ---------- slots ---------- */

bool
docrep_housekeeping_is_under_way(void)
{
	bool		found = false;

	LWLockAcquire(JOBS_LOCK, LW_SHARED);
	for (int i = 0; i < docrep_jobs->used && !found; i++)
		found = docrep_job_heads[i].state != JOB_FREE &&
			docrep_job_heads[i].state != JOB_FINISHED &&
			docrep_job_slots[i].kind == JOB_HOUSEKEEPING &&
			docrep_job_slots[i].database == MyDatabaseId;
	LWLockRelease(JOBS_LOCK);
	return found;
}

bool
docrep_housekeeping_submit(Oid owner, Oid extension)
{
	JobRequest	request = {0};
	JobTexts	texts;
	bool		full = false;

	request.kind = JOB_HOUSEKEEPING;
	request.id = "housekeeping";
	request.database = MyDatabaseId;
	request.role = owner;
	request.extension = extension;
	request.source = "document tables";
	request.target = "";
	request.request = "";
	texts = docrep_job_keep_texts(&request);
	LWLockAcquire(JOBS_LOCK, LW_EXCLUSIVE);
	if (docrep_job_find(&request) == NULL)
		full = docrep_job_make(&request, &texts) == NULL;
	docrep_wake_launcher();
	LWLockRelease(JOBS_LOCK);
	docrep_job_release_texts(&texts);
	if (full)
		ereport(DEBUG1, (errmsg_internal("housekeeping waits for a free slot for its job")));
	return !full;
}

/* ---------- rows ---------- */

/* The rows that are due and that nobody is just changing, oldest first. */
static DueRow *
due_rows(int *n)
{
	static SPIPlanPtr plan = NULL;
	MemoryContext caller = CurrentMemoryContext;
	DueRow	   *rows;
	InternalSql sql;

	docrep_internal_begin(&sql);
	docrep_internal_execute(&plan,
							"SELECT tbl, kind, state IN ('starting', 'running') FROM docrep.table_jobs"
							" WHERE next_at <= clock_timestamp() ORDER BY next_at"
							" FOR UPDATE SKIP LOCKED",
							0, NULL, NULL, NULL, false, ROWS_AT_A_TIME);
	*n = (int) SPI_processed;
	rows = MemoryContextAllocZero(caller, Max(*n, 1) * sizeof(DueRow));
	for (int i = 0; i < *n; i++)
	{
		HeapTuple	tuple = SPI_tuptable->vals[i];
		bool		isnull;

		rows[i].tbl = *DatumGetUUIDP(SPI_getbinval(tuple, SPI_tuptable->tupdesc, 1, &isnull));
		rows[i].kind = MemoryContextStrdup(caller, SPI_getvalue(tuple, SPI_tuptable->tupdesc, 2));
		rows[i].lost = DatumGetBool(SPI_getbinval(tuple, SPI_tuptable->tupdesc, 3, &isnull));
	}
	docrep_internal_end(&sql);
	return rows;
}

/* The owner of the table; InvalidOid: it is not there. */
static Oid
owner_of(const pg_uuid_t *uuid)
{
	Oid			relid = docrep_table_by_uuid(uuid);
	HeapTuple	tuple = OidIsValid(relid) ? SearchSysCache1(RELOID, ObjectIdGetDatum(relid)) : NULL;
	Oid			owner = InvalidOid;

	if (HeapTupleIsValid(tuple))
	{
		owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
		ReleaseSysCache(tuple);
	}
	return owner;
}

/* Why no process can be had for an owner; NULL: one can. */
static const char *
no_process_for(Oid owner)
{
	HeapTuple	tuple = SearchSysCache1(AUTHOID, ObjectIdGetDatum(owner));
	const char *problem = NULL;

	if (!HeapTupleIsValid(tuple))
		return "the owner of the table does not exist any more";
	if (DOCREP_WORKER_NEEDS_LOGIN && !((Form_pg_authid) GETSTRUCT(tuple))->rolcanlogin)
		problem = psprintf("the owner of the table, \"%s\", is not permitted to log in",
						   NameStr(((Form_pg_authid) GETSTRUCT(tuple))->rolname));
	ReleaseSysCache(tuple);
	return problem;
}

/* Mark a row as about to be done, or, with a problem, as one that cannot be. */
static void
mark(const DueRow *row, const char *problem)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[] = {UUIDOID, TEXTOID, TEXTOID, BOOLOID, FLOAT8OID};
	Datum		values[5];
	InternalSql sql;

	values[0] = UUIDPGetDatum(&row->tbl);
	values[1] = CStringGetTextDatum(row->kind);
	values[2] = problem ? CStringGetTextDatum(problem) : (Datum) 0;
	values[3] = BoolGetDatum(row->lost);
	values[4] = Float8GetDatum((double) docrep_pacing_limits().backoff_max / USECS_PER_SEC);
	docrep_internal_begin(&sql);
	docrep_internal_execute(&plan,
							"UPDATE docrep.table_jobs SET failures = failures + 1,"
							" state = CASE WHEN $3 IS NULL THEN 'starting' ELSE 'error' END,"
							" error = CASE WHEN $3 IS NOT NULL THEN $3"
							"   WHEN $4 THEN 'its process did not come or was ended: see the server''s log'"
							"   ELSE error END,"
							" sqlstate = CASE WHEN $3 IS NOT NULL THEN '28000'"
							"   WHEN $4 AND sqlstate IS DISTINCT FROM '57014' THEN '57P01' ELSE sqlstate END,"
							" next_at = clock_timestamp() + LEAST($5, 2.0 ^ LEAST(failures, 20))"
							"   * interval '1 second'"
							" WHERE tbl = $1 AND kind = $2",
							5, types, values, problem ? NULL : "  n  ", false, 0);
	docrep_internal_end(&sql);
}

/*
 * There is no such table: it is just being restored, or was not restored at all.
 * (Of one that was dropped there is no row any more.)
 */
static void
put_off(const DueRow *row)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[] = {UUIDOID, TEXTOID, INT4OID};
	Datum		values[3];
	InternalSql sql;

	values[0] = UUIDPGetDatum(&row->tbl);
	values[1] = CStringGetTextDatum(row->kind);
	values[2] = Int32GetDatum(docrep_housekeeping_interval);
	docrep_internal_begin(&sql);
	docrep_internal_execute(&plan,
							"UPDATE docrep.table_jobs SET"
							" next_at = clock_timestamp() + $3 * interval '1 second'"
							" WHERE tbl = $1 AND kind = $2",
							3, types, values, NULL, false, 0);
	docrep_internal_end(&sql);
}

/* When the next row is due; 0: none. */
static TimestampTz
next_due(void)
{
	static SPIPlanPtr plan = NULL;
	TimestampTz result = 0;
	InternalSql sql;
	bool		isnull;
	Datum		value;

	docrep_internal_begin(&sql);
	docrep_internal_execute(&plan, "SELECT min(next_at) FROM docrep.table_jobs WHERE next_at IS NOT NULL",
							0, NULL, NULL, NULL, false, 0);
	value = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
	if (!isnull)
		result = DatumGetTimestampTz(value);
	docrep_internal_end(&sql);
	return result;
}

Oid
docrep_keeper_claim_housekeeping(TimestampTz *next)
{
	TimestampTz now = GetCurrentTimestamp();
	Oid			chosen = InvalidOid;
	DueRow	   *rows;
	int			n;

	*next = next_due();
	if (*next == 0 || *next > now)
		return InvalidOid;
	if (docrep_housekeeping_is_under_way())
	{
		*next = 0;				/* its end is news */
		return InvalidOid;
	}
	rows = due_rows(&n);
	for (int i = 0; i < n; i++)
	{
		Oid			owner = owner_of(&rows[i].tbl);
		const char *problem;

		if (!OidIsValid(owner))
			put_off(&rows[i]);
		else if ((problem = no_process_for(owner)) != NULL)
			mark(&rows[i], problem);
		else if (!OidIsValid(chosen) || owner == chosen)
		{
			chosen = owner;
			mark(&rows[i], NULL);
		}
	}

	/* with a job on its way its end is news; else what is locked is looked at soon */
	*next = OidIsValid(chosen) ? 0 : Max(next_due(), TimestampTzPlusMilliseconds(now, 1000));
	return chosen;
}
