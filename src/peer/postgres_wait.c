/*-------------------------------------------------------------------------
 *
 * postgres_wait.c
 *		Another Postgres server as a source: waiting for changes.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "peer/postgres_internal.h"
#include "store/errcodes.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

/* a wait's answer may come this much later than it should, in ms */
#define WAIT_GRACE		10000

/*
 * A wait that recv_wait left because of the latch is still under way, and
 * serves again if it is for the same.
 */
void
docrep_postgres_send_wait(DocrepPeer *base, const char *since, int timeout)
{
	PostgresPeer *peer = (PostgresPeer *) base;
	DocrepPgParams params = {0};
	DocrepRequest *request = NULL;

	if (!dlist_is_empty(&peer->requests))
	{
		request = dlist_tail_element(DocrepRequest, link, &peer->requests);
		if (request->kind == REQUEST_WAIT && strcmp(request->since, since) != 0)
		{
			docrep_postgres_discard_wait(peer, request);
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
		request = docrep_postgres_send(peer, REQUEST_WAIT,
									   "CALL docrep.peer_wait($1, $2, $3, NULL)", &params);
		request->since = MemoryContextStrdup(base->cxt, since);
	}
	request->deadline = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), timeout);
}

bool
docrep_postgres_recv_wait(DocrepPeer *base)
{
	PostgresPeer *peer = (PostgresPeer *) base;
	const char *doing = "waiting for changes";
	DocrepRequest *request = docrep_postgres_oldest(peer, REQUEST_WAIT);
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
	docrep_postgres_end_answer(peer, request, doing);
	return changed;
}

#ifdef DOCREP_CAN_WATCH
/* Whether there is something already the watch finds out at once. */
bool
docrep_postgres_wait_place(DocrepPeer *base, const char *since, DocrepWaitPlace *place)
{
	PostgresPeer *peer = (PostgresPeer *) base;

	docrep_wait_place_fill(place, base, peer->spec, since, peer->restricted);
	memcpy(&place->table, peer->table, UUID_LEN);
	return true;
}
#endif
