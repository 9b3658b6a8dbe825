/*-------------------------------------------------------------------------
 *
 * test_pacing.c
 *		When failed jobs are tried again and which jobs give way: days of it,
 *		under a clock of our own.
 *
 *-------------------------------------------------------------------------
 */
#include "scheduler/pacing.h"
#include "unit.h"

#define SECOND	INT64_C(1000000)
#define MINUTE	(60 * SECOND)
#define HOUR	(60 * MINUTE)
#define DAY		(24 * HOUR)

/* any moment but 0 */
#define START	(INT64_C(800000000) * SECOND)

static const PacingLimits limits = {
	.backoff_min = SECOND,
	.backoff_max = MINUTE,
	.cycle_interval = 10 * SECOND,
	.health_threshold = 2 * MINUTE
};

/* Fail n times at "now"; returns the pause that follows. */
static int64
pause_after(int n, uint32 random)
{
	Pacing		pacing = {0};

	for (int i = 0; i < n; i++)
		docrep_pacing_failed(&pacing, &limits, START, random);
	CHECK(pacing.failures == n);
	CHECK(!docrep_pacing_due(&pacing, &limits, pacing.next - 1));
	CHECK(docrep_pacing_due(&pacing, &limits, pacing.next));
	CHECK(docrep_pacing_next(&pacing, &limits) == pacing.next);
	return pacing.next - START;
}

static void
test_exponential(void)
{
	static const int64 expected[] = {1, 2, 4, 8, 16, 32, 60, 60, 60};
	Pacing		pacing = {0};

	CHECK(docrep_pacing_due(&pacing, &limits, START));
	for (int i = 0; i < (int) (sizeof(expected) / sizeof(expected[0])); i++)
	{
		int64		whole = expected[i] * SECOND;
		int64		some = pause_after(i + 1, unit_random(UINT32_MAX));

		CHECK(pause_after(i + 1, 0) == whole);
		CHECK(pause_after(i + 1, UINT32_MAX) == whole - whole / 4);
		CHECK(some <= whole && some >= whole - whole / 4);
	}
	CHECK(pause_after(5000, 0) == MINUTE);
	unit_done("pauses double up to the ceiling, less a quarter at most");
}

/* Limits as an administrator may set them. */
static void
test_odd_limits(void)
{
	PacingLimits odd = {INT64_C(3) << 60, INT64_MAX, 0, 0};
	Pacing		pacing = {0};

	for (int i = 0; i < 100; i++)
		docrep_pacing_failed(&pacing, &odd, 0, 0);
	CHECK(pacing.next == INT64_MAX);

	odd = (PacingLimits)
	{
		10 * SECOND, SECOND, 0, 0
	};
	docrep_pacing_failed(&pacing, &odd, START, 0);
	CHECK(pacing.next == START + 10 * SECOND);	/* a ceiling below the floor */

	pacing = (Pacing)
	{
		.cycles = true
	};
	for (int i = 0; i < 5; i++)
		docrep_pacing_failed(&pacing, &odd, START, 0);
	CHECK(docrep_pacing_due(&pacing, &odd, START + 5));
	unit_done("odd settings");
}

static void
test_health(void)
{
	Pacing		pacing = {0};

	for (int i = 0; i < 5; i++)
		docrep_pacing_failed(&pacing, &limits, START, 0);
	/* trying to reach the peers for an hour is no health */
	docrep_pacing_failed(&pacing, &limits, START + HOUR, 0);
	CHECK(pacing.failures == 6);
	/* a run that stood for less than the threshold, exactly as long, and longer */
	docrep_pacing_opened(&pacing, START + 2 * HOUR);
	docrep_pacing_failed(&pacing, &limits, START + 2 * HOUR + MINUTE, 0);
	CHECK(pacing.failures == 7);
	docrep_pacing_opened(&pacing, START + 3 * HOUR);
	docrep_pacing_failed(&pacing, &limits, START + 3 * HOUR + 2 * MINUTE, 0);
	CHECK(pacing.failures == 8);
	docrep_pacing_opened(&pacing, START + 4 * HOUR);
	docrep_pacing_failed(&pacing, &limits, START + 4 * HOUR + 2 * MINUTE + 1, 0);
	CHECK(pacing.failures == 1);
	CHECK(pacing.next == START + 4 * HOUR + 2 * MINUTE + 1 + SECOND);
	/* that it was opened counts for one failure only */
	docrep_pacing_failed(&pacing, &limits, START + 5 * HOUR, 0);
	CHECK(pacing.failures == 2);
	docrep_pacing_succeeded(&pacing);
	CHECK(docrep_pacing_due(&pacing, &limits, START));
	docrep_pacing_failed(&pacing, &limits, START, 0);
	CHECK(pacing.failures == 1);

	/* with cycles time heals nothing */
	pacing = (Pacing)
	{
		.cycles = true
	};
	docrep_pacing_failed(&pacing, &limits, START, 0);
	docrep_pacing_opened(&pacing, START);
	docrep_pacing_failed(&pacing, &limits, START + DAY, 0);
	CHECK(pacing.failures == 2);
	unit_done("what makes a failure the first one again");
}

static void
test_clock_set_back(void)
{
	Pacing		pacing = {0};

	docrep_pacing_failed(&pacing, &limits, START, 0);
	docrep_pacing_failed(&pacing, &limits, START, 0);
	CHECK(!docrep_pacing_due(&pacing, &limits, START - DAY));
	CHECK(!docrep_pacing_due(&pacing, &limits, START - DAY + 2 * SECOND - 1));
	CHECK(docrep_pacing_due(&pacing, &limits, START - DAY + 2 * SECOND));
	unit_done("a clock that is set back");
}

/* A job that is tried at [START, START + span) as soon as it is due; down until "up". */
typedef struct Life
{
	int64		attempts;
	int64		failed;
	int64		back_at;		/* first success, 0: none */
} Life;

/* Live it: looks at the clock every "tick", commits every "commits" (0: never). */
static Life
live(Pacing *pacing, int64 span, int64 up, int64 tick, int64 commits, bool chance)
{
	Life		life = {0};

	for (int64 now = START; now < START + span && life.back_at == 0; now += tick)
	{
		if (commits > 0 && now > START && (now - START) % commits == 0)
			(void) docrep_pacing_commit(pacing, &limits, now);
		while (life.back_at == 0 && docrep_pacing_due(pacing, &limits, now))
		{
			life.attempts++;
			if (now >= up)
			{
				docrep_pacing_succeeded(pacing);
				life.back_at = now;
				break;
			}
			life.failed++;
			docrep_pacing_failed(pacing, &limits, now, chance ? unit_random(UINT32_MAX) : 0);
		}
	}
	return life;
}

static void
test_hour_away(void)
{
	Pacing		pacing = {0};
	Life		life = live(&pacing, DAY, START + HOUR, SECOND, 0, false);

	/* at 0, 1, 3, 7, 15, 31 and 63 seconds, then each minute: 123, 183, ... 3,603 */
	CHECK(life.failed == 7 + 58);
	CHECK(life.back_at == START + 3603 * SECOND);
	CHECK(pacing.failures == 0);

	for (int i = 0; i < 200; i++)
	{
		pacing = (Pacing)
		{
			0
		};
		life = live(&pacing, DAY, START + HOUR, SECOND / 10, 0, true);
		CHECK(life.failed >= 65 && life.failed <= 90);
		CHECK(life.back_at >= START + HOUR && life.back_at <= START + HOUR + MINUTE);
	}
	unit_done("a target away for an hour: 65 attempts, back within a minute");
}

/* Attempts in so many cycles from the first failure on (the first attempt is made in cycle 0). */
static int64
attempts_in(int64 cycles)
{
	int64		n = 2;			/* the first, and again at once */
	int64		at = 0;

	for (;;)
	{
		at += n < 10 ? 1 : n < 100 ? 10 : n < 1000 ? 100 : 1000;
		if (at > cycles)
			return n;
		n++;
	}
}

static void
test_cycles(void)
{
	static const int64 spans[] = {0, 1, 8, 9, 17, 18, 907, 908, 909, 1007, 1008, 90907, 90908,
	91908, 250000};
	/* by hand, to keep attempts_in honest */
	CHECK(attempts_in(0) == 2 && attempts_in(1) == 3 && attempts_in(8) == 10);
	CHECK(attempts_in(17) == 10 && attempts_in(18) == 11);
	CHECK(attempts_in(907) == 99 && attempts_in(908) == 100);
	CHECK(attempts_in(90907) == 999 && attempts_in(90908) == 1000 && attempts_in(91908) == 1001);

	for (int i = 0; i < (int) (sizeof(spans) / sizeof(spans[0])); i++)
	{
		Pacing		by_time = {.cycles = true};
		Pacing		by_commits = {.cycles = true};
		Pacing		seldom = {.cycles = true};
		int64		span = spans[i] * limits.cycle_interval + 1;
		int64		commits = spans[i] * SECOND + 1;

		/* the source stands still; commits ten times as often; looked at once a minute only */
		CHECK(live(&by_time, span, START + 2 * span, limits.cycle_interval, 0, true).attempts ==
			  attempts_in(spans[i]));
		CHECK(live(&by_commits, commits, START + 2 * span, SECOND, SECOND, true).attempts ==
			  attempts_in(spans[i]));
		if (spans[i] > 908)
			CHECK(live(&seldom, span, START + 2 * span, MINUTE, 0, true).attempts <=
				  attempts_in(spans[i]));
	}
	unit_done("cycles: one attempt in 1, 10, 100 and 1,000, exactly");
}

static void
test_cycle_ends(void)
{
	Pacing		pacing = {.cycles = true};

	CHECK(!docrep_pacing_commit(&pacing, &limits, START));	/* nothing is wrong */
	docrep_pacing_failed(&pacing, &limits, START, 0);
	CHECK(!docrep_pacing_noted(&pacing));
	CHECK(docrep_pacing_due(&pacing, &limits, START));	/* at once */
	CHECK(docrep_pacing_next(&pacing, &limits) <= START);
	docrep_pacing_failed(&pacing, &limits, START, 0);
	CHECK(docrep_pacing_noted(&pacing));
	CHECK(!docrep_pacing_due(&pacing, &limits, START + 10 * SECOND - 1));
	CHECK(docrep_pacing_next(&pacing, &limits) == START + 10 * SECOND);
	CHECK(docrep_pacing_commit(&pacing, &limits, START + SECOND));

	while (pacing.failures < 10)
		docrep_pacing_failed(&pacing, &limits, START, 0);
	CHECK(docrep_pacing_next(&pacing, &limits) == START + 100 * SECOND);
	/* a commit ends a cycle and begins one of full length */
	CHECK(!docrep_pacing_commit(&pacing, &limits, START + 3 * SECOND));
	CHECK(pacing.cycles_left == 9);
	CHECK(docrep_pacing_next(&pacing, &limits) == START + 93 * SECOND);
	/* 25 seconds later two have ended by themselves, the commit ends the third */
	CHECK(!docrep_pacing_commit(&pacing, &limits, START + 28 * SECOND));
	CHECK(pacing.cycles_left == 6);
	CHECK(!docrep_pacing_due(&pacing, &limits, START + 88 * SECOND - 1));
	CHECK(docrep_pacing_due(&pacing, &limits, START + 88 * SECOND));

	docrep_pacing_succeeded(&pacing);
	CHECK(pacing.cycles && pacing.failures == 0);
	docrep_pacing_failed(&pacing, &limits, START, 0);
	CHECK(docrep_pacing_due(&pacing, &limits, START));

	/* exponential back-off does not care for commits */
	pacing = (Pacing)
	{
		0
	};
	docrep_pacing_failed(&pacing, &limits, START, 0);
	CHECK(docrep_pacing_noted(&pacing));
	CHECK(!docrep_pacing_commit(&pacing, &limits, START));
	CHECK(!docrep_pacing_due(&pacing, &limits, START + SECOND - 1));
	unit_done("what ends a cycle");
}

/* --- rotation: a scheduler in miniature --- */

#define INTERVAL	MINUTE
#define MAX_JOBS	1100

typedef struct Sim
{
	int			njobs;
	int			nworkers;
	int			max_churn;
	int			noneshots;		/* the first so many jobs run to their end */
	int			queue[MAX_JOBS];	/* first in, first out */
	int			nqueue;
	RotationJob running[MAX_JOBS];
	int			nrunning;
	int64		waits_since[MAX_JOBS];
	int64		longest_wait;
	int			turns[MAX_JOBS];
	int64		stopped;
} Sim;

/* Put a job at the end of the queue. */
static void
enqueue(Sim *sim, int job, int64 now)
{
	sim->queue[sim->nqueue++] = job;
	sim->waits_since[job] = now;
}

/* Give free workers to the queue. */
static void
dispatch(Sim *sim, int64 now)
{
	while (sim->nqueue > 0 && sim->nrunning < sim->nworkers)
	{
		int			job = sim->queue[0];

		memmove(sim->queue, sim->queue + 1, sizeof(int) * --sim->nqueue);
		sim->running[sim->nrunning++] = (RotationJob)
		{
			job, job >= sim->noneshots, now
		};
		sim->longest_wait = Max(sim->longest_wait, now - sim->waits_since[job]);
		sim->turns[job]++;
	}
}

/* Take the job at place i of the running ones out. */
static int
take_running(Sim *sim, int i)
{
	int			job = sim->running[i].index;

	memmove(&sim->running[i], &sim->running[i + 1],
			sizeof(RotationJob) * (--sim->nrunning - i));
	return job;
}

/* So many intervals of jobs that never run out of work. */
static void
simulate(Sim *sim, int64 intervals)
{
	for (int i = 0; i < sim->njobs; i++)
		enqueue(sim, i, START);
	for (int64 i = 0; i < intervals; i++)
	{
		int64		now = START + i * INTERVAL;
		int			stop = docrep_rotation_choose(sim->running, sim->nrunning, sim->nqueue,
												  sim->max_churn, INTERVAL, now);

		CHECK(stop <= sim->max_churn && stop <= sim->nqueue);
		for (int k = 0; k < stop; k++)
		{
			CHECK(sim->running[0].continuous);
			CHECK(now - sim->running[0].running_since >= INTERVAL);
			enqueue(sim, take_running(sim, 0), now);
			sim->stopped++;
		}
		/* one-shots end after ten intervals, and are not seen again */
		for (int k = sim->nrunning - 1; k >= 0; k--)
		{
			if (!sim->running[k].continuous &&
				now - sim->running[k].running_since >= 10 * INTERVAL)
				(void) take_running(sim, k);
		}
		dispatch(sim, now);
		CHECK(sim->nrunning == Min(sim->nworkers, sim->nrunning + sim->nqueue));
	}
}

static void
min_max_turns(const Sim *sim, int *least, int *most)
{
	*least = INT32_MAX;
	*most = 0;
	for (int i = sim->noneshots; i < sim->njobs; i++)
	{
		*least = Min(*least, sim->turns[i]);
		*most = Max(*most, sim->turns[i]);
	}
}

static void
test_round_robin(void)
{
	static Sim	sim;
	int			least;
	int			most;

	sim = (Sim)
	{
		.njobs = 1000, .nworkers = 8, .max_churn = 20
	};
	simulate(&sim, 3 * 24 * 60);
	min_max_turns(&sim, &least, &most);
	/* all eight change every minute: 4,320 * 8 turns over 1,000 jobs */
	CHECK(least == 34 && most == 35);
	CHECK(sim.stopped == 4319 * 8);
	CHECK(sim.longest_wait == 124 * INTERVAL);
	unit_done("1,000 jobs, 8 workers, three days: 34 or 35 turns each");

	sim = (Sim)
	{
		.njobs = 1000, .nworkers = 100, .max_churn = 20
	};
	simulate(&sim, 3 * 24 * 60);
	min_max_turns(&sim, &least, &most);
	/* churn is the bound: 20 turns end a minute, each has lasted five */
	CHECK(sim.stopped == 4319 * 20);
	CHECK(most - least <= 1 && least == 86);
	CHECK(sim.longest_wait == 45 * INTERVAL);
	unit_done("1,000 jobs, 100 workers: never more than 20 a minute");

	sim = (Sim)
	{
		.njobs = 1000, .nworkers = 8, .max_churn = 20, .noneshots = 40
	};
	simulate(&sim, 24 * 60);
	min_max_turns(&sim, &least, &most);
	for (int i = 0; i < sim.noneshots; i++)
		CHECK(sim.turns[i] == 1);
	CHECK(least >= 1 && most - least <= 1);
	unit_done("one-shots keep their process to the end, the others share the rest");
}

/* Jobs below "down" cannot reach their target in the second hour: a run ends as it begins. */
static bool
is_away(int job, int down, int64 now)
{
	return job < down && now >= START + HOUR && now < START + 2 * HOUR;
}

/* Second by second: 200 jobs, 8 workers, and 60 jobs whose target is away for an hour. */
static void
test_outage(void)
{
	static Sim	sim;
	static Pacing pacing[MAX_JOBS];
	static int64 failed[MAX_JOBS];
	static int	turns_by_hour[MAX_JOBS][6];
	const int	down = 60;

	sim = (Sim)
	{
		.njobs = 200, .nworkers = 8, .max_churn = 20
	};
	for (int i = 0; i < sim.njobs; i++)
		enqueue(&sim, i, START);
	for (int64 now = START; now < START + 6 * HOUR; now += SECOND)
	{
		/* failed jobs come back into the queue */
		for (int i = 0; i < down; i++)
		{
			if (pacing[i].failures > 0 && pacing[i].next != 0 &&
				docrep_pacing_due(&pacing[i], &limits, now))
			{
				pacing[i].next = 0; /* it is in the queue */
				enqueue(&sim, i, now);
			}
		}
		if ((now - START) % INTERVAL == 0)
		{
			int			stop = docrep_rotation_choose(sim.running, sim.nrunning, sim.nqueue,
													  sim.max_churn, INTERVAL, now);

			while (stop-- > 0)
				enqueue(&sim, take_running(&sim, 0), now);
		}
		/* a job whose run fails at once leaves its worker to the next */
		for (bool again = true; again;)
		{
			again = false;
			dispatch(&sim, now);
			for (int k = sim.nrunning - 1; k >= 0; k--)
			{
				int			job = sim.running[k].index;

				if (is_away(job, down, now))
				{
					(void) take_running(&sim, k);
					docrep_pacing_failed(&pacing[job], &limits, now, unit_random(UINT32_MAX));
					failed[job]++;
					again = true;
				}
				else if (sim.running[k].running_since == now)
				{
					docrep_pacing_succeeded(&pacing[job]);
					turns_by_hour[job][(now - START) / HOUR]++;
				}
			}
		}
		CHECK(sim.nqueue == 0 || sim.nrunning == sim.nworkers);
	}
	for (int i = 0; i < sim.njobs; i++)
	{
		/* 200 jobs take 25 minutes to go round */
		for (int hour = 2; hour < 6; hour++)
			CHECK(turns_by_hour[i][hour] >= 2 && turns_by_hour[i][hour] <= 3);
		if (i < down)
			CHECK(failed[i] >= 1 && failed[i] <= 90 && turns_by_hour[i][1] == 0);
		else
			CHECK(failed[i] == 0 && turns_by_hour[i][1] >= 3);
	}
	CHECK(sim.longest_wait <= 26 * INTERVAL);
	unit_done("60 of 200 jobs lose their target for an hour: the others get their time, and it back");
}

static void
test_rotation_choice(void)
{
	RotationJob jobs[] = {
		{7, true, START + 5}, {1, false, START}, {2, true, START + 2}, {3, true, START + 2},
		{4, true, START + 9}
	};

	CHECK(docrep_rotation_choose(jobs, 5, 10, 10, 1, START + 9) == 3);
	CHECK(jobs[0].index == 2 && jobs[1].index == 3 && jobs[2].index == 7);
	CHECK(docrep_rotation_choose(jobs, 5, 2, 10, 1, START + 9) == 2);
	CHECK(docrep_rotation_choose(jobs, 5, 10, 1, 1, START + 9) == 1);
	CHECK(docrep_rotation_choose(jobs, 5, 0, 10, 1, START + 9) == 0);
	CHECK(docrep_rotation_choose(jobs, 5, 10, 0, 1, START + 9) == 0);
	CHECK(docrep_rotation_choose(jobs, 5, -1, 10, 1, START + 9) == 0);
	CHECK(docrep_rotation_choose(jobs, 0, 10, 10, 1, START + 9) == 0);
	CHECK(docrep_rotation_choose(jobs, 5, 10, 10, 100, START + 9) == 0);
	unit_done("who gives way");
}

int
main(int argc, char **argv)
{
	unit_seed(unit_choose_seed(argc, argv));
	test_exponential();
	test_odd_limits();
	test_health();
	test_clock_set_back();
	test_hour_away();
	test_cycles();
	test_cycle_ends();
	test_rotation_choice();
	test_round_robin();
	test_outage();
	return unit_exit();
}
