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
#include "store/errcodes.h"
#include "store/internal_sql.h"
#include "store/sql_support.h"
#include "store/table.h"
#include "store/table_settings.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "miscadmin.h"

int
docrep_read_revs_limit(const pg_uuid_t *uuid)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[] = {UUIDOID};
	Datum		values[1];
	InternalSql sql;
	int			limit = DOCREP_DEFAULT_REVS_LIMIT;
	bool		isnull;

	values[0] = UUIDPGetDatum(uuid);
	docrep_internal_begin(&sql);
	docrep_internal_execute(&plan, "SELECT revs_limit FROM docrep.table_settings WHERE tbl = $1",
							1, types, values, NULL, false, 1);
	if (SPI_processed > 0)
		limit = DatumGetInt32(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	docrep_internal_end(&sql);
	return limit;
}

void
docrep_write_revs_limit(const pg_uuid_t *uuid, int limit)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[] = {UUIDOID, INT4OID};
	Datum		values[2];
	InternalSql sql;

	if (limit < 1)
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_BAD_REQUEST),
				 errmsg("revs_limit must be 1 or more, not %d", limit)));
	values[0] = UUIDPGetDatum(uuid);
	values[1] = Int32GetDatum(limit);
	docrep_internal_begin(&sql);
	docrep_internal_execute(&plan,
							"INSERT INTO docrep.table_settings (tbl, revs_limit) VALUES ($1, $2)"
							" ON CONFLICT (tbl) DO UPDATE SET revs_limit = EXCLUDED.revs_limit",
							2, types, values, NULL, false, 0);
	docrep_internal_end(&sql);
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
