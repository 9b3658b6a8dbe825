/*-------------------------------------------------------------------------
 *
 * remote_watch_connect.c
 *		How a connection of the watch to another Postgres server is made: names,
 *		addresses, libpq's steps.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <arpa/inet.h>
#ifdef HAVE_SYS_EPOLL_H
#include <sys/epoll.h>
#else
#define EPOLLIN		1
#define EPOLLOUT	4
#endif

#include "peer/peers.h"
#include "peer/postgres_conn.h"
#include "peer/postgres_error.h"
#include "peer/remote_watch_pg.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

/* The connection has not come about. */
static void
fail_connect(PgWatchConn *c)
{
	char	   *message = pstrdup(PQerrorMessage(c->conn));
	char	   *state = docrep_pgerror_take_state(message);

	if (state == NULL && docrep_pgerror_is_no_password(c->conn))
		state = "42501";
	docrep_watch_conn_fail(c, state);
	pfree(message);
}

void
docrep_watch_conn_socket(PgWatchConn *c, uint32 events)
{
	int			fd = PQsocket(c->conn);

	if (fd != c->fd)
		docrep_watch_forget_socket(c->fd);
	c->fd = fd;
	if (!docrep_watch_socket(fd, events, &c->socket))
		c->deadline = GetCurrentTimestamp();	/* nothing would ever happen */
}

/* Must the hosts of a URL be resolved? */
static bool
needs_lookup(const DocrepPgUrl *url)
{
	const char *hosts = docrep_pgurl_get(url, "host");
	char	   *copy;
	char	   *save = NULL;
	bool		needed = false;

	if (hosts == NULL || docrep_pgurl_get(url, "hostaddr") != NULL)
		return false;
	copy = pstrdup(hosts);
	for (char *host = strtok_r(copy, ",", &save); host != NULL; host = strtok_r(NULL, ",", &save))
	{
		uint8		address[16];

		if (host[0] != '/' && host[0] != '@' && inet_pton(AF_INET, host, address) != 1 &&
			inet_pton(AF_INET6, host, address) != 1)
			needed = true;
	}
	pfree(copy);
	return needed;
}

/* Replace, or add, a parameter. */
static void
set_parameter(const char **keywords, const char **values, const char *name, const char *value)
{
	int			i = 0;

	while (keywords[i] != NULL && strcmp(keywords[i], name) != 0)
		i++;
	if (keywords[i] == NULL)
	{
		keywords[i] = name;
		keywords[i + 1] = values[i + 1] = NULL;
	}
	values[i] = value;
}

/* The connection's address must not be among docrep.denied_hosts. */
static bool
address_allowed(PgWatchConn *c)
{
	char	   *address = PQhostaddr(c->conn);

	return address == NULL || address[0] == '\0' || docrep_host_possible(address, false);
}

/* Notices of the other server are of no use in our log. */
static void
ignore_notice(void *arg, const PGresult *result)
{
}

/* Begin to connect, to the addresses that a lookup has found (NULL: none was needed). */
static void
start_connecting(PgWatchConn *c, const WatchLookup *lookup)
{
	const DocrepPgUrl *url = c->group->url;
	const char **keywords;
	const char **values;

	docrep_pgconn_parameters(url, c->group->restricted, &keywords, &values);
	if (lookup != NULL)
	{
		char	   *hosts;
		char	   *addresses;
		char	   *ports;

		if (!docrep_watch_lookup_result(lookup, &hosts, &addresses, &ports))
		{
			docrep_watch_conn_fail(c, NULL);
			return;
		}
		set_parameter(keywords, values, "host", hosts);
		set_parameter(keywords, values, "hostaddr", addresses);
		if (docrep_pgurl_get(url, "port") != NULL)
			set_parameter(keywords, values, "port", ports);
	}
	c->conn = PQconnectStartParams(keywords, values, 0);
	if (c->conn == NULL || PQstatus(c->conn) == CONNECTION_BAD)
	{
		docrep_watch_conn_fail(c, NULL);
		return;
	}
	PQsetNoticeReceiver(c->conn, ignore_notice, NULL);
	PQsetErrorVerbosity(c->conn, PQERRORS_VERBOSE);	/* shows the SQLSTATE */
	if (!address_allowed(c))
	{
		docrep_watch_conn_fail(c, "42501");
		return;
	}
	docrep_socket_options_apply(&url->socket_options, PQsocket(c->conn));
	c->state = PGC_CONNECTING;
	docrep_watch_conn_socket(c, EPOLLOUT);
}

/* Names are resolved, or cannot be. */
static void
names_known(WatchLookup *lookup, void *arg)
{
	PgWatchConn *c = arg;
	MemoryContext scratch = AllocSetContextCreate(c->cxt, "docrep watch names",
												  ALLOCSET_SMALL_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(scratch);

	c->lookup = NULL;
	start_connecting(c, lookup);
	docrep_watch_lookup_drop(lookup);
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(scratch);
}

void
docrep_watch_conn_open(PgWatchConn *c, TimestampTz now)
{
	const char *own_timeout = docrep_pgurl_get(c->group->url, "connect_timeout");
	int			seconds = own_timeout ? atoi(own_timeout) : 0;
	int			timeout = c->group->timeout;

	if (seconds > 0)
		timeout = Min(timeout, Min(seconds, 3600) * 1000);
	c->deadline = TimestampTzPlusMilliseconds(now, timeout);
	if (!docrep_watch_has_descriptor())
	{
		docrep_watch_conn_give_up(c, true);
		return;
	}
	if (!needs_lookup(c->group->url))
	{
		start_connecting(c, NULL);
		return;
	}
	c->state = PGC_RESOLVING;
	c->lookup = docrep_watch_lookup(docrep_pgurl_get(c->group->url, "host"),
									docrep_pgurl_get(c->group->url, "port"), names_known, c);
	if (c->lookup == NULL)
		docrep_watch_conn_give_up(c, true);
}

/* The connection stands: is it one that the role may use? */
static void
connected(PgWatchConn *c)
{
	if ((c->group->restricted && !PQconnectionUsedPassword(c->conn)) ||
		PQsetnonblocking(c->conn, 1) != 0 || !PQenterPipelineMode(c->conn))
	{
		docrep_watch_conn_fail(c, "42501");
		return;
	}
	c->state = PGC_IDLE;
	docrep_watch_conn_socket(c, EPOLLIN);
}

void
docrep_watch_conn_go_on(PgWatchConn *c)
{
	PostgresPollingStatusType status;
	int			before = PQsocket(c->conn);

	status = PQconnectPoll(c->conn);
	/* one that was closed may have given its number to the next */
	if (PQsocket(c->conn) != before)
	{
		docrep_watch_forget_socket(c->fd);
		c->fd = -1;
	}
	if (status == PGRES_POLLING_FAILED || PQsocket(c->conn) < 0)
		fail_connect(c);
	else if (!address_allowed(c))
		docrep_watch_conn_fail(c, "42501");
	else if (status == PGRES_POLLING_OK)
		connected(c);
	else
		docrep_watch_conn_socket(c, status == PGRES_POLLING_READING ? EPOLLIN : EPOLLOUT);
}
