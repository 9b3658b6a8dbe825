/*-------------------------------------------------------------------------
 *
 * selector_compile.c
 *		From a selector's JSON to its compiled form.
 *
 * One walk does what CouchDB does in three: what is implied becomes explicit
 * (members of an object are an $and, a bare value an $eq), names of nested fields
 * are joined to paths, and negations are pushed down to the conditions.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "filter/selector_internal.h"
#include "miscadmin.h"
#include "store/errcodes.h"

/* Where the walk stands. */
typedef struct Place
{
	const char *path;			/* names joined by dots */
	int			pathlen;
	const char *outer;			/* for messages: what it is below, "a[]" inside of an $elemMatch */
	int			depth;
	bool		negate;			/* below an odd number of $not and $nor */
	bool		plain;			/* below a negated $elemMatch: $not is no more pushed down */
} Place;

typedef enum OperatorKind
{
	KIND_ANY,					/* any value */
	KIND_LIST,					/* an array of values */
	KIND_BOOLEAN,
	KIND_STRING,
	KIND_COUNT,					/* an integer from 0 on */
	KIND_PAIR,					/* two integers */
	KIND_SELECTOR				/* an object, for the elements */
} OperatorKind;

typedef struct Operator
{
	const char *name;
	SelectorOp	op;
	OperatorKind kind;
	SelectorOp	opposite;		/* what it becomes by negation; itself: it is marked */
} Operator;

static const Operator operators[] = {
	{"$lt", SELECTOR_LT, KIND_ANY, SELECTOR_GTE},
	{"$lte", SELECTOR_LTE, KIND_ANY, SELECTOR_GT},
	{"$eq", SELECTOR_EQ, KIND_ANY, SELECTOR_NE},
	{"$ne", SELECTOR_NE, KIND_ANY, SELECTOR_EQ},
	{"$gte", SELECTOR_GTE, KIND_ANY, SELECTOR_LT},
	{"$gt", SELECTOR_GT, KIND_ANY, SELECTOR_LTE},
	{"$in", SELECTOR_IN, KIND_LIST, SELECTOR_NIN},
	{"$nin", SELECTOR_NIN, KIND_LIST, SELECTOR_IN},
	{"$exists", SELECTOR_EXISTS, KIND_BOOLEAN, SELECTOR_NOT_EXISTS},
	{"$type", SELECTOR_TYPE, KIND_STRING, SELECTOR_TYPE},
	{"$size", SELECTOR_SIZE, KIND_COUNT, SELECTOR_SIZE},
	{"$mod", SELECTOR_MOD, KIND_PAIR, SELECTOR_MOD},
	{"$regex", SELECTOR_REGEX, KIND_STRING, SELECTOR_REGEX},
	{"$beginsWith", SELECTOR_BEGINS_WITH, KIND_STRING, SELECTOR_BEGINS_WITH},
	{"$all", SELECTOR_ALL, KIND_LIST, SELECTOR_ALL},
	{"$elemMatch", SELECTOR_ELEM_MATCH, KIND_SELECTOR, SELECTOR_ELEM_MATCH},
	{"$allMatch", SELECTOR_ALL_MATCH, KIND_SELECTOR, SELECTOR_ALL_MATCH},
	{"$keyMapMatch", SELECTOR_KEY_MAP_MATCH, KIND_SELECTOR, SELECTOR_KEY_MAP_MATCH},
};

static SelectorNode *compile_value(Selector *selector, const RawValue *value, const Place *place);

/*
 * Where something is, for messages: behind the operator's name.
 */
static const char *
place_text(const Place *place)
{
	if (place->pathlen == 0 && place->outer[0] == '\0')
		return "";
	return psprintf(" of field \"%s%s%.*s\"", place->outer,
					place->outer[0] && place->pathlen > 0 ? "." : "", place->pathlen, place->path);
}

/*
 * Refuse the argument of an operator.
 */
DOCREP_NORETURN static void
bad_argument(const char *name, int namelen, const Place *place, const char *wanted)
{
	ereport(ERROR,
			(errcode(ERRCODE_DOCREP_BAD_REQUEST),
			 errmsg("selector: %.*s%s must be %s", namelen, name, place_text(place), wanted)));
}

DOCREP_NORETURN static void
too_deep(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_DOCREP_BAD_REQUEST),
			 errmsg("selector: nested deeper than %d levels", SELECTOR_MAX_DEPTH)));
}

/*
 * Refuse a value that recursion over it could not bear.
 */
static void
check_depth(const RawValue *value, int depth)
{
	RawCursor	cursor;
	RawMember	item;

	if (value->type != JENTRY_ISCONTAINER)
		return;
	if (depth > SELECTOR_MAX_DEPTH)
		too_deep();
	docrep_raw_begin(&cursor, (const JsonbContainer *) value->data);
	while (docrep_raw_next(&cursor, &item))
		check_depth(&item.value, depth + 1);
}

static SelectorNode *
make_node(SelectorOp op, int nchildren)
{
	SelectorNode *node = palloc0(sizeof(SelectorNode));

	node->op = op;
	node->nchildren = nchildren;
	if (nchildren > 0)
		node->children = palloc0(nchildren * sizeof(SelectorNode *));
	return node;
}

/*
 * Take the operands of an $and inside of an $and as its own, and likewise of an
 * $or: ranges are found then, and what means the same has the same form.  One
 * without operands is true and stays.
 */
static SelectorNode *
flatten(SelectorNode *node)
{
	SelectorNode *result;
	int			n = 0;

	for (int i = 0; i < node->nchildren; i++)
		n += node->children[i]->op == node->op ? Max(node->children[i]->nchildren, 1) : 1;
	if (n == node->nchildren)
		return node;
	result = make_node(node->op, n);
	n = 0;
	for (int i = 0; i < node->nchildren; i++)
	{
		SelectorNode *child = node->children[i];

		if (child->op != node->op || child->nchildren == 0)
			result->children[n++] = child;
		else
			for (int j = 0; j < child->nchildren; j++)
				result->children[n++] = child->children[j];
	}
	return result;
}

/*
 * A condition at a place, with its path.
 */
static SelectorNode *
make_condition(Selector *selector, SelectorOp op, int nchildren, const Place *place)
{
	SelectorNode *node = make_node(op, nchildren);

	docrep_selector_set_path(node, place->path, place->pathlen);
	if (node->special == SPECIAL_REV)
		selector->uses_rev = true;
	if (node->special == SPECIAL_ATTACHMENTS || node->nsteps == 0)
		selector->uses_atts = true;
	if (node->nsteps == 0)
		selector->uses_whole = true;
	return node;
}

/*
 * The elements of an array, in an array.
 */
static void
set_values(SelectorNode *node, const RawValue *list)
{
	RawCursor	cursor;
	RawMember	item;

	docrep_raw_begin(&cursor, (const JsonbContainer *) list->data);
	node->values = palloc(Max(cursor.n, 1) * sizeof(RawValue));
	while (docrep_raw_next(&cursor, &item))
		node->values[node->nvalues++] = item.value;
}

static const Operator *
find_operator(const char *name, int len)
{
	for (int i = 0; i < lengthof(operators); i++)
		if (strlen(operators[i].name) == len && memcmp(operators[i].name, name, len) == 0)
			return &operators[i];
	return NULL;
}

/*
 * Refuse what an operator does not take.
 */
static void
check_argument(const Operator *operator, const RawValue *value, const Place *place)
{
	const char *wanted = NULL;

	switch (operator->kind)
	{
		case KIND_ANY:
			break;
		case KIND_LIST:
			if (!docrep_raw_is_array(value))
				wanted = "an array";
			break;
		case KIND_BOOLEAN:
			if (value->type != JENTRY_ISBOOL_TRUE && value->type != JENTRY_ISBOOL_FALSE)
				wanted = "true or false";
			break;
		case KIND_STRING:
			if (value->type != JENTRY_ISSTRING)
				wanted = "a string";
			break;
		case KIND_COUNT:
			{
				RawValue	zero = {JENTRY_ISNUMERIC, 0, NULL};

				zero.data = (const char *) int64_to_numeric(0);
				if (!docrep_selector_is_integer(value) ||
					docrep_selector_compare(value, &zero, InvalidOid, true) < 0)
					wanted = "an integer that is not negative";
				break;
			}
		case KIND_PAIR:
			if (!docrep_raw_is_array(value) ||
				JsonContainerSize((const JsonbContainer *) value->data) != 2)
				wanted = "an array of a divisor and a remainder";
			break;
		case KIND_SELECTOR:
			if (!docrep_raw_is_object(value))
				wanted = "an object";
			break;
	}
	if (wanted)
		bad_argument(operator->name, strlen(operator->name), place, wanted);
	if (operator->kind != KIND_SELECTOR)	/* that is compiled, which looks by itself */
		check_depth(value, place->depth);
}

/*
 * What some operators bring along, beyond what check_argument has looked at.
 */
static void
prepare_condition(SelectorNode *node, const Place *place)
{
	if (node->op == SELECTOR_MOD)
	{
		RawValue	zero = {JENTRY_ISNUMERIC, 0, NULL};

		zero.data = (const char *) int64_to_numeric(0);
		if (!docrep_selector_is_integer(&node->values[0]) ||
			!docrep_selector_is_integer(&node->values[1]))
			bad_argument("$mod", 4, place, "an array of two integers");
		if (docrep_selector_equal(&node->values[0], &zero))
			bad_argument("$mod", 4, place, "an array whose first element, the divisor, is not 0");
	}
	else if (node->op == SELECTOR_REGEX)
	{
		char	   *problem = NULL;

		node->regex = docrep_selector_regex_compile(node->value.data, node->value.len, &problem);
		if (node->regex == NULL)
			bad_argument("$regex", 6, place,
						 psprintf("a regular expression (%s)", problem));
	}
	else if (node->op == SELECTOR_SIZE)
	{
		if (!docrep_raw_to_int64(&node->value, &node->size))
			node->size = -1;
	}
	else if (node->op == SELECTOR_IN || node->op == SELECTOR_NIN)
		docrep_selector_sort_values(node->values, node->nvalues);
}

/*
 * A condition operator.
 */
static SelectorNode *
compile_condition(Selector *selector, const Operator *operator, const RawValue *value,
				  const Place *place)
{
	bool		inner = operator->kind == KIND_SELECTOR;
	SelectorNode *node;

	check_argument(operator, value, place);
	node = make_condition(selector, place->negate ? operator->opposite : operator->op,
						  inner ? 1 : 0, place);
	node->negated = place->negate && operator->opposite == operator->op;
	if (operator->op == SELECTOR_EXISTS && value->type == JENTRY_ISBOOL_FALSE)
		node->op = node->op == SELECTOR_EXISTS ? SELECTOR_NOT_EXISTS : SELECTOR_EXISTS;
	node->value = *value;
	if (operator->kind == KIND_LIST || operator->kind == KIND_PAIR)
		set_values(node, value);
	if (inner)
	{
		/* CouchDB leaves what is inside of a negated one as it is */
		Place		below = {"", 0, NULL, place->depth + 1, false, place->plain || place->negate};

		below.outer = psprintf("%s%s%.*s%s", place->outer,
							   place->outer[0] && place->pathlen > 0 ? "." : "",
							   place->pathlen, place->path,
							   operator->op == SELECTOR_KEY_MAP_MATCH ? "{}" : "[]");
		node->children[0] = compile_value(selector, value, &below);
	}
	prepare_condition(node, place);
	return node;
}

/*
 * $and, $or, $nor: a combination of the elements of an array.
 */
static SelectorNode *
compile_list(Selector *selector, SelectorOp op, const RawMember *member, const Place *place)
{
	Place		below = *place;
	SelectorNode *node;
	RawCursor	cursor;
	RawMember	item;

	if (!docrep_raw_is_array(&member->value))
		bad_argument(member->key, member->keylen, place, "an array");
	below.depth++;
	docrep_raw_begin(&cursor, (const JsonbContainer *) member->value.data);
	node = make_node(op, cursor.n);
	while (docrep_raw_next(&cursor, &item))
		node->children[cursor.i - 1] = compile_value(selector, &item.value, &below);
	return flatten(node);
}

/*
 * Negate a node as a whole: only where negations are not pushed down.
 */
static SelectorNode *
make_not(SelectorNode *child)
{
	SelectorNode *node = make_node(SELECTOR_NOT, 1);

	node->children[0] = child;
	return node;
}

/*
 * A combination operator; NULL: it is none.
 */
static SelectorNode *
compile_combination(Selector *selector, const RawMember *member, const Place *place)
{
	Place		below = *place;
	SelectorNode *node;

#define IS(text) (member->keylen == strlen(text) && memcmp(member->key, text, member->keylen) == 0)
	if (IS("$and"))
		return compile_list(selector, place->negate ? SELECTOR_OR : SELECTOR_AND, member, place);
	if (IS("$or"))
		return compile_list(selector, place->negate ? SELECTOR_AND : SELECTOR_OR, member, place);
	below.negate = !place->negate && !place->plain;
	if (IS("$nor"))
	{
		node = compile_list(selector, below.negate ? SELECTOR_AND : SELECTOR_OR, member, &below);
		return place->plain ? make_not(node) : node;
	}
	if (IS("$not"))
	{
		if (!docrep_raw_is_object(&member->value))
			bad_argument(member->key, member->keylen, place, "an object");
		below.depth++;
		node = compile_value(selector, &member->value, &below);
		return place->plain ? make_not(node) : node;
	}
#undef IS
	return NULL;
}

/*
 * One member of a selector: an operator with its argument, or a field.
 */
static SelectorNode *
compile_member(Selector *selector, const RawMember *member, const Place *place)
{
	Place		below = *place;
	StringInfoData path;

	if (member->keylen > 0 && member->key[0] == '$')
	{
		const Operator *operator = find_operator(member->key, member->keylen);
		SelectorNode *node;

		if (operator)
			return compile_condition(selector, operator, &member->value, place);
		node = compile_combination(selector, member, place);
		if (node)
			return node;
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_BAD_REQUEST),
				 errmsg("selector: unknown operator \"%.*s\"%s", (int) member->keylen, member->key,
						place_text(place)),
				 errhint("A field whose name begins with \"$\" is written \"\\\\$...\".")));
	}

	if (member->keylen == 0)
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_BAD_REQUEST),
				 errmsg("selector: empty field name%s", place_text(place))));
	initStringInfo(&path);
	if (place->pathlen > 0)
	{
		appendBinaryStringInfo(&path, place->path, place->pathlen);
		appendStringInfoChar(&path, '.');
	}
	appendBinaryStringInfo(&path, member->key, member->keylen);
	below.path = path.data;
	below.pathlen = path.len;
	below.depth++;
	return compile_value(selector, &member->value, &below);
}

/*
 * A selector at a place.  Anything but an object with members means equality.
 */
static SelectorNode *
compile_value(Selector *selector, const RawValue *value, const Place *place)
{
	RawCursor	cursor;
	RawMember	member;
	SelectorNode *node;

	if (place->depth > SELECTOR_MAX_DEPTH)
		too_deep();
	CHECK_FOR_INTERRUPTS();
	if (!docrep_raw_is_object(value) ||
		JsonContainerSize((const JsonbContainer *) value->data) == 0)
		return compile_condition(selector, find_operator("$eq", 3), value, place);

	docrep_raw_begin(&cursor, (const JsonbContainer *) value->data);
	if (cursor.n == 1)
	{
		docrep_raw_next(&cursor, &member);
		return compile_member(selector, &member, place);
	}
	node = make_node(place->negate ? SELECTOR_OR : SELECTOR_AND, cursor.n);
	while (docrep_raw_next(&cursor, &member))
		node->children[cursor.i - 1] = compile_member(selector, &member, place);
	return flatten(node);
}

/*
 * Compile selector->source.
 */
void
docrep_selector_build(Selector *selector)
{
	Place		top = {"", 0, "", 1, false, false};
	RawValue	value;

	if (!JB_ROOT_IS_OBJECT(selector->source))
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_BAD_REQUEST),
				 errmsg("a selector must be a JSON object")));
	selector->root = NULL;
	if (JB_ROOT_COUNT(selector->source) == 0)
		return;
	docrep_selector_root_value(&selector->source->root, &value);
	selector->root = compile_value(selector, &value, &top);
	if (selector->root->op >= SELECTOR_LT && selector->root->nsteps == 0)
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_BAD_REQUEST),
				 errmsg("selector: an operator has no field that it is about")));
}
