/*-------------------------------------------------------------------------
 *
 * http_curl.c
 *		The client's side that faces libcurl: handles.
 *
 * Nothing in this file raises or pallocs (docrep_http_curl_open apart): curl
 * would not survive a longjmp through its frames, and may call back at any
 * time.  Callbacks fill malloc'd buffers and set flags.
 *
 * curl's threads resolve names.  They must not take our signals, so all signals
 * are blocked while curl runs: a thread inherits that.
 *
 * One request a connection, also with HTTP/2: with several, a consumer that
 * rests would keep the others' answers from coming (libcurl 7.88 stops
 * reading the connection).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <signal.h>

#include "peer/http_internal.h"
#include "storage/fd.h"
#include "storage/latch.h"
#include "utils/timestamp.h"

/* ---------- signals ---------- */

/* Block what can be blocked; "old" is for allow_signals. */
static void
block_signals(sigset_t *old)
{
	sigset_t	all;

	sigfillset(&all);
	sigdelset(&all, SIGSEGV);
	sigdelset(&all, SIGBUS);
	sigdelset(&all, SIGFPE);
	sigdelset(&all, SIGILL);
	sigdelset(&all, SIGABRT);
	sigdelset(&all, SIGTRAP);
	sigprocmask(SIG_SETMASK, &all, old);
}

static void
allow_signals(const sigset_t *old)
{
	sigprocmask(SIG_SETMASK, old, NULL);
}

/* ---------- clients ---------- */

void
docrep_http_curl_open(DocrepHttp *http)
{
	static bool initialized = false;
	int			n = http->options.http_connections;

	if (!initialized)
	{
		sigset_t	old;
		CURLcode	result;

		block_signals(&old);
		result = curl_global_init(CURL_GLOBAL_DEFAULT);
		allow_signals(&old);
		if (result != CURLE_OK)
			elog(ERROR, "could not initialize libcurl: %s", curl_easy_strerror(result));
		initialized = true;
	}
	http->multi = curl_multi_init();
	http->share = curl_share_init();
	if (http->multi == NULL || http->share == NULL)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	curl_share_setopt(http->share, CURLSHOPT_SHARE, CURL_LOCK_DATA_COOKIE);
	curl_multi_setopt(http->multi, CURLMOPT_SOCKETFUNCTION, docrep_http_on_socket);
	curl_multi_setopt(http->multi, CURLMOPT_SOCKETDATA, http);
	curl_multi_setopt(http->multi, CURLMOPT_TIMERFUNCTION, docrep_http_on_timer);
	curl_multi_setopt(http->multi, CURLMOPT_TIMERDATA, http);
	curl_multi_setopt(http->multi, CURLMOPT_PIPELINING, (long) CURLPIPE_NOTHING);
	curl_multi_setopt(http->multi, CURLMOPT_MAXCONNECTS, (long) n);
	curl_multi_setopt(http->multi, CURLMOPT_MAX_TOTAL_CONNECTIONS, (long) n + 2);
}

/* After all transfers are stopped. */
void
docrep_http_curl_close(DocrepHttp *http)
{
	sigset_t	old;

	block_signals(&old);
	if (http->multi != NULL)
		curl_multi_cleanup(http->multi);
	http->multi = NULL;
	if (http->share != NULL)
		curl_share_cleanup(http->share);
	http->share = NULL;
	allow_signals(&old);
	free(http->sockets);
	http->sockets = NULL;
	free(http->is_connection);
	http->is_connection = NULL;
	http->max_fd = 0;
	http->nsockets = http->max_sockets = 0;
	for (; http->fds > 0; http->fds--)
		ReleaseExternalFD();
}

/* ---------- transfers ---------- */

/* Add a line of a header; *ok becomes false without memory. */
static void
add_line(HttpTransfer *t, const char *line, bool *ok)
{
	struct curl_slist *list = curl_slist_append(t->headers_out, line);

	if (list == NULL)
		*ok = false;
	else
		t->headers_out = list;
}

/* "name: value" */
static void
add_header(HttpTransfer *t, const char *name, const char *value, bool *ok)
{
	Size		size = strlen(name) + strlen(value) + 3;
	char	   *line = malloc(size);

	if (line == NULL)
	{
		*ok = false;
		return;
	}
	/* curl's way of writing a header without a value */
	snprintf(line, size, value[0] ? "%s: %s" : "%s;", name, value);
	add_line(t, line, ok);
	free(line);
}

/* Does the request have a body, be it an empty one? */
static bool
has_body(const DocrepHttpCall *call)
{
	return call->body != NULL || call->stream ||
		strcmp(call->method, "POST") == 0 || strcmp(call->method, "PUT") == 0;
}

/* The headers of a request.  False: no memory. */
static bool
make_headers(HttpTransfer *t)
{
	DocrepHttp *http = t->http;
	DocrepHttpCall *call = t->call;
	const char *auth = docrep_http_auth_header(http);
	bool		ok = true;
	bool		agent = false;

	add_header(t, "Accept", call->accept ? call->accept : "application/json", &ok);
	if (has_body(call))
		add_header(t, "Content-Type", call->content_type ? call->content_type :
				   "application/json", &ok);
	/* servers that compress hold back what a feed should bring at once, heartbeats too */
	if (call->raw ? call->accept_gzip_raw : call->silence == 0)
		add_header(t, "Accept-Encoding", "gzip", &ok);
	/* a second's pause before each body is not worth what it might save */
	add_line(t, "Expect:", &ok);
	if (t->own_server)
	{
		for (int i = 0; i < http->endpoint->nheaders; i++)
		{
			const DocrepHttpHeader *h = &http->endpoint->headers[i];

			if (auth != NULL && pg_strcasecmp(h->name, "Authorization") == 0)
				continue;
			agent = agent || pg_strcasecmp(h->name, "User-Agent") == 0;
			add_header(t, h->name, h->value, &ok);
		}
		if (auth != NULL && t->purpose == HTTP_FOR_CALLER)
			add_line(t, auth, &ok);
	}
	if (!agent)
		add_header(t, "User-Agent", HTTP_USER_AGENT, &ok);
	return ok;
}

/*
 * Whom to trust, and who we are.  What a foreign server says of this is about its
 * own server, and not about where tokens come from or reads are redirected to.
 */
static void
set_tls(HttpTransfer *t)
{
	DocrepHttp *http = t->http;
	CURL	   *e = t->easy;
	bool		own = t->own_server;
	const char *ca_file = own && http->server_ca_file ? http->server_ca_file : http->ca_file;

	curl_easy_setopt(e, CURLOPT_SSL_VERIFYPEER, !own || http->verify_peer ? 1L : 0L);
	curl_easy_setopt(e, CURLOPT_SSL_VERIFYHOST, !own || http->verify_host ? 2L : 0L);
	if (ca_file != NULL)
		curl_easy_setopt(e, CURLOPT_CAINFO, ca_file);
	if (own && http->cert_file != NULL)
	{
		curl_easy_setopt(e, CURLOPT_SSLCERT, http->cert_file);
		curl_easy_setopt(e, CURLOPT_SSLKEY, http->key_file ? http->key_file : http->cert_file);
	}
}

/* Where to, and through what. */
static void
set_connection(HttpTransfer *t)
{
	DocrepHttp *http = t->http;
	CURL	   *e = t->easy;

	curl_easy_setopt(e, CURLOPT_URL, t->url);
	curl_easy_setopt(e, CURLOPT_PATH_AS_IS, 1L);
	curl_easy_setopt(e, CURLOPT_NOSIGNAL, 1L);
#if LIBCURL_VERSION_NUM >= 0x075700
	curl_easy_setopt(e, CURLOPT_QUICK_EXIT, 1L);
#endif
#if LIBCURL_VERSION_NUM >= 0x075500
	curl_easy_setopt(e, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(e, CURLOPT_REDIR_PROTOCOLS_STR, "http,https");
#else
	curl_easy_setopt(e, CURLOPT_PROTOCOLS, (long) (CURLPROTO_HTTP | CURLPROTO_HTTPS));
	curl_easy_setopt(e, CURLOPT_REDIR_PROTOCOLS, (long) (CURLPROTO_HTTP | CURLPROTO_HTTPS));
#endif
	curl_easy_setopt(e, CURLOPT_FOLLOWLOCATION, 0L);
	curl_easy_setopt(e, CURLOPT_NETRC, (long) CURL_NETRC_IGNORED);
	/* "" and not NULL, which would mean what the environment says */
	curl_easy_setopt(e, CURLOPT_PROXY, http->proxy ? http->proxy : "");
	curl_easy_setopt(e, CURLOPT_NOPROXY, "");
	curl_easy_setopt(e, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
	/* what is said of the server's certificate does not count for a proxy's, its CAs do */
	if (http->ca_file != NULL)
		curl_easy_setopt(e, CURLOPT_PROXY_CAINFO, http->ca_file);
	curl_easy_setopt(e, CURLOPT_HTTP_VERSION, (long) CURL_HTTP_VERSION_2TLS);
	if (http->polls && pg_strncasecmp(t->url, "https://", 8) == 0)
		curl_easy_setopt(e, CURLOPT_PIPEWAIT, 1L);
	curl_easy_setopt(e, CURLOPT_HTTP09_ALLOWED, 0L);
	curl_easy_setopt(e, CURLOPT_TCP_NODELAY, http->socket_options.nodelay != 0 ? 1L : 0L);
	curl_easy_setopt(e, CURLOPT_TCP_KEEPALIVE, http->socket_options.keepalive != 0 ? 1L : 0L);
	curl_easy_setopt(e, CURLOPT_CONNECTTIMEOUT_MS, (long) http->options.connection_timeout);
	curl_easy_setopt(e, CURLOPT_OPENSOCKETFUNCTION, docrep_http_on_open);
	curl_easy_setopt(e, CURLOPT_OPENSOCKETDATA, t);
	curl_easy_setopt(e, CURLOPT_CLOSESOCKETFUNCTION, docrep_http_on_close);
	curl_easy_setopt(e, CURLOPT_CLOSESOCKETDATA, http);
	if (t->own_server)
	{
		curl_easy_setopt(e, CURLOPT_SHARE, http->share);
		curl_easy_setopt(e, CURLOPT_COOKIEFILE, "");
	}
	set_tls(t);
}

/* Method and body. */
static void
set_request(HttpTransfer *t)
{
	DocrepHttpCall *call = t->call;
	CURL	   *e = t->easy;

	if (call->stream)
	{
		curl_easy_setopt(e, CURLOPT_UPLOAD, 1L);
		curl_easy_setopt(e, CURLOPT_INFILESIZE_LARGE, (curl_off_t) call->stream_length);
		curl_easy_setopt(e, CURLOPT_READFUNCTION, docrep_http_on_read);
		curl_easy_setopt(e, CURLOPT_READDATA, t);
		curl_easy_setopt(e, CURLOPT_SEEKFUNCTION, docrep_http_on_seek);
		curl_easy_setopt(e, CURLOPT_SEEKDATA, t);
		curl_easy_setopt(e, CURLOPT_UPLOAD_BUFFERSIZE, 64 * 1024L);
	}
	else if (has_body(call))
	{
		curl_easy_setopt(e, CURLOPT_POSTFIELDSIZE_LARGE,
						 (curl_off_t) (call->body ? call->bodylen : 0));
		curl_easy_setopt(e, CURLOPT_POSTFIELDS, call->body ? call->body : "");
	}
	else if (strcmp(call->method, "HEAD") == 0)
		curl_easy_setopt(e, CURLOPT_NOBODY, 1L);
	if (strcmp(call->method, "HEAD") != 0)
		curl_easy_setopt(e, CURLOPT_CUSTOMREQUEST, call->method);
	curl_easy_setopt(e, CURLOPT_HTTPHEADER, t->headers_out);
	curl_easy_setopt(e, CURLOPT_HEADERFUNCTION, docrep_http_on_header);
	curl_easy_setopt(e, CURLOPT_HEADERDATA, t);
	curl_easy_setopt(e, CURLOPT_WRITEFUNCTION, docrep_http_on_body);
	curl_easy_setopt(e, CURLOPT_WRITEDATA, t);
	curl_easy_setopt(e, CURLOPT_BUFFERSIZE, t->http->polls ? 2 * 1024L : 64 * 1024L);
	curl_easy_setopt(e, CURLOPT_ERRORBUFFER, t->error);
	curl_easy_setopt(e, CURLOPT_PRIVATE, t);
}

/* Forget the last attempt. */
static void
reset_answer(HttpTransfer *t)
{
	memset(&t->headers, 0, sizeof(t->headers));
	t->headers.length = -1;
	t->error[0] = '\0';
	t->judged = t->finished = t->timed_out = false;
	t->refused = t->no_fd = t->headers_too_large = false;
	t->in_paused = t->out_paused = false;
	t->result = CURLE_OK;
	t->in.start = t->in.end = 0;
	t->uploaded = 0;
	t->taken = 0;
	t->consumed = false;
	docrep_http_decoder_free(t->decoder);
	t->decoder = NULL;
	t->launched = t->last_byte = t->window_start = GetCurrentTimestamp();
	t->window_bytes = 0;
}

/* Hand a transfer to curl.  False: no memory. */
bool
docrep_http_curl_launch(HttpTransfer *t)
{
	sigset_t	old;
	bool		ok;

	reset_answer(t);
	t->easy = curl_easy_init();
	if (t->easy == NULL || !make_headers(t))
	{
		docrep_http_curl_stop(t);
		return false;
	}
	set_connection(t);
	set_request(t);
	block_signals(&old);
	ok = curl_multi_add_handle(t->http->multi, t->easy) == CURLM_OK;
	allow_signals(&old);
	if (ok)
		t->http->running++;
	else
	{
		curl_easy_cleanup(t->easy);
		t->easy = NULL;
		docrep_http_curl_stop(t);
	}
	return ok;
}

/* Take a transfer from curl, whatever it is doing. */
void
docrep_http_curl_stop(HttpTransfer *t)
{
	if (t->easy != NULL)
	{
		sigset_t	old;

		block_signals(&old);
		if (t->http != NULL && t->http->multi != NULL)
		{
			if (curl_multi_remove_handle(t->http->multi, t->easy) == CURLM_OK && !t->finished)
				t->http->running--;
		}
		curl_easy_cleanup(t->easy);
		allow_signals(&old);
	}
	t->easy = NULL;
	curl_slist_free_all(t->headers_out);
	t->headers_out = NULL;
}

/* There is room to receive, or something to send. */
void
docrep_http_curl_unpause(HttpTransfer *t, bool in, bool out)
{
	sigset_t	old;

	if (t->easy == NULL || t->finished || !((in && t->in_paused) || (out && t->out_paused)))
		return;
	t->last_byte = t->window_start = GetCurrentTimestamp();
	t->window_bytes = 0;
	if (in)
		t->in_paused = false;
	if (out)
		t->out_paused = false;
	block_signals(&old);
	/* may call back at once and pause again */
	(void) curl_easy_pause(t->easy, (t->in_paused ? CURLPAUSE_RECV : 0) |
						   (t->out_paused ? CURLPAUSE_SEND : 0));
	allow_signals(&old);
}

/* Note what curl has come to the end of. */
static void
collect_finished(DocrepHttp *http)
{
	CURLMsg    *message;
	int			left;

	while ((message = curl_multi_info_read(http->multi, &left)) != NULL)
	{
		HttpTransfer *t;

		if (message->msg != CURLMSG_DONE)
			continue;
		curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, (char **) &t);
		t->finished = true;
		t->result = message->data.result;
		http->running--;
		docrep_http_touch(t);
	}
}

/* Let curl work at a socket, or (CURL_SOCKET_TIMEOUT) as its timer wants. */
void
docrep_http_curl_act(DocrepHttp *http, curl_socket_t fd, uint32 events)
{
	sigset_t	old;
	int			running;

	block_signals(&old);
	(void) curl_multi_socket_action(http->multi, fd,
									(events & WL_SOCKET_READABLE ? CURL_CSELECT_IN : 0) |
									(events & WL_SOCKET_WRITEABLE ? CURL_CSELECT_OUT : 0),
									&running);
	collect_finished(http);
	allow_signals(&old);
}
