/*-------------------------------------------------------------------------
 *
 * wire_pack.c
 *		Writing the messages of wire_format.h.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "port/pg_bswap.h"
#include "store/wire_bits.h"
#include "store/wire_format.h"
#include "utils/memutils.h"

/* Begin a message of about "estimate" bytes. */
static void
begin_message(StringInfo buf, char kind, Size estimate)
{
	initStringInfo(buf);
	enlargeStringInfo(buf, (int) Min(estimate + 64, MaxAllocSize / 4));
	appendStringInfoSpaces(buf, VARHDRSZ);
	appendStringInfoChar(buf, WIRE_FORMAT);
	appendStringInfoChar(buf, kind);
}

/* The finished message as a bytea. */
static bytea *
end_message(StringInfo buf)
{
	SET_VARSIZE(buf->data, buf->len);
	return (bytea *) buf->data;
}

static void
put_varint(StringInfo buf, uint32 value)
{
	enlargeStringInfo(buf, 5);
	buf->len += docrep_varint_write((uint8 *) buf->data + buf->len, value);
}

static void
put_int64(StringInfo buf, int64 value)
{
	uint64		n = pg_hton64((uint64) value);

	appendBinaryStringInfo(buf, (const char *) &n, sizeof(n));
}

/* A text of the server's encoding, of len bytes. */
static void
put_text(StringInfo buf, const char *text, int len)
{
	if (GetDatabaseEncoding() != PG_UTF8)
	{
		text = pg_server_to_any(text, len, PG_UTF8);
		len = strlen(text);
	}
	put_varint(buf, len);
	appendBinaryStringInfo(buf, text, len);
	appendStringInfoChar(buf, '\0');
}

static void
put_rev(StringInfo buf, const Rev *rev)
{
	put_varint(buf, rev->gen << 1 | (rev->hex ? 0 : 1));
	if (!rev->hex)
		put_varint(buf, rev->len);
	appendBinaryStringInfo(buf, (const char *) rev->bytes, rev->len);
}

/* A path: the usual kind, all of 16 bytes, needs no more than these. */
static void
put_path(StringInfo buf, const RevPath *path)
{
	bool		all_hex = true;

	for (int i = 0; i < path->n && all_hex; i++)
		all_hex = path->revs[i].hex;
	put_varint(buf, path->n);
	put_varint(buf, path->revs[0].gen << 1 | (all_hex ? 0 : 1));
	for (int i = 0; i < path->n; i++)
	{
		const Rev  *rev = &path->revs[i];

		if (!all_hex)
			put_varint(buf, rev->len << 1 | (rev->hex ? 0 : 1));
		appendBinaryStringInfo(buf, (const char *) rev->bytes, rev->len);
	}
}

/* A body as JSON text. */
static void
put_body(StringInfo buf, const DocrepDoc *doc)
{
	int			at = buf->len;
	uint32		len;

	appendStringInfoSpaces(buf, sizeof(len));
	if (doc->body == NULL)
		appendBinaryStringInfo(buf, doc->json, doc->jsonlen);
	else
		(void) JsonbToCString(buf, &doc->body->root, VARSIZE(doc->body));
	if (GetDatabaseEncoding() != PG_UTF8)
	{
		int			here = at + (int) sizeof(len);
		char	   *native = pnstrdup(buf->data + here, buf->len - here);
		char	   *text = pg_server_to_any(native, buf->len - here, PG_UTF8);

		buf->len = here;
		appendStringInfoString(buf, text);
		if (text != native)
			pfree(text);
		pfree(native);
	}
	len = pg_hton32((uint32) (buf->len - at - sizeof(len)));
	memcpy(buf->data + at, &len, sizeof(len));
}

/* Bytes that are no text. */
static void
put_bytes(StringInfo buf, const char *data, Size len)
{
	put_varint(buf, (uint32) len);
	appendBinaryStringInfo(buf, data, len);
}

/* What came in place of a document, as it came, and why it is none. */
static void
put_unreadable(StringInfo buf, const DocrepDoc *doc)
{
	const char *reason = doc->reason != NULL ? doc->reason : "";

	appendStringInfoString(buf, unpack_sql_state(doc->sqlstate));
	put_text(buf, reason, strlen(reason));
	appendStringInfoChar(buf, doc->raw_id != NULL ? 1 : 0);
	if (doc->raw_id != NULL)
		put_bytes(buf, doc->raw_id, doc->raw_idlen);
	put_bytes(buf, doc->json ? doc->json : "", doc->json ? doc->jsonlen : 0);
}

/* An attachment, with its content if that is at hand. */
static void
put_att(StringInfo buf, const DocAtt *att)
{
	const char *type = att->content_type ? att->content_type : "application/octet-stream";
	int			where = att->data ? WIRE_ATT_DATA : att->file != 0 ? WIRE_ATT_FILE :
		att->stub ? WIRE_ATT_STUB : 0;

	appendStringInfoChar(buf, where | (att->digest ? WIRE_ATT_DIGEST : 0) |
						 (att->encoding ? WIRE_ATT_ENCODED : 0));
	put_text(buf, att->name, strlen(att->name));
	put_text(buf, type, strlen(type));
	put_varint(buf, Max(att->revpos, 0));
	put_int64(buf, att->length);
	if (att->encoding)
	{
		put_text(buf, att->encoding, strlen(att->encoding));
		put_int64(buf, att->encoded_length);
	}
	if (att->digest)
		put_text(buf, att->digest, strlen(att->digest));
	if (where == WIRE_ATT_DATA)
		put_bytes(buf, att->data, att->datalen);
	else if (where == WIRE_ATT_FILE)
		put_int64(buf, att->file);
}

/* A revision with ancestry, body and attachments; its id comes before it or is known. */
static void
put_doc(StringInfo buf, const DocrepDoc *doc, bool origins)
{
	bool		has_body = !doc->unreadable && (doc->body != NULL || doc->json != NULL);

	appendStringInfoChar(buf, (doc->deleted ? WIRE_DELETED : 0) |
						 (doc->modified != 0 ? WIRE_MODIFIED : 0) |
						 (has_body ? WIRE_BODY : 0) |
						 (doc->atts.n > 0 ? WIRE_ATTS : 0) |
						 (doc->unreadable ? WIRE_UNREADABLE : 0) |
						 (origins && doc->has_origin ? WIRE_ORIGIN : 0));
	put_path(buf, &doc->path);
	if (doc->modified != 0)
		put_int64(buf, doc->modified);
	if (origins && doc->has_origin)
		appendBinaryStringInfo(buf, (const char *) doc->origin.data, UUID_LEN);
	if (doc->unreadable)
		put_unreadable(buf, doc);
	if (has_body)
		put_body(buf, doc);
	if (doc->atts.n > 0)
	{
		put_varint(buf, doc->atts.n);
		for (int i = 0; i < doc->atts.n; i++)
			put_att(buf, &doc->atts.atts[i]);
	}
}

bytea *
docrep_wire_pack_changes(const DocrepChanges *changes, bool origins)
{
	StringInfoData buf;

	begin_message(&buf, WIRE_CHANGES, changes->bytes + (Size) changes->n * 100);
	put_varint(&buf, changes->n);
	for (int i = 0; i < changes->n; i++)
	{
		const DocrepChange *row = &changes->rows[i];

		appendStringInfoChar(&buf, (row->deleted ? WIRE_DELETED : 0) |
							 (row->modified != 0 ? WIRE_MODIFIED : 0) |
							 (row->docs != NULL ? WIRE_BODY : 0));
		put_text(&buf, row->seq, strlen(row->seq));
		put_text(&buf, row->id, strlen(row->id));
		if (row->modified != 0)
			put_int64(&buf, row->modified);
		put_varint(&buf, row->nrevs);
		for (int j = 0; j < row->nrevs; j++)
			put_rev(&buf, &row->revs[j]);
		for (int j = 0; row->docs != NULL && j < row->nrevs; j++)
			put_doc(&buf, &row->docs[j], origins);
	}
	put_text(&buf, changes->last_seq, strlen(changes->last_seq));
	put_int64(&buf, changes->pending);
	appendStringInfoChar(&buf, changes->at_end ? 1 : 0);
	return end_message(&buf);
}

/* How many revisions of a row are asked for. */
static int
count_missing(const DocrepChange *row, bool missing_only)
{
	int			n = 0;

	if (!missing_only || row->missing == NULL)
		return row->nrevs;
	for (int j = 0; j < row->nrevs; j++)
		n += row->missing[j] ? 1 : 0;
	return n;
}

bytea *
docrep_wire_pack_revs(const DocrepChanges *changes, bool missing_only, int *nrevs)
{
	StringInfoData buf;
	int			rows = 0;
	int			total = 0;

	for (int i = 0; i < changes->n; i++)
	{
		int			n = count_missing(&changes->rows[i], missing_only);

		rows += n > 0 ? 1 : 0;
		total += n;
	}
	begin_message(&buf, WIRE_REVISIONS, (Size) total * 60);
	put_varint(&buf, rows);
	for (int i = 0; i < changes->n; i++)
	{
		const DocrepChange *row = &changes->rows[i];
		int			n = count_missing(row, missing_only);

		if (n == 0)
			continue;
		put_text(&buf, row->id, strlen(row->id));
		put_varint(&buf, n);
		for (int j = 0; j < row->nrevs; j++)
			if (!missing_only || row->missing == NULL || row->missing[j])
				put_rev(&buf, &row->revs[j]);
	}
	if (nrevs != NULL)
		*nrevs = total;
	return end_message(&buf);
}

/* The bit of each revision, in order; the first is the lowest of the first byte. */
bytea *
docrep_wire_pack_missing(const DocrepChanges *changes)
{
	StringInfoData buf;
	int			bit = 0;
	int			total = 0;
	uint8	   *bits;

	for (int i = 0; i < changes->n; i++)
		total += changes->rows[i].nrevs;
	begin_message(&buf, WIRE_MISSING, total / 8);
	put_varint(&buf, total);
	enlargeStringInfo(&buf, total / 8 + 1);
	bits = (uint8 *) buf.data + buf.len;
	memset(bits, 0, total / 8 + 1);
	for (int i = 0; i < changes->n; i++)
		for (int j = 0; j < changes->rows[i].nrevs; j++, bit++)
			if (changes->rows[i].missing != NULL && changes->rows[i].missing[j])
				bits[bit / 8] |= 1 << (bit % 8);
	buf.len += (total + 7) / 8;
	return end_message(&buf);
}

bytea *
docrep_wire_pack_docs(const DocrepDocs *docs, bool origins)
{
	StringInfoData buf;

	begin_message(&buf, WIRE_DOCUMENTS, docs->bytes + (Size) docs->n * 100);
	put_varint(&buf, docs->n);
	for (int i = 0; i < docs->n; i++)
	{
		put_text(&buf, docs->docs[i].id, strlen(docs->docs[i].id));
		put_doc(&buf, &docs->docs[i], origins);
	}
	return end_message(&buf);
}

/* A byte a document says what became of it; reasons follow the byte. */
bytea *
docrep_wire_pack_written(const DocrepDocs *docs)
{
	StringInfoData buf;

	begin_message(&buf, WIRE_WRITTEN, docs->n);
	put_varint(&buf, docs->n);
	for (int i = 0; i < docs->n; i++)
	{
		const DocrepDoc *doc = &docs->docs[i];
		const char *reason = doc->reason != NULL ? doc->reason : "";

		if (doc->sqlstate == 0)
		{
			appendStringInfoChar(&buf, doc->known ? WIRE_KNOWN : WIRE_STORED);
			continue;
		}
		appendStringInfoChar(&buf, WIRE_REFUSED);
		appendStringInfoString(&buf, unpack_sql_state(doc->sqlstate));
		put_text(&buf, reason, strlen(reason));
	}
	return end_message(&buf);
}

bytea *
docrep_wire_pack_ids(const char *const *ids, int n)
{
	StringInfoData buf;

	begin_message(&buf, WIRE_IDS, (Size) n * 40);
	put_varint(&buf, n);
	for (int i = 0; i < n; i++)
		put_text(&buf, ids[i], strlen(ids[i]));
	return end_message(&buf);
}
