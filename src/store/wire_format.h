/*-------------------------------------------------------------------------
 *
 * wire_format.h
 *		The packed messages that two Postgres peers exchange.
 *
 * A message is one bytea.  It begins with the version of the format and a
 * letter for its kind; the rest depends on the kind:
 *
 *		C	changes			a batch of the changes feed
 *		R	revisions		ids with revisions: what to compare, what to fetch
 *		M	missing			the answer to a comparison, a bit a revision
 *		D	documents		revisions with their ancestry, bodies and attachments
 *		W	written			the answer to a write
 *		I	ids				document ids
 *
 * Numbers are varints (unsigned LEB128), times 8 bytes, most significant
 * first.  A text is its length, its bytes in UTF8 and a zero byte, so that it
 * can be used where it lies.  Bodies are JSON text behind four bytes of length.
 * A path of n revisions is its newest generation and n identifiers of 16 bytes.
 *
 * A document says which node first wrote it, a uuid of 16 bytes, to those who speak
 * protocol 5 or later.
 *
 * Attachments follow the body, in the order of their names: what the revision
 * says of each and, if it is small (DOCREP_ATT_INLINE), its content; else the
 * number of the file that holds it in the table that the message is about.  So a
 * document that was fetched names files of the source, and one that is to be
 * written files of the target, where the contents have been put before by
 * peer_att_append.
 *
 * What the source could not read as a document travels too, for docrep.rejected:
 * its body is then any bytes, and its id may have a second form as bytes.
 *
 * Reading trusts nothing: whatever packing cannot have written is DR400, and
 * no memory is asked for that the message's own length does not justify.
 *
 * This file and its functions serve both ends: the SQL functions in wire.c
 * and the client in peer/.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DOCREP_STORE_WIRE_FORMAT_H
#define DOCREP_STORE_WIRE_FORMAT_H

#include "store/batch.h"

/* the protocol that peer_open negotiates: which functions there are, and how they speak */
#define DOCREP_WIRE_PROTOCOL_MIN	2
#define DOCREP_WIRE_PROTOCOL		6
/* 2: with attachments; without them (1) it would lose them */
#define DOCREP_WIRE_LEASES			3	/* from here on: peer_swap_local, peer_fence */
#define DOCREP_WIRE_FILTERS			4	/* from here on: peer_changes with a filter, peer_filter */
#define DOCREP_WIRE_ORIGINS			5	/* from here on: documents say who first wrote them */
#define DOCREP_WIRE_DELAYS			5	/* ... and there is peer_aged_changes */
#define DOCREP_WIRE_VERSIONS		6	/* from here on: peer_versions_*, peer_hold_versions */

/* a frame of a fetched batch holds about this much of bodies */
#define DOCREP_WIRE_FRAME			(256 * 1024)

/*
 * Packing.  The result is allocated in CurrentMemoryContext and is a complete
 * bytea.  origins: the other side understands who first wrote a document.
 */
extern bytea *docrep_wire_pack_changes(const DocrepChanges *changes, bool origins);

/* Does the client of this session, which has called peer_open, understand origins? */
extern bool docrep_wire_client_knows_origins(void);

/*
 * All ids and revisions of a batch; or, with missing_only, those whose
 * missing[] is true (a row without missing[] counts whole).  *nrevs, if not
 * NULL, gets the number of revisions.
 */
extern bytea *docrep_wire_pack_revs(const DocrepChanges *changes, bool missing_only,
									int *nrevs);
extern bytea *docrep_wire_pack_missing(const DocrepChanges *changes);
extern bytea *docrep_wire_pack_docs(const DocrepDocs *docs, bool origins);
extern bytea *docrep_wire_pack_written(const DocrepDocs *docs);
extern bytea *docrep_wire_pack_ids(const char *const *ids, int n);

/*
 * Unpacking.  [data, data + len) must live as long as what is read from it,
 * which points into it; the rest is allocated in the batch's context.  The
 * batch is initialised, and rows are added to it.
 */
extern void docrep_wire_unpack_changes(const char *data, Size len, DocrepChanges *out);
extern void docrep_wire_unpack_revs(const char *data, Size len, DocrepChanges *out);
extern void docrep_wire_unpack_docs(const char *data, Size len, DocrepDocs *out);

/* Answers: they must fit the batch that was asked about. */
extern void docrep_wire_unpack_missing(const char *data, Size len, DocrepChanges *changes);
extern void docrep_wire_unpack_written(const char *data, Size len, DocrepDocs *docs);

/* The ids, allocated in CurrentMemoryContext; *n gets their number. */
extern const char **docrep_wire_unpack_ids(const char *data, Size len, int *n);

#endif							/* DOCREP_STORE_WIRE_FORMAT_H */
