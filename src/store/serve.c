/*-------------------------------------------------------------------------
 *
 * serve.c
 *		What a peer may ask of a document table, given by its uuid.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#ifdef __GLIBC__
#include <malloc.h>
#endif

#include "access/xact.h"
#include "miscadmin.h"
#include "replication/message.h"
#include "storage/lmgr.h"
#include "store/errcodes.h"
#include "store/fence.h"
#include "store/local_docs.h"
#include "store/revisions_peer.h"
#include "store/preload.h"
#include "store/seqs.h"
#include "store/serve.h"
#include "utils/acl.h"
#include "utils/guc.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"

/*
 * A user's ALTER TABLE stands in the queue behind whoever writes the table;
 * this is how long one who waits for a row's lock may keep it there.  Who
 * has no lock yet keeps nobody and waits as long as it takes.
 */
#define SERVE_LOCK_TIMEOUT	"5s"

/* of tables that a replication makes, as that of create_table */
#define DEFAULT_REVS_LIMIT	1000

/* how often a batch is tried that lost a deadlock or met a lock */
#define SERVE_WRITE_ATTEMPTS	6

/* the largest document that passes for a checkpoint */
#define CHECKPOINT_MAX_SIZE		(256 * 1024)

/* something was written in this process since the last flush */
static bool unflushed = false;

/*
 * Every batch allocates a few MB and frees them.  Left alone, malloc hands them
 * back to the kernel each time and gets them again page by page, which took a
 * quarter of a transfer's time.  This process lives for the replication.
 */
static void
keep_freed_memory(void)
{
#ifdef __GLIBC__
	(void) mallopt(M_MMAP_THRESHOLD, 8 * 1024 * 1024);
	(void) mallopt(M_TRIM_THRESHOLD, 32 * 1024 * 1024);
	(void) mallopt(M_TOP_PAD, 4 * 1024 * 1024);
#endif
}

void
docrep_serve_prepare(void)
{
	static const char *const settings[][2] = {
		{"statement_timeout", "0"},
		{"idle_in_transaction_session_timeout", "0"},
		{"idle_session_timeout", "0"},
		{"lock_timeout", "0"},
		{"default_transaction_isolation", "read committed"},
#ifdef DOCREP_HAVE_TRANSACTION_TIMEOUT
		{"transaction_timeout", "0"},
#endif
	};

	docrep_require_preload();
	keep_freed_memory();
	for (int i = 0; i < lengthof(settings); i++)
		SetConfigOption(settings[i][0], settings[i][1], PGC_USERSET, PGC_S_SESSION);
}

Oid
docrep_serve_find(const char *name, bool create, pg_uuid_t *uuid)
{
	Oid			relid = docrep_table_by_name(name, create);
	DocTable   *table;

	if (!OidIsValid(relid))
	{
		relid = docrep_table_create(name, DEFAULT_REVS_LIMIT);
		CommandCounterIncrement();
	}
	table = docrep_table_open(relid, AccessShareLock, 0);
	docrep_table_check_any(table, ACL_SELECT | ACL_INSERT | ACL_UPDATE | ACL_DELETE);
	*uuid = table->info.uuid;
	docrep_table_close(table, NoLock);
	return relid;
}

DocTable *
docrep_serve_open(const pg_uuid_t *uuid, LOCKMODE lockmode, AclMode needed)
{
	Oid			relid = docrep_table_by_uuid(uuid);

	if (OidIsValid(relid))
	{
		/* it may have gone before the lock was ours */
		LockRelationOid(relid, lockmode);
		if (docrep_table_by_uuid(uuid) == relid)
		{
			DocTable   *table = docrep_table_open(relid, lockmode, needed);

			UnlockRelationOid(relid, lockmode); /* one of the two is enough */
			return table;
		}
	}
	ereport(ERROR,
			(errcode(ERRCODE_DOCREP_NOT_FOUND),
			 errmsg("the document table does not exist any more")));
}

/* As SET LOCAL. */
static void
set_for_transaction(const char *name, const char *value)
{
	(void) set_config_option(name, value, PGC_USERSET, PGC_S_SESSION, GUC_ACTION_LOCAL,
							 true, 0, false);
}

/*
 * Forget what an attempt that failed has said about the documents.  What was
 * said of those that cannot or must not be written stays.
 */
static void
reset_outcomes(DocrepDocs *docs)
{
	for (int i = 0; i < docs->n; i++)
	{
		if (docs->docs[i].unreadable || docs->docs[i].withheld)
			continue;
		docs->docs[i].sqlstate = 0;
		docs->docs[i].reason = NULL;
		docs->docs[i].known = false;
	}
}

/*
 * One attempt, in a subtransaction.  False: it was rolled back and may be
 * tried again; other failures are raised.
 */
static bool
try_write(const pg_uuid_t *uuid, DocrepDocs *docs, const DocrepWriteOrigin *origin,
		  const char *local_id, const char *local_doc, bool last)
{
	MemoryContext cxt = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	volatile bool done = false;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(cxt);
	PG_TRY();
	{
		DocTable   *table;

		PushActiveSnapshot(GetTransactionSnapshot());
		/* the locks are the subtransaction's, so that others get a turn */
		table = docrep_serve_open(uuid, RowExclusiveLock, ACL_INSERT);
		set_for_transaction("lock_timeout", SERVE_LOCK_TIMEOUT);
		docrep_fence_check(&table->info);
		docrep_batch_write(table, docs, origin, local_id, local_doc);
		docrep_table_close(table, NoLock);
		PopActiveSnapshot();
		ReleaseCurrentSubTransaction();
		done = true;
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(cxt);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		if (last || (error->sqlerrcode != ERRCODE_T_R_DEADLOCK_DETECTED &&
					 error->sqlerrcode != ERRCODE_LOCK_NOT_AVAILABLE))
		{
			MemoryContextSwitchTo(cxt);
			CurrentResourceOwner = owner;
			ReThrowError(error);
		}
		FreeErrorData(error);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(cxt);
	CurrentResourceOwner = owner;
	return done;
}

/* This transaction writes something that docrep_serve_flush will wait for. */
static void
flush_later(void)
{
	/* in a transaction of the user's own, how it commits is the user's choice */
	if (!IsTransactionBlock())
		set_for_transaction("synchronous_commit", "off");
	unflushed = true;
}

void
docrep_serve_write(const pg_uuid_t *uuid, DocrepDocs *docs, const DocrepWriteOrigin *origin,
				   const char *local_id, const char *local_doc)
{
	flush_later();
	for (int attempt = 1;; attempt++)
	{
		reset_outcomes(docs);
		if (try_write(uuid, docs, origin, local_id, local_doc,
					  attempt >= SERVE_WRITE_ATTEMPTS))
			return;
		CHECK_FOR_INTERRUPTS();
	}
}

void
docrep_serve_versions_write(const pg_uuid_t *uuid, DocrepVersions *versions)
{
	DocTable   *table = docrep_serve_open(uuid, RowExclusiveLock, ACL_INSERT);

	flush_later();
	if (!IsTransactionBlock())
		set_for_transaction("lock_timeout", SERVE_LOCK_TIMEOUT);
	docrep_fence_check(&table->info);
	docrep_versions_write(table, versions);
	docrep_table_close(table, NoLock);
}

Size
docrep_serve_content_read(const pg_uuid_t *uuid, int64 file, int64 offset, char *buf, Size len)
{
	DocTable   *table = docrep_serve_open(uuid, AccessShareLock, ACL_SELECT);
	Size		n = docrep_content_read(table, file, offset, buf, len);

	docrep_table_close(table, NoLock);
	return n;
}

void
docrep_serve_contents_have(const pg_uuid_t *uuid, const char *id, const DocAtt *wanted, int n,
						   int64 *files)
{
	DocTable   *table = docrep_serve_open(uuid, AccessShareLock, ACL_SELECT);

	docrep_contents_of_doc(table, id, wanted, n, files);
	docrep_table_close(table, NoLock);
}

void
docrep_serve_content_append(const pg_uuid_t *uuid, DocUpload **upload, MemoryContext cxt,
							const char *data, Size len)
{
	DocTable   *table = docrep_serve_open(uuid, RowExclusiveLock, ACL_INSERT);

	flush_later();
	if (*upload == NULL)
		*upload = docrep_upload_begin(table, cxt);
	docrep_upload_append(table, *upload, data, len);
	docrep_table_close(table, NoLock);
}

int64
docrep_serve_content_finish(const pg_uuid_t *uuid, DocUpload *upload, uint8 *md5, int64 *length)
{
	DocTable   *table = docrep_serve_open(uuid, RowExclusiveLock, ACL_INSERT);
	int64		file;

	flush_later();
	/* an equal content that another transaction brings is waited for; in one of the user's own, as it says */
	if (!IsTransactionBlock())
		set_for_transaction("lock_timeout", SERVE_LOCK_TIMEOUT);
	file = docrep_upload_finish(table, upload, md5, length);
	docrep_table_close(table, NoLock);
	return file;
}

void
docrep_serve_flush(void)
{
	if (!unflushed)
		return;

	/*
	 * A commit is waited for when it has written something.  An empty message
	 * is the smallest thing to write; its commit record lies behind those of
	 * the batches, so its way to the disk, and to synchronous standbys, is
	 * theirs.
	 */
	if (synchronous_commit == SYNCHRONOUS_COMMIT_OFF)
		set_for_transaction("synchronous_commit", "local");
	docrep_log_message("docrep", "", 0);
	unflushed = false;
}

Jsonb *
docrep_serve_get_local(const pg_uuid_t *uuid, const char *id)
{
	DocTable   *table = docrep_serve_open(uuid, AccessShareLock, ACL_SELECT);
	Jsonb	   *doc = docrep_local_get(&table->info, id);

	docrep_table_close(table, NoLock);
	return doc;
}

/*
 * Is this the checkpoint of a replication?  Its id is 32 hexadecimal digits,
 * it names a session and has a history.
 */
static bool
is_checkpoint(const char *id, Jsonb *doc)
{
	JsonbValue	value;

	if (strlen(id) != 32 || strspn(id, "0123456789abcdef") != 32 ||
		VARSIZE(doc) > CHECKPOINT_MAX_SIZE || !JB_ROOT_IS_OBJECT(doc))
		return false;
	return getKeyJsonValueFromContainer(&doc->root, "session_id", 10, &value) != NULL &&
		value.type == jbvString &&
		getKeyJsonValueFromContainer(&doc->root, "history", 7, &value) != NULL &&
		value.type == jbvBinary && JsonContainerIsArray(value.val.binary.data);
}

void
docrep_serve_put_local(const pg_uuid_t *uuid, const char *id, Jsonb *doc)
{
	AclMode		needed = is_checkpoint(id, doc) ? ACL_SELECT : ACL_INSERT;
	DocTable   *table = docrep_serve_open(uuid, RowExclusiveLock, needed);

	docrep_fence_check(&table->info);
	(void) docrep_local_put(&table->info, id, doc);
	docrep_table_close(table, NoLock);
}

bool
docrep_serve_swap_local(const pg_uuid_t *uuid, const char *id, Jsonb *expected, Jsonb *doc)
{
	DocTable   *table = docrep_serve_open(uuid, RowExclusiveLock, ACL_INSERT);
	bool		done = docrep_local_swap(&table->info, id, expected, doc);

	docrep_table_close(table, NoLock);
	return done;
}

void
docrep_watch_begin(DocrepWatch *watch, const pg_uuid_t *uuid, const char *since)
{
	DocTable   *table = docrep_serve_open(uuid, AccessShareLock, ACL_SELECT);

	watch->info = table->info;
	watch->since = docrep_seq_parse(&watch->info, since);
	docrep_wait_register(&watch->info);
	docrep_table_close(table, NoLock);
}

bool
docrep_watch_changed(const DocrepWatch *watch)
{
	DocTable   *table = docrep_serve_open(&watch->info.uuid, AccessShareLock, 0);
	bool		changed = docrep_seq_horizon(&table->info) - 1 > watch->since;

	docrep_table_close(table, AccessShareLock);
	return changed;
}

uint64
docrep_watch_commits(const DocrepWatch *watch)
{
	return docrep_wait_commits(&watch->info);
}

void
docrep_watch_end(const DocrepWatch *watch)
{
	docrep_wait_unregister(&watch->info);
}
