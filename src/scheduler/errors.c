/*-------------------------------------------------------------------------
 *
 * errors.c
 *		Errors on their way from a worker to a caller or a view.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <ctype.h>

#include "mb/pg_wchar.h"
#include "scheduler/jobs.h"

/* Where the user information of an URL ends that begins at p; NULL: it has none. */
static const char *
userinfo_end(const char *p)
{
	const char *at = NULL;

	for (; *p != '\0' && *p != '/' && !isspace((unsigned char) *p) && *p != '"'; p++)
	{
		if (*p == '@')
			at = p;
	}
	return at;
}

/* Where the value of "password = value" at p begins; NULL: p is no such place. */
static const char *
password_value(const char *p)
{
	if (pg_strncasecmp(p, "password", 8) != 0)
		return NULL;
	p += 8;
	if (*p == '"')
		p++;
	while (*p == ' ')
		p++;
	if (*p != '=' && *p != ':')
		return NULL;
	p++;
	while (*p == ' ' || *p == '"' || *p == '\'')
		p++;
	return p;
}

/*
 * Copy text into a buffer, cut to its size at a character's border.  Peers keep
 * credentials out of their messages; what looks like some, as in a message of
 * the other side that quotes us, is replaced all the same.
 */
static void
copy_redacted(char *buffer, Size size, const char *text)
{
	StringInfoData out;
	const char *p = text;

	if (text == NULL)
	{
		buffer[0] = '\0';
		return;
	}
	initStringInfo(&out);
	while (*p != '\0' && out.len < (int) size)
	{
		const char *end;

		if (strncmp(p, "://", 3) == 0 && (end = userinfo_end(p + 3)) != NULL)
		{
			appendStringInfoString(&out, "://***");
			p = end;
		}
		else if ((end = password_value(p)) != NULL)
		{
			appendBinaryStringInfo(&out, p, end - p);
			appendStringInfoString(&out, "***");
			p = end;
			while (*p != '\0' && !isspace((unsigned char) *p) && strchr("\"'&,}", *p) == NULL)
				p++;
		}
		else
			appendStringInfoChar(&out, *p++);
	}
	memcpy(buffer, out.data, out.len = pg_mbcliplen(out.data, out.len, size - 1));
	buffer[out.len] = '\0';
	pfree(out.data);
}

void
docrep_job_text_copy(char *buffer, Size size, const char *text)
{
	int			len = pg_mbcliplen(text, (int) strlen(text), (int) size - 1);

	memcpy(buffer, text, len);
	buffer[len] = '\0';
}

/* Fill an error. */
void
docrep_job_error_set(JobError *error, int sqlstate, const char *message,
					 const char *detail, const char *hint)
{
	error->sqlstate = sqlstate;
	error->unidentified = false;
	copy_redacted(error->message, sizeof(error->message), message);
	copy_redacted(error->detail, sizeof(error->detail), detail);
	copy_redacted(error->hint, sizeof(error->hint), hint);
}

/* Fill an error from what was raised. */
void
docrep_job_error_copy(JobError *error, const ErrorData *edata)
{
	docrep_job_error_set(error, edata->sqlerrcode, edata->message, edata->detail, edata->hint);
}

/* Raise an error of a worker in this session. */
void
docrep_job_error_raise(const JobError *error)
{
	ereport(ERROR,
			(errcode(error->sqlstate),
			 errmsg_internal("%s", error->message),
			 error->detail[0] != '\0' ? errdetail_internal("%s", error->detail) : 0,
			 error->hint[0] != '\0' ? errhint("%s", error->hint) : 0));
	pg_unreachable();
}
