/*-------------------------------------------------------------------------
 *
 * versions.c
 *		Former versions of the documents that a run has written, between tables
 *		that both keep them.
 *
 * The documents come first.  Which of them were written is remembered, and when
 * nothing is under way, or there are many, the target is asked what it has of
 * their versions and the source for the others.  A run that breaks off
 * before forgets them: they come with the documents' next change.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "replicator/engine.h"
#include "utils/memutils.h"

/* so many documents are remembered before the pipeline is held for them */
#define MAX_PENDING			4096

/* ... and asked about at a time */
#define CHUNK				500

struct VersionsDue
{
	MemoryContext cxt;			/* of the ids; emptied with them */
	char	   *ids[MAX_PENDING];
	int			n;
};

/*
 * Is it any use?  What a filter keeps back, or a delay, may be in a former version of
 * what passes.
 */
static bool
is_possible(const Run *run)
{
	const Replication *replication = run->replication;

	return !run->no_versions && run->source->ops->versions_read != NULL &&
		run->target->ops->versions_have != NULL && !replication->winning_revs_only &&
		replication->delay == 0 && docrep_filter_is_empty(&replication->filter);
}

void
docrep_versions_note(Run *run, const DocrepDocs *docs)
{
	struct VersionsDue *due = run->versions;

	if (!is_possible(run))
		return;
	if (due == NULL)
	{
		due = run->versions = MemoryContextAllocZero(run->cxt, sizeof(*due));
		due->cxt = AllocSetContextCreate(run->cxt, "docrep versions due",
										 ALLOCSET_DEFAULT_SIZES);
	}
	for (int i = 0; i < docs->n && due->n < MAX_PENDING; i++)
	{
		const DocrepDoc *doc = &docs->docs[i];

		if (doc->sqlstate == 0 && !doc->known && doc->id)
			due->ids[due->n++] = MemoryContextStrdup(due->cxt, doc->id);
	}
}

bool
docrep_versions_pending(const Run *run)
{
	return run->versions != NULL && run->versions->n > 0;
}

bool
docrep_versions_many(const Run *run)
{
	return docrep_versions_pending(run) && run->versions->n >= MAX_PENDING / 2;
}

/* May it go on, or does something else want the peers? */
static bool
may_go_on(Run *run)
{
	CHECK_FOR_INTERRUPTS();
	if (run->hooks->should_stop(run->hooks->arg))
		return false;
	if (docrep_lease_due(run))
		docrep_lease_renew(run);
	return !docrep_lease_ending(run);
}

/* Read and write the versions that the target lacks, some at a time, in memory that is emptied for each. */
static void
bring_missing(Run *run, const DocrepChanges *have, int keep, MemoryContext cxt)
{
	DocrepVersions versions = {0};

	while (versions.row < have->n && may_go_on(run))
	{
		int			row = versions.row;
		int			passed = versions.passed;

		MemoryContextReset(cxt);
		MemoryContextSwitchTo(cxt);
		docrep_versions_init(&versions, cxt);
		versions.row = row;
		versions.passed = passed;
		versions.keep = keep;
		run->source->ops->versions_read(run->source, have, &versions);
		MemoryContextSwitchTo(cxt);
		if (!versions.kept)
		{
			run->no_versions = true;
			return;
		}
		if (versions.row < row || (versions.row == row && versions.passed <= passed))
			return;				/* a source that gets nowhere */
		if (versions.docs.n == 0)
			continue;
		docrep_lease_check(run);
		run->target->ops->versions_write(run->target, &versions, run->source);
		run->unflushed = true;
	}
}

/* Bring those of some documents. */
static void
bring_some(Run *run, char **ids, int n)
{
	MemoryContext cxt = AllocSetContextCreate(run->cxt, "docrep versions", ALLOCSET_DEFAULT_SIZES);
	MemoryContext portion = AllocSetContextCreate(cxt, "docrep versions portion",
												  ALLOCSET_DEFAULT_SIZES);
	DocrepChanges have;
	int			keep;

	MemoryContextSwitchTo(cxt);
	docrep_changes_init(&have, cxt);
	keep = run->target->ops->versions_have(run->target, (const char *const *) ids, n, &have);
	if (keep < 0)
		run->no_versions = true;
	else
		bring_missing(run, &have, keep, portion);
	MemoryContextSwitchTo(run->scratch);
	MemoryContextDelete(cxt);
}

static int
compare_ids(const void *a, const void *b)
{
	return strcmp(*(char *const *) a, *(char *const *) b);
}

void
docrep_versions_bring(Run *run)
{
	struct VersionsDue *due = run->versions;
	int			n = 0;

	/* in order of id, as all who write; each once */
	qsort(due->ids, due->n, sizeof(char *), compare_ids);
	for (int i = 0; i < due->n; i++)
	{
		if (n == 0 || strcmp(due->ids[i], due->ids[n - 1]) != 0)
			due->ids[n++] = due->ids[i];
	}
	for (int i = 0; i < n && !run->no_versions && may_go_on(run); i += CHUNK)
		bring_some(run, due->ids + i, Min(CHUNK, n - i));
	due->n = 0;
	MemoryContextReset(due->cxt);
	MemoryContextSwitchTo(run->scratch);
}
