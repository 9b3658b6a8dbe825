/*-------------------------------------------------------------------------
 *
 * table_indexes.c
 *		The indexes of a document table and its companions that docrep looks rows up in.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "catalog/index.h"
#include "catalog/pg_am.h"
#include "catalog/pg_collation.h"
#include "store/companion.h"
#include "store/table_internal.h"
#include "compat.h"
#include "utils/rel.h"

/* What an index has to be like; attno: the column that it begins with. */
typedef bool (*IndexFits) (Relation index, AttrNumber attno, const void *arg);

/* What is_usable() wants besides. */
typedef struct UsableKey
{
	bool		primary;
	int			nkeys;
} UsableKey;

/* Is it a valid btree, ascending, that begins with this column? */
static bool
begins_with(Relation index, AttrNumber attno)
{
	Form_pg_index form = index->rd_index;

	return form->indisvalid && form->indkey.values[0] == attno &&
		index->rd_rel->relam == BTREE_AM_OID && index->rd_indoption[0] == 0;
}

/*
 * Can we look rows up in this index by values of column attno?  In order of
 * bytes, if they are texts: the owner may have given the column another collation.
 */
static bool
is_usable(Relation index, AttrNumber attno, const void *arg)
{
	const UsableKey *key = arg;
	Form_pg_index form = index->rd_index;

	return begins_with(index, attno) && form->indisunique && form->indimmediate &&
		form->indisprimary == key->primary && form->indnkeyatts == key->nkeys &&
		(!OidIsValid(index->rd_indcollation[0]) || index->rd_indcollation[0] == C_COLLATION_OID) &&
		RelationGetIndexPredicate(index) == NIL;
}

/* Does it let equal contents be stored once? */
static bool
is_sha_index(Relation index, AttrNumber attno, const void *arg)
{
	Form_pg_index form = index->rd_index;

	return begins_with(index, attno) && form->indisunique && form->indimmediate &&
		form->indnkeyatts == 1;
}

/* Is it a partial index on ids? */
static bool
is_open_index(Relation index, AttrNumber attno, const void *arg)
{
	return begins_with(index, attno) && index->rd_index->indnkeyatts == 1 &&
		index->rd_indcollation[0] == C_COLLATION_OID &&
		RelationGetIndexPredicate(index) != NIL;
}

/* Does it hold the column of all rows? */
static bool
is_plain_index(Relation index, AttrNumber attno, const void *arg)
{
	return begins_with(index, attno) && index->rd_index->indnkeyatts == 1 &&
		RelationGetIndexPredicate(index) == NIL;
}

/* The first index of a relation that fits, or InvalidOid. */
static Oid
find_index(Relation rel, AttrNumber attno, IndexFits fits, const void *arg)
{
	List	   *indexes = RelationGetIndexList(rel);
	ListCell   *lc;
	Oid			result = InvalidOid;

	foreach(lc, indexes)
	{
		Relation	index = index_open(lfirst_oid(lc), AccessShareLock);

		if (fits(index, attno, arg))
			result = RelationGetRelid(index);
		index_close(index, AccessShareLock);
		if (OidIsValid(result))
			break;
	}
	list_free(indexes);
	return result;
}

Oid
docrep_table_index(Relation rel, AttrNumber attno, bool primary, int nkeys)
{
	UsableKey	key = {primary, nkeys};
	Oid			result = find_index(rel, attno, is_usable, &key);

	if (!OidIsValid(result))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("document table \"%s\" has lost its %s", RelationGetRelationName(rel),
						primary ? "primary key on _id" : "unique index on its sequence column"),
				 errhint("Create it again, ascending and with collation \"C\".")));
	return result;
}

Oid
docrep_companion_index(Relation rel, int nkeys, AttrNumber first, AttrNumber second,
					   const char *columns)
{
	UsableKey	key = {true, nkeys};
	Oid			result = docrep_primary_key_index(rel);
	bool		fits = false;

	if (OidIsValid(result))
	{
		Relation	index = index_open(result, AccessShareLock);

		fits = is_usable(index, first, &key) && index->rd_index->indkey.values[1] == second;
		index_close(index, AccessShareLock);
	}
	if (!fits)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("companion \"%s\" has lost its primary key on %s",
						RelationGetRelationName(rel), columns),
				 errhint("Create it again.")));
	return result;
}

Oid
docrep_att_sha_index(Relation att)
{
	Oid			result = find_index(att, Anum_att_sha256, is_sha_index, NULL);

	if (!OidIsValid(result))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("companion \"%s\" has lost its unique index on sha256",
						RelationGetRelationName(att)),
				 errhint("Create it again, with WHERE sha256 IS NOT NULL.")));
	return result;
}

Oid
docrep_leaf_open_index(Relation leaf)
{
	Oid			result = find_index(leaf, Anum_leaf_id, is_open_index, NULL);

	if (!OidIsValid(result))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("companion \"%s\" has lost its index of conflicts",
						RelationGetRelationName(leaf)),
				 errhint("Create it again: on (_id), with WHERE NOT deleted AND NOT merged.")));
	return result;
}

Oid
docrep_kept_index(Relation rel, AttrNumber attno)
{
	Oid			result = find_index(rel, attno, is_plain_index, NULL);

	if (!OidIsValid(result))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("companion \"%s\" has lost its index on %s",
						RelationGetRelationName(rel),
						NameStr(TupleDescAttr(RelationGetDescr(rel), attno - 1)->attname)),
				 errhint("Create it again.")));
	return result;
}
