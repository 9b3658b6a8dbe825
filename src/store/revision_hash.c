/*-------------------------------------------------------------------------
 *
 * revision_hash.c
 *		The revision that an edit makes: a hash of what the edit is.
 *
 * Two servers on which the same edit is made must come to the same revision,
 * whatever their architecture and however they wrote the numbers.  So what is
 * hashed (XXH3, 128 bits, big-endian) is not the stored jsonb but this:
 *
 *		0x01							version of this form
 *		0x00, or 0x01 generation (4 bytes) length (2 bytes) identifier
 *										the parent revision
 *		0x00 or 0x01					deleted
 *		number of attachments (4 bytes), then for each, in the order of the bytes
 *		of their names: name, content type, digest, encoding ("" for none), each
 *		count bytes
 *		value							the body
 *
 *		value =	'n' | 'f' | 't'
 *			|	's' count bytes			string
 *			|	'+' or '-', count of digits, weight (2 bytes), digits (2 bytes each)
 *										number in base 10000: weight is the exponent
 *										of the first digit; neither the first nor
 *										the last digit is 0; zero is "+", 0, 0
 *			|	'a' count values		array
 *			|	'o' count members		object; member = count, bytes of the key,
 *										value; in jsonb's order of keys
 *		count = LEB128
 *
 * Fixed-width integers are big-endian.  The digits of base 10000 are those
 * that numeric is stored with, so that nothing has to be printed or divided:
 * this runs once for every row of a bulk INSERT.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "store/document.h"
#include "utils/memutils.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#define HASH_FORM_VERSION	1

/* a buffer that has grown beyond this is given back */
#define BUFFER_KEEP			(256 * 1024)

/* The stored form of a numeric after its varlena header: numeric.c keeps it to itself. */
#define NUM_SIGN_MASK		0xC000
#define NUM_NEG				0x4000
#define NUM_SHORT			0x8000
#define NUM_SPECIAL			0xC000
#define NUM_SHORT_SIGN		0x2000
#define NUM_SHORT_WEIGHT_SIGN	0x0040
#define NUM_SHORT_WEIGHT	0x003F

static char *buffer = NULL;
static Size buffer_size = 0;

/* Make room for at least size bytes; what was in the buffer is lost. */
static void
reserve(Size size)
{
	if (size <= buffer_size)
		return;
	if (buffer)
		pfree(buffer);
	buffer = NULL;
	buffer_size = 0;
	size = Max(size + size / 4, 8192);
	buffer = MemoryContextAllocHuge(TopMemoryContext, size);
	buffer_size = size;
}

static inline uint8 *
put_uint16(uint8 *p, uint16 value)
{
	p[0] = value >> 8;
	p[1] = value & 0xFF;
	return p + 2;
}

static inline uint8 *
put_uint32(uint8 *p, uint32 value)
{
	return put_uint16(put_uint16(p, value >> 16), value & 0xFFFF);
}

static inline uint8 *
put_count(uint8 *p, uint32 value)
{
	while (value >= 0x80)
	{
		*p++ = (value & 0x7F) | 0x80;
		value >>= 7;
	}
	*p++ = value;
	return p;
}

/* A string: its length and its bytes. */
static inline uint8 *
put_bytes(uint8 *p, const char *bytes, uint32 len)
{
	p = put_count(p, len);
	memcpy(p, bytes, len);
	return p + len;
}

/* Write a number, given as a stored numeric. */
static uint8 *
put_number(uint8 *p, const char *numeric)
{
	const char *data = VARDATA_ANY(numeric);
	int			len = VARSIZE_ANY_EXHDR(numeric);
	uint16		header;
	bool		negative;
	int16		weight;
	const char *digits;
	int			ndigits;
	uint16		digit;

	memcpy(&header, data, sizeof(header));
	if ((header & NUM_SIGN_MASK) == NUM_SPECIAL)
	{
		/* NaN and the infinities, which JSON text cannot bring in */
		*p++ = '?';
		return put_uint16(p, header & 0xF000);
	}
	if (header & NUM_SHORT)
	{
		negative = (header & NUM_SHORT_SIGN) != 0;
		weight = (header & NUM_SHORT_WEIGHT_SIGN) ?
			(int16) ((header & NUM_SHORT_WEIGHT) - NUM_SHORT_WEIGHT_SIGN) :
			(int16) (header & NUM_SHORT_WEIGHT);
		digits = data + sizeof(uint16);
		ndigits = (len - (int) sizeof(uint16)) / (int) sizeof(uint16);
	}
	else
	{
		negative = (header & NUM_SIGN_MASK) == NUM_NEG;
		memcpy(&weight, data + sizeof(uint16), sizeof(weight));
		digits = data + 2 * sizeof(uint16);
		ndigits = (len - 2 * (int) sizeof(uint16)) / (int) sizeof(uint16);
	}

	/* numeric.c stores no zeros at the ends today, but does not promise it */
	while (ndigits > 0)
	{
		memcpy(&digit, digits, sizeof(digit));
		if (digit != 0)
			break;
		digits += sizeof(uint16);
		ndigits--;
		weight--;
	}
	while (ndigits > 0)
	{
		memcpy(&digit, digits + (ndigits - 1) * sizeof(uint16), sizeof(digit));
		if (digit != 0)
			break;
		ndigits--;
	}
	if (ndigits == 0)
	{
		negative = false;
		weight = 0;
	}

	*p++ = negative ? '-' : '+';
	p = put_count(p, ndigits);
	p = put_uint16(p, (uint16) weight);
	for (int i = 0; i < ndigits; i++)
	{
		memcpy(&digit, digits + i * sizeof(uint16), sizeof(digit));
		p = put_uint16(p, digit);
	}
	return p;
}

static uint8 *put_container(uint8 *p, const JsonbContainer *container);

/*
 * Write one child of a container: its JEntry, and its data from "start" on
 * (padding, which is counted in len, included).
 */
static inline uint8 *
put_value(uint8 *p, JEntry entry, const char *base, uint32 start, uint32 len)
{
	switch (entry & JENTRY_TYPEMASK)
	{
		case JENTRY_ISSTRING:
			*p++ = 's';
			return put_bytes(p, base + start, len);
		case JENTRY_ISNUMERIC:
			return put_number(p, base + INTALIGN(start));
		case JENTRY_ISBOOL_FALSE:
			*p++ = 'f';
			return p;
		case JENTRY_ISBOOL_TRUE:
			*p++ = 't';
			return p;
		case JENTRY_ISNULL:
			*p++ = 'n';
			return p;
		case JENTRY_ISCONTAINER:
			return put_container(p, (const JsonbContainer *) (base + INTALIGN(start)));
		default:
			elog(ERROR, "unknown kind of jsonb value: %08x", entry);
	}
	return p;
}

/* Write an object or an array. */
static uint8 *
put_container(uint8 *p, const JsonbContainer *container)
{
	int			n = JsonContainerSize(container);
	bool		object = JsonContainerIsObject(container);
	const JEntry *children = container->children;
	const JEntry *values = object ? children + n : children;
	const char *base = (const char *) (values + n);
	uint32		keyoff = 0;
	uint32		off = 0;

	check_stack_depth();
	*p++ = object ? 'o' : 'a';
	p = put_count(p, n);
	if (object)
	{
		/* values begin where the keys end */
		for (int i = 0; i < n; i++)
			JBE_ADVANCE_OFFSET(off, children[i]);
	}
	for (int i = 0; i < n; i++)
	{
		uint32		start = off;

		if (object)
		{
			uint32		keystart = keyoff;

			JBE_ADVANCE_OFFSET(keyoff, children[i]);
			p = put_bytes(p, base + keystart, keyoff - keystart);
		}
		JBE_ADVANCE_OFFSET(off, values[i]);
		p = put_value(p, values[i], base, start, off - start);
	}
	return p;
}

/* A string that may be missing. */
static inline uint8 *
put_text(uint8 *p, const char *text)
{
	return put_bytes(p, text ? text : "", text ? strlen(text) : 0);
}

/* An upper limit to what the attachments take. */
static Size
atts_size(const DocAtts *atts)
{
	Size		size = 0;

	for (int i = 0; atts && i < atts->n; i++)
	{
		const DocAtt *att = &atts->atts[i];

		size += 4 * 5 + strlen(att->name) + strlen(att->content_type) +
			(att->digest ? strlen(att->digest) : 0) + (att->encoding ? strlen(att->encoding) : 0);
	}
	return size;
}

/* Their number and what tells one from another. */
static uint8 *
put_atts(uint8 *p, const DocAtts *atts)
{
	p = put_uint32(p, atts ? atts->n : 0);
	for (int i = 0; atts && i < atts->n; i++)
	{
		p = put_text(p, atts->atts[i].name);
		p = put_text(p, atts->atts[i].content_type);
		p = put_text(p, atts->atts[i].digest);
		p = put_text(p, atts->atts[i].encoding);
	}
	return p;
}

/*
 * The 16 bytes of the revision that follows parent (NULL: a first one) with
 * this body (NULL: {}) and these attachments (NULL: none).
 */
void
docrep_revision_hash(const Rev *parent, bool deleted, Jsonb *body, const DocAtts *atts,
					 uint8 *hash)
{
	Size		body_size = body ? VARSIZE(body) : 0;
	uint8	   *p;
	XXH128_canonical_t canonical;

	/*
	 * A value never takes more here than as jsonb, JEntry included, except
	 * that the count of a string of 2 MB or more is a byte longer.
	 */
	reserve(64 + REV_MAX_LEN + body_size + body_size / (1024 * 1024) + atts_size(atts));
	p = (uint8 *) buffer;
	*p++ = HASH_FORM_VERSION;
	if (parent)
	{
		Assert(parent->len <= REV_MAX_LEN);
		*p++ = 1;
		p = put_uint32(p, parent->gen);
		p = put_uint16(p, parent->len);
		memcpy(p, parent->bytes, parent->len);
		p += parent->len;
	}
	else
		*p++ = 0;
	*p++ = deleted ? 1 : 0;
	p = put_atts(p, atts);
	if (body)
		p = put_container(p, &body->root);
	else
	{
		*p++ = 'o';
		p = put_count(p, 0);
	}
	Assert((Size) (p - (uint8 *) buffer) <= buffer_size);

	XXH128_canonicalFromHash(&canonical, XXH3_128bits(buffer, p - (uint8 *) buffer));
	StaticAssertStmt(sizeof(canonical.digest) == REV_HASH_LEN, "a revision's hash has 16 bytes");
	memcpy(hash, canonical.digest, REV_HASH_LEN);

	if (buffer_size > BUFFER_KEEP)
	{
		pfree(buffer);
		buffer = NULL;
		buffer_size = 0;
	}
}
