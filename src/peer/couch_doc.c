/*-------------------------------------------------------------------------
 *
 * couch_doc.c
 *		Documents as CouchDB gives them.  See couch_json.h.
 *
 *-------------------------------------------------------------------------
 */
#include "peer/couch_json.h"

/* More ancestors than anybody keeps. */
#define MAX_REVISIONS	1000000

/*
 * What CouchDB adds to documents that it gives, beside the members that are of
 * use, and what its replicator notes in its own.
 */
static const char *const added[] = {
	"_conflicts", "_deleted_conflicts", "_revs_info", "_local_seq",
	"_replication_id", "_replication_state", "_replication_state_time",
	"_replication_state_reason", "_replication_stats", NULL
};

/* Does the key begin with "_", escaped or not? */
static bool
is_special(const CouchJson *key)
{
	if (key->len >= 3 && key->text[1] == '_')
		return true;
	return key->len >= 8 && memcmp(key->text + 1, "\\u005", 5) == 0 &&
		(key->text[6] == 'f' || key->text[6] == 'F');
}

static bool
is_added(const CouchJson *key)
{
	for (int i = 0; added[i] != NULL; i++)
	{
		if (docrep_cj_equals(key, added[i]))
			return true;
	}
	return false;
}

/* Put a special member where it belongs. */
static void
take_special(CouchDoc *doc, const CouchJsonWalk *walk)
{
	if (docrep_cj_equals(&walk->key, "_id"))
		doc->id = walk->value;
	else if (docrep_cj_equals(&walk->key, "_rev"))
		doc->rev = walk->value;
	else if (docrep_cj_equals(&walk->key, "_deleted"))
		doc->deleted = walk->value;
	else if (docrep_cj_equals(&walk->key, "_revisions"))
		doc->revisions = walk->value;
	else if (docrep_cj_equals(&walk->key, "_attachments"))
		doc->attachments = walk->value;
	else if (!is_added(&walk->key))
		doc->other_special = true;
}

bool
docrep_couch_doc_parse(const char *text, size_t len, CouchDoc *doc)
{
	CouchJson	object;
	CouchJsonWalk walk;
	char	   *out;

	memset(doc, 0, sizeof(*doc));
	if (!docrep_cj_value(text, len, &object) || object.kind != CJ_OBJECT)
		return false;
	doc->body = out = palloc(object.len);
	*out++ = '{';
	docrep_cj_walk(&walk, &object);
	while (docrep_cj_next(&walk))
	{
		size_t		member = (size_t) (walk.value.text + walk.value.len - walk.key.text);

		if (is_special(&walk.key))
		{
			take_special(doc, &walk);
			continue;
		}
		if (out > doc->body + 1)
			*out++ = ',';
		memcpy(out, walk.key.text, member);
		out += member;
	}
	*out++ = '}';
	doc->bodylen = (size_t) (out - doc->body);
	return true;
}

/* Count the strings of an array and their bytes.  False: there is something else in it. */
static bool
measure_ids(const CouchJson *ids, size_t *n, size_t *bytes)
{
	CouchJsonWalk walk;

	*n = *bytes = 0;
	docrep_cj_walk(&walk, ids);
	while (docrep_cj_next(&walk))
	{
		if (walk.value.kind != CJ_STRING)
			return false;
		(*n)++;
		*bytes += walk.value.len;
	}
	return true;
}

/* One id as a revision; its text is decoded at *room, which advances. */
static const char *
read_id(const CouchJson *id, int64 gen, uint8 **room, char *scratch, Rev *rev)
{
	bool		nul;
	bool		broken;
	size_t		len = docrep_cj_decode(id, scratch, &nul, &broken);
	const char *problem;

	if (nul || broken)
		return "_revisions has an id that is no text";
	problem = docrep_rev_parse_id((uint32) gen, scratch, len, *room, rev);
	if (problem == NULL)
		*room += rev->len;
	return problem;
}

const char *
docrep_couch_revisions(const CouchJson *revisions, RevPath *path)
{
	CouchJson	start_json;
	CouchJson	ids;
	CouchJsonWalk walk;
	int64		start;
	size_t		n;
	size_t		bytes;
	uint8	   *room;
	char	   *scratch;
	const char *problem = NULL;

	path->n = 0;
	path->revs = NULL;
	if (revisions->kind != CJ_OBJECT)
		return "_revisions is no object";
	start_json = docrep_cj_get(revisions, "start");
	ids = docrep_cj_get(revisions, "ids");
	if (!docrep_cj_int64(&start_json, &start) || start < 1 || start > REV_MAX_GENERATION)
		return "_revisions has no proper start";
	if (ids.kind != CJ_ARRAY || !measure_ids(&ids, &n, &bytes) || n == 0)
		return "_revisions has no proper ids";
	if (n > MAX_REVISIONS || (int64) n > start)
		return "_revisions has too many ids";

	path->revs = palloc(n * sizeof(Rev) + bytes);
	room = (uint8 *) (path->revs + n);
	scratch = palloc(bytes);
	docrep_cj_walk(&walk, &ids);
	while (problem == NULL && docrep_cj_next(&walk))
	{
		problem = read_id(&walk.value, start - path->n, &room, scratch, &path->revs[path->n]);
		path->n++;
	}
	pfree(scratch);
	if (problem != NULL)
	{
		pfree(path->revs);
		path->revs = NULL;
		path->n = 0;
	}
	return problem;
}
