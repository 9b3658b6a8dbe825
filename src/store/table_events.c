/*-------------------------------------------------------------------------
 *
 * table_events.c
 *		What follows from DDL on document tables: the event triggers.
 *
 * pg_dump knows neither that companions depend on their table nor, with -t, the
 * companions: on_ddl_end makes both again when the tracking trigger is created, and
 * keeps the owners in step.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/relation.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/dependency.h"
#include "catalog/indexing.h"
#include "catalog/pg_class.h"
#include "catalog/pg_depend.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_trigger.h"
#include "commands/event_trigger.h"
#include "commands/extension.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "store/companion.h"
#include "store/errcodes.h"
#include "store/internal_sql.h"
#include "store/seqs.h"
#include "store/table_ddl.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

/* ---------- columns and triggers of the table ---------- */

/* Does the column depend on the extension? */
static bool
column_depends(Oid relid, AttrNumber attno, Oid extension)
{
	Relation	rel = table_open(DependRelationId, AccessShareLock);
	ScanKeyData keys[3];
	SysScanDesc scan;
	HeapTuple	tuple;
	bool		result = false;

	ScanKeyInit(&keys[0], Anum_pg_depend_classid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(RelationRelationId));
	ScanKeyInit(&keys[1], Anum_pg_depend_objid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(relid));
	ScanKeyInit(&keys[2], Anum_pg_depend_objsubid, BTEqualStrategyNumber, F_INT4EQ,
				Int32GetDatum(attno));
	scan = systable_beginscan(rel, DependDependerIndexId, true, NULL, 3, keys);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_depend dep = (Form_pg_depend) GETSTRUCT(tuple);

		result |= dep->refclassid == ExtensionRelationId && dep->refobjid == extension;
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return result;
}

/*
 * Let the bookkeeping columns of ordinary types depend on the extension, as
 * those of its own types do: DROP EXTENSION CASCADE leaves (_id, doc).
 */
static void
ensure_column_dependencies(Relation rel)
{
	static const char *const columns[] = {"_seq", "_modified", "_trunk", "_attachments", "_origin"};
	Oid			extension = get_extension_oid("docrep", false);

	for (size_t i = 0; i < lengthof(columns); i++)
	{
		AttrNumber	attno = get_attnum(RelationGetRelid(rel), columns[i]);
		ObjectAddress depender;
		ObjectAddress referenced;

		if (attno == InvalidAttrNumber || column_depends(RelationGetRelid(rel), attno, extension))
			continue;
		ObjectAddressSubSet(depender, RelationRelationId, RelationGetRelid(rel), attno);
		ObjectAddressSet(referenced, ExtensionRelationId, extension);
		recordDependencyOn(&depender, &referenced, DEPENDENCY_NORMAL);
	}
}

/*
 * ENABLE TRIGGER ALL turns our triggers from ALWAYS into ones that
 * session_replication_role = replica passes over.  The statement that turns
 * them back, or NULL.  Disabled ones are left alone: somebody, such as
 * pg_restore, wants it so.
 */
static char *
turn_triggers_back(Relation rel)
{
	TriggerDesc *desc = rel->trigdesc;
	StringInfoData command;
	bool		any = false;

	initStringInfo(&command);
	appendStringInfo(&command, "ALTER TABLE %s",
					 quote_qualified_identifier(get_namespace_name(RelationGetNamespace(rel)),
												RelationGetRelationName(rel)));
	for (int i = 0; i < desc->numtriggers; i++)
	{
		Trigger    *trigger = &desc->triggers[i];

		if (strncmp(trigger->tgname, "~docrep_", 8) != 0 ||
			trigger->tgenabled == TRIGGER_FIRES_ALWAYS || trigger->tgenabled == TRIGGER_DISABLED)
			continue;
		appendStringInfo(&command, "%s ENABLE ALWAYS TRIGGER %s", any ? "," : "",
						 quote_identifier(trigger->tgname));
		any = true;
	}
	return any ? command.data : NULL;
}

/* ---------- event triggers ---------- */

/*
 * Refuse a document table that a crash would empty: tombstones, losing leaves and
 * checkpoints would stay, so replication would not bring the documents back.
 */
static void
refuse_unlogged(Relation rel)
{
	if (rel->rd_rel->relpersistence == RELPERSISTENCE_UNLOGGED)
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_BAD_REQUEST),
				 errmsg("a document table cannot be unlogged"),
				 errdetail("A crash would empty \"%s\", but not what is kept of its documents beside it.",
						   RelationGetRelationName(rel))));
}

/*
 * A relation that DDL has touched: if it is a document table, look after it.
 * SPI is connected.
 */
static void
look_after(Oid relid)
{
	Relation	rel = try_relation_open(relid, AccessShareLock);
	pg_uuid_t	uuid;
	bool		ours;
	char	   *command;

	if (rel == NULL)
		return;
	ours = rel->rd_rel->relkind == RELKIND_RELATION && docrep_table_uuid(rel, &uuid);
	if (ours)
	{
		refuse_unlogged(rel);
		docrep_companions_ensure(rel, &uuid);
		ensure_column_dependencies(rel);
	}
	relation_close(rel, NoLock);
	if (!ours)
		return;

	/* open again: what the statement has done to the triggers is now visible */
	CommandCounterIncrement();
	rel = relation_open(relid, NoLock);
	command = turn_triggers_back(rel);
	relation_close(rel, NoLock);
	if (command)
		docrep_ddl_execute(command);
}

static Oid
trigger_relation(Oid trigger)
{
	Relation	rel = table_open(TriggerRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;
	Oid			result = InvalidOid;

	ScanKeyInit(&key, Anum_pg_trigger_oid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(trigger));
	scan = systable_beginscan(rel, TriggerOidIndexId, true, NULL, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
		result = ((Form_pg_trigger) GETSTRUCT(tuple))->tgrelid;
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return result;
}

PG_FUNCTION_INFO_V1(docrep_on_ddl_end);

/* Event trigger ddl_command_end, for CREATE TRIGGER and ALTER TABLE. */
Datum
docrep_on_ddl_end(PG_FUNCTION_ARGS)
{
	SPITupleTable *rows;
	uint64		n;

	if (!CALLED_AS_EVENT_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_EVENT_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("docrep.on_ddl_end is an event trigger")));
	if (creating_extension)
		PG_RETURN_NULL();
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	if (SPI_execute("SELECT classid, objid FROM pg_catalog.pg_event_trigger_ddl_commands()",
					true, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read what DDL has done");
	rows = SPI_tuptable;
	n = SPI_processed;
	for (uint64 i = 0; i < n; i++)
	{
		bool		isnull;
		Oid			classid = DatumGetObjectId(SPI_getbinval(rows->vals[i], rows->tupdesc, 1, &isnull));
		Oid			objid = DatumGetObjectId(SPI_getbinval(rows->vals[i], rows->tupdesc, 2, &isnull));

		if (classid == TriggerRelationId)
			objid = trigger_relation(objid);
		else if (classid != RelationRelationId)
			continue;
		if (OidIsValid(objid))
			look_after(objid);
	}
	SPI_finish();
	PG_RETURN_NULL();
}

/* The 32 hex digits in the name of a table of tombstones; NULL: it is none. */
static const char *
uuid_of_tombstones(const char *name)
{
	if (name == NULL || strncmp(name, "dead_", 5) != 0 || strlen(name) != 5 + 2 * UUID_LEN ||
		strspn(name + 5, "0123456789abcdef") != 2 * UUID_LEN)
		return NULL;
	return name + 5;
}

PG_FUNCTION_INFO_V1(docrep_on_drop);

/* Event trigger sql_drop: rows kept by a dropped table's uuid go with it. */
Datum
docrep_on_drop(PG_FUNCTION_ARGS)
{
	static const char *const tables[] = {"local_docs", "epochs", "table_settings", "rejected",
		"resolutions", "version_holds", "revision_cleaning", "table_jobs"};
	InternalSql sql;

	if (!CALLED_AS_EVENT_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_EVENT_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("docrep.on_drop is an event trigger")));
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	/* in the caller's search_path, and what comes of it is not taken on trust */
	if (SPI_execute("SELECT object_name FROM pg_catalog.pg_event_trigger_dropped_objects()"
					" WHERE schema_name OPERATOR(pg_catalog.=) 'docrep_data'"
					" AND object_type OPERATOR(pg_catalog.=) 'table'", true, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read what was dropped");
	if (SPI_processed > 0)
	{
		SPITupleTable *rows = SPI_tuptable;
		uint64		n = SPI_processed;

		docrep_internal_begin(&sql);
		for (uint64 i = 0; i < n; i++)
		{
			const char *uuid = uuid_of_tombstones(SPI_getvalue(rows->vals[i], rows->tupdesc, 1));

			if (uuid == NULL)
				continue;
			docrep_seq_dropped(DatumGetUUIDP(DirectFunctionCall1(uuid_in, CStringGetDatum(uuid))));
			for (size_t t = 0; t < lengthof(tables); t++)
				docrep_ddl_execute(psprintf("DELETE FROM docrep.%s WHERE tbl = '%s'", tables[t], uuid));
		}
		docrep_internal_end(&sql);
	}
	SPI_finish();
	PG_RETURN_NULL();
}
