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

/* Write doc_ids as an array, if there are any. */
static void
put_doc_ids(StringInfo out, const Replication *replication)
{
	if (replication->doc_ids == NULL)
		return;
	docrep_json_put_name(out, "doc_ids");
	appendStringInfoChar(out, '[');
	for (int i = 0; i < replication->ndoc_ids; i++)
	{
		if (i > 0)
			appendStringInfoChar(out, ',');
		escape_json(out, replication->doc_ids[i]);
	}
	appendStringInfoChar(out, ']');
}

/* Read them back, in the order in which they were written (sorted). */
static void
get_doc_ids(JsonbContainer *flat, Replication *replication)
{
	JsonbValue	value;
	JsonbContainer *array;

	if (!docrep_json_member(flat, "doc_ids", &value))
		return;
	array = value.val.binary.data;
	replication->ndoc_ids = JsonContainerSize(array);
	replication->doc_ids = palloc(sizeof(char *) * Max(replication->ndoc_ids, 1));
	for (int i = 0; i < replication->ndoc_ids; i++)
		replication->doc_ids[i] = docrep_json_text(getIthJsonbValueFromContainer(array, i));
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
	put_doc_ids(&out, replication);
	docrep_json_put_int(&out, "worker_batch_size", replication->worker_batch_size);
	docrep_json_put_int(&out, "connection_timeout", options->connection_timeout);
	docrep_json_put_int(&out, "request_timeout", options->request_timeout);
	docrep_json_put_int(&out, "http_connections", options->http_connections);
	docrep_json_put_int(&out, "retries_per_request", options->retries_per_request);
	docrep_json_put_bool(&out, "use_bulk_get", options->use_bulk_get);
	docrep_json_put_text(&out, "create_params", options->create_params);
	docrep_json_put_text(&out, "source_proxy", replication->source_proxy);
	docrep_json_put_text(&out, "target_proxy", replication->target_proxy);
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

	replication->source = docrep_flat_get_endpoint(flat, "source");
	replication->target = docrep_flat_get_endpoint(flat, "target");
	replication->create_target = docrep_json_member_bool(flat, "create_target", false);
	replication->continuous = docrep_json_member_bool(flat, "continuous", false);
	replication->cancel = docrep_json_member_bool(flat, "cancel", false);
	replication->winning_revs_only = docrep_json_member_bool(flat, "winning_revs_only", false);
	replication->use_checkpoints = docrep_json_member_bool(flat, "use_checkpoints", true);
	replication->checkpoint_interval = docrep_json_member_int(flat, "checkpoint_interval", 0);
	replication->since_seq = docrep_json_member_text(flat, "since_seq");
	get_doc_ids(flat, replication);
	replication->worker_batch_size = docrep_json_member_int(flat, "worker_batch_size", 0);
	options->connection_timeout = docrep_json_member_int(flat, "connection_timeout", 0);
	options->request_timeout = docrep_json_member_int(flat, "request_timeout", 0);
	options->http_connections = docrep_json_member_int(flat, "http_connections", 0);
	options->retries_per_request = docrep_json_member_int(flat, "retries_per_request", 0);
	options->worker_batch_size = replication->worker_batch_size;
	options->use_bulk_get = docrep_json_member_bool(flat, "use_bulk_get", true);
	options->create_params = docrep_json_member_text(flat, "create_params");
	replication->source_proxy = docrep_json_member_text(flat, "source_proxy");
	replication->target_proxy = docrep_json_member_text(flat, "target_proxy");
	replication->cancel_id = docrep_json_member_text(flat, "cancel_id");
	replication->node_uuid = docrep_json_member_text(flat, "node_uuid");
	replication->id = docrep_json_member_text(flat, "id");
	replication->full_id = docrep_json_member_text(flat, "full_id");
	if (docrep_json_member(flat, "document", &value))
		replication->document = JsonbValueToJsonb(&value);
	return replication;
}
