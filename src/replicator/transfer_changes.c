/*-------------------------------------------------------------------------
 *
 * transfer_changes.c
 *		The first station of a batch: changes, with or without their bodies.
 *
 * How much is sent adapts to what recent batches needed.  Where nearly
 * everything is missing, bodies come with the changes and are written without
 * asking first, two requests in place of four.  Where little is missing only
 * revisions travel.  The figures do not depend on which way was taken: a
 * revision that was sent along but was there already is neither read nor written.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "replicator/transfer.h"
#include "store/errcodes.h"
#include "utils/memutils.h"

/*
 * Bodies are asked for along with the changes when more than this share of
 * recent revisions was missing, and no longer when less than the other was.
 */
#define WITH_DOCS_ABOVE		0.8
#define WITHOUT_DOCS_BELOW	0.5
/* From this share on the target is not asked what it misses. */
#define UNDIFFED_ABOVE		0.95
/* In so many batches at least, if they are small enough, comes what doc_ids names. */
#define BATCHES_BY_ID		8

/* Should the next batch bring its bodies? */
static bool
want_docs(const Run *run)
{
	bool		last_did = run->newest && run->newest->request.with_docs;

	return run->missing_ratio > (last_did ? WITHOUT_DOCS_BELOW : WITH_DOCS_ABOVE);
}

void
docrep_transfer_fill_request(const Run *run, DocrepChangesRequest *request)
{
	const Replication *replication = run->replication;

	request->since = pstrdup(run->read_seq.data);
	request->max_rows = docrep_load_rows(run);
	request->max_bytes = docrep_load_bytes(run, CHANGES_BYTES);
	request->winners_only = replication->winning_revs_only;
	request->with_docs = want_docs(run);
	request->doc_ids = (const char *const *) replication->doc_ids;
	request->ndoc_ids = replication->ndoc_ids;
	/* every batch of a feed by ids begins with looking all of them up */
	if (replication->doc_ids)
		request->max_rows = Max(request->max_rows, replication->ndoc_ids / BATCHES_BY_ID);
	if (!docrep_filter_is_empty(&replication->filter))
		request->filter = &replication->filter;
	request->min_age = replication->delay;
}

/* A new batch, at the end of those that are alive. */
static Batch *
new_batch(Run *run)
{
	MemoryContext cxt = AllocSetContextCreate(run->cxt, "docrep batch", ALLOCSET_DEFAULT_SIZES);
	Batch	   *batch = MemoryContextAllocZero(cxt, sizeof(Batch));

	batch->cxt = cxt;
	batch->state = BATCH_READING;
	MemoryContextSwitchTo(cxt);
	docrep_transfer_fill_request(run, &batch->request);
	docrep_changes_init(&batch->changes, cxt);
	docrep_changes_init(&batch->to_fetch, cxt);
	MemoryContextSwitchTo(run->scratch);

	if (run->newest)
		run->newest->next = batch;
	else
		run->oldest = batch;
	run->newest = batch;
	run->nbatches++;
	return batch;
}

/* Ask the source for the next batch. */
void
docrep_transfer_request_changes(Run *run)
{
	Batch	   *batch = new_batch(run);

	CALL_IN(batch->cxt, run->source->ops->send_changes(run->source, &batch->request));
	docrep_pipeline_push(&run->at_source, REQUEST_CHANGES, batch, NULL);
}

Portion *
docrep_transfer_new_portion(Batch *batch)
{
	MemoryContext cxt = AllocSetContextCreate(batch->cxt, "docrep portion",
											  ALLOCSET_DEFAULT_SIZES);
	Portion    *portion = MemoryContextAllocZero(cxt, sizeof(Portion));

	portion->cxt = cxt;
	docrep_docs_init(&portion->docs, cxt);
	return portion;
}

void
docrep_transfer_offer_portion(Batch *batch, Portion *portion, bool last)
{
	Assert(batch->ready == NULL);
	if (portion->docs.n == 0)
	{
		MemoryContextDelete(portion->cxt);
		batch->all_sent = last;
		return;
	}
	portion->last = last;
	batch->bytes += portion->docs.bytes;
	batch->ready = portion;
}

Size
docrep_transfer_doc_bytes(const DocrepDoc *doc)
{
	Size		bytes = doc->body ? VARSIZE(doc->body) : doc->jsonlen;

	for (int i = 0; i < doc->atts.n; i++)
		bytes += doc->atts.atts[i].datalen;
	return bytes;
}

void
docrep_transfer_take_docs(Portion *portion, const DocrepChange *change)
{
	for (int i = 0; i < change->nrevs; i++)
	{
		const DocrepDoc *doc = &change->docs[i];

		if (change->missing && !change->missing[i])
			continue;
		*docrep_docs_add(&portion->docs) = *doc;
		portion->docs.bytes += docrep_transfer_doc_bytes(doc);
	}
}

/* Did every change bring its documents? */
static bool
all_have_docs(const DocrepChanges *changes)
{
	for (int i = 0; i < changes->n; i++)
	{
		if (changes->rows[i].docs == NULL)
			return false;
	}
	return true;
}

/* Is it a design document (or its deletion)? */
static bool
is_design(const char *id)
{
	return id != NULL && strncmp(id, "_design/", 8) == 0;
}

/* Is any of them one? */
static bool
has_design(const DocrepChanges *changes)
{
	for (int i = 0; i < changes->n; i++)
	{
		if (is_design(changes->rows[i].id))
			return true;
	}
	return false;
}

bool
docrep_transfer_withholds_designs(const Run *run)
{
	return !run->replication->user_is_admin && strcmp(run->target->ops->kind, "local") == 0;
}

void
docrep_transfer_withhold_designs(Portion *portion)
{
	for (int i = 0; i < portion->docs.n; i++)
	{
		DocrepDoc  *doc = &portion->docs.docs[i];

		if (!is_design(doc->id) || doc->unreadable)
			continue;
		doc->withheld = true;
		doc->sqlstate = ERRCODE_DOCREP_FORBIDDEN;
		doc->reason = MemoryContextStrdup(portion->cxt,
										  "design documents are written only by replications with the role _admin in user_ctx");
	}
}

void
docrep_transfer_note_changes(Run *run, const char *since, DocrepChanges *changes)
{
	if (changes->last_seq == NULL)
		changes->last_seq = MemoryContextStrdup(changes->cxt, changes->n > 0 ?
												changes->rows[changes->n - 1].seq : since);
	/* a feed that gives nothing and does not move has ended, whatever it says */
	run->at_end = changes->at_end || changes->young > 0 ||
		(changes->n == 0 && strcmp(changes->last_seq, since) == 0);
	strlcpy(run->stats.source_seq, changes->last_seq, sizeof(run->stats.source_seq));
	run->pending_after_read = changes->pending;
}

/* Ask the target which of a batch's changes it misses. */
static void
send_diff(Run *run, Batch *batch)
{
	batch->state = BATCH_DIFFING;
	CALL_IN(batch->cxt, run->target->ops->send_diff(run->target, &batch->changes));
	docrep_pipeline_push(&run->at_target, REQUEST_DIFF, batch, NULL);
}

/* Make a batch of what was marked as seen, and is old enough by now. */
void
docrep_transfer_take_mark(Run *run)
{
	Batch	   *batch = new_batch(run);

	batch->request.with_docs = false;
	docrep_delayed_take_mark(run, batch);
	for (int i = 0; i < batch->changes.n; i++)
		batch->checked += batch->changes.rows[i].nrevs;
	run->stats.revisions_checked += batch->checked;
	send_diff(run, batch);
}

/* Changes have come: ask the target what it misses, or do without. */
void
docrep_transfer_recv_changes(Run *run, Batch *batch)
{
	DocrepChanges *changes = &batch->changes;

	CALL_IN(batch->cxt, run->source->ops->recv_changes(run->source, changes));
	docrep_pipeline_pop(&run->at_source);
	docrep_load_note_read(run, batch, batch->request.with_docs);
	docrep_transfer_note_changes(run, batch->request.since, changes);
	docrep_seq_set(&run->read_seq, changes->last_seq);
	docrep_delayed_note_read(run, changes);
	batch->bytes = changes->bytes;

	for (int i = 0; i < changes->n; i++)
		batch->checked += changes->rows[i].nrevs;
	run->stats.revisions_checked += batch->checked;

	if (changes->n == 0)
	{
		batch->state = BATCH_MOVING;
		batch->all_sent = true;
	}
	else if (batch->request.with_docs && run->missing_ratio >= UNDIFFED_ABOVE &&
			 run->target->ops->tells_known && all_have_docs(changes) &&
			 !(docrep_transfer_withholds_designs(run) && has_design(changes)))
	{
		Portion    *portion = docrep_transfer_new_portion(batch);

		batch->state = BATCH_MOVING;
		batch->undiffed = true;
		for (int i = 0; i < changes->n; i++)
			docrep_transfer_take_docs(portion, &changes->rows[i]);
		batch->bytes = 0;		/* the portion holds the same bodies */
		docrep_transfer_offer_portion(batch, portion, true);
	}
	else
		send_diff(run, batch);
}
