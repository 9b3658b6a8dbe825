/*-------------------------------------------------------------------------
 *
 * selector_fields.c
 *		Some fields of a document, as _find's "fields".
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"

#include "filter/selector_find.h"
#include "filter/selector_internal.h"
#include "store/errcodes.h"

/* A text[] of paths; nodes are used for nothing but their paths. */
static SelectorNode *
parse_fields(ArrayType *fields, int *n)
{
	Datum	   *elements;
	bool	   *nulls;
	SelectorNode *paths;

	deconstruct_array(fields, TEXTOID, -1, false, TYPALIGN_INT, &elements, &nulls, n);
	paths = palloc0(Max(*n, 1) * sizeof(SelectorNode));
	for (int i = 0; i < *n; i++)
	{
		text	   *path = nulls[i] ? NULL : DatumGetTextPP(elements[i]);

		if (path == NULL || VARSIZE_ANY_EXHDR(path) == 0)
			ereport(ERROR,
					(errcode(ERRCODE_DOCREP_BAD_REQUEST),
					 errmsg("fields must be names of fields")));
		docrep_selector_set_path(&paths[i], VARDATA_ANY(path), VARSIZE_ANY_EXHDR(path));
		if (paths[i].nsteps > SELECTOR_MAX_DEPTH)
			ereport(ERROR,
					(errcode(ERRCODE_DOCREP_BAD_REQUEST),
					 errmsg("fields are nested deeper than %d levels", SELECTOR_MAX_DEPTH)));
	}
	return paths;
}

/* See selector_find.h. */
void
docrep_fields_check(ArrayType *fields)
{
	int			n;

	parse_fields(fields, &n);
}

/*
 * A step from a value: a member, or an element by its index.
 */
static bool
step_into(const RawValue *value, const SelectorStep *step, RawValue *result)
{
	const JsonbContainer *container = (const JsonbContainer *) value->data;
	RawCursor	cursor;
	RawMember	item;

	if (value->type != JENTRY_ISCONTAINER)
		return false;
	if (!JsonContainerIsArray(container))
		return docrep_selector_find(container, step->name, step->len, result);
	if (step->index < 0 || step->index >= JsonContainerSize(container))
		return false;
	docrep_raw_begin(&cursor, container);
	while (cursor.i <= step->index)
		docrep_raw_next(&cursor, &item);
	*result = item.value;
	return true;
}

/*
 * Add to builder what paths say of a value.  The paths, n of them, have the same
 * steps up to level.
 */
static void
pick(RawBuilder *builder, const RawValue *value, SelectorNode **paths, int n, int level)
{
	SelectorNode **same = palloc(n * sizeof(SelectorNode *));

	for (int i = 0; i < n; i++)
	{
		const SelectorStep *step = &paths[i]->steps[level];
		bool		earlier = false;
		bool		whole = false;
		int			nsame = 0;
		RawValue	found;

		for (int j = 0; j < n; j++)
		{
			if (strcmp(paths[j]->steps[level].name, step->name) != 0)
				continue;
			earlier = earlier || j < i;
			whole = whole || paths[j]->nsteps == level + 1;
			same[nsame++] = paths[j];
		}
		if (earlier || !step_into(value, step, &found))
			continue;
		if (whole)
			docrep_raw_add(builder, step->name, &found);
		else
		{
			RawBuilder	inner;

			docrep_raw_init(&inner, true, nsame);
			pick(&inner, &found, same, nsame, level + 1);
			if (inner.n > 0)
				docrep_raw_add_built(builder, step->name, &inner);
		}
	}
}

/* See selector_find.h. */
Jsonb *
docrep_fields_pick(Jsonb *doc, ArrayType *fields)
{
	int			n;
	SelectorNode *nodes = parse_fields(fields, &n);
	SelectorNode **paths = palloc(Max(n, 1) * sizeof(SelectorNode *));
	RawBuilder	builder;
	RawValue	value;

	for (int i = 0; i < n; i++)
		paths[i] = &nodes[i];
	docrep_selector_root_value(&doc->root, &value);
	docrep_raw_init(&builder, true, n);
	pick(&builder, &value, paths, n, 0);
	return docrep_raw_finish(&builder);
}
