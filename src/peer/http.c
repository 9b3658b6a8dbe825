/*-------------------------------------------------------------------------
 *
 * http.c
 *		Calls over HTTP that never block: clients, the queue of calls, and
 *		handing over what has come.
 *
 * Two places get a call on.  docrep_http_ready runs inside any wait of the
 * process, so it neither raises nor pallocs: it lets curl work, fills
 * buffers, ends what is silent, and launches calls that wait for a connection.
 * hand_over runs in the caller's step: it decides about answers (repeat,
 * redirect, renew), decodes, and gives data to the consumers.
 *
 * Waiting calls are launched in order.  A call is active, and counts against
 * http_connections, until the last byte of its answer has been taken, which
 * bounds the memory of answers that nobody takes yet.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "peer/http_internal.h"
#include "peer/http_url.h"
#include "storage/fd.h"
#include "storage/latch.h"
#include "store/errcodes.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

/* a server that begins to answer must go on with at least this many bytes a second */
#define LOW_SPEED		16

/* ---------- queues ---------- */

/* Take a call out of the queue it is in. */
static void
unlink_call(HttpTransfer *t)
{
	if (t->state == HTTP_WAITING || t->state == HTTP_ACTIVE)
		dlist_delete(&t->link);
	if (t->state == HTTP_ACTIVE)
		t->http->nactive--;
	t->state = HTTP_NEW;
}

/* Let it wait for its turn (again), not before "due" (0: now). */
void
docrep_http_requeue(HttpTransfer *t, TimestampTz due, bool first)
{
	docrep_http_curl_stop(t);
	unlink_call(t);
	t->due = due;
	t->state = HTTP_WAITING;
	if (first)
		dlist_push_head(&t->http->waiting, &t->link);
	else
		dlist_push_tail(&t->http->waiting, &t->link);
}

/* The call has come to its end; its answer stays. */
void
docrep_http_set_done(HttpTransfer *t)
{
	docrep_http_curl_stop(t);
	unlink_call(t);
	t->state = HTTP_DONE;
	docrep_http_buffer_free(&t->in);
	docrep_http_buffer_free(&t->out);
	docrep_http_decoder_free(t->decoder);
	t->decoder = NULL;
	t->call->done = true;
	docrep_http_touch(t);
}

/* End a call with a failure. */
void
docrep_http_fail(HttpTransfer *t, int code, const char *problem)
{
	t->call->failed = code;
	t->call->problem = MemoryContextStrdup(t->cxt, problem);
	docrep_http_set_done(t);
}

/* ---------- launching ---------- */

/*
 * Have a descriptor reserved for one more connection.  Where fd.c has no more,
 * those that there are must do.
 */
static bool
reserve_fd(DocrepHttp *http)
{
	if (http->fds > http->nactive)
		return true;
	if (!AcquireExternalFD())
		return false;
	http->fds++;
	return true;
}

/* May this one be launched at this time? */
static bool
may_launch(const DocrepHttp *http, const HttpTransfer *t, TimestampTz now)
{
	if (t->due > now)
		return false;
	return t->purpose != HTTP_FOR_CALLER || docrep_http_auth_ready(http);
}

/*
 * Launch what waits, in order, while there are connections.  A call that may
 * not be launched yet lets others pass.
 */
void
docrep_http_launch_ready(DocrepHttp *http)
{
	dlist_mutable_iter iter;
	TimestampTz now;
	bool		launched = false;

	if (dlist_is_empty(&http->waiting))
		return;
	now = GetCurrentTimestamp();
	dlist_foreach_modify(iter, &http->waiting)
	{
		HttpTransfer *t = dlist_container(HttpTransfer, link, iter.cur);

		if (http->nactive >= http->options.http_connections &&
			t->purpose == HTTP_FOR_CALLER)
			break;
		if (docrep_http_pace_next(http) > now)
			break;
		if (!may_launch(http, t, now))
			continue;
		dlist_delete(&t->link);
		t->state = HTTP_ACTIVE;
		t->launch = ++http->launches;
		dlist_push_tail(&http->active, &t->link);
		/* what cannot be launched is found finished when it is handed over */
		if (!reserve_fd(http))
		{
			if (http->nactive > 0)
			{
				dlist_delete(&t->link);
				t->state = HTTP_WAITING;
				dlist_push_head(&http->waiting, &t->link);
				break;
			}
			t->finished = t->no_fd = true;
			t->judged = t->headers.complete = false;
			t->result = CURLE_COULDNT_CONNECT;
			docrep_http_touch(t);
		}
		else if (!docrep_http_curl_launch(t))
		{
			t->finished = true;
			t->result = CURLE_OUT_OF_MEMORY;
			docrep_http_touch(t);
		}
		http->nactive++;
		http->last_launch = now;
		launched = true;
	}
	if (launched)
		docrep_http_curl_act(http, CURL_SOCKET_TIMEOUT, 0);
}

/* ---------- time ---------- */

/* How long this call's peer may be silent, in ms; -1: for ever. */
static int
silence_of(const HttpTransfer *t)
{
	return t->call->silence == 0 ? t->http->options.connection_timeout : t->call->silence;
}

/* Is it we who are waited for? */
static bool
is_resting(const HttpTransfer *t)
{
	return t->in_paused || t->out_paused;
}

/* When a call with curl has been silent for too long; 0: never. */
static TimestampTz
silent_at(const HttpTransfer *t)
{
	int			silence = silence_of(t);
	TimestampTz at = 0;

	if (t->finished || t->easy == NULL)
		return 0;
	if (silence > 0 && !is_resting(t))
		at = TimestampTzPlusMilliseconds(t->last_byte, silence);
	if (t->http->options.request_timeout > 0 && t->call->silence == 0 && !t->call->stream)
	{
		TimestampTz end = TimestampTzPlusMilliseconds(t->launched,
													  t->http->options.request_timeout);

		if (at == 0 || end < at)
			at = end;
	}
	return at;
}

/* Sending a body is a sign of life, too. */
static void
look_at_sending(HttpTransfer *t, TimestampTz now)
{
	curl_off_t	sent = 0;

	if (t->headers.complete || t->call->bodylen == 0)
		return;
	if (curl_easy_getinfo(t->easy, CURLINFO_SIZE_UPLOAD_T, &sent) == CURLE_OK &&
		sent != t->uploaded)
	{
		t->uploaded = sent;
		t->last_byte = now;
	}
}

/* Must its answer keep to LOW_SPEED? */
static bool
is_watched(const HttpTransfer *t)
{
	return t->headers.bytes > 0 && t->call->silence == 0 && !t->finished && !is_resting(t);
}

/* Does an answer trickle?  Looked at once in each time of silence. */
static bool
is_slow(HttpTransfer *t, TimestampTz now)
{
	int			silence = silence_of(t);
	bool		slow;

	if (!is_watched(t) || !TimestampDifferenceExceeds(t->window_start, now, silence))
		return false;
	slow = t->window_bytes < (Size) silence * LOW_SPEED / 1000;
	t->window_start = now;
	t->window_bytes = 0;
	return slow;
}

/* End calls whose peers are silent. */
static void
end_silent(DocrepHttp *http)
{
	TimestampTz now = GetCurrentTimestamp();
	dlist_iter	iter;

	dlist_foreach(iter, &http->active)
	{
		HttpTransfer *t = dlist_container(HttpTransfer, link, iter.cur);
		TimestampTz at;

		if (t->finished || t->easy == NULL)
			continue;
		look_at_sending(t, now);
		at = silent_at(t);
		if ((at != 0 && at <= now) || is_slow(t, now))
		{
			docrep_http_curl_stop(t);
			t->finished = t->timed_out = true;
			t->result = CURLE_OPERATION_TIMEDOUT;
			docrep_http_touch(t);
		}
	}
}

/* ---------- in the process's wait ---------- */

/* Lower *timeout to what is left until a time (0: none). */
static void
lower_timeout(long *timeout, TimestampTz at, TimestampTz now)
{
	long		left;

	if (at == 0)
		return;
	left = TimestampDifferenceMilliseconds(now, at);
	if (*timeout < 0 || left < *timeout)
		*timeout = left;
}

static int
list_sockets(DocrepIo *io, DocrepIoSocket *sockets, int max, long *timeout)
{
	DocrepHttp *http = (DocrepHttp *) io;
	int			n = Min(http->nsockets, max);
	TimestampTz now = GetCurrentTimestamp();
	dlist_iter	iter;

	for (int i = 0; i < n; i++)
	{
		sockets[i].fd = http->sockets[i].fd;
		sockets[i].events = http->sockets[i].events;
	}
	lower_timeout(timeout, http->curl_due, now);
	dlist_foreach(iter, &http->active)
	{
		HttpTransfer *t = dlist_container(HttpTransfer, link, iter.cur);

		lower_timeout(timeout, silent_at(t), now);
		if (is_watched(t))
			lower_timeout(timeout, TimestampTzPlusMilliseconds(t->window_start,
															   silence_of(t)), now);
	}
	if (http->nactive < http->options.http_connections)
	{
		dlist_foreach(iter, &http->waiting)
		{
			HttpTransfer *t = dlist_container(HttpTransfer, link, iter.cur);
			TimestampTz pace = docrep_http_pace_next(http);

			/* one that waits for credentials waits for another call */
			if (t->due != 0 || pace > now)
				lower_timeout(timeout, Max(t->due, pace), now);
		}
	}
	return n;
}

/* A socket is ready, or time has passed. */
static void
serve_io(DocrepIo *io, pgsocket fd, uint32 events)
{
	DocrepHttp *http = (DocrepHttp *) io;

	if (fd != PGINVALID_SOCKET)
		docrep_http_curl_act(http, fd, events);
	else
	{
		if (http->curl_due != 0 && GetCurrentTimestamp() >= http->curl_due)
		{
			http->curl_due = 0;
			docrep_http_curl_act(http, CURL_SOCKET_TIMEOUT, 0);
		}
		end_silent(http);
	}
	docrep_http_launch_ready(http);
}

/* ---------- clients ---------- */

static void
close_callback(void *arg)
{
	docrep_http_close(arg);
}

/*
 * Which addresses may be connected to in order to reach a URL.  What a proxy makes of the URL's
 * host cannot be looked at, so that host must be beyond doubt, else DR403; the rules
 * are those of the proxy then.
 */
static DocrepHostRules *
rules_for(DocrepHttp *http, const char *url)
{
	char	   *host = docrep_http_url_host(url);
	char	   *proxy_host;

	if (host == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_UNAVAILABLE),
				 errmsg("cannot tell the host of a URL given by endpoint %s",
						http->endpoint->display)));
	if (http->proxy == NULL)
		return docrep_host_rules(host, http->restricted);
	if (!docrep_host_certain(host, http->restricted))
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_FORBIDDEN),
				 errmsg("permission denied for endpoint %s", http->endpoint->display),
				 errdetail("Host \"%s\" is not one that replications may connect to by way of a proxy.", host),
				 errhint("A proxy resolves names itself, so names must be in docrep.allowed_hosts. See also docrep.denied_hosts.")));
	proxy_host = docrep_http_url_host(http->proxy);
	/* a URL that cannot be read leads nowhere, as curl says then */
	return docrep_host_rules(proxy_host ? proxy_host : "", http->restricted);
}

/* A copy in the current context, or NULL. */
static char *
copy_or_null(const char *text)
{
	return text ? pstrdup(text) : NULL;
}

/* Take over whom a foreign server trusts, and how it is proved who we are. */
static void
set_tls(DocrepHttp *http, const DocrepPeerOptions *options)
{
	const char *verify = options->ssl_verify ? options->ssl_verify : "full";

	if (docrep_ssl_ca_file != NULL && docrep_ssl_ca_file[0] != '\0')
		http->ca_file = pstrdup(docrep_ssl_ca_file);
	http->server_ca_file = copy_or_null(options->ssl_ca_file);
	http->cert_file = copy_or_null(options->ssl_cert_file);
	http->key_file = copy_or_null(options->ssl_key_file);
	http->verify_peer = strcmp(verify, "off") != 0;
	http->verify_host = strcmp(verify, "full") == 0;
}

DocrepHttp *
docrep_http_create(const DocrepHttpEndpoint *endpoint, const DocrepPeerOptions *options,
				   bool restricted, MemoryContext cxt)
{
	MemoryContext own = AllocSetContextCreate(cxt, "docrep http", ALLOCSET_SMALL_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(own);
	DocrepHttp *http = palloc0(sizeof(DocrepHttp));

	http->cxt = own;
	http->endpoint = endpoint;
	http->options = *options;
	if (http->options.connection_timeout <= 0)
		http->options.connection_timeout = 30000;
	if (http->options.http_connections <= 0)
		http->options.http_connections = 20;
	http->restricted = restricted;
	set_tls(http, options);
	docrep_socket_options_parse(options->socket_options, &http->socket_options);
	if (options->proxy != NULL && options->proxy[0] != '\0')
	{
		http->proxy = pstrdup(options->proxy);
		http->proxy_password = docrep_http_url_password(options->proxy);
	}
	dlist_init(&http->waiting);
	dlist_init(&http->active);
	dlist_init(&http->touched);
	http->rules = rules_for(http, endpoint->server);
	docrep_http_auth_init(http);
	http->on_delete.func = close_callback;
	http->on_delete.arg = http;
	MemoryContextRegisterResetCallback(own, &http->on_delete);
	http->open = true;
	docrep_http_curl_open(http);
	http->io.sockets = list_sockets;
	http->io.ready = serve_io;
	docrep_io_register(&http->io);
	MemoryContextSwitchTo(caller);
	return http;
}

/* A call whose client goes away is done, and has failed. */
static void
orphan(HttpTransfer *t)
{
	docrep_http_set_done(t);
	docrep_http_untouch(t);
	t->call->failed = ERRCODE_DOCREP_UNAVAILABLE;
	t->call->problem = "The connection was closed.";
	t->http = NULL;
}

void
docrep_http_close(DocrepHttp *http)
{
	if (!http->open)
		return;
	http->open = false;
	while (!dlist_is_empty(&http->active))
		orphan(dlist_head_element(HttpTransfer, link, &http->active));
	while (!dlist_is_empty(&http->waiting))
		orphan(dlist_head_element(HttpTransfer, link, &http->waiting));
	docrep_http_curl_close(http);
	docrep_io_unregister(&http->io);
}

/* ---------- calls ---------- */

/* The call's context goes away. */
static void
release_call(void *arg)
{
	HttpTransfer *t = arg;

	docrep_http_untouch(t);
	/* one that is done has nothing of its client's, which may be gone */
	if (t->state != HTTP_WAITING && t->state != HTTP_ACTIVE)
		return;
	if (t->http->auth.call == t->call)
		t->http->auth.call = NULL;
	docrep_http_set_done(t);
	docrep_http_untouch(t);
}

DocrepHttpCall *
docrep_http_call(DocrepHttp *http, MemoryContext cxt, const char *method, const char *path)
{
	MemoryContext own = AllocSetContextCreate(cxt, "docrep http call", ALLOCSET_SMALL_SIZES);
	DocrepHttpCall *call = MemoryContextAllocZero(own, sizeof(DocrepHttpCall));
	HttpTransfer *t = MemoryContextAllocZero(own, sizeof(HttpTransfer));

	call->method = MemoryContextStrdup(own, method);
	call->path = MemoryContextStrdup(own, path);
	call->retries = -1;
	call->stream_length = -1;
	call->length = -1;
	call->type = call->encoding = "";
	call->transfer = t;
	t->call = call;
	t->http = http;
	t->cxt = own;
	t->headers.length = -1;
	t->on_delete.func = release_call;
	t->on_delete.arg = t;
	MemoryContextRegisterResetCallback(own, &t->on_delete);
	return call;
}

/* The URL of a call, in the current context. */
static char *
url_of(const DocrepHttp *http, const char *path)
{
	const DocrepHttpEndpoint *e = http->endpoint;

	if (path[0] == '/')
		return psprintf("%s%s%s", e->server, e->root, path);
	if (path[0] == '\0' || path[0] == '?')
		return psprintf("%s%s%s", e->server, e->path, path);
	return psprintf("%s%s/%s", e->server, e->path, path);
}

void
docrep_http_start(DocrepHttpCall *call)
{
	HttpTransfer *t = call->transfer;
	DocrepHttp *http = t->http;
	MemoryContext caller = MemoryContextSwitchTo(t->cxt);

	if (!http->open)
		elog(ERROR, "HTTP client is closed");
	if (call->retries < 0)
		call->retries = http->options.retries_per_request;
	if (t->url == NULL)
	{
		t->url = url_of(http, call->path);
		t->own_server = true;
		t->rules = http->rules;
	}
	initStringInfo(&call->answer);
	t->state = HTTP_WAITING;
	if (t->purpose == HTTP_FOR_CALLER)
		dlist_push_tail(&http->waiting, &t->link);
	else
		dlist_push_head(&http->waiting, &t->link);
	MemoryContextSwitchTo(caller);

	if (t->purpose == HTTP_FOR_CALLER && !docrep_http_auth_ready(http))
		docrep_http_auth_begin(http);
	docrep_http_launch_ready(http);
}

void
docrep_http_drop(DocrepHttpCall *call)
{
	if (call != NULL)
		MemoryContextDelete(call->transfer->cxt);
}

DocrepHostRules *
docrep_http_rules(DocrepHttp *http, const char *url)
{
	return rules_for(http, url);
}
