/*-------------------------------------------------------------------------
 *
 * keeper_report.c
 *		What became of a task, written into its row.
 *
 * The members _replication_* of the document change, and neither its revision
 * nor its sequence number: nobody's _rev becomes stale, and nothing replicates.
 * So the row is changed below the executor and its triggers.  A row that
 * a session has locked is left for later.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "scheduler/keeper.h"
#include "store/companion.h"
#include "store/internal_sql.h"
#include "store/jsonb_raw.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

/* Rows that a transaction writes; sessions may wait for it to end. */
#define ROWS_AT_A_TIME	200

#define PREFIX "_replication_"

/* RFC 3339, in UTC. */
static char *
now_text(void)
{
	pg_time_t	now = timestamptz_to_time_t(GetCurrentTimestamp());
	char		buffer[64];

	pg_strftime(buffer, sizeof(buffer), "%Y-%m-%dT%H:%M:%SZ", pg_gmtime(&now));
	return pstrdup(buffer);
}

/* The document as the report has it. */
static Jsonb *
document_with(Jsonb *document, const KeeperReport *report)
{
	RawBuilder	out;
	RawCursor	cursor;
	RawMember	member;

	docrep_raw_begin(&cursor, &document->root);
	docrep_raw_init(&out, true, cursor.n + 5);
	while (docrep_raw_next(&cursor, &member))
	{
		if (member.keylen < strlen(PREFIX) || memcmp(member.key, PREFIX, strlen(PREFIX)) != 0)
			docrep_raw_add_member(&out, &member);
	}
	if (report->replication_id)
		docrep_raw_add_text(&out, PREFIX "id", report->replication_id);
	docrep_raw_add_text(&out, PREFIX "state", report->shown);
	docrep_raw_add_text(&out, PREFIX "state_time", now_text());
	if (report->reason)
		docrep_raw_add_text(&out, PREFIX "state_reason", report->reason);
	if (report->stats)
		docrep_raw_add_jsonb(&out, PREFIX "stats", report->stats);
	return docrep_raw_finish(&out);
}

/* Lock the rows of these reports that nobody else has locked; their ids, sorted. */
static char **
lock_rows(List *reports, int *n)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[] = {TEXTARRAYOID};
	Datum		values[1];
	Datum	   *ids = palloc(sizeof(Datum) * list_length(reports));
	char	  **result;
	int			count = 0;
	MemoryContext caller = CurrentMemoryContext;
	InternalSql sql;
	ListCell   *lc;

	foreach(lc, reports)
		ids[count++] = CStringGetTextDatum(((KeeperReport *) lfirst(lc))->id);
	values[0] = PointerGetDatum(construct_array(ids, count, TEXTOID, -1, false, TYPALIGN_INT));
	docrep_internal_begin(&sql);
	docrep_internal_execute(&plan,
							"SELECT _id FROM docrep.replicator WHERE _id = ANY ($1)"
							" ORDER BY _id FOR NO KEY UPDATE SKIP LOCKED",
							1, types, values, NULL, false, 0);
	MemoryContextSwitchTo(caller);
	*n = (int) SPI_processed;
	result = palloc(sizeof(char *) * Max(*n, 1));
	for (int i = 0; i < *n; i++)
		result[i] = SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1);
	docrep_internal_end(&sql);
	return result;
}

static int
compare_ids(const void *a, const void *b)
{
	return strcmp(*(char *const *) a, *(char *const *) b);
}

/* The same in docrep.task_state. */
static void
write_state(const KeeperReport *report)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[] = {TEXTOID, INT8OID, TEXTOID, TEXTOID, TEXTOID, JSONBOID, TEXTOID};
	Datum		values[7] = {0};
	char		nulls[] = "       ";
	InternalSql sql;

	values[0] = CStringGetTextDatum(report->id);
	values[1] = Int64GetDatum(report->version);
	values[2] = CStringGetTextDatum(report->shown);
	if (report->reason)
		values[3] = CStringGetTextDatum(report->reason);
	if (report->replication_id)
		values[4] = CStringGetTextDatum(report->replication_id);
	if (report->stats)
		values[5] = JsonbPGetDatum(report->stats);
	if (report->state)
		values[6] = CStringGetTextDatum(report->state);
	nulls[3] = report->reason ? ' ' : 'n';
	nulls[4] = report->replication_id ? ' ' : 'n';
	nulls[5] = report->stats ? ' ' : 'n';
	nulls[6] = report->state ? ' ' : 'n';
	docrep_internal_begin(&sql);
	docrep_internal_execute(&plan,
							"UPDATE docrep.task_state SET shown = $3, reason = $4,"
							" replication_id = coalesce($5, replication_id), stats = $6, state = $7,"
							" retry_at = CASE WHEN $7 = 'error' THEN retry_at END,"
							" last_updated = clock_timestamp() WHERE id = $1 AND version = $2",
							7, types, values, nulls, false, 0);
	docrep_internal_end(&sql);
}

/*
 * Update a row.  What the table's owner may have put into its indexes is
 * evaluated with the owner's privileges, and cannot get at those of this
 * process: not by becoming another role, and not later.
 */
static void
update_row(DocTable *table, ItemPointer tid, HeapTuple tuple)
{
	Oid			user;
	int			context;
	int			level = NewGUCNestLevel();

	/* an error ends the process */
	GetUserIdAndSecContext(&user, &context);
	SetUserIdAndSecContext(table->rel->rd_rel->relowner, context | SECURITY_RESTRICTED_OPERATION);
	docrep_row_update(table, table->rel, tid, tuple);
	AtEOXact_GUC(false, level);
	SetUserIdAndSecContext(user, context);
}

/* Write one row, which is locked; nothing if it is another version of the task. */
static void
write_row(DocTable *table, const KeeperReport *report)
{
	TupleTableSlot *slot = docrep_find_row(table, DOC_IN_REL, GetLatestSnapshot(), report->id);
	TupleDesc	desc = RelationGetDescr(table->rel);
	int			column = table->info.a_doc;
	bool		isnull;
	Datum		value;
	HeapTuple	tuple;
	ItemPointerData tid;

	if (slot == NULL ||
		DatumGetInt64(slot_getattr(slot, table->info.a_seq, &isnull)) != report->version)
		return;
	value = slot_getattr(slot, column, &isnull);
	value = JsonbPGetDatum(document_with(DatumGetJsonbP(value), report));
	isnull = false;
	tid = slot->tts_tid;
	tuple = ExecCopySlotHeapTuple(slot);
	tuple = heap_modify_tuple_by_cols(tuple, desc, 1, &column, &value, &isnull);
	update_row(table, &tid, tuple);
	write_state(report);
}

/* Write some reports in a transaction; *left gets the ids of those that could not be. */
static void
write_some(List *reports, List **left)
{
	char	  **ids;
	int			n;
	DocTable   *table;
	List	   *written = NIL;
	MemoryContext caller = CurrentMemoryContext;
	ListCell   *lc;

	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	ids = lock_rows(reports, &n);
	table = docrep_table_open(docrep_replicator_relid(), RowExclusiveLock, 0);
	foreach(lc, reports)
	{
		KeeperReport *report = lfirst(lc);
		bool		locked = bsearch(&report->id, ids, n, sizeof(char *), compare_ids) == NULL;
		MemoryContext old;

		if (!locked)
			write_row(table, report);
		old = MemoryContextSwitchTo(caller);
		if (locked)
			*left = lappend(*left, unconstify(char *, report->id));
		else
			written = lappend(written, report);
		MemoryContextSwitchTo(old);
	}
	docrep_table_close(table, NoLock);
	PopActiveSnapshot();
	CommitTransactionCommand();
	MemoryContextSwitchTo(caller);
	foreach(lc, written)
	{
		KeeperReport *report = lfirst(lc);

		if (report->has_job)
			docrep_job_reported(report->ref, report->job_state, report->start_no);
	}
}

List *
docrep_keeper_write(List *reports)
{
	List	   *left = NIL;

	for (int from = 0; from < list_length(reports); from += ROWS_AT_A_TIME)
	{
		List	   *some = NIL;

		for (int i = from; i < Min(from + ROWS_AT_A_TIME, list_length(reports)); i++)
			some = lappend(some, list_nth(reports, i));
		CHECK_FOR_INTERRUPTS();
		write_some(some, &left);
	}
	return left;
}
