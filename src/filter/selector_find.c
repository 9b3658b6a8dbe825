/*-------------------------------------------------------------------------
 *
 * selector_find.c
 *		docrep.find_query(): the statement that docrep.find() runs.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_collation.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"

#include "filter/selector_find.h"
#include "filter/selector_internal.h"
#include "store/errcodes.h"
#include "store/table.h"

PG_FUNCTION_INFO_V1(docrep_find_query);

/*
 * Raise DR400: sort is not what it should be.
 */
DOCREP_NORETURN static void
bad_sort(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_DOCREP_BAD_REQUEST),
			 errmsg("sort must be an array of fields, each \"field\" or {\"field\": \"asc\"} or {\"field\": \"desc\"}")));
}

/*
 * Append an array literal of a path's names.
 */
static void
append_path_array(StringInfo out, const SelectorNode *path)
{
	appendStringInfoString(out, "ARRAY[");
	for (int i = 0; i < path->nsteps; i++)
		appendStringInfo(out, "%s%s", i > 0 ? ", " : "", quote_literal_cstr(path->steps[i].name));
	appendStringInfoString(out, "]");
}

/*
 * One field of sort: its terms to order, and the condition that it is there.
 */
static void
append_sort_field(StringInfo order, StringInfo where, const char *name, int len, bool descending)
{
	const char *direction = descending ? " DESC" : "";
	const char *collation = docrep_selector_collation() == C_COLLATION_OID ? "C" : "und-x-icu";
	StringInfoData value;
	SelectorNode path = {0};

	if (len == 0)
		bad_sort();
	if (order->len > 0)
		appendStringInfoString(order, ", ");
	docrep_selector_set_path(&path, name, len);
	if (path.special == SPECIAL_ID && path.nsteps == 1)
	{
		appendStringInfo(order, "t._id%s", direction);
		return;
	}
	if (path.special != SPECIAL_NONE)
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_BAD_REQUEST),
				 errmsg("cannot sort by \"%.*s\"", len, name)));
	initStringInfo(&value);
	appendStringInfoString(&value, "(t.doc OPERATOR(pg_catalog.#>) ");
	append_path_array(&value, &path);
	appendStringInfoChar(&value, ')');
	appendStringInfo(where, " AND %s IS NOT NULL", value.data);
	appendStringInfo(order,
					 "docrep.sort_rank(%s)%s, "
					 "CASE pg_catalog.jsonb_typeof(%s) WHEN 'number' THEN %s::pg_catalog.numeric END%s, "
					 "CASE pg_catalog.jsonb_typeof(%s) WHEN 'string' THEN %s OPERATOR(pg_catalog.#>>) '{}' END "
					 "COLLATE pg_catalog.\"%s\"%s, %s%s",
					 value.data, direction, value.data, value.data, direction,
					 value.data, value.data, collation, direction, value.data, direction);
}

/*
 * The terms of ORDER BY.  _id comes last, so that pages do not overlap.
 */
static void
append_sort(StringInfo order, StringInfo where, Jsonb *sort)
{
	RawCursor	cursor;
	RawMember	item;

	if (!JB_ROOT_IS_ARRAY(sort) || JB_ROOT_IS_SCALAR(sort))
		bad_sort();
	docrep_raw_begin(&cursor, &sort->root);
	while (docrep_raw_next(&cursor, &item))
	{
		RawCursor	inner;
		RawMember	member;
		bool		descending;

		if (item.value.type == JENTRY_ISSTRING)
		{
			append_sort_field(order, where, item.value.data, item.value.len, false);
			continue;
		}
		if (!docrep_raw_is_object(&item.value))
			bad_sort();
		docrep_raw_begin(&inner, (const JsonbContainer *) item.value.data);
		if (inner.n != 1)
			bad_sort();
		docrep_raw_next(&inner, &member);
		if (member.value.type != JENTRY_ISSTRING)
			bad_sort();
		descending = member.value.len == 4 && memcmp(member.value.data, "desc", 4) == 0;
		if (!descending && !(member.value.len == 3 && memcmp(member.value.data, "asc", 3) == 0))
			bad_sort();
		append_sort_field(order, where, member.key, member.keylen, descending);
	}
}

/*
 * An argument that is a number of rows; NULL or 0 and more.
 */
static void
append_count(StringInfo out, FunctionCallInfo fcinfo, int argno, const char *name, const char *word)
{
	if (PG_ARGISNULL(argno))
		return;
	if (PG_GETARG_INT32(argno) < 0)
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_BAD_REQUEST),
				 errmsg("%s must not be negative", name)));
	if (PG_GETARG_INT32(argno) > 0 || strcmp(name, "skip") != 0)
		appendStringInfo(out, " %s %d", word, PG_GETARG_INT32(argno));
}

/*
 * The text of an array as a literal.
 */
static const char *
fields_literal(FunctionCallInfo fcinfo, int argno)
{
	if (PG_ARGISNULL(argno))
		return "NULL";
	docrep_fields_check(PG_GETARG_ARRAYTYPE_P(argno));
	return quote_literal_cstr(OidOutputFunctionCall(F_ARRAY_OUT, PG_GETARG_DATUM(argno)));
}

/*
 * find_query(tbl, selector, fields, sort, max_rows, skip): the statement that
 * returns the documents.  NULL if tbl or selector is.
 */
Datum
docrep_find_query(PG_FUNCTION_ARGS)
{
	StringInfoData query;
	StringInfoData order;
	StringInfoData where;
	Selector   *selector;
	DocTable   *table;
	char	   *condition;
	Oid			relid;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		PG_RETURN_NULL();
	relid = PG_GETARG_OID(0);
	table = docrep_table_open(relid, AccessShareLock, ACL_SELECT);
	selector = docrep_selector_compile(PG_GETARG_JSONB_P(1));
	condition = docrep_selector_index_condition(selector);

	initStringInfo(&order);
	initStringInfo(&where);
	if (!PG_ARGISNULL(3))
		append_sort(&order, &where, PG_GETARG_JSONB_P(3));

	initStringInfo(&query);
	appendStringInfo(&query,
					 "SELECT docrep.found_doc(t.doc, t._id, t._rev, t._attachments, %s) FROM %s AS t WHERE ",
					 fields_literal(fcinfo, 2),
					 quote_qualified_identifier(get_namespace_name(get_rel_namespace(relid)),
												get_rel_name(relid)));
	if (condition)
		appendStringInfo(&query, "%s AND ", condition);
	appendStringInfo(&query, "docrep.row_matches(t.doc, t._id, t._rev, t._attachments, %s)%s ORDER BY %s%st._id",
					 quote_literal_cstr(JsonbToCString(NULL, &selector->source->root, -1)),
					 where.data, order.data, order.len > 0 ? ", " : "");
	append_count(&query, fcinfo, 4, "max_rows", "LIMIT");
	append_count(&query, fcinfo, 5, "skip", "OFFSET");
	docrep_table_close(table, AccessShareLock);
	PG_RETURN_TEXT_P(cstring_to_text_with_len(query.data, query.len));
}
