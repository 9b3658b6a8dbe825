/*-------------------------------------------------------------------------
 *
 * http_curl.c
 *		The client's side that faces libcurl: handles, sockets, callbacks.
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

#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

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

/* ---------- buffers ---------- */

/* Append; false if it would hold more than max, or there is no memory. */
bool
docrep_http_buffer_append(HttpBuffer *buffer, const char *data, Size len, Size max)
{
	Size		used = buffer->end - buffer->start;

	if (used + len > max)
		return false;
	if (buffer->end + len > buffer->size)
	{
		if (used > 0 && buffer->start > 0)
			memmove(buffer->data, buffer->data + buffer->start, used);
		buffer->start = 0;
		buffer->end = used;
	}
	if (used + len > buffer->size)
	{
		Size		size = Max(buffer->size * 2, 16 * 1024);
		char	   *larger;

		while (size < used + len)
			size *= 2;
		larger = realloc(buffer->data, size);
		if (larger == NULL)
			return false;
		buffer->data = larger;
		buffer->size = size;
	}
	memcpy(buffer->data + buffer->end, data, len);
	buffer->end += len;
	return true;
}

void
docrep_http_buffer_free(HttpBuffer *buffer)
{
	free(buffer->data);
	memset(buffer, 0, sizeof(HttpBuffer));
}

/* ---------- sockets and the timer ---------- */

/* curl says what it waits for at a socket. */
static int
on_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *of_socket)
{
	DocrepHttp *http = arg;
	uint32		events = 0;
	int			i;

	if (what == CURL_POLL_IN || what == CURL_POLL_INOUT)
		events |= WL_SOCKET_READABLE;
	if (what == CURL_POLL_OUT || what == CURL_POLL_INOUT)
		events |= WL_SOCKET_WRITEABLE;
	for (i = 0; i < http->nsockets; i++)
		if (http->sockets[i].fd == fd)
			break;
	if (what == CURL_POLL_REMOVE)
	{
		/* connections tell when they are closed; what else curl opens does not */
		if (i < http->nsockets)
			http->sockets[i] = http->sockets[--http->nsockets];
		if (fd >= http->max_fd || !http->is_connection[fd])
			docrep_io_forget(fd);
		return 0;
	}
	if (i == http->max_sockets)
	{
		int			n = Max(16, http->max_sockets * 2);
		HttpSocket *larger = realloc(http->sockets, n * sizeof(HttpSocket));

		if (larger == NULL)
		{
			http->out_of_memory = true;
			return -1;
		}
		http->sockets = larger;
		http->max_sockets = n;
	}
	if (i == http->nsockets)
		http->nsockets++;
	http->sockets[i].fd = fd;
	http->sockets[i].events = events;
	return 0;
}

/* curl wants to be called after some time; -1: no more. */
static int
on_timer(CURLM *multi, long timeout, void *arg)
{
	DocrepHttp *http = arg;

	http->curl_due = timeout < 0 ? 0 :
		TimestampTzPlusMilliseconds(GetCurrentTimestamp(), timeout);
	return 0;
}

/* Remember that a descriptor is a connection's; without memory it is not, at a small cost. */
static void
mark_connection(DocrepHttp *http, int fd)
{
	if (fd >= http->max_fd)
	{
		int			n = (fd / 256 + 1) * 256;
		bool	   *larger = realloc(http->is_connection, n * sizeof(bool));

		if (larger == NULL)
			return;
		memset(larger + http->max_fd, 0, (n - http->max_fd) * sizeof(bool));
		http->is_connection = larger;
		http->max_fd = n;
	}
	http->is_connection[fd] = true;
}

/* curl wants a socket for an address, which is what a name has become. */
static curl_socket_t
on_open(void *arg, curlsocktype purpose, struct curl_sockaddr *address)
{
	HttpTransfer *t = arg;
	int			fd;

	if (!docrep_host_rules_allow(t->rules, (struct sockaddr *) &address->addr))
	{
		t->refused = true;
		return CURL_SOCKET_BAD;
	}
	fd = socket(address->family, address->socktype, address->protocol);
	if (fd < 0)
	{
		if (errno == EMFILE || errno == ENFILE)
			t->no_fd = true;
		return CURL_SOCKET_BAD;
	}
	(void) fcntl(fd, F_SETFD, FD_CLOEXEC);
	docrep_socket_options_apply(&t->http->socket_options, fd);
	mark_connection(t->http, fd);
	return fd;
}

/* A connection ends; it may outlive the transfer that has opened it. */
static int
on_close(void *arg, curl_socket_t fd)
{
	DocrepHttp *http = arg;

	if (fd < http->max_fd)
		http->is_connection[fd] = false;
	docrep_io_forget(fd);
	return close(fd);
}

/* ---------- what arrives ---------- */

/* The value of a header line if it has this name, else NULL.  *len: of the value. */
static const char *
header_value(const char *line, Size size, const char *name, Size *len)
{
	Size		n = strlen(name);
	const char *value = line + n + 1;

	if (size <= n || line[n] != ':' || pg_strncasecmp(line, name, n) != 0)
		return NULL;
	*len = size - n - 1;
	while (*len > 0 && (*value == ' ' || *value == '\t'))
		value++, (*len)--;
	while (*len > 0 && (value[*len - 1] == '\r' || value[*len - 1] == '\n' ||
						value[*len - 1] == ' ' || value[*len - 1] == '\t'))
		(*len)--;
	return value;
}

/* Copy a header's value; one that does not fit or holds NUL counts as empty. */
static void
keep_value(char *to, Size size, const char *value, Size len)
{
	to[0] = '\0';
	if (len >= size || memchr(value, 0, len) != NULL)
		return;
	memcpy(to, value, len);
	to[len] = '\0';
}

/* Note that a cookie came, and how long AuthSession lives. */
static void
keep_cookie(HttpHeaders *h, const char *value, Size len)
{
	char		text[1024];
	bool		session = len >= 12 && strncmp(value, "AuthSession=", 12) == 0;
	char	   *age;

	h->cookie = true;
	/* what a client may keep for a while ends with the attributes */
	if (len >= sizeof(text))
	{
		value += len - (sizeof(text) - 1);
		len = sizeof(text) - 1;
	}
	memcpy(text, value, len);
	text[len] = '\0';
	for (char *p = text; *p != '\0'; p++)
		*p = pg_ascii_tolower((unsigned char) *p);
	age = strstr(text, "max-age=");
	if (age != NULL && (session || h->cookie_age == 0))
		h->cookie_age = atoi(age + 8);
}

static size_t
on_header(char *line, size_t size, size_t count, void *arg)
{
	HttpTransfer *t = arg;
	HttpHeaders *h = &t->headers;
	Size		n = size * count;
	const char *value;
	Size		len;

	t->last_byte = GetCurrentTimestamp();
	docrep_http_touch(t);
	if (h->complete)
		return n;				/* of a trailer */
	if (h->bytes == 0)
		t->window_start = t->last_byte;
	t->window_bytes += n;
	h->bytes += n;
	if (h->bytes > HTTP_MAX_HEADERS)
	{
		t->headers_too_large = true;
		return 0;
	}
	if (n >= 5 && strncmp(line, "HTTP/", 5) == 0)
	{
		Size		bytes = h->bytes;
		const char *space = memchr(line, ' ', n);

		memset(h, 0, sizeof(HttpHeaders));
		h->length = -1;
		h->bytes = bytes;
		if (space != NULL)
			for (space++; space < line + n && *space >= '0' && *space <= '9' &&
				 h->status < 1000; space++)
				h->status = h->status * 10 + (*space - '0');
	}
	else if (n <= 2 && (line[0] == '\r' || line[0] == '\n'))
		h->complete = h->status >= 200;
	else if ((value = header_value(line, n, "Content-Type", &len)) != NULL)
		keep_value(h->type, sizeof(h->type), value, len);
	else if ((value = header_value(line, n, "Content-Encoding", &len)) != NULL)
		keep_value(h->encoding, sizeof(h->encoding), value, len);
	else if ((value = header_value(line, n, "Content-Length", &len)) != NULL)
	{
		char		number[32];

		keep_value(number, sizeof(number), value, len);
		h->length = number[0] ? strtoll(number, NULL, 10) : -1;
	}
	else if ((value = header_value(line, n, "Set-Cookie", &len)) != NULL)
		keep_cookie(h, value, len);
	else if ((value = header_value(line, n, "WWW-Authenticate", &len)) != NULL)
		h->basic = h->basic || (len >= 5 && pg_strncasecmp(value, "Basic", 5) == 0);
	return n;
}

static size_t
on_body(char *data, size_t size, size_t count, void *arg)
{
	HttpTransfer *t = arg;
	Size		n = size * count;
	HttpBuffer *in = &t->in;

	t->last_byte = GetCurrentTimestamp();
	docrep_http_touch(t);
	t->window_bytes += n;
	/* more than is kept of what nobody will read in full */
	if (t->judged && t->verdict != HTTP_STANDS)
		return n;
	if ((t->in_use && in->end + n > in->size) ||
		(in->end - in->start > 0 && in->end - in->start + n > HTTP_BUFFER))
	{
		t->in_paused = true;
		t->window_bytes -= n;
		return CURL_WRITEFUNC_PAUSE;
	}
	return docrep_http_buffer_append(in, data, n, SIZE_MAX / 4) ? n : 0;
}

/* ---------- what is sent ---------- */

static size_t
on_read(char *to, size_t size, size_t count, void *arg)
{
	HttpTransfer *t = arg;
	Size		n = Min(size * count, t->out.end - t->out.start);

	t->last_byte = GetCurrentTimestamp();
	if (n == 0)
	{
		if (t->out_end)
			return 0;
		t->out_paused = true;
		return CURL_READFUNC_PAUSE;
	}
	memcpy(to, t->out.data + t->out.start, n);
	t->out.start += n;
	return n;
}

/* curl wants to send again from the beginning: a connection it had kept was dead. */
static int
on_seek(void *arg, curl_off_t offset, int origin)
{
	HttpTransfer *t = arg;

	if (origin != SEEK_SET || offset != 0 || t->out_lost > 0)
		return CURL_SEEKFUNC_CANTSEEK;
	t->out.start = 0;
	return CURL_SEEKFUNC_OK;
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
	curl_multi_setopt(http->multi, CURLMOPT_SOCKETFUNCTION, on_socket);
	curl_multi_setopt(http->multi, CURLMOPT_SOCKETDATA, http);
	curl_multi_setopt(http->multi, CURLMOPT_TIMERFUNCTION, on_timer);
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
	curl_easy_setopt(e, CURLOPT_OPENSOCKETFUNCTION, on_open);
	curl_easy_setopt(e, CURLOPT_OPENSOCKETDATA, t);
	curl_easy_setopt(e, CURLOPT_CLOSESOCKETFUNCTION, on_close);
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
		curl_easy_setopt(e, CURLOPT_READFUNCTION, on_read);
		curl_easy_setopt(e, CURLOPT_READDATA, t);
		curl_easy_setopt(e, CURLOPT_SEEKFUNCTION, on_seek);
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
	curl_easy_setopt(e, CURLOPT_HEADERFUNCTION, on_header);
	curl_easy_setopt(e, CURLOPT_HEADERDATA, t);
	curl_easy_setopt(e, CURLOPT_WRITEFUNCTION, on_body);
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
