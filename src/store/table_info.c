/*-------------------------------------------------------------------------
 *
 * table_info.c
 *		What a backend knows of the document tables that it has used.
 *
 * A description is thrown away when the relation cache says that the table or one of its
 * companions has changed.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "commands/trigger.h"
#include "parser/parse_func.h"
#include "store/companion.h"
#include "store/errcodes.h"
#include "store/policy.h"
#include "store/revisions.h"
#include "store/table_ddl.h"
#include "store/table_internal.h"
#include "store/table_settings.h"
#include "utils/builtins.h"
#include "utils/catcache.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

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

Oid
docrep_companion_relid(const char *kind, const pg_uuid_t *uuid)
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
		oids[i] = docrep_companion_relid(kinds[i], &info->uuid);
		if (!OidIsValid(oids[i]))
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("document table \"%s\" has lost its companion \"docrep_data.%s\"",
							RelationGetRelationName(rel),
							docrep_companion_name(kinds[i], &info->uuid))));
		check_belongs(info, rel, oids[i]);
	}
	if (get_rel_relkind(oids[3]) != RELKIND_SEQUENCE)
		docrep_table_wrong_column(rel, "_seq");
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
	info->pk_oid = docrep_table_index(rel, info->a_id, true, 1);
	info->seqidx_oid = docrep_table_index(rel, info->a_seq, false, 1);

	dead = table_open(info->dead_relid, AccessShareLock);
	docrep_companion_check(dead, COMPANION_DEAD);
	info->dead_pk_oid = docrep_table_index(dead, Anum_dead_id, true, 1);
	info->dead_seqidx_oid = docrep_table_index(dead, Anum_dead_seq, false, 1);
	table_close(dead, NoLock);
	leaf = table_open(info->leaf_relid, AccessShareLock);
	docrep_companion_check(leaf, COMPANION_LEAF);
	info->leaf_pk_oid = docrep_companion_index(leaf, 2, Anum_leaf_id, Anum_leaf_rev, "(_id, rev)");
	info->leaf_open_oid = docrep_leaf_open_index(leaf);
	table_close(leaf, NoLock);
	att = table_open(info->att_relid, AccessShareLock);
	docrep_companion_check(att, COMPANION_ATT);
	info->att_pk_oid = docrep_companion_index(att, 2, Anum_att_file, Anum_att_part, "(file, part)");
	info->att_sha_oid = docrep_att_sha_index(att);
	table_close(att, NoLock);
	kept = table_open(info->rev_relid, AccessShareLock);
	docrep_companion_check(kept, COMPANION_KEPT);
	info->rev_pk_oid = docrep_companion_index(kept, 3, Anum_kept_id, Anum_kept_seq,
											"(_id, seq, rev)");
	info->rev_keptidx_oid = docrep_kept_index(kept, Anum_kept_kept_seq);
	info->rev_seqidx_oid = docrep_kept_index(kept, Anum_kept_seq);
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
