/*-------------------------------------------------------------------------
 *
 * content_get.c
 *		Contents as a user gets them: without the encoding they are stored in.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <zlib.h>

#include "miscadmin.h"
#include "store/content.h"
#include "store/errcodes.h"
#include "utils/memutils.h"

#define STEP	(64 * 1024)

#define MAX_BYTEA	(MaxAllocSize - VARHDRSZ)

/* Bytes of a content as stored. */
static Size
read_stored(DocTable *table, const DocAtt *att, int64 offset, char *buf, Size len)
{
	if (att->data == NULL)
		return docrep_content_read(table, att->file, offset, buf, len);
	if (offset >= (int64) att->datalen)
		return 0;
	len = Min(len, att->datalen - (Size) offset);
	memcpy(buf, att->data + offset, len);
	return len;
}

static void
too_large(const DocAtt *att)
{
	ereport(ERROR,
			(errcode(ERRCODE_DOCREP_TOO_LARGE),
			 errmsg("attachment \"%s\" is too large to be returned as a whole", att->name),
			 errhint("Read it with docrep.get_attachment_part().")));
}

/* A content that is stored as it is. */
static bytea *
get_plain(DocTable *table, const DocAtt *att, int64 offset, Size max)
{
	int64		length = att->data ? (int64) att->datalen : att->encoded_length;
	Size		len = offset < length ? Min((uint64) (length - offset), max) : 0;
	bytea	   *result = palloc(VARHDRSZ + len);
	Size		done = 0;

	/* even of nothing: that the content is missing should be said */
	do
	{
		Size		n = read_stored(table, att, offset + done, VARDATA(result) + done, len - done);

		CHECK_FOR_INTERRUPTS();
		if (n == 0)
			break;
		done += n;
	} while (done < len);
	SET_VARSIZE(result, VARHDRSZ + done);
	return result;
}

/* What decoding has come to. */
typedef struct Decoder
{
	z_stream	z;
	int64		stored;			/* read so far */
	int64		position;		/* decoded so far */
	char	   *in;
	char	   *out;
	bytea	   *result;
	Size		cap;
	Size		len;
} Decoder;

/* Take what of the decoded bytes is asked for; returns whether there is room for more. */
static bool
take(Decoder *d, Size n, int64 offset, Size max)
{
	Size		skip = d->position < offset ? Min((uint64) (offset - d->position), n) : 0;
	Size		wanted = Min(n - skip, max - d->len);

	d->position += n;
	if (d->len + wanted > d->cap)
	{
		d->cap = Min(Max(d->cap * 2, d->len + wanted), max);
		d->result = repalloc(d->result, VARHDRSZ + d->cap);
	}
	memcpy(VARDATA(d->result) + d->len, d->out + skip, wanted);
	d->len += wanted;
	return d->len < max;
}

static void
bad_encoding(const DocAtt *att)
{
	ereport(ERROR,
			(errcode(ERRCODE_DATA_CORRUPTED),
			 errmsg("attachment \"%s\" is not valid gzip, as its encoding says", att->name)));
}

/* Decode from the beginning until max bytes from offset on are there, or the end. */
static void
decode(DocTable *table, const DocAtt *att, int64 offset, Size max, Decoder *d)
{
	bool		at_end = false;

	for (;;)
	{
		int			rc;

		CHECK_FOR_INTERRUPTS();
		if (d->z.avail_in == 0)
		{
			d->z.next_in = (Bytef *) d->in;
			d->z.avail_in = read_stored(table, att, d->stored, d->in, STEP);
			d->stored += d->z.avail_in;
			if (d->z.avail_in == 0)
			{
				if (!at_end)
					bad_encoding(att);
				return;
			}
		}
		if (at_end && inflateReset(&d->z) != Z_OK)	/* another member of the file follows */
			bad_encoding(att);
		d->z.next_out = (Bytef *) d->out;
		d->z.avail_out = STEP;
		rc = inflate(&d->z, Z_NO_FLUSH);
		if (rc != Z_OK && rc != Z_STREAM_END && rc != Z_BUF_ERROR)
			bad_encoding(att);
		at_end = rc == Z_STREAM_END;
		if (!take(d, STEP - d->z.avail_out, offset, max))
			return;
	}
}

static bytea *
get_gzip(DocTable *table, const DocAtt *att, int64 offset, Size max)
{
	Decoder    *d = palloc0(sizeof(Decoder));

	d->in = palloc(STEP);
	d->out = palloc(STEP);
	d->cap = Min(max, STEP);
	d->result = palloc(VARHDRSZ + d->cap);
	if (max == 0)
	{
		SET_VARSIZE(d->result, VARHDRSZ);
		return d->result;
	}
	if (inflateInit2(&d->z, 15 + 16) != Z_OK)
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("could not start decoding an attachment")));
	PG_TRY();
	{
		decode(table, att, offset, max, d);
	}
	PG_FINALLY();
	{
		inflateEnd(&d->z);		/* its memory is none of ours */
	}
	PG_END_TRY();
	SET_VARSIZE(d->result, VARHDRSZ + d->len);
	return d->result;
}

bytea *
docrep_content_get_part(DocTable *table, const DocAtt *att, int64 offset, Size len)
{
	len = Min(len, MAX_BYTEA);
	if (att->encoding == NULL || strcmp(att->encoding, "identity") == 0)
		return get_plain(table, att, offset, len);
	if (strcmp(att->encoding, "gzip") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("attachment \"%s\" has the unknown encoding \"%s\"",
						att->name, att->encoding)));
	return get_gzip(table, att, offset, len);
}

bytea *
docrep_content_get(DocTable *table, const DocAtt *att)
{
	bytea	   *result;

	if (att->encoding == NULL && att->length > (int64) MAX_BYTEA)
		too_large(att);
	result = docrep_content_get_part(table, att, 0, MAX_BYTEA);
	if (att->encoding && VARSIZE(result) - VARHDRSZ == MAX_BYTEA)
		too_large(att);
	return result;
}
