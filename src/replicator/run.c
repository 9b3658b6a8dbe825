/*-------------------------------------------------------------------------
 *
 * run.c
 *		One run of a replication, from opening the peers to the result.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "replicator/engine.h"
#include "store/errcodes.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

/*
 * An idle run asks the source anew after this long even if it heard nothing:
 * a connection may have died without a word.
 */
#define WAIT_MS		60000

/* Open one side, and learn its lasting identity. */
static DocrepPeer *
open_peer(Run *run, DocrepEndpoint *endpoint, const char *proxy, bool create,
		  DocrepPeer **slot)
{
	DocrepPeerOptions options = run->replication->peer_options;

	options.proxy = proxy;
	/* *slot is set before anything can fail half way: see close_peers */
	*slot = docrep_peer_make(endpoint, &options, run->cxt);
	(*slot)->ops->open(*slot, create);
	MemoryContextSwitchTo(run->cxt);
	return *slot;
}

/*
 * A table that was created just now is known by its uuid from here on, so
 * the checkpoint is named by that: the next run, which finds the table, will
 * look for that name.
 */
static void
identify_again(Run *run)
{
	Replication *replication = run->replication;
	bool		changed = false;

	if (strcmp(run->source->identity, replication->source->identity) != 0)
	{
		replication->source->identity = pstrdup(run->source->identity);
		changed = true;
	}
	if (strcmp(run->target->identity, replication->target->identity) != 0)
	{
		replication->target->identity = pstrdup(run->target->identity);
		changed = true;
	}
	if (changed)
		docrep_replication_identify(replication);
}

/* Let go of both sides; also after an error. */
static void
close_peers(Run *run)
{
	if (run->source)
		run->source->ops->close(run->source);
	if (run->target)
		run->target->ops->close(run->target);
	run->source = run->target = NULL;
}

/*
 * Caught up: say so, and sleep until the source has something, a checkpoint
 * is due, or the worker's latch is set.  A wait that ends for the latter two is
 * followed by another; should_stop is looked at in between.
 */
static void
wait_for_changes(Run *run)
{
	bool		news;

	if (run->idle_since == 0)
	{
		run->idle_since = GetCurrentTimestamp();
		run->hooks->progress(run->hooks->arg, &run->stats, true);
	}
	run->source->ops->send_wait(run->source, run->read_seq.data,
								(int) docrep_session_due_in(run, WAIT_MS));
	news = run->source->ops->recv_wait(run->source);
	MemoryContextSwitchTo(run->scratch);
	if (news || TimestampDifferenceExceeds(run->idle_since, GetCurrentTimestamp(), WAIT_MS))
	{
		run->at_end = false;
		run->idle_since = 0;
	}
}

/* Go round until the source is at its end or somebody wants us to stop. */
static void
transfer_all(Run *run)
{
	const ReplicationHooks *hooks = run->hooks;

	for (;;)
	{
		bool		stop = hooks->should_stop(hooks->arg);

		CHECK_FOR_INTERRUPTS();

		/* a checkpoint wants the peers quiet: let what is under way come in first */
		run->hold = stop || docrep_session_due(run);
		if (docrep_pipeline_step(run))
			continue;

		if (stop)
			break;
		if (docrep_session_due(run))
		{
			docrep_session_save(run);
			hooks->progress(hooks->arg, &run->stats, run->idle_since != 0);
		}
		else if (run->at_end)
		{
			if (!run->replication->continuous)
				break;
			wait_for_changes(run);
		}
	}
	if (docrep_session_unsaved(run))
	{
		docrep_session_save(run);
		hooks->progress(hooks->arg, &run->stats, false);
	}
	else
		docrep_session_flush(run);
}

char *
docrep_replication_run(Replication *replication, const ReplicationHooks *hooks)
{
	MemoryContext caller = CurrentMemoryContext;
	MemoryContext cxt = AllocSetContextCreate(caller, "docrep run", ALLOCSET_DEFAULT_SIZES);
	Run		   *run = MemoryContextAllocZero(cxt, sizeof(Run));
	char	   *result;

	run->cxt = cxt;
	run->scratch = AllocSetContextCreate(cxt, "docrep run scratch", ALLOCSET_DEFAULT_SIZES);
	run->replication = replication;
	run->hooks = hooks;

	PG_TRY();
	{
		MemoryContextSwitchTo(cxt);
		open_peer(run, replication->source, replication->source_proxy, false, &run->source);
		open_peer(run, replication->target, replication->target_proxy,
				  replication->create_target, &run->target);
		MemoryContextSwitchTo(caller);
		identify_again(run);
		run->origin.replication_id = replication->id;
		run->origin.source = replication->source->display;

		docrep_session_start(run);
		transfer_all(run);

		MemoryContextSwitchTo(caller);
		result = docrep_session_result(run);
	}
	PG_CATCH();
	{
		close_peers(run);
		MemoryContextSwitchTo(caller);
		MemoryContextDelete(cxt);
		PG_RE_THROW();
	}
	PG_END_TRY();

	close_peers(run);
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(cxt);
	return result;
}
