/*-------------------------------------------------------------------------
 *
 * http_error.c
 *		What has gone wrong with a call, as an error of ours.
 *
 * The other side's words are shown only after they were cleaned: made valid
 * text, cut, and withheld when they hold a credential or a URL.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/string.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "peer/couch_json.h"
#include "peer/http_internal.h"
#include "store/errcodes.h"

/* of a text of the other side's */
#define LONGEST_TEXT	300

#define PROXY_REFUSES	"The proxy refuses the user's name or the password that its URL has, or wants some."

/* ---------- others' words ---------- */

/* Does a text hold something that must not be shown? */
static bool
holds_secret(const DocrepHttp *http, const char *text)
{
	const DocrepHttpEndpoint *e = http->endpoint;

	if (strstr(text, "://") != NULL)
		return true;
	if (e->password != NULL && e->password[0] != '\0' && strstr(text, e->password) != NULL)
		return true;
	if (http->proxy_password != NULL && http->proxy_password[0] != '\0' &&
		strstr(text, http->proxy_password) != NULL)
		return true;
	if (e->iam_api_key != NULL && e->iam_api_key[0] != '\0' &&
		strstr(text, e->iam_api_key) != NULL)
		return true;
	for (int i = 0; i < e->nheaders; i++)
		if (strlen(e->headers[i].value) > 3 && strstr(text, e->headers[i].value) != NULL)
			return true;
	return false;
}

/* Text of the other side (UTF-8, or so it should be) that can be shown. */
static char *
clean(const DocrepHttp *http, const char *text, Size len)
{
	char	   *copy = palloc(len + 1);
	Size		n = 0;
	char	   *result;

	for (Size i = 0; i < len; i++)
		if ((unsigned char) text[i] >= ' ' && (unsigned char) text[i] != 0x7f)
			copy[n++] = text[i];
		else if (n > 0 && copy[n - 1] != ' ')
			copy[n++] = ' ';
	copy[n] = '\0';
	if (holds_secret(http, copy))
		return pstrdup("(The message is not shown, as it may contain credentials.)");
	if (!pg_verify_mbstr(PG_UTF8, copy, n, true) ||
		(GetDatabaseEncoding() != PG_UTF8 && !pg_is_ascii(copy)))
	{
		for (Size i = 0; i < n; i++)
			if (IS_HIGHBIT_SET(copy[i]))
				copy[i] = '?';
	}
	if (n <= LONGEST_TEXT)
		return copy;
	n = pg_encoding_mbcliplen(PG_UTF8, copy, n, LONGEST_TEXT);
	result = psprintf("%.*s...", (int) n, copy);
	pfree(copy);
	return result;
}

/* A member of a JSON object that is a string, cleaned; or NULL. */
static char *
member(const DocrepHttp *http, const CouchJson *object, const char *name)
{
	CouchJson	value = docrep_cj_get(object, name);
	char	   *text;
	size_t		n;
	bool		nul = false;
	bool		bad = false;

	if (value.kind != CJ_STRING)
		return NULL;
	text = palloc(value.len + 1);
	n = docrep_cj_decode(&value, text, &nul, &bad);
	return n > 0 ? clean(http, text, n) : NULL;
}

/* What an answer's body says about an error: CouchDB's error and reason; or NULL. */
static char *
reason(const HttpTransfer *t)
{
	const DocrepHttpCall *call = t->call;
	CouchJson	body;
	char	   *error;
	char	   *why;

	if (call->answer.len == 0)
		return NULL;
	if (!docrep_cj_value(call->answer.data, call->answer.len, &body) || body.kind != CJ_OBJECT)
		return call->type[0] ? psprintf("an answer of type \"%s\"",
										clean(t->http, call->type, strlen(call->type))) : NULL;
	error = member(t->http, &body, "error");
	why = member(t->http, &body, "reason");
	if (error != NULL && why != NULL)
		return psprintf("%s: %s", error, why);
	return error ? error : why;
}

/* ---------- statuses ---------- */

/* The SQLSTATE of a status that is no success. */
static int
status_code(int status)
{
	switch (status)
	{
		case 400:
			return ERRCODE_DOCREP_BAD_REQUEST;
		case 401:
		case 407:
			return ERRCODE_DOCREP_UNAUTHORIZED;
		case 403:
			return ERRCODE_DOCREP_FORBIDDEN;
		case 404:
			return ERRCODE_DOCREP_NOT_FOUND;
		case 409:
			return ERRCODE_DOCREP_CONFLICT;
		case 412:
			return ERRCODE_DOCREP_PRECONDITION_FAILED;
		case 413:
			return ERRCODE_DOCREP_TOO_LARGE;
		case 408:
		case 429:
			return ERRCODE_DOCREP_UNAVAILABLE;
		case 500:
			return ERRCODE_DOCREP_INTERNAL;
		default:
			return status > 500 ? ERRCODE_DOCREP_UNAVAILABLE : ERRCODE_DOCREP_INTERNAL;
	}
}

/* ---------- failures of transport ---------- */

/* What a proxy has answered when it was asked for a tunnel; 0: nothing. */
static long
tunnel_status(const HttpTransfer *t)
{
	long		status = 0;

	if (t->easy == NULL || t->http->proxy == NULL ||
		curl_easy_getinfo(t->easy, CURLINFO_HTTP_CONNECTCODE, &status) != CURLE_OK)
		return 0;
	return status;
}

bool
docrep_http_proxy_refuses(const HttpTransfer *t)
{
	if (t->result == CURLE_OK || t->easy == NULL)
		return false;
#if LIBCURL_VERSION_NUM >= 0x074900
	if (t->result == CURLE_PROXY)
	{
		long		why = CURLPX_OK;

		if (curl_easy_getinfo(t->easy, CURLINFO_PROXY_ERROR, &why) != CURLE_OK)
			return false;
		return why == CURLPX_USER_REJECTED || why == CURLPX_NO_AUTH;
	}
#endif
	return tunnel_status(t) == 407;
}

/* What a result of curl's means, in a sentence. */
static const char *
result_sentence(const HttpTransfer *t)
{
	if (t->timed_out)
		return "It did not answer in time.";
	if (t->headers_too_large)
		return "The headers of its answer are too large.";
	if (docrep_http_proxy_refuses(t))
		return PROXY_REFUSES;
	if (tunnel_status(t) >= 300)
		return "The proxy does not connect to the server.";
	switch (t->result)
	{
		case CURLE_COULDNT_RESOLVE_HOST:
			return "The host's name could not be resolved.";
		case CURLE_COULDNT_RESOLVE_PROXY:
			return "The proxy's name could not be resolved.";
		case CURLE_COULDNT_CONNECT:
			return "No connection could be made.";
		case CURLE_OPERATION_TIMEDOUT:
			return "No connection could be made in time.";
		case CURLE_PEER_FAILED_VERIFICATION:
			return "Its TLS certificate is not accepted.";
		case CURLE_SSL_CACERT_BADFILE:
			return "The file of CA certificates cannot be used.";
		case CURLE_SSL_CONNECT_ERROR:
		case CURLE_SSL_CIPHER:
		case CURLE_SSL_CERTPROBLEM:
		case CURLE_SSL_ISSUER_ERROR:
			return "TLS could not be agreed upon.";
		case CURLE_PARTIAL_FILE:
			return "The answer ends early.";
		case CURLE_GOT_NOTHING:
			return "The connection was closed without an answer.";
		case CURLE_BAD_CONTENT_ENCODING:
			return "The answer is not encoded as it says.";
		case CURLE_WEIRD_SERVER_REPLY:
		case CURLE_UNSUPPORTED_PROTOCOL:
			return "The answer is not HTTP.";
		case CURLE_SEND_ERROR:
		case CURLE_RECV_ERROR:
		case CURLE_SEND_FAIL_REWIND:
			return "The connection broke.";
		case CURLE_OUT_OF_MEMORY:
			return "There is not enough memory.";
#if LIBCURL_VERSION_NUM >= 0x074900
		case CURLE_PROXY:
			return "The proxy does not do it.";
#endif
		default:
			return "The connection failed.";
	}
}

void
docrep_http_describe(const HttpTransfer *t, int *code, char **problem)
{
	const DocrepHttpCall *call = t->call;
	const char *sentence;
	const char *detail;

	*code = ERRCODE_DOCREP_UNAVAILABLE;
	if (call->failed != 0)
	{
		*code = call->failed;
		*problem = pstrdup(call->problem);
		return;
	}
	if (call->done)
	{
		char	   *why = reason(t);

		*code = status_code(call->status);
		if (call->status == 407 && t->http != NULL && t->http->proxy != NULL)
		{
			*problem = pstrdup(PROXY_REFUSES);
			return;
		}
		*problem = psprintf("The server answered with status %d%s%s.", call->status,
							why ? ", " : "", why ? why : "");
		return;
	}
	if (t->refused)
	{
		*code = ERRCODE_DOCREP_FORBIDDEN;
		*problem = pstrdup("The host's address is not one that replications may connect to.");
		return;
	}
	if (t->no_fd)
	{
		*problem = pstrdup("There are too many open files on this server.");
		return;
	}
	if (docrep_http_proxy_refuses(t))
		*code = ERRCODE_DOCREP_UNAUTHORIZED;
	sentence = result_sentence(t);
	detail = t->error[0] != '\0' ? t->error : curl_easy_strerror(t->result);
	if (t->timed_out || t->headers_too_large)
		*problem = pstrdup(sentence);
	else
		*problem = psprintf("%s (%s)", sentence, clean(t->http, detail, strlen(detail)));
}

/* What may help, or NULL. */
static const char *
hint_for(const HttpTransfer *t, int code)
{
	const DocrepHttpCall *call = t->call;

	if (t->refused)
		return "See docrep.allowed_hosts and docrep.denied_hosts.";
	if (t->no_fd)
		return "Raise max_files_per_process or the system's limit.";
	if (call->failed != 0 && (t->result == CURLE_PEER_FAILED_VERIFICATION ||
							  t->result == CURLE_SSL_CACERT_BADFILE))
		return "Certificates of a CA of one's own are named by docrep.ssl_ca_file.";
	if (call->failed == 0 && call->status >= 300 && call->status < 400)
		return "Only reads are redirected. Use the URL that the server redirects to.";
	return NULL;
}

void
docrep_http_raise(DocrepHttpCall *call, const char *doing)
{
	HttpTransfer *t = call->transfer;
	int			code;
	char	   *problem;
	const char *hint;

	docrep_http_describe(t, &code, &problem);
	hint = hint_for(t, code);
	ereport(ERROR,
			(errcode(code),
			 errmsg("%s failed at %s", doing, t->http->endpoint->display),
			 errdetail_internal("%s", problem),
			 hint ? errhint("%s", hint) : 0));
	pg_unreachable();
}

/* ---------- percent-encoding ---------- */

/* Append with everything but unreserved characters escaped. */
static void
append_escaped(StringInfo buf, const char *text)
{
	for (; *text != '\0'; text++)
	{
		unsigned char c = (unsigned char) *text;

		if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
			c == '-' || c == '.' || c == '_' || c == '~')
			appendStringInfoChar(buf, c);
		else
			appendStringInfo(buf, "%%%02X", c);
	}
}

char *
docrep_http_escape(const char *text)
{
	StringInfoData buf;

	initStringInfo(&buf);
	append_escaped(&buf, text);
	return buf.data;
}

char *
docrep_http_doc_path(const char *id)
{
	StringInfoData buf;
	static const char *const kept[] = {"_design/", "_local/"};

	initStringInfo(&buf);
	for (size_t i = 0; i < lengthof(kept); i++)
	{
		if (strncmp(id, kept[i], strlen(kept[i])) != 0)
			continue;
		appendStringInfoString(&buf, kept[i]);
		id += strlen(kept[i]);
		break;
	}
	/* "." and ".." are not steps in a tree */
	if (strcmp(id, ".") == 0 || strcmp(id, "..") == 0)
		appendStringInfoString(&buf, id[1] ? "%2E%2E" : "%2E");
	else
		append_escaped(&buf, id);
	return buf.data;
}
