/*-------------------------------------------------------------------------
 *
 * filter_javascript.h
 *		Filters that are functions of design documents.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DOCREP_FILTER_FILTER_JAVASCRIPT_H
#define DOCREP_FILTER_FILTER_JAVASCRIPT_H

#include "filter/filter.h"

typedef struct FilterJavascript FilterJavascript;

/*
 * Find the function that spec->filter ("designdoc/name", or "_view") names in the design
 * documents of a table, as of now and as the current role, and compile it, in the current
 * context.  Not there: DR404; in another language, or without the engine: 0A000.  Without
 * "compile" it is good for docrep_filter_javascript_identity only.
 */
extern FilterJavascript *docrep_filter_javascript_find(const DocrepFilterSpec *spec,
													   DocTable *table, bool compile);

/* Do these pass?  Fills passes, sqlstate and reason of each. */
extern void docrep_filter_javascript_call(FilterJavascript *javascript, DocFeedLeaf **leaves,
										  int n);

/* A digest of its code, allocated. */
extern char *docrep_filter_javascript_identity(const FilterJavascript *javascript);

#endif							/* DOCREP_FILTER_FILTER_JAVASCRIPT_H */
