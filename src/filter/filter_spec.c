/*-------------------------------------------------------------------------
 *
 * filter_spec.c
 *		What is asked for: names, checks, and as text.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "filter/filter.h"
#include "filter/filter_paths.h"
#include "lib/stringinfo.h"
#include "store/errcodes.h"
#include "store/json_text.h"
#include "store/jsonb_raw.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/json.h"

static bool
is_string(const RawValue *value)
{
	return value->type == JENTRY_ISSTRING;
}

/* Is there a slash outside of double quotes? */
static bool
has_slash(const char *name)
{
	bool		quoted = false;

	for (; *name != '\0'; name++)
	{
		if (*name == '"')
			quoted = !quoted;
		else if (*name == '/' && !quoted)
			return true;
	}
	return false;
}

DocrepFilterKind
docrep_filter_kind(const char *filter)
{
	static const struct
	{
		const char *name;
		DocrepFilterKind kind;
	}			builtin[] = {
		{"_design", DOCREP_FILTER_DESIGN},
		{"_doc_ids", DOCREP_FILTER_DOC_IDS},
		{"_selector", DOCREP_FILTER_SELECTOR},
		{"_view", DOCREP_FILTER_VIEW},
	};

	if (filter == NULL)
		return DOCREP_FILTER_NONE;
	if (has_slash(filter))
		return DOCREP_FILTER_JAVASCRIPT;
	for (size_t i = 0; i < lengthof(builtin); i++)
	{
		if (strcmp(filter, builtin[i].name) == 0)
			return builtin[i].kind;
	}
	if (filter[0] == '_' && strchr(filter, '.') == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_BAD_REQUEST),
				 errmsg("there is no built-in filter \"%s\"", filter),
				 errhint("There are _design, _doc_ids, _selector and _view.")));
	return DOCREP_FILTER_FUNCTION;
}

bool
docrep_filter_is_empty(const DocrepFilterSpec *spec)
{
	return spec == NULL ||
		(spec->selector == NULL && spec->filter == NULL && spec->paths == NULL &&
		 !spec->prevent_deletions);
}

/* ---------- query_params ---------- */

/* A member of query_params; false: there is none. */
static bool
query_param(const DocrepFilterSpec *spec, const char *name, RawValue *value, Jsonb **holder)
{
	if (spec->query_params == NULL)
		return false;
	*holder = docrep_json_parse(spec->query_params);
	if (!JB_ROOT_IS_OBJECT(*holder))
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_BAD_REQUEST),
				 errmsg("\"query_params\" must be an object")));
	return docrep_raw_find(&(*holder)->root, name, value);
}

/* A query parameter that is an object or array, or the text of one as in a URL; NULL: none. */
static Jsonb *
structured_param(const DocrepFilterSpec *spec, const char *name)
{
	RawValue	value;
	Jsonb	   *holder;

	if (!query_param(spec, name, &value, &holder))
		return NULL;
	if (docrep_raw_is_object(&value) || docrep_raw_is_array(&value))
		return docrep_raw_to_jsonb(&value);
	if (is_string(&value))
		return docrep_json_parse(docrep_raw_to_cstring(&value));
	return NULL;
}

static void
needs_param(const char *filter, const char *param, const char *what)
{
	ereport(ERROR,
			(errcode(ERRCODE_DOCREP_BAD_REQUEST),
			 errmsg("filter \"%s\" needs \"%s\" in \"query_params\"", filter, param),
			 errdetail("It must be %s.", what)));
}

static int
compare_ids(const void *a, const void *b)
{
	return strcmp(*(char *const *) a, *(char *const *) b);
}

/* The ids of "_doc_ids", sorted and unique. */
static void
read_doc_ids(const DocrepFilterSpec *spec, char ***doc_ids, int *ndoc_ids)
{
	Jsonb	   *array = structured_param(spec, "doc_ids");
	RawCursor	cursor;
	RawMember	item;
	int			n = 0;
	int			kept = 0;

	if (array == NULL || !JB_ROOT_IS_ARRAY(array))
		needs_param("_doc_ids", "doc_ids", "an array of ids");
	*doc_ids = palloc(Max(JB_ROOT_COUNT(array), 1) * sizeof(char *));
	docrep_raw_begin(&cursor, &array->root);
	while (docrep_raw_next(&cursor, &item))
	{
		if (!is_string(&item.value))
			needs_param("_doc_ids", "doc_ids", "an array of ids");
		(*doc_ids)[n++] = docrep_raw_to_cstring(&item.value);
	}
	qsort(*doc_ids, n, sizeof(char *), compare_ids);
	for (int i = 0; i < n; i++)
	{
		if (kept == 0 || strcmp((*doc_ids)[kept - 1], (*doc_ids)[i]) != 0)
			(*doc_ids)[kept++] = (*doc_ids)[i];
	}
	*ndoc_ids = kept;
}

DocrepFilterSpec *
docrep_filter_spec_plain(const DocrepFilterSpec *spec, char ***doc_ids, int *ndoc_ids)
{
	DocrepFilterSpec *plain = palloc(sizeof(DocrepFilterSpec));
	Jsonb	   *selector;

	*plain = *spec;
	switch (docrep_filter_kind(spec->filter))
	{
		case DOCREP_FILTER_DOC_IDS:
			read_doc_ids(spec, doc_ids, ndoc_ids);
			break;
		case DOCREP_FILTER_SELECTOR:
			selector = structured_param(spec, "selector");
			if (selector == NULL || !JB_ROOT_IS_OBJECT(selector))
				needs_param("_selector", "selector", "an object");
			plain->selector = docrep_json_print(selector);
			break;
		default:
			return plain;
	}
	plain->filter = plain->query_params = NULL;
	return plain;
}

/* ---------- names in design documents ---------- */

void
docrep_filter_split_name(const char *text, const char *what, char **design, char **name)
{
	const char *slash = strchr(text, '/');

	if (slash == NULL || slash == text || slash[1] == '\0' || strchr(slash + 1, '/') != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_BAD_REQUEST),
				 errmsg("malformed %s \"%s\"", what, text),
				 errdetail("It must be of the form \"designdoc/name\".")));
	*design = pnstrdup(text, slash - text);
	*name = pstrdup(slash + 1);
}

char *
docrep_filter_view_param(const DocrepFilterSpec *spec)
{
	RawValue	value;
	Jsonb	   *holder;

	if (!query_param(spec, "view", &value, &holder) || !is_string(&value))
		needs_param("_view", "view", "\"designdoc/viewname\"");
	return docrep_raw_to_cstring(&value);
}

/* ---------- checks ---------- */

void
docrep_filter_check(const DocrepFilterSpec *spec)
{
	char	   *design;
	char	   *name;
	char	  **ids;
	int			n;

	if (spec->selector)
		(void) docrep_selector_compile(docrep_json_parse(spec->selector));
	if (spec->paths)
		(void) docrep_paths_compile(spec->paths, spec->npaths);
	(void) docrep_filter_spec_plain(spec, &ids, &n);
	switch (docrep_filter_kind(spec->filter))
	{
		case DOCREP_FILTER_JAVASCRIPT:
			docrep_filter_split_name(spec->filter, "filter", &design, &name);
			break;
		case DOCREP_FILTER_VIEW:
			docrep_filter_split_name(docrep_filter_view_param(spec), "view", &design, &name);
			break;
		default:
			break;
	}
}

/* ---------- as text ---------- */

static void
put_paths(StringInfo out, const DocrepFilterSpec *spec)
{
	docrep_json_put_name(out, "paths");
	appendStringInfoChar(out, '[');
	for (int i = 0; i < spec->npaths; i++)
	{
		if (i > 0)
			appendStringInfoChar(out, ',');
		escape_json(out, spec->paths[i]);
	}
	appendStringInfoChar(out, ']');
}

char *
docrep_filter_spec_to_text(const DocrepFilterSpec *spec)
{
	StringInfoData out;

	initStringInfo(&out);
	appendStringInfoChar(&out, '{');
	if (spec->selector)
	{
		docrep_json_put_name(&out, "selector");
		appendStringInfoString(&out, spec->selector);
	}
	if (spec->filter)
		docrep_json_put_text(&out, "filter", spec->filter);
	if (spec->query_params)
	{
		docrep_json_put_name(&out, "query_params");
		appendStringInfoString(&out, spec->query_params);
	}
	if (spec->paths)
		put_paths(&out, spec);
	if (spec->prevent_deletions)
		docrep_json_put_bool(&out, "prevent_deletions", true);
	appendStringInfoChar(&out, '}');
	return out.data;
}

/* The paths of a flat form. */
static void
read_paths(DocrepFilterSpec *spec, const RawValue *value)
{
	Jsonb	   *array = docrep_raw_to_jsonb(value);
	RawCursor	cursor;
	RawMember	item;

	spec->paths = palloc(Max(JB_ROOT_COUNT(array), 1) * sizeof(char *));
	docrep_raw_begin(&cursor, &array->root);
	while (docrep_raw_next(&cursor, &item))
	{
		if (!is_string(&item.value))
			ereport(ERROR,
					(errcode(ERRCODE_DOCREP_BAD_REQUEST),
					 errmsg("\"paths\" must be an array of strings")));
		spec->paths[spec->npaths++] = docrep_raw_to_cstring(&item.value);
	}
}

/* One member of a flat form; false: there is no such thing. */
static bool
read_member(DocrepFilterSpec *spec, const char *name, const RawValue *value)
{
	if (strcmp(name, "selector") == 0 && docrep_raw_is_object(value))
		spec->selector = docrep_json_print(docrep_raw_to_jsonb(value));
	else if (strcmp(name, "query_params") == 0 && docrep_raw_is_object(value))
		spec->query_params = docrep_json_print(docrep_raw_to_jsonb(value));
	else if (strcmp(name, "filter") == 0 && is_string(value))
		spec->filter = docrep_raw_to_cstring(value);
	else if (strcmp(name, "paths") == 0 && docrep_raw_is_array(value))
		read_paths(spec, value);
	else if (strcmp(name, "prevent_deletions") == 0 && (value->type == JENTRY_ISBOOL_TRUE || value->type == JENTRY_ISBOOL_FALSE))
		spec->prevent_deletions = value->type == JENTRY_ISBOOL_TRUE;
	else
		return false;
	return true;
}

DocrepFilterSpec *
docrep_filter_spec_from_text(const char *text)
{
	DocrepFilterSpec *spec = palloc0(sizeof(DocrepFilterSpec));
	Jsonb	   *jsonb = docrep_json_parse(text);
	RawCursor	cursor;
	RawMember	member;

	if (!JB_ROOT_IS_OBJECT(jsonb))
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_BAD_REQUEST),
				 errmsg("a filter must be an object")));
	docrep_raw_begin(&cursor, &jsonb->root);
	while (docrep_raw_next(&cursor, &member))
	{
		char	   *name = pnstrdup(member.key, member.keylen);

		if (!read_member(spec, name, &member.value))
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("\"%s\" of a filter is not known here", name),
					 errhint("Update docrep on this server.")));
	}
	return spec;
}
