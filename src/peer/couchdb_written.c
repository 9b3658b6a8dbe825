/*-------------------------------------------------------------------------
 *
 * couchdb_written.c
 *		What a CouchDB target says of the documents that it was sent.
 *
 * With new_edits=false an answer names failures only.  CouchDB gives id, rev,
 * error and reason; PouchDB's servers leave out the rev, and now and then the
 * id.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "peer/couchdb_target.h"
#include "store/errcodes.h"

/* Of what a server gives as a reason, no more than this is kept. */
#define REASON_BYTES	1000

static const char doing[] = "writing documents";

/* ---------- one document ---------- */

void
docrep_couch_doc_failed(DocrepDocs *docs, DocrepDoc *doc, int sqlstate, const char *reason)
{
	doc->sqlstate = sqlstate;
	doc->reason = MemoryContextStrdup(docs->cxt, reason);
	elog(DEBUG1, "docrep: document \"%s\" was not written: %s", doc->id, doc->reason);
}

/*
 * A text from the server that is fit for people: in the server's encoding,
 * short, and without credentials, should it repeat them.  NULL: it is no string.
 */
static char *
readable(CouchPeer *peer, const CouchJson *value)
{
	const char *password = peer->endpoint->password;
	char	   *text;
	size_t		len;
	bool		nul = false;
	bool		broken = false;

	if (value->kind != CJ_STRING)
		return NULL;
	text = palloc(value->len + 1);
	len = docrep_cj_decode(value, text, &nul, &broken);
	text[len] = '\0';
	if (nul || broken || !pg_verify_mbstr(PG_UTF8, text, (int) len, true))
		return NULL;
	if (password != NULL && *password != '\0' && strstr(text, password) != NULL)
		return pstrdup("(withheld, as it repeats the password)");
	text[pg_encoding_mbcliplen(PG_UTF8, text, (int) len, REASON_BYTES)] = '\0';
	if (GetDatabaseEncoding() != PG_UTF8)
		text = pg_any_to_server(text, strlen(text), PG_UTF8);
	return text;
}

/* Our code for CouchDB's name of an error. */
static int
sqlstate_of_error(const char *error)
{
	static const struct
	{
		const char *error;
		int			sqlstate;
	}			names[] = {
		{"forbidden", ERRCODE_DOCREP_FORBIDDEN},
		{"unauthorized", ERRCODE_DOCREP_UNAUTHORIZED},
		{"conflict", ERRCODE_DOCREP_CONFLICT},
		{"doc_validation", ERRCODE_DOCREP_BAD_REQUEST},
		{"bad_request", ERRCODE_DOCREP_BAD_REQUEST},
		{"illegal_docid", ERRCODE_DOCREP_BAD_REQUEST},
		{"missing_id", ERRCODE_DOCREP_BAD_REQUEST},
		{"invalid_rev_format", ERRCODE_DOCREP_BAD_REQUEST},
		{"md5_mismatch", ERRCODE_DOCREP_BAD_REQUEST},
		{"content_md5_mismatch", ERRCODE_DOCREP_BAD_REQUEST},
		{"missing_stub", ERRCODE_DOCREP_PRECONDITION_FAILED},
		{"too_large", ERRCODE_DOCREP_TOO_LARGE},
		{"document_too_large", ERRCODE_DOCREP_TOO_LARGE},
		{"attachment_too_large", ERRCODE_DOCREP_TOO_LARGE},
		{"request_entity_too_large", ERRCODE_DOCREP_TOO_LARGE},
	};

	for (int i = 0; error != NULL && i < lengthof(names); i++)
	{
		if (strcmp(names[i].error, error) == 0)
			return names[i].sqlstate;
	}
	return ERRCODE_DOCREP_INTERNAL;
}

/* The name and the reason of an error object; either may be NULL. */
static void
read_error(CouchPeer *peer, const CouchJson *object, char **error, char **reason)
{
	CouchJson	value = docrep_cj_get(object, "error");

	/* PouchDB's own objects: {"error": true, "name", "message"} */
	if (value.kind == CJ_TRUE)
		value = docrep_cj_get(object, "name");
	*error = readable(peer, &value);
	value = docrep_cj_get(object, "reason");
	if (value.kind != CJ_STRING)
		value = docrep_cj_get(object, "message");
	*reason = readable(peer, &value);
}

/* A document failed with an error object. */
static void
note_error(CouchPeer *peer, DocrepDocs *docs, DocrepDoc *doc, const CouchJson *object)
{
	char	   *error;
	char	   *reason;
	int			sqlstate;

	read_error(peer, object, &error, &reason);
	sqlstate = sqlstate_of_error(error);
	if (reason == NULL)
		reason = error ? error : pstrdup("no reason was given");
	else if (sqlstate == ERRCODE_DOCREP_INTERNAL && error != NULL)
		reason = psprintf("%s: %s", error, reason);
	docrep_couch_doc_failed(docs, doc, sqlstate, reason);
}

/* ---------- refused with a status ---------- */

/* Our code for a status that refuses a document; 0: it is none. */
static int
sqlstate_of_status(int status)
{
	switch (status)
	{
		case 400:
		case 411:
		case 414:
		case 415:
		case 422:
			return ERRCODE_DOCREP_BAD_REQUEST;
		case 401:
			return ERRCODE_DOCREP_UNAUTHORIZED;
		case 403:
			return ERRCODE_DOCREP_FORBIDDEN;
		case 409:
			return ERRCODE_DOCREP_CONFLICT;
		case 412:
			return ERRCODE_DOCREP_PRECONDITION_FAILED;
		case 413:
			return ERRCODE_DOCREP_TOO_LARGE;
		default:
			return 0;
	}
}

bool
docrep_couch_refuses_doc(int status)
{
	return sqlstate_of_status(status) != 0;
}

void
docrep_couch_doc_refused(CouchPeer *peer, DocrepDocs *docs, DocrepDoc *doc,
						 const DocrepHttpCall *call)
{
	CouchJson	answer;
	char	   *error = NULL;
	char	   *reason = NULL;

	if (docrep_cj_value(call->answer.data, call->answer.len, &answer) &&
		answer.kind == CJ_OBJECT)
		read_error(peer, &answer, &error, &reason);
	/* the one body that has no length: see couchdb_stream.c */
	if (call->status == 411)
		reason = pstrdup("the server demands the length of the document (411), and that of an attachment is not known for certain");
	if (reason == NULL)
		reason = error ? error : psprintf("the server answered with status %d", call->status);
	docrep_couch_doc_failed(docs, doc, sqlstate_of_status(call->status), reason);
}

/* ---------- answers ---------- */

/* Does a raw JSON string equal a text of ours? */
static bool
same_text(const CouchJson *string, const char *text)
{
	if (GetDatabaseEncoding() != PG_UTF8)
		text = pg_server_to_any(text, strlen(text), PG_UTF8);
	return docrep_cj_equals(string, text);
}

static bool
same_rev(const CouchJson *string, const Rev *rev)
{
	char		text[REV_TEXT_SIZE];

	docrep_rev_print(rev, text);
	return docrep_cj_equals(string, text);
}

/*
 * Give an error to the documents of an id, with rev to that revision only.
 * Errors mostly come in the order of the documents, so the search begins at *hint,
 * after the last one found.  False: there is none.
 */
static bool
note_error_at(CouchPeer *peer, DocrepDocs *docs, const int *order, int n, int *hint,
			  const CouchJson *object, const CouchJson *id, const CouchJson *rev)
{
	int			start = *hint;
	bool		found = false;

	for (int i = 0; i < n && !(found && rev != NULL); i++)
	{
		int			at = (start + i) % n;
		DocrepDoc  *doc = &docs->docs[order[at]];

		if (!same_text(id, doc->id) || (rev != NULL && !same_rev(rev, &doc->path.revs[0])))
			continue;
		note_error(peer, docs, doc, object);
		*hint = (at + 1) % n;
		found = true;
	}
	return found;
}

/*
 * The same for an error as it came.  Of one whose rev is none of ours, all revisions
 * of the id count as failed, rather than none.  What is of no id of ours is ignored.
 */
static void
note_error_by_id(CouchPeer *peer, DocrepDocs *docs, const int *order, int n, int *hint,
				 const CouchJson *object, const CouchJson *id)
{
	CouchJson	rev = docrep_cj_get(object, "rev");

	if (rev.kind == CJ_STRING &&
		note_error_at(peer, docs, order, n, hint, object, id, &rev))
		return;
	(void) note_error_at(peer, docs, order, n, hint, object, id, NULL);
}

/* Does an element of the answer say that something failed? */
static bool
is_failure(const CouchJson *element)
{
	CouchJson	error;

	if (element->kind != CJ_OBJECT)
		return false;
	error = docrep_cj_get(element, "error");
	return error.kind == CJ_STRING || error.kind == CJ_TRUE;
}

/* The number of elements of an array. */
static int
count_elements(const CouchJson *array)
{
	CouchJsonWalk walk;
	int			n = 0;

	docrep_cj_walk(&walk, array);
	while (docrep_cj_next(&walk))
		n++;
	return n;
}

/* Read the array; returns as docrep_couch_read_written. */
static bool
read_array(CouchPeer *peer, DocrepDocs *docs, const int *order, int n, const CouchJson *array)
{
	bool		positional = count_elements(array) == n;
	CouchJsonWalk walk;
	int			hint = 0;
	int			i = 0;

	docrep_cj_walk(&walk, array);
	for (; docrep_cj_next(&walk); i++)
	{
		CouchJson	id;

		if (walk.value.kind != CJ_OBJECT)
			docrep_couch_malformed(peer, doing, "it has an element that is no object");
		if (!is_failure(&walk.value))
			continue;
		id = docrep_cj_get(&walk.value, "id");
		if (n == 1 && id.kind != CJ_STRING)
			note_error(peer, docs, &docs->docs[order[0]], &walk.value);
		else if (id.kind == CJ_STRING)
			note_error_by_id(peer, docs, order, n, &hint, &walk.value, &id);
		else if (positional)
			note_error(peer, docs, &docs->docs[order[i]], &walk.value);
		else
			return false;
	}
	return true;
}

/* Remember a document that was written: see couchdb_create.c. */
static void
note_canary(CouchPeer *peer, DocrepDocs *docs, const int *order, int n)
{
	CouchTarget *target = docrep_couch_target(peer);
	MemoryContext old;
	const DocrepDoc *doc = NULL;

	if (target->recent.id != NULL)
		return;
	for (int i = 0; i < n && doc == NULL; i++)
	{
		if (docs->docs[order[i]].sqlstate == 0)
			doc = &docs->docs[order[i]];
	}
	if (doc == NULL)
		return;
	old = MemoryContextSwitchTo(peer->base.cxt);
	target->recent.id = pstrdup(doc->id);
	target->recent.rev = docrep_couch_rev_text(&doc->path.revs[0]);
	if (target->first.id == NULL)
	{
		target->first.id = pstrdup(doc->id);
		target->first.rev = pstrdup(target->recent.rev);
	}
	MemoryContextSwitchTo(old);
}

bool
docrep_couch_read_written(CouchPeer *peer, DocrepDocs *docs, const int *order, int n,
						  const DocrepHttpCall *call)
{
	CouchJson	answer;

	if (!docrep_cj_value(call->answer.data, call->answer.len, &answer))
		docrep_couch_malformed(peer, doing, "it is no JSON");
	if (answer.kind == CJ_ARRAY)
	{
		if (!read_array(peer, docs, order, n, &answer))
			return false;
	}
	else if (answer.kind != CJ_OBJECT || n != 1)
		docrep_couch_malformed(peer, doing, "it is no array");
	else if (is_failure(&answer))
		note_error(peer, docs, &docs->docs[order[0]], &answer);
	note_canary(peer, docs, order, n);
	return true;
}
