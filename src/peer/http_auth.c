/*-------------------------------------------------------------------------
 *
 * http_auth.c
 *		How a client authorizes itself: cookies of /_session, Basic, tokens.
 *
 * With user and password a session is asked for first, since a server hashes a
 * password slowly on purpose.  A server without sessions gets Basic.  With an IAM
 * key a token is fetched from its endpoint.  Calls wait for either.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/base64.h"
#include "lib/stringinfo.h"
#include "peer/couch_json.h"
#include "peer/http_internal.h"
#include "store/errcodes.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#define IAM_URL			"https://iam.cloud.ibm.com/identity/token"

/* CouchDB's sessions live for 600 s unless it is told otherwise */
#define SESSION_LIFE	550

/* a 403 has another reason than the age of a younger session */
#define YOUNG_SESSION	60000

/* "Authorization: Basic ..." */
static char *
basic_header(const char *user, const char *password)
{
	char	   *pair = psprintf("%s:%s", user, password ? password : "");
	int			size = pg_b64_enc_len(strlen(pair)) + 1;
	char	   *encoded = palloc(size);
	int			n;

	n = docrep_b64_encode(pair, strlen(pair), encoded, size);
	if (n < 0)
		elog(ERROR, "could not encode credentials");
	encoded[n] = '\0';
	return psprintf("Authorization: Basic %s", encoded);
}

void
docrep_http_auth_init(DocrepHttp *http)
{
	const DocrepHttpEndpoint *e = http->endpoint;
	HttpAuth   *auth = &http->auth;

	if (e->iam_api_key != NULL)
		auth->mode = HTTP_AUTH_TOKEN;
	else if (e->user != NULL)
	{
		auth->mode = HTTP_AUTH_SESSION;
		auth->basic = basic_header(e->user, e->password);
	}
	else
		auth->ready = true;
}

bool
docrep_http_auth_ready(const DocrepHttp *http)
{
	const HttpAuth *auth = &http->auth;

	if (!auth->ready || auth->failed != 0)
		return false;
	return auth->renew_at == 0 || auth->renew_at > GetCurrentTimestamp();
}

const char *
docrep_http_auth_header(const DocrepHttp *http)
{
	switch (http->auth.mode)
	{
		case HTTP_AUTH_BASIC:
			return http->auth.basic;
		case HTTP_AUTH_TOKEN:
			return http->auth.bearer;
		default:
			return NULL;		/* curl adds the cookie */
	}
}

/* ---------- asking ---------- */

/* Append with everything escaped that a form's value may not hold. */
static void
add_form_value(StringInfo buf, const char *name, const char *value)
{
	appendStringInfo(buf, "%s%s=%s", buf->len > 0 ? "&" : "", name, docrep_http_escape(value));
}

/* A call of ours with a form. */
static DocrepHttpCall *
form_call(DocrepHttp *http, HttpPurpose purpose, char *url, char *form)
{
	DocrepHttpCall *call = docrep_http_call(http, http->cxt, "POST", "");
	HttpTransfer *t = call->transfer;

	call->content_type = "application/x-www-form-urlencoded";
	call->body = MemoryContextStrdup(t->cxt, form);
	call->bodylen = strlen(form);
	call->max_body = HTTP_ERROR_BODY;
	t->purpose = purpose;
	t->own_server = purpose == HTTP_FOR_SESSION;
	t->url = MemoryContextStrdup(t->cxt, url);
	return call;
}

/* End the calls that wait for credentials. */
static void
fail_waiting(DocrepHttp *http, int code, const char *problem)
{
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, &http->waiting)
	{
		HttpTransfer *t = dlist_container(HttpTransfer, link, iter.cur);

		if (t->purpose == HTTP_FOR_CALLER)
			docrep_http_fail(t, code, problem);
	}
}

void
docrep_http_auth_begin(DocrepHttp *http)
{
	HttpAuth   *auth = &http->auth;
	const DocrepHttpEndpoint *e = http->endpoint;
	MemoryContext caller;
	StringInfoData form;
	DocrepHttpCall *call;

	if (auth->failed != 0)
		fail_waiting(http, auth->failed, auth->problem);
	if (auth->call != NULL || auth->failed != 0)
		return;
	caller = MemoryContextSwitchTo(http->cxt);
	initStringInfo(&form);
	if (auth->mode == HTTP_AUTH_TOKEN)
	{
		char	   *url = e->iam_url ? e->iam_url : IAM_URL;

		add_form_value(&form, "grant_type", "urn:ibm:params:oauth:grant-type:apikey");
		add_form_value(&form, "apikey", e->iam_api_key);
		call = form_call(http, HTTP_FOR_TOKEN, url, form.data);
		call->transfer->rules = docrep_http_rules(http, url);
	}
	else
	{
		add_form_value(&form, "name", e->user);
		add_form_value(&form, "password", e->password ? e->password : "");
		call = form_call(http, HTTP_FOR_SESSION, psprintf("%s%s/_session", e->server, e->root),
						 form.data);
		call->transfer->rules = http->rules;
	}
	pfree(form.data);

	/* the first one is part of opening the peer, which is not repeated within a run */
	if (auth->obtained == 0)
		call->retries = 0;
	auth->ready = false;
	auth->call = call;
	MemoryContextSwitchTo(caller);
	docrep_http_start(call);
}

/* ---------- answers ---------- */

/* The credentials are good for some seconds. */
static void
obtained(HttpAuth *auth, int64 seconds)
{
	auth->obtained = GetCurrentTimestamp();
	auth->renew_at = TimestampTzPlusMilliseconds(auth->obtained, Min(seconds, 86400) * 1000);
	auth->ready = true;
}

/* There are no credentials to be had; refused: there never will be. */
static void
failed(DocrepHttp *http, int code, const char *problem, bool refused)
{
	if (refused)
	{
		http->auth.failed = code;
		http->auth.problem = MemoryContextStrdup(http->cxt, problem);
	}
	fail_waiting(http, code, problem);
}

/* What a failed call says, as a failure of those that waited for it. */
static void
failed_as(DocrepHttp *http, HttpTransfer *t, bool refused)
{
	int			code;
	char	   *problem;

	docrep_http_describe(t, &code, &problem);
	problem = psprintf("No %s was given: %s",
					   t->purpose == HTTP_FOR_TOKEN ? "token" : "session", problem);
	failed(http, code, problem, refused);
}

/* /_session has answered. */
static void
session_answer(DocrepHttp *http, HttpTransfer *t)
{
	DocrepHttpCall *call = t->call;
	HttpAuth   *auth = &http->auth;
	bool		no_session = false;

	if (call->failed != 0)
		failed_as(http, t, call->failed == ERRCODE_DOCREP_FORBIDDEN);
	else if (call->status >= 200 && call->status < 300 && t->headers.cookie)
	{
		int			age = t->headers.cookie_age;

		/* renewed while the old one is still good */
		obtained(auth, age > 0 ? Max(Min(age - Max(age / 10, 5), SESSION_LIFE), 1) : SESSION_LIFE);
	}
	else if (call->status == 401 && !t->headers.basic)
		failed(http, ERRCODE_DOCREP_UNAUTHORIZED,
			   "The server refuses the user's name or the password.", true);
	else if (call->status < 500 || call->status == 501)
		no_session = true;
	else
		failed_as(http, t, false);

	if (no_session)
	{
		auth->mode = HTTP_AUTH_BASIC;
		auth->renew_at = 0;
		auth->obtained = GetCurrentTimestamp();
		auth->ready = true;
	}
}

/* The decoded text of a JSON string, in the current context; NULL if it is none. */
static char *
json_string(const CouchJson *value)
{
	char	   *text;
	size_t		n;
	bool		nul = false;
	bool		bad = false;

	if (value->kind != CJ_STRING)
		return NULL;
	text = palloc(value->len + 1);
	n = docrep_cj_decode(value, text, &nul, &bad);
	text[n] = '\0';
	return nul || bad ? NULL : text;
}

/* Is it the text of a header's value? */
static bool
is_printable(const char *text)
{
	for (; *text != '\0'; text++)
		if ((unsigned char) *text <= ' ' || (unsigned char) *text >= 0x7f)
			return false;
	return true;
}

/* The token endpoint has answered. */
static void
token_answer(DocrepHttp *http, HttpTransfer *t)
{
	DocrepHttpCall *call = t->call;
	HttpAuth   *auth = &http->auth;
	CouchJson	answer;
	CouchJson	value;
	char	   *token = NULL;
	int64		seconds = 3600;

	if (call->failed != 0)
	{
		failed_as(http, t, call->failed == ERRCODE_DOCREP_FORBIDDEN);
		return;
	}
	if (call->status < 200 || call->status >= 300)
	{
		/* what is wrong with a key is a 400 */
		bool		refused = call->status == 400 || call->status == 401 || call->status == 403;

		if (refused)
			failed(http, ERRCODE_DOCREP_UNAUTHORIZED,
				   "The token endpoint refuses the API key.", true);
		else
			failed_as(http, t, false);
		return;
	}
	if (docrep_cj_value(call->answer.data, call->answer.len, &answer) && answer.kind == CJ_OBJECT)
	{
		value = docrep_cj_get(&answer, "access_token");
		token = json_string(&value);
		value = docrep_cj_get(&answer, "expires_in");
		if (value.kind == CJ_NUMBER && (!docrep_cj_int64(&value, &seconds) || seconds < 1))
			seconds = 3600;
	}
	if (token == NULL || token[0] == '\0' || !is_printable(token))
	{
		failed(http, ERRCODE_DOCREP_UNAVAILABLE,
			   "The token endpoint's answer holds no token.", false);
		return;
	}
	if (auth->bearer != NULL)
		pfree(auth->bearer);
	auth->bearer = psprintf("Authorization: Bearer %s", token);
	obtained(auth, Max(seconds * 8 / 10, 1));
}

/* A call of ours is done. */
void
docrep_http_auth_answer(DocrepHttp *http, HttpTransfer *t)
{
	MemoryContext caller = MemoryContextSwitchTo(http->cxt);
	bool		token = t->purpose == HTTP_FOR_TOKEN;

	http->auth.call = NULL;
	if (token)
		token_answer(http, t);
	else
		session_answer(http, t);
	MemoryContextSwitchTo(caller);
	docrep_http_drop(t->call);
}

/* ---------- renewing ---------- */

/* Might this refusal be one of old credentials? */
bool
docrep_http_auth_renewable(const HttpTransfer *t, int status)
{
	const HttpAuth *auth = &t->http->auth;

	if (t->purpose != HTTP_FOR_CALLER || !t->own_server || t->call->stream)
		return false;
	if (auth->mode != HTTP_AUTH_SESSION && auth->mode != HTTP_AUTH_TOKEN)
		return false;
	/* a session that the server does not honour is followed by Basic */
	if (status == 401)
		return t->reauths == 0 ||
			(t->reauths == 1 && auth->mode == HTTP_AUTH_SESSION && !auth->proved);
	return t->reauths == 0 && auth->mode == HTTP_AUTH_SESSION &&
		TimestampDifferenceExceeds(auth->obtained, GetCurrentTimestamp(), YOUNG_SESSION);
}

/* Have a call repeated with new credentials. */
void
docrep_http_auth_renew(HttpTransfer *t)
{
	DocrepHttp *http = t->http;
	HttpAuth   *auth = &http->auth;

	t->reauths++;
	/* another call's refusal may have led to new ones already */
	if (auth->obtained <= t->launched)
	{
		if (t->reauths > 1)
		{
			auth->mode = HTTP_AUTH_BASIC;
			auth->renew_at = 0;
			auth->obtained = GetCurrentTimestamp();
		}
		else
			auth->ready = false;
	}
	docrep_http_requeue(t, 0, true);
}
