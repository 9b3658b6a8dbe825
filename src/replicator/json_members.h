/*-------------------------------------------------------------------------
 *
 * json_members.h
 *		Small helpers for reading jsonb members; sequences and times as JSON text.
 *
 * They use no catalog and work outside of transactions.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DOCREP_REPLICATOR_JSON_MEMBERS_H
#define DOCREP_REPLICATOR_JSON_MEMBERS_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "store/json_text.h"

/* The member's value in *value; false if object has none of that name. */
extern bool docrep_json_member(JsonbContainer *object, const char *name, JsonbValue *value);

/* A value as text: strings as they are, null as NULL, anything else as JSON. */
extern char *docrep_json_text(JsonbValue *value);

/* Members as text, int64 or bool; the default if missing or of another type. */
extern char *docrep_json_member_text(JsonbContainer *object, const char *name);
extern int64 docrep_json_member_int(JsonbContainer *object, const char *name, int64 otherwise);
extern bool docrep_json_member_bool(JsonbContainer *object, const char *name, bool otherwise);

/* "an object", "a string", ... for messages. */
extern const char *docrep_json_type_name(const JsonbValue *value);

/*
 * A sequence: a plain number, as old servers have them, becomes a JSON number,
 * anything else a string.  NULL: 0.
 */
extern void docrep_json_put_seq(StringInfo out, const char *name, const char *seq);

/* A time as RFC 3339 has it, in UTC, with microseconds; allocated. */
extern char *docrep_json_time(TimestampTz at);

#endif							/* DOCREP_REPLICATOR_JSON_MEMBERS_H */
