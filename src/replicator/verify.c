/*-------------------------------------------------------------------------
 *
 * verify.c
 *		docrep.verify(): are two endpoints equal, leaf by leaf?
 *
 * First both sides are read from end to end, at the same time and each in its own
 * order, and digests of all revisions are added up in buckets by id: the
 * source's are added, the target's subtracted.  A bucket that is zero in the end
 * held the same on both sides.  Memory is that of the buckets.
 *
 * Then the feeds are read once more, without bodies, and the documents of
 * the other buckets are compared one by one: those of the source, and then
 * those of the target, which may have some that the source lacks.
 *
 * What differs then may be on its way: it counts only if it differs in the same
 * way after a pause.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "pgstat.h"
#include "replicator/verify.h"
#include "storage/latch.h"
#include "store/errcodes.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

/* 4 MB of digests; documents of a bucket of a large database: a few dozen. */
#define NBUCKETS		(256 * 1024)
/* Documents that seem to differ are looked at again when they are so many. */
#define MAX_SUSPECTS	10000
/* So many equal documents are not compared again when the other side's feed names them. */
#define MAX_SEEN		1000000
/* A document that changes all the time is given up on after so many looks. */
#define MAX_ROUNDS		10

/* A document that seemed to differ, and how it looked then. */
typedef struct Suspect
{
	char	   *id;
	Digest		digest[2];
} Suspect;

/* The second look at documents. */
typedef struct Search
{
	Verify	   *v;
	MemoryContext cxt;			/* of suspects */
	Suspect    *suspects;
	int			nsuspects;
	MemoryContext chunk_cxt;	/* of chunk */
	const char **chunk;
	int			nchunk;
	HTAB	   *seen;			/* digests of ids that were compared */
} Search;

/* ---------- talking to whoever runs us ---------- */

/* True: no more. */
static bool
should_stop(Verify *v)
{
	CHECK_FOR_INTERRUPTS();
	if (v->hooks->should_stop(v->hooks->arg))
		v->stopped = true;
	return v->stopped;
}

static void
show_progress(Verify *v, const Reader *source, const Reader *target)
{
	v->stats.changes_pending = -1;
	if (source && target && source->pending >= 0 && target->pending >= 0)
		v->stats.changes_pending = source->pending + target->pending;
	if (source)
		strlcpy(v->stats.source_seq, source->since.data, sizeof(v->stats.source_seq));
	if (target)
		strlcpy(v->stats.through_seq, target->since.data, sizeof(v->stats.through_seq));
	v->hooks->progress(v->hooks->arg, &v->stats, false);
}

/* Sleep, or less if somebody wants us to stop. */
static void
pause_for(Verify *v, int ms)
{
	TimestampTz end = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), ms);
	long		left;

	while ((left = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), end)) > 0 &&
		   !should_stop(v))
	{
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 left, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
	}
}

/* ---------- the first look: sums ---------- */

/* What a side's revisions are added to. */
typedef struct Summing
{
	Verify	   *v;
	int			side;
} Summing;

static Digest *
bucket_of(Verify *v, const char *id)
{
	return &v->buckets[docrep_digest_text(v, id, strlen(id)).low % NBUCKETS];
}

static void
add_to_bucket(Summing *s, const char *id, Digest digest)
{
	Digest	   *bucket = bucket_of(s->v, id);

	if (s->side == SOURCE)
		digest_add(bucket, digest);
	else
		digest_subtract(bucket, digest);
}

/* ReaderTakesDoc */
static void
sum_doc(void *arg, const DocrepDoc *doc)
{
	Summing    *s = arg;

	s->v->stats.docs_read++;
	if (doc->raw_id || doc->id == NULL)
	{
		/* no one can ask for it by its id */
		if (!verify_is_full(s->v))
			docrep_verify_report_unnamed(s->v, s->side, doc);
		return;
	}
	add_to_bucket(s, doc->id, docrep_digest_leaf(s->v, doc));
}

/* The names of leaves, which count even if their bodies are not to be had. */
static void
sum_rows(Summing *s, const DocrepChanges *changes)
{
	for (int i = 0; i < changes->n; i++)
	{
		const DocrepChange *change = &changes->rows[i];

		s->v->stats.revisions_checked += change->nrevs;
		for (int j = 0; j < change->nrevs; j++)
			add_to_bucket(s, change->id, docrep_digest_rev(s->v, change->id, &change->revs[j]));
	}
}

/* Read both sides from end to end. */
static void
sum_up(Verify *v)
{
	const Inspection *inspection = v->inspection;
	Reader		readers[2];
	bool		more = true;

	for (int side = SOURCE; side <= TARGET; side++)
	{
		docrep_reader_begin(&readers[side], v->peer[side], v->cxt,
							inspection->peer_options.worker_batch_size, inspection->bodies, true);
		docrep_reader_ask(&readers[side]);
	}
	while (more && !should_stop(v))
	{
		more = false;
		for (int side = SOURCE; side <= TARGET; side++)
			more |= docrep_reader_next(&readers[side]);
		for (int side = SOURCE; side <= TARGET; side++)
		{
			Summing		s = {v, side};

			if (readers[side].batch == NULL)
				continue;
			docrep_reader_docs(&readers[side], sum_doc, &s);
			sum_rows(&s, &readers[side].batch->changes);
		}
		show_progress(v, &readers[SOURCE], &readers[TARGET]);
	}
	for (int side = SOURCE; side <= TARGET && !v->stopped; side++)
		docrep_reader_end(&readers[side]);
}

/* Did every sum come out the same? */
static bool
sums_agree(const Verify *v)
{
	for (int i = 0; i < NBUCKETS; i++)
	{
		if (v->buckets[i].low != 0 || v->buckets[i].high != 0)
			return false;
	}
	return true;
}

/* ---------- the second look: documents ---------- */

static int
compare_texts(const void *a, const void *b)
{
	return strcmp(*(char *const *) a, *(char *const *) b);
}

static int
compare_suspects(const void *a, const void *b)
{
	return strcmp(((const Suspect *) a)->id, ((const Suspect *) b)->id);
}

/* Note that a document need not be compared when it is met again. */
static void
mark_seen(Search *search, const char *id)
{
	Digest		key = docrep_digest_text(search->v, id, strlen(id));

	(void) hash_search(search->seen, &key, HASH_ENTER, NULL);
}

static void
add_suspect(Search *search, const DocPair *pair)
{
	Suspect    *suspect = &search->suspects[search->nsuspects++];

	suspect->id = MemoryContextStrdup(search->cxt, pair->id);
	suspect->digest[SOURCE] = pair->side[SOURCE].digest;
	suspect->digest[TARGET] = pair->side[TARGET].digest;
}

/*
 * Look at some suspects again.  Those that are equal by now, or that differ
 * as they did before and are therefore reported, leave; the others are moved to the
 * front from *kept on.
 */
static void
look_again(Search *search, Suspect *suspects, int n, bool last, int *kept)
{
	Verify	   *v = search->v;
	MemoryContext cxt = AllocSetContextCreate(v->cxt, "docrep verify", ALLOCSET_DEFAULT_SIZES);
	const char **ids = MemoryContextAlloc(cxt, n * sizeof(char *));
	DocPair    *pairs;

	for (int i = 0; i < n; i++)
		ids[i] = suspects[i].id;
	pairs = docrep_verify_gather(v, ids, n, cxt);
	for (int i = 0; i < n && !verify_is_full(v); i++)
	{
		bool		same = digest_equal(suspects[i].digest[SOURCE], pairs[i].side[SOURCE].digest) &&
			digest_equal(suspects[i].digest[TARGET], pairs[i].side[TARGET].digest);

		if (!docrep_verify_compare(v, &pairs[i], false, false))
			continue;
		if (same || last)
		{
			docrep_verify_compare(v, &pairs[i], true, !same);
			continue;
		}
		search->suspects[*kept] = suspects[i];
		search->suspects[*kept].digest[SOURCE] = pairs[i].side[SOURCE].digest;
		search->suspects[*kept].digest[TARGET] = pairs[i].side[TARGET].digest;
		(*kept)++;
	}
	MemoryContextDelete(cxt);
}

/* Report those suspects that stay different. */
static void
settle_suspects(Search *search)
{
	Verify	   *v = search->v;

	for (int round = 1; search->nsuspects > 0 && !verify_is_full(v); round++)
	{
		int			kept = 0;

		qsort(search->suspects, search->nsuspects, sizeof(Suspect), compare_suspects);
		show_progress(v, NULL, NULL);
		pause_for(v, v->inspection->settle);
		for (int i = 0; i < search->nsuspects && !verify_is_full(v) && !should_stop(v);
			 i += GATHER_MAX)
		{
			look_again(search, &search->suspects[i], Min(GATHER_MAX, search->nsuspects - i),
					   round >= MAX_ROUNDS, &kept);
			show_progress(v, NULL, NULL);
		}
		if (v->stopped)
			break;
		search->nsuspects = kept;
	}
	search->nsuspects = 0;
	MemoryContextReset(search->cxt);
}

/* Compare the documents of the chunk; those that differ become suspects. */
static void
compare_chunk(Search *search)
{
	Verify	   *v = search->v;
	MemoryContext cxt;
	DocPair    *pairs;

	if (search->nchunk > 0)
	{
		cxt = AllocSetContextCreate(v->cxt, "docrep verify", ALLOCSET_DEFAULT_SIZES);
		qsort(search->chunk, search->nchunk, sizeof(char *), compare_texts);
		pairs = docrep_verify_gather(v, search->chunk, search->nchunk, cxt);
		for (int i = 0; i < search->nchunk; i++)
		{
			if (docrep_verify_compare(v, &pairs[i], false, false))
			{
				v->stats.missing_revisions_found++;
				add_suspect(search, &pairs[i]);
			}
			else if (hash_get_num_entries(search->seen) >= MAX_SEEN)
				continue;
			mark_seen(search, pairs[i].id);
		}
		MemoryContextDelete(cxt);
	}
	search->nchunk = 0;
	MemoryContextReset(search->chunk_cxt);
	if (search->nsuspects >= Min(MAX_SUSPECTS, v->inspection->max_differences - v->nrows))
		settle_suspects(search);
}

/* Have a document compared. */
static void
look_at(Search *search, const char *id)
{
	Digest		key = docrep_digest_text(search->v, id, strlen(id));

	if (hash_search(search->seen, &key, HASH_FIND, NULL) != NULL)
		return;
	for (int i = 0; i < search->nchunk; i++)
	{
		if (strcmp(search->chunk[i], id) == 0)
			return;
	}
	search->chunk[search->nchunk++] = MemoryContextStrdup(search->chunk_cxt, id);
	if (search->nchunk == GATHER_MAX)
		compare_chunk(search);
}

/* Look at all documents of one side whose buckets do not agree. */
static void
search_side(Search *search, int side)
{
	Verify	   *v = search->v;
	Reader		reader;

	docrep_reader_begin(&reader, v->peer[side], v->cxt,
						v->inspection->peer_options.worker_batch_size, false, false);
	while (!should_stop(v) && !verify_is_full(v) && docrep_reader_next(&reader))
	{
		const DocrepChanges *changes = &reader.batch->changes;

		for (int i = 0; i < changes->n && !v->stopped && !verify_is_full(v); i++)
		{
			Digest	   *bucket = bucket_of(v, changes->rows[i].id);

			if (bucket->low != 0 || bucket->high != 0)
				look_at(search, changes->rows[i].id);
		}
		show_progress(v, NULL, NULL);
	}
	compare_chunk(search);
	docrep_reader_end(&reader);
}

/* Look at the documents that were asked for by their ids. */
static void
search_ids(Search *search)
{
	const Inspection *inspection = search->v->inspection;

	for (int i = 0; i < inspection->ndoc_ids && !verify_is_full(search->v); i++)
	{
		if (i % GATHER_MAX == 0 && should_stop(search->v))
			break;
		look_at(search, inspection->doc_ids[i]);
	}
	compare_chunk(search);
}

static void
search_begin(Search *search, Verify *v)
{
	HASHCTL		ctl;

	memset(search, 0, sizeof(*search));
	memset(&ctl, 0, sizeof(ctl));
	search->v = v;
	search->cxt = AllocSetContextCreate(v->cxt, "docrep suspects", ALLOCSET_DEFAULT_SIZES);
	search->chunk_cxt = AllocSetContextCreate(v->cxt, "docrep chunk", ALLOCSET_DEFAULT_SIZES);
	search->suspects = MemoryContextAlloc(v->cxt, (MAX_SUSPECTS + GATHER_MAX) * sizeof(Suspect));
	search->chunk = MemoryContextAlloc(v->cxt, GATHER_MAX * sizeof(char *));
	ctl.keysize = ctl.entrysize = sizeof(Digest);
	ctl.hcxt = v->cxt;
	search->seen = hash_create("docrep verify", 1024, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

static void
verify(Verify *v)
{
	Search		search;

	show_progress(v, NULL, NULL);
	search_begin(&search, v);
	if (v->inspection->doc_ids)
		search_ids(&search);
	else
	{
		sum_up(v);
		for (int side = SOURCE; side <= TARGET && !v->stopped && !sums_agree(v); side++)
			search_side(&search, side);
	}
	if (!v->stopped)
		settle_suspects(&search);
}

/* ---------- a run ---------- */

/* Let go of both sides; also after an error. */
static void
close_peers(Verify *v)
{
	for (int side = SOURCE; side <= TARGET; side++)
	{
		if (v->peer[side])
			v->peer[side]->ops->close(v->peer[side]);
		v->peer[side] = NULL;
	}
}

char *
docrep_verify_run(Inspection *inspection, const ReplicationHooks *hooks)
{
	MemoryContext caller = CurrentMemoryContext;
	MemoryContext cxt = AllocSetContextCreate(caller, "docrep verify", ALLOCSET_DEFAULT_SIZES);
	Verify	   *v = MemoryContextAllocZero(cxt, sizeof(Verify));
	char	   *result;

	v->cxt = cxt;
	v->scratch = AllocSetContextCreate(cxt, "docrep verify scratch", ALLOCSET_DEFAULT_SIZES);
	v->inspection = inspection;
	v->hooks = hooks;
	v->buckets = MemoryContextAllocZero(cxt, NBUCKETS * sizeof(Digest));
	if (!pg_strong_random(&v->seed, sizeof(v->seed)))
		v->seed = (uint64) GetCurrentTimestamp();

	PG_TRY();
	{
		MemoryContextSwitchTo(cxt);
		initStringInfo(&v->rows);
		appendStringInfoChar(&v->rows, '[');
		(void) docrep_open_peer(inspection->source, &inspection->peer_options, false, cxt,
								&v->peer[SOURCE]);
		MemoryContextSwitchTo(cxt);
		(void) docrep_open_peer(inspection->target, &inspection->peer_options, false, cxt,
								&v->peer[TARGET]);
		MemoryContextSwitchTo(cxt);
		verify(v);
		MemoryContextSwitchTo(caller);
		appendStringInfoChar(&v->rows, ']');
		result = pstrdup(v->rows.data);
	}
	PG_CATCH();
	{
		close_peers(v);
		MemoryContextSwitchTo(caller);
		MemoryContextDelete(cxt);
		PG_RE_THROW();
	}
	PG_END_TRY();

	close_peers(v);
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(cxt);
	return result;
}
