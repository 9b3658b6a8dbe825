/*-------------------------------------------------------------------------
 *
 * couchdb_stubs.c
 *		What a document of a CouchDB says of its attachments.
 *
 * Stubs are asked for; some servers send contents inline nevertheless.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/base64.h"
#include "peer/couchdb_source.h"
#include "peer/couchdb_target.h"

char *
docrep_couch_text_member(const CouchJson *object, const char *name)
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

/* A content that came inline; NULL, or what is wrong with it. */
static const char *
read_data(const CouchJson *data, DocAtt *att)
{
	char	   *text = palloc(data->len);
	bool		nul;
	bool		broken;
	int			len = (int) docrep_cj_decode(data, text, &nul, &broken);
	int			size = pg_b64_dec_len(len);
	char	   *bytes = palloc(size + 1);
	int			n = docrep_b64_decode(text, len, bytes, size);

	pfree(text);
	if (n < 0)
		return "the data of an attachment is no base64";
	att->data = bytes;
	att->datalen = n;
	/* it is never encoded, so a digest and lengths of an encoded form mean nothing */
	if (att->encoding != NULL)
		att->digest = NULL;
	att->encoding = NULL;
	att->length = att->encoded_length = n;
	return NULL;
}

/* One attachment; NULL, or what is wrong with it. */
static const char *
read_stub(const CouchJson *name, const CouchJson *stub, DocAtt *att)
{
	const char *problem;
	char	   *raw;
	int			rawlen;
	CouchJson	data;
	int64		revpos;

	memset(att, 0, sizeof(*att));
	att->name = docrep_couch_text(name, &problem, &raw, &rawlen);
	if (problem != NULL)
		return "the name of an attachment is no text";
	if (stub->kind != CJ_OBJECT)
		return "an attachment is no object";
	att->content_type = docrep_couch_text_member(stub, "content_type");
	if (att->content_type == NULL)
		att->content_type = DOCREP_ATT_DEFAULT_TYPE;
	att->digest = docrep_couch_text_member(stub, "digest");
	att->length = int_member(stub, "length", -1);
	att->encoding = docrep_couch_text_member(stub, "encoding");
	if (att->encoding != NULL && strcmp(att->encoding, "identity") == 0)
		att->encoding = NULL;
	att->encoded_length = att->encoding ? int_member(stub, "encoded_length", -1) : att->length;
	revpos = int_member(stub, "revpos", 0);
	att->revpos = revpos > 0 && revpos <= REV_MAX_GENERATION ? (int32) revpos : 0;
	data = docrep_cj_get(stub, "data");
	if (data.kind == CJ_STRING)
		return read_data(&data, att);
	if (att->length < 0 || att->encoded_length < 0)
		return "an attachment has no length";
	return NULL;
}

/* An attachment and its place in the object. */
typedef struct PlacedAtt
{
	DocAtt		att;
	int			place;
} PlacedAtt;

static int
compare_placed(const void *a, const void *b)
{
	const PlacedAtt *x = a;
	const PlacedAtt *y = b;
	int			cmp = strcmp(x->att.name, y->att.name);

	return cmp != 0 ? cmp : x->place - y->place;
}

/* In order of their names; of several of one name the last counts, as of all members. */
static void
sort_atts(PlacedAtt *placed, int n, DocAtts *atts)
{
	qsort(placed, n, sizeof(PlacedAtt), compare_placed);
	atts->n = 0;
	atts->atts = palloc(Max(n, 1) * sizeof(DocAtt));
	for (int i = 0; i < n; i++)
	{
		if (i + 1 == n || strcmp(placed[i].att.name, placed[i + 1].att.name) != 0)
			atts->atts[atts->n++] = placed[i].att;
	}
	pfree(placed);
}

const char *
docrep_couch_read_stubs(const CouchJson *member, DocAtts *atts)
{
	CouchJsonWalk walk;
	PlacedAtt  *placed;
	const char *problem;
	int			n = 0;

	if (member->kind != CJ_OBJECT)
		return "_attachments is no object";
	docrep_cj_walk(&walk, member);
	while (docrep_cj_next(&walk))
		n++;
	placed = palloc(Max(n, 1) * sizeof(PlacedAtt));
	n = 0;
	docrep_cj_walk(&walk, member);
	while (docrep_cj_next(&walk))
	{
		problem = read_stub(&walk.key, &walk.value, &placed[n].att);
		if (problem != NULL)
			return problem;
		placed[n].place = n;
		n++;
	}
	sort_atts(placed, n, atts);
	return NULL;
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
