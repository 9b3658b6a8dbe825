/*-------------------------------------------------------------------------
 *
 * bulk_get.c
 *		SQL functions bulk_get and revs_diff: many documents at once, as
 *		CouchDB's POST /db/_bulk_get and POST /db/_revs_diff.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "store/errcodes.h"
#include "store/open_doc.h"
#include "store/sql_support.h"
#include "utils/acl.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

PG_FUNCTION_INFO_V1(docrep_bulk_get);
PG_FUNCTION_INFO_V1(docrep_revs_diff);

/* One document asked for. */
typedef struct GetRequest
{
	char	   *id;				/* or NULL */
	bool		has_rev;
	Rev			rev;
	const char *rev_text;		/* as it was given; NULL: not given */
	const char *error;			/* why there can be no answer, or NULL */
	const char *reason;
} GetRequest;

/*
 * Read {"id": ..., "rev": ...}.  As in CouchDB a malformed revision or a missing
 * id is an error of this document only; what has no such shape at all is DR400.
 */
static void
parse_request(const RawValue *value, GetRequest *request)
{
	const JsonbContainer *object = (const JsonbContainer *) value->data;
	RawValue	member;

	memset(request, 0, sizeof(*request));
	if (!docrep_raw_is_object(value))
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_BAD_REQUEST),
				 errmsg("a member of \"docs\" must be an object with a string \"id\"")));
	request->has_rev = docrep_raw_find(object, "rev", &member) && member.type != JENTRY_ISNULL;
	if (request->has_rev)
	{
		if (member.type != JENTRY_ISSTRING)
			ereport(ERROR,
					(errcode(ERRCODE_DOCREP_BAD_REQUEST),
					 errmsg("\"rev\" of a member of \"docs\" must be a string")));
		request->rev_text = docrep_raw_to_cstring(&member);
		if (docrep_rev_parse(member.data, member.len, palloc(Max(member.len, 1)),
							 &request->rev) != NULL)
		{
			request->error = "bad_request";
			request->reason = "Invalid rev format";
		}
	}
	if (!docrep_raw_find(object, "id", &member))
	{
		request->error = "bad_request";
		request->reason = "document id missed";
		return;
	}
	if (member.type != JENTRY_ISSTRING)
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_BAD_REQUEST),
				 errmsg("\"id\" of a member of \"docs\" must be a string")));
	request->id = docrep_raw_to_cstring(&member);
}

/* Add a member that is a string, or null. */
static void
add_text_or_null(RawBuilder *object, const char *key, const char *text)
{
	if (text)
		docrep_raw_add_text(object, key, text);
	else
		docrep_raw_add_null(object, key);
}

/* Add {"error": ...} to the answers for one document. */
static void
add_error(RawBuilder *answers, const GetRequest *request)
{
	RawBuilder	error;
	RawBuilder	item;

	docrep_raw_init(&error, true, 4);
	add_text_or_null(&error, "id", request->id);
	if (request->id == NULL)
		docrep_raw_add_null(&error, "rev");
	else
		docrep_raw_add_text(&error, "rev", request->rev_text ? request->rev_text : "undefined");
	docrep_raw_add_text(&error, "error", request->error ? request->error : "not_found");
	docrep_raw_add_text(&error, "reason", request->error ? request->reason : "missing");
	docrep_raw_init(&item, true, 1);
	docrep_raw_add_built(&item, "error", &error);
	docrep_raw_add_built(answers, NULL, &item);
}

/* {"id": ..., "docs": [...]} for one document. */
static Jsonb *
answer_request(DocTable *table, const GetRequest *request, bool latest, const DocShow *show)
{
	RawBuilder	answers;
	RawBuilder	result;
	OpenDoc		doc = {0};
	int32	   *leaves;
	int			n = 0;

	if (request->error == NULL)
	{
		docrep_open_doc(&doc, table, GetActiveSnapshot(), request->id,
						docrep_open_flags(show, latest));
		n = docrep_open_doc_leaves(&doc, request->has_rev ? &request->rev : NULL, latest,
								   &leaves);
	}
	docrep_raw_init(&answers, false, n);
	for (int i = 0; i < n; i++)
		docrep_raw_add_ok(&answers, docrep_open_doc_json(&doc, leaves[i], show));
	if (n == 0)
	{
		Jsonb	   *kept = !request->has_rev ? NULL :
			docrep_open_doc_kept_json(&doc, &request->rev, show);

		if (kept)
			docrep_raw_add_ok(&answers, kept);
		else
			add_error(&answers, request);
	}
	docrep_raw_init(&result, true, 2);
	add_text_or_null(&result, "id", request->id);
	docrep_raw_add_built(&result, "docs", &answers);
	return docrep_raw_finish(&result);
}

/*
 * docrep.bulk_get(tbl, docs, revs, attachments, latest): {"results": [...]}.
 * As in CouchDB a document asked for without a revision is answered with all
 * its leaves.
 */
Datum
docrep_bulk_get(PG_FUNCTION_ARGS)
{
	DocTable   *table = docrep_table_open(docrep_arg_table(fcinfo, 0), AccessShareLock,
										  ACL_SELECT);
	const JsonbContainer *array = docrep_docs_array(docrep_arg_jsonb(fcinfo, 1, "docs"), "docs");
	bool		latest = docrep_arg_bool(fcinfo, 4);
	DocShow		show = {.table = table};
	RawCursor	cursor;
	RawMember	item;
	RawBuilder	results;
	RawBuilder	object;
	MemoryContext scratch = AllocSetContextCreate(CurrentMemoryContext, "bulk_get document",
												  ALLOCSET_DEFAULT_SIZES);

	show.revs = docrep_arg_bool(fcinfo, 2);
	show.attachments = docrep_arg_bool(fcinfo, 3);
	docrep_raw_begin(&cursor, array);
	docrep_raw_init(&results, false, cursor.n);
	while (docrep_raw_next(&cursor, &item))
	{
		GetRequest	request;
		Jsonb	   *answer;
		MemoryContext old = MemoryContextSwitchTo(scratch);
		Jsonb	   *copy;

		CHECK_FOR_INTERRUPTS();
		parse_request(&item.value, &request);
		answer = answer_request(table, &request, latest, &show);
		MemoryContextSwitchTo(old);
		copy = palloc(VARSIZE(answer));
		memcpy(copy, answer, VARSIZE(answer));
		docrep_raw_add_jsonb(&results, NULL, copy);
		MemoryContextReset(scratch);
	}
	docrep_raw_init(&object, true, 1);
	docrep_raw_add_built(&object, "results", &results);
	docrep_table_close(table, NoLock);
	PG_RETURN_JSONB_P(docrep_raw_finish(&object));
}

/* Raise DR400 for the parameter of revs_diff. */
static void
bad_revs(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_DOCREP_BAD_REQUEST),
			 errmsg("\"revs\" must be an object of arrays of revisions, by document id")));
}

/*
 * Which of the asked revisions the document does not know, as an array, or
 * NULL if it knows all; *highest is their highest generation.
 */
static Jsonb *
missing_revs(OpenDoc *doc, const RawValue *asked, uint32 *highest)
{
	RawBuilder	missing;
	RawCursor	cursor;
	RawMember	item;

	*highest = 0;
	docrep_raw_begin(&cursor, (const JsonbContainer *) asked->data);
	docrep_raw_init(&missing, false, cursor.n);
	while (docrep_raw_next(&cursor, &item))
	{
		Rev			rev;

		if (item.value.type != JENTRY_ISSTRING)
			bad_revs();
		rev = docrep_rev_from_text(item.value.data, item.value.len, "a member of \"revs\"");
		if (doc->found)
		{
			if (docrep_revtree_find(doc->state.tree, &rev) >= 0)
				continue;
			if (docrep_revtree_maybe_in_trunk(doc->state.tree, &rev))
			{
				docrep_state_read(doc->table, doc->snapshot, doc->id, DOCSTATE_TRUNK,
								  &doc->state);
				if (docrep_revtree_find(doc->state.tree, &rev) >= 0)
					continue;
			}
		}
		docrep_raw_add_rev(&missing, NULL, &rev);
		*highest = Max(*highest, rev.gen);
	}
	return missing.n > 0 ? docrep_raw_finish(&missing) : NULL;
}

/* {"missing": [...], "possible_ancestors": [...]}, or NULL if nothing is missing. */
static Jsonb *
diff_document(DocTable *table, const char *id, const RawValue *asked)
{
	OpenDoc		doc = {0};
	RawBuilder	result;
	RawBuilder	ancestors;
	Jsonb	   *missing;
	uint32		highest;
	int32	   *leaves;
	int			n;

	docrep_open_doc(&doc, table, GetActiveSnapshot(), id, 0);
	missing = missing_revs(&doc, asked, &highest);
	if (missing == NULL)
		return NULL;
	docrep_raw_init(&result, true, 2);
	docrep_raw_add_jsonb(&result, "missing", missing);
	n = docrep_open_doc_leaves(&doc, NULL, false, &leaves);
	docrep_raw_init(&ancestors, false, n);
	for (int i = 0; i < n; i++)
	{
		const Rev  *leaf = &doc.state.tree->nodes[leaves[i]].rev;

		if (leaf->gen < highest)
			docrep_raw_add_rev(&ancestors, NULL, leaf);
	}
	if (ancestors.n > 0)
		docrep_raw_add_built(&result, "possible_ancestors", &ancestors);
	return docrep_raw_finish(&result);
}

/* docrep.revs_diff(tbl, revs): by id, the revisions that are not known here. */
Datum
docrep_revs_diff(PG_FUNCTION_ARGS)
{
	DocTable   *table = docrep_table_open(docrep_arg_table(fcinfo, 0), AccessShareLock,
										  ACL_SELECT);
	Jsonb	   *revs = docrep_arg_jsonb(fcinfo, 1, "revs");
	RawCursor	cursor;
	RawMember	item;
	RawBuilder	result;
	MemoryContext scratch = AllocSetContextCreate(CurrentMemoryContext, "revs_diff document",
												  ALLOCSET_DEFAULT_SIZES);

	if (!JB_ROOT_IS_OBJECT(revs))
		bad_revs();
	docrep_raw_begin(&cursor, &revs->root);
	docrep_raw_init(&result, true, cursor.n);
	while (docrep_raw_next(&cursor, &item))
	{
		MemoryContext old = MemoryContextSwitchTo(scratch);
		Jsonb	   *diff;

		CHECK_FOR_INTERRUPTS();
		if (!docrep_raw_is_array(&item.value))
			bad_revs();
		diff = diff_document(table, pnstrdup(item.key, item.keylen), &item.value);
		MemoryContextSwitchTo(old);
		if (diff)
		{
			Jsonb	   *copy = palloc(VARSIZE(diff));

			memcpy(copy, diff, VARSIZE(diff));
			item.value.data = VARDATA(copy);
			item.value.len = VARSIZE(copy) - VARHDRSZ;
			docrep_raw_add_member(&result, &item);
		}
		MemoryContextReset(scratch);
	}
	docrep_table_close(table, NoLock);
	PG_RETURN_JSONB_P(docrep_raw_finish(&result));
}
