/*-------------------------------------------------------------------------
 *
 * rev.c
 *		Revision identifiers: parse, print, compare, pack.
 *
 *-------------------------------------------------------------------------
 */
#include "revision/port.h"
#include "revision/rev.h"

#define HEX_DIGITS		(2 * REV_HASH_LEN)

static const char hex_digits[] = "0123456789abcdef";

/*
 * Value of a hexadecimal digit in either case, or -1.
 */
static inline int
hex_value(unsigned char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return -1;
}

/*
 * Can an identifier that is kept as a string look like this?  32 characters
 * are always taken for hexadecimal digits, and no text type holds a NUL.
 */
static inline bool
string_is_sane(const uint8 *bytes, size_t len)
{
	return len >= 1 && len <= REV_MAX_LEN && len != HEX_DIGITS &&
		memchr(bytes, '\0', len) == NULL;
}

/*
 * Parse an identifier without its generation; see the header.
 */
const char *
docrep_rev_parse_id(uint32 gen, const char *text, size_t textlen,
					uint8 *buf, Rev *rev)
{
	if (gen < 1 || gen > REV_MAX_GENERATION)
		return "the generation is out of range";
	if (textlen == 0)
		return "the identifier is empty";
	if (textlen > REV_MAX_LEN)
		return "the identifier is too long";

	rev->gen = gen;
	rev->bytes = buf;

	if (textlen == HEX_DIGITS)
	{
		for (int i = 0; i < REV_HASH_LEN; i++)
		{
			int			hi = hex_value((unsigned char) text[2 * i]);
			int			lo = hex_value((unsigned char) text[2 * i + 1]);

			if (hi < 0 || lo < 0)
				return "an identifier of 32 characters must be hexadecimal";
			buf[i] = (uint8) (hi << 4 | lo);
		}
		rev->len = REV_HASH_LEN;
		rev->hex = true;
		return NULL;
	}

	if (!string_is_sane((const uint8 *) text, textlen))
		return "the identifier holds a NUL character";
	memmove(buf, text, textlen);	/* callers may decode in place */
	rev->len = (uint16) textlen;
	rev->hex = false;
	return NULL;
}

/*
 * Parse "N-string"; see the header.  Leading zeros in N are accepted, as
 * CouchDB does.
 */
const char *
docrep_rev_parse(const char *text, size_t textlen, uint8 *buf, Rev *rev)
{
	uint64		gen = 0;
	size_t		i;

	for (i = 0; i < textlen && text[i] >= '0' && text[i] <= '9'; i++)
	{
		gen = gen * 10 + (uint64) (text[i] - '0');
		if (gen > REV_MAX_GENERATION)
			return "the generation is out of range";
	}
	if (i == 0 || i == textlen || text[i] != '-')
		return "a revision is a number, a hyphen and an identifier";
	return docrep_rev_parse_id((uint32) gen, text + i + 1, textlen - i - 1,
							   buf, rev);
}

/*
 * Write the identifier and a NUL; returns the length without it.
 */
size_t
docrep_rev_print_id(const Rev *rev, char *out)
{
	size_t		n = rev->len;

	if (rev->hex)
	{
		for (size_t i = 0; i < rev->len; i++)
		{
			out[2 * i] = hex_digits[rev->bytes[i] >> 4];
			out[2 * i + 1] = hex_digits[rev->bytes[i] & 0x0f];
		}
		n *= 2;
	}
	else
		memcpy(out, rev->bytes, n);
	out[n] = '\0';
	return n;
}

/*
 * Write "N-string" and a NUL; returns the length without it.
 */
size_t
docrep_rev_print(const Rev *rev, char *out)
{
	char		digits[10];
	int			ndigits = 0;
	size_t		n = 0;
	uint32		gen = rev->gen;

	do
	{
		digits[ndigits++] = (char) ('0' + gen % 10);
		gen /= 10;
	} while (gen > 0);
	while (ndigits > 0)
		out[n++] = digits[--ndigits];
	out[n++] = '-';
	return n + docrep_rev_print_id(rev, out + n);
}

/*
 * CouchDB's order: generation, then bytes, then the shorter one first.
 */
int
docrep_rev_cmp(const Rev *a, const Rev *b)
{
	int			c;

	if (a->gen != b->gen)
		return a->gen < b->gen ? -1 : 1;
	c = memcmp(a->bytes, b->bytes, Min(a->len, b->len));
	if (c != 0)
		return c;
	return (int) a->len - (int) b->len;
}

/*
 * Write the payload of docrep.rev; returns its length.
 */
size_t
docrep_rev_pack(const Rev *rev, uint8 *out)
{
	size_t		n;

	n = docrep_varint_write(out, rev->gen << 1 | (rev->hex ? 0 : 1));
	memcpy(out + n, rev->bytes, rev->len);
	return n + rev->len;
}

/*
 * Read the payload of docrep.rev; false if it is none.
 */
bool
docrep_rev_unpack(const uint8 *packed, size_t len, Rev *rev)
{
	uint32		head;
	size_t		n;

	n = docrep_varint_read(packed, packed + len, &head);
	if (n == 0 || head >> 1 == 0)
		return false;
	rev->gen = head >> 1;
	rev->hex = (head & 1) == 0;
	rev->bytes = packed + n;
	len -= n;
	if (rev->hex ? len != REV_HASH_LEN : !string_is_sane(rev->bytes, len))
		return false;
	rev->len = (uint16) len;
	return true;
}

/*
 * Write value, seven bits a byte, lowest first; returns the bytes written.
 */
size_t
docrep_varint_write(uint8 *out, uint32 value)
{
	size_t		n = 0;

	while (value >= 0x80)
	{
		out[n++] = (uint8) (value | 0x80);
		value >>= 7;
	}
	out[n++] = (uint8) value;
	return n;
}

/*
 * Read what docrep_varint_write writes; returns the bytes read.  Anything
 * else (cut short, over 32 bits, longer than it need be) gives 0: one value
 * has one form only.
 */
size_t
docrep_varint_read(const uint8 *p, const uint8 *end, uint32 *value)
{
	uint32		v = 0;

	for (int i = 0; i < 5 && p + i < end; i++)
	{
		uint8		b = p[i];

		if (i == 4 && b > 0x0f)
			return 0;
		v |= (uint32) (b & 0x7f) << (7 * i);
		if ((b & 0x80) == 0)
		{
			if (b == 0 && i > 0)
				return 0;
			*value = v;
			return (size_t) i + 1;
		}
	}
	return 0;
}
