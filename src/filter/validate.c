/*-------------------------------------------------------------------------
 *
 * validate.c
 *		Who validates the writes of a document table, and asking them.
 *
 * A backend keeps what it has found of a table for as long as the table's description
 * is valid, which ends when a design document of it is written or
 * docrep.set_validator() is called: by this transaction at the end of the command, by
 * others with their commit.  What is found is what is committed now, and this
 * transaction's own, whatever its snapshot.
 *
 * The SQL function is asked first, then the design documents in the order of their
 * ids; whoever refuses a document first gives the reason.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/stratnum.h"
#include "access/tableam.h"
#include "catalog/pg_collation.h"
#include "compat.h"
#include "executor/tuptable.h"
#include "filter/user_context.h"
#include "filter/validate.h"
#include "store/companion.h"
#include "store/errcodes.h"
#include "store/sql_support.h"
#include "store/table_settings.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

/* The validators of a table. */
typedef struct ValidatorSet
{
	MemoryContext cxt;
	uint64		generation;		/* of the table's description */
	ValidatorFunction *function;	/* or NULL */
	List	   *designs;		/* ValidatorDesign *, in order of id */
	int			users;			/* calls that are asking it */
	bool		obsolete;		/* goes with the last of them */
} ValidatorSet;

typedef struct SetEntry
{
	Oid			relid;			/* key */
	ValidatorSet *set;
} SetEntry;

static bool validation = true;	/* docrep.validation */
static HTAB *sets = NULL;

/* ---------- finding them ---------- */

static bool
is_empty(const ValidatorSet *set)
{
	return set->function == NULL && set->designs == NIL;
}

/* Take the design documents that validate into a set, in its context. */
static void
read_designs(DocTable *table, ValidatorSet *set)
{
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	Relation	index = index_open(table->info.pk_oid, AccessShareLock);
	TupleTableSlot *slot = table_slot_create(table->rel, NULL);
	MemoryContext row_cxt = AllocSetContextCreate(CurrentMemoryContext, "docrep design document",
												  ALLOCSET_DEFAULT_SIZES);
	IndexScanDesc scan = docrep_index_beginscan(table->rel, index, snapshot, 2);
	ScanKeyData keys[2];

	ScanKeyEntryInitialize(&keys[0], 0, 1, BTGreaterEqualStrategyNumber, InvalidOid,
						   C_COLLATION_OID, F_TEXT_GE, CStringGetTextDatum("_design/"));
	ScanKeyEntryInitialize(&keys[1], 0, 1, BTLessStrategyNumber, InvalidOid,
						   C_COLLATION_OID, F_TEXT_LT, CStringGetTextDatum("_design0"));
	index_rescan(scan, keys, 2, NULL, 0);
	while (index_getnext_slot(scan, ForwardScanDirection, slot))
	{
		MemoryContext old = MemoryContextSwitchTo(row_cxt);
		bool		isnull;
		char	   *id = TextDatumGetCString(slot_getattr(slot, table->info.a_id, &isnull));
		DocState	state;
		ValidatorDesign *design;

		docrep_state_from_slot(table, false, slot, DOCSTATE_BODY, &state);
		docrep_state_unmark(table, snapshot, id, &state);
		MemoryContextSwitchTo(set->cxt);
		design = docrep_validator_design_make(id, state.doc);
		if (design)
			set->designs = lappend(set->designs, design);
		MemoryContextSwitchTo(old);
		MemoryContextReset(row_cxt);
	}
	index_endscan(scan);
	MemoryContextDelete(row_cxt);
	ExecDropSingleTupleTableSlot(slot);
	index_close(index, AccessShareLock);
	UnregisterSnapshot(snapshot);
}

/* Look for the validators of a table. */
static ValidatorSet *
find_validators(Relation rel, uint64 generation)
{
	MemoryContext cxt = AllocSetContextCreate(CurrentMemoryContext, "docrep validators",
											  ALLOCSET_SMALL_SIZES);
	ValidatorSet *set = MemoryContextAllocZero(cxt, sizeof(ValidatorSet));
	DocTable   *table = docrep_table_attach(rel);
	TableSettings *settings = docrep_settings_read(&table->info.uuid);

	set->cxt = cxt;
	set->generation = generation;
	if (settings->validator)
	{
		MemoryContext old = MemoryContextSwitchTo(cxt);

		set->function = docrep_validator_function_make(settings->validator);
		MemoryContextSwitchTo(old);
	}
	read_designs(table, set);
	docrep_table_close(table, NoLock);
	MemoryContextSetParent(cxt, CacheMemoryContext);
	return set;
}

static void
discard(ValidatorSet *set)
{
	if (set->users > 0)
		set->obsolete = true;
	else
		MemoryContextDelete(set->cxt);
}

static void
make_sets(void)
{
	HASHCTL		ctl = {0};

	ctl.keysize = sizeof(Oid);
	ctl.entrysize = sizeof(SetEntry);
	ctl.hcxt = CacheMemoryContext;
	sets = hash_create("docrep validators", 16, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

/* Put what has been found in the place of what was. */
static void
keep(Oid relid, ValidatorSet *set)
{
	bool		found;
	SetEntry   *entry = hash_search(sets, &relid, HASH_ENTER, &found);
	ValidatorSet *former = found ? entry->set : NULL;

	entry->set = set;
	if (former)
		discard(former);
}

/* The validators of a table as of now. */
static ValidatorSet *
validators_of(Relation rel)
{
	Oid			relid = RelationGetRelid(rel);
	uint64		generation = docrep_table_info(rel)->generation;
	SetEntry   *entry;
	ValidatorSet *set;

	if (sets == NULL)
		make_sets();
	entry = hash_search(sets, &relid, HASH_FIND, NULL);
	if (entry && entry->set->generation == generation)
		return entry->set;
	set = find_validators(rel, generation);
	keep(relid, set);
	docrep_table_note_validated(relid, generation, !is_empty(set));
	return set;
}

/* ---------- asking ---------- */

void
docrep_validate_refuse(ValidationRun *run, DocValidation *doc, int sqlstate, const char *reason,
					   const char *by)
{
	if (!run->isolate)
		ereport(ERROR,
				(errcode(sqlstate),
				 errmsg("%s", reason),
				 errdetail("%s refused document \"%s\".", by, doc->id)));
	doc->sqlstate = sqlstate;
	doc->reason = pstrdup(reason);
}

static void
ask_set(ValidatorSet *set, ValidationRun *run)
{
	ListCell   *cell;

	if (set->function)
		docrep_validator_function_ask(set->function, run);
	foreach(cell, set->designs)
		docrep_validator_design_ask(lfirst(cell), run);
}

/* DocValidators.ask */
static void
ask(DocTable *table, DocValidation *docs, int n, bool isolate)
{
	ValidatorSet *volatile set = validators_of(table->rel);
	ValidationRun run = {.table = table, .docs = docs, .n = n, .isolate = isolate};

	run.user_ctx = docrep_user_context(table);
	run.sec_obj = docrep_security_object(table);
	set->users++;
	PG_TRY();
	{
		ask_set(set, &run);
	}
	PG_FINALLY();
	{
		set->users--;
		if (set->obsolete)
			discard(set);
	}
	PG_END_TRY();
}

/* DocValidators.wanted */
static bool
wanted(Relation rel)
{
	return validation && !is_empty(validators_of(rel));
}

/* DocValidators.check_design */
static void
check_design(const char *id, Jsonb *body)
{
	if (validation)
		docrep_validator_design_check(id, body);
}

static const DocValidators validators = {
	.wanted = wanted,
	.ask = ask,
	.check_design = check_design
};

void
docrep_validate_define_gucs(void)
{
	DefineCustomBoolVariable("docrep.validation",
							 "Validates documents that are written.",
							 "Off: neither validate_doc_update of design documents nor what "
							 "docrep.set_validator() has set is asked.",
							 &validation,
							 true,
							 PGC_SUSET, 0,
							 NULL, NULL, NULL);
	docrep_validators = &validators;
}

/* ---------- docrep.validators() ---------- */

/* Put a row into the result. */
static void
return_validator(Tuplestorestate *store, TupleDesc desc, const char *name, const char *kind,
				 const char *problem)
{
	Datum		values[3] = {0};
	bool		nulls[3] = {false, false, problem == NULL};

	values[0] = CStringGetTextDatum(name);
	values[1] = CStringGetTextDatum(kind);
	if (problem)
		values[2] = CStringGetTextDatum(problem);
	tuplestore_putvalues(store, desc, values, nulls);
}

PG_FUNCTION_INFO_V1(docrep_validators_list);

/* docrep.validators(tbl regclass): who validates writes, in the order in which they are asked. */
Datum
docrep_validators_list(PG_FUNCTION_ARGS)
{
	TupleDesc	desc;
	Tuplestorestate *store = docrep_srf_begin(fcinfo, &desc);
	DocTable   *table = docrep_table_open(docrep_arg_table(fcinfo, 0), AccessShareLock, ACL_SELECT);
	ValidatorSet *set = find_validators(table->rel, 0);
	ListCell   *cell;

	MemoryContextSetParent(set->cxt, CurrentMemoryContext);
	if (set->function)
		return_validator(store, desc, docrep_validator_function_signature(set->function), "function",
						 docrep_validator_function_problem(set->function));
	foreach(cell, set->designs)
	{
		ValidatorDesign *design = lfirst(cell);

		return_validator(store, desc, design->id, "design document",
						 docrep_validator_design_problem(design));
	}
	MemoryContextDelete(set->cxt);
	docrep_table_close(table, NoLock);
	return (Datum) 0;
}
