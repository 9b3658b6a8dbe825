/*-------------------------------------------------------------------------
 *
 * couchdb_wants.c
 *		What a fetch wants, and what has come of it.
 *
 * With latest=true the source gives, in place of a revision that has
 * descendants, the leaves among these.  So a revision that did not come is
 * accounted for when another one of the document did.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "peer/couchdb_source.h"
#include "store/errcodes.h"

static CouchWant *
new_want(const DocrepChange *change, int n)
{
	CouchWant  *want = palloc0(sizeof(CouchWant));

	want->change = change;
	want->revs = palloc(Max(n, 1) * sizeof(Rev *));
	want->got = palloc0(Max(n, 1) * sizeof(bool));
	return want;
}

CouchWant *
docrep_couch_want(const DocrepChange *change)
{
	CouchWant  *want = new_want(change, change->nrevs);

	for (int i = 0; i < change->nrevs; i++)
	{
		if (change->missing == NULL || change->missing[i])
			want->revs[want->n++] = &change->revs[i];
	}
	return want->n > 0 ? want : NULL;
}

CouchWant *
docrep_couch_want_rest(const CouchWant *want)
{
	CouchWant  *rest = new_want(want->change, want->n);

	for (int i = 0; i < want->n; i++)
	{
		if (!want->got[i])
			rest->revs[rest->n++] = want->revs[i];
	}
	return rest;
}

CouchWant *
docrep_couch_want_part(const CouchWant *want, int first, int n)
{
	CouchWant  *part = new_want(want->change, n);

	for (int i = 0; i < n; i++)
		part->revs[part->n++] = want->revs[first + i];
	part->repeated = want->repeated;
	return part;
}

void
docrep_couch_want_reset(CouchWant *want)
{
	want->others = want->missing = 0;
	want->doubtful = false;
}

bool
docrep_couch_want_met(const CouchWant *want)
{
	int			open = 0;

	for (int i = 0; i < want->n; i++)
		open += want->got[i] ? 0 : 1;
	return open == 0 || (!want->doubtful && want->others > 0);
}

/* The number of a revision in the want, or -1. */
static int
find_rev(const CouchWant *want, const Rev *rev)
{
	for (int i = 0; i < want->n; i++)
	{
		if (docrep_rev_eq(want->revs[i], rev))
			return i;
	}
	return -1;
}

/* A revision that has not come yet. */
static const Rev *
open_rev(const CouchWant *want)
{
	for (int i = 0; i < want->n; i++)
	{
		if (!want->got[i])
			return want->revs[i];
	}
	return want->revs[0];
}

/* Is the last document of the batch the one before it once more? */
static bool
is_repetition(const DocrepDocs *out)
{
	const DocrepDoc *last = &out->docs[out->n - 1];

	for (int i = out->n - 2; i >= 0 && strcmp(out->docs[i].id, last->id) == 0; i--)
	{
		if (out->docs[i].path.n > 0 && docrep_rev_eq(&out->docs[i].path.revs[0],
													 &last->path.revs[0]))
			return true;
	}
	return false;
}

int
docrep_couch_want_doc(CouchWant *want, const CouchEntry *entry, bool strict, DocrepDocs *out)
{
	Size		bytes = out->bytes;
	DocrepDoc  *doc = docrep_couch_add_doc(out, entry->doc.text, entry->doc.len,
										   want->change->id, open_rev(want));
	int			rev = find_rev(want, &doc->path.revs[0]);
	bool		drop;

	if (doc->unreadable && strict)
	{
		want->doubtful = true;
		drop = true;
	}
	else if (rev >= 0)
	{
		drop = want->got[rev];
		want->got[rev] = true;
	}
	else
	{
		drop = is_repetition(out);
		want->others++;
	}
	if (!drop)
		return out->n - 1;
	out->n--;
	out->bytes = bytes;
	return -1;
}

/* The want's revision that an entry without a document speaks of, or -1. */
static int
entry_rev(const CouchWant *want, const CouchEntry *entry)
{
	const char *problem;
	char	   *raw;
	int			rawlen;
	char	   *text;
	Rev			rev;

	if (entry->rev.kind != CJ_STRING)
		return want->n == 1 ? 0 : -1;
	text = docrep_couch_text(&entry->rev, &problem, &raw, &rawlen);
	if (problem != NULL ||
		docrep_rev_parse(text, strlen(text), palloc(strlen(text) + 1), &rev) != NULL)
		return -1;
	return find_rev(want, &rev);
}

/* A string of an error for people, or "". */
static char *
shown(const CouchJson *string)
{
	const char *problem;
	char	   *raw;
	int			rawlen;

	if (string->kind != CJ_STRING)
		return "";
	return docrep_couch_text(string, &problem, &raw, &rawlen);
}

void
docrep_couch_want_error(CouchWant *want, const CouchEntry *entry, DocrepDocs *out)
{
	int			rev = entry_rev(want, entry);
	char	   *error = shown(&entry->error);
	int			sqlstate = ERRCODE_DOCREP_INTERNAL;

	if (strcmp(error, "forbidden") == 0)
		sqlstate = ERRCODE_DOCREP_FORBIDDEN;
	else if (strcmp(error, "unauthorized") == 0)
		sqlstate = ERRCODE_DOCREP_UNAUTHORIZED;
	/* what is no refusal may pass */
	if (rev < 0 || want->got[rev] ||
		(sqlstate == ERRCODE_DOCREP_INTERNAL && !want->repeated))
	{
		want->doubtful = true;
		return;
	}
	want->got[rev] = true;
	(void) docrep_couch_add_unreadable(out, "", 0, want->change->id, want->revs[rev], sqlstate,
									   psprintf("the source does not give it: %s %s", error,
												shown(&entry->reason)));
}

void
docrep_couch_want_refuse(CouchWant *want, int sqlstate, const char *reason, DocrepDocs *out)
{
	for (int i = 0; i < want->n; i++)
	{
		if (want->got[i])
			continue;
		want->got[i] = true;
		(void) docrep_couch_add_unreadable(out, "", 0, want->change->id, want->revs[i],
										   sqlstate, reason);
	}
}
