/*-------------------------------------------------------------------------
 *
 * compat.h
 *		What differs between PostgreSQL 14 and 18, in one place.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DOCREP_COMPAT_H
#define DOCREP_COMPAT_H

#include "postgres.h"

#include "access/genam.h"
#include "access/tableam.h"
#include "access/xlog.h"
#include "catalog/pg_class.h"
#include "catalog/pg_database.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_foreign_server.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_proc.h"
#include "common/base64.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "replication/message.h"
#include "storage/latch.h"
#include "utils/acl.h"
#include "utils/regproc.h"

/* postgres.h had it until 15 */
#if PG_VERSION_NUM >= 160000
#include "varatt.h"
#endif

/* latch.h had it until 17 */
#if PG_VERSION_NUM >= 180000
#include "storage/waiteventset.h"
#endif

/* a number from 0 to below 1 */
#if PG_VERSION_NUM >= 150000
#include "common/pg_prng.h"
#define docrep_random() pg_prng_double(&pg_global_prng_state)
#else
#define docrep_random() ((double) random() / ((double) MAX_RANDOM_VALUE + 1))
#endif

/* shared memory is asked for in a hook of its own since 15, in _PG_init before */
#if PG_VERSION_NUM >= 150000
#define DOCREP_HAVE_SHMEM_REQUEST_HOOK 1
#endif

/* pg_noreturn, in front of a declaration, replaced pg_attribute_noreturn() in 18 */
#if PG_VERSION_NUM >= 180000
#define DOCREP_NORETURN pg_noreturn
#else
#define DOCREP_NORETURN pg_attribute_noreturn()
#endif

/* index_beginscan learnt to take instrumentation in 18 */
#if PG_VERSION_NUM >= 180000
#define docrep_index_beginscan(heap, index, snapshot, nkeys) \
	index_beginscan(heap, index, snapshot, NULL, nkeys, 0)
#else
#define docrep_index_beginscan(heap, index, snapshot, nkeys) \
	index_beginscan(heap, index, snapshot, nkeys, 0)
#endif

/*
 * The entries of a row that is new; of one that was updated, those that its update
 * says are wanted (docrep_update_indexes; zero is none).
 */
#if PG_VERSION_NUM >= 160000
typedef TU_UpdateIndexes docrep_update_indexes;
#define docrep_insert_index_tuples(rri, slot, estate, nodup, conflict, arbiters) \
	ExecInsertIndexTuples(rri, slot, estate, false, nodup, conflict, arbiters, false)
#define docrep_update_index_tuples(rri, slot, estate, which) \
	ExecInsertIndexTuples(rri, slot, estate, false, false, NULL, NIL, (which) == TU_Summarizing)
#else
typedef bool docrep_update_indexes;
#define docrep_insert_index_tuples(rri, slot, estate, nodup, conflict, arbiters) \
	ExecInsertIndexTuples(rri, slot, estate, false, nodup, conflict, arbiters)
#define docrep_update_index_tuples(rri, slot, estate, which) \
	ExecInsertIndexTuples(rri, slot, estate, false, false, NULL, NIL)
#endif

/* the analysis of a statement without parameters got its name in 15 */
#if PG_VERSION_NUM >= 150000
#define docrep_analyze_and_rewrite(parsed, text) \
	pg_analyze_and_rewrite_fixedparams(parsed, text, NULL, 0, NULL)
#else
#define docrep_analyze_and_rewrite(parsed, text) \
	pg_analyze_and_rewrite(parsed, text, NULL, 0, NULL)
#endif

#if PG_VERSION_NUM >= 150000
#define docrep_timeline() GetWALInsertionTimeLine()
#else
#define docrep_timeline() ThisTimeLineID
#endif

/* MarkGUCPrefixReserved came with 15 */
#if PG_VERSION_NUM < 150000
#define MarkGUCPrefixReserved(prefix) EmitWarningsOnPlaceholders(prefix)
#endif

/* pg_cryptohash_error came with 15 */
#if PG_VERSION_NUM < 150000
#define pg_cryptohash_error(ctx) "unknown error"
#endif

/* pg_b64_encode and pg_b64_decode call the bytes uint8 since 18 */
#if PG_VERSION_NUM >= 180000
#define docrep_b64_encode(bytes, len, text, size) pg_b64_encode((const uint8 *) (bytes), len, text, size)
#define docrep_b64_decode(text, len, bytes, size) pg_b64_decode(text, len, (uint8 *) (bytes), size)
#else
#define docrep_b64_encode(bytes, len, text, size) pg_b64_encode(bytes, len, text, size)
#define docrep_b64_decode(text, len, bytes, size) pg_b64_decode(text, len, bytes, size)
#endif

/* the ownership checks, and those of privileges, were made one in 16 */
#if PG_VERSION_NUM >= 160000
#define docrep_is_owner(relid) object_ownercheck(RelationRelationId, relid, GetUserId())
#define docrep_may_execute(oid) object_aclcheck(ProcedureRelationId, oid, GetUserId(), ACL_EXECUTE)
#define docrep_may_use_server(oid) \
	object_aclcheck(ForeignServerRelationId, oid, GetUserId(), ACL_USAGE)
#define docrep_may_create_in(schema) \
	object_aclcheck(NamespaceRelationId, schema, GetUserId(), ACL_CREATE)
#define docrep_owns_database(oid) object_ownercheck(DatabaseRelationId, oid, GetUserId())
#define docrep_owns_extension(oid) object_ownercheck(ExtensionRelationId, oid, GetUserId())
#else
#define docrep_is_owner(relid) pg_class_ownercheck(relid, GetUserId())
#define docrep_may_execute(oid) pg_proc_aclcheck(oid, GetUserId(), ACL_EXECUTE)
#define docrep_may_use_server(oid) pg_foreign_server_aclcheck(oid, GetUserId(), ACL_USAGE)
#define docrep_may_create_in(schema) pg_namespace_aclcheck(schema, GetUserId(), ACL_CREATE)
#define docrep_owns_database(oid) pg_database_ownercheck(oid, GetUserId())
#define docrep_owns_extension(oid) pg_extension_ownercheck(oid, GetUserId())
#endif

/* since 16 a membership can come without SET */
#if PG_VERSION_NUM >= 160000
#define docrep_can_set_role(role, other) member_can_set_role(role, other)
#else
#define docrep_can_set_role(role, other) is_member_of_role(role, other)
#endif

/* raise an error in an input function; since 16 callers can ask for it as a value */
#if PG_VERSION_NUM >= 160000
#define docrep_soft_ereport(fcinfo, rest)	ereturn((fcinfo)->context, (Datum) 0, rest)
#else
#define docrep_soft_ereport(fcinfo, rest)	ereport(ERROR, rest)
#endif

/* a possibly qualified SQL name to a list of its parts */
#if PG_VERSION_NUM >= 160000
#define docrep_name_list(name) stringToQualifiedNameList(name, NULL)
#else
#define docrep_name_list(name) stringToQualifiedNameList(name)
#endif

#if PG_VERSION_NUM >= 180000
#define docrep_primary_key_index(rel) RelationGetPrimaryKeyIndex(rel, false)
#else
#define docrep_primary_key_index(rel) RelationGetPrimaryKeyIndex(rel)
#endif

/* since 17 a background worker can be connected as a role without LOGIN */
#if PG_VERSION_NUM >= 170000
#define DOCREP_WORKER_FLAGS BGWORKER_BYPASS_ROLELOGINCHECK
#define DOCREP_WORKER_NEEDS_LOGIN false
#else
#define DOCREP_WORKER_FLAGS 0
#define DOCREP_WORKER_NEEDS_LOGIN true
#endif

/* transaction_timeout came with 17 */
#if PG_VERSION_NUM >= 170000
#define DOCREP_HAVE_TRANSACTION_TIMEOUT 1
#endif

/* a logical message of this transaction, which nothing waits for by itself */
#if PG_VERSION_NUM >= 170000
#define docrep_log_message(prefix, message, size) LogLogicalMessage(prefix, message, size, true, false)
#else
#define docrep_log_message(prefix, message, size) LogLogicalMessage(prefix, message, size, true)
#endif

/* a WaitEventSet that belongs to no resource owner */
#if PG_VERSION_NUM >= 170000
#define docrep_create_wait_set(n) CreateWaitEventSet(NULL, n)
#else
#define docrep_create_wait_set(n) CreateWaitEventSet(TopMemoryContext, n)
#endif

#endif							/* DOCREP_COMPAT_H */
