/*-------------------------------------------------------------------------
 *
 * postgres_conn.c
 *		A libpq connection that never blocks.
 *
 * libpq's memory is not ours: a connection and the result being read are
 * released by a callback of the memory context they belong to, on every path.
 * Resolving a host's name is the one thing that libpq does not let us
 * interrupt.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "peer/peers.h"
#include "peer/postgres_conn.h"
#include "peer/postgres_error.h"
#include "port/pg_bswap.h"
#include "storage/fd.h"
#include "storage/latch.h"
#include "store/errcodes.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

/* how long sending may hold up the caller, who has other things to do */
#define PUSH_TIMEOUT	1000

/* ---------- life ---------- */

static void
close_callback(void *arg)
{
	docrep_pgconn_close(arg);
}

DocrepPgConn *
docrep_pgconn_create(MemoryContext cxt)
{
	DocrepPgConn *c = MemoryContextAllocZero(cxt, sizeof(DocrepPgConn));

	c->on_delete.func = close_callback;
	c->on_delete.arg = c;
	MemoryContextRegisterResetCallback(cxt, &c->on_delete);
	return c;
}

void
docrep_pgconn_close(DocrepPgConn *c)
{
	if (c->result != NULL)
		PQclear(c->result);
	c->result = NULL;
	if (c->conn != NULL)
	{
		/* says good-bye if the socket takes it, and waits for nothing */
		PQfinish(c->conn);
		docrep_io_unregister(&c->io);
	}
	c->conn = NULL;
	if (c->has_fd)
		ReleaseExternalFD();
	c->has_fd = false;
}

/* ---------- waiting ---------- */

/* Let a connection send what its socket takes. */
static void
send_some(DocrepPgConn *c)
{
	/* trouble shows when its answer is read */
	if (c->unsent)
		c->unsent = PQflush(c->conn) > 0;
}

/* The socket matters while it is waited for, and while it has to take something. */
static int
list_socket(DocrepIo *io, DocrepIoSocket *sockets, int max, long *timeout)
{
	DocrepPgConn *c = (DocrepPgConn *) io;

	if (c->fd != PQsocket(c->conn))
		docrep_io_forget(c->fd);
	c->fd = PQsocket(c->conn);
	if (max < 1 || PQsocket(c->conn) < 0 || (c->wanted == 0 && !c->unsent))
		return 0;
	sockets[0].fd = PQsocket(c->conn);
	sockets[0].events = c->wanted | (c->unsent ? WL_SOCKET_WRITEABLE : 0);
	return 1;
}

/* The socket is ready. */
static void
serve_socket(DocrepIo *io, pgsocket fd, uint32 events)
{
	DocrepPgConn *c = (DocrepPgConn *) io;

	if (fd == PGINVALID_SOCKET)
		return;
	c->happened |= events & c->wanted;
	if (events & WL_SOCKET_WRITEABLE)
		send_some(c);
}

/*
 * Wait until the connection's socket is as "events" say, and meanwhile serve
 * what else the process waits for.  Returns WL_* of what happened to it, or to
 * the latch (which is reset, and interrupts are served), or WL_TIMEOUT.
 */
static int
wait_for_socket(DocrepPgConn *c, int events, TimestampTz deadline)
{
	int			happened;

	c->wanted = events;
	c->happened = 0;
	happened = docrep_io_wait(deadline);
	c->wanted = 0;
	return happened | c->happened;
}

/* ---------- connecting ---------- */

/* Raise that the other side did not answer in time. */
static void
raise_timeout(DocrepPgConn *c, const char *doing)
{
	ereport(ERROR,
			(errcode(ERRCODE_DOCREP_UNAVAILABLE),
			 errmsg("%s failed at %s", doing, c->display),
			 errdetail("It did not answer in time.")));
}

/* Is this a parameter that the libpq in use knows? */
static bool
libpq_knows(const char *keyword)
{
	PQconninfoOption *options = PQconndefaults();
	bool		found = false;

	for (PQconninfoOption *o = options; o != NULL && o->keyword != NULL && !found; o++)
		found = strcmp(o->keyword, keyword) == 0;
	PQconninfoFree(options);
	return found;
}

void
docrep_pgconn_parameters(const DocrepPgUrl *url, bool restricted,
						 const char ***keywords, const char ***values)
{
	static const char *const defaults[][2] = {
		{"application_name", "docrep"},
		{"keepalives", "1"},
		{"keepalives_idle", "30"},
		{"keepalives_interval", "10"},
		{"keepalives_count", "3"},
	};
	static const char *const restrictions[][2] = {
		{"gssencmode", "disable"},
		{"require_auth", DOCREP_PG_REQUIRED_AUTH},
		{"sslcert", "/dev/null/none"},	/* what the server's user has in its home is not theirs */
		{"sslcertmode", "disable"},
	};
	int			n = 0;
	const char **k = palloc(sizeof(char *) * (url->n + 16));
	const char **v = palloc(sizeof(char *) * (url->n + 16));

	for (int i = 0; i < url->n; i++)
	{
		if (strcmp(url->keywords[i], "client_encoding") == 0)
			continue;
		k[n] = url->keywords[i];
		v[n++] = url->values[i];
	}
	for (int i = 0; i < lengthof(defaults); i++)
	{
		if (docrep_pgurl_get(url, defaults[i][0]) != NULL)
			continue;
		k[n] = defaults[i][0];
		v[n++] = defaults[i][1];
	}
	for (int i = 0; restricted && i < lengthof(restrictions); i++)
	{
		if (!libpq_knows(restrictions[i][0]))
			continue;
		if (url->certificate && strncmp(restrictions[i][0], "sslcert", 7) == 0)
			continue;
		k[n] = restrictions[i][0];
		v[n++] = restrictions[i][1];
	}
	k[n] = "client_encoding";
	v[n++] = "UTF8";
	k[n] = v[n] = NULL;
	*keywords = k;
	*values = v;
}

/* Notices of the other server are of no use in our log. */
static void
ignore_notice(void *arg, const PGresult *result)
{
}

/*
 * The address that is being connected to must not be among docrep.denied_hosts.
 * Nothing has been sent to it before this is looked at.
 */
static void
check_address(DocrepPgConn *c)
{
	char	   *address = PQhostaddr(c->conn);

	if (address != NULL && address[0] != '\0' && !docrep_host_possible(address, false))
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_FORBIDDEN),
				 errmsg("permission denied for endpoint %s", c->display),
				 errdetail("The host's address is not one that replications may connect to."),
				 errhint("See docrep.denied_hosts.")));
}

/* Take the connection through its states until it stands or the time is up. */
static void
poll_connection(DocrepPgConn *c, TimestampTz deadline)
{
	PostgresPollingStatusType status = PGRES_POLLING_WRITING;

	while (status != PGRES_POLLING_OK)
	{
		int			events = status == PGRES_POLLING_READING ? WL_SOCKET_READABLE :
			WL_SOCKET_WRITEABLE;
		int			happened;

		/* the socket may be another one each time */
		if (PQsocket(c->conn) < 0)
			docrep_pgerror_connect(c);
		check_address(c);
		happened = wait_for_socket(c, events, deadline);
		if (happened & WL_TIMEOUT)
			raise_timeout(c, "connecting");
		if (happened & events)
		{
			docrep_io_forget(PQsocket(c->conn));
			status = PQconnectPoll(c->conn);
		}
		if (status == PGRES_POLLING_FAILED)
			docrep_pgerror_connect(c);
	}
}

void
docrep_pgconn_connect(DocrepPgConn *c, const DocrepPgUrl *url, bool restricted, int timeout)
{
	const char **keywords;
	const char **values;
	const char *own_timeout = docrep_pgurl_get(url, "connect_timeout");
	int			seconds = own_timeout ? atoi(own_timeout) : 0;

	if (seconds > 0 && seconds < timeout / 1000)
		timeout = seconds * 1000;
	c->display = url->display;
	c->password = docrep_pgurl_get(url, "password");
	docrep_pgconn_parameters(url, restricted, &keywords, &values);

	if (!AcquireExternalFD())
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_UNAVAILABLE),
				 errmsg("could not connect to %s", c->display),
				 errdetail("There are too many open files on this server."),
				 errhint("Raise max_files_per_process or the system's limit.")));
	c->has_fd = true;
	c->conn = PQconnectStartParams(keywords, values, 0);
	if (c->conn == NULL)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	c->io.sockets = list_socket;
	c->io.ready = serve_socket;
	docrep_io_register(&c->io);
	if (PQstatus(c->conn) == CONNECTION_BAD)
		docrep_pgerror_connect(c);
	PQsetNoticeReceiver(c->conn, ignore_notice, NULL);
	PQsetErrorVerbosity(c->conn, PQERRORS_VERBOSE);	/* shows the SQLSTATE */
	poll_connection(c, TimestampTzPlusMilliseconds(GetCurrentTimestamp(), timeout));

	if (restricted && !PQconnectionUsedPassword(c->conn))
		docrep_pgerror_no_password(c);
	docrep_socket_options_apply(&url->socket_options, PQsocket(c->conn));
	if (PQsetnonblocking(c->conn, 1) != 0 || !PQenterPipelineMode(c->conn))
		docrep_pgconn_raise(c, NULL, "connecting");
}

/* ---------- statements ---------- */

void
docrep_pgconn_send(DocrepPgConn *c, const char *sql, const DocrepPgParams *params, bool push)
{
	TimestampTz deadline;

	if (!PQsendQueryParams(c->conn, sql, params->n, params->types, params->values,
						   params->lengths, params->formats, 1) ||
		!PQpipelineSync(c->conn))
		docrep_pgconn_raise(c, NULL, "sending a request");
	c->unsent = true;
	send_some(c);
	if (!push || !c->unsent)
		return;

	/* the other side is idle, so it reads: get it to work before we turn away */
	deadline = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), PUSH_TIMEOUT);
	while (c->unsent && PQsocket(c->conn) >= 0 &&
		   !(wait_for_socket(c, WL_SOCKET_WRITEABLE, deadline) & WL_TIMEOUT))
		send_some(c);
}

void
docrep_pgconn_poke(DocrepPgConn *c)
{
	(void) PQsendFlushRequest(c->conn);
	c->unsent = true;
	send_some(c);
}

/*
 * Take what the socket has.  A TLS record is up to 16 kB and libpq reads 8 of
 * them: what TLS keeps back would never make the socket readable.
 */
static bool
consume(DocrepPgConn *c)
{
	for (int i = PQsslInUse(c->conn) ? 3 : 1; i > 0; i--)
		if (!PQconsumeInput(c->conn))
			return false;
	return true;
}

DocrepPgWaitResult
docrep_pgconn_wait(DocrepPgConn *c, TimestampTz deadline, bool return_on_latch)
{
	if (c->result != NULL)
		PQclear(c->result);
	c->result = NULL;
	while (PQisBusy(c->conn))
	{
		int			events = WL_SOCKET_READABLE;
		int			happened;

		send_some(c);
		/* what goes wrong is in the result that PQgetResult makes of it */
		if (!consume(c) || PQsocket(c->conn) < 0)
			break;
		if (!PQisBusy(c->conn))
			break;
		if (c->unsent)
			events |= WL_SOCKET_WRITEABLE;
		happened = wait_for_socket(c, events, deadline);
		if (happened & WL_TIMEOUT)
			return PGWAIT_TIMEOUT;
		if ((happened & WL_LATCH_SET) && return_on_latch)
			return PGWAIT_LATCH;
	}
	c->result = PQgetResult(c->conn);
	return PGWAIT_RESULT;
}

PGresult *
docrep_pgconn_expect(DocrepPgConn *c, ExecStatusType status, int timeout, const char *doing)
{
	TimestampTz deadline = timeout > 0 ?
		TimestampTzPlusMilliseconds(GetCurrentTimestamp(), timeout) : 0;

	if (docrep_pgconn_wait(c, deadline, false) == PGWAIT_TIMEOUT)
		raise_timeout(c, doing);
	if (c->result == NULL || PQresultStatus(c->result) != status)
		docrep_pgconn_raise(c, c->result, doing);
	return c->result;
}

void
docrep_pgconn_finish(DocrepPgConn *c, int timeout, const char *doing)
{
	TimestampTz deadline = timeout > 0 ?
		TimestampTzPlusMilliseconds(GetCurrentTimestamp(), timeout) : 0;

	if (docrep_pgconn_wait(c, deadline, false) == PGWAIT_TIMEOUT)
		raise_timeout(c, doing);
	if (c->result != NULL)
		docrep_pgconn_raise(c, c->result, doing);
	(void) docrep_pgconn_expect(c, PGRES_PIPELINE_SYNC, timeout, doing);
	PQclear(c->result);
	c->result = NULL;
}

/* ---------- parameters ---------- */

static void
add_param(DocrepPgParams *params, Oid type, const char *value, int length)
{
	int			i = params->n++;

	Assert(i < lengthof(params->types));
	params->types[i] = type;
	params->values[i] = value;
	params->lengths[i] = length;
	params->formats[i] = 1;
}

/* A value small enough to be kept here. */
static void
add_small(DocrepPgParams *params, Oid type, const void *value, int length)
{
	char	   *scratch = params->scratch[params->n];

	memcpy(scratch, value, length);
	add_param(params, type, scratch, length);
}

void
docrep_pgparam_uuid(DocrepPgParams *params, const uint8 *uuid)
{
	add_param(params, UUIDOID, (const char *) uuid, UUID_LEN);
}

void
docrep_pgparam_int(DocrepPgParams *params, int32 value)
{
	uint32		n = pg_hton32((uint32) value);

	add_small(params, INT4OID, &n, sizeof(n));
}

void
docrep_pgparam_bigint(DocrepPgParams *params, int64 value)
{
	uint64		n = pg_hton64((uint64) value);

	add_small(params, INT8OID, &n, sizeof(n));
}

void
docrep_pgparam_bool(DocrepPgParams *params, bool value)
{
	char		n = value ? 1 : 0;

	add_small(params, BOOLOID, &n, sizeof(n));
}

void
docrep_pgparam_text(DocrepPgParams *params, const char *value)
{
	if (value != NULL && GetDatabaseEncoding() != PG_UTF8)
		value = pg_server_to_any(value, strlen(value), PG_UTF8);
	add_param(params, TEXTOID, value, value ? (int) strlen(value) : 0);
}

void
docrep_pgparam_bytea(DocrepPgParams *params, const bytea *value)
{
	add_param(params, BYTEAOID, value ? VARDATA_ANY(value) : NULL,
			  value ? VARSIZE_ANY_EXHDR(value) : 0);
}

void
docrep_pgparam_bytes(DocrepPgParams *params, const char *data, Size len)
{
	add_param(params, BYTEAOID, data, (int) len);
}

void
docrep_pgparam_json(DocrepPgParams *params, const char *value)
{
	docrep_pgparam_text(params, value);
	params->types[params->n - 1] = JSONBOID;
	params->formats[params->n - 1] = 0;
}
