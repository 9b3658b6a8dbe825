/*-------------------------------------------------------------------------
 *
 * batch_rows.c
 *		The rows that a batch puts through the executor.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "jit/jit.h"
#include "optimizer/cost.h"
#include "store/batch_rows.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/plancache.h"
#include "utils/rel.h"

/* The statement that is running.  Statements nest when a user's trigger writes too. */
typedef struct RunningBatch
{
	struct RunningBatch *outer;
	Oid			relid;
	ChangeAction action;
	DocChange **changes;		/* in order of id; of all actions */
	int			n;
	int			cursor;			/* where the next row is expected */
	int			depth;			/* of triggers, where the statement runs */
} RunningBatch;

static RunningBatch *running = NULL;
static int	last_seen = 0;

/* Plans are kept of so many tables, those that were written last: a process may write to thousands. */
#define MAX_TABLE_PLANS		200

/* Plans are kept per table, for as long as its name stays. */
typedef struct TablePlans
{
	Oid			relid;			/* key */
	uint64		used;			/* when it was last, by a clock of its own */
	char	   *name;
	SPIPlanPtr	plans[6];		/* by action; then the same for a single row */
} TablePlans;

static HTAB *table_plans = NULL;

/* How deep are we in triggers? */
static int
trigger_depth(void)
{
	return DatumGetInt32(DirectFunctionCall1(pg_trigger_depth, (Datum) 0));
}

/*
 * Is a statement of ours running on the table, "levels" triggers above?  What
 * a user's trigger writes is deeper and none of ours, be it the same id.
 */
static bool
is_running(Oid relid, ChangeAction action, int levels)
{
	return running && running->relid == relid && running->action == action &&
		trigger_depth() == running->depth + levels;
}

bool
docrep_batch_running(Oid relid, ChangeAction action)
{
	return is_running(relid, action, 1);
}

int
docrep_batch_last_seen(void)
{
	return last_seen;
}

/* strcmp for an id that has no NUL at its end */
static int
compare_id(const char *id, int idlen, const char *other)
{
	size_t		otherlen = strlen(other);
	int			c = memcmp(id, other, Min((size_t) idlen, otherlen));

	if (c != 0)
		return c;
	return (size_t) idlen < otherlen ? -1 : (size_t) idlen > otherlen;
}

/* The running statement's change of an id, or NULL. */
static DocChange *
find_change(ChangeAction action, const char *id, int idlen)
{
	int			lo = 0;
	int			hi;

	/* rows come in the order of the batch, unless the planner thought otherwise */
	while (running->cursor < running->n && running->changes[running->cursor]->action != action)
		running->cursor++;
	if (running->cursor < running->n &&
		compare_id(id, idlen, running->changes[running->cursor]->id) == 0)
	{
		last_seen = running->cursor;
		return running->changes[running->cursor++];
	}
	hi = running->n;
	while (lo < hi)
	{
		int			mid = (lo + hi) / 2;
		int			c = compare_id(id, idlen, running->changes[mid]->id);

		if (c == 0)
		{
			if (running->changes[mid]->action != action)
				return NULL;
			last_seen = mid;
			return running->changes[mid];
		}
		if (c < 0)
			hi = mid;
		else
			lo = mid + 1;
	}
	return NULL;
}

DocChange *
docrep_batch_find(Oid relid, ChangeAction action, const char *id, int idlen)
{
	return docrep_batch_running(relid, action) ? find_change(action, id, idlen) : NULL;
}

/* As find_change, but without expecting the next row. */
static DocChange *
peek_change(ChangeAction action, const char *id, int idlen)
{
	int			cursor = running->cursor;
	DocChange  *result;

	if (last_seen < running->n &&
		compare_id(id, idlen, running->changes[last_seen]->id) == 0)
		return running->changes[last_seen]->action == action ? running->changes[last_seen] : NULL;
	result = find_change(action, id, idlen);
	running->cursor = cursor;
	return result;
}

bool
docrep_batch_contains(Oid relid, ChangeAction action, const char *id, int idlen)
{
	/* asked in a trigger's condition, not in the trigger */
	return is_running(relid, action, 0) && peek_change(action, id, idlen) != NULL;
}

DocChange *
docrep_batch_peek(Oid relid, ChangeAction action, const char *id, int idlen)
{
	return docrep_batch_running(relid, action) ? peek_change(action, id, idlen) : NULL;
}

/* ---------- docrep.batch_rows(action) ---------- */

static const char action_codes[] = {
	[CHANGE_INSERT] = 'i',
	[CHANGE_UPDATE] = 'u',
	[CHANGE_DELETE] = 'd'
};

static Jsonb *
empty_object(void)
{
	static Jsonb *empty = NULL;

	if (empty == NULL)
	{
		Datum		d = DirectFunctionCall1(jsonb_in, CStringGetDatum("{}"));

		empty = MemoryContextAlloc(TopMemoryContext, VARSIZE(DatumGetPointer(d)));
		memcpy(empty, DatumGetPointer(d), VARSIZE(DatumGetPointer(d)));
	}
	return empty;
}

PG_FUNCTION_INFO_V1(docrep_batch_rows);

/*
 * docrep.batch_rows(action "char") returns table (id text, doc jsonb): the
 * rows of the statement that is running in this backend; none otherwise.
 */
Datum
docrep_batch_rows(PG_FUNCTION_ARGS)
{
	char		action = PG_GETARG_CHAR(0);
	FuncCallContext *funcctx;

	if (SRF_IS_FIRSTCALL())
	{
		TupleDesc	tupdesc;
		MemoryContext old;

		funcctx = SRF_FIRSTCALL_INIT();
		old = MemoryContextSwitchTo(funcctx->multi_call_memory_ctx);
		if (get_call_result_type(fcinfo, NULL, &tupdesc) != TYPEFUNC_COMPOSITE)
			elog(ERROR, "return type must be a row type");
		funcctx->tuple_desc = BlessTupleDesc(tupdesc);
		MemoryContextSwitchTo(old);
	}
	funcctx = SRF_PERCALL_SETUP();
	if (running != NULL && action_codes[running->action] == action)
	{
		while (funcctx->call_cntr < (uint64) running->n)
		{
			DocChange  *change = running->changes[funcctx->call_cntr];
			Datum		values[2];
			bool		nulls[2] = {false, false};
			HeapTuple	tuple;

			if (change->action != running->action)
			{
				funcctx->call_cntr++;
				continue;
			}
			values[0] = CStringGetTextDatum(change->id);
			values[1] = JsonbPGetDatum(change->doc ? change->doc : empty_object());
			tuple = heap_form_tuple(funcctx->tuple_desc, values, nulls);
			SRF_RETURN_NEXT(funcctx, HeapTupleGetDatum(tuple));
		}
	}
	SRF_RETURN_DONE(funcctx);
}

/* ---------- the statements ---------- */

static void
free_plans(TablePlans *entry)
{
	for (size_t i = 0; i < lengthof(entry->plans); i++)
	{
		if (entry->plans[i])
			SPI_freeplan(entry->plans[i]);
		entry->plans[i] = NULL;
	}
	if (entry->name)
		pfree(entry->name);
	entry->name = NULL;
}

/* Is a statement running on the table, on any level? */
static bool
is_in_use(Oid relid)
{
	for (RunningBatch *batch = running; batch; batch = batch->outer)
	{
		if (batch->relid == relid)
			return true;
	}
	return false;
}

/* Forget the plans of the table that has not been written for the longest time, if there are many. */
static void
make_room_for_plans(void)
{
	HASH_SEQ_STATUS status;
	TablePlans *entry;
	TablePlans *oldest = NULL;

	if (hash_get_num_entries(table_plans) < MAX_TABLE_PLANS)
		return;
	hash_seq_init(&status, table_plans);
	while ((entry = hash_seq_search(&status)) != NULL)
	{
		if ((oldest == NULL || entry->used < oldest->used) && !is_in_use(entry->relid))
			oldest = entry;
	}
	if (oldest == NULL)
		return;
	free_plans(oldest);
	hash_search(table_plans, &oldest->relid, HASH_REMOVE, NULL);
}

static TablePlans *
plans_for(Oid relid, const char *name)
{
	static uint64 clock = 0;
	TablePlans *entry;
	bool		found;

	if (table_plans == NULL)
	{
		HASHCTL		ctl;

		memset(&ctl, 0, sizeof(ctl));
		ctl.keysize = sizeof(Oid);
		ctl.entrysize = sizeof(TablePlans);
		table_plans = hash_create("docrep batch plans", 16, &ctl, HASH_ELEM | HASH_BLOBS);
	}
	entry = hash_search(table_plans, &relid, HASH_FIND, NULL);
	if (entry == NULL)
	{
		make_room_for_plans();
		entry = hash_search(table_plans, &relid, HASH_ENTER, &found);
		entry->name = NULL;
		memset(entry->plans, 0, sizeof(entry->plans));
	}
	/* renamed, or another table that got the number */
	if (entry->name && strcmp(entry->name, name) != 0)
		free_plans(entry);
	if (entry->name == NULL)
		entry->name = MemoryContextStrdup(TopMemoryContext, name);
	entry->used = ++clock;
	return entry;
}

/*
 * The statements: for the rows of the batch and, as put() should be quick, for
 * a single row.
 */
static SPIPlanPtr
plan_for(Oid relid, const char *name, ChangeAction action, bool single)
{
	static const char *const commands[] = {
		"INSERT INTO %s (_id, doc) SELECT b.id, b.doc FROM docrep.batch_rows('i') b",
		"UPDATE ONLY %s t SET doc = b.doc FROM docrep.batch_rows('u') b"
		" WHERE t._id OPERATOR(pg_catalog.=) b.id COLLATE pg_catalog.\"C\"",
		"DELETE FROM ONLY %s t USING docrep.batch_rows('d') b"
		" WHERE t._id OPERATOR(pg_catalog.=) b.id COLLATE pg_catalog.\"C\"",
		"INSERT INTO %s (_id, doc) VALUES ($1, $2)",
		"UPDATE ONLY %s SET doc = $2 WHERE _id OPERATOR(pg_catalog.=) $1 COLLATE pg_catalog.\"C\"",
		"DELETE FROM ONLY %s WHERE _id OPERATOR(pg_catalog.=) $1 COLLATE pg_catalog.\"C\""
	};
	Oid			types[] = {TEXTOID, JSONBOID};
	TablePlans *entry = plans_for(relid, name);
	int			i = action - CHANGE_INSERT + (single ? 3 : 0);

	if (entry->plans[i] == NULL)
	{
		SPIPlanPtr	plan = SPI_prepare_cursor(psprintf(commands[i], name), single ? 2 : 0, types,
											  CURSOR_OPT_GENERIC_PLAN);

		if (plan == NULL || SPI_keepplan(plan) != 0)
			elog(ERROR, "could not prepare a batch's statement: %s",
				 SPI_result_code_string(SPI_result));
		entry->plans[i] = plan;
	}
	return entry->plans[i];
}

typedef struct PlannerSettings
{
	bool		hashjoin;
	bool		mergejoin;
	bool		seqscan;
	bool		bitmapscan;
	bool		material;
	bool		jit;
} PlannerSettings;

static const PlannerSettings our_settings = {false, false, false, false, false, false};

/* Set them, return what they were. */
static PlannerSettings
switch_settings(PlannerSettings to)
{
	PlannerSettings from = {enable_hashjoin, enable_mergejoin, enable_seqscan,
	enable_bitmapscan, enable_material, jit_enabled};

	enable_hashjoin = to.hashjoin;
	enable_mergejoin = to.mergejoin;
	enable_seqscan = to.seqscan;
	enable_bitmapscan = to.bitmapscan;
	enable_material = to.material;
	jit_enabled = to.jit;
	return from;
}

/*
 * Have the plan made, if it has to be, in our way: by the primary key, in the
 * order of the batch.  The planner knows nothing of how few rows the batch
 * has, nor may statistics make it choose a sequential scan.  The settings are
 * set for the planning only, so that users' triggers do not run with them, and
 * not through GUC, which would cost more than all else here.
 */
static CachedPlan *
plan_our_way(SPIPlanPtr plan)
{
	PlannerSettings saved = switch_settings(our_settings);
	CachedPlan *volatile cached = NULL;

	PG_TRY();
	{
		cached = SPI_plan_get_cached_plan(plan);
	}
	PG_CATCH();
	{
		(void) switch_settings(saved);
		PG_RE_THROW();
	}
	PG_END_TRY();
	(void) switch_settings(saved);
	return cached;
}

/* The only change of the running action, or NULL if there are several. */
static DocChange *
single_change(void)
{
	DocChange  *found = NULL;

	for (int i = 0; i < running->n; i++)
	{
		if (running->changes[i]->action != running->action)
			continue;
		if (found)
			return NULL;
		found = running->changes[i];
	}
	return found;
}

static void
execute_running(DocTable *table, ChangeAction action)
{
	char	   *name = quote_qualified_identifier(get_namespace_name(RelationGetNamespace(table->rel)),
												  RelationGetRelationName(table->rel));
	DocChange  *single = single_change();
	Datum		values[2];
	SPIPlanPtr	plan;
	CachedPlan *cached;
	int			rc;

	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	if (single)
	{
		values[0] = CStringGetTextDatum(single->id);
		values[1] = JsonbPGetDatum(single->doc ? single->doc : empty_object());
	}
	plan = plan_for(table->info.relid, name, action, single != NULL);
	cached = plan_our_way(plan);
	rc = SPI_execute_plan(plan, single ? values : NULL, NULL, false, 0);
	if (rc < 0)
		elog(ERROR, "could not execute a batch's statement: %s", SPI_result_code_string(rc));
	if (cached)
		ReleaseCachedPlan(cached, CurrentResourceOwner);
	SPI_finish();
}

void
docrep_batch_execute(DocTable *table, DocChange **changes, int n, ChangeAction action)
{
	RunningBatch batch;

	batch.outer = running;
	batch.relid = table->info.relid;
	batch.action = action;
	batch.changes = changes;
	batch.n = n;
	batch.cursor = 0;
	batch.depth = trigger_depth();
	last_seen = 0;
	running = &batch;
	PG_TRY();
	{
		execute_running(table, action);
	}
	PG_FINALLY();
	{
		running = batch.outer;
	}
	PG_END_TRY();
}
