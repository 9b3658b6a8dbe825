/*-------------------------------------------------------------------------
 *
 * postgres_error.c
 *		What libpq and another server say, as errors of ours.
 *
 * SQLSTATEs of docrep's own class come through as they are.  The rest becomes
 * one of DR401, DR403, DR404, DR503 (worth another try later) and DR500, with
 * the original in the message and its SQLSTATE in the detail.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "peer/postgres_conn.h"
#include "peer/postgres_error.h"
#include "store/errcodes.h"

int
docrep_pgerror_map(const char *state)
{
	static const struct
	{
		const char *prefix;
		int			code;
	}			map[] = {
		{"28", ERRCODE_DOCREP_UNAUTHORIZED},
		{"42501", ERRCODE_DOCREP_FORBIDDEN},
		{"3D000", ERRCODE_DOCREP_NOT_FOUND},
		{"42P01", ERRCODE_DOCREP_NOT_FOUND},
		{"42883", ERRCODE_DOCREP_NOT_FOUND},
		{"3F000", ERRCODE_DOCREP_NOT_FOUND},
		{"08", ERRCODE_DOCREP_UNAVAILABLE},
		{"53", ERRCODE_DOCREP_UNAVAILABLE},
		{"57", ERRCODE_DOCREP_UNAVAILABLE},
		{"25006", ERRCODE_DOCREP_UNAVAILABLE},	/* a standby */
		{"40", ERRCODE_DOCREP_UNAVAILABLE},
		{"55P03", ERRCODE_DOCREP_UNAVAILABLE},
	};

	if (state == NULL || strlen(state) != 5)
		return ERRCODE_DOCREP_UNAVAILABLE;
	if (strncmp(state, "DR", 2) == 0)
		return MAKE_SQLSTATE(state[0], state[1], state[2], state[3], state[4]);
	for (int i = 0; i < lengthof(map); i++)
		if (strncmp(state, map[i].prefix, strlen(map[i].prefix)) == 0)
			return map[i].code;
	return ERRCODE_DOCREP_INTERNAL;
}

char *
docrep_pgerror_redact(const char *text, const char *password)
{
	char	   *copy = pg_any_to_server(text, strlen(text), PG_UTF8);

	if (copy == text)
		copy = pstrdup(text);
	if ((password != NULL && password[0] != '\0' && strstr(copy, password) != NULL) ||
		strstr(copy, "://") != NULL)
		return pstrdup("(The message is not shown, as it may contain credentials.)");
	while (copy[0] != '\0' && copy[strlen(copy) - 1] == '\n')
		copy[strlen(copy) - 1] = '\0';
	return copy;
}

char *
docrep_pgerror_take_state(char *message)
{
	static char state[6];
	char	   *found = NULL;
	char	   *location;

	for (char *p = message; (p = strstr(p, ":  ")) != NULL; p++)
	{
		if (strspn(p + 3, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ") == 5 &&
			strncmp(p + 8, ": ", 2) == 0)
			found = p + 3;
	}
	if (found == NULL)
		return NULL;
	strlcpy(state, found, sizeof(state));
	memmove(found, found + 7, strlen(found + 7) + 1);
	if ((location = strstr(found, "\nLOCATION:")) != NULL)
		*location = '\0';
	return state;
}

/* libpq says so in the language of the server, but with the requirement in it. */
bool
docrep_pgerror_is_no_password(const PGconn *conn)
{
	return strstr(PQerrorMessage(conn), DOCREP_PG_REQUIRED_AUTH) != NULL;
}

void
docrep_pgerror_no_password(DocrepPgConn *c)
{
	ereport(ERROR,
			(errcode(ERRCODE_DOCREP_FORBIDDEN),
			 errmsg("permission denied for endpoint %s", c->display),
			 errdetail("The other server did not ask for the password."),
			 errhint("Roles that are no superusers may only connect to servers that "
					 "authenticate them by a password; see pg_hba.conf there.")));
}

void
docrep_pgerror_connect(DocrepPgConn *c)
{
	char	   *message = pstrdup(PQerrorMessage(c->conn));
	char	   *state = docrep_pgerror_take_state(message);
	int			code = docrep_pgerror_map(state);

	if (state == NULL && docrep_pgerror_is_no_password(c->conn))
		docrep_pgerror_no_password(c);
	if (state == NULL && PQconnectionNeedsPassword(c->conn))
		code = ERRCODE_DOCREP_UNAUTHORIZED;
	if (code == ERRCODE_DOCREP_INTERNAL)
		code = ERRCODE_DOCREP_UNAVAILABLE;
	message = docrep_pgerror_redact(message, c->password);
	ereport(ERROR,
			(errcode(code),
			 errmsg("could not connect to %s", c->display),
			 errdetail_internal("%s", message)));
}

/* Copy a field of a result, without credentials; NULL if there is none. */
static char *
field(DocrepPgConn *c, const PGresult *result, int code)
{
	char	   *value = result ? PQresultErrorField(result, code) : NULL;

	return value ? docrep_pgerror_redact(value, c->password) : NULL;
}

void
docrep_pgconn_raise(DocrepPgConn *c, const PGresult *result, const char *doing)
{
	char	   *state = field(c, result, PG_DIAG_SQLSTATE);
	char	   *primary = field(c, result, PG_DIAG_MESSAGE_PRIMARY);
	char	   *detail = field(c, result, PG_DIAG_MESSAGE_DETAIL);
	char	   *hint = field(c, result, PG_DIAG_MESSAGE_HINT);
	int			code = docrep_pgerror_map(state);

	if (primary == NULL)
	{
		const char *text = result ? PQresultErrorMessage(result) : "";

		primary = docrep_pgerror_redact(text[0] ? text : PQerrorMessage(c->conn), c->password);
	}
	if (primary[0] == '\0')
		primary = pstrdup("The connection was closed.");

	/* the functions that it lacks are those it was asked to call */
	if (state != NULL && (strcmp(state, "42883") == 0 || strcmp(state, "3F000") == 0) &&
		strstr(primary, "docrep") != NULL)
		hint = pstrdup("CREATE EXTENSION docrep in that database, or update it.");

	if (state != NULL && strncmp(state, "DR", 2) == 0)
		ereport(ERROR,
				(errcode(code),
				 errmsg("%s: %s", c->display, primary),
				 detail ? errdetail_internal("%s", detail) : 0,
				 hint ? errhint("%s", hint) : 0));
	/* what the server says is part of the message, which is all that a task's state shows */
	if (state != NULL)
		ereport(ERROR,
				(errcode(code),
				 errmsg("%s failed at %s: %s", doing, c->display, primary),
				 errdetail_internal("SQLSTATE %s.%s%s", state, detail ? " " : "", detail ? detail : ""),
				 hint ? errhint("%s", hint) : 0));
	ereport(ERROR,
			(errcode(code),
			 errmsg("%s failed at %s", doing, c->display),
			 errdetail_internal("%s", primary),
			 hint ? errhint("%s", hint) : 0));
}
