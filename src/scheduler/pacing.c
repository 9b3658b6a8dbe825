/*-------------------------------------------------------------------------
 *
 * pacing.c
 *		See pacing.h.
 *
 * Two ways to leave a job alone that fails.  Exponential: the pause doubles
 * from failure to failure up to a ceiling, minus up to a quarter of it by
 * chance, so that jobs that one outage has stopped do not all come back at the
 * same moment.  Cycles: attempts are counted against what happens at the
 * source; see cycles_after.
 *
 *-------------------------------------------------------------------------
 */
#include "scheduler/pacing.h"

/*
 * Cycles that end between the attempt that made it so many failures in a row
 * and the next attempt.  The first failure is tried again at once; from ten on
 * one cycle in ten is used, from 100 one in 100, from 1,000 one in 1,000.
 */
static int64
cycles_after(int failures)
{
	if (failures < 2)
		return 0;
	if (failures < 10)
		return 1;
	if (failures < 100)
		return 10;
	if (failures < 1000)
		return 100;
	return 1000;
}

/* The pause after so many failures in a row. */
static int64
pause_after(int failures, const PacingLimits *limits, uint32 random)
{
	int64		pause = Max(limits->backoff_min, 1);
	int64		ceiling = Max(limits->backoff_max, pause);

	/* doubled only as long as that cannot pass the ceiling, let alone overflow */
	for (int i = 1; i < failures && pause < ceiling; i++)
		pause = pause > ceiling / 2 ? ceiling : pause * 2;
	return pause - (int64) ((double) (pause / 4) * random / UINT32_MAX);
}

/* How long a cycle is that nothing else ends. */
static int64
cycle_length(const PacingLimits *limits)
{
	return Max(limits->cycle_interval, 1);
}

/*
 * A clock that was set back would make what is planned come late by as much:
 * plan it again as of now.
 */
static void
notice_clock(Pacing *pacing, int64 now)
{
	if (pacing->failures == 0 || now >= pacing->last_failure)
		return;
	pacing->next -= pacing->last_failure - now;
	pacing->last_failure = now;
}

void
docrep_pacing_opened(Pacing *pacing, int64 now)
{
	pacing->opened = now;
}

void
docrep_pacing_failed(Pacing *pacing, const PacingLimits *limits, int64 now, uint32 random)
{
	bool		healthy = pacing->opened != 0 &&
		now - pacing->opened > limits->health_threshold;

	/* with cycles only a success ends a row of failures */
	if (healthy && !pacing->cycles)
		pacing->failures = 0;
	if (pacing->failures < INT32_MAX)
		pacing->failures++;
	pacing->last_failure = now;
	pacing->opened = 0;
	if (pacing->cycles)
	{
		pacing->cycles_left = cycles_after(pacing->failures);
		pacing->next = now + cycle_length(limits);
	}
	else
	{
		pacing->cycles_left = 0;
		pacing->next = now + pause_after(pacing->failures, limits, random);
	}
}

void
docrep_pacing_succeeded(Pacing *pacing)
{
	pacing->failures = 0;
	pacing->next = 0;
	pacing->cycles_left = 0;
	pacing->last_failure = 0;
}

bool
docrep_pacing_noted(const Pacing *pacing)
{
	return pacing->failures > (pacing->cycles ? 1 : 0);
}

bool
docrep_pacing_commit(Pacing *pacing, const PacingLimits *limits, int64 now)
{
	if (!pacing->cycles || pacing->failures == 0)
		return false;
	if (docrep_pacing_due(pacing, limits, now))
		return true;
	pacing->cycles_left--;
	pacing->next = now + cycle_length(limits);
	return pacing->cycles_left == 0;
}

bool
docrep_pacing_due(Pacing *pacing, const PacingLimits *limits, int64 now)
{
	if (pacing->failures == 0)
		return true;
	notice_clock(pacing, now);
	if (!pacing->cycles)
		return now >= pacing->next;
	if (pacing->cycles_left > 0 && now >= pacing->next)
	{
		/* nobody may have asked for some cycles; each ended when its time was over */
		int64		ended = 1 + (now - pacing->next) / cycle_length(limits);

		pacing->cycles_left -= Min(ended, pacing->cycles_left);
		pacing->next += ended * cycle_length(limits);
	}
	return pacing->cycles_left == 0;
}

int64
docrep_pacing_next(const Pacing *pacing, const PacingLimits *limits)
{
	if (!pacing->cycles)
		return pacing->next;
	if (pacing->cycles_left == 0)
		return pacing->last_failure;
	return pacing->next + (pacing->cycles_left - 1) * cycle_length(limits);
}

/* May the job be asked to give its process away? */
static bool
may_rotate(const RotationJob *job, int64 min_run, int64 now)
{
	return job->continuous && now - job->running_since >= min_run;
}

/* For qsort: those that had their process longest first; else as the caller counts them. */
static int
compare_running(const void *a, const void *b)
{
	const RotationJob *x = a;
	const RotationJob *y = b;

	if (x->running_since != y->running_since)
		return x->running_since < y->running_since ? -1 : 1;
	return x->index < y->index ? -1 : (x->index > y->index);
}

int
docrep_rotation_choose(RotationJob *jobs, int n, int waiting, int max_churn,
					   int64 min_run, int64 now)
{
	int			candidates = 0;

	for (int i = 0; i < n; i++)
	{
		RotationJob job = jobs[i];

		if (!may_rotate(&job, min_run, now))
			continue;
		jobs[i] = jobs[candidates];
		jobs[candidates++] = job;
	}
	qsort(jobs, candidates, sizeof(RotationJob), compare_running);
	return Max(0, Min(candidates, Min(waiting, max_churn)));
}
