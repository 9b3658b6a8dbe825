/*-------------------------------------------------------------------------
 *
 * http.c
 *		Calls over HTTP that never block: clients, and their calls.
 *
 * Two places get a call on.  docrep_http_sockets_ready (http_wait.c) runs
 * inside any wait of the process, so it neither raises nor pallocs: it lets
 * curl work, fills buffers, ends what is silent, and launches calls that wait
 * for a connection.  hand_over (http_step.c) runs in the caller's step: it
 * decides about answers (repeat, redirect, renew), decodes, and gives data to
 * the consumers.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "peer/http_internal.h"
#include "peer/http_url.h"
#include "store/errcodes.h"
#include "utils/memutils.h"

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
	http->io.sockets = docrep_http_sockets_list;
	http->io.ready = docrep_http_sockets_ready;
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
