/*-------------------------------------------------------------------------
 *
 * table_settings.c
 *		Settings of a document table that are not in its definition.
 *
 * A table without a row in docrep.table_settings has the defaults.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "storage/lmgr.h"
#include "store/errcodes.h"
#include "store/internal_sql.h"
#include "store/sql_support.h"
#include "store/table.h"
#include "store/table_settings.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/fmgrprotos.h"
#include "utils/inval.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "miscadmin.h"

#define SETTINGS_COLUMNS \
	"revs_limit, conflict_policy, resolver, validator, revisions_keep, revisions_max_age," \
	" revisions_keep_deleted, tombstone_max_age, not_replicated, revisions_since"

/* A column of the row, copied into cxt; (Datum) 0 if it is NULL. */
static Datum
setting(MemoryContext cxt, int column, Oid type)
{
	TupleDesc	desc = SPI_tuptable->tupdesc;
	Form_pg_attribute att = TupleDescAttr(desc, column - 1);
	MemoryContext old;
	bool		isnull;
	Datum		value = SPI_getbinval(SPI_tuptable->vals[0], desc, column, &isnull);

	Assert(att->atttypid == type);
	if (isnull)
		return (Datum) 0;
	old = MemoryContextSwitchTo(cxt);
	if (att->attlen == -1)
		value = PointerGetDatum(PG_DETOAST_DATUM_COPY(value));
	else
		value = datumCopy(value, att->attbyval, att->attlen);
	MemoryContextSwitchTo(old);
	return value;
}

/* The same for a text, as a C string or NULL. */
static char *
text_setting(MemoryContext cxt, int column)
{
	MemoryContext old = MemoryContextSwitchTo(cxt);
	Datum		value = setting(cxt, column, TEXTOID);
	char	   *result = value == (Datum) 0 ? NULL : TextDatumGetCString(value);

	MemoryContextSwitchTo(old);
	return result;
}

TableSettings *
docrep_settings_read(const pg_uuid_t *uuid)
{
	static SPIPlanPtr plan = NULL;
	MemoryContext cxt = CurrentMemoryContext;
	TableSettings *result = palloc0(sizeof(TableSettings));
	Oid			types[] = {UUIDOID};
	Datum		values[1];
	InternalSql sql;

	result->revs_limit = DOCREP_DEFAULT_REVS_LIMIT;
	result->conflict_policy = "keep";
	result->revisions_keep = -1;
	values[0] = UUIDPGetDatum(uuid);
	docrep_internal_begin(&sql);

	/* what is kept of them outlives a transaction whose own snapshot may be older */
	PushActiveSnapshot(GetLatestSnapshot());
	docrep_internal_execute(&plan,
							"SELECT " SETTINGS_COLUMNS " FROM docrep.table_settings WHERE tbl = $1",
							1, types, values, NULL, true, 1);
	PopActiveSnapshot();
	if (SPI_processed > 0)
	{
		bool		isnull;

		result->revs_limit = DatumGetInt32(setting(cxt, 1, INT4OID));
		result->conflict_policy = text_setting(cxt, 2);
		result->resolver = text_setting(cxt, 3);
		result->validator = text_setting(cxt, 4);
		(void) SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 5, &isnull);
		if (!isnull)
			result->revisions_keep = DatumGetInt32(setting(cxt, 5, INT4OID));
		result->revisions_max_age = (Interval *) DatumGetPointer(setting(cxt, 6, INTERVALOID));
		result->revisions_keep_deleted = DatumGetBool(setting(cxt, 7, BOOLOID));
		result->tombstone_max_age = (Interval *) DatumGetPointer(setting(cxt, 8, INTERVALOID));
		result->not_replicated = (Jsonb *) DatumGetPointer(setting(cxt, 9, JSONBOID));
		result->revisions_since = DatumGetTimestampTz(setting(cxt, 10, TIMESTAMPTZOID));
	}
	docrep_internal_end(&sql);
	return result;
}

void
docrep_settings_write(const pg_uuid_t *uuid, const char *column, Oid type, Datum value,
					  bool isnull)
{
	SPIPlanPtr	plan = NULL;
	Oid			types[] = {UUIDOID, type};
	Datum		values[2];
	InternalSql sql;

	values[0] = UUIDPGetDatum(uuid);
	values[1] = value;
	docrep_internal_begin(&sql);
	docrep_internal_execute(&plan,
							psprintf("INSERT INTO docrep.table_settings (tbl, %s) VALUES ($1, $2)"
									 " ON CONFLICT (tbl) DO UPDATE SET %s = EXCLUDED.%s",
									 column, column, column),
							2, types, values, isnull ? " n" : NULL, false, 0);
	docrep_internal_end(&sql);
	SPI_freeplan(plan);
}

DocSettingsLockHook docrep_settings_lock_hook = NULL;

void
docrep_settings_lock(DocTable *table)
{
	Oid			relid = table->info.relid;

	if (ConditionalLockRelationOid(relid, ShareRowExclusiveLock))
		return;
	if (docrep_settings_lock_hook)
		docrep_settings_lock_hook(table);
	LockRelationOid(relid, ShareRowExclusiveLock);
}

void
docrep_write_revs_limit(const pg_uuid_t *uuid, int limit)
{
	if (limit < 1)
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_BAD_REQUEST),
				 errmsg("revs_limit must be 1 or more, not %d", limit)));
	docrep_settings_write(uuid, "revs_limit", INT4OID, Int32GetDatum(limit), false);
}

PG_FUNCTION_INFO_V1(docrep_set_revs_limit);

/* docrep.set_revs_limit(tbl regclass, max_revs int): owner only; trees are stemmed as they are written. */
Datum
docrep_set_revs_limit(PG_FUNCTION_ARGS)
{
	DocTable   *table = docrep_table_open(docrep_arg_table(fcinfo, 0), RowExclusiveLock, 0);

	docrep_table_check_owner(table);
	docrep_write_revs_limit(&table->info.uuid, docrep_arg_int32(fcinfo, 1, "max_revs"));
	CacheInvalidateRelcacheByRelid(table->info.relid);
	docrep_table_close(table, NoLock);
	PG_RETURN_VOID();
}

PG_FUNCTION_INFO_V1(docrep_set_tombstone_max_age);

/* docrep.set_tombstone_max_age(tbl regclass, max_age interval): owner only; NULL: tombstones stay. */
Datum
docrep_set_tombstone_max_age(PG_FUNCTION_ARGS)
{
	DocTable   *table = docrep_table_open(docrep_arg_table(fcinfo, 0), RowExclusiveLock, 0);
	Interval   *age = PG_ARGISNULL(1) ? NULL : PG_GETARG_INTERVAL_P(1);

	docrep_table_check_owner(table);
	if (age)
	{
		Interval	zero = {0};

		if (DatumGetInt32(DirectFunctionCall2(interval_cmp, IntervalPGetDatum(age),
											  IntervalPGetDatum(&zero))) < 0)
			ereport(ERROR,
					(errcode(ERRCODE_DOCREP_BAD_REQUEST),
					 errmsg("\"max_age\" must not be negative")));
	}
	docrep_settings_write(&table->info.uuid, "tombstone_max_age", INTERVALOID,
						  IntervalPGetDatum(age), age == NULL);
	docrep_table_close(table, NoLock);
	PG_RETURN_VOID();
}
