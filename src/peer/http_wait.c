/*-------------------------------------------------------------------------
 *
 * http_wait.c
 *		A client in the process's wait: which sockets it waits for and how long, and
 *		what is done when one is ready.  Calls that have been silent for too long, or
 *		too slow, end here.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "peer/http_internal.h"
#include "storage/latch.h"
#include "utils/timestamp.h"

/* a server that begins to answer must go on with at least this many bytes a second */
#define LOW_SPEED		16

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

int
docrep_http_sockets_list(DocrepIo *io, DocrepIoSocket *sockets, int max, long *timeout)
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

void
docrep_http_sockets_ready(DocrepIo *io, pgsocket fd, uint32 events)
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
