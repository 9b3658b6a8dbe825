/*-------------------------------------------------------------------------
 *
 * attachment.h
 *		Attachments: what a revision says of its own, and their contents.
 *
 * A revision's attachments are one jsonb value, the column _attachments of
 * its row (in the document table, among the tombstones or the losing leaves);
 * NULL: none.  It is CouchDB's _attachments of stubs without "stub", plus
 * "file", the number of the content:
 *
 *	{"logo.png": {"content_type": "image/png", "digest": "md5-...",
 *				  "length": 1024, "revpos": 2, "file": 4711,
 *				  "encoding": "gzip", "encoded_length": 801}}
 *
 * Contents lie in the companion att_<uuid>, in parts of about 8 kB, one file a
 * content: equal contents (by SHA-256) of one table are one file.  A file's
 * number is 63 random bits; who knows it has been shown the revision.  What no
 * revision uses is removed by docrep.compact().
 *
 *-------------------------------------------------------------------------
 */
#ifndef DOCREP_STORE_ATTACHMENT_H
#define DOCREP_STORE_ATTACHMENT_H

#include "store/table.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"

/* contents up to this size travel with their document ... */
#define DOCREP_ATT_INLINE		(32 * 1024)
/* ... as long as one document has no more than this of them */
#define DOCREP_ATT_INLINE_DOC	(1024 * 1024)
/* what is said of a content whose type nobody gave */
#define DOCREP_ATT_DEFAULT_TYPE	"application/octet-stream"
/* longer names are refused with DR400 */
#define DOCREP_MAX_ATT_NAME		1000

/* One attachment of one revision. */
typedef struct DocAtt
{
	char	   *name;			/* UTF-8, not empty */
	const char *content_type;	/* NULL: as in the revision that a stub stands for */
	char	   *digest;			/* "md5-<base64>" of the content as stored; as it came;
								 * NULL: not known yet */
	int64		length;			/* of the content as a user gets it */
	char	   *encoding;		/* "gzip", or NULL */
	int64		encoded_length; /* of the content as stored and sent; equals length
								 * without encoding */
	int32		revpos;			/* generation that brought it; 0: not known */

	/* where the content is; the first that is set counts */
	const char *data;			/* here, as stored ... */
	Size		datalen;		/* ... of encoded_length bytes */
	int64		file;			/* in att_<uuid> of the table that the document was
								 * read from or is written to; 0: nowhere */
	bool		stub;			/* like the attachment of this name (and digest, if
								 * given) of an earlier revision that the table has */
} DocAtt;

typedef struct DocAtts
{
	int			n;
	DocAtt	   *atts;			/* in the order of their names (bytes) */
} DocAtts;

/* ---------- the column: attachment.c ---------- */

/* NULL column or NULL: n = 0.  Allocated in CurrentMemoryContext. */
extern void docrep_atts_from_column(Jsonb *column, DocAtts *atts);

/* NULL if there are none.  Every attachment has its file. */
extern Jsonb *docrep_atts_to_column(const DocAtts *atts);

/* The attachment of a name, or NULL. */
extern DocAtt *docrep_atts_find(const DocAtts *atts, const char *name);

/*
 * The member _attachments of a document as put() and bulk_docs() take it and
 * CouchDB sends it: "data" (base64), or "stub": true, or "follows": true (the
 * content comes by another way: neither data nor stub).  Malformed: DR400
 * naming the attachment.  Digests are compared with the data when the document
 * is written, so that a wrong one is that document's error and no more; except
 * one beside "encoding" and "data", which is of a form that is not here.
 */
extern void docrep_atts_from_json(const JsonbContainer *member, DocAtts *atts);

/* NULL, or what is wrong with an attachment's name (CouchDB: not empty, no leading "_"). */
extern const char *docrep_att_name_problem(const char *name, int len);

/* Is this the form of digest that can be compared?  Of others only equality counts. */
extern bool docrep_digest_is_md5(const char *digest);

/* "md5-" and base64 of 16 bytes, allocated; and back: false if it is not of that form. */
extern char *docrep_md5_digest(const uint8 *md5);
extern bool docrep_md5_from_digest(const char *digest, uint8 *md5);

/* The 16 bytes of a content's MD5. */
extern void docrep_content_md5(const char *data, Size len, uint8 *md5);

/* ---------- contents: content.c.  All in a transaction. ---------- */

/* A file is read or written by its number; it is immutable once complete. */

/*
 * Store a content that is at hand, or find the equal one; returns its file.
 * md5, if not NULL, gets the digest.  The file is locked against removal until
 * the transaction ends.
 */
extern int64 docrep_content_store(DocTable *table, const char *data, Size len, uint8 *md5);

/*
 * Storing piece by piece, in as many transactions as one likes.  An upload
 * belongs to the process; one that is not finished leaves an incomplete file
 * for docrep.compact().  A transaction that rolls back after an append spoils
 * the upload: the next call raises.
 */
typedef struct DocUpload DocUpload;

extern DocUpload *docrep_upload_begin(DocTable *table, MemoryContext cxt);
extern void docrep_upload_append(DocTable *table, DocUpload *upload, const char *data, Size len);
/* The end: its file (an equal one that was there, perhaps), digest and length. */
extern int64 docrep_upload_finish(DocTable *table, DocUpload *upload, uint8 *md5, int64 *length);
/* When a transaction ends in a rollback: can it only be abandoned? */
extern bool docrep_upload_is_spoiled(const DocUpload *upload);
extern void docrep_upload_abandon(DocUpload *upload);	/* frees memory only; cannot fail */

/*
 * Lock a complete file against removal until the transaction ends.  False: there is
 * none of this number.  length and md5 may be NULL.
 */
extern bool docrep_content_pin(DocTable *table, int64 file, int64 *length, uint8 *md5);

/*
 * Read up to len bytes from an offset of a complete file into buf; returns how
 * many (0: at its end).  Not there: DR404.
 */
extern Size docrep_content_read(DocTable *table, int64 file, int64 offset, char *buf, Size len);

/* All of it, as a bytea without encoding; more than a bytea holds: DR413. */
extern bytea *docrep_content_get(DocTable *table, const DocAtt *att);

/* Up to len bytes from an offset of it, without encoding; what is beyond its end is left out. */
extern bytea *docrep_content_get_part(DocTable *table, const DocAtt *att, int64 offset, Size len);

/*
 * Of any leaf of the document that the role may see: the files with the digests
 * and encoded_length of those wanted; files[i] = 0: none.  content_have.c.
 */
extern void docrep_contents_of_doc(DocTable *table, const char *id, const DocAtt *wanted,
								   int n, int64 *files);

/*
 * Are the attachments the same, whichever revision brought them: names, digests, types and
 * encodings?  Both are in order of names, and their digests are known.
 */
extern bool docrep_atts_equal(const DocAtts *a, const DocAtts *b);

#endif							/* DOCREP_STORE_ATTACHMENT_H */
