/*-------------------------------------------------------------------------
 *
 * table_ddl.c
 *		Creating and dropping document tables.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "commands/extension.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "nodes/makefuncs.h"
#include "store/companion.h"
#include "store/epochs.h"
#include "store/errcodes.h"
#include "store/preload.h"
#include "store/seqs.h"
#include "store/sql_support.h"
#include "store/table.h"
#include "store/table_ddl.h"
#include "store/table_settings.h"
#include "compat.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/varlena.h"

void
docrep_ddl_execute(const char *command)
{
	int			rc = SPI_execute(command, false, 0);

	if (rc < 0)
		elog(ERROR, "could not execute \"%s\": %s", command, SPI_result_code_string(rc));
}

static void
create_main_table(const char *qualified, const pg_uuid_t *uuid)
{
	char	   *id = DatumGetCString(DirectFunctionCall1(uuid_out, UUIDPGetDatum(uuid)));

	docrep_ddl_execute(psprintf("CREATE TABLE %s (_id text COLLATE \"C\" PRIMARY KEY, doc jsonb NOT NULL,"
								" _rev docrep.rev NOT NULL, _seq bigint NOT NULL UNIQUE,"
								" _modified timestamptz NOT NULL, _tree docrep.revtree, _trunk bytea,"
								" _attachments jsonb, _origin uuid)",
								qualified));
	docrep_ddl_execute(psprintf("ALTER TABLE %s ALTER _trunk SET STORAGE EXTERNAL", qualified));
	docrep_ddl_execute(psprintf("CREATE TRIGGER \"" DOCREP_TRACK_TRIGGER "\" BEFORE INSERT OR UPDATE OR DELETE"
								" ON %s FOR EACH ROW EXECUTE FUNCTION docrep.track_change('%s')",
								qualified, id));
	docrep_ddl_execute(psprintf("CREATE TRIGGER \"~docrep_settle_insert\" AFTER INSERT ON %s FOR EACH ROW"
								" WHEN (docrep.insert_unsettled(NEW.tableoid, NEW._id, NEW._rev))"
								" EXECUTE FUNCTION docrep.settle_insert()", qualified));
	docrep_ddl_execute(psprintf("CREATE TRIGGER \"~docrep_settle_rename\" AFTER UPDATE ON %s FOR EACH ROW"
								" WHEN (OLD._id OPERATOR(pg_catalog.<>) NEW._id)"
								" EXECUTE FUNCTION docrep.settle_insert()", qualified));
	docrep_ddl_execute(psprintf("CREATE TRIGGER \"~docrep_settle_delete\" AFTER DELETE ON %s FOR EACH ROW"
								" WHEN (docrep.delete_unsettled(OLD.tableoid, OLD._id, OLD._tree))"
								" EXECUTE FUNCTION docrep.settle_delete()", qualified));
	docrep_ddl_execute(psprintf("CREATE TRIGGER \"~docrep_refuse_truncate\" BEFORE TRUNCATE ON %s"
								" FOR EACH STATEMENT EXECUTE FUNCTION docrep.refuse_truncate()", qualified));
	docrep_ddl_execute(psprintf("ALTER TABLE %s ENABLE ALWAYS TRIGGER \"" DOCREP_TRACK_TRIGGER "\","
								" ENABLE ALWAYS TRIGGER \"~docrep_settle_insert\","
								" ENABLE ALWAYS TRIGGER \"~docrep_settle_rename\","
								" ENABLE ALWAYS TRIGGER \"~docrep_settle_delete\","
								" ENABLE ALWAYS TRIGGER \"~docrep_refuse_truncate\"", qualified));
	docrep_ddl_execute(psprintf("COMMENT ON TABLE %s IS 'docrep document table %s'", qualified, id));
}

Oid
docrep_table_create(const char *name, int revs_limit)
{
	List	   *names;
	RangeVar   *range;
	Oid			nsp;
	Oid			relid;
	char	   *qualified;
	pg_uuid_t	uuid;
	Relation	rel;
	DocTableInfo info = {0};

	/* the install script's own needs no shared memory yet, and a restore may run without it */
	if (!creating_extension)
		docrep_require_preload();
	if (GetDatabaseEncoding() != PG_UTF8)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("document tables need a database with encoding UTF8")));
	names = docrep_name_list(name);
	range = makeRangeVarFromNameList(names);
	nsp = RangeVarGetCreationNamespace(range);
	if (isAnyTempNamespace(nsp))
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_BAD_REQUEST),
				 errmsg("a document table cannot be temporary"),
				 errdetail("Replication happens in other sessions, which cannot see it.")));
	if (OidIsValid(get_relname_relid(range->relname, nsp)))
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_PRECONDITION_FAILED),
				 errmsg("relation \"%s\" already exists", range->relname)));
	uuid = *DatumGetUUIDP(OidFunctionCall0(F_GEN_RANDOM_UUID));
	qualified = quote_qualified_identifier(get_namespace_name(nsp), range->relname);

	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	create_main_table(qualified, &uuid);
	SPI_finish();

	relid = get_relname_relid(range->relname, nsp);
	rel = table_open(relid, AccessShareLock);
	docrep_companions_ensure(rel, &uuid);
	table_close(rel, NoLock);

	/* else the first writer would do it, and all others wait for that one to commit */
	CommandCounterIncrement();
	info.uuid = uuid;
	(void) docrep_epoch_ensure(&info, DOCREP_FIRST_SEQ);
	if (revs_limit != DOCREP_DEFAULT_REVS_LIMIT)
		docrep_write_revs_limit(&uuid, revs_limit);
	return relid;
}

PG_FUNCTION_INFO_V1(docrep_create_table);

/* docrep.create_table(name text, revs_limit int) returns regclass */
Datum
docrep_create_table(PG_FUNCTION_ARGS)
{
	PG_RETURN_OID(docrep_table_create(docrep_arg_id(fcinfo, 0, "name"),
									  docrep_arg_int32(fcinfo, 1, "revs_limit")));
}

PG_FUNCTION_INFO_V1(docrep_drop_table);

/* docrep.drop_table(tbl regclass): as DROP TABLE by the caller. */
Datum
docrep_drop_table(PG_FUNCTION_ARGS)
{
	DocTable   *table = docrep_table_open(docrep_arg_table(fcinfo, 0), AccessShareLock, 0);
	char	   *qualified;

	docrep_table_check_owner(table);
	qualified = quote_qualified_identifier(get_namespace_name(RelationGetNamespace(table->rel)),
										   RelationGetRelationName(table->rel));
	docrep_table_close(table, AccessShareLock);
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	docrep_ddl_execute(psprintf("DROP TABLE %s", qualified));
	SPI_finish();
	PG_RETURN_VOID();
}
