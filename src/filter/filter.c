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
#include "filter/filter_paths.h"
#include "lib/stringinfo.h"
#include "store/errcodes.h"
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
	DocFeedFilter feed;
};

static Jsonb *
parse(const char *text)
{
	return DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(text)));
}

/* ---------- compiling ---------- */

/* The filter that has a name. */
static void
compile_named(DocrepFilter *filter, const DocrepFilterSpec *spec)
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
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("filter \"%s\" is not supported for document tables", spec->filter),
					 errdetail("JavaScript of design documents is run by CouchDB sources only."),
					 errhint("Write it as a selector, or as a SQL function (doc jsonb, req jsonb) RETURNS boolean.")));
	}
}

DocrepFilter *
docrep_filter_compile(const DocrepFilterSpec *given)
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
		filter->selector = docrep_selector_compile(parse(spec->selector));
	compile_named(filter, spec);
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

/* What is asked about a revision whose document may pass. */
static bool
revision_passes(DocrepFilter *filter, const char *id, const char *rev, bool deleted, Jsonb *body)
{
	static Jsonb empty;

	if (deleted && filter->prevent_deletions)
		return false;
	if (filter->selector)
	{
		if (body == NULL)
		{
			empty.root.header = JB_FOBJECT;
			SET_VARSIZE(&empty, sizeof(Jsonb));
		}
		if (!docrep_selector_matches(filter->selector, body ? &body->root : &empty.root,
									 id, rev, deleted))
			return false;
	}
	return filter->function == NULL ||
		docrep_filter_function_call(filter->function, id, rev, deleted, body);
}

bool
docrep_filter_passes(DocrepFilter *filter, const char *id, const char *rev, bool deleted,
					 Jsonb *body)
{
	return id_passes(filter, id) && revision_passes(filter, id, rev, deleted, body);
}

/* For the feed. */
static bool
feed_passes(void *arg, const char *id, const Rev *rev, bool deleted, Jsonb *body)
{
	DocrepFilter *filter = arg;
	char	   *text = NULL;

	/* who does not look at documents does not want revisions either */
	if (filter->selector || filter->function)
	{
		text = palloc(REV_TEXT_SIZE);
		(void) docrep_rev_print(rev, text);
	}
	return revision_passes(filter, id, text, deleted, body);
}

const DocFeedFilter *
docrep_filter_for_feed(DocrepFilter *filter, bool all_leaves)
{
	if (filter == NULL)
		return NULL;
	filter->feed.arg = filter;
	filter->feed.all_leaves = all_leaves;
	filter->feed.wants_bodies = filter->selector || filter->function;
	filter->feed.id_passes = id_passes;
	filter->feed.passes = feed_passes;
	return &filter->feed;
}

/* ---------- what it is ---------- */

/* Append "name": text unless there is none. */
static void
put_text(StringInfo out, const char *name, const char *text)
{
	if (text == NULL)
		return;
	if (out->data[out->len - 1] != '{')
		appendStringInfoChar(out, ',');
	escape_json(out, name);
	appendStringInfoChar(out, ':');
	escape_json(out, text);
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
				 docrep_selector_canonical(docrep_selector_compile(parse(spec->selector))));
	put_text(&out, "filter", spec->filter);
	put_text(&out, "code", code);
	if (spec->filter && spec->query_params)
	{
		Jsonb	   *params = parse(spec->query_params);

		if (JB_ROOT_COUNT(params) > 0)
			put_text(&out, "query_params", JsonbToCString(NULL, &params->root, VARSIZE(params)));
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
docrep_filter_identity(const DocrepFilterSpec *spec)
{
	DocrepFilter *filter = docrep_filter_compile(spec);

	return docrep_filter_identity_with(spec, filter && filter->function ?
									   docrep_filter_function_identity(filter->function) : NULL);
}
