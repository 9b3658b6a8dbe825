/*-------------------------------------------------------------------------
 *
 * postgres_requests.c
 *		Another Postgres server: requests in order, and their answers.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "peer/postgres_internal.h"
#include "store/errcodes.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

/* how often, and for how long, a wait that nobody needs any more is disturbed */
#define POKE_INTERVAL	100
#define POKE_TIMEOUT	5000

DocrepRequest *
docrep_postgres_send(PostgresPeer *peer, DocrepRequestKind kind, const char *sql,
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

void
docrep_postgres_discard_wait(PostgresPeer *peer, DocrepRequest *request)
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

DocrepRequest *
docrep_postgres_oldest(PostgresPeer *peer, DocrepRequestKind kind)
{
	while (kind != REQUEST_WAIT && !dlist_is_empty(&peer->requests))
	{
		DocrepRequest *head = dlist_head_element(DocrepRequest, link, &peer->requests);

		if (head->kind != REQUEST_WAIT)
			break;
		docrep_postgres_discard_wait(peer, head);
	}
	return docrep_request_head(&peer->requests, kind);
}

bool
docrep_postgres_value(PostgresPeer *peer, const char *doing, const char **data, Size *len)
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

const char *
docrep_postgres_copied_value(PostgresPeer *peer, const char *doing, MemoryContext cxt, Size *len)
{
	const char *data;
	char	   *copy;

	if (!docrep_postgres_value(peer, doing, &data, len))
		*len = 0;
	copy = MemoryContextAlloc(cxt, *len + 1);
	memcpy(copy, data, *len);
	return copy;
}

void
docrep_postgres_end_answer(PostgresPeer *peer, DocrepRequest *request, const char *doing)
{
	docrep_pgconn_finish(peer->c, peer->base.options.request_timeout, doing);
	docrep_request_drop(request);
}
