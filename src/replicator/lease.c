/*-------------------------------------------------------------------------
 *
 * lease.c
 *		One of several servers that have the same task runs it.
 *
 * The lease is a local document at the target.  Who holds it writes it anew at
 * a third of its time; who finds it unchanged for all of its time, by the own
 * clock, takes it.  The holder counts that time from before its last write, less
 * a margin, so it has stopped by then.  No two clocks are ever compared.
 *
 * README.md, "Leases", has the rules, and why they hold where a target cannot
 * compare and set.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <xxhash.h>

#include "miscadmin.h"
#include "replicator/engine.h"
#include "replicator/json_members.h"
#include "replicator/lease.h"
#include "store/errcodes.h"
#include "utils/json.h"
#include "utils/memutils.h"

char	   *docrep_node_name = "";
int			docrep_lease_time = 15000;

struct Lease
{
	MemoryContext cxt;			/* holds the lease, too */
	LeaseKey	key;
	const char *id;				/* of the document */
	const char *wish_id;		/* of the one in which the preferred server asks for it */
	const char *node;			/* who we are */
	const char *mentor;			/* who is preferred */
	bool		preferred;		/* we are */
	int			time;			/* ms; as the setting was when the run began */
	LeaseMemory memory;

	bool		held;
	bool		ending;			/* lost, or asked for by the preferred server */
	bool		lost;
	char		token[SESSION_ID_SIZE];
	char	   *doc;			/* as we wrote it last */
	int64		term;
	int64		renewed;
	int64		valid_until;
	int64		renew_at;
};

/* The document, as it is found. */
typedef struct LeaseDoc
{
	char	   *text;			/* NULL: there is none */
	const char *node;
	const char *token;			/* NULL: free */
	int64		term;
	int64		time;
	bool		claim;
} LeaseDoc;

/* A hash of a text that is not 0, which stands for none. */
static uint64
hash_text(const char *text)
{
	return XXH3_64bits(text, strlen(text)) | 1;
}

/*
 * What the lease is called at the target: the same on every server that has the
 * task.  Neither table uuids nor the names under which the servers reach the
 * target are, but the task's _id is.  Without one the endpoints as they are
 * written have to do.
 */
static const char *
lease_name(const Replication *replication)
{
	if (replication->task)
		return psprintf("task\n%s", replication->task);
	return psprintf("replicate\n%s\n%s", replication->source->display,
					replication->target->display);
}

/* The lease of a run, not held yet. */
static Lease *
make_lease(Run *run)
{
	const Replication *replication = run->replication;
	MemoryContext cxt = AllocSetContextCreate(run->cxt, "docrep lease", ALLOCSET_SMALL_SIZES);
	MemoryContext old = MemoryContextSwitchTo(cxt);
	Lease	   *lease = palloc0(sizeof(Lease));
	const char *name = lease_name(replication);
	XXH128_hash_t digest = XXH3_128bits(name, strlen(name));
	char	   *place = psprintf("%u\n%s\n%s", MyDatabaseId, run->target->identity, name);
	XXH128_hash_t key = XXH3_128bits(place, strlen(place));

	lease->cxt = cxt;
	lease->key.hash[0] = key.low64;
	lease->key.hash[1] = key.high64;
	lease->id = psprintf("docrep-lease-%016llx%016llx",
						 (unsigned long long) digest.high64, (unsigned long long) digest.low64);
	lease->wish_id = psprintf("%s-wish", lease->id);
	lease->node = pstrdup(docrep_node_name[0] != '\0' ? docrep_node_name :
						  replication->node_uuid);
	lease->mentor = pstrdup(replication->mentor);
	lease->preferred = strcmp(lease->node, lease->mentor) == 0;
	lease->time = docrep_lease_time;
	docrep_lease_recall(&lease->key, &lease->memory);
	MemoryContextSwitchTo(old);
	return lease;
}

/* Read the document. */
static LeaseDoc
read_lease(Run *run)
{
	LeaseDoc	found = {0};
	JsonbContainer *root;

	MemoryContextSwitchTo(run->scratch);
	found.text = run->target->ops->get_local(run->target, run->lease->id);
	MemoryContextSwitchTo(run->scratch);
	if (found.text == NULL)
		return found;
	root = &docrep_json_parse(found.text)->root;
	found.node = docrep_json_member_text(root, "node");
	found.token = docrep_json_member_text(root, "token");
	found.term = docrep_json_member_int(root, "term", 0);
	found.time = docrep_json_member_int(root, "lease_ms", 0);
	found.claim = docrep_json_member_bool(root, "claim", false);
	return found;
}

/* The document that we write, in the scratch context; token NULL: free. */
static char *
print_lease(const Run *run, const char *token, bool claim)
{
	const Lease *lease = run->lease;
	StringInfoData out;

	initStringInfo(&out);
	appendStringInfoChar(&out, '{');
	docrep_json_put_text(&out, "node", lease->node);
	docrep_json_put_text(&out, "mentor", lease->mentor);
	if (token)
		docrep_json_put_text(&out, "token", token);
	docrep_json_put_int(&out, "term", lease->term);
	docrep_json_put_int(&out, "renewed", lease->renewed);
	docrep_json_put_int(&out, "lease_ms", lease->time);
	if (claim)
		docrep_json_put_bool(&out, "claim", true);
	appendStringInfoChar(&out, '}');
	return out.data;
}

/* Replace "expected" by the document as it is to be; remembers what was written. */
static bool
write_lease(Run *run, const char *expected, const char *token, bool claim)
{
	Lease	   *lease = run->lease;
	char	   *doc = print_lease(run, token, claim);
	bool		done = run->target->ops->swap_local(run->target, lease->id, expected, doc);

	MemoryContextSwitchTo(run->scratch);
	if (done)
	{
		char	   *copy = MemoryContextStrdup(lease->cxt, doc);

		if (lease->doc)
			pfree(lease->doc);
		lease->doc = copy;
	}
	return done;
}

/* What was written at "sent" (or later) says that the lease is ours. */
static void
extend(Lease *lease, int64 sent)
{
	/* others wait for all of the time; the rest is for what is under way when ours ends */
	lease->valid_until = sent + lease->time - lease->time / 5;
	lease->renew_at = sent + lease->time / 3;
}

/* Write the document with our token over what was found.  True: the lease is ours. */
static bool
hold(Run *run, const LeaseDoc *found, int64 sent)
{
	Lease	   *lease = run->lease;

	if (!write_lease(run, found->text, lease->token, false))
		return false;
	lease->held = true;
	extend(lease, sent);
	lease->memory.own = hash_text(lease->token);
	lease->memory.own_runs = true;
	lease->memory.claim = 0;
	if (run->target->ops->fence)
		run->target->ops->fence(run->target, lease->id, lease->token);
	MemoryContextSwitchTo(run->scratch);
	return true;
}

/*
 * The lease is to be had.  Where the target can compare and set, that is all.
 * Elsewhere two may succeed at the same time: a claim is laid, which is
 * confirmed by a later run if it stands for as long as any lease could last.
 */
static bool
take(Run *run, const LeaseDoc *found, int64 now)
{
	Lease	   *lease = run->lease;

	docrep_checkpoint_new_session(lease->token);
	lease->term = found->term + 1;
	lease->renewed = 0;
	if (run->target->ops->swaps)
		return hold(run, found, now);
	if (write_lease(run, found->text, lease->token, true))
	{
		lease->memory.claim = hash_text(lease->token);
		lease->memory.claim_ripe = docrep_lease_clock() + Max(lease->time, found->time);
	}
	return false;
}

/* Our own claim was found. */
static bool
confirm(Run *run, const LeaseDoc *found, int64 now)
{
	Lease	   *lease = run->lease;

	if (now < lease->memory.claim_ripe)
		return false;
	strlcpy(lease->token, found->token, sizeof(lease->token));
	lease->term = found->term;
	lease->renewed = 0;
	return hold(run, found, now);
}

/*
 * How long has the document to stand still before it may be taken?  The
 * preferred server need not wait for one that is free; others give it the time.
 * A claim may be confirmed late, but is not left for ever.
 */
static int64
patience(const Lease *lease, const LeaseDoc *found)
{
	if (found->token == NULL && lease->preferred)
		return 0;
	return Max(lease->time, found->time) * (found->claim ? 2 : 1);
}

/* Something was found, not before "now"; true: the lease is ours. */
static bool
try_to_hold(Run *run, const LeaseDoc *found, int64 now)
{
	Lease	   *lease = run->lease;
	LeaseMemory *memory = &lease->memory;
	uint64		seen = found->text ? hash_text(found->text) : 0;
	uint64		token = found->token ? hash_text(found->token) : 0;
	int64		wait = patience(lease, found);

	if (memory->seen_since == 0 || memory->seen != seen)
	{
		/* it may have been written while we asked, but not after that */
		memory->seen = seen;
		memory->seen_since = docrep_lease_clock();
	}
	/* a run of ours had it, and has ended without giving it back */
	if (token != 0 && token == memory->own && !memory->own_runs)
		return take(run, found, now);
	if (found->claim && token != 0 && token == memory->claim)
		return confirm(run, found, now);
	if (wait > 0 && now - memory->seen_since < wait)
		return false;
	return take(run, found, now);
}

/* The preferred server asks another one that holds the lease for it. */
static void
wish(Run *run, const LeaseDoc *found)
{
	StringInfoData out;

	initStringInfo(&out);
	appendStringInfoChar(&out, '{');
	docrep_json_put_text(&out, "node", run->lease->node);
	docrep_json_put_text(&out, "from", found->token);
	appendStringInfoChar(&out, '}');
	run->target->ops->put_local(run->target, run->lease->wish_id, out.data);
	MemoryContextSwitchTo(run->scratch);
}

/* Tell whoever runs us that it is not the time, and when to try again. */
static void
postpone(Run *run, int ms, const char *reason)
{
	if (run->hooks->postpone == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("only a replication that can wait for its turn can have a \"mentor\"")));
	run->hooks->postpone(run->hooks->arg, ms, reason);
}

bool
docrep_lease_begin(Run *run)
{
	Lease	   *lease;
	LeaseDoc	found;
	int64		now;

	if (run->replication->mentor == NULL)
		return true;
	lease = run->lease = make_lease(run);
	now = docrep_lease_clock();
	found = read_lease(run);
	if (!try_to_hold(run, &found, now) && lease->preferred && found.token != NULL &&
		!found.claim && found.node != NULL && strcmp(found.node, lease->node) != 0)
		wish(run, &found);
	docrep_lease_remember(&lease->memory);
	if (!lease->held)
		postpone(run, Max(lease->time / 3, 1),
				 found.token == NULL || found.node == NULL ?
				 psprintf("waiting for the lease, which is left to node \"%s\" for a while", lease->mentor) :
				 psprintf("waiting for the lease, which node \"%s\" has", found.node));
	MemoryContextSwitchTo(run->scratch);
	return lease->held;
}

bool
docrep_lease_due(const Run *run)
{
	const Lease *lease = run->lease;

	return lease != NULL && lease->held && !lease->ending &&
		docrep_lease_clock() >= lease->renew_at;
}

long
docrep_lease_due_in(const Run *run, long max)
{
	const Lease *lease = run->lease;

	if (lease == NULL || !lease->held || lease->ending)
		return max;
	return Max(0, Min(max, (long) (lease->renew_at - docrep_lease_clock())));
}

void
docrep_lease_check(const Run *run)
{
	const Lease *lease = run->lease;

	if (lease == NULL || (lease->held && docrep_lease_clock() < lease->valid_until))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_DOCREP_UNAVAILABLE),
			 errmsg("the lease at %s ran out before it was renewed", run->target->display),
			 errdetail("Another server may run this replication by now."),
			 errhint("If single batches take longer than a lease lasts, raise docrep.lease_time.")));
}

/* Does the preferred server ask us for the lease? */
static bool
is_asked_for(Run *run)
{
	const Lease *lease = run->lease;
	char	   *text;
	char	   *from;

	if (lease->preferred)
		return false;
	text = run->target->ops->get_local(run->target, lease->wish_id);
	MemoryContextSwitchTo(run->scratch);
	if (text == NULL)
		return false;
	from = docrep_json_member_text(&docrep_json_parse(text)->root, "from");
	return from != NULL && strcmp(from, lease->token) == 0;
}

/* Our document was not what it should be: is the lease another's? */
static bool
is_lost(Run *run)
{
	LeaseDoc	found = read_lease(run);

	return found.token == NULL || strcmp(found.token, run->lease->token) != 0;
}

void
docrep_lease_renew(Run *run)
{
	Lease	   *lease = run->lease;
	int64		now = docrep_lease_clock();

	docrep_lease_check(run);
	MemoryContextSwitchTo(run->scratch);
	lease->renewed++;
	if (write_lease(run, lease->doc, lease->token, false))
		extend(lease, now);
	else if (is_lost(run))
	{
		lease->lost = lease->ending = true;
		lease->held = false;
		postpone(run, Max(lease->time / 3, 1), "the lease was taken by another node");
		return;
	}
	else
	{
		/* somebody was at it, and did not take it */
		lease->renewed--;
		lease->renew_at = now + lease->time / 10;
		return;
	}
	lease->ending = is_asked_for(run);
}

bool
docrep_lease_ending(const Run *run)
{
	return run->lease != NULL && run->lease->ending;
}

bool
docrep_lease_lost(const Run *run)
{
	return run->lease != NULL && run->lease->lost;
}

void
docrep_lease_release(Run *run)
{
	Lease	   *lease = run->lease;

	if (lease == NULL || !lease->held)
		return;
	MemoryContextSwitchTo(run->scratch);
	/* if it is not ours any more, there is nothing to give back */
	(void) write_lease(run, lease->doc, NULL, false);
	lease->held = false;
	if (lease->ending)
		postpone(run, lease->time, psprintf("node \"%s\" has asked for the lease",
											lease->mentor));
}

void
docrep_lease_end(Run *run)
{
	if (run->lease != NULL && run->lease->memory.own_runs)
		docrep_lease_forget_run(&run->lease->key);
}
