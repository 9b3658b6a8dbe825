/*-------------------------------------------------------------------------
 *
 * http_decode.c
 *		Content-Encoding undone: gzip and deflate.
 *
 * Not left to libcurl: what it has decoded while the consumer rests it keeps
 * in memory, however much that is.  Here nothing is decoded before there is
 * room for it.  Memory is zlib's and malloc's, as a transfer may end in the
 * middle of anything.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <zlib.h>

#include "peer/http_internal.h"

#define DECODED_SIZE	(64 * 1024)

struct HttpDecoder
{
	z_stream	z;
	HttpBuffer	out;
	bool		begun;			/* a gzip member or zlib stream has begun ... */
	bool		ended;			/* ... and the last one has come to its end */
	bool		is_deflate;		/* and may lack zlib's header */
};

HttpDecoder *
docrep_http_decoder_new(const char *encoding)
{
	HttpDecoder *decoder;
	bool		is_deflate = pg_strcasecmp(encoding, "deflate") == 0;

	if (!is_deflate && pg_strcasecmp(encoding, "gzip") != 0 &&
		pg_strcasecmp(encoding, "x-gzip") != 0)
		return NULL;
	decoder = calloc(1, sizeof(HttpDecoder));
	if (decoder == NULL)
		return NULL;
	decoder->is_deflate = is_deflate;
	decoder->out.data = malloc(DECODED_SIZE);
	decoder->out.size = DECODED_SIZE;
	/* 32: gzip's or zlib's header, whichever comes */
	if (decoder->out.data == NULL || inflateInit2(&decoder->z, 15 + 32) != Z_OK)
	{
		free(decoder->out.data);
		free(decoder);
		return NULL;
	}
	return decoder;
}

void
docrep_http_decoder_free(HttpDecoder *decoder)
{
	if (decoder == NULL)
		return;
	(void) inflateEnd(&decoder->z);
	free(decoder->out.data);
	free(decoder);
}

bool
docrep_http_decode(HttpDecoder *decoder, HttpBuffer *in, HttpBuffer **out)
{
	z_stream   *z = &decoder->z;
	int			result;

	*out = &decoder->out;
	if (decoder->out.start < decoder->out.end)
		return true;
	decoder->out.start = decoder->out.end = 0;
	while (decoder->out.end == 0 && (in->start < in->end || decoder->begun))
	{
		Size		had = in->end - in->start;

		if (decoder->ended)
		{
			/* members of gzip may follow each other */
			if (had == 0)
				return true;
			if (decoder->is_deflate || inflateReset(z) != Z_OK)
				return false;
			decoder->ended = false;
		}
		z->next_in = (Bytef *) in->data + in->start;
		z->avail_in = had;
		z->next_out = (Bytef *) decoder->out.data;
		z->avail_out = DECODED_SIZE;
		result = inflate(z, Z_NO_FLUSH);
		if (result == Z_DATA_ERROR && decoder->is_deflate && !decoder->begun &&
			inflateReset2(z, -15) == Z_OK)
		{
			/* what many servers call deflate; the header's two bytes come at once */
			decoder->begun = true;
			continue;
		}
		if (result != Z_OK && result != Z_STREAM_END && result != Z_BUF_ERROR)
			return false;
		decoder->begun = true;
		decoder->ended = result == Z_STREAM_END;
		in->start = in->end - z->avail_in;
		decoder->out.end = DECODED_SIZE - z->avail_out;
		if (result == Z_BUF_ERROR || (z->avail_in == had && decoder->out.end == 0 && !decoder->ended))
			break;
	}
	return true;
}

bool
docrep_http_decoder_complete(const HttpDecoder *decoder)
{
	/* no body at all (HEAD, 204) is complete as well */
	return decoder->ended || !decoder->begun;
}
