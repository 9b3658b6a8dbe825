/*-------------------------------------------------------------------------
 *
 * replication_document.c
 *		Reading and checking a replication document.
 *
 * One table says of every field what type it has and what is done with it.
 * Nothing is silently ignored: a field that this version, or the kind of an
 * endpoint, cannot honour is refused unless it asks for nothing.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <limits.h>

#include "miscadmin.h"
#include "replicator/json_members.h"
#include "peer/server.h"
#include "peer/socket_options.h"
#include "replicator/replication.h"
#include "replicator/replication_filter.h"
#include "replicator/user_ctx.h"
#include "store/errcodes.h"
#include "store/node.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/uuid.h"

#define DEFAULT_CHECKPOINT_INTERVAL	30000
#define DEFAULT_WORKER_BATCH_SIZE	500
#define DEFAULT_CONNECTION_TIMEOUT	30000
#define DEFAULT_HTTP_CONNECTIONS	20
#define DEFAULT_RETRIES_PER_REQUEST	10
#define DEFAULT_WORKER_PROCESSES	4
#define CYCLES_REQUEST_TIMEOUT		500 /* with retry: "cycles" */
#define MAX_WORKER_BATCH_SIZE		100000

typedef enum FieldType
{
	FIELD_BOOL,
	FIELD_INT,
	FIELD_TEXT,
	FIELD_OBJECT,
	FIELD_ENDPOINT,
	FIELD_PROXY,
	FIELD_SOCKET_OPTIONS,
	FIELD_DELAY,
	FIELD_DOC_IDS,
	FIELD_ARRAY,
	FIELD_ANY
} FieldType;

typedef struct FieldRule
{
	const char *name;
	FieldType	type;
	int			min;			/* of FIELD_INT */
	int			max;
	int			offset;			/* in Replication, or NOWHERE */
} FieldRule;

#define NOWHERE		(-1)
#define INTO(member) offsetof(Replication, member)
#define PLAIN(name, type, offset) {name, type, 0, 0, offset}

static const FieldRule rules[] = {
	PLAIN("source", FIELD_ENDPOINT, NOWHERE),
	PLAIN("target", FIELD_ENDPOINT, NOWHERE),
	PLAIN("create_target", FIELD_BOOL, INTO(create_target)),
	PLAIN("continuous", FIELD_BOOL, INTO(continuous)),
	PLAIN("cancel", FIELD_BOOL, INTO(cancel)),
	PLAIN("winning_revs_only", FIELD_BOOL, INTO(winning_revs_only)),
	PLAIN("use_checkpoints", FIELD_BOOL, INTO(use_checkpoints)),
	{"checkpoint_interval", FIELD_INT, 1, INT_MAX, INTO(checkpoint_interval)},
	PLAIN("since_seq", FIELD_ANY, INTO(since_seq)),
	PLAIN("doc_ids", FIELD_DOC_IDS, NOWHERE),
	{"worker_batch_size", FIELD_INT, 1, MAX_WORKER_BATCH_SIZE, INTO(worker_batch_size)},
	PLAIN("replication_id", FIELD_TEXT, NOWHERE),
	PLAIN("id", FIELD_TEXT, NOWHERE),
	PLAIN("_local_id", FIELD_TEXT, NOWHERE),
	PLAIN("owner", FIELD_ANY, NOWHERE), /* CouchDB's note of the writer; ours is a column */

	/* how HTTP is spoken, and how work is divided among CouchDB's processes */
	{"connection_timeout", FIELD_INT, 1, INT_MAX, INTO(peer_options.connection_timeout)},
	{"request_timeout", FIELD_INT, 0, INT_MAX, INTO(peer_options.request_timeout)},
	{"http_connections", FIELD_INT, 1, INT_MAX, INTO(peer_options.http_connections)},
	{"retries_per_request", FIELD_INT, 0, INT_MAX, INTO(peer_options.retries_per_request)},
	{"worker_processes", FIELD_INT, 1, INT_MAX, INTO(peer_options.worker_processes)},
	PLAIN("use_bulk_get", FIELD_BOOL, INTO(peer_options.use_bulk_get)),
	PLAIN("socket_options", FIELD_SOCKET_OPTIONS, INTO(peer_options.socket_options)),
	PLAIN("create_target_params", FIELD_OBJECT, INTO(peer_options.create_params)),
	PLAIN("proxy", FIELD_PROXY, INTO(source_proxy)),
	PLAIN("source_proxy", FIELD_PROXY, INTO(source_proxy)),
	PLAIN("target_proxy", FIELD_PROXY, INTO(target_proxy)),

	/* for the scheduler, and for whom it is */
	PLAIN("user_ctx", FIELD_OBJECT, NOWHERE),
	PLAIN("retry", FIELD_TEXT, NOWHERE),
	PLAIN("mentor", FIELD_TEXT, INTO(mentor)),
	PLAIN("disabled", FIELD_BOOL, INTO(disabled)),
	PLAIN("delay", FIELD_DELAY, INTO(delay)),
	PLAIN("held_since", FIELD_TEXT, INTO(held_since)),

	/* which documents: replication_filter.c */
	PLAIN("filter", FIELD_TEXT, NOWHERE),
	PLAIN("selector", FIELD_OBJECT, NOWHERE),
	PLAIN("query_params", FIELD_OBJECT, NOWHERE),
	PLAIN("paths", FIELD_ARRAY, NOWHERE),
	PLAIN("prevent_deletions", FIELD_BOOL, NOWHERE),
};

/* Raise DR400 about a field's type or value. */
static void
bad_field(const char *name, const char *wanted, const JsonbValue *value)
{
	ereport(ERROR,
			(errcode(ERRCODE_DOCREP_BAD_REQUEST),
			 errmsg("replication field \"%s\" must be %s", name, wanted),
			 errdetail("It is %s.", docrep_json_type_name(value))));
}

/* The rule of a field, or NULL. */
static const FieldRule *
find_rule(const char *name, int len)
{
	for (size_t i = 0; i < lengthof(rules); i++)
	{
		if (strlen(rules[i].name) == (size_t) len && memcmp(rules[i].name, name, len) == 0)
			return &rules[i];
	}
	return NULL;
}

/*
 * The integer that value stands for: a number without fraction, or a string
 * of digits.  Raises DR400 on anything else and outside of the rule's range.
 */
static int
read_int(const FieldRule *rule, JsonbValue *value)
{
	char	   *text = NULL;
	char	   *end = NULL;
	long long	result = 0;

	if (value->type == jbvNumeric || value->type == jbvString)
		text = docrep_json_text(value);
	if (text == NULL || strspn(text, "-0123456789.") != strlen(text) || *text == '\0')
		bad_field(rule->name, "an integer", value);
	errno = 0;
	result = strtoll(text, &end, 10);
	if (*end == '.' && value->type == jbvNumeric)
		end += 1 + strspn(end + 1, "0");
	if (errno != 0 || end == text || *end != '\0')
		bad_field(rule->name, "an integer", value);
	if (result < rule->min || result > rule->max)
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_BAD_REQUEST),
				 errmsg("replication field \"%s\" must be between %d and %d",
						rule->name, rule->min, rule->max)));
	return (int) result;
}

static int
compare_ids(const void *a, const void *b)
{
	return strcmp(*(char *const *) a, *(char *const *) b);
}

/* Read doc_ids, sorted and without duplicates; null is as if it were not there. */
static void
read_doc_ids(Replication *replication, JsonbValue *value)
{
	JsonbContainer *array;
	int			n = 0;

	if (value->type == jbvNull)
		return;
	if (value->type != jbvBinary || !JsonContainerIsArray(value->val.binary.data))
		bad_field("doc_ids", "an array of strings", value);
	array = value->val.binary.data;
	replication->ndoc_ids = JsonContainerSize(array);
	replication->doc_ids = palloc(sizeof(char *) * Max(replication->ndoc_ids, 1));
	for (int i = 0; i < replication->ndoc_ids; i++)
	{
		JsonbValue *id = getIthJsonbValueFromContainer(array, i);

		if (id->type != jbvString)
			ereport(ERROR,
					(errcode(ERRCODE_DOCREP_BAD_REQUEST),
					 errmsg("replication field \"doc_ids\" must be an array of strings"),
					 errdetail("Element %d is %s.", i, docrep_json_type_name(id))));
		replication->doc_ids[i] = docrep_json_text(id);
	}
	qsort(replication->doc_ids, replication->ndoc_ids, sizeof(char *), compare_ids);
	for (int i = 0; i < replication->ndoc_ids; i++)
	{
		if (n == 0 || strcmp(replication->doc_ids[n - 1], replication->doc_ids[i]) != 0)
			replication->doc_ids[n++] = replication->doc_ids[i];
	}
	replication->ndoc_ids = n;
}

/*
 * A proxy's URL, which may hold a password: the message repeats nothing of it.
 * null is as if it were not there.
 */
static char *
read_proxy(const FieldRule *rule, JsonbValue *value)
{
	static const char *const schemes[] = {"http://", "https://", "socks5://", "socks5h://"};
	char	   *url;

	if (value->type == jbvNull)
		return NULL;
	if (value->type != jbvString)
		bad_field(rule->name, "a string", value);
	url = docrep_json_text(value);
	for (size_t i = 0; i < lengthof(schemes); i++)
	{
		size_t		n = strlen(schemes[i]);

		if (pg_strncasecmp(url, schemes[i], n) == 0 && url[n] != '\0' &&
			strpbrk(url, " \t\r\n") == NULL && docrep_proxy_is_url(url))
			return url;
	}
	ereport(ERROR,
			(errcode(ERRCODE_DOCREP_BAD_REQUEST),
			 errmsg("replication field \"%s\" must be the URL of a proxy", rule->name),
			 errhint("Known schemes are http, https, socks5 and socks5h."),
			 errhidestmt(true), errhidecontext(true)));
	return NULL;
}

/* CouchDB's list, as text. */
static char *
read_socket_options(const FieldRule *rule, JsonbValue *value)
{
	DocrepSocketOptions options;
	char	   *text;

	if (value->type != jbvString)
		bad_field(rule->name, "a string", value);
	text = docrep_json_text(value);
	docrep_socket_options_parse(text, &options);
	return text;
}

/* Check one field's type and take its value where the rule says. */
static void
read_field(Replication *replication, const FieldRule *rule, JsonbValue *value)
{
	void	   *into = rule->offset == NOWHERE ? NULL : (char *) replication + rule->offset;
	bool		is_object = value->type == jbvBinary &&
		JsonContainerIsObject(value->val.binary.data);
	int			number;

	switch (rule->type)
	{
		case FIELD_BOOL:
			if (value->type != jbvBool)
				bad_field(rule->name, "true or false", value);
			if (into)
				*(bool *) into = value->val.boolean;
			break;
		case FIELD_INT:
			number = read_int(rule, value);
			if (into)
				*(int *) into = number;
			replication->peer_options.given |= docrep_peer_option_given(rule->name);
			break;
		case FIELD_TEXT:
			if (value->type != jbvString)
				bad_field(rule->name, "a string", value);
			if (into)
				*(char **) into = docrep_json_text(value);
			break;
		case FIELD_SOCKET_OPTIONS:
			*(char **) into = read_socket_options(rule, value);
			break;
		case FIELD_DELAY:
			if (value->type != jbvString)
				bad_field(rule->name, "a string", value);
			*(int64 *) into = docrep_delay_read(docrep_json_text(value));
			break;
		case FIELD_OBJECT:
			if (!is_object)
				bad_field(rule->name, "an object", value);
			if (into)
				*(char **) into = docrep_json_text(value);
			break;
		case FIELD_PROXY:
			*(char **) into = read_proxy(rule, value);
			break;
		case FIELD_ENDPOINT:
			if (value->type != jbvString && !is_object)
				bad_field(rule->name, "a string or an object", value);
			break;
		case FIELD_DOC_IDS:
			read_doc_ids(replication, value);
			break;
		case FIELD_ARRAY:
			if (value->type != jbvNull &&
				!(value->type == jbvBinary && JsonContainerIsArray(value->val.binary.data)))
				bad_field(rule->name, "an array of strings", value);
			break;
		case FIELD_ANY:
			if (into)
				*(char **) into = docrep_json_text(value);
			break;
	}
}

/* Check every field's type, and that it is one. */
static void
read_fields(Replication *replication, JsonbContainer *root)
{
	JsonbIterator *it = JsonbIteratorInit(root);
	JsonbIteratorToken token;
	JsonbValue	key;
	JsonbValue	value;

	while ((token = JsonbIteratorNext(&it, &key, true)) != WJB_DONE)
	{
		const FieldRule *rule;

		if (token != WJB_KEY)
			continue;
		(void) JsonbIteratorNext(&it, &value, true);
		rule = find_rule(key.val.string.val, key.val.string.len);
		if (rule)
			read_field(replication, rule, &value);
		else if (key.val.string.len == 0 || key.val.string.val[0] != '_')
			ereport(ERROR,
					(errcode(ERRCODE_DOCREP_BAD_REQUEST),
					 errmsg("unknown replication field \"%.*s\"",
							key.val.string.len, key.val.string.val)));
	}
}

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

	read_fields(replication, root);
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
