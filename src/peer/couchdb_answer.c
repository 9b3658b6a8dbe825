/*-------------------------------------------------------------------------
 *
 * couchdb_answer.c
 *		What _bulk_get and open_revs answer, taken apart as it arrives: JSON,
 *		or multipart of documents that may bring their attachments.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "peer/couchdb_source.h"

#define BOUNDARY_SIZE	200

struct CouchAnswer
{
	MemoryContext cxt;
	bool		bulk;
	Size		max;
	bool		known;			/* the form of the answer is known */
	const char *problem;

	/* JSON */
	CouchSplit *split;
	CouchJsonWalk docs;			/* of the element that came last */
	CouchJson	id;				/* ... and whose they are */

	/* multipart */
	Multipart  *outer;
	Multipart  *inner;			/* of a document with its attachments */
	bool		keep;			/* the current part is a document or an error */
	bool		is_error;
	bool		first;			/* the next inner part is the document */
	bool		complete;		/* part holds one */
	bool		given;			/* it was handed out */
	StringInfoData part;
	bool		ended;
};

CouchAnswer *
docrep_couch_answer_new(bool bulk, Size max)
{
	CouchAnswer *answer = palloc0(sizeof(CouchAnswer));

	answer->cxt = CurrentMemoryContext;
	answer->bulk = bulk;
	answer->max = max;
	answer->split = docrep_cj_split_new(bulk ? "results" : NULL, false, max);
	initStringInfo(&answer->part);
	return answer;
}

static void
end_multipart(CouchAnswer *answer)
{
	if (answer->outer != NULL)
		docrep_multipart_free(answer->outer);
	if (answer->inner != NULL)
		docrep_multipart_free(answer->inner);
	answer->outer = answer->inner = NULL;
}

void
docrep_couch_answer_reset(CouchAnswer *answer)
{
	docrep_cj_split_reset(answer->split);
	end_multipart(answer);
	memset(&answer->docs, 0, sizeof(answer->docs));
	answer->known = answer->ended = false;
	answer->keep = answer->complete = answer->given = false;
	resetStringInfo(&answer->part);
	answer->problem = NULL;
}

Size
docrep_couch_answer_held(const CouchAnswer *answer)
{
	return docrep_cj_split_held(answer->split) + (answer->given ? 0 : answer->part.len);
}

bool
docrep_couch_answer_pending(const CouchAnswer *answer)
{
	return answer->docs.p != NULL;
}

bool
docrep_couch_answer_ended(const CouchAnswer *answer)
{
	return answer->ended;
}

const char *
docrep_couch_answer_problem(const CouchAnswer *answer)
{
	return answer->problem;
}

static CouchAnswerResult
bad(CouchAnswer *answer, const char *problem)
{
	answer->problem = problem;
	return COUCHANSWER_BAD;
}

/* ---------- entries ---------- */

/*
 * {"rev", "error", "reason"}, or "error" as a string with the others beside it.
 * CouchDB says "not_found" for what others call missing.
 */
static void
read_error(const CouchJson *object, const CouchJson *error, CouchEntry *entry)
{
	const CouchJson *from = error->kind == CJ_OBJECT ? error : object;

	entry->rev = docrep_cj_get(from, "rev");
	entry->error = error->kind == CJ_OBJECT ? docrep_cj_get(error, "error") : *error;
	entry->reason = docrep_cj_get(from, "reason");
	if (entry->error.kind == CJ_STRING && docrep_cj_equals(&entry->error, "not_found"))
		entry->kind = COUCHENTRY_MISSING;
	else
		entry->kind = COUCHENTRY_ERROR;
}

/* {"ok": document}, {"missing": rev} or {"error": ...}.  False: it says nothing. */
static bool
read_entry(const CouchJson *value, CouchEntry *entry)
{
	CouchJson	member;

	memset(entry, 0, sizeof(*entry));
	if (value->kind != CJ_OBJECT)
		return false;
	member = docrep_cj_get(value, "ok");
	if (member.kind == CJ_OBJECT)
	{
		entry->kind = COUCHENTRY_DOC;
		entry->doc = member;
		return true;
	}
	member = docrep_cj_get(value, "missing");
	if (member.kind != CJ_NONE)
	{
		entry->kind = COUCHENTRY_MISSING;
		entry->rev = member;
		return true;
	}
	member = docrep_cj_get(value, "error");
	if (member.kind == CJ_NONE)
		return false;
	read_error(value, &member, entry);
	return true;
}

/* ---------- JSON ---------- */

/*
 * Is there nothing after this in the element?  It must be used up before more is
 * fed: it may lie in what was fed.
 */
static void
note_last(CouchAnswer *answer)
{
	CouchJsonWalk ahead = answer->docs;

	if (!docrep_cj_next(&ahead))
		memset(&answer->docs, 0, sizeof(answer->docs));
}

static CouchAnswerResult
next_of_json(CouchAnswer *answer, const char **data, size_t *len, CouchEntry *entry)
{
	CouchJson	element;

	for (;;)
	{
		while (docrep_cj_next(&answer->docs))
		{
			if (!read_entry(&answer->docs.value, entry))
				continue;
			entry->id = answer->id;
			note_last(answer);
			return COUCHANSWER_ENTRY;
		}
		memset(&answer->docs, 0, sizeof(answer->docs));
		switch (docrep_cj_split(answer->split, data, len, &element))
		{
			case COUCHSPLIT_MORE:
				return COUCHANSWER_MORE;
			case COUCHSPLIT_END:
				element = docrep_cj_split_rest(answer->split);
				if (answer->bulk && docrep_cj_get(&element, "results").kind != CJ_ARRAY)
					return bad(answer, "it has no array \"results\"");
				answer->ended = true;
				return COUCHANSWER_MORE;
			case COUCHSPLIT_BAD:
				return bad(answer, docrep_cj_split_problem(answer->split));
			case COUCHSPLIT_TOO_LARGE:
				return COUCHANSWER_TOO_LARGE;
			case COUCHSPLIT_ELEMENT:
				break;
		}
		if (element.kind != CJ_OBJECT)
			return bad(answer, "a result is no object");
		if (answer->bulk)
		{
			CouchJson	docs = docrep_cj_get(&element, "docs");

			/* what has none is as good as not there */
			answer->id = docrep_cj_get(&element, "id");
			if (docs.kind == CJ_ARRAY)
				docrep_cj_walk(&answer->docs, &docs);
		}
		else if (read_entry(&element, entry))
			return COUCHANSWER_ENTRY;
	}
}

/* ---------- multipart ---------- */

static bool
is_json(const char *type)
{
	return type == NULL || pg_strncasecmp(type, "application/json", 16) == 0 ||
		pg_strncasecmp(type, "text/plain", 10) == 0;
}

/* A part begins: it is kept if it is of interest. */
static void
begin_part(CouchAnswer *answer)
{
	const char *type = docrep_multipart_header(answer->outer, "Content-Type");
	char		boundary[BOUNDARY_SIZE];

	resetStringInfo(&answer->part);
	answer->keep = answer->given = false;
	if (type != NULL && docrep_multipart_boundary(type, boundary, sizeof(boundary)))
	{
		answer->inner = docrep_multipart_new(boundary);
		answer->first = true;
		return;
	}
	answer->keep = is_json(type);
	answer->is_error = type != NULL && strstr(type, "error=") != NULL;
}

static bool
keep_part(CouchAnswer *answer, const char *data, Size len)
{
	if (!answer->keep)
		return true;
	if (len > answer->max - answer->part.len)
		return false;
	appendBinaryStringInfo(&answer->part, data, (int) len);
	return true;
}

/*
 * Of a document with its attachments only the document is kept: contents are
 * asked for as they are needed.
 */
static CouchAnswerResult
read_inner(CouchAnswer *answer, const char *data, size_t len)
{
	const char *content;
	size_t		n;

	while (len > 0)
	{
		switch (docrep_multipart_feed(answer->inner, &data, &len, &content, &n))
		{
			case MULTIPART_HEADERS:
				answer->keep = answer->first;
				answer->is_error = false;
				answer->first = false;
				break;
			case MULTIPART_DATA:
				if (!keep_part(answer, content, n))
					return COUCHANSWER_TOO_LARGE;
				break;
			case MULTIPART_PART_END:
				answer->complete |= answer->keep;
				answer->keep = false;
				break;
			case MULTIPART_BAD:
				return bad(answer, "a part of it is malformed");
			case MULTIPART_MORE:
			case MULTIPART_END:
				break;
		}
	}
	return COUCHANSWER_MORE;
}

/* The part that has come as an entry. */
static CouchAnswerResult
read_part(CouchAnswer *answer, CouchEntry *entry)
{
	CouchJson	object;

	answer->complete = false;
	answer->given = true;
	if (!docrep_cj_value(answer->part.data, answer->part.len, &object) ||
		object.kind != CJ_OBJECT)
		return bad(answer, "a part of it is no JSON object");
	memset(entry, 0, sizeof(*entry));
	if (!answer->is_error)
	{
		entry->kind = COUCHENTRY_DOC;
		entry->doc = object;
		entry->id = docrep_cj_get(&object, "_id");
		return COUCHANSWER_ENTRY;
	}
	if (!read_entry(&object, entry))
		return bad(answer, "a part of it is neither document nor error");
	entry->id = docrep_cj_get(&object, "id");
	return COUCHANSWER_ENTRY;
}

static CouchAnswerResult
next_of_multipart(CouchAnswer *answer, const char **data, size_t *len, CouchEntry *entry)
{
	const char *content;
	size_t		n;
	CouchAnswerResult result;

	for (;;)
	{
		switch (docrep_multipart_feed(answer->outer, data, len, &content, &n))
		{
			case MULTIPART_MORE:
				return COUCHANSWER_MORE;
			case MULTIPART_HEADERS:
				begin_part(answer);
				break;
			case MULTIPART_DATA:
				if (answer->inner != NULL)
				{
					result = read_inner(answer, content, n);
					if (result != COUCHANSWER_MORE)
						return result;
				}
				else if (!keep_part(answer, content, n))
					return COUCHANSWER_TOO_LARGE;
				break;
			case MULTIPART_PART_END:
				if (answer->inner != NULL)
				{
					docrep_multipart_free(answer->inner);
					answer->inner = NULL;
				}
				else
					answer->complete = answer->keep;
				answer->keep = false;
				if (answer->complete)
					return read_part(answer, entry);
				break;
			case MULTIPART_END:
				resetStringInfo(&answer->part);
				answer->ended = true;
				return COUCHANSWER_MORE;
			case MULTIPART_BAD:
				return bad(answer, "it is malformed");
		}
	}
}

CouchAnswerResult
docrep_couch_answer_next(CouchAnswer *answer, const char *type, const char **data, size_t *len,
						 CouchEntry *entry)
{
	MemoryContext caller;
	CouchAnswerResult result;

	if (answer->ended)
	{
		/* what follows the end is of no interest */
		*data += *len;
		*len = 0;
		return COUCHANSWER_MORE;
	}
	caller = MemoryContextSwitchTo(answer->cxt);
	if (!answer->known)
	{
		char		boundary[BOUNDARY_SIZE];

		answer->known = true;
		if (docrep_multipart_boundary(type, boundary, sizeof(boundary)))
			answer->outer = docrep_multipart_new(boundary);
	}
	result = answer->outer != NULL ? next_of_multipart(answer, data, len, entry) :
		next_of_json(answer, data, len, entry);
	MemoryContextSwitchTo(caller);
	return result;
}
