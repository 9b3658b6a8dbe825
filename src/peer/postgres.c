/*-------------------------------------------------------------------------
 *
 * postgres.c
 *		The peer that is a document table of another Postgres server.
 *
 * It calls the functions of store/wire.sql there.  Each request is a statement and
 * a transaction of its own in libpq's pipeline.  Writes are numbered: when one
 * fails, the server refuses those that were sent after it.
 *
 * A wait is ended by whatever is sent after it.  So nothing needs to be
 * cancelled, which libpq would do over a second connection, blocking.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "filter/filter.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "peer/peers.h"
#include "peer/postgres_att.h"
#include "peer/postgres_conn.h"
#include "peer/postgres_url.h"
#include "peer/postgres_versions.h"
#include "peer/requests.h"
#include "port/pg_bswap.h"
#include "store/age.h"
#include "store/errcodes.h"
#include "store/wire_format.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

/* a wait's answer may come this much later than it should, in ms */
#define WAIT_GRACE		10000

/* how often, and for how long, a wait that nobody needs any more is disturbed */
#define POKE_INTERVAL	100
#define POKE_TIMEOUT	5000

typedef struct PostgresPeer
{
	DocrepPeer	base;
	DocrepPgUrl *url;
	char	   *spec;			/* ... as text, credentials and all */
	bool		restricted;		/* the role is no superuser */
	DocrepPgConn *c;
	DocrepPgAtts *atts;
	uint8		table[UUID_LEN];
	int			protocol;		/* that was agreed on */
	int			writes;			/* the number of the last write */
	bool		unflushed;		/* something was written without a number */
	dlist_head	requests;
} PostgresPeer;

/* ---------- requests ---------- */

/* Queue a request and send its statement. */
static DocrepRequest *
send_request(PostgresPeer *peer, DocrepRequestKind kind, const char *sql,
			 DocrepPgParams *params)
{
	bool		idle = dlist_is_empty(&peer->requests);
	DocrepRequest *request = docrep_request_push(&peer->requests, peer->base.cxt, kind);

	if (peer->c->conn == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_UNAVAILABLE),
				 errmsg("the connection to %s is closed", peer->base.display)));
	docrep_pgconn_send(peer->c, sql, params, idle && kind != REQUEST_WAIT);
	return request;
}

/* Take the answer of a wait that is no longer wanted. */
static void
discard_wait(PostgresPeer *peer, DocrepRequest *request)
{
	TimestampTz end = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), POKE_TIMEOUT);

	for (;;)
	{
		TimestampTz now = GetCurrentTimestamp();

		if (docrep_pgconn_wait(peer->c, TimestampTzPlusMilliseconds(now, POKE_INTERVAL),
							   false) == PGWAIT_RESULT)
			break;
		if (now > end)
			ereport(ERROR,
					(errcode(ERRCODE_DOCREP_UNAVAILABLE),
					 errmsg("waiting for changes failed at %s", peer->base.display),
					 errdetail("It did not answer in time.")));

		/* it may have read what was sent after the wait together with it */
		docrep_pgconn_poke(peer->c);
	}
	if (peer->c->result == NULL || PQresultStatus(peer->c->result) != PGRES_TUPLES_OK)
		docrep_pgconn_raise(peer->c, peer->c->result, "waiting for changes");
	docrep_pgconn_finish(peer->c, POKE_TIMEOUT, "waiting for changes");
	docrep_request_drop(request);
}

/* The oldest request, which is of this kind; a wait before it is over. */
static DocrepRequest *
oldest_request(PostgresPeer *peer, DocrepRequestKind kind)
{
	while (kind != REQUEST_WAIT && !dlist_is_empty(&peer->requests))
	{
		DocrepRequest *head = dlist_head_element(DocrepRequest, link, &peer->requests);

		if (head->kind != REQUEST_WAIT)
			break;
		discard_wait(peer, head);
	}
	return docrep_request_head(&peer->requests, kind);
}

/*
 * The only row of an answer: *data and *len of its column, in memory of libpq's
 * until end_answer; false if it is NULL.
 */
static bool
single_value(PostgresPeer *peer, const char *doing, const char **data, Size *len)
{
	PGresult   *result = docrep_pgconn_expect(peer->c, PGRES_TUPLES_OK,
											  peer->base.options.request_timeout, doing);

	if (PQntuples(result) != 1 || PQnfields(result) != 1)
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_INTERNAL),
				 errmsg("%s failed at %s", doing, peer->base.display),
				 errdetail("Its answer has not the form that was agreed on.")));
	*data = PQgetvalue(result, 0, 0);
	*len = PQgetlength(result, 0, 0);
	return !PQgetisnull(result, 0, 0);
}

/* The same, as a copy in cxt; it must not be NULL. */
static const char *
copied_value(PostgresPeer *peer, const char *doing, MemoryContext cxt, Size *len)
{
	const char *data;
	char	   *copy;

	if (!single_value(peer, doing, &data, len))
		*len = 0;
	copy = MemoryContextAlloc(cxt, *len + 1);
	memcpy(copy, data, *len);
	return copy;
}

static void
end_answer(PostgresPeer *peer, DocrepRequest *request, const char *doing)
{
	docrep_pgconn_finish(peer->c, peer->base.options.request_timeout, doing);
	docrep_request_drop(request);
}

/* ---------- opening and closing ---------- */

/*
 * May the role of this process use the URL?  Returns whether it is restricted,
 * being no superuser, or led there by a server of somebody who is none.
 */
static bool
check_role(PostgresPeer *peer)
{
	MemoryContext cxt = CurrentMemoryContext;
	bool		restricted;

	StartTransactionCommand();
	restricted = !superuser() || peer->base.options.restricted;
	CommitTransactionCommand();
	MemoryContextSwitchTo(cxt);
	if (restricted)
		docrep_pgurl_restrict(peer->url);
	return restricted;
}

/* Find the table, and agree on the protocol. */
static void
open_table(PostgresPeer *peer, bool create)
{
	DocrepPgParams params = {0};
	DocrepRequest *request;
	PGresult   *result;
	uint32		protocol = 0;
	MemoryContext old;

	docrep_pgparam_text(&params, peer->url->table);
	docrep_pgparam_bool(&params, create);
	docrep_pgparam_int(&params, DOCREP_WIRE_PROTOCOL);
	request = send_request(peer, REQUEST_OTHER,
						   "SELECT protocol, tbl FROM docrep.peer_open($1, $2, $3)", &params);
	result = docrep_pgconn_expect(peer->c, PGRES_TUPLES_OK,
								  peer->base.options.connection_timeout, "opening");
	if (PQntuples(result) == 1 && PQnfields(result) == 2 &&
		PQgetlength(result, 0, 0) == sizeof(protocol) &&
		PQgetlength(result, 0, 1) == UUID_LEN)
	{
		memcpy(&protocol, PQgetvalue(result, 0, 0), sizeof(protocol));
		protocol = pg_ntoh32(protocol);
		memcpy(peer->table, PQgetvalue(result, 0, 1), UUID_LEN);
	}
	if (protocol < DOCREP_WIRE_PROTOCOL_MIN || protocol > DOCREP_WIRE_PROTOCOL)
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_INTERNAL),
				 errmsg("%s speaks another version of docrep's protocol", peer->base.display),
				 errhint("Update docrep on both servers.")));
	peer->protocol = (int) protocol;
	end_answer(peer, request, "opening");

	old = MemoryContextSwitchTo(peer->base.cxt);
	peer->base.uuid = DatumGetCString(DirectFunctionCall1(uuid_out,
														  PointerGetDatum(peer->table)));
	MemoryContextSwitchTo(old);
}

static void
postgres_open(DocrepPeer *base, bool create)
{
	PostgresPeer *peer = (PostgresPeer *) base;
	bool		restricted;
	MemoryContext old;

	if (base->options.display)
		peer->url->display = MemoryContextStrdup(base->cxt, base->options.display);
	/* what the role gives is checked before what its superusers give is added */
	restricted = peer->restricted = check_role(peer);
	old = MemoryContextSwitchTo(base->cxt);
	docrep_pgurl_take_options(peer->url, &base->options);
	MemoryContextSwitchTo(old);
	docrep_pgatts_restrict(peer->atts, restricted);
	docrep_pgconn_connect(peer->c, peer->url, restricted, base->options.connection_timeout);
	open_table(peer, create);
}

static void
postgres_close(DocrepPeer *base)
{
	docrep_pgatts_disconnect(((PostgresPeer *) base)->atts);
	docrep_pgconn_close(((PostgresPeer *) base)->c);
}

/* ---------- local documents ---------- */

static char *
postgres_get_local(DocrepPeer *base, const char *id)
{
	PostgresPeer *peer = (PostgresPeer *) base;
	const char *doing = "reading a local document";
	DocrepPgParams params = {0};
	DocrepRequest *request;
	const char *data;
	char	   *doc = NULL;
	Size		len;

	docrep_pgparam_uuid(&params, peer->table);
	docrep_pgparam_text(&params, id);
	(void) send_request(peer, REQUEST_OTHER,
						"SELECT docrep.peer_get_local($1, $2)::pg_catalog.text", &params);
	request = oldest_request(peer, REQUEST_OTHER);
	if (single_value(peer, doing, &data, &len))
	{
		doc = pg_any_to_server(data, (int) len, PG_UTF8);
		if (doc == data)
			doc = pnstrdup(data, len);
	}
	end_answer(peer, request, doing);
	return doc;
}

static void
postgres_put_local(DocrepPeer *base, const char *id, const char *doc)
{
	PostgresPeer *peer = (PostgresPeer *) base;
	const char *doing = "writing a local document";
	DocrepPgParams params = {0};
	DocrepRequest *request;

	docrep_pgparam_uuid(&params, peer->table);
	docrep_pgparam_text(&params, id);
	docrep_pgparam_json(&params, doc);
	(void) send_request(peer, REQUEST_OTHER, "SELECT docrep.peer_put_local($1, $2, $3)", &params);
	request = oldest_request(peer, REQUEST_OTHER);
	(void) docrep_pgconn_expect(peer->c, PGRES_TUPLES_OK, base->options.request_timeout, doing);
	end_answer(peer, request, doing);
}

/* Leases came with a later protocol; the server may be older. */
static void
need_leases(PostgresPeer *peer)
{
	if (peer->protocol < DOCREP_WIRE_LEASES)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("%s has a version of docrep that knows no leases", peer->base.display),
				 errhint("Update docrep there, or leave \"mentor\" out.")));
}

static bool
postgres_swap_local(DocrepPeer *base, const char *id, const char *expected, const char *doc)
{
	PostgresPeer *peer = (PostgresPeer *) base;
	const char *doing = "writing a local document";
	DocrepPgParams params = {0};
	DocrepRequest *request;
	const char *data;
	Size		len;
	bool		done;

	need_leases(peer);
	docrep_pgparam_uuid(&params, peer->table);
	docrep_pgparam_text(&params, id);
	docrep_pgparam_json(&params, expected);
	docrep_pgparam_json(&params, doc);
	(void) send_request(peer, REQUEST_OTHER, "SELECT docrep.peer_swap_local($1, $2, $3, $4)",
						&params);
	request = oldest_request(peer, REQUEST_OTHER);
	done = single_value(peer, doing, &data, &len) && len == 1 && data[0] != 0;
	end_answer(peer, request, doing);
	return done;
}

static void
postgres_fence(DocrepPeer *base, const char *id, const char *token)
{
	PostgresPeer *peer = (PostgresPeer *) base;
	const char *doing = "fencing the target";
	DocrepPgParams params = {0};
	DocrepRequest *request;

	need_leases(peer);
	docrep_pgparam_uuid(&params, peer->table);
	docrep_pgparam_text(&params, id);
	docrep_pgparam_text(&params, token);
	(void) send_request(peer, REQUEST_OTHER, "SELECT docrep.peer_fence($1, $2, $3)", &params);
	request = oldest_request(peer, REQUEST_OTHER);
	(void) docrep_pgconn_expect(peer->c, PGRES_TUPLES_OK, base->options.request_timeout, doing);
	end_answer(peer, request, doing);
}

/* ---------- the source's side ---------- */

/* Filters came with a later protocol, too. */
static void
need_filters(const PostgresPeer *peer)
{
	if (peer->protocol < DOCREP_WIRE_FILTERS)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("docrep on the server of %s is too old for filters", peer->base.display),
				 errhint("Update docrep there.")));
}

static char *
postgres_filter_identity(DocrepPeer *base, const DocrepFilterSpec *filter)
{
	PostgresPeer *peer = (PostgresPeer *) base;
	const char *doing = "looking at the filter";
	DocrepPgParams params = {0};
	DocrepRequest *request;
	const char *data;
	char	   *identity;
	Size		len;

	need_filters(peer);
	docrep_pgparam_uuid(&params, peer->table);
	docrep_pgparam_text(&params, docrep_filter_spec_to_text(filter));
	(void) send_request(peer, REQUEST_OTHER, "SELECT docrep.peer_filter($1, $2)", &params);
	request = oldest_request(peer, REQUEST_OTHER);
	data = copied_value(peer, doing, CurrentMemoryContext, &len);
	identity = pnstrdup(data, len);
	end_answer(peer, request, doing);
	return identity;
}

/* The same for changes of a certain age. */
static void
need_delays(const PostgresPeer *peer)
{
	if (peer->protocol < DOCREP_WIRE_DELAYS)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("docrep on the server of %s is too old for delays", peer->base.display),
				 errhint("Update docrep there.")));
}

static void
postgres_send_changes(DocrepPeer *base, const DocrepChangesRequest *request)
{
	PostgresPeer *peer = (PostgresPeer *) base;
	DocrepPgParams params = {0};
	bytea	   *ids = NULL;
	char	   *filter = NULL;

	if (request->doc_ids != NULL)
		ids = docrep_wire_pack_ids(request->doc_ids, request->ndoc_ids);
	docrep_pgparam_uuid(&params, peer->table);
	docrep_pgparam_text(&params, request->since);
	docrep_pgparam_int(&params, request->max_rows);
	docrep_pgparam_bigint(&params, (int64) request->max_bytes);
	docrep_pgparam_bool(&params, request->winners_only);
	docrep_pgparam_bool(&params, request->with_docs);
	docrep_pgparam_bytea(&params, ids);
	if (!docrep_filter_is_empty(request->filter))
	{
		need_filters(peer);
		filter = docrep_filter_spec_to_text(request->filter);
	}
	if (request->min_age > 0)
	{
		need_delays(peer);
		docrep_pgparam_text(&params, filter);
		docrep_pgparam_bigint(&params, request->min_age);
		send_request(peer, REQUEST_CHANGES,
					 "SELECT changes, young, due_in, now"
					 " FROM docrep.peer_aged_changes($1, $2, $3, $4, $5, $6, $7, $8, $9)",
					 &params)->sent = GetCurrentTimestamp();
	}
	else if (filter == NULL)
		(void) send_request(peer, REQUEST_CHANGES,
							"SELECT docrep.peer_changes($1, $2, $3, $4, $5, $6, $7)", &params);
	else
	{
		docrep_pgparam_text(&params, filter);
		(void) send_request(peer, REQUEST_CHANGES,
							"SELECT docrep.peer_changes($1, $2, $3, $4, $5, $6, $7, $8)",
							&params);
	}
	if (ids != NULL)
		pfree(ids);
}

/* A number of 8 bytes in an answer's only row. */
static int64
int64_value(PGresult *result, int column)
{
	uint64		value = 0;

	if (PQgetlength(result, 0, column) == sizeof(value))
		memcpy(&value, PQgetvalue(result, 0, column), sizeof(value));
	return (int64) pg_ntoh64(value);
}

/*
 * Take an answer to a request with min_age.  What its server's clock says is compared
 * with ours.
 */
static void
recv_aged_changes(PostgresPeer *peer, DocrepRequest *request, const char *doing,
				  DocrepChanges *out)
{
	TimestampTz sent = request->sent;
	PGresult   *result = docrep_pgconn_expect(peer->c, PGRES_TUPLES_OK,
											  peer->base.options.request_timeout, doing);
	Size		len;
	char	   *data;

	if (PQntuples(result) != 1 || PQnfields(result) != 4)
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_INTERNAL),
				 errmsg("%s failed at %s", doing, peer->base.display),
				 errdetail("Its answer has not the form that was agreed on.")));
	len = PQgetlength(result, 0, 0);
	data = MemoryContextAlloc(out->cxt, len + 1);
	memcpy(data, PQgetvalue(result, 0, 0), len);
	out->young = Max(int64_value(result, 1), 0);
	out->due_in = Max(int64_value(result, 2), 0);
	out->source_now = int64_value(result, 3);
	out->skew = docrep_clock_skew(out->source_now, sent, GetCurrentTimestamp());
	end_answer(peer, request, doing);
	docrep_wire_unpack_changes(data, len, out);
}

static void
postgres_recv_changes(DocrepPeer *base, DocrepChanges *out)
{
	PostgresPeer *peer = (PostgresPeer *) base;
	const char *doing = "reading changes";
	DocrepRequest *request = oldest_request(peer, REQUEST_CHANGES);
	const char *data;
	Size		len;

	if (request->sent != 0)
	{
		recv_aged_changes(peer, request, doing, out);
		return;
	}
	data = copied_value(peer, doing, out->cxt, &len);
	end_answer(peer, request, doing);
	docrep_wire_unpack_changes(data, len, out);
}

/* A server that is a standby, or older than this, keeps nothing for us. */
static bool
postgres_hold_versions(DocrepPeer *base, const char *holder, int64 ms)
{
	PostgresPeer *peer = (PostgresPeer *) base;
	const char *doing = "holding versions";
	DocrepPgParams params = {0};
	DocrepRequest *request;
	PGresult   *result;
	bool		held;

	if (peer->protocol < DOCREP_WIRE_VERSIONS)
		return false;
	docrep_pgparam_uuid(&params, peer->table);
	docrep_pgparam_text(&params, holder);
	docrep_pgparam_bigint(&params, ms);
	(void) send_request(peer, REQUEST_OTHER,
						"SELECT docrep.peer_hold_versions($1, $2, $3 * interval '1 ms')"
						" WHERE NOT pg_catalog.pg_is_in_recovery()", &params);
	request = oldest_request(peer, REQUEST_OTHER);
	result = docrep_pgconn_expect(peer->c, PGRES_TUPLES_OK, base->options.request_timeout, doing);
	held = PQntuples(result) == 1 && PQnfields(result) == 1 && PQgetlength(result, 0, 0) == 1 &&
		*PQgetvalue(result, 0, 0) != 0;
	end_answer(peer, request, doing);
	return held;
}

static void
postgres_send_fetch(DocrepPeer *base, const DocrepChanges *changes, bool latest)
{
	PostgresPeer *peer = (PostgresPeer *) base;
	DocrepPgParams params = {0};
	bytea	   *revs = docrep_wire_pack_revs(changes, true, NULL);

	docrep_pgparam_uuid(&params, peer->table);
	docrep_pgparam_bytea(&params, revs);
	docrep_pgparam_bool(&params, latest);
	(void) send_request(peer, REQUEST_FETCH, "SELECT docrep.peer_fetch($1, $2, $3)", &params);
	pfree(revs);
}

/* Frames come as rows of their own; what is not read stays at the server. */
static bool
postgres_recv_fetch(DocrepPeer *base, Size max_bytes, DocrepDocs *out)
{
	PostgresPeer *peer = (PostgresPeer *) base;
	const char *doing = "fetching revisions";
	DocrepRequest *request = oldest_request(peer, REQUEST_FETCH);
	Size		begin = out->bytes;

	if (!request->begun && !PQsetSingleRowMode(peer->c->conn))
		elog(ERROR, "could not set libpq's single-row mode");
	request->begun = true;
	for (;;)
	{
		TimestampTz deadline = base->options.request_timeout > 0 ?
			TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
										base->options.request_timeout) : 0;
		PGresult   *result;
		char	   *frame;
		int			len;

		if (docrep_pgconn_wait(peer->c, deadline, false) == PGWAIT_TIMEOUT)
			ereport(ERROR,
					(errcode(ERRCODE_DOCREP_UNAVAILABLE),
					 errmsg("%s failed at %s", doing, base->display),
					 errdetail("It did not answer in time.")));
		result = peer->c->result;
		if (result != NULL && PQresultStatus(result) == PGRES_TUPLES_OK)
			break;
		if (result == NULL || PQresultStatus(result) != PGRES_SINGLE_TUPLE ||
			PQnfields(result) != 1)
			docrep_pgconn_raise(peer->c, result, doing);
		len = PQgetlength(result, 0, 0);
		frame = MemoryContextAlloc(out->cxt, len + 1);
		memcpy(frame, PQgetvalue(result, 0, 0), len);
		docrep_wire_unpack_docs(frame, len, out);
		if (out->bytes - begin >= max_bytes)
			return true;
	}
	end_answer(peer, request, doing);
	return false;
}

/* ---------- waiting ---------- */

/*
 * A wait that recv_wait left because of the latch is still under way, and
 * serves again if it is for the same.
 */
static void
postgres_send_wait(DocrepPeer *base, const char *since, int timeout)
{
	PostgresPeer *peer = (PostgresPeer *) base;
	DocrepPgParams params = {0};
	DocrepRequest *request = NULL;

	if (!dlist_is_empty(&peer->requests))
	{
		request = dlist_tail_element(DocrepRequest, link, &peer->requests);
		if (request->kind == REQUEST_WAIT && strcmp(request->since, since) != 0)
		{
			discard_wait(peer, request);
			request = NULL;
		}
		else if (request->kind != REQUEST_WAIT)
			request = NULL;
	}
	if (request == NULL)
	{
		docrep_pgparam_uuid(&params, peer->table);
		docrep_pgparam_text(&params, since);
		docrep_pgparam_int(&params, timeout);
		request = send_request(peer, REQUEST_WAIT,
							   "CALL docrep.peer_wait($1, $2, $3, NULL)", &params);
		request->since = MemoryContextStrdup(base->cxt, since);
	}
	request->deadline = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), timeout);
}

static bool
postgres_recv_wait(DocrepPeer *base)
{
	PostgresPeer *peer = (PostgresPeer *) base;
	const char *doing = "waiting for changes";
	DocrepRequest *request = oldest_request(peer, REQUEST_WAIT);
	TimestampTz deadline = TimestampTzPlusMilliseconds(request->deadline, WAIT_GRACE);
	const char *data;
	Size		len;
	bool		changed;

	switch (docrep_pgconn_wait(peer->c, deadline, true))
	{
		case PGWAIT_LATCH:
			return false;
		case PGWAIT_TIMEOUT:
			ereport(ERROR,
					(errcode(ERRCODE_DOCREP_UNAVAILABLE),
					 errmsg("%s failed at %s", doing, base->display),
					 errdetail("It did not answer in time.")));
			break;
		case PGWAIT_RESULT:
			break;
	}
	if (peer->c->result == NULL || PQresultStatus(peer->c->result) != PGRES_TUPLES_OK ||
		PQntuples(peer->c->result) != 1)
		docrep_pgconn_raise(peer->c, peer->c->result, doing);
	data = PQgetvalue(peer->c->result, 0, 0);
	len = PQgetlength(peer->c->result, 0, 0);
	changed = len == 1 && data[0] != 0;
	end_answer(peer, request, doing);
	return changed;
}

#ifdef DOCREP_CAN_WATCH
/* Whether there is something already the watch finds out at once. */
static bool
postgres_wait_place(DocrepPeer *base, const char *since, DocrepWaitPlace *place)
{
	PostgresPeer *peer = (PostgresPeer *) base;

	docrep_wait_place_fill(place, base, peer->spec, since, peer->restricted);
	memcpy(&place->table, peer->table, UUID_LEN);
	return true;
}
#endif

/* ---------- the target's side ---------- */

static void
postgres_send_diff(DocrepPeer *base, DocrepChanges *changes)
{
	PostgresPeer *peer = (PostgresPeer *) base;
	DocrepPgParams params = {0};
	bytea	   *revs = docrep_wire_pack_revs(changes, false, NULL);

	docrep_pgparam_uuid(&params, peer->table);
	docrep_pgparam_bytea(&params, revs);
	(void) send_request(peer, REQUEST_DIFF, "SELECT docrep.peer_diff($1, $2)", &params);
	pfree(revs);
}

static void
postgres_recv_diff(DocrepPeer *base, DocrepChanges *changes)
{
	PostgresPeer *peer = (PostgresPeer *) base;
	const char *doing = "comparing revisions";
	DocrepRequest *request = oldest_request(peer, REQUEST_DIFF);
	const char *data;
	Size		len;

	if (!single_value(peer, doing, &data, &len))
		len = 0;
	docrep_wire_unpack_missing(data, len, changes);
	end_answer(peer, request, doing);
}

static void
postgres_send_write(DocrepPeer *base, DocrepDocs *docs, DocrepPeer *source,
					const DocrepWriteOrigin *origin, const char *local_id,
					const char *local_doc)
{
	PostgresPeer *peer = (PostgresPeer *) base;
	DocrepPgParams params = {0};
	bytea	   *packed;

	docrep_upload_contents(base, &docrep_pgatts_upload_ops, docs, source);
	packed = docrep_wire_pack_docs(docs, peer->protocol >= DOCREP_WIRE_ORIGINS);
	docrep_pgparam_uuid(&params, peer->table);
	docrep_pgparam_bytea(&params, packed);
	docrep_pgparam_int(&params, ++peer->writes);
	docrep_pgparam_text(&params, origin ? origin->replication_id : NULL);
	docrep_pgparam_text(&params, origin ? origin->source : NULL);
	docrep_pgparam_text(&params, local_id);
	docrep_pgparam_text(&params, local_doc);
	(void) send_request(peer, REQUEST_WRITE,
						"SELECT docrep.peer_write($1, $2, $3, $4, $5, $6, $7)", &params);
	pfree(packed);
}

static void
postgres_recv_write(DocrepPeer *base, DocrepDocs *docs)
{
	PostgresPeer *peer = (PostgresPeer *) base;
	const char *doing = "writing documents";
	DocrepRequest *request = oldest_request(peer, REQUEST_WRITE);
	const char *data;
	Size		len;

	data = copied_value(peer, doing, docs->cxt, &len);
	end_answer(peer, request, doing);
	docrep_wire_unpack_written(data, len, docs);
}

static void
postgres_flush(DocrepPeer *base)
{
	PostgresPeer *peer = (PostgresPeer *) base;
	const char *doing = "flushing";
	DocrepPgParams params = {0};
	DocrepRequest *request;

	if (peer->writes == 0 && !peer->unflushed)
		return;
	(void) send_request(peer, REQUEST_OTHER, "SELECT docrep.peer_flush()", &params);
	request = oldest_request(peer, REQUEST_OTHER);
	(void) docrep_pgconn_expect(peer->c, PGRES_TUPLES_OK, base->options.request_timeout, doing);
	end_answer(peer, request, doing);
}

const char *
docrep_postgres_call(DocrepPeer *base, const char *sql, DocrepPgParams *params,
					 const char *doing, MemoryContext cxt, Size *len)
{
	PostgresPeer *peer = (PostgresPeer *) base;
	DocrepRequest *request;
	const char *data;
	char	   *copy = NULL;

	(void) send_request(peer, REQUEST_OTHER, sql, params);
	request = oldest_request(peer, REQUEST_OTHER);
	if (single_value(peer, doing, &data, len))
	{
		copy = MemoryContextAlloc(cxt, *len + 1);
		memcpy(copy, data, *len);
	}
	end_answer(peer, request, doing);
	return copy;
}

bool
docrep_postgres_begin_call(DocrepPeer *base, int protocol, DocrepPgParams *params)
{
	PostgresPeer *peer = (PostgresPeer *) base;

	memset(params, 0, sizeof(*params));
	docrep_pgparam_uuid(params, peer->table);
	return peer->protocol >= protocol;
}

void
docrep_postgres_wrote(DocrepPeer *base)
{
	((PostgresPeer *) base)->unflushed = true;
}

DocrepPgAtts *
docrep_pgatts_of(DocrepPeer *base)
{
	return ((PostgresPeer *) base)->atts;
}

static const DocrepPeerOps postgres_ops = {
	.kind = "postgres",
	.keeps_refused = true,
	.swaps = true,
	.tells_known = true,
	.tells_times = true,
	.open = postgres_open,
	.close = postgres_close,
	.get_local = postgres_get_local,
	.put_local = postgres_put_local,
	.swap_local = postgres_swap_local,
	.fence = postgres_fence,
	.filter_identity = postgres_filter_identity,
	.send_changes = postgres_send_changes,
	.recv_changes = postgres_recv_changes,
	.hold_versions = postgres_hold_versions,
	.send_fetch = postgres_send_fetch,
	.recv_fetch = postgres_recv_fetch,
	.open_att = docrep_pgatts_open,
	.read_att = docrep_pgatts_read,
	.close_att = docrep_pgatts_close,
	.send_wait = postgres_send_wait,
	.recv_wait = postgres_recv_wait,
#ifdef DOCREP_CAN_WATCH
	.wait_place = postgres_wait_place,
#endif
	.send_diff = postgres_send_diff,
	.recv_diff = postgres_recv_diff,
	.send_write = postgres_send_write,
	.recv_write = postgres_recv_write,
	.flush = postgres_flush,
	.versions_have = docrep_postgres_versions_have,
	.versions_read = docrep_postgres_versions_read,
	.versions_write = docrep_postgres_versions_write,
};

DocrepPeer *
docrep_postgres_peer_make(const DocrepEndpoint *endpoint, MemoryContext cxt)
{
	MemoryContext old = MemoryContextSwitchTo(cxt);
	PostgresPeer *peer = palloc0(sizeof(PostgresPeer));

	peer->base.ops = &postgres_ops;
	peer->base.atomic_checkpoint = true;
	peer->url = docrep_pgurl_parse(endpoint->spec);
	peer->spec = pstrdup(endpoint->spec);
	peer->c = docrep_pgconn_create(cxt);
	peer->atts = docrep_pgatts_create(&peer->base, peer->url, peer->table);
	dlist_init(&peer->requests);
	MemoryContextSwitchTo(old);
	return &peer->base;
}
