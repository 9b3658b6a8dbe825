/*-------------------------------------------------------------------------
 *
 * filter_paths.h
 *		Ids that pass, some of them by their beginning.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DOCREP_FILTER_FILTER_PATHS_H
#define DOCREP_FILTER_FILTER_PATHS_H

#include "postgres.h"

typedef struct FilterPaths
{
	int			nids;
	const char **ids;			/* sorted */
	int			nprefixes;
	const char **prefixes;		/* sorted; none begins with another */
} FilterPaths;

/* Read paths: DR400 for a "*" that is not where it may be.  The texts are not copied. */
extern FilterPaths *docrep_paths_compile(const char *const *paths, int n);

extern bool docrep_paths_match(const FilterPaths *paths, const char *id);

#endif							/* DOCREP_FILTER_FILTER_PATHS_H */
