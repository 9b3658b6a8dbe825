/*-------------------------------------------------------------------------
 *
 * couchdb_diff.c
 *		What a CouchDB target misses: _revs_diff.
 *
 * A batch is one call, unless its ids or its conflicts are many.  Rows are taken in the
 * order of their ids, so that an id that a feed gives twice is named
 * once, and that an answer finds its rows.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "peer/couchdb_target.h"
#include "utils/memutils.h"

/* A call is cut at about this much JSON. */
#define DIFF_BYTES			(256 * 1024)
/* Its answer repeats what was asked; possible ancestors come on top. */
#define DIFF_ANSWER_BYTES	(16 * 1024 * 1024)

static const char doing[] = "comparing revisions";

/* One _revs_diff: rows order[first], ..., n of them. */
typedef struct CouchDiffCall
{
	int			first;
	int			n;
	StringInfoData body;
	DocrepHttpCall *http;
} CouchDiffCall;

static int
compare_ids(const void *a, const void *b, void *arg)
{
	const DocrepChanges *changes = arg;
	const char *x = changes->rows[*(const int *) a].id;
	const char *y = changes->rows[*(const int *) b].id;
	int			order = strcmp(x, y);

	return order != 0 ? order : *(const int *) a - *(const int *) b;
}

/* Make the missing[] of every change, all of one value. */
static void
set_missing(DocrepChanges *changes, bool value)
{
	for (int i = 0; i < changes->n; i++)
	{
		DocrepChange *change = &changes->rows[i];

		change->missing = MemoryContextAlloc(changes->cxt, Max(change->nrevs, 1));
		memset(change->missing, value, change->nrevs);
	}
}

/* ---------- asking ---------- */

/* Append the revisions of one row; *n counts those of its id. */
static void
put_revs(StringInfo out, const DocrepChange *change, int *n)
{
	for (int i = 0; i < change->nrevs; i++)
	{
		char		text[REV_TEXT_SIZE];

		docrep_rev_print(&change->revs[i], text);
		if ((*n)++ > 0)
			appendStringInfoChar(out, ',');
		docrep_couch_put_string(out, text);
	}
}

/* Fill a call's body from row order[call->first] on, until it is long enough. */
static void
compose(CouchDiff *diff, CouchDiffCall *call)
{
	DocrepChanges *changes = diff->changes;
	int			i = call->first;

	initStringInfo(&call->body);
	appendStringInfoChar(&call->body, '{');
	while (i < changes->n && call->body.len < DIFF_BYTES)
	{
		const char *id = changes->rows[diff->order[i]].id;
		int			nrevs = 0;

		if (i > call->first)
			appendStringInfoChar(&call->body, ',');
		docrep_couch_put_string(&call->body, id);
		appendStringInfoString(&call->body, ":[");
		for (; i < changes->n && strcmp(changes->rows[diff->order[i]].id, id) == 0; i++)
			put_revs(&call->body, &changes->rows[diff->order[i]], &nrevs);
		appendStringInfoChar(&call->body, ']');
	}
	appendStringInfoChar(&call->body, '}');
	call->n = i - call->first;
}

/* Cut the diff into calls and start them. */
static void
start_calls(CouchPeer *peer, CouchDiff *diff)
{
	int			cap = 1;

	diff->calls = palloc(sizeof(CouchDiffCall));
	for (int i = 0; i < diff->changes->n;)
	{
		CouchDiffCall *call;

		if (diff->ncalls == cap)
			diff->calls = repalloc(diff->calls, sizeof(CouchDiffCall) * (cap *= 2));
		call = &diff->calls[diff->ncalls];
		call->first = i;
		compose(diff, call);
		call->http = docrep_http_call(peer->http, diff->cxt, "POST", "_revs_diff");
		call->http->body = call->body.data;
		call->http->bodylen = call->body.len;
		call->http->max_body = DIFF_ANSWER_BYTES;
		docrep_http_start(call->http);
		diff->ncalls++;
		i += call->n;
	}
}

void
docrep_couch_send_diff(DocrepPeer *base, DocrepChanges *changes)
{
	CouchPeer  *peer = (CouchPeer *) base;
	CouchTarget *target = docrep_couch_target(peer);
	MemoryContext cxt = AllocSetContextCreate(base->cxt, "docrep diff", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(cxt);
	CouchDiff  *diff = palloc0(sizeof(CouchDiff));

	diff->cxt = cxt;
	diff->changes = changes;
	dlist_push_tail(&target->diffs, &diff->link);
	if (!target->no_revs_diff && changes->n > 0)
	{
		diff->order = palloc(sizeof(int) * changes->n);
		for (int i = 0; i < changes->n; i++)
			diff->order[i] = i;
		qsort_arg(diff->order, changes->n, sizeof(int), compare_ids, changes);
		start_calls(peer, diff);
		docrep_http_pump(peer->http);
	}
	MemoryContextSwitchTo(old);
}

/* ---------- the answer ---------- */

/* The first of a call's rows with an id, as an index of order; -1: none. */
static int
find_rows(const CouchDiff *diff, const CouchDiffCall *call, const char *id)
{
	int			low = call->first;
	int			high = call->first + call->n;

	while (low < high)
	{
		int			mid = (low + high) / 2;

		if (strcmp(diff->changes->rows[diff->order[mid]].id, id) < 0)
			low = mid + 1;
		else
			high = mid;
	}
	if (low < call->first + call->n &&
		strcmp(diff->changes->rows[diff->order[low]].id, id) == 0)
		return low;
	return -1;
}

/* Mark a revision missing in all rows of an id. */
static void
mark_missing(CouchDiff *diff, const CouchDiffCall *call, int at, const Rev *rev)
{
	const char *id = diff->changes->rows[diff->order[at]].id;

	for (int i = at; i < call->first + call->n; i++)
	{
		DocrepChange *change = &diff->changes->rows[diff->order[i]];

		if (strcmp(change->id, id) != 0)
			break;
		for (int j = 0; j < change->nrevs; j++)
		{
			if (docrep_rev_eq(&change->revs[j], rev))
				change->missing[j] = true;
		}
	}
}

/* A string, decoded, as a C string in buf of at least len + 1 bytes; false: it has a NUL. */
static bool
decode(const CouchJson *string, char *buf, size_t *len)
{
	bool		nul = false;
	bool		broken = false;

	*len = docrep_cj_decode(string, buf, &nul, &broken);
	buf[*len] = '\0';
	return !nul;
}

/* One member of the answer: an id and what of it is missing. */
static void
read_member(CouchPeer *peer, CouchDiff *diff, CouchDiffCall *call,
			const CouchJson *key, const CouchJson *value)
{
	char	   *buf = palloc(Max(key->len, value->len) + 1);
	size_t		len;
	const char *id = buf;
	CouchJson	missing;
	CouchJsonWalk walk;
	int			at;

	if (value->kind != CJ_OBJECT)
		docrep_couch_malformed(peer, doing, "it has a member that is no object");
	missing = docrep_cj_get(value, "missing");
	if (missing.kind != CJ_ARRAY)
		docrep_couch_malformed(peer, doing, "it has a member without an array \"missing\"");
	if (!decode(key, buf, &len))
		return;
	if (GetDatabaseEncoding() != PG_UTF8)
		id = pg_any_to_server(buf, len, PG_UTF8);
	at = find_rows(diff, call, id);
	if (at < 0)
		return;
	docrep_cj_walk(&walk, &missing);
	while (docrep_cj_next(&walk))
	{
		uint8	   *bytes;
		Rev			rev;

		if (walk.value.kind != CJ_STRING)
			docrep_couch_malformed(peer, doing, "it names a revision that is no string");
		if (!decode(&walk.value, buf, &len))
			continue;
		bytes = palloc(len + 1);
		if (docrep_rev_parse(buf, len, bytes, &rev) == NULL)
			mark_missing(diff, call, at, &rev);
	}
}

/* Read one answer. */
static void
read_answer(CouchPeer *peer, CouchDiff *diff, CouchDiffCall *call)
{
	const StringInfoData *text = &call->http->answer;
	MemoryContext cxt = AllocSetContextCreate(diff->cxt, "docrep diff member",
											  ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(cxt);
	CouchJson	answer;
	CouchJsonWalk walk;

	if (!docrep_cj_value(text->data, text->len, &answer) || answer.kind != CJ_OBJECT)
		docrep_couch_malformed(peer, doing, "it is no JSON object");
	docrep_cj_walk(&walk, &answer);
	while (docrep_cj_next(&walk))
	{
		read_member(peer, diff, call, &walk.key, &walk.value);
		MemoryContextReset(cxt);
	}
	MemoryContextSwitchTo(old);
	MemoryContextDelete(cxt);
}

/* Finish the calls and read them.  False: the server has no _revs_diff. */
static bool
read_answers(CouchPeer *peer, CouchDiff *diff)
{
	for (int i = 0; i < diff->ncalls; i++)
	{
		DocrepHttpCall *call = diff->calls[i].http;

		docrep_http_finish(call);
		if (call->failed != 0)
			docrep_http_raise(call, doing);
		if (call->status == 404 || call->status == 405 || call->status == 501)
		{
			/* or is it the database that is gone? */
			docrep_couch_check_same(peer);
			return false;
		}
		if (call->status / 100 != 2)
			docrep_http_raise(call, doing);
		read_answer(peer, diff, &diff->calls[i]);
		docrep_http_drop(call);
		pfree(diff->calls[i].body.data);
	}
	return true;
}

void
docrep_couch_recv_diff(DocrepPeer *base, DocrepChanges *changes)
{
	CouchPeer  *peer = (CouchPeer *) base;
	CouchTarget *target = docrep_couch_target(peer);
	CouchDiff  *diff = NULL;
	MemoryContext old;

	if (!dlist_is_empty(&target->diffs))
		diff = dlist_head_element(CouchDiff, link, &target->diffs);
	if (diff == NULL || diff->changes != changes)
		elog(ERROR, "answers of a peer are taken in another order than they were asked for");

	old = MemoryContextSwitchTo(diff->cxt);
	/* without calls the server is known to have no _revs_diff */
	set_missing(changes, diff->ncalls == 0);
	if (diff->ncalls > 0 && !read_answers(peer, diff))
	{
		target->no_revs_diff = true;
		for (int i = 0; i < changes->n; i++)
			memset(changes->rows[i].missing, true, changes->rows[i].nrevs);
	}
	dlist_delete(&diff->link);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(diff->cxt);
}
