/*-------------------------------------------------------------------------
 *
 * task_secrets.c
 *		Credentials in replication documents: taken out, and put back in.
 *
 * A document of docrep.replicator is shown to whoever may read the table, goes
 * out with its changes feed and into dumps.  So what may be a secret in it is
 * kept elsewhere (docrep.task_state), and found again when the document is
 * written back without it: an endpoint is the same place if the URL without
 * user information, or what a Postgres endpoint connects to, is the same.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "peer/http_url.h"
#include "peer/postgres_url.h"
#include "replicator/json_members.h"
#include "scheduler/task_secrets.h"
#include "store/errcodes.h"
#include "store/json_text.h"
#include "store/jsonb_raw.h"
#include "utils/fmgrprotos.h"

static const char *const endpoint_members[] = {"source", "target"};
static const char *const proxy_members[] = {"proxy", "source_proxy", "target_proxy"};

/* A header whose name contains one of these may be a secret. */
static const char *const secret_words[] = {
	"auth", "cookie", "token", "key", "secret", "password", "session", "credential", "signature"
};

/* ---------- the object form ---------- */

/* May the header of that name hold a secret? */
static bool
is_secret_header(const char *name, int len)
{
	char	   *lower = pnstrdup(name, len);

	for (char *p = lower; *p != '\0'; p++)
		*p = pg_ascii_tolower((unsigned char) *p);
	for (size_t i = 0; i < lengthof(secret_words); i++)
		if (strstr(lower, secret_words[i]) != NULL)
			return true;
	return false;
}

/* Those headers of an object that are secrets, or those that are none. */
static void
add_headers(RawBuilder *out, const JsonbContainer *headers, bool secret)
{
	RawCursor	cursor;
	RawMember	header;

	docrep_raw_begin(&cursor, headers);
	while (docrep_raw_next(&cursor, &header))
		if (is_secret_header(header.key, header.keylen) == secret)
			docrep_raw_add_member(out, &header);
}

/* Is a member of that name? */
static bool
is_named(const RawMember *member, const char *name)
{
	return member->keylen == strlen(name) && memcmp(member->key, name, member->keylen) == 0;
}

/* An endpoint in the object form without credentials. */
static Jsonb *
strip_object(const JsonbContainer *object)
{
	RawCursor	cursor;
	RawMember	member;
	RawBuilder	out;

	docrep_raw_begin(&cursor, object);
	docrep_raw_init(&out, true, cursor.n);
	while (docrep_raw_next(&cursor, &member))
	{
		if (is_named(&member, "auth"))
			continue;
		if (is_named(&member, "url") && member.value.type == JENTRY_ISSTRING)
			docrep_raw_add_text(&out, "url",
								docrep_task_strip_url(docrep_raw_to_cstring(&member.value)));
		else if (is_named(&member, "headers") && docrep_raw_is_object(&member.value))
		{
			RawBuilder	headers;

			docrep_raw_init(&headers, true, 4);
			add_headers(&headers, (const JsonbContainer *) member.value.data, false);
			if (headers.n > 0)
				docrep_raw_add_built(&out, "headers", &headers);
		}
		else
			docrep_raw_add_member(&out, &member);
	}
	return docrep_raw_finish(&out);
}

/* ---------- documents ---------- */

/* Is it a member that may hold credentials? */
static bool
may_hold_secrets(const RawMember *member, bool *endpoint)
{
	*endpoint = true;
	for (size_t i = 0; i < lengthof(endpoint_members); i++)
		if (is_named(member, endpoint_members[i]))
			return true;
	*endpoint = false;
	for (size_t i = 0; i < lengthof(proxy_members); i++)
		if (is_named(member, proxy_members[i]))
			return true;
	return false;
}

/* Add an endpoint or proxy without its credentials; true: it had some. */
static bool
add_stripped(RawBuilder *out, const char *key, const RawValue *value)
{
	if (value->type == JENTRY_ISSTRING)
	{
		char	   *text = docrep_raw_to_cstring(value);
		char	   *stripped;

		/* the object form may come as text, too */
		if (text[strspn(text, " \t\r\n")] == '{')
		{
			Jsonb	   *object = docrep_json_parse(text);
			Jsonb	   *public;

			if (!JB_ROOT_IS_OBJECT(object))
				return false;
			public = strip_object(&object->root);
			stripped = docrep_json_print(public);
			if (strcmp(stripped, docrep_json_print(object)) == 0)
				return false;
		}
		else
		{
			stripped = docrep_task_strip_url(text);
			if (strcmp(stripped, text) == 0)
				return false;
		}
		docrep_raw_add_text(out, key, stripped);
		return true;
	}
	if (docrep_raw_is_object(value))
	{
		Jsonb	   *given = docrep_raw_to_jsonb(value);
		Jsonb	   *stripped = strip_object(&given->root);

		if (compareJsonbContainers(&given->root, &stripped->root) == 0)
			return false;
		docrep_raw_add_jsonb(out, key, stripped);
		return true;
	}
	return false;
}

Jsonb *
docrep_task_strip(Jsonb *document, Jsonb **secrets)
{
	RawCursor	cursor;
	RawMember	member;
	RawBuilder	public;
	RawBuilder	taken;
	bool		endpoint;

	*secrets = NULL;
	if (!JB_ROOT_IS_OBJECT(document))
		return document;
	docrep_raw_begin(&cursor, &document->root);
	docrep_raw_init(&public, true, cursor.n);
	docrep_raw_init(&taken, true, 2);
	while (docrep_raw_next(&cursor, &member))
	{
		char	   *key = pnstrdup(member.key, member.keylen);

		if (may_hold_secrets(&member, &endpoint) && add_stripped(&public, key, &member.value))
			docrep_raw_add_member(&taken, &member);
		else
			docrep_raw_add_member(&public, &member);
	}
	if (taken.n == 0)
		return document;
	*secrets = docrep_raw_finish(&taken);
	return docrep_raw_finish(&public);
}

/* An endpoint's member as the text that the peers read; NULL: it is none. */
static char *
endpoint_text(Jsonb *object, const char *name)
{
	JsonbValue	value;

	if (!docrep_json_member(&object->root, name, &value) ||
		(value.type != jbvString && value.type != jbvBinary))
		return NULL;
	return docrep_json_text(&value);
}

/* Is it CouchDB's: a URL, or the object form? */
static bool
is_couchdb(const char *text)
{
	return docrep_http_is_url(text) || text[strspn(text, " \t\r\n")] == '{';
}

/* Add the headers of a CouchDB endpoint in the object form, those that are secrets or the others. */
static void
add_headers_of(RawBuilder *out, const char *text, bool secret)
{
	Jsonb	   *object;
	JsonbValue	headers;

	if (text[strspn(text, " \t\r\n")] != '{')
		return;
	object = docrep_json_parse(text);
	if (docrep_json_member(&object->root, "headers", &headers) && headers.type == jbvBinary)
		add_headers(out, headers.val.binary.data, secret);
}

/* Add "auth" to an object form, from what an endpoint says in whatever way. */
static void
add_auth(RawBuilder *out, const DocrepHttpEndpoint *e)
{
	RawBuilder	auth;
	RawBuilder	kind;

	if (e->user == NULL && e->iam_api_key == NULL)
		return;
	docrep_raw_init(&auth, true, 1);
	docrep_raw_init(&kind, true, 2);
	if (e->iam_api_key)
	{
		docrep_raw_add_text(&kind, "api_key", e->iam_api_key);
		if (e->iam_url)
			docrep_raw_add_text(&kind, "url", e->iam_url);
		docrep_raw_add_built(&auth, "iam", &kind);
	}
	else
	{
		docrep_raw_add_text(&kind, "username", e->user);
		docrep_raw_add_text(&kind, "password", e->password ? e->password : "");
		docrep_raw_add_built(&auth, "basic", &kind);
	}
	docrep_raw_add_built(out, "auth", &auth);
}

/* A CouchDB endpoint with the credentials of another one; NULL: that is another place. */
static Jsonb *
fill_couchdb(const char *given, const char *kept)
{
	DocrepHttpEndpoint *place;
	DocrepHttpEndpoint *with;
	RawBuilder	out;
	RawBuilder	headers;

	if (!is_couchdb(given) || !is_couchdb(kept))
		return NULL;
	place = docrep_http_endpoint_parse(given);
	with = docrep_http_endpoint_parse(kept);
	if (strcmp(place->display, with->display) != 0)
		return NULL;
	docrep_raw_init(&out, true, 3);
	docrep_raw_add_text(&out, "url", psprintf("%s%s", place->server, place->path));
	docrep_raw_init(&headers, true, 4);
	add_headers_of(&headers, given, false);
	add_headers_of(&headers, kept, true);
	if (headers.n > 0)
		docrep_raw_add_built(&out, "headers", &headers);
	add_auth(&out, with);
	return docrep_raw_finish(&out);
}

/* Add a member with kept credentials; false: it is another place, or has its own. */
static bool
add_filled(RawBuilder *out, const char *key, const RawMember *member, Jsonb *kept, bool endpoint)
{
	Jsonb	   *before;
	Jsonb	   *public;
	RawValue	value;
	RawBuilder	own;
	char	   *given;
	char	   *secret = endpoint_text(kept, key);
	RawBuilder	alone;
	Jsonb	   *built;

	if (secret == NULL)
		return false;
	docrep_raw_init(&own, true, 1);
	if (add_stripped(&own, key, &member->value))
		return false;

	/* as it was shown: as it was given */
	public = docrep_task_strip(kept, &before);
	docrep_raw_init(&alone, true, 1);
	docrep_raw_add(&alone, key, &member->value);
	built = docrep_raw_finish(&alone);
	given = endpoint_text(built, key);
	if (given == NULL)
		return false;
	if (strcmp(given, endpoint_text(public, key)) == 0)
	{
		(void) docrep_raw_find(&kept->root, key, &value);
		docrep_raw_add(out, key, &value);
		return true;
	}
	if (!endpoint)
		return false;
	if (docrep_task_url_is_postgres(given))
	{
		char	   *filled = docrep_task_url_fill(given, secret);

		if (filled)
			docrep_raw_add_text(out, key, filled);
		return filled != NULL;
	}
	built = fill_couchdb(given, secret);
	if (built)
		docrep_raw_add_jsonb(out, key, built);
	return built != NULL;
}

Jsonb *
docrep_task_fill(Jsonb *document, Jsonb *kept)
{
	RawCursor	cursor;
	RawMember	member;
	RawBuilder	out;
	bool		any = false;
	bool		endpoint;

	if (kept == NULL || !JB_ROOT_IS_OBJECT(document))
		return document;
	docrep_raw_begin(&cursor, &document->root);
	docrep_raw_init(&out, true, cursor.n);
	while (docrep_raw_next(&cursor, &member))
	{
		char	   *key = pnstrdup(member.key, member.keylen);

		if (may_hold_secrets(&member, &endpoint) &&
			add_filled(&out, key, &member, kept, endpoint))
			any = true;
		else
			docrep_raw_add_member(&out, &member);
	}
	return any ? docrep_raw_finish(&out) : document;
}

void
docrep_task_check_stripped(Jsonb *document)
{
	for (size_t i = 0; i < lengthof(endpoint_members); i++)
	{
		char	   *text = endpoint_text(document, endpoint_members[i]);
		bool		found = false;

		if (text == NULL)
			continue;
		if (docrep_task_url_is_postgres(text))
			found = docrep_task_url_has_secret(text);
		else if (is_couchdb(text))
		{
			DocrepHttpEndpoint *e = docrep_http_endpoint_parse(text);

			found = e->user != NULL || e->iam_api_key != NULL;
		}
		if (found)
			ereport(ERROR,
					(errcode(ERRCODE_DOCREP_BAD_REQUEST),
					 errmsg("replication field \"%s\" holds credentials in a form that cannot be kept apart",
							endpoint_members[i]),
					 errhint("Use the object form, with \"auth\"."),
					 errhidestmt(true), errhidecontext(true)));
	}
}
