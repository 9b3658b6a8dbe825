/*-------------------------------------------------------------------------
 *
 * table.h
 *		Document tables: how one is recognised, opened and described.
 *
 * A document table carries the row trigger docrep_track with the table's
 * uuid as argument; that trigger is the registry.  Beside it live, in schema
 * docrep_data and named by the uuid, "dead_<uuid>" (documents whose winner is
 * a tombstone), "leaf_<uuid>" (bodies of losing leaves), "rev_<uuid>" (former versions),
 * "att_<uuid>" (contents of attachments) and the sequence "seq_<uuid>".
 *
 *-------------------------------------------------------------------------
 */
#ifndef DOCREP_STORE_TABLE_H
#define DOCREP_STORE_TABLE_H

#include "postgres.h"

#include "access/attnum.h"
#include "datatype/timestamp.h"
#include "nodes/parsenodes.h"
#include "storage/lock.h"
#include "utils/rel.h"
#include "utils/uuid.h"

/* A btree key holds about 2,700 bytes; ids are refused well before. */
#define DOCREP_MAX_ID_LEN	2000

/* Is there anything to validate the table's writes? */
typedef enum DocValidated
{
	DOC_VALIDATED_UNKNOWN,		/* nobody has looked yet */
	DOC_VALIDATED_NO,
	DOC_VALIDATED_YES
} DocValidated;

/* What one backend knows of a document table; lives until it is invalidated. */
typedef struct DocTableInfo
{
	Oid			relid;			/* hash key */
	bool		valid;
	pg_uuid_t	uuid;
	Oid			dead_relid;
	Oid			leaf_relid;
	Oid			att_relid;
	Oid			rev_relid;
	Oid			seq_relid;
	Oid			pk_oid;			/* primary key index on _id */
	Oid			seqidx_oid;		/* unique index on _seq */
	Oid			dead_pk_oid;
	Oid			dead_seqidx_oid;
	Oid			leaf_pk_oid;
	Oid			leaf_open_oid;	/* index on _id of live leaves that are not merged */
	Oid			att_pk_oid;
	Oid			att_sha_oid;	/* unique index on complete contents' sha256 */
	Oid			rev_pk_oid;
	Oid			rev_keptidx_oid;	/* index on kept_seq */
	Oid			rev_seqidx_oid; /* ... on seq */
	int			revs_limit;
	int			conflict_policy;	/* DOCREP_POLICY_* (policy.h); 0: keep */
	uint64		generation;		/* another number each time that it is filled in */
	DocValidated validated;		/* see validation.h */
	bool		keeps_back;		/* some documents are not replicated (not_replicated.h) */
	bool		keeps_versions; /* anything of the following asks for it */
	int			revisions_keep; /* former versions kept of a document; -1: off */
	bool		revisions_keep_deleted;
	TimestampTz revisions_since;	/* 0: never */
	int64		revisions_held; /* how long somebody needs replaced winners (us) */
	AttrNumber	a_id,
				a_doc,
				a_rev,
				a_seq,
				a_modified,
				a_tree,
				a_trunk,
				a_attachments,
				a_origin;
} DocTableInfo;

/* An open document table.  Valid in the transaction that opened it. */
typedef struct DocTable
{
	DocTableInfo info;			/* a copy */
	Relation	rel;
	LOCKMODE	lockmode;
	bool		owns_rel;		/* close it with the table */
	bool		row_security;	/* policies apply to the current role */
	struct Companions *companions;	/* companion.c: opened on demand */
	bool		node_known;
	pg_uuid_t	node;			/* this database's uuid, once it was asked for (node.h) */
} DocTable;

/*
 * Open a document table, check that the current role has all of the given
 * privileges (ACL_SELECT, ACL_INSERT, ...; 0: none), else 42501.  Not a
 * document table: DR404.
 */
extern DocTable *docrep_table_open(Oid relid, LOCKMODE lockmode, AclMode needed);
extern void docrep_table_close(DocTable *table, LOCKMODE keep);

/* Check privileges on an open table; 42501. */
extern void docrep_table_check(DocTable *table, AclMode needed);

/* 42501 unless the role has at least one of them: who has none learns nothing of a table. */
extern void docrep_table_check_any(DocTable *table, AclMode any);

/* The description alone, or NULL if it is not a document table. */
extern const DocTableInfo *docrep_table_info(Relation rel);

/* The description if this backend has a valid one already, else NULL. */
extern const DocTableInfo *docrep_table_info_cached(Oid relid);

/*
 * Note whether there are validators of the table, which were looked for when its
 * description had this generation; if it has another by now nothing is noted.
 */
extern void docrep_table_note_validated(Oid relid, uint64 generation, bool validated);

/* 42501 unless the current role owns the table. */
extern void docrep_table_check_owner(DocTable *table);

/* The uuid in a relation's tracking trigger; false: not a document table. */
extern bool docrep_table_uuid(Relation rel, pg_uuid_t *uuid);

/* Oid of a document table by uuid, or InvalidOid. */
extern Oid	docrep_table_by_uuid(const pg_uuid_t *uuid);

/*
 * Resolve a table name as an endpoint gives it ("orders", "public.orders",
 * quoted parts) in the caller's search_path.  Missing: InvalidOid if
 * missing_ok, else DR404; not a document table: DR404.
 */
extern Oid	docrep_table_by_name(const char *name, bool missing_ok);

/*
 * The table's name as it is shown, quoted, with its schema where the search_path does not find
 * it; allocated.
 */
extern char *docrep_table_display_name(Relation rel);

/*
 * Create a document table owned by the current role and return its oid.  name
 * may be schema-qualified.  DR412 if it exists.
 */
extern Oid	docrep_table_create(const char *name, int revs_limit);

#endif							/* DOCREP_STORE_TABLE_H */
