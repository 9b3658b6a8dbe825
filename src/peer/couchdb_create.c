/*-------------------------------------------------------------------------
 *
 * couchdb_create.c
 *		Making the target database, flushing it, and noticing that it is not the
 *		same one any more.
 *
 * A database that was deleted and created again has lost what it was sent, and
 * a checkpoint must not say otherwise.  CouchDB from 3.3 on tells by
 * instance_start_time.  For others, documents that were written serve as
 * canaries: the first of the session and the first since the last flush.  While
 * these are there nothing was deleted in between.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "peer/couchdb_target.h"
#include "store/errcodes.h"

/* No answer here is long. */
#define ANSWER_BYTES	(1024 * 1024)

/* A call of which statuses that are not good are looked at here. */
static DocrepHttpCall *
small_call(CouchPeer *peer, const char *method, const char *path)
{
	DocrepHttpCall *call = docrep_http_call(peer->http, CurrentMemoryContext, method, path);

	call->max_body = ANSWER_BYTES;
	return call;
}

/* ---------- creating ---------- */

/* Append a member of create_target_params to a query. */
static void
put_parameter(StringInfo path, const CouchJson *key, const CouchJson *value)
{
	bool		nul = false;
	bool		broken = false;
	char	   *name = palloc(key->len + 1);
	char	   *text = palloc(value->len + 1);

	name[docrep_cj_decode(key, name, &nul, &broken)] = '\0';
	if (value->kind == CJ_STRING)
		text[docrep_cj_decode(value, text, &nul, &broken)] = '\0';
	else
	{
		memcpy(text, value->text, value->len);
		text[value->len] = '\0';
	}
	if (nul || broken)
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_BAD_REQUEST),
				 errmsg("create_target_params holds a text that cannot be sent")));
	appendStringInfo(path, "%c%s=%s", path->len == 0 ? '?' : '&',
					 docrep_http_escape(name), docrep_http_escape(text));
}

void
docrep_couch_create(CouchPeer *peer)
{
	static const int also[] = {412, 0};
	const char *params = peer->base.options.create_params;
	StringInfoData path;
	CouchJson	object;
	CouchJsonWalk walk;
	DocrepHttpCall *call;

	initStringInfo(&path);
	if (params != NULL)
	{
		if (!docrep_cj_value(params, strlen(params), &object) || object.kind != CJ_OBJECT)
			ereport(ERROR,
					(errcode(ERRCODE_DOCREP_BAD_REQUEST),
					 errmsg("create_target_params must be an object")));
		docrep_cj_walk(&walk, &object);
		while (docrep_cj_next(&walk))
			put_parameter(&path, &walk.key, &walk.value);
	}
	call = small_call(peer, "PUT", path.data);
	docrep_http_do(call, also, "creating the database");
	docrep_http_drop(call);
}

/* ---------- is it still the same database? ---------- */

static void
raise_deleted(CouchPeer *peer)
{
	ereport(ERROR,
			(errcode(ERRCODE_DOCREP_UNAVAILABLE),
			 errmsg("the database %s was deleted and created again", peer->base.display),
			 errdetail("Documents that were written are not there any more."),
			 errhint("The replication starts over.")));
}

/* Does an answer of _all_docs have a row that is no error? */
static bool
has_row(CouchPeer *peer, const DocrepHttpCall *call, const char *doing)
{
	CouchJson	answer;
	CouchJson	value;
	CouchJsonWalk walk;

	if (!docrep_cj_value(call->answer.data, call->answer.len, &answer) ||
		answer.kind != CJ_OBJECT)
		docrep_couch_malformed(peer, doing, "it is no JSON object");
	value = docrep_cj_get(&answer, "rows");
	if (value.kind != CJ_ARRAY)
		docrep_couch_malformed(peer, doing, "its \"rows\" is no array");
	docrep_cj_walk(&walk, &value);
	while (docrep_cj_next(&walk))
	{
		if (walk.value.kind != CJ_OBJECT)
			docrep_couch_malformed(peer, doing, "it has a row that is no object");
		if (docrep_cj_get(&walk.value, "error").kind == CJ_NONE)
			return true;
	}
	return false;
}

/*
 * Is the document of a canary there?  The revision may have gone in good order,
 * by a low revs_limit; the document may have been deleted, which has a row, too.
 */
static bool
document_exists(CouchPeer *peer, const char *id)
{
	const char *doing = "looking for a document";
	DocrepHttpCall *call = small_call(peer, "POST", "_all_docs");
	StringInfoData body;
	bool		exists;

	initStringInfo(&body);
	appendStringInfoString(&body, "{\"keys\":[");
	docrep_couch_put_string(&body, id);
	appendStringInfoString(&body, "]}");
	call->body = body.data;
	call->bodylen = body.len;
	docrep_http_do(call, NULL, doing);
	exists = has_row(peer, call, doing);
	docrep_http_drop(call);
	return exists;
}

/* Raise if a canary that the target says it misses has gone altogether. */
static void
check_missing(CouchPeer *peer, const CouchCanary *canary, const CouchJson *key)
{
	const char *id = canary->id;

	if (id == NULL)
		return;
	if (GetDatabaseEncoding() != PG_UTF8)
		id = pg_server_to_any(id, strlen(id), PG_UTF8);
	if (docrep_cj_equals(key, id) && !document_exists(peer, canary->id))
		raise_deleted(peer);
}

/* {"id": ["rev"]} of the canaries; the body of a _revs_diff. */
static void
put_canaries(StringInfo out, const CouchTarget *target)
{
	appendStringInfoChar(out, '{');
	docrep_couch_put_string(out, target->first.id);
	appendStringInfoString(out, ":[");
	docrep_couch_put_string(out, target->first.rev);
	appendStringInfoChar(out, ']');
	if (target->recent.id != NULL && strcmp(target->recent.id, target->first.id) != 0)
	{
		appendStringInfoChar(out, ',');
		docrep_couch_put_string(out, target->recent.id);
		appendStringInfoString(out, ":[");
		docrep_couch_put_string(out, target->recent.rev);
		appendStringInfoChar(out, ']');
	}
	appendStringInfoChar(out, '}');
}

/* Are the canaries there?  A server that has no _revs_diff is asked for the first. */
static void
check_canaries(CouchPeer *peer, const CouchTarget *target)
{
	static const int also[] = {404, 405, 501, 0};
	const char *doing = "comparing revisions";
	DocrepHttpCall *call;
	StringInfoData body;
	CouchJson	answer;
	CouchJsonWalk walk;

	if (target->first.id == NULL)
		return;
	initStringInfo(&body);
	put_canaries(&body, target);
	call = small_call(peer, "POST", "_revs_diff");
	call->body = body.data;
	call->bodylen = body.len;
	docrep_http_do(call, also, doing);
	if (call->status / 100 != 2)
	{
		if (!document_exists(peer, target->first.id))
			raise_deleted(peer);
	}
	else if (docrep_cj_value(call->answer.data, call->answer.len, &answer) &&
			 answer.kind == CJ_OBJECT)
	{
		docrep_cj_walk(&walk, &answer);
		while (docrep_cj_next(&walk))
		{
			check_missing(peer, &target->first, &walk.key);
			check_missing(peer, &target->recent, &walk.key);
		}
	}
	else
		docrep_couch_malformed(peer, doing, "it is no JSON object");
	docrep_http_drop(call);
}

/* Forget the canary of the last interval. */
static void
forget_recent(CouchTarget *target)
{
	if (target->recent.id != NULL)
	{
		pfree(target->recent.id);
		pfree(target->recent.rev);
	}
	memset(&target->recent, 0, sizeof(CouchCanary));
}

/* ---------- flushing ---------- */

/* Servers that have no _ensure_full_commit write at once, or as they will. */
static void
ensure_full_commit(CouchPeer *peer, CouchTarget *target)
{
	static const int also[] = {404, 405, 501, 0};
	DocrepHttpCall *call = small_call(peer, "POST", "_ensure_full_commit");

	call->body = "{}";
	call->bodylen = 2;
	docrep_http_do(call, also, "flushing");
	if (call->status / 100 != 2)
		target->no_commit = true;
	docrep_http_drop(call);
}

void
docrep_couch_flush(DocrepPeer *base)
{
	CouchPeer  *peer = (CouchPeer *) base;
	CouchTarget *target = docrep_couch_target(peer);

	if (!target->no_commit)
		ensure_full_commit(peer, target);
	(void) docrep_couch_check_same(peer);
	if (peer->instance_start_time == NULL)
		check_canaries(peer, target);
	forget_recent(target);
}
