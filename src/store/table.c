/*-------------------------------------------------------------------------
 *
 * table.c
 *		Document tables: opening one, by oid, name or uuid, and the privileges on it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/table.h"
#include "catalog/namespace.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "store/companion.h"
#include "store/errcodes.h"
#include "store/preload.h"
#include "store/table_ddl.h"
#include "store/table_internal.h"
#include "compat.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rls.h"
#include "utils/varlena.h"

static void
not_a_document_table(Oid relid)
{
	const char *name = get_rel_name(relid);

	if (name == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("relation with OID %u does not exist", relid)));
	ereport(ERROR,
			(errcode(ERRCODE_DOCREP_NOT_FOUND),
			 errmsg("\"%s\" is not a document table", name),
			 errhint("SELECT docrep.create_table('name') makes one.")));
}

/* pg_class_aclcheck is content with any of several privileges: we want all. */
static void
check_privileges(Relation rel, AclMode needed)
{
	AclMode		held;

	if (needed == 0)
		return;
	held = pg_class_aclmask(RelationGetRelid(rel), GetUserId(), needed, ACLMASK_ALL);
	if ((held & needed) != needed)
		aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_TABLE, RelationGetRelationName(rel));
}

void
docrep_table_check_owner(DocTable *table)
{
	if (!docrep_is_owner(table->info.relid))
		aclcheck_error(ACLCHECK_NOT_OWNER, OBJECT_TABLE, RelationGetRelationName(table->rel));
}

void
docrep_table_check(DocTable *table, AclMode needed)
{
	check_privileges(table->rel, needed);
}

void
docrep_table_check_any(DocTable *table, AclMode any)
{
	if (pg_class_aclmask(table->info.relid, GetUserId(), any, ACLMASK_ANY) == 0)
		aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_TABLE, RelationGetRelationName(table->rel));
}

/* Describe a relation that is open already (a trigger's). */
DocTable *
docrep_table_attach(Relation rel)
{
	const DocTableInfo *info = docrep_table_info(rel);
	DocTable   *table;

	if (info == NULL)
		not_a_document_table(RelationGetRelid(rel));
	table = palloc0(sizeof(DocTable));
	table->info = *info;
	table->rel = rel;
	table->lockmode = NoLock;
	return table;
}

DocTable *
docrep_table_open(Oid relid, LOCKMODE lockmode, AclMode needed)
{
	Relation	rel;
	DocTable   *table;

	rel = try_table_open(relid, lockmode);
	if (rel == NULL || docrep_table_info(rel) == NULL)
		not_a_document_table(relid);
	check_privileges(rel, needed);
	docrep_require_preload();
	table = docrep_table_attach(rel);
	table->lockmode = lockmode;
	table->owns_rel = true;
	table->row_security = check_enable_rls(relid, InvalidOid, false) == RLS_ENABLED;
	return table;
}

void
docrep_table_close(DocTable *table, LOCKMODE keep)
{
	docrep_companions_close(table);
	if (table->owns_rel)
		table_close(table->rel, keep);
	pfree(table);
}

Oid
docrep_table_by_name(const char *name, bool missing_ok)
{
	List	   *names = docrep_name_list(name);
	Oid			relid = RangeVarGetRelid(makeRangeVarFromNameList(names), NoLock, true);
	Relation	rel;
	bool		ok;

	if (!OidIsValid(relid))
	{
		if (missing_ok)
			return InvalidOid;
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_NOT_FOUND),
				 errmsg("document table \"%s\" does not exist", NameListToString(names))));
	}
	rel = relation_open(relid, AccessShareLock);
	ok = rel->rd_rel->relkind == RELKIND_RELATION && docrep_table_info(rel) != NULL;
	relation_close(rel, NoLock);
	if (!ok)
		not_a_document_table(relid);
	return relid;
}

/*
 * The companion depends on its table (an AUTO dependency made by
 * table_companions.c): that is the way back from the uuid, whatever the table is
 * called by now.
 */
Oid
docrep_table_by_uuid(const pg_uuid_t *uuid)
{
	Oid			dead = docrep_companion_relid("dead", uuid);

	return OidIsValid(dead) ? docrep_companion_table(dead) : InvalidOid;
}
