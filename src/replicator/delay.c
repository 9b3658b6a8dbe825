/*-------------------------------------------------------------------------
 *
 * delay.c
 *		delay of replication documents: an interval as text.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "datatype/timestamp.h"
#include "replicator/user_ctx.h"
#include "store/errcodes.h"
#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"

#define MS_PER_DAY	(USECS_PER_DAY / 1000)
/* Longer than anybody waits, and short enough for every number that it is carried in. */
#define MAX_DELAY	(INT64CONST(1000) * 366 * MS_PER_DAY)

/* Raise DR400. */
static void
bad_delay(const char *detail)
{
	ereport(ERROR,
			(errcode(ERRCODE_DOCREP_BAD_REQUEST),
			 errmsg("replication field \"delay\" must be an interval that is not negative"),
			 detail ? errdetail_internal("%s", detail) : 0,
			 errhint("For example \"30 minutes\".")));
}

/* Read an interval.  Its input function uses nothing that an error would leave behind. */
static Interval *
read_interval(const char *text)
{
	MemoryContext cxt = CurrentMemoryContext;
	Interval   *volatile interval = NULL;

	PG_TRY();
	{
		interval = DatumGetIntervalP(DirectFunctionCall3(interval_in, CStringGetDatum(text),
														 ObjectIdGetDatum(InvalidOid),
														 Int32GetDatum(-1)));
	}
	PG_CATCH();
	{
		int			sqlstate = geterrcode();

		if (ERRCODE_TO_CATEGORY(sqlstate) != ERRCODE_DATA_EXCEPTION)
			PG_RE_THROW();
		MemoryContextSwitchTo(cxt);
		FlushErrorState();
	}
	PG_END_TRY();
	return interval;
}

int64
docrep_delay_read(const char *text)
{
	Interval   *interval = read_interval(text);
	int64		days;
	int64		ms;

	if (interval == NULL)
		bad_delay(NULL);
#ifdef INTERVAL_NOT_FINITE
	if (INTERVAL_NOT_FINITE(interval))
		bad_delay("It has no end.");
#endif
	days = (int64) interval->month * DAYS_PER_MONTH + interval->day;
	ms = interval->time / 1000;
	if (days > PG_INT64_MAX / (2 * MS_PER_DAY) || days < -(PG_INT64_MAX / (2 * MS_PER_DAY)))
		bad_delay("It is too long.");
	if (ms > PG_INT64_MAX / 2)
		bad_delay("It is too long.");
	ms += days * MS_PER_DAY;
	if (ms < 0)
		bad_delay("It is negative.");
	if (ms > MAX_DELAY)
		bad_delay("It is too long.");
	return ms;
}
