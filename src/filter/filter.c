/*-------------------------------------------------------------------------
 *
 * filter.c
 *		Compiling and evaluating a filter.
 *
 * What is asked first is what costs least: ids, deletions, the selector, and at last
 * the function.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "filter/filter.h"
#include "filter/filter_function.h"
#include "filter/filter_javascript.h"
#include "filter/filter_paths.h"
#include "lib/stringinfo.h"
#include "store/document.h"
#include "store/json_text.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/json.h"

struct DocrepFilter
{
	bool		design_only;
	bool		prevent_deletions;
	char	  **ids;			/* of "_doc_ids", sorted; or NULL */
	int			nids;
	FilterPaths *paths;			/* or NULL */
	Selector   *selector;		/* or NULL */
	FilterFunction *function;	/* or NULL */
	FilterJavascript *javascript;	/* or NULL */
	DocFeedFilter feed;
};

/* ---------- compiling ---------- */

/* The filter that has a name. */
static void
compile_named(DocrepFilter *filter, const DocrepFilterSpec *spec, DocTable *table)
{
	switch (docrep_filter_kind(spec->filter))
	{
		case DOCREP_FILTER_NONE:
		case DOCREP_FILTER_DOC_IDS:
		case DOCREP_FILTER_SELECTOR:
			break;				/* docrep_filter_spec_plain */
		case DOCREP_FILTER_DESIGN:
			filter->design_only = true;
			break;
		case DOCREP_FILTER_FUNCTION:
			filter->function = docrep_filter_function_find(spec->filter, spec->query_params);
			break;
		case DOCREP_FILTER_VIEW:
		case DOCREP_FILTER_JAVASCRIPT:
			filter->javascript = docrep_filter_javascript_find(spec, table, true);
			break;
	}
}

DocrepFilter *
docrep_filter_compile(const DocrepFilterSpec *given, DocTable *table)
{
	DocrepFilter *filter;
	DocrepFilterSpec *spec;

	if (docrep_filter_is_empty(given))
		return NULL;
	filter = palloc0(sizeof(DocrepFilter));
	spec = docrep_filter_spec_plain(given, &filter->ids, &filter->nids);
	filter->prevent_deletions = spec->prevent_deletions;
	if (spec->paths)
		filter->paths = docrep_paths_compile(spec->paths, spec->npaths);
	if (spec->selector)
		filter->selector = docrep_selector_compile(docrep_json_parse(spec->selector));
	compile_named(filter, spec, table);
	return filter;
}

/* ---------- evaluating ---------- */

static int
compare_ids(const void *a, const void *b)
{
	return strcmp(*(char *const *) a, *(char *const *) b);
}

/* May any revision of a document pass? */
static bool
id_passes(void *arg, const char *id)
{
	const DocrepFilter *filter = arg;

	if (filter->design_only && strncmp(id, "_design/", 8) != 0)
		return false;
	if (filter->ids &&
		bsearch(&id, filter->ids, filter->nids, sizeof(char *), compare_ids) == NULL)
		return false;
	return filter->paths == NULL || docrep_paths_match(filter->paths, id);
}

bool
docrep_filter_id_passes(const DocrepFilter *filter, const char *id, bool deleted)
{
	return !(deleted && filter->prevent_deletions) && id_passes(unconstify(DocrepFilter *, filter), id);
}

Jsonb *
docrep_filter_document(const DocFeedLeaf *leaf)
{
	DocShow		show = {.revs = true};

	return docrep_document_show(leaf->id, leaf->tree, leaf->node, leaf->body, leaf->atts, &show);
}

/* Does a revision match the selector? */
static bool
selector_passes(const DocrepFilter *filter, const DocFeedLeaf *leaf)
{
	static Jsonb empty;
	const RevNode *node = &leaf->tree->nodes[leaf->node];
	char	   *rev = palloc(REV_TEXT_SIZE);

	if (leaf->body == NULL)
	{
		empty.root.header = JB_FOBJECT;
		SET_VARSIZE(&empty, sizeof(Jsonb));
	}
	(void) docrep_rev_print(&node->rev, rev);
	return docrep_selector_matches(filter->selector, leaf->body ? &leaf->body->root : &empty.root,
								   leaf->id, rev, node->deleted,
								   docrep_selector_stubs(filter->selector, leaf->atts));
}

/* What can be said of a revision whose document may pass without asking JavaScript. */
static bool
may_pass(const DocrepFilter *filter, const DocFeedLeaf *leaf)
{
	if (filter->prevent_deletions && leaf->tree->nodes[leaf->node].deleted)
		return false;
	if (filter->selector && !selector_passes(filter, leaf))
		return false;
	return filter->function == NULL || docrep_filter_function_call(filter->function, leaf);
}

/* For the feed: one. */
static bool
feed_passes(void *arg, const DocFeedLeaf *leaf)
{
	return may_pass(arg, leaf);
}

/* For the feed: many, with JavaScript. */
static void
feed_passes_many(void *arg, DocFeedLeaf *leaves, int n)
{
	DocrepFilter *filter = arg;
	DocFeedLeaf **asked = palloc(n * sizeof(DocFeedLeaf *));
	int			nasked = 0;

	for (int i = 0; i < n; i++)
	{
		leaves[i].passes = may_pass(filter, &leaves[i]);
		if (leaves[i].passes)
			asked[nasked++] = &leaves[i];
	}
	if (nasked > 0)
		docrep_filter_javascript_call(filter->javascript, asked, nasked);
}

bool
docrep_filter_passes(DocrepFilter *filter, const DocFeedLeaf *leaf)
{
	DocFeedLeaf answer = *leaf;

	if (!id_passes(filter, leaf->id))
		return false;
	if (filter->javascript == NULL)
		return may_pass(filter, leaf);
	feed_passes_many(filter, &answer, 1);
	if (answer.sqlstate != 0)
		ereport(ERROR,
				(errcode(answer.sqlstate),
				 errmsg_internal("%s", answer.reason)));
	return answer.passes;
}

int
docrep_filter_state_flags(const DocrepFilter *filter)
{
	if (filter->function || filter->javascript)
		return DOCSTATE_BODY | DOCSTATE_TRUNK;
	return filter->selector ? DOCSTATE_BODY : 0;
}

const DocFeedFilter *
docrep_filter_for_feed(DocrepFilter *filter, bool all_leaves)
{
	if (filter == NULL)
		return NULL;
	filter->feed.arg = filter;
	filter->feed.all_leaves = all_leaves;
	filter->feed.state_flags = docrep_filter_state_flags(filter);
	filter->feed.id_passes = id_passes;
	filter->feed.passes = feed_passes;
	filter->feed.passes_many = filter->javascript ? feed_passes_many : NULL;
	return &filter->feed;
}

/* ---------- what it is ---------- */

/* Append "name": text unless there is none. */
static void
put_text(StringInfo out, const char *name, const char *text)
{
	if (text)
		docrep_json_put_text(out, name, text);
}

static int
compare_paths(const void *a, const void *b)
{
	return strcmp(*(const char *const *) a, *(const char *const *) b);
}

/* The paths in order, each as text. */
static char *
paths_text(const DocrepFilterSpec *spec)
{
	const char **paths = palloc(Max(spec->npaths, 1) * sizeof(char *));
	StringInfoData out;

	memcpy(paths, spec->paths, spec->npaths * sizeof(char *));
	qsort(paths, spec->npaths, sizeof(char *), compare_paths);
	initStringInfo(&out);
	for (int i = 0; i < spec->npaths; i++)
	{
		if (i > 0 && strcmp(paths[i], paths[i - 1]) == 0)
			continue;
		escape_json(&out, paths[i]);
	}
	return out.data;
}

char *
docrep_filter_identity_with(const DocrepFilterSpec *given, const char *code)
{
	StringInfoData out;
	char	  **ids = NULL;
	int			nids = 0;
	DocrepFilterSpec *spec = docrep_filter_spec_plain(given, &ids, &nids);

	initStringInfo(&out);
	appendStringInfoChar(&out, '{');
	if (spec->selector)
		put_text(&out, "selector",
				 docrep_selector_canonical(docrep_selector_compile(docrep_json_parse(spec->selector))));
	put_text(&out, "filter", spec->filter);
	put_text(&out, "code", code);
	if (spec->filter && spec->query_params)
	{
		Jsonb	   *params = docrep_json_parse(spec->query_params);

		if (JB_ROOT_COUNT(params) > 0)
			put_text(&out, "query_params", docrep_json_print(params));
	}
	for (int i = 0; i < nids; i++)
		put_text(&out, "id", ids[i]);
	if (spec->paths)
		put_text(&out, "paths", paths_text(spec));
	put_text(&out, "prevent_deletions", spec->prevent_deletions ? "true" : NULL);
	appendStringInfoChar(&out, '}');
	return out.data;
}

char *
docrep_filter_identity(const DocrepFilterSpec *spec, DocTable *table)
{
	DocrepFilterKind kind = docrep_filter_kind(spec->filter);
	char	   *code = NULL;

	/*
	 * What does not compile has an identity, too: that it does not is found by the run which
	 * that is, as in CouchDB.  And no engine is started just to look.
	 */
	if (kind == DOCREP_FILTER_JAVASCRIPT || kind == DOCREP_FILTER_VIEW)
		code = docrep_filter_javascript_identity(docrep_filter_javascript_find(spec, table, false));
	else
	{
		DocrepFilter *filter = docrep_filter_compile(spec, table);

		if (filter && filter->function)
			code = docrep_filter_function_identity(filter->function);
	}
	return docrep_filter_identity_with(spec, code);
}
