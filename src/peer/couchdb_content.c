/*-------------------------------------------------------------------------
 *
 * couchdb_content.c
 *		Contents of attachments on their way to a CouchDB peer.
 *
 * A content is stored, and by most servers taken, encoded.  PouchDB's servers
 * know no encodings and would hand the encoded bytes to their users: for them
 * it is decoded while it passes through.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <zlib.h>

#include "peer/couchdb_source.h"
#include "peer/couchdb_target.h"
#include "utils/memutils.h"

/* Read from the source, and handed to zlib, at a time. */
#define ENCODED_BYTES	(32 * 1024)

struct CouchContent
{
	DocrepPeer *source;			/* NULL: the content is at hand */
	const char *data;			/* at hand: what is left of it */
	Size		datalen;
	int64		left;			/* bytes that may still be handed out */
	const char *problem;

	bool		decode;
	bool		inflating;		/* "zlib" is initialised */
	bool		ended;			/* the encoded content is complete */
	z_stream	zlib;
	char	   *encoded;		/* ENCODED_BYTES, input of zlib */
	MemoryContextCallback callback;
};

/* Runs when the content's context goes: zlib's memory is not ours. */
static void
end_zlib(void *arg)
{
	CouchContent *content = arg;

	if (content->inflating)
		(void) inflateEnd(&content->zlib);
	content->inflating = false;
}

int64
docrep_couch_content_length(const DocAtt *att, bool decode)
{
	return decode || att->encoding == NULL ? att->length : att->encoded_length;
}

/* Make ready for decoding. */
static void
begin_decoding(CouchContent *content, const DocAtt *att)
{
	if (strcmp(att->encoding, "gzip") != 0)
	{
		content->problem = "its encoding is not known";
		return;
	}
	content->decode = true;
	content->encoded = palloc(ENCODED_BYTES);
	/* 16: a gzip header, not zlib's own */
	if (inflateInit2(&content->zlib, 15 + 16) != Z_OK)
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("out of memory"),
				 errdetail("zlib could not be initialised.")));
	content->inflating = true;
}

CouchContent *
docrep_couch_content_open(DocrepPeer *source, const DocrepDoc *doc, DocAtt *att, bool decode)
{
	CouchContent *content = palloc0(sizeof(CouchContent));

	content->callback.func = end_zlib;
	content->callback.arg = content;
	MemoryContextRegisterResetCallback(CurrentMemoryContext, &content->callback);
	if (att->data != NULL)
	{
		content->data = att->data;
		content->datalen = att->datalen;
	}
	else
	{
		content->source = source;
		if (!source->ops->open_att(source, doc, att))
			content->problem = COUCH_CONTENT_MISSING;
	}
	/* only now it is certain whether it is encoded */
	content->left = docrep_couch_content_length(att, decode);
	if (decode && att->encoding != NULL && content->problem == NULL)
		begin_decoding(content, att);
	return content;
}

/* Up to size bytes as stored; 0: the end. */
static Size
read_stored(CouchContent *content, char *buf, Size size)
{
	Size		n;

	if (content->source != NULL)
		return content->source->ops->read_att(content->source, buf, size);
	n = Min(size, content->datalen);
	memcpy(buf, content->data, n);
	content->data += n;
	content->datalen -= n;
	return n;
}

/* Up to size bytes, decoded; 0: the end, or a problem. */
static Size
read_decoded(CouchContent *content, char *buf, Size size)
{
	z_stream   *zlib = &content->zlib;

	zlib->next_out = (Bytef *) buf;
	zlib->avail_out = (uInt) size;
	while (zlib->avail_out == size && !content->ended)
	{
		int			result;

		if (zlib->avail_in == 0)
		{
			zlib->next_in = (Bytef *) content->encoded;
			zlib->avail_in = (uInt) read_stored(content, content->encoded, ENCODED_BYTES);
			if (zlib->avail_in == 0)
			{
				content->problem = "its gzip data is not complete";
				return 0;
			}
		}
		result = inflate(zlib, Z_NO_FLUSH);
		if (result == Z_STREAM_END)
			content->ended = true;
		else if (result != Z_OK && result != Z_BUF_ERROR)
		{
			content->problem = "it is not the gzip data that it should be";
			return 0;
		}
	}
	return size - zlib->avail_out;
}

Size
docrep_couch_content_read(CouchContent *content, char *buf, Size size)
{
	Size		n;

	if (content->problem != NULL)
		return 0;
	n = content->decode ? read_decoded(content, buf, size) : read_stored(content, buf, size);
	if (content->problem == NULL && (int64) n > content->left)
		content->problem = "it is longer than its document says";
	else if (content->problem == NULL && n == 0 && content->left > 0)
		content->problem = "it is shorter than its document says";
	if (content->problem != NULL)
		return 0;
	content->left -= n;
	return n;
}

const char *
docrep_couch_content_problem(const CouchContent *content)
{
	return content->problem;
}

void
docrep_couch_content_close(CouchContent *content)
{
	end_zlib(content);
	if (content->source != NULL)
		content->source->ops->close_att(content->source);
	content->source = NULL;
	if (content->encoded != NULL)
		pfree(content->encoded);
	content->encoded = NULL;
}
