/*-------------------------------------------------------------------------
 *
 * json_text.c
 *		JSON as text: from it to jsonb, back, and written member by member.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "store/json_text.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/json.h"

Jsonb *
docrep_json_parse(const char *text)
{
	return DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(text)));
}

char *
docrep_json_print(Jsonb *jsonb)
{
	return JsonbToCString(NULL, &jsonb->root, VARSIZE(jsonb));
}

void
docrep_json_put_name(StringInfo out, const char *name)
{
	if (out->len > 0 && out->data[out->len - 1] != '{')
		appendStringInfoChar(out, ',');
	escape_json(out, name);
	appendStringInfoChar(out, ':');
}

void
docrep_json_put_text(StringInfo out, const char *name, const char *value)
{
	docrep_json_put_name(out, name);
	if (value)
		escape_json(out, value);
	else
		appendStringInfoString(out, "null");
}

void
docrep_json_put_int(StringInfo out, const char *name, int64 value)
{
	docrep_json_put_name(out, name);
	appendStringInfo(out, INT64_FORMAT, value);
}

void
docrep_json_put_bool(StringInfo out, const char *name, bool value)
{
	docrep_json_put_name(out, name);
	appendStringInfoString(out, value ? "true" : "false");
}
