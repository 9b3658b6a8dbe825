/*-------------------------------------------------------------------------
 *
 * transfer.c
 *		What happens to a batch once its changes are known (transfer_changes.c): what
 *		the target misses of them, fetching it, writing it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "portability/instr_time.h"
#include "replicator/transfer.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"

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
	portion = docrep_transfer_new_portion(batch);
	for (int i = 0; i < changes->n; i++)
	{
		DocrepChange *change = &changes->rows[i];
		int			missing = count_missing(change);

		if (missing == 0)
			continue;
		batch->missing += missing;
		if (change->docs)
		{
			docrep_transfer_take_docs(portion, change);
			along += missing;
		}
		else
			*docrep_changes_add(&batch->to_fetch) = *change;
	}
	run->stats.missing_revisions_found += batch->missing;
	run->stats.docs_read += along;
	/* bodies that are not needed stay until the batch is done, but no longer count */
	batch->bytes = 0;
	docrep_transfer_offer_portion(batch, portion, batch->to_fetch.n == 0);

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
			docs->bytes -= Min(docs->bytes, docrep_transfer_doc_bytes(&docs->docs[i]));
		else
			docs->docs[kept++] = docs->docs[i];
	}
	docs->n = kept;
}

/* A part of the bodies has come. */
void
docrep_transfer_recv_fetch(Run *run, Batch *batch)
{
	Portion    *portion = docrep_transfer_new_portion(batch);
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
	docrep_transfer_offer_portion(batch, portion, !more);
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

	if (docrep_transfer_withholds_designs(run))
		docrep_transfer_withhold_designs(portion);
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
