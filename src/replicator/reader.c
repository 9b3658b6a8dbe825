/*-------------------------------------------------------------------------
 *
 * reader.c
 *		Reading a peer's documents from end to end, as a stream of batches.
 *
 * A batch is one answer of the changes feed with all leaves.  Bodies come
 * along where that is cheap for the peer, and are fetched where they did not.
 * The next batch is asked for after the fetch was sent, so that the peer works
 * at it while this one is looked at.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "replicator/reader.h"
#include "utils/memutils.h"

/* Bodies that one changes request may bring, and that are fetched at a time. */
#define CHANGES_BYTES	(8 * 1024 * 1024)
#define PORTION_BYTES	(4 * 1024 * 1024)

void
docrep_reader_begin(Reader *reader, DocrepPeer *peer, MemoryContext cxt,
					int max_rows, bool with_docs, bool ahead)
{
	MemoryContext old;

	memset(reader, 0, sizeof(*reader));
	reader->peer = peer;
	reader->cxt = AllocSetContextCreate(cxt, "docrep reader", ALLOCSET_DEFAULT_SIZES);
	reader->max_rows = max_rows;
	reader->with_docs = with_docs;
	reader->ahead = ahead;
	reader->pending = -1;
	old = MemoryContextSwitchTo(reader->cxt);
	initStringInfo(&reader->since);
	appendStringInfoString(&reader->since, "0");
	MemoryContextSwitchTo(old);
}

void
docrep_reader_ask(Reader *reader)
{
	MemoryContext old;
	MemoryContext cxt;
	ReaderBatch *batch;

	if (reader->asked || reader->at_end)
		return;
	cxt = AllocSetContextCreate(reader->cxt, "docrep reader batch", ALLOCSET_DEFAULT_SIZES);
	batch = MemoryContextAllocZero(cxt, sizeof(ReaderBatch));
	batch->cxt = cxt;
	batch->request.since = MemoryContextStrdup(cxt, reader->since.data);
	batch->request.max_rows = reader->max_rows;
	batch->request.max_bytes = CHANGES_BYTES;
	batch->request.with_docs = reader->with_docs;
	batch->request.doc_ids = reader->doc_ids;
	batch->request.ndoc_ids = reader->ndoc_ids;
	docrep_changes_init(&batch->changes, cxt);
	docrep_changes_init(&batch->to_fetch, cxt);
	reader->asked = batch;

	old = MemoryContextSwitchTo(cxt);
	reader->peer->ops->send_changes(reader->peer, &batch->request);
	MemoryContextSwitchTo(old);
}

/* Ask for the bodies that did not come along. */
static void
fetch_rest(Reader *reader, ReaderBatch *batch)
{
	for (int i = 0; i < batch->changes.n; i++)
	{
		if (batch->changes.rows[i].docs == NULL && batch->changes.rows[i].nrevs > 0)
		{
			DocrepChange *change = docrep_changes_add(&batch->to_fetch);

			*change = batch->changes.rows[i];
			change->missing = NULL;
		}
	}
	if (batch->to_fetch.n == 0)
		return;
	MemoryContextSwitchTo(batch->cxt);
	reader->peer->ops->send_fetch(reader->peer, &batch->to_fetch, true);
	batch->fetching = true;
}

static void
free_batch(ReaderBatch **batch)
{
	if (*batch)
		MemoryContextDelete((*batch)->cxt);
	*batch = NULL;
}

bool
docrep_reader_next(Reader *reader)
{
	MemoryContext old = CurrentMemoryContext;
	ReaderBatch *batch;

	free_batch(&reader->batch);
	docrep_reader_ask(reader);
	if (reader->asked == NULL)
		return false;
	batch = reader->batch = reader->asked;
	reader->asked = NULL;

	MemoryContextSwitchTo(batch->cxt);
	reader->peer->ops->recv_changes(reader->peer, &batch->changes);
	resetStringInfo(&reader->since);
	appendStringInfoString(&reader->since, batch->changes.last_seq);
	reader->pending = batch->changes.pending;
	reader->at_end = batch->changes.at_end;
	if (reader->with_docs)
		fetch_rest(reader, batch);
	MemoryContextSwitchTo(old);
	if (reader->ahead)
		docrep_reader_ask(reader);
	return true;
}

/*
 * Take the answer to the fetch.  The batch asked for after it was sent is
 * answered after it.
 */
static void
receive_fetched(Reader *reader, ReaderTakesDoc take, void *arg)
{
	ReaderBatch *batch = reader->batch;
	MemoryContext cxt = AllocSetContextCreate(batch->cxt, "docrep reader portion",
											  ALLOCSET_DEFAULT_SIZES);
	bool		more;

	do
	{
		DocrepDocs	docs;

		docrep_docs_init(&docs, cxt);
		MemoryContextSwitchTo(cxt);
		more = reader->peer->ops->recv_fetch(reader->peer, PORTION_BYTES, &docs);
		for (int i = 0; i < docs.n; i++)
			take(arg, &docs.docs[i]);
		MemoryContextReset(cxt);
	}
	while (more);
	MemoryContextDelete(cxt);
	batch->fetching = false;
}

void
docrep_reader_docs(Reader *reader, ReaderTakesDoc take, void *arg)
{
	ReaderBatch *batch = reader->batch;
	MemoryContext old = CurrentMemoryContext;

	if (batch == NULL)
		return;
	MemoryContextSwitchTo(batch->cxt);
	for (int i = 0; i < batch->changes.n; i++)
	{
		DocrepChange *change = &batch->changes.rows[i];

		for (int j = 0; change->docs && j < change->nrevs; j++)
			take(arg, &change->docs[j]);
	}
	if (batch->fetching)
		receive_fetched(reader, take, arg);
	MemoryContextSwitchTo(old);
}

void
docrep_reader_end(Reader *reader)
{
	reader->batch = reader->asked = NULL;
	MemoryContextDelete(reader->cxt);
}
