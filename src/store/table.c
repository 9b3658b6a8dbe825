/*-------------------------------------------------------------------------
 *
 * table.c
 *		Document tables: how one is recognised, opened and described.
 *
 * A backend keeps a description of every document table that it has used,
 * thrown away when the relation cache says that the table or one of its
 * companions has changed.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/index.h"
#include "catalog/namespace.h"
#include "catalog/pg_am.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "parser/parse_func.h"
#include "store/companion.h"
#include "store/errcodes.h"
#include "store/policy.h"
#include "store/preload.h"
#include "store/revisions.h"
#include "store/table.h"
#include "compat.h"
#include "store/table_ddl.h"
#include "store/table_settings.h"
#include "utils/acl.h"
#include "utils/catcache.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rls.h"
#include "utils/syscache.h"
#include "utils/varlena.h"

static HTAB *infos = NULL;		/* DocTableInfo by relid */
static HTAB *companions = NULL; /* companion's oid to table's oid */
static uint64 invalidations = 0;
static uint64 generations = 0;

typedef struct CompanionEntry
{
	Oid			companion;		/* key */
	Oid			relid;
} CompanionEntry;

static void
invalidate(Datum arg, Oid relid)
{
	DocTableInfo *info;
	CompanionEntry *companion;

	invalidations++;
	if (!OidIsValid(relid))
	{
		HASH_SEQ_STATUS status;

		hash_seq_init(&status, infos);
		while ((info = hash_seq_search(&status)) != NULL)
			info->valid = false;
		return;
	}
	companion = hash_search(companions, &relid, HASH_FIND, NULL);
	if (companion)
		relid = companion->relid;
	info = hash_search(infos, &relid, HASH_FIND, NULL);
	if (info)
		info->valid = false;
}

static void
make_caches(void)
{
	HASHCTL		ctl;

	memset(&ctl, 0, sizeof(ctl));
	ctl.keysize = sizeof(Oid);
	ctl.entrysize = sizeof(CompanionEntry);
	ctl.hcxt = CacheMemoryContext;
	if (CacheMemoryContext == NULL)
		CreateCacheMemoryContext();
	companions = hash_create("docrep companions", 64, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	ctl.entrysize = sizeof(DocTableInfo);
	infos = hash_create("docrep tables", 64, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	CacheRegisterRelcacheCallback(invalidate, (Datum) 0);
}

static Oid
track_function(void)
{
	List	   *name = list_make2(makeString("docrep"), makeString("track_change"));

	return LookupFuncName(name, 0, NULL, true);
}

/* The argument of the table's tracking trigger, or NULL. */
static const char *
track_argument(Relation rel)
{
	TriggerDesc *desc = rel->trigdesc;

	if (desc == NULL)
		return NULL;
	for (int i = 0; i < desc->numtriggers; i++)
	{
		Trigger    *trigger = &desc->triggers[i];

		if (strcmp(trigger->tgname, DOCREP_TRACK_TRIGGER) == 0 &&
			trigger->tgnargs == 1 && trigger->tgfoid == track_function())
			return trigger->tgargs[0];
	}
	return NULL;
}

static Oid
companion_relid(const char *kind, const pg_uuid_t *uuid)
{
	Oid			nsp = get_namespace_oid("docrep_data", true);

	if (!OidIsValid(nsp))
		return InvalidOid;
	return get_relname_relid(docrep_companion_name(kind, uuid), nsp);
}

char *
docrep_companion_name(const char *kind, const pg_uuid_t *uuid)
{
	StringInfoData buf;

	initStringInfo(&buf);
	appendStringInfo(&buf, "%s_", kind);
	for (int i = 0; i < UUID_LEN; i++)
		appendStringInfo(&buf, "%02x", uuid->data[i]);
	return buf.data;
}

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

/* The unique index on nkeys columns that begin with this one, or an error that says what is missing. */
static Oid
find_index(Relation rel, AttrNumber attno, bool primary, int nkeys)
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

/* The primary key of a companion on nkeys columns that begin with two, as scans rely on. */
static Oid
find_companion_index(Relation rel, int nkeys, AttrNumber first, AttrNumber second,
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

/*
 * The unique index that lets equal contents be stored once: on sha256 of the rows
 * that have one.
 */
static Oid
find_sha_index(Relation att)
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

/* The index by which documents in conflict are found; what it holds is looked at again. */
static Oid
find_open_index(Relation leaf)
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

/* The index of kept versions on one of their two numbers. */
static Oid
find_kept_index(Relation rel, AttrNumber attno)
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

static Oid
docrep_type(const char *name)
{
	return GetSysCacheOid2(TYPENAMENSP, Anum_pg_type_oid, CStringGetDatum(name),
						   ObjectIdGetDatum(get_namespace_oid("docrep", false)));
}

static void
wrong_column(Relation rel, const char *name)
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
		wrong_column(rel, name);
	return attno;
}

/* A companion has exactly the columns that it was made with. */
static void
check_companion(Relation rel, int natts, const char *const *names, const Oid *types)
{
	TupleDesc	desc = RelationGetDescr(rel);

	if (rel->rd_rel->relkind != RELKIND_RELATION || desc->natts != natts)
		wrong_column(rel, "*");
	for (int i = 0; i < natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);

		if (att->attisdropped || att->atttypid != types[i] ||
			strcmp(NameStr(att->attname), names[i]) != 0)
			wrong_column(rel, names[i]);
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
	static const char *const kept_names[] = {"_id", "seq", "rev", "doc", "deleted", "modified", "replaced_at", "kept_seq", "kind", "origin", "_attachments"};
	static const char *const att_names[] = {"file", "part", "sha256", "length", "md5", "at", "data"};
	const Oid	rev = docrep_type("rev");
	const Oid	dead_types[] = {TEXTOID, JSONBOID, rev, INT8OID, TIMESTAMPTZOID, docrep_type("revtree"), BYTEAOID, JSONBOID, UUIDOID};
	const Oid	leaf_types[] = {TEXTOID, rev, JSONBOID, BOOLOID, TIMESTAMPTZOID, JSONBOID, UUIDOID, BOOLOID};
	const Oid	kept_types[] = {TEXTOID, INT8OID, rev, JSONBOID, BOOLOID, TIMESTAMPTZOID, TIMESTAMPTZOID, INT8OID, CHAROID, UUIDOID, JSONBOID};
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

/*
 * Whoever names another table's uuid in a trigger does not get at its companions.
 * After pg_upgrade they belong to nobody, as it restores no dependency between
 * tables and makes event triggers last; the next ALTER TABLE mends that.
 */
static void
check_belongs(DocTableInfo *info, Relation rel, Oid companion)
{
	Oid			table = docrep_companion_table(companion);

	if (table != info->relid)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("companion \"docrep_data.%s\" does not belong to table \"%s\"",
						get_rel_name(companion), RelationGetRelationName(rel)),
				 OidIsValid(table) ? 0 :
				 errhint("After pg_upgrade: ALTER TABLE %s ENABLE ALWAYS TRIGGER \"%s\";",
						 quote_qualified_identifier(get_namespace_name(RelationGetNamespace(rel)),
													RelationGetRelationName(rel)),
						 DOCREP_TRACK_TRIGGER)));
}

static void
fill_companions(DocTableInfo *info, Relation rel)
{
	Oid			oids[5];
	const char *kinds[] = {"dead", "leaf", "att", "seq", "rev"};

	for (int i = 0; i < lengthof(oids); i++)
	{
		oids[i] = companion_relid(kinds[i], &info->uuid);
		if (!OidIsValid(oids[i]))
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("document table \"%s\" has lost its companion \"docrep_data.%s\"",
							RelationGetRelationName(rel),
							docrep_companion_name(kinds[i], &info->uuid))));
		check_belongs(info, rel, oids[i]);
	}
	if (get_rel_relkind(oids[3]) != RELKIND_SEQUENCE)
		wrong_column(rel, "_seq");
	info->dead_relid = oids[0];
	info->leaf_relid = oids[1];
	info->att_relid = oids[2];
	info->seq_relid = oids[3];
	info->rev_relid = oids[4];
	for (int i = 0; i < lengthof(oids); i++)
	{
		CompanionEntry *entry = hash_search(companions, &oids[i], HASH_ENTER, NULL);

		entry->relid = info->relid;
	}
}

/* What the hot paths need of the table's settings; a policy that makes no sense is none. */
static void
fill_settings(DocTableInfo *info)
{
	TableSettings *settings = docrep_settings_read(&info->uuid);
	const char *problem;

	info->revs_limit = settings->revs_limit;
	info->keeps_back = settings->not_replicated != NULL;
	info->conflict_policy = docrep_policy_steps(settings->conflict_policy,
												settings->resolver != NULL, &problem);
	if (problem)
		info->conflict_policy = 0;
	info->revisions_keep = settings->revisions_keep;
	info->revisions_keep_deleted = settings->revisions_keep_deleted;
	info->revisions_since = settings->revisions_since;
	info->revisions_held = docrep_revisions_held(&info->uuid);
	info->keeps_versions = info->revisions_keep >= 0 || info->revisions_held > 0;
}

static void
fill_info(DocTableInfo *info, Relation rel, const char *uuid_text)
{
	Relation	dead;
	Relation	leaf;
	Relation	att;
	Relation	kept;

	info->uuid = *DatumGetUUIDP(DirectFunctionCall1(uuid_in, CStringGetDatum(uuid_text)));
	fill_companions(info, rel);
	docrep_table_check_columns(rel, info);
	info->pk_oid = find_index(rel, info->a_id, true, 1);
	info->seqidx_oid = find_index(rel, info->a_seq, false, 1);

	dead = table_open(info->dead_relid, AccessShareLock);
	docrep_companion_check(dead, COMPANION_DEAD);
	info->dead_pk_oid = find_index(dead, Anum_dead_id, true, 1);
	info->dead_seqidx_oid = find_index(dead, Anum_dead_seq, false, 1);
	table_close(dead, NoLock);
	leaf = table_open(info->leaf_relid, AccessShareLock);
	docrep_companion_check(leaf, COMPANION_LEAF);
	info->leaf_pk_oid = find_companion_index(leaf, 2, Anum_leaf_id, Anum_leaf_rev, "(_id, rev)");
	info->leaf_open_oid = find_open_index(leaf);
	table_close(leaf, NoLock);
	att = table_open(info->att_relid, AccessShareLock);
	docrep_companion_check(att, COMPANION_ATT);
	info->att_pk_oid = find_companion_index(att, 2, Anum_att_file, Anum_att_part, "(file, part)");
	info->att_sha_oid = find_sha_index(att);
	table_close(att, NoLock);
	kept = table_open(info->rev_relid, AccessShareLock);
	docrep_companion_check(kept, COMPANION_KEPT);
	info->rev_pk_oid = find_companion_index(kept, 3, Anum_kept_id, Anum_kept_seq,
											"(_id, seq, rev)");
	info->rev_keptidx_oid = find_kept_index(kept, Anum_kept_kept_seq);
	info->rev_seqidx_oid = find_kept_index(kept, Anum_kept_seq);
	table_close(kept, NoLock);
	fill_settings(info);
}

const DocTableInfo *
docrep_table_info(Relation rel)
{
	static DocTableInfo *last = NULL;
	Oid			relid = RelationGetRelid(rel);
	DocTableInfo *info;
	const char *argument;
	bool		found;

	if (last && last->relid == relid && last->valid)
		return last;
	if (infos == NULL)
		make_caches();
	info = hash_search(infos, &relid, HASH_FIND, NULL);
	if (info && info->valid)
	{
		last = info;
		return info;
	}
	argument = track_argument(rel);
	if (argument == NULL)
		return NULL;
	/* what it points to goes with the relation's descriptor when that is invalidated */
	argument = pstrdup(argument);
	info = hash_search(infos, &relid, HASH_ENTER, &found);
	info->valid = false;

	/* an invalidation that arrives while we look must not be lost */
	for (int i = 0;; i++)
	{
		uint64		before = invalidations;
		DocTableInfo fresh = {0};

		fresh.relid = relid;
		fresh.generation = ++generations;
		fill_info(&fresh, rel, argument);
		info = hash_search(infos, &relid, HASH_ENTER, &found);
		*info = fresh;
		if (before == invalidations || i == 10)
			break;
	}
	info->valid = true;
	last = info;
	return info;
}

const DocTableInfo *
docrep_table_info_cached(Oid relid)
{
	DocTableInfo *info = infos ? hash_search(infos, &relid, HASH_FIND, NULL) : NULL;

	return info && info->valid ? info : NULL;
}

void
docrep_table_note_validated(Oid relid, uint64 generation, bool validated)
{
	DocTableInfo *info = infos ? hash_search(infos, &relid, HASH_FIND, NULL) : NULL;

	if (info && info->valid && info->generation == generation)
		info->validated = validated ? DOC_VALIDATED_YES : DOC_VALIDATED_NO;
}

bool
docrep_table_uuid(Relation rel, pg_uuid_t *uuid)
{
	const char *argument = track_argument(rel);

	if (argument == NULL)
		return false;
	*uuid = *DatumGetUUIDP(DirectFunctionCall1(uuid_in, CStringGetDatum(argument)));
	return true;
}

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
 * table_ddl.c): that is the way back from the uuid, whatever the table is
 * called by now.
 */
Oid
docrep_table_by_uuid(const pg_uuid_t *uuid)
{
	Oid			dead = companion_relid("dead", uuid);

	return OidIsValid(dead) ? docrep_companion_table(dead) : InvalidOid;
}
