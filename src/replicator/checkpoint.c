/*-------------------------------------------------------------------------
 *
 * checkpoint.c
 *		Checkpoint documents, in CouchDB's format, and where two of them meet.
 *
 * Both sides hold a local document named by the replication id.  It has a
 * session id, the source's sequence up to which the target has everything,
 * and a history of earlier sessions.  README.md has the rules and why each of
 * them is safe.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <time.h>

#include "pgtime.h"
#include "replicator/checkpoint.h"
#include "replicator/json_members.h"
#include "utils/json.h"
#include "utils/timestamp.h"

#define MSECS_PER_DAY	(USECS_PER_DAY / 1000)

/* Read an entry of the history; false if it lacks what makes it useful. */
static bool
read_entry(JsonbContainer *object, CheckpointEntry *entry)
{
	entry->session_id = docrep_json_member_text(object, "session_id");
	entry->recorded_seq = docrep_json_member_text(object, "recorded_seq");
	if (entry->session_id == NULL || entry->recorded_seq == NULL)
		return false;
	entry->start_time = docrep_json_member_text(object, "start_time");
	entry->end_time = docrep_json_member_text(object, "end_time");
	entry->start_last_seq = docrep_json_member_text(object, "start_last_seq");
	entry->end_last_seq = docrep_json_member_text(object, "end_last_seq");
	entry->missing_checked = docrep_json_member_int(object, "missing_checked", 0);
	entry->missing_found = docrep_json_member_int(object, "missing_found", 0);
	entry->docs_read = docrep_json_member_int(object, "docs_read", 0);
	entry->docs_written = docrep_json_member_int(object, "docs_written", 0);
	entry->doc_write_failures = docrep_json_member_int(object, "doc_write_failures", 0);
	entry->bulk_get_docs = docrep_json_member_int(object, "bulk_get_docs", 0);
	entry->bulk_get_attempts = docrep_json_member_int(object, "bulk_get_attempts", 0);
	return true;
}

/* Read the history; entries that are none are left out. */
static void
read_history(JsonbContainer *root, Checkpoint *checkpoint)
{
	JsonbValue	value;
	JsonbContainer *array;
	int			n;

	if (!docrep_json_member(root, "history", &value) || value.type != jbvBinary ||
		!JsonContainerIsArray(value.val.binary.data))
		return;
	array = value.val.binary.data;
	n = Min(JsonContainerSize(array), CHECKPOINT_MAX_HISTORY);
	checkpoint->entries = palloc0(sizeof(CheckpointEntry) * Max(n, 1));
	for (int i = 0; i < n; i++)
	{
		JsonbValue *item = getIthJsonbValueFromContainer(array, i);

		if (item->type == jbvBinary && JsonContainerIsObject(item->val.binary.data) &&
			read_entry(item->val.binary.data, &checkpoint->entries[checkpoint->n]))
			checkpoint->n++;
	}
}

Checkpoint *
docrep_checkpoint_parse(const char *json)
{
	Checkpoint *checkpoint;
	Jsonb	   *document;

	if (json == NULL)
		return NULL;
	document = docrep_json_parse(json);
	if (!JB_ROOT_IS_OBJECT(document))
		return NULL;
	checkpoint = palloc0(sizeof(Checkpoint));
	checkpoint->session_id = docrep_json_member_text(&document->root, "session_id");
	checkpoint->source_last_seq = docrep_json_member_text(&document->root, "source_last_seq");
	checkpoint->since_seq = docrep_json_member_text(&document->root, "since_seq");
	read_history(&document->root, checkpoint);
	if (checkpoint->session_id == NULL || checkpoint->source_last_seq == NULL ||
		docrep_json_member_int(&document->root, "replication_id_version",
							   REPLICATION_ID_VERSION) != REPLICATION_ID_VERSION)
	{
		elog(DEBUG1, "docrep: a local document that should be a checkpoint is none");
		return NULL;
	}
	return checkpoint;
}

/* Index of the session in the history, or -1. */
static int
find_session(const Checkpoint *checkpoint, const char *session_id)
{
	for (int i = 0; i < checkpoint->n; i++)
	{
		if (strcmp(checkpoint->entries[i].session_id, session_id) == 0)
			return i;
	}
	return -1;
}

/*
 * In both cases below it is the target's sequence that counts.  The target's
 * document speaks of the target's own contents: it was written with, or after,
 * the documents it answers for, and when the target is put back to an older
 * state it goes back with them.  The source's document may be ahead of such a
 * target.  Its part is to prove that this is the source the target speaks of;
 * that a sequence still means the same there is what the source's own
 * sequence text is for (it names the history it belongs to).
 */
const char *
docrep_checkpoint_ancestor(const Checkpoint *source, const Checkpoint *target,
						   const CheckpointEntry **history, int *nhistory)
{
	*history = NULL;
	*nhistory = 0;
	if (source == NULL || target == NULL)
		return NULL;

	if (strcmp(source->session_id, target->session_id) == 0)
	{
		/* A checkpoint that travels with a batch carries a short history. */
		const Checkpoint *longer = source->n > target->n ? source : target;

		*history = longer->entries;
		*nhistory = longer->n;

		/* ... but the newest entry as the target knows it */
		if (longer == source && target->n > 0 &&
			strcmp(longer->entries[0].session_id, target->entries[0].session_id) == 0)
			longer->entries[0] = target->entries[0];
		return target->source_last_seq;
	}

	for (int i = 0; i < target->n; i++)
	{
		int			j = find_session(source, target->entries[i].session_id);

		if (j < 0)
			continue;
		if (target->n - i >= source->n - j)
		{
			*history = target->entries + i;
			*nhistory = target->n - i;
		}
		else
		{
			source->entries[j] = target->entries[i];
			*history = source->entries + j;
			*nhistory = source->n - j;
		}
		return target->entries[i].recorded_seq;
	}
	return NULL;
}

void
docrep_checkpoint_put_counts(StringInfo out, const CheckpointEntry *entry)
{
	docrep_json_put_int(out, "missing_checked", entry->missing_checked);
	docrep_json_put_int(out, "missing_found", entry->missing_found);
	docrep_json_put_int(out, "docs_read", entry->docs_read);
	docrep_json_put_int(out, "docs_written", entry->docs_written);
	docrep_json_put_int(out, "doc_write_failures", entry->doc_write_failures);
	docrep_json_put_int(out, "bulk_get_docs", entry->bulk_get_docs);
	docrep_json_put_int(out, "bulk_get_attempts", entry->bulk_get_attempts);
}

/* Append one entry as an object. */
static void
put_entry(StringInfo out, const CheckpointEntry *entry)
{
	appendStringInfoChar(out, '{');
	docrep_json_put_text(out, "session_id", entry->session_id);
	docrep_json_put_text(out, "start_time", entry->start_time);
	docrep_json_put_text(out, "end_time", entry->end_time);
	docrep_json_put_seq(out, "start_last_seq", entry->start_last_seq);
	docrep_json_put_seq(out, "end_last_seq", entry->end_last_seq);
	docrep_json_put_seq(out, "recorded_seq", entry->recorded_seq);
	docrep_checkpoint_put_counts(out, entry);
	appendStringInfoChar(out, '}');
}

void
docrep_checkpoint_put_history(StringInfo out, const CheckpointEntry *top,
							  const CheckpointEntry *old, int nold, int max_history)
{
	int			n = 0;

	docrep_json_put_name(out, "history");
	appendStringInfoChar(out, '[');
	if (top)
	{
		put_entry(out, top);
		n++;
	}
	for (int i = 0; i < nold && n < max_history; i++, n++)
	{
		if (n > 0)
			appendStringInfoChar(out, ',');
		put_entry(out, &old[i]);
	}
	appendStringInfoChar(out, ']');
}

/* Milliseconds since 1970, which other software knows, not since 2000. */
static int64
epoch_ms(void)
{
	return GetCurrentTimestamp() / 1000 +
		(int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * MSECS_PER_DAY;
}

char *
docrep_checkpoint_print(const CheckpointEntry *top, const CheckpointExtras *extras,
						const CheckpointEntry *old, int nold, int max_history)
{
	StringInfoData out;

	initStringInfo(&out);
	appendStringInfoChar(&out, '{');
	docrep_json_put_text(&out, "session_id", top->session_id);
	docrep_json_put_seq(&out, "source_last_seq", top->recorded_seq);
	docrep_json_put_int(&out, "replication_id_version", REPLICATION_ID_VERSION);
	docrep_json_put_text(&out, "source", extras->source);
	docrep_json_put_text(&out, "target", extras->target);
	if (extras->source_uuid)
		docrep_json_put_text(&out, "source_uuid", extras->source_uuid);
	if (extras->target_uuid)
		docrep_json_put_text(&out, "target_uuid", extras->target_uuid);
	docrep_json_put_int(&out, "recorded_at_ms", epoch_ms());
	if (extras->since_seq)
		docrep_json_put_text(&out, "since_seq", extras->since_seq);
	docrep_checkpoint_put_history(&out, top, old, nold, max_history);
	appendStringInfoChar(&out, '}');
	return out.data;
}

void
docrep_checkpoint_new_session(char *session_id)
{
	uint8		random[(SESSION_ID_SIZE - 1) / 2];

	if (!pg_strong_random(random, sizeof(random)))
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("could not generate a session id")));
	for (size_t i = 0; i < sizeof(random); i++)
		snprintf(session_id + 2 * i, 3, "%02x", random[i]);
}

char *
docrep_checkpoint_time_now(void)
{
	pg_time_t	now = (pg_time_t) time(NULL);
	char		text[64];

	pg_strftime(text, sizeof(text), "%a, %d %b %Y %H:%M:%S GMT", pg_gmtime(&now));
	return pstrdup(text);
}
