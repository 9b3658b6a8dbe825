/*-------------------------------------------------------------------------
 *
 * get.c
 *		SQL function get: a document as CouchDB's GET /db/id gives it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "store/errcodes.h"
#include "store/local_docs.h"
#include "store/open_doc.h"
#include "store/sql_support.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"

#define LOCAL_PREFIX		"_local/"

PG_FUNCTION_INFO_V1(docrep_get);

/* Add {"ok": document} for each of the leaves that was not added before. */
static void
add_leaves(RawBuilder *result, OpenDoc *doc, const int32 *leaves, int n, bool *added,
		   const DocShow *show)
{
	for (int i = 0; i < n; i++)
	{
		if (added[leaves[i]])
			continue;
		added[leaves[i]] = true;
		docrep_raw_add_ok(result, docrep_open_doc_json(doc, leaves[i], show));
	}
}

/* Add {"missing": rev}. */
static void
add_missing(RawBuilder *result, const Rev *rev)
{
	RawBuilder	item;

	docrep_raw_init(&item, true, 1);
	docrep_raw_add_rev(&item, "missing", rev);
	docrep_raw_add_built(result, NULL, &item);
}

/* Raise DR400 for open_revs. */
static void
bad_open_revs(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_DOCREP_BAD_REQUEST),
			 errmsg("open_revs must be \"all\" or an array of revisions")));
}

/*
 * get with open_revs: an array of {"ok": ...} and {"missing": ...}, or NULL.
 * As in CouchDB, of what else can be shown only _revisions and attachments are.
 */
static Jsonb *
get_open_revs(OpenDoc *doc, Jsonb *open_revs, bool latest, const DocShow *asked)
{
	DocShow		show = *asked;
	RawBuilder	result;
	RawCursor	cursor;
	RawMember	item;
	bool	   *added = doc->found ? palloc0(doc->state.tree->n * sizeof(bool)) : NULL;
	int32	   *leaves;
	int			n;

	show.revs_info = show.conflicts = show.deleted_conflicts = false;
	if (JB_ROOT_IS_OBJECT(open_revs))
		bad_open_revs();
	docrep_raw_begin(&cursor, &open_revs->root);
	docrep_raw_init(&result, false, cursor.n);
	while (docrep_raw_next(&cursor, &item))
	{
		Rev			rev;
		Jsonb	   *kept;

		if (item.value.type != JENTRY_ISSTRING)
			bad_open_revs();
		if (JB_ROOT_IS_SCALAR(open_revs))
		{
			if (item.value.len != 3 || memcmp(item.value.data, "all", 3) != 0)
				bad_open_revs();
			if (!doc->found)
				return NULL;
			n = docrep_open_doc_leaves(doc, NULL, false, &leaves);
			add_leaves(&result, doc, leaves, n, added, &show);
			break;
		}
		rev = docrep_rev_from_text(item.value.data, item.value.len, "a member of open_revs");
		n = docrep_open_doc_leaves(doc, &rev, latest, &leaves);
		if (n > 0)
			add_leaves(&result, doc, leaves, n, added, &show);
		else if ((kept = docrep_open_doc_kept_json(doc, &rev, &show)) != NULL)
			docrep_raw_add_ok(&result, kept);
		else
			add_missing(&result, &rev);
	}
	return docrep_raw_finish(&result);
}

/* Raise DR409: the table's policy is that conflicts are seen. */
static void
in_conflict(OpenDoc *doc)
{
	StringInfoData versions;
	int32	   *leaves;
	int			n = docrep_revtree_leaves(doc->state.tree, &leaves);

	initStringInfo(&versions);
	for (int i = 0; i < n; i++)
	{
		const RevNode *node = &doc->state.tree->nodes[leaves[i]];
		char		text[REV_TEXT_SIZE];
		LeafState	leaf;

		if (node->deleted || (i > 0 && docrep_leaf_state(doc->table, doc->snapshot, doc->id,
														  &node->rev, &leaf) && leaf.merged))
			continue;
		docrep_rev_print(&node->rev, text);
		appendStringInfo(&versions, "%s%s", i > 0 ? ", " : "", text);
	}
	ereport(ERROR,
			(errcode(ERRCODE_DOCREP_CONFLICT),
			 errmsg("document \"%s\" is in conflict", doc->id),
			 errdetail("Its versions are %s.", versions.data),
			 errhint("Read them by rev, with open_revs or with conflicts => true, and resolve the conflict with docrep.resolve() or an edit.")));
}

/* get without open_revs: the revision asked for, or the winner if it is live, or NULL. */
static Jsonb *
get_one(OpenDoc *doc, const Rev *rev, bool latest, const DocShow *show)
{
	int32		leaf = doc->state.winner;

	if (!doc->found)
		return NULL;
	if (rev)
	{
		int32	   *leaves;

		if (docrep_open_doc_leaves(doc, rev, latest, &leaves) == 0)
			return docrep_open_doc_kept_json(doc, rev, show);
		leaf = leaves[0];
	}
	else if (doc->state.tree->nodes[leaf].deleted)
		return NULL;
	else if (doc->state.marked && !show->conflicts)
		in_conflict(doc);
	return docrep_open_doc_json(doc, leaf, show);
}

/* Read atts_since: an array of revisions. */
static void
parse_atts_since(const Jsonb *given, DocShow *show)
{
	RawCursor	cursor;
	RawMember	item;
	Rev		   *revs;

	if (!JB_ROOT_IS_ARRAY(given) || JB_ROOT_IS_SCALAR(given))
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_BAD_REQUEST),
				 errmsg("atts_since must be an array of revisions")));
	docrep_raw_begin(&cursor, &given->root);
	revs = palloc(Max(cursor.n, 1) * sizeof(Rev));
	while (docrep_raw_next(&cursor, &item))
	{
		if (item.value.type != JENTRY_ISSTRING)
			ereport(ERROR,
					(errcode(ERRCODE_DOCREP_BAD_REQUEST),
					 errmsg("atts_since must be an array of revisions")));
		revs[show->nsince++] = docrep_rev_from_text(item.value.data, item.value.len,
													"a member of atts_since");
	}
	show->since = revs;
	show->has_since = true;
	show->attachments = true;
}

/*
 * docrep.get(tbl, id, rev, revs, revs_info, conflicts, deleted_conflicts,
 * open_revs, latest, attachments, atts_since).
 */
Datum
docrep_get(PG_FUNCTION_ARGS)
{
	DocTable   *table = docrep_table_open(docrep_arg_table(fcinfo, 0), AccessShareLock,
										  ACL_SELECT);
	char	   *id = docrep_arg_id(fcinfo, 1, "id");
	bool		latest = docrep_arg_bool(fcinfo, 8);
	DocShow		show = {.table = table};
	OpenDoc		doc = {0};
	Jsonb	   *result;

	show.revs = docrep_arg_bool(fcinfo, 3);
	show.revs_info = docrep_arg_bool(fcinfo, 4);
	show.conflicts = docrep_arg_bool(fcinfo, 5);
	show.deleted_conflicts = docrep_arg_bool(fcinfo, 6);
	show.attachments = docrep_arg_bool(fcinfo, 9);
	if (!PG_ARGISNULL(10))
		parse_atts_since(PG_GETARG_JSONB_P(10), &show);
	if (strncmp(id, LOCAL_PREFIX, strlen(LOCAL_PREFIX)) == 0)
		result = docrep_local_get(&table->info, id + strlen(LOCAL_PREFIX));
	else
	{
		docrep_open_doc(&doc, table, GetActiveSnapshot(), id, docrep_open_flags(&show, latest));
		if (!PG_ARGISNULL(7))
			result = get_open_revs(&doc, PG_GETARG_JSONB_P(7), latest, &show);
		else if (!PG_ARGISNULL(2))
		{
			text	   *given = PG_GETARG_TEXT_PP(2);
			Rev			rev = docrep_rev_from_text(VARDATA_ANY(given), VARSIZE_ANY_EXHDR(given),
												   "rev");

			result = get_one(&doc, &rev, latest, &show);
		}
		else
			result = get_one(&doc, NULL, latest, &show);
	}
	docrep_table_close(table, NoLock);
	if (result == NULL)
		PG_RETURN_NULL();
	PG_RETURN_JSONB_P(result);
}
