/*-------------------------------------------------------------------------
 *
 * table_ddl.c
 *		Making document tables, and keeping companions with them.
 *
 * The companions live in docrep_data, where only docrep creates; they belong
 * to the table's owner and depend on the table (AUTO), so that they go with
 * it.  pg_dump knows neither the dependency nor, with -t, the companions: the
 * event trigger on_ddl_end makes both again when the tracking trigger is
 * created, and keeps the owners in step.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/relation.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/dependency.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_depend.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type.h"
#include "commands/event_trigger.h"
#include "commands/extension.h"
#include "compat.h"
#include "executor/spi.h"
#include "executor/tuptable.h"
#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "store/companion.h"
#include "store/epochs.h"
#include "store/errcodes.h"
#include "store/internal_sql.h"
#include "store/preload.h"
#include "store/seqs.h"
#include "store/sql_support.h"
#include "store/table.h"
#include "store/table_ddl.h"
#include "store/table_settings.h"
#include "tcop/utility.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/varlena.h"

static const char *const companion_kinds[] = {"dead", "leaf", "att", "seq", "rev"};

#define NCOMPANIONS ((int) lengthof(companion_kinds))

/* ---------- statements ---------- */

static void
execute(const char *command)
{
	int			rc = SPI_execute(command, false, 0);

	if (rc < 0)
		elog(ERROR, "could not execute \"%s\": %s", command, SPI_result_code_string(rc));
}

static char *
uuid_text(const pg_uuid_t *uuid)
{
	return DatumGetCString(DirectFunctionCall1(uuid_out, UUIDPGetDatum(uuid)));
}

static char *
companion_qualified(const char *kind, const pg_uuid_t *uuid)
{
	return psprintf("docrep_data.%s", docrep_companion_name(kind, uuid));
}

/* ---------- dependencies ---------- */

Oid
docrep_companion_table(Oid companion)
{
	Relation	rel = table_open(DependRelationId, AccessShareLock);
	ScanKeyData keys[2];
	SysScanDesc scan;
	HeapTuple	tuple;
	Oid			result = InvalidOid;

	ScanKeyInit(&keys[0], Anum_pg_depend_classid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(RelationRelationId));
	ScanKeyInit(&keys[1], Anum_pg_depend_objid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(companion));
	scan = systable_beginscan(rel, DependDependerIndexId, true, NULL, 2, keys);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_depend dep = (Form_pg_depend) GETSTRUCT(tuple);

		if (dep->objsubid != 0 || dep->refclassid != RelationRelationId ||
			dep->deptype != DEPENDENCY_AUTO)
			continue;
		/* the sequence is owned by a column of dead_<uuid> */
		result = dep->refobjsubid != 0 ? docrep_companion_table(dep->refobjid) : dep->refobjid;
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return result;
}

static void
depend_on_table(Oid companion, Oid relid)
{
	ObjectAddress depender;
	ObjectAddress referenced;

	ObjectAddressSet(depender, RelationRelationId, companion);
	ObjectAddressSet(referenced, RelationRelationId, relid);
	recordDependencyOn(&depender, &referenced, DEPENDENCY_AUTO);
}

/* ---------- companions ---------- */

static void
create_companions(const pg_uuid_t *uuid)
{
	char	   *dead = companion_qualified("dead", uuid);
	char	   *leaf = companion_qualified("leaf", uuid);
	char	   *att = companion_qualified("att", uuid);
	char	   *rev = companion_qualified("rev", uuid);

	execute(psprintf("CREATE TABLE %s (_id text COLLATE \"C\" PRIMARY KEY, doc jsonb,"
					 " _rev docrep.rev NOT NULL, _seq bigint NOT NULL UNIQUE,"
					 " _modified timestamptz NOT NULL, _tree docrep.revtree, _trunk bytea,"
					 " _attachments jsonb, _origin uuid)", dead));
	execute(psprintf("ALTER TABLE %s ALTER _trunk SET STORAGE EXTERNAL", dead));
	execute(psprintf("CREATE TABLE %s (_id text COLLATE \"C\" NOT NULL, rev docrep.rev NOT NULL,"
					 " doc jsonb, deleted boolean NOT NULL, modified timestamptz NOT NULL,"
					 " _attachments jsonb, _origin uuid, merged boolean NOT NULL DEFAULT false,"
					 " PRIMARY KEY (_id, rev))", leaf));
	execute(psprintf("CREATE INDEX ON %s (_id) WHERE NOT deleted AND NOT merged", leaf));

	/*
	 * A part fills a page, so it is never compressed nor moved out.  The columns
	 * come in one go with their storage, so that no TOAST table is made.
	 */
	execute(psprintf("CREATE TABLE %s (file bigint NOT NULL, part int NOT NULL,"
					 " PRIMARY KEY (file, part))", att));
	execute(psprintf("ALTER TABLE %s ADD sha256 bytea, ADD length bigint, ADD md5 bytea,"
					 " ADD at timestamptz, ADD data bytea, ALTER sha256 SET STORAGE PLAIN,"
					 " ALTER md5 SET STORAGE PLAIN, ALTER data SET STORAGE PLAIN", att));
	execute(psprintf("CREATE UNIQUE INDEX ON %s (sha256) WHERE sha256 IS NOT NULL", att));

	execute(psprintf("CREATE TABLE %s (_id text COLLATE \"C\" NOT NULL, seq bigint NOT NULL,"
					 " rev docrep.rev NOT NULL, doc jsonb, deleted boolean NOT NULL,"
					 " modified timestamptz NOT NULL, replaced_at timestamptz NOT NULL,"
					 " kept_seq bigint NOT NULL, kind \"char\" NOT NULL, origin uuid,"
					 " _attachments jsonb, PRIMARY KEY (_id, seq, rev))", rev));
	execute(psprintf("CREATE INDEX ON %s (kept_seq)", rev));
	execute(psprintf("CREATE INDEX ON %s (seq)", rev));

	/* to pg_dump and ALTER OWNER a sequence that depends on a table is a column's: so be it */
	execute(psprintf("CREATE SEQUENCE %s INCREMENT BY 128 OWNED BY %s._seq",
					 companion_qualified("seq", uuid), dead));
}

/*
 * The highest number in the table, 0 for none.  Below SQL: a query on a user's
 * table would be planned with its indexes, and constant expressions and
 * predicates of those are evaluated by the planner.
 */
static int64
highest_seq(Relation rel, AttrNumber a_seq)
{
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	TableScanDesc scan = table_beginscan(rel, snapshot, 0, NULL);
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	int64		highest = 0;

	while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		bool		isnull;
		int64		seq = DatumGetInt64(slot_getattr(slot, a_seq, &isnull));

		CHECK_FOR_INTERRUPTS();
		if (!isnull && seq > highest)
			highest = seq;
	}
	ExecDropSingleTupleTableSlot(slot);
	table_endscan(scan);
	UnregisterSnapshot(snapshot);
	return highest;
}

/*
 * As the extension's owner: a table that was restored without its companions
 * (pg_dump -t) has numbers already; new ones come after them.
 */
static void
start_sequence(const pg_uuid_t *uuid, int64 highest)
{
	if (highest > 0)
		execute(psprintf("SELECT pg_catalog.setval('%s', " INT64_FORMAT ", false)",
						 companion_qualified("seq", uuid), highest + 1));
}

/* As the extension's owner: give the companions to the table's owner; the sequence goes along. */
static void
set_companion_owners(const pg_uuid_t *uuid, Oid owner)
{
	const char *role = quote_identifier(GetUserNameFromId(owner, false));

	execute(psprintf("ALTER TABLE %s OWNER TO %s", companion_qualified("dead", uuid), role));
	execute(psprintf("ALTER TABLE %s OWNER TO %s", companion_qualified("leaf", uuid), role));
	execute(psprintf("ALTER TABLE %s OWNER TO %s", companion_qualified("att", uuid), role));
	execute(psprintf("ALTER TABLE %s OWNER TO %s", companion_qualified("rev", uuid), role));
}

static void
identity_taken(Relation rel, const pg_uuid_t *uuid)
{
	ereport(ERROR,
			(errcode(ERRCODE_DOCREP_PRECONDITION_FAILED),
			 errmsg("\"%s\" cannot be the document table %s: that is another table",
					RelationGetRelationName(rel), uuid_text(uuid)),
			 errhint("Two tables cannot have one identity. Create one with docrep.create_table() and copy the documents.")));
}

static Oid
table_owner(Oid relid)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	Oid			owner;

	if (!HeapTupleIsValid(tuple))
		return InvalidOid;
	owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
	ReleaseSysCache(tuple);
	return owner;
}

/*
 * See that a table with a tracking trigger has its companions, that they
 * depend on it and have its owner.  Somebody who gives a trigger the uuid of
 * another table must not get at its companions.
 */
static void
ensure_companions(Relation rel, const pg_uuid_t *uuid)
{
	Oid			relid = RelationGetRelid(rel);
	Oid			owner = rel->rd_rel->relowner;
	Oid			nsp = get_namespace_oid("docrep_data", false);
	Oid			oids[NCOMPANIONS];
	int			have = 0;
	bool		owners_differ = false;
	int64		highest = 0;
	DocTableInfo info;
	InternalSql sql;

	docrep_table_check_columns(rel, &info);

	for (int i = 0; i < NCOMPANIONS; i++)
	{
		oids[i] = get_relname_relid(docrep_companion_name(companion_kinds[i], uuid), nsp);
		if (!OidIsValid(oids[i]))
			continue;
		have++;
		if (OidIsValid(docrep_companion_table(oids[i])))
		{
			if (docrep_companion_table(oids[i]) != relid)
				identity_taken(rel, uuid);
		}
		else if (table_owner(oids[i]) != owner && !superuser())
			identity_taken(rel, uuid);
		owners_differ |= table_owner(oids[i]) != owner;
	}
	if (have == NCOMPANIONS && !owners_differ && docrep_companion_table(oids[0]) == relid)
		return;
	if (have != 0 && have != NCOMPANIONS)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("document table \"%s\" has lost a companion in schema docrep_data",
						RelationGetRelationName(rel))));

	if (have == 0)
		highest = highest_seq(rel, info.a_seq);
	docrep_internal_begin(&sql);
	if (have == 0)
	{
		/* where the caller may perhaps not create anything */
		(void) set_config_option("default_tablespace", "", PGC_USERSET, PGC_S_SESSION,
								 GUC_ACTION_SAVE, true, 0, false);
		(void) set_config_option("default_table_access_method", "heap", PGC_USERSET, PGC_S_SESSION,
								 GUC_ACTION_SAVE, true, 0, false);
		create_companions(uuid);
		start_sequence(uuid, highest);
	}
	if (have == 0 || owners_differ)
		set_companion_owners(uuid, owner);
	docrep_internal_end(&sql);

	CommandCounterIncrement();
	for (int i = 0; i < NCOMPANIONS; i++)
	{
		oids[i] = get_relname_relid(docrep_companion_name(companion_kinds[i], uuid), nsp);
		if (get_rel_relkind(oids[i]) == RELKIND_RELATION &&
			docrep_companion_table(oids[i]) != relid)
			depend_on_table(oids[i], relid);
	}
	CacheInvalidateRelcacheByRelid(relid);
}

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
		ensure_companions(rel, &uuid);
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
		execute(command);
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
				execute(psprintf("DELETE FROM docrep.%s WHERE tbl = '%s'", tables[t], uuid));
		}
		docrep_internal_end(&sql);
	}
	SPI_finish();
	PG_RETURN_NULL();
}

/* ---------- create and drop ---------- */

static void
create_main_table(const char *qualified, const pg_uuid_t *uuid)
{
	char	   *id = uuid_text(uuid);

	execute(psprintf("CREATE TABLE %s (_id text COLLATE \"C\" PRIMARY KEY, doc jsonb NOT NULL,"
					 " _rev docrep.rev NOT NULL, _seq bigint NOT NULL UNIQUE,"
					 " _modified timestamptz NOT NULL, _tree docrep.revtree, _trunk bytea,"
					 " _attachments jsonb, _origin uuid)",
					 qualified));
	execute(psprintf("ALTER TABLE %s ALTER _trunk SET STORAGE EXTERNAL", qualified));
	execute(psprintf("CREATE TRIGGER \"" DOCREP_TRACK_TRIGGER "\" BEFORE INSERT OR UPDATE OR DELETE"
					 " ON %s FOR EACH ROW EXECUTE FUNCTION docrep.track_change('%s')",
					 qualified, id));
	execute(psprintf("CREATE TRIGGER \"~docrep_settle_insert\" AFTER INSERT ON %s FOR EACH ROW"
					 " WHEN (docrep.insert_unsettled(NEW.tableoid, NEW._id, NEW._rev))"
					 " EXECUTE FUNCTION docrep.settle_insert()", qualified));
	execute(psprintf("CREATE TRIGGER \"~docrep_settle_rename\" AFTER UPDATE ON %s FOR EACH ROW"
					 " WHEN (OLD._id OPERATOR(pg_catalog.<>) NEW._id)"
					 " EXECUTE FUNCTION docrep.settle_insert()", qualified));
	execute(psprintf("CREATE TRIGGER \"~docrep_settle_delete\" AFTER DELETE ON %s FOR EACH ROW"
					 " WHEN (docrep.delete_unsettled(OLD.tableoid, OLD._id, OLD._tree))"
					 " EXECUTE FUNCTION docrep.settle_delete()", qualified));
	execute(psprintf("CREATE TRIGGER \"~docrep_refuse_truncate\" BEFORE TRUNCATE ON %s"
					 " FOR EACH STATEMENT EXECUTE FUNCTION docrep.refuse_truncate()", qualified));
	execute(psprintf("ALTER TABLE %s ENABLE ALWAYS TRIGGER \"" DOCREP_TRACK_TRIGGER "\","
					 " ENABLE ALWAYS TRIGGER \"~docrep_settle_insert\","
					 " ENABLE ALWAYS TRIGGER \"~docrep_settle_rename\","
					 " ENABLE ALWAYS TRIGGER \"~docrep_settle_delete\","
					 " ENABLE ALWAYS TRIGGER \"~docrep_refuse_truncate\"", qualified));
	execute(psprintf("COMMENT ON TABLE %s IS 'docrep document table %s'", qualified, id));
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
	ensure_companions(rel, &uuid);
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
	execute(psprintf("DROP TABLE %s", qualified));
	SPI_finish();
	PG_RETURN_VOID();
}
