/*-------------------------------------------------------------------------
 *
 * leaf_digest.c
 *		Digests of revisions and of attachments' contents.
 *
 * XXH3 with a seed that is new in every run: two revisions that are made to
 * collide in one do not in the next.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <zlib.h>

#include "replicator/verify.h"
#include "store/document.h"
#include "store/errcodes.h"
#include "utils/memutils.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#define CONTENT_BUFFER	(64 * 1024)

/* Tell what follows from what was before. */
#define MARK_JSONB		'j'
#define MARK_RAW		'r'
#define MARK_NAME		'n'

static Digest
digest_of(XXH128_hash_t hash)
{
	Digest		digest = {hash.low64, hash.high64};

	return digest;
}

Digest
docrep_digest_text(const Verify *v, const char *text, Size len)
{
	return digest_of(XXH3_128bits_withSeed(text, len, v->seed));
}

/* The body as jsonb, or NULL: it is none. */
static Jsonb *
body_of(DocrepDoc *doc)
{
	DocWrite	write;

	if (doc->unreadable)
		return NULL;
	if (doc->body != NULL || doc->json == NULL)
		return doc->body;
	/* its attachments are another matter */
	memset(&doc->atts, 0, sizeof(doc->atts));
	return docrep_doc_to_write(doc, &write) ? write.body : NULL;
}

Digest
docrep_digest_body(Verify *v, const DocrepDoc *doc)
{
	DocrepDoc	copy = *doc;
	Jsonb	   *body = body_of(&copy);
	char		hash[REV_HASH_LEN + 1];

	if (body == NULL && doc->json != NULL)
	{
		Digest		digest = docrep_digest_text(v, doc->json, doc->jsonlen);

		digest.high ^= MARK_RAW;
		return digest;
	}
	/* a revision's hash takes numbers by their value and members in one order */
	hash[0] = MARK_JSONB;
	docrep_revision_hash(NULL, false, body, NULL, (uint8 *) hash + 1);
	return docrep_digest_text(v, hash, sizeof(hash));
}

static void
put_int(StringInfo out, int64 value)
{
	appendBinaryStringInfo(out, (const char *) &value, sizeof(value));
}

static void
put_text(StringInfo out, const char *text)
{
	put_int(out, text ? strlen(text) : -1);
	if (text)
		appendStringInfoString(out, text);
}

static void
put_rev(StringInfo out, const Rev *rev)
{
	put_int(out, ((int64) rev->gen << 16) | rev->len);
	appendBinaryStringInfo(out, (const char *) rev->bytes, rev->len);
}

Digest
docrep_digest_rev(Verify *v, const char *id, const Rev *rev)
{
	MemoryContext old = MemoryContextSwitchTo(v->scratch);
	StringInfoData text;
	Digest		digest;

	initStringInfo(&text);
	appendStringInfoChar(&text, MARK_NAME);
	put_text(&text, id);
	put_rev(&text, rev);
	digest = docrep_digest_text(v, text.data, text.len);
	MemoryContextSwitchTo(old);
	MemoryContextReset(v->scratch);
	return digest;
}

/* What the options want of attachments. */
static void
put_atts(StringInfo out, const DocAtts *atts)
{
	put_int(out, atts->n);
	for (int i = 0; i < atts->n; i++)
	{
		const DocAtt *att = &atts->atts[i];

		put_text(out, att->name);
		put_text(out, att->content_type);
		put_int(out, att->length);
		put_text(out, att->digest);
	}
}

Digest
docrep_digest_leaf(Verify *v, const DocrepDoc *doc)
{
	const Inspection *inspection = v->inspection;
	MemoryContext old = MemoryContextSwitchTo(v->scratch);
	int			known = inspection->ancestry == INSPECT_ANCESTRY_NONE ? 1 : doc->path.n;
	StringInfoData text;
	Digest		digest;

	initStringInfo(&text);
	put_text(&text, doc->id);
	put_int(&text, doc->deleted);
	for (int i = 0; i < Min(known, doc->path.n); i++)
		put_rev(&text, &doc->path.revs[i]);
	digest = docrep_digest_body(v, doc);
	appendBinaryStringInfo(&text, (char *) &digest, sizeof(digest));
	if (inspection->attachments != INSPECT_ATTS_NONE)
		put_atts(&text, &doc->atts);
	digest = docrep_digest_text(v, text.data, text.len);
	MemoryContextSwitchTo(old);
	MemoryContextReset(v->scratch);
	return digest;
}

/* ---------- contents ---------- */

/* A content that is being read: where it comes from and where it goes. */
typedef struct ContentRead
{
	XXH3_state_t *state;
	bool		gzip;
	z_stream	inflater;
	bool		decoded;		/* ... but it comes decoded */
	char	   *plain;			/* CONTENT_BUFFER bytes */
	const char *problem;		/* it does not decode */
} ContentRead;

/* Take some of the stored content. */
static void
take_content(ContentRead *read, const char *data, Size len)
{
	if (!read->gzip || read->decoded)
	{
		XXH3_128bits_update(read->state, data, len);
		return;
	}
	read->inflater.next_in = (Bytef *) unconstify(char *, data);
	read->inflater.avail_in = len;
	while (read->inflater.avail_in > 0 && read->problem == NULL)
	{
		int			rc;

		read->inflater.next_out = (Bytef *) read->plain;
		read->inflater.avail_out = CONTENT_BUFFER;
		rc = inflate(&read->inflater, Z_NO_FLUSH);
		XXH3_128bits_update(read->state, read->plain, CONTENT_BUFFER - read->inflater.avail_out);
		/* one gzip member may follow another */
		if (rc == Z_STREAM_END && read->inflater.avail_in > 0)
			rc = inflateReset(&read->inflater);
		if (rc != Z_OK && rc != Z_STREAM_END && rc != Z_BUF_ERROR)
			read->problem = "its content cannot be decoded";
	}
}

/* Read the content from its peer. */
static void
read_content(Verify *v, DocrepPeer *peer, const DocrepDoc *doc, const DocAtt *att,
			 ContentRead *read)
{
	char	   *buffer = palloc(CONTENT_BUFFER);
	DocAtt		opened = *att;
	Size		len;

	if (!peer->ops->open_att(peer, doc, &opened))
		read->problem = "its content is missing";
	read->decoded = read->gzip && opened.encoding == NULL;
	while (read->problem == NULL && (len = peer->ops->read_att(peer, buffer, CONTENT_BUFFER)) > 0)
	{
		take_content(read, buffer, len);
		if (v->hooks->should_stop(v->hooks->arg))
			v->stopped = true;
		if (v->stopped)
			break;
	}
	peer->ops->close_att(peer);
	pfree(buffer);
}

Digest
docrep_digest_content(Verify *v, DocrepPeer *peer, const DocrepDoc *doc, const DocAtt *att)
{
	ContentRead *read = palloc0(sizeof(ContentRead));
	Digest		digest = {0, 0};

	if (att->data == NULL && peer->ops->open_att == NULL)
		return docrep_digest_text(v, att->digest ? att->digest : "",
								  att->digest ? strlen(att->digest) : 0);
	read->plain = palloc(CONTENT_BUFFER);
	read->state = XXH3_createState();
	if (read->state == NULL)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	read->gzip = att->encoding != NULL && strcmp(att->encoding, "gzip") == 0;
	if (read->gzip && inflateInit2(&read->inflater, 15 + 16) != Z_OK)
	{
		XXH3_freeState(read->state);
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	}
	PG_TRY();
	{
		XXH3_128bits_reset_withSeed(read->state, v->seed);
		if (att->data != NULL)
			take_content(read, att->data, att->datalen);
		else
			read_content(v, peer, doc, att, read);
		digest = digest_of(XXH3_128bits_digest(read->state));
		/* what does not decode equals nothing */
		if (read->problem && !pg_strong_random(&digest, sizeof(digest)))
			elog(ERROR, "could not generate random values");
	}
	PG_FINALLY();
	{
		if (read->gzip)
			(void) inflateEnd(&read->inflater);
		XXH3_freeState(read->state);
	}
	PG_END_TRY();
	pfree(read->plain);
	pfree(read);
	return digest;
}
