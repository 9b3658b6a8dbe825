/*-------------------------------------------------------------------------
 *
 * not_replicated.c
 *		What a table keeps back from every replication that reads from it.
 *
 * By id: nothing of such a document travels, tombstones neither.  By what a
 * revision says: that revision does not.  A tombstone without a body says
 * nothing, so it travels: an earlier revision may have been sent, and has to go
 * at the other side, too.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "store/companion.h"
#include "store/errcodes.h"
#include "store/jsonb_raw.h"
#include "store/not_replicated.h"
#include "store/preload.h"
#include "store/sql_support.h"
#include "store/table_settings.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/inval.h"

const KeepBackSelector *docrep_keep_back_selector = NULL;

/* A list of beginnings of ids. */
typedef struct Prefixes
{
	int			n;
	const char **texts;
	int		   *lengths;
} Prefixes;

struct KeepBack
{
	Prefixes	prefixes;
	Prefixes	except;
	char	   *member;			/* or NULL */
	void	   *selector;		/* compiled, or NULL */
};

/* ---------- reading the setting ---------- */

/* A member of the setting; false: it has none. */
static bool
setting_member(Jsonb *setting, const char *name, JsonbValue *value)
{
	return getKeyJsonValueFromContainer(&setting->root, name, strlen(name), value) != NULL;
}

/* The texts of an array in the setting; none if it is not there. */
static void
read_prefixes(Jsonb *setting, const char *name, Prefixes *prefixes)
{
	JsonbValue	array;
	uint32		n;

	if (!setting_member(setting, name, &array) || array.type != jbvBinary ||
		!JsonContainerIsArray(array.val.binary.data))
		return;
	n = JsonContainerSize(array.val.binary.data);
	prefixes->texts = palloc(Max(n, 1) * sizeof(char *));
	prefixes->lengths = palloc(Max(n, 1) * sizeof(int));
	for (uint32 i = 0; i < n; i++)
	{
		JsonbValue *text = getIthJsonbValueFromContainer(array.val.binary.data, i);

		if (text->type != jbvString)
			continue;
		prefixes->texts[prefixes->n] = pnstrdup(text->val.string.val, text->val.string.len);
		prefixes->lengths[prefixes->n++] = text->val.string.len;
	}
}

const KeepBack *
docrep_keep_back_rule(DocTable *table)
{
	KeepBack   *rule;
	Jsonb	   *setting;
	JsonbValue	value;

	if (!table->info.keeps_back)
		return NULL;
	setting = docrep_settings_read(&table->info.uuid)->not_replicated;
	if (setting == NULL)
		return NULL;
	rule = palloc0(sizeof(KeepBack));
	read_prefixes(setting, "prefixes", &rule->prefixes);
	read_prefixes(setting, "except_prefixes", &rule->except);
	if (setting_member(setting, "member", &value) && value.type == jbvString)
		rule->member = pnstrdup(value.val.string.val, value.val.string.len);
	if (setting_member(setting, "matching", &value))
	{
		if (docrep_keep_back_selector == NULL)
			docrep_require_preload();
		rule->selector = docrep_keep_back_selector->compile(JsonbValueToJsonb(&value));
	}
	return rule;
}

bool
docrep_keep_back_wants_bodies(const KeepBack *rule)
{
	return rule->member != NULL || rule->selector != NULL;
}

/* ---------- applying it ---------- */

static bool
begins_with_one(const Prefixes *prefixes, const char *id)
{
	for (int i = 0; i < prefixes->n; i++)
	{
		if (strncmp(id, prefixes->texts[i], prefixes->lengths[i]) == 0)
			return true;
	}
	return false;
}

/* Is the member true?  RavenDB's clients write it as a text, too. */
static bool
is_set(JsonbContainer *object, const char *name)
{
	JsonbValue	value;

	if (getKeyJsonValueFromContainer(object, name, strlen(name), &value) == NULL)
		return false;
	if (value.type == jbvString)
		return value.val.string.len == 4 && pg_strncasecmp(value.val.string.val, "true", 4) == 0;
	return value.type == jbvBool && value.val.boolean;
}

/* The same in the document or its metadata. */
static bool
has_member(Jsonb *body, const char *name)
{
	JsonbValue	metadata;

	if (is_set(&body->root, name))
		return true;
	return getKeyJsonValueFromContainer(&body->root, "@metadata", 9, &metadata) != NULL &&
		metadata.type == jbvBinary && JsonContainerIsObject(metadata.val.binary.data) &&
		is_set(metadata.val.binary.data, name);
}

const char *
docrep_keep_back_reason(const KeepBack *rule, const char *id, const Rev *rev, bool deleted,
						Jsonb *body)
{
	if (begins_with_one(&rule->prefixes, id) && !begins_with_one(&rule->except, id))
		return "its id is under a reserved prefix";
	if (body == NULL || (deleted && JB_ROOT_COUNT(body) == 0))
		return NULL;
	if (rule->member && has_member(body, rule->member))
		return "it has the member that says so";
	if (rule->selector &&
		docrep_keep_back_selector->matches(rule->selector, id, rev, deleted, body))
		return "it matches the rule's selector";
	return NULL;
}

/* Does a leaf of a row travel? */
static bool
leaf_travels(const KeepBack *rule, DocTable *table, DocFeed *feed, DocFeedRow *row, int32 node)
{
	const RevNode *leaf = &row->state.tree->nodes[node];
	Jsonb	   *body = NULL;
	LeafState	stored;

	if (node == row->state.winner)
		body = row->state.doc;
	else if (docrep_keep_back_wants_bodies(rule) &&
			 docrep_leaf_state(table, docrep_feed_snapshot(feed), row->id, &leaf->rev, &stored))
		body = stored.doc;
	return docrep_keep_back_reason(rule, row->id, &leaf->rev, leaf->deleted, body) == NULL;
}

bool
docrep_keep_back_from_row(const KeepBack *rule, DocTable *table, DocFeed *feed, DocFeedRow *row,
						  bool winners_only)
{
	int32	   *leaves;
	int32		n;
	bool	   *passes;
	bool		any = false;

	if (winners_only)
		return leaf_travels(rule, table, feed, row, row->state.winner);
	n = docrep_revtree_leaves(row->state.tree, &leaves);
	passes = palloc(n * sizeof(bool));
	for (int32 i = 0; i < n; i++)
	{
		passes[i] = (row->passes == NULL || row->passes[i]) &&
			leaf_travels(rule, table, feed, row, leaves[i]);
		any |= passes[i];
	}
	row->passes = passes;
	return any;
}

/* ---------- setting it ---------- */

/* An argument of prefixes as an array of texts in the setting; nothing if it is empty. */
static int
put_prefixes(FunctionCallInfo fcinfo, int arg, const char *name, RawBuilder *setting)
{
	RawBuilder	list;
	Datum	   *elems;
	bool	   *nulls;
	int			n;

	if (PG_ARGISNULL(arg))
		return 0;
	deconstruct_array(PG_GETARG_ARRAYTYPE_P(arg), TEXTOID, -1, false, TYPALIGN_INT, &elems, &nulls,
					  &n);
	docrep_raw_init(&list, false, n);
	for (int i = 0; i < n; i++)
	{
		char	   *prefix = nulls[i] ? "" : TextDatumGetCString(elems[i]);

		if (prefix[0] == '\0')
			ereport(ERROR,
					(errcode(ERRCODE_DOCREP_BAD_REQUEST),
					 errmsg("\"%s\" must not contain an empty prefix", name)));
		docrep_raw_add_text(&list, NULL, prefix);
	}
	if (n > 0)
		docrep_raw_add_built(setting, name, &list);
	return n;
}

/* The arguments as the setting; NULL: nothing is kept back. */
static Jsonb *
setting_from_arguments(FunctionCallInfo fcinfo)
{
	RawBuilder	setting;
	char	   *member = PG_ARGISNULL(3) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(3));

	docrep_raw_init(&setting, true, 4);
	if (put_prefixes(fcinfo, 1, "prefixes", &setting) == 0 && !PG_ARGISNULL(2) &&
		ArrayGetNItems(ARR_NDIM(PG_GETARG_ARRAYTYPE_P(2)), ARR_DIMS(PG_GETARG_ARRAYTYPE_P(2))) > 0)
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_BAD_REQUEST),
				 errmsg("\"except_prefixes\" needs \"prefixes\"")));
	(void) put_prefixes(fcinfo, 2, "except_prefixes", &setting);
	if (member)
	{
		if (member[0] == '\0' || member[0] == '_')
			ereport(ERROR,
					(errcode(ERRCODE_DOCREP_BAD_REQUEST),
					 errmsg("\"member\" must be the name of a member of documents, not \"%s\"", member)));
		docrep_raw_add_text(&setting, "member", member);
	}
	if (!PG_ARGISNULL(4))
	{
		/* raises what is wrong with it */
		(void) docrep_keep_back_selector->compile(PG_GETARG_JSONB_P(4));
		docrep_raw_add_jsonb(&setting, "matching", PG_GETARG_JSONB_P(4));
	}
	return setting.n > 0 ? docrep_raw_finish(&setting) : NULL;
}

PG_FUNCTION_INFO_V1(docrep_set_not_replicated);

/*
 * docrep.set_not_replicated(tbl, prefixes, except_prefixes, member, matching): owner
 * only; replaces what was set before.
 */
Datum
docrep_set_not_replicated(PG_FUNCTION_ARGS)
{
	DocTable   *table = docrep_table_open(docrep_arg_table(fcinfo, 0), RowExclusiveLock, 0);
	Jsonb	   *setting;

	docrep_table_check_owner(table);
	docrep_require_preload();
	setting = setting_from_arguments(fcinfo);
	docrep_settings_write(&table->info.uuid, "not_replicated", JSONBOID, JsonbPGetDatum(setting),
						  setting == NULL);
	CacheInvalidateRelcacheByRelid(table->info.relid);
	docrep_table_close(table, NoLock);
	PG_RETURN_VOID();
}
