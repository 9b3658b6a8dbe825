/*-------------------------------------------------------------------------
 *
 * filter_function.h
 *		Filters that are SQL functions.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DOCREP_FILTER_FILTER_FUNCTION_H
#define DOCREP_FILTER_FILTER_FUNCTION_H

#include "postgres.h"

#include "store/feed.h"

typedef struct FilterFunction FilterFunction;

/*
 * Find "schema.function" (doc jsonb, req jsonb), as the current role, in the current
 * context.  Malformed, or of another kind: DR400; not there: DR404; may not be
 * called: 42501.  query_params: JSON text of an object, or NULL.
 */
extern FilterFunction *docrep_filter_function_find(const char *name, const char *query_params);

/* Does a document pass?  As docrep_filter_passes. */
extern bool docrep_filter_function_call(FilterFunction *function, const DocFeedLeaf *leaf);

/* Its qualified name and a digest of its definition, allocated. */
extern char *docrep_filter_function_identity(const FilterFunction *function);

#endif							/* DOCREP_FILTER_FILTER_FUNCTION_H */
