/*-------------------------------------------------------------------------
 *
 * couchdb_local.c
 *		Local documents of a CouchDB peer, be it source or target.
 *
 * A write must name the revision that it replaces (CouchDB 3.5 does not insist,
 * everyone else does).  The one that was last seen is remembered, so that a
 * checkpoint costs one call.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "peer/couchdb_target.h"
#include "store/errcodes.h"
#include "store/json_text.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"

/* How often a write is tried when others write the same document. */
#define MAX_TRIES		5
/* Checkpoints are some 20 kB. */
#define LOCAL_BYTES		(4 * 1024 * 1024)

CouchTarget *
docrep_couch_target(CouchPeer *peer)
{
	if (peer->target == NULL)
	{
		CouchTarget *target = MemoryContextAllocZero(peer->base.cxt, sizeof(CouchTarget));

		dlist_init(&target->writes);
		dlist_init(&target->waiting);
		dlist_init(&target->running);
		dlist_init(&target->diffs);
		peer->target = target;
	}
	return peer->target;
}

/* Remember the revision of a local document; rev NULL: there is none. */
static void
remember(CouchPeer *peer, const char *id, const char *rev)
{
	CouchTarget *target = docrep_couch_target(peer);
	char	   *new_id = MemoryContextStrdup(peer->base.cxt, id);
	char	   *new_rev = rev ? MemoryContextStrdup(peer->base.cxt, rev) : NULL;

	if (target->local_id)
		pfree(target->local_id);
	if (target->local_rev)
		pfree(target->local_rev);
	target->local_id = new_id;
	target->local_rev = new_rev;
}

/* A member that is a string, decoded, in the current context; NULL: there is none. */
static char *
string_member(const CouchJson *object, const char *name)
{
	CouchJson	value = docrep_cj_get(object, name);
	char	   *text;
	bool		nul = false;
	bool		broken = false;

	if (value.kind != CJ_STRING)
		return NULL;
	text = palloc(value.len + 1);
	text[docrep_cj_decode(&value, text, &nul, &broken)] = '\0';
	return nul || broken ? NULL : text;
}

/* A call for a local document, to be dropped by the caller. */
static DocrepHttpCall *
local_call(CouchPeer *peer, const char *method, const char *id)
{
	char	   *path = psprintf("_local/%s", docrep_http_escape(id));
	DocrepHttpCall *call = docrep_http_call(peer->http, CurrentMemoryContext, method, path);

	call->max_body = LOCAL_BYTES;
	return call;
}

/*
 * Read a local document and remember its revision.  Its text as UTF-8, with
 * _id and _rev, in the current context; NULL: there is none.
 */
static char *
read_local(CouchPeer *peer, const char *id)
{
	static const int also[] = {404, 0};
	const char *doing = "reading a local document";
	DocrepHttpCall *call = local_call(peer, "GET", id);
	char	   *text = NULL;

	docrep_http_do(call, also, doing);
	if (call->status == 404)
		remember(peer, id, NULL);
	else
	{
		CouchJson	doc;

		if (!docrep_cj_value(call->answer.data, call->answer.len, &doc) ||
			doc.kind != CJ_OBJECT)
			docrep_couch_malformed(peer, doing, "it is no JSON object");
		if (!pg_verify_mbstr(PG_UTF8, doc.text, (int) doc.len, true))
			docrep_couch_malformed(peer, doing, "it is not UTF-8");
		remember(peer, id, string_member(&doc, "_rev"));
		text = pnstrdup(doc.text, doc.len);
	}
	docrep_http_drop(call);
	return text;
}

char *
docrep_couch_get_local(DocrepPeer *base, const char *id)
{
	char	   *text = read_local((CouchPeer *) base, id);

	if (text != NULL && GetDatabaseEncoding() != PG_UTF8)
		text = pg_any_to_server(text, strlen(text), PG_UTF8);
	return text;
}

/* The members of a JSON object that do not begin with "_", as jsonb. */
static Jsonb *
members_of(const char *text)
{
	CouchDoc	doc;
	char	   *body;

	if (!docrep_couch_doc_parse(text, strlen(text), &doc))
		return NULL;
	body = pnstrdup(doc.body, doc.bodylen);
	if (GetDatabaseEncoding() != PG_UTF8)
		body = pg_any_to_server(body, doc.bodylen, PG_UTF8);
	return docrep_json_parse(body);
}

/* Is what is stored what was to be written?  Both as UTF-8. */
static bool
same_content(const char *stored, const char *wanted)
{
	Jsonb	   *a = members_of(stored);
	Jsonb	   *b = members_of(wanted);

	return a != NULL && b != NULL && compareJsonbContainers(&a->root, &b->root) == 0;
}

/* The text to PUT: doc, an object without _id and _rev, with both. */
static char *
with_rev(const char *id, const char *rev, const char *doc)
{
	StringInfoData out;

	initStringInfo(&out);
	appendStringInfoString(&out, "{\"_id\":");
	docrep_couch_put_string(&out, psprintf("_local/%s", id));
	if (rev != NULL)
	{
		appendStringInfoString(&out, ",\"_rev\":");
		docrep_couch_put_string(&out, rev);
	}
	doc++;
	doc += strspn(doc, " \t\r\n");
	if (*doc != '}')
		appendStringInfoChar(&out, ',');
	appendStringInfoString(&out, doc);
	return out.data;
}

/*
 * A write was refused as a conflict.  True: what it was to write is there (its
 * answer got lost, perhaps).  Otherwise the revision is known now.
 */
static bool
already_there(CouchPeer *peer, const char *id, const char *doc)
{
	bool		had_rev = docrep_couch_target(peer)->local_rev != NULL;
	char	   *stored = read_local(peer, id);

	if (stored == NULL && had_rev)
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_UNAVAILABLE),
				 errmsg("the checkpoint at %s has gone", peer->base.display),
				 errdetail("Somebody has deleted it, or the database was deleted and created again.")));
	return stored != NULL && same_content(stored, doc);
}

/* Write once; the call is done when this returns. */
static DocrepHttpCall *
try_write(CouchPeer *peer, const char *id, const char *doc)
{
	static const int also[] = {409, 0};
	DocrepHttpCall *call = local_call(peer, "PUT", id);

	call->body = with_rev(id, docrep_couch_target(peer)->local_rev, doc);
	call->bodylen = strlen(call->body);
	docrep_http_do(call, also, "writing a local document");
	return call;
}

void
docrep_couch_put_local(DocrepPeer *base, const char *id, const char *doc)
{
	CouchPeer  *peer = (CouchPeer *) base;
	CouchTarget *target = docrep_couch_target(peer);

	doc += strspn(doc, " \t\r\n");
	if (GetDatabaseEncoding() != PG_UTF8)
		doc = pg_server_to_any(doc, strlen(doc), PG_UTF8);
	if (target->local_id == NULL || strcmp(target->local_id, id) != 0)
		(void) read_local(peer, id);
	for (int tries = 1;; tries++)
	{
		DocrepHttpCall *call = try_write(peer, id, doc);
		CouchJson	answer;

		if (call->status != 409)
		{
			char	   *rev = NULL;

			if (docrep_cj_value(call->answer.data, call->answer.len, &answer) &&
				answer.kind == CJ_OBJECT)
				rev = string_member(&answer, "rev");
			if (rev == NULL)
				docrep_couch_malformed(peer, "writing a local document",
									   "it does not name the new revision");
			remember(peer, id, rev);
			docrep_http_drop(call);
			return;
		}
		if (tries == MAX_TRIES)
			docrep_http_raise(call, "writing a local document");
		docrep_http_drop(call);
		if (already_there(peer, id, doc))
			return;
	}
}

/*
 * Servers that insist on revisions make this one step.  CouchDB 3 does not: it takes
 * any write of a local document, whatever the revision, so between the look and the
 * write another one may get lost.  Which of them it is cannot be told beforehand:
 * for the caller they are all like that (no "swaps").
 */
bool
docrep_couch_swap_local(DocrepPeer *base, const char *id, const char *expected, const char *doc)
{
	CouchPeer  *peer = (CouchPeer *) base;
	char	   *stored = read_local(peer, id);
	DocrepHttpCall *call;
	CouchJson	answer;
	bool		done;

	doc += strspn(doc, " \t\r\n");
	if (GetDatabaseEncoding() != PG_UTF8)
	{
		doc = pg_server_to_any(doc, strlen(doc), PG_UTF8);
		expected = expected ? pg_server_to_any(expected, strlen(expected), PG_UTF8) : NULL;
	}
	if ((stored == NULL) != (expected == NULL) ||
		(stored != NULL && !same_content(stored, expected)))
		return false;

	call = try_write(peer, id, doc);
	done = call->status != 409;
	if (done && docrep_cj_value(call->answer.data, call->answer.len, &answer) &&
		answer.kind == CJ_OBJECT)
		remember(peer, id, string_member(&answer, "rev"));
	docrep_http_drop(call);
	if (done)
		return true;
	/* a conflict with ourselves: the answer to the first attempt got lost */
	stored = read_local(peer, id);
	return stored != NULL && same_content(stored, doc);
}
