/*-------------------------------------------------------------------------
 *
 * preflight_judge.c
 *		docrep.preflight(): judging one revision.
 *
 * What matters is judged on the text that came, where there is one, and whether
 * it can be stored by trying: the same code that a write goes through says no.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "replicator/json_members.h"
#include "replicator/json_scan.h"
#include "replicator/preflight.h"
#include "replicator/reader.h"
#include "store/document.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"

/* Nested deeper than this is worth a line; how deep jsonb may be depends on max_stack_depth. */
#define DEEP			500
/* What is quoted of a document. */
#define QUOTE_SIZE		60

/* ---------- rows ---------- */

/* Some text that came, cut and made printable. */
static char *
quote(const char *text, int len)
{
	StringInfoData out;
	int			i = 0;

	initStringInfo(&out);
	while (i < len && out.len < QUOTE_SIZE)
	{
		const unsigned char *c = (const unsigned char *) text + i;
		int			n = pg_utf_mblen(c);

		if (*c >= 0x80 && (GetDatabaseEncoding() != PG_UTF8 || n > len - i ||
						   !pg_utf8_islegal(c, n)))
			n = 1;
		if (*c < 0x20 || (*c >= 0x80 && n == 1))
			appendStringInfoChar(&out, '?');
		else
			appendBinaryStringInfo(&out, text + i, n);
		i += n;
	}
	if (i < len)
		appendStringInfoString(&out, "...");
	return out.data;
}

void
docrep_preflight_add_finding(Preflight *p, Kind kind, const char *id, const Rev *rev, const char *detail,
							 int64 bytes)
{
	KindCount  *count = &p->counts[kind];

	count->n++;
	count->bytes += Max(bytes, 0);
	if (count->listed >= p->inspection->max_per_kind)
		return;
	count->listed++;
	docrep_preflight_put_row(&p->findings, kind, id, rev, detail, bytes, -1);
}

/* The size of the current revision's body; of jsonb as it is stored. */
static int64
body_bytes(const DocrepDoc *doc)
{
	return doc->json ? doc->jsonlen : doc->body ? (int64) VARSIZE(doc->body) : 2;
}

/* The same for the current revision: only the first of a kind is listed and counted. */
static void
add_once(Preflight *p, Kind kind, const char *detail, int64 bytes)
{
	const DocrepDoc *doc = p->doc;

	if (!p->found[kind])
		docrep_preflight_add_finding(p, kind, doc->id, doc->path.n > 0 ? &doc->path.revs[0] : NULL,
									 detail, bytes);
	p->found[kind] = true;
}

/*
 * How a number would be shown that plain notation may not show as it came; NULL: as
 * it came.  *fits: it can be stored.  Reading it has no effects but memory, so
 * an error needs no subtransaction.
 */
static char *
stored_number(const char *number, bool *fits)
{
	MemoryContext cxt = CurrentMemoryContext;
	char	   *volatile shown = NULL;

	*fits = true;
	PG_TRY();
	{
		Datum		value = DirectFunctionCall3(numeric_in, CStringGetDatum(number),
												ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1));

		shown = DatumGetCString(DirectFunctionCall1(numeric_out, value));
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(cxt);
		FlushErrorState();
		*fits = false;
	}
	PG_END_TRY();
	return shown && strcmp(shown, number) != 0 ? shown : NULL;
}

/* A number of the body: is it stored as it is written? */
static void
judge_number(Preflight *p, const char *text, int len, const char *where)
{
	char	   *number = pnstrdup(text, len);
	bool		fits;
	char	   *shown = stored_number(number, &fits);
	char	   *detail;

	p->explained |= !fits;
	if (!fits)
		detail = psprintf("%s is beyond what is stored: rejected%s", quote(text, len), where);
	else if (shown)
		detail = psprintf("%s becomes %s%s", quote(text, len), quote(shown, strlen(shown)), where);
	else
		detail = psprintf("%s has %d characters%s", quote(text, len), len, where);
	add_once(p, KIND_NUMBER, detail, -1);
}

/* JsonScanFound */
static void
scan_found(void *arg, JsonScanKind what, const char *text, int len,
		   const char *member, int memberlen)
{
	static const Kind kind_of[JSON_SCAN_KINDS] = {
		[JSON_SCAN_NUL] = KIND_NUL,
		[JSON_SCAN_SURROGATE] = KIND_SURROGATE,
		[JSON_SCAN_UTF8] = KIND_UTF8,
		[JSON_SCAN_DUPLICATE] = KIND_DUPLICATE,
		[JSON_SCAN_NUMBER] = KIND_NUMBER,
		[JSON_SCAN_SPECIAL] = KIND_SPECIAL,
	};
	Preflight  *p = arg;
	Kind		kind = kind_of[what];
	char	   *where;

	if (p->found[kind])
		return;
	/* of a text that is no document, CouchDB's own members are there too */
	if (kind == KIND_SPECIAL && p->doc->unreadable)
		return;
	/* judge_id has said it */
	if (p->doc->raw_id && memberlen == 3 && memcmp(member, "_id", 3) == 0)
		return;
	where = member && memberlen > 0 ? psprintf(", in member \"%s\"", quote(member, memberlen)) : "";
	p->explained |= kind != KIND_NUMBER && kind != KIND_DUPLICATE;
	if (kind == KIND_NUMBER)
		judge_number(p, text, len, where);
	else if (kind == KIND_DUPLICATE || kind == KIND_SPECIAL)
		add_once(p, kind, psprintf("member %s", quote(text, len)), -1);
	else
		add_once(p, kind, where[0] ? where + 2 : NULL, -1);
}

/* May there be a document of this id? */
static void
judge_id(Preflight *p)
{
	const DocrepDoc *doc = p->doc;
	const char *problem;

	if (doc->raw_id)
	{
		bool		nul = memchr(doc->raw_id, 0, doc->raw_idlen) != NULL;

		add_once(p, nul ? KIND_NUL_IN_ID : KIND_INVALID_ID,
				 psprintf("%s: %s", nul ? "it holds a NUL" : "it is no UTF-8",
						  quote(doc->raw_id, doc->raw_idlen)), doc->raw_idlen);
		p->explained = true;
		return;
	}
	problem = docrep_id_problem(doc->id, strlen(doc->id));
	p->explained |= problem != NULL;
	if (problem)
		add_once(p, strlen(doc->id) > DOCREP_MAX_ID_LEN ? KIND_ID_TOO_LONG : KIND_INVALID_ID,
				 problem, strlen(doc->id));
}

/* The document's body as jsonb.  NULL: it would be rejected; then *reason says why. */
static Jsonb *
try_body(const DocrepDoc *doc, char **reason)
{
	DocrepDoc	copy = *doc;
	DocWrite	write;

	*reason = doc->reason;
	if (doc->unreadable)
		return NULL;
	copy.atts_at_target = true; /* their contents do not matter */
	if (!docrep_doc_to_write(&copy, &write))
	{
		*reason = copy.reason;
		return NULL;
	}
	/* {} if the write has none */
	return write.body ? write.body : docrep_json_parse("{}");
}

/* What parts a design document has: "views (3), validate_doc_update". */
static void
judge_design(Preflight *p, Jsonb *body)
{
	JsonbIterator *it = JsonbIteratorInit(&body->root);
	JsonbIteratorToken token;
	JsonbValue	key;
	JsonbValue	value;
	StringInfoData parts;

	initStringInfo(&parts);
	while ((token = JsonbIteratorNext(&it, &key, true)) != WJB_DONE)
	{
		if (token != WJB_KEY)
			continue;
		(void) JsonbIteratorNext(&it, &value, true);
		appendStringInfo(&parts, "%s%s", parts.len > 0 ? ", " : "",
						 quote(key.val.string.val, key.val.string.len));
		if (value.type == jbvBinary)
			appendStringInfo(&parts, " (%d)", (int) JsonContainerSize(value.val.binary.data));
		else if (value.type == jbvString && key.val.string.len == 8 &&
				 memcmp(key.val.string.val, "language", 8) == 0)
			appendStringInfo(&parts, ": %s", quote(value.val.string.val, value.val.string.len));
	}
	add_once(p, KIND_DESIGN, parts.data, body_bytes(p->doc));
}

/* Count its attachments; large ones are worth a line. */
static void
judge_atts(Preflight *p)
{
	const DocrepDoc *doc = p->doc;

	for (int i = 0; i < doc->atts.n; i++)
	{
		const DocAtt *att = &doc->atts.atts[i];

		p->counts[KIND_ATTACHMENTS].n++;
		p->counts[KIND_ATTACHMENTS].bytes += att->length;
		if (att->length >= p->inspection->large_attachment)
			docrep_preflight_add_finding(p, KIND_LARGE_ATTACHMENT, doc->id,
										 doc->path.n > 0 ? &doc->path.revs[0] : NULL, att->name, att->length);
	}
}

/* What is in the text that came. */
static void
judge_body(Preflight *p)
{
	const DocrepDoc *doc = p->doc;
	int64		bytes = body_bytes(doc);
	int			depth = 0;
	char	   *reason;
	Jsonb	   *body;

	if (doc->json)
		depth = docrep_json_scan(doc->json, doc->jsonlen, scan_found, p);
	body = try_body(doc, &reason);
	if (depth > DEEP)
	{
		bool		rejected = body == NULL && !p->explained;

		add_once(p, KIND_DEPTH, psprintf("%d levels%s%s", depth, rejected ? ", rejected: " : "",
										 rejected ? reason : ""), bytes);
		p->explained |= rejected;
	}
	if (body == NULL && !p->explained)
		add_once(p, KIND_NOT_STORABLE, reason, bytes);
	if (bytes >= p->inspection->large_document)
		add_once(p, KIND_LARGE_DOCUMENT, NULL, bytes);
	if (body == NULL)
		return;
	if (doc->deleted && JB_ROOT_COUNT(body) > 0)
	{
		p->counts[KIND_TOMBSTONE_BODY].n++;
		p->counts[KIND_TOMBSTONE_BODY].bytes += bytes;
	}
	if (!doc->deleted && strncmp(doc->id, "_design/", 8) == 0)
		judge_design(p, body);
}

int
docrep_preflight_compare(const void *a, const void *b)
{
	return strcmp(((const Branching *) a)->id, ((const Branching *) b)->id);
}

void
docrep_preflight_judge(void *arg, const DocrepDoc *doc)
{
	Preflight  *p = arg;
	MemoryContext old = MemoryContextSwitchTo(p->scratch);
	DocrepDoc	copy = *doc;
	Branching	wanted;
	Branching  *branching = NULL;

	/* what could not be read may have no id at all */
	copy.id = wanted.id = doc->id ? doc->id : pstrdup("");
	p->doc = doc = &copy;
	memset(p->found, 0, sizeof(p->found));
	p->explained = false;
	p->stats.docs_read++;
	p->counts[KIND_LEAVES].n++;
	p->counts[KIND_LEAVES].bytes += body_bytes(doc);
	if (!doc->deleted && !doc->raw_id)
		branching = bsearch(&wanted, p->branching, p->nbranching, sizeof(Branching),
							docrep_preflight_compare);
	if (branching)
		branching->live++;
	judge_id(p);
	judge_body(p);
	judge_atts(p);
	MemoryContextSwitchTo(old);
	MemoryContextReset(p->scratch);
}
