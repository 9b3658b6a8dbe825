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
#define WIRE_ATTS		0x08	/* attachments follow; of documents only */
#define WIRE_UNREADABLE	0x10	/* why it is no document follows; of documents only */
#define WIRE_ORIGIN		0x20	/* 16 bytes follow: who first wrote it; of documents only */

/* flags of attachments; one of the last three, or none, says where the content is */
#define WIRE_ATT_DIGEST		0x01	/* a digest follows */
#define WIRE_ATT_ENCODED	0x02	/* encoding and encoded length follow */
#define WIRE_ATT_DATA		0x04	/* the content itself follows */
#define WIRE_ATT_FILE		0x08	/* the number of a file follows */
#define WIRE_ATT_STUB		0x10	/* as an earlier revision has it */

/* what became of a document */
#define WIRE_STORED		0
#define WIRE_KNOWN		1
#define WIRE_REFUSED	2		/* SQLSTATE and reason follow */

#endif							/* DOCREP_STORE_WIRE_BITS_H */
