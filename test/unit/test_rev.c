/*-------------------------------------------------------------------------
 *
 * test_rev.c
 *		Revision identifiers: parse, print, order, packed form, varints.
 *
 *-------------------------------------------------------------------------
 */
#include "unit.h"

/*
 * Does text parse, and print as "printed"?
 */
static bool
prints_as(const char *text, const char *printed)
{
	uint8		buf[REV_TEXT_SIZE];
	char		out[REV_TEXT_SIZE];
	Rev			rev;

	if (docrep_rev_parse(text, strlen(text), buf, &rev) != NULL)
		return false;
	return docrep_rev_print(&rev, out) == strlen(printed) &&
		strcmp(out, printed) == 0;
}

static bool
refused(const char *text, size_t len)
{
	uint8	   *buf = malloc(len + 1);
	Rev			rev;
	bool		result = docrep_rev_parse(text, len, buf, &rev) != NULL;

	free(buf);
	return result;
}

static void
test_parse(void)
{
	char		longest[REV_MAX_LEN + 4];

	CHECK(prints_as("1-a", "1-a"));
	CHECK(prints_as("12-a-b", "12-a-b"));
	CHECK(prints_as("007-x", "7-x"));
	CHECK(prints_as("2147483647-x", "2147483647-x"));
	CHECK(prints_as("3-967a00dff5e02add41819138abb3284d", "3-967a00dff5e02add41819138abb3284d"));
	CHECK(prints_as("3-967A00DFF5E02ADD41819138ABB3284D", "3-967a00dff5e02add41819138abb3284d"));
	CHECK(prints_as("1-967a00dff5e02add41819138abb3284", "1-967a00dff5e02add41819138abb3284"));
	CHECK(prints_as("1-ABCDEFGHIJKLMNOP", "1-ABCDEFGHIJKLMNOP"));

	CHECK(refused("", 0));
	CHECK(refused("1", 1));
	CHECK(refused("1-", 2));
	CHECK(refused("-a", 2));
	CHECK(refused("a-1", 3));
	CHECK(refused("0-a", 3));
	CHECK(refused("+1-a", 4));
	CHECK(refused(" 1-a", 4));
	CHECK(refused("2147483648-a", 12));
	CHECK(refused("99999999999999999999999-a", 25));
	CHECK(refused("1-a\0b", 5));
	CHECK(refused("1-zz7a00dff5e02add41819138abb3284d", 34));

	memset(longest, 'x', sizeof(longest));
	memcpy(longest, "1-", 2);
	CHECK(!refused(longest, REV_MAX_LEN + 2));
	CHECK(refused(longest, REV_MAX_LEN + 3));
	unit_done("parse and print");
}

static int
order(const char *a, const char *b)
{
	Rev			x = unit_rev(a);
	Rev			y = unit_rev(b);
	int			c = docrep_rev_cmp(&x, &y);
	int			d = docrep_rev_cmp(&y, &x);

	CHECK((c < 0) == (d > 0) && (c == 0) == (d == 0));
	CHECK((c == 0) == docrep_rev_eq(&x, &y));
	return c < 0 ? -1 : (c > 0 ? 1 : 0);
}

static void
test_order(void)
{
	CHECK(order("1-a", "1-a") == 0);
	CHECK(order("1-a", "1-b") < 0);
	CHECK(order("2-a", "1-b") > 0);
	CHECK(order("10-a", "9-a") > 0);
	CHECK(order("1-a", "1-aa") < 0);
	CHECK(order("1-Z", "1-a") < 0);
	CHECK(order("1-\xc3\xa9", "1-z") > 0);
	/* 32 digits count as their 16 bytes */
	CHECK(order("1-ffffffffffffffffffffffffffffffff", "1-z") > 0);
	CHECK(order("1-00000000000000000000000000000000", "1-0") < 0);
	CHECK(order("1-6162636465666768696a6b6c6d6e6f70", "1-abcdefghijklmnop") == 0);
	CHECK(order("1-ABCDEF00000000000000000000000000", "1-abcdef00000000000000000000000000") == 0);
	unit_done("order and equality");
}

/*
 * Pack and unpack a revision, and refuse what differs from it by one byte
 * more or less, unless that is a revision, too.
 */
static bool
survives_packing(const Rev *rev)
{
	uint8		packed[REV_PACKED_SIZE];
	size_t		len = docrep_rev_pack(rev, packed);
	uint8	   *exact = malloc(len);
	Rev			back;
	bool		ok;

	memcpy(exact, packed, len);
	ok = len <= REV_PACKED_SIZE && docrep_rev_unpack(exact, len, &back) &&
		docrep_rev_eq(rev, &back) && back.hex == rev->hex;
	if (ok && rev->hex)
		ok = !docrep_rev_unpack(exact, len - 1, &back);
	free(exact);
	return ok;
}

static void
test_packed(void)
{
	static const uint32 gens[] = {1, 2, 63, 64, 8191, 8192, 1 << 20, REV_MAX_GENERATION};
	uint8		bytes[REV_MAX_LEN];
	Rev			rev;

	for (size_t g = 0; g < sizeof(gens) / sizeof(gens[0]); g++)
	{
		for (uint16 len = 1; len <= REV_MAX_LEN; len += 1 + len / 3)
		{
			for (int i = 0; i < len; i++)
				bytes[i] = (uint8) (1 + unit_random(255));
			rev = (Rev)
			{
				gens[g], len, false, bytes
			};
			if (len != 32)
				CHECK(survives_packing(&rev));
			rev.len = REV_HASH_LEN;
			rev.hex = true;
			CHECK(survives_packing(&rev));
		}
	}
	CHECK(!docrep_rev_unpack((const uint8 *) "", 0, &rev));
	CHECK(!docrep_rev_unpack((const uint8 *) "\003", 1, &rev));
	CHECK(!docrep_rev_unpack((const uint8 *) "\001a", 2, &rev));
	CHECK(!docrep_rev_unpack((const uint8 *) "\203\000a", 3, &rev));
	CHECK(!docrep_rev_unpack((const uint8 *) "\003a\0b", 4, &rev));
	CHECK(docrep_rev_unpack((const uint8 *) "\003a", 2, &rev));
	unit_done("packed form");
}

static void
test_random_bytes(void)
{
	for (int round = 0; round < 200000; round++)
	{
		size_t		len = unit_random(24);
		uint8	   *bytes = malloc(len + 1);
		uint8		again[REV_PACKED_SIZE];
		Rev			rev;

		for (size_t i = 0; i < len; i++)
			bytes[i] = (uint8) unit_random(256);
		/* what is accepted is the one form of what it stands for */
		if (docrep_rev_unpack(bytes, len, &rev))
			CHECK(docrep_rev_pack(&rev, again) == len && memcmp(bytes, again, len) == 0);
		free(bytes);
	}
	unit_done("random bytes");
}

static void
test_varint(void)
{
	static const uint8 cut[] = {0x80};
	static const uint8 too_long[] = {0x80, 0x00};
	static const uint8 too_large[] = {0xff, 0xff, 0xff, 0xff, 0x10};
	uint8		buf[5];
	uint32		value;

	for (int bit = 0; bit < 32; bit++)
	{
		for (int off = -1; off <= 1; off++)
		{
			uint32		want = (UINT32_C(1) << bit) + (uint32) off;
			size_t		n = docrep_varint_write(buf, want);

			CHECK(n <= 5 && docrep_varint_read(buf, buf + n, &value) == n && value == want);
			CHECK(docrep_varint_read(buf, buf + n - 1, &value) == 0);
		}
	}
	CHECK(docrep_varint_read(cut, cut + 1, &value) == 0);
	CHECK(docrep_varint_read(too_long, too_long + 2, &value) == 0);
	CHECK(docrep_varint_read(too_large, too_large + 5, &value) == 0);
	unit_done("varints");
}

int
main(int argc, char **argv)
{
	unit_seed(unit_choose_seed(argc, argv));
	test_parse();
	test_order();
	test_packed();
	test_random_bytes();
	test_varint();
	unit_free_bytes();
	return unit_exit();
}
