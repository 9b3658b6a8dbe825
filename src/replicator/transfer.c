/*-------------------------------------------------------------------------
 *
 * transfer.c
 *		What happens to a batch at each of its stations.
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

#include "common/hashfn.h"
#include "portability/instr_time.h"
#include "replicator/engine.h"
#include "store/errcodes.h"
#include "utils/hsearch.h"
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

/*
 * The peers' functions allocate in the batch and may leave any context behind
 * (a commit does), so every call is between these two.
 */
#define CALL_IN(context, call) \
	do { \
		MemoryContextSwitchTo(context); \
		call; \
		MemoryContextSwitchTo(run->scratch); \
	} while (0)

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

/* A new portion of the batch; it becomes the ready one when it is filled. */
static Portion *
new_portion(Batch *batch)
{
	MemoryContext cxt = AllocSetContextCreate(batch->cxt, "docrep portion",
											  ALLOCSET_DEFAULT_SIZES);
	Portion    *portion = MemoryContextAllocZero(cxt, sizeof(Portion));

	portion->cxt = cxt;
	docrep_docs_init(&portion->docs, cxt);
	return portion;
}

/*
 * Make a portion ready, or throw it away if it is empty.  The last one ends
 * the batch when there is nothing to write.
 */
static void
offer_portion(Batch *batch, Portion *portion, bool last)
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

/* What a document holds in memory, about. */
static Size
doc_bytes(const DocrepDoc *doc)
{
	Size		bytes = doc->body ? VARSIZE(doc->body) : doc->jsonlen;

	for (int i = 0; i < doc->atts.n; i++)
		bytes += doc->atts.atts[i].datalen;
	return bytes;
}

/* Put the change's documents that are missing (all, if not diffed) into the portion. */
static void
take_docs(Portion *portion, const DocrepChange *change)
{
	for (int i = 0; i < change->nrevs; i++)
	{
		const DocrepDoc *doc = &change->docs[i];

		if (change->missing && !change->missing[i])
			continue;
		*docrep_docs_add(&portion->docs) = *doc;
		portion->docs.bytes += doc_bytes(doc);
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

/* Are design documents left out, as CouchDB leaves them out without _admin? */
static bool
withholds_designs(const Run *run)
{
	return !run->replication->user_is_admin && strcmp(run->target->ops->kind, "local") == 0;
}

/*
 * Have the target keep the portion's design documents as rejected instead of
 * storing them.
 */
static void
withhold_designs(Portion *portion)
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
			 !(withholds_designs(run) && has_design(changes)))
	{
		Portion    *portion = new_portion(batch);

		batch->state = BATCH_MOVING;
		batch->undiffed = true;
		for (int i = 0; i < changes->n; i++)
			take_docs(portion, &changes->rows[i]);
		batch->bytes = 0;		/* the portion holds the same bodies */
		offer_portion(batch, portion, true);
	}
	else
		send_diff(run, batch);
}

/* Add a missing revision of one change to another of the same document. */
static void
add_missing(MemoryContext cxt, DocrepChange *to, const DocrepChange *from, int i)
{
	int			n = to->nrevs;
	DocrepChange old = *to;

	to->nrevs = n + 1;
	to->revs = MemoryContextAlloc(cxt, sizeof(Rev) * (n + 1));
	memcpy(to->revs, old.revs, sizeof(Rev) * n);
	to->revs[n] = from->revs[i];
	to->missing = MemoryContextAlloc(cxt, sizeof(bool) * (n + 1));
	memcpy(to->missing, old.missing, sizeof(bool) * n);
	to->missing[n] = true;
	if (old.docs == NULL)
		return;
	to->docs = MemoryContextAlloc(cxt, sizeof(DocrepDoc) * (n + 1));
	memcpy(to->docs, old.docs, sizeof(DocrepDoc) * n);
	to->docs[n] = from->docs[i];
}

/*
 * Let the first change of a document have what a later one misses, each revision once.
 * (One that came with bodies and one that did not stay apart.)
 */
static void
merge_missing(MemoryContext cxt, DocrepChange *first, DocrepChange *later)
{
	bool		alike = (first->docs == NULL) == (later->docs == NULL);

	for (int i = 0; i < later->nrevs; i++)
	{
		bool		twice = false;

		if (!later->missing[i])
			continue;
		for (int j = 0; j < first->nrevs && !twice; j++)
			twice = first->missing[j] && docrep_rev_eq(&later->revs[i], &first->revs[j]);
		if (!twice && alike)
			add_missing(cxt, first, later, i);
		if (twice || alike)
			later->missing[i] = false;
	}
}

/* Documents of a batch by the hash of their ids. */
typedef struct SameHash
{
	uint32		hash;
	int			last;			/* the latest row with it that is its document's first */
} SameHash;

/*
 * A feed may bring a document more than once, and its revisions were all missing when
 * the target was asked: one row of each document is fetched, written and counted.
 */
static void
merge_repeated(Batch *batch)
{
	DocrepChanges *changes = &batch->changes;
	HASHCTL		ctl = {.keysize = sizeof(uint32), .entrysize = sizeof(SameHash),
	.hcxt = batch->cxt};
	HTAB	   *hashes = hash_create("docrep documents of a batch", changes->n, &ctl,
									 HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	int		   *before = MemoryContextAlloc(batch->cxt, sizeof(int) * changes->n);

	for (int i = 0; i < changes->n; i++)
	{
		DocrepChange *change = &changes->rows[i];
		uint32		hash = hash_bytes((const unsigned char *) change->id, strlen(change->id));
		bool		found;
		SameHash   *same = hash_search(hashes, &hash, HASH_ENTER, &found);
		int			first = found ? same->last : -1;

		while (first >= 0 && strcmp(changes->rows[first].id, change->id) != 0)
			first = before[first];
		if (first >= 0)
		{
			merge_missing(batch->cxt, &changes->rows[first], change);
			continue;
		}
		before[i] = found ? same->last : -1;
		same->last = i;
	}
	hash_destroy(hashes);
	pfree(before);
}

/* Number of the change's revisions that are missing. */
static int
count_missing(const DocrepChange *change)
{
	int			n = 0;

	for (int i = 0; i < change->nrevs; i++)
		n += change->missing[i] ? 1 : 0;
	return n;
}

/*
 * The target has said what it misses.  What came along goes into a portion,
 * the rest is fetched.
 */
void
docrep_transfer_recv_diff(Run *run, Batch *batch)
{
	DocrepChanges *changes = &batch->changes;
	Portion    *portion;
	int64		along = 0;

	CALL_IN(batch->cxt, run->target->ops->recv_diff(run->target, changes));
	docrep_pipeline_pop(&run->at_target);
	docrep_load_note_diff(run, batch);

	merge_repeated(batch);
	batch->state = BATCH_MOVING;
	portion = new_portion(batch);
	for (int i = 0; i < changes->n; i++)
	{
		DocrepChange *change = &changes->rows[i];
		int			missing = count_missing(change);

		if (missing == 0)
			continue;
		batch->missing += missing;
		if (change->docs)
		{
			take_docs(portion, change);
			along += missing;
		}
		else
			*docrep_changes_add(&batch->to_fetch) = *change;
	}
	run->stats.missing_revisions_found += batch->missing;
	run->stats.docs_read += along;
	/* bodies that are not needed stay until the batch is done, but no longer count */
	batch->bytes = 0;
	offer_portion(batch, portion, batch->to_fetch.n == 0);

	if (batch->to_fetch.n > 0)
	{
		run->stats.bulk_get_attempts += batch->missing - along;
		/* what is newer by now may be too young */
		CALL_IN(batch->cxt, run->source->ops->send_fetch(run->source, &batch->to_fetch,
														 run->delayed == NULL));
		docrep_pipeline_push(&run->at_source, REQUEST_FETCH, batch, NULL);
	}
}

/*
 * A document may have been deleted, or its leaf be one that a feed told of without
 * saying that it is a deletion: those are not wanted.
 */
static void
drop_deletions(DocrepDocs *docs)
{
	int			kept = 0;

	for (int i = 0; i < docs->n; i++)
	{
		if (docs->docs[i].deleted)
			docs->bytes -= Min(docs->bytes, doc_bytes(&docs->docs[i]));
		else
			docs->docs[kept++] = docs->docs[i];
	}
	docs->n = kept;
}

/* A part of the bodies has come. */
void
docrep_transfer_recv_fetch(Run *run, Batch *batch)
{
	Portion    *portion = new_portion(batch);
	bool		more;

	CALL_IN(portion->cxt,
			more = run->source->ops->recv_fetch(run->source,
												docrep_load_bytes(run, PORTION_BYTES),
												&portion->docs));
	docrep_load_note_read(run, batch, true);
	if (!more)
		docrep_pipeline_pop(&run->at_source);
	run->stats.docs_read += portion->docs.n;
	run->stats.bulk_get_docs += portion->docs.n;
	if (run->replication->filter.prevent_deletions)
		drop_deletions(&portion->docs);
	offer_portion(batch, portion, !more);
}

/*
 * Write the batch's ready portion.  With the last one goes a checkpoint, where
 * the target commits both together.  It may claim only what is known to be
 * there: this batch, if every earlier write has been answered; else what was
 * finished before.  An earlier write that is still under way may yet fail, and
 * the peer would not undo this one for it.
 */
void
docrep_transfer_send_write(Run *run, Batch *batch)
{
	Portion    *portion = batch->ready;

	if (withholds_designs(run))
		withhold_designs(portion);
	if (portion->last && run->target->atomic_checkpoint && run->replication->use_checkpoints)
	{
		bool		alone = batch == run->oldest && batch->open_writes == 0;

		MemoryContextSwitchTo(portion->cxt);
		portion->checkpoint =
			docrep_session_travelling(run, alone ? batch->changes.last_seq :
									  run->through_seq.data);
	}
	docrep_lease_check(run);
	CALL_IN(portion->cxt,
			run->target->ops->send_write(run->target, &portion->docs, run->source, &run->origin,
										 portion->checkpoint ? run->replication->id : NULL,
										 portion->checkpoint));
	docrep_pipeline_push(&run->at_target, REQUEST_WRITE, batch, portion);
	batch->ready = NULL;
	run->unflushed = true;
	batch->open_writes++;
	batch->all_sent = portion->last;
}

/*
 * A document that the target has refused and does not keep: the server's log
 * is the only place to tell of it.  After some of them the run falls silent.
 */
static void
log_refused(Run *run, const DocrepDoc *doc)
{
	char		rev[REV_TEXT_SIZE];

	if (run->target->ops->keeps_refused || run->refused_logged > MAX_REFUSED_LOGGED)
		return;
	if (run->refused_logged++ == MAX_REFUSED_LOGGED)
	{
		ereport(LOG,
				(errmsg("%s has refused more documents, which are not listed",
						run->target->display)));
		return;
	}
	rev[0] = '\0';
	if (doc->path.n > 0)
		(void) docrep_rev_print(&doc->path.revs[0], rev);
	ereport(LOG,
			(errmsg("document \"%s\", revision %s, was not written to %s",
					doc->id ? doc->id : "", rev, run->target->display),
			 errdetail("%s: %s", unpack_sql_state(doc->sqlstate),
					   doc->reason ? doc->reason : "no reason was given")));
}

/* A write has been answered: count what became of each document. */
void
docrep_transfer_recv_write(Run *run, Batch *batch, Portion *portion)
{
	ReplicationStats *stats = &run->stats;
	instr_time	start;
	instr_time	waited;

	INSTR_TIME_SET_CURRENT(start);
	CALL_IN(portion->cxt, run->target->ops->recv_write(run->target, &portion->docs));
	INSTR_TIME_SET_CURRENT(waited);
	INSTR_TIME_SUBTRACT(waited, start);
	docrep_pipeline_pop(&run->at_target);
	docrep_load_note_write(run, batch, portion->docs.n, portion->docs.bytes,
						   INSTR_TIME_GET_MILLISEC(waited));

	for (int i = 0; i < portion->docs.n; i++)
	{
		const DocrepDoc *doc = &portion->docs.docs[i];

		if (batch->undiffed)
		{
			if (doc->known)
				continue;
			batch->missing++;
			stats->missing_revisions_found++;
			stats->docs_read++;
		}
		if (doc->sqlstate != 0)
		{
			stats->doc_write_failures++;
			log_refused(run, doc);
		}
		else
			stats->docs_written++;
	}
	docrep_versions_note(run, &portion->docs);
	batch->open_writes--;
	batch->bytes -= Min(batch->bytes, portion->docs.bytes);
	MemoryContextDelete(portion->cxt);
}
