/*-------------------------------------------------------------------------
 *
 * couchdb_stream.c
 *		Documents whose contents pass through, from the source to the target.
 *
 * A buffer at a time is read and sent, so that the size of an attachment does not matter.
 * A content that an earlier revision brought is first said to be there ("stub"),
 * and sent if the target misses it (412).  The client does not repeat what it did
 * not keep: here it is read from the source again.
 *
 * The length of all is known in advance, unless a source gave a content in another
 * encoding than it says: then there is only its document's word for it, and the body
 * is chunked.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "peer/couchdb_target.h"
#include "store/errcodes.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

/* Contents pass through a buffer of this size. */
#define STREAM_BYTES		(128 * 1024)
/* What a target may need, in ms a MB, to put a content away before it answers. */
#define SILENCE_PER_MB		500
/* The first pause before a stream is repeated, in ms; it doubles. */
#define FIRST_PAUSE			250
#define LONGEST_PAUSE		(60 * 1000)

static const char doing[] = "writing a document with attachments";

/* ---------- sending once ---------- */

/* A body on its way. */
typedef struct Stream
{
	CouchPeer  *peer;
	DocrepDocs *docs;
	DocrepDoc  *doc;
	DocrepPeer *source;
	CouchAttForm *forms;
	int			nfollow;		/* contents that are sent */
	char		boundary[COUCH_BOUNDARY_SIZE];
	StringInfoData json;		/* the document: all of the body if nothing follows */
	DocrepHttpCall *call;
	bool		corrected;		/* a content is not encoded as the JSON says */
} Stream;

/* The text between the JSON, or the content before, and the i-th content. */
static void
part_head(const Stream *stream, int i, StringInfo out)
{
	resetStringInfo(out);
	docrep_couch_put_part_head(out, stream->boundary, &stream->doc->atts.atts[i],
							   stream->peer->pouchdb, stream->peer->pouchdb);
}

/* The length of everything; contents: of these alone. */
static int64
stream_length(const Stream *stream, int64 *contents)
{
	int64		length = stream->json.len + strlen("\r\n----") + strlen(stream->boundary);
	StringInfoData head;

	*contents = 0;
	initStringInfo(&head);
	for (int i = 0; i < stream->doc->atts.n; i++)
	{
		if (stream->forms[i] != COUCHATT_FOLLOWS)
			continue;
		part_head(stream, i, &head);
		length += head.len;
		*contents += docrep_couch_content_length(&stream->doc->atts.atts[i],
												 stream->peer->pouchdb);
	}
	pfree(head.data);
	return length + *contents;
}

/*
 * Did a content that was opened turn out not to be encoded?  Its document says so now, but
 * what has been sent of it said something else.
 */
static bool
is_corrected(const Stream *stream, bool encoded, const DocAtt *att)
{
	return encoded && att->encoding == NULL && !stream->peer->pouchdb;
}

/* Send one content; false: it is not what its document says, which has failed or is corrected. */
static bool
send_content(Stream *stream, DocAtt *att, char *buf)
{
	bool		encoded = att->encoding != NULL;
	CouchContent *content = docrep_couch_content_open(stream->source, stream->doc, att,
													  stream->peer->pouchdb);
	const char *problem;
	Size		n;

	if (is_corrected(stream, encoded, att))
	{
		stream->corrected = true;
		docrep_couch_content_close(content);
		return false;
	}
	while (!stream->call->done &&
		   (n = docrep_couch_content_read(content, buf, STREAM_BYTES)) > 0)
	{
		docrep_http_send(stream->call, buf, n);
		docrep_couch_advance(stream->peer);
	}
	problem = docrep_couch_content_problem(content);
	docrep_couch_content_close(content);
	if (problem != NULL)
		docrep_couch_doc_failed(stream->docs, stream->doc, ERRCODE_DOCREP_BAD_REQUEST,
								docrep_couch_att_reason(att, problem));
	return problem == NULL;
}

/* Send the parts, until the end or an early answer; false as send_content. */
static bool
send_parts(Stream *stream)
{
	char	   *buf = palloc(STREAM_BYTES);
	StringInfoData text;
	bool		ok = true;

	initStringInfo(&text);
	docrep_http_send(stream->call, stream->json.data, stream->json.len);
	for (int i = 0; i < stream->doc->atts.n && ok && !stream->call->done; i++)
	{
		if (stream->forms[i] != COUCHATT_FOLLOWS)
			continue;
		part_head(stream, i, &text);
		docrep_http_send(stream->call, text.data, text.len);
		ok = send_content(stream, &stream->doc->atts.atts[i], buf);
	}
	if (ok && !stream->call->done)
	{
		resetStringInfo(&text);
		appendStringInfo(&text, "\r\n--%s--", stream->boundary);
		docrep_http_send(stream->call, text.data, text.len);
		docrep_http_send_end(stream->call);
	}
	pfree(buf);
	pfree(text.data);
	return ok;
}

/* Where one content was not encoded as its document says others may be so: have them looked at. */
static void
correct_all(Stream *stream)
{
	for (int i = 0; i < stream->doc->atts.n; i++)
	{
		DocAtt	   *att = &stream->doc->atts.atts[i];

		if (stream->forms[i] == COUCHATT_FOLLOWS && att->data == NULL && att->encoding != NULL)
			docrep_couch_content_close(docrep_couch_content_open(stream->source, stream->doc, att,
																 stream->peer->pouchdb));
	}
}

/* Does anybody vouch for the length of all contents that follow? */
static bool
is_length_known(const Stream *stream)
{
	for (int i = 0; i < stream->doc->atts.n; i++)
	{
		const DocAtt *att = &stream->doc->atts.atts[i];

		if (stream->forms[i] == COUCHATT_FOLLOWS && att->data == NULL && att->digest == NULL)
			return false;
	}
	return true;
}

/*
 * Go on with all calls of the peer until this one is done: those of
 * _bulk_docs that are answered meanwhile make room for others.
 */
static void
await_answer(Stream *stream)
{
	while (!stream->call->done)
	{
		(void) docrep_http_step(stream->peer->http, 0);
		docrep_couch_advance(stream->peer);
	}
}

/* Make the stream's call and start it. */
static void
begin_call(Stream *stream)
{
	CouchPeer  *peer = stream->peer;
	DocrepHttpCall *call = docrep_http_call(peer->http, CurrentMemoryContext, "PUT",
											docrep_couch_put_path(stream->doc));
	int64		contents;
	int64		length = stream_length(stream, &contents);

	stream->call = call;
	if (stream->nfollow == 0)
	{
		call->body = stream->json.data;
		call->bodylen = stream->json.len;
	}
	else
	{
		call->content_type = docrep_couch_related_type(stream->boundary);
		call->stream = true;
		call->stream_length = is_length_known(stream) ? length : -1;
		call->silence = (int) Min(peer->base.options.connection_timeout +
								  contents / (1024 * 1024) * SILENCE_PER_MB, INT_MAX);
	}
	docrep_http_start(call);
}

/*
 * Send the document once.  Returns the call, done; or NULL if the document has
 * failed before, or (corrected) must be sent again.
 */
static DocrepHttpCall *
stream_once(Stream *stream, bool stubs)
{
	int			sqlstate = ERRCODE_DOCREP_BAD_REQUEST;
	const char *problem;

	stream->corrected = false;
	stream->forms = palloc(sizeof(CouchAttForm) * stream->doc->atts.n);
	stream->nfollow = docrep_couch_choose_forms(stream->peer, stream->doc, stubs, stream->forms);
	docrep_couch_make_boundary(stream->boundary);
	initStringInfo(&stream->json);
	if (stream->nfollow > 0)
		problem = docrep_couch_put_json_part(&stream->json, stream->peer, stream->doc, stream->forms,
								stream->boundary, &sqlstate);
	else
		problem = docrep_couch_put_doc(&stream->json, stream->doc, stream->forms,
									   stream->peer->pouchdb, &sqlstate);
	if (problem != NULL)
	{
		docrep_couch_doc_failed(stream->docs, stream->doc, sqlstate, problem);
		return NULL;
	}
	begin_call(stream);
	if (stream->nfollow > 0 && !send_parts(stream))
	{
		docrep_http_drop(stream->call);
		if (stream->corrected)
			correct_all(stream);
		return NULL;
	}
	await_answer(stream);
	return stream->call;
}

/* ---------- what became of it ---------- */

/* Is it worth another try? */
static bool
is_transient(const DocrepHttpCall *call)
{
	switch (call->failed != 0 ? 0 : call->status)
	{
		case 0:
		case 408:
		case 429:
		case 500:
		case 502:
		case 503:
		case 504:
			return true;
		default:
			return false;
	}
}

/* Wait before the next try, while everything else goes on. */
static void
pause_before(CouchPeer *peer, int try)
{
	int64		pause = Min((int64) FIRST_PAUSE << Min(try, 20), LONGEST_PAUSE);
	TimestampTz end;

	pause = Max(pause, docrep_http_pace(peer->http));
	end = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), pause);
	while (GetCurrentTimestamp() < end)
	{
		(void) docrep_http_step(peer->http, end);
		docrep_couch_advance(peer);
	}
}

/* Note what a final answer says. */
static void
note_outcome(Stream *stream, const DocrepHttpCall *call)
{
	int			number = (int) (stream->doc - stream->docs->docs);

	if (call->status / 100 == 2)
		(void) docrep_couch_read_written(stream->peer, stream->docs, &number, 1, call);
	else
		docrep_couch_doc_refused(stream->peer, stream->docs, stream->doc, call);
}

/*
 * Send until there is a final answer.  A login that had expired is renewed by
 * the client, but it cannot repeat what it did not keep.
 */
static void
stream_until_done(Stream *stream)
{
	int			retries = stream->peer->base.options.retries_per_request;
	bool		stubs = true;
	bool		refused = false;

	for (int tries = 0;;)
	{
		DocrepHttpCall *call = stream_once(stream, stubs);

		if (call == NULL && stream->corrected)
			continue;
		if (call == NULL)
			return;
		if (call->failed == 0 && call->status == 412 && stubs)
			stubs = false;
		else if (call->failed == 0 && call->status == 401 && !refused)
			refused = true;
		else if (is_transient(call) && tries < retries)
			pause_before(stream->peer, tries++);
		else if (call->failed == 0 &&
				 (call->status / 100 == 2 || docrep_couch_refuses_doc(call->status)))
		{
			note_outcome(stream, call);
			docrep_http_drop(call);
			return;
		}
		else
			docrep_http_raise(call, doing);
		docrep_http_drop(call);
	}
}

void
docrep_couch_stream(CouchPeer *peer, DocrepDocs *docs, DocrepDoc *doc, DocrepPeer *source)
{
	MemoryContext cxt = AllocSetContextCreate(CurrentMemoryContext, "docrep stream",
											  ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(cxt);
	Stream	   *stream = palloc0(sizeof(Stream));

	stream->peer = peer;
	stream->docs = docs;
	stream->doc = doc;
	stream->source = source;
	stream_until_done(stream);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(cxt);
}
