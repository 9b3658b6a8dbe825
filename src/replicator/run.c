/*-------------------------------------------------------------------------
 *
 * run.c
 *		One run of a replication, from opening the peers to the result.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "filter/user_context.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "replicator/engine.h"
#include "storage/latch.h"
#include "store/errcodes.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

/*
 * An idle run asks the source anew after this long even if it heard nothing:
 * a connection may have died without a word.
 */
#define WAIT_MS		60000

/* What is due so soon (ms) is waited for in the process, unless others want it. */
#define PARK_UNTIL_MS	1000

/* How often a run looks whether its filter's code is still the same, as CouchDB's does. */
#define FILTER_LOOK_MS	60000

/* Open one side, and learn its lasting identity. */
static void
open_peer(Run *run, DocrepEndpoint *endpoint, const char *proxy, bool create,
		  DocrepPeer **slot)
{
	DocrepPeerOptions options = run->replication->peer_options;

	options.proxy = proxy;
	/* *slot is set before anything can fail half way: see close_peers */
	(void) docrep_open_peer(endpoint, &options, create, run->cxt, slot);
	MemoryContextSwitchTo(run->cxt);
}

/*
 * A table that was created just now is known by its uuid from here on, so
 * the checkpoint is named by that: the next run, which finds the table, will
 * look for that name.  And a filter is known by its code, which only the source has:
 * another code is another replication, which starts over.
 */
static void
identify_again(Run *run)
{
	Replication *replication = run->replication;
	MemoryContext caller = CurrentMemoryContext;
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
	if (!docrep_filter_is_empty(&replication->filter))
	{
		DocrepFilterKind kind = docrep_filter_kind(replication->filter.filter);

		replication->identifying = true;
		replication->filter_identity = run->source->ops->filter_identity(run->source,
																		 &replication->filter);
		replication->identifying = false;
		MemoryContextSwitchTo(caller);
		if (kind == DOCREP_FILTER_FUNCTION || kind == DOCREP_FILTER_JAVASCRIPT ||
			kind == DOCREP_FILTER_VIEW)
			run->filter_looked = GetCurrentTimestamp();
		changed = true;
	}
	if (changed)
		docrep_replication_identify(replication);
}

/*
 * Is it time to look at the filter's code?  Also before the run ends to have others wait: a change
 * of a design document that came while it ran would wake nobody any more.
 */
static bool
filter_due(const Run *run)
{
	return run->filter_looked != 0 &&
		(run->parking ||
		 TimestampDifferenceExceeds(run->filter_looked, GetCurrentTimestamp(), FILTER_LOOK_MS));
}

/* Look, while nothing is under way.  True: it is another replication now. */
static bool
filter_has_changed(Run *run)
{
	char	   *identity = run->source->ops->filter_identity(run->source,
															 &run->replication->filter);

	MemoryContextSwitchTo(run->scratch);
	run->filter_looked = GetCurrentTimestamp();
	return strcmp(identity, run->replication->filter_identity) != 0;
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
 * In how many ms, at most max, is a foreign server asked whether it answers again at
 * the URL that is preferred?  -1: never, as both sides are where they should be.
 */
static long
probe_in(const Run *run, long max)
{
	long		source = docrep_peer_probe_in(run->source, max);
	long		target = docrep_peer_probe_in(run->target, max);

	return source < 0 ? target : target < 0 ? source : Min(source, target);
}

/* Nothing is under way and it is time to ask.  True: the run goes on at other URLs. */
static bool
probe(Run *run)
{
	bool		back;

	back = (docrep_peer_probe_in(run->source, WAIT_MS) == 0 && docrep_peer_probe(run->source)) ||
		(docrep_peer_probe_in(run->target, WAIT_MS) == 0 && docrep_peer_probe(run->target));
	MemoryContextSwitchTo(run->scratch);
	return back;
}

/*
 * In how many ms does an idle run end to have others wait for changes?  -1: never,
 * as nobody else would notice that a server is back at its first URL.
 */
static long
park_in(Run *run)
{
	if (probe_in(run, WAIT_MS) >= 0)
		return -1;
	if (run->hooks->park_in == NULL || run->source->ops->wait_place == NULL)
		return -1;
	return run->hooks->park_in(run->hooks->arg,
							   TimestampDifferenceMilliseconds(run->idle_since,
															   GetCurrentTimestamp()));
}

/*
 * The run has saved where it is and is about to end: tell where changes can be
 * waited for.  False: there are some already.
 */
static bool
park(Run *run)
{
	DocrepWaitPlace place;

	if (run->park_until != 0)
	{
		run->hooks->park_until(run->hooks->arg, run->park_until);
		return true;
	}
	if (!run->source->ops->wait_place(run->source, run->read_seq.data, &place))
	{
		run->at_end = run->parking = false;
		run->idle_since = 0;
		return false;
	}
	run->hooks->park(run->hooks->arg, &place);
	return true;
}

/* Caught up, but for what waits: say so. */
static void
note_idle(Run *run)
{
	if (run->idle_since != 0)
		return;
	run->idle_since = GetCurrentTimestamp();
	run->told_idle = true;
	run->hooks->progress(run->hooks->arg, &run->stats, true);
}

/*
 * Some changes wait until they are old enough.  There is nothing to do before that: the
 * run ends, and is made again then; or, where it must not end or that is soon, sleeps.
 */
static void
wait_for_age(Run *run)
{
	long		left = docrep_delayed_due_in(run, WAIT_MS);
	long		park = -1;

	if (left == 0)
	{
		docrep_delayed_wake(run);
		return;
	}
	note_idle(run);
	/* a lease wants somebody to renew it */
	if (run->lease == NULL && run->hooks->park_until != NULL)
		park = park_in(run);
	if (park == 0 || (park > 0 && left > PARK_UNTIL_MS))
	{
		run->parking = true;
		run->park_until = docrep_delayed_due_at(run);
		return;
	}
	left = docrep_lease_due_in(run, docrep_session_due_in(run, left));
	if (probe_in(run, left) >= 0)
		left = probe_in(run, left);
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, left,
					 PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
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
	long		park;
	long		wait;

	if (docrep_delayed_due_in(run, WAIT_MS) >= 0)
	{
		wait_for_age(run);
		return;
	}
	note_idle(run);
	/* a lease wants somebody to renew it */
	park = run->lease ? -1 : park_in(run);
	if (park == 0)
	{
		run->parking = true;
		return;
	}
	wait = docrep_lease_due_in(run, docrep_session_due_in(run, WAIT_MS));
	if (probe_in(run, wait) >= 0)
		wait = probe_in(run, wait);
	run->source->ops->send_wait(run->source, run->read_seq.data,
								(int) (park > 0 ? Min(park, wait) : wait));
	news = run->source->ops->recv_wait(run->source);
	MemoryContextSwitchTo(run->scratch);
	if (news || TimestampDifferenceExceeds(run->idle_since, GetCurrentTimestamp(), WAIT_MS))
	{
		run->at_end = false;
		run->idle_since = 0;
	}
}

/* Nothing is under way: leave a checkpoint of all that was done, or make it durable. */
static void
save_all(Run *run)
{
	if (docrep_session_unsaved(run))
	{
		docrep_session_save(run);
		run->hooks->progress(run->hooks->arg, &run->stats, run->parking);
	}
	else
	{
		docrep_session_flush(run);
		docrep_delayed_saved(run);
	}
}

/* Go round until the source is at its end or somebody wants us to stop. */
static void
transfer_all(Run *run)
{
	const ReplicationHooks *hooks = run->hooks;

	for (;;)
	{
		bool		stop = hooks->should_stop(hooks->arg) || docrep_lease_ending(run);
		bool		ask = run->replication->continuous && probe_in(run, WAIT_MS) == 0;
		bool		look = filter_due(run);
		bool		see = !stop && !run->parking && docrep_delayed_look_due(run);
		bool		hold = !stop && !run->parking && docrep_delayed_hold_due(run);

		CHECK_FOR_INTERRUPTS();

		/* these want the peers quiet: let what is under way come in first */
		run->hold = stop || run->parking || ask || look || see || hold || docrep_session_due(run) ||
			docrep_lease_due(run) || docrep_versions_many(run);
		if (docrep_pipeline_step(run))
			continue;

		if (docrep_lease_due(run))
		{
			docrep_lease_renew(run);
			continue;
		}
		if (stop)
			break;
		if (docrep_versions_pending(run))
		{
			docrep_versions_bring(run);
			continue;
		}
		if ((ask && probe(run)) || (look && filter_has_changed(run)))
		{
			run->again = true;
			break;
		}
		if (run->parking)
		{
			save_all(run);
			if (park(run))
				return;
			continue;
		}
		if (see)
			docrep_delayed_look(run);
		else if (hold)
			docrep_delayed_hold(run);
		else if (docrep_session_due(run))
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
	if (docrep_lease_lost(run))
		return;
	save_all(run);
	/* the next run, which begins at once, has it without asking */
	if (!run->again)
		docrep_lease_release(run);
}

/*
 * The run between opening the peers and closing them.  *again: there is to be
 * another one, as a foreign server is to be reached by another of its URLs, or the
 * filter's code has changed.
 */
static char *
run_once(Replication *replication, const ReplicationHooks *hooks, bool *again)
{
	MemoryContext caller = CurrentMemoryContext;
	MemoryContext cxt = AllocSetContextCreate(caller, "docrep run", ALLOCSET_DEFAULT_SIZES);
	Run		   *run = MemoryContextAllocZero(cxt, sizeof(Run));
	char	   *result = NULL;

	run->cxt = cxt;
	run->scratch = AllocSetContextCreate(cxt, "docrep run scratch", ALLOCSET_DEFAULT_SIZES);
	run->replication = replication;
	run->hooks = hooks;
	run->told_idle = hooks->resumed;

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

		if (docrep_lease_begin(run))
		{
			docrep_session_start(run);
			docrep_delayed_start(run);
			transfer_all(run);

			MemoryContextSwitchTo(caller);
			if (!docrep_lease_ending(run))
				result = docrep_session_result(run);
			*again = run->again;
		}
	}
	PG_CATCH();
	{
		close_peers(run);
		docrep_lease_end(run);
		MemoryContextSwitchTo(caller);
		MemoryContextDelete(cxt);
		PG_RE_THROW();
	}
	PG_END_TRY();

	close_peers(run);
	docrep_lease_end(run);
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(cxt);
	return result;
}

char *
docrep_replication_run(Replication *replication, const ReplicationHooks *hooks)
{
	char	   *result;
	bool		again;

	docrep_user_context_set_roles(replication->roles_given ? replication->user_roles : NULL,
								  replication->nuser_roles);
	do
	{
		again = false;
		result = run_once(replication, hooks, &again);
	} while (again);
	return result;
}
