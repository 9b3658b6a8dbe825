/*-------------------------------------------------------------------------
 *
 * http_policy.c
 *		What an answer or a failure means: is it the caller's, or is the
 *		request sent again, elsewhere, later, or with other credentials?
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "peer/http_internal.h"
#include "store/errcodes.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#define FIRST_PAUSE			250 /* ms, doubled each time */
#define LONGEST_PAUSE		300000

/* a server that wants us to wait for longer than this ends the call */
#define LONGEST_RETRY_AFTER	300 /* s */

/* pauses between launches after 429, as CouchDB's replicator: ms */
#define PACE_FLOOR			20.0
#define PACE_GROWTH			1.2
#define PACE_CEILING		25000.0

/* ---------- pace ---------- */

/* The server cannot keep up: wait longer between requests from now on. */
static void
pace_failure(DocrepHttp *http)
{
	http->interval = Min(Max(http->interval, PACE_FLOOR) * PACE_GROWTH, PACE_CEILING);
}

void
docrep_http_pace_success(DocrepHttp *http)
{
	if (http->interval > 0)
		http->interval = http->interval * 0.9 - 1;
	if (http->interval < 1)
		http->interval = 0;
}

void
docrep_http_count_throttled(DocrepHttp *http, uint64 *count)
{
	http->throttled = count;
}

TimestampTz
docrep_http_pace_next(const DocrepHttp *http)
{
	TimestampTz next = http->hold_until;

	if (http->interval > 0)
		next = Max(next, TimestampTzPlusMilliseconds(http->last_launch, (int64) http->interval));
	return next;
}

/* ---------- repeating ---------- */

/* The pause before the next attempt, in ms: half of it is left to chance. */
static int64
pause_after(int attempts)
{
	int64		pause = Min((int64) FIRST_PAUSE << Min(attempts, 20), LONGEST_PAUSE);

	return pause / 2 + (int64) (pause * docrep_random() / 2) + 1;
}

/* May a call be sent again at all? */
static bool
may_repeat(const HttpTransfer *t)
{
	return !t->call->stream && t->attempts < t->call->retries;
}

/* Does this status promise that another attempt may do better? */
static bool
is_temporary(int status)
{
	return status == 408 || status == 429 || status == 500 || (status >= 502 && status <= 504);
}

/* What the server says about when to come back, in s; 0: nothing. */
static int64
retry_after(const HttpTransfer *t)
{
	curl_off_t	seconds = 0;

	if (t->easy == NULL ||
		curl_easy_getinfo(t->easy, CURLINFO_RETRY_AFTER, &seconds) != CURLE_OK)
		return 0;
	return Max(seconds, 0);
}

/* Where a redirect leads to; NULL: it does not say. */
static const char *
redirect_url(const HttpTransfer *t)
{
	char	   *url = NULL;

	if (t->easy == NULL ||
		curl_easy_getinfo(t->easy, CURLINFO_REDIRECT_URL, &url) != CURLE_OK)
		return NULL;
	return url;
}

/* Is it a redirect that is followed: of a read, and one that does not give up TLS? */
static bool
is_followed(const HttpTransfer *t)
{
	int			status = t->headers.status;

	if (t->purpose != HTTP_FOR_CALLER || redirect_url(t) == NULL)
		return false;
	if (strcmp(t->call->method, "GET") != 0 && strcmp(t->call->method, "HEAD") != 0)
		return false;
	return (status >= 301 && status <= 303) || status == 307 || status == 308;
}

HttpVerdict
docrep_http_judge(const HttpTransfer *t)
{
	int			status = t->headers.status;

	if (is_followed(t))
		return HTTP_REDIRECT;
	if ((status == 401 || status == 403) && docrep_http_auth_renewable(t, status))
		return HTTP_REAUTH;
	if (status == 500 && t->call->final_500)
		return HTTP_STANDS;
	if (is_temporary(status) && may_repeat(t) && retry_after(t) <= LONGEST_RETRY_AFTER)
		return HTTP_REPEAT;
	return HTTP_STANDS;
}

/* The status is one of a server that is in trouble: again later. */
void
docrep_http_repeat(HttpTransfer *t)
{
	DocrepHttp *http = t->http;
	TimestampTz now = GetCurrentTimestamp();
	int64		pause = pause_after(t->attempts++);
	int64		wanted = retry_after(t) * 1000;

	if (http->throttled && (t->headers.status == 429 || t->headers.status == 503))
		++*http->throttled;
	if (t->headers.status == 429)
	{
		pace_failure(http);
		/* all calls are meant */
		if (wanted > 0)
			http->hold_until = Max(http->hold_until, TimestampTzPlusMilliseconds(now, wanted));
	}
	docrep_http_requeue(t, TimestampTzPlusMilliseconds(now, Max(pause, wanted)), true);
}

/* Will it fail again for the same reason? */
static bool
is_final(const HttpTransfer *t)
{
	if (t->refused || docrep_http_proxy_refuses(t))
		return true;
	switch (t->result)
	{
		case CURLE_PEER_FAILED_VERIFICATION:
		case CURLE_SSL_CACERT_BADFILE:
		case CURLE_SSL_ISSUER_ERROR:
		case CURLE_SSL_CERTPROBLEM:
		case CURLE_URL_MALFORMAT:
			return true;
		default:
			return false;
	}
}

/*
 * The attempt has failed.  Have it repeated (true), or say in the call why
 * not and leave the rest to the caller of this (false).
 */
bool
docrep_http_transport_failed(HttpTransfer *t)
{
	DocrepHttpCall *call = t->call;
	int			code;
	char	   *problem;

	if (may_repeat(t) && !is_final(t) && (!t->consumed || call->again != NULL))
	{
		TimestampTz due = TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
													  pause_after(t->attempts++));

		call->headers_in = false;
		call->status = 0;
		resetStringInfo(&call->answer);
		if (t->consumed)
		{
			uint64		launch = t->launch;
			DocrepHttp *http = t->http;

			call->again(call);
			if (!docrep_http_is_active(http, t, launch))
				return true;
		}
		docrep_http_requeue(t, due, true);
		return true;
	}
	docrep_http_describe(t, &code, &problem);
	docrep_http_fail(t, code, problem);
	if (t->purpose != HTTP_FOR_CALLER)
		docrep_http_auth_answer(t->http, t);
	return true;
}

/* ---------- redirects ---------- */

/* Do two URLs have the same scheme, host and port? */
static bool
same_server(const DocrepHttp *http, const char *url)
{
	CURLU	   *u = curl_url();
	char	   *scheme = NULL;
	char	   *host = NULL;
	char	   *port = NULL;
	bool		same = false;

	if (u != NULL && curl_url_set(u, CURLUPART_URL, url, 0) == CURLUE_OK &&
		curl_url_get(u, CURLUPART_SCHEME, &scheme, 0) == CURLUE_OK &&
		curl_url_get(u, CURLUPART_HOST, &host, 0) == CURLUE_OK &&
		curl_url_get(u, CURLUPART_PORT, &port, CURLU_DEFAULT_PORT) == CURLUE_OK)
	{
		const DocrepHttpEndpoint *e = http->endpoint;
		Size		n = strlen(host);
		bool		bracketed = host[0] == '[';

		same = strcmp(scheme, e->scheme) == 0 && atoi(port) == e->port &&
			strlen(e->host) == n - 2 * bracketed &&
			pg_strncasecmp(host + bracketed, e->host, n - 2 * bracketed) == 0;
	}
	curl_free(scheme);
	curl_free(host);
	curl_free(port);
	curl_url_cleanup(u);
	return same;
}

/* Send a read to where the server says it is. */
void
docrep_http_follow(HttpTransfer *t)
{
	const char *url = redirect_url(t);
	bool		was_tls = pg_strncasecmp(t->url, "https://", 8) == 0;
	bool		is_tls = pg_strncasecmp(url, "https://", 8) == 0;
	MemoryContext caller = MemoryContextSwitchTo(t->cxt);

	/* a body that is still coming would keep the connection busy */
	if (t->redirects++ >= HTTP_MAX_REDIRECTS)
		docrep_http_fail(t, ERRCODE_DOCREP_UNAVAILABLE, "The server redirects too often.");
	else if (!is_tls && (was_tls || pg_strncasecmp(url, "http://", 7) != 0))
		docrep_http_fail(t, ERRCODE_DOCREP_UNAVAILABLE,
						 "The server redirects to a scheme that is not followed.");
	else
	{
		t->url = pstrdup(url);
		t->own_server = same_server(t->http, t->url);
		t->rules = t->own_server ? t->http->rules : docrep_http_rules(t->http, t->url);
		docrep_http_requeue(t, 0, true);
	}
	MemoryContextSwitchTo(caller);
}
