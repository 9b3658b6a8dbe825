/*-------------------------------------------------------------------------
 *
 * attachment.c
 *		What a revision says of its attachments: the column _attachments, and
 *		the member of that name in documents.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/md5.h"
#include "mb/pg_wchar.h"
#include "store/attachment.h"
#include "store/base64.h"
#include "store/errcodes.h"
#include "store/jsonb_raw.h"
#include "utils/memutils.h"

#define DIGEST_PREFIX		"md5-"
#define DIGEST_BASE64_LEN	24	/* of 16 bytes */

/* ---------- names and digests ---------- */

const char *
docrep_att_name_problem(const char *name, int len)
{
	if (len == 0)
		return "an attachment's name must not be empty";
	if (len > DOCREP_MAX_ATT_NAME)
		return psprintf("an attachment's name must not be longer than %d bytes, this one has %d",
						DOCREP_MAX_ATT_NAME, len);
	if (name[0] == '_')
		return "attachment names can't start with '_'";
	return NULL;
}

char *
docrep_md5_digest(const uint8 *md5)
{
	char	   *result = palloc(strlen(DIGEST_PREFIX) + DIGEST_BASE64_LEN + 1);

	strcpy(result, DIGEST_PREFIX);
	docrep_base64_encode(md5, MD5_DIGEST_LENGTH, result + strlen(DIGEST_PREFIX));
	result[strlen(DIGEST_PREFIX) + DIGEST_BASE64_LEN] = '\0';
	return result;
}

bool
docrep_digest_is_md5(const char *digest)
{
	return strncmp(digest, DIGEST_PREFIX, strlen(DIGEST_PREFIX)) == 0;
}

bool
docrep_md5_from_digest(const char *digest, uint8 *md5)
{
	char		bytes[DIGEST_BASE64_LEN];
	Size		len;

	if (!docrep_digest_is_md5(digest))
		return false;
	digest += strlen(DIGEST_PREFIX);
	if (strlen(digest) != DIGEST_BASE64_LEN ||
		!docrep_base64_decode(digest, DIGEST_BASE64_LEN, bytes, &len) ||
		len != MD5_DIGEST_LENGTH)
		return false;
	memcpy(md5, bytes, MD5_DIGEST_LENGTH);
	return true;
}

/* ---------- lists ---------- */

static int
compare_atts(const void *a, const void *b)
{
	return strcmp(((const DocAtt *) a)->name, ((const DocAtt *) b)->name);
}

DocAtt *
docrep_atts_find(const DocAtts *atts, const char *name)
{
	DocAtt		key = {.name = unconstify(char *, name)};

	if (atts->n == 0)
		return NULL;
	return bsearch(&key, atts->atts, atts->n, sizeof(DocAtt), compare_atts);
}

/* A member that is a string, allocated, or NULL. */
static char *
text_member(const JsonbContainer *object, const char *key)
{
	RawValue	value;

	if (!docrep_raw_find(object, key, &value) || value.type != JENTRY_ISSTRING)
		return NULL;
	return docrep_raw_to_cstring(&value);
}

/* A member that is an integer, or -1. */
static int64
int_member(const JsonbContainer *object, const char *key)
{
	RawValue	value;
	int64		result;

	if (!docrep_raw_find(object, key, &value) || !docrep_raw_to_int64(&value, &result))
		return -1;
	return result;
}

static bool
true_member(const JsonbContainer *object, const char *key)
{
	RawValue	value;

	return docrep_raw_find(object, key, &value) && value.type == JENTRY_ISBOOL_TRUE;
}

/* ---------- the column ---------- */

void
docrep_atts_from_column(Jsonb *column, DocAtts *atts)
{
	RawCursor	cursor;
	RawMember	member;

	atts->n = 0;
	atts->atts = NULL;
	if (column == NULL || !JB_ROOT_IS_OBJECT(column))
		return;
	docrep_raw_begin(&cursor, &column->root);
	atts->atts = palloc0(Max(cursor.n, 1) * sizeof(DocAtt));
	while (docrep_raw_next(&cursor, &member))
	{
		const JsonbContainer *object = (const JsonbContainer *) member.value.data;
		DocAtt	   *att = &atts->atts[atts->n];

		if (!docrep_raw_is_object(&member.value))
			continue;			/* nothing of ours */
		att->name = pnstrdup(member.key, member.keylen);
		att->content_type = text_member(object, "content_type");
		if (att->content_type == NULL)
			att->content_type = DOCREP_ATT_DEFAULT_TYPE;
		att->digest = text_member(object, "digest");
		att->length = Max(int_member(object, "length"), 0);
		att->encoding = text_member(object, "encoding");
		att->encoded_length = att->encoding ? Max(int_member(object, "encoded_length"), 0) :
			att->length;
		att->revpos = Max(int_member(object, "revpos"), 0);
		att->file = Max(int_member(object, "file"), 0);
		atts->n++;
	}
	qsort(atts->atts, atts->n, sizeof(DocAtt), compare_atts);
}

Jsonb *
docrep_atts_to_column(const DocAtts *atts)
{
	RawBuilder	builder;

	if (atts->n == 0)
		return NULL;
	docrep_raw_init(&builder, true, atts->n);
	for (int i = 0; i < atts->n; i++)
	{
		const DocAtt *att = &atts->atts[i];
		RawBuilder	object;

		docrep_raw_init(&object, true, 7);
		if (att->content_type)	/* a stub that was refused may have none */
			docrep_raw_add_text(&object, "content_type", att->content_type);
		if (att->digest)
			docrep_raw_add_text(&object, "digest", att->digest);
		docrep_raw_add_int64(&object, "length", att->length);
		docrep_raw_add_int64(&object, "revpos", att->revpos);
		docrep_raw_add_int64(&object, "file", att->file);
		if (att->encoding)
		{
			docrep_raw_add_text(&object, "encoding", att->encoding);
			docrep_raw_add_int64(&object, "encoded_length", att->encoded_length);
		}
		docrep_raw_add_built(&builder, att->name, &object);
	}
	return docrep_raw_finish(&builder);
}

/* ---------- the member of a document ---------- */

/* Raise DR400 naming the attachment. */
static void
bad_attachment(const char *name, const char *problem)
{
	ereport(ERROR,
			(errcode(ERRCODE_DOCREP_BAD_REQUEST),
			 errmsg("attachment \"%.*s\": %s",
					pg_mbcliplen(name, strlen(name), 200), name, problem)));
}

/* A member that may be missing but must else be a string. */
static char *
optional_text(const JsonbContainer *object, const char *name, const char *key)
{
	RawValue	value;

	if (!docrep_raw_find(object, key, &value) || value.type == JENTRY_ISNULL)
		return NULL;
	if (value.type != JENTRY_ISSTRING)
		bad_attachment(name, psprintf("\"%s\" must be a string", key));
	return docrep_raw_to_cstring(&value);
}

/* A member that may be missing (0) but must else be an integer that is not negative. */
static int64
optional_count(const JsonbContainer *object, const char *name, const char *key)
{
	RawValue	value;
	int64		result;

	if (!docrep_raw_find(object, key, &value) || value.type == JENTRY_ISNULL)
		return 0;
	if (!docrep_raw_to_int64(&value, &result) || result < 0)
		bad_attachment(name, psprintf("\"%s\" must be an integer that is not negative", key));
	return result;
}

/* Take "data" over: decoded, and its length noted. */
static void
take_data(DocAtt *att, const RawValue *data)
{
	char	   *bytes;

	if (data->type != JENTRY_ISSTRING)
		bad_attachment(att->name, "\"data\" must be a string of base64");
	bytes = palloc_extended(data->len / 4 * 3 + 4, MCXT_ALLOC_HUGE);
	if (!docrep_base64_decode(data->data, data->len, bytes, &att->datalen))
		bad_attachment(att->name, "\"data\" is not valid base64");
	att->data = bytes;
	att->stub = false;
	att->length = att->datalen;
	att->encoded_length = att->datalen;

	/*
	 * Inline data is what a user gets, whatever form it once was stored in; a
	 * digest beside an encoding is of that form.
	 */
	if (att->encoding)
		att->digest = NULL;
	att->encoding = NULL;
}

/* One attachment of the member _attachments. */
static void
read_attachment(const RawMember *member, DocAtt *att)
{
	const JsonbContainer *object = (const JsonbContainer *) member->value.data;
	const char *problem;
	RawValue	data;
	int64		revpos;

	att->name = pnstrdup(member->key, member->keylen);
	problem = docrep_att_name_problem(att->name, member->keylen);
	if (problem)
		bad_attachment(att->name, problem);
	if (!docrep_raw_is_object(&member->value))
		bad_attachment(att->name, "must be an object");
	att->content_type = optional_text(object, att->name, "content_type");
	att->digest = optional_text(object, att->name, "digest");
	att->encoding = optional_text(object, att->name, "encoding");
	att->length = optional_count(object, att->name, "length");
	att->encoded_length = att->encoding ? optional_count(object, att->name, "encoded_length") :
		att->length;
	revpos = optional_count(object, att->name, "revpos");
	if (revpos > REV_MAX_GENERATION)
		bad_attachment(att->name, "\"revpos\" is out of range");
	att->revpos = revpos;
	att->stub = true_member(object, "stub");
	if (docrep_raw_find(object, "data", &data))
		take_data(att, &data);
	else if (!att->stub && !true_member(object, "follows"))
		bad_attachment(att->name, "needs \"data\", or \"stub\": true");
	if (att->content_type == NULL && !att->stub)
		att->content_type = DOCREP_ATT_DEFAULT_TYPE;
}

void
docrep_atts_from_json(const JsonbContainer *member, DocAtts *atts)
{
	RawCursor	cursor;
	RawMember	item;

	docrep_raw_begin(&cursor, member);
	atts->n = 0;
	atts->atts = palloc0(Max(cursor.n, 1) * sizeof(DocAtt));
	while (docrep_raw_next(&cursor, &item))
		read_attachment(&item, &atts->atts[atts->n++]);
	qsort(atts->atts, atts->n, sizeof(DocAtt), compare_atts);
}

/* Are two texts the same?  NULL equals NULL. */
static bool
same_text(const char *a, const char *b)
{
	return a == b || (a && b && strcmp(a, b) == 0);
}

bool
docrep_atts_equal(const DocAtts *a, const DocAtts *b)
{
	if (a->n != b->n)
		return false;
	for (int i = 0; i < a->n; i++)
	{
		const DocAtt *x = &a->atts[i];
		const DocAtt *y = &b->atts[i];

		if (!same_text(x->name, y->name) || !same_text(x->digest, y->digest) ||
			!same_text(x->content_type, y->content_type) || !same_text(x->encoding, y->encoding))
			return false;
	}
	return true;
}
