/*-------------------------------------------------------------------------
 *
 * task_define.c
 *		From a document of docrep.replicator to a task.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "miscadmin.h"
#include "replicator/json_members.h"
#include "replicator/replication.h"
#include "scheduler/jobs.h"
#include "scheduler/task_secrets.h"
#include "scheduler/tasks.h"
#include "store/errcodes.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

/* Why a row that came from a dump does not run. */
#define RESTORED_REASON \
	"restored from a dump: not started before docrep.resume_tasks() is called, as it may run elsewhere"

Oid
docrep_replicator_relid(void)
{
	Oid			relid = get_relname_relid("replicator", get_namespace_oid("docrep", false));

	if (!OidIsValid(relid))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("table docrep.replicator does not exist")));
	return relid;
}

/* Refuse what only makes sense in a call of docrep.replicate(). */
static void
check_members(Jsonb *document)
{
	JsonbValue	value;

	if (!JB_ROOT_IS_OBJECT(document))
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_BAD_REQUEST),
				 errmsg("a replication document must be an object")));
	if (docrep_json_member(&document->root, "cancel", &value))
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_BAD_REQUEST),
				 errmsg("replication field \"cancel\" is not for documents of docrep.replicator"),
				 errhint("Delete the document, or call docrep.cancel().")));
}

/*
 * Read the document with the rights of the owner, whom it will run as: who
 * else may write the row may have more of them.
 */
static Replication *
parse_as(Oid owner, Jsonb *document)
{
	Oid			user;
	int			context;
	Replication *replication;

	if (!SearchSysCacheExists1(AUTHOID, ObjectIdGetDatum(owner)))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("the owner of the task does not exist any more"),
				 errhint("Set the column owner to a role that exists.")));

	/* an error is cleaned up by the (sub)transaction's abort */
	GetUserIdAndSecContext(&user, &context);
	if (user != owner)
		SetUserIdAndSecContext(owner, context | SECURITY_LOCAL_USERID_CHANGE);
	replication = docrep_replication_parse_task(document);
	SetUserIdAndSecContext(user, context);
	return replication;
}

/* What is shown of the proxies. */
static char *
show_proxy(const Replication *replication)
{
	const char *proxy = replication->source_proxy ? replication->source_proxy :
		replication->target_proxy;

	return proxy ? docrep_task_strip_url(proxy) : NULL;
}

/* A copy of a jsonb value, or NULL. */
static Jsonb *
copy_jsonb(Jsonb *value)
{
	Jsonb	   *copy;

	if (value == NULL)
		return NULL;
	copy = palloc(VARSIZE(value));
	memcpy(copy, value, VARSIZE(value));
	return copy;
}

TaskDefinition *
docrep_task_define(const char *id, Oid owner, Jsonb *document, Jsonb *kept, Jsonb **stored)
{
	TaskDefinition *task = palloc0(sizeof(TaskDefinition));
	Jsonb	   *full;
	Jsonb	   *secrets;
	Replication *replication;

	check_members(document);
	full = docrep_task_fill(document, kept);
	replication = parse_as(owner, full);
	(void) docrep_task_strip(full, &secrets);
	*stored = docrep_task_strip(document, &full);
	docrep_task_check_stripped(*stored);

	task->id = pstrdup(id);
	task->owner = owner;
	task->role = OidIsValid(replication->role) ? replication->role : owner;
	docrep_job_check_role(task->role);
	replication->task = task->id;
	task->flat = docrep_replication_serialize(replication);
	task->secrets = copy_jsonb(secrets);
	task->replication_id = pstrdup(replication->full_id);
	task->source = pstrdup(replication->source->display);
	task->target = pstrdup(replication->target->display);
	task->proxy = show_proxy(replication);
	task->continuous = replication->continuous;
	task->disabled = replication->disabled;
	task->retry_cycles = replication->retry_cycles;
	task->held_since = replication->held_since;
	task->delay = replication->delay;
	task->keeps_looking = replication->delay > 0 && docrep_endpoint_is_http(replication->source);
	return task;
}

/* An endpoint that is not read: its text as it is shown. */
static char *
shown_endpoint(Jsonb *document, const char *name)
{
	JsonbValue	value;
	JsonbValue	url;

	if (!docrep_json_member(&document->root, name, &value))
		return NULL;
	if (value.type == jbvBinary && JsonContainerIsObject(value.val.binary.data) &&
		docrep_json_member(value.val.binary.data, "url", &url))
		value = url;
	return docrep_json_text(&value);
}

bool
docrep_task_take_completed(TaskDefinition *task, Jsonb *document)
{
	JsonbContainer *root = &document->root;
	char	   *state = docrep_json_member_text(root, "_replication_state");
	JsonbValue	stats;

	if (state == NULL || strcmp(state, TASK_COMPLETED) != 0 || task->continuous)
		return false;
	task->state = TASK_COMPLETED;
	task->replication_id = docrep_json_member_text(root, "_replication_id");
	if (docrep_json_member(root, "_replication_stats", &stats) && stats.type == jbvBinary)
		task->stats = JsonbValueToJsonb(&stats);
	return true;
}

TaskDefinition *
docrep_task_define_restored(const char *id, Oid owner, Jsonb *document, Jsonb **stored)
{
	TaskDefinition *task = palloc0(sizeof(TaskDefinition));
	JsonbContainer *root = &document->root;

	if (!JB_ROOT_IS_OBJECT(document))
		check_members(document);
	*stored = docrep_task_strip(document, &task->secrets);
	task->id = pstrdup(id);
	task->owner = owner;
	task->role = owner;
	task->secrets = NULL;
	task->source = shown_endpoint(*stored, "source");
	task->target = shown_endpoint(*stored, "target");
	task->continuous = docrep_json_member_bool(root, "continuous", false);
	task->disabled = docrep_json_member_bool(root, "disabled", false);
	task->held_since = docrep_json_member_text(root, "held_since");

	/* what is done is done; anything else waits for somebody who knows */
	if (!docrep_task_take_completed(task, document))
	{
		task->state = TASK_HELD;
		task->reason = RESTORED_REASON;
	}
	return task;
}
