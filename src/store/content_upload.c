/*-------------------------------------------------------------------------
 *
 * content_upload.c
 *		Contents that come piece by piece.
 *
 * An upload begins with a header without sha256, so that docrep.compact() can
 * tell how old it is, goes on with parts, and ends with the header replaced,
 * or with all of it deleted if an equal file is there.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/transam.h"
#include "access/xact.h"
#include "common/cryptohash.h"
#include "compat.h"
#include "miscadmin.h"
#include "store/companion.h"
#include "store/content.h"
#include "store/errcodes.h"
#include "utils/acl.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

struct DocUpload
{
	MemoryContext cxt;			/* its own */
	Oid			relid;			/* of the document table */
	int64		file;
	int64		length;			/* so far */
	int32		part;			/* number of the next part */
	TransactionId xid;			/* the last (sub)transaction that wrote, until it is known to
								 * have committed */
	bool		spoiled;
	pg_cryptohash_ctx *sha256;
	pg_cryptohash_ctx *md5;
	Size		buflen;
	char		buf[DOCREP_ATT_PART];	/* what does not fill a part yet */
};

/* Digests outlive transactions, and so must what keeps account of them. */
static ResourceOwner uploads_owner = NULL;

static pg_cryptohash_ctx *
begin_digest(pg_cryptohash_type type)
{
	ResourceOwner saved = CurrentResourceOwner;
	pg_cryptohash_ctx *ctx;

	if (uploads_owner == NULL)
		uploads_owner = ResourceOwnerCreate(NULL, "docrep uploads");
	CurrentResourceOwner = uploads_owner;
	ctx = pg_cryptohash_create(type);
	CurrentResourceOwner = saved;
	if (ctx == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("out of memory")));
	return ctx;
}

static void
check_digest(pg_cryptohash_ctx *ctx, int result)
{
	if (result < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("could not compute the digest of an attachment: %s",
						pg_cryptohash_error(ctx))));
}

/* Called when the upload's memory goes. */
static void
free_digests(void *arg)
{
	DocUpload  *upload = arg;

	if (upload->sha256)
		pg_cryptohash_free(upload->sha256);
	if (upload->md5)
		pg_cryptohash_free(upload->md5);
}

static DocUpload *
make_upload(DocTable *table, MemoryContext cxt)
{
	MemoryContext own = AllocSetContextCreate(cxt, "docrep upload", ALLOCSET_SMALL_SIZES);
	DocUpload  *upload = MemoryContextAllocZero(own, sizeof(DocUpload));
	MemoryContextCallback *callback = MemoryContextAlloc(own, sizeof(MemoryContextCallback));

	upload->cxt = own;
	callback->func = free_digests;
	callback->arg = upload;
	MemoryContextRegisterResetCallback(own, callback);
	upload->relid = table->info.relid;
	upload->file = docrep_content_new_number();
	upload->part = 1;
	upload->sha256 = begin_digest(PG_SHA256);
	upload->md5 = begin_digest(PG_MD5);
	check_digest(upload->sha256, pg_cryptohash_init(upload->sha256));
	check_digest(upload->md5, pg_cryptohash_init(upload->md5));
	return upload;
}

/* From here to the end of the transaction the upload hangs on it. */
static void
writes_now(DocUpload *upload)
{
	upload->xid = GetCurrentTransactionId();
}

/*
 * Has everything so far been kept?  What was written before the last
 * subtransaction was written by itself or by those around it, so that one is
 * enough to look at.
 */
static void
check_usable(DocTable *table, DocUpload *upload)
{
	if (upload->relid != table->info.relid)
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_BAD_REQUEST),
				 errmsg("the upload was begun for another document table")));
	if (TransactionIdIsValid(upload->xid) &&
		!TransactionIdIsCurrentTransactionId(upload->xid))
	{
		if (!TransactionIdDidCommit(upload->xid))
			upload->spoiled = true;
		upload->xid = InvalidTransactionId;
	}
	if (upload->spoiled)
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_PRECONDITION_FAILED),
				 errmsg("the upload of an attachment is incomplete"),
				 errdetail("A transaction that wrote a part of it was rolled back."),
				 errhint("Begin it again.")));
}

DocUpload *
docrep_upload_begin(DocTable *table, MemoryContext cxt)
{
	DocUpload  *upload;
	Datum		values[Natts_att];
	bool		nulls[Natts_att];

	PreventCommandIfReadOnly("an upload of an attachment");
	docrep_table_check_any(table, ACL_INSERT | ACL_UPDATE);
	upload = make_upload(table, cxt);
	memset(nulls, true, sizeof(nulls));
	values[Anum_att_file - 1] = Int64GetDatum(upload->file);
	nulls[Anum_att_file - 1] = false;
	values[Anum_att_part - 1] = Int32GetDatum(0);
	nulls[Anum_att_part - 1] = false;
	values[Anum_att_at - 1] = TimestampTzGetDatum(GetCurrentTimestamp());
	nulls[Anum_att_at - 1] = false;
	writes_now(upload);
	docrep_companion_insert(table, docrep_att_rel(table), values, nulls);
	return upload;
}

/* Write whole parts of data as they come. */
static void
write_parts(DocTable *table, DocUpload *upload, const char *data, Size len)
{
	docrep_content_insert_parts(table, upload->file, upload->part, data, len);
	upload->part += (len + DOCREP_ATT_PART - 1) / DOCREP_ATT_PART;
}

void
docrep_upload_append(DocTable *table, DocUpload *upload, const char *data, Size len)
{
	Size		whole;

	check_usable(table, upload);
	if (len == 0)
		return;
	/* an error in what follows leaves digests and parts out of step */
	upload->spoiled = true;
	check_digest(upload->sha256, pg_cryptohash_update(upload->sha256, (const uint8 *) data, len));
	check_digest(upload->md5, pg_cryptohash_update(upload->md5, (const uint8 *) data, len));
	writes_now(upload);
	upload->length += len;
	if (upload->buflen > 0)
	{
		Size		n = Min(len, DOCREP_ATT_PART - upload->buflen);

		memcpy(upload->buf + upload->buflen, data, n);
		upload->buflen += n;
		data += n;
		len -= n;
	}
	/* a part is kept back until more comes: all of it may yet fit into the header */
	if (len > 0 && upload->buflen == DOCREP_ATT_PART)
	{
		write_parts(table, upload, upload->buf, DOCREP_ATT_PART);
		upload->buflen = 0;
	}
	whole = len > 0 ? (len - 1) / DOCREP_ATT_PART * DOCREP_ATT_PART : 0;
	if (whole > 0)
		write_parts(table, upload, data, whole);
	if (len > whole)
	{
		memcpy(upload->buf, data + whole, len - whole);
		upload->buflen = len - whole;
	}
	upload->spoiled = false;
}

/*
 * Find the header that the upload began with and lock it, so that from here
 * on docrep.compact() passes it over.  Returns where it is.
 */
static ItemPointerData
lock_upload(DocTable *table, DocUpload *upload)
{
	Snapshot	snapshot;
	TupleTableSlot *slot;
	ItemPointerData tid = {0};
	bool		found;

	CommandCounterIncrement();
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	slot = docrep_att_first(table, snapshot, upload->file, 0, false);
	found = slot != NULL && docrep_att_slot_part(slot) == 0;
	if (found)
	{
		tid = slot->tts_tid;
		found = docrep_content_lock_header(table, slot, LockTupleExclusive);
	}
	UnregisterSnapshot(snapshot);
	if (!found)
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_PRECONDITION_FAILED),
				 errmsg("the upload of an attachment has been removed"),
				 errdetail("docrep.compact() takes it for abandoned when it is older than its grace period."),
				 errhint("Begin it again.")));
	return tid;
}

int64
docrep_upload_finish(DocTable *table, DocUpload *upload, uint8 *md5, int64 *length)
{
	uint8		own_sha256[PG_SHA256_DIGEST_LENGTH];
	uint8		own_md5[MD5_DIGEST_LENGTH];
	bool		fits = upload->length <= DOCREP_ATT_PART;
	bool		header_there = true;
	ItemPointerData header;
	int64		file;

	check_usable(table, upload);
	upload->spoiled = true;		/* there is nothing to come after this */
	writes_now(upload);
	header = lock_upload(table, upload);
	if (!fits && upload->buflen > 0)
		write_parts(table, upload, upload->buf, upload->buflen);
	check_digest(upload->sha256, pg_cryptohash_final(upload->sha256, own_sha256, sizeof(own_sha256)));
	check_digest(upload->md5, pg_cryptohash_final(upload->md5, own_md5, sizeof(own_md5)));
	for (;;)
	{
		file = docrep_content_find(table, own_sha256);
		if (file != 0)
		{
			(void) docrep_content_delete(table, upload->file);
			break;
		}
		if (header_there)
			docrep_row_delete(table, docrep_att_rel(table), &header);
		header_there = false;
		file = upload->file;
		if (docrep_content_insert_header(table, file, own_sha256, own_md5, upload->length,
										 fits ? upload->buf : NULL))
			break;
	}
	CommandCounterIncrement();
	if (md5)
		memcpy(md5, own_md5, sizeof(own_md5));
	if (length)
		*length = upload->length;
	return file;
}

/*
 * While a transaction is rolled back: can the upload not be finished any more, because
 * this one or one before wrote a part of it?
 */
bool
docrep_upload_is_spoiled(const DocUpload *upload)
{
	return upload->spoiled ||
		(TransactionIdIsValid(upload->xid) && !TransactionIdDidCommit(upload->xid));
}

void
docrep_upload_abandon(DocUpload *upload)
{
	MemoryContextDelete(upload->cxt);
}
