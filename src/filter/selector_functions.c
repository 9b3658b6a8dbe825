/*-------------------------------------------------------------------------
 *
 * selector_functions.c
 *		docrep.matches(), and what docrep.find() asks about each row.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "nodes/primnodes.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "filter/selector_find.h"
#include "filter/selector_internal.h"
#include "store/document.h"
#include "store/errcodes.h"
#include "store/rev_type.h"

PG_FUNCTION_INFO_V1(docrep_matches);
PG_FUNCTION_INFO_V1(docrep_row_matches);
PG_FUNCTION_INFO_V1(docrep_found_doc);

/* What a call site keeps between calls. */
typedef struct MatchCache
{
	MemoryContext context;		/* of the selector: its regular expressions are freed with it */
	Selector   *selector;		/* NULL: not compiled */
	bool		constant;		/* the argument is the same in all calls */
} MatchCache;

/*
 * Is an argument a constant of the statement?  (A parameter is not: a loop in
 * PL/pgSQL evaluates the same expression with other values.)
 */
static bool
is_constant(FmgrInfo *flinfo, int argno)
{
	FuncExpr   *call = (FuncExpr *) flinfo->fn_expr;

	return call && IsA(call, FuncExpr) && list_length(call->args) > argno &&
		IsA(list_nth(call->args, argno), Const);
}

/*
 * The compiled selector of an argument: that of the last call if it is the same.
 */
static Selector *
get_selector(FunctionCallInfo fcinfo, int argno)
{
	FmgrInfo   *flinfo = fcinfo->flinfo;
	MatchCache *cache = flinfo->fn_extra;
	MemoryContext old;
	Jsonb	   *source;

	if (cache && cache->selector && cache->constant)
		return cache->selector;
	source = PG_GETARG_JSONB_P(argno);
	if (cache && cache->selector && VARSIZE(cache->selector->source) == VARSIZE(source) &&
		memcmp(cache->selector->source, source, VARSIZE(source)) == 0)
		return cache->selector;

	if (cache == NULL)
	{
		cache = MemoryContextAllocZero(flinfo->fn_mcxt, sizeof(MatchCache));
		cache->context = AllocSetContextCreate(flinfo->fn_mcxt, "docrep selector",
											   ALLOCSET_SMALL_SIZES);
		cache->constant = is_constant(flinfo, argno);
		flinfo->fn_extra = cache;
	}
	cache->selector = NULL;
	MemoryContextReset(cache->context);
	old = MemoryContextSwitchTo(cache->context);
	cache->selector = docrep_selector_compile(source);
	MemoryContextSwitchTo(old);
	return cache->selector;
}

/*
 * matches(doc, selector): does a document match?  What the document says of
 * _id and _rev is in it or is not.
 */
Datum
docrep_matches(PG_FUNCTION_ARGS)
{
	Jsonb	   *doc = PG_GETARG_JSONB_P(0);
	Selector   *selector = get_selector(fcinfo, 1);
	bool		result;

	if (!JB_ROOT_IS_OBJECT(doc))
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_BAD_REQUEST),
				 errmsg("a document must be a JSON object")));
	result = docrep_selector_matches(selector, &doc->root, NULL, NULL, false, NULL);
	PG_FREE_IF_COPY(doc, 0);
	PG_RETURN_BOOL(result);
}

/*
 * row_matches(doc, id, rev, attachments, selector): does the document of a row match?  Only
 * attachments may be NULL.
 */
Datum
docrep_row_matches(PG_FUNCTION_ARGS)
{
	Jsonb	   *doc;
	Selector   *selector;
	char	   *id;
	char	   *rev_text = NULL;
	Jsonb	   *atts = NULL;
	bool		result;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1) || PG_ARGISNULL(2) || PG_ARGISNULL(4))
		PG_RETURN_NULL();
	doc = PG_GETARG_JSONB_P(0);
	selector = get_selector(fcinfo, 4);
	id = text_to_cstring(PG_GETARG_TEXT_PP(1));
	if (selector->uses_atts && !PG_ARGISNULL(3))
		atts = docrep_selector_stubs(selector, PG_GETARG_JSONB_P(3));

	if (selector->uses_rev || selector->uses_whole)
	{
		Rev			rev;

		docrep_datum_rev(PG_GETARG_DATUM(2), &rev);
		rev_text = palloc(REV_TEXT_SIZE);
		docrep_rev_print(&rev, rev_text);
	}
	result = docrep_selector_matches(selector, &doc->root, id, rev_text, false, atts);
	pfree(id);
	PG_FREE_IF_COPY(doc, 0);
	PG_RETURN_BOOL(result);
}

/*
 * found_doc(doc, id, rev, attachments, fields): the document of a row as
 * docrep.find() returns it, or some of its fields (NULL or none: all).
 */
Datum
docrep_found_doc(PG_FUNCTION_ARGS)
{
	Jsonb	   *doc;
	RawBuilder	builder;
	RawCursor	cursor;
	RawMember	member;
	DocShow		show = {0};
	Rev			rev;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1) || PG_ARGISNULL(2))
		PG_RETURN_NULL();
	doc = PG_GETARG_JSONB_P(0);
	docrep_datum_rev(PG_GETARG_DATUM(2), &rev);
	docrep_raw_begin(&cursor, &doc->root);
	docrep_raw_init(&builder, true, cursor.n + 3);
	while (docrep_raw_next(&cursor, &member))
		docrep_raw_add_member(&builder, &member);
	docrep_raw_add_text(&builder, "_id", text_to_cstring(PG_GETARG_TEXT_PP(1)));
	docrep_raw_add_rev(&builder, "_rev", &rev);
	if (!PG_ARGISNULL(3))
		docrep_document_add_atts(&builder, NULL, 0, PG_GETARG_JSONB_P(3), &show);
	doc = docrep_raw_finish(&builder);
	if (!PG_ARGISNULL(4) && ArrayGetNItems(ARR_NDIM(PG_GETARG_ARRAYTYPE_P(4)),
										   ARR_DIMS(PG_GETARG_ARRAYTYPE_P(4))) > 0)
		doc = docrep_fields_pick(doc, PG_GETARG_ARRAYTYPE_P(4));
	PG_RETURN_JSONB_P(doc);
}
