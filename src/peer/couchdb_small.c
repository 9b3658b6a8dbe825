/*-------------------------------------------------------------------------
 *
 * couchdb_small.c
 *		Small contents of attachments, which come along with their documents.
 *
 * Each is a GET of its own, several at once.  They are read as they are
 * stored, with their encoding, since that is what the digest is of.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "peer/couchdb_source.h"
#include "store/errcodes.h"
#include "utils/memutils.h"

/* What a call takes beside its content, about. */
#define CALL_BYTES		4096

static const char doing[] = "reading an attachment";

typedef struct SmallAtt
{
	dlist_node	link;
	MemoryContext cxt;
	DocrepHttpCall *call;
	int			doc;			/* its index in the batch */
	int			att;
} SmallAtt;

/* Does the content come along with its document, of which "total" bytes do already? */
static bool
comes_along(const DocAtt *att, Size total)
{
	return att->encoded_length <= DOCREP_ATT_INLINE &&
		total + att->encoded_length <= DOCREP_ATT_INLINE_DOC;
}

void
docrep_couch_small_add(CouchSmalls *smalls, DocrepDocs *out, int index)
{
	DocrepDoc  *doc = &out->docs[index];
	Size		total = 0;

	for (int i = 0; i < doc->atts.n; i++)
	{
		DocAtt	   *att = &doc->atts.atts[i];
		SmallAtt   *small;

		if (att->data != NULL)
			out->bytes += att->datalen;
		if (att->data != NULL || !comes_along(att, total))
			continue;
		total += att->encoded_length;
		if (att->encoded_length == 0)
		{
			att->data = "";
			continue;
		}
		out->bytes += att->encoded_length + CALL_BYTES;
		small = MemoryContextAllocZero(smalls->cxt, sizeof(SmallAtt));
		small->doc = index;
		small->att = i;
		dlist_push_tail(&smalls->waiting, &small->link);
	}
}

static void
start(CouchSmalls *smalls, SmallAtt *small, DocrepDocs *out)
{
	const DocrepDoc *doc = &out->docs[small->doc];
	const DocAtt *att = &doc->atts.atts[small->att];
	MemoryContext caller;

	small->cxt = AllocSetContextCreate(smalls->cxt, "docrep content", ALLOCSET_SMALL_SIZES);
	caller = MemoryContextSwitchTo(small->cxt);
	small->call = docrep_http_call(smalls->peer->http, small->cxt, "GET",
								   docrep_couch_att_path(doc, att));
	small->call->accept = "*/*";
	/* what somebody on the way compresses is not how it is stored */
	small->call->raw = small->call->accept_gzip_raw = att->encoding != NULL;
	small->call->max_body = DOCREP_ATT_INLINE * 4;
	docrep_http_start(small->call);
	MemoryContextSwitchTo(caller);
	dlist_push_tail(&smalls->running, &small->link);
	smalls->nrunning++;
}

static void
end(CouchSmalls *smalls, SmallAtt *small)
{
	dlist_delete(&small->link);
	smalls->nrunning--;
	MemoryContextDelete(small->cxt);
	pfree(small);
}

/* The source does not have a content: its document is kept as one that could not be read. */
static void
give_up(CouchSmalls *smalls, SmallAtt *small, DocrepDocs *out)
{
	MemoryContext caller = CurrentMemoryContext;
	DocrepDoc  *doc = &out->docs[small->doc];

	docrep_couch_content_missing(smalls->peer, doc->id, &doc->path.revs[0]);
	/* others may have come meanwhile, and moved it */
	doc = &out->docs[small->doc];
	MemoryContextSwitchTo(out->cxt);
	doc->unreadable = true;
	doc->sqlstate = ERRCODE_DOCREP_NOT_FOUND;
	doc->reason = psprintf("attachment \"%s\": " COUCH_CONTENT_MISSING,
						   doc->atts.atts[small->att].name);
	/* those of it that are on their way still find their places */
	doc->atts.n = 0;
	MemoryContextSwitchTo(caller);
	end(smalls, small);
}

/*
 * A content has come: put it into its document.  If the server has decoded what
 * it says is encoded, what came counts: its digest is another one.
 */
static void
take(CouchSmalls *smalls, SmallAtt *small, DocrepDocs *out)
{
	DocrepDoc  *doc = &out->docs[small->doc];
	DocAtt	   *att = &doc->atts.atts[small->att];
	DocrepHttpCall *call = small->call;
	char	   *data;

	if (call->failed == 0 && call->status == 404)
	{
		give_up(smalls, small, out);
		return;
	}
	if (call->failed != 0 || call->status / 100 != 2)
		docrep_http_raise(call, doing);
	if (att->encoding != NULL && call->encoding[0] == '\0')
	{
		att->encoding = NULL;
		att->digest = NULL;
		att->encoded_length = att->length;
	}
	if (call->answer.len != att->encoded_length)
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_UNAVAILABLE),
				 errmsg("%s failed at %s", doing, smalls->peer->base.display),
				 errdetail("Attachment \"%s\" of document \"%s\" has %d bytes and not " INT64_FORMAT ".",
						   att->name, doc->id, call->answer.len, att->encoded_length)));
	data = MemoryContextAlloc(out->cxt, call->answer.len + 1);
	memcpy(data, call->answer.data, call->answer.len);
	att->data = data;
	att->datalen = call->answer.len;
	end(smalls, small);
}

void
docrep_couch_small_advance(CouchSmalls *smalls, DocrepDocs *out)
{
	int			most = Max(1, smalls->peer->base.options.http_connections / 2);
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, &smalls->running)
	{
		SmallAtt   *small = dlist_container(SmallAtt, link, iter.cur);

		if (small->call->done)
			take(smalls, small, out);
	}
	while (smalls->nrunning < most && !dlist_is_empty(&smalls->waiting))
	{
		SmallAtt   *small = dlist_container(SmallAtt, link, dlist_pop_head_node(&smalls->waiting));

		start(smalls, small, out);
	}
}

bool
docrep_couch_small_pending(CouchSmalls *smalls)
{
	return smalls->nrunning > 0 || !dlist_is_empty(&smalls->waiting);
}
