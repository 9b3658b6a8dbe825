/*-------------------------------------------------------------------------
 *
 * http_step.c
 *		Going on with calls: handing over what has come, waiting, sending.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "peer/http_internal.h"
#include "storage/latch.h"
#include "store/errcodes.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

/* ---------- handing over ---------- */

/* The first active call that was launched after another. */
static HttpTransfer *
next_active(DocrepHttp *http, uint64 after)
{
	dlist_iter	iter;

	dlist_foreach(iter, &http->active)
	{
		HttpTransfer *t = dlist_container(HttpTransfer, link, iter.cur);

		if (t->launch > after)
			return t;
	}
	return NULL;
}

bool
docrep_http_is_active(DocrepHttp *http, const HttpTransfer *t, uint64 launch)
{
	/* the consumers of polls drop none, and there may be too many to look for one */
	return http->polls || next_active(http, launch - 1) == t;
}

/* Show the caller the headers of an answer that stands. */
static void
give_headers(HttpTransfer *t)
{
	DocrepHttpCall *call = t->call;
	const HttpHeaders *h = &t->headers;

	call->status = h->status;
	call->type = MemoryContextStrdup(t->cxt, h->type);
	call->encoding = MemoryContextStrdup(t->cxt, h->encoding);
	call->length = h->length;
	call->headers_in = true;
	if (pg_strcasecmp(call->encoding, "identity") == 0)
		call->encoding[0] = '\0';
	if (call->encoding[0] != '\0' && !call->raw)
		t->decoder = docrep_http_decoder_new(call->encoding);
}

static bool
is_success(const DocrepHttpCall *call)
{
	return call->status >= 200 && call->status < 300;
}

/* End a call whose answer is broken, or have it repeated. */
static void
broken(HttpTransfer *t, CURLcode result)
{
	docrep_http_curl_stop(t);
	t->finished = true;
	t->result = result;
	if (docrep_http_transport_failed(t))
		return;
	docrep_http_set_done(t);
}

/* Is the body in an encoding that nobody has asked for? */
static bool
is_unreadable(const HttpTransfer *t)
{
	return t->decoder == NULL && !t->call->raw && t->call->encoding[0] != '\0';
}

/* Append to what is collected; false: it is more than wanted. */
static bool
collect(HttpTransfer *t, const char *data, Size len)
{
	DocrepHttpCall *call = t->call;

	if (!is_success(call))
	{
		/* enough to tell what is wrong */
		len = Min(len, HTTP_ERROR_BODY - Min(call->answer.len, HTTP_ERROR_BODY));
		appendBinaryStringInfo(&call->answer, data, len);
		return true;
	}
	if ((Size) call->answer.len + len > HTTP_COLLECT_MAX)
		return false;
	appendBinaryStringInfo(&call->answer, data, len);
	return true;
}

/*
 * Give what a buffer holds to the consumer.  Returns false if the call is not to be
 * touched any more; *some: something was taken.
 */
static bool
give(HttpTransfer *t, HttpBuffer *from, bool *some)
{
	DocrepHttpCall *call = t->call;
	DocrepHttp *http = t->http;
	Size		len = from->end - from->start;
	Size		took = len;

	if (call->max_body > 0 && is_success(call) && t->taken + len > call->max_body)
	{
		docrep_http_fail(t, ERRCODE_DOCREP_TOO_LARGE, "The answer is too large.");
		return false;
	}
	if (call->consume == NULL || !is_success(call))
	{
		if (!collect(t, from->data + from->start, len))
		{
			docrep_http_fail(t, ERRCODE_DOCREP_TOO_LARGE, "The answer is too large.");
			return false;
		}
	}
	else
	{
		uint64		launch = t->launch;

		t->in_use = true;
		t->consumed = true;
		took = call->consume(call, from->data + from->start, len);
		/* what was dropped meanwhile is gone */
		if (!docrep_http_is_active(http, t, launch))
			return false;
		t->in_use = false;
		Assert(took <= len);
	}
	from->start += took;
	t->taken += took;
	if (took > 0)
		*some = true;
	if (from->start == from->end)
		from->start = from->end = 0;
	return true;
}

/*
 * Hand over what there is of a body.  Returns false if the call is not to be
 * touched any more; *some: something was taken.
 */
static bool
give_body(HttpTransfer *t, bool *some)
{
	for (;;)
	{
		HttpBuffer *from = &t->in;
		Size		before;

		if (t->decoder != NULL && !docrep_http_decode(t->decoder, &t->in, &from))
		{
			broken(t, CURLE_BAD_CONTENT_ENCODING);
			*some = true;
			return false;
		}
		before = from->end - from->start;
		if (before == 0)
			break;
		if (!give(t, from, some))
		{
			*some = true;
			return false;
		}
		if (from->end - from->start == before)
			break;				/* not now */
	}
	if (t->in.start == t->in.end)
		t->in.start = t->in.end = 0;
	if (t->in.end - t->in.start <= HTTP_BUFFER / 2)
		docrep_http_curl_unpause(t, true, false);
	return true;
}

/* Has everything that came been taken? */
static bool
is_drained(HttpTransfer *t)
{
	HttpBuffer *out;

	if (t->in.start < t->in.end)
		return false;
	if (t->decoder == NULL)
		return true;
	return docrep_http_decode(t->decoder, &t->in, &out) && out->start == out->end;
}

/* Do what an answer that is not the caller's demands.  Its body is of no interest. */
static void
act_on_verdict(HttpTransfer *t)
{
	switch (t->verdict)
	{
		case HTTP_REDIRECT:
			docrep_http_follow(t);
			break;
		case HTTP_REAUTH:
			docrep_http_auth_renew(t);
			break;
		case HTTP_REPEAT:
			docrep_http_repeat(t);
			break;
		case HTTP_STANDS:
			break;
	}
}

/* The last byte has come and was taken, or the attempt has failed. */
static void
conclude(HttpTransfer *t)
{
	DocrepHttpCall *call = t->call;

	if (t->result == CURLE_OK && !t->judged)
		t->result = CURLE_WEIRD_SERVER_REPLY;

	/* what a refusal said to its last byte is not worth another try */
	if (t->result != CURLE_OK && !(call->headers_in && !is_success(call)))
	{
		if (!docrep_http_transport_failed(t))
			docrep_http_set_done(t);
		return;
	}
	if (t->decoder != NULL && t->result == CURLE_OK && !docrep_http_decoder_complete(t->decoder))
	{
		broken(t, CURLE_BAD_CONTENT_ENCODING);
		return;
	}
	if (is_success(call))
	{
		docrep_http_pace_success(t->http);
		if (t->own_server && t->purpose == HTTP_FOR_CALLER)
			t->http->auth.proved = true;
	}
	docrep_http_set_done(t);
	if (t->purpose != HTTP_FOR_CALLER)
		docrep_http_auth_answer(t->http, t);
}

/* Go on with a call.  True: something happened. */
static bool
deliver(HttpTransfer *t)
{
	bool		some = false;

	if (t->in_use)
		return false;			/* its consumer has come here */
	if (t->headers.complete && !t->judged)
	{
		t->verdict = docrep_http_judge(t);
		t->judged = true;
		some = true;
		if (t->verdict == HTTP_STANDS)
		{
			give_headers(t);
			if (is_unreadable(t) && is_success(t->call))
			{
				broken(t, CURLE_BAD_CONTENT_ENCODING);
				return true;
			}
		}
	}
	if (t->judged && t->verdict != HTTP_STANDS)
	{
		/* its body has come with the headers, or is not waited for */
		act_on_verdict(t);
		return true;
	}
	/* what came before a failure counts, too: a feed goes on after its last row */
	if (t->judged && !give_body(t, &some))
		return true;
	if (t->finished && (!t->judged || is_drained(t)))
	{
		conclude(t);
		some = true;
	}
	return some;
}

/* Hand over what has come for all calls.  True: something happened. */
static bool
hand_over(DocrepHttp *http)
{
	HttpTransfer *t;
	uint64		last = 0;
	bool		some = false;

	while ((t = next_active(http, last)) != NULL)
	{
		last = t->launch;
		some = deliver(t) || some;
	}
	if (!dlist_is_empty(&http->waiting) && !docrep_http_auth_ready(http))
		docrep_http_auth_begin(http);
	docrep_http_launch_ready(http);
	return some;
}

void
docrep_http_deliver(DocrepHttp *http, void (*after) (DocrepHttpCall *call))
{
	while (!dlist_is_empty(&http->touched))
	{
		HttpTransfer *t = dlist_head_element(HttpTransfer, touch_link, &http->touched);
		bool		callers = t->purpose == HTTP_FOR_CALLER;

		docrep_http_untouch(t);
		if (t->state == HTTP_ACTIVE)
			(void) deliver(t);
		/* one of the client's own is freed when it is done */
		if (!callers)
			continue;
		if (t->in.data != NULL && t->in.start == t->in.end)
			docrep_http_buffer_free(&t->in);
		after(t->call);
	}
	if (!dlist_is_empty(&http->waiting) && !docrep_http_auth_ready(http))
		docrep_http_auth_begin(http);
	docrep_http_launch_ready(http);
}

/* ---------- the caller's side ---------- */

int
docrep_http_step(DocrepHttp *http, TimestampTz deadline)
{
	int			happened;

	if (hand_over(http))
		return 0;
	happened = docrep_io_wait(deadline);
	(void) hand_over(http);
	return happened;
}

void
docrep_http_pump(DocrepHttp *http)
{
	docrep_io_pump();
	(void) hand_over(http);
}

void
docrep_http_finish(DocrepHttpCall *call)
{
	while (!call->done)
		(void) docrep_http_step(call->transfer->http, 0);
}

/* ---------- streamed bodies ---------- */

/* Put into the buffer what fits; returns how much. */
static Size
stuff(HttpTransfer *t, const char *data, Size len)
{
	HttpBuffer *out = &t->out;
	Size		room;

	if (out->data == NULL)
	{
		out->data = malloc(HTTP_BUFFER);
		if (out->data == NULL)
			ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
		out->size = HTTP_BUFFER;
	}
	/* what was sent is kept while there is room: curl may have to send it again */
	if (out->size - out->end < len && out->start > 0)
	{
		memmove(out->data, out->data + out->start, out->end - out->start);
		t->out_lost += out->start;
		out->end -= out->start;
		out->start = 0;
	}
	room = Min(len, out->size - out->end);
	memcpy(out->data + out->end, data, room);
	out->end += room;
	return room;
}

void
docrep_http_send(DocrepHttpCall *call, const char *data, Size len)
{
	HttpTransfer *t = call->transfer;

	while (!call->done && !(call->headers_in && !is_success(call)))
	{
		Size		n = stuff(t, data, len);

		data += n;
		len -= n;
		if (n > 0)
			docrep_http_curl_unpause(t, false, true);
		if (len == 0)
		{
			docrep_http_pump(t->http);
			return;
		}
		(void) docrep_http_step(t->http, 0);
	}
}

void
docrep_http_send_end(DocrepHttpCall *call)
{
	HttpTransfer *t = call->transfer;

	if (call->done)
		return;
	t->out_end = true;
	docrep_http_curl_unpause(t, false, true);
	docrep_http_launch_ready(t->http);
}

void
docrep_http_do(DocrepHttpCall *call, const int *also, const char *doing)
{
	docrep_http_start(call);
	docrep_http_finish(call);
	if (call->failed == 0)
	{
		if (is_success(call))
			return;
		for (; also != NULL && *also != 0; also++)
			if (call->status == *also)
				return;
	}
	docrep_http_raise(call, doing);
}

int
docrep_http_pace(const DocrepHttp *http)
{
	return (int) http->interval;
}
