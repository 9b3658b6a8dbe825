/*-------------------------------------------------------------------------
 *
 * task_secrets_url.c
 *		Credentials in the text of URLs: taken out, and put back in.
 *
 * Such a text may be malformed, and is shown or kept all the same, so it is cut
 * and not parsed where that will do.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "peer/http_url.h"
#include "peer/postgres_url.h"
#include "scheduler/task_secrets.h"
#include "store/jsonb_raw.h"

/* Connection parameters of libpq that are secrets. */
static const char *const secret_parameters[] = {
	"password", "sslpassword", "oauth_client_secret", "scram_client_key", "scram_server_key"
};

bool
docrep_task_url_is_postgres(const char *text)
{
	return pg_strncasecmp(text, "postgresql://", 13) == 0 ||
		pg_strncasecmp(text, "postgres://", 11) == 0;
}

/* Where a parameter's name, which may be percent-encoded, is one of the secret ones. */
static bool
is_secret_parameter(const char *text, int len)
{
	char	   *name = palloc(len + 1);
	int			n = 0;

	for (int i = 0; i < len; i++)
	{
		unsigned int c;

		if (text[i] == '%' && i + 2 < len + 1 && sscanf(text + i + 1, "%2x", &c) == 1)
		{
			name[n++] = (char) c;
			i += 2;
		}
		else
			name[n++] = text[i];
	}
	name[n] = '\0';
	for (size_t i = 0; i < lengthof(secret_parameters); i++)
		if (pg_strcasecmp(name, secret_parameters[i]) == 0)
			return true;
	return false;
}

/* Append the parameters of a Postgres URL that are no secrets; text begins after "?". */
static void
append_parameters(StringInfo out, const char *text, const char *end)
{
	char		before = '?';

	while (text < end)
	{
		const char *next = memchr(text, '&', end - text);
		const char *equals;

		if (next == NULL)
			next = end;
		equals = memchr(text, '=', next - text);
		if (!is_secret_parameter(text, (equals ? equals : next) - text))
		{
			appendStringInfoChar(out, before);
			appendBinaryStringInfo(out, text, next - text);
			before = '&';
		}
		text = next + 1;
	}
}

/* A Postgres URL without passwords; the user, who is part of its identity, stays. */
static char *
strip_postgres_url(const char *url)
{
	const char *authority = strstr(url, "://") + 3;
	const char *end = strrchr(authority, '#');
	const char *at;
	const char *query;
	StringInfoData out;

	if (end == NULL)
		end = url + strlen(url);

	/* as libpq finds them: the first "@" that no "/" comes before */
	at = authority + strcspn(authority, "@/");
	if (*at != '@' || at > end)
		at = NULL;
	initStringInfo(&out);
	appendBinaryStringInfo(&out, url, authority - url);
	if (at)
	{
		const char *colon = memchr(authority, ':', at - authority);

		appendBinaryStringInfo(&out, authority, (colon ? colon : at) - authority);
		authority = at;
	}
	query = memchr(authority, '?', end - authority);
	appendBinaryStringInfo(&out, authority, (query ? query : end) - authority);
	if (query)
		append_parameters(&out, query + 1, end);
	appendStringInfoString(&out, end);
	return out.data;
}

char *
docrep_task_strip_url(const char *url)
{
	const char *authority = strstr(url, "://");
	const char *end;
	const char *host = NULL;

	if (authority == NULL)
		return pstrdup(url);
	if (docrep_task_url_is_postgres(url))
		return strip_postgres_url(url);
	authority += 3;
	end = authority + strcspn(authority, "/?#");
	for (const char *p = authority; p < end; p++)
		if (*p == '@')
			host = p + 1;
	if (host == NULL)
		return pstrdup(url);
	return psprintf("%.*s%s", (int) (authority - url), url, host);
}

/* Append a connection parameter to a Postgres URL, before "#table". */
static char *
add_parameter(const char *url, const char *name, const char *value)
{
	const char *hash = strrchr(url, '#');
	bool		first = memchr(url, '?', hash - url) == NULL;

	return psprintf("%.*s%c%s=%s%s", (int) (hash - url), url, first ? '?' : '&', name,
					docrep_http_encode(value), hash);
}

char *
docrep_task_url_fill(const char *given, const char *kept)
{
	DocrepPgUrl *place;
	DocrepPgUrl *with;
	char	   *result = pstrdup(given);

	if (!docrep_task_url_is_postgres(given) || !docrep_task_url_is_postgres(kept))
		return NULL;
	place = docrep_pgurl_parse(given);
	with = docrep_pgurl_parse(kept);
	if (strcmp(place->identity, with->identity) != 0)
		return NULL;

	/* the same name may be at another address: a password goes where it went before */
	for (int i = 0; i < with->n; i++)
	{
		const char *there = docrep_pgurl_get(place, with->keywords[i]);

		if (strcmp(with->keywords[i], "hostaddr") == 0 &&
			(there == NULL || strcmp(there, with->values[i]) != 0))
			return NULL;
	}
	if (docrep_pgurl_get(place, "hostaddr") && !docrep_pgurl_get(with, "hostaddr"))
		return NULL;
	for (size_t i = 0; i < lengthof(secret_parameters); i++)
	{
		const char *value = docrep_pgurl_get(with, secret_parameters[i]);

		if (value)
			result = add_parameter(result, secret_parameters[i], value);
	}
	return result;
}

bool
docrep_task_url_has_secret(const char *text)
{
	DocrepPgUrl *url = docrep_pgurl_parse(text);
	bool		found = false;

	for (size_t i = 0; i < lengthof(secret_parameters); i++)
		found |= docrep_pgurl_get(url, secret_parameters[i]) != NULL;
	return found;
}
