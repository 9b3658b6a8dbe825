/*-------------------------------------------------------------------------
 *
 * requests.h
 *		The requests of a peer that wait for their answers, in order.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DOCREP_PEER_REQUESTS_H
#define DOCREP_PEER_REQUESTS_H

#include "lib/ilist.h"
#include "peer/peer.h"

typedef enum DocrepRequestKind
{
	REQUEST_CHANGES,
	REQUEST_FETCH,
	REQUEST_WAIT,
	REQUEST_DIFF,
	REQUEST_WRITE,
	REQUEST_OTHER				/* of operations that do not return before their answer */
} DocrepRequestKind;

/* A request.  What it points to belongs to the caller. */
typedef struct DocrepRequest
{
	dlist_node	link;
	DocrepRequestKind kind;
	const DocrepChangesRequest *changes_request;
	TimestampTz sent;			/* changes of a certain age: when they were asked for; else 0 */
	const DocrepChanges *changes;	/* fetch, diff */
	bool		latest;
	int			row;			/* how far a fetch has come */
	int			rev;
	bool		begun;			/* its answer has begun to arrive */
	char	   *since;			/* wait */
	TimestampTz deadline;
	const DocrepDocs *docs;		/* write */
	const DocrepWriteOrigin *origin;
	const char *local_id;
	const char *local_doc;
} DocrepRequest;

/* Append a request of a kind to the queue, allocated in cxt. */
static inline DocrepRequest *
docrep_request_push(dlist_head *queue, MemoryContext cxt, DocrepRequestKind kind)
{
	DocrepRequest *request = MemoryContextAllocZero(cxt, sizeof(DocrepRequest));

	request->kind = kind;
	dlist_push_tail(queue, &request->link);
	return request;
}

/* The oldest request, which must be of this kind. */
static inline DocrepRequest *
docrep_request_head(dlist_head *queue, DocrepRequestKind kind)
{
	DocrepRequest *request = NULL;

	if (!dlist_is_empty(queue))
		request = dlist_head_element(DocrepRequest, link, queue);
	if (request == NULL || request->kind != kind)
		elog(ERROR, "answers of a peer are taken in another order than they were asked for");
	return request;
}

static inline void
docrep_request_drop(DocrepRequest *request)
{
	dlist_delete(&request->link);
	if (request->since != NULL)
		pfree(request->since);
	pfree(request);
}

#endif							/* DOCREP_PEER_REQUESTS_H */
