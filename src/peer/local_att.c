/*-------------------------------------------------------------------------
 *
 * local_att.c
 *		Contents of attachments of a table of this database, a piece a transaction.
 *
 * None is open while the other peer is waited for.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "peer/local.h"
#include "utils/memutils.h"

/* ---------- reading ---------- */

bool
docrep_local_open_att(DocrepPeer *base, const DocrepDoc *doc, DocAtt *att)
{
	LocalAtts  *atts = &((LocalPeer *) base)->atts;

	if (atts->piece == NULL)
		atts->piece = MemoryContextAlloc(base->cxt, DOCREP_ATT_PIECE);
	atts->doc = doc;
	atts->att = att;
	atts->len = 0;
	atts->used = 0;
	atts->offset = 0;
	atts->at_end = false;
	return true;
}

/*
 * Read the next piece.  The last one asks for a byte more than there should be,
 * so that one that is short is the end, and needs no other transaction to tell.
 */
static void
read_piece(LocalPeer *peer, void *arg)
{
	LocalAtts  *atts = &peer->atts;
	int64		left = atts->att->encoded_length - atts->offset;
	Size		size = Min(Max(left, 0) + 1, DOCREP_ATT_PIECE);

	atts->len = docrep_serve_content_read(&peer->table, atts->att->file, atts->offset,
										  atts->piece, size);
	atts->at_end = atts->len < size;
}

Size
docrep_local_read_att(DocrepPeer *base, char *buf, Size size)
{
	LocalAtts  *atts = &((LocalPeer *) base)->atts;
	Size		n;

	if (atts->used == atts->len && !atts->at_end)
	{
		docrep_local_in_transaction((LocalPeer *) base, "docrep: reading an attachment",
									read_piece, NULL);
		atts->used = 0;
		atts->offset += atts->len;
		if (atts->offset > atts->att->encoded_length ||
			(atts->at_end && atts->offset != atts->att->encoded_length))
			docrep_att_wrong_length(base, atts->doc, atts->att, atts->offset, !atts->at_end);
	}
	n = Min(size, atts->len - atts->used);
	memcpy(buf, atts->piece + atts->used, n);
	atts->used += n;
	return n;
}

void
docrep_local_close_att(DocrepPeer *base)
{
	LocalAtts  *atts = &((LocalPeer *) base)->atts;

	if (atts->piece != NULL)
		pfree(atts->piece);
	atts->piece = NULL;
	atts->doc = NULL;
	atts->att = NULL;
}

/* ---------- what the table has ---------- */

typedef struct LocalAsk
{
	const DocrepDoc *doc;
	const DocAtt *wanted;
	int			n;
	int64	   *files;
} LocalAsk;

static void
local_ask(DocrepPeer *base, const DocrepDoc *doc, const DocAtt *wanted, int n)
{
	LocalAtts  *atts = &((LocalPeer *) base)->atts;
	LocalAsk   *ask = palloc(sizeof(LocalAsk));

	ask->doc = doc;
	ask->wanted = wanted;
	ask->n = n;
	ask->files = palloc_extended(n * sizeof(int64), MCXT_ALLOC_HUGE);
	atts->asks = lappend(atts->asks, ask);
}

/* Look for everything that was asked for. */
static void
look_for_contents(LocalPeer *peer, void *arg)
{
	ListCell   *lc;

	foreach(lc, peer->atts.asks)
	{
		LocalAsk   *ask = lfirst(lc);

		CHECK_FOR_INTERRUPTS();
		docrep_serve_contents_have(&peer->table, ask->doc->id, ask->wanted, ask->n, ask->files);
	}
	peer->atts.looked = true;
}

static int64
local_answer(DocrepPeer *base)
{
	LocalPeer  *peer = (LocalPeer *) base;
	LocalAtts  *atts = &peer->atts;
	LocalAsk   *ask;

	if (!atts->looked)
		docrep_local_in_transaction(peer, "docrep: looking for attachments",
									look_for_contents, NULL);
	ask = linitial(atts->asks);
	if (atts->answered == ask->n)
	{
		atts->asks = list_delete_first(atts->asks);
		atts->answered = 0;
		ask = linitial(atts->asks);
	}
	return ask->files[atts->answered++];
}

/* ---------- storing ---------- */

typedef struct LocalPiece
{
	const char *data;
	Size		len;
} LocalPiece;

static void
append_piece(LocalPeer *peer, void *arg)
{
	LocalPiece *piece = arg;

	docrep_serve_content_append(&peer->table, &peer->atts.upload, peer->atts.upload_cxt,
								piece->data, piece->len);
}

static void
local_append(DocrepPeer *base, const char *data, Size len)
{
	LocalPeer  *peer = (LocalPeer *) base;
	LocalPiece	piece = {data, len};

	if (peer->atts.upload == NULL)
		peer->atts.upload_cxt = AllocSetContextCreate(base->cxt, "docrep upload",
													  ALLOCSET_DEFAULT_SIZES);
	docrep_local_in_transaction(peer, "docrep: writing an attachment", append_piece, &piece);
}

/* The end of an upload. */
typedef struct LocalEnd
{
	uint8		md5[16];
	int64		file;
	int64		length;
} LocalEnd;

static void
finish_upload(LocalPeer *peer, void *arg)
{
	LocalEnd   *end = arg;

	end->file = docrep_serve_content_finish(&peer->table, peer->atts.upload, end->md5,
											&end->length);
}

static void
local_finish(DocrepPeer *base, DocAtt *att, int64 length)
{
	LocalPeer  *peer = (LocalPeer *) base;
	LocalEnd	end;

	docrep_local_in_transaction(peer, "docrep: writing an attachment", finish_upload, &end);
	docrep_upload_abandon(peer->atts.upload);
	peer->atts.upload = NULL;
	MemoryContextDelete(peer->atts.upload_cxt);
	docrep_upload_check_length(base, att, length, end.length);
	att->file = end.file;
}

static void
local_settle(DocrepPeer *base)
{
	LocalAtts  *atts = &((LocalPeer *) base)->atts;

	atts->asks = NIL;			/* their context goes */
	atts->answered = 0;
	atts->looked = false;
}

const DocrepUploadOps docrep_local_upload_ops = {
	.ask = local_ask,
	.answer = local_answer,
	.append = local_append,
	.finish = local_finish,
	.settle = local_settle,
};
