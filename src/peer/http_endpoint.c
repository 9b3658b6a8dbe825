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

#include "common/base64.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "peer/couch_json.h"
#include "peer/http_endpoint.h"
#include "peer/http_url.h"
#include "store/errcodes.h"

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

/* A member that an object may have, and its kind. */
typedef struct Member
{
	const char *name;
	CouchJsonKind kind;
} Member;

/* Check that an object has no members but those listed, of their kinds. */
static void
check_members(const CouchJson *object, const Member *members, int n)
{
	CouchJsonWalk walk;

	docrep_cj_walk(&walk, object);
	while (docrep_cj_next(&walk))
	{
		int			i;

		for (i = 0; i < n; i++)
			if (docrep_cj_equals(&walk.key, members[i].name))
				break;
		if (i == n)
			docrep_http_malformed("the object has a member that is not known");
		if (walk.value.kind != members[i].kind)
			docrep_http_malformed("a member of the object has the wrong type");
	}
}

/* The text of a JSON string, in UTF-8. */
static char *
string_text(const CouchJson *string)
{
	char	   *text = palloc(string->len + 1);
	bool		nul = false;
	bool		broken = false;

	text[docrep_cj_decode(string, text, &nul, &broken)] = '\0';
	if (nul || broken)
		docrep_http_malformed("the object contains text that is not valid");
	return text;
}

/* A member that is a string, or NULL. */
static char *
string_member(const CouchJson *object, const char *name)
{
	CouchJson	value = docrep_cj_get(object, name);

	return value.kind == CJ_STRING ? string_text(&value) : NULL;
}

void
docrep_http_check_header(const char *name, const char *value)
{
	static const char *const token_marks = "!#$%&'*+-.^_`|~";

	if (name[0] == '\0')
		docrep_http_malformed("a header has no name");
	for (const char *p = name; *p != '\0'; p++)
		if (!(*p >= '0' && *p <= '9') && !(*p >= 'a' && *p <= 'z') &&
			!(*p >= 'A' && *p <= 'Z') && strchr(token_marks, *p) == NULL)
			docrep_http_malformed("a header's name is not valid");
	for (const char *p = value; *p != '\0'; p++)
		if (((unsigned char) *p < ' ' && *p != '\t') || *p == 0x7f)
			docrep_http_malformed("a header's value contains a control character");
	for (size_t i = 0; i < lengthof(our_headers); i++)
		if (pg_strcasecmp(name, our_headers[i]) == 0)
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
read_headers(DocrepHttpEndpoint *e, const CouchJson *object)
{
	CouchJsonWalk walk;
	int			n = 0;

	docrep_cj_walk(&walk, object);
	while (docrep_cj_next(&walk))
		n++;
	e->headers = palloc(sizeof(DocrepHttpHeader) * Max(n, 1));
	docrep_cj_walk(&walk, object);
	while (docrep_cj_next(&walk))
	{
		DocrepHttpHeader *h = &e->headers[e->nheaders++];

		if (walk.value.kind != CJ_STRING)
			docrep_http_malformed("a header's value is no string");
		h->name = string_text(&walk.key);
		h->value = string_text(&walk.value);
		docrep_http_check_header(h->name, h->value);
	}
	qsort(e->headers, e->nheaders, sizeof(DocrepHttpHeader), compare_headers);
	for (int i = 1; i < e->nheaders; i++)
		if (pg_strcasecmp(e->headers[i - 1].name, e->headers[i].name) == 0)
			docrep_http_malformed("a header is given twice");
}

/* Read "auth": one of its two kinds, whose credentials count before the URL's. */
static void
read_auth(DocrepHttpEndpoint *e, const CouchJson *auth)
{
	static const Member kinds[] = {{"basic", CJ_OBJECT}, {"iam", CJ_OBJECT}};
	static const Member basic_members[] = {{"username", CJ_STRING}, {"password", CJ_STRING}};
	static const Member iam_members[] = {{"api_key", CJ_STRING}, {"url", CJ_STRING}};
	CouchJson	basic = docrep_cj_get(auth, "basic");
	CouchJson	iam = docrep_cj_get(auth, "iam");

	check_members(auth, kinds, lengthof(kinds));
	if (basic.kind != CJ_NONE && iam.kind != CJ_NONE)
		docrep_http_malformed("\"auth\" has more than one kind of credentials");
	if (basic.kind != CJ_NONE)
	{
		check_members(&basic, basic_members, lengthof(basic_members));
		e->user = string_member(&basic, "username");
		e->password = string_member(&basic, "password");
		if (e->user == NULL || e->password == NULL)
			docrep_http_malformed("\"auth.basic\" needs \"username\" and \"password\"");
		docrep_http_check_credentials(e->user, e->password);
	}
	if (iam.kind != CJ_NONE)
	{
		check_members(&iam, iam_members, lengthof(iam_members));
		e->user = e->password = NULL;
		e->iam_api_key = string_member(&iam, "api_key");
		e->iam_url = string_member(&iam, "url");
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
	static const Member members[] = {
		{"url", CJ_STRING}, {"headers", CJ_OBJECT}, {"auth", CJ_OBJECT}
	};
	CouchJson	object;
	CouchJson	part;
	char	   *url;

	if (!docrep_cj_value(text, strlen(text), &object))
		docrep_http_malformed("the object is not valid JSON");
	check_members(&object, members, lengthof(members));
	url = string_member(&object, "url");
	if (url == NULL)
		docrep_http_malformed("the object has no member \"url\"");
	if (!docrep_http_is_url(url))
		docrep_http_malformed("the object form is for URLs that begin with http:// or https://");
	docrep_http_url_parse(e, url);
	part = docrep_cj_get(&object, "headers");
	if (part.kind != CJ_NONE)
		read_headers(e, &part);
	part = docrep_cj_get(&object, "auth");
	if (part.kind != CJ_NONE)
		read_auth(e, &part);
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
	n = docrep_b64_decode(value, strlen(value), decoded, size);
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
	text = pg_server_to_any(text, strlen(text), PG_UTF8);
	if (*text == '{')
		parse_object(e, text);
	else
		docrep_http_url_parse(e, text);
	choose_authorization(e);
	e->identity = make_identity(e);
	e->display = psprintf("%s%s/", e->server, e->path);
	return e;
}
