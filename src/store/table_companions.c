/*-------------------------------------------------------------------------
 *
 * table_companions.c
 *		Making companions, and keeping them with their document tables.
 *
 * The companions live in docrep_data, where only docrep creates; they belong
 * to the table's owner and depend on the table (AUTO), so that they go with
 * it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/dependency.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_depend.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "store/companion.h"
#include "store/errcodes.h"
#include "store/internal_sql.h"
#include "store/table_ddl.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

static const char *const companion_kinds[] = {"dead", "leaf", "att", "seq", "rev"};

#define NCOMPANIONS ((int) lengthof(companion_kinds))

static char *
companion_qualified(const char *kind, const pg_uuid_t *uuid)
{
	return psprintf("docrep_data.%s", docrep_companion_name(kind, uuid));
}

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

static void
create_companions(const pg_uuid_t *uuid)
{
	char	   *dead = companion_qualified("dead", uuid);
	char	   *leaf = companion_qualified("leaf", uuid);
	char	   *att = companion_qualified("att", uuid);
	char	   *rev = companion_qualified("rev", uuid);

	docrep_ddl_execute(psprintf("CREATE TABLE %s (_id text COLLATE \"C\" PRIMARY KEY, doc jsonb,"
								" _rev docrep.rev NOT NULL, _seq bigint NOT NULL UNIQUE,"
								" _modified timestamptz NOT NULL, _tree docrep.revtree, _trunk bytea,"
								" _attachments jsonb, _origin uuid)", dead));
	docrep_ddl_execute(psprintf("ALTER TABLE %s ALTER _trunk SET STORAGE EXTERNAL", dead));
	docrep_ddl_execute(psprintf("CREATE TABLE %s (_id text COLLATE \"C\" NOT NULL, rev docrep.rev NOT NULL,"
								" doc jsonb, deleted boolean NOT NULL, modified timestamptz NOT NULL,"
								" _attachments jsonb, _origin uuid, merged boolean NOT NULL DEFAULT false,"
								" PRIMARY KEY (_id, rev))", leaf));
	docrep_ddl_execute(psprintf("CREATE INDEX ON %s (_id) WHERE NOT deleted AND NOT merged", leaf));

	/*
	 * A part fills a page, so it is never compressed nor moved out.  The columns
	 * come in one go with their storage, so that no TOAST table is made.
	 */
	docrep_ddl_execute(psprintf("CREATE TABLE %s (file bigint NOT NULL, part int NOT NULL,"
								" PRIMARY KEY (file, part))", att));
	docrep_ddl_execute(psprintf("ALTER TABLE %s ADD sha256 bytea, ADD length bigint, ADD md5 bytea,"
								" ADD at timestamptz, ADD data bytea, ALTER sha256 SET STORAGE PLAIN,"
								" ALTER md5 SET STORAGE PLAIN, ALTER data SET STORAGE PLAIN", att));
	docrep_ddl_execute(psprintf("CREATE UNIQUE INDEX ON %s (sha256) WHERE sha256 IS NOT NULL", att));

	docrep_ddl_execute(psprintf("CREATE TABLE %s (_id text COLLATE \"C\" NOT NULL, seq bigint NOT NULL,"
								" rev docrep.rev NOT NULL, doc jsonb, deleted boolean NOT NULL,"
								" modified timestamptz NOT NULL, replaced_at timestamptz NOT NULL,"
								" kept_seq bigint NOT NULL, kind \"char\" NOT NULL, origin uuid,"
								" _attachments jsonb, led_to docrep.revtree, PRIMARY KEY (_id, seq, rev))", rev));
	docrep_ddl_execute(psprintf("CREATE INDEX ON %s (kept_seq)", rev));
	docrep_ddl_execute(psprintf("CREATE INDEX ON %s (seq)", rev));

	/* to pg_dump and ALTER OWNER a sequence that depends on a table is a column's: so be it */
	docrep_ddl_execute(psprintf("CREATE SEQUENCE %s INCREMENT BY 128 OWNED BY %s._seq",
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
		docrep_ddl_execute(psprintf("SELECT pg_catalog.setval('%s', " INT64_FORMAT ", false)",
									companion_qualified("seq", uuid), highest + 1));
}

/* As the extension's owner: give the companions to the table's owner; the sequence goes along. */
static void
set_companion_owners(const pg_uuid_t *uuid, Oid owner)
{
	const char *role = quote_identifier(GetUserNameFromId(owner, false));

	docrep_ddl_execute(psprintf("ALTER TABLE %s OWNER TO %s", companion_qualified("dead", uuid), role));
	docrep_ddl_execute(psprintf("ALTER TABLE %s OWNER TO %s", companion_qualified("leaf", uuid), role));
	docrep_ddl_execute(psprintf("ALTER TABLE %s OWNER TO %s", companion_qualified("att", uuid), role));
	docrep_ddl_execute(psprintf("ALTER TABLE %s OWNER TO %s", companion_qualified("rev", uuid), role));
}

static void
identity_taken(Relation rel, const pg_uuid_t *uuid)
{
	ereport(ERROR,
			(errcode(ERRCODE_DOCREP_PRECONDITION_FAILED),
			 errmsg("\"%s\" cannot be the document table %s: that is another table",
					RelationGetRelationName(rel), DatumGetCString(DirectFunctionCall1(uuid_out, UUIDPGetDatum(uuid)))),
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

void
docrep_companions_ensure(Relation rel, const pg_uuid_t *uuid)
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
