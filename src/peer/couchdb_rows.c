/*-------------------------------------------------------------------------
 *
 * couchdb_rows.c
 *		The rows of a CouchDB's changes feed.
 *
 * Sequences are opaque: a string is kept as its text, anything else as its
 * JSON.  An id that text cannot hold cannot go through the target's comparison
 * and a fetch: its document comes along with the row, as one that is kept as it is.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "peer/couchdb_source.h"
#include "peer/couchdb_target.h"
#include "store/errcodes.h"
#include "utils/memutils.h"

char *
docrep_couch_seq(const CouchJson *seq)
{
	const char *problem;
	char	   *raw;
	int			rawlen;
	char	   *text;

	if (seq->kind == CJ_NONE || seq->kind == CJ_NULL)
		return NULL;
	if (seq->kind == CJ_STRING)
	{
		text = docrep_couch_text(seq, &problem, &raw, &rawlen);
		return problem ? NULL : text;
	}
	return pnstrdup(seq->text, seq->len);
}

int64
docrep_couch_seq_number(const char *seq)
{
	CouchJson	value = {CJ_NUMBER, seq, strspn(seq, "0123456789")};
	int64		number;

	if (seq[value.len] != '\0' && seq[value.len] != '-')
		return -1;
	return docrep_cj_int64(&value, &number) ? number : -1;
}

void
docrep_couch_set_seq(StringInfo seq, const char *value)
{
	resetStringInfo(seq);
	appendStringInfoString(seq, value);
}

/* One of a row's revisions; NULL, or what is wrong. */
static const char *
read_rev(const CouchJson *value, Rev *rev)
{
	const char *problem;
	char	   *raw;
	int			rawlen;
	char	   *text;

	if (value->kind != CJ_STRING)
		return "a revision in a change is no string";
	text = docrep_couch_text(value, &problem, &raw, &rawlen);
	if (problem == NULL)
		problem = docrep_rev_parse(text, strlen(text), palloc(strlen(text) + 1), rev);
	return problem != NULL ? "a change has a malformed revision" : NULL;
}

/* The revisions of a row; NULL, or what is wrong. */
static const char *
read_revs(const CouchJson *changes, DocrepChange *change)
{
	CouchJsonWalk walk;
	const char *problem = NULL;
	int			n = 0;

	if (changes->kind != CJ_ARRAY)
		return "a change has no array \"changes\"";
	docrep_cj_walk(&walk, changes);
	while (docrep_cj_next(&walk))
		n++;
	change->revs = palloc(Max(n, 1) * sizeof(Rev));
	docrep_cj_walk(&walk, changes);
	while (problem == NULL && docrep_cj_next(&walk))
	{
		CouchJson	value = docrep_cj_get(&walk.value, "rev");

		problem = read_rev(&value, &change->revs[change->nrevs++]);
	}
	return problem;
}

/* The row's documents, one a revision, as ones that cannot be read. */
static void
add_unusable(DocrepChange *change, const char *json, Size len, const char *raw, int rawlen,
			 const char *reason)
{
	change->docs = palloc0(Max(change->nrevs, 1) * sizeof(DocrepDoc));
	for (int i = 0; i < change->nrevs; i++)
	{
		DocrepDoc  *doc = &change->docs[i];

		doc->id = change->id;
		doc->raw_id = raw;
		doc->raw_idlen = rawlen;
		doc->unreadable = true;
		doc->sqlstate = ERRCODE_DOCREP_BAD_REQUEST;
		doc->reason = unconstify(char *, reason);
		doc->path.n = 1;
		doc->path.revs = &change->revs[i];
		doc->json = palloc(len + 1);
		memcpy(doc->json, json, len);
		doc->jsonlen = (int) len;
	}
}

bool
docrep_couch_is_first(const DocrepChange *change)
{
	return change->nrevs == 1 && change->revs[0].gen == 1;
}

/* Keep the document that came along, if that is all there is to know of it. */
static void
keep_doc(DocrepChange *change, const CouchJson *row, DocrepChanges *out)
{
	CouchJson	json = docrep_cj_get(row, "doc");
	DocrepDocs	docs;
	DocrepDoc  *doc;

	if (!docrep_couch_is_first(change) || json.kind != CJ_OBJECT)
		return;
	docrep_docs_init(&docs, out->cxt);
	docs.docs = palloc(sizeof(DocrepDoc));
	docs.cap = 1;
	doc = docrep_couch_add_doc(&docs, json.text, json.len, change->id, &change->revs[0]);
	if (doc->unreadable || doc->atts.n > 0 || doc->path.n != 1 ||
		!docrep_rev_eq(&doc->path.revs[0], &change->revs[0]))
		return;
	change->docs = doc;
	out->bytes += docs.bytes;
}

const char *
docrep_couch_add_row(const CouchJson *row, const char *at, bool with_docs, DocrepChanges *out)
{
	MemoryContext caller;
	DocrepChange *change;
	CouchJson	id;
	CouchJson	value;
	const char *problem;
	const char *id_problem;
	char	   *raw = NULL;
	int			rawlen = 0;

	if (row->kind != CJ_OBJECT)
		return "a change is no object";
	id = docrep_cj_get(row, "id");
	if (id.kind != CJ_STRING)
		return "a change has no id";
	caller = MemoryContextSwitchTo(out->cxt);
	change = docrep_changes_add(out);
	change->id = docrep_couch_text(&id, &id_problem, &raw, &rawlen);
	value = docrep_cj_get(row, "seq");
	change->seq = docrep_couch_seq(&value);
	if (change->seq == NULL)
		change->seq = pstrdup(at);
	value = docrep_cj_get(row, "changes");
	problem = read_revs(&value, change);
	change->deleted = docrep_cj_get(row, "deleted").kind == CJ_TRUE;
	if (problem == NULL && id_problem != NULL)
		add_unusable(change, row->text, row->len, raw, rawlen, psprintf("_id: %s", id_problem));
	else if (problem == NULL && with_docs)
		keep_doc(change, row, out);
	out->bytes += 64 + id.len + change->nrevs * 24;
	MemoryContextSwitchTo(caller);
	if (problem != NULL)
		out->n--;
	return problem;
}

void
docrep_couch_copy_rows(const DocrepChanges *from, DocrepChanges *out)
{
	MemoryContext caller = MemoryContextSwitchTo(out->cxt);

	for (int i = 0; i < from->n; i++)
	{
		const DocrepChange *source = &from->rows[i];
		DocrepChange *change = docrep_changes_add(out);

		*change = *source;
		change->seq = pstrdup(source->seq);
		change->id = pstrdup(source->id);
		change->revs = palloc(Max(source->nrevs, 1) * sizeof(Rev));
		for (int k = 0; k < source->nrevs; k++)
		{
			const Rev  *rev = &source->revs[k];

			change->revs[k] = *rev;
			change->revs[k].bytes = memcpy(palloc(Max(rev->len, 1)), rev->bytes, rev->len);
		}
		if (source->docs != NULL)
		{
			const DocrepDoc *doc = &source->docs[0];

			add_unusable(change, doc->json, doc->jsonlen,
						 memcpy(palloc(doc->raw_idlen + 1), doc->raw_id, doc->raw_idlen),
						 doc->raw_idlen, pstrdup(doc->reason));
		}
	}
	out->bytes += from->bytes;
	MemoryContextSwitchTo(caller);
}

/* ---------- documents of unusable ids ---------- */

/* The body of a _bulk_get of a row's revisions, its id as it came. */
static void
put_request(StringInfo out, const CouchJson *id, const DocrepChange *change)
{
	appendStringInfoString(out, "{\"docs\":[");
	for (int i = 0; i < change->nrevs; i++)
	{
		appendStringInfoString(out, i == 0 ? "{\"id\":" : ",{\"id\":");
		appendBinaryStringInfo(out, id->text, (int) id->len);
		appendStringInfoString(out, ",\"rev\":");
		docrep_couch_put_string(out, docrep_couch_rev_text(&change->revs[i]));
		appendStringInfoChar(out, '}');
	}
	appendStringInfoString(out, "]}");
}

/* Keep a document instead of its row. */
static void
keep_document(DocrepChange *change, const CouchJson *json, MemoryContext cxt)
{
	CouchDoc	couch;

	if (!docrep_couch_doc_parse(json->text, json->len, &couch))
		return;
	for (int i = 0; i < change->nrevs; i++)
	{
		DocrepDoc  *doc = &change->docs[i];

		if (!docrep_cj_equals(&couch.rev, docrep_couch_rev_text(&change->revs[i])))
			continue;
		doc->json = MemoryContextAlloc(cxt, json->len + 1);
		memcpy(doc->json, json->text, json->len);
		doc->jsonlen = (int) json->len;
	}
	pfree(couch.body);
}

/* Take what an answer has of a row's documents. */
static void
take_documents(DocrepHttpCall *call, DocrepChange *change, DocrepChanges *changes)
{
	CouchAnswer *answer = docrep_couch_answer_new(true, COUCH_DOCUMENT_BYTES);
	const char *data = call->answer.data;
	size_t		len = call->answer.len;
	CouchEntry	entry;

	while (docrep_couch_answer_next(answer, call->type, &data, &len, &entry) == COUCHANSWER_ENTRY)
	{
		if (entry.kind == COUCHENTRY_DOC)
			keep_document(change, &entry.doc, changes->cxt);
	}
}

/* Fetch one row's documents.  If the source does not give them, the row has to do. */
static void
fetch_row(CouchPeer *peer, DocrepChange *change, DocrepChanges *changes)
{
	CouchJson	row;
	CouchJson	id;
	DocrepHttpCall *call;
	StringInfoData body;

	if (change->nrevs == 0 ||
		!docrep_cj_value(change->docs[0].json, change->docs[0].jsonlen, &row))
		return;
	id = docrep_cj_get(&row, "id");
	initStringInfo(&body);
	put_request(&body, &id, change);
	call = docrep_http_call(peer->http, CurrentMemoryContext, "POST",
							"_bulk_get?revs=true&attachments=false");
	call->body = body.data;
	call->bodylen = body.len;
	call->max_body = COUCH_DOCUMENT_BYTES;
	call->retries = 1;
	docrep_http_start(call);
	docrep_http_finish(call);
	if (call->failed == 0 && call->status / 100 == 2)
		take_documents(call, change, changes);
	docrep_http_drop(call);
}

void
docrep_couch_fetch_unusable(CouchPeer *peer, DocrepChanges *changes)
{
	for (int i = 0; i < changes->n; i++)
	{
		MemoryContext cxt;
		MemoryContext caller;

		if (changes->rows[i].docs == NULL || !changes->rows[i].docs[0].unreadable ||
			!peer->base.options.use_bulk_get)
			continue;
		cxt = AllocSetContextCreate(CurrentMemoryContext, "docrep unusable id",
									ALLOCSET_DEFAULT_SIZES);
		caller = MemoryContextSwitchTo(cxt);
		fetch_row(peer, &changes->rows[i], changes);
		MemoryContextSwitchTo(caller);
		MemoryContextDelete(cxt);
	}
}
