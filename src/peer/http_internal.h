/*-------------------------------------------------------------------------
 *
 * http_internal.h
 *		What the files of the HTTP client share.
 *
 * http.c			clients and calls: life, queue, time
 * http_step.c		handing over, waiting, sending
 * http_curl.c		curl: handles
 * http_sockets.c	its sockets
 * http_callbacks.c	what arrives and what is sent
 * http_decode.c	Content-Encoding
 * http_auth.c		_session cookies, Basic, IAM tokens
 * http_policy.c	what an answer or a failure means: repeat, redirect, renew
 * http_error.c		failures as errors, percent-encoding
 *
 *-------------------------------------------------------------------------
 */
#ifndef DOCREP_PEER_HTTP_INTERNAL_H
#define DOCREP_PEER_HTTP_INTERNAL_H

#include <curl/curl.h>

#include "lib/ilist.h"
#include "peer/http.h"
#include "peer/io.h"
#include "peer/peers.h"
#include "peer/socket_options.h"

/* received and not yet taken, and to be sent and not yet sent, a call */
#define HTTP_BUFFER			(256 * 1024)

/* of an answer whose status is not 2xx */
#define HTTP_ERROR_BODY		(64 * 1024)

/* of an answer that is collected without a limit of the caller's */
#define HTTP_COLLECT_MAX	((Size) 256 * 1024 * 1024)

#define HTTP_MAX_HEADERS	(256 * 1024)
#define HTTP_MAX_REDIRECTS	10

#define HTTP_USER_AGENT		"docrep/" DOCREP_VERSION

/* A queue of bytes, outside of palloc since callbacks of curl fill it. */
typedef struct HttpBuffer
{
	char	   *data;			/* malloc'd */
	Size		size;
	Size		start;			/* the bytes are [start, end) */
	Size		end;
} HttpBuffer;

/* What is to be done about an answer. */
typedef enum HttpVerdict
{
	HTTP_STANDS,				/* it is the caller's */
	HTTP_REPEAT,				/* again after a pause */
	HTTP_REDIRECT,
	HTTP_REAUTH					/* again with new credentials */
} HttpVerdict;

typedef enum HttpState
{
	HTTP_NEW,					/* not started */
	HTTP_WAITING,				/* for its turn, or until "due" */
	HTTP_ACTIVE,				/* with curl, or not yet handed over in full */
	HTTP_DONE
} HttpState;

typedef enum HttpPurpose
{
	HTTP_FOR_CALLER,
	HTTP_FOR_SESSION,			/* POST /_session */
	HTTP_FOR_TOKEN				/* POST to the token endpoint */
} HttpPurpose;

/* The headers of an answer that matter, cut to these sizes. */
typedef struct HttpHeaders
{
	int			status;
	char		type[256];
	char		encoding[64];
	int64		length;			/* -1: not said */
	int			cookie_age;		/* Max-Age of AuthSession or of the only cookie; 0: none */
	bool		cookie;			/* a cookie was set */
	bool		basic;			/* WWW-Authenticate: Basic */
	bool		complete;		/* of a final answer */
	Size		bytes;
} HttpHeaders;

/* Undoing Content-Encoding: http_decode.c. */
typedef struct HttpDecoder HttpDecoder;

/* A call's inner side. */
typedef struct HttpTransfer
{
	DocrepHttpCall *call;
	DocrepHttp *http;			/* NULL: the client is closed */
	MemoryContext cxt;			/* of the call; deleting it drops the call */
	MemoryContextCallback on_delete;
	dlist_node	link;			/* in http->waiting or http->active */
	HttpState	state;
	HttpPurpose purpose;
	uint64		launch;			/* number of the launch, ascending in http->active */

	/* the request */
	char	   *url;
	bool		own_server;		/* the endpoint's: gets credentials, cookies, headers */
	DocrepHostRules *rules;		/* of the host that is connected to */
	bool		first_in_line;	/* its turn comes before others' */
	TimestampTz due;			/* not to be launched before; 0: now */
	int			attempts;		/* that failed */
	int			redirects;
	int			reauths;

	/* with curl */
	CURL	   *easy;
	struct curl_slist *headers_out;
	char		error[CURL_ERROR_SIZE];
	HttpHeaders headers;
	HttpVerdict verdict;
	bool		judged;			/* verdict is known */
	HttpBuffer	in;
	bool		in_use;			/* the consumer looks at "in": it must not move */
	bool		in_paused;		/* curl has been told to rest */
	bool		refused;		/* an address was not allowed */
	bool		no_fd;			/* the system has no more descriptors */
	bool		headers_too_large;
	bool		finished;		/* curl is done with it: */
	CURLcode	result;
	bool		timed_out;		/* we have ended it */

	/* liveliness */
	TimestampTz launched;
	TimestampTz last_byte;		/* something moved, or we were the ones to wait for */
	TimestampTz window_start;	/* of the low-speed check */
	Size		window_bytes;
	curl_off_t	uploaded;

	/* a streamed body */
	HttpBuffer	out;
	Size		out_lost;		/* bytes that cannot be sent again */
	bool		out_end;
	bool		out_paused;

	/* handing over */
	HttpDecoder *decoder;
	int64		taken;			/* bytes of the decoded body that were taken */
	bool		consumed;		/* consume has been called */

	/* of a client of polls */
	bool		touched;		/* in http->touched */
	dlist_node	touch_link;
} HttpTransfer;

/* How the client authorizes itself. */
typedef enum HttpAuthMode
{
	HTTP_AUTH_NONE,
	HTTP_AUTH_SESSION,
	HTTP_AUTH_BASIC,
	HTTP_AUTH_TOKEN
} HttpAuthMode;

typedef struct HttpAuth
{
	HttpAuthMode mode;
	bool		ready;
	TimestampTz renew_at;		/* 0: never */
	TimestampTz obtained;
	bool		proved;			/* the server has accepted it */
	char	   *basic;			/* "Authorization: Basic ..." or NULL */
	char	   *bearer;
	DocrepHttpCall *call;		/* the request for it that is under way */
	int			failed;			/* SQLSTATE that ends all calls; 0: none */
	char	   *problem;
} HttpAuth;

typedef struct HttpSocket
{
	curl_socket_t fd;
	uint32		events;
} HttpSocket;

struct DocrepHttp
{
	DocrepIo	io;				/* first: what waits has only this */
	MemoryContext cxt;
	MemoryContextCallback on_delete;
	bool		open;
	const DocrepHttpEndpoint *endpoint;
	DocrepPeerOptions options;
	bool		restricted;
	char	   *ca_file;		/* or NULL */
	char	   *server_ca_file; /* of a foreign server, for its own server only; or NULL */
	char	   *cert_file;		/* likewise */
	char	   *key_file;
	bool		verify_peer;	/* likewise */
	bool		verify_host;
	DocrepSocketOptions socket_options;
	char	   *proxy;			/* or NULL */
	char	   *proxy_password; /* or NULL */
	DocrepHostRules *rules;		/* of the endpoint's host, or the proxy's */
	HttpAuth	auth;

	CURLM	   *multi;
	CURLSH	   *share;			/* cookies of the endpoint's server */
	TimestampTz curl_due;		/* curl's timer; 0: none */
	HttpSocket *sockets;		/* malloc'd */
	int			nsockets;
	int			max_sockets;
	bool	   *is_connection;	/* by descriptor; malloc'd */
	int			max_fd;
	int			fds;			/* reserved at fd.c */
	bool		out_of_memory;

	dlist_head	waiting;
	dlist_head	active;			/* at most options.http_connections, by launch */
	int			nactive;
	int			running;		/* with curl */
	uint64		launches;

	/*
	 * A client of polls, of which there may be 1,000: what each keeps is small, they
	 * share connections where HTTP/2 lets them, since none of them ever rests, and
	 * docrep_http_deliver looks only at those that something has happened to.
	 */
	bool		polls;
	dlist_head	touched;

	uint64	   *throttled;		/* counts 429 and 503; or NULL */
	double		interval;		/* ms between launches that the server forced upon us */
	TimestampTz hold_until;		/* no launch before; 0: none */
	TimestampTz last_launch;
};

/* http_sockets.c, http_callbacks.c: what curl calls, set up by http_curl.c */
extern int docrep_http_on_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *of_socket);
extern int docrep_http_on_timer(CURLM *multi, long timeout, void *arg);
extern curl_socket_t docrep_http_on_open(void *arg, curlsocktype purpose, struct curl_sockaddr *address);
extern int docrep_http_on_close(void *arg, curl_socket_t fd);
extern size_t docrep_http_on_header(char *line, size_t size, size_t count, void *arg);
extern size_t docrep_http_on_body(char *data, size_t size, size_t count, void *arg);
extern size_t docrep_http_on_read(char *to, size_t size, size_t count, void *arg);
extern int docrep_http_on_seek(void *arg, curl_off_t offset, int origin);

/* http_curl.c: nothing here raises or pallocs but docrep_http_curl_open */
extern void docrep_http_curl_open(DocrepHttp *http);
extern void docrep_http_curl_close(DocrepHttp *http);
extern bool docrep_http_curl_launch(HttpTransfer *t);
extern void docrep_http_curl_stop(HttpTransfer *t);
extern void docrep_http_curl_unpause(HttpTransfer *t, bool in, bool out);
extern void docrep_http_curl_act(DocrepHttp *http, curl_socket_t fd, uint32 events);
extern bool docrep_http_buffer_append(HttpBuffer *buffer, const char *data, Size len, Size max);
extern void docrep_http_buffer_free(HttpBuffer *buffer);

/* http_queue.c: launch what may be launched without memory of ours; cannot raise */
extern void docrep_http_launch_ready(DocrepHttp *http);
extern void docrep_http_set_done(HttpTransfer *t);
extern void docrep_http_fail(HttpTransfer *t, int code, const char *problem);
extern void docrep_http_requeue(HttpTransfer *t, TimestampTz due, bool first);

/* http.c */
extern DocrepHostRules *docrep_http_rules(DocrepHttp *http, const char *url);

/* http_step.c: is t (which may have been freed) still the call of that launch? */
extern bool docrep_http_is_active(DocrepHttp *http, const HttpTransfer *t, uint64 launch);

/*
 * Of a client of polls: hand over what has come.  "after" is called for each call
 * that something has happened to; it must not drop calls, nor raise.
 */
extern void docrep_http_deliver(DocrepHttp *http, void (*after) (DocrepHttpCall *call));

/* Something has happened to a call.  Allocates nothing. */
static inline void
docrep_http_touch(HttpTransfer *t)
{
	if (t->http == NULL || !t->http->polls || t->touched)
		return;
	t->touched = true;
	dlist_push_tail(&t->http->touched, &t->touch_link);
}

static inline void
docrep_http_untouch(HttpTransfer *t)
{
	if (t->touched)
		dlist_delete(&t->touch_link);
	t->touched = false;
}

/* http_decode.c */
extern HttpDecoder *docrep_http_decoder_new(const char *encoding);	/* NULL: unknown */
extern void docrep_http_decoder_free(HttpDecoder *decoder); /* NULL is fine */

/*
 * Decode some of in (advancing it) into the decoder's own buffer unless that
 * still holds bytes; *out is that buffer.  False: the data is broken.
 */
extern bool docrep_http_decode(HttpDecoder *decoder, HttpBuffer *in, HttpBuffer **out);
extern bool docrep_http_decoder_complete(const HttpDecoder *decoder);

/* http_auth.c */
extern void docrep_http_auth_init(DocrepHttp *http);
extern bool docrep_http_auth_ready(const DocrepHttp *http);	/* no alloc */
extern void docrep_http_auth_begin(DocrepHttp *http);
extern void docrep_http_auth_answer(DocrepHttp *http, HttpTransfer *t);
extern const char *docrep_http_auth_header(const DocrepHttp *http); /* or NULL; no alloc */
extern bool docrep_http_auth_renewable(const HttpTransfer *t, int status);
extern void docrep_http_auth_renew(HttpTransfer *t);

/* http_policy.c */
extern HttpVerdict docrep_http_judge(const HttpTransfer *t);
extern bool docrep_http_transport_failed(HttpTransfer *t);
extern void docrep_http_follow(HttpTransfer *t);
extern void docrep_http_repeat(HttpTransfer *t);
extern void docrep_http_pace_success(DocrepHttp *http);
extern TimestampTz docrep_http_pace_next(const DocrepHttp *http);

/*
 * http_error.c: what a call that failed, or whose status is no success, means: an SQLSTATE
 * and a sentence, in the current context.
 */
extern void docrep_http_describe(const HttpTransfer *t, int *code, char **problem);

/* Has a proxy refused to make a connection because of who we are, or are not? */
extern bool docrep_http_proxy_refuses(const HttpTransfer *t);

/* For the process's wait: the sockets of a client, and how long to wait at most. */
extern int docrep_http_sockets_list(DocrepIo *io, DocrepIoSocket *sockets, int max,
									long *timeout);

/* A socket is ready, or time has passed. */
extern void docrep_http_sockets_ready(DocrepIo *io, pgsocket fd, uint32 events);

#endif							/* DOCREP_PEER_HTTP_INTERNAL_H */
