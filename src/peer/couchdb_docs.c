/*-------------------------------------------------------------------------
 *
 * couchdb_docs.c
 *		Documents as a CouchDB gives them, made ours.
 *
 * What cannot be a document here (an id that text cannot hold, a revision that
 * is none) is not lost: it travels as "unreadable" and is kept among the
 * rejected documents of the target.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "peer/couchdb_source.h"
#include "store/errcodes.h"

/* Text in the server's encoding with a new *len; NULL: it cannot be. */
static char *
convert(const char *text, Size *len)
{
	MemoryContext caller = CurrentMemoryContext;
	char	   *volatile result = NULL;

	PG_TRY();
	{
		result = pg_any_to_server(text, (int) *len, PG_UTF8);
		if (result != text)
			*len = strlen(result);
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(caller);
		/* a character that this encoding lacks, and nothing else */
		if (ERRCODE_TO_CATEGORY(geterrcode()) != ERRCODE_DATA_EXCEPTION)
			PG_RE_THROW();
		FlushErrorState();
		result = NULL;
	}
	PG_END_TRY();
	return result;
}

char *
docrep_couch_to_server(const char *text, Size *len)
{
	if (*len > MaxAllocSize || !pg_verify_mbstr(PG_UTF8, text, (int) *len, true))
		return NULL;
	if (GetDatabaseEncoding() == PG_UTF8)
		return unconstify(char *, text);
	return convert(text, len);
}

/* What is left of bytes when all that is not plain is taken out. */
static char *
plain_part(const char *bytes, Size len)
{
	char	   *text = palloc(len + 1);
	Size		n = 0;

	for (Size i = 0; i < len; i++)
		if (bytes[i] != '\0' && !IS_HIGHBIT_SET(bytes[i]))
			text[n++] = bytes[i];
	text[n] = '\0';
	return text;
}

char *
docrep_couch_text(const CouchJson *string, const char **problem, char **raw, int *rawlen)
{
	char	   *out = palloc(string->len + 1);
	bool		nul;
	bool		broken;
	Size		len = docrep_cj_decode(string, out, &nul, &broken);
	Size		n = len;
	char	   *text = NULL;

	out[len] = '\0';
	*problem = nul ? "it contains \\u0000" : broken ? "it is not valid Unicode" : NULL;
	if (*problem == NULL)
	{
		text = docrep_couch_to_server(out, &n);
		if (text == NULL)
			*problem = "it cannot be written in the encoding of this database";
	}
	if (*problem == NULL)
		return text;
	*raw = out;
	*rawlen = (int) len;
	return plain_part(out, len);
}

/* _rev and _revisions as a path; NULL, or what is wrong. */
static const char *
read_path(const CouchDoc *couch, RevPath *path)
{
	const char *problem;
	char	   *raw;
	int			rawlen;
	char	   *text;
	Rev			rev;
	uint8	   *bytes;

	if (couch->rev.kind != CJ_STRING)
		return "it has no _rev";
	text = docrep_couch_text(&couch->rev, &problem, &raw, &rawlen);
	if (problem != NULL)
		return "its _rev is no text";
	bytes = palloc(strlen(text) + 1);
	if ((problem = docrep_rev_parse(text, strlen(text), bytes, &rev)) != NULL)
		return problem;
	if (couch->revisions.kind == CJ_NONE)
	{
		path->n = 1;
		path->revs = palloc(sizeof(Rev));
		path->revs[0] = rev;
		return NULL;
	}
	if ((problem = docrep_couch_revisions(&couch->revisions, path)) != NULL)
		return problem;
	if (path->n == 0 || !docrep_rev_eq(&rev, &path->revs[0]))
		return "_revisions contradicts _rev";
	return NULL;
}

/* The document's id, or what it was asked for by; NULL, or what is wrong with it. */
static const char *
read_id(const CouchDoc *couch, const char *asked, DocrepDoc *doc)
{
	const char *problem = NULL;
	char	   *raw;
	int			rawlen;

	if (couch->id.kind != CJ_STRING)
	{
		doc->id = pstrdup(asked ? asked : "");
		return "it has no _id";
	}
	doc->id = docrep_couch_text(&couch->id, &problem, &raw, &rawlen);
	if (problem == NULL)
		return NULL;
	doc->raw_id = raw;
	doc->raw_idlen = rawlen;
	return psprintf("its _id: %s", problem);
}

/* The body; NULL, or what is wrong with it. */
static const char *
read_body(CouchDoc *couch, DocrepDoc *doc)
{
	Size		len = couch->bodylen;
	char	   *body = docrep_couch_to_server(couch->body, &len);

	if (couch->other_special)
		return "a member that begins with \"_\" is none of CouchDB's";
	if (body == NULL)
		return pg_verify_mbstr(PG_UTF8, couch->body, (int) couch->bodylen, true) ?
			"it cannot be written in the encoding of this database" : "it is not valid UTF-8";
	if (body != couch->body)
		pfree(couch->body);
	doc->json = body;
	doc->jsonlen = (int) len;
	return NULL;
}

/* Copy into the current context. */
static char *
copy_bytes(const char *bytes, Size len)
{
	char	   *copy = palloc(len + 1);

	memcpy(copy, bytes, len);
	copy[len] = '\0';
	return copy;
}

/* Turn a document into one that is kept as it came, and never written. */
static void
set_unreadable(DocrepDoc *doc, const char *raw, Size len, const Rev *rev, int sqlstate,
			   const char *reason)
{
	doc->unreadable = true;
	doc->sqlstate = sqlstate;
	doc->reason = pstrdup(reason);
	doc->json = copy_bytes(raw, len);
	doc->jsonlen = (int) len;
	doc->atts.n = 0;
	if (doc->path.n == 0 && rev != NULL)
	{
		doc->path.n = 1;
		doc->path.revs = palloc(sizeof(Rev));
		doc->path.revs[0] = *rev;
		doc->path.revs[0].bytes = (uint8 *) copy_bytes((const char *) rev->bytes, rev->len);
	}
}

DocrepDoc *
docrep_couch_add_unreadable(DocrepDocs *out, const char *raw, Size len, const char *id,
							const Rev *rev, int sqlstate, const char *reason)
{
	MemoryContext caller = MemoryContextSwitchTo(out->cxt);
	DocrepDoc  *doc = docrep_docs_add(out);

	doc->id = pstrdup(id ? id : "");
	set_unreadable(doc, raw, len, rev, sqlstate, reason);
	out->bytes += len + 64;
	MemoryContextSwitchTo(caller);
	return doc;
}

DocrepDoc *
docrep_couch_add_doc(DocrepDocs *out, const char *text, Size len, const char *id, const Rev *rev)
{
	MemoryContext caller = MemoryContextSwitchTo(out->cxt);
	DocrepDoc  *doc = docrep_docs_add(out);
	CouchDoc	couch;
	const char *problem;

	if (!docrep_couch_doc_parse(text, len, &couch))
	{
		doc->id = pstrdup(id ? id : "");
		problem = "it is no JSON object";
	}
	else
	{
		problem = read_id(&couch, id, doc);
		if (problem == NULL)
			problem = read_path(&couch, &doc->path);
		doc->deleted = couch.deleted.kind == CJ_TRUE;
		if (problem == NULL)
			problem = read_body(&couch, doc);
		if (problem == NULL && couch.attachments.kind != CJ_NONE)
			problem = docrep_couch_read_stubs(&couch.attachments, &doc->atts);
	}
	if (problem != NULL)
		set_unreadable(doc, text, len, rev, ERRCODE_DOCREP_BAD_REQUEST, problem);
	out->bytes += doc->jsonlen + 64 + doc->path.n * 24;
	MemoryContextSwitchTo(caller);
	return doc;
}
