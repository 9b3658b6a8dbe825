/*-------------------------------------------------------------------------
 *
 * wait_place.c
 *		The flat form of a place where changes of a remote source can be waited
 *		for: JSON text in UTF-8, which is read in a process without a database.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "peer/couch_json.h"
#include "peer/peers.h"
#include "peer/remote_watch_internal.h"
#include "store/json_text.h"
#include "utils/builtins.h"
#include "utils/json.h"
#include "utils/uuid.h"

void
docrep_wait_place_fill(DocrepWaitPlace *place, const DocrepPeer *peer, const char *spec,
					   const char *since, bool restricted)
{
	memset(place, 0, sizeof(*place));
	place->endpoint = palloc0(sizeof(DocrepEndpoint));
	place->endpoint->kind = pstrdup(peer->ops->kind);
	place->endpoint->spec = pstrdup(spec);
	place->endpoint->display = pstrdup(peer->display);
	place->endpoint->identity = pstrdup(peer->identity);
	place->options = peer->options;
	place->since = pstrdup(since);
	place->restricted = restricted;
}

/* ---------- writing ---------- */

/* A text as UTF-8.  Most are ASCII, for which no conversion has to be looked up. */
static const char *
to_utf8(const char *text)
{
	for (const char *p = text; *p != '\0'; p++)
		if (IS_HIGHBIT_SET(*p))
			return pg_server_to_any(text, strlen(text), PG_UTF8);
	return text;
}

/* A text, unless it is NULL. */
static void
put_text(StringInfo out, const char *name, const char *value)
{
	if (value == NULL)
		return;
	docrep_json_put_name(out, name);
	escape_json(out, to_utf8(value));
}

/* All of a peer's options, so that equal ones have equal texts. */
static void
put_options(StringInfo out, const DocrepPeerOptions *options)
{
	docrep_json_put_int(out, "connection_timeout", options->connection_timeout);
	docrep_json_put_int(out, "request_timeout", options->request_timeout);
	docrep_json_put_int(out, "http_connections", options->http_connections);
	docrep_json_put_int(out, "retries_per_request", options->retries_per_request);
	docrep_json_put_int(out, "worker_batch_size", options->worker_batch_size);
	docrep_json_put_bool(out, "use_bulk_get", options->use_bulk_get);
	put_text(out, "proxy", options->proxy);
	put_text(out, "create_params", options->create_params);
	put_text(out, "socket_options", options->socket_options);
	put_text(out, "ssl_ca_file", options->ssl_ca_file);
	put_text(out, "ssl_cert_file", options->ssl_cert_file);
	put_text(out, "ssl_key_file", options->ssl_key_file);
	put_text(out, "ssl_verify", options->ssl_verify);
}

char *
docrep_peer_options_text(const DocrepPeerOptions *options)
{
	StringInfoData out;

	initStringInfo(&out);
	put_options(&out, options);
	return out.data;
}

char *
docrep_wait_place_serialize(const DocrepWaitPlace *place)
{
	StringInfoData out;

	Assert(!place->local);
	initStringInfo(&out);
	appendStringInfoChar(&out, '{');
	put_text(&out, "kind", place->endpoint->kind);
	put_text(&out, "spec", place->endpoint->spec);
	put_text(&out, "display", place->endpoint->display);
	put_text(&out, "identity", place->endpoint->identity);
	put_text(&out, "since", place->since);
	put_text(&out, "table", DatumGetCString(DirectFunctionCall1(uuid_out,
																UUIDPGetDatum(&place->table))));
	docrep_json_put_bool(&out, "restricted", place->restricted);
	docrep_json_put_name(&out, "options");
	appendStringInfoChar(&out, '{');
	put_options(&out, &place->options);
	appendStringInfoString(&out, "}}");
	return out.data;
}

/* ---------- reading ---------- */

/* A member that is a string, allocated; NULL: there is none. */
static char *
text_member(const CouchJson *object, const char *name)
{
	CouchJson	value = docrep_cj_get(object, name);
	bool		nul = false;
	bool		broken = false;
	char	   *text;

	if (value.kind != CJ_STRING)
		return NULL;
	text = palloc(value.len + 1);
	text[docrep_cj_decode(&value, text, &nul, &broken)] = '\0';
	return text;
}

static int
int_member(const CouchJson *object, const char *name)
{
	CouchJson	value = docrep_cj_get(object, name);
	int64		number = 0;

	if (value.kind == CJ_NUMBER)
		(void) docrep_cj_int64(&value, &number);
	return (int) number;
}

static bool
bool_member(const CouchJson *object, const char *name)
{
	return docrep_cj_get(object, name).kind == CJ_TRUE;
}

static void
read_options(const CouchJson *object, DocrepPeerOptions *options)
{
	options->connection_timeout = int_member(object, "connection_timeout");
	options->request_timeout = int_member(object, "request_timeout");
	options->http_connections = int_member(object, "http_connections");
	options->retries_per_request = int_member(object, "retries_per_request");
	options->worker_batch_size = int_member(object, "worker_batch_size");
	options->use_bulk_get = bool_member(object, "use_bulk_get");
	options->proxy = text_member(object, "proxy");
	options->create_params = text_member(object, "create_params");
	options->socket_options = text_member(object, "socket_options");
	options->ssl_ca_file = text_member(object, "ssl_ca_file");
	options->ssl_cert_file = text_member(object, "ssl_cert_file");
	options->ssl_key_file = text_member(object, "ssl_key_file");
	options->ssl_verify = text_member(object, "ssl_verify");
}

DocrepWaitPlace *
docrep_wait_place_deserialize(const char *text)
{
	DocrepWaitPlace *place = palloc0(sizeof(DocrepWaitPlace));
	CouchJson	object;
	CouchJson	options;
	char	   *uuid;

	if (!docrep_cj_value(text, strlen(text), &object) || object.kind != CJ_OBJECT)
		elog(ERROR, "the place of a parked replication is malformed");
	place->endpoint = palloc0(sizeof(DocrepEndpoint));
	place->endpoint->kind = text_member(&object, "kind");
	place->endpoint->spec = text_member(&object, "spec");
	place->endpoint->display = text_member(&object, "display");
	place->endpoint->identity = text_member(&object, "identity");
	place->since = text_member(&object, "since");
	uuid = text_member(&object, "table");
	options = docrep_cj_get(&object, "options");
	if (place->endpoint->kind == NULL || place->endpoint->spec == NULL ||
		place->endpoint->display == NULL || place->since == NULL || uuid == NULL ||
		options.kind != CJ_OBJECT)
		elog(ERROR, "the place of a parked replication is incomplete");
	place->table = *DatumGetUUIDP(DirectFunctionCall1(uuid_in, CStringGetDatum(uuid)));
	place->restricted = bool_member(&object, "restricted");
	read_options(&options, &place->options);
	return place;
}
