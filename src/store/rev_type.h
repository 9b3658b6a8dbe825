/*-------------------------------------------------------------------------
 *
 * rev_type.h
 *		The SQL types docrep.rev and docrep.revtree, as datums.
 *
 * docrep.rev is a varlena whose payload docrep_rev_pack makes, docrep.revtree
 * one whose payload is the inline part of docrep_revtree_pack.  The trunk part
 * is a plain bytea.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DOCREP_STORE_REV_TYPE_H
#define DOCREP_STORE_REV_TYPE_H

#include "postgres.h"

#include "compat.h"
#include "fmgr.h"

#include "revision/revtree.h"

/* Raise ERRCODE_DATA_CORRUPTED: a stored value does not unpack. */
DOCREP_NORETURN extern void docrep_report_corrupt(const char *what);

/* A new datum of docrep.rev. */
static inline Datum
docrep_rev_datum(const Rev *rev)
{
	char	   *datum = palloc(VARHDRSZ + REV_PACKED_HEAD + rev->len);
	size_t		len = docrep_rev_pack(rev, (uint8 *) datum + VARHDRSZ);

	SET_VARSIZE(datum, VARHDRSZ + len);
	return PointerGetDatum(datum);
}

/*
 * Take a datum of docrep.rev apart.  rev->bytes points into the datum, or
 * into a detoasted copy in CurrentMemoryContext.
 */
static inline void
docrep_datum_rev(Datum datum, Rev *rev)
{
	struct varlena *value = PG_DETOAST_DATUM_PACKED(datum);

	if (!docrep_rev_unpack((uint8 *) VARDATA_ANY(value), VARSIZE_ANY_EXHDR(value), rev))
		docrep_report_corrupt("revision");
}

/*
 * Unpack a datum of docrep.revtree; bytes as above.
 */
static inline RevTree *
docrep_datum_revtree(Datum datum)
{
	struct varlena *value = PG_DETOAST_DATUM_PACKED(datum);
	RevTree    *tree = docrep_revtree_unpack((uint8 *) VARDATA_ANY(value),
											 VARSIZE_ANY_EXHDR(value));

	if (tree == NULL)
		docrep_report_corrupt("revision tree");
	return tree;
}

#endif							/* DOCREP_STORE_REV_TYPE_H */
