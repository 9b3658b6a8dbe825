/*-------------------------------------------------------------------------
 *
 * couchdb_fetch.c
 *		Fetching revisions from a CouchDB: _bulk_get, or open_revs a document.
 *
 * A fetch is cut into calls of up to BULK_ROWS documents, which are all under
 * way at once (the client lets http_connections of them run).  Their answers
 * are taken, in any order, only while recv_fetch is called: what is not wanted
 * yet rests in the client's buffers, so memory does not grow with the batch.
 *
 * A document of which not every revision came from _bulk_get is asked for once
 * more by itself before it counts as gone: a checkpoint would pass over it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "peer/couchdb_source.h"
#include "peer/couchdb_target.h"
#include "store/errcodes.h"
#include "utils/memutils.h"

/* Documents of one _bulk_get. */
#define BULK_ROWS			100
/* A URL that is longer than this is not sent: its revisions are split. */
#define MAX_URL				7000
/* A document whose JSON is longer than this is not read: jsonb could not hold it. */
#define DOCUMENT_BYTES		(256 * 1024 * 1024)

/* One row of a call, or some of its revisions. */
typedef struct Want
{
	int			row;
	int			first;			/* among the row's missing revisions */
	int			n;
	int			got;			/* documents that came of it */
} Want;

/* One call of a fetch. */
typedef struct FetchCall
{
	dlist_node	link;
	MemoryContext cxt;
	struct CouchFetch *fetch;
	DocrepHttpCall *call;
	CouchSplit *split;
	bool		bulk;
	Want	   *wants;
	int			nwants;
	int			cursor;			/* of the last answer's want */
	int			seen;			/* elements of the answer so far */
	int			taken;			/* elements that were handed out, also by earlier attempts */
	bool		ended;
	const char *bad;
	bool		too_large;
} FetchCall;

/* A small content on its way into a document that is handed out with it. */
typedef struct SmallAtt
{
	dlist_node	link;
	DocrepHttpCall *call;
	int			doc;			/* its index in the batch */
	int			att;
} SmallAtt;

/* One send_fetch. */
typedef struct CouchFetch
{
	dlist_node	link;
	MemoryContext cxt;
	CouchPeer  *peer;
	const DocrepChanges *changes;
	bool		latest;
	dlist_head	calls;
	dlist_head	atts;
	DocrepDocs *out;			/* being filled, or NULL */
	Size		max_bytes;
} CouchFetch;

/* A peer's fetches, oldest first. */
typedef struct CouchFetcher
{
	dlist_head	fetches;
	bool		no_bulk_get;
} CouchFetcher;

static CouchFetcher *
get_fetcher(CouchPeer *peer)
{
	if (peer->fetcher == NULL)
	{
		peer->fetcher = MemoryContextAllocZero(peer->base.cxt, sizeof(CouchFetcher));
		dlist_init(&peer->fetcher->fetches);
		peer->fetcher->no_bulk_get = !peer->base.options.use_bulk_get;
	}
	return peer->fetcher;
}

/* ---------- what is wanted ---------- */

static bool
is_wanted(const DocrepChange *change, int rev)
{
	return change->missing == NULL || change->missing[rev];
}

static int
count_wanted(const DocrepChange *change)
{
	int			n = 0;

	for (int i = 0; i < change->nrevs; i++)
		n += is_wanted(change, i) ? 1 : 0;
	return n;
}

/* The k-th wanted revision of a row. */
static const Rev *
wanted_rev(const DocrepChange *change, int k)
{
	for (int i = 0; i < change->nrevs; i++)
		if (is_wanted(change, i) && k-- == 0)
			return &change->revs[i];
	return NULL;
}

/* ---------- small contents ---------- */

/* Does the content come along with its document? */
static bool
comes_along(const DocAtt *att, Size total)
{
	return att->encoded_length <= DOCREP_ATT_INLINE &&
		total + att->encoded_length <= DOCREP_ATT_INLINE_DOC;
}

/* Ask for the contents of a document's small attachments. */
static void
fetch_small_atts(CouchFetch *fetch, int index)
{
	DocrepDoc  *doc = &fetch->out->docs[index];
	Size		total = 0;

	for (int i = 0; i < doc->atts.n; i++)
	{
		DocAtt	   *att = &doc->atts.atts[i];
		SmallAtt   *small;

		if (!comes_along(att, total))
			continue;
		total += att->encoded_length;
		fetch->out->bytes += att->encoded_length;
		if (att->encoded_length == 0)
		{
			att->data = "";
			continue;
		}
		small = MemoryContextAllocZero(fetch->cxt, sizeof(SmallAtt));
		small->doc = index;
		small->att = i;
		small->call = docrep_http_call(fetch->peer->http, fetch->cxt, "GET",
									   docrep_couch_att_path(doc, att));
		small->call->accept = "*/*";
		small->call->raw = true;
		small->call->accept_gzip_raw = att->encoding != NULL;
		small->call->max_body = DOCREP_ATT_INLINE * 4;
		docrep_http_start(small->call);
		dlist_push_tail(&fetch->atts, &small->link);
	}
}

/* A content has come: put it into its document. */
static void
take_small_att(CouchFetch *fetch, SmallAtt *small)
{
	DocrepDoc  *doc = &fetch->out->docs[small->doc];
	DocAtt	   *att = &doc->atts.atts[small->att];
	DocrepHttpCall *call = small->call;

	if (call->failed != 0 || call->status / 100 != 2)
		docrep_http_raise(call, "reading an attachment");
	if (att->encoding != NULL && call->encoding[0] == '\0')
	{
		/* the server has decoded it: the digest it gave is of something else */
		att->encoding = NULL;
		att->digest = NULL;
		att->encoded_length = att->length;
	}
	if (call->answer.len != att->encoded_length)
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_UNAVAILABLE),
				 errmsg("reading an attachment failed at %s", fetch->peer->base.display),
				 errdetail("Attachment \"%s\" of document \"%s\" has %d bytes and not " INT64_FORMAT ".",
						   att->name, doc->id, call->answer.len, att->encoded_length)));
	att->data = MemoryContextAlloc(fetch->out->cxt, call->answer.len + 1);
	att->datalen = call->answer.len;
	memcpy(unconstify(char *, att->data), call->answer.data, call->answer.len);
	dlist_delete(&small->link);
	docrep_http_drop(call);
	pfree(small);
}

/* Take the contents that have come. */
static void
take_small_atts(CouchFetch *fetch)
{
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, &fetch->atts)
	{
		SmallAtt   *small = dlist_container(SmallAtt, link, iter.cur);

		if (small->call->done)
			take_small_att(fetch, small);
	}
}

/* ---------- answers ---------- */

/* Hand out a document. */
static void
take_doc(FetchCall *fc, Want *want, const CouchJson *value)
{
	CouchFetch *fetch = fc->fetch;
	const DocrepChange *change = &fetch->changes->rows[want->row];
	DocrepDoc  *doc = docrep_couch_add_doc(fetch->out, value->text, value->len, change->id,
										   wanted_rev(change, want->first));

	want->got++;
	if (doc->atts.n > 0)
		fetch_small_atts(fetch, fetch->out->n - 1);
}

/* The want that an answer of _bulk_get speaks of, or NULL. */
static Want *
find_want(FetchCall *fc, const CouchJson *id)
{
	for (int i = 0; i < fc->nwants; i++)
	{
		int			k = (fc->cursor + i) % fc->nwants;
		const DocrepChange *change = &fc->fetch->changes->rows[fc->wants[k].row];

		if (docrep_cj_equals(id, change->id))
		{
			fc->cursor = k;
			return &fc->wants[k];
		}
	}
	return NULL;
}

/* An element of _bulk_get's results: {"id", "docs": [{"ok"} | {"error"}]}. */
static void
take_bulk_element(FetchCall *fc, const CouchJson *element, bool again)
{
	CouchJson	id;
	CouchJson	docs;
	CouchJsonWalk walk;
	Want	   *want;

	if (element->kind != CJ_OBJECT)
	{
		fc->bad = "a result is no object";
		return;
	}
	id = docrep_cj_get(element, "id");
	docs = docrep_cj_get(element, "docs");
	want = id.kind == CJ_STRING ? find_want(fc, &id) : NULL;
	if (want == NULL || docs.kind != CJ_ARRAY)
		return;					/* what is missing then is asked for again */
	docrep_cj_walk(&walk, &docs);
	while (docrep_cj_next(&walk))
	{
		CouchJson	ok = walk.value.kind == CJ_OBJECT ? docrep_cj_get(&walk.value, "ok") :
			walk.value;

		if (ok.kind != CJ_OBJECT)
			continue;
		if (again)
			want->got++;
		else
			take_doc(fc, want, &ok);
	}
}

/* An element of open_revs: {"ok": document} or {"missing": revision}. */
static void
take_open_rev(FetchCall *fc, const CouchJson *element, bool again)
{
	CouchJson	ok;

	if (element->kind != CJ_OBJECT)
	{
		fc->bad = "a result is no object";
		return;
	}
	ok = docrep_cj_get(element, "ok");
	if (ok.kind == CJ_OBJECT && !again)
		take_doc(fc, &fc->wants[0], &ok);
}

static bool
has_room(const CouchFetch *fetch)
{
	return fetch->out != NULL && fetch->out->bytes < fetch->max_bytes;
}

/* Take documents as they come, while they are wanted. */
static Size
consume_docs(DocrepHttpCall *call, const char *data, Size len)
{
	FetchCall  *fc = call->arg;
	const char *p = data;
	size_t		left = len;

	while (has_room(fc->fetch) && !fc->bad && !fc->too_large && !fc->ended)
	{
		CouchJson	element;
		bool		again;

		switch (docrep_cj_split(fc->split, &p, &left, &element))
		{
			case COUCHSPLIT_MORE:
				return len - left;
			case COUCHSPLIT_ELEMENT:
				again = fc->seen++ < fc->taken;
				if (fc->bulk)
					take_bulk_element(fc, &element, again);
				else
					take_open_rev(fc, &element, again);
				fc->taken = Max(fc->taken, fc->seen);
				break;
			case COUCHSPLIT_END:
				fc->ended = true;
				break;
			case COUCHSPLIT_BAD:
				fc->bad = docrep_cj_split_problem(fc->split);
				break;
			case COUCHSPLIT_TOO_LARGE:
				fc->too_large = true;
				break;
		}
	}
	return fc->ended || fc->bad || fc->too_large ? len : len - left;
}

/* The attempt is repeated: documents that were handed out are passed over. */
static void
begin_again(DocrepHttpCall *call)
{
	FetchCall  *fc = call->arg;

	docrep_cj_split_reset(fc->split);
	fc->seen = 0;
	fc->ended = false;
	fc->bad = NULL;
	for (int i = 0; i < fc->nwants; i++)
		fc->wants[i].got = 0;
}

/* ---------- calls ---------- */

/* A call in a context of its own, not started. */
static FetchCall *
new_call(CouchFetch *fetch, bool bulk, int nwants)
{
	MemoryContext cxt = AllocSetContextCreate(fetch->cxt, "docrep fetch call",
											  ALLOCSET_DEFAULT_SIZES);
	FetchCall  *fc = MemoryContextAllocZero(cxt, sizeof(FetchCall));

	fc->cxt = cxt;
	fc->fetch = fetch;
	fc->bulk = bulk;
	fc->wants = MemoryContextAllocZero(cxt, nwants * sizeof(Want));
	dlist_push_tail(&fetch->calls, &fc->link);
	return fc;
}

static void
drop_call(FetchCall *fc)
{
	dlist_delete(&fc->link);
	MemoryContextDelete(fc->cxt);
}

static void
start(FetchCall *fc, const char *method, const char *path)
{
	MemoryContext caller = MemoryContextSwitchTo(fc->cxt);
	DocrepHttpCall *call = docrep_http_call(fc->fetch->peer->http, fc->cxt, method, path);

	fc->call = call;
	fc->split = docrep_cj_split_new(fc->bulk ? "results" : NULL, false, DOCUMENT_BYTES);
	call->consume = consume_docs;
	call->again = begin_again;
	call->arg = fc;
	MemoryContextSwitchTo(caller);
}

/* {"docs": [{"id", "rev"}]} */
static void
put_bulk_body(StringInfo out, const FetchCall *fc)
{
	bool		first = true;

	appendStringInfoString(out, "{\"docs\":[");
	for (int i = 0; i < fc->nwants; i++)
	{
		const DocrepChange *change = &fc->fetch->changes->rows[fc->wants[i].row];

		for (int k = 0; k < fc->wants[i].n; k++)
		{
			appendStringInfoString(out, first ? "{\"id\":" : ",{\"id\":");
			docrep_couch_put_string(out, change->id);
			appendStringInfoString(out, ",\"rev\":");
			docrep_couch_put_string(out, docrep_couch_rev_text(wanted_rev(change, k)));
			appendStringInfoChar(out, '}');
			first = false;
		}
	}
	appendStringInfoString(out, "]}");
}

static void
start_bulk(FetchCall *fc)
{
	MemoryContext caller = MemoryContextSwitchTo(fc->cxt);
	StringInfoData body;

	start(fc, "POST", fc->fetch->latest ?
		  "_bulk_get?revs=true&latest=true&attachments=false&att_encoding_info=true" :
		  "_bulk_get?revs=true&attachments=false&att_encoding_info=true");
	initStringInfo(&body);
	put_bulk_body(&body, fc);
	fc->call->body = body.data;
	fc->call->bodylen = body.len;
	docrep_http_start(fc->call);
	MemoryContextSwitchTo(caller);
}

/* The path of open_revs for n of a row's revisions. */
static char *
open_revs_path(const CouchFetch *fetch, const DocrepChange *change, int first, int n)
{
	StringInfoData revs;

	initStringInfo(&revs);
	appendStringInfoChar(&revs, '[');
	for (int k = 0; k < n; k++)
	{
		if (k > 0)
			appendStringInfoChar(&revs, ',');
		docrep_couch_put_string(&revs, docrep_couch_rev_text(wanted_rev(change, first + k)));
	}
	appendStringInfoChar(&revs, ']');
	return psprintf("%s?revs=true%s&att_encoding_info=true&open_revs=%s",
					docrep_http_doc_path(change->id), fetch->latest ? "&latest=true" : "",
					docrep_http_escape(revs.data));
}

/* Ask for a document by itself, in as many calls as its revisions need. */
static void
start_single(CouchFetch *fetch, int row)
{
	const DocrepChange *change = &fetch->changes->rows[row];
	int			total = count_wanted(change);
	int			first = 0;

	while (first < total)
	{
		FetchCall  *fc = new_call(fetch, false, 1);
		MemoryContext caller = MemoryContextSwitchTo(fc->cxt);
		int			n = total - first;
		char	   *path;

		while (strlen(path = open_revs_path(fetch, change, first, n)) > MAX_URL && n > 1)
			n = (n + 1) / 2;
		fc->wants[0] = (Want) {.row = row, .first = first, .n = n};
		fc->nwants = 1;
		start(fc, "GET", path);
		docrep_http_start(fc->call);
		MemoryContextSwitchTo(caller);
		first += n;
	}
}

/* Cut the fetch into calls and start them. */
static void
start_calls(CouchFetch *fetch)
{
	CouchFetcher *fetcher = get_fetcher(fetch->peer);
	FetchCall  *bulk = NULL;

	for (int row = 0; row < fetch->changes->n; row++)
	{
		int			n = count_wanted(&fetch->changes->rows[row]);

		if (n == 0)
			continue;
		if (fetcher->no_bulk_get)
		{
			start_single(fetch, row);
			continue;
		}
		if (bulk == NULL)
			bulk = new_call(fetch, true, BULK_ROWS);
		bulk->wants[bulk->nwants++] = (Want) {.row = row, .n = n};
		if (bulk->nwants == BULK_ROWS)
		{
			start_bulk(bulk);
			bulk = NULL;
		}
	}
	if (bulk != NULL)
		start_bulk(bulk);
}

/* ---------- the ends of calls ---------- */

/* Does this status say that the server cannot do _bulk_get? */
static bool
lacks_bulk_get(int status)
{
	return status == 400 || status == 404 || status == 405 || status == 415 ||
		status == 500 || status == 501;
}

/* A document whose JSON is too long for us: kept as refused, without its text. */
static void
refuse_too_large(FetchCall *fc)
{
	const DocrepChange *change = &fc->fetch->changes->rows[fc->wants[0].row];

	for (int k = 0; k < fc->wants[0].n; k++)
		(void) docrep_couch_add_unreadable(fc->fetch->out, "", 0, change->id,
										   wanted_rev(change, fc->wants[0].first + k),
										   ERRCODE_DOCREP_TOO_LARGE,
										   "the document is too large");
}

/* Ask for each document of a _bulk_get by itself; "all": also those that came. */
static void
ask_singly(FetchCall *fc, bool all)
{
	for (int i = 0; i < fc->nwants; i++)
		if (all || fc->wants[i].got < fc->wants[i].n)
			start_single(fc->fetch, fc->wants[i].row);
}

/* A call is done, or will bring nothing more. */
static void
end_call(FetchCall *fc)
{
	CouchFetch *fetch = fc->fetch;
	CouchPeer  *peer = fetch->peer;
	const char *doing = "fetching documents";
	DocrepHttpCall *call = fc->call;

	if (fc->too_large)
	{
		if (fc->bulk)
			ask_singly(fc, false);
		else
			refuse_too_large(fc);
	}
	else if (fc->bad != NULL)
		docrep_couch_malformed(peer, doing, fc->bad);
	else if (call->failed != 0)
		docrep_http_raise(call, doing);
	else if (call->status / 100 != 2)
	{
		if (fc->bulk && lacks_bulk_get(call->status))
		{
			get_fetcher(peer)->no_bulk_get = true;
			ask_singly(fc, true);
		}
		else if (call->status != 404 || fc->bulk)
			docrep_http_raise(call, doing);
	}
	else if (!fc->ended)
		docrep_couch_malformed(peer, doing, "it ends too early");
	else if (fc->bulk)
		ask_singly(fc, false);
	drop_call(fc);
}

/* End what is done; true: something was. */
static bool
end_calls(CouchFetch *fetch)
{
	dlist_mutable_iter iter;
	bool		some = false;

	dlist_foreach_modify(iter, &fetch->calls)
	{
		FetchCall  *fc = dlist_container(FetchCall, link, iter.cur);

		if (fc->call->done || fc->bad != NULL || fc->too_large)
		{
			end_call(fc);
			some = true;
		}
	}
	return some;
}

/* ---------- operations ---------- */

void
docrep_couch_send_fetch(DocrepPeer *base, const DocrepChanges *changes, bool latest)
{
	CouchPeer  *peer = (CouchPeer *) base;
	MemoryContext cxt = AllocSetContextCreate(base->cxt, "docrep fetch", ALLOCSET_DEFAULT_SIZES);
	CouchFetch *fetch = MemoryContextAllocZero(cxt, sizeof(CouchFetch));

	fetch->cxt = cxt;
	fetch->peer = peer;
	fetch->changes = changes;
	fetch->latest = latest;
	dlist_init(&fetch->calls);
	dlist_init(&fetch->atts);
	dlist_push_tail(&get_fetcher(peer)->fetches, &fetch->link);
	docrep_request_push(&peer->requests, base->cxt, REQUEST_FETCH)->changes = changes;
	start_calls(fetch);
}

bool
docrep_couch_recv_fetch(DocrepPeer *base, Size max_bytes, DocrepDocs *out)
{
	CouchPeer  *peer = (CouchPeer *) base;
	DocrepRequest *head = docrep_request_head(&peer->requests, REQUEST_FETCH);
	CouchFetch *fetch = dlist_head_element(CouchFetch, link, &get_fetcher(peer)->fetches);
	bool		more;

	fetch->out = out;
	fetch->max_bytes = max_bytes;
	for (;;)
	{
		take_small_atts(fetch);
		if (end_calls(fetch))
			continue;
		if (dlist_is_empty(&fetch->atts) && (dlist_is_empty(&fetch->calls) || !has_room(fetch)))
			break;
		(void) docrep_http_step(peer->http, 0);
	}
	fetch->out = NULL;
	more = !dlist_is_empty(&fetch->calls);
	if (!more)
	{
		dlist_delete(&fetch->link);
		MemoryContextDelete(fetch->cxt);
		docrep_request_drop(head);
	}
	return more;
}
