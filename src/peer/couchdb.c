/*-------------------------------------------------------------------------
 *
 * couchdb.c
 *		The peer that is a database of a server that speaks CouchDB's protocol:
 *		opening it, and knowing it again.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "peer/couchdb_source.h"
#include "peer/couchdb_target.h"
#include "peer/peers.h"
#include "store/errcodes.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

/* What a server says of itself or of a database is short. */
#define INFO_BYTES		(1024 * 1024)

void
docrep_couch_malformed(CouchPeer *peer, const char *doing, const char *what)
{
	ereport(ERROR,
			(errcode(ERRCODE_DOCREP_UNAVAILABLE),
			 errmsg("%s failed at %s", doing, peer->base.display),
			 errdetail("The answer is not what a CouchDB gives: %s.", what)));
}

/* Is the role of this process no superuser?  Asked in a transaction of its own. */
static bool
role_is_restricted(void)
{
	MemoryContext cxt = CurrentMemoryContext;
	bool		result;

	StartTransactionCommand();
	result = !superuser();
	CommitTransactionCommand();
	MemoryContextSwitchTo(cxt);
	return result;
}

/* A member that is a string, in the peer's context; NULL: there is none. */
static char *
keep_text(CouchPeer *peer, const CouchJson *object, const char *name)
{
	CouchJson	value = docrep_cj_get(object, name);
	MemoryContext caller;
	const char *problem = NULL;
	char	   *raw;
	char	   *text;
	int			rawlen;

	if (value.kind != CJ_STRING)
		return NULL;
	caller = MemoryContextSwitchTo(peer->base.cxt);
	text = docrep_couch_text(&value, &problem, &raw, &rawlen);
	MemoryContextSwitchTo(caller);
	return problem ? NULL : text;
}

/* ---------- who is there ---------- */

/*
 * GET /: who answers.  Some installations let nobody ask, and some proxies
 * forward databases only, so nothing depends on it.
 */
static void
ask_server(CouchPeer *peer)
{
	DocrepHttpCall *call = docrep_http_call(peer->http, CurrentMemoryContext, "GET", "/");
	CouchJson	answer;
	CouchJson	vendor;

	call->retries = 0;
	call->max_body = INFO_BYTES;
	docrep_http_start(call);
	docrep_http_finish(call);
	if (call->failed != 0)
		docrep_http_raise(call, "connecting");
	peer->vendor = peer->version = "";
	if (call->status == 200 &&
		docrep_cj_value(call->answer.data, call->answer.len, &answer) &&
		answer.kind == CJ_OBJECT)
	{
		char	   *text;

		if ((text = keep_text(peer, &answer, "version")) != NULL)
			peer->version = text;
		peer->pouchdb = docrep_cj_get(&answer, "express-pouchdb").kind != CJ_NONE;
		vendor = docrep_cj_get(&answer, "vendor");
		if (vendor.kind == CJ_OBJECT && (text = keep_text(peer, &vendor, "name")) != NULL)
			peer->vendor = text;
		if (pg_strncasecmp(peer->vendor, "PouchDB", 7) == 0)
			peer->pouchdb = true;
	}
	docrep_http_drop(call);
}

/* What the database says of its last sequence: a number, or -1. */
static int64
read_update_seq(const CouchJson *answer)
{
	CouchJson	value = docrep_cj_get(answer, "update_seq");
	int64		seq;

	return value.kind == CJ_NUMBER && docrep_cj_int64(&value, &seq) ? seq : -1;
}

/* Keep that sequence as it is. */
static void
keep_seq(CouchPeer *peer, const CouchJson *answer)
{
	MemoryContext caller = MemoryContextSwitchTo(peer->base.cxt);
	CouchJson	value = docrep_cj_get(answer, "update_seq");

	if (peer->update_seq_text != NULL)
		pfree(peer->update_seq_text);
	peer->update_seq_text = docrep_couch_seq(&value);
	MemoryContextSwitchTo(caller);
}

/*
 * GET /db.  False: there is no such database.  *start gets the instance's start
 * time (in the peer's context), or NULL.
 */
static bool
ask_database(CouchPeer *peer, bool opening, char **start)
{
	static const int also[] = {404, 0};
	const char *doing = opening ? "opening the database" : "looking at the database";
	DocrepHttpCall *call = docrep_http_call(peer->http, CurrentMemoryContext, "GET", "");
	CouchJson	answer;
	bool		found;

	if (opening)
		call->retries = 0;
	call->max_body = INFO_BYTES;
	docrep_http_do(call, also, doing);
	found = call->status != 404;
	*start = NULL;
	if (found)
	{
		if (!docrep_cj_value(call->answer.data, call->answer.len, &answer) ||
			answer.kind != CJ_OBJECT)
			docrep_couch_malformed(peer, doing, "it is no JSON object");
		if (docrep_cj_get(&answer, "db_name").kind != CJ_STRING)
			docrep_couch_malformed(peer, doing, "it has no \"db_name\"");
		peer->update_seq = read_update_seq(&answer);
		keep_seq(peer, &answer);
		peer->asked_at = GetCurrentTimestamp();
		*start = keep_text(peer, &answer, "instance_start_time");
		/* from 2.0 to 3.2 it says nothing */
		if (*start != NULL && strcmp(*start, "0") == 0)
			*start = NULL;
	}
	docrep_http_drop(call);
	return found;
}

static void
raise_not_found(CouchPeer *peer)
{
	ereport(ERROR,
			(errcode(ERRCODE_DOCREP_NOT_FOUND),
			 errmsg("there is no database %s", peer->base.display),
			 errhint("A target is made with \"create_target\": true.")));
}

/* Open the database.  False: there is none. */
static bool
open_database(CouchPeer *peer)
{
	char	   *start;

	if (!ask_database(peer, true, &start))
		return false;
	/* PouchDB's is the start of its process, old CouchDB's too; others' is the database's */
	if (peer->pouchdb || strncmp(peer->version, "1.", 2) == 0)
		peer->process_start = start;
	else
		peer->instance_start_time = start;
	return true;
}

/* Are two texts, which may be missing, the same? */
static bool
same_text(const char *a, const char *b)
{
	return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

bool
docrep_couch_check_same(CouchPeer *peer)
{
	bool		same_process;
	char	   *start;

	if (!ask_database(peer, false, &start))
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_UNAVAILABLE),
				 errmsg("the database %s was deleted", peer->base.display)));
	if (peer->instance_start_time != NULL && !same_text(start, peer->instance_start_time))
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_UNAVAILABLE),
				 errmsg("the database %s was deleted and created again", peer->base.display),
				 errhint("The replication starts over.")));
	same_process = peer->process_start == NULL || same_text(start, peer->process_start);
	if (start != NULL)
		pfree(start);
	return same_process;
}

/* ---------- opening and closing ---------- */

/*
 * Texts of a CouchDB are UTF-8.  They are converted outside of transactions,
 * which works for a client's encoding only; a worker has no other client.
 */
static void
prepare_encoding(void)
{
	MemoryContext cxt = CurrentMemoryContext;

	if (GetDatabaseEncoding() == PG_UTF8 || pg_get_client_encoding() == PG_UTF8)
		return;
	StartTransactionCommand();
	if (PrepareClientEncoding(PG_UTF8) >= 0)
		(void) SetClientEncoding(PG_UTF8);
	CommitTransactionCommand();
	MemoryContextSwitchTo(cxt);
}

/*
 * The calls of fetches and writes are http_connections at most.  A feed, and a
 * content that is being read, come on top: they rest while the others go on, and
 * must not be waited for by them, nor they by those.
 */
static void
create_client(CouchPeer *peer)
{
	DocrepPeerOptions options = peer->base.options;

	options.http_connections = Max(options.http_connections, 1) + COUCH_MORE_CALLS;
	peer->http = docrep_http_create(peer->endpoint, &options, peer->restricted, peer->base.cxt);
	docrep_http_count_throttled(peer->http, &peer->base.throttled);
}

static void
couch_open(DocrepPeer *base, bool create)
{
	CouchPeer  *peer = (CouchPeer *) base;

	peer->restricted = role_is_restricted() || base->options.restricted;
	prepare_encoding();
	create_client(peer);
	ask_server(peer);
	if (!open_database(peer))
	{
		if (!create)
			raise_not_found(peer);
		docrep_couch_create(peer);
		if (!open_database(peer))
			raise_not_found(peer);
	}
}

static void
couch_close(DocrepPeer *base)
{
	CouchPeer  *peer = (CouchPeer *) base;

	if (peer->http != NULL)
		docrep_http_close(peer->http);
}

/* A source's checkpoint must not be written to a database that was made anew. */
static void
couch_put_local(DocrepPeer *base, const char *id, const char *doc)
{
	CouchPeer  *peer = (CouchPeer *) base;

	if (peer->is_source)
		(void) docrep_couch_check_same(peer);
	docrep_couch_put_local(base, id, doc);
}

static const DocrepPeerOps couchdb_ops = {
	.kind = "couchdb",
	.open = couch_open,
	.close = couch_close,
	.get_local = docrep_couch_get_local,
	.put_local = couch_put_local,
	.swap_local = docrep_couch_swap_local,
	.filter_identity = docrep_couch_filter_identity,
	.send_changes = docrep_couch_send_changes,
	.recv_changes = docrep_couch_recv_changes,
	.send_fetch = docrep_couch_send_fetch,
	.recv_fetch = docrep_couch_recv_fetch,
	.open_att = docrep_couch_open_att,
	.read_att = docrep_couch_read_att,
	.close_att = docrep_couch_close_att,
	.send_wait = docrep_couch_send_wait,
	.recv_wait = docrep_couch_recv_wait,
#ifdef DOCREP_CAN_WATCH
	.wait_place = docrep_couch_wait_place,
#endif
	.send_diff = docrep_couch_send_diff,
	.recv_diff = docrep_couch_recv_diff,
	.send_write = docrep_couch_send_write,
	.recv_write = docrep_couch_recv_write,
	.flush = docrep_couch_flush,
};

DocrepPeer *
docrep_couchdb_peer_make(const DocrepEndpoint *endpoint, MemoryContext cxt)
{
	MemoryContext caller = MemoryContextSwitchTo(cxt);
	CouchPeer  *peer = palloc0(sizeof(CouchPeer));

	peer->base.ops = &couchdb_ops;
	peer->endpoint = docrep_http_endpoint_parse(endpoint->spec);
	peer->spec = pstrdup(endpoint->spec);
	peer->vendor = peer->version = "";
	peer->first_ratio = -1;
	dlist_init(&peer->requests);
	MemoryContextSwitchTo(caller);
	return &peer->base;
}
