/*-------------------------------------------------------------------------
 *
 * revisions_hold.c
 *		Holds: somebody needs replaced winners for a while, whatever the table's
 *		owner wants.
 *
 * A hold is a row of docrep.version_holds, renewed by its holder; a table's
 * description has the longest of them.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "store/errcodes.h"
#include "store/internal_sql.h"
#include "store/revisions_internal.h"
#include "store/serve.h"
#include "store/sql_support.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

/* whoever may read the table can have versions kept: so there are limits */
#define MAX_HOLDER_LEN		200
#define MAX_HOLDS			1000	/* of one table */

/* docrep.max_version_hold, seconds */
static int	max_version_hold = 30 * SECS_PER_DAY;

void
docrep_revisions_define_gucs(void)
{
	DefineCustomIntVariable("docrep.max_version_hold",
							"How long replaced versions of documents are kept for delayed replications at most.",
							NULL, &max_version_hold, 30 * SECS_PER_DAY, 0, INT_MAX,
							PGC_SUSET, GUC_UNIT_S, NULL, NULL, NULL);
}

TimestampTz
docrep_time_before(TimestampTz now, const Interval *interval)
{
	return DatumGetTimestampTz(DirectFunctionCall2(timestamptz_mi_interval,
												   TimestampTzGetDatum(now),
												   IntervalPGetDatum(interval)));
}

int64
docrep_revisions_held(const pg_uuid_t *uuid)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[] = {UUIDOID};
	Datum		values[1];
	InternalSql sql;
	int64		result;
	bool		isnull;

	values[0] = UUIDPGetDatum(uuid);
	docrep_internal_begin(&sql);

	/* as of now: what a backend keeps of it outlives a transaction whose own snapshot may be older */
	PushActiveSnapshot(GetLatestSnapshot());
	docrep_internal_execute(&plan,
							"SELECT (pg_catalog.max(EXTRACT(epoch FROM keep)) * 1000000)::bigint"
							" FROM docrep.version_holds WHERE tbl = $1 AND " DOCREP_HOLD_IN_FORCE,
							1, types, values, NULL, true, 1);
	PopActiveSnapshot();
	result = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1,
										 &isnull));
	docrep_internal_end(&sql);
	return isnull ? 0 : Max(result, 0);
}

/* The interval, or the longest that is allowed; *cut: that is shorter. */
static Interval *
limited(const Interval *keep, bool *cut)
{
	Interval   *result = palloc(sizeof(Interval));
	TimestampTz now = GetCurrentTimestamp();

	*result = *keep;
	if (docrep_time_before(now, keep) > now)
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_BAD_REQUEST),
				 errmsg("versions cannot be held for a negative time")));
	*cut = docrep_time_before(now, keep) < now - max_version_hold * USECS_PER_SEC;
	if (*cut)
	{
		memset(result, 0, sizeof(*result));
		result->time = max_version_hold * USECS_PER_SEC;
	}
	return result;
}

static void
check_holder(const char *holder)
{
	if (*holder == '\0' || strlen(holder) > MAX_HOLDER_LEN)
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_BAD_REQUEST),
				 errmsg("the holder of versions must be named, by at most %d bytes",
						MAX_HOLDER_LEN)));
}

/* Is there a hold in force that says the same and was renewed lately? */
static bool
stands(Datum *values, Oid *types)
{
	static SPIPlanPtr plan = NULL;

	docrep_internal_execute(&plan,
							"SELECT FROM docrep.version_holds WHERE tbl = $1 AND holder = $2 AND keep = $3"
							" AND renewed_at > pg_catalog.clock_timestamp() - interval '1 hour'",
							3, types, values, NULL, false, 1);
	return SPI_processed > 0;
}

/* Make room for a hold: those that are over go.  False: there are too many. */
static bool
make_room(Datum *values, Oid *types)
{
	static SPIPlanPtr remove = NULL;
	static SPIPlanPtr count = NULL;

	docrep_internal_execute(&remove,
							"DELETE FROM docrep.version_holds WHERE tbl = $1 AND holder <> $2 AND NOT ("
							DOCREP_HOLD_IN_FORCE ")",
							2, types, values, NULL, false, 0);
	docrep_internal_execute(&count,
							"SELECT FROM docrep.version_holds WHERE tbl = $1 AND holder <> $2",
							2, types, values, NULL, false, MAX_HOLDS);
	return SPI_processed < MAX_HOLDS;
}

bool
docrep_revisions_hold(DocTable *table, const char *holder, const Interval *keep)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[] = {UUIDOID, TEXTOID, INTERVALOID};
	Datum		values[3];
	InternalSql sql;
	bool		cut;
	bool		held = true;

	docrep_table_check(table, ACL_SELECT);
	check_holder(holder);
	/* the role is shown none of them: see kept_feed.c */
	if (table->row_security)
		return false;
	values[0] = UUIDPGetDatum(&table->info.uuid);
	values[1] = CStringGetTextDatum(holder);
	values[2] = IntervalPGetDatum(limited(keep, &cut));
	docrep_internal_begin(&sql);
	if (stands(values, types))
		;
	else if (!make_room(values, types))
		held = false;
	else
	{
		PreventCommandIfReadOnly("a hold on versions of documents");
		docrep_internal_execute(&plan,
								"INSERT INTO docrep.version_holds (tbl, holder, keep, renewed_at)"
								" VALUES ($1, $2, $3, pg_catalog.clock_timestamp())"
								" ON CONFLICT (tbl, holder) DO UPDATE SET keep = EXCLUDED.keep,"
								" renewed_at = EXCLUDED.renewed_at",
								3, types, values, NULL, false, 0);
		/* a renewal alone, an hour after the last, is not worth a count of who else holds */
		CacheInvalidateRelcacheByRelid(table->info.relid);
	}
	docrep_internal_end(&sql);
	return held && !cut;
}

bool
docrep_revisions_release(DocTable *table, const char *holder)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[] = {UUIDOID, TEXTOID};
	Datum		values[2];
	InternalSql sql;
	bool		released;

	docrep_table_check(table, ACL_SELECT);
	values[0] = UUIDPGetDatum(&table->info.uuid);
	values[1] = CStringGetTextDatum(holder);
	docrep_internal_begin(&sql);
	docrep_internal_execute(&plan,
							"DELETE FROM docrep.version_holds WHERE tbl = $1 AND holder = $2",
							2, types, values, NULL, false, 0);
	released = SPI_processed > 0;
	docrep_internal_end(&sql);
	if (released)
	{
		docrep_revisions_recheck(&table->info.uuid);
		CacheInvalidateRelcacheByRelid(table->info.relid);
	}
	return released;
}

PG_FUNCTION_INFO_V1(docrep_peer_hold_versions);

/*
 * peer_hold_versions(tbl uuid, holder text, keep interval) returns boolean: are they kept for
 * so long?  keep NULL releases.
 */
Datum
docrep_peer_hold_versions(PG_FUNCTION_ARGS)
{
	DocTable   *table;
	char	   *holder;
	bool		held = false;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_BAD_REQUEST),
				 errmsg("argument %d of a peer's request is null", PG_ARGISNULL(0) ? 1 : 2)));
	holder = text_to_cstring(PG_GETARG_TEXT_PP(1));
	table = docrep_serve_open(PG_GETARG_UUID_P(0), AccessShareLock, ACL_SELECT);
	if (PG_ARGISNULL(2))
		(void) docrep_revisions_release(table, holder);
	else
		held = docrep_revisions_hold(table, holder, PG_GETARG_INTERVAL_P(2));
	docrep_table_close(table, NoLock);
	PG_RETURN_BOOL(held);
}
