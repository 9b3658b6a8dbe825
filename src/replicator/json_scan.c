/*-------------------------------------------------------------------------
 *
 * json_scan.c
 *		Looking through JSON text for what jsonb or text would not keep.
 *
 * One pass, with a stack of its own for what is open, so that depth costs memory
 * and nothing else.
 *
 *-------------------------------------------------------------------------
 */
#include "replicator/json_scan.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

/* Numbers of this length are reported for it. */
#define LONG_NUMBER		1000

/* A member's name in an open object. */
typedef struct ScanKey
{
	uint64		hash;			/* of the name without its escapes */
	const char *text;
	int			len;
} ScanKey;

/* An object or array that is open. */
typedef struct ScanFrame
{
	bool		object;
	bool		want_key;
	int			first_key;		/* in keys, where its own begin */
} ScanFrame;

typedef struct Scan
{
	const char *p;
	const char *end;
	JsonScanFound found;
	void	   *arg;
	ScanFrame  *frames;
	int			depth;
	int			max_depth;
	int			frames_cap;
	ScanKey    *keys;
	int			nkeys;
	int			keys_cap;
	const char *member;			/* of the top object */
	int			memberlen;
	char	   *plain;			/* a string without its escapes */
	size_t		plainlen;
	size_t		plain_cap;
} Scan;

static void
report(Scan *scan, JsonScanKind kind, const char *text, int len)
{
	scan->found(scan->arg, kind, text, len, scan->member, scan->memberlen);
}

/* The value of four hexadecimal digits at p; -1: there are none. */
static int
hex4(const char *p, const char *end)
{
	int			value = 0;

	if (end - p < 4)
		return -1;
	for (int i = 0; i < 4; i++)
	{
		char		c = p[i];

		if (c >= '0' && c <= '9')
			value = value * 16 + c - '0';
		else if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f')
			value = value * 16 + (c | 0x20) - 'a' + 10;
		else
			return -1;
	}
	return value;
}

/* Twice the room for an array. */
static void *
grow(void *array, size_t size)
{
#ifdef DOCREP_STANDALONE
	return repalloc(array, size);
#else
	return repalloc_huge(array, size);
#endif
}

/* Add bytes to the plain form of the string that is being read. */
static void
add_bytes(Scan *scan, const char *bytes, size_t len)
{
	while (scan->plainlen + len > scan->plain_cap)
		scan->plain = grow(scan->plain, scan->plain_cap *= 2);
	memcpy(scan->plain + scan->plainlen, bytes, len);
	scan->plainlen += len;
}

/* Add a character, as UTF-8. */
static void
add_char(Scan *scan, int c)
{
	char		bytes[4];
	size_t		len = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;

	for (size_t i = len - 1; i > 0; i--)
	{
		bytes[i] = 0x80 | (c & 0x3F);
		c >>= 6;
	}
	bytes[0] = len == 1 ? c : (0xF00 >> len & 0xFF) | c;
	add_bytes(scan, bytes, len);
}

/* The length of the UTF-8 character at p; 0: there is none. */
static int
utf8_length(const unsigned char *p, size_t left)
{
	int			len = p[0] < 0x80 ? 1 : p[0] < 0xC2 ? 0 : p[0] < 0xE0 ? 2 : p[0] < 0xF0 ? 3 :
		p[0] < 0xF5 ? 4 : 0;

	if (len == 0 || (size_t) len > left)
		return 0;
	for (int i = 1; i < len; i++)
	{
		if ((p[i] & 0xC0) != 0x80)
			return 0;
	}
	/* longer than need be, surrogates, beyond Unicode */
	if ((p[0] == 0xE0 && p[1] < 0xA0) || (p[0] == 0xED && p[1] > 0x9F) ||
		(p[0] == 0xF0 && p[1] < 0x90) || (p[0] == 0xF4 && p[1] > 0x8F))
		return 0;
	return len;
}

/* "\uXXXX" at p, which stands behind the u; moves on. */
static void
scan_unicode(Scan *scan)
{
	const char *start = scan->p - 2;
	int			c = hex4(scan->p, scan->end);
	int			low = -1;

	if (c < 0)
		return;
	scan->p += 4;
	if (c >= 0xD800 && c <= 0xDBFF && scan->end - scan->p >= 6 &&
		scan->p[0] == '\\' && scan->p[1] == 'u')
		low = hex4(scan->p + 2, scan->end);
	if (low >= 0xDC00 && low <= 0xDFFF)
	{
		scan->p += 6;
		c = 0x10000 + ((c - 0xD800) << 10) + (low - 0xDC00);
	}
	else if (c >= 0xD800 && c <= 0xDFFF)
		report(scan, JSON_SCAN_SURROGATE, start, 6);
	else if (c == 0)
		report(scan, JSON_SCAN_NUL, start, 6);
	add_char(scan, c);
}

/* Behind a backslash; moves on. */
static void
scan_escape(Scan *scan)
{
	static const char from[] = "bfnrt";
	static const char to[] = "\b\f\n\r\t";
	const char *found;
	char		c;

	if (scan->p >= scan->end)
		return;
	c = *scan->p++;
	if (c == 'u')
		scan_unicode(scan);
	else
	{
		found = c != '\0' ? strchr(from, c) : NULL;
		add_bytes(scan, found ? &to[found - from] : &c, 1);
	}
}

/* One character, or what stands in its place. */
static void
scan_char(Scan *scan)
{
	const unsigned char *c = (const unsigned char *) scan->p;
	int			len = utf8_length(c, scan->end - scan->p);

	if (len == 0)
	{
		/* the three bytes of a surrogate are no UTF-8 either, but tell more */
		bool		surrogate = scan->end - scan->p >= 3 && c[0] == 0xED && c[1] >= 0xA0 &&
			c[1] <= 0xBF;

		len = surrogate ? 3 : 1;
		report(scan, surrogate ? JSON_SCAN_SURROGATE : JSON_SCAN_UTF8, scan->p, len);
	}
	else if (*c == 0)
		report(scan, JSON_SCAN_NUL, scan->p, 1);
	add_bytes(scan, scan->p, len);
	scan->p += len;
}

/* A string, from its first quote; p comes to stand behind the last. */
static void
scan_string(Scan *scan)
{
	scan->plainlen = 0;
	scan->p++;
	while (scan->p < scan->end && *scan->p != '"')
	{
		if (*scan->p == '\\')
		{
			scan->p++;
			scan_escape(scan);
		}
		else
			scan_char(scan);
	}
	if (scan->p < scan->end)
		scan->p++;
}

/* The name of a member, from its first quote. */
static void
scan_key(Scan *scan, ScanFrame *frame)
{
	const char *start = scan->p;
	ScanKey    *key;

	/* what is wrong in a name is found in the member of that name */
	if (scan->depth == 1)
	{
		scan->member = start + 1;
		scan->memberlen = 0;
	}
	scan_string(scan);
	if (scan->depth == 1)
		scan->memberlen = Max(scan->p - start - 2, 0);
	if (scan->nkeys >= scan->keys_cap)
	{
		scan->keys_cap *= 2;
		scan->keys = grow(scan->keys, scan->keys_cap * sizeof(ScanKey));
	}
	key = &scan->keys[scan->nkeys++];
	key->hash = XXH3_64bits(scan->plain, scan->plainlen);
	key->text = start;
	key->len = scan->p - start;
	frame->want_key = false;
	if (scan->depth == 1 && scan->plainlen > 0 && scan->plain[0] == '_')
		report(scan, JSON_SCAN_SPECIAL, start, key->len);
}

/* A number, or a word; p comes to stand behind it. */
static void
scan_word(Scan *scan)
{
	const char *start = scan->p;
	bool		exponent = false;
	bool		zero = true;
	int			len;

	/* true, false, null; or a single character between values */
	if (*start != '-' && (*start < '0' || *start > '9'))
	{
		do
			scan->p++;
		while (scan->p < scan->end && *scan->p >= 'a' && *scan->p <= 'z');
		return;
	}
	while (scan->p < scan->end && strchr("+-.0123456789eE", *scan->p) != NULL && *scan->p != '\0')
	{
		exponent |= (*scan->p | 0x20) == 'e';
		zero &= *scan->p < '1' || *scan->p > '9';
		scan->p++;
	}
	len = scan->p - start;
	if (exponent || len >= LONG_NUMBER || (*start == '-' && zero && len > 1))
		report(scan, JSON_SCAN_NUMBER, start, len);
}

static void
open_frame(Scan *scan, bool object)
{
	ScanFrame  *frame;

	if (scan->depth >= scan->frames_cap)
	{
		scan->frames_cap *= 2;
		scan->frames = grow(scan->frames, scan->frames_cap * sizeof(ScanFrame));
	}
	frame = &scan->frames[scan->depth++];
	frame->object = frame->want_key = object;
	frame->first_key = scan->nkeys;
	scan->max_depth = Max(scan->max_depth, scan->depth);
}

static int
compare_keys(const void *a, const void *b)
{
	uint64		x = ((const ScanKey *) a)->hash;
	uint64		y = ((const ScanKey *) b)->hash;

	return x < y ? -1 : x > y;
}

/* An object or array ends: are names in it twice? */
static void
close_frame(Scan *scan)
{
	ScanFrame  *frame;
	ScanKey    *keys;
	int			n;

	if (scan->depth == 0)
		return;
	frame = &scan->frames[--scan->depth];
	keys = &scan->keys[frame->first_key];
	n = scan->nkeys - frame->first_key;
	qsort(keys, n, sizeof(ScanKey), compare_keys);
	for (int i = 1; i < n; i++)
	{
		if (keys[i].hash == keys[i - 1].hash)
			report(scan, JSON_SCAN_DUPLICATE, keys[i].text, keys[i].len);
	}
	scan->nkeys = frame->first_key;
}

int
docrep_json_scan(const char *text, size_t len, JsonScanFound found, void *arg)
{
	Scan		scan = {.p = text, .end = text + len, .found = found, .arg = arg};

	scan.frames_cap = 64;
	scan.frames = palloc(scan.frames_cap * sizeof(ScanFrame));
	scan.keys_cap = 64;
	scan.keys = palloc(scan.keys_cap * sizeof(ScanKey));
	scan.plain_cap = 256;
	scan.plain = palloc(scan.plain_cap);
	while (scan.p < scan.end)
	{
		ScanFrame  *frame = scan.depth > 0 ? &scan.frames[scan.depth - 1] : NULL;
		char		c = *scan.p;

		if (c == '"' && frame && frame->want_key)
			scan_key(&scan, frame);
		else if (c == '"')
			scan_string(&scan);
		else if (c == '{' || c == '[')
		{
			open_frame(&scan, c == '{');
			scan.p++;
		}
		else if (c == '}' || c == ']')
		{
			close_frame(&scan);
			scan.p++;
		}
		else
		{
			if (c == ',' && frame && frame->object)
				frame->want_key = true;
			scan_word(&scan);
		}
	}
	pfree(scan.frames);
	pfree(scan.keys);
	pfree(scan.plain);
	return scan.max_depth;
}
