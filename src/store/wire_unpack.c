/*-------------------------------------------------------------------------
 *
 * wire_unpack.c
 *		Reading the messages of wire_format.h, trusting nothing.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "port/pg_bswap.h"
#include "store/errcodes.h"
#include "store/wire_bits.h"
#include "store/wire_format.h"
#include "utils/memutils.h"

/* What is left of a message. */
typedef struct Reader
{
	const uint8 *p;
	const uint8 *end;
} Reader;

/* Complain.  "what" is a static text. */
static void
malformed(const char *what)
{
	ereport(ERROR,
			(errcode(ERRCODE_DOCREP_BAD_REQUEST),
			 errmsg("malformed message of a peer"),
			 errdetail_internal("%s", what)));
}

/* Make sure that n more bytes are there and pass over them. */
static const uint8 *
take(Reader *in, Size n)
{
	const uint8 *p = in->p;

	if (n > (Size) (in->end - in->p))
		malformed("It ends too soon.");
	in->p += n;
	return p;
}

static Reader
begin_message(const char *data, Size len, char kind)
{
	Reader		in;

	in.p = (const uint8 *) data;
	in.end = in.p + len;
	if (*take(&in, 1) != WIRE_FORMAT)
		malformed("Its format is of another version.");
	if (*take(&in, 1) != (uint8) kind)
		malformed("It is of another kind.");
	return in;
}

static void
end_message(const Reader *in)
{
	if (in->p != in->end)
		malformed("Something follows its end.");
}

static uint32
get_varint(Reader *in)
{
	uint32		value;
	size_t		n = docrep_varint_read(in->p, in->end, &value);

	if (n == 0)
		malformed("A number is cut off or too large.");
	in->p += n;
	return value;
}

/* A number of things that take at least "each" bytes, so that it can be believed. */
static int
get_count(Reader *in, Size each)
{
	uint32		n = get_varint(in);

	if (n > (Size) (in->end - in->p) / each)
		malformed("It counts more than it holds.");
	return (int) n;
}

static int64
get_int64(Reader *in)
{
	uint64		n;

	memcpy(&n, take(in, sizeof(n)), sizeof(n));
	return (int64) pg_ntoh64(n);
}

/* When a document was changed; what no timestamptz can show is malformed. */
static TimestampTz
get_modified(Reader *in)
{
	TimestampTz time = get_int64(in);

	if (!IS_VALID_TIMESTAMP(time))
		malformed("A time is out of range.");
	return time;
}

/*
 * len bytes as text of the server's encoding; *native_len gets its length.
 * Zero bytes inside are malformed.  A converted text is allocated in cxt.
 */
static char *
get_native(Reader *in, Size len, MemoryContext cxt, int *native_len)
{
	const char *text = (const char *) take(in, len);

	if (!pg_verify_mbstr(PG_UTF8, text, (int) len, true))
		malformed("A text is not UTF8.");
	*native_len = (int) len;
	if (GetDatabaseEncoding() != PG_UTF8)
	{
		MemoryContext old = MemoryContextSwitchTo(cxt);

		text = pg_any_to_server(text, (int) len, PG_UTF8);
		MemoryContextSwitchTo(old);
		*native_len = strlen(text);
	}
	return (char *) text;
}

static char *
get_text(Reader *in, MemoryContext cxt)
{
	uint32		len = get_varint(in);
	char	   *text;
	int			native_len;

	text = get_native(in, len, cxt, &native_len);
	if (*take(in, 1) != '\0')
		malformed("A text does not end where it says.");
	return text;
}

/* An identifier of a revision whose generation is known. */
static void
get_rev_id(Reader *in, uint32 gen, bool hex, Size len, Rev *rev)
{
	if (gen < 1 || gen > REV_MAX_GENERATION)
		malformed("A revision has no proper generation.");
	if (hex ? len != REV_HASH_LEN : len < 1 || len > REV_MAX_LEN)
		malformed("A revision's identifier has no proper length.");
	rev->gen = gen;
	rev->hex = hex;
	rev->len = (uint16) len;
	rev->bytes = take(in, len);
	if (!hex)
	{
		uint8		buf[REV_MAX_LEN];
		Rev			read;

		/* what would be read as 16 bytes must have come as these */
		if (!pg_verify_mbstr(PG_UTF8, (const char *) rev->bytes, (int) len, true) ||
			docrep_rev_parse_id(gen, (const char *) rev->bytes, len, buf, &read) != NULL ||
			read.hex)
			malformed("A revision's identifier is malformed.");
	}
}

static void
get_rev(Reader *in, Rev *rev)
{
	uint32		head = get_varint(in);
	bool		hex = (head & 1) == 0;

	get_rev_id(in, head >> 1, hex, hex ? REV_HASH_LEN : get_varint(in), rev);
}

static void
get_path(Reader *in, MemoryContext cxt, RevPath *path)
{
	int			n = get_count(in, 2);
	uint32		head = get_varint(in);
	uint32		gen = head >> 1;
	bool		all_hex = (head & 1) == 0;

	if (n < 1 || gen < (uint32) n)
		malformed("An ancestry has no proper length.");
	path->n = n;
	path->revs = MemoryContextAlloc(cxt, sizeof(Rev) * n);
	for (int i = 0; i < n; i++)
	{
		uint32		one = all_hex ? REV_HASH_LEN << 1 : get_varint(in);

		get_rev_id(in, gen - i, (one & 1) == 0, one >> 1, &path->revs[i]);
	}
}

/* Bytes that are no text; *len gets their number. */
static const char *
get_bytes(Reader *in, uint32 *len)
{
	*len = get_varint(in);
	return (const char *) take(in, *len);
}

/* Five letters and digits. */
static int
get_sqlstate(Reader *in)
{
	const uint8 *state = take(in, 5);
	int			sqlstate;

	for (int j = 0; j < 5; j++)
		if (!((state[j] >= '0' && state[j] <= '9') || (state[j] >= 'A' && state[j] <= 'Z')))
			malformed("A document has no proper SQLSTATE.");
	sqlstate = MAKE_SQLSTATE(state[0], state[1], state[2], state[3], state[4]);
	if (sqlstate == 0)
		malformed("A document has no proper SQLSTATE.");
	return sqlstate;
}

/* What came in place of a document. */
static void
get_unreadable(Reader *in, MemoryContext cxt, DocrepDoc *doc)
{
	uint32		len;

	doc->unreadable = true;
	doc->sqlstate = get_sqlstate(in);
	doc->reason = get_text(in, cxt);
	if (*take(in, 1) != 0)
	{
		doc->raw_id = get_bytes(in, &len);
		doc->raw_idlen = (int) len;
	}
	doc->json = unconstify(char *, get_bytes(in, &len));
	doc->jsonlen = (int) len;
}

/* One attachment; its content, if it comes along, is not copied. */
static void
get_att(Reader *in, MemoryContext cxt, DocAtt *att)
{
	uint8		flags = *take(in, 1);
	uint8		where = flags & (WIRE_ATT_DATA | WIRE_ATT_FILE | WIRE_ATT_STUB);
	uint32		n;

	if ((flags & ~(WIRE_ATT_DIGEST | WIRE_ATT_ENCODED) & ~where) != 0 ||
		(where & (where - 1)) != 0)
		malformed("An attachment has unknown flags.");
	memset(att, 0, sizeof(*att));
	att->name = get_text(in, cxt);
	att->content_type = get_text(in, cxt);
	n = get_varint(in);
	if (n > PG_INT32_MAX)
		malformed("An attachment has no proper revpos.");
	att->revpos = (int32) n;
	att->length = att->encoded_length = get_int64(in);
	if (flags & WIRE_ATT_ENCODED)
	{
		att->encoding = get_text(in, cxt);
		att->encoded_length = get_int64(in);
	}
	if (att->length < 0 || att->encoded_length < 0)
		malformed("An attachment has no proper length.");
	if (flags & WIRE_ATT_DIGEST)
		att->digest = get_text(in, cxt);
	if (where == WIRE_ATT_DATA)
	{
		att->data = get_bytes(in, &n);
		att->datalen = n;
	}
	else if (where == WIRE_ATT_FILE && (att->file = get_int64(in)) <= 0)
		malformed("An attachment has no proper file.");
	att->stub = where == WIRE_ATT_STUB;
}

static int
compare_atts(const void *a, const void *b)
{
	return strcmp(((const DocAtt *) a)->name, ((const DocAtt *) b)->name);
}

/* The attachments of a document, each name once. */
static void
get_atts(Reader *in, MemoryContext cxt, DocAtts *atts)
{
	int			n = get_count(in, 14);

	if (n < 1)
		malformed("A document has no attachments where it says so.");
	atts->n = n;
	atts->atts = MemoryContextAllocHuge(cxt, sizeof(DocAtt) * n);
	for (int i = 0; i < n; i++)
		get_att(in, cxt, &atts->atts[i]);

	/* another encoding may sort them otherwise */
	if (GetDatabaseEncoding() != PG_UTF8)
		qsort(atts->atts, n, sizeof(DocAtt), compare_atts);
	for (int i = 1; i < n; i++)
		if (strcmp(atts->atts[i - 1].name, atts->atts[i].name) >= 0)
			malformed("Attachments are not in the order of their names.");
}

/* Everything of a document but its id. */
static void
get_doc(Reader *in, MemoryContext cxt, DocrepDoc *doc)
{
	uint8		flags = *take(in, 1);

	if ((flags & ~(WIRE_DELETED | WIRE_MODIFIED | WIRE_BODY | WIRE_ATTS | WIRE_UNREADABLE |
				   WIRE_ORIGIN)) != 0 ||
		((flags & WIRE_BODY) && (flags & WIRE_UNREADABLE)))
		malformed("A document has unknown flags.");
	doc->deleted = (flags & WIRE_DELETED) != 0;
	get_path(in, cxt, &doc->path);
	if (flags & WIRE_MODIFIED)
		doc->modified = get_modified(in);
	if (flags & WIRE_ORIGIN)
	{
		memcpy(doc->origin.data, take(in, UUID_LEN), UUID_LEN);
		doc->has_origin = true;
	}
	if (flags & WIRE_UNREADABLE)
		get_unreadable(in, cxt, doc);
	if (flags & WIRE_BODY)
	{
		uint32		len;

		memcpy(&len, take(in, sizeof(len)), sizeof(len));
		doc->json = get_native(in, pg_ntoh32(len), cxt, &doc->jsonlen);
	}
	if (flags & WIRE_ATTS)
		get_atts(in, cxt, &doc->atts);
}

/* What a document's body and the contents of its attachments hold. */
static Size
doc_bytes(const DocrepDoc *doc)
{
	Size		bytes = doc->jsonlen;

	for (int i = 0; i < doc->atts.n; i++)
		bytes += doc->atts.atts[i].datalen;
	return bytes;
}

/* Count and revisions of a row. */
static void
get_revs(Reader *in, MemoryContext cxt, DocrepChange *row)
{
	row->nrevs = get_count(in, 3);
	if (row->nrevs < 1)
		malformed("A row has no revisions.");
	row->revs = MemoryContextAlloc(cxt, sizeof(Rev) * row->nrevs);
	for (int i = 0; i < row->nrevs; i++)
		get_rev(in, &row->revs[i]);
}

static void
get_change(Reader *in, DocrepChanges *out)
{
	DocrepChange *row = docrep_changes_add(out);
	uint8		flags = *take(in, 1);

	if ((flags & ~(WIRE_DELETED | WIRE_MODIFIED | WIRE_BODY)) != 0)
		malformed("A change has unknown flags.");
	row->deleted = (flags & WIRE_DELETED) != 0;
	row->seq = get_text(in, out->cxt);
	row->id = get_text(in, out->cxt);
	if (flags & WIRE_MODIFIED)
		row->modified = get_modified(in);
	get_revs(in, out->cxt, row);
	if (flags & WIRE_BODY)
	{
		Size		size = sizeof(DocrepDoc) * row->nrevs;

		/* a document takes 4 bytes and more: believe the count no further */
		if ((Size) row->nrevs > (Size) (in->end - in->p) / 4)
			malformed("It ends too soon.");
		row->docs = MemoryContextAlloc(out->cxt, size);
		memset(row->docs, 0, size);
		for (int i = 0; i < row->nrevs; i++)
		{
			row->docs[i].id = row->id;
			get_doc(in, out->cxt, &row->docs[i]);
			out->bytes += doc_bytes(&row->docs[i]);
		}
	}
}

void
docrep_wire_unpack_changes(const char *data, Size len, DocrepChanges *out)
{
	Reader		in = begin_message(data, len, WIRE_CHANGES);
	int			n = get_count(&in, 9);

	for (int i = 0; i < n; i++)
		get_change(&in, out);
	out->last_seq = get_text(&in, out->cxt);
	out->pending = get_int64(&in);
	out->at_end = *take(&in, 1) != 0;
	end_message(&in);
}

void
docrep_wire_unpack_revs(const char *data, Size len, DocrepChanges *out)
{
	Reader		in = begin_message(data, len, WIRE_REVISIONS);
	int			n = get_count(&in, 6);

	for (int i = 0; i < n; i++)
	{
		DocrepChange *row = docrep_changes_add(out);

		row->id = get_text(&in, out->cxt);
		get_revs(&in, out->cxt, row);
	}
	end_message(&in);
}

void
docrep_wire_unpack_docs(const char *data, Size len, DocrepDocs *out)
{
	Reader		in = begin_message(data, len, WIRE_DOCUMENTS);
	int			n = get_count(&in, 6);

	for (int i = 0; i < n; i++)
	{
		DocrepDoc  *doc = docrep_docs_add(out);

		doc->id = get_text(&in, out->cxt);
		get_doc(&in, out->cxt, doc);
		out->bytes += doc_bytes(doc);
	}
	end_message(&in);
}

void
docrep_wire_unpack_missing(const char *data, Size len, DocrepChanges *changes)
{
	Reader		in = begin_message(data, len, WIRE_MISSING);
	uint32		n = get_varint(&in);
	const uint8 *bits = take(&in, ((Size) n + 7) / 8);
	uint32		bit = 0;

	end_message(&in);
	for (int i = 0; i < changes->n; i++)
	{
		DocrepChange *row = &changes->rows[i];

		if ((uint32) row->nrevs > n - bit)
			malformed("It answers another question.");
		if (row->missing == NULL)
			row->missing = MemoryContextAlloc(changes->cxt, sizeof(bool) * row->nrevs);
		for (int j = 0; j < row->nrevs; j++, bit++)
			row->missing[j] = (bits[bit / 8] >> (bit % 8) & 1) != 0;
	}
	if (bit != n)
		malformed("It answers another question.");
}

void
docrep_wire_unpack_written(const char *data, Size len, DocrepDocs *docs)
{
	Reader		in = begin_message(data, len, WIRE_WRITTEN);

	if (get_varint(&in) != (uint32) docs->n)
		malformed("It answers another question.");
	for (int i = 0; i < docs->n; i++)
	{
		DocrepDoc  *doc = &docs->docs[i];
		uint8		what = *take(&in, 1);

		doc->known = what == WIRE_KNOWN;
		doc->sqlstate = 0;
		doc->reason = NULL;
		if (what == WIRE_REFUSED)
		{
			doc->sqlstate = get_sqlstate(&in);
			doc->reason = MemoryContextStrdup(docs->cxt, get_text(&in, docs->cxt));
		}
		else if (what != WIRE_KNOWN && what != WIRE_STORED)
			malformed("A document has an unknown outcome.");
	}
	end_message(&in);
}

const char **
docrep_wire_unpack_ids(const char *data, Size len, int *n)
{
	Reader		in = begin_message(data, len, WIRE_IDS);
	const char **ids;

	*n = get_count(&in, 2);
	ids = palloc(sizeof(char *) * (*n + 1));
	for (int i = 0; i < *n; i++)
		ids[i] = get_text(&in, CurrentMemoryContext);
	end_message(&in);
	return ids;
}
