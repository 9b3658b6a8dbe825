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
#include "peer/couchdb_target.h"
#include "store/errcodes.h"

char *
docrep_couch_text(const CouchJson *string, const char **problem, char **raw, int *rawlen)
{
	char	   *out = palloc(string->len + 1);
	bool		nul;
	bool		broken;
	Size		len = docrep_cj_decode(string, out, &nul, &broken);
	char	   *text;
	Size		n = 0;

	out[len] = '\0';
	*problem = nul ? "it contains \\u0000" : broken ? "it is not valid Unicode" : NULL;
	if (*problem == NULL)
		return out;
	*raw = out;
	*rawlen = (int) len;
	text = palloc(len + 1);
	for (Size i = 0; i < len; i++)
		if (out[i] != '\0' && !IS_HIGHBIT_SET(out[i]))
			text[n++] = out[i];
	text[n] = '\0';
	return text;
}

/* A member that is a string as text; NULL: it is missing or cannot be text. */
static char *
text_member(const CouchJson *object, const char *name)
{
	CouchJson	value = docrep_cj_get(object, name);
	const char *problem;
	char	   *raw;
	int			rawlen;
	char	   *text;

	if (value.kind != CJ_STRING)
		return NULL;
	text = docrep_couch_text(&value, &problem, &raw, &rawlen);
	return problem ? NULL : text;
}

/* An integer member; otherwise if it is missing or none. */
static int64
int_member(const CouchJson *object, const char *name, int64 otherwise)
{
	CouchJson	value = docrep_cj_get(object, name);
	int64		result;

	return value.kind == CJ_NUMBER && docrep_cj_int64(&value, &result) ? result : otherwise;
}

/* One attachment's stub; NULL, or what is wrong with it. */
static const char *
read_att(const CouchJson *name, const CouchJson *stub, DocAtt *att)
{
	const char *problem;
	char	   *raw;
	int			rawlen;
	int64		revpos;

	memset(att, 0, sizeof(*att));
	att->name = docrep_couch_text(name, &problem, &raw, &rawlen);
	if (problem != NULL)
		return "the name of an attachment is no text";
	if (stub->kind != CJ_OBJECT)
		return "an attachment is no object";
	att->content_type = text_member(stub, "content_type");
	if (att->content_type == NULL)
		att->content_type = "application/octet-stream";
	att->digest = text_member(stub, "digest");
	att->length = int_member(stub, "length", -1);
	att->encoding = text_member(stub, "encoding");
	if (att->encoding != NULL && strcmp(att->encoding, "identity") == 0)
		att->encoding = NULL;
	att->encoded_length = att->encoding ? int_member(stub, "encoded_length", -1) : att->length;
	revpos = int_member(stub, "revpos", 0);
	att->revpos = revpos > 0 && revpos <= REV_MAX_GENERATION ? (int32) revpos : 0;
	if (att->length < 0 || att->encoded_length < 0)
		return "an attachment has no length";
	return NULL;
}

static int
compare_atts(const void *a, const void *b)
{
	return strcmp(((const DocAtt *) a)->name, ((const DocAtt *) b)->name);
}

/* The member _attachments; NULL, or what is wrong with it. */
static const char *
read_atts(const CouchJson *member, DocAtts *atts)
{
	CouchJsonWalk walk;
	const char *problem;
	int			n = 0;

	if (member->kind != CJ_OBJECT)
		return "_attachments is no object";
	docrep_cj_walk(&walk, member);
	while (docrep_cj_next(&walk))
		n++;
	atts->atts = palloc(Max(n, 1) * sizeof(DocAtt));
	docrep_cj_walk(&walk, member);
	while (docrep_cj_next(&walk))
	{
		problem = read_att(&walk.key, &walk.value, &atts->atts[atts->n]);
		if (problem != NULL)
			return problem;
		atts->n++;
	}
	qsort(atts->atts, atts->n, sizeof(DocAtt), compare_atts);
	return NULL;
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
		doc->json = couch.body;
		doc->jsonlen = (int) couch.bodylen;
		if (problem == NULL && couch.attachments.kind != CJ_NONE)
			problem = read_atts(&couch.attachments, &doc->atts);
		if (problem == NULL && couch.other_special)
			problem = "a member that begins with \"_\" is none of CouchDB's";
		/* the store takes its word for it */
		if (problem == NULL && !pg_verify_mbstr(PG_UTF8, doc->json, doc->jsonlen, true))
			problem = "it is not valid UTF-8";
	}
	if (problem != NULL)
		set_unreadable(doc, text, len, rev, ERRCODE_DOCREP_BAD_REQUEST, problem);
	out->bytes += doc->jsonlen + 64 + doc->path.n * 24;
	MemoryContextSwitchTo(caller);
	return doc;
}

/* The name of an attachment in a path: its slashes stay. */
static char *
escape_name(const char *name)
{
	StringInfoData out;
	char	   *escaped = docrep_http_escape(name);

	initStringInfo(&out);
	for (const char *p = escaped; *p != '\0'; p++)
	{
		if (pg_strncasecmp(p, "%2F", 3) == 0)
		{
			appendStringInfoChar(&out, '/');
			p += 2;
		}
		else
			appendStringInfoChar(&out, *p);
	}
	return out.data;
}

char *
docrep_couch_att_path(const DocrepDoc *doc, const DocAtt *att)
{
	return psprintf("%s/%s?rev=%s", docrep_http_doc_path(doc->id), escape_name(att->name),
					docrep_http_escape(docrep_couch_rev_text(&doc->path.revs[0])));
}
