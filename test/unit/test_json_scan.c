/*-------------------------------------------------------------------------
 *
 * test_json_scan.c
 *		Looking through JSON text: what is found, where, and that no text is
 *		read beyond its end.
 *
 *-------------------------------------------------------------------------
 */
#include "unit.h"

#include "replicator/json_scan.h"

#define MAX_FOUND	16

static struct
{
	int			n;
	JsonScanKind kinds[MAX_FOUND];
	char		texts[MAX_FOUND][64];
	char		members[MAX_FOUND][64];
} seen;

static const char *text_start;
static const char *text_end;

static void
copy(char *out, const char *text, int len)
{
	snprintf(out, 64, "%.*s", len, text ? text : "");
}

static void
found(void *arg, JsonScanKind kind, const char *text, int len, const char *member, int memberlen)
{
	CHECK(len >= 0 && text >= text_start && text + len <= text_end);
	CHECK(memberlen >= 0 && (memberlen == 0 ||
							 (member >= text_start && member + memberlen <= text_end)));
	if (seen.n < MAX_FOUND)
	{
		seen.kinds[seen.n] = kind;
		copy(seen.texts[seen.n], text, len);
		copy(seen.members[seen.n], member, memberlen);
	}
	seen.n++;
}

/* Scan a text in memory that ends with it; returns the depth. */
static int
scan(const char *text, size_t len)
{
	char	   *exact = malloc(len ? len : 1);
	int			depth;

	memcpy(exact, text, len);
	seen.n = 0;
	text_start = exact;
	text_end = exact + len;
	depth = docrep_json_scan(exact, len, found, NULL);
	free(exact);
	return depth;
}

/* Is this the only thing found in the text? */
static bool
finds(const char *text, JsonScanKind kind, const char *what, const char *member)
{
	scan(text, strlen(text));
	return seen.n == 1 && seen.kinds[0] == kind && strcmp(seen.texts[0], what) == 0 &&
		strcmp(seen.members[0], member) == 0;
}

static bool
finds_nothing(const char *text)
{
	scan(text, strlen(text));
	return seen.n == 0;
}

static void
test_strings(void)
{
	CHECK(finds_nothing("{\"a\": \"\\ud83d\\ude00 \\\\u0000 \\\" \xf0\x9f\x98\x80 \\u00e9\", \"b\": [\"\\u0001\"]}"));
	CHECK(finds("{\"a\": 1, \"b\": [\"x\\u0000\"]}", JSON_SCAN_NUL, "\\u0000", "b"));
	CHECK(finds("{\"x\\u0000\": 1}", JSON_SCAN_NUL, "\\u0000", ""));
	CHECK(finds("{\"a\": \"\\ud83d\"}", JSON_SCAN_SURROGATE, "\\ud83d", "a"));
	CHECK(finds("{\"a\": \"\\ude00\\ud83\"}", JSON_SCAN_SURROGATE, "\\ude00", "a"));
	CHECK(finds("{\"a\": \"\\uD83D\\u0041\"}", JSON_SCAN_SURROGATE, "\\uD83D", "a"));
	CHECK(finds("{\"a\": \"\xed\xa0\x80\"}", JSON_SCAN_SURROGATE, "\xed\xa0\x80", "a"));
	CHECK(finds("{\"a\": \"\xc3\"}", JSON_SCAN_UTF8, "\xc3", "a"));
	CHECK(finds("{\"a\": \"\x80\"}", JSON_SCAN_UTF8, "\x80", "a"));
	CHECK(finds("{\"a\": \"\xc0 \"}", JSON_SCAN_UTF8, "\xc0", "a"));
	CHECK(scan("{\"a\": \"\0\"}", 10) == 1 && seen.n == 1 && seen.kinds[0] == JSON_SCAN_NUL);
	unit_done("strings");
}

static void
test_members(void)
{
	CHECK(finds_nothing("{\"a\": {\"b\": 1}, \"b\": {\"a\": 1}, \"c\": [{\"a\": 1}, {\"a\": 2}], \"A\": \"a\"}"));
	CHECK(finds("{\"a\": 1, \"b\": 2, \"a\": 3}", JSON_SCAN_DUPLICATE, "\"a\"", "a") ||
		  finds("{\"a\": 1, \"b\": 2, \"a\": 3}", JSON_SCAN_DUPLICATE, "\"a\"", "b"));
	CHECK(finds("{\"o\": [{\"a\": 1, \"\\u0061\": 2}]}", JSON_SCAN_DUPLICATE, "\"\\u0061\"", "o") ||
		  finds("{\"o\": [{\"a\": 1, \"\\u0061\": 2}]}", JSON_SCAN_DUPLICATE, "\"a\"", "o"));
	CHECK(finds("{\"\\n\": 1, \"\\u000a\": 2, \"\\u000A \": 3}", JSON_SCAN_DUPLICATE, "\"\\n\"", "\\u000A ") ||
		  finds("{\"\\n\": 1, \"\\u000a\": 2, \"\\u000A \": 3}", JSON_SCAN_DUPLICATE, "\"\\u000a\"", "\\u000A "));
	CHECK(finds("{\"_odd\": 1, \"x\": {\"_fine\": 1}}", JSON_SCAN_SPECIAL, "\"_odd\"", "_odd"));
	CHECK(finds_nothing("[\"_a\", \"_a\", {\"_b\": 1}]"));
	unit_done("members");
}

static void
test_numbers(void)
{
	char		digits[1100];

	CHECK(finds_nothing("{\"a\": [0, -1, 1.50, 0.0, 123456789012345678901234567890], \"b\": \"1e5\", \"c\": true, \"d\": null, \"e\": false}"));
	CHECK(finds("{\"a\": 1e400}", JSON_SCAN_NUMBER, "1e400", "a"));
	CHECK(finds("{\"a\": [1E-7]}", JSON_SCAN_NUMBER, "1E-7", "a"));
	CHECK(finds("{\"a\": -0}", JSON_SCAN_NUMBER, "-0", "a"));
	CHECK(finds("{\"a\": -0.00}", JSON_SCAN_NUMBER, "-0.00", "a"));
	CHECK(finds_nothing("{\"a\": -0.01}"));
	memset(digits, '7', sizeof(digits));
	memcpy(digits, "{\"a\":", 5);
	digits[1050] = '}';
	CHECK(scan(digits, 1051) == 1 && seen.n == 1 && seen.kinds[0] == JSON_SCAN_NUMBER);
	unit_done("numbers");
}

static void
test_depth(void)
{
	size_t		n = 200000;
	char	   *deep = malloc(2 * n);

	memset(deep, '[', n);
	memset(deep + n, ']', n);
	CHECK(scan(deep, 2 * n) == (int) n && seen.n == 0);
	CHECK(scan(deep, n) == (int) n);
	CHECK(scan(deep + n, n) == 0);
	CHECK(scan("{\"a\": [{}]}", 11) == 3);
	CHECK(scan("1", 1) == 0);
	free(deep);
	unit_done("depth");
}

/* Whatever the bytes are, nothing outside of them is read: the sanitizer looks. */
static void
test_garbage(void)
{
	static const char seed_text[] = "{\"_a\": [1e5, -0.0, \"\\ud83d\\ude00\\u0000\xc3\xa9\xf0\x9f\x98\x80\", true], \"_a\": {\"b\\\\\": {}}}";
	static const char alphabet[] = "{}[]\",:\\u0dD8-1eE.ntf_ \xc3\xed\xa0\x80\xf4";

	for (int round = 0; round < 20000; round++)
	{
		char		text[sizeof(seed_text)];
		size_t		len = 1 + unit_random(sizeof(seed_text) - 1);

		memcpy(text, seed_text, sizeof(text));
		for (uint32 i = unit_random(12); i > 0; i--)
			text[unit_random(sizeof(text))] = alphabet[unit_random(sizeof(alphabet))];
		CHECK(scan(text, len) <= (int) len);
	}
	unit_done("garbage");
}

int
main(int argc, char **argv)
{
	unit_seed(unit_choose_seed(argc, argv));
	test_strings();
	test_members();
	test_numbers();
	test_depth();
	test_garbage();
	return unit_exit();
}
