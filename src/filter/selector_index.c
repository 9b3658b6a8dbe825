/*-------------------------------------------------------------------------
 *
 * selector_index.c
 *		From a selector to SQL conditions that an index can serve.
 *
 * What comes out is true for every row whose document matches, and for others
 * too: the selector itself decides.  It is of three forms:
 *
 *		doc @> '{"a": {"b": 1}}'		for $eq, $in, $all, also inside of $elemMatch
 *		(doc -> 'a' -> 'b') >= '1' AND ...	for ranges of numbers, closed on both sides
 *		_id = ..., _id >= ..., _id LIKE for conditions on _id
 *
 * One-sided ranges are left out: a number to one side has all other types on that
 * side too, which jsonb orders differently.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "nodes/pg_list.h"
#include "utils/builtins.h"
#include "utils/json.h"

#include "filter/selector_internal.h"

/* More alternatives than this are not worth an index. */
#define MAX_ALTERNATIVES	100

/* What stands around the pattern of a condition: where it is in the document. */
typedef struct Around
{
	const char *before;
	const char *after;
	bool		top;			/* directly in the document */
} Around;

static char *node_condition(const SelectorNode *node, const Around *around);

/*
 * Conditions joined, in parentheses; NULL: there are none.
 */
static char *
join_conditions(List *conditions, const char *word)
{
	StringInfoData out;
	ListCell   *cell;

	if (conditions == NIL)
		return NULL;
	if (list_length(conditions) == 1)
		return linitial(conditions);
	initStringInfo(&out);
	foreach(cell, conditions)
		appendStringInfo(&out, "%s%s", out.len == 0 ? "(" : word, (char *) lfirst(cell));
	appendStringInfoChar(&out, ')');
	return out.data;
}

/*
 * The text around a value at a condition's path.  NULL: a name that may be the
 * index of an array, where containment would not look.
 */
static Around *
surround(const SelectorNode *node, const Around *around, const char *open, const char *close)
{
	Around	   *result = palloc(sizeof(Around));
	StringInfoData before;
	StringInfoData after;

	initStringInfo(&before);
	initStringInfo(&after);
	appendStringInfoString(&before, around->before);
	for (int i = 0; i < node->nsteps; i++)
	{
		if (node->steps[i].index >= 0)
			return NULL;
		appendStringInfoChar(&before, '{');
		escape_json(&before, node->steps[i].name);
		appendStringInfoString(&before, ": ");
		appendStringInfoChar(&after, '}');
	}
	appendStringInfoString(&before, open);
	result->before = before.data;
	result->after = psprintf("%s%s%s", close, after.data, around->after);
	result->top = false;
	return result;
}

/*
 * "doc contains this value there".
 */
static char *
contains(const Around *around, const RawValue *value)
{
	StringInfoData pattern;

	initStringInfo(&pattern);
	appendStringInfoString(&pattern, around->before);
	docrep_selector_value_text(&pattern, value);
	appendStringInfoString(&pattern, around->after);
	return psprintf("t.doc OPERATOR(pg_catalog.@>) %s::pg_catalog.jsonb",
					quote_literal_cstr(pattern.data));
}

/*
 * $in and $all: one of the values there, or an array that has one (all) of them.
 */
static char *
contains_values(const SelectorNode *node, const Around *around)
{
	Around	   *is = surround(node, around, "", "");
	Around	   *has = surround(node, around, "[", "]");
	List	   *conditions = NIL;
	char	   *all;

	if (is == NULL || node->nvalues > MAX_ALTERNATIVES)
		return NULL;
	if (node->op == SELECTOR_ALL)
	{
		all = contains(is, &node->value);
		if (node->nvalues == 0)
			return "false";
		if (node->nvalues > 1 || !docrep_raw_is_array(&node->values[0]))
			return all;
		return join_conditions(list_make2(all, contains(is, &node->values[0])), " OR ");
	}
	for (int i = 0; i < node->nvalues; i++)
	{
		if (!docrep_raw_is_array(&node->values[i]))
			conditions = lappend(conditions, contains(is, &node->values[i]));
		conditions = lappend(conditions, contains(has, &node->values[i]));
	}
	return conditions ? join_conditions(conditions, " OR ") : "false";
}

/*
 * _id at the top of a document, a string: conditions on the column.
 */
static char *
id_condition(const SelectorNode *node)
{
	static const char *const signs[] = {
		[SELECTOR_LT] = "<",[SELECTOR_LTE] = "<=",[SELECTOR_EQ] = "=",
		[SELECTOR_GTE] = ">=",[SELECTOR_GT] = ">"
	};
	StringInfoData list;
	StringInfoData pattern;

	switch (node->op)
	{
		case SELECTOR_LT:
		case SELECTOR_LTE:
		case SELECTOR_EQ:
		case SELECTOR_GTE:
		case SELECTOR_GT:
			if (node->value.type != JENTRY_ISSTRING)
				return NULL;
			return psprintf("t._id OPERATOR(pg_catalog.%s) %s", signs[node->op],
							quote_literal_cstr(docrep_raw_to_cstring(&node->value)));
		case SELECTOR_IN:
			initStringInfo(&list);
			for (int i = 0; i < node->nvalues; i++)
				if (node->values[i].type == JENTRY_ISSTRING)
					appendStringInfo(&list, "%s%s", list.len > 0 ? ", " : "",
									 quote_literal_cstr(docrep_raw_to_cstring(&node->values[i])));
			if (list.len == 0)
				return "false";
			return psprintf("t._id OPERATOR(pg_catalog.=) ANY (ARRAY[%s])", list.data);
		case SELECTOR_BEGINS_WITH:
			initStringInfo(&pattern);
			for (uint32 i = 0; i < node->value.len; i++)
			{
				if (strchr("%_\\", node->value.data[i]))
					appendStringInfoChar(&pattern, '\\');
				appendStringInfoChar(&pattern, node->value.data[i]);
			}
			appendStringInfoChar(&pattern, '%');
			return psprintf("t._id OPERATOR(pg_catalog.~~) %s", quote_literal_cstr(pattern.data));
		default:
			return NULL;
	}
}

/*
 * A condition operator.
 */
static char *
field_condition(const SelectorNode *node, const Around *around)
{
	Around	   *inside;

	if (node->negated)
		return NULL;
	if (around->top && node->special != SPECIAL_NONE)
		return node->raw ? id_condition(node) : NULL;
	if (around->top && node->nsteps == 0)
		return NULL;
	switch (node->op)
	{
		case SELECTOR_EQ:
			inside = surround(node, around, "", "");
			return inside ? contains(inside, &node->value) : NULL;
		case SELECTOR_IN:
		case SELECTOR_ALL:
			return contains_values(node, around);
		case SELECTOR_ELEM_MATCH:
			inside = surround(node, around, "[", "]");
			return inside ? node_condition(node->children[0], inside) : NULL;
		default:
			return NULL;
	}
}

static bool
same_path(const SelectorNode *a, const SelectorNode *b)
{
	if (a->nsteps != b->nsteps)
		return false;
	for (int i = 0; i < a->nsteps; i++)
		if (strcmp(a->steps[i].name, b->steps[i].name) != 0)
			return false;
	return true;
}

/*
 * Is a node a bound of a number at the top of a document?  lower: from below.
 */
static bool
is_number_bound(const SelectorNode *node, bool lower)
{
	bool		op = lower ? node->op == SELECTOR_GT || node->op == SELECTOR_GTE :
		node->op == SELECTOR_LT || node->op == SELECTOR_LTE;

	return op && !node->negated && node->special == SPECIAL_NONE && node->nsteps > 0 &&
		node->value.type == JENTRY_ISNUMERIC;
}

/*
 * One bound of a range, on the expression that an index would have.
 */
static void
append_bound(StringInfo out, const SelectorNode *node)
{
	StringInfoData number;
	const char *sign = node->op == SELECTOR_GT ? ">" : node->op == SELECTOR_GTE ? ">=" :
		node->op == SELECTOR_LT ? "<" : "<=";

	initStringInfo(&number);
	docrep_selector_value_text(&number, &node->value);
	appendStringInfoString(out, "(t.doc");
	for (int i = 0; i < node->nsteps; i++)
		appendStringInfo(out, " OPERATOR(pg_catalog.->) %s",
						 quote_literal_cstr(node->steps[i].name));
	appendStringInfo(out, ") OPERATOR(pg_catalog.%s) '%s'::pg_catalog.jsonb", sign, number.data);
}

/*
 * The numbers of an $and that have bounds on both sides.
 */
static List *
range_conditions(const SelectorNode *node, List *conditions)
{
	for (int i = 0; i < node->nchildren; i++)
	{
		const SelectorNode *lower = node->children[i];
		bool		indexes = false;

		if (!is_number_bound(lower, true))
			continue;
		for (int s = 0; s < lower->nsteps; s++)
			indexes = indexes || lower->steps[s].index >= 0;
		for (int j = 0; !indexes && j < node->nchildren; j++)
		{
			StringInfoData out;

			if (!is_number_bound(node->children[j], false) || !same_path(lower, node->children[j]))
				continue;
			initStringInfo(&out);
			append_bound(&out, lower);
			appendStringInfoString(&out, " AND ");
			append_bound(&out, node->children[j]);
			conditions = lappend(conditions, out.data);
			break;
		}
	}
	return conditions;
}

/*
 * The condition for a node; NULL: nothing is known.
 */
static char *
node_condition(const SelectorNode *node, const Around *around)
{
	List	   *conditions = NIL;
	bool		or = node->op == SELECTOR_OR;

	if (node->op == SELECTOR_NOT)
		return NULL;
	if (node->op != SELECTOR_AND && !or)
		return field_condition(node, around);
	for (int i = 0; i < node->nchildren; i++)
	{
		char	   *condition = node_condition(node->children[i], around);

		if (condition)
			conditions = lappend(conditions, condition);
		else if (or)
			return NULL;
	}
	if (node->op == SELECTOR_AND && around->top)
		conditions = range_conditions(node, conditions);
	return join_conditions(conditions, or ? " OR " : " AND ");
}

/* See selector_internal.h.  The table's alias is t. */
char *
docrep_selector_index_condition(const Selector *selector)
{
	Around		around = {"", "", true};

	return selector->root ? node_condition(selector->root, &around) : NULL;
}
