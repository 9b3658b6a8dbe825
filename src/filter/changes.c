/*-------------------------------------------------------------------------
 *
 * changes.c
 *		SQL functions changes and changes_feed.
 *
 * Both read the feed (feed.h), whose snapshot is newer than the statement's:
 * see "the changes feed" in README.md.  Hence they are VOLATILE.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "filter/filter.h"
#include "store/document.h"
#include "store/errcodes.h"
#include "store/feed.h"
#include "store/json_text.h"
#include "store/sql_support.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

PG_FUNCTION_INFO_V1(docrep_changes);
PG_FUNCTION_INFO_V1(docrep_changes_feed);

/* The parameters of both functions. */
typedef struct ChangesRequest
{
	int64		since;
	int64		max_rows;		/* PG_INT64_MAX: all */
	bool		all_docs;		/* style */
	bool		include_docs;
	bool		descending;
	DocShow		show;
	char	  **doc_ids;		/* or NULL */
	int			ndoc_ids;
	DocrepFilterSpec filter;
} ChangesRequest;

/* One change as it is shown. */
typedef struct ChangeShown
{
	Jsonb	   *changes;		/* [{"rev": ...}, ...] */
	bool		deleted;
	Jsonb	   *doc;			/* or NULL */
} ChangeShown;

static int
compare_ids(const void *a, const void *b)
{
	return strcmp(*(char *const *) a, *(char *const *) b);
}

/* Read doc_ids: sorted, unique. */
static void
parse_doc_ids(ArrayType *array, ChangesRequest *request)
{
	Datum	   *elems;
	bool	   *nulls;
	int			n;
	int			kept = 0;

	deconstruct_array(array, TEXTOID, -1, false, TYPALIGN_INT, &elems, &nulls, &n);
	request->doc_ids = palloc(Max(n, 1) * sizeof(char *));
	for (int i = 0; i < n; i++)
	{
		if (nulls[i])
			ereport(ERROR,
					(errcode(ERRCODE_DOCREP_BAD_REQUEST),
					 errmsg("\"doc_ids\" must not contain NULL")));
		request->doc_ids[i] = TextDatumGetCString(elems[i]);
	}
	qsort(request->doc_ids, n, sizeof(char *), compare_ids);
	for (int i = 0; i < n; i++)
	{
		if (kept == 0 || strcmp(request->doc_ids[kept - 1], request->doc_ids[i]) != 0)
			request->doc_ids[kept++] = request->doc_ids[i];
	}
	request->ndoc_ids = kept;
}

/* Two that choose documents cannot be given together. */
static void
refuse_both(const char *a, const char *b)
{
	ereport(ERROR,
			(errcode(ERRCODE_DOCREP_BAD_REQUEST),
			 errmsg("\"%s\" and \"%s\" exclude each other", a, b)));
}

/*
 * What was given beside the name of a filter: "_doc_ids" and "_selector" may have it in
 * the parameters of that name, as in the body of a POST, or in query_params.
 */
static void
check_choice(ChangesRequest *request)
{
	DocrepFilterSpec *filter = &request->filter;
	DocrepFilterKind kind = docrep_filter_kind(filter->filter);

	if (request->doc_ids && filter->selector)
		refuse_both("doc_ids", "selector");
	if (request->doc_ids && kind != DOCREP_FILTER_NONE && kind != DOCREP_FILTER_DOC_IDS)
		refuse_both("doc_ids", "filter");
	if (filter->selector && kind != DOCREP_FILTER_NONE && kind != DOCREP_FILTER_SELECTOR)
		refuse_both("selector", "filter");
	if (request->doc_ids || filter->selector)
		filter->filter = NULL;
}

/* A parameter that is an object, as text. */
static char *
object_argument(FunctionCallInfo fcinfo, int arg, const char *name)
{
	Jsonb	   *value = PG_GETARG_JSONB_P(arg);

	if (!JB_ROOT_IS_OBJECT(value))
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_BAD_REQUEST),
				 errmsg("\"%s\" must be an object", name)));
	return docrep_json_print(value);
}

/* Read what chooses documents: doc_ids, selector, filter, query_params (arguments 7 to 10). */
static void
parse_choice(FunctionCallInfo fcinfo, ChangesRequest *request)
{
	DocrepFilterSpec *filter = &request->filter;

	if (!PG_ARGISNULL(7))
		parse_doc_ids(PG_GETARG_ARRAYTYPE_P(7), request);
	if (!PG_ARGISNULL(8))
		filter->selector = object_argument(fcinfo, 8, "selector");
	if (!PG_ARGISNULL(9))
		filter->filter = text_to_cstring(PG_GETARG_TEXT_PP(9));
	if (!PG_ARGISNULL(10))
		filter->query_params = object_argument(fcinfo, 10, "query_params");
	check_choice(request);
	*filter = *docrep_filter_spec_plain(filter, &request->doc_ids, &request->ndoc_ids);
}

/* Read the parameters; they are the same in both functions. */
static void
parse_arguments(FunctionCallInfo fcinfo, ChangesRequest *request)
{
	memset(request, 0, sizeof(*request));
	request->since = PG_ARGISNULL(1) ? 0 : Max(PG_GETARG_INT64(1), 0);
	request->max_rows = PG_INT64_MAX;
	if (!PG_ARGISNULL(2))
	{
		request->max_rows = PG_GETARG_INT32(2);
		if (request->max_rows < 0)
			ereport(ERROR,
					(errcode(ERRCODE_DOCREP_BAD_REQUEST),
					 errmsg("\"max_rows\" must not be negative")));
	}
	if (!PG_ARGISNULL(3))
	{
		char	   *style = text_to_cstring(PG_GETARG_TEXT_PP(3));

		request->all_docs = strcmp(style, "all_docs") == 0;
		if (!request->all_docs && strcmp(style, "main_only") != 0)
			ereport(ERROR,
					(errcode(ERRCODE_DOCREP_BAD_REQUEST),
					 errmsg("\"style\" must be main_only or all_docs, not \"%s\"", style)));
	}
	request->include_docs = docrep_arg_bool(fcinfo, 4);
	request->show.conflicts = docrep_arg_bool(fcinfo, 5);
	request->descending = docrep_arg_bool(fcinfo, 6);
	parse_choice(fcinfo, request);
}

static DocFeed *
open_feed(DocTable *table, const ChangesRequest *request, int64 since)
{
	DocrepFilter *filter = docrep_filter_compile(&request->filter, table);
	DocFeed    *feed = docrep_feed_open(table, since, request->descending,
										(const char *const *) request->doc_ids,
										request->ndoc_ids,
										request->include_docs ? DOCSTATE_BODY : 0);

	if (filter)
		docrep_feed_set_filter(feed, docrep_filter_for_feed(filter, request->all_docs), 0);
	return feed;
}

/* Bytes that {"rev": "..."} takes, with the given text of the revision. */
#define REV_OBJECT_SIZE(textlen)	(sizeof(uint32) + 2 * sizeof(JEntry) + 3 + (textlen))

/*
 * Write {"rev": text of rev} as a jsonb container to p; returns its length.
 * This, and not a builder, as it runs for every row of a feed.
 */
static uint32
write_rev_object(char *p, const Rev *rev)
{
	uint32		header = 1 | JB_FOBJECT;
	JEntry		key = JENTRY_ISSTRING | JENTRY_HAS_OFF | 3;
	JEntry		value;
	uint32		textlen = docrep_rev_print(rev, p + REV_OBJECT_SIZE(0));

	value = JENTRY_ISSTRING | textlen;
	memcpy(p, &header, sizeof(header));
	memcpy(p + sizeof(uint32), &key, sizeof(key));
	memcpy(p + 2 * sizeof(uint32), &value, sizeof(value));
	memcpy(p + 3 * sizeof(uint32), "rev", 3);
	return REV_OBJECT_SIZE(textlen);
}

/* [{"rev": ...}] of one revision. */
static Jsonb *
one_rev_array(const Rev *rev)
{
	/* room for the final NUL that printing writes */
	Jsonb	   *result = palloc(VARHDRSZ + 2 * sizeof(uint32) +
								REV_OBJECT_SIZE(10 + 1 + 2 * (Size) rev->len + 1));
	uint32		len = write_rev_object((char *) &result->root.children[1], rev);

	result->root.header = 1 | JB_FARRAY;
	result->root.children[0] = JENTRY_ISCONTAINER | JENTRY_HAS_OFF | len;
	SET_VARSIZE(result, VARHDRSZ + 2 * sizeof(uint32) + len);
	return result;
}

/* [{"rev": ...}, ...] of all leaves that pass (NULL: all), winner first. */
static Jsonb *
all_leaves_array(const RevTree *tree, const bool *passes)
{
	int32	   *leaves;
	int32		n = docrep_revtree_leaves(tree, &leaves);
	RawBuilder	list;

	if (n == 1)
		return one_rev_array(&tree->nodes[leaves[0]].rev);
	docrep_raw_init(&list, false, n);
	for (int32 i = 0; i < n; i++)
	{
		RawBuilder	item;

		if (passes && !passes[i])
			continue;
		docrep_raw_init(&item, true, 1);
		docrep_raw_add_rev(&item, "rev", &tree->nodes[leaves[i]].rev);
		docrep_raw_add_built(&list, NULL, &item);
	}
	return docrep_raw_finish(&list);
}

/* What one row of the feed is shown as. */
static void
show_change(const ChangesRequest *request, const DocFeedRow *row, ChangeShown *shown)
{
	const DocState *state = &row->state;
	const RevNode *winner = &state->tree->nodes[state->winner];

	shown->deleted = winner->deleted;
	shown->changes = request->all_docs ? all_leaves_array(state->tree, row->passes) :
		one_rev_array(&winner->rev);
	shown->doc = request->include_docs ?
		docrep_document_show(row->id, state->tree, state->winner, state->doc, state->atts,
							 &request->show) :
		NULL;
}

/* docrep.changes(...): a row a change. */
Datum
docrep_changes(PG_FUNCTION_ARGS)
{
	TupleDesc	tupdesc;
	Tuplestorestate *store = docrep_srf_begin(fcinfo, &tupdesc);
	DocTable   *table = docrep_table_open(docrep_arg_table(fcinfo, 0), AccessShareLock,
										  ACL_SELECT);
	ChangesRequest request;
	DocFeed    *feed;
	MemoryContext row_cxt;
	MemoryContext old;

	parse_arguments(fcinfo, &request);
	feed = open_feed(table, &request, request.since);
	row_cxt = AllocSetContextCreate(CurrentMemoryContext, "changes row", ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(row_cxt);
	for (int64 n = 0; n < request.max_rows; n++)
	{
		DocFeedRow	row;
		ChangeShown shown;
		Datum		values[5];
		bool		nulls[5] = {false};

		CHECK_FOR_INTERRUPTS();
		if (!docrep_feed_next(feed, &row))
			break;
		show_change(&request, &row, &shown);
		values[0] = Int64GetDatum(row.state.seq);
		values[1] = CStringGetTextDatum(row.id);
		values[2] = JsonbPGetDatum(shown.changes);
		values[3] = BoolGetDatum(shown.deleted);
		values[4] = JsonbPGetDatum(shown.doc);
		nulls[4] = shown.doc == NULL;
		tuplestore_putvalues(store, tupdesc, values, nulls);
		MemoryContextReset(row_cxt);
	}
	MemoryContextSwitchTo(old);
	docrep_feed_close(feed);
	docrep_table_close(table, NoLock);
	return (Datum) 0;
}

/* One change as an object of "results", allocated in cxt. */
static Jsonb *
change_object(const DocFeedRow *row, const ChangeShown *shown, MemoryContext cxt)
{
	RawBuilder	object;
	MemoryContext old;
	Jsonb	   *result;

	docrep_raw_init(&object, true, 5);
	docrep_raw_add_int64(&object, "seq", row->state.seq);
	docrep_raw_add_text(&object, "id", row->id);
	docrep_raw_add_jsonb(&object, "changes", shown->changes);
	if (shown->deleted)
		docrep_raw_add_bool(&object, "deleted", true);
	if (shown->doc)
		docrep_raw_add_jsonb(&object, "doc", shown->doc);
	old = MemoryContextSwitchTo(cxt);
	result = docrep_raw_finish(&object);
	MemoryContextSwitchTo(old);
	return result;
}

/*
 * docrep.changes_feed(...): {"results": [...], "last_seq": ..., "pending": ...}.
 * last_seq is where the next call goes on from: the last row's seq if max_rows
 * ended the reading, else how far was scanned.
 */
Datum
docrep_changes_feed(PG_FUNCTION_ARGS)
{
	DocTable   *table = docrep_table_open(docrep_arg_table(fcinfo, 0), AccessShareLock,
										  ACL_SELECT);
	ChangesRequest request;
	DocFeed    *feed;
	DocFeedRow	row;
	RawBuilder	results;
	RawBuilder	object;
	MemoryContext cxt = CurrentMemoryContext;
	MemoryContext row_cxt;
	int64		last_seq;
	int64		pending = 0;
	bool		at_end = false;

	parse_arguments(fcinfo, &request);
	last_seq = request.since;
	feed = open_feed(table, &request, request.since);
	docrep_raw_init(&results, false, 16);
	row_cxt = AllocSetContextCreate(cxt, "changes row", ALLOCSET_DEFAULT_SIZES);
	while (results.n < request.max_rows)
	{
		ChangeShown shown;
		Jsonb	   *change;

		CHECK_FOR_INTERRUPTS();
		MemoryContextReset(row_cxt);
		MemoryContextSwitchTo(row_cxt);
		at_end = !docrep_feed_next(feed, &row);
		if (at_end)
			break;
		show_change(&request, &row, &shown);
		change = change_object(&row, &shown, cxt);
		MemoryContextSwitchTo(cxt);
		docrep_raw_add_jsonb(&results, NULL, change);
		last_seq = row.state.seq;
	}
	MemoryContextSwitchTo(row_cxt);
	if (!at_end)
		pending = docrep_feed_count_rest(feed);
	else if (!request.descending)
		last_seq = Max(last_seq, docrep_feed_scanned(feed));
	MemoryContextSwitchTo(cxt);
	docrep_feed_close(feed);

	docrep_raw_init(&object, true, 3);
	docrep_raw_add_built(&object, "results", &results);
	docrep_raw_add_int64(&object, "last_seq", last_seq);
	docrep_raw_add_int64(&object, "pending", pending);
	docrep_table_close(table, NoLock);
	PG_RETURN_JSONB_P(docrep_raw_finish(&object));
}
