/*-------------------------------------------------------------------------
 *
 * selector_find.h
 *		Parts of docrep.find().
 *
 *-------------------------------------------------------------------------
 */
#ifndef DOCREP_FILTER_SELECTOR_FIND_H
#define DOCREP_FILTER_SELECTOR_FIND_H

#include "postgres.h"

#include "fmgr.h"
#include "utils/array.h"
#include "utils/jsonb.h"

/*
 * Some fields of a document, where they were: paths as in selectors.  What is
 * missing is left out; malformed: DR400.
 */
extern Jsonb *docrep_fields_pick(Jsonb *doc, ArrayType *fields);

/* Raise DR400 if fields are malformed. */
extern void docrep_fields_check(ArrayType *fields);

/* The SQL function docrep.find_query(). */
extern PGDLLEXPORT Datum docrep_find_query(PG_FUNCTION_ARGS);

/* Plan calls of docrep.find() as part of the statement that they are in. */
extern void docrep_find_install_hook(void);

#endif							/* DOCREP_FILTER_SELECTOR_FIND_H */
