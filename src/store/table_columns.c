/*-------------------------------------------------------------------------
 *
 * table_columns.c
 *		Have a document table and its companions the columns that docrep reads and writes?
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "store/companion.h"
#include "store/table_ddl.h"
#include "store/table_internal.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"

static Oid
docrep_type(const char *name)
{
	return GetSysCacheOid2(TYPENAMENSP, Anum_pg_type_oid, CStringGetDatum(name),
						   ObjectIdGetDatum(get_namespace_oid("docrep", false)));
}

void
docrep_table_wrong_column(Relation rel, const char *name)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("column \"%s\" of document table \"%s\" is missing or has another type",
					name, RelationGetRelationName(rel)),
			 errhint("Make it again as docrep.create_table() does.")));
}

/*
 * The owner may alter its table and the companions in any way; code that
 * reads a value as another type would crash, so types are looked at.
 */
static AttrNumber
find_column(Relation rel, const char *name, Oid type)
{
	AttrNumber	attno = get_attnum(RelationGetRelid(rel), name);

	if (attno == InvalidAttrNumber ||
		TupleDescAttr(RelationGetDescr(rel), attno - 1)->atttypid != type)
		docrep_table_wrong_column(rel, name);
	return attno;
}

/* A companion has exactly the columns that it was made with. */
static void
check_companion(Relation rel, int natts, const char *const *names, const Oid *types)
{
	TupleDesc	desc = RelationGetDescr(rel);

	if (rel->rd_rel->relkind != RELKIND_RELATION || desc->natts != natts)
		docrep_table_wrong_column(rel, "*");
	for (int i = 0; i < natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);

		if (att->attisdropped || att->atttypid != types[i] ||
			strcmp(NameStr(att->attname), names[i]) != 0)
			docrep_table_wrong_column(rel, names[i]);
	}
}

void
docrep_table_check_columns(Relation rel, DocTableInfo *info)
{
	info->a_id = find_column(rel, "_id", TEXTOID);
	info->a_doc = find_column(rel, "doc", JSONBOID);
	info->a_rev = find_column(rel, "_rev", docrep_type("rev"));
	info->a_seq = find_column(rel, "_seq", INT8OID);
	info->a_modified = find_column(rel, "_modified", TIMESTAMPTZOID);
	info->a_tree = find_column(rel, "_tree", docrep_type("revtree"));
	info->a_trunk = find_column(rel, "_trunk", BYTEAOID);
	info->a_attachments = find_column(rel, "_attachments", JSONBOID);
	info->a_origin = find_column(rel, "_origin", UUIDOID);
}

void
docrep_companion_check(Relation rel, CompanionKind kind)
{
	static const char *const dead_names[] = {"_id", "doc", "_rev", "_seq", "_modified", "_tree", "_trunk", "_attachments", "_origin"};
	static const char *const leaf_names[] = {"_id", "rev", "doc", "deleted", "modified", "_attachments", "_origin", "merged"};
	static const char *const kept_names[] = {"_id", "seq", "rev", "doc", "deleted", "modified", "replaced_at", "kept_seq", "kind", "origin", "_attachments", "led_to"};
	static const char *const att_names[] = {"file", "part", "sha256", "length", "md5", "at", "data"};
	const Oid	rev = docrep_type("rev");
	const Oid	dead_types[] = {TEXTOID, JSONBOID, rev, INT8OID, TIMESTAMPTZOID, docrep_type("revtree"), BYTEAOID, JSONBOID, UUIDOID};
	const Oid	leaf_types[] = {TEXTOID, rev, JSONBOID, BOOLOID, TIMESTAMPTZOID, JSONBOID, UUIDOID, BOOLOID};
	const Oid	kept_types[] = {TEXTOID, INT8OID, rev, JSONBOID, BOOLOID, TIMESTAMPTZOID, TIMESTAMPTZOID, INT8OID, CHAROID, UUIDOID, JSONBOID, docrep_type("revtree")};
	const Oid	att_types[] = {INT8OID, INT4OID, BYTEAOID, INT8OID, BYTEAOID, TIMESTAMPTZOID, BYTEAOID};

	switch (kind)
	{
		case COMPANION_DEAD:
			check_companion(rel, Natts_dead, dead_names, dead_types);
			break;
		case COMPANION_LEAF:
			check_companion(rel, Natts_leaf, leaf_names, leaf_types);
			break;
		case COMPANION_ATT:
			check_companion(rel, Natts_att, att_names, att_types);
			break;
		case COMPANION_KEPT:
			check_companion(rel, Natts_kept, kept_names, kept_types);
			break;
	}
}
