/*-------------------------------------------------------------------------
 *
 * pipeline.c
 *		Choosing what a run does next, so that both peers are kept busy.
 *
 * A peer answers in the order in which it was asked and a wait for an answer
 * blocks, so all that can be chosen is what to send and which peer to listen
 * to.  See "The pipeline" in README.md for why this order never waits for
 * something that was not sent.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "replicator/engine.h"
#include "utils/memutils.h"

/*
 * Writes under way at a target that works by itself.  The second one spares it
 * the time in which the next portion is put together.
 */
#define WRITE_WINDOW	2

void
docrep_pipeline_push(RequestQueue *queue, RequestKind kind, Batch *batch, Portion *portion)
{
	Request    *request;

	if (queue->n >= QUEUE_SIZE)
		elog(ERROR, "too many requests under way at a peer");
	request = &queue->items[(queue->head + queue->n++) % QUEUE_SIZE];
	request->kind = kind;
	request->batch = batch;
	request->portion = portion;
}

void
docrep_pipeline_pop(RequestQueue *queue)
{
	Assert(queue->n > 0);
	queue->head = (queue->head + 1) % QUEUE_SIZE;
	queue->n--;
}

/* The request that the peer answers next, or NULL. */
static const Request *
next_answer(const RequestQueue *queue)
{
	return queue->n > 0 ? &queue->items[queue->head] : NULL;
}

/*
 * A local peer does its work when its answer is asked for: listening to it is
 * never waiting, and a remote one goes on meanwhile.
 */
static bool
works_on_receipt(const DocrepPeer *peer)
{
	return strcmp(peer->ops->kind, "local") == 0;
}

/* How many batches may be alive: those who ask for fewer workers get no more. */
static int
max_batches(const Run *run)
{
	int			processes = run->replication->peer_options.worker_processes;

	return processes > 0 ? Min(processes, MAX_BATCHES) : MAX_BATCHES;
}

/* May another batch be asked for? */
static bool
may_request_changes(const Run *run)
{
	Size		bytes = 0;

	if (run->hold || run->nbatches >= Min(max_batches(run), docrep_load_batches(run)))
		return false;
	if (docrep_delayed_by_marks(run) ? !docrep_delayed_mark_due(run) : run->at_end)
		return false;
	/* where to go on from is known when the newest batch has been read */
	if (run->newest && run->newest->state == BATCH_READING)
		return false;
	for (const Batch *batch = run->oldest; batch; batch = batch->next)
		bytes += batch->bytes;
	return bytes < MAX_LIVE_BYTES;
}

/*
 * The batch whose ready portion may be written now, or NULL.  Batches are
 * written in order, so that what a checkpoint says of one holds for all before.
 */
static Batch *
writable_batch(const Run *run)
{
	Batch	   *batch = run->oldest;
	int			open_writes = 0;

	while (batch && batch->all_sent)
	{
		open_writes += batch->open_writes;
		batch = batch->next;
	}
	if (batch == NULL || batch->ready == NULL)
		return NULL;
	return open_writes + batch->open_writes < WRITE_WINDOW ? batch : NULL;
}

/* Can the source's next answer be taken in?  A batch holds one portion at a time. */
static bool
can_listen_to_source(const Run *run)
{
	const Request *request = next_answer(&run->at_source);

	return request != NULL &&
		!(request->kind == REQUEST_FETCH && request->batch->ready != NULL);
}

static void
listen_to_source(Run *run)
{
	const Request request = *next_answer(&run->at_source);

	if (request.kind == REQUEST_CHANGES)
		docrep_transfer_recv_changes(run, request.batch);
	else
		docrep_transfer_recv_fetch(run, request.batch);
}

static void
listen_to_target(Run *run)
{
	const Request request = *next_answer(&run->at_target);

	if (request.kind == REQUEST_DIFF)
		docrep_transfer_recv_diff(run, request.batch);
	else
		docrep_transfer_recv_write(run, request.batch, request.portion);
}

/* Count what the source has and the target has not yet, and tell who watches. */
static void
tell_pending(Run *run)
{
	ReplicationStats *stats = &run->stats;

	stats->changes_pending = run->pending_after_read;
	if (stats->changes_pending >= 0)
	{
		for (const Batch *batch = run->oldest; batch; batch = batch->next)
			stats->changes_pending += batch->changes.n;
	}
	run->told_idle = false;
	run->hooks->progress(run->hooks->arg, stats, false);
	MemoryContextSwitchTo(run->scratch);
}

/*
 * Something has come for a run that is taken for idle: that is no longer so, and a batch can
 * take long.
 */
static void
tell_busy(Run *run)
{
	for (const Batch *batch = run->oldest; batch && run->told_idle; batch = batch->next)
	{
		if (batch->state != BATCH_READING && batch->changes.n > 0)
			tell_pending(run);
	}
}

/* Take finished batches off the front: they are what through_seq speaks of. */
static void
finish_batches(Run *run)
{
	while (run->oldest && run->oldest->all_sent && run->oldest->open_writes == 0)
	{
		Batch	   *batch = run->oldest;
		ReplicationStats *stats = &run->stats;

		docrep_delayed_finished(run, batch);
		docrep_seq_set(&run->through_seq, batch->changes.last_seq);
		strlcpy(stats->through_seq, run->through_seq.data, sizeof(stats->through_seq));
		if (batch->checked > 0)
			run->missing_ratio = (run->missing_ratio +
								  (double) batch->missing / batch->checked) / 2;
		run->oldest = batch->next;
		if (run->oldest == NULL)
			run->newest = NULL;
		run->nbatches--;
		MemoryContextDelete(batch->cxt);
		tell_pending(run);
	}
}

bool
docrep_pipeline_step(Run *run)
{
	const Request *target_next = next_answer(&run->at_target);
	Batch	   *batch;

	MemoryContextSwitchTo(run->scratch);
	MemoryContextReset(run->scratch);

	if (may_request_changes(run))
	{
		if (docrep_delayed_by_marks(run))
			docrep_transfer_take_mark(run);
		else
			docrep_transfer_request_changes(run);
	}
	else if ((batch = writable_batch(run)) != NULL)
		docrep_transfer_send_write(run, batch);
	else if (target_next && works_on_receipt(run->target))
		listen_to_target(run);
	else if (works_on_receipt(run->source) && can_listen_to_source(run))
		listen_to_source(run);
	else if (target_next && target_next->kind == REQUEST_DIFF)
		listen_to_target(run);
	else if (can_listen_to_source(run))
		listen_to_source(run);
	else if (target_next)
		listen_to_target(run);
	else
	{
		Assert(run->nbatches == 0);
		return false;
	}
	tell_busy(run);
	finish_batches(run);
	return true;
}
