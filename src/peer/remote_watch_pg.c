/*-------------------------------------------------------------------------
 *
 * remote_watch_pg.c
 *		Waiting for tables of other Postgres servers: who shares a connection.
 *
 * Waits that would connect with the same parameters (server, user, password,
 * options) share one, on which one call waits for all their tables.  A server
 * whose docrep is too old for that gets a connection a table, at most
 * MAX_SINGLE of them.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "peer/postgres_conn.h"
#include "peer/remote_watch_pg.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

/* connections to a server that waits for one table with each */
#define MAX_SINGLE			20

#define DEFAULT_TIMEOUT		30000
#define SHORTEST_TIMEOUT	2000

static dlist_head groups = DLIST_STATIC_INIT(groups);
static HTAB *numbers = NULL;	/* PgWaiter by number */
static int64 last_number = 0;

typedef struct NumberEntry
{
	int64		number;			/* hash key */
	PgWaiter   *waiter;
} NumberEntry;

PgWaiter *
docrep_watch_pg_waiter(int64 number)
{
	NumberEntry *entry = hash_search(numbers, &number, HASH_FIND, NULL);

	return entry ? entry->waiter : NULL;
}

/* ---------- groups ---------- */

/* What has to be the same for two waits to share a connection; holds a password. */
static char *
group_id(const DocrepPgUrl *url, const DocrepWaitPlace *place, int timeout)
{
	StringInfoData buf;
	const char **keywords;
	const char **values;

	initStringInfo(&buf);
	appendStringInfo(&buf, "%d %d %s", place->restricted, timeout,
					 place->options.socket_options ? place->options.socket_options : "");
	docrep_pgconn_parameters(url, place->restricted, &keywords, &values);
	for (int i = 0; keywords[i] != NULL; i++)
		appendStringInfo(&buf, " %s %zu %s", keywords[i], strlen(values[i]), values[i]);
	return buf.data;
}

/* The group of a place, made if need be.  What the role may not connect to: DR403. */
static PgGroup *
find_group(const DocrepWaitPlace *place, MemoryContext parent)
{
	/* goes with the key, unless it becomes a group */
	MemoryContext cxt = AllocSetContextCreate(parent, "docrep watched server",
											  ALLOCSET_SMALL_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(cxt);
	DocrepPgUrl *url = docrep_pgurl_parse(place->endpoint->spec);
	int			timeout = place->options.connection_timeout;
	PgGroup    *group;
	dlist_iter	iter;
	char	   *id;

	if (timeout <= 0)
		timeout = DEFAULT_TIMEOUT;
	timeout = Max(timeout, SHORTEST_TIMEOUT);
	if (place->restricted)
		docrep_pgurl_restrict(url);
	docrep_pgurl_take_options(url, &place->options);
	id = group_id(url, place, timeout);
	MemoryContextSwitchTo(caller);
	dlist_foreach(iter, &groups)
	{
		group = dlist_container(PgGroup, link, iter.cur);
		if (strcmp(group->id, id) == 0)
		{
			MemoryContextDelete(cxt);
			return group;
		}
	}
	group = MemoryContextAllocZero(cxt, sizeof(PgGroup));
	MemoryContextSetParent(cxt, docrep_watch_cxt);
	group->cxt = cxt;
	group->id = id;
	group->url = url;
	group->restricted = place->restricted;
	group->timeout = timeout;
	dlist_init(&group->conns);
	dlist_push_tail(&groups, &group->link);
	return group;
}

/* Give a waiter a connection; without one it is late. */
static void
assign(PgWaiter *waiter)
{
	PgGroup    *group = waiter->group;

	if (group->single && group->nconns >= MAX_SINGLE)
	{
		docrep_watch_complain("a server has an older version of docrep",
							  "Update docrep there: it will wait for many tables over one connection.");
		docrep_watch_late(waiter->key);
		return;
	}
	if (group->single || dlist_is_empty(&group->conns))
	{
		if (!docrep_watch_has_descriptor())
		{
			docrep_watch_late(waiter->key);
			return;
		}
		(void) docrep_watch_conn_create(group);
	}
	docrep_watch_conn_add(dlist_tail_element(PgWatchConn, link, &group->conns), waiter);
}

/* The server cannot wait for many tables with one call: a connection for each. */
static void
make_single(PgGroup *group, PgWatchConn *c)
{
	dlist_mutable_iter iter;
	dlist_head	homeless;

	group->single = true;
	dlist_init(&homeless);
	dlist_foreach_modify(iter, &c->waiters)
	{
		PgWaiter   *waiter = dlist_container(PgWaiter, link, iter.cur);

		docrep_watch_conn_remove(waiter);
		dlist_push_tail(&homeless, &waiter->link);
	}
	docrep_watch_conn_free(c);
	while (!dlist_is_empty(&homeless))
	{
		PgWaiter   *waiter = dlist_container(PgWaiter, link, dlist_pop_head_node(&homeless));

		if (waiter->key->state == WATCH_WAITING)
			assign(waiter);
	}
}

/* ---------- waits ---------- */

/* The key is not waited for any more. */
static void
release_waiter(WatchKey *key)
{
	PgWaiter   *waiter = key->waiter;

	(void) hash_search(numbers, &waiter->number, HASH_REMOVE, NULL);
	docrep_watch_conn_remove(waiter);
}

void
docrep_watch_pg_add(WatchKey *key, const DocrepWaitPlace *place)
{
	PgWaiter   *waiter = MemoryContextAllocZero(key->cxt, sizeof(PgWaiter));
	NumberEntry *entry;

	if (numbers == NULL)
	{
		HASHCTL		ctl = {0};

		ctl.keysize = sizeof(int64);
		ctl.entrysize = sizeof(NumberEntry);
		numbers = hash_create("docrep watched tables", 256, &ctl, HASH_ELEM | HASH_BLOBS);
	}
	waiter->key = key;
	waiter->group = find_group(place, key->cxt);
	waiter->table = DatumGetCString(DirectFunctionCall1(uuid_out,
														UUIDPGetDatum(&place->table)));
	waiter->table = MemoryContextStrdup(key->cxt, waiter->table);
	waiter->since = place->since;
	waiter->number = ++last_number;
	entry = hash_search(numbers, &waiter->number, HASH_ENTER, NULL);
	entry->waiter = waiter;
	key->waiter = waiter;
	key->release = release_waiter;
	assign(waiter);
}

/* See to a group; false: it is gone. */
static bool
tend_group(PgGroup *group, TimestampTz now, long *timeout)
{
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, &group->conns)
	{
		PgWatchConn *c = dlist_container(PgWatchConn, link, iter.cur);

		if (!docrep_watch_conn_tend(c, now, timeout))
		{
			make_single(group, c);
			/* there are others in the list now */
			*timeout = 0;
			break;
		}
		if (c->unused_since != 0 &&
			(group->single || TimestampDifferenceExceeds(c->unused_since, now, WATCH_LINGER)))
			docrep_watch_conn_free(c);
	}
	if (group->nconns > 0)
	{
		group->unused_since = 0;
		return true;
	}
	/* what it knows of the server is kept for a while, too */
	if (group->unused_since == 0)
		group->unused_since = now;
	if (!TimestampDifferenceExceeds(group->unused_since, now, group->single ? WATCH_LINGER : 0))
		return true;
	dlist_delete(&group->link);
	MemoryContextDelete(group->cxt);
	return false;
}

void
docrep_watch_pg_tend(TimestampTz now, long *timeout)
{
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, &groups)
		(void) tend_group(dlist_container(PgGroup, link, iter.cur), now, timeout);
}
