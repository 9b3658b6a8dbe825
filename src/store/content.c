/*-------------------------------------------------------------------------
 *
 * content.c
 *		Contents of attachments, in att_<uuid>.
 *
 * A file's header, part 0, has a unique index on the contents' SHA-256: two
 * sessions that store the same at the same time end with one file.  Who means
 * to use a file locks its header FOR KEY SHARE until the transaction ends;
 * docrep.compact() locks it FOR UPDATE before it looks whether it is in use.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/sysattr.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "common/cryptohash.h"
#include "compat.h"
#include "miscadmin.h"
#include "store/companion.h"
#include "store/content.h"
#include "store/errcodes.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

/* parts that are inserted together */
#define PARTS_AT_ONCE		16

/* ---------- digests ---------- */

static void
digest(pg_cryptohash_type type, const char *data, Size len, uint8 *result, Size resultlen)
{
	pg_cryptohash_ctx *ctx = pg_cryptohash_create(type);

	if (ctx == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("out of memory")));
	if (pg_cryptohash_init(ctx) < 0 ||
		pg_cryptohash_update(ctx, (const uint8 *) data, len) < 0 ||
		pg_cryptohash_final(ctx, result, resultlen) < 0)
	{
		const char *problem = pg_cryptohash_error(ctx);

		pg_cryptohash_free(ctx);
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("could not compute the %s digest of an attachment: %s",
						type == PG_MD5 ? "MD5" : "SHA-256", problem)));
	}
	pg_cryptohash_free(ctx);
}

void
docrep_content_md5(const char *data, Size len, uint8 *md5)
{
	digest(PG_MD5, data, len, md5, MD5_DIGEST_LENGTH);
}

void
docrep_content_digests(const char *data, Size len, uint8 *sha256, uint8 *md5)
{
	if (sha256)
		digest(PG_SHA256, data, len, sha256, PG_SHA256_DIGEST_LENGTH);
	if (md5)
		docrep_content_md5(data, len, md5);
}

/* ---------- rows ---------- */

int64
docrep_att_slot_file(TupleTableSlot *slot)
{
	bool		isnull;

	return DatumGetInt64(slot_getattr(slot, Anum_att_file, &isnull));
}

int32
docrep_att_slot_part(TupleTableSlot *slot)
{
	bool		isnull;

	return DatumGetInt32(slot_getattr(slot, Anum_att_part, &isnull));
}

void
docrep_content_header(TupleTableSlot *slot, ContentHeader *header)
{
	bool		isnull;
	Datum		d;

	memset(header, 0, sizeof(*header));
	(void) slot_getattr(slot, Anum_att_sha256, &isnull);
	header->complete = !isnull;
	d = slot_getattr(slot, Anum_att_length, &isnull);
	if (!isnull)
		header->length = DatumGetInt64(d);
	d = slot_getattr(slot, Anum_att_at, &isnull);
	if (!isnull)
		header->at = DatumGetTimestampTz(d);
	d = slot_getattr(slot, Anum_att_md5, &isnull);
	if (!isnull)
	{
		bytea	   *md5 = DatumGetByteaPP(d);

		if (VARSIZE_ANY_EXHDR(md5) == MD5_DIGEST_LENGTH)
			memcpy(header->md5, VARDATA_ANY(md5), MD5_DIGEST_LENGTH);
	}
}

static Datum
bytes_datum(const void *bytes, Size len)
{
	bytea	   *result = palloc(VARHDRSZ + len);

	SET_VARSIZE(result, VARHDRSZ + len);
	if (len > 0)
		memcpy(VARDATA(result), bytes, len);
	return PointerGetDatum(result);
}

int64
docrep_content_new_number(void)
{
	uint64		file;

	do
	{
		if (!pg_strong_random(&file, sizeof(file)))
			ereport(ERROR,
					(errcode(ERRCODE_INTERNAL_ERROR),
					 errmsg("could not generate random values")));
		file &= PG_INT64_MAX;
	} while (file == 0);
	return (int64) file;
}

bool
docrep_content_insert_header(DocTable *table, int64 file, const uint8 *sha256, const uint8 *md5,
							 int64 length, const char *data)
{
	Datum		values[Natts_att];
	bool		nulls[Natts_att] = {0};
	bool		inserted;

	values[Anum_att_file - 1] = Int64GetDatum(file);
	values[Anum_att_part - 1] = Int32GetDatum(0);
	values[Anum_att_sha256 - 1] = bytes_datum(sha256, PG_SHA256_DIGEST_LENGTH);
	values[Anum_att_length - 1] = Int64GetDatum(length);
	values[Anum_att_md5 - 1] = bytes_datum(md5, MD5_DIGEST_LENGTH);
	values[Anum_att_at - 1] = TimestampTzGetDatum(GetCurrentTimestamp());
	nulls[Anum_att_data - 1] = data == NULL;
	if (data)
		values[Anum_att_data - 1] = bytes_datum(data, length);
	inserted = docrep_att_insert_header(table, values, nulls);
	if (data)
		pfree(DatumGetPointer(values[Anum_att_data - 1]));
	return inserted;
}

/* Fill a slot with one part. */
static void
fill_part(TupleTableSlot *slot, int64 file, int32 part, const char *data, Size len)
{
	ExecClearTuple(slot);
	memset(slot->tts_isnull, true, Natts_att * sizeof(bool));
	slot->tts_values[Anum_att_file - 1] = Int64GetDatum(file);
	slot->tts_isnull[Anum_att_file - 1] = false;
	slot->tts_values[Anum_att_part - 1] = Int32GetDatum(part);
	slot->tts_isnull[Anum_att_part - 1] = false;
	slot->tts_values[Anum_att_data - 1] = bytes_datum(data, len);
	slot->tts_isnull[Anum_att_data - 1] = false;
	ExecStoreVirtualTuple(slot);
	ExecMaterializeSlot(slot);
	pfree(DatumGetPointer(slot->tts_values[Anum_att_data - 1]));
}

void
docrep_content_insert_parts(DocTable *table, int64 file, int32 part, const char *data, Size len)
{
	TupleDesc	desc = RelationGetDescr(docrep_att_rel(table));
	MemoryContext scratch = AllocSetContextCreate(CurrentMemoryContext, "docrep parts",
												  ALLOCSET_DEFAULT_SIZES);
	TupleTableSlot *slots[PARTS_AT_ONCE];

	for (int i = 0; i < PARTS_AT_ONCE; i++)
		slots[i] = MakeSingleTupleTableSlot(desc, &TTSOpsHeapTuple);
	while (len > 0)
	{
		MemoryContext old = MemoryContextSwitchTo(scratch);
		int			n = 0;

		CHECK_FOR_INTERRUPTS();
		for (; n < PARTS_AT_ONCE && len > 0; n++)
		{
			Size		step = Min(len, DOCREP_ATT_PART);

			fill_part(slots[n], file, part++, data, step);
			data += step;
			len -= step;
		}
		docrep_att_insert_parts(table, slots, n);
		MemoryContextSwitchTo(old);
		MemoryContextReset(scratch);
	}
	for (int i = 0; i < PARTS_AT_ONCE; i++)
		ExecDropSingleTupleTableSlot(slots[i]);
	MemoryContextDelete(scratch);
}

int64
docrep_content_delete(DocTable *table, int64 file)
{
	Snapshot	snapshot;
	TupleTableSlot *slot;
	int64		bytes = 0;

	CommandCounterIncrement();
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	for (slot = docrep_att_first(table, snapshot, file, 0, false); slot;
		 slot = docrep_att_next(table))
	{
		bool		isnull;
		Datum		d = slot_getattr(slot, Anum_att_data, &isnull);

		CHECK_FOR_INTERRUPTS();
		if (!isnull)
			bytes += VARSIZE_ANY_EXHDR(DatumGetByteaPP(d));
		docrep_row_delete(table, docrep_att_rel(table), &slot->tts_tid);
	}
	UnregisterSnapshot(snapshot);
	return bytes;
}

/* ---------- finding and locking ---------- */

bool
docrep_content_lock_header(DocTable *table, TupleTableSlot *slot, LockTupleMode mode)
{
	bool		isnull;
	TM_FailureData tmfd;
	TM_Result	result;
	TransactionId xmin = DatumGetTransactionId(slot_getsysattr(slot,
															   MinTransactionIdAttributeNumber,
															   &isnull));

	if (TransactionIdIsCurrentTransactionId(xmin))
		return true;
	PushActiveSnapshot(GetLatestSnapshot());
	result = table_tuple_lock(docrep_att_rel(table), &slot->tts_tid, GetActiveSnapshot(), slot,
							  GetCurrentCommandId(true), mode, LockWaitBlock, 0, &tmfd);
	PopActiveSnapshot();
	if (result != TM_Ok && result != TM_Deleted && result != TM_Updated)
		elog(ERROR, "unexpected table_tuple_lock status: %u", result);
	return result == TM_Ok;
}

/* Whom a row found with a dirty snapshot must be waited for, if anybody; then waits. */
static bool
wait_if_undecided(const SnapshotData *dirty)
{
	CHECK_FOR_INTERRUPTS();
	if (TransactionIdIsValid(dirty->xmin))
		docrep_wait_for(dirty->xmin, dirty->speculativeToken);
	else if (TransactionIdIsValid(dirty->xmax))
		docrep_wait_for(dirty->xmax, 0);
	else
		return false;
	return true;
}

int64
docrep_content_find(DocTable *table, const uint8 *sha256)
{
	for (;;)
	{
		SnapshotData dirty;
		TupleTableSlot *slot;
		int64		file;

		InitDirtySnapshot(dirty);
		slot = docrep_att_by_sha(table, &dirty, sha256);
		if (slot == NULL)
			return 0;
		file = docrep_att_slot_file(slot);
		if (wait_if_undecided(&dirty))
			continue;
		if (docrep_content_lock_header(table, slot, LockTupleKeyShare))
			return file;
	}
}

bool
docrep_content_pin(DocTable *table, int64 file, int64 *length, uint8 *md5)
{
	for (;;)
	{
		SnapshotData dirty;
		TupleTableSlot *slot;
		ContentHeader header;

		InitDirtySnapshot(dirty);
		slot = docrep_att_first(table, &dirty, file, 0, false);
		if (slot == NULL || docrep_att_slot_part(slot) != 0)
			return false;
		if (wait_if_undecided(&dirty))
			continue;
		docrep_content_header(slot, &header);
		if (!header.complete)
			return false;
		if (!docrep_content_lock_header(table, slot, LockTupleKeyShare))
			continue;
		if (length)
			*length = header.length;
		if (md5)
			memcpy(md5, header.md5, MD5_DIGEST_LENGTH);
		return true;
	}
}

/* ---------- storing ---------- */

int64
docrep_content_store_known(DocTable *table, const char *data, Size len, const uint8 *sha256,
						   const uint8 *md5)
{
	bool		fits = len <= DOCREP_ATT_PART;

	for (;;)
	{
		int64		file = docrep_content_find(table, sha256);

		if (file != 0)
			return file;
		file = docrep_content_new_number();
		if (!docrep_content_insert_header(table, file, sha256, md5, len,
										  fits ? (data ? data : "") : NULL))
			continue;
		if (!fits)
			docrep_content_insert_parts(table, file, 1, data, len);
		CommandCounterIncrement();
		return file;
	}
}

int64
docrep_content_store(DocTable *table, const char *data, Size len, uint8 *md5)
{
	uint8		sha256[PG_SHA256_DIGEST_LENGTH];
	uint8		own_md5[MD5_DIGEST_LENGTH];

	docrep_content_digests(data, len, sha256, own_md5);
	if (md5)
		memcpy(md5, own_md5, MD5_DIGEST_LENGTH);
	return docrep_content_store_known(table, data, len, sha256, own_md5);
}

/* ---------- reading ---------- */

static void
missing(DocTable *table, int64 file)
{
	ereport(ERROR,
			(errcode(ERRCODE_DOCREP_NOT_FOUND),
			 errmsg("the content of an attachment is missing in document table \"%s\"",
					RelationGetRelationName(table->rel)),
			 errdetail("File " INT64_FORMAT " is not there, or not complete.", file),
			 errhint("SELECT * FROM docrep.check(...) lists what is wrong with a document table.")));
}

/* Copy what of a row's data lies at [offset, offset + len) of the row; returns how much. */
static Size
copy_data(TupleTableSlot *slot, Size offset, char *buf, Size len)
{
	bool		isnull;
	Datum		d = slot_getattr(slot, Anum_att_data, &isnull);
	bytea	   *data;
	Size		size;

	if (isnull)
		return 0;
	data = DatumGetByteaPP(d);
	size = VARSIZE_ANY_EXHDR(data);
	if (offset >= size)
		return 0;
	len = Min(len, size - offset);
	memcpy(buf, VARDATA_ANY(data) + offset, len);
	return len;
}

/* The same of a file's parts. */
static Size
copy_parts(DocTable *table, Snapshot snapshot, int64 file, int64 offset, char *buf, Size len)
{
	int32		part = 1 + offset / DOCREP_ATT_PART;
	TupleTableSlot *slot = docrep_att_first(table, snapshot, file, part, false);
	Size		done = 0;

	while (done < len)
	{
		Size		n = 0;

		CHECK_FOR_INTERRUPTS();
		if (slot && docrep_att_slot_part(slot) == part)
			n = copy_data(slot, (offset + done) % DOCREP_ATT_PART, buf + done, len - done);
		if (n == 0)
			missing(table, file);
		done += n;
		part++;
		if (done < len)
			slot = docrep_att_next(table);
	}
	return done;
}

/* The header of a complete file as of a snapshot, or NULL. */
static TupleTableSlot *
complete_header(DocTable *table, Snapshot snapshot, int64 file, ContentHeader *header)
{
	TupleTableSlot *slot = docrep_att_first(table, snapshot, file, 0, false);

	if (slot == NULL || docrep_att_slot_part(slot) != 0)
		return NULL;
	docrep_content_header(slot, header);
	return header->complete ? slot : NULL;
}

/*
 * As of now: a revision written here may name a file that is newer than the
 * transaction's snapshot.  Or else as of the active snapshot, with which the
 * revision may have been read that names a file no longer there.
 */
Size
docrep_content_read(DocTable *table, int64 file, int64 offset, char *buf, Size len)
{
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	ContentHeader header;
	TupleTableSlot *slot = complete_header(table, snapshot, file, &header);
	Size		done = 0;

	if (slot == NULL && ActiveSnapshotSet())
	{
		UnregisterSnapshot(snapshot);
		snapshot = RegisterSnapshot(GetActiveSnapshot());
		slot = complete_header(table, snapshot, file, &header);
	}
	if (slot == NULL)
		missing(table, file);
	if (offset >= 0 && offset < header.length)
	{
		len = Min(len, (uint64) (header.length - offset));
		if (header.length > DOCREP_ATT_PART)
			done = copy_parts(table, snapshot, file, offset, buf, len);
		else
			done = copy_data(slot, offset, buf, len);
	}
	UnregisterSnapshot(snapshot);
	return done;
}
