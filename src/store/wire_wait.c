/*-------------------------------------------------------------------------
 *
 * wire_wait.c
 *		How a Postgres peer waits for changes: the wait itself, and that for one
 *		table.  That for many is in wire_wait_many.c.
 *
 * Both are procedures: they commit first, and wait without snapshot, xid and
 * locks.  What the client sends next ends the wait.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

/*
 * Of struct Port only the socket is wanted, its first member: the headers of
 * Kerberos and OpenSSL, which libpq-be.h would ask for, need not be there.
 */
#undef ENABLE_GSS
#undef USE_OPENSSL

#include "access/htup_details.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "libpq/libpq-be.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/latch.h"
#include "store/errcodes.h"
#include "store/wire_wait.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

PG_FUNCTION_INFO_V1(docrep_peer_wait);

void
docrep_wait_require_nonatomic(FunctionCallInfo fcinfo, const char *name)
{
	if (fcinfo->context == NULL || !IsA(fcinfo->context, CallContext) ||
		castNode(CallContext, fcinfo->context)->atomic)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TRANSACTION_TERMINATION),
				 errmsg("docrep.%s cannot be called in a transaction block", name)));
}

void
docrep_wait_require_arg(FunctionCallInfo fcinfo, int i)
{
	if (PG_ARGISNULL(i))
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_BAD_REQUEST),
				 errmsg("argument %d of a peer's request is null", i + 1)));
}

Datum
docrep_wait_result(FunctionCallInfo fcinfo, Datum value)
{
	TupleDesc	tupdesc;
	bool		isnull = false;

	if (get_call_result_type(fcinfo, NULL, &tupdesc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(tupdesc), &value, &isnull));
}

bool
docrep_wait_sleep(TimestampTz deadline, long at_most)
{
	pgsocket	client = MyProcPort != NULL ? MyProcPort->sock : PGINVALID_SOCKET;
	int			events = WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH;
	long		left = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), deadline);
	int			happened;

	if (left <= 0)
		return false;

	/* nothing may hold back vacuum meanwhile */
	InvalidateCatalogSnapshot();
	if (client != PGINVALID_SOCKET)
		events |= WL_SOCKET_READABLE;
	happened = WaitLatchOrSocket(MyLatch, events, client,
								 at_most > 0 ? Min(left, at_most) : left, PG_WAIT_EXTENSION);
	if (happened & WL_SOCKET_READABLE)
		return false;
	if (happened & WL_LATCH_SET)
	{
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
	return true;
}

/* Wait for a change: true, or false when the wait ended for another reason. */
static bool
wait_for_change(const DocrepWatch *watch, TimestampTz deadline)
{
	do
	{
		if (docrep_watch_changed(watch))
			return true;
	} while (docrep_wait_sleep(deadline, 0));
	return false;
}

/*
 * peer_wait(tbl uuid, since text, timeout_ms int, INOUT changed bool), a
 * procedure.
 */
Datum
docrep_peer_wait(PG_FUNCTION_ARGS)
{
	DocrepWatch watch;
	volatile bool changed = false;
	int			timeout;

	for (int i = 0; i < 3; i++)
		docrep_wait_require_arg(fcinfo, i);
	timeout = Min(Max(PG_GETARG_INT32(2), 0), MAX_WAIT);
	docrep_wait_require_nonatomic(fcinfo, "peer_wait");

	docrep_watch_begin(&watch, PG_GETARG_UUID_P(0),
					   text_to_cstring(PG_GETARG_TEXT_PP(1)));
	PG_TRY();
	{
		SPI_connect_ext(SPI_OPT_NONATOMIC);
		SPI_commit();
		changed = wait_for_change(&watch,
								  TimestampTzPlusMilliseconds(GetCurrentTimestamp(), timeout));
		SPI_finish();
	}
	PG_FINALLY();
	{
		docrep_watch_end(&watch);
	}
	PG_END_TRY();
	PG_RETURN_DATUM(docrep_wait_result(fcinfo, BoolGetDatum(changed)));
}
