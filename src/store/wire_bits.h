/*-------------------------------------------------------------------------
 *
 * wire_bits.h
 *		Bytes with a meaning in the messages of wire_format.h; for wire_pack.c
 *		and wire_unpack.c only.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DOCREP_STORE_WIRE_BITS_H
#define DOCREP_STORE_WIRE_BITS_H

#define WIRE_FORMAT		'\x01'	/* version of the format, first byte */

/* second byte: kinds of messages */
#define WIRE_CHANGES	'C'
#define WIRE_REVISIONS	'R'
#define WIRE_MISSING	'M'
#define WIRE_DOCUMENTS	'D'
#define WIRE_WRITTEN	'W'
#define WIRE_IDS		'I'

/* flags of rows and documents */
#define WIRE_DELETED	0x01
#define WIRE_MODIFIED	0x02	/* a time follows */
#define WIRE_BODY		0x04	/* a body follows; in a row of changes: documents */

/* what became of a document */
#define WIRE_STORED		0
#define WIRE_KNOWN		1
#define WIRE_REFUSED	2		/* SQLSTATE and reason follow */

#endif							/* DOCREP_STORE_WIRE_BITS_H */
