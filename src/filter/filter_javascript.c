/*-------------------------------------------------------------------------
 *
 * filter_javascript.c
 *		Filters that are functions of design documents.
 *
 * function(doc, req) below "filters", or the map function of a view, by which passes what
 * it emits something for.  The design document is that of the table whose feed is read, as of
 * now and as the reading role sees it.  The functions run in the engine's process (js/js.h).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <xxhash.h>

#include "filter/filter_javascript.h"
#include "filter/user_context.h"
#include "js/js.h"
#include "lib/stringinfo.h"
#include "store/errcodes.h"
#include "store/json_text.h"
#include "store/open_doc.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/snapmgr.h"

struct FilterJavascript
{
	DocrepJs   *js;
	char	   *name;			/* what messages call it */
	char	   *source;
	char	   *modules;		/* what require() may find: the design document without _rev; or
								 * NULL: the function does not use it */
	bool		view;
	char	   *req;			/* JSON text; NULL for a view */
	int			reqlen;
};

/* Where a function is in a design document. */
typedef struct Place
{
	const char *path[3];
	int			npath;
} Place;

/* ---------- finding it ---------- */

/* Raise DR404: it is not there. */
static void
not_found(const FilterJavascript *javascript, const char *problem)
{
	ereport(ERROR,
			(errcode(ERRCODE_DOCREP_NOT_FOUND),
			 errmsg("the filter \"%s\" does not exist: %s", javascript->name, problem)));
}

/* The design document of a table, with _id but without _rev: DR404 if there is none to be seen. */
static Jsonb *
read_design(const FilterJavascript *javascript, DocTable *table, const char *design)
{
	char	   *id = psprintf("_design/%s", design);
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	OpenDoc		doc;
	RawBuilder	whole;
	RawCursor	cursor;
	RawMember	member;

	docrep_open_doc(&doc, table, snapshot, id, DOCSTATE_BODY);
	UnregisterSnapshot(snapshot);
	if (!doc.found)
		not_found(javascript, psprintf("design document \"%s\" is missing", id));
	if (!doc.state.live)
		not_found(javascript, psprintf("design document \"%s\" is deleted", id));
	docrep_raw_init(&whole, true, 8);
	docrep_raw_add_text(&whole, "_id", id);
	if (doc.state.doc)
	{
		docrep_raw_begin(&cursor, &doc.state.doc->root);
		while (docrep_raw_next(&cursor, &member))
			docrep_raw_add_member(&whole, &member);
	}
	return docrep_raw_finish(&whole);
}

/* Other languages than JavaScript are CouchDB's query servers'. */
static void
check_language(const FilterJavascript *javascript, const Jsonb *design)
{
	RawValue	value;

	if (!docrep_raw_find(&design->root, "language", &value))
		return;
	if (value.type != JENTRY_ISSTRING ||
		strcmp(docrep_raw_to_cstring(&value), "javascript") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("filter \"%s\" is not in JavaScript", javascript->name),
				 errdetail("Its design document has another \"language\".")));
}

/* The source text at a place: DR404, as in CouchDB, if there is none. */
static char *
read_source(const FilterJavascript *javascript, const Jsonb *design, const Place *place)
{
	const JsonbContainer *object = &design->root;
	RawValue	value;

	for (int i = 0; i < place->npath; i++)
	{
		if (object == NULL || !docrep_raw_find(object, place->path[i], &value))
			not_found(javascript, psprintf("missing json key: %s", place->path[i]));
		object = docrep_raw_is_object(&value) ? (const JsonbContainer *) value.data : NULL;
	}
	if (value.type != JENTRY_ISSTRING)
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_INTERNAL),
				 errmsg("filter \"%s\" is no function", javascript->name),
				 errdetail("Its source in the design document is not a string.")));
	return docrep_raw_to_cstring(&value);
}

/* ---------- req ---------- */

/*
 * query_params as a query has them after it has been in an URL: strings as they are, the text
 * of all else, as a CouchDB gets it when this very replication reads from one.
 */
static void
add_query(RawBuilder *req, const char *query_params)
{
	Jsonb	   *params = docrep_json_parse(query_params ? query_params : "{}");
	RawBuilder	query;
	RawCursor	cursor;
	RawMember	member;

	docrep_raw_begin(&cursor, &params->root);
	docrep_raw_init(&query, true, cursor.n);
	while (docrep_raw_next(&cursor, &member))
	{
		char	   *key = pnstrdup(member.key, member.keylen);
		RawBuilder	one;
		char	   *text;

		if (member.value.type == JENTRY_ISSTRING)
		{
			docrep_raw_add(&query, key, &member.value);
			continue;
		}
		docrep_raw_init(&one, false, 1);
		docrep_raw_add(&one, NULL, &member.value);
		text = docrep_json_print(docrep_raw_finish(&one));
		/* without the brackets of the array */
		docrep_raw_add_text_len(&query, key, text + 1, strlen(text) - 2);
	}
	docrep_raw_add_built(req, "query", &query);
}

/* An object without members. */
static void
add_empty(RawBuilder *object, const char *key)
{
	RawBuilder	empty;

	docrep_raw_init(&empty, true, 0);
	docrep_raw_add_built(object, key, &empty);
}

/* The request that a filter sees: a GET of the table's _changes, by the current role. */
static char *
make_req(DocTable *table, const char *query_params)
{
	const char *db = RelationGetRelationName(table->rel);
	RawBuilder	req;
	RawBuilder	info;
	RawBuilder	path;

	docrep_raw_init(&req, true, 12);
	docrep_raw_init(&info, true, 1);
	docrep_raw_add_text(&info, "db_name", db);
	docrep_raw_add_built(&req, "info", &info);
	docrep_raw_init(&path, false, 2);
	docrep_raw_add_text(&path, NULL, db);
	docrep_raw_add_text(&path, NULL, "_changes");
	docrep_raw_add_built(&req, "path", &path);
	docrep_raw_add_null(&req, "id");
	docrep_raw_add_text(&req, "method", "GET");
	docrep_raw_add_text(&req, "body", "undefined");
	add_query(&req, query_params);
	add_empty(&req, "headers");
	add_empty(&req, "form");
	add_empty(&req, "cookie");
	docrep_raw_add_jsonb(&req, "userCtx", docrep_user_context(table));
	docrep_raw_add_jsonb(&req, "secObj", docrep_security_object(table));
	return docrep_json_print(docrep_raw_finish(&req));
}

/* ---------- compiling ---------- */

/* Which function a filter stands for. */
static void
read_place(FilterJavascript *javascript, const DocrepFilterSpec *spec, char **design, Place *place)
{
	char	   *name;

	javascript->view = docrep_filter_kind(spec->filter) == DOCREP_FILTER_VIEW;
	if (!javascript->view)
	{
		docrep_filter_split_name(spec->filter, "filter", design, &name);
		javascript->name = pstrdup(spec->filter);
		*place = (Place) {{"filters", name}, 2};
		return;
	}
	docrep_filter_split_name(docrep_filter_view_param(spec), "view", design, &name);
	javascript->name = psprintf("_view %s/%s", *design, name);
	*place = (Place) {{"views", name, "map"}, 3};
}

FilterJavascript *
docrep_filter_javascript_find(const DocrepFilterSpec *spec, DocTable *table, bool compile)
{
	FilterJavascript *javascript = palloc0(sizeof(FilterJavascript));
	char	   *design;
	Place		place;
	Jsonb	   *doc;
	char	   *text;

	read_place(javascript, spec, &design, &place);
	docrep_js_require();
	doc = read_design(javascript, table, design);
	check_language(javascript, doc);
	javascript->source = read_source(javascript, doc, &place);
	text = docrep_json_print(doc);
	if (strstr(javascript->source, "require") != NULL)
		javascript->modules = text;
	if (!compile)
		return javascript;
	if (!javascript->view)
	{
		javascript->req = make_req(table, spec->query_params);
		javascript->reqlen = strlen(javascript->req);
	}
	javascript->js = docrep_js_compile(text,
									   javascript->view ? DOCREP_JS_VIEW : DOCREP_JS_FILTER,
									   place.path, place.npath, javascript->name);
	return javascript;
}

/* ---------- calling it ---------- */

void
docrep_filter_javascript_call(FilterJavascript *javascript, DocFeedLeaf **leaves, int n)
{
	DocrepJsCall *calls = palloc0(n * sizeof(DocrepJsCall));

	for (int i = 0; i < n; i++)
	{
		char	   *doc = docrep_json_print(docrep_filter_document(leaves[i]));

		calls[i].args[0] = doc;
		calls[i].lens[0] = strlen(doc);
		if (javascript->view)
			continue;
		calls[i].args[1] = javascript->req;
		calls[i].lens[1] = javascript->reqlen;
	}
	docrep_js_call(javascript->js, calls, n);
	for (int i = 0; i < n; i++)
	{
		leaves[i]->passes = calls[i].passes;
		leaves[i]->sqlstate = calls[i].sqlstate;
		if (calls[i].sqlstate != 0)
			leaves[i]->reason = psprintf("filter \"%s\" failed for document \"%s\": %s",
										 javascript->name, leaves[i]->id,
										 calls[i].reason ? calls[i].reason : "no reason was given");
	}
}

/* ---------- what it is ---------- */

char *
docrep_filter_javascript_identity(const FilterJavascript *javascript)
{
	XXH128_canonical_t digest;
	StringInfoData parts;
	StringInfoData result;

	initStringInfo(&parts);
	appendStringInfo(&parts, "%zu:%s;%s", strlen(javascript->source), javascript->source,
					 javascript->modules ? javascript->modules : "");
	XXH128_canonicalFromHash(&digest, XXH3_128bits(parts.data, parts.len));
	initStringInfo(&result);
	appendStringInfoString(&result, "javascript ");
	for (size_t i = 0; i < sizeof(digest.digest); i++)
		appendStringInfo(&result, "%02x", digest.digest[i]);
	pfree(parts.data);
	return result.data;
}
