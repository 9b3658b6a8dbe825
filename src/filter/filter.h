/*-------------------------------------------------------------------------
 *
 * filter.h
 *		Which documents: selectors, SQL functions, paths, built-in filters.
 *
 * A filter is described by text (DocrepFilterSpec), which travels to wherever it
 * is evaluated, and compiled once into a DocrepFilter there.  The changes feed
 * asks it about every change that it would return.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DOCREP_FILTER_FILTER_H
#define DOCREP_FILTER_FILTER_H

#include "postgres.h"

#include "utils/jsonb.h"

/* What is asked for; all members NULL or false: everything passes. */
typedef struct DocrepFilterSpec
{
	const char *selector;		/* Mango selector, JSON text */
	const char *filter;			/* "schema.function", or a built-in one: "_design", "_doc_ids", ... */
	const char *query_params;	/* JSON object for the filter's req.query, or NULL */
	const char **paths;			/* ids that pass; a trailing "*" stands for anything */
	int			npaths;
	bool		prevent_deletions;	/* no tombstone passes */
} DocrepFilterSpec;

typedef struct DocrepFilter DocrepFilter;
typedef struct Selector Selector;

/* ---------- selector.c: Mango selectors ---------- */

/*
 * Compile a selector, in the current context.  Malformed: DR400, with the
 * operator and the path of where it is.
 */
extern Selector *docrep_selector_compile(Jsonb *selector);

/*
 * Does a document match?  doc is its body without special members, "id", "rev"
 * (as text) and deleted stand for _id, _rev and _deleted (which is there only if
 * true); NULL id: doc has whatever members beginning with "_" it has.
 */
extern bool docrep_selector_matches(const Selector *selector, JsonbContainer *doc,
									const char *id, const char *rev, bool deleted);

/* Canonical text of a selector: what means the same has the same (for the replication id). */
extern char *docrep_selector_canonical(const Selector *selector);

/* ---------- filter.c ---------- */

extern bool docrep_filter_is_empty(const DocrepFilterSpec *spec);

/*
 * Compile, in the current context.  Malformed: DR400.  A function that is not
 * there or may not be called: DR404, 42501; names are looked up in the
 * search_path of now, as the current role.
 */
extern DocrepFilter *docrep_filter_compile(const DocrepFilterSpec *spec);

/*
 * Does a revision pass?  Called inside of a transaction, as the role that the
 * feed is read as.  body: without special members; NULL for a tombstone
 * without any.  An error of a user's function is raised with the document's id.
 */
extern bool docrep_filter_passes(DocrepFilter *filter, const char *id, const char *rev,
								 bool deleted, Jsonb *body);

/* Text that is the same for filters that let the same pass, code of functions included. */
extern char *docrep_filter_identity(const DocrepFilterSpec *spec);

#endif							/* DOCREP_FILTER_FILTER_H */
