/*-------------------------------------------------------------------------
 *
 * http_endpoint.c
 *		CouchDB endpoints: a URL, or CouchDB's object form.
 *
 * Nothing of what is read is repeated in a message, and the statement that
 * holds it is kept out of the log: any part of it may be a secret.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <arpa/inet.h>

#include "common/base64.h"
#include "common/jsonapi.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "peer/http_endpoint.h"
#include "peer/http_url.h"
#include "store/errcodes.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"

/* Headers that the client sets itself, or that would break its framing. */
static const char *const our_headers[] = {
	"Accept", "Accept-Encoding", "Connection", "Content-Encoding", "Content-Length",
	"Content-Type", "Expect", "Host", "If-Match", "If-None-Match", "Keep-Alive",
	"Proxy-Authorization", "Proxy-Connection", "Range", "TE", "Trailer",
	"Transfer-Encoding", "Upgrade"
};

/* Headers whose values change without the endpoint being another one. */
static const char *const secret_headers[] = {
	"Authorization", "Cookie", "X-Auth-CouchDB-Token"
};

void
docrep_http_malformed(const char *what)
{
	ereport(ERROR,
			(errcode(ERRCODE_DOCREP_BAD_REQUEST),
			 errmsg("malformed endpoint: %s", what),
			 errhidestmt(true), errhidecontext(true)));
	pg_unreachable();
}

/* Is a name in a list, in whatever case? */
static bool
is_listed(const char *name, const char *const *list, int n)
{
	for (int i = 0; i < n; i++)
		if (pg_strcasecmp(name, list[i]) == 0)
			return true;
	return false;
}

/* ---------- the object form ---------- */

/* Read JSON text; DR400, and not a word of it, if it is none. */
static Jsonb *
parse_json(const char *text)
{
#if PG_VERSION_NUM >= 170000
	JsonLexContext lexer;
	JsonLexContext *lex = makeJsonLexContextCstringLen(&lexer, text, strlen(text),
													   GetDatabaseEncoding(), false);
#else
	JsonLexContext *lex = makeJsonLexContextCstringLen(pstrdup(text), strlen(text),
													   GetDatabaseEncoding(), false);
#endif

	if (pg_parse_json(lex, &nullSemAction) != JSON_SUCCESS)
		docrep_http_malformed("the object is not valid JSON");
	/* the one thing that jsonb would complain about, and show */
	if (strstr(text, "\\u0000") != NULL)
		docrep_http_malformed("the object contains \\u0000");
	return DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(text)));
}

/* Check that an object has no members but those named, of the type given. */
static void
check_members(JsonbContainer *object, const char *const *names, const int *types, int n)
{
	JsonbIterator *it = JsonbIteratorInit(object);
	JsonbValue	key;
	JsonbValue	value;

	(void) JsonbIteratorNext(&it, &key, true);
	while (JsonbIteratorNext(&it, &key, true) == WJB_KEY)
	{
		int			i;

		(void) JsonbIteratorNext(&it, &value, true);
		for (i = 0; i < n; i++)
			if (key.val.string.len == strlen(names[i]) &&
				memcmp(key.val.string.val, names[i], key.val.string.len) == 0)
				break;
		if (i == n)
			docrep_http_malformed("the object has a member that is not known");
		if (value.type != types[i] ||
			(value.type == jbvBinary && !JsonContainerIsObject(value.val.binary.data)))
			docrep_http_malformed("a member of the object has the wrong type");
	}
}

/* A member that is an object, or NULL. */
static JsonbContainer *
object_member(JsonbContainer *object, const char *name)
{
	JsonbValue	value;

	if (getKeyJsonValueFromContainer(object, name, strlen(name), &value) == NULL)
		return NULL;
	return value.val.binary.data;
}

/* A string in UTF-8. */
static char *
utf8_string(const JsonbValue *value)
{
	char	   *text = pnstrdup(value->val.string.val, value->val.string.len);

	return pg_server_to_any(text, strlen(text), PG_UTF8);
}

/* A member that is a string, or NULL. */
static char *
string_member(JsonbContainer *object, const char *name)
{
	JsonbValue	value;

	if (getKeyJsonValueFromContainer(object, name, strlen(name), &value) == NULL)
		return NULL;
	return utf8_string(&value);
}

/* Check a header's name and value. */
static void
check_header(const DocrepHttpHeader *h)
{
	static const char *const token_marks = "!#$%&'*+-.^_`|~";

	if (h->name[0] == '\0')
		docrep_http_malformed("a header has no name");
	for (const char *p = h->name; *p != '\0'; p++)
		if (!(*p >= '0' && *p <= '9') && !(*p >= 'a' && *p <= 'z') &&
			!(*p >= 'A' && *p <= 'Z') && strchr(token_marks, *p) == NULL)
			docrep_http_malformed("a header's name is not valid");
	for (const char *p = h->value; *p != '\0'; p++)
		if (((unsigned char) *p < ' ' && *p != '\t') || *p == 0x7f)
			docrep_http_malformed("a header's value contains a control character");
	for (size_t i = 0; i < lengthof(our_headers); i++)
		if (pg_strcasecmp(h->name, our_headers[i]) == 0)
			docrep_http_malformed(psprintf("the header \"%s\" cannot be set", our_headers[i]));
}

/* Order of headers: by name, since objects have none. */
static int
compare_headers(const void *a, const void *b)
{
	return pg_strcasecmp(((const DocrepHttpHeader *) a)->name,
						 ((const DocrepHttpHeader *) b)->name);
}

/* Read "headers". */
static void
read_headers(DocrepHttpEndpoint *e, JsonbContainer *object)
{
	JsonbIterator *it = JsonbIteratorInit(object);
	JsonbValue	key;
	JsonbValue	value;

	e->headers = palloc(sizeof(DocrepHttpHeader) * Max(JsonContainerSize(object), 1));
	(void) JsonbIteratorNext(&it, &key, true);
	while (JsonbIteratorNext(&it, &key, true) == WJB_KEY)
	{
		DocrepHttpHeader *h = &e->headers[e->nheaders++];

		(void) JsonbIteratorNext(&it, &value, true);
		if (value.type != jbvString)
			docrep_http_malformed("a header's value is no string");
		h->name = utf8_string(&key);
		h->value = utf8_string(&value);
		check_header(h);
	}
	qsort(e->headers, e->nheaders, sizeof(DocrepHttpHeader), compare_headers);
	for (int i = 1; i < e->nheaders; i++)
		if (pg_strcasecmp(e->headers[i - 1].name, e->headers[i].name) == 0)
			docrep_http_malformed("a header is given twice");
}

/* Read "auth": one of its two kinds, whose credentials count before the URL's. */
static void
read_auth(DocrepHttpEndpoint *e, JsonbContainer *auth)
{
	static const char *const kinds[] = {"basic", "iam"};
	static const int kind_types[] = {jbvBinary, jbvBinary};
	static const char *const basic_names[] = {"username", "password"};
	static const char *const iam_names[] = {"api_key", "url"};
	static const int string_types[] = {jbvString, jbvString};
	JsonbContainer *basic;
	JsonbContainer *iam;

	check_members(auth, kinds, kind_types, 2);
	basic = object_member(auth, "basic");
	iam = object_member(auth, "iam");
	if (basic != NULL && iam != NULL)
		docrep_http_malformed("\"auth\" has more than one kind of credentials");
	if (basic != NULL)
	{
		check_members(basic, basic_names, string_types, 2);
		e->user = string_member(basic, "username");
		e->password = string_member(basic, "password");
		if (e->user == NULL || e->password == NULL)
			docrep_http_malformed("\"auth.basic\" needs \"username\" and \"password\"");
		docrep_http_check_credentials(e->user, e->password);
	}
	if (iam != NULL)
	{
		check_members(iam, iam_names, string_types, 2);
		e->user = e->password = NULL;
		e->iam_api_key = string_member(iam, "api_key");
		e->iam_url = string_member(iam, "url");
		if (e->iam_api_key == NULL || e->iam_api_key[0] == '\0')
			docrep_http_malformed("\"auth.iam\" needs \"api_key\"");
		if (e->iam_url != NULL)
			docrep_http_check_token_url(e->iam_url);
	}
}

/* CouchDB's object form. */
static void
parse_object(DocrepHttpEndpoint *e, const char *text)
{
	static const char *const top[] = {"url", "headers", "auth"};
	static const int top_types[] = {jbvString, jbvBinary, jbvBinary};
	Jsonb	   *json = parse_json(text);
	JsonbContainer *part;
	char	   *url;

	if (!JB_ROOT_IS_OBJECT(json))
		docrep_http_malformed("it is no object");
	check_members(&json->root, top, top_types, 3);
	url = string_member(&json->root, "url");
	if (url == NULL)
		docrep_http_malformed("the object has no member \"url\"");
	if (!docrep_http_is_url(url))
		docrep_http_malformed("the object form is for URLs that begin with http:// or https://");
	docrep_http_url_parse(e, url);
	if ((part = object_member(&json->root, "headers")) != NULL)
		read_headers(e, part);
	if ((part = object_member(&json->root, "auth")) != NULL)
		read_auth(e, part);
}

/* ---------- what several members say together ---------- */

/* Take a header out of the list. */
static void
remove_header(DocrepHttpEndpoint *e, int i)
{
	memmove(&e->headers[i], &e->headers[i + 1], sizeof(DocrepHttpHeader) * (e->nheaders - i - 1));
	e->nheaders--;
}

/* User and password of a header "Basic ...", if it is one. */
static void
read_basic_header(DocrepHttpEndpoint *e, const char *value)
{
	char	   *decoded;
	char	   *colon;
	int			size;
	int			n;

	if (pg_strncasecmp(value, "Basic ", 6) != 0)
		return;
	value += 6 + strspn(value + 6, " ");
	size = pg_b64_dec_len(strlen(value)) + 1;
	decoded = palloc(size);
#if PG_VERSION_NUM >= 180000
	n = pg_b64_decode(value, strlen(value), (uint8 *) decoded, size);
#else
	n = pg_b64_decode(value, strlen(value), decoded, size);
#endif
	if (n < 0 || memchr(decoded, '\0', n) != NULL)
		docrep_http_malformed("the header \"Authorization\" is not valid");
	decoded[n] = '\0';
	colon = strchr(decoded, ':');
	if (colon == NULL)
		docrep_http_malformed("the header \"Authorization\" is not valid");
	*colon = '\0';
	e->user = decoded;
	e->password = colon + 1;
	docrep_http_check_credentials(e->user, e->password);
}

/*
 * One way of authorization remains: a header counts only if nothing else is
 * said, and one of user and password is as if they were in the URL.
 */
static void
choose_authorization(DocrepHttpEndpoint *e)
{
	for (int i = 0; i < e->nheaders; i++)
	{
		if (pg_strcasecmp(e->headers[i].name, "Authorization") != 0)
			continue;
		if (e->user == NULL && e->iam_api_key == NULL)
			read_basic_header(e, e->headers[i].value);
		if (e->user != NULL || e->iam_api_key != NULL)
			remove_header(e, i);
		return;
	}
}

/*
 * What tells this endpoint from others, for the replication id: scheme and secrets
 * have no part in it.  Values of headers are digested, as any of them may be a secret.
 */
static char *
make_identity(const DocrepHttpEndpoint *e)
{
	StringInfoData buf;

	initStringInfo(&buf);
	appendStringInfoString(&buf, "couchdb:");
	if (e->user != NULL)
		appendStringInfo(&buf, "%s@", docrep_http_encode(e->user));
	appendStringInfo(&buf, strchr(e->host, ':') ? "[%s]" : "%s", e->host);
	if (e->port != docrep_http_default_port(e->scheme))
		appendStringInfo(&buf, ":%d", e->port);
	appendStringInfoString(&buf, e->path);
	for (int i = 0; i < e->nheaders; i++)
	{
		const DocrepHttpHeader *h = &e->headers[i];

		if (is_listed(h->name, secret_headers, lengthof(secret_headers)))
			continue;
		appendStringInfoString(&buf, " ");
		for (const char *p = h->name; *p != '\0'; p++)
			appendStringInfoChar(&buf, pg_ascii_tolower((unsigned char) *p));
		appendStringInfo(&buf, "=%s", docrep_http_digest(h->value));
	}
	return buf.data;
}

DocrepHttpEndpoint *
docrep_http_endpoint_parse(const char *text)
{
	DocrepHttpEndpoint *e = palloc0(sizeof(DocrepHttpEndpoint));

	text += strspn(text, " \t\r\n");
	if (*text == '{')
		parse_object(e, text);
	else
		docrep_http_url_parse(e, pg_server_to_any(text, strlen(text), PG_UTF8));
	choose_authorization(e);
	e->identity = make_identity(e);
	e->display = psprintf("%s%s/", e->server, e->path);
	return e;
}
