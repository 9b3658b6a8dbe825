/*-------------------------------------------------------------------------
 *
 * couchdb_write.c
 *		Writing to a CouchDB target: which calls, and when.
 *
 * A write is cut into calls, most of them _bulk_docs of about 512 kB.  They wait in one
 * queue for their turn; only then is their body composed, so that what is held as
 * text is bounded whatever the writes are.  A call that is refused as a whole
 * because of something in it (400, 413) is sent again in halves, down to the one
 * document that fails alone: with new_edits=false a repetition does no harm.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "peer/couchdb_target.h"
#include "store/errcodes.h"
#include "utils/memutils.h"

/* An answer of failures only is short. */
#define WRITTEN_BYTES	(8 * 1024 * 1024)

static const char doing[] = "writing documents";

/* ---------- calls ---------- */

/* A call for documents order[first], ..., n of them; it is in no list yet. */
static CouchCall *
new_call(CouchWrite *write, int first, int n, bool alone)
{
	MemoryContext cxt = AllocSetContextCreate(write->cxt, "docrep write call",
											  ALLOCSET_SMALL_SIZES);
	CouchCall  *call = MemoryContextAllocZero(cxt, sizeof(CouchCall));

	call->write = write;
	call->cxt = cxt;
	call->first = first;
	call->n = n;
	call->alone = alone;
	write->ncalls++;
	return call;
}

/* It is answered, or was never sent.  In no list any more. */
static void
drop_call(CouchCall *call)
{
	call->write->ncalls--;
	if (call->http != NULL)
		docrep_http_drop(call->http);
	MemoryContextDelete(call->cxt);
}

/* The body of a _bulk_docs; false: no document is left that can be sent. */
static bool
compose_bulk(CouchPeer *peer, CouchCall *call)
{
	DocrepDocs *docs = call->write->docs;
	int			n = 0;

	appendStringInfoString(&call->body, "{\"new_edits\":false,\"docs\":[");
	for (int i = 0; i < call->n; i++)
	{
		DocrepDoc  *doc = &docs->docs[call->write->order[call->first + i]];
		int			at = call->body.len;
		int			sqlstate;
		const char *problem;

		if (n > 0)
			appendStringInfoChar(&call->body, ',');
		problem = docrep_couch_put_doc(&call->body, doc, NULL, peer->pouchdb, &sqlstate);
		if (problem == NULL)
			n++;
		else
		{
			call->body.len = at;
			docrep_couch_doc_failed(docs, doc, sqlstate, problem);
		}
	}
	appendStringInfoString(&call->body, "]}");
	return n > 0;
}

/* The only document of a call. */
static DocrepDoc *
only_doc(const CouchCall *call)
{
	return &call->write->docs->docs[call->write->order[call->first]];
}

/* Compose the body.  False: nothing is left to be sent. */
static bool
compose(CouchPeer *peer, CouchCall *call, DocrepPeer *source)
{
	MemoryContext old = MemoryContextSwitchTo(call->cxt);
	bool		any;

	initStringInfo(&call->body);
	if (call->alone)
		any = docrep_couch_compose_put(peer, call->write->docs, only_doc(call), source,
									   &call->body, &call->content_type);
	else
		any = compose_bulk(peer, call);
	MemoryContextSwitchTo(old);
	return any;
}

/* Start a call that has its body. */
static void
start(CouchPeer *peer, CouchCall *call)
{
	CouchTarget *target = peer->target;
	MemoryContext old = MemoryContextSwitchTo(call->cxt);

	if (call->alone)
		call->http = docrep_http_call(peer->http, call->cxt, "PUT",
									  docrep_couch_put_path(only_doc(call)));
	else
		call->http = docrep_http_call(peer->http, call->cxt, "POST", "_bulk_docs");
	call->http->content_type = call->content_type;
	call->http->body = call->body.data;
	call->http->bodylen = call->body.len;
	call->http->max_body = WRITTEN_BYTES;
	dlist_push_tail(&target->running, &call->link);
	target->nrunning++;
	target->bytes += call->body.len;
	docrep_http_start(call->http);
	docrep_http_pump(peer->http);
	MemoryContextSwitchTo(old);
}

/* ---------- answers ---------- */

/* Put both halves of a call to the front of the queue. */
static void
send_in_halves(CouchPeer *peer, CouchCall *call)
{
	int			half = call->n / 2;
	CouchCall  *second = new_call(call->write, call->first + half, call->n - half, false);
	CouchCall  *first = new_call(call->write, call->first, half, false);

	for (int i = 0; i < call->n; i++)
		call->write->docs->docs[call->write->order[call->first + i]].sqlstate = 0;
	dlist_push_head(&peer->target->waiting, &second->link);
	dlist_push_head(&peer->target->waiting, &first->link);
}

/* May a _bulk_docs with this status have been refused for one of its documents? */
static bool
is_for_one_of_many(int status)
{
	return docrep_couch_refuses_doc(status) && status != 401 && status != 403 && status != 415;
}

/* Raise that the target refuses everything. */
static void
raise_refused(CouchCall *call)
{
	/* CouchDB: the whole batch was given up; not for good */
	if (call->http->failed == 0 && call->http->status == 417)
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_UNAVAILABLE),
				 errmsg("%s failed: the server gave the batch up", doing)));
	docrep_http_raise(call->http, doing);
}

/* Take in the answer of a call. */
static void
finish_call(CouchPeer *peer, CouchCall *call)
{
	CouchTarget *target = peer->target;
	DocrepDocs *docs = call->write->docs;
	const int  *order = call->write->order + call->first;
	DocrepHttpCall *http = call->http;
	MemoryContext old = MemoryContextSwitchTo(call->cxt);

	dlist_delete(&call->link);
	target->nrunning--;
	target->bytes -= call->body.len;

	if (http->failed != 0)
		docrep_http_raise(http, doing);
	else if (call->alone && http->status == 412 && !call->repeated)
	{
		/* "missing stub", and there was none: something that passes */
		call->repeated = true;
		docrep_http_drop(http);
		start(peer, call);
		MemoryContextSwitchTo(old);
		return;
	}
	else if (http->status / 100 == 2)
	{
		if (!docrep_couch_read_written(peer, docs, order, call->n, http))
			send_in_halves(peer, call);
	}
	else if (call->alone ? !docrep_couch_refuses_doc(http->status) :
			 !is_for_one_of_many(http->status))
		raise_refused(call);
	else if (call->n > 1)
		send_in_halves(peer, call);
	else
		docrep_couch_doc_refused(peer, docs, only_doc(call), http);
	MemoryContextSwitchTo(old);
	drop_call(call);
}

/* ---------- the queue ---------- */

/*
 * How many calls may be under way: CouchDB's replicator has as many processes as it
 * is told and one connection more.
 */
static int
max_calls(const DocrepPeerOptions *options)
{
	return options->worker_processes > 0 &&
		options->worker_processes < options->http_connections ?
		options->worker_processes + 1 : options->http_connections;
}

/* Is there room for one more call, of about this size? */
static bool
has_room(const CouchPeer *peer, Size bytes)
{
	const CouchTarget *target = peer->target;

	return target->nrunning == 0 ||
		(target->nrunning < max_calls(&peer->base.options) &&
		 target->bytes + bytes <= COUCH_BODIES_BYTES);
}

/* Take in the answers that are there; false: there were none. */
static bool
take_answers(CouchPeer *peer)
{
	dlist_mutable_iter iter;
	bool		any = false;

	dlist_foreach_modify(iter, &peer->target->running)
	{
		CouchCall  *call = dlist_container(CouchCall, link, iter.cur);

		if (call->http->done)
		{
			finish_call(peer, call);
			any = true;
		}
	}
	return any;
}

/* Start what there is room for. */
static void
start_waiting(CouchPeer *peer)
{
	CouchTarget *target = peer->target;

	while (!dlist_is_empty(&target->waiting) && has_room(peer, COUCH_BULK_BYTES))
	{
		CouchCall  *call = dlist_container(CouchCall, link,
										   dlist_pop_head_node(&target->waiting));

		if (compose(peer, call, NULL))
			start(peer, call);
		else
			drop_call(call);
	}
}

/*
 * Others may be answered while a call is started.  No answer may be left behind:
 * whoever goes on to wait would not be woken up for it again.
 */
void
docrep_couch_advance(CouchPeer *peer)
{
	do
		start_waiting(peer);
	while (take_answers(peer));
}

/* Go on until there is room for a call that cannot wait in the queue. */
static void
await_room(CouchPeer *peer, Size bytes)
{
	for (;;)
	{
		docrep_couch_advance(peer);
		if (has_room(peer, bytes))
			return;
		(void) docrep_http_step(peer->http, 0);
	}
}

/* ---------- sending ---------- */

/* Queue the call for order[first], ..., n of them. */
static void
queue_call(CouchPeer *peer, CouchWrite *write, int first, int n, bool alone)
{
	CouchCall  *call = new_call(write, first, n, alone);

	dlist_push_tail(&peer->target->waiting, &call->link);
}

/*
 * Cut the first n documents of order into _bulk_docs.  Revisions of one document
 * are neighbours and stay together, unless they are very long.
 */
static void
queue_bulks(CouchPeer *peer, CouchWrite *write, int n)
{
	const DocrepDoc *docs = write->docs->docs;
	const int  *order = write->order;
	int			first = 0;
	Size		size = 0;

	for (int i = 0; i < n; i++)
	{
		Size		more = docrep_couch_doc_size(&docs[order[i]]);
		bool		same = i > first && strcmp(docs[order[i]].id, docs[order[i - 1]].id) == 0;

		if (i > first && size + more > (same ? COUCH_BULK_BYTES_MAX : COUCH_BULK_BYTES))
		{
			queue_call(peer, write, first, i - first, false);
			first = i;
			size = 0;
		}
		size += more;
	}
	if (n > first)
		queue_call(peer, write, first, n - first, false);
}

/* Read a document's contents, and start its call. */
static void
send_read(CouchPeer *peer, CouchWrite *write, int at, DocrepPeer *source)
{
	CouchCall  *call;

	await_room(peer, COUCH_HELD_CONTENTS);
	call = new_call(write, at, 1, true);
	if (compose(peer, call, source))
		start(peer, call);
	else
		drop_call(call);
}

/*
 * The documents in groups: those for _bulk_docs first, then those of each other
 * route.  count gets the number of each.
 */
static void
sort_by_route(CouchPeer *peer, CouchWrite *write, int *count)
{
	DocrepDocs *docs = write->docs;
	CouchRoute *routes = palloc(sizeof(CouchRoute) * Max(docs->n, 1));
	int			n = 0;

	for (int i = 0; i < docs->n; i++)
	{
		DocrepDoc  *doc = &docs->docs[i];

		doc->known = false;
		routes[i] = doc->unreadable ? COUCHROUTE_NONE : docrep_couch_route(peer, docs, doc);
	}
	for (CouchRoute route = COUCHROUTE_BULK; route <= COUCHROUTE_STREAM; route++)
	{
		count[route] = 0;
		for (int i = 0; i < docs->n; i++)
		{
			if (routes[i] == route)
			{
				write->order[n++] = i;
				count[route]++;
			}
		}
	}
	pfree(routes);
}

void
docrep_couch_send_write(DocrepPeer *base, DocrepDocs *docs, DocrepPeer *source,
						const DocrepWriteOrigin *origin, const char *local_id,
						const char *local_doc)
{
	CouchPeer  *peer = (CouchPeer *) base;
	CouchTarget *target = docrep_couch_target(peer);
	MemoryContext cxt = AllocSetContextCreate(base->cxt, "docrep write", ALLOCSET_SMALL_SIZES);
	MemoryContext old = MemoryContextSwitchTo(cxt);
	CouchWrite *write = palloc0(sizeof(CouchWrite));
	int			count[COUCHROUTE_STREAM + 1];
	int			at;

	Assert(local_id == NULL);
	write->cxt = cxt;
	write->docs = docs;
	write->order = palloc(sizeof(int) * Max(docs->n, 1));
	dlist_push_tail(&target->writes, &write->link);

	sort_by_route(peer, write, count);
	queue_bulks(peer, write, count[COUCHROUTE_BULK]);
	at = count[COUCHROUTE_BULK];
	for (int i = 0; i < count[COUCHROUTE_ALONE]; i++)
		queue_call(peer, write, at++, 1, true);
	docrep_couch_advance(peer);
	for (int i = 0; i < count[COUCHROUTE_READ]; i++)
		send_read(peer, write, at++, source);
	for (int i = 0; i < count[COUCHROUTE_STREAM]; i++)
		docrep_couch_stream(peer, docs, &docs->docs[write->order[at++]], source);
	MemoryContextSwitchTo(old);
}

void
docrep_couch_recv_write(DocrepPeer *base, DocrepDocs *docs)
{
	CouchPeer  *peer = (CouchPeer *) base;
	CouchTarget *target = docrep_couch_target(peer);
	CouchWrite *write = NULL;

	if (!dlist_is_empty(&target->writes))
		write = dlist_head_element(CouchWrite, link, &target->writes);
	if (write == NULL || write->docs != docs)
		elog(ERROR, "answers of a peer are taken in another order than they were asked for");
	for (;;)
	{
		docrep_couch_advance(peer);
		if (write->ncalls == 0)
			break;
		(void) docrep_http_step(peer->http, 0);
	}
	dlist_delete(&write->link);
	MemoryContextDelete(write->cxt);
}
