/*-------------------------------------------------------------------------
 *
 * couchdb_put.c
 *		Documents that travel alone: design documents, and those with attachments
 *		that _bulk_docs cannot carry as they are stored, or should not.
 *
 * PUT takes multipart/related: the document's JSON, then the contents in the order in
 * which it names them.  Little is composed in memory and sent like any other
 * call; of more, couchdb_stream.c takes care.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "peer/couchdb_target.h"
#include "store/errcodes.h"

char *
docrep_couch_put_path(const DocrepDoc *doc)
{
	return psprintf("%s?new_edits=false", docrep_http_doc_path(doc->id));
}

/* ---------- which way? ---------- */

static bool
is_design(const DocrepDoc *doc)
{
	return strncmp(doc->id, "_design/", 8) == 0;
}

/* Can the content be had without asking the source?  One of no bytes always can. */
static bool
is_at_hand(const DocAtt *att)
{
	return att->data != NULL || (att->encoding == NULL && att->length == 0);
}

/*
 * Can everything of the document be said in JSON?  Contents must be at hand, and be
 * sent as they are to be stored: JSON cannot say that its data is encoded.
 */
static bool
fits_json(const CouchPeer *peer, const DocrepDoc *doc)
{
	int64		total = 0;

	for (int i = 0; i < doc->atts.n; i++)
	{
		const DocAtt *att = &doc->atts.atts[i];

		if (!is_at_hand(att) || (att->encoding != NULL && !peer->pouchdb))
			return false;
		total += docrep_couch_content_length(att, peer->pouchdb);
	}
	/* it is in memory already: base64 of it is not much more */
	return total <= 2 * COUCH_HELD_CONTENTS;
}

/*
 * PouchDB's server knows parts by their file names, of which it cuts off what
 * comes before a backslash.  An attachment of such a name cannot be a part.
 */
static const char *
part_problem(const CouchPeer *peer, const DocrepDoc *doc)
{
	for (int i = 0; peer->pouchdb && i < doc->atts.n; i++)
	{
		if (strchr(doc->atts.atts[i].name, '\\') != NULL)
			return psprintf("the target's server takes no attachment named \"%s\"",
							doc->atts.atts[i].name);
	}
	return NULL;
}

CouchRoute
docrep_couch_route(CouchPeer *peer, DocrepDocs *docs, DocrepDoc *doc)
{
	bool		all_at_hand = true;
	int64		total = 0;
	const char *problem;

	if (doc->id[0] == '\0')
	{
		docrep_couch_doc_failed(docs, doc, ERRCODE_DOCREP_BAD_REQUEST, "the id is empty");
		return COUCHROUTE_NONE;
	}
	if (fits_json(peer, doc))
		return is_design(doc) ? COUCHROUTE_ALONE : COUCHROUTE_BULK;
	if ((problem = part_problem(peer, doc)) != NULL)
	{
		docrep_couch_doc_failed(docs, doc, ERRCODE_DOCREP_BAD_REQUEST, problem);
		return COUCHROUTE_NONE;
	}
	for (int i = 0; i < doc->atts.n; i++)
	{
		total += docrep_couch_content_length(&doc->atts.atts[i], peer->pouchdb);
		all_at_hand &= is_at_hand(&doc->atts.atts[i]);
	}
	if (total > COUCH_HELD_CONTENTS)
		return COUCHROUTE_STREAM;
	return all_at_hand ? COUCHROUTE_ALONE : COUCHROUTE_READ;
}

/* ---------- multipart/related ---------- */

/* A boundary that no content has. */
void
docrep_couch_make_boundary(char *boundary)
{
	uint8		random[(COUCH_BOUNDARY_SIZE - 1) / 2];

	if (!pg_strong_random(random, sizeof(random)))
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("could not generate a multipart boundary")));
	for (size_t i = 0; i < sizeof(random); i++)
		snprintf(boundary + 2 * i, 3, "%02x", random[i]);
}

/*
 * May the target have the content of an earlier revision?  CouchDB goes by name and
 * revpos; PouchDB by the digest, which is another one where it got the content
 * decoded.
 */
static bool
may_be_there(const CouchPeer *peer, const DocrepDoc *doc, const DocAtt *att)
{
	if (peer->pouchdb && (att->encoding != NULL || att->digest == NULL))
		return false;
	return att->revpos > 0 && att->revpos < doc->path.revs[0].gen;
}

/*
 * How each attachment appears: those of no bytes as data, which every server
 * understands; with stubs, those that an earlier revision brought as such.
 * Returns how many follow.
 */
int
docrep_couch_choose_forms(const CouchPeer *peer, const DocrepDoc *doc, bool stubs,
						  CouchAttForm *forms)
{
	int			n = 0;

	for (int i = 0; i < doc->atts.n; i++)
	{
		const DocAtt *att = &doc->atts.atts[i];

		if (att->encoding == NULL && att->length == 0)
			forms[i] = COUCHATT_DATA;
		else if (stubs && may_be_there(peer, doc, att))
			forms[i] = COUCHATT_STUB;
		else
		{
			forms[i] = COUCHATT_FOLLOWS;
			n++;
		}
	}
	return n;
}

/* The document's own part, with the headers that come before it. */
const char *
docrep_couch_put_json_part(StringInfo out, const CouchPeer *peer, const DocrepDoc *doc,
			  const CouchAttForm *forms, const char *boundary, int *sqlstate)
{
	appendStringInfo(out, "--%s\r\nContent-Type: application/json\r\n\r\n", boundary);
	return docrep_couch_put_doc(out, doc, forms, peer->pouchdb, sqlstate);
}

char *
docrep_couch_related_type(const char *boundary)
{
	return psprintf("multipart/related; boundary=\"%s\"", boundary);
}

/* What is said of a content that is not encoded as its document says: begin again. */
static const char corrected[] = "its encoding is another one";

/* Append a whole content.  Returns NULL or what is wrong with it. */
static const char *
put_content(StringInfo out, const CouchPeer *peer, const DocrepDoc *doc, DocAtt *att,
			DocrepPeer *source)
{
	bool		encoded = att->encoding != NULL && !peer->pouchdb;
	CouchContent *content = docrep_couch_content_open(source, doc, att, peer->pouchdb);
	Size		size = (Size) docrep_couch_content_length(att, peer->pouchdb) + 1;
	const char *problem;
	Size		n;

	if (encoded && att->encoding == NULL)
	{
		docrep_couch_content_close(content);
		return corrected;
	}
	enlargeStringInfo(out, (int) size);
	do
	{
		/* one byte more than there should be, so that a content that is too long shows */
		enlargeStringInfo(out, 2);
		n = docrep_couch_content_read(content, out->data + out->len,
									  out->maxlen - out->len - 1);
		out->len += n;
	} while (n > 0);
	problem = docrep_couch_content_problem(content);
	docrep_couch_content_close(content);
	out->data[out->len] = '\0';
	return problem;
}

/* The parts of all contents that follow, and the end; returns as docrep_couch_put_doc. */
static const char *
put_parts(StringInfo out, const CouchPeer *peer, const DocrepDoc *doc, const CouchAttForm *forms,
		  const char *boundary, DocrepPeer *source)
{
	for (int i = 0; i < doc->atts.n; i++)
	{
		DocAtt	   *att = &doc->atts.atts[i];
		const char *problem;

		if (forms[i] != COUCHATT_FOLLOWS)
			continue;
		docrep_couch_put_part_head(out, boundary, att, peer->pouchdb, peer->pouchdb);
		problem = put_content(out, peer, doc, att, source);
		if (problem == corrected)
			return problem;
		if (problem != NULL)
			return docrep_couch_att_reason(att, problem);
	}
	appendStringInfo(out, "\r\n--%s--", boundary);
	return NULL;
}

bool
docrep_couch_compose_put(CouchPeer *peer, DocrepDocs *docs, DocrepDoc *doc, DocrepPeer *source,
						 StringInfo out, char **content_type)
{
	int			sqlstate = ERRCODE_DOCREP_BAD_REQUEST;
	const char *problem;

	*content_type = NULL;
	if (fits_json(peer, doc))
		problem = docrep_couch_put_doc(out, doc, NULL, peer->pouchdb, &sqlstate);
	else
	{
		CouchAttForm *forms = palloc(sizeof(CouchAttForm) * doc->atts.n);
		char		boundary[COUCH_BOUNDARY_SIZE];

		int			at = out->len;

		(void) docrep_couch_choose_forms(peer, doc, false, forms);
		docrep_couch_make_boundary(boundary);
		*content_type = docrep_couch_related_type(boundary);
		do
		{
			out->len = at;
			problem = docrep_couch_put_json_part(out, peer, doc, forms, boundary, &sqlstate);
			if (problem == NULL)
				problem = put_parts(out, peer, doc, forms, boundary, source);
		} while (problem == corrected);
	}
	if (problem != NULL)
		docrep_couch_doc_failed(docs, doc, sqlstate, problem);
	return problem == NULL;
}
