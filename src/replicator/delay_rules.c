/*-------------------------------------------------------------------------
 *
 * delay_rules.c
 *		See delay_rules.h.
 *
 *-------------------------------------------------------------------------
 */
#include "replicator/delay_rules.h"

#define USECS_PER_MS	1000

#define MAX_SLACK		10000
#define MIN_LOOK		100
#define MAX_LOOK		60000
#define MIN_RESOLUTION	1000
#define MIN_ASK_AGAIN	15000

int64
docrep_delay_slack(int64 delay)
{
	return Min(delay / 200, MAX_SLACK);
}

int64
docrep_delay_look_interval(int64 delay)
{
	return Max(Min(delay / 10, MAX_LOOK), MIN_LOOK);
}

int64
docrep_delay_ask_again(int64 delay)
{
	return Max(delay, MIN_ASK_AGAIN) + docrep_delay_slack(delay);
}

bool
docrep_delay_joins_mark(int64 first_seen, int n, int64 now, int more, int64 delay)
{
	int64		resolution = Max(delay / 1000, MIN_RESOLUTION);

	if (n + more > DELAY_MARK_CHANGES || now < first_seen)
		return false;
	return now <= docrep_delay_after(first_seen, resolution);
}

int64
docrep_delay_sooner(int64 a, int64 b)
{
	if (a == 0 || b == 0)
		return a == 0 ? b : a;
	return Min(a, b);
}

int64
docrep_delay_after(int64 at, int64 ms)
{
	if (ms > INT64_MAX / USECS_PER_MS)
		return INT64_MAX;
	ms *= USECS_PER_MS;
	return at > 0 && ms > INT64_MAX - at ? INT64_MAX : at + ms;
}
