/*-------------------------------------------------------------------------
 *
 * remote_watch_conn.c
 *		A connection to another Postgres server that waits for its tables.
 *
 *	OFF -> RESOLVING -> CONNECTING -> IDLE <-> CALLING
 *
 * One call is under way at a time.  Each lasts for half of the group's timeout
 * at most, so that a server which does not answer is noticed whatever keeps
 * the connection's TCP alive.  When what is waited for has changed, the call
 * is ended by a Flush message and the next one says what has changed.
 *
 * A connection that had been answered and breaks is made again for
 * WATCH_PATIENCE ms before its keys have news: a restart of the server is
 * news only for those whose tables have changed.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#ifdef HAVE_SYS_EPOLL_H
#include <sys/epoll.h>
#else
#define EPOLLIN		1
#define EPOLLOUT	4
#endif

#include "catalog/pg_type.h"
#include "lib/stringinfo.h"
#include "peer/remote_watch_pg.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

/* changes of what is waited for that come within this time go with one call, in ms */
#define COALESCE		5

/* a call that is to be ended is disturbed so often, in ms */
#define POKE_INTERVAL	100

/* pause before a connection is made again, in ms */
#define RETRY_PAUSE		250

static void serve_conn(WatchSocket *socket, int fd, uint32 events);

/* ---------- life ---------- */

PgWatchConn *
docrep_watch_conn_create(PgGroup *group)
{
	MemoryContext cxt = AllocSetContextCreate(group->cxt, "docrep watch connection",
											  ALLOCSET_SMALL_SIZES);
	PgWatchConn *c = MemoryContextAllocZero(cxt, sizeof(PgWatchConn));

	c->socket.ready = serve_conn;
	c->group = group;
	c->cxt = cxt;
	c->fd = -1;
	c->unused_since = GetCurrentTimestamp();
	dlist_init(&c->waiters);
	dlist_push_tail(&group->conns, &c->link);
	group->nconns++;
	return c;
}

/* Close what is open. */
static void
disconnect(PgWatchConn *c)
{
	dlist_iter	iter;

	docrep_watch_forget_socket(c->fd);
	c->fd = -1;
	if (c->lookup != NULL)
		docrep_watch_lookup_drop(c->lookup);
	c->lookup = NULL;
	if (c->conn != NULL)
		PQfinish(c->conn);
	c->conn = NULL;
	c->state = PGC_OFF;
	c->unsent = c->stood = c->begun = c->dirty = c->closing = false;
	c->ngone = 0;
	dlist_foreach(iter, &c->waiters)
		dlist_container(PgWaiter, link, iter.cur)->sent = false;
}

void
docrep_watch_conn_free(PgWatchConn *c)
{
	Assert(c->nwaiters == 0);
	disconnect(c);
	dlist_delete(&c->link);
	c->group->nconns--;
	MemoryContextDelete(c->cxt);
}

/* ---------- who is waited for ---------- */

/* The call under way is not for what is to be waited for. */
static void
set_dirty(PgWatchConn *c)
{
	if (c->state != PGC_CALLING || c->dirty)
		return;
	c->dirty = true;
	c->poke_at = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), COALESCE);
}

void
docrep_watch_conn_add(PgWatchConn *c, PgWaiter *waiter)
{
	waiter->conn = c;
	waiter->sent = false;
	dlist_push_tail(&c->waiters, &waiter->link);
	c->nwaiters++;
	c->unused_since = 0;
	set_dirty(c);
}

/* The other side is to forget a number. */
static void
note_gone(PgWatchConn *c, int64 number)
{
	if (c->ngone == c->max_gone)
	{
		c->max_gone = Max(16, c->max_gone * 2);
		c->gone = c->gone ? repalloc(c->gone, c->max_gone * sizeof(int64)) :
			MemoryContextAlloc(c->cxt, c->max_gone * sizeof(int64));
	}
	c->gone[c->ngone++] = number;
	set_dirty(c);
}

void
docrep_watch_conn_remove(PgWaiter *waiter)
{
	PgWatchConn *c = waiter->conn;

	if (c == NULL)
		return;
	waiter->conn = NULL;
	dlist_delete(&waiter->link);
	if (--c->nwaiters == 0)
		c->unused_since = GetCurrentTimestamp();
	if (waiter->sent && !c->group->single)
		note_gone(c, waiter->number);
	waiter->sent = false;
}

/* ---------- when it fails ---------- */

void
docrep_watch_conn_give_up(PgWatchConn *c, bool are_late)
{
	disconnect(c);
	c->lost_at = 0;
	while (!dlist_is_empty(&c->waiters))
	{
		PgWaiter   *waiter = dlist_head_element(PgWaiter, link, &c->waiters);

		docrep_watch_conn_remove(waiter);
		if (are_late)
			docrep_watch_late(waiter->key);
		else
			docrep_watch_news(waiter->key);
	}
}

void
docrep_watch_conn_fail(PgWatchConn *c, const char *state)
{
	TimestampTz now = GetCurrentTimestamp();
	bool		may_pass = state == NULL || strncmp(state, "57", 2) == 0 ||
		strncmp(state, "08", 2) == 0;

	ereport(DEBUG1,
			(errmsg_internal("waiting for changes at a server failed (SQLSTATE %s)",
							 state ? state : "none")));
	if (state != NULL && strncmp(state, "53", 2) == 0)
	{
		docrep_watch_complain("a server has too few connections, or other resources, left",
							  "Look at max_connections there, and at the connection limits of the role and the database.");
		docrep_watch_conn_give_up(c, true);
		return;
	}
	if (c->stood)
		c->lost_at = now;
	if (!may_pass || c->lost_at == 0 ||
		TimestampDifferenceExceeds(c->lost_at, now, WATCH_PATIENCE))
	{
		docrep_watch_conn_give_up(c, false);
		return;
	}
	disconnect(c);
	c->retry_at = TimestampTzPlusMilliseconds(now, RETRY_PAUSE);
}

/* ---------- calls ---------- */

/* Let libpq send what the socket takes. */
static void
flush_conn(PgWatchConn *c)
{
	bool		unsent = PQflush(c->conn) > 0;

	if (unsent != c->unsent)
		docrep_watch_conn_socket(c, EPOLLIN | (unsent ? EPOLLOUT : 0));
	c->unsent = unsent;
}

/* An element of an array of texts. */
static void
add_quoted(StringInfo array, const char *text)
{
	appendStringInfoString(array, array->len > 1 ? ",\"" : "\"");
	for (; *text != '\0'; text++)
	{
		if (*text == '"' || *text == '\\')
			appendStringInfoChar(array, '\\');
		appendStringInfoChar(array, *text);
	}
	appendStringInfoChar(array, '"');
}

/* Send the call that tells of all changes. */
static bool
send_many(PgWatchConn *c, int timeout)
{
	static const Oid types[5] = {INT8ARRAYOID, INT8ARRAYOID, UUIDARRAYOID, TEXTARRAYOID, INT4OID};
	const char *values[5];
	StringInfoData gone;
	StringInfoData added;
	StringInfoData tables;
	StringInfoData sinces;
	char		ms[16];
	dlist_iter	iter;
	bool		sent;

	initStringInfo(&gone);
	initStringInfo(&added);
	initStringInfo(&tables);
	initStringInfo(&sinces);
	for (int i = 0; i < c->ngone; i++)
		appendStringInfo(&gone, "%c" INT64_FORMAT, i == 0 ? '{' : ',', c->gone[i]);
	appendStringInfoString(&gone, c->ngone == 0 ? "{}" : "}");
	appendStringInfoChar(&added, '{');
	appendStringInfoChar(&tables, '{');
	appendStringInfoChar(&sinces, '{');
	/* those that are new are at the end */
	for (dlist_node *node = dlist_is_empty(&c->waiters) ? NULL : dlist_tail_node(&c->waiters);
		 node != NULL; node = dlist_has_prev(&c->waiters, node) ? dlist_prev_node(&c->waiters, node) : NULL)
	{
		PgWaiter   *waiter = dlist_container(PgWaiter, link, node);

		if (waiter->sent)
			break;
		appendStringInfo(&added, "%s" INT64_FORMAT, added.len > 1 ? "," : "", waiter->number);
		appendStringInfo(&tables, "%s%s", tables.len > 1 ? "," : "", waiter->table);
		add_quoted(&sinces, waiter->since);
	}
	appendStringInfoChar(&added, '}');
	appendStringInfoChar(&tables, '}');
	appendStringInfoChar(&sinces, '}');
	snprintf(ms, sizeof(ms), "%d", timeout);
	values[0] = c->begun ? gone.data : NULL;
	values[1] = added.data;
	values[2] = tables.data;
	values[3] = sinces.data;
	values[4] = ms;
	sent = PQsendQueryParams(c->conn, "CALL docrep.peer_wait_many($1, $2, $3, $4, $5, NULL)",
							 5, types, values, NULL, NULL, 0) != 0;
	dlist_foreach(iter, &c->waiters)
		dlist_container(PgWaiter, link, iter.cur)->sent = true;
	c->ngone = 0;
	pfree(gone.data);
	pfree(added.data);
	pfree(tables.data);
	pfree(sinces.data);
	return sent;
}

/* Send the call of a server that waits for one table at a time. */
static bool
send_single(PgWatchConn *c, int timeout)
{
	static const Oid types[3] = {UUIDOID, TEXTOID, INT4OID};
	PgWaiter   *waiter = dlist_head_element(PgWaiter, link, &c->waiters);
	const char *values[3];
	char		ms[16];

	snprintf(ms, sizeof(ms), "%d", timeout);
	values[0] = waiter->table;
	values[1] = waiter->since;
	values[2] = ms;
	waiter->sent = true;
	return PQsendQueryParams(c->conn, "CALL docrep.peer_wait($1, $2, $3, NULL)",
							 3, types, values, NULL, NULL, 0) != 0;
}

/* Begin the next call. */
static void
begin_call(PgWatchConn *c, TimestampTz now)
{
	/* the first one takes off the session's limits of time, and so returns at once */
	int			timeout = c->begun ? c->group->timeout / 2 : 0;
	bool		sent = c->group->single ? send_single(c, timeout) : send_many(c, timeout);

	if (!sent || !PQpipelineSync(c->conn))
	{
		docrep_watch_conn_fail(c, NULL);
		return;
	}
	c->state = PGC_CALLING;
	c->begun = true;
	c->dirty = false;
	c->deadline = TimestampTzPlusMilliseconds(now, c->group->timeout);
	flush_conn(c);
}

/* The other side names what has changed: "{1,2}", or of a single table "t". */
static void
take_changed(PgWatchConn *c, const char *text)
{
	if (c->group->single)
	{
		if (text[0] == 't' && !dlist_is_empty(&c->waiters))
		{
			PgWaiter   *waiter = dlist_head_element(PgWaiter, link, &c->waiters);

			docrep_watch_conn_remove(waiter);
			docrep_watch_news(waiter->key);
		}
		return;
	}
	while (*text != '\0')
	{
		int64		number = 0;
		PgWaiter   *waiter;

		text += strcspn(text, "0123456789");
		if (*text == '\0')
			break;
		for (; *text >= '0' && *text <= '9'; text++)
			number = number * 10 + (*text - '0');
		waiter = docrep_watch_pg_waiter(number);
		if (waiter == NULL || waiter->conn != c)
			continue;
		waiter->sent = false;	/* the other side has forgotten it */
		docrep_watch_conn_remove(waiter);
		docrep_watch_news(waiter->key);
	}
}

/* A result has come.  False: the connection has failed, or does not wait for any. */
static bool
take_result(PgWatchConn *c, PGresult *result)
{
	const char *state;
	char		copy[6];

	switch (PQresultStatus(result))
	{
		case PGRES_TUPLES_OK:
			if (PQntuples(result) == 1 && PQnfields(result) == 1 && !PQgetisnull(result, 0, 0))
				take_changed(c, PQgetvalue(result, 0, 0));
			return true;
		case PGRES_PIPELINE_SYNC:
			c->state = PGC_IDLE;
			c->stood = true;
			c->lost_at = 0;
			return false;
		default:
			state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
			strlcpy(copy, state ? state : "", sizeof(copy));
			if (strcmp(copy, "42883") == 0 && !c->group->single)
				c->closing = true;	/* as tend says */
			else
				docrep_watch_conn_fail(c, copy[0] ? copy : NULL);
			return false;
	}
}

/* Take what has come. */
static void
receive(PgWatchConn *c)
{
	bool		more = true;

	/* what TLS holds back would not make the socket readable */
	for (int i = PQsslInUse(c->conn) ? 3 : 1; i > 0; i--)
	{
		if (!PQconsumeInput(c->conn) || PQsocket(c->conn) < 0)
		{
			/* why may have come before the end */
			if (c->state != PGC_CALLING)
			{
				docrep_watch_conn_fail(c, NULL);
				return;
			}
			break;
		}
	}
	while (more && c->state == PGC_CALLING && !PQisBusy(c->conn))
	{
		PGresult   *result = PQgetResult(c->conn);

		/* NULL: the end of the statement, behind which comes the end of its transaction */
		if (result == NULL)
		{
			if (PQstatus(c->conn) == CONNECTION_BAD)
			{
				docrep_watch_conn_fail(c, NULL);
				return;
			}
			if (PQisBusy(c->conn))
				break;
			result = PQgetResult(c->conn);
			if (result == NULL)
				break;
		}
		more = take_result(c, result);
		PQclear(result);
	}
}

static void
serve_conn(WatchSocket *socket, int fd, uint32 events)
{
	PgWatchConn *c = (PgWatchConn *) socket;

	if (fd != c->fd || c->conn == NULL)
		docrep_watch_forget_socket(fd);
	else if (c->state == PGC_CONNECTING)
		docrep_watch_conn_go_on(c);
	else
	{
		if (c->unsent)
			flush_conn(c);
		receive(c);
	}
}

/* ---------- time ---------- */

/* End a call that is not for what is to be waited for. */
static void
poke(PgWatchConn *c, TimestampTz now)
{
	(void) PQsendFlushRequest(c->conn);
	flush_conn(c);
	c->poke_at = TimestampTzPlusMilliseconds(now, POKE_INTERVAL);
}

bool
docrep_watch_conn_tend(PgWatchConn *c, TimestampTz now, long *timeout)
{
	if (c->closing)
		return false;
	if (c->state == PGC_OFF && c->nwaiters > 0 && c->retry_at <= now)
		docrep_watch_conn_open(c, now);
	if (c->state == PGC_IDLE && (c->nwaiters > 0 || c->ngone > 0))
		begin_call(c, now);
	if (c->state == PGC_CALLING && c->dirty && c->poke_at <= now)
		poke(c, now);
	if (c->state == PGC_RESOLVING || c->state == PGC_CONNECTING || c->state == PGC_CALLING)
	{
		if (c->deadline <= now)
			docrep_watch_conn_fail(c, NULL);
		else
			docrep_watch_until(timeout, c->deadline, now);
	}
	if (c->state == PGC_CALLING && c->dirty)
		docrep_watch_until(timeout, c->poke_at, now);
	if (c->state == PGC_OFF && c->nwaiters > 0)
		docrep_watch_until(timeout, c->retry_at, now);
	return true;
}
