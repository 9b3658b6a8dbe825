/*-------------------------------------------------------------------------
 *
 * replication_fields.c
 *		Reading a replication document, field by field.
 *
 * One table says of every field what type it has and what is done with it.
 * Nothing is silently ignored: a field that this version cannot honour is
 * refused unless it asks for nothing.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <limits.h>

#include "peer/server.h"
#include "peer/socket_options.h"
#include "replicator/json_members.h"
#include "replicator/replication_fields.h"
#include "replicator/user_ctx.h"
#include "store/errcodes.h"
#include "utils/uuid.h"

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
	FIELD_SEQ,
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
	PLAIN("since_seq", FIELD_SEQ, INTO(since_seq)),
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

/* Order of ids, for qsort. */
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

/*
 * An update sequence: a string, a number, or an array as old clusters have them.
 * null is as if it were not there.
 */
static char *
read_seq(const FieldRule *rule, JsonbValue *value)
{
	char	   *text;

	if (value->type == jbvNull)
		return NULL;
	if (value->type != jbvString && value->type != jbvNumeric &&
		!(value->type == jbvBinary && JsonContainerIsArray(value->val.binary.data)))
		bad_field(rule->name, "an update sequence, a number or a string", value);
	text = docrep_json_text(value);
	if (value->type == jbvNumeric && strchr(text, '.') &&
		strspn(strchr(text, '.') + 1, "0") == strlen(strchr(text, '.') + 1))
		*strchr(text, '.') = '\0';
	if (value->type == jbvNumeric && strspn(text, "0123456789") != strlen(text))
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_BAD_REQUEST),
				 errmsg("replication field \"%s\" must not be negative or a fraction", rule->name)));
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
		case FIELD_SEQ:
			*(char **) into = read_seq(rule, value);
			break;
		case FIELD_ANY:
			if (into)
				*(char **) into = docrep_json_text(value);
			break;
	}
}

void
docrep_replication_read_fields(Replication *replication, JsonbContainer *root)
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
