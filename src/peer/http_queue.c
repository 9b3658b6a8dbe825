/*-------------------------------------------------------------------------
 *
 * http_queue.c
 *		The queue of calls: those that wait for a connection, and launching them.
 *
 * Waiting calls are launched in order.  A call is active, and counts against
 * http_connections, until the last byte of its answer has been taken, which
 * bounds the memory of answers that nobody takes yet.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "peer/http_internal.h"
#include "storage/fd.h"
#include "utils/timestamp.h"

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
