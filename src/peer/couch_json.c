/*-------------------------------------------------------------------------
 *
 * couch_json.c
 *		Values in complete JSON text.  See couch_json.h.
 *
 * docrep_cj_value checks; what walks over values afterwards trusts it in so far
 * as it skips values by their brackets, but never reads beyond their text.
 *
 *-------------------------------------------------------------------------
 */
#include "peer/couch_json.h"
#include "peer/couch_scan.h"

/* ---------- values ---------- */

static CouchJsonKind
kind_of(char c)
{
	switch (c)
	{
		case '{':
			return CJ_OBJECT;
		case '[':
			return CJ_ARRAY;
		case '"':
			return CJ_STRING;
		case 't':
			return CJ_TRUE;
		case 'f':
			return CJ_FALSE;
		case 'n':
			return CJ_NULL;
		default:
			return CJ_NUMBER;
	}
}

CouchJson
docrep_cj_checked(const char *text, size_t len)
{
	CouchJson	value = {len > 0 ? kind_of(*text) : CJ_NONE, text, len};

	return value;
}

bool
docrep_cj_value(const char *text, size_t len, CouchJson *out)
{
	const char *p = text;
	const char *end = text + len;
	const char *begin = NULL;
	const char *finish = end;
	CouchScan	scan;
	CouchScanResult result;
	bool		complete;

	docrep_cj_scan_init(&scan);
	while ((result = docrep_cj_scan(&scan, &p, end, 0)) == COUCHSCAN_BEGIN ||
		   result == COUCHSCAN_FINISH)
	{
		if (result == COUCHSCAN_BEGIN)
			begin = p;
		else
			finish = p;
	}
	complete = result == COUCHSCAN_MORE && begin != NULL && docrep_cj_scan_complete(&scan);
	docrep_cj_scan_free(&scan);
	if (!complete)
	{
		memset(out, 0, sizeof(*out));
		return false;
	}
	*out = docrep_cj_checked(begin, (size_t) (finish - begin));
	return true;
}

static const char *
skip_blanks(const char *p, const char *end)
{
	while (p < end && (*p == ' ' || *p == '\n' || *p == '\r' || *p == '\t'))
		p++;
	return p;
}

/* Behind the string that begins at p. */
static const char *
skip_string(const char *p, const char *end)
{
	for (p++; p < end; p++)
	{
		if (*p == '"')
			return p + 1;
		if (*p == '\\' && ++p == end)
			break;
	}
	return end;
}

/* Behind the value that begins at p. */
static const char *
skip_value(const char *p, const char *end)
{
	size_t		depth = 0;

	while (p < end)
	{
		switch (*p)
		{
			case '"':
				p = skip_string(p, end);
				break;
			case '{':
			case '[':
				depth++;
				p++;
				break;
			case '}':
			case ']':
				if (depth == 0)
					return p;
				depth--;
				p++;
				break;
			default:
				if (depth == 0)
				{
					while (p < end && strchr(",:]} \t\r\n", *p) == NULL)
						p++;
					return p;
				}
				p++;
				continue;
		}
		if (depth == 0)
			return p;
	}
	return end;
}

void
docrep_cj_walk(CouchJsonWalk *walk, const CouchJson *container)
{
	memset(walk, 0, sizeof(*walk));
	if ((container->kind != CJ_OBJECT && container->kind != CJ_ARRAY) || container->len < 2)
		return;
	walk->object = container->kind == CJ_OBJECT;
	walk->p = container->text + 1;
	walk->end = container->text + container->len - 1;
}

/* Take the value at walk->p. */
static CouchJson
take_value(CouchJsonWalk *walk)
{
	const char *begin = walk->p;

	walk->p = skip_value(begin, walk->end);
	return docrep_cj_checked(begin, (size_t) (walk->p - begin));
}

bool
docrep_cj_next(CouchJsonWalk *walk)
{
	if (walk->p == NULL)
		return false;
	walk->p = skip_blanks(walk->p, walk->end);
	if (walk->p < walk->end && *walk->p == ',')
		walk->p = skip_blanks(walk->p + 1, walk->end);
	if (walk->p >= walk->end)
		return false;
	if (walk->object)
	{
		walk->key = take_value(walk);
		walk->p = skip_blanks(walk->p, walk->end);
		if (walk->p >= walk->end || *walk->p != ':')
			return false;
		walk->p = skip_blanks(walk->p + 1, walk->end);
	}
	walk->value = take_value(walk);
	return walk->value.len > 0;
}

CouchJson
docrep_cj_get(const CouchJson *object, const char *name)
{
	CouchJson	found = {CJ_NONE, NULL, 0};
	CouchJsonWalk walk;

	if (object->kind != CJ_OBJECT)
		return found;
	docrep_cj_walk(&walk, object);
	while (docrep_cj_next(&walk))
	{
		if (docrep_cj_equals(&walk.key, name))
			found = walk.value;
	}
	return found;
}

bool
docrep_cj_int64(const CouchJson *number, int64 *out)
{
	const char *p = number->text;
	const char *end = p + number->len;
	uint64		limit = INT64_MAX;
	uint64		value = 0;
	bool		minus;

	if (number->kind != CJ_NUMBER || number->len == 0)
		return false;
	minus = *p == '-';
	p += minus ? 1 : 0;
	limit += minus ? 1 : 0;
	if (p == end)
		return false;
	for (; p < end; p++)
	{
		unsigned	digit = (unsigned char) *p - '0';

		if (digit > 9 || value > (limit - digit) / 10)
			return false;
		value = value * 10 + digit;
	}
	*out = minus ? (int64) (0 - value) : (int64) value;
	return true;
}

/* ---------- strings ---------- */

/* The content of a raw string, being decoded. */
typedef struct StringReader
{
	const char *p;
	const char *end;
	bool		nul;
	bool		broken;
} StringReader;

static StringReader
read_string(const CouchJson *string)
{
	StringReader reader = {NULL, NULL, false, false};

	if (string->kind == CJ_STRING && string->len >= 2)
	{
		reader.p = string->text + 1;
		reader.end = string->text + string->len - 1;
	}
	return reader;
}

/* Four hexadecimal digits, or -1. */
static int32
hex4(const char *p, const char *end)
{
	int32		value = 0;

	if (end - p < 4)
		return -1;
	for (int i = 0; i < 4; i++)
	{
		char		c = p[i];
		int			digit;

		if (c >= '0' && c <= '9')
			digit = c - '0';
		else if (c >= 'a' && c <= 'f')
			digit = c - 'a' + 10;
		else if (c >= 'A' && c <= 'F')
			digit = c - 'A' + 10;
		else
			return -1;
		value = value * 16 + digit;
	}
	return value;
}

/* Write a code point in UTF-8; returns the number of bytes. */
static int
put_utf8(uint32 code, char *out)
{
	if (code < 0x80)
	{
		out[0] = (char) code;
		return 1;
	}
	if (code < 0x800)
	{
		out[0] = (char) (0xC0 | (code >> 6));
		out[1] = (char) (0x80 | (code & 0x3F));
		return 2;
	}
	if (code < 0x10000)
	{
		out[0] = (char) (0xE0 | (code >> 12));
		out[1] = (char) (0x80 | ((code >> 6) & 0x3F));
		out[2] = (char) (0x80 | (code & 0x3F));
		return 3;
	}
	out[0] = (char) (0xF0 | (code >> 18));
	out[1] = (char) (0x80 | ((code >> 12) & 0x3F));
	out[2] = (char) (0x80 | ((code >> 6) & 0x3F));
	out[3] = (char) (0x80 | (code & 0x3F));
	return 4;
}

/* An escape, behind its backslash.  It is never longer decoded than as it came. */
static int
read_escape(StringReader *reader, char *out)
{
	static const char from[] = "bfnrt";
	static const char to[] = "\b\f\n\r\t";
	const char *known;
	int32		code;
	int32		low = -1;

	if (reader->p == reader->end)
	{
		reader->broken = true;
		return 0;
	}
	if (*reader->p != 'u')
	{
		char		c = *reader->p++;

		known = c != '\0' ? strchr(from, c) : NULL;
		out[0] = known ? to[known - from] : c;
		return 1;
	}
	code = hex4(reader->p + 1, reader->end);
	if (code < 0)
	{
		reader->broken = true;
		reader->p = reader->end;
		return 0;
	}
	reader->p += 5;
	if (code >= 0xD800 && code < 0xDC00 && reader->end - reader->p >= 6 &&
		reader->p[0] == '\\' && reader->p[1] == 'u')
		low = hex4(reader->p + 2, reader->end);
	if (low >= 0xDC00 && low < 0xE000)
	{
		reader->p += 6;
		code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
	}
	else if (code >= 0xD800 && code < 0xE000)
		reader->broken = true;
	reader->nul |= code == 0;
	return put_utf8((uint32) code, out);
}

/* Length of the UTF-8 character at p, or 0 if it is none. */
static int
utf8_length(const unsigned char *p, const unsigned char *end)
{
	static const uint32 least[] = {0, 0, 0x80, 0x800, 0x10000};
	int			n = *p < 0x80 ? 1 : *p < 0xC2 ? 0 : *p < 0xE0 ? 2 : *p < 0xF0 ? 3 : *p < 0xF5 ? 4 : 0;
	uint32		code;

	if (n <= 1)
		return n;
	if (end - p < n)
		return 0;
	code = *p & (0xFF >> (n + 1));
	for (int i = 1; i < n; i++)
	{
		if ((p[i] & 0xC0) != 0x80)
			return 0;
		code = (code << 6) | (p[i] & 0x3F);
	}
	return code >= least[n] && code <= 0x10FFFF && (code < 0xD800 || code > 0xDFFF) ? n : 0;
}

/* The next character, at most 4 bytes; 0 at the end. */
static int
read_char(StringReader *reader, char *out)
{
	int			n;

	if (reader->p >= reader->end)
		return 0;
	if (*reader->p == '\\')
	{
		reader->p++;
		return read_escape(reader, out);
	}
	n = utf8_length((const unsigned char *) reader->p, (const unsigned char *) reader->end);
	if (n == 0)
	{
		reader->broken = true;
		n = 1;
	}
	memcpy(out, reader->p, (size_t) n);
	reader->p += n;
	return n;
}

bool
docrep_cj_equals(const CouchJson *string, const char *plain)
{
	size_t		len = strlen(plain);
	StringReader reader = read_string(string);
	char		c[4];
	int			n;

	if (string->kind != CJ_STRING || string->len < len + 2)
		return false;
	if (memchr(string->text, '\\', string->len) == NULL)
		return string->len == len + 2 && memcmp(string->text + 1, plain, len) == 0;
	while ((n = read_char(&reader, c)) > 0)
	{
		if ((size_t) n > len || memcmp(plain, c, (size_t) n) != 0)
			return false;
		plain += n;
		len -= (size_t) n;
	}
	return len == 0;
}

size_t
docrep_cj_decode(const CouchJson *string, char *out, bool *nul, bool *broken)
{
	StringReader reader = read_string(string);
	size_t		len = 0;
	int			n;

	while ((n = read_char(&reader, out + len)) > 0)
		len += (size_t) n;
	*nul = reader.nul;
	*broken = reader.broken;
	return len;
}
