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
#include "miscadmin.h"
#include "peer/postgres_internal.h"
#include "peer/postgres_versions.h"
#include "port/pg_bswap.h"
#include "store/errcodes.h"
#include "store/wire_format.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/uuid.h"

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
	request = docrep_postgres_send(peer, REQUEST_OTHER,
								   "SELECT protocol, tbl FROM docrep.peer_open($1, $2, $3)",
								   &params);
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
	docrep_postgres_end_answer(peer, request, "opening");

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

/* ---------- calls of other files ---------- */

const char *
docrep_postgres_call(DocrepPeer *base, const char *sql, DocrepPgParams *params,
					 const char *doing, MemoryContext cxt, Size *len)
{
	PostgresPeer *peer = (PostgresPeer *) base;
	DocrepRequest *request;
	const char *data;
	char	   *copy = NULL;

	(void) docrep_postgres_send(peer, REQUEST_OTHER, sql, params);
	request = docrep_postgres_oldest(peer, REQUEST_OTHER);
	if (docrep_postgres_value(peer, doing, &data, len))
	{
		copy = MemoryContextAlloc(cxt, *len + 1);
		memcpy(copy, data, *len);
	}
	docrep_postgres_end_answer(peer, request, doing);
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

/* ---------- the peer ---------- */

static const DocrepPeerOps postgres_ops = {
	.kind = "postgres",
	.keeps_refused = true,
	.swaps = true,
	.tells_known = true,
	.tells_times = true,
	.open = postgres_open,
	.close = postgres_close,
	.get_local = docrep_postgres_get_local,
	.put_local = docrep_postgres_put_local,
	.swap_local = docrep_postgres_swap_local,
	.fence = docrep_postgres_fence,
	.filter_identity = docrep_postgres_filter_identity,
	.send_changes = docrep_postgres_send_changes,
	.recv_changes = docrep_postgres_recv_changes,
	.hold_versions = docrep_postgres_hold_versions,
	.send_fetch = docrep_postgres_send_fetch,
	.recv_fetch = docrep_postgres_recv_fetch,
	.open_att = docrep_pgatts_open,
	.read_att = docrep_pgatts_read,
	.close_att = docrep_pgatts_close,
	.send_wait = docrep_postgres_send_wait,
	.recv_wait = docrep_postgres_recv_wait,
#ifdef DOCREP_CAN_WATCH
	.wait_place = docrep_postgres_wait_place,
#endif
	.send_diff = docrep_postgres_send_diff,
	.recv_diff = docrep_postgres_recv_diff,
	.send_write = docrep_postgres_send_write,
	.recv_write = docrep_postgres_recv_write,
	.flush = docrep_postgres_flush,
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
