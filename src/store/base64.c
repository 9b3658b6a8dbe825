/*-------------------------------------------------------------------------
 *
 * base64.c
 *		Base64 of attachments and digests.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "store/base64.h"

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/* what a character stands for, plus 1; 0: it is no digit.  Filled on first use. */
static uint8 values[256];

void
docrep_base64_encode(const void *src, Size len, char *dst)
{
	const uint8 *s = src;

	for (; len >= 3; s += 3, len -= 3)
	{
		uint32		bits = (uint32) s[0] << 16 | (uint32) s[1] << 8 | s[2];

		*dst++ = digits[bits >> 18];
		*dst++ = digits[bits >> 12 & 0x3F];
		*dst++ = digits[bits >> 6 & 0x3F];
		*dst++ = digits[bits & 0x3F];
	}
	if (len > 0)
	{
		uint32		bits = (uint32) s[0] << 16 | (len == 2 ? (uint32) s[1] << 8 : 0);

		*dst++ = digits[bits >> 18];
		*dst++ = digits[bits >> 12 & 0x3F];
		*dst++ = len == 2 ? digits[bits >> 6 & 0x3F] : '=';
		*dst++ = '=';
	}
}

static inline bool
is_space(char c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

bool
docrep_base64_decode(const char *src, Size len, char *dst, Size *dstlen)
{
	char	   *start = dst;
	uint32		bits = 0;
	int			n = 0;			/* digits and padding of the group of four */
	int			padding = 0;

	if (values[(uint8) 'A'] == 0)
	{
		for (int i = 0; i < 64; i++)
			values[(uint8) digits[i]] = i + 1;
	}
	for (Size i = 0; i < len; i++)
	{
		uint8		value = values[(uint8) src[i]];

		if (is_space(src[i]))
			continue;
		if (src[i] == '=' && n >= 2)
			padding++;
		else if (value == 0 || padding > 0)
			return false;
		bits = bits << 6 | (value > 0 ? value - 1 : 0);
		if (++n < 4)
			continue;
		*dst++ = bits >> 16;
		if (padding < 2)
			*dst++ = bits >> 8;
		if (padding < 1)
			*dst++ = bits;
		bits = 0;
		n = 0;
	}
	*dstlen = dst - start;
	return n == 0;
}
