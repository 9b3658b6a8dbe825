/*-------------------------------------------------------------------------
 *
 * test_delay.c
 *		When a change is old enough, and how a delayed replication divides its
 *		time: years of it, under clocks of our own.
 *
 *-------------------------------------------------------------------------
 */
#include "replicator/delay_rules.h"
#include "store/age.h"
#include "unit.h"

#define MS		INT64_C(1000)
#define SECOND	(1000 * MS)
#define HOUR	(3600 * SECOND)
#define YEAR	(365 * 24 * HOUR)

/* any moment but 0 */
#define START	(INT64_C(800000000) * SECOND)

static void
test_age(void)
{
	CHECK(docrep_age_due_in(START, 0, START) == 0);
	CHECK(docrep_age_due_in(START, 1000, START) == SECOND);
	CHECK(docrep_age_due_in(START, 1000, START + SECOND - 1) == 1);
	CHECK(docrep_age_due_in(START, 1000, START + SECOND) == 0);
	CHECK(docrep_age_due_in(START, 1000, START + YEAR) == 0);

	/* what was made in the future waits for longer */
	CHECK(docrep_age_due_in(START + HOUR, 1000, START) == HOUR + SECOND);
	CHECK(docrep_age_due_in(START + HOUR, 0, START) == HOUR);

	/* ms are rounded up, or something would come early */
	CHECK(docrep_age_due_in_ms(START, 1000, START + 1) == 1000);
	CHECK(docrep_age_due_in_ms(START, 1000, START + SECOND - 1) == 1);
	CHECK(docrep_age_due_in_ms(START, 1000, START + SECOND) == 0);
	unit_done("what is young waits for the rest of its time");
}

static void
test_ends_of_time(void)
{
	CHECK(docrep_age_due_in(INT64_MAX, 1000, START) > 100000 * YEAR);
	CHECK(docrep_age_due_in(INT64_MAX, INT64_MAX, INT64_MIN) == INT64_MAX);
	CHECK(docrep_age_due_in(START, INT64_MAX, START) == INT64_MAX);
	CHECK(docrep_age_due_in(START, INT64_MAX / 1000 + 1, START) == INT64_MAX);
	CHECK(docrep_age_due_in(INT64_MIN, 1000, START) == 0);
	CHECK(docrep_age_due_in(INT64_MIN, INT64_MAX, INT64_MAX) == 0);
	CHECK(docrep_age_due_in_ms(START, INT64_MAX, START) > 0);
	CHECK(docrep_age_limit(INT64_MAX, START) == INT64_MIN);
	CHECK(docrep_age_limit(1000, INT64_MIN) == INT64_MIN);
	CHECK(docrep_delay_after(START, INT64_MAX) == INT64_MAX);
	CHECK(docrep_delay_after(INT64_MAX - 5, 1) == INT64_MAX);
	CHECK(docrep_delay_after(-START, 1) == MS - START);
	unit_done("the ends of time");
}

/* What has a time in the future is asked about before that; what is merely young is not. */
static void
test_ask_again(void)
{
	CHECK(docrep_delay_ask_again(0) == 15000);
	CHECK(docrep_delay_ask_again(1000) == 15005);
	for (int64 delay = 15000; delay < INT64_MAX / 4; delay *= 3)
		CHECK(docrep_delay_ask_again(delay) == delay + docrep_delay_slack(delay));
	unit_done("a source is asked again after the delay at the latest");
}

/* Whatever the numbers, what is due after n is not due before it. */
static void
test_any(void)
{
	for (int i = 0; i < 100000; i++)
	{
		int64		modified = START + (int64) unit_random(UINT32_MAX) * 1000;
		int64		now = START + (int64) unit_random(UINT32_MAX) * 1000 + unit_random(1000);
		int64		delay = unit_random(10 * 60 * 1000);
		int64		left = docrep_age_due_in(modified, delay, now);
		int64		left_ms = docrep_age_due_in_ms(modified, delay, now);

		CHECK(left >= 0);
		CHECK((left == 0) == (now >= modified + delay * MS));
		CHECK(docrep_age_due_in(modified, delay, now + left) == 0);
		CHECK(left == 0 || docrep_age_due_in(modified, delay, now + left - 1) == 1);
		CHECK(docrep_age_due_in(modified, delay, now + left_ms * MS) == 0);
		CHECK((left == 0) == (modified <= docrep_age_limit(delay, now)));
	}
	unit_done("due when it is due, and not before");
}

static void
test_skew(void)
{
	CHECK(docrep_clock_skew(START + 5, START, START + 10) == 0);
	CHECK(docrep_clock_skew(START, START, START) == 0);
	CHECK(docrep_clock_skew(START + HOUR, START, START + 10) == HOUR - 10);
	CHECK(docrep_clock_skew(START - HOUR, START, START + 10) == -HOUR);
	unit_done("clocks that agree, are ahead, are behind");
}

static void
test_rules(void)
{
	static const int64 delays[] = {1, 10, 100, 1000, 30000, 1800000, 86400000, INT64_C(31536000000)};

	for (int i = 0; i < (int) (sizeof(delays) / sizeof(delays[0])); i++)
	{
		int64		look = docrep_delay_look_interval(delays[i]);
		int64		slack = docrep_delay_slack(delays[i]);

		CHECK(look >= 100 && look <= 60000);
		CHECK(slack >= 0 && slack <= 10000 && slack * 200 <= delays[i]);
	}
	CHECK(docrep_delay_look_interval(2000) == 200);
	CHECK(docrep_delay_look_interval(1800000) == 60000);
	CHECK(docrep_delay_slack(1800000) == 9000);
	CHECK(docrep_delay_sooner(0, 5) == 5);
	CHECK(docrep_delay_sooner(5, 0) == 5);
	CHECK(docrep_delay_sooner(7, 5) == 5);
	CHECK(docrep_delay_sooner(0, 0) == 0);
	unit_done("intervals");
}

/*
 * A year of looks at a source that changes at each of them: marks are bounded in number,
 * hold no more than they may, and what they hold is never taken to be older than it is.
 */
static void
simulate_marks(int64 delay, int per_look)
{
	int64		look = docrep_delay_look_interval(delay) * MS;
	int64		first = 0;
	int			n = 0;
	int			marks = 0;

	for (int64 now = START; now < START + delay * MS; now += look)
	{
		if (n > 0 && docrep_delay_joins_mark(first, n, now, per_look, delay))
		{
			n += per_look;
			CHECK(n <= DELAY_MARK_CHANGES);
			CHECK(now - first <= Max(delay * MS / 1000, SECOND));
			continue;
		}
		marks++;
		first = now;
		n = per_look;
	}
	CHECK(marks <= 1001 + (int) (delay * MS / look * per_look / (DELAY_MARK_CHANGES / 2)));
}

static void
test_marks(void)
{
	CHECK(docrep_delay_joins_mark(START, 1, START, 1, 2000));
	CHECK(docrep_delay_joins_mark(START, 1, START + SECOND, 1, 2000));
	CHECK(!docrep_delay_joins_mark(START, 1, START + SECOND + 1, 1, 2000));
	CHECK(!docrep_delay_joins_mark(START, DELAY_MARK_CHANGES, START, 1, 2000));
	CHECK(!docrep_delay_joins_mark(START, 1, START - 1, 1, 2000));	/* the clock was set back */
	simulate_marks(1000, 1);
	simulate_marks(30 * 60 * 1000, 10);
	simulate_marks(INT64_C(7) * 86400 * 1000, 1);
	simulate_marks(INT64_C(30) * 86400 * 1000, 3);
	simulate_marks(INT64_C(365) * 86400 * 1000, 1);
	unit_done("marks are bounded in number, and never too old");
}

int
main(int argc, char **argv)
{
	unit_seed(unit_choose_seed(argc, argv));
	test_age();
	test_ends_of_time();
	test_ask_again();
	test_any();
	test_skew();
	test_rules();
	test_marks();
	return unit_exit();
}
