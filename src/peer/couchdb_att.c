/*-------------------------------------------------------------------------
 *
 * couchdb_att.c
 *		Reading the content of one attachment from a CouchDB, as it is stored
 *		there, piece by piece.
 *
 * When the connection breaks in the middle, another call passes over what was
 * read already.
 *
 * Some servers, and some of what stands before them, decode what is said to be
 * encoded.  What comes counts, so the document is corrected before anything is read.
 *
 * What a document has and its server does not (404) would be missing in each further
 * attempt, too.  So that document is given up, unless it is another one by now.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "peer/couchdb_source.h"
#include "peer/couchdb_target.h"
#include "store/errcodes.h"
#include "utils/memutils.h"

typedef struct CouchAttReader
{
	MemoryContext cxt;
	CouchPeer  *peer;
	DocrepHttpCall *call;
	char	   *path;
	char	   *name;
	char	   *doc_id;
	bool		encoded;
	int64		length;			/* to be read in all */
	int64		read;			/* handed out */
	int64		skip;			/* of this call's answer still to be passed over */
	int			attempts;
	char	   *buf;			/* being filled, or NULL */
	Size		size;
	Size		filled;
} CouchAttReader;

/* Take what is wanted just now. */
static Size
consume_content(DocrepHttpCall *call, const char *data, Size len)
{
	CouchAttReader *reader = call->arg;
	Size		skip = (Size) Min(reader->skip, (int64) len);
	Size		n;

	reader->skip -= skip;
	if (reader->buf == NULL)
		return skip;
	n = Min(len - skip, reader->size - reader->filled);
	memcpy(reader->buf + reader->filled, data + skip, n);
	reader->filled += n;
	return skip + n;
}

static void
raise_broken(CouchAttReader *reader, const char *detail)
{
	ereport(ERROR,
			(errcode(ERRCODE_DOCREP_UNAVAILABLE),
			 errmsg("reading an attachment failed at %s", reader->peer->base.display),
			 errdetail("Attachment \"%s\" of document \"%s\" %s.",
					   reader->name, reader->doc_id, detail)));
}

/* Ask for the content, from its beginning. */
static void
start_reading(CouchAttReader *reader)
{
	DocrepHttpCall *call = docrep_http_call(reader->peer->http, reader->cxt, "GET", reader->path);

	call->accept = "*/*";
	call->raw = true;
	call->accept_gzip_raw = reader->encoded;
	call->consume = consume_content;
	call->arg = reader;
	reader->call = call;
	reader->skip = reader->read;
	docrep_http_start(call);
}

/* Does the answer bring decoded what is said to be encoded? */
static bool
comes_decoded(const CouchAttReader *reader)
{
	const DocrepHttpCall *call = reader->call;

	return reader->encoded && call->headers_in && call->status / 100 == 2 &&
		call->encoding[0] == '\0';
}

/* ---------- contents that are missing ---------- */

/* Does an answer to open_revs have this revision? */
static bool
has_rev(const DocrepHttpCall *call, const char *rev)
{
	CouchAnswer *answer = docrep_couch_answer_new(false, COUCH_DOCUMENT_BYTES);
	const char *data = call->answer.data;
	size_t		len = call->answer.len;
	CouchEntry	entry;

	while (docrep_couch_answer_next(answer, call->type, &data, &len, &entry) == COUCHANSWER_ENTRY)
	{
		CouchJson	value;

		if (entry.kind != COUCHENTRY_DOC)
			continue;
		value = docrep_cj_get(&entry.doc, "_rev");
		if (docrep_cj_equals(&value, rev))
			return true;
	}
	return false;
}

void
docrep_couch_content_missing(CouchPeer *peer, const char *id, const Rev *rev)
{
	static const int also[] = {404, 0};
	MemoryContext cxt = AllocSetContextCreate(CurrentMemoryContext, "docrep missing content",
											  ALLOCSET_DEFAULT_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(cxt);
	char	   *text = docrep_couch_rev_text(rev);
	DocrepHttpCall *call = docrep_http_call(peer->http, cxt, "GET",
											psprintf("%s?open_revs=%%5B%%22%s%%22%%5D%s",
													 docrep_http_doc_path(id),
													 docrep_http_escape(text),
													 peer->pouchdb ? "" : "&latest=true"));

	call->max_body = COUCH_DOCUMENT_BYTES;
	docrep_http_do(call, also, "reading a document again");
	if (call->status == 404 || !has_rev(call, text))
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_UNAVAILABLE),
				 errmsg("document \"%s\" has changed at %s while its attachments were read",
						id, peer->base.display),
				 errhint("The replication goes on from its last checkpoint.")));
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(cxt);
}

void
docrep_couch_close_att(DocrepPeer *base)
{
	CouchPeer  *peer = (CouchPeer *) base;
	CouchAttReader *reader = peer->att;

	peer->att = NULL;
	if (reader != NULL)
		MemoryContextDelete(reader->cxt);
}

bool
docrep_couch_open_att(DocrepPeer *base, const DocrepDoc *doc, DocAtt *att)
{
	CouchPeer  *peer = (CouchPeer *) base;
	MemoryContext cxt;
	MemoryContext caller;
	CouchAttReader *reader;

	docrep_couch_close_att(base);
	cxt = AllocSetContextCreate(base->cxt, "docrep attachment", ALLOCSET_DEFAULT_SIZES);
	caller = MemoryContextSwitchTo(cxt);
	reader = palloc0(sizeof(CouchAttReader));
	reader->cxt = cxt;
	reader->peer = peer;
	reader->path = docrep_couch_att_path(doc, att);
	reader->name = pstrdup(att->name);
	reader->doc_id = pstrdup(doc->id);
	reader->encoded = att->encoding != NULL;
	reader->length = att->encoded_length;
	peer->att = reader;
	start_reading(reader);
	while (!reader->call->headers_in && !reader->call->done)
		(void) docrep_http_step(peer->http, 0);
	if (reader->call->headers_in && reader->call->status == 404)
	{
		MemoryContextSwitchTo(caller);
		/* its connection may be the only one that there is for this */
		docrep_couch_close_att(base);
		docrep_couch_content_missing(peer, doc->id, &doc->path.revs[0]);
		return false;
	}
	if (comes_decoded(reader))
	{
		att->encoding = NULL;
		att->digest = NULL;
		att->encoded_length = att->length;
		reader->encoded = false;
		reader->length = att->length;
	}
	MemoryContextSwitchTo(caller);
	return true;
}

/* The answer must be the content as it is stored, else its length means nothing. */
static void
check_headers(CouchAttReader *reader)
{
	DocrepHttpCall *call = reader->call;

	if (call->headers_in && call->status / 100 == 2 &&
		reader->encoded != (call->encoding[0] != '\0'))
		raise_broken(reader, "came in another encoding than its document says");
}

/* The call is over: the end of the content, or it has broken off. */
static void
end_reading(CouchAttReader *reader)
{
	DocrepHttpCall *call = reader->call;

	if (call->failed != 0 && reader->read + (int64) reader->filled > 0 &&
		reader->attempts++ < reader->peer->base.options.retries_per_request)
	{
		docrep_http_drop(call);
		reader->read += reader->filled;
		start_reading(reader);
		reader->read -= reader->filled;
		return;
	}
	if (call->failed != 0 || call->status / 100 != 2)
		docrep_http_raise(call, "reading an attachment");
}

Size
docrep_couch_read_att(DocrepPeer *base, char *buf, Size size)
{
	CouchPeer  *peer = (CouchPeer *) base;
	CouchAttReader *reader = peer->att;

	reader->buf = buf;
	reader->size = size;
	reader->filled = 0;
	while (reader->filled < size)
	{
		if (reader->call->done)
		{
			DocrepHttpCall *before = reader->call;

			end_reading(reader);
			if (reader->call == before)
				break;
		}
		check_headers(reader);
		(void) docrep_http_step(peer->http, 0);
	}
	reader->buf = NULL;
	reader->read += reader->filled;
	if (reader->read > reader->length)
		raise_broken(reader, "is longer than its document says");
	if (reader->filled == 0 && reader->read < reader->length)
		raise_broken(reader, "is shorter than its document says");
	return reader->filled;
}
