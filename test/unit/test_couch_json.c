/*-------------------------------------------------------------------------
 *
 * test_couch_json.c
 *		JSON and multipart as CouchDB peers send them.
 *
 *-------------------------------------------------------------------------
 */
#include <stdio.h>

#include "peer/couch_json.h"
#include "unit.h"

/* Text in memory of its own size, so that reading beyond is noticed. */
static char *
exact(const char *text, size_t len)
{
	char	   *copy = malloc(len + (len == 0));

	memcpy(copy, text, len);
	return copy;
}

static CouchJsonKind
kind_of(const char *text)
{
	char	   *copy = exact(text, strlen(text));
	CouchJson	value;
	bool		ok = docrep_cj_value(copy, strlen(text), &value);

	free(copy);
	return ok ? value.kind : CJ_NONE;
}

static void
test_values(void)
{
	static const char *const bad[] = {
		"", " ", "{", "}", "[1,]", "[,1]", "{\"a\"}", "{\"a\":}", "{\"a\":1,}", "{a:1}", "01", "-", "1.",
		".5", "1e", "1e+", "+1", "tru", "truex", "nul", "\"", "\"\\x\"", "\"\\u12g4\"", "\"\n\"",
		"[1 2]", "[1}", "{\"a\":1]", "1 2", "{} {}", "[\"a\":1]", "{1:2}", "'a'", "\"\\",
		"<html></html>", "[1]]", "NaN", "--1", "1.5.5", "\"\\u00", NULL
	};

	CHECK(kind_of(" null ") == CJ_NULL);
	CHECK(kind_of("true") == CJ_TRUE);
	CHECK(kind_of("false\n") == CJ_FALSE);
	CHECK(kind_of("0") == CJ_NUMBER);
	CHECK(kind_of("-0.5e-10") == CJ_NUMBER);
	CHECK(kind_of("123 ") == CJ_NUMBER);
	CHECK(kind_of("1E5") == CJ_NUMBER);
	CHECK(kind_of("\"\"") == CJ_STRING);
	CHECK(kind_of("\"a\\\"\\\\\\u00e9\"") == CJ_STRING);
	CHECK(kind_of("{}") == CJ_OBJECT);
	CHECK(kind_of(" [ ] ") == CJ_ARRAY);
	CHECK(kind_of("{\"a\" : [1, {\"b\":[]}, \"}\"] , \"c\":null}") == CJ_OBJECT);
	for (int i = 0; bad[i] != NULL; i++)
	{
		CHECK(kind_of(bad[i]) == CJ_NONE);
		if (unit_failing())
			printf("# %s\n", bad[i]);
	}
	unit_done("values are recognised, and what is none is not");
}

/* Containers as deep as the text allows. */
static void
test_depth(void)
{
	size_t		depth = 5 * 1000 * 1000;
	char	   *text = malloc(2 * depth);
	CouchJson	value;
	CouchJsonWalk walk;

	memset(text, '[', depth);
	memset(text + depth, ']', depth);
	CHECK(docrep_cj_value(text, 2 * depth, &value) && value.kind == CJ_ARRAY);
	CHECK(!docrep_cj_value(text, 2 * depth - 1, &value));
	docrep_cj_value(text, 2 * depth, &value);
	docrep_cj_walk(&walk, &value);
	CHECK(docrep_cj_next(&walk) && walk.value.len == 2 * depth - 2);
	CHECK(!docrep_cj_next(&walk));
	text[depth] = '}';
	CHECK(!docrep_cj_value(text, 2 * depth, &value));
	free(text);
	unit_done("depth costs no stack");
}

static CouchJson
value_of(const char *text)
{
	CouchJson	value;

	if (!docrep_cj_value(text, strlen(text), &value))
		memset(&value, 0, sizeof(value));
	return value;
}

static void
test_members(void)
{
	CouchJson	object = value_of("{\"a\":1, \"b\" : {\"a\":[2]},\"a\":\"last\",\"\\u0063\":true}");
	CouchJson	array = value_of("[1, [2,3],\"x,]\" ,{}]");
	CouchJson	found;
	CouchJsonWalk walk;
	int			n = 0;

	found = docrep_cj_get(&object, "a");
	CHECK(found.kind == CJ_STRING && docrep_cj_equals(&found, "last"));
	found = docrep_cj_get(&object, "b");
	CHECK(found.kind == CJ_OBJECT && found.len == 9);
	found = docrep_cj_get(&object, "c");
	CHECK(found.kind == CJ_TRUE);
	found = docrep_cj_get(&object, "d");
	CHECK(found.kind == CJ_NONE);
	found = docrep_cj_get(&array, "a");
	CHECK(found.kind == CJ_NONE);
	docrep_cj_walk(&walk, &array);
	while (docrep_cj_next(&walk))
	{
		n++;
		CHECK(n != 3 || docrep_cj_equals(&walk.value, "x,]"));
	}
	CHECK(n == 4);
	unit_done("members and elements");
}

static int64
int_of(const char *text)
{
	CouchJson	value = value_of(text);
	int64		result;

	return docrep_cj_int64(&value, &result) ? result : -77;
}

static void
test_integers(void)
{
	CHECK(int_of("0") == 0);
	CHECK(int_of("-1") == -1);
	CHECK(int_of("9223372036854775807") == INT64_MAX);
	CHECK(int_of("-9223372036854775808") == INT64_MIN);
	CHECK(int_of("9223372036854775808") == -77);
	CHECK(int_of("-9223372036854775809") == -77);
	CHECK(int_of("99999999999999999999999999") == -77);
	CHECK(int_of("1.0") == -77);
	CHECK(int_of("1e3") == -77);
	CHECK(int_of("\"1\"") == -77);
	unit_done("integers");
}

/* Does a raw string decode to these bytes? */
static bool
decodes(const char *raw, const char *bytes, size_t len, bool nul, bool broken)
{
	char	   *copy = exact(raw, strlen(raw));
	char	   *out = malloc(strlen(raw));
	CouchJson	string = docrep_cj_checked(copy, strlen(raw));
	bool		got_nul;
	bool		got_broken;
	size_t		n = docrep_cj_decode(&string, out, &got_nul, &got_broken);
	bool		same = n == len && memcmp(out, bytes, len) == 0 &&
		got_nul == nul && got_broken == broken;

	free(out);
	free(copy);
	return same;
}

static void
test_strings(void)
{
	CouchJson	value = value_of("\"a\\u0062\\n\\ud83d\\ude00\"");

	CHECK(decodes("\"abc\"", "abc", 3, false, false));
	CHECK(decodes("\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", "\"\\/\b\f\n\r\t", 8, false, false));
	CHECK(decodes("\"\\u00e9\\u20AC\"", "\303\251\342\202\254", 5, false, false));
	CHECK(decodes("\"\\ud83d\\ude00\"", "\360\237\230\200", 4, false, false));
	CHECK(decodes("\"a\\u0000b\"", "a\0b", 3, true, false));
	CHECK(decodes("\"\\ud800\"", "\355\240\200", 3, false, true));
	CHECK(decodes("\"\\ud800x\"", "\355\240\200x", 4, false, true));
	CHECK(decodes("\"\\ude00\\ud83d\"", "\355\270\200\355\240\275", 6, false, true));
	CHECK(decodes("\"\\ud800\\ud83d\\ude00\"", "\355\240\200\360\237\230\200", 7, false, true));
	CHECK(decodes("\"\303\251\"", "\303\251", 2, false, false));
	CHECK(decodes("\"\303\"", "\303", 1, false, true));
	CHECK(decodes("\"\300\200\"", "\300\200", 2, false, true));
	CHECK(decodes("\"\355\240\200\"", "\355\240\200", 3, false, true));
	CHECK(decodes("\"\364\220\200\200\"", "\364\220\200\200", 4, false, true));
	CHECK(docrep_cj_equals(&value, "ab\n\360\237\230\200"));
	CHECK(!docrep_cj_equals(&value, "ab\n"));
	CHECK(!docrep_cj_equals(&value, "ab\n\360\237\230\200x"));
	unit_done("strings");
}

/* ---------- elements ---------- */

/*
 * Run a split over text in pieces of a size, and write the elements, each
 * followed by a bar, and how it ended to "out".
 */
static void
split_text(const char *array, bool lines, size_t max, const char *text, size_t piece, char *out)
{
	CouchSplit *split = docrep_cj_split_new(array, lines, max);
	CouchSplitResult result = COUCHSPLIT_MORE;
	size_t		left = strlen(text);
	CouchJson	element;
	CouchJson	rest;

	*out = '\0';
	while (left > 0 && result == COUCHSPLIT_MORE)
	{
		size_t		n = Min(piece, left);
		char	   *copy = exact(text, n);
		const char *p = copy;

		text += n;
		left -= n;
		while ((result = docrep_cj_split(split, &p, &n, &element)) == COUCHSPLIT_ELEMENT)
			sprintf(out + strlen(out), "%.*s|", (int) element.len, element.text);
		if (result == COUCHSPLIT_END && left > 0)
			result = COUCHSPLIT_MORE;
		free(copy);
	}
	rest = docrep_cj_split_rest(split);
	sprintf(out + strlen(out), " %s %.*s", result == COUCHSPLIT_MORE ? "more" :
			result == COUCHSPLIT_END ? "end" : result == COUCHSPLIT_BAD ? "bad" : "large",
			(int) rest.len, rest.text ? rest.text : "");
	docrep_cj_split_free(split);
}

/* The same result however the text is cut? */
static bool
splits(const char *array, bool lines, size_t max, const char *text, const char *expected)
{
	char		out[4096];

	for (size_t piece = 1; piece <= strlen(text); piece++)
	{
		split_text(array, lines, max, text, piece, out);
		if (strcmp(out, expected) != 0)
		{
			printf("# in pieces of %zu: %s\n# not %s\n", piece, out, expected);
			return false;
		}
	}
	return true;
}

static void
test_split(void)
{
	CHECK(splits("results", false, 100,
				 " {\"results\":[\n{\"a\":[1,{}]},\n2, \"x]\" ,[]\n],\n\"last_seq\":\"5-x\",\"pending\":0}\n",
				 "{\"a\":[1,{}]}|2|\"x]\"|[]| end {\"results\":[],\n\"last_seq\":\"5-x\",\"pending\":0}"));
	CHECK(splits("results", false, 100, "{\"x\":{\"results\":[1]},\"results\":[],\"y\":[[2]]}",
				 " end {\"x\":{\"results\":[1]},\"results\":[],\"y\":[[2]]}"));
	CHECK(splits("results", false, 100, "{\"r\\u0065sults\":[7]}", "7| end {\"r\\u0065sults\":[]}"));
	CHECK(splits("results", false, 100, "{\"results\":null}", " end {\"results\":null}"));
	CHECK(splits("results", false, 100, "{\"results\":[1],\"results\":[2]}",
				 "1|2| end {\"results\":[],\"results\":[]}"));
	CHECK(splits("results", false, 100, "{\"results\":[{\"id\":", " more "));
	CHECK(splits("results", false, 100, "{\"results\":[1,2", "1| more "));
	CHECK(splits("results", false, 100, "{\"results\":[1,}", "1| bad "));
	CHECK(splits("results", false, 100, "[1]", " bad "));
	CHECK(splits("results", false, 100, "<html>", " bad "));
	CHECK(splits("results", false, 100, "{} x", " bad {}"));
	CHECK(splits("results", false, 20, "{\"results\":[\"12345678901234567890\"]}", " large "));
	CHECK(splits("results", false, 20, "{\"a\":\"12345678901234567890\"}", " large "));
	CHECK(splits(NULL, false, 100, "[{\"a\":1},null,\n3]", "{\"a\":1}|null|3| end "));
	CHECK(splits(NULL, false, 100, " []", " end "));
	CHECK(splits(NULL, false, 100, "{}", " bad "));
	CHECK(splits(NULL, true, 100, "\n\n{\"seq\":1}\n{\"seq\":2}\n\n7\n{\"last_seq\":",
				 "{\"seq\":1}|{\"seq\":2}|7| more "));
	CHECK(splits(NULL, true, 100, "{}\nError", "{}| bad "));
	unit_done("elements come out however the text is cut");
}

/* ---------- documents ---------- */

static void
test_documents(void)
{
	const char *text = "{\"_id\":\"x\",\"_rev\":\"2-b\",\"a\":{\"_id\":1},\"_deleted\":true,"
		"\"_revisions\":{\"start\":2,\"ids\":[\"b\",\"a\"]} , \"_attachments\":{}, \"b\" : 2,"
		"\"_conflicts\":[],\"\\u005frev\":\"3-c\"}";
	CouchDoc	doc;

	CHECK(docrep_couch_doc_parse(text, strlen(text), &doc));
	CHECK(docrep_cj_equals(&doc.id, "x") && docrep_cj_equals(&doc.rev, "3-c"));
	CHECK(doc.deleted.kind == CJ_TRUE && doc.attachments.kind == CJ_OBJECT);
	CHECK(!doc.other_special);
	CHECK(doc.bodylen == strlen("{\"a\":{\"_id\":1},\"b\" : 2}") &&
		  memcmp(doc.body, "{\"a\":{\"_id\":1},\"b\" : 2}", doc.bodylen) == 0);
	pfree(doc.body);
	CHECK(docrep_couch_doc_parse("{\"_x\":1}", 8, &doc));
	CHECK(doc.other_special && doc.bodylen == 2 && doc.id.kind == CJ_NONE);
	pfree(doc.body);
	CHECK(!docrep_couch_doc_parse("[]", 2, &doc));
	CHECK(!docrep_couch_doc_parse("{\"a\":}", 6, &doc));
	unit_done("documents");
}

static const char *
path_problem(const char *text, int n, const char *newest)
{
	CouchJson	json = value_of(text);
	RevPath		path;
	const char *problem = docrep_couch_revisions(&json, &path);

	CHECK((problem != NULL) == (path.revs == NULL));
	if (problem == NULL)
	{
		char		printed[REV_TEXT_SIZE];

		docrep_rev_print(&path.revs[0], printed);
		CHECK(path.n == n && strcmp(printed, newest) == 0);
		for (int i = 1; i < path.n; i++)
			CHECK(path.revs[i].gen == path.revs[i - 1].gen - 1);
		pfree(path.revs);
	}
	return problem;
}

static void
test_revisions(void)
{
	CHECK(path_problem("{\"start\":1,\"ids\":[\"a\"]}", 1, "1-a") == NULL);
	CHECK(path_problem("{\"ids\":[\"0123456789abcdef0123456789ABCDEF\",\"a\"],\"start\":7}", 2,
					   "7-0123456789abcdef0123456789abcdef") == NULL);
	CHECK(path_problem("{\"start\":3,\"ids\":[\"\\u0063\",\"b\",\"a\"]}", 3, "3-c") == NULL);
	CHECK(path_problem("{\"start\":1,\"ids\":[\"b\",\"a\"]}", 0, "") != NULL);
	CHECK(path_problem("{\"start\":1,\"ids\":[]}", 0, "") != NULL);
	CHECK(path_problem("{\"start\":0,\"ids\":[\"a\"]}", 0, "") != NULL);
	CHECK(path_problem("{\"start\":4294967297,\"ids\":[\"a\"]}", 0, "") != NULL);
	CHECK(path_problem("{\"start\":1,\"ids\":[1]}", 0, "") != NULL);
	CHECK(path_problem("{\"start\":1,\"ids\":[\"\"]}", 0, "") != NULL);
	CHECK(path_problem("{\"start\":1,\"ids\":[\"a\\u0000\"]}", 0, "") != NULL);
	CHECK(path_problem("{\"start\":1,\"ids\":[\"g123456789abcdef0123456789abcdef\"]}", 0, "") != NULL);
	CHECK(path_problem("{\"ids\":[\"a\"]}", 0, "") != NULL);
	CHECK(path_problem("[]", 0, "") != NULL);
	unit_done("_revisions");
}

/* ---------- multipart ---------- */

/* What a multipart body holds, cut into pieces: {type:content}... and how it ended. */
static void
read_parts(const char *boundary, const char *text, size_t len, size_t piece, char *out)
{
	Multipart  *m = docrep_multipart_new(boundary);
	MultipartEvent event = MULTIPART_MORE;

	*out = '\0';
	while (len > 0 && event != MULTIPART_BAD)
	{
		size_t		n = Min(piece, len);
		char	   *copy = exact(text, n);
		const char *p = copy;
		const char *data;
		size_t		datalen;

		text += n;
		len -= n;
		while ((event = docrep_multipart_feed(m, &p, &n, &data, &datalen)) != MULTIPART_MORE)
		{
			const char *type;

			if (event == MULTIPART_HEADERS)
			{
				type = docrep_multipart_header(m, "content-TYPE");
				sprintf(out + strlen(out), "{%s:", type ? type : "");
			}
			else if (event == MULTIPART_DATA)
				sprintf(out + strlen(out), "%.*s", (int) datalen, data);
			else if (event == MULTIPART_PART_END)
				strcat(out, "}");
			else if (event == MULTIPART_BAD || n == 0)
				break;
		}
		free(copy);
	}
	strcat(out, event == MULTIPART_END ? "." : event == MULTIPART_BAD ? "!" : "?");
	docrep_multipart_free(m);
}

static bool
parts_are(const char *boundary, const char *text, const char *expected)
{
	char		out[4096];

	for (size_t piece = 1; piece <= strlen(text); piece++)
	{
		read_parts(boundary, text, strlen(text), piece, out);
		if (strcmp(out, expected) != 0)
		{
			printf("# in pieces of %zu: %s\n# not %s\n", piece, out, expected);
			return false;
		}
	}
	return true;
}

static void
test_multipart(void)
{
	CHECK(parts_are("b", "--b\r\nContent-Type: text/plain \r\n\r\nhello\r\n--b\r\n\r\n\r\nx\r\n--\r\n--b--",
					"{text/plain:hello}{:\r\nx\r\n--}."));
	CHECK(parts_are("b", "preamble\r\n--b \r\ncontent-type:a\r\nX: y\r\n\r\n\r\n--b--epilogue\r\n--b\r\n",
					"{a:}."));
	CHECK(parts_are("b", "\r\n--b\r\n\r\n--b--", "{:}."));
	CHECK(parts_are("b", "--b\n\ncr\rlf\r\r\n--b--\r\n", "{:cr\rlf\r}."));
	CHECK(parts_are("b", "--b\r\n\r\n-", "{:?"));
	CHECK(parts_are("b", "--b--", "."));
	CHECK(parts_are("b", "--b\r\n\r\nabc\r\n--bx", "{:abc}!"));
	CHECK(parts_are("b", "--b\r\n\r\nabc\r\n--b-x", "{:abc}!"));
	CHECK(parts_are("b", "no parts", "?"));
	CHECK(parts_are("a\nb", "--a", "!"));
	unit_done("multipart");
}

static bool
boundary_is(const char *type, const char *expected)
{
	char		out[20];

	if (!docrep_multipart_boundary(type, out, sizeof(out)))
		return expected == NULL;
	return expected != NULL && strcmp(out, expected) == 0;
}

static void
test_boundary(void)
{
	CHECK(boundary_is("multipart/mixed; boundary=\"abc\"", "abc"));
	CHECK(boundary_is("Multipart/Related; type=\"a;boundary=no\" ;BOUNDARY=x-y; z", "x-y"));
	CHECK(boundary_is("multipart/mixed; boundary=\"a\\\"b c\"", "a\"b c"));
	CHECK(boundary_is("multipart/mixed;boundary=abc;charset=utf-8", "abc"));
	CHECK(boundary_is("multipart/mixed", NULL));
	CHECK(boundary_is("multipart/mixed; boundary=", NULL));
	CHECK(boundary_is("multipart/mixed; boundary=\"abc", NULL));
	CHECK(boundary_is("application/json; boundary=abc", NULL));
	CHECK(boundary_is("multipart/mixed; boundary=123456789012345678901234567890", NULL));
	unit_done("the boundary of a Content-Type");
}

int
main(void)
{
	test_values();
	test_depth();
	test_members();
	test_integers();
	test_strings();
	test_split();
	test_documents();
	test_revisions();
	test_multipart();
	test_boundary();
	unit_free_bytes();
	return unit_exit();
}
