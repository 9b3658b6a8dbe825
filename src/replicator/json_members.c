/*-------------------------------------------------------------------------
 *
 * json_members.c
 *		Small helpers for reading jsonb members; sequences and times as JSON text.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "replicator/json_members.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/json.h"
#include "utils/timestamp.h"
#include "utils/numeric.h"

/* More digits than this do not fit into an int64 for certain. */
#define SAFE_DIGITS		18

bool
docrep_json_member(JsonbContainer *object, const char *name, JsonbValue *value)
{
	return JsonContainerIsObject(object) &&
		getKeyJsonValueFromContainer(object, name, strlen(name), value) != NULL;
}

char *
docrep_json_text(JsonbValue *value)
{
	switch (value->type)
	{
		case jbvNull:
			return NULL;
		case jbvString:
			return pnstrdup(value->val.string.val, value->val.string.len);
		case jbvNumeric:
			return DatumGetCString(DirectFunctionCall1(numeric_out,
													   NumericGetDatum(value->val.numeric)));
		case jbvBool:
			return pstrdup(value->val.boolean ? "true" : "false");
		case jbvBinary:
			return JsonbToCString(NULL, value->val.binary.data, value->val.binary.len);
		default:
			elog(ERROR, "unexpected jsonb value type %d", (int) value->type);
	}
	return NULL;				/* keep compilers quiet */
}

char *
docrep_json_member_text(JsonbContainer *object, const char *name)
{
	JsonbValue	value;

	return docrep_json_member(object, name, &value) ? docrep_json_text(&value) : NULL;
}

int64
docrep_json_member_int(JsonbContainer *object, const char *name, int64 otherwise)
{
	JsonbValue	value;
	char	   *text;
	char	   *end;
	int64		result;

	if (!docrep_json_member(object, name, &value) || value.type != jbvNumeric)
		return otherwise;
	text = docrep_json_text(&value);
	if (strlen(text) > SAFE_DIGITS)
		return otherwise;
	result = strtoll(text, &end, 10);
	return *end == '\0' ? result : otherwise;
}

bool
docrep_json_member_bool(JsonbContainer *object, const char *name, bool otherwise)
{
	JsonbValue	value;

	return docrep_json_member(object, name, &value) && value.type == jbvBool ?
		value.val.boolean : otherwise;
}

const char *
docrep_json_type_name(const JsonbValue *value)
{
	switch (value->type)
	{
		case jbvNull:
			return "null";
		case jbvString:
			return "a string";
		case jbvNumeric:
			return "a number";
		case jbvBool:
			return "a boolean";
		case jbvBinary:
			return JsonContainerIsArray(value->val.binary.data) ? "an array" : "an object";
		default:
			return "something else";
	}
}

void
docrep_json_put_seq(StringInfo out, const char *name, const char *seq)
{
	size_t		digits;

	if (seq == NULL)
		seq = "0";
	digits = strspn(seq, "0123456789");
	if (digits > 0 && digits <= SAFE_DIGITS && seq[digits] == '\0' &&
		(seq[0] != '0' || digits == 1))
	{
		docrep_json_put_name(out, name);
		appendStringInfoString(out, seq);
	}
	else
		docrep_json_put_text(out, name, seq);
}

char *
docrep_json_time(TimestampTz at)
{
	pg_time_t	seconds = timestamptz_to_time_t(at);
	struct pg_tm *tm = pg_gmtime(&seconds);
	int			micros = (int) (((at % USECS_PER_SEC) + USECS_PER_SEC) % USECS_PER_SEC);
	char		text[64];

	if (tm == NULL || pg_strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", tm) == 0)
		return pstrdup("infinity");
	return psprintf("%s.%06dZ", text, micros);
}
