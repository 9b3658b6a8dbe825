/*-------------------------------------------------------------------------
 *
 * replication_document.c
 *		Reading and checking a replication document: what its fields
 *		(replication_fields.c) mean together.
 *
 * A field that the kind of an endpoint cannot honour is refused unless it asks
 * for nothing.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <limits.h>

#include "miscadmin.h"
#include "peer/server.h"
#include "replicator/json_members.h"
#include "replicator/replication_fields.h"
#include "replicator/replication_filter.h"
#include "replicator/user_ctx.h"
#include "store/errcodes.h"
#include "store/node.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/uuid.h"

/* Is the field there, and not null? */
static bool
has_field(JsonbContainer *root, const char *name)
{
	JsonbValue	value;

	return docrep_json_member(root, name, &value) && value.type != jbvNull;
}

/* Raise DR400 if both fields are given. */
static void
check_exclusive(JsonbContainer *root, const char *a, const char *b)
{
	if (has_field(root, a) && has_field(root, b))
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_BAD_REQUEST),
				 errmsg("replication fields \"%s\" and \"%s\" exclude each other", a, b)));
}

/* How failures are paced, and what follows from it. */
static void
read_retry(Replication *replication, JsonbContainer *root)
{
	char	   *retry = docrep_json_member_text(root, "retry");
	DocrepPeerOptions *options = &replication->peer_options;

	if (retry == NULL || strcmp(retry, "exponential") == 0)
		return;
	if (strcmp(retry, "cycles") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_BAD_REQUEST),
				 errmsg("replication field \"retry\" must be \"exponential\" or \"cycles\"")));
	replication->retry_cycles = true;
	if (!(options->given & DOCREP_GIVEN_REQUEST_TIMEOUT))
	{
		options->request_timeout = CYCLES_REQUEST_TIMEOUT;
		options->given |= DOCREP_GIVEN_REQUEST_TIMEOUT;
	}
}

/* Refuse a field that endpoints in other Postgres servers cannot honour. */
static void
refuse_for_postgres(JsonbContainer *root, const char *name, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("replication field \"%s\" is not supported for postgresql:// endpoints",
					has_field(root, name) ? name : "proxy"),
			 hint ? errhint("%s", hint) : 0));
}

/*
 * libpq knows no proxies.  Where neither side is reached by HTTP a request is not
 * repeated, and there are up to two connections: that cannot be changed.
 */
static void
check_for_postgres(const Replication *replication, JsonbContainer *root)
{
	const DocrepPeerOptions *options = &replication->peer_options;
	bool		source = docrep_endpoint_is_postgres(replication->source);
	bool		target = docrep_endpoint_is_postgres(replication->target);
	bool		http = docrep_endpoint_is_http(replication->source) ||
		docrep_endpoint_is_http(replication->target);

	if (source && replication->source_proxy)
		refuse_for_postgres(root, "source_proxy", "Give \"target_proxy\" if the proxy is for the target.");
	if (target && replication->target_proxy)
		refuse_for_postgres(root, "target_proxy", "Give \"source_proxy\" if the proxy is for the source.");
	if (http || !(source || target))
		return;
	if ((options->given & DOCREP_GIVEN_RETRIES_PER_REQUEST) && options->retries_per_request != 0 &&
		options->retries_per_request != DEFAULT_RETRIES_PER_REQUEST)
		refuse_for_postgres(root, "retries_per_request", "Requests are not repeated there; the job is.");
	if (options->http_connections == 1)
		refuse_for_postgres(root, "http_connections",
							"There are one connection for documents and one for large attachments.");
}

/* One endpoint; DR400 if the document names none. */
static DocrepEndpoint *
read_endpoint(JsonbContainer *root, const char *name, DocrepMissing missing)
{
	char	   *text = docrep_json_member_text(root, name);

	if (text == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_BAD_REQUEST),
				 errmsg("a replication needs a \"%s\"", name)));
	return docrep_endpoint_parse(text, missing);
}

/*
 * A cancel request may name a running replication by its id.  Sets cancel_id;
 * DR400 if an id is given without "cancel" or next to endpoints.
 */
static void
read_cancel_id(Replication *replication, JsonbContainer *root)
{
	static const char *const names[] = {"replication_id", "id", "_local_id"};

	for (size_t i = 0; i < lengthof(names); i++)
	{
		if (!has_field(root, names[i]))
			continue;
		if (!replication->cancel)
		{
			/* "_local_id" is what a continuous replicate() returned: harmless */
			if (names[i][0] == '_')
				continue;
			ereport(ERROR,
					(errcode(ERRCODE_DOCREP_BAD_REQUEST),
					 errmsg("replication field \"%s\" is for requests with \"cancel\" only",
							names[i])));
		}
		check_exclusive(root, names[i], "source");
		check_exclusive(root, names[i], "target");
		replication->cancel_id = docrep_json_member_text(root, names[i]);
		return;
	}
}

/* Set defaults, check every field and take those that stand for themselves. */
static void
read_document(Replication *replication, JsonbContainer *root)
{
	DocrepPeerOptions *options = &replication->peer_options;

	replication->use_checkpoints = true;
	replication->checkpoint_interval = DEFAULT_CHECKPOINT_INTERVAL;
	replication->worker_batch_size = DEFAULT_WORKER_BATCH_SIZE;
	options->connection_timeout = DEFAULT_CONNECTION_TIMEOUT;
	options->http_connections = DEFAULT_HTTP_CONNECTIONS;
	options->retries_per_request = DEFAULT_RETRIES_PER_REQUEST;
	options->worker_processes = DEFAULT_WORKER_PROCESSES;
	options->use_bulk_get = true;

	docrep_replication_read_fields(replication, root);
	check_exclusive(root, "doc_ids", "filter");
	check_exclusive(root, "doc_ids", "selector");
	check_exclusive(root, "filter", "selector");
	check_exclusive(root, "proxy", "source_proxy");
	check_exclusive(root, "proxy", "target_proxy");
	if (has_field(root, "proxy"))
		replication->target_proxy = replication->source_proxy;
	options->worker_batch_size = replication->worker_batch_size;
	read_retry(replication, root);
	docrep_replication_read_filter(replication, root);
}

/*
 * Read both endpoints, as the role that the replication will run as: what that one
 * may not use must not be found out by naming it in user_ctx.  An error gives the
 * user back with its (sub)transaction.
 */
static void
read_endpoints(Replication *replication, JsonbContainer *root)
{
	Oid			caller;
	int			context;

	GetUserIdAndSecContext(&caller, &context);
	if (replication->role != caller)
		SetUserIdAndSecContext(replication->role, context | SECURITY_LOCAL_USERID_CHANGE);

	/* what is to be cancelled may have lost its tables */
	replication->source = read_endpoint(root, "source",
										replication->cancel ? DOCREP_MISSING_NAME :
										DOCREP_MISSING_ERROR);
	replication->target = read_endpoint(root, "target",
										replication->cancel ? DOCREP_MISSING_NAME :
										replication->create_target ? DOCREP_MISSING_CREATE :
										DOCREP_MISSING_ERROR);
	check_for_postgres(replication, root);
	if (!replication->cancel)
		docrep_replication_check_filter(replication);
	SetUserIdAndSecContext(caller, context);
	if (strcmp(replication->source->identity, replication->target->identity) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_BAD_REQUEST),
				 errmsg("source and target are the same: %s", replication->source->display)));
}

/* Read a document of docrep.replicator ("task") or of replicate(). */
static Replication *
parse(Jsonb *document, bool task)
{
	Replication *replication = palloc0(sizeof(Replication));
	JsonbContainer *root = &document->root;
	pg_uuid_t	node;

	if (!JB_ROOT_IS_OBJECT(document))
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_BAD_REQUEST),
				 errmsg("a replication document must be an object")));
	replication->document = document;
	read_document(replication, root);
	if ((replication->disabled || replication->held_since) && !task && !replication->cancel)
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_BAD_REQUEST),
				 errmsg("replication field \"%s\" is for documents of docrep.replicator",
						replication->disabled ? "disabled" : "held_since"),
				 errdetail("replicate() is called to run a replication now.")));
	docrep_user_ctx_read(replication, root, task);
	read_cancel_id(replication, root);
	if (replication->cancel_id)
		return replication;

	read_endpoints(replication, root);
	node = docrep_node_uuid_get();
	replication->node_uuid = DatumGetCString(DirectFunctionCall1(uuid_out,
																 UUIDPGetDatum(&node)));
	docrep_replication_identify(replication);
	return replication;
}

Replication *
docrep_replication_parse(Jsonb *document)
{
	return parse(document, false);
}

Replication *
docrep_replication_parse_task(Jsonb *document)
{
	return parse(document, true);
}
