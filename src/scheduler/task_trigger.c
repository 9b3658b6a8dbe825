/*-------------------------------------------------------------------------
 *
 * task_trigger.c
 *		The triggers of docrep.replicator.
 *
 * Before a row is stored its document is read, with the rights and names of
 * the session that writes it, and its credentials are taken out.  What came of
 * it is written to docrep.task_state after the row, because ON CONFLICT may
 * yet throw the row away; in between it waits in this session's memory.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "commands/trigger.h"
#include "common/hashfn.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "replicator/json_members.h"
#include "replicator/user_ctx.h"
#include "scheduler/jobs.h"
#include "scheduler/task_secrets.h"
#include "scheduler/tasks.h"
#include "store/companion.h"
#include "store/document.h"
#include "store/errcodes.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/rel.h"

/* A task between its two triggers. */
typedef struct Pending
{
	uint64		key;			/* hash of the id */
	TaskDefinition *task;
} Pending;

static HTAB *pending = NULL;	/* in TopTransactionContext */
static TaskDefinition *newest = NULL;	/* among them */

/* ---------- between the triggers ---------- */

static void
forget_pending(void *arg)
{
	pending = NULL;
	newest = NULL;
}

/* The table of tasks that wait for their second trigger. */
static HTAB *
pending_tasks(void)
{
	HASHCTL		ctl = {0};
	MemoryContextCallback *callback;

	if (pending)
		return pending;
	ctl.keysize = sizeof(uint64);
	ctl.entrysize = sizeof(Pending);
	ctl.hcxt = TopTransactionContext;
	pending = hash_create("docrep tasks", 64, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	callback = MemoryContextAlloc(TopTransactionContext, sizeof(MemoryContextCallback));
	callback->func = forget_pending;
	callback->arg = NULL;
	MemoryContextRegisterResetCallback(TopTransactionContext, callback);
	return pending;
}

static uint64
hash_id(const char *id)
{
	return hash_bytes_extended((const unsigned char *) id, strlen(id), 0);
}

static char *
copy_text(const char *text)
{
	return text ? pstrdup(text) : NULL;
}

static Jsonb *
copy_jsonb(Jsonb *value)
{
	Jsonb	   *copy = value ? palloc(VARSIZE(value)) : NULL;

	return copy ? memcpy(copy, value, VARSIZE(value)) : NULL;
}

/* Keep a task for the second trigger; of one id the newest counts. */
static void
keep_pending(const TaskDefinition *task)
{
	uint64		key = hash_id(task->id);
	Pending    *entry = hash_search(pending_tasks(), &key, HASH_ENTER, NULL);
	MemoryContext old = MemoryContextSwitchTo(TopTransactionContext);
	TaskDefinition *copy = palloc(sizeof(TaskDefinition));

	*copy = *task;
	copy->id = pstrdup(task->id);
	copy->flat = copy_text(task->flat);
	copy->secrets = copy_jsonb(task->secrets);
	copy->replication_id = copy_text(task->replication_id);
	copy->source = copy_text(task->source);
	copy->target = copy_text(task->target);
	copy->proxy = copy_text(task->proxy);
	copy->held_since = copy_text(task->held_since);
	copy->stats = copy_jsonb(task->stats);
	MemoryContextSwitchTo(old);
	entry->task = copy;
	newest = copy;
}

static void
free_if(void *p)
{
	if (p)
		pfree(p);
}

/* A task that has been written. */
static void
free_pending(TaskDefinition *task)
{
	free_if(task->id);
	free_if(task->flat);
	free_if(task->secrets);
	free_if(task->replication_id);
	free_if(task->source);
	free_if(task->target);
	free_if(task->proxy);
	free_if(task->held_since);
	free_if(task->stats);
	pfree(task);
}

/* Take it back; NULL: there is none. */
static TaskDefinition *
take_pending(const char *id)
{
	uint64		key = hash_id(id);
	Pending    *entry = pending ? hash_search(pending, &key, HASH_FIND, NULL) : NULL;
	TaskDefinition *task = entry ? entry->task : NULL;

	if (task == NULL || strcmp(task->id, id) != 0)
		return NULL;
	(void) hash_search(pending, &key, HASH_REMOVE, NULL);
	if (newest == task)
		newest = NULL;
	return task;
}

/*
 * Credentials that an earlier version of the task had.  INSERT ... ON CONFLICT
 * DO UPDATE with EXCLUDED.doc comes here with what was taken out for the INSERT.
 */
static Jsonb *
kept_secrets(const char *id, const char *old_id, Oid owner)
{
	if (newest && newest->owner == owner && strcmp(newest->id, id) == 0 && newest->secrets)
		return newest->secrets;
	return docrep_task_secrets(old_id, owner);
}

/* ---------- BEFORE INSERT OR UPDATE ---------- */

static void
check_trigger(FunctionCallInfo fcinfo, bool before)
{
	TriggerData *td = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_FOR_ROW(td->tg_event) ||
		!TRIGGER_FIRED_BEFORE(td->tg_event) != !before ||
		RelationGetRelid(td->tg_relation) != docrep_replicator_relid())
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("this is a trigger of docrep.replicator only")));
}

/* A column's value; false: NULL. */
static bool
get_column(TriggerData *td, HeapTuple tuple, const char *name, Datum *value)
{
	bool		isnull;
	int			attno = SPI_fnumber(RelationGetDescr(td->tg_relation), name);

	if (attno <= 0)
		elog(ERROR, "docrep.replicator has lost its column %s", name);
	*value = heap_getattr(tuple, attno, RelationGetDescr(td->tg_relation), &isnull);
	return !isnull;
}

/*
 * May the current role have tasks run as this one?  To use its privileges is not
 * enough, as a task is that role (from 16 on there is INHERIT without SET).
 */
static bool
may_run_as(Oid owner)
{
	return has_privs_of_role(GetUserId(), owner) && docrep_role_may_become(GetUserId(), owner);
}

/*
 * Whose task the row is, and whether it says so itself (as a dump does).  Row
 * security is not relied upon: the table's owner and roles with BYPASSRLS are
 * not subject to it, and would change what another role's task does.
 */
static Oid
row_owner(TriggerData *td, HeapTuple new, bool *given)
{
	bool		update = TRIGGER_FIRED_BY_UPDATE(td->tg_event);
	Datum		value;
	Oid			old = InvalidOid;
	Oid			owner;

	if (update && get_column(td, td->tg_trigtuple, "owner", &value))
		old = DatumGetObjectId(value);
	*given = get_column(td, new, "owner", &value) && !update;
	if (get_column(td, new, "owner", &value))
		owner = DatumGetObjectId(value);
	else
		owner = update ? old : GetUserId();
	if (!may_run_as(owner))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied to write a task of role \"%s\"",
						GetUserNameFromId(owner, true) ? GetUserNameFromId(owner, true) : "?"),
				 errdetail("It would run with privileges that the current role does not have.")));
	return owner;
}

/* The id that the row will have; NULL: it has none, as another trigger will say. */
static char *
row_id(TriggerData *td, HeapTuple tuple)
{
	Datum		value;

	if (get_column(td, tuple, "_id", &value))
		return TextDatumGetCString(value);
	if (!get_column(td, tuple, "doc", &value) || !JB_ROOT_IS_OBJECT(DatumGetJsonbP(value)))
		return NULL;
	return docrep_json_member_text(&DatumGetJsonbP(value)->root, "_id");
}

static bool
is_design(const char *id)
{
	return strncmp(id, "_design/", 8) == 0;
}

/* The row with other values in some columns. */
static HeapTuple
modify(TriggerData *td, HeapTuple tuple, Oid owner, Jsonb *doc, bool restored)
{
	static const char *const kept[] = {"_rev", "_seq", "_modified", "_tree", "_trunk", "_attachments"};
	int			columns[2 + lengthof(kept)];
	Datum		values[2 + lengthof(kept)] = {0};
	bool		nulls[2 + lengthof(kept)] = {0};
	int			n = 0;

	columns[n] = SPI_fnumber(RelationGetDescr(td->tg_relation), "owner");
	values[n++] = ObjectIdGetDatum(owner);
	columns[n] = SPI_fnumber(RelationGetDescr(td->tg_relation), "doc");
	values[n++] = JsonbPGetDatum(doc);

	/* what another database kept of it has no meaning here: it gets a new first revision */
	for (size_t i = 0; restored && i < lengthof(kept); i++)
	{
		columns[n] = SPI_fnumber(RelationGetDescr(td->tg_relation), kept[i]);
		nulls[n++] = true;
	}
	return heap_modify_tuple_by_cols(tuple, RelationGetDescr(td->tg_relation), n, columns, values,
									 nulls);
}

/* Read the document of a row that will be stored. */
static HeapTuple
check_row(TriggerData *td, HeapTuple tuple)
{
	bool		update = TRIGGER_FIRED_BY_UPDATE(td->tg_event);
	char	   *id = row_id(td, tuple);
	bool		restored;
	Oid			owner = row_owner(td, tuple, &restored);
	Datum		doc;
	Jsonb	   *document;
	Jsonb	   *stored;
	Jsonb	   *secrets;
	TaskDefinition *task;

	/* what is wrong with these is for the tracking trigger to say */
	if (id == NULL || !get_column(td, tuple, "doc", &doc))
		return tuple;
	document = DatumGetJsonbP(doc);
	stored = docrep_task_strip(document, &secrets);
	if (is_design(id))
		return modify(td, tuple, owner, stored, restored);

	if (restored)
		task = docrep_task_define_restored(id, owner, document, &stored);
	else
	{
		task = docrep_task_define(id, owner, document,
								  kept_secrets(id, update ? row_id(td, td->tg_trigtuple) : id, owner),
								  &stored);
		if (!update)
			(void) docrep_task_take_completed(task, document);
	}
	keep_pending(task);
	return modify(td, tuple, owner, stored, restored);
}

PG_FUNCTION_INFO_V1(docrep_task_check);

/* BEFORE INSERT OR UPDATE FOR EACH ROW on docrep.replicator. */
Datum
docrep_task_check(PG_FUNCTION_ARGS)
{
	TriggerData *td = (TriggerData *) fcinfo->context;

	/* what fails here or at a later row may be logged with a statement that holds credentials */
	docrep_statement_hidden();
	check_trigger(fcinfo, true);
	return PointerGetDatum(check_row(td, TRIGGER_FIRED_BY_UPDATE(td->tg_event) ? td->tg_newtuple :
									 td->tg_trigtuple));
}

/* ---------- AFTER INSERT OR UPDATE OR DELETE ---------- */

PG_FUNCTION_INFO_V1(docrep_task_note);

/* AFTER INSERT OR UPDATE OR DELETE FOR EACH ROW on docrep.replicator. */
Datum
docrep_task_note(PG_FUNCTION_ARGS)
{
	TriggerData *td = (TriggerData *) fcinfo->context;
	HeapTuple	new = NULL;
	char	   *old_id = NULL;
	char	   *id;
	Datum		seq;
	TaskDefinition *task;

	check_trigger(fcinfo, false);
	if (TRIGGER_FIRED_BY_UPDATE(td->tg_event))
		new = td->tg_newtuple;
	else if (TRIGGER_FIRED_BY_INSERT(td->tg_event))
		new = td->tg_trigtuple;
	if (!TRIGGER_FIRED_BY_INSERT(td->tg_event))
		old_id = row_id(td, td->tg_trigtuple);
	id = new ? row_id(td, new) : NULL;

	if (old_id && (id == NULL || strcmp(old_id, id) != 0) && !is_design(old_id))
		docrep_task_remove(old_id);
	if (id == NULL || is_design(id))
		return PointerGetDatum(NULL);
	if (!get_column(td, new, "_seq", &seq))
		elog(ERROR, "a row of docrep.replicator has no number");
	task = take_pending(id);

	/* another AFTER trigger has updated the row: ours that merges it with a tombstone, for one */
	if (task == NULL && docrep_task_noted_after(id, DatumGetInt64(seq)))
		return PointerGetDatum(NULL);
	if (task == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("task \"%s\" was written without being checked", id),
				 errhint("A trigger of docrep.replicator is disabled.")));
	docrep_task_put(task, DatumGetInt64(seq));
	free_pending(task);
	return PointerGetDatum(NULL);
}

/* ---------- functions that write documents ---------- */

/*
 * Tombstones have no row that a trigger sees, and revisions from elsewhere may
 * end as losing leaves: credentials in either would stay in companions.  Called
 * without writes before these are read: what is malformed may hold some too.
 */
static void
check_writes(DocTable *table, DocWrite *writes, int n, bool edits)
{
	if (strcmp(RelationGetRelationName(table->rel), "replicator") != 0 ||
		RelationGetRelid(table->rel) != docrep_replicator_relid())
		return;
	docrep_statement_hidden();
	if (writes == NULL)
		return;
	if (!edits)
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_FORBIDDEN),
				 errmsg("docrep.replicator takes no revisions from elsewhere"),
				 errdetail("Tasks are this database's own: replicating them would start them twice."),
				 errhidestmt(true), errhidecontext(true)));
	for (int i = 0; i < n; i++)
	{
		Jsonb	   *secrets;

		if (writes[i].body && writes[i].deleted)
			writes[i].body = docrep_task_strip(writes[i].body, &secrets);
	}
}

void
docrep_tasks_install_hook(void)
{
	docrep_write_hook = check_writes;
}
