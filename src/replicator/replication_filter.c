/*-------------------------------------------------------------------------
 *
 * replication_filter.c
 *		The fields of a replication document that choose documents.
 *
 * doc_ids, filter and selector exclude each other, as in CouchDB; paths and
 * prevent_deletions go with each of them.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "js/js.h"
#include "replicator/json_members.h"
#include "replicator/replication_filter.h"
#include "store/errcodes.h"

/* Parameters that a feed's call has of its own. */
static const char *const reserved_params[] = {
	"feed", "style", "since", "limit", "heartbeat", "timeout", "include_docs", "descending",
	"filter", "last-event-id", "seq_interval", "conflicts", "attachments", "att_encoding_info"
};

/* The text of a member that is an object, or NULL. */
static char *
object_text(JsonbContainer *root, const char *name)
{
	JsonbValue	value;

	if (!docrep_json_member(root, name, &value) || value.type != jbvBinary)
		return NULL;
	return docrep_json_text(&value);
}

/* Read paths: an array of strings; null is as if it were not there. */
static void
read_paths(DocrepFilterSpec *filter, JsonbContainer *root)
{
	JsonbValue	value;
	JsonbContainer *array;

	if (!docrep_json_member(root, "paths", &value) || value.type != jbvBinary)
		return;
	array = value.val.binary.data;
	filter->npaths = JsonContainerSize(array);
	filter->paths = palloc(sizeof(char *) * Max(filter->npaths, 1));
	for (int i = 0; i < filter->npaths; i++)
	{
		JsonbValue *path = getIthJsonbValueFromContainer(array, i);

		if (path->type != jbvString)
			ereport(ERROR,
					(errcode(ERRCODE_DOCREP_BAD_REQUEST),
					 errmsg("replication field \"paths\" must be an array of strings"),
					 errdetail("Element %d is %s.", i, docrep_json_type_name(path))));
		filter->paths[i] = docrep_json_text(path);
	}
}

/* query_params are for a filter. */
static void
check_params(const DocrepFilterSpec *filter, JsonbContainer *root)
{
	JsonbValue	value;

	if (!docrep_json_member(root, "query_params", &value) || value.type != jbvBinary ||
		JsonContainerSize(value.val.binary.data) == 0)
		return;
	if (filter->filter == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_BAD_REQUEST),
				 errmsg("replication field \"query_params\" needs a \"filter\"")));
}

void
docrep_replication_read_filter(Replication *replication, JsonbContainer *root)
{
	DocrepFilterSpec *filter = &replication->filter;

	filter->selector = object_text(root, "selector");
	filter->filter = docrep_json_member_text(root, "filter");
	filter->query_params = object_text(root, "query_params");
	filter->prevent_deletions = docrep_json_member_bool(root, "prevent_deletions", false);
	read_paths(filter, root);
	check_params(filter, root);
	if (filter->filter == NULL)
		filter->query_params = NULL;
	docrep_filter_check(filter);
	*filter = *docrep_filter_spec_plain(filter, &replication->doc_ids, &replication->ndoc_ids);
	if (!docrep_filter_is_empty(filter))
		replication->filter_identity = docrep_filter_identity_with(filter, NULL);
}

/* A call of a CouchDB's feed cannot have some parameters twice. */
static void
check_for_couchdb(const Replication *replication)
{
	const DocrepFilterSpec *filter = &replication->filter;
	JsonbContainer *params;
	JsonbValue	value;

	if (docrep_filter_kind(filter->filter) == DOCREP_FILTER_FUNCTION)
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_BAD_REQUEST),
				 errmsg("the filter \"%s\" is a SQL function, which %s cannot call",
						filter->filter, replication->source->display),
				 errhint("Use a selector, or a function of one of its design documents: \"designdoc/name\".")));
	if (filter->query_params == NULL)
		return;
	params = &docrep_json_parse(filter->query_params)->root;
	for (size_t i = 0; i < lengthof(reserved_params); i++)
	{
		if (docrep_json_member(params, reserved_params[i], &value))
			ereport(ERROR,
					(errcode(ERRCODE_DOCREP_BAD_REQUEST),
					 errmsg("replication field \"query_params\" must not have \"%s\"",
							reserved_params[i]),
					 errdetail("It is a parameter of the changes feed itself.")));
	}
}

/*
 * A table here: is the function there, or the engine?  Design documents are looked for when the
 * replication begins, as those of other sources.
 */
static void
check_for_local(const DocrepFilterSpec *filter)
{
	DocrepFilterKind kind = docrep_filter_kind(filter->filter);

	if (kind == DOCREP_FILTER_JAVASCRIPT || kind == DOCREP_FILTER_VIEW)
		docrep_js_require();
	else
		(void) docrep_filter_compile(filter, NULL);
}

void
docrep_replication_check_filter(const Replication *replication)
{
	const DocrepFilterSpec *filter = &replication->filter;

	if (docrep_filter_is_empty(filter))
		return;
	if (docrep_endpoint_is_http(replication->source))
		check_for_couchdb(replication);
	else if (strcmp(replication->source->kind, "local") == 0)
		check_for_local(filter);
}
