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

#include "store/feed.h"
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

/* ---------- keep_back.c: called by docrep.c ---------- */

extern void docrep_filter_install_hooks(void);

/* ---------- filter_spec.c: what is asked for, as text ---------- */

/* What the name of a filter stands for. */
typedef enum DocrepFilterKind
{
	DOCREP_FILTER_NONE,			/* NULL */
	DOCREP_FILTER_DESIGN,		/* "_design": design documents */
	DOCREP_FILTER_DOC_IDS,		/* "_doc_ids": those of query_params.doc_ids */
	DOCREP_FILTER_SELECTOR,		/* "_selector": query_params.selector */
	DOCREP_FILTER_VIEW,			/* "_view": what query_params.view emits */
	DOCREP_FILTER_JAVASCRIPT,	/* "designdoc/name" */
	DOCREP_FILTER_FUNCTION		/* "schema.function" */
} DocrepFilterKind;

/* DR400 for a built-in filter that there is not. */
extern DocrepFilterKind docrep_filter_kind(const char *filter);

/* NULL is empty, too. */
extern bool docrep_filter_is_empty(const DocrepFilterSpec *spec);

/*
 * Check what can be checked without looking for functions: DR400.
 */
extern void docrep_filter_check(const DocrepFilterSpec *spec);

/*
 * Flat form, JSON text, and back.  What it has that is not known here is refused with
 * 0A000: nobody shall get more than he asked for.
 */
extern char *docrep_filter_spec_to_text(const DocrepFilterSpec *spec);
extern DocrepFilterSpec *docrep_filter_spec_from_text(const char *text);

/*
 * Take "_doc_ids" and "_selector" out of filter and query_params: into the result's
 * selector, or into *doc_ids, sorted and unique (untouched if there are none).
 */
extern DocrepFilterSpec *docrep_filter_spec_plain(const DocrepFilterSpec *spec,
												  char ***doc_ids, int *ndoc_ids);

/* ---------- filter.c ---------- */

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

/*
 * What a feed is to be given: asked about all leaves, or about winners.  NULL filter:
 * NULL.  Lives as long as the filter.
 */
extern const DocFeedFilter *docrep_filter_for_feed(DocrepFilter *filter, bool all_leaves);

/*
 * Text that is the same for filters that let the same pass, code of functions included.
 * Raises what docrep_filter_compile raises.
 */
extern char *docrep_filter_identity(const DocrepFilterSpec *spec);

/* The same with the code of a filter that is somewhere else; NULL: not known, or none. */
extern char *docrep_filter_identity_with(const DocrepFilterSpec *spec, const char *code);

#endif							/* DOCREP_FILTER_FILTER_H */
