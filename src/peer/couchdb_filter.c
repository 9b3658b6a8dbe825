/*-------------------------------------------------------------------------
 *
 * couchdb_filter.c
 *		Filters of a CouchDB's feed.
 *
 * Selectors, built-in filters and JavaScript functions are the source's affair: they go
 * into the call as CouchDB's own replicator puts them there.  Paths and deletions, of
 * which CouchDB knows nothing, are looked at row by row here.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "filter/filter.h"
#include "peer/couchdb_source.h"
#include "peer/couchdb_target.h"
#include "store/errcodes.h"
#include "store/json_text.h"
#include "store/jsonb_raw.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"

static const char doing[] = "looking at the filter";

/* ---------- what a feed is of ---------- */

bool
docrep_couch_filter_same(const CouchFeedKind *kind, const DocrepFilterSpec *filter)
{
	char	   *text = docrep_filter_is_empty(filter) ? NULL : docrep_filter_spec_to_text(filter);

	if (text == NULL || kind->filter_text == NULL)
		return text == NULL && kind->filter_text == NULL;
	return strcmp(text, kind->filter_text) == 0;
}

void
docrep_couch_filter_set(CouchFeedKind *kind, const DocrepFilterSpec *filter)
{
	DocrepFilterSpec ours = {0};

	if (docrep_filter_is_empty(filter))
		return;
	kind->filter_text = docrep_filter_spec_to_text(filter);
	kind->filter = docrep_filter_spec_from_text(kind->filter_text);
	ours.paths = kind->filter->paths;
	ours.npaths = kind->filter->npaths;
	ours.prevent_deletions = kind->filter->prevent_deletions;
	kind->ours = docrep_filter_compile(&ours, NULL);
}

bool
docrep_couch_filter_drops(const CouchFeedKind *kind, const DocrepChange *change)
{
	/* what text cannot hold is not compared with paths */
	if (kind == NULL || kind->ours == NULL)
		return false;
	return !docrep_filter_id_passes(kind->ours, change->id, change->deleted);
}

bool
docrep_couch_filter_at_source(const CouchFeedKind *kind)
{
	return kind != NULL &&
		(kind->doc_ids || (kind->filter && (kind->filter->filter || kind->filter->selector)));
}

bool
docrep_couch_filter_has_body(const CouchFeedKind *kind)
{
	return kind != NULL && (kind->doc_ids || (kind->filter && kind->filter->selector));
}

/* ---------- the call ---------- */

/* Append query parameters: strings as they are, all else as JSON. */
static void
put_params(StringInfo path, const char *params)
{
	Jsonb	   *jsonb = docrep_json_parse(params);
	JsonbIterator *it = JsonbIteratorInit(&jsonb->root);
	JsonbIteratorToken token;
	JsonbValue	value;

	while ((token = JsonbIteratorNext(&it, &value, true)) != WJB_DONE)
	{
		char	   *text;

		if (token == WJB_KEY)
			appendStringInfo(path, "&%s=",
							 docrep_http_escape(pnstrdup(value.val.string.val, value.val.string.len)));
		if (token != WJB_VALUE)
			continue;
		if (value.type == jbvString)
			text = pnstrdup(value.val.string.val, value.val.string.len);
		else
		{
			Jsonb	   *part = JsonbValueToJsonb(&value);

			text = docrep_json_print(part);
		}
		appendStringInfoString(path, docrep_http_escape(text));
	}
}

void
docrep_couch_filter_path(StringInfo path, const CouchFeedKind *kind, bool pouchdb)
{
	const DocrepFilterSpec *filter = kind ? kind->filter : NULL;

	if (kind && kind->doc_ids)
		appendStringInfoString(path, "&filter=_doc_ids");
	else if (filter && filter->selector)
	{
		appendStringInfoString(path, "&filter=_selector");
		/* its servers do not look into the body for it */
		if (pouchdb)
			appendStringInfo(path, "&selector=%s", docrep_http_escape(filter->selector));
	}
	else if (filter && filter->filter)
	{
		appendStringInfo(path, "&filter=%s", docrep_http_escape(filter->filter));
		if (filter->query_params)
			put_params(path, filter->query_params);
	}
}

void
docrep_couch_filter_body(StringInfo out, const CouchFeedKind *kind, int first, int n)
{
	if (kind->doc_ids == NULL)
	{
		appendStringInfo(out, "{\"selector\":%s}", kind->filter->selector);
		return;
	}
	appendStringInfoString(out, "{\"doc_ids\":[");
	for (int i = 0; i < n; i++)
	{
		if (i > 0)
			appendStringInfoChar(out, ',');
		docrep_couch_put_string(out, kind->doc_ids[first + i]);
	}
	appendStringInfoString(out, "]}");
}

/* ---------- when it fails ---------- */

/* What an error object says, or NULL. */
static char *
said_error(const CouchJson *object)
{
	CouchJson	error = docrep_cj_get(object, "error");
	char	   *reason = docrep_couch_text_member(object, "reason");

	if (error.kind != CJ_STRING)
		return NULL;
	return psprintf("%s: %s", docrep_couch_text_member(object, "error"), reason ? reason : "");
}

char *
docrep_couch_filter_row_error(const CouchJson *row)
{
	if (row->kind != CJ_OBJECT || docrep_cj_get(row, "id").kind != CJ_NONE)
		return NULL;
	return said_error(row);
}

void
docrep_couch_filter_raise(const CouchPeer *peer, const char *doing, const char *said)
{
	const DocrepFilterSpec *filter = peer->kind ? peer->kind->filter : NULL;

	if (!docrep_couch_filter_at_source(peer->kind))
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_UNAVAILABLE),
				 errmsg("%s failed at %s: %s", doing, peer->base.display, said)));
	/* what a job's views show is the message */
	ereport(ERROR,
			(errcode(ERRCODE_DOCREP_INTERNAL),
			 errmsg("filter \"%s\" failed at %s: %s",
					filter && filter->filter ? filter->filter :
					filter && filter->selector ? "_selector" : "_doc_ids",
					peer->base.display, said)));
}

void
docrep_couch_filter_check_answer(const CouchPeer *peer, const DocrepHttpCall *call)
{
	const CouchFeedKind *kind = peer->kind;
	CouchJson	answer;
	char	   *said = NULL;

	if (kind == NULL || kind->filter == NULL || kind->filter->filter == NULL || call->failed != 0)
		return;
	if (call->status != 404 && call->status != 500)
		return;
	if (docrep_cj_value(call->answer.data, call->answer.len, &answer) && answer.kind == CJ_OBJECT)
		said = said_error(&answer);
	/* a database that is gone is another matter: docrep_http_raise says it */
	if (said == NULL || (call->status == 404 && strstr(said, "Database does not exist") != NULL))
		return;
	if (call->status == 500)
		docrep_couch_filter_raise(peer, doing, said);
	ereport(ERROR,
			(errcode(ERRCODE_DOCREP_NOT_FOUND),
			 errmsg("the filter \"%s\" does not exist at %s", kind->filter->filter,
					peer->base.display),
			 errdetail_internal("%s", said)));
}

/* ---------- what it is ---------- */

/* A design document of the source's; DR404 if it is not there. */
static char *
read_design(CouchPeer *peer, const char *name, const char *filter)
{
	static const int also[] = {404, 0};
	DocrepHttpCall *call = docrep_http_call(peer->http, CurrentMemoryContext, "GET",
											psprintf("_design/%s", docrep_http_escape(name)));
	char	   *text;

	call->max_body = COUCH_DOCUMENT_BYTES;
	docrep_http_do(call, also, doing);
	if (call->status == 404)
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_NOT_FOUND),
				 errmsg("the filter \"%s\" does not exist at %s", filter, peer->base.display),
				 errdetail("There is no design document \"_design/%s\".", name)));
	text = pnstrdup(call->answer.data, call->answer.len);
	docrep_http_drop(call);
	return text;
}

/* The code of "designdoc/name" below a member of the design document: a text, or an object's "map". */
static char *
read_code(CouchPeer *peer, const char *path, const char *member, const char *filter)
{
	const char *slash = strchr(path, '/');
	char	   *design = pnstrdup(path, slash - path);
	char	   *text = read_design(peer, design, filter);
	CouchJson	doc;
	CouchJson	code;

	if (!docrep_cj_value(text, strlen(text), &doc) || doc.kind != CJ_OBJECT)
		docrep_couch_malformed(peer, doing, "it is no JSON object");
	code = docrep_cj_get(&doc, member);
	if (code.kind == CJ_OBJECT)
		code = docrep_cj_get(&code, slash + 1);
	if (code.kind == CJ_OBJECT)
		code = docrep_cj_get(&code, "map");
	if (code.kind != CJ_STRING)
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_NOT_FOUND),
				 errmsg("the filter \"%s\" does not exist at %s", filter, peer->base.display),
				 errdetail("\"_design/%s\" has no \"%s\" in \"%s\".", design, slash + 1, member)));
	return pnstrdup(code.text, code.len);
}

/* The identity, which takes a transaction (a selector's collations), in the caller's memory. */
static char *
identity_with(const DocrepFilterSpec *filter, const char *code)
{
	MemoryContext caller = CurrentMemoryContext;
	char	   *identity;

	StartTransactionCommand();
	identity = MemoryContextStrdup(caller, docrep_filter_identity_with(filter, code));
	CommitTransactionCommand();
	MemoryContextSwitchTo(caller);
	return identity;
}

/* The code is text of JSON, quotes and all: it is compared, not run. */
char *
docrep_couch_filter_identity(DocrepPeer *base, const DocrepFilterSpec *filter)
{
	CouchPeer  *peer = (CouchPeer *) base;
	char	   *code = NULL;

	switch (docrep_filter_kind(filter->filter))
	{
		case DOCREP_FILTER_JAVASCRIPT:
			code = read_code(peer, filter->filter, "filters", filter->filter);
			break;
		case DOCREP_FILTER_VIEW:
			code = read_code(peer, docrep_filter_view_param(filter), "views",
							 psprintf("_view %s", docrep_filter_view_param(filter)));
			break;
		case DOCREP_FILTER_FUNCTION:
			ereport(ERROR,
					(errcode(ERRCODE_DOCREP_BAD_REQUEST),
					 errmsg("the filter \"%s\" is a SQL function, which %s cannot call",
							filter->filter, base->display)));
			break;
		default:
			break;
	}
	return identity_with(filter, code);
}
