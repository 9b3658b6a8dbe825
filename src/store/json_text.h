/*-------------------------------------------------------------------------
 *
 * json_text.h
 *		JSON as text: from it to jsonb, back, and written member by member.
 *
 * These use no catalog and work outside of transactions.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DOCREP_STORE_JSON_TEXT_H
#define DOCREP_STORE_JSON_TEXT_H

#include "postgres.h"

#include "lib/stringinfo.h"
#include "utils/jsonb.h"

/* Parse JSON text; raises on what is not JSON. */
extern Jsonb *docrep_json_parse(const char *text);

/* The text of a jsonb; allocated. */
extern char *docrep_json_print(Jsonb *jsonb);

/*
 * Append "name":value and, before it, a comma unless the object was just opened.
 * docrep_json_put_name appends no value; the text NULL is null.
 */
extern void docrep_json_put_name(StringInfo out, const char *name);
extern void docrep_json_put_text(StringInfo out, const char *name, const char *value);
extern void docrep_json_put_int(StringInfo out, const char *name, int64 value);
extern void docrep_json_put_bool(StringInfo out, const char *name, bool value);

#endif							/* DOCREP_STORE_JSON_TEXT_H */
