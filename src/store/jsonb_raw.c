/*-------------------------------------------------------------------------
 *
 * jsonb_raw.c
 *		Taking jsonb apart and putting it together without parsing what is inside.
 *
 * This relies on the stored form of jsonb, which cannot change without
 * breaking pg_upgrade: a header word, a JEntry per child (an object's keys
 * first, then its values), then the children's data; numbers and containers
 * begin at a multiple of 4, their padding is counted in the JEntry's length.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "store/jsonb_raw.h"
#include "utils/builtins.h"
#include "utils/numeric.h"

/* Set cursor to before the first child of container. */
void
docrep_raw_begin(RawCursor *cursor, const JsonbContainer *container)
{
	cursor->container = container;
	cursor->n = JsonContainerSize(container);
	cursor->i = 0;
	cursor->object = JsonContainerIsObject(container);
	cursor->base = (const char *) &container->children[cursor->object ? cursor->n * 2 : cursor->n];
	cursor->keyoff = 0;
	cursor->off = cursor->object ? getJsonbOffset(container, cursor->n) : 0;
}

/* The next child in *item; false at the end. */
bool
docrep_raw_next(RawCursor *cursor, RawMember *item)
{
	const JEntry *children = cursor->container->children;
	JEntry		entry;
	uint32		start;
	uint32		end;

	if (cursor->i >= cursor->n)
		return false;

	if (cursor->object)
	{
		end = cursor->keyoff;
		JBE_ADVANCE_OFFSET(end, children[cursor->i]);
		item->key = cursor->base + cursor->keyoff;
		item->keylen = end - cursor->keyoff;
		cursor->keyoff = end;
		entry = children[cursor->n + cursor->i];
	}
	else
	{
		item->key = NULL;
		item->keylen = 0;
		entry = children[cursor->i];
	}

	start = end = cursor->off;
	JBE_ADVANCE_OFFSET(end, entry);
	cursor->off = end;
	if (JBE_ISNUMERIC(entry) || JBE_ISCONTAINER(entry))
		start = INTALIGN(start);
	item->value.type = entry & JENTRY_TYPEMASK;
	item->value.data = cursor->base + start;
	item->value.len = end - start;
	cursor->i++;
	return true;
}

/* Look a member of an object up; false: there is none. */
bool
docrep_raw_find(const JsonbContainer *container, const char *key, RawValue *value)
{
	RawCursor	cursor;
	RawMember	item;
	uint32		keylen = strlen(key);

	docrep_raw_begin(&cursor, container);
	if (!cursor.object)
		return false;
	while (docrep_raw_next(&cursor, &item))
	{
		if (item.keylen > keylen)
			break;				/* keys are sorted by length first */
		if (item.keylen == keylen && memcmp(item.key, key, keylen) == 0)
		{
			*value = item.value;
			return true;
		}
	}
	return false;
}

/* An object or array inside a container as a jsonb value of its own. */
Jsonb *
docrep_raw_to_jsonb(const RawValue *value)
{
	Jsonb	   *result;

	Assert(value->type == JENTRY_ISCONTAINER);
	result = (Jsonb *) palloc(VARHDRSZ + value->len);
	SET_VARSIZE(result, VARHDRSZ + value->len);
	memcpy(VARDATA(result), value->data, value->len);
	return result;
}

/* A string as a palloc'd C string. */
char *
docrep_raw_to_cstring(const RawValue *value)
{
	Assert(value->type == JENTRY_ISSTRING);
	return pnstrdup(value->data, value->len);
}

/* A number as an integer; false: it is no whole number, or out of range. */
bool
docrep_raw_to_int64(const RawValue *value, int64 *result)
{
	Datum		number = PointerGetDatum(value->data);
	Datum		rounded;

	if (value->type != JENTRY_ISNUMERIC)
		return false;
	if (numeric_is_nan((Numeric) value->data) || numeric_is_inf((Numeric) value->data))
		return false;
	rounded = DirectFunctionCall2(numeric_trunc, number, Int32GetDatum(0));
	if (!DatumGetBool(DirectFunctionCall2(numeric_eq, number, rounded)))
		return false;
	if (DatumGetBool(DirectFunctionCall2(numeric_gt, number,
										 DirectFunctionCall1(int8_numeric, Int64GetDatum(PG_INT64_MAX)))) ||
		DatumGetBool(DirectFunctionCall2(numeric_lt, number,
										 DirectFunctionCall1(int8_numeric, Int64GetDatum(PG_INT64_MIN)))))
		return false;
	*result = DatumGetInt64(DirectFunctionCall1(numeric_int8, number));
	return true;
}

/* Begin an object or an array; expected: about how many members it will have. */
void
docrep_raw_init(RawBuilder *builder, bool object, int expected)
{
	builder->object = object;
	builder->n = 0;
	builder->cap = Max(expected, 4);
	builder->items = (RawMember *) palloc(builder->cap * sizeof(RawMember));
	builder->bytes = 0;
}

static void
too_large(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
			 errmsg("the JSON result exceeds the maximum of %u bytes", JENTRY_OFFLENMASK)));
}

/*
 * Add a member as docrep_raw_next gave it.  What can never be finished ends
 * here, before memory for all of it is taken.
 */
void
docrep_raw_add_member(RawBuilder *builder, const RawMember *member)
{
	builder->bytes += (Size) member->keylen + member->value.len;
	if (unlikely(builder->bytes > JENTRY_OFFLENMASK))
		too_large();
	if (builder->n == builder->cap)
	{
		builder->cap *= 2;
		builder->items = (RawMember *) repalloc_huge(builder->items,
													 (Size) builder->cap * sizeof(RawMember));
	}
	builder->items[builder->n++] = *member;
}

/* Add a value under key (NULL in an array). */
void
docrep_raw_add(RawBuilder *builder, const char *key, const RawValue *value)
{
	RawMember	member;

	member.key = key;
	member.keylen = key ? strlen(key) : 0;
	member.value = *value;
	docrep_raw_add_member(builder, &member);
}

/* Add a value given by its parts. */
static void
add_parts(RawBuilder *builder, const char *key, uint32 type, const void *data, uint32 len)
{
	RawValue	value;

	value.type = type;
	value.data = data;
	value.len = len;
	docrep_raw_add(builder, key, &value);
}

void
docrep_raw_add_text_len(RawBuilder *builder, const char *key, const char *text, uint32 len)
{
	add_parts(builder, key, JENTRY_ISSTRING, text, len);
}

void
docrep_raw_add_text(RawBuilder *builder, const char *key, const char *text)
{
	add_parts(builder, key, JENTRY_ISSTRING, text, strlen(text));
}

/* Add the text form of a revision. */
void
docrep_raw_add_rev(RawBuilder *builder, const char *key, const Rev *rev)
{
	/* 10 digits, "-", two characters a byte at most, NUL */
	char	   *text = palloc(10 + 1 + 2 * (Size) rev->len + 1);
	size_t		len = docrep_rev_print(rev, text);

	add_parts(builder, key, JENTRY_ISSTRING, text, len);
}

void
docrep_raw_add_int64(RawBuilder *builder, const char *key, int64 value)
{
	Numeric		number = DatumGetNumeric(DirectFunctionCall1(int8_numeric, Int64GetDatum(value)));

	add_parts(builder, key, JENTRY_ISNUMERIC, number, VARSIZE_ANY(number));
}

void
docrep_raw_add_bool(RawBuilder *builder, const char *key, bool value)
{
	add_parts(builder, key, value ? JENTRY_ISBOOL_TRUE : JENTRY_ISBOOL_FALSE, NULL, 0);
}

void
docrep_raw_add_null(RawBuilder *builder, const char *key)
{
	add_parts(builder, key, JENTRY_ISNULL, NULL, 0);
}

/* Add an object or array (jsonb of a bare scalar is not for this). */
void
docrep_raw_add_jsonb(RawBuilder *builder, const char *key, const Jsonb *jsonb)
{
	Assert(!JB_ROOT_IS_SCALAR(jsonb));
	add_parts(builder, key, JENTRY_ISCONTAINER, VARDATA(jsonb), VARSIZE(jsonb) - VARHDRSZ);
}

/* Finish the inner builder and add what comes out to the outer one. */
void
docrep_raw_add_built(RawBuilder *outer, const char *key, RawBuilder *inner)
{
	docrep_raw_add_jsonb(outer, key, docrep_raw_finish(inner));
}

/* jsonb's order of keys: by length, then by bytes. */
static int
compare_keys(const RawMember *a, const RawMember *b)
{
	if (a->keylen != b->keylen)
		return a->keylen > b->keylen ? 1 : -1;
	return memcmp(a->key, b->key, a->keylen);
}

/*
 * Sort an object's members; of equal keys the last stays.  By insertion: in
 * all our uses a few members follow others that are sorted already.
 */
static void
sort_members(RawBuilder *builder)
{
	RawMember  *items = builder->items;
	int			sorted = 0;

	for (int i = 0; i < builder->n; i++)
	{
		RawMember	item = items[i];
		int			low = 0;
		int			high = sorted;

		if (sorted > 0 && compare_keys(&items[sorted - 1], &item) < 0)
			low = sorted;
		while (low < high)
		{
			int			mid = (low + high) / 2;

			if (compare_keys(&items[mid], &item) < 0)
				low = mid + 1;
			else
				high = mid;
		}
		if (low < sorted && compare_keys(&items[low], &item) == 0)
		{
			items[low] = item;
			continue;
		}
		memmove(&items[low + 1], &items[low], (sorted - low) * sizeof(RawMember));
		items[low] = item;
		sorted++;
	}
	builder->n = sorted;
}

static inline bool
is_aligned(const RawValue *value)
{
	return value->type == JENTRY_ISNUMERIC || value->type == JENTRY_ISCONTAINER;
}

/* Length of the children's data, padding included. */
static Size
data_length(const RawBuilder *builder)
{
	Size		len = 0;

	if (builder->object)
		for (int i = 0; i < builder->n; i++)
			len += builder->items[i].keylen;
	for (int i = 0; i < builder->n; i++)
	{
		if (is_aligned(&builder->items[i].value))
			len = INTALIGN(len);
		len += builder->items[i].value.len;
	}
	return len;
}

/* Where children's data and JEntries are written to. */
typedef struct RawWriter
{
	JEntry	   *entries;
	char	   *base;
	uint32		off;
	int			i;
} RawWriter;

/* Write one child: its data, and its JEntry with a length or an offset. */
static inline void
write_child(RawWriter *writer, uint32 type, bool aligned, const char *data, uint32 len)
{
	uint32		start = writer->off;
	uint32		pad = aligned ? INTALIGN(start) - start : 0;
	uint32		end = start + pad + len;

	memset(writer->base + start, 0, pad);
	if (len > 0)
		memcpy(writer->base + start + pad, data, len);
	writer->off = end;
	if (writer->i % JB_OFFSET_STRIDE == 0)
		writer->entries[writer->i] = type | end | JENTRY_HAS_OFF;
	else
		writer->entries[writer->i] = type | (end - start);
	writer->i++;
}

/* The object or array that was put together. */
Jsonb *
docrep_raw_finish(RawBuilder *builder)
{
	Size		datalen;
	Size		total;
	int			nentries;
	Jsonb	   *result;
	RawWriter	writer;

	if (builder->object)
		sort_members(builder);
	nentries = builder->object ? builder->n * 2 : builder->n;
	datalen = data_length(builder);
	if (datalen > JENTRY_OFFLENMASK || nentries > (int) (JB_CMASK / 2))
		too_large();

	total = VARHDRSZ + sizeof(uint32) + nentries * sizeof(JEntry) + datalen;
	result = (Jsonb *) palloc(total);
	SET_VARSIZE(result, total);
	result->root.header = builder->n | (builder->object ? JB_FOBJECT : JB_FARRAY);
	writer.entries = result->root.children;
	writer.base = (char *) &result->root.children[nentries];
	writer.off = 0;
	writer.i = 0;
	if (builder->object)
		for (int i = 0; i < builder->n; i++)
			write_child(&writer, JENTRY_ISSTRING, false,
						builder->items[i].key, builder->items[i].keylen);
	for (int i = 0; i < builder->n; i++)
	{
		const RawValue *value = &builder->items[i].value;

		write_child(&writer, value->type, is_aligned(value), value->data, value->len);
	}
	Assert(writer.off == datalen);
	return result;
}

void
docrep_raw_add_ok(RawBuilder *array, Jsonb *document)
{
	RawBuilder	item;

	docrep_raw_init(&item, true, 1);
	docrep_raw_add_jsonb(&item, "ok", document);
	docrep_raw_add_built(array, NULL, &item);
}
