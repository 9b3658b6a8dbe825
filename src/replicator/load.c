/*-------------------------------------------------------------------------
 *
 * load.c
 *		How much is sent at a time: less while a side cannot keep up.
 *
 * A side is in trouble when it had to be asked more slowly (429 or 503 to the
 * peer's client, which repeats by itself), or when a write made us wait for much
 * longer than writes of its size did lately.  Each time halves the share of a
 * full batch that is asked for, down to one row; each answer without trouble lets
 * it grow by a quarter.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "replicator/engine.h"

/* Waiting for a write for less than this is never slow (ms). */
#define SLOW_MS				1000
/* ... and it has to be so many times what is usual for its size. */
#define SLOW_TIMES			4.0
/* What a document costs besides its bytes, in bytes. */
#define DOC_COST			1024
/* How fast the usual follows what is measured; what is slow becomes usual in the end, too. */
#define FOLLOW				0.125
#define FOLLOW_SLOW			0.02
/* Below this share of a full batch a side counts as saturated. */
#define SATURATED_BELOW		0.4
/* Bodies that may be asked for, however small the share. */
#define MIN_BYTES			(64 * 1024)

/* Share of a full batch that both sides bear. */
static double
share_now(const Run *run)
{
	return 1.0 - Max(run->source_load.cut, run->target_load.cut);
}

int
docrep_load_rows(const Run *run)
{
	return Max(1, (int) (run->replication->worker_batch_size * share_now(run)));
}

Size
docrep_load_bytes(const Run *run, Size full)
{
	return Max(MIN_BYTES, (Size) (full * share_now(run)));
}

int
docrep_load_batches(const Run *run)
{
	return run->stats.source_saturated || run->stats.target_saturated ? 1 : MAX_BATCHES;
}

/*
 * A side has answered something of a batch, and was in trouble so many times
 * before it did.  Batches that were asked for before the last cut say nothing about it.
 */
static void
note_answer(Run *run, LoadSide *side, int troubles, int batch_rows)
{
	double		least = 1.0 / Max(run->replication->worker_batch_size, 1);
	double		share = 1.0 - side->cut;

	if (batch_rows <= docrep_load_rows(run))
		share = troubles == 0 ? share * 1.25 : share / (1 << Min(troubles, 10));
	side->cut = 1.0 - Min(Max(share, least), 1.0);
	run->stats.source_saturated = 1.0 - run->source_load.cut < SATURATED_BELOW;
	run->stats.target_saturated = 1.0 - run->target_load.cut < SATURATED_BELOW;
}

/* How often has the peer's client been told to slow down since the last call? */
static int
throttled_since(LoadSide *side, const DocrepPeer *peer)
{
	int			more = (int) (peer->throttled - side->throttled);

	side->throttled = peer->throttled;
	return more;
}

/* Is waiting for so many ms too long for so much work?  Learns from it. */
static bool
is_slow(LoadSide *side, double ms, double work)
{
	double		cost = ms / Max(work, 1);
	bool		slow = ms >= SLOW_MS && side->cost > 0 && cost > side->cost * SLOW_TIMES;

	if (side->cost == 0)
		side->cost = cost;
	else
		side->cost += (cost - side->cost) * (slow ? FOLLOW_SLOW : FOLLOW);
	return slow;
}

void
docrep_load_note_write(Run *run, const Batch *batch, int docs, Size bytes, double waited_ms)
{
	LoadSide   *side = &run->target_load;
	bool		slow = is_slow(side, waited_ms, (double) bytes + (double) docs * DOC_COST);

	note_answer(run, side, throttled_since(side, run->target) + (slow ? 1 : 0),
				batch->request.max_rows);
}

/* Asking is less work than writing: that it went well says nothing.  So it is below. */
void
docrep_load_note_diff(Run *run, const Batch *batch)
{
	int			throttled = throttled_since(&run->target_load, run->target);

	if (throttled > 0)
		note_answer(run, &run->target_load, throttled, batch->request.max_rows);
}

void
docrep_load_note_read(Run *run, const Batch *batch, bool docs)
{
	int			throttled = throttled_since(&run->source_load, run->source);

	if (throttled > 0 || docs)
		note_answer(run, &run->source_load, throttled, batch->request.max_rows);
}
