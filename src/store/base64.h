/*-------------------------------------------------------------------------
 *
 * base64.h
 *		Base64 of attachments and digests, with lengths beyond an int.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DOCREP_STORE_BASE64_H
#define DOCREP_STORE_BASE64_H

#include "postgres.h"

/* How long the encoded form of len bytes is. */
static inline Size
docrep_base64_length(Size len)
{
	return (len + 2) / 3 * 4;
}

/* Encode into dst, which has docrep_base64_length(len) bytes; no NUL is added. */
extern void docrep_base64_encode(const void *src, Size len, char *dst);

/*
 * Decode into dst, which has at least len / 4 * 3 bytes (src may be dst);
 * white space is passed over.  False if it is not base64 with its padding.
 */
extern bool docrep_base64_decode(const char *src, Size len, char *dst, Size *dstlen);

#endif							/* DOCREP_STORE_BASE64_H */
