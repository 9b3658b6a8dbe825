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
 * true), atts for _attachments; NULL id: doc has whatever members beginning with "_" it has.
 */
extern bool docrep_selector_matches(const Selector *selector, JsonbContainer *doc,
									const char *id, const char *rev, bool deleted,
									const Jsonb *atts);

/*
 * What atts is to be of a document with such a column _attachments, or NULL: an object with
 * the stubs, if there are any and they are asked about; else NULL.
 */
extern Jsonb *docrep_selector_stubs(const Selector *selector, Jsonb *column);

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
 * Take "designdoc/name" apart: DR400 if it is not that; what: "filter" or "view".  The parts are
 * allocated.
 */
extern void docrep_filter_split_name(const char *text, const char *what, char **design, char **name);

/* The text of query_params.view, allocated; DR400 if there is none. */
extern char *docrep_filter_view_param(const DocrepFilterSpec *spec);

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
 * Compile for a table, which stays open as long, in the current context.  Malformed: DR400.
 * A function that is not there or may not be called: DR404, 42501; names are looked up in
 * the search_path of now, design documents in the table as of now, as the current role.
 * table NULL: for ids alone, without functions and selectors.
 */
extern DocrepFilter *docrep_filter_compile(const DocrepFilterSpec *spec, DocTable *table);

/* May any revision of a document pass, as far as its id says? */
extern bool docrep_filter_id_passes(const DocrepFilter *filter, const char *id, bool deleted);

/*
 * Does a revision pass?  Called inside of a transaction, as the role that the
 * feed is read as.  leaf has what docrep_filter_state_flags says.  An error of a user's
 * function is raised with the document's id.
 */
extern bool docrep_filter_passes(DocrepFilter *filter, const DocFeedLeaf *leaf);

/* What the filter wants to see of a document: DOCSTATE_*. */
extern int	docrep_filter_state_flags(const DocrepFilter *filter);

/*
 * A document as filters see it, as in CouchDB: with _id, _rev, _deleted, _revisions and stubs
 * of its attachments.
 */
extern Jsonb *docrep_filter_document(const DocFeedLeaf *leaf);

/*
 * What a feed is to be given: asked about all leaves, or about winners.  NULL filter:
 * NULL.  Lives as long as the filter.
 */
extern const DocFeedFilter *docrep_filter_for_feed(DocrepFilter *filter, bool all_leaves);

/*
 * Text that is the same for filters that let the same pass, code of functions included.
 * Raises what docrep_filter_compile raises.
 */
extern char *docrep_filter_identity(const DocrepFilterSpec *spec, DocTable *table);

/* The same with the code of a filter that is somewhere else; NULL: not known, or none. */
extern char *docrep_filter_identity_with(const DocrepFilterSpec *spec, const char *code);

#endif							/* DOCREP_FILTER_FILTER_H */
