/*-------------------------------------------------------------------------
 *
 * couchdb_rows.c
 *		Rows of a CouchDB's changes feed, made ours.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "peer/couchdb_source.h"
#include "store/errcodes.h"

char *
docrep_couch_seq_text(const CouchJson *seq)
{
	const char *problem;
	char	   *raw;
	int			rawlen;
	char	   *text;

	if (seq->kind == CJ_NONE || seq->kind == CJ_NULL)
		return NULL;
	if (seq->kind != CJ_STRING)
		return pnstrdup(seq->text, seq->len);
	text = docrep_couch_text(seq, &problem, &raw, &rawlen);
	return problem ? NULL : text;
}

/* The revisions of a row; NULL, or what is wrong. */
static const char *
read_revs(const CouchJson *changes, DocrepChange *change)
{
	CouchJsonWalk walk;
	int			n = 0;

	if (changes->kind != CJ_ARRAY)
		return "a change has no array \"changes\"";
	docrep_cj_walk(&walk, changes);
	while (docrep_cj_next(&walk))
		n++;
	change->revs = palloc(Max(n, 1) * sizeof(Rev));
	docrep_cj_walk(&walk, changes);
	while (docrep_cj_next(&walk))
	{
		CouchJson	value = walk.value.kind == CJ_OBJECT ? docrep_cj_get(&walk.value, "rev") :
			walk.value;
		const char *problem = "a revision in a change is no string";
		char	   *raw;
		int			rawlen;
		char	   *text;

		if (value.kind != CJ_STRING)
			return problem;
		text = docrep_couch_text(&value, &problem, &raw, &rawlen);
		if (problem == NULL)
			problem = docrep_rev_parse(text, strlen(text), palloc(strlen(text) + 1),
									   &change->revs[change->nrevs]);
		if (problem != NULL)
			return "a change has a malformed revision";
		change->nrevs++;
	}
	return NULL;
}

/*
 * An id that text cannot hold: the row is all that can be kept of the document,
 * and it comes along as one that cannot be read.
 */
static void
keep_unusable_id(DocrepChange *change, const CouchJson *row, const char *raw, int rawlen,
				 const char *problem)
{
	change->docs = palloc0(Max(change->nrevs, 1) * sizeof(DocrepDoc));
	for (int i = 0; i < change->nrevs; i++)
	{
		DocrepDoc  *doc = &change->docs[i];

		doc->id = change->id;
		doc->raw_id = raw;
		doc->raw_idlen = rawlen;
		doc->unreadable = true;
		doc->sqlstate = ERRCODE_DOCREP_BAD_REQUEST;
		doc->reason = psprintf("its _id: %s", problem);
		doc->path.n = 1;
		doc->path.revs = &change->revs[i];
		doc->json = pnstrdup(row->text, row->len);
		doc->jsonlen = (int) row->len;
	}
}

bool
docrep_couch_is_first(const DocrepChange *change)
{
	return change->nrevs == 1 && change->revs[0].gen == 1;
}

/* Keep the document that came along, if that is all there is to know of it. */
static void
keep_doc(DocrepChange *change, const CouchJson *row, DocrepChanges *out)
{
	CouchJson	json = docrep_cj_get(row, "doc");
	DocrepDocs	docs;
	DocrepDoc  *doc;

	if (!docrep_couch_is_first(change) || json.kind != CJ_OBJECT)
		return;
	docrep_docs_init(&docs, out->cxt);
	docs.docs = palloc(sizeof(DocrepDoc));
	docs.cap = 1;
	doc = docrep_couch_add_doc(&docs, json.text, json.len, change->id, &change->revs[0]);
	if (doc->unreadable || doc->atts.n > 0 || doc->path.n != 1 ||
		!docrep_rev_eq(&doc->path.revs[0], &change->revs[0]))
		return;
	change->docs = doc;
	out->bytes += docs.bytes;
}

const char *
docrep_couch_add_row(const CouchJson *row, const char *before, bool with_docs,
					 DocrepChanges *out)
{
	MemoryContext caller;
	DocrepChange *change;
	CouchJson	id;
	CouchJson	seq;
	CouchJson	revs;
	const char *problem;
	const char *id_problem;
	char	   *raw = NULL;
	int			rawlen = 0;

	if (row->kind != CJ_OBJECT)
		return "a change is no object";
	id = docrep_cj_get(row, "id");
	if (id.kind != CJ_STRING)
		return "a change has no id";
	caller = MemoryContextSwitchTo(out->cxt);
	change = docrep_changes_add(out);
	change->id = docrep_couch_text(&id, &id_problem, &raw, &rawlen);
	seq = docrep_cj_get(row, "seq");
	change->seq = docrep_couch_seq_text(&seq);
	if (change->seq == NULL)
		change->seq = pstrdup(before);
	revs = docrep_cj_get(row, "changes");
	problem = read_revs(&revs, change);
	change->deleted = docrep_cj_get(row, "deleted").kind == CJ_TRUE;
	if (problem == NULL && id_problem != NULL)
		keep_unusable_id(change, row, raw, rawlen, id_problem);
	else if (problem == NULL && with_docs)
		keep_doc(change, row, out);
	out->bytes += 64 + id.len + change->nrevs * 24;
	MemoryContextSwitchTo(caller);
	if (problem != NULL)
		out->n--;
	return problem;
}
