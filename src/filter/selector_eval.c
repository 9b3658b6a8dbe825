/*-------------------------------------------------------------------------
 *
 * selector_eval.c
 *		Does a document match a compiled selector?
 *
 * Works on stored jsonb in place; memory is taken only for $mod, for
 * conditions on the document as a whole, and for stubs of attachments.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/numeric.h"

#include "filter/selector_internal.h"
#include "store/document.h"

/* The document that is looked at. */
typedef struct Eval
{
	Oid			collation;
	const JsonbContainer *body;
	const char *id;				/* NULL: the body has all there is */
	const char *rev;
	bool		deleted;
	const Jsonb *atts;			/* an object with _attachments, or NULL */
	Jsonb	   *whole;			/* with all of these, once it was asked for */
} Eval;

typedef enum Found
{
	FOUND,
	NOT_FOUND,					/* an object lacks the member */
	BAD_PATH					/* something on the way has no members */
} Found;

static bool node_matches(Eval *eval, const SelectorNode *node, const RawValue *value, bool raw);

/*
 * The document as one value.
 */
static void
whole_document(Eval *eval, RawValue *value)
{
	RawBuilder	builder;
	RawCursor	cursor;
	RawMember	member;

	if (eval->id == NULL)
	{
		docrep_selector_root_value(eval->body, value);
		return;
	}
	if (eval->whole == NULL)
	{
		docrep_raw_begin(&cursor, eval->body);
		docrep_raw_init(&builder, true, cursor.n + 4);
		while (docrep_raw_next(&cursor, &member))
			docrep_raw_add_member(&builder, &member);
		docrep_raw_add_text(&builder, "_id", eval->id);
		if (eval->rev)
			docrep_raw_add_text(&builder, "_rev", eval->rev);
		if (eval->deleted)
			docrep_raw_add_bool(&builder, "_deleted", true);
		if (eval->atts)
		{
			docrep_raw_begin(&cursor, &eval->atts->root);
			while (docrep_raw_next(&cursor, &member))
				docrep_raw_add_member(&builder, &member);
		}
		eval->whole = docrep_raw_finish(&builder);
	}
	docrep_selector_root_value(&eval->whole->root, value);
}

/*
 * Is the first step of a path one of the members that are not in the body?
 */
static bool
find_special(const Eval *eval, SelectorSpecial special, RawValue *result)
{
	const char *text = NULL;

	if (special == SPECIAL_DELETED)
	{
		result->type = JENTRY_ISBOOL_TRUE;
		return eval->deleted;
	}
	if (special == SPECIAL_ATTACHMENTS)
		return eval->atts && docrep_raw_find(&eval->atts->root, "_attachments", result);
	text = special == SPECIAL_ID ? eval->id : eval->rev;
	if (text == NULL)
		return false;
	result->type = JENTRY_ISSTRING;
	result->data = text;
	result->len = strlen(text);
	return true;
}

/*
 * The index-th element of an array.
 */
static bool
find_element(const JsonbContainer *array, int64 index, RawValue *result)
{
	RawCursor	cursor;
	RawMember	item;

	if (index < 0 || index >= JsonContainerSize(array))
		return false;
	docrep_raw_begin(&cursor, array);
	while (cursor.i <= index)
		docrep_raw_next(&cursor, &item);
	*result = item.value;
	return true;
}

/*
 * Follow a path from a value; NULL is the document.
 */
static Found
find_field(Eval *eval, const SelectorNode *node, const RawValue *value, RawValue *result)
{
	const JsonbContainer *container;
	int			i = 0;

	if (node->nsteps == 0)
	{
		if (value)
			*result = *value;
		else
			whole_document(eval, result);
		return FOUND;
	}
	if (value)
		*result = *value;
	else if (node->special != SPECIAL_NONE && eval->id)
	{
		if (!find_special(eval, node->special, result))
			return NOT_FOUND;
		i = 1;
	}
	else
		docrep_selector_root_value(eval->body, result);

	for (; i < node->nsteps; i++)
	{
		const SelectorStep *step = &node->steps[i];

		if (result->type != JENTRY_ISCONTAINER)
			return BAD_PATH;
		container = (const JsonbContainer *) result->data;
		if (JsonContainerIsArray(container))
		{
			if (!find_element(container, step->index, result))
				return BAD_PATH;
		}
		else if (!docrep_selector_find(container, step->name, step->len, result))
			return NOT_FOUND;
	}
	return FOUND;
}

/*
 * $in: is it one of the values, or an array that has one of them?
 */
static bool
is_in(const SelectorNode *node, const RawValue *value)
{
	RawCursor	cursor;
	RawMember	item;

	if (!docrep_raw_is_array(value))
		return docrep_selector_contains(node->values, node->nvalues, value);
	docrep_raw_begin(&cursor, (const JsonbContainer *) value->data);
	while (docrep_raw_next(&cursor, &item))
	{
		CHECK_FOR_INTERRUPTS();
		if (docrep_selector_contains(node->values, node->nvalues, &item.value))
			return true;
	}
	return false;
}

/*
 * $all: an array that has all of the values, or is the only one of them.
 */
static bool
has_all(const SelectorNode *node, const RawValue *value)
{
	if (node->nvalues == 0 || !docrep_raw_is_array(value))
		return false;
	if (node->nvalues == 1 && docrep_raw_is_array(&node->values[0]) &&
		docrep_selector_equal(&node->values[0], value))
		return true;
	for (int i = 0; i < node->nvalues; i++)
	{
		RawCursor	cursor;
		RawMember	item;
		bool		found = false;

		CHECK_FOR_INTERRUPTS();
		docrep_raw_begin(&cursor, (const JsonbContainer *) value->data);
		while (!found && docrep_raw_next(&cursor, &item))
			found = docrep_selector_equal(&node->values[i], &item.value);
		if (!found)
			return false;
	}
	return true;
}

/*
 * $elemMatch, $allMatch: the selector inside, about each element.
 */
static bool
elements_match(Eval *eval, const SelectorNode *node, const RawValue *value, bool raw)
{
	bool		all = node->op == SELECTOR_ALL_MATCH;
	RawCursor	cursor;
	RawMember	item;

	if (!docrep_raw_is_array(value))
		return false;
	docrep_raw_begin(&cursor, (const JsonbContainer *) value->data);
	if (cursor.n == 0)
		return false;
	while (docrep_raw_next(&cursor, &item))
	{
		CHECK_FOR_INTERRUPTS();
		if (node_matches(eval, node->children[0], &item.value, raw) != all)
			return !all;
	}
	return all;
}

/*
 * $keyMapMatch: does the name of one of an object's members match?
 */
static bool
some_key_matches(Eval *eval, const SelectorNode *node, const RawValue *value, bool raw)
{
	RawCursor	cursor;
	RawMember	item;
	RawValue	key;

	if (!docrep_raw_is_object(value))
		return false;
	docrep_raw_begin(&cursor, (const JsonbContainer *) value->data);
	key.type = JENTRY_ISSTRING;
	while (docrep_raw_next(&cursor, &item))
	{
		CHECK_FOR_INTERRUPTS();
		key.data = item.key;
		key.len = item.keylen;
		if (node_matches(eval, node->children[0], &key, raw))
			return true;
	}
	return false;
}

/*
 * $mod.  Divisor and remainder are whole numbers, so what leaves that remainder
 * is one too.
 */
static bool
leaves_remainder(const SelectorNode *node, const RawValue *value)
{
	Datum		rest;
	bool		result;

	if (value->type != JENTRY_ISNUMERIC)
		return false;
	rest = DirectFunctionCall2(numeric_mod, PointerGetDatum(value->data),
							   PointerGetDatum(node->values[0].data));
	result = DatumGetBool(DirectFunctionCall2(numeric_eq, rest,
											  PointerGetDatum(node->values[1].data)));
	pfree(DatumGetPointer(rest));
	return result;
}

static bool
has_size(const SelectorNode *node, const RawValue *value)
{
	return docrep_raw_is_array(value) &&
		JsonContainerSize((const JsonbContainer *) value->data) == node->size;
}

static bool
has_type(const SelectorNode *node, const RawValue *value)
{
	const char *name = docrep_selector_type_name(value);

	return node->value.len == strlen(name) && memcmp(node->value.data, name, node->value.len) == 0;
}

/*
 * Does a condition hold for the value at its path?  raw: compare as _id is.
 */
static bool
condition_holds(Eval *eval, const SelectorNode *node, const RawValue *value, bool raw)
{
	switch (node->op)
	{
		case SELECTOR_LT:
			return docrep_selector_compare(value, &node->value, eval->collation, raw) < 0;
		case SELECTOR_LTE:
			return docrep_selector_compare(value, &node->value, eval->collation, raw) <= 0;
		case SELECTOR_GTE:
			return docrep_selector_compare(value, &node->value, eval->collation, raw) >= 0;
		case SELECTOR_GT:
			return docrep_selector_compare(value, &node->value, eval->collation, raw) > 0;
		case SELECTOR_EQ:
			return docrep_selector_equal(value, &node->value);
		case SELECTOR_NE:
			return !docrep_selector_equal(value, &node->value);
		case SELECTOR_IN:
			return is_in(node, value);
		case SELECTOR_NIN:
			return !is_in(node, value);
		case SELECTOR_EXISTS:
			return true;
		case SELECTOR_NOT_EXISTS:
			return false;
		case SELECTOR_TYPE:
			return has_type(node, value);
		case SELECTOR_SIZE:
			return has_size(node, value);
		case SELECTOR_MOD:
			return leaves_remainder(node, value);
		case SELECTOR_REGEX:
			return value->type == JENTRY_ISSTRING &&
				docrep_selector_regex_matches(node->regex, value->data, value->len);
		case SELECTOR_BEGINS_WITH:
			return value->type == JENTRY_ISSTRING && value->len >= node->value.len &&
				memcmp(value->data, node->value.data, node->value.len) == 0;
		case SELECTOR_ALL:
			return has_all(node, value);
		case SELECTOR_ELEM_MATCH:
		case SELECTOR_ALL_MATCH:
			return elements_match(eval, node, value, raw);
		case SELECTOR_KEY_MAP_MATCH:
			return some_key_matches(eval, node, value, raw);
		case SELECTOR_AND:
		case SELECTOR_OR:
		case SELECTOR_NOT:
			break;
	}
	elog(ERROR, "unexpected operator %d of a selector", (int) node->op);
	return false;
}

/*
 * Does a value match a part of the selector?  NULL is the document.
 */
static bool
node_matches(Eval *eval, const SelectorNode *node, const RawValue *value, bool raw)
{
	RawValue	found;

	switch (node->op)
	{
		case SELECTOR_AND:
			for (int i = 0; i < node->nchildren; i++)
				if (!node_matches(eval, node->children[i], value, raw))
					return false;
			return true;
		case SELECTOR_OR:
			for (int i = 0; i < node->nchildren; i++)
				if (node_matches(eval, node->children[i], value, raw))
					return true;
			return node->nchildren == 0;	/* CouchDB: none to choose from is true */
		case SELECTOR_NOT:
			return !node_matches(eval, node->children[0], value, raw);
		default:
			break;
	}

	switch (find_field(eval, node, value, &found))
	{
		case FOUND:
			return condition_holds(eval, node, &found, raw || node->raw) != node->negated;
		case NOT_FOUND:
			return node->op == SELECTOR_NOT_EXISTS;
		case BAD_PATH:
			break;
	}
	return false;
}

/*
 * Does a document match?  See filter.h.
 */
bool
docrep_selector_matches(const Selector *selector, JsonbContainer *doc,
						const char *id, const char *rev, bool deleted, const Jsonb *atts)
{
	Eval		eval = {selector->collation, doc, id, rev, deleted, atts, NULL};

	if (selector->root == NULL)
		return true;
	return node_matches(&eval, selector->root, NULL, false);
}

/*
 * The stubs of a document's attachments; see filter.h.
 */
Jsonb *
docrep_selector_stubs(const Selector *selector, Jsonb *column)
{
	RawBuilder	builder;
	DocShow		show = {0};
	Jsonb	   *result;

	if (column == NULL || !selector->uses_atts)
		return NULL;
	docrep_raw_init(&builder, true, 1);
	docrep_document_add_atts(&builder, NULL, 0, column, &show);
	result = docrep_raw_finish(&builder);
	return JB_ROOT_COUNT(result) > 0 ? result : NULL;
}
