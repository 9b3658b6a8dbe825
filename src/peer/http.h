/*-------------------------------------------------------------------------
 *
 * http.h
 *		Calls over HTTP that never block: libcurl's multi interface in the
 *		process's one wait (io.h).
 *
 * A DocrepHttp belongs to one peer: its connections, cookies, credentials and
 * limits.  Many calls may be under way; more than http_connections wait their
 * turn in order.
 *
 * Nothing of curl's reaches the caller, and nothing of the caller's runs
 * inside curl's callbacks: what arrives is buffered (bounded; the connection
 * rests when it is full) and handed to call->consume from docrep_http_step.
 *
 * The client does by itself: authorization (Basic, _session cookies with
 * renewal, IAM tokens), redirects of reads (same scheme or http to https, at
 * most 10, credentials only to the same host and port), decoding of gzip
 * answers, TCP_NODELAY, keep-alive, HTTP/2 where TLS offers it, checks of every resolved address
 * (docrep.allowed_hosts, docrep.denied_hosts), and repeating: connection
 * failures, time-outs, broken answers, 408, 429 (Retry-After is kept, and the
 * pace slows down), 500, 502, 503, 504 up to call->retries times, 250 ms and
 * doubling with jitter.  401 of a session or token: once more after renewal.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DOCREP_PEER_HTTP_H
#define DOCREP_PEER_HTTP_H

#include "compat.h"
#include "lib/stringinfo.h"
#include "peer/http_endpoint.h"

typedef struct DocrepHttp DocrepHttp;
typedef struct DocrepHttpCall DocrepHttpCall;

struct DocrepHttpCall
{
	/* --- set by the caller before docrep_http_start; docrep_http_call sets defaults --- */
	const char *method;			/* "GET", ... */
	const char *path;			/* "": the database; "/…": from the server's root (what is
								 * before the database in its URL); else
								 * below the database.  Percent-encoded, may have a query */
	const char *accept;			/* NULL: application/json */
	const char *content_type;	/* of the body; NULL: application/json */
	const char *body;			/* lives until the call is done; may be sent again */
	Size		bodylen;
	bool		stream;			/* the body comes by docrep_http_send: not repeated */
	int64		stream_length;	/* of a stream; -1, the default: chunked */
	bool		raw;			/* hand over the body as it is on the wire, do not decode
								 * Content-Encoding (see encoding below) */
	bool		accept_gzip_raw;	/* with raw: say that gzip is welcome */
	int			retries;		/* -1, the default: options.retries_per_request; 0: none */
	bool		final_500;		/* a status of 500 is no passing trouble: not repeated */
	int			silence;		/* ms without a byte of an answer before the attempt counts as
								 * failed; 0: options.connection_timeout; -1: any.  Other than
								 * 0 is for feeds: no gzip, no least speed, no request_timeout */
	Size		max_body;		/* more is DR413-like failure "answer too large"; 0: none */
	void	   *arg;

	/*
	 * Hands over what has arrived of a 2xx answer's body, outside of curl, in
	 * the caller's memory context; may raise.  Returns how much it took; if less
	 * than len (even 0) the rest is offered again by the next step or wait, and the connection
	 * rests meanwhile.  It may drop calls, this one too, and start others.  NULL: the
	 * body is collected in "answer", 256 MB at most.
	 */
	Size		(*consume) (DocrepHttpCall *call, const char *data, Size len);

	/* The attempt failed after consume had got something, and will be repeated:
	 * forget it.  NULL: such a call is not repeated then. */
	void		(*again) (DocrepHttpCall *call);

	/* --- the answer --- */
	bool		headers_in;		/* the ones below are valid */
	int			status;			/* of the last answer, redirects followed */
	char	   *type;			/* Content-Type with parameters, or "" */
	char	   *encoding;		/* Content-Encoding or "" */
	int64		length;			/* Content-Length, -1: not said */
	bool		done;			/* the answer is complete, or failed is set */
	int			failed;			/* SQLSTATE of a failure of transport that stands after all
								 * retries; 0: none */
	char	   *problem;		/* for people, with failed: no credentials */
	StringInfoData answer;		/* the body, without consume or with a status that is not 2xx
								 * (then at most 64 kB of it) */

	/* --- internal --- */
	struct HttpTransfer *transfer;
};

/*
 * A client for an endpoint, in cxt, whose deletion ends everything.  restricted:
 * for a role that is no superuser (docrep.allowed_hosts counts).  proxy may be NULL.
 */
extern DocrepHttp *docrep_http_create(const DocrepHttpEndpoint *endpoint,
									  const DocrepPeerOptions *options, bool restricted,
									  MemoryContext cxt);
extern void docrep_http_close(DocrepHttp *http);	/* cannot fail */

/* An empty call in a context of its own below cxt. */
extern DocrepHttpCall *docrep_http_call(DocrepHttp *http, MemoryContext cxt,
										const char *method, const char *path);
extern void docrep_http_start(DocrepHttpCall *call);

/* Give up on the call and free it; at any time, cannot fail. */
extern void docrep_http_drop(DocrepHttpCall *call);

/*
 * Go on with all calls of this client: wait in docrep_io_wait for something
 * (deadline 0: none), then hand over what has come.  Returns as docrep_io_wait.
 */
extern int	docrep_http_step(DocrepHttp *http, TimestampTz deadline);

/* Hand over what has come, without waiting. */
extern void docrep_http_pump(DocrepHttp *http);

/* Step until the call is done. */
extern void docrep_http_finish(DocrepHttpCall *call);

/*
 * More of a streamed body.  Returns when most of it is sent, or the call is
 * done (the server has answered early; look at it).
 */
extern void docrep_http_send(DocrepHttpCall *call, const char *data, Size len);
extern void docrep_http_send_end(DocrepHttpCall *call);

/*
 * start, finish, and raise unless the status is 2xx or one of "also" (0 ends
 * the list; NULL: none).  "doing" is for messages: "reading changes".
 */
extern void docrep_http_do(DocrepHttpCall *call, const int *also, const char *doing);

/*
 * Raise what a done call says: its failure (DR503), or its status: 400 DR400, 401
 * DR401, 403 DR403, 404 DR404, 409 DR409, 412 DR412, 413 DR413, 408, 429, 5xx
 * DR503 (500: DR500), others DR500.  CouchDB's error and reason go into the detail.
 */
DOCREP_NORETURN extern void docrep_http_raise(DocrepHttpCall *call, const char *doing);

/* Percent-encoding of a path segment: everything but unreserved characters. */
extern char *docrep_http_escape(const char *text);

/* A document's path: "_design/x" keeps its first slash, all else is escaped. */
extern char *docrep_http_doc_path(const char *id);

/* Have *count raised whenever an answer says that the server has too much to do (429, 503). */
extern void docrep_http_count_throttled(DocrepHttp *http, uint64 *count);

/* Has the server's clock or pace told us to slow down?  Current pause between calls, ms. */
extern int	docrep_http_pace(const DocrepHttp *http);

#endif							/* DOCREP_PEER_HTTP_H */
