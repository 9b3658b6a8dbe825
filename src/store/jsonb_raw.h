/*-------------------------------------------------------------------------
 *
 * jsonb_raw.h
 *		Taking jsonb apart and putting it together without parsing what is inside.
 *
 * The members of an object, or the elements of an array, are handled as the
 * bytes they are stored as, so that adding or taking off a member costs about
 * as much as copying the document.  What comes out is byte for byte what the
 * server itself would make.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DOCREP_STORE_JSONB_RAW_H
#define DOCREP_STORE_JSONB_RAW_H

#include "postgres.h"

#include "revision/rev.h"
#include "utils/jsonb.h"

/* A value inside a container.  It points into somebody else's memory. */
typedef struct RawValue
{
	uint32		type;			/* JENTRY_IS... */
	uint32		len;			/* without alignment padding */
	const char *data;			/* characters, a Numeric or a JsonbContainer */
} RawValue;

typedef struct RawMember
{
	const char *key;			/* not NUL-terminated; not used in arrays */
	uint32		keylen;
	RawValue	value;
} RawMember;

/* An object or array that is being put together. */
typedef struct RawBuilder
{
	bool		object;
	int			n;
	int			cap;
	RawMember  *items;
	Size		bytes;			/* of keys and values so far */
} RawBuilder;

/* Where a walk over a container stands. */
typedef struct RawCursor
{
	const JsonbContainer *container;
	const char *base;			/* start of the children's data */
	int			n;				/* members or elements */
	int			i;				/* the next one */
	bool		object;
	uint32		keyoff;
	uint32		off;
} RawCursor;

/* Walk over an object's members in stored order, or an array's elements. */
extern void docrep_raw_begin(RawCursor *cursor, const JsonbContainer *container);
extern bool docrep_raw_next(RawCursor *cursor, RawMember *item);

/* Look a member of an object up; false: there is none. */
extern bool docrep_raw_find(const JsonbContainer *container, const char *key, RawValue *value);

static inline bool
docrep_raw_is_object(const RawValue *value)
{
	return value->type == JENTRY_ISCONTAINER &&
		JsonContainerIsObject((const JsonbContainer *) value->data);
}

static inline bool
docrep_raw_is_array(const RawValue *value)
{
	return value->type == JENTRY_ISCONTAINER &&
		JsonContainerIsArray((const JsonbContainer *) value->data);
}

/* An object or array inside a container as a value of its own; a copy. */
extern Jsonb *docrep_raw_to_jsonb(const RawValue *value);

/* A string as a palloc'd C string. */
extern char *docrep_raw_to_cstring(const RawValue *value);

/* A number as an integer; false: it is none, or out of range. */
extern bool docrep_raw_to_int64(const RawValue *value, int64 *result);

/*
 * Build an object (keys may come in any order; of equal ones the last counts)
 * or an array.  In arrays "key" is NULL.  Nothing is copied before finish.
 */
extern void docrep_raw_init(RawBuilder *builder, bool object, int expected);
extern void docrep_raw_add(RawBuilder *builder, const char *key, const RawValue *value);
extern void docrep_raw_add_member(RawBuilder *builder, const RawMember *member);
extern void docrep_raw_add_text(RawBuilder *builder, const char *key, const char *text);
extern void docrep_raw_add_text_len(RawBuilder *builder, const char *key,
									const char *text, uint32 len);
extern void docrep_raw_add_rev(RawBuilder *builder, const char *key, const Rev *rev);
extern void docrep_raw_add_int64(RawBuilder *builder, const char *key, int64 value);
extern void docrep_raw_add_bool(RawBuilder *builder, const char *key, bool value);
extern void docrep_raw_add_null(RawBuilder *builder, const char *key);
extern void docrep_raw_add_jsonb(RawBuilder *builder, const char *key, const Jsonb *jsonb);
extern Jsonb *docrep_raw_finish(RawBuilder *builder);

/* Finish the inner builder and add what comes out to the outer one. */
extern void docrep_raw_add_built(RawBuilder *outer, const char *key, RawBuilder *inner);

/* Add {"ok": document} to an array, as CouchDB answers with several revisions. */
extern void docrep_raw_add_ok(RawBuilder *array, Jsonb *document);

#endif							/* DOCREP_STORE_JSONB_RAW_H */
