/*-------------------------------------------------------------------------
 *
 * document.c
 *		Taking a document apart that comes in as JSON.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "store/document.h"
#include "store/errcodes.h"

#define DESIGN_PREFIX		"_design/"
#define LOCAL_PREFIX		"_local/"

/* What to do with a member that begins with "_". */
typedef enum MemberKind
{
	MEMBER_ID,
	MEMBER_REV,
	MEMBER_REVISIONS,
	MEMBER_DELETED,
	MEMBER_ATTACHMENTS,
	MEMBER_IGNORED
} MemberKind;

/*
 * The members that begin with "_" that a document may have.  Those that are
 * ignored: what a GET adds, so that what was read can be written back, and
 * what CouchDB's replicator and access control leave in documents.  None of
 * them becomes part of the body, nor of the revision's hash.
 */
static const struct
{
	const char *name;
	MemberKind	kind;
}			known_members[] =
{
	{"_id", MEMBER_ID},
	{"_rev", MEMBER_REV},
	{"_deleted", MEMBER_DELETED},
	{"_revisions", MEMBER_REVISIONS},
	{"_attachments", MEMBER_ATTACHMENTS},
	{"_conflicts", MEMBER_IGNORED},
	{"_deleted_conflicts", MEMBER_IGNORED},
	{"_revs_info", MEMBER_IGNORED},
	{"_local_seq", MEMBER_IGNORED},
	{"_replication_id", MEMBER_IGNORED},
	{"_replication_state", MEMBER_IGNORED},
	{"_replication_state_time", MEMBER_IGNORED},
	{"_replication_state_reason", MEMBER_IGNORED},
	{"_replication_stats", MEMBER_IGNORED},
	{"_access", MEMBER_IGNORED},
};

/* What the "_" members of one document said. */
typedef struct SpecialMembers
{
	bool		has_id;
	bool		has_rev;
	bool		has_revisions;
	RawValue	id;
	RawValue	rev;
	RawValue	revisions;
	bool		has_attachments;
	RawValue	attachments;
	bool		deleted;
} SpecialMembers;

static bool
has_prefix(const char *text, int len, const char *prefix)
{
	int			n = strlen(prefix);

	return len >= n && memcmp(text, prefix, n) == 0;
}

/* NULL if id may be a document's id, else why not. */
const char *
docrep_id_problem(const char *id, int len)
{
	if (len == 0)
		return "a document's id must not be empty";
	if (len > DOCREP_MAX_ID_LEN)
		return psprintf("a document's id must not be longer than %d bytes, this one has %d",
						DOCREP_MAX_ID_LEN, len);
	if (id[0] != '_')
		return NULL;
	if (has_prefix(id, len, DESIGN_PREFIX))
		return len > (int) strlen(DESIGN_PREFIX) ? NULL :
			"\"_design/\" must be followed by a name";
	if (has_prefix(id, len, LOCAL_PREFIX))
		return "local documents are written with docrep.put_local()";
	return "only reserved document ids may start with underscore";
}

/* Raise DR400 for a member of the wrong type. */
static void
wrong_type(const char *member, const char *wanted)
{
	ereport(ERROR,
			(errcode(ERRCODE_DOCREP_BAD_REQUEST),
			 errmsg("%s must be %s", member, wanted)));
}

/* Raise DR400 for a malformed revision. */
static void
bad_rev(const char *where, const char *text, int len, const char *problem)
{
	ereport(ERROR,
			(errcode(ERRCODE_DOCREP_BAD_REQUEST),
			 errmsg("%s is not a valid revision: \"%.*s\"",
					where, pg_mbcliplen(text, len, 100), text),
			 errdetail("%s", problem)));
}

/* Parse the text of a revision: DR400 if it is malformed.  Its bytes are allocated. */
Rev
docrep_rev_from_text(const char *text, int len, const char *where)
{
	Rev			rev;
	uint8	   *bytes = palloc(Max(len, 1));
	const char *problem = docrep_rev_parse(text, len, bytes, &rev);

	if (problem)
		bad_rev(where, text, len, problem);
	return rev;
}

/* Note one "_" member, or raise what is wrong with it. */
static void
take_member(SpecialMembers *special, const RawMember *member)
{
	const RawValue *value = &member->value;
	MemberKind	kind;
	size_t		i;

	for (i = 0; i < lengthof(known_members); i++)
	{
		if (strlen(known_members[i].name) == member->keylen &&
			memcmp(known_members[i].name, member->key, member->keylen) == 0)
			break;
	}
	if (i == lengthof(known_members))
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_BAD_REQUEST),
				 errmsg("Bad special document member: %.*s",
						pg_mbcliplen(member->key, member->keylen, 100), member->key),
				 errdetail("Members that begin with \"_\" are reserved.")));

	kind = known_members[i].kind;
	switch (kind)
	{
		case MEMBER_ID:
			if (value->type != JENTRY_ISSTRING)
				wrong_type("_id", "a string");
			special->has_id = true;
			special->id = *value;
			break;
		case MEMBER_REV:
			if (value->type != JENTRY_ISSTRING)
				wrong_type("_rev", "a string");
			special->has_rev = true;
			special->rev = *value;
			break;
		case MEMBER_REVISIONS:
			if (!docrep_raw_is_object(value))
				wrong_type("_revisions", "an object");
			special->has_revisions = true;
			special->revisions = *value;
			break;
		case MEMBER_DELETED:
			if (value->type != JENTRY_ISBOOL_TRUE && value->type != JENTRY_ISBOOL_FALSE)
				wrong_type("_deleted", "a boolean");
			special->deleted = value->type == JENTRY_ISBOOL_TRUE;
			break;
		case MEMBER_ATTACHMENTS:
			if (!docrep_raw_is_object(value))
				wrong_type("_attachments", "an object");
			special->has_attachments = true;
			special->attachments = *value;
			break;
		case MEMBER_IGNORED:
			break;
	}
}

bool
docrep_bodies_equal(Jsonb *a, Jsonb *b)
{
	bool		a_empty = a == NULL || JB_ROOT_COUNT(a) == 0;
	bool		b_empty = b == NULL || JB_ROOT_COUNT(b) == 0;

	if (a_empty || b_empty)
		return a_empty && b_empty;
	return compareJsonbContainers(&a->root, &b->root) == 0;
}

bool
docrep_body_has_special(const JsonbContainer *object)
{
	RawCursor	cursor;

	docrep_raw_begin(&cursor, object);
	for (int i = 0; i < cursor.n; i++)
	{
		uint32		start = cursor.keyoff;

		JBE_ADVANCE_OFFSET(cursor.keyoff, object->children[i]);
		if (cursor.keyoff > start && cursor.base[start] == '_')
			return true;
	}
	return false;
}

/*
 * Read the "_" members of an object.  True if there are any; then *body is
 * the object without them, else untouched.
 */
static bool
take_special(const JsonbContainer *object, SpecialMembers *special, Jsonb **body)
{
	RawCursor	cursor;
	RawMember	member;
	RawBuilder	builder;

	memset(special, 0, sizeof(*special));

	/* most rows of a bulk INSERT have none: find that out before all else */
	if (!docrep_body_has_special(object))
		return false;

	docrep_raw_begin(&cursor, object);
	docrep_raw_init(&builder, true, cursor.n);
	while (docrep_raw_next(&cursor, &member))
	{
		if (member.keylen > 0 && member.key[0] == '_')
			take_member(special, &member);
		else
			docrep_raw_add_member(&builder, &member);
	}
	*body = docrep_raw_finish(&builder);
	pfree(builder.items);
	return true;
}

/* Read _revisions as a path. */
static void
parse_revisions(const RawValue *value, RevPath *path)
{
	const JsonbContainer *object = (const JsonbContainer *) value->data;
	RawValue	start_value;
	RawValue	ids;
	RawCursor	cursor;
	RawMember	item;
	int64		start;

	if (!docrep_raw_find(object, "start", &start_value) ||
		!docrep_raw_to_int64(&start_value, &start))
		wrong_type("_revisions.start", "an integer");
	if (!docrep_raw_find(object, "ids", &ids) || !docrep_raw_is_array(&ids))
		wrong_type("_revisions.ids", "an array");
	docrep_raw_begin(&cursor, (const JsonbContainer *) ids.data);
	if (start < 0 || start > REV_MAX_GENERATION)
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_BAD_REQUEST),
				 errmsg("_revisions.start is out of range: " INT64_FORMAT, start)));
	if (cursor.n > start || (cursor.n == 0 && start > 0))
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_BAD_REQUEST),
				 errmsg("_revisions.ids has %d members, which does not go with a start of " INT64_FORMAT,
						cursor.n, start)));

	path->n = 0;
	path->revs = palloc_extended(Max(cursor.n, 1) * sizeof(Rev), MCXT_ALLOC_HUGE);
	while (docrep_raw_next(&cursor, &item))
	{
		const char *problem;
		uint8	   *bytes;

		if (item.value.type != JENTRY_ISSTRING)
			wrong_type("a member of _revisions.ids", "a string");
		bytes = palloc(Max(item.value.len, 1));
		problem = docrep_rev_parse_id(start - path->n, item.value.data, item.value.len,
									  bytes, &path->revs[path->n]);
		if (problem)
			bad_rev("a member of _revisions.ids", item.value.data, item.value.len, problem);
		path->n++;
	}
}

/* The path that _rev and _revisions give together. */
static void
parse_path(const SpecialMembers *special, bool new_edits, RevPath *path)
{
	Rev			rev = {0};

	if (special->has_rev)
		rev = docrep_rev_from_text(special->rev.data, special->rev.len, "_rev");
	if (special->has_revisions)
	{
		parse_revisions(&special->revisions, path);
		if (special->has_rev && (path->n == 0 || !docrep_rev_eq(&rev, &path->revs[0])))
			ereport(ERROR,
					(errcode(ERRCODE_DOCREP_BAD_REQUEST),
					 errmsg("_revisions contradicts _rev"),
					 errdetail("_revisions.start and the first of _revisions.ids must be those of _rev, \"%.*s\".",
							   pg_mbcliplen(special->rev.data, special->rev.len, 100),
							   special->rev.data)));
		if (new_edits && path->n > 1)
			path->n = 1;		/* the edit's parent; its ancestors are known */
	}
	else if (special->has_rev)
	{
		path->n = 1;
		path->revs = palloc(sizeof(Rev));
		path->revs[0] = rev;
	}
}

/* Read _attachments.  In a document given here whole there is nothing for contents to follow in. */
static void
parse_attachments(const SpecialMembers *special, DocAtts *atts)
{
	docrep_atts_from_json((const JsonbContainer *) special->attachments.data, atts);
	for (int i = 0; i < atts->n; i++)
	{
		if (atts->atts[i].data == NULL && !atts->atts[i].stub)
			ereport(ERROR,
					(errcode(ERRCODE_DOCREP_BAD_REQUEST),
					 errmsg("attachment \"%s\": \"follows\" is not possible here",
							atts->atts[i].name),
					 errhint("Give its content as \"data\", in base64.")));
	}
}

/* Fill write from the "_" members. */
static void
apply_special(const SpecialMembers *special, bool new_edits, DocWrite *write)
{
	if (special->has_id)
	{
		const char *problem = docrep_id_problem(special->id.data, special->id.len);

		if (problem)
			ereport(ERROR,
					(errcode(ERRCODE_DOCREP_BAD_REQUEST),
					 errmsg("bad _id: %s", problem)));
		write->id = docrep_raw_to_cstring(&special->id);
	}
	write->deleted = special->deleted;
	parse_path(special, new_edits, &write->path);
	write->has_atts = special->has_attachments;
	if (special->has_attachments)
		parse_attachments(special, &write->atts);
	if (new_edits)
		return;

	if (write->id == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_BAD_REQUEST),
				 errmsg("_id is missing: with new_edits false every document needs one")));
	if (write->path.n == 0)
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_BAD_REQUEST),
				 errmsg("_rev is missing: with new_edits false every document needs one"),
				 errdetail("Document \"%s\" has neither _rev nor _revisions.", write->id)));
}

/* Raise DR400: a document is an object. */
static void
not_an_object(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_DOCREP_BAD_REQUEST),
			 errmsg("Document must be a JSON object")));
}

/* Take a document apart; see document.h. */
void
docrep_document_parse(Jsonb *doc, bool new_edits, DocWrite *write)
{
	SpecialMembers special;

	if (!JB_ROOT_IS_OBJECT(doc))
		not_an_object();
	memset(write, 0, sizeof(*write));
	write->body = doc;
	if (take_special(&doc->root, &special, &write->body) || !new_edits)
		apply_special(&special, new_edits, write);
}

/* The same for a document that lies inside another jsonb value. */
void
docrep_document_parse_value(const RawValue *doc, bool new_edits, DocWrite *write)
{
	SpecialMembers special;

	if (!docrep_raw_is_object(doc))
		not_an_object();
	memset(write, 0, sizeof(*write));
	if (!take_special((const JsonbContainer *) doc->data, &special, &write->body))
		write->body = docrep_raw_to_jsonb(doc);
	apply_special(&special, new_edits, write);
}

/* The body of a local document; see document.h. */
Jsonb *
docrep_local_body(Jsonb *doc, bool *deleted)
{
	SpecialMembers special;
	Jsonb	   *body = doc;

	if (!JB_ROOT_IS_OBJECT(doc))
		not_an_object();
	take_special(&doc->root, &special, &body);
	if (special.has_attachments &&
		JsonContainerSize((const JsonbContainer *) special.attachments.data) > 0)
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_BAD_REQUEST),
				 errmsg("a local document cannot have attachments")));
	*deleted = special.deleted;
	return body;
}
