/*-------------------------------------------------------------------------
 *
 * selector_internal.h
 *		What the parts of the selector share: the compiled form.
 *
 * A compiled selector is a tree.  Combinations ($and, $or, $not) have children;
 * everything else is a condition: a path of names, and what must hold for the
 * value that is found there.  $elemMatch and its like are conditions that have
 * one child, which is asked about each element.  Negations have been pushed
 * down to the conditions, as CouchDB does: only there do they mean "the field is
 * there and ...".
 *
 * Values are not copied: they point into the selector's own copy of its JSON.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DOCREP_FILTER_SELECTOR_INTERNAL_H
#define DOCREP_FILTER_SELECTOR_INTERNAL_H

#include "postgres.h"

#include "compat.h"
#include "filter/filter.h"
#include "lib/stringinfo.h"
#include "store/jsonb_raw.h"

/* Deeper ones are refused, so that recursion over a selector has an end. */
#define SELECTOR_MAX_DEPTH	200

typedef enum SelectorOp
{
	SELECTOR_AND,
	SELECTOR_OR,
	SELECTOR_NOT,
	/* conditions */
	SELECTOR_LT,
	SELECTOR_LTE,
	SELECTOR_EQ,
	SELECTOR_NE,
	SELECTOR_GTE,
	SELECTOR_GT,
	SELECTOR_IN,
	SELECTOR_NIN,
	SELECTOR_EXISTS,
	SELECTOR_NOT_EXISTS,
	SELECTOR_TYPE,
	SELECTOR_SIZE,
	SELECTOR_MOD,
	SELECTOR_REGEX,
	SELECTOR_BEGINS_WITH,
	SELECTOR_ALL,
	SELECTOR_ELEM_MATCH,
	SELECTOR_ALL_MATCH,
	SELECTOR_KEY_MAP_MATCH
} SelectorOp;

/* Members of a document that are not in its body. */
typedef enum SelectorSpecial
{
	SPECIAL_NONE,
	SPECIAL_ID,
	SPECIAL_REV,
	SPECIAL_DELETED,
	SPECIAL_ATTACHMENTS
} SelectorSpecial;

typedef struct SelectorStep
{
	char	   *name;
	int			len;
	int64		index;			/* as an index of an array; -1: it is none */
} SelectorStep;

typedef struct SelectorRegex SelectorRegex;

typedef struct SelectorNode
{
	SelectorOp	op;
	int			nchildren;
	struct SelectorNode **children;

	/* conditions only */
	bool		negated;		/* the value must be there, and this must not hold */
	bool		raw;			/* the field is "_id": order of bytes and of Erlang's types */
	SelectorSpecial special;	/* what the first step is at the top of a document */
	int			nsteps;			/* 0: the value itself */
	SelectorStep *steps;
	RawValue	value;			/* argument as it was given */
	int			nvalues;		/* $in, $nin (sorted), $all: elements; $mod: 2 */
	RawValue   *values;
	SelectorRegex *regex;
	int64		size;			/* $size; -1: no array is that long */
} SelectorNode;

struct Selector
{
	Jsonb	   *source;			/* our copy */
	SelectorNode *root;			/* NULL: everything matches */
	Oid			collation;
	bool		uses_rev;
	bool		uses_atts;
	bool		uses_whole;		/* a condition on the document as a value */
};

/* selector_compile.c */
extern void docrep_selector_build(Selector *selector);

/* selector_path.c */
extern void docrep_selector_set_path(SelectorNode *node, const char *path, int len);
extern int64 docrep_selector_step_index(const char *name, int len);

/* selector_value.c */
extern Oid	docrep_selector_collation(void);
extern int	docrep_selector_compare(const RawValue *a, const RawValue *b, Oid collation, bool raw);
extern bool docrep_selector_equal(const RawValue *a, const RawValue *b);
extern void docrep_selector_sort_values(RawValue *values, int n);
extern bool docrep_selector_contains(const RawValue *sorted, int n, const RawValue *value);
extern const char *docrep_selector_type_name(const RawValue *value);
extern bool docrep_selector_is_integer(const RawValue *value);
extern bool docrep_selector_find(const JsonbContainer *object, const char *key, int len,
								 RawValue *result);
extern void docrep_selector_value_text(StringInfo out, const RawValue *value);

static inline void
docrep_selector_root_value(const JsonbContainer *container, RawValue *value)
{
	value->type = JENTRY_ISCONTAINER;
	value->data = (const char *) container;
	value->len = 0;				/* nobody asks */
}

/* selector_regex.c */
extern SelectorRegex *docrep_selector_regex_compile(const char *pattern, int len, char **problem);
extern bool docrep_selector_regex_matches(const SelectorRegex *regex, const char *text, int len);

/* selector_index.c: an SQL condition on a document table that is true wherever a selector is; or NULL */
extern char *docrep_selector_index_condition(const Selector *selector);

#endif							/* DOCREP_FILTER_SELECTOR_INTERNAL_H */
