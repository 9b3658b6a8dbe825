/*-------------------------------------------------------------------------
 *
 * local_documents.c
 *		Local documents of a table of this database, and its fence.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "peer/local.h"
#include "store/fence.h"
#include "store/json_text.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"

typedef struct LocalDocument
{
	const char *id;
	const char *doc;			/* to be written */
	char	   *found;
	MemoryContext cxt;			/* of found */
} LocalDocument;

static void
get_local(LocalPeer *peer, void *arg)
{
	LocalDocument *local = arg;
	Jsonb	   *doc = docrep_serve_get_local(&peer->table, local->id);

	if (doc != NULL)
		local->found = MemoryContextStrdup(local->cxt, docrep_json_print(doc));
}

char *
docrep_local_get_local(DocrepPeer *base, const char *id)
{
	LocalDocument local = {.id = id, .cxt = CurrentMemoryContext};

	docrep_local_in_transaction((LocalPeer *) base, "docrep: reading a local document", get_local, &local);
	return local.found;
}

static void
put_local(LocalPeer *peer, void *arg)
{
	LocalDocument *local = arg;

	docrep_serve_put_local(&peer->table, local->id, docrep_json_parse(local->doc));
}

void
docrep_local_put_local(DocrepPeer *base, const char *id, const char *doc)
{
	LocalDocument local = {.id = id, .doc = doc};

	docrep_local_in_transaction((LocalPeer *) base, "docrep: writing a local document", put_local, &local);
}

typedef struct LocalSwap
{
	const char *id;
	const char *expected;		/* or NULL */
	const char *doc;
	bool		done;
} LocalSwap;

static void
swap_local(LocalPeer *peer, void *arg)
{
	LocalSwap  *swap = arg;

	swap->done = docrep_serve_swap_local(&peer->table, swap->id,
										 swap->expected ? docrep_json_parse(swap->expected) : NULL,
										 docrep_json_parse(swap->doc));
}

bool
docrep_local_swap_local(DocrepPeer *base, const char *id, const char *expected, const char *doc)
{
	LocalSwap	swap = {.id = id, .expected = expected, .doc = doc};

	docrep_local_in_transaction((LocalPeer *) base, "docrep: writing a local document",
								swap_local, &swap);
	return swap.done;
}

void
docrep_local_fence(DocrepPeer *base, const char *id, const char *token)
{
	LocalPeer  *peer = (LocalPeer *) base;

	peer->fenced = true;
	docrep_fence_set(&peer->table, id, token);
}
