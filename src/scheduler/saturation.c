/*-------------------------------------------------------------------------
 *
 * saturation.c
 *		Jobs that had better wait, because a side of theirs cannot keep up.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "scheduler/pool.h"

/* Length of what names the server in an endpoint's display: up to the path of a URL. */
static size_t
server_part(const char *display)
{
	const char *authority = strstr(display, "://");

	return authority ? authority + 3 + strcspn(authority + 3, "/") - display : strlen(display);
}

/* Are these two sides at the same server, or the same table of ours? */
static bool
same_side(const Job *a, const char *of_a, const Job *b, const char *of_b)
{
	size_t		n = server_part(of_a);

	if (n != server_part(of_b) || strncmp(of_a, of_b, n) != 0)
		return false;
	return strstr(of_a, "://") != NULL || a->database == b->database;
}

bool
docrep_job_is_saturated(const Job *job)
{
	for (int i = 0; i < docrep_max_workers; i++)
	{
		Job		   *other = docrep_pool[i].state == POOL_BUSY ? docrep_slot_of(docrep_pool[i].start.ref) : NULL;
		bool		source;
		bool		target;

		if (other == NULL || other == job || other->state != JOB_RUNNING || other->kind != JOB_REPLICATE)
			continue;
		LWLockAcquire(&other->figures_lock, LW_SHARED);
		source = other->figures.source_saturated;
		target = other->figures.target_saturated;
		LWLockRelease(&other->figures_lock);
		if ((source && same_side(job, job->source, other, other->source)) ||
			(target && same_side(job, job->target, other, other->target)))
			return true;
	}
	return false;
}
