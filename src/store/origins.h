/*-------------------------------------------------------------------------
 *
 * origins.h
 *		Which node first wrote a revision: uuids, and names for some of them.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DOCREP_STORE_ORIGINS_H
#define DOCREP_STORE_ORIGINS_H

#include "store/batch.h"

/* This database's uuid, asked for once per opened table. */
extern const pg_uuid_t *docrep_table_node(DocTable *table);

/*
 * Documents whose source does not know who wrote them (CouchDB; docrep before
 * protocol 5) get the uuid that stands for the source, which is noted in docrep.origins.
 * Nothing is noted when all know.
 */
extern void docrep_origins_complete(DocrepDocs *docs, const char *source);

/* The way an origin is stored: this database's own is NULL. */
extern void docrep_origins_localize(DocTable *table, DocWrite *writes, int n);

/* An origin as text: the name of a source, else the uuid; NULL: this database.  Allocated. */
extern char *docrep_origin_text(DocTable *table, const pg_uuid_t *origin);

#endif							/* DOCREP_STORE_ORIGINS_H */
