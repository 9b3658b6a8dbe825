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
#include "access/xlog.h"
#include "catalog/pg_class.h"
#include "catalog/pg_database.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_proc.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/regproc.h"

/* postgres.h had it until 15 */
#if PG_VERSION_NUM >= 160000
#include "varatt.h"
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

/* ExecInsertIndexTuples learnt about summarizing indexes in 16 */
#if PG_VERSION_NUM >= 160000
#define docrep_insert_index_tuples(rri, slot, estate, update, nodup, conflict) \
	ExecInsertIndexTuples(rri, slot, estate, update, nodup, conflict, NIL, false)
#else
#define docrep_insert_index_tuples(rri, slot, estate, update, nodup, conflict) \
	ExecInsertIndexTuples(rri, slot, estate, update, nodup, conflict, NIL)
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

/* the ownership checks, and those of privileges, were made one in 16 */
#if PG_VERSION_NUM >= 160000
#define docrep_is_owner(relid) object_ownercheck(RelationRelationId, relid, GetUserId())
#define docrep_may_execute(oid) object_aclcheck(ProcedureRelationId, oid, GetUserId(), ACL_EXECUTE)
#define docrep_owns_database(oid) object_ownercheck(DatabaseRelationId, oid, GetUserId())
#define docrep_owns_extension(oid) object_ownercheck(ExtensionRelationId, oid, GetUserId())
#else
#define docrep_is_owner(relid) pg_class_ownercheck(relid, GetUserId())
#define docrep_may_execute(oid) pg_proc_aclcheck(oid, GetUserId(), ACL_EXECUTE)
#define docrep_owns_database(oid) pg_database_ownercheck(oid, GetUserId())
#define docrep_owns_extension(oid) pg_extension_ownercheck(oid, GetUserId())
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

/* a WaitEventSet that belongs to no resource owner */
#if PG_VERSION_NUM >= 170000
#define docrep_create_wait_set(n) CreateWaitEventSet(NULL, n)
#else
#define docrep_create_wait_set(n) CreateWaitEventSet(TopMemoryContext, n)
#endif

#endif							/* DOCREP_COMPAT_H */
