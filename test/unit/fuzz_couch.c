/*-------------------------------------------------------------------------
 *
 * fuzz_couch.c
 *		Hostile bytes for what reads the answers of CouchDB peers.
 *
 * The first byte chooses the reader, the second the sizes of the pieces; the
 * rest is the answer.  Cut or whole, it must give the same; and what is accepted
 * as JSON in pieces is accepted as a whole.
 *
 * With libFuzzer (DOCREP_LIBFUZZER) it is an entry point; otherwise a program
 * that mutates sound answers at random, from a seed, for a few seconds.
 *
 *-------------------------------------------------------------------------
 */
#include <time.h>

#include "peer/couch_json.h"
#include "unit.h"

extern int	LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
must(bool ok, const char *what)
{
	if (ok)
		return;
	fprintf(stderr, "violated: %s\n", what);
	abort();
}

/* A digest of all that a reader gave. */
typedef struct Digest
{
	uint64		value;
	int			n;
} Digest;

static void
add_bytes(Digest *digest, const char *data, size_t len)
{
	for (size_t i = 0; i < len; i++)
		digest->value = (digest->value ^ (uint8) data[i]) * UINT64_C(1099511628211);
	digest->n++;
}

static void
look_at_document(const CouchJson *json)
{
	CouchDoc	doc;
	RevPath		path;
	bool		nul;
	bool		broken;

	if (!docrep_couch_doc_parse(json->text, json->len, &doc))
		return;
	if (docrep_couch_revisions(&doc.revisions, &path) == NULL)
		free(path.revs);
	if (doc.id.kind == CJ_STRING)
	{
		char	   *id = malloc(doc.id.len);

		must(docrep_cj_decode(&doc.id, id, &nul, &broken) <= doc.id.len - 2, "decoding shortens");
		free(id);
	}
	must(docrep_cj_value(doc.body, doc.bodylen, &(CouchJson) {0}), "a body is JSON");
	free(doc.body);
}

static Digest
split_pieces(const char *array, bool lines, const char *data, size_t size, size_t piece)
{
	CouchSplit *split = docrep_cj_split_new(array, lines, 4000);
	CouchSplitResult result = COUCHSPLIT_MORE;
	Digest		digest = {UINT64_C(14695981039346656037), 0};
	CouchJson	element;

	while (size > 0 && (result == COUCHSPLIT_MORE || result == COUCHSPLIT_END))
	{
		size_t		n = Min(piece, size);
		char	   *copy = malloc(n);
		const char *p = copy;

		memcpy(copy, data, n);
		data += n;
		size -= n;
		while ((result = docrep_cj_split(split, &p, &n, &element)) == COUCHSPLIT_ELEMENT)
		{
			CouchJson	again;

			must(docrep_cj_value(element.text, element.len, &again) &&
				 again.len == element.len && again.kind == element.kind, "an element is a value");
			add_bytes(&digest, element.text, element.len);
			look_at_document(&element);
		}
		free(copy);
	}
	if (result == COUCHSPLIT_END && array != NULL)
	{
		CouchJson	rest = docrep_cj_split_rest(split);
		CouchJson	again;

		must(docrep_cj_value(rest.text, rest.len, &again) && again.kind == CJ_OBJECT,
			 "the rest is an object");
		add_bytes(&digest, rest.text, rest.len);
	}
	digest.value ^= (uint64) result;
	docrep_cj_split_free(split);
	return digest;
}

static Digest
read_multipart(const char *data, size_t size, size_t piece)
{
	Multipart  *m = docrep_multipart_new("b0b");
	MultipartEvent event = MULTIPART_MORE;
	Digest		digest = {UINT64_C(14695981039346656037), 0};

	while (size > 0 && event != MULTIPART_BAD && event != MULTIPART_END)
	{
		size_t		n = Min(piece, size);
		char	   *copy = malloc(n);
		const char *p = copy;
		const char *part;
		size_t		len;

		memcpy(copy, data, n);
		data += n;
		size -= n;
		while ((event = docrep_multipart_feed(m, &p, &n, &part, &len)) != MULTIPART_MORE &&
			   event != MULTIPART_BAD && event != MULTIPART_END)
		{
			const char *type = docrep_multipart_header(m, "content-type");

			if (event == MULTIPART_DATA)
				add_bytes(&digest, part, len);
			else
			{
				add_bytes(&digest, type ? type : "-", type ? strlen(type) : 1);
				digest.value += event;
			}
		}
		free(copy);
	}
	digest.value ^= (uint64) event;
	docrep_multipart_free(m);
	return digest;
}

static Digest
read_answer(int reader, const char *data, size_t size, size_t piece)
{
	switch (reader)
	{
		case 0:
			return split_pieces("results", false, data, size, piece);
		case 1:
			return split_pieces(NULL, false, data, size, piece);
		case 2:
			return split_pieces(NULL, true, data, size, piece);
		default:
			return read_multipart(data, size, piece);
	}
}

/* Returns whether the answer gave anything. */
static bool
fuzz_one(const uint8 *data, size_t size)
{
	Digest		whole;
	Digest		cut;
	int			reader;

	if (size < 3)
		return false;
	reader = data[0] % 4;
	whole = read_answer(reader, (const char *) data + 2, size - 2, size);
	cut = read_answer(reader, (const char *) data + 2, size - 2, 1 + data[1] % 50);
	must(whole.value == cut.value, "cut or whole is the same");
	return whole.n > 0;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	fuzz_one(data, size);
	return 0;
}

#ifndef DOCREP_LIBFUZZER

static const char *const sound[] = {
	"{\"results\":[\n{\"seq\":\"1-g1AAAA\",\"id\":\"a\",\"changes\":[{\"rev\":\"1-967a00dff5e02add41819138abb3284d\"}]},\n"
	"{\"seq\":[2,\"x\"],\"id\":\"b\\u00e9\\ud83d\\ude00\",\"changes\":[{\"rev\":\"2-a\"},{\"rev\":\"2-b\"}],\"deleted\":true}\n],\n"
	"\"last_seq\":\"2-g1AAAB\",\"pending\":0}\n",
	"[{\"_id\":\"a\",\"_rev\":\"2-b\",\"_revisions\":{\"start\":2,\"ids\":[\"b\",\"a\"]},\"x\":[1,2.5e3,null,true,{\"\":\"\\\\\\\"\"}],"
	"\"_attachments\":{\"f\":{\"stub\":true,\"length\":5}}}, {\"_id\":\"\\u0000\",\"\\u005frev\":1,\"y\":{}}]",
	"\n\n{\"seq\":1,\"id\":\"a\",\"changes\":[{\"rev\":\"1-a\"}]}\n\n{\"last_seq\":1}\n",
	"--b0b\r\nContent-Type: application/json\r\n\r\n{\"a\":\r\n1}\r\n--b0b\r\nContent-Type: application/json; error=\"true\"\r\n"
	"X: y\r\n\r\n\r\n--b0\r\r\n--b0b\r\n\r\n--b0b--\r\n",
};

static const char interesting[] = "{}[]\",:\\\r\n-b0ud8 \t";

/* A sound answer, spoilt a little; returns its size. */
static size_t
make_input(uint8 *input)
{
	uint32		reader = unit_random(4);
	size_t		n = strlen(sound[reader]);

	input[0] = (uint8) reader;
	input[1] = (uint8) unit_random(256);
	memcpy(input + 2, sound[reader], n);
	n += 2;
	for (uint32 k = unit_random(4); k > 0; k--)
	{
		size_t		at = 2 + unit_random((uint32) n - 2);

		switch (unit_random(3))
		{
			case 0:
				input[at] = (uint8) unit_random(256);
				break;
			case 1:
				input[at] = (uint8) interesting[unit_random(sizeof(interesting) - 1)];
				break;
			default:
				memmove(input + at, input + at + 1, n - at - 1);
				n--;
				break;
		}
	}
	return n;
}

int
main(int argc, char **argv)
{
	uint8		input[2048];
	uint64		seed = unit_choose_seed(argc, argv);
	clock_t		end = clock() + 5 * CLOCKS_PER_SEC;
	int			gave = 0;
	int			runs = 0;

	unit_seed(seed);
	while (clock() < end)
	{
		gave += fuzz_one(input, make_input(input));
		runs++;
	}
	printf("# %d inputs, %d gave something\n", runs, gave);
	CHECK(runs > 1000 && gave > runs / 10);
	unit_done("hostile answers");
	return unit_exit();
}
#endif
