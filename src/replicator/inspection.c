/*-------------------------------------------------------------------------
 *
 * inspection.c
 *		What docrep.verify() and docrep.preflight() are asked for: reading the
 *		options, and handing them to a worker.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <limits.h>

#include "replicator/inspection.h"
#include "replicator/json_members.h"
#include "store/errcodes.h"
#include "utils/json.h"

#define DEFAULT_BATCH_SIZE			500
#define DEFAULT_CONNECTION_TIMEOUT	30000
#define DEFAULT_HTTP_CONNECTIONS	20
#define DEFAULT_RETRIES				10
#define DEFAULT_MAX_DIFFERENCES		1000
#define DEFAULT_SETTLE				1000
#define DEFAULT_MAX_PER_KIND		100
#define DEFAULT_LARGE_DOCUMENT		(1024 * 1024)
#define DEFAULT_LARGE_ATTACHMENT	(64 * 1024 * 1024)
/* The rows are held in memory, and travel as one text. */
#define MAX_ROWS					100000

typedef enum OptionType
{
	OPTION_BOOL,
	OPTION_INT,
	OPTION_TEXT,
	OPTION_ATTACHMENTS,
	OPTION_ANCESTRY,
	OPTION_DOC_IDS
} OptionType;

#define FOR_VERIFY		1
#define FOR_PREFLIGHT	2
#define FOR_BOTH		3

typedef struct OptionRule
{
	const char *name;
	int			who;
	OptionType	type;
	int			min;			/* of OPTION_INT */
	int			max;
	size_t		offset;			/* in Inspection, of the first three types */
} OptionRule;

#define INTO(member) offsetof(Inspection, member)

static const OptionRule rules[] = {
	{"doc_ids", FOR_BOTH, OPTION_DOC_IDS, 0, 0, 0},
	{"bodies", FOR_VERIFY, OPTION_BOOL, 0, 0, INTO(bodies)},
	{"attachments", FOR_VERIFY, OPTION_ATTACHMENTS, 0, 0, 0},
	{"ancestry", FOR_VERIFY, OPTION_ANCESTRY, 0, 0, 0},
	{"max_differences", FOR_VERIFY, OPTION_INT, 1, MAX_ROWS, INTO(max_differences)},
	{"settle", FOR_VERIFY, OPTION_INT, 0, 3600000, INTO(settle)},
	{"max_per_kind", FOR_PREFLIGHT, OPTION_INT, 0, MAX_ROWS, INTO(max_per_kind)},
	{"large_document", FOR_PREFLIGHT, OPTION_INT, 0, INT_MAX, INTO(large_document)},
	{"large_attachment", FOR_PREFLIGHT, OPTION_INT, 0, INT_MAX, INTO(large_attachment)},

	/* as in a replication document */
	{"worker_batch_size", FOR_BOTH, OPTION_INT, 1, 100000, INTO(peer_options.worker_batch_size)},
	{"connection_timeout", FOR_BOTH, OPTION_INT, 1, INT_MAX, INTO(peer_options.connection_timeout)},
	{"request_timeout", FOR_BOTH, OPTION_INT, 0, INT_MAX, INTO(peer_options.request_timeout)},
	{"http_connections", FOR_BOTH, OPTION_INT, 1, INT_MAX, INTO(peer_options.http_connections)},
	{"retries_per_request", FOR_BOTH, OPTION_INT, 0, INT_MAX, INTO(peer_options.retries_per_request)},
	{"use_bulk_get", FOR_BOTH, OPTION_BOOL, 0, 0, INTO(peer_options.use_bulk_get)},
	{"proxy", FOR_BOTH, OPTION_TEXT, 0, 0, INTO(peer_options.proxy)},
};

/* The rule of an option, or DR400. */
static const OptionRule *
find_rule(const Inspection *inspection, const char *name)
{
	for (size_t i = 0; i < lengthof(rules); i++)
	{
		if (strcmp(rules[i].name, name) == 0 &&
			(rules[i].who & (inspection->verify ? FOR_VERIFY : FOR_PREFLIGHT)))
			return &rules[i];
	}
	ereport(ERROR,
			(errcode(ERRCODE_DOCREP_BAD_REQUEST),
			 errmsg("unknown option \"%s\" of docrep.%s()", name,
					inspection->verify ? "verify" : "preflight")));
	return NULL;				/* keep compilers quiet */
}

/* Raise DR400 about an option's value. */
static void
bad_option(const OptionRule *rule, const char *wanted, const JsonbValue *value)
{
	ereport(ERROR,
			(errcode(ERRCODE_DOCREP_BAD_REQUEST),
			 errmsg("option \"%s\" must be %s", rule->name, wanted),
			 errdetail("It is %s.", docrep_json_type_name(value))));
}

static int
compare_texts(const void *a, const void *b)
{
	return strcmp(*(char *const *) a, *(char *const *) b);
}

/* doc_ids, sorted and without duplicates; null is as if it were not there. */
static void
read_doc_ids(Inspection *inspection, const OptionRule *rule, JsonbValue *value)
{
	JsonbContainer *array;
	int			n;

	if (value->type == jbvNull)
		return;
	if (value->type != jbvBinary || !JsonContainerIsArray(value->val.binary.data))
		bad_option(rule, "an array of strings", value);
	array = value->val.binary.data;
	n = JsonContainerSize(array);
	inspection->doc_ids = palloc(sizeof(char *) * Max(n, 1));
	for (int i = 0; i < n; i++)
	{
		JsonbValue *id = getIthJsonbValueFromContainer(array, i);

		if (id->type != jbvString)
			bad_option(rule, "an array of strings", id);
		inspection->doc_ids[i] = docrep_json_text(id);
	}
	qsort(inspection->doc_ids, n, sizeof(char *), compare_texts);
	for (int i = 0; i < n; i++)
	{
		int			last = inspection->ndoc_ids - 1;

		if (last < 0 || strcmp(inspection->doc_ids[last], inspection->doc_ids[i]) != 0)
			inspection->doc_ids[inspection->ndoc_ids++] = inspection->doc_ids[i];
	}
}

/*
 * An option that is true, false or one word; returns the word, "true" or
 * "false", or raises.
 */
static const char *
read_choice(const OptionRule *rule, const char *word, JsonbValue *value)
{
	if (value->type == jbvBool)
		return value->val.boolean ? "true" : "false";
	if (value->type != jbvString || strcmp(docrep_json_text(value), word) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_BAD_REQUEST),
				 errmsg("option \"%s\" must be true, false or \"%s\"", rule->name, word)));
	return word;
}

/* An integer within the rule's bounds. */
static int
read_int(const OptionRule *rule, JsonbContainer *options, JsonbValue *value)
{
	int64		number = docrep_json_member_int(options, rule->name, PG_INT64_MIN);

	if (value->type != jbvNumeric)
		bad_option(rule, "an integer", value);
	if (number < rule->min || number > rule->max)
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_BAD_REQUEST),
				 errmsg("option \"%s\" must be an integer between %d and %d",
						rule->name, rule->min, rule->max)));
	return (int) number;
}

/* Take one option. */
static void
read_option(Inspection *inspection, JsonbContainer *options, const OptionRule *rule,
			JsonbValue *value)
{
	void	   *into = (char *) inspection + rule->offset;
	const char *choice;

	inspection->peer_options.given |= docrep_peer_option_given(rule->name);
	switch (rule->type)
	{
		case OPTION_BOOL:
			if (value->type != jbvBool)
				bad_option(rule, "true or false", value);
			*(bool *) into = value->val.boolean;
			break;
		case OPTION_INT:
			*(int *) into = read_int(rule, options, value);
			break;
		case OPTION_TEXT:
			if (value->type != jbvString)
				bad_option(rule, "a string", value);
			*(char **) into = docrep_json_text(value);
			break;
		case OPTION_ATTACHMENTS:
			choice = read_choice(rule, "digests", value);
			inspection->attachments = strcmp(choice, "true") == 0 ? INSPECT_ATTS_CONTENTS :
				strcmp(choice, "false") == 0 ? INSPECT_ATTS_NONE : INSPECT_ATTS_DIGESTS;
			break;
		case OPTION_ANCESTRY:
			choice = read_choice(rule, "full", value);
			inspection->ancestry = strcmp(choice, "true") == 0 ? INSPECT_ANCESTRY_KNOWN :
				strcmp(choice, "false") == 0 ? INSPECT_ANCESTRY_NONE : INSPECT_ANCESTRY_FULL;
			break;
		case OPTION_DOC_IDS:
			read_doc_ids(inspection, rule, value);
			break;
	}
}

/* Set defaults and take the options.  Uses no catalog. */
static void
read_options(Inspection *inspection)
{
	JsonbContainer *options = &inspection->options->root;
	JsonbIterator *it = JsonbIteratorInit(options);
	JsonbIteratorToken token;
	JsonbValue	key;
	JsonbValue	value;

	inspection->peer_options.worker_batch_size = DEFAULT_BATCH_SIZE;
	inspection->peer_options.connection_timeout = DEFAULT_CONNECTION_TIMEOUT;
	inspection->peer_options.http_connections = DEFAULT_HTTP_CONNECTIONS;
	inspection->peer_options.retries_per_request = DEFAULT_RETRIES;
	inspection->peer_options.use_bulk_get = true;
	inspection->bodies = true;
	inspection->attachments = INSPECT_ATTS_CONTENTS;
	inspection->ancestry = INSPECT_ANCESTRY_KNOWN;
	inspection->max_differences = DEFAULT_MAX_DIFFERENCES;
	inspection->settle = DEFAULT_SETTLE;
	inspection->max_per_kind = DEFAULT_MAX_PER_KIND;
	inspection->large_document = DEFAULT_LARGE_DOCUMENT;
	inspection->large_attachment = DEFAULT_LARGE_ATTACHMENT;

	if (!JB_ROOT_IS_OBJECT(inspection->options))
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_BAD_REQUEST),
				 errmsg("\"options\" must be an object")));
	while ((token = JsonbIteratorNext(&it, &key, true)) != WJB_DONE)
	{
		if (token != WJB_KEY)
			continue;
		(void) JsonbIteratorNext(&it, &value, true);
		read_option(inspection, options, find_rule(inspection, docrep_json_text(&key)), &value);
	}
}

/*
 * The id of the job: random, as nobody shares it.  Who asks later may know of a
 * change that a job which runs already has read past.
 */
static char *
make_id(const Inspection *inspection)
{
	uint8		bytes[16];
	StringInfoData id;

	if (!pg_strong_random(bytes, sizeof(bytes)))
		elog(ERROR, "could not generate random values");
	initStringInfo(&id);
	appendStringInfoString(&id, inspection->verify ? "verify-" : "preflight-");
	for (size_t i = 0; i < sizeof(bytes); i++)
		appendStringInfo(&id, "%02x", bytes[i]);
	return id.data;
}

Inspection *
docrep_inspection_parse(const char *source, const char *target, Jsonb *options)
{
	Inspection *inspection = palloc0(sizeof(Inspection));

	inspection->verify = target != NULL;
	inspection->options = options;
	read_options(inspection);
	inspection->source = docrep_endpoint_parse(source, DOCREP_MISSING_ERROR);
	if (target)
	{
		inspection->target = docrep_endpoint_parse(target, DOCREP_MISSING_ERROR);
		if (strcmp(inspection->source->identity, inspection->target->identity) == 0)
			ereport(ERROR,
					(errcode(ERRCODE_DOCREP_BAD_REQUEST),
					 errmsg("source and target are the same: %s", inspection->source->display)));
	}
	inspection->id = make_id(inspection);
	return inspection;
}

char *
docrep_inspection_serialize(const Inspection *inspection)
{
	StringInfoData out;

	initStringInfo(&out);
	appendStringInfoChar(&out, '{');
	docrep_flat_put_endpoint(&out, "source", inspection->source);
	docrep_flat_put_endpoint(&out, "target", inspection->target);
	docrep_json_put_text(&out, "id", inspection->id);
	docrep_json_put_name(&out, "options");
	(void) JsonbToCString(&out, &inspection->options->root, VARSIZE(inspection->options));
	appendStringInfoChar(&out, '}');
	return out.data;
}

Inspection *
docrep_inspection_deserialize(const char *text)
{
	JsonbContainer *flat = &docrep_json_parse(text)->root;
	Inspection *inspection = palloc0(sizeof(Inspection));
	JsonbValue	value;

	inspection->source = docrep_flat_get_endpoint(flat, "source");
	inspection->target = docrep_flat_get_endpoint(flat, "target");
	inspection->verify = inspection->target != NULL;
	inspection->id = docrep_json_member_text(flat, "id");
	if (!docrep_json_member(flat, "options", &value))
		elog(ERROR, "a request of docrep.verify() is incomplete");
	inspection->options = JsonbValueToJsonb(&value);
	read_options(inspection);
	return inspection;
}
