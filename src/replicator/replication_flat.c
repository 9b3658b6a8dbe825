/*-------------------------------------------------------------------------
 *
 * replication_flat.c
 *		Handing a parsed replication from the caller's session to a worker.
 *
 * What the parse resolved (names, identities, the id) travels with it: the
 * worker has another search_path.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "replicator/json_members.h"
#include "replicator/replication.h"
#include "utils/json.h"

/* An endpoint as a member of the flat form. */
void
docrep_flat_put_endpoint(StringInfo out, const char *name, const DocrepEndpoint *endpoint)
{
	if (endpoint == NULL)
		return;
	docrep_json_put_name(out, name);
	appendStringInfoChar(out, '{');
	docrep_json_put_text(out, "kind", endpoint->kind);
	docrep_json_put_text(out, "spec", endpoint->spec);
	docrep_json_put_text(out, "display", endpoint->display);
	docrep_json_put_text(out, "identity", endpoint->identity);
	appendStringInfoChar(out, '}');
}

/* The endpoint of that name, or NULL. */
DocrepEndpoint *
docrep_flat_get_endpoint(JsonbContainer *flat, const char *name)
{
	JsonbValue	value;
	DocrepEndpoint *endpoint;

	if (!docrep_json_member(flat, name, &value))
		return NULL;
	endpoint = palloc(sizeof(DocrepEndpoint));
	endpoint->kind = docrep_json_member_text(value.val.binary.data, "kind");
	endpoint->spec = docrep_json_member_text(value.val.binary.data, "spec");
	endpoint->display = docrep_json_member_text(value.val.binary.data, "display");
	endpoint->identity = docrep_json_member_text(value.val.binary.data, "identity");
	return endpoint;
}

/* Write texts as an array; NULL: not at all. */
static void
put_texts(StringInfo out, const char *name, char *const *texts, int n)
{
	if (texts == NULL)
		return;
	docrep_json_put_name(out, name);
	appendStringInfoChar(out, '[');
	for (int i = 0; i < n; i++)
	{
		if (i > 0)
			appendStringInfoChar(out, ',');
		escape_json(out, texts[i]);
	}
	appendStringInfoChar(out, ']');
}

/* Read them back, in the order in which they were written. */
static char **
get_texts(JsonbContainer *flat, const char *name, int *n)
{
	JsonbValue	value;
	JsonbContainer *array;
	char	  **texts;

	*n = 0;
	if (!docrep_json_member(flat, name, &value))
		return NULL;
	array = value.val.binary.data;
	*n = JsonContainerSize(array);
	texts = palloc(sizeof(char *) * Max(*n, 1));
	for (int i = 0; i < *n; i++)
		texts[i] = docrep_json_text(getIthJsonbValueFromContainer(array, i));
	return texts;
}

/* For whom it is, and what the scheduler wants to know. */
static void
put_owner(StringInfo out, const Replication *replication)
{
	docrep_json_put_int(out, "role", replication->role);
	docrep_json_put_text(out, "user_name", replication->user_name);
	put_texts(out, "user_roles", replication->user_roles, replication->nuser_roles);
	docrep_json_put_bool(out, "roles_given", replication->roles_given);
	docrep_json_put_bool(out, "user_is_admin", replication->user_is_admin);
	docrep_json_put_bool(out, "retry_cycles", replication->retry_cycles);
	docrep_json_put_bool(out, "disabled", replication->disabled);
	if (replication->held_since)
		docrep_json_put_text(out, "held_since", replication->held_since);
	docrep_json_put_text(out, "mentor", replication->mentor);
	docrep_json_put_int(out, "delay", replication->delay);
}

static void
get_owner(JsonbContainer *flat, Replication *replication)
{
	replication->role = (Oid) docrep_json_member_int(flat, "role", InvalidOid);
	replication->user_name = docrep_json_member_text(flat, "user_name");
	replication->user_roles = get_texts(flat, "user_roles", &replication->nuser_roles);
	replication->roles_given = docrep_json_member_bool(flat, "roles_given", false);
	replication->user_is_admin = docrep_json_member_bool(flat, "user_is_admin", false);
	replication->retry_cycles = docrep_json_member_bool(flat, "retry_cycles", false);
	replication->disabled = docrep_json_member_bool(flat, "disabled", false);
	replication->held_since = docrep_json_member_text(flat, "held_since");
	replication->mentor = docrep_json_member_text(flat, "mentor");
	replication->delay = docrep_json_member_int(flat, "delay", 0);
}

char *
docrep_replication_serialize(const Replication *replication)
{
	const DocrepPeerOptions *options = &replication->peer_options;
	StringInfoData out;

	initStringInfo(&out);
	appendStringInfoChar(&out, '{');
	docrep_flat_put_endpoint(&out, "source", replication->source);
	docrep_flat_put_endpoint(&out, "target", replication->target);
	docrep_json_put_bool(&out, "create_target", replication->create_target);
	docrep_json_put_bool(&out, "continuous", replication->continuous);
	docrep_json_put_bool(&out, "cancel", replication->cancel);
	docrep_json_put_bool(&out, "winning_revs_only", replication->winning_revs_only);
	docrep_json_put_bool(&out, "use_checkpoints", replication->use_checkpoints);
	docrep_json_put_int(&out, "checkpoint_interval", replication->checkpoint_interval);
	docrep_json_put_text(&out, "since_seq", replication->since_seq);
	put_texts(&out, "doc_ids", replication->doc_ids, replication->ndoc_ids);
	if (!docrep_filter_is_empty(&replication->filter))
		docrep_json_put_text(&out, "filter", docrep_filter_spec_to_text(&replication->filter));
	docrep_json_put_text(&out, "filter_identity", replication->filter_identity);
	put_owner(&out, replication);
	docrep_json_put_int(&out, "worker_batch_size", replication->worker_batch_size);
	docrep_json_put_int(&out, "connection_timeout", options->connection_timeout);
	docrep_json_put_int(&out, "request_timeout", options->request_timeout);
	docrep_json_put_int(&out, "http_connections", options->http_connections);
	docrep_json_put_int(&out, "retries_per_request", options->retries_per_request);
	docrep_json_put_bool(&out, "use_bulk_get", options->use_bulk_get);
	docrep_json_put_text(&out, "create_params", options->create_params);
	docrep_json_put_int(&out, "worker_processes", options->worker_processes);
	docrep_json_put_text(&out, "socket_options", options->socket_options);
	docrep_json_put_int(&out, "given", options->given);
	docrep_json_put_text(&out, "source_proxy", replication->source_proxy);
	docrep_json_put_text(&out, "target_proxy", replication->target_proxy);
	docrep_json_put_text(&out, "task", replication->task);
	docrep_json_put_text(&out, "cancel_id", replication->cancel_id);
	docrep_json_put_text(&out, "node_uuid", replication->node_uuid);
	docrep_json_put_text(&out, "id", replication->id);
	docrep_json_put_text(&out, "full_id", replication->full_id);
	docrep_json_put_name(&out, "document");
	(void) JsonbToCString(&out, &replication->document->root, VARSIZE(replication->document));
	appendStringInfoChar(&out, '}');
	return out.data;
}

Replication *
docrep_replication_deserialize(const char *text)
{
	JsonbContainer *flat = &docrep_json_parse(text)->root;
	Replication *replication = palloc0(sizeof(Replication));
	DocrepPeerOptions *options = &replication->peer_options;
	JsonbValue	value;
	char	   *filter = docrep_json_member_text(flat, "filter");

	replication->source = docrep_flat_get_endpoint(flat, "source");
	replication->target = docrep_flat_get_endpoint(flat, "target");
	replication->create_target = docrep_json_member_bool(flat, "create_target", false);
	replication->continuous = docrep_json_member_bool(flat, "continuous", false);
	replication->cancel = docrep_json_member_bool(flat, "cancel", false);
	replication->winning_revs_only = docrep_json_member_bool(flat, "winning_revs_only", false);
	replication->use_checkpoints = docrep_json_member_bool(flat, "use_checkpoints", true);
	replication->checkpoint_interval = docrep_json_member_int(flat, "checkpoint_interval", 0);
	replication->since_seq = docrep_json_member_text(flat, "since_seq");
	replication->doc_ids = get_texts(flat, "doc_ids", &replication->ndoc_ids);
	if (filter)
		replication->filter = *docrep_filter_spec_from_text(filter);
	replication->filter_identity = docrep_json_member_text(flat, "filter_identity");
	get_owner(flat, replication);
	replication->worker_batch_size = docrep_json_member_int(flat, "worker_batch_size", 0);
	options->connection_timeout = docrep_json_member_int(flat, "connection_timeout", 0);
	options->request_timeout = docrep_json_member_int(flat, "request_timeout", 0);
	options->http_connections = docrep_json_member_int(flat, "http_connections", 0);
	options->retries_per_request = docrep_json_member_int(flat, "retries_per_request", 0);
	options->worker_batch_size = replication->worker_batch_size;
	options->use_bulk_get = docrep_json_member_bool(flat, "use_bulk_get", true);
	options->create_params = docrep_json_member_text(flat, "create_params");
	options->worker_processes = docrep_json_member_int(flat, "worker_processes", 0);
	options->socket_options = docrep_json_member_text(flat, "socket_options");
	options->given = docrep_json_member_int(flat, "given", 0);
	replication->source_proxy = docrep_json_member_text(flat, "source_proxy");
	replication->target_proxy = docrep_json_member_text(flat, "target_proxy");
	replication->task = docrep_json_member_text(flat, "task");
	replication->cancel_id = docrep_json_member_text(flat, "cancel_id");
	replication->node_uuid = docrep_json_member_text(flat, "node_uuid");
	replication->id = docrep_json_member_text(flat, "id");
	replication->full_id = docrep_json_member_text(flat, "full_id");
	if (docrep_json_member(flat, "document", &value))
		replication->document = JsonbValueToJsonb(&value);
	return replication;
}
