/*-------------------------------------------------------------------------
 *
 * rev.h
 *		Revision identifiers: "N-string".
 *
 * A revision is a generation N (1 or more) and an identifier.  32 hexadecimal
 * digits are kept as the 16 bytes they stand for and printed in lower case;
 * any other string is kept as it came.  Order and equality are CouchDB's: by
 * generation, then by bytes, so that "1-ffff..." (32 digits) sorts after
 * "1-z", and a string of 16 characters equals the 32 digits of its bytes.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DOCREP_REVISION_REV_H
#define DOCREP_REVISION_REV_H

#include "revision/port.h"

/* the longest identifier taken, in bytes; CouchDB has no limit of its own */
#define REV_MAX_LEN			1024
#define REV_MAX_GENERATION	2147483647
#define REV_HASH_LEN		16

/*
 * A revision as code passes it around.  "bytes" points into memory that
 * somebody else owns.
 */
typedef struct Rev
{
	uint32		gen;			/* 1 or more */
	uint16		len;			/* of bytes */
	bool		hex;			/* printed as hexadecimal digits: len is 16 */
	const uint8 *bytes;
} Rev;

/* longest text form, with the final NUL */
#define REV_TEXT_SIZE		(10 + 1 + REV_MAX_LEN + 1)
/* longest packed form: a varint and the bytes */
#define REV_PACKED_HEAD		5
#define REV_PACKED_SIZE		(REV_PACKED_HEAD + REV_MAX_LEN)

/*
 * Parse "N-string" of textlen bytes.  buf, of at least textlen bytes, takes
 * the decoded identifier, to which rev->bytes points.  Returns NULL, or what
 * is wrong as a static string.
 */
extern const char *docrep_rev_parse(const char *text, size_t textlen,
									uint8 *buf, Rev *rev);

/*
 * The identifier alone, without "N-", as in _revisions.ids; gen comes from
 * the caller.  Same results.
 */
extern const char *docrep_rev_parse_id(uint32 gen, const char *text, size_t textlen,
									   uint8 *buf, Rev *rev);

/* Write the text form and a NUL to out (REV_TEXT_SIZE bytes); returns its length. */
extern size_t docrep_rev_print(const Rev *rev, char *out);

/* As above, the identifier only. */
extern size_t docrep_rev_print_id(const Rev *rev, char *out);

/* Less than, equal to or greater than 0, in CouchDB's order. */
extern int	docrep_rev_cmp(const Rev *a, const Rev *b);

static inline bool
docrep_rev_eq(const Rev *a, const Rev *b)
{
	return a->gen == b->gen && a->len == b->len &&
		memcmp(a->bytes, b->bytes, a->len) == 0;
}

/*
 * Packed form: varint(gen << 1 | is_string), then the bytes, up to the end.
 * This is the payload of the SQL type docrep.rev.  Pack returns the length
 * written to out (REV_PACKED_SIZE bytes); unpack returns false on anything
 * that pack cannot have written, and lets rev->bytes point into packed.
 */
extern size_t docrep_rev_pack(const Rev *rev, uint8 *out);
extern bool docrep_rev_unpack(const uint8 *packed, size_t len, Rev *rev);

/* Unsigned LEB128, at most 5 bytes for 32 bits. */
extern size_t docrep_varint_write(uint8 *out, uint32 value);
/* Returns the bytes read, 0 if there is no well-formed value before end. */
extern size_t docrep_varint_read(const uint8 *p, const uint8 *end, uint32 *value);

#endif							/* DOCREP_REVISION_REV_H */
