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
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "peer/couchdb_source.h"
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

/* Wait for the answer to begin: does it bring decoded what is said to be encoded? */
static bool
comes_decoded(CouchAttReader *reader)
{
	DocrepHttpCall *call = reader->call;

	while (!call->headers_in && !call->done)
		(void) docrep_http_step(reader->peer->http, 0);
	return call->headers_in && call->status / 100 == 2 && call->encoding[0] == '\0';
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

void
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
	if (reader->encoded && comes_decoded(reader))
	{
		att->encoding = NULL;
		att->digest = NULL;
		att->encoded_length = att->length;
		reader->encoded = false;
		reader->length = att->length;
	}
	MemoryContextSwitchTo(caller);
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
