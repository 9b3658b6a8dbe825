/*-------------------------------------------------------------------------
 *
 * upload.c
 *		Bringing the contents of attachments to a table, local or of another
 *		Postgres server, before the documents that have them are written.
 *
 * A content goes through this process in pieces, so that memory does not
 * depend on its size.  Whatever ends in the middle leaves a file at the target
 * that no revision names, for docrep.compact() there.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "peer/upload.h"
#include "store/errcodes.h"
#include "utils/memutils.h"

/* One source file that is being brought or has been. */
typedef struct Brought
{
	int64		source_file;
	DocAtt	   *att;			/* gets the target's file */
	DocAtt	   *same;			/* NULL, or the one that brings it */
} Brought;

/* One call of docrep_upload_contents. */
typedef struct Uploading
{
	DocrepPeer *target;
	const DocrepUploadOps *ops;
	DocrepPeer *source;
	DocrepDocs *docs;
	char	   *piece;
	Brought    *brought;
	int			nbrought;
	int			cap;
} Uploading;

/* Must contents of the document be brought? */
static bool
is_to_be_written(const DocrepDoc *doc)
{
	return !doc->unreadable && !doc->atts_at_target;
}

/* Must the content be brought, unless the target has it? */
static bool
is_elsewhere(const DocAtt *att)
{
	return att->data == NULL && !att->stub;
}

/* Can the target be asked for it? */
static bool
can_ask(const DocAtt *att)
{
	return att->digest != NULL;
}

/*
 * Is the same file of the source on its way for another revision or document
 * of this batch?  Equal numbers are equal contents, which equal digests need
 * not be.
 */
static DocAtt *
find_brought(const Uploading *up, int64 source_file)
{
	for (int i = 0; source_file != 0 && i < up->nbrought; i++)
	{
		if (up->brought[i].source_file == source_file && up->brought[i].same == NULL)
			return up->brought[i].att;
	}
	return NULL;
}

static void
note_brought(Uploading *up, DocAtt *att, DocAtt *same)
{
	if (up->nbrought >= up->cap)
	{
		up->cap = Max(64, up->cap * 2);
		up->brought = up->brought ? repalloc(up->brought, up->cap * sizeof(Brought)) :
			palloc(up->cap * sizeof(Brought));
	}
	up->brought[up->nbrought].source_file = att->file;
	up->brought[up->nbrought].att = att;
	up->brought[up->nbrought++].same = same;
}

/* Fill the piece from the source; less than all of it: that was the end. */
static Size
read_piece(Uploading *up)
{
	Size		n = 0;

	while (n < DOCREP_ATT_PIECE)
	{
		Size		more = up->source->ops->read_att(up->source, up->piece + n,
													 DOCREP_ATT_PIECE - n);

		if (more == 0)
			break;
		n += more;
	}
	return n;
}

/* Bring one content.  False: the source does not have it. */
static bool
bring(Uploading *up, const DocrepDoc *doc, DocAtt *att)
{
	int64		length = 0;
	Size		n;

	if (up->source == NULL)
		elog(ERROR, "attachment \"%s\" of document \"%s\" has no source", att->name, doc->id);
	if (!up->source->ops->open_att(up->source, doc, att))
		return false;
	do
	{
		CHECK_FOR_INTERRUPTS();
		n = read_piece(up);
		if (n > 0 || length == 0)
			up->ops->append(up->target, up->piece, n);
		length += n;
	} while (n == DOCREP_ATT_PIECE);
	up->source->ops->close_att(up->source);
	up->ops->finish(up->target, att, length);
	return true;
}

/* A document that lacks what it says it has: kept as one that could not be read. */
static void
give_up(Uploading *up, DocrepDoc *doc, const DocAtt *att)
{
	MemoryContext caller = MemoryContextSwitchTo(up->docs->cxt);

	doc->unreadable = true;
	doc->sqlstate = ERRCODE_DOCREP_NOT_FOUND;
	doc->reason = psprintf("attachment \"%s\": the source does not have its content", att->name);
	MemoryContextSwitchTo(caller);
}

/*
 * One attachment whose content is elsewhere and that the target has been asked for: the
 * answer is taken even if the document was given up.
 */
static void
provide(Uploading *up, DocrepDoc *doc, DocAtt *att)
{
	int64		file = can_ask(att) ? up->ops->answer(up->target) : 0;
	DocAtt	   *same;

	if (file != 0)
		att->file = file;
	if (file != 0 || doc->unreadable)
		return;
	same = find_brought(up, att->file);
	note_brought(up, att, same);
	if (same == NULL)
	{
		if (up->piece == NULL)
			up->piece = palloc(DOCREP_ATT_PIECE);
		if (!bring(up, doc, att))
			give_up(up, doc, att);
	}
}

/* All attachments of a document whose contents are elsewhere. */
static void
provide_doc(Uploading *up, DocrepDoc *doc)
{
	if (!is_to_be_written(doc))
		return;
	for (int i = 0; i < doc->atts.n; i++)
	{
		if (is_elsewhere(&doc->atts.atts[i]))
			provide(up, doc, &doc->atts.atts[i]);
	}
	/* what could not be read has none */
	if (doc->unreadable)
		doc->atts.n = 0;
}

/* Ask for all of a document's contents together. */
static void
ask(Uploading *up, const DocrepDoc *doc)
{
	DocAtt	   *wanted = NULL;
	int			n = 0;

	for (int i = 0; i < doc->atts.n && is_to_be_written(doc); i++)
	{
		const DocAtt *att = &doc->atts.atts[i];

		if (!is_elsewhere(att) || !can_ask(att))
			continue;
		if (wanted == NULL)
			wanted = palloc_extended((doc->atts.n - i) * sizeof(DocAtt), MCXT_ALLOC_HUGE);
		wanted[n++] = *att;
	}
	if (n > 0)
		up->ops->ask(up->target, doc, wanted, n);
}

void
docrep_upload_contents(DocrepPeer *target, const DocrepUploadOps *ops, DocrepDocs *docs,
					   DocrepPeer *source)
{
	Uploading	up = {.target = target, .ops = ops, .source = source, .docs = docs};
	MemoryContext caller = CurrentMemoryContext;
	MemoryContext cxt = AllocSetContextCreate(caller, "docrep upload", ALLOCSET_DEFAULT_SIZES);

	MemoryContextSwitchTo(cxt);
	for (int i = 0; i < docs->n; i++)
		ask(&up, &docs->docs[i]);
	for (int i = 0; i < docs->n; i++)
		provide_doc(&up, &docs->docs[i]);
	ops->settle(target);
	for (int i = 0; i < up.nbrought; i++)
	{
		if (up.brought[i].same != NULL)
			up.brought[i].att->file = up.brought[i].same->file;
	}
	for (int i = 0; i < docs->n; i++)
		docs->docs[i].atts_at_target = true;
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(cxt);
}

void
docrep_upload_check_length(DocrepPeer *target, const DocAtt *att, int64 sent, int64 stored)
{
	if (sent == stored)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_DOCREP_UNAVAILABLE),
			 errmsg("%s: attachment \"%s\" did not arrive whole", target->display, att->name),
			 errdetail("It has " INT64_FORMAT " bytes and " INT64_FORMAT " were stored.",
					   sent, stored)));
}

void
docrep_att_wrong_length(DocrepPeer *peer, const DocrepDoc *doc, const DocAtt *att,
						int64 length, bool longer)
{
	ereport(ERROR,
			(errcode(ERRCODE_DOCREP_UNAVAILABLE),
			 errmsg("%s: attachment \"%s\" of document \"%s\" has another length than the document says",
					peer->display, att->name, doc->id),
			 longer ?
			 errdetail("There are more than " INT64_FORMAT " bytes.", att->encoded_length) :
			 errdetail("There are " INT64_FORMAT " bytes and not " INT64_FORMAT ".",
					   length, att->encoded_length)));
}
