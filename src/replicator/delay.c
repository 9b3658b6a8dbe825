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
/* No month and no year is longer: nothing may come early in any of them. */
#define DELAY_DAYS_PER_MONTH	31
#define DELAY_DAYS_PER_YEAR		366
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

/* The days of an interval. */
static int64
interval_days(const Interval *interval)
{
	int64		months = interval->month;

	return months / MONTHS_PER_YEAR * DELAY_DAYS_PER_YEAR +
		months % MONTHS_PER_YEAR * DELAY_DAYS_PER_MONTH + interval->day;
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
	days = interval_days(interval);
	/* up: a part of one is not nothing, and neither is it less than nothing */
	ms = interval->time / 1000 + (interval->time % 1000 > 0 ? 1 : 0) -
		(interval->time % 1000 < 0 ? 1 : 0);
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
