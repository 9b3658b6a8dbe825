/*-------------------------------------------------------------------------
 *
 * seen_marks.c
 *		See seen_marks.h.
 *
 * The table is docrep's own, and nobody has privileges on it: ids of documents may be
 * secret.  What is read back was written here, and is read as carefully as what comes
 * from another server.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "pgstat.h"
#include "replicator/delay_rules.h"
#include "replicator/seen_marks.h"
#include "store/internal_sql.h"
#include "store/wire_format.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

/* Marks that belong to no task go after this time. */
#define ABANDONED_AFTER		"90 days"

typedef struct MarkWork MarkWork;

/* What a transaction is to do, and what comes of it, in "cxt". */
struct MarkWork
{
	MemoryContext cxt;
	SeenMarks  *marks;
	const char *text;			/* id or since */
	char	   *since;
	char	   *through;
	DocrepChanges *changes;
	int64		number;
	int64		delay;
};

/* ---------- transactions ---------- */

/* Do something in a transaction of its own; an error has none open. */
static void
in_transaction(void (*work) (MarkWork *), MarkWork *arg)
{
	MemoryContext caller = CurrentMemoryContext;

	arg->cxt = caller;
	PG_TRY();
	{
		SetCurrentStatementStartTimestamp();
		StartTransactionCommand();
		PushActiveSnapshot(GetTransactionSnapshot());
		work(arg);
		PopActiveSnapshot();
		CommitTransactionCommand();
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(caller);
		error = CopyErrorData();
		FlushErrorState();
		AbortOutOfAnyTransaction();
		MemoryContextSwitchTo(caller);
		ReThrowError(error);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(caller);
}

static Datum
column(uint64 row, int number, bool *isnull)
{
	return SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, number, isnull);
}

static int64
int64_at(uint64 row, int number)
{
	bool		isnull;
	Datum		value = column(row, number, &isnull);

	return isnull ? 0 : DatumGetInt64(value);
}

/* A text in the work's context; NULL: it is null. */
static char *
text_at(const MarkWork *work, uint64 row, int number)
{
	bool		isnull;
	Datum		value = column(row, number, &isnull);

	return isnull ? NULL : MemoryContextStrdup(work->cxt, TextDatumGetCString(value));
}

/* ---------- what there is ---------- */

/* How much waits, and what comes next. */
static void
count_waiting(MarkWork *work)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[] = {TEXTOID, INT8OID};
	Datum		values[2];
	SeenMarks  *marks = work->marks;

	values[0] = CStringGetTextDatum(marks->id);
	values[1] = Int64GetDatum(marks->taken);
	docrep_internal_execute(&plan,
							"SELECT coalesce(sum(changes) FILTER (WHERE number > $2), 0)::bigint,"
							" (SELECT seen FROM docrep.delay_marks WHERE replication_id = $1"
							"  AND number > $2 ORDER BY number LIMIT 1), max(number)"
							" FROM docrep.delay_marks WHERE replication_id = $1",
							2, types, values, NULL, false, 0);
	marks->waiting = int64_at(0, 1);
	marks->next_seen = int64_at(0, 2);
	marks->newest = int64_at(0, 3);
}

/* Remove marks up to a number. */
static void
remove_through(const char *id, int64 number)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[] = {TEXTOID, INT8OID};
	Datum		values[2];

	values[0] = CStringGetTextDatum(id);
	values[1] = Int64GetDatum(number);
	docrep_internal_execute(&plan,
							"DELETE FROM docrep.delay_marks WHERE replication_id = $1 AND number <= $2",
							2, types, values, NULL, false, 0);
}

/*
 * The number of the mark that ends at "start", 0 if the first one begins there, -1 if
 * they do not continue from it.
 */
static int64
find_start(const char *id, const char *start)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[] = {TEXTOID, TEXTOID};
	Datum		values[2];

	values[0] = CStringGetTextDatum(id);
	values[1] = CStringGetTextDatum(start);
	docrep_internal_execute(&plan,
							"SELECT coalesce((SELECT max(number) FROM docrep.delay_marks"
							"  WHERE replication_id = $1 AND through_seq = $2),"
							" (SELECT CASE WHEN since_seq = $2 THEN 0 ELSE -1 END"
							"  FROM docrep.delay_marks WHERE replication_id = $1"
							"  ORDER BY number LIMIT 1), -1)",
							2, types, values, NULL, false, 0);
	return int64_at(0, 1);
}

/* Where the first mark begins and the last one ends. */
static void
read_ends(MarkWork *work)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[] = {TEXTOID};
	Datum		values[1];

	values[0] = CStringGetTextDatum(work->marks->id);
	docrep_internal_execute(&plan,
							"SELECT (SELECT since_seq FROM docrep.delay_marks"
							"  WHERE replication_id = $1 ORDER BY number LIMIT 1),"
							" (SELECT through_seq FROM docrep.delay_marks"
							"  WHERE replication_id = $1 ORDER BY number DESC LIMIT 1)",
							1, types, values, NULL, false, 0);
	work->since = text_at(work, 0, 1);
	work->through = text_at(work, 0, 2);
}

/* What was seen long ago, and belongs to no task, is of no use to anybody. */
static void
remove_abandoned(void)
{
	static SPIPlanPtr plan = NULL;

	docrep_internal_execute(&plan,
							"DELETE FROM docrep.delay_marks"
							" WHERE seen < clock_timestamp() - interval '" ABANDONED_AFTER "'"
							" AND NOT EXISTS (SELECT FROM docrep.task_state s"
							"  WHERE split_part(s.replication_id, '+', 1) = delay_marks.replication_id)",
							0, NULL, NULL, NULL, false, 0);
}

static void
open_marks(MarkWork *work)
{
	InternalSql sql;
	int64		passed = 0;

	docrep_internal_begin(&sql);
	remove_abandoned();
	if (work->text)
		passed = find_start(work->marks->id, work->text);
	if (passed != 0)
		remove_through(work->marks->id, passed < 0 ? PG_INT64_MAX : passed);
	read_ends(work);
	count_waiting(work);
	docrep_internal_end(&sql);
}

void
docrep_seen_open(SeenMarks *marks, const char *id, const char *start, char **since,
				 char **through)
{
	MarkWork	work = {.marks = marks, .text = start};

	memset(marks, 0, sizeof(*marks));
	marks->id = id;
	in_transaction(open_marks, &work);
	*since = work.since;
	*through = work.through;
}

/* ---------- adding ---------- */

/* The message that keeps the changes.  Sequences of rows are of no use and may be long. */
static bytea *
pack_changes(DocrepChanges *changes)
{
	for (int i = 0; i < changes->n; i++)
		changes->rows[i].seq = "";
	return docrep_wire_pack_changes(changes, true);
}

/* Unpack a message after what is there already. */
static void
unpack_entries(uint64 row, int number, DocrepChanges *changes)
{
	bool		isnull;
	bytea	   *packed = DatumGetByteaPP(column(row, number, &isnull));
	Size		len = VARSIZE_ANY_EXHDR(packed);
	char	   *data = MemoryContextAlloc(changes->cxt, len + 1);

	memcpy(data, VARDATA_ANY(packed), len);
	docrep_wire_unpack_changes(data, len, changes);
}

/*
 * If the newest mark is a fresh one that has not been taken, the changes go to it: they
 * are appended to its own, of which those that it replaces stay where they are.  True: done.
 */
static bool
add_to_newest(MarkWork *work, TimestampTz now)
{
	static SPIPlanPtr find = NULL;
	static SPIPlanPtr update = NULL;
	Oid			types[] = {TEXTOID, INT8OID, TEXTOID, INT4OID, TIMESTAMPTZOID, BYTEAOID};
	Datum		values[6];
	SeenMarks  *marks = work->marks;
	DocrepChanges both;
	char	   *last_seq = work->changes->last_seq;

	if (marks->newest <= marks->taken)
		return false;
	values[0] = CStringGetTextDatum(marks->id);
	values[1] = Int64GetDatum(marks->newest);
	docrep_internal_execute(&find,
							"SELECT first_seen, changes::bigint, entries FROM docrep.delay_marks"
							" WHERE replication_id = $1 AND number = $2",
							2, types, values, NULL, false, 0);
	if (SPI_processed == 0 ||
		!docrep_delay_joins_mark(int64_at(0, 1), (int) int64_at(0, 2), now, work->changes->n,
								 work->delay))
		return false;
	docrep_changes_init(&both, CurrentMemoryContext);
	unpack_entries(0, 3, &both);
	for (int i = 0; i < work->changes->n; i++)
		*docrep_changes_add(&both) = work->changes->rows[i];
	both.last_seq = last_seq;
	values[2] = CStringGetTextDatum(last_seq);
	values[3] = Int32GetDatum(both.n);
	values[4] = TimestampTzGetDatum(now);
	values[5] = PointerGetDatum(pack_changes(&both));
	docrep_internal_execute(&update,
							"UPDATE docrep.delay_marks SET through_seq = $3, changes = $4, seen = $5,"
							" entries = $6 WHERE replication_id = $1 AND number = $2",
							6, types, values, NULL, false, 0);
	return true;
}

static void
add_mark(MarkWork *work, TimestampTz now)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[] = {TEXTOID, INT8OID, TIMESTAMPTZOID, TEXTOID, TEXTOID, INT4OID, BYTEAOID};
	Datum		values[7];

	values[0] = CStringGetTextDatum(work->marks->id);
	values[1] = Int64GetDatum(Max(work->marks->newest, work->marks->taken) + 1);
	values[2] = TimestampTzGetDatum(now);
	values[3] = CStringGetTextDatum(work->text);
	values[4] = CStringGetTextDatum(work->changes->last_seq);
	values[5] = Int32GetDatum(work->changes->n);
	values[6] = PointerGetDatum(pack_changes(work->changes));
	docrep_internal_execute(&plan,
							"INSERT INTO docrep.delay_marks (replication_id, number, first_seen, seen,"
							" since_seq, through_seq, changes, entries)"
							" VALUES ($1, $2, $3, $3, $4, $5, $6, $7)",
							7, types, values, NULL, false, 0);
}

static void
add_changes(MarkWork *work)
{
	TimestampTz now = GetCurrentTimestamp();
	InternalSql sql;

	docrep_internal_begin(&sql);
	if (!add_to_newest(work, now))
		add_mark(work, now);
	count_waiting(work);
	docrep_internal_end(&sql);
}

void
docrep_seen_add(SeenMarks *marks, const char *since, DocrepChanges *changes, int64 delay)
{
	MarkWork	work = {.marks = marks, .text = since, .changes = changes, .delay = delay};

	in_transaction(add_changes, &work);
}

/* ---------- taking ---------- */

static void
take_mark(MarkWork *work)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[] = {TEXTOID, INT8OID};
	Datum		values[2];
	InternalSql sql;

	values[0] = CStringGetTextDatum(work->marks->id);
	values[1] = Int64GetDatum(work->marks->taken);
	docrep_internal_begin(&sql);
	docrep_internal_execute(&plan,
							"SELECT number, through_seq, entries FROM docrep.delay_marks"
							" WHERE replication_id = $1 AND number > $2 ORDER BY number LIMIT 1",
							2, types, values, NULL, false, 0);
	if (SPI_processed == 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("marks of replication %s have been removed while it ran", work->marks->id)));
	work->number = int64_at(0, 1);
	unpack_entries(0, 3, work->changes);
	work->changes->last_seq = MemoryContextStrdup(work->changes->cxt,
												  text_at(work, 0, 2));
	work->marks->taken = work->number;
	count_waiting(work);
	docrep_internal_end(&sql);
}

int64
docrep_seen_take(SeenMarks *marks, DocrepChanges *changes)
{
	MarkWork	work = {.marks = marks, .changes = changes};

	in_transaction(take_mark, &work);
	return work.number;
}

static void
forget_marks(MarkWork *work)
{
	InternalSql sql;

	docrep_internal_begin(&sql);
	remove_through(work->text, work->number);
	docrep_internal_end(&sql);
}

void
docrep_seen_forget(SeenMarks *marks, int64 through)
{
	MarkWork	work = {.text = marks->id, .number = through};

	in_transaction(forget_marks, &work);
}

void
docrep_seen_clear(const char *id)
{
	MarkWork	work = {.text = id, .number = PG_INT64_MAX};

	in_transaction(forget_marks, &work);
}
