/*-------------------------------------------------------------------------
 *
 * age.c
 *		See age.h.
 *
 *-------------------------------------------------------------------------
 */
#include "store/age.h"

#define USECS_PER_MS	1000

/* a - b, as near to it as an int64 can be */
static int64
minus(int64 a, int64 b)
{
	if (b < 0 && a > INT64_MAX + b)
		return INT64_MAX;
	if (b > 0 && a < INT64_MIN + b)
		return INT64_MIN;
	return a - b;
}

int64
docrep_age_due_in(int64 modified, int64 min_age, int64 now)
{
	int64		age = minus(now, modified);
	int64		wanted = min_age > INT64_MAX / USECS_PER_MS ? INT64_MAX : min_age * USECS_PER_MS;

	return age >= wanted ? 0 : minus(wanted, age);
}

int64
docrep_age_due_in_ms(int64 modified, int64 min_age, int64 now)
{
	int64		left = docrep_age_due_in(modified, min_age, now);

	return left / USECS_PER_MS + (left % USECS_PER_MS != 0);
}

int64
docrep_age_limit(int64 min_age, int64 now)
{
	return min_age > INT64_MAX / USECS_PER_MS ? INT64_MIN : minus(now, min_age * USECS_PER_MS);
}

int64
docrep_clock_skew(int64 theirs, int64 sent, int64 received)
{
	if (theirs < sent)
		return minus(theirs, sent);
	return theirs > received ? minus(theirs, received) : 0;
}
