/*-------------------------------------------------------------------------
 *
 * server_open.c
 *		Opening peers, those of foreign servers at the first of their URLs that
 *		answers, and finding out when an earlier one does again.
 *
 * What comes of it is a peer of the kind that the URL leads to: nothing stands
 * between it and its user.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "lib/stringinfo.h"
#include "peer/peers.h"
#include "peer/server.h"
#include "store/errcodes.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

/* How often an earlier URL is asked, and how long its answer may take. */
#define PROBE_INTERVAL	15000
#define PROBE_TIMEOUT	2000
/* Probes that take long are made less often: their share of the time, 1 to this. */
#define PROBE_SHARE		10

/* How a foreign server led to a peer. */
typedef struct DocrepServerUse
{
	MemoryContext cxt;
	DocrepServer *server;
	DocrepEndpoint **endpoints; /* one a URL, credentials and all */
	DocrepPeerOptions options;
	int			used;			/* the URL that is in use */
	TimestampTz probe_at;		/* when an earlier one is asked next */
} DocrepServerUse;

/* Read server and user mapping, in a transaction unless there is one. */
static DocrepServerUse *
look_up(const DocrepEndpoint *endpoint, const DocrepPeerOptions *options, MemoryContext parent)
{
	MemoryContext cxt = AllocSetContextCreate(parent, "docrep server", ALLOCSET_SMALL_SIZES);
	DocrepServerUse *use = MemoryContextAllocZero(cxt, sizeof(DocrepServerUse));
	bool		own = !IsTransactionState();
	char	   *database;
	char	   *name;

	if (own)
		StartTransactionCommand();
	MemoryContextSwitchTo(cxt);
	use->cxt = cxt;
	use->options = *options;
	name = docrep_server_split(endpoint->spec, &database);
	if (name == NULL)
		elog(ERROR, "malformed endpoint of a foreign server");
	use->server = docrep_server_get(name, false);
	use->endpoints = palloc(use->server->nurls * sizeof(DocrepEndpoint *));
	for (int i = 0; i < use->server->nurls; i++)
		use->endpoints[i] = docrep_server_endpoint(use->server, i, database);
	docrep_server_check_options(use->server, options);
	docrep_server_complete_options(use->server, &use->options);
	use->options.display = pstrdup(endpoint->display);
	if (own)
		CommitTransactionCommand();
	MemoryContextSwitchTo(cxt);
	return use;
}

/* Is a server that says this down, so that another URL is worth a try? */
static bool
is_down(int sqlstate)
{
	return sqlstate == ERRCODE_DOCREP_UNAVAILABLE || sqlstate == ERRCODE_DOCREP_INTERNAL;
}

/* Is it about us, and not about the other side? */
static bool
is_our_end(int sqlstate)
{
	return sqlstate == ERRCODE_QUERY_CANCELED || sqlstate == ERRCODE_ADMIN_SHUTDOWN ||
		sqlstate == ERRCODE_CRASH_SHUTDOWN || sqlstate == ERRCODE_OUT_OF_MEMORY ||
		ERRCODE_TO_CATEGORY(sqlstate) == ERRCODE_INTERNAL_ERROR;
}

/*
 * Open a peer at one URL.  NULL: it is down (for a probe: it cannot be used), and
 * *why says what was raised; anything else is raised.
 */
static DocrepPeer *
open_at(DocrepServerUse *use, int url, const DocrepPeerOptions *options, bool create,
		bool probe, MemoryContext parent, DocrepPeer **slot, ErrorData **why)
{
	DocrepPeer *volatile peer = NULL;
	bool		outside = !IsTransactionState();

	PG_TRY();
	{
		peer = docrep_peer_make(use->endpoints[url], options, parent);
		if (slot)
			*slot = peer;
		peer->ops->open(peer, create);
	}
	PG_CATCH();
	{
		ErrorData  *edata;

		MemoryContextSwitchTo(use->cxt);
		edata = CopyErrorData();
		if (probe ? is_our_end(edata->sqlerrcode) : !is_down(edata->sqlerrcode))
			PG_RE_THROW();
		FlushErrorState();
		if (outside)
			AbortOutOfAnyTransaction();
		MemoryContextSwitchTo(use->cxt);
		if (peer)
		{
			peer->ops->close(peer);
			MemoryContextDelete(peer->cxt);
		}
		if (slot)
			*slot = NULL;
		peer = NULL;
		*why = edata;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(use->cxt);
	return peer;
}

/* No URL answers: raise what each of them said. */
static void
raise_all_down(const DocrepServerUse *use, ErrorData **why)
{
	StringInfoData said;

	initStringInfo(&said);
	for (int i = 0; i < use->server->nurls; i++)
		appendStringInfo(&said, "%s%s: %s", i > 0 ? "\n" : "", use->server->urls[i],
						 why[i]->message);
	ereport(ERROR,
			(errcode(ERRCODE_DOCREP_UNAVAILABLE),
			 errmsg("none of the %d URLs of server \"%s\" answers", use->server->nurls,
					use->server->name),
			 errdetail_internal("%s", said.data)));
}

/* The server's own name instead of what its URL says. */
static void
adopt(DocrepServerUse *use, int url, DocrepPeer *peer, const DocrepEndpoint *endpoint)
{
	use->used = url;
	use->probe_at = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), PROBE_INTERVAL);
	peer->server = use;
	peer->display = MemoryContextStrdup(peer->cxt, endpoint->display);
	peer->identity = MemoryContextStrdup(peer->cxt, endpoint->identity);
}

/* Open a peer of a foreign server. */
static DocrepPeer *
open_server(const DocrepEndpoint *endpoint, const DocrepPeerOptions *options, bool create,
			MemoryContext parent, DocrepPeer **slot)
{
	DocrepServerUse *use = look_up(endpoint, options, parent);
	int			n = use->server->nurls;
	ErrorData **why = palloc0(n * sizeof(ErrorData *));
	DocrepPeer *peer = NULL;
	int			i;

	if (n == 1)
	{
		peer = docrep_peer_make(use->endpoints[0], &use->options, parent);
		if (slot)
			*slot = peer;
		peer->ops->open(peer, create);
		adopt(use, 0, peer, endpoint);
		return peer;
	}
	for (i = 0; i < n; i++)
	{
		peer = open_at(use, i, &use->options, create, false, parent, slot, &why[i]);
		if (peer != NULL)
			break;
		ereport(LOG,
				(errmsg("server \"%s\" does not answer at %s", use->server->name,
						use->server->urls[i]),
				 errdetail_internal("%s", why[i]->message)));
	}
	if (peer == NULL)
		raise_all_down(use, why);
	ereport(i > 0 ? LOG : DEBUG1,
			(errmsg("server \"%s\" is used at %s, URL %d of %d", use->server->name,
					use->server->urls[i], i + 1, n)));
	adopt(use, i, peer, endpoint);
	return peer;
}

DocrepPeer *
docrep_open_peer(const DocrepEndpoint *endpoint, const DocrepPeerOptions *options, bool create,
				 MemoryContext parent, DocrepPeer **slot)
{
	MemoryContext caller = CurrentMemoryContext;
	DocrepPeer *peer;

	if (strcmp(endpoint->kind, "server") == 0)
		peer = open_server(endpoint, options, create, parent, slot);
	else
	{
		peer = docrep_peer_make(endpoint, options, parent);
		if (slot)
			*slot = peer;
		peer->ops->open(peer, create);
	}
	MemoryContextSwitchTo(caller);
	return peer;
}

/* ---------- going back ---------- */

long
docrep_peer_probe_in(const DocrepPeer *peer, long max)
{
	if (peer == NULL || peer->server == NULL || peer->server->used == 0)
		return -1;
	return Min(max, TimestampDifferenceMilliseconds(GetCurrentTimestamp(),
													peer->server->probe_at));
}

bool
docrep_peer_probe(DocrepPeer *peer)
{
	DocrepServerUse *use = peer->server;
	MemoryContext caller = CurrentMemoryContext;
	MemoryContext cxt = AllocSetContextCreate(use->cxt, "docrep probe", ALLOCSET_SMALL_SIZES);
	DocrepPeerOptions options = use->options;
	TimestampTz begin = GetCurrentTimestamp();
	long		took;
	bool		answers = false;

	options.connection_timeout = Min(options.connection_timeout, PROBE_TIMEOUT);
	options.request_timeout = PROBE_TIMEOUT;
	options.retries_per_request = 0;
	for (int i = 0; i < use->used && !answers; i++)
	{
		ErrorData  *why;
		DocrepPeer *probe = open_at(use, i, &options, false, true, cxt, NULL, &why);

		if (probe != NULL)
		{
			answers = true;
			probe->ops->close(probe);
			ereport(LOG,
					(errmsg("server \"%s\" answers again at %s", use->server->name,
							use->server->urls[i])));
		}
		else
			FreeErrorData(why);
	}
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(cxt);
	took = TimestampDifferenceMilliseconds(begin, GetCurrentTimestamp());
	use->probe_at = TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
												Max(PROBE_INTERVAL, took * PROBE_SHARE));
	return answers;
}
