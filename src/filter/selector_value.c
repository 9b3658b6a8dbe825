/*-------------------------------------------------------------------------
 *
 * selector_value.c
 *		Comparing JSON values as CouchDB's selectors do.
 *
 * null < false < true < numbers < strings < arrays < objects.  Numbers are
 * compared exactly.  Strings are ordered by the root collation of ICU, which is
 * what CouchDB asks; the server brings it as "und-x-icu".  Being deterministic,
 * that one tells apart by their bytes strings that the collation algorithm takes
 * for the same (composed and decomposed letters, invisible characters), so that
 * equality here is equality of jsonb, and an index on jsonb can serve it.
 *
 * _id is compared as Erlang does: numbers < false < null < true < objects <
 * arrays < strings, and strings by their bytes.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "catalog/pg_collation.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "nodes/value.h"
#include "utils/builtins.h"
#include "utils/json.h"
#include "utils/numeric.h"
#include "utils/varlena.h"

#include "filter/selector_internal.h"

/*
 * The collation that orders strings: ICU's root, or bytes if this server was
 * built without ICU or the database's encoding is none that ICU knows.
 */
Oid
docrep_selector_collation(void)
{
	Oid			collation;

	collation = get_collation_oid(list_make2(makeString("pg_catalog"), makeString("und-x-icu")),
								  true);
	return OidIsValid(collation) ? collation : C_COLLATION_OID;
}

/*
 * Where values of this type stand among those of other types.
 */
static int
type_rank(const RawValue *value, bool raw)
{
	switch (value->type)
	{
		case JENTRY_ISNULL:
			return raw ? 2 : 0;
		case JENTRY_ISBOOL_FALSE:
			return 1;
		case JENTRY_ISBOOL_TRUE:
			return raw ? 3 : 2;
		case JENTRY_ISNUMERIC:
			return raw ? 0 : 3;
		case JENTRY_ISSTRING:
			return raw ? 6 : 4;
		default:
			if (docrep_raw_is_array(value))
				return 5;
			return raw ? 4 : 6;
	}
}

/*
 * Order of two strings by their bytes.
 */
static int
compare_bytes(const char *a, uint32 alen, const char *b, uint32 blen)
{
	int			result = memcmp(a, b, Min(alen, blen));

	if (result == 0 && alen != blen)
		result = alen < blen ? -1 : 1;
	return result;
}

static int
compare_strings(const char *a, uint32 alen, const char *b, uint32 blen, Oid collation, bool raw)
{
	if (raw)
		return compare_bytes(a, alen, b, blen);
	return varstr_cmp(a, alen, b, blen, collation);
}

/*
 * Order of two arrays, or of two objects by their members in stored order: the
 * first difference decides, then the length.
 */
static int
compare_containers(const RawValue *a, const RawValue *b, Oid collation, bool raw)
{
	RawCursor	cursor_a,
				cursor_b;
	RawMember	item_a,
				item_b;

	docrep_raw_begin(&cursor_a, (const JsonbContainer *) a->data);
	docrep_raw_begin(&cursor_b, (const JsonbContainer *) b->data);
	for (;;)
	{
		bool		more_a = docrep_raw_next(&cursor_a, &item_a);
		bool		more_b = docrep_raw_next(&cursor_b, &item_b);
		int			result = 0;

		if (!more_a || !more_b)
			return (int) more_a - (int) more_b;
		CHECK_FOR_INTERRUPTS();
		if (cursor_a.object)
			result = compare_strings(item_a.key, item_a.keylen, item_b.key, item_b.keylen,
									 collation, raw);
		if (result == 0)
			result = docrep_selector_compare(&item_a.value, &item_b.value, collation, raw);
		if (result != 0)
			return result;
	}
}

/*
 * Order of two values: negative, 0, positive.  It goes only as deep as both, and
 * one of them is of a selector, which has a limit.
 */
int
docrep_selector_compare(const RawValue *a, const RawValue *b, Oid collation, bool raw)
{
	int			rank_a = type_rank(a, raw);
	int			rank_b = type_rank(b, raw);

	if (rank_a != rank_b)
		return rank_a < rank_b ? -1 : 1;
	switch (a->type)
	{
		case JENTRY_ISNUMERIC:
			return DatumGetInt32(DirectFunctionCall2(numeric_cmp, PointerGetDatum(a->data),
													 PointerGetDatum(b->data)));
		case JENTRY_ISSTRING:
			return compare_strings(a->data, a->len, b->data, b->len, collation, raw);
		case JENTRY_ISCONTAINER:
			return compare_containers(a, b, collation, raw);
		default:
			return 0;			/* null, false, true */
	}
}

/*
 * Are two values equal?  The same as compare() == 0, but strings need no collation.
 */
bool
docrep_selector_equal(const RawValue *a, const RawValue *b)
{
	if (a->type != b->type)
		return false;
	if (a->type == JENTRY_ISSTRING)
		return a->len == b->len && memcmp(a->data, b->data, a->len) == 0;
	return docrep_selector_compare(a, b, C_COLLATION_OID, true) == 0;
}

/* for qsort and bsearch: any total order will do, bytes are fastest */
static int
compare_sorted(const void *a, const void *b)
{
	return docrep_selector_compare((const RawValue *) a, (const RawValue *) b,
								   C_COLLATION_OID, true);
}

/* Sort values for docrep_selector_contains. */
void
docrep_selector_sort_values(RawValue *values, int n)
{
	qsort(values, n, sizeof(RawValue), compare_sorted);
}

/* Is a value equal to one of those? */
bool
docrep_selector_contains(const RawValue *sorted, int n, const RawValue *value)
{
	return n > 0 && bsearch(value, sorted, n, sizeof(RawValue), compare_sorted) != NULL;
}

/* What $type calls the type of a value. */
const char *
docrep_selector_type_name(const RawValue *value)
{
	switch (value->type)
	{
		case JENTRY_ISNULL:
			return "null";
		case JENTRY_ISBOOL_FALSE:
		case JENTRY_ISBOOL_TRUE:
			return "boolean";
		case JENTRY_ISNUMERIC:
			return "number";
		case JENTRY_ISSTRING:
			return "string";
		default:
			return docrep_raw_is_array(value) ? "array" : "object";
	}
}

/* Is it a number without a fraction, however written? */
bool
docrep_selector_is_integer(const RawValue *value)
{
	Datum		number = PointerGetDatum(value->data);

	return value->type == JENTRY_ISNUMERIC &&
		DatumGetBool(DirectFunctionCall2(numeric_eq, number,
										 DirectFunctionCall2(numeric_trunc, number,
															 Int32GetDatum(0))));
}

/*
 * Look a member of an object up, by binary search; false: there is none, or it
 * is no object.
 */
bool
docrep_selector_find(const JsonbContainer *object, const char *key, int len, RawValue *result)
{
	JsonbValue	found;

	if (!JsonContainerIsObject(object) ||
		getKeyJsonValueFromContainer((JsonbContainer *) object, key, len, &found) == NULL)
		return false;
	switch (found.type)
	{
		case jbvNull:
			result->type = JENTRY_ISNULL;
			break;
		case jbvBool:
			result->type = found.val.boolean ? JENTRY_ISBOOL_TRUE : JENTRY_ISBOOL_FALSE;
			break;
		case jbvNumeric:
			result->type = JENTRY_ISNUMERIC;
			result->data = (const char *) found.val.numeric;
			result->len = VARSIZE_ANY(found.val.numeric);
			break;
		case jbvString:
			result->type = JENTRY_ISSTRING;
			result->data = found.val.string.val;
			result->len = found.val.string.len;
			break;
		default:
			result->type = JENTRY_ISCONTAINER;
			result->data = (const char *) found.val.binary.data;
			result->len = found.val.binary.len;
			break;
	}
	return true;
}

/*
 * Append a value as JSON text that is the same for equal values: numbers do not
 * keep the zeros they were written with.
 */
void
docrep_selector_value_text(StringInfo out, const RawValue *value)
{
	RawCursor	cursor;
	RawMember	item;
	char	   *text;

	switch (value->type)
	{
		case JENTRY_ISNULL:
			appendStringInfoString(out, "null");
			return;
		case JENTRY_ISBOOL_FALSE:
			appendStringInfoString(out, "false");
			return;
		case JENTRY_ISBOOL_TRUE:
			appendStringInfoString(out, "true");
			return;
		case JENTRY_ISNUMERIC:
			appendStringInfoString(out, numeric_normalize((Numeric) value->data));
			return;
		case JENTRY_ISSTRING:
			text = docrep_raw_to_cstring(value);
			escape_json(out, text);
			pfree(text);
			return;
	}
	docrep_raw_begin(&cursor, (const JsonbContainer *) value->data);
	appendStringInfoChar(out, cursor.object ? '{' : '[');
	while (docrep_raw_next(&cursor, &item))
	{
		if (cursor.i > 1)
			appendStringInfoChar(out, ',');
		if (cursor.object)
		{
			text = pnstrdup(item.key, item.keylen);
			escape_json(out, text);
			pfree(text);
			appendStringInfoChar(out, ':');
		}
		docrep_selector_value_text(out, &item.value);
	}
	appendStringInfoChar(out, cursor.object ? '}' : ']');
}
