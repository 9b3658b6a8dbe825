/*-------------------------------------------------------------------------
 *
 * js_frame.c
 *		Writing frames for the helper, and reading texts of its answers.
 *
 * The helper speaks UTF-8, whatever the database does.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "js/js_internal.h"
#include "mb/pg_wchar.h"

/* Begins a frame; returns what docrep_js_frame_end() wants to know. */
int
docrep_js_frame_begin(StringInfo out, char type)
{
	int			start = out->len;

	docrep_js_put_number(out, 0);
	appendStringInfoChar(out, type);
	return start;
}

/* Writes the length, which is known now, in front of the frame. */
void
docrep_js_frame_end(StringInfo out, int start)
{
	uint32		len = out->len - start - sizeof(uint32);

	memcpy(out->data + start, &len, sizeof(len));
}

void
docrep_js_put_number(StringInfo out, uint32 number)
{
	appendBinaryStringInfo(out, (const char *) &number, sizeof(number));
}

/* A text of the database as bytes of UTF-8. */
void
docrep_js_put_bytes(StringInfo out, const char *text, int len)
{
	char	   *converted = NULL;

	if (GetDatabaseEncoding() != PG_UTF8)
		converted = pg_server_to_any(text, len, PG_UTF8);
	if (converted != NULL && converted != text)
	{
		appendBinaryStringInfo(out, converted, strlen(converted));
		pfree(converted);
	}
	else
		appendBinaryStringInfo(out, text, len);
}

/* The same with its length in front. */
void
docrep_js_put_text(StringInfo out, const char *text, int len)
{
	int			start = out->len;
	uint32		written;

	docrep_js_put_number(out, 0);
	docrep_js_put_bytes(out, text, len);
	written = out->len - start - sizeof(uint32);
	memcpy(out->data + start, &written, sizeof(written));
}

/*
 * A text of an answer, for a message, in the current context.  It may be anything
 * that somebody threw: what the database's encoding cannot hold becomes "?".
 */
char *
docrep_js_text(const char *data, int len)
{
	char	   *text = palloc(len + 1);
	bool		utf8;

	memcpy(text, data, len);
	text[len] = '\0';
	for (int i = 0; i < len; i++)
	{
		if (text[i] == '\0')
			text[i] = '?';
	}
	utf8 = GetDatabaseEncoding() == PG_UTF8 && pg_verify_mbstr(PG_UTF8, text, len, true);
	for (char *c = text; *c != '\0'; c++)
	{
		if (((unsigned char) *c < ' ' && *c != '\n' && *c != '\t') || (!utf8 && IS_HIGHBIT_SET(*c)))
			*c = '?';
	}
	return text;
}
