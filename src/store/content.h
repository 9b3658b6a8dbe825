/*-------------------------------------------------------------------------
 *
 * content.h
 *		What the files that deal with contents of attachments share; who only
 *		uses contents needs attachment.h.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DOCREP_STORE_CONTENT_H
#define DOCREP_STORE_CONTENT_H

#include "common/md5.h"
#include "common/sha2.h"
#include "executor/tuptable.h"
#include "nodes/lockoptions.h"
#include "store/attachment.h"

/* What a header says; allocated nowhere. */
typedef struct ContentHeader
{
	bool		complete;		/* else length and md5 say nothing */
	int64		length;
	TimestampTz at;
	uint8		md5[MD5_DIGEST_LENGTH];
} ContentHeader;

/* Read a row of part 0. */
extern void docrep_content_header(TupleTableSlot *slot, ContentHeader *header);

extern int64 docrep_att_slot_file(TupleTableSlot *slot);
extern int32 docrep_att_slot_part(TupleTableSlot *slot);

/* The digests of a content that is at hand; either may be NULL. */
extern void docrep_content_digests(const char *data, Size len, uint8 *sha256, uint8 *md5);

/* As docrep_content_store, of a content whose digests are known. */
extern int64 docrep_content_store_known(DocTable *table, const char *data, Size len,
										const uint8 *sha256, const uint8 *md5);

/*
 * The complete file with these contents, locked against removal; 0: none.
 * Waits for transactions that are inserting or deleting it.
 */
extern int64 docrep_content_find(DocTable *table, const uint8 *sha256);

/*
 * Lock a header, found in this slot, until the transaction ends.  False: it has
 * just been removed.  One that this transaction has inserted is not locked:
 * nobody else can remove it.
 */
extern bool docrep_content_lock_header(DocTable *table, TupleTableSlot *slot, LockTupleMode mode);

/* A number for a new file. */
extern int64 docrep_content_new_number(void);

/*
 * Insert the header of a complete file; data: all of it, or NULL if it is in
 * parts.  False, and nothing inserted: somebody else has, or is about to have,
 * a file of the same contents.
 */
extern bool docrep_content_insert_header(DocTable *table, int64 file, const uint8 *sha256,
										 const uint8 *md5, int64 length, const char *data);

/* Insert len bytes as parts from this number on, DOCREP_ATT_PART bytes each but the last. */
extern void docrep_content_insert_parts(DocTable *table, int64 file, int32 part,
										const char *data, Size len);

/* Delete all rows of a file that are there now; returns the bytes they held. */
extern int64 docrep_content_delete(DocTable *table, int64 file);

#endif							/* DOCREP_STORE_CONTENT_H */
