/*-------------------------------------------------------------------------
 *
 * couchdb_body.c
 *		Documents as the JSON and multipart text that CouchDB takes.
 *
 * Everything is appended to the buffer that will be sent.  jsonb is printed as
 * Postgres prints it, which loses no digit of a number; JSON text goes through
 * as it came.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/base64.h"
#include "mb/pg_wchar.h"
#include "peer/couchdb_target.h"
#include "store/errcodes.h"
#include "utils/jsonb.h"

/* A body of which printing may exceed what a StringInfo holds, escapes included. */
#define LARGE_BODY		(64 * 1024 * 1024)

/* Text of the server's encoding as UTF-8; perhaps the same pointer. */
static const char *
to_utf8(const char *text)
{
	if (GetDatabaseEncoding() == PG_UTF8)
		return text;
	return pg_server_to_any(text, strlen(text), PG_UTF8);
}

void
docrep_couch_put_string(StringInfo out, const char *text)
{
	const char *p = to_utf8(text);
	const char *run = p;

	appendStringInfoCharMacro(out, '"');
	for (; *p != '\0'; p++)
	{
		if (*p != '"' && *p != '\\' && (unsigned char) *p >= 0x20)
			continue;
		appendBinaryStringInfo(out, run, p - run);
		if ((unsigned char) *p < 0x20)
			appendStringInfo(out, "\\u%04x", (unsigned char) *p);
		else
		{
			appendStringInfoCharMacro(out, '\\');
			appendStringInfoCharMacro(out, *p);
		}
		run = p + 1;
	}
	appendBinaryStringInfo(out, run, p - run);
	appendStringInfoCharMacro(out, '"');
}

char *
docrep_couch_rev_text(const Rev *rev)
{
	char	   *text = palloc(REV_TEXT_SIZE);

	docrep_rev_print(rev, text);
	return text;
}

/* A revision, or its identifier alone, as a JSON string.  Most are plain digits. */
static void
put_rev(StringInfo out, const Rev *rev, bool id_only)
{
	char		text[REV_TEXT_SIZE];
	size_t		len;

	len = id_only ? docrep_rev_print_id(rev, text) : docrep_rev_print(rev, text);
	if (!rev->hex)
	{
		docrep_couch_put_string(out, text);
		return;
	}
	appendStringInfoCharMacro(out, '"');
	appendBinaryStringInfo(out, text, len);
	appendStringInfoCharMacro(out, '"');
}

/* ,"_revisions":{...} */
static void
put_revisions(StringInfo out, const RevPath *path)
{
	appendStringInfo(out, ",\"_revisions\":{\"start\":%u,\"ids\":[", path->revs[0].gen);
	for (int i = 0; i < path->n; i++)
	{
		if (i > 0)
			appendStringInfoCharMacro(out, ',');
		put_rev(out, &path->revs[i], true);
	}
	appendStringInfoString(out, "]}");
}

/* ---------- attachments ---------- */

static void
put_base64(StringInfo out, const char *data, Size len)
{
	int			size = pg_b64_enc_len((int) len);
	int			n;

	enlargeStringInfo(out, size);
	n = pg_b64_encode((const void *) data, (int) len, out->data + out->len, size);
	if (n < 0)
		elog(ERROR, "could not encode an attachment in base64");
	out->len += n;
	out->data[out->len] = '\0';
}

/* ,"data":"..." of a content at hand; returns as docrep_couch_put_doc. */
static const char *
put_data(StringInfo out, const DocrepDoc *doc, const DocAtt *att, bool decoded)
{
	const char *problem = NULL;

	appendStringInfoString(out, ",\"data\":\"");
	if (att->encoding == NULL || !decoded)
		put_base64(out, att->data, att->datalen);
	else
	{
		/* what is at hand is not corrected */
		CouchContent *content = docrep_couch_content_open(NULL, doc, unconstify(DocAtt *, att),
														  true);
		char	   *data = palloc((Size) att->length + 1);
		Size		len = 0;
		Size		n;

		while ((n = docrep_couch_content_read(content, data + len, att->length + 1 - len)) > 0)
			len += n;
		put_base64(out, data, len);
		problem = docrep_couch_content_problem(content);
		docrep_couch_content_close(content);
		pfree(data);
	}
	appendStringInfoCharMacro(out, '"');
	return problem;
}

/*
 * The digest is left out where it would not be the content's: of encoded contents
 * that are sent decoded, and where it is none.
 */
static bool
has_digest(const DocAtt *att, bool decoded)
{
	return att->digest != NULL && !(decoded && att->encoding != NULL) &&
		strncmp(att->digest, "md5-", 4) == 0;
}

const char *
docrep_couch_att_reason(const DocAtt *att, const char *problem)
{
	return psprintf("attachment \"%s\": %s", att->name, problem);
}

/* One member of _attachments; returns as docrep_couch_put_doc. */
static const char *
put_att(StringInfo out, const DocrepDoc *doc, const DocAtt *att, CouchAttForm form, bool decoded)
{
	const char *problem = NULL;

	docrep_couch_put_string(out, att->name);
	appendStringInfoString(out, ":{\"content_type\":");
	docrep_couch_put_string(out, att->content_type ? att->content_type :
							"application/octet-stream");
	if (att->revpos > 0)
		appendStringInfo(out, ",\"revpos\":%d", att->revpos);
	if (has_digest(att, decoded))
	{
		appendStringInfoString(out, ",\"digest\":");
		docrep_couch_put_string(out, att->digest);
	}
	if (form == COUCHATT_DATA)
		problem = put_data(out, doc, att, decoded);
	else
	{
		appendStringInfoString(out, form == COUCHATT_STUB ? ",\"stub\":true" :
							   ",\"follows\":true");
		appendStringInfo(out, ",\"length\":" INT64_FORMAT, att->length);
		if (att->encoding != NULL && !decoded)
		{
			appendStringInfoString(out, ",\"encoding\":");
			docrep_couch_put_string(out, att->encoding);
			appendStringInfo(out, ",\"encoded_length\":" INT64_FORMAT, att->encoded_length);
		}
	}
	appendStringInfoCharMacro(out, '}');
	return problem ? docrep_couch_att_reason(att, problem) : NULL;
}

/* ,"_attachments":{...}; returns as docrep_couch_put_doc. */
static const char *
put_atts(StringInfo out, const DocrepDoc *doc, const CouchAttForm *forms, bool decoded)
{
	const char *problem = NULL;

	appendStringInfoString(out, ",\"_attachments\":{");
	for (int i = 0; i < doc->atts.n && problem == NULL; i++)
	{
		if (i > 0)
			appendStringInfoCharMacro(out, ',');
		problem = put_att(out, doc, &doc->atts.atts[i], forms ? forms[i] : COUCHATT_DATA,
						  decoded);
	}
	appendStringInfoCharMacro(out, '}');
	return problem;
}

/* ---------- bodies ---------- */

/*
 * An object's members, without braces; a comma before them if there are any.
 * Returns as docrep_couch_put_doc.
 */
static const char *
put_members(StringInfo out, const char *text, int len)
{
	const char *end = text + len;

	while (text < end && strchr(" \t\r\n", *text) != NULL)
		text++;
	while (end > text && strchr(" \t\r\n", end[-1]) != NULL)
		end--;
	if (end - text < 2 || *text != '{' || end[-1] != '}')
		return "its body is no JSON object";
	text++;
	end--;
	while (text < end && strchr(" \t\r\n", *text) != NULL)
		text++;
	if (text == end)
		return NULL;
	appendStringInfoCharMacro(out, ',');
	appendBinaryStringInfo(out, text, end - text);
	return NULL;
}

/* The members of jsonb, printed in place. */
static void
put_jsonb_members(StringInfo out, Jsonb *body)
{
	int			at = out->len;

	if (JB_ROOT_COUNT(body) == 0)
		return;
	(void) JsonbToCString(out, &body->root, VARSIZE(body));
	if (GetDatabaseEncoding() != PG_UTF8)
	{
		char	   *native = pnstrdup(out->data + at, out->len - at);
		const char *text = to_utf8(native);

		out->len = at;
		appendStringInfoString(out, text);
		pfree(native);
	}
	/* "{...}" becomes ",..." */
	out->data[at] = ',';
	out->data[--out->len] = '\0';
}

/* Everything of a document; returns as docrep_couch_put_doc but leaves out as it is. */
static const char *
put_all(StringInfo out, const DocrepDoc *doc, const CouchAttForm *forms, bool decoded)
{
	const char *problem = NULL;

	appendStringInfoString(out, "{\"_id\":");
	docrep_couch_put_string(out, doc->id);
	appendStringInfoString(out, ",\"_rev\":");
	put_rev(out, &doc->path.revs[0], false);
	put_revisions(out, &doc->path);
	if (doc->deleted)
		appendStringInfoString(out, ",\"_deleted\":true");
	if (doc->atts.n > 0)
		problem = put_atts(out, doc, forms, decoded);
	if (problem != NULL)
		return problem;
	if (doc->body != NULL)
		put_jsonb_members(out, doc->body);
	else if (doc->json != NULL)
		problem = put_members(out, doc->json, doc->jsonlen);
	appendStringInfoCharMacro(out, '}');
	return problem;
}

/* The same of a document whose text may become longer than a buffer can be. */
static const char *
put_large(StringInfo out, const DocrepDoc *doc, const CouchAttForm *forms, bool decoded,
		  int *sqlstate)
{
	MemoryContext cxt = CurrentMemoryContext;
	const char *volatile problem = NULL;

	PG_TRY();
	{
		problem = put_all(out, doc, forms, decoded);
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(cxt);
		error = CopyErrorData();
		if (error->sqlerrcode != ERRCODE_PROGRAM_LIMIT_EXCEEDED &&
			error->sqlerrcode != ERRCODE_OUT_OF_MEMORY)
			PG_RE_THROW();
		FlushErrorState();
		FreeErrorData(error);
		problem = "the document is too large to be sent as JSON";
		*sqlstate = ERRCODE_DOCREP_TOO_LARGE;
	}
	PG_END_TRY();
	return problem;
}

const char *
docrep_couch_put_doc(StringInfo out, const DocrepDoc *doc, const CouchAttForm *forms,
					 bool decoded, int *sqlstate)
{
	int			at = out->len;
	bool		large = docrep_couch_doc_size(doc) > LARGE_BODY;
	const char *problem;

	*sqlstate = ERRCODE_DOCREP_BAD_REQUEST;
	problem = large ? put_large(out, doc, forms, decoded, sqlstate) :
		put_all(out, doc, forms, decoded);
	if (problem != NULL)
	{
		out->len = at;
		out->data[at] = '\0';
	}
	return problem;
}

Size
docrep_couch_doc_size(const DocrepDoc *doc)
{
	/* braces, names, and a revision of 32 digits with quotes and comma */
	Size		size = 100 + strlen(doc->id) + (Size) doc->path.n * 35;

	if (doc->body != NULL)
		size += VARSIZE(doc->body) + VARSIZE(doc->body) / 8;
	else
		size += doc->jsonlen;
	for (int i = 0; i < doc->atts.n; i++)
	{
		const DocAtt *att = &doc->atts.atts[i];

		size += 150 + strlen(att->name);
		if (att->data != NULL)
			size += att->datalen + att->datalen / 3;
	}
	return size;
}

/* ---------- multipart/related ---------- */

/*
 * A name for Content-Disposition.  CouchDB goes by the order of the parts; PouchDB's
 * server by these names, in which it decodes %22 and decimal character references
 * as browsers write them.
 */
static void
put_filename(StringInfo out, const char *name, bool pouchdb)
{
	for (const char *p = to_utf8(name); *p != '\0'; p++)
	{
		unsigned char c = (unsigned char) *p;

		if (pouchdb && c == '"')
			appendStringInfoString(out, "%22");
		else if (pouchdb && (c < 0x20 || c == '%' || c == '&'))
			appendStringInfo(out, "&#%d;", c);
		else if (c < 0x20)
			appendStringInfoCharMacro(out, '_');
		else
		{
			if (c == '"' || c == '\\')
				appendStringInfoCharMacro(out, '\\');
			appendStringInfoCharMacro(out, *p);
		}
	}
}

/* A content type that is fit for a header. */
static void
put_content_type(StringInfo out, const char *type)
{
	for (const char *p = type; *p != '\0'; p++)
	{
		if ((unsigned char) *p < 0x20 || (unsigned char) *p >= 0x7f)
		{
			appendStringInfoString(out, "application/octet-stream");
			return;
		}
	}
	appendStringInfoString(out, *type ? type : "application/octet-stream");
}

void
docrep_couch_put_part_head(StringInfo out, const char *boundary, const DocAtt *att,
						   bool decoded, bool pouchdb)
{
	appendStringInfo(out, "\r\n--%s\r\nContent-Disposition: attachment; filename=\"", boundary);
	put_filename(out, att->name, pouchdb);
	appendStringInfoString(out, "\"\r\nContent-Type: ");
	put_content_type(out, att->content_type ? att->content_type : "");
	appendStringInfo(out, "\r\nContent-Length: " INT64_FORMAT,
					 docrep_couch_content_length(att, decoded));
	if (att->encoding != NULL && !decoded)
	{
		appendStringInfoString(out, "\r\nContent-Encoding: ");
		put_content_type(out, att->encoding);
	}
	appendStringInfoString(out, "\r\n\r\n");
}
