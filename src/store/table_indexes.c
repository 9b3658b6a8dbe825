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

/*
 * Can we look rows up in this index by values of column attno?  In order of
 * bytes, if they are texts: the owner may have given the column another collation.
 */
static bool
is_usable(Relation index, AttrNumber attno, bool primary, int nkeys)
{
	Form_pg_index form = index->rd_index;

	return form->indisunique && form->indisvalid && form->indimmediate &&
		form->indisprimary == primary && form->indnkeyatts == nkeys &&
		form->indkey.values[0] == attno &&
		index->rd_rel->relam == BTREE_AM_OID && index->rd_indoption[0] == 0 &&
		(!OidIsValid(index->rd_indcollation[0]) || index->rd_indcollation[0] == C_COLLATION_OID) &&
		RelationGetIndexPredicate(index) == NIL;
}

Oid
docrep_table_index(Relation rel, AttrNumber attno, bool primary, int nkeys)
{
	List	   *indexes = RelationGetIndexList(rel);
	ListCell   *lc;
	Oid			result = InvalidOid;

	foreach(lc, indexes)
	{
		Relation	index = index_open(lfirst_oid(lc), AccessShareLock);

		if (is_usable(index, attno, primary, nkeys))
			result = RelationGetRelid(index);
		index_close(index, AccessShareLock);
		if (OidIsValid(result))
			break;
	}
	list_free(indexes);
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
	Oid			result = docrep_primary_key_index(rel);
	bool		fits = false;

	if (OidIsValid(result))
	{
		Relation	index = index_open(result, AccessShareLock);

		fits = is_usable(index, first, true, nkeys) && index->rd_index->indkey.values[1] == second;
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
	List	   *indexes = RelationGetIndexList(att);
	ListCell   *lc;
	Oid			result = InvalidOid;

	foreach(lc, indexes)
	{
		Relation	index = index_open(lfirst_oid(lc), AccessShareLock);
		Form_pg_index form = index->rd_index;

		if (form->indisunique && form->indisvalid && form->indimmediate &&
			form->indnkeyatts == 1 && form->indkey.values[0] == Anum_att_sha256 &&
			index->rd_rel->relam == BTREE_AM_OID && index->rd_indoption[0] == 0)
			result = RelationGetRelid(index);
		index_close(index, AccessShareLock);
		if (OidIsValid(result))
			break;
	}
	list_free(indexes);
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
	List	   *indexes = RelationGetIndexList(leaf);
	ListCell   *lc;
	Oid			result = InvalidOid;

	foreach(lc, indexes)
	{
		Relation	index = index_open(lfirst_oid(lc), AccessShareLock);
		Form_pg_index form = index->rd_index;

		if (form->indisvalid && form->indnkeyatts == 1 &&
			form->indkey.values[0] == Anum_leaf_id &&
			index->rd_rel->relam == BTREE_AM_OID && index->rd_indoption[0] == 0 &&
			index->rd_indcollation[0] == C_COLLATION_OID &&
			RelationGetIndexPredicate(index) != NIL)
			result = RelationGetRelid(index);
		index_close(index, AccessShareLock);
		if (OidIsValid(result))
			break;
	}
	list_free(indexes);
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
	List	   *indexes = RelationGetIndexList(rel);
	ListCell   *lc;
	Oid			result = InvalidOid;

	foreach(lc, indexes)
	{
		Relation	index = index_open(lfirst_oid(lc), AccessShareLock);
		Form_pg_index form = index->rd_index;

		if (form->indisvalid && form->indnkeyatts == 1 &&
			form->indkey.values[0] == attno &&
			index->rd_rel->relam == BTREE_AM_OID && index->rd_indoption[0] == 0 &&
			RelationGetIndexPredicate(index) == NIL)
			result = RelationGetRelid(index);
		index_close(index, AccessShareLock);
		if (OidIsValid(result))
			break;
	}
	list_free(indexes);
	if (!OidIsValid(result))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("companion \"%s\" has lost its index on %s",
						RelationGetRelationName(rel),
						NameStr(TupleDescAttr(RelationGetDescr(rel), attno - 1)->attname)),
				 errhint("Create it again.")));
	return result;
}
