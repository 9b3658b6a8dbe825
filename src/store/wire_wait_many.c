/*-------------------------------------------------------------------------
 *
 * wire_wait_many.c
 *		How a Postgres peer waits for changes of many tables.
 *
 * It is for a process that waits in the place of many replications.  The
 * session keeps the list of what is waited for from call to call, so that a
 * call says only what has changed of it, and one of 1,000 tables costs the
 * others nothing when it changes.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "storage/latch.h"
#include "store/errcodes.h"
#include "store/seqs.h"
#include "store/wire_wait.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/resowner.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

PG_FUNCTION_INFO_V1(docrep_peer_wait_many);

/* tables of one session */
#define MAX_WAITED		100000

/* how often it is looked whether tables are still there, and may be read, in ms */
#define REVIEW_INTERVAL	300000

/* the catalog caches are emptied after so many looks at tables */
#define TABLES_IN_CACHES	200

/* share of docrep.max_open_writes that one session takes for its waits */
#define SHARE_OF_SLOTS	8

/* A table of peer_wait_many; one table may be waited for more than once. */
typedef struct Waited
{
	int64		number;			/* hash key: what the client calls it */
	DocrepWatch watch;
	uint64		commits;		/* when it was looked at last */
	bool		registered;		/* commits set our latch */
	bool		found;			/* the client shall look */
} Waited;

static HTAB *waited = NULL;		/* in TopMemoryContext */
static int	nregistered = 0;
static int	npolled = 0;
static TimestampTz reviewed = 0;

/* ---------- many tables: what is done for one, and may fail ---------- */

/* What look() does with a table. */
typedef enum Look
{
	LOOK_BEGIN,					/* find it, check SELECT, read the client's seq */
	LOOK_REGISTER,				/* have commits set our latch */
	LOOK_CHANGED,				/* is there something after the seq? */
	LOOK_REVIEW					/* the same, and is it still there, and may it be read? */
} Look;

/* Do one of these; returns whether the client shall look. */
static bool
look_inside(Waited *w, Look what, const char *since)
{
	DocTable   *table;

	switch (what)
	{
		case LOOK_BEGIN:
			table = docrep_serve_open(&w->watch.info.uuid, AccessShareLock, ACL_SELECT);
			w->watch.info = table->info;
			docrep_table_close(table, AccessShareLock);
			w->watch.since = docrep_seq_parse(&w->watch.info, since);
			return false;
		case LOOK_REGISTER:
			docrep_wait_register(&w->watch.info);
			return false;
		case LOOK_REVIEW:
			table = docrep_serve_open(&w->watch.info.uuid, AccessShareLock, ACL_SELECT);
			docrep_table_close(table, AccessShareLock);
			break;
		case LOOK_CHANGED:
			break;
	}
	return docrep_watch_changed(&w->watch);
}

/*
 * Catalog caches keep what they have learnt of each table for ever: some 60 kB.
 * A session that has to do with 1,000 of them for a moment each lets go of it now
 * and then.
 */
static void
trim_caches(void)
{
	static int	looked = 0;

	if (++looked < TABLES_IN_CACHES)
		return;
	looked = 0;
	InvalidateSystemCaches();
}

/*
 * The same in a subtransaction of its own: one table's failure is not the
 * others'.  Returns 1: the client shall look; 0: not; -1: it failed, which is
 * for the client to see when it looks.
 */
static int
look(Waited *w, Look what, const char *since)
{
	MemoryContext cxt = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	volatile int result = -1;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(cxt);
	PG_TRY();
	{
		result = look_inside(w, what, since) ? 1 : 0;
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(cxt);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(cxt);
		CurrentResourceOwner = owner;
		if (error->sqlerrcode == ERRCODE_QUERY_CANCELED)
			ReThrowError(error);
		FreeErrorData(error);
		result = -1;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(cxt);
	CurrentResourceOwner = owner;
	trim_caches();
	return result;
}

/* ---------- many tables: the list ---------- */

/* Is a table waited for under another number, too? */
static bool
is_shared(const Waited *w)
{
	HASH_SEQ_STATUS scan;
	Waited	   *other;

	hash_seq_init(&scan, waited);
	while ((other = hash_seq_search(&scan)) != NULL)
	{
		if (other != w && other->registered &&
			memcmp(&other->watch.info.uuid, &w->watch.info.uuid, sizeof(pg_uuid_t)) == 0)
		{
			hash_seq_term(&scan);
			return true;
		}
	}
	return false;
}

/* Wait for it no longer.  Cannot fail. */
static void
forget(Waited *w)
{
	if (w->registered)
	{
		if (!is_shared(w))
			docrep_watch_end(&w->watch);
		nregistered--;
	}
	else
		npolled--;
	(void) hash_search(waited, &w->number, HASH_REMOVE, NULL);
}

static void
forget_all(void)
{
	HASH_SEQ_STATUS scan;
	Waited	   *w;

	if (waited == NULL)
		return;
	hash_seq_init(&scan, waited);
	while ((w = hash_seq_search(&scan)) != NULL)
		if (w->registered)
			docrep_watch_end(&w->watch);
	hash_destroy(waited);
	waited = NULL;
	nregistered = npolled = 0;
}

/* How many slots this session may take: others' writes need them, too. */
static int
registrations_allowed(void)
{
	const char *all = GetConfigOption("docrep.max_open_writes", true, false);

	return all ? atoi(all) / SHARE_OF_SLOTS : 0;
}

/* Wait for a table, from a seq on. */
static void
add(int64 number, const pg_uuid_t *table, const char *since)
{
	bool		there;
	Waited	   *w = hash_search(waited, &number, HASH_ENTER, &there);

	if (there)
	{
		forget(w);
		w = hash_search(waited, &number, HASH_ENTER, NULL);
	}
	memset(&w->watch, 0, sizeof(w->watch));
	w->watch.info.uuid = *table;
	w->registered = w->found = false;
	w->commits = 0;
	npolled++;
	if (look(w, LOOK_BEGIN, since) < 0)
	{
		w->found = true;
		return;
	}
	/* where nobody can wake us for it, it is looked at now and then */
	if (nregistered < registrations_allowed() && look(w, LOOK_REGISTER, NULL) == 0)
	{
		w->registered = true;
		nregistered++;
		npolled--;
	}
	w->commits = docrep_watch_commits(&w->watch);
	w->found = look(w, LOOK_CHANGED, NULL) != 0;
}

/* Look at tables with new commits, or at all; returns whether any is found. */
static bool
look_at_all(bool review)
{
	HASH_SEQ_STATUS scan;
	Waited	   *w;
	bool		found = false;

	hash_seq_init(&scan, waited);
	while ((w = hash_seq_search(&scan)) != NULL)
	{
		uint64		commits;

		if (!w->found && (commits = docrep_watch_commits(&w->watch)) != w->commits)
		{
			w->commits = commits;
			w->found = look(w, LOOK_CHANGED, NULL) != 0;
		}
		if (!w->found && review)
			w->found = look(w, LOOK_REVIEW, NULL) != 0;
		found = found || w->found;
	}
	return found;
}

/* ---------- many tables: the call ---------- */

/* The elements of an array argument that holds no NULLs, of fixed or varying length. */
static Datum *
array_elements(FunctionCallInfo fcinfo, int arg, Oid type, int len, bool by_value, char align,
			   int *n)
{
	Datum	   *elements;
	bool	   *nulls;

	docrep_wait_require_arg(fcinfo, arg);
	deconstruct_array(PG_GETARG_ARRAYTYPE_P(arg), type, len, by_value, align,
					  &elements, &nulls, n);
	for (int i = 0; i < *n; i++)
		if (nulls[i])
			ereport(ERROR,
					(errcode(ERRCODE_DOCREP_BAD_REQUEST),
					 errmsg("argument %d of a peer's request holds a null", arg + 1)));
	return elements;
}

/* Bring the list up to date with what the call says. */
static void
take_list(FunctionCallInfo fcinfo)
{
	int			nnumbers;
	int			ntables;
	int			nsinces;
	Datum	   *numbers = array_elements(fcinfo, 1, INT8OID, 8, FLOAT8PASSBYVAL, TYPALIGN_DOUBLE,
										 &nnumbers);
	Datum	   *tables = array_elements(fcinfo, 2, UUIDOID, UUID_LEN, false, TYPALIGN_CHAR,
										&ntables);
	Datum	   *sinces = array_elements(fcinfo, 3, TEXTOID, -1, false, TYPALIGN_INT, &nsinces);

	if (ntables != nnumbers || nsinces != nnumbers)
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_BAD_REQUEST),
				 errmsg("the arrays of a peer's request have different lengths")));
	if (PG_ARGISNULL(0))
	{
		forget_all();
		docrep_serve_prepare();
	}
	if (waited == NULL)
	{
		HASHCTL		ctl = {0};

		ctl.keysize = sizeof(int64);
		ctl.entrysize = sizeof(Waited);
		waited = hash_create("docrep waited", 64, &ctl, HASH_ELEM | HASH_BLOBS);
		reviewed = GetCurrentTimestamp();
	}
	if (!PG_ARGISNULL(0))
	{
		int			n;
		Datum	   *gone = array_elements(fcinfo, 0, INT8OID, 8, FLOAT8PASSBYVAL,
										  TYPALIGN_DOUBLE, &n);

		for (int i = 0; i < n; i++)
		{
			int64		number = DatumGetInt64(gone[i]);
			Waited	   *w = hash_search(waited, &number, HASH_FIND, NULL);

			if (w != NULL)
				forget(w);
		}
	}
	if (hash_get_num_entries(waited) + nnumbers > MAX_WAITED)
		ereport(ERROR,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("a peer waits for more than %d tables", MAX_WAITED)));
	for (int i = 0; i < nnumbers; i++)
		add(DatumGetInt64(numbers[i]), DatumGetUUIDP(tables[i]), TextDatumGetCString(sinces[i]));
}

/* Wait until one of the tables is found, or the wait ends for another reason. */
static void
wait_for_any(TimestampTz deadline)
{
	do
	{
		TimestampTz now = GetCurrentTimestamp();
		bool		review = TimestampDifferenceExceeds(reviewed, now, REVIEW_INTERVAL);

		if (review)
			reviewed = now;
		if (look_at_all(review))
			return;
	} while (docrep_wait_sleep(deadline, npolled > 0 ? POLL_INTERVAL : REVIEW_INTERVAL));
}

/* The numbers of the tables that were found, which are not waited for any more. */
static ArrayType *
take_found(void)
{
	int			n = 0;
	Datum	   *numbers = palloc(sizeof(Datum) * (hash_get_num_entries(waited) + 1));
	HASH_SEQ_STATUS scan;
	Waited	   *w;

	hash_seq_init(&scan, waited);
	while ((w = hash_seq_search(&scan)) != NULL)
		if (w->found)
			numbers[n++] = Int64GetDatum(w->number);
	for (int i = 0; i < n; i++)
	{
		int64		number = DatumGetInt64(numbers[i]);

		forget(hash_search(waited, &number, HASH_FIND, NULL));
	}
	return construct_array(numbers, n, INT8OID, 8, FLOAT8PASSBYVAL, TYPALIGN_DOUBLE);
}

/*
 * peer_wait_many(forget bigint[], numbers bigint[], tables uuid[], sinces text[],
 *				  timeout_ms int, INOUT changed bigint[]), a procedure.
 *
 * forget NULL: all that the session has waited for.
 */
Datum
docrep_peer_wait_many(PG_FUNCTION_ARGS)
{
	int			timeout;

	docrep_wait_require_arg(fcinfo, 4);
	timeout = Min(Max(PG_GETARG_INT32(4), 0), MAX_WAIT);
	docrep_wait_require_nonatomic(fcinfo, "peer_wait_many");

	take_list(fcinfo);
	SPI_connect_ext(SPI_OPT_NONATOMIC);
	SPI_commit();
	wait_for_any(TimestampTzPlusMilliseconds(GetCurrentTimestamp(), timeout));
	SPI_finish();
	PG_RETURN_DATUM(docrep_wait_result(fcinfo, PointerGetDatum(take_found())));
}
