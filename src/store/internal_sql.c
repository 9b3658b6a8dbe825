/*-------------------------------------------------------------------------
 *
 * internal_sql.c
 *		Running fixed statements on docrep's own tables.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/indexing.h"
#include "catalog/pg_extension.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "store/errcodes.h"
#include "store/internal_sql.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"

Oid
docrep_extension_owner(void)
{
	Oid			extension = get_extension_oid("docrep", false);
	Relation	rel = table_open(ExtensionRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;
	Oid			owner = InvalidOid;

	ScanKeyInit(&key, Anum_pg_extension_oid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(extension));
	scan = systable_beginscan(rel, ExtensionOidIndexId, true, NULL, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
		owner = ((Form_pg_extension) GETSTRUCT(tuple))->extowner;
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	if (!OidIsValid(owner))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("extension \"docrep\" is not installed in this database"),
				 errhint("CREATE EXTENSION docrep;")));
	return owner;
}

void
docrep_internal_begin(InternalSql *sql)
{
	Oid			owner = docrep_extension_owner();

	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	GetUserIdAndSecContext(&sql->saved_user, &sql->saved_context);
	sql->guc_level = NewGUCNestLevel();
	/* pg_temp, if not named, would be searched first for types: a domain could run code */
	(void) set_config_option("search_path", "pg_catalog, pg_temp", PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	SetUserIdAndSecContext(owner, sql->saved_context | SECURITY_LOCAL_USERID_CHANGE |
						   SECURITY_NOFORCE_RLS);
}

void
docrep_internal_end(InternalSql *sql)
{
	SetUserIdAndSecContext(sql->saved_user, sql->saved_context);
	AtEOXact_GUC(true, sql->guc_level);
	SPI_finish();
}

int
docrep_internal_execute(SPIPlanPtr *plan, const char *command, int nargs,
						Oid *types, Datum *values, const char *nulls,
						bool read_only, long count)
{
	int			rc;

	if (*plan == NULL)
	{
		SPIPlanPtr	made = SPI_prepare(command, nargs, types);

		if (made == NULL || SPI_keepplan(made) != 0)
			elog(ERROR, "could not prepare \"%s\": %s", command,
				 SPI_result_code_string(SPI_result));
		*plan = made;
	}
	rc = SPI_execute_plan(*plan, values, nulls, read_only, count);
	if (rc < 0)
		elog(ERROR, "could not execute \"%s\": %s", command, SPI_result_code_string(rc));
	return rc;
}
