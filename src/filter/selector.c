/*-------------------------------------------------------------------------
 *
 * selector.c
 *		Selectors as others see them: compiling, and their canonical text.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/json.h"

#include "filter/selector_internal.h"

static const char *const op_names[] = {
	[SELECTOR_AND] = "$and",
	[SELECTOR_OR] = "$or",
	[SELECTOR_NOT] = "$not",
	[SELECTOR_LT] = "$lt",
	[SELECTOR_LTE] = "$lte",
	[SELECTOR_EQ] = "$eq",
	[SELECTOR_NE] = "$ne",
	[SELECTOR_GTE] = "$gte",
	[SELECTOR_GT] = "$gt",
	[SELECTOR_IN] = "$in",
	[SELECTOR_NIN] = "$nin",
	[SELECTOR_EXISTS] = "$exists",
	[SELECTOR_NOT_EXISTS] = "$missing",
	[SELECTOR_TYPE] = "$type",
	[SELECTOR_SIZE] = "$size",
	[SELECTOR_MOD] = "$mod",
	[SELECTOR_REGEX] = "$regex",
	[SELECTOR_BEGINS_WITH] = "$beginsWith",
	[SELECTOR_ALL] = "$all",
	[SELECTOR_ELEM_MATCH] = "$elemMatch",
	[SELECTOR_ALL_MATCH] = "$allMatch",
	[SELECTOR_KEY_MAP_MATCH] = "$keyMapMatch",
};

/* Compile a selector in the current context; see filter.h. */
Selector *
docrep_selector_compile(Jsonb *source)
{
	Selector   *selector = palloc0(sizeof(Selector));

	selector->source = palloc(VARSIZE(source));
	memcpy(selector->source, source, VARSIZE(source));
	selector->collation = docrep_selector_collation();
	docrep_selector_build(selector);
	return selector;
}

/* for qsort and qunique */
static int
compare_texts(const void *a, const void *b)
{
	return strcmp(*(char *const *) a, *(char *const *) b);
}

/*
 * Append texts with commas between them, sorted, each once.
 */
static void
append_sorted(StringInfo out, char **texts, int n)
{
	qsort(texts, n, sizeof(char *), compare_texts);
	for (int i = 0; i < n; i++)
	{
		if (i > 0 && strcmp(texts[i], texts[i - 1]) == 0)
			continue;
		if (i > 0)
			appendStringInfoChar(out, ',');
		appendStringInfoString(out, texts[i]);
	}
}

/*
 * Append the path of a condition as a JSON array.
 */
static void
append_path(StringInfo out, const SelectorNode *node)
{
	appendStringInfoChar(out, '[');
	for (int i = 0; i < node->nsteps; i++)
	{
		if (i > 0)
			appendStringInfoChar(out, ',');
		escape_json(out, node->steps[i].name);
	}
	appendStringInfoChar(out, ']');
}

/*
 * Append the elements of an argument whose order does not matter.
 */
static void
append_values(StringInfo out, const SelectorNode *node)
{
	char	  **texts = palloc(Max(node->nvalues, 1) * sizeof(char *));

	for (int i = 0; i < node->nvalues; i++)
	{
		StringInfoData text;

		initStringInfo(&text);
		docrep_selector_value_text(&text, &node->values[i]);
		texts[i] = text.data;
	}
	appendStringInfoChar(out, '[');
	append_sorted(out, texts, node->nvalues);
	appendStringInfoChar(out, ']');
}

/*
 * The text of a node.  Negations and $exists are as compiling has left them.
 */
static char *
node_text(const SelectorNode *node)
{
	StringInfoData out;

	if ((node->op == SELECTOR_AND || node->op == SELECTOR_OR) && node->nchildren == 1)
		return node_text(node->children[0]);
	initStringInfo(&out);
	appendStringInfo(&out, "{\"%s%s%s\":[", node->negated ? "!" : "", op_names[node->op],
					 node->raw ? " bytes" : "");
	if (node->op >= SELECTOR_LT)
	{
		append_path(&out, node);
		if (node->op == SELECTOR_IN || node->op == SELECTOR_NIN)
		{
			appendStringInfoChar(&out, ',');
			append_values(&out, node);
		}
		else if (node->op != SELECTOR_EXISTS && node->op != SELECTOR_NOT_EXISTS &&
				 node->nchildren == 0)
		{
			appendStringInfoChar(&out, ',');
			docrep_selector_value_text(&out, &node->value);
		}
		if (node->nchildren > 0)
			appendStringInfoChar(&out, ',');
	}
	if (node->nchildren > 0)
	{
		char	  **texts = palloc(node->nchildren * sizeof(char *));

		for (int i = 0; i < node->nchildren; i++)
			texts[i] = node_text(node->children[i]);
		append_sorted(&out, texts, node->nchildren);
	}
	appendStringInfoString(&out, "]}");
	return out.data;
}

/* Canonical text; see filter.h.  Its form is for comparing, it is no selector. */
char *
docrep_selector_canonical(const Selector *selector)
{
	return selector->root ? node_text(selector->root) : pstrdup("{}");
}
