/*-------------------------------------------------------------------------
 *
 * socket_options.c
 *		socket_options of replication documents.
 *
 * CouchDB hands Erlang's list of options to Erlang.  Here those of them mean
 * something that a socket of ours has; others are refused and not passed over.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include "peer/socket_options.h"
#include "store/errcodes.h"

#define LARGEST_BUFFER	(64 * 1024 * 1024)

/* A place in the list that is read. */
typedef struct Reader
{
	const char *p;
} Reader;

static void
malformed(const char *detail)
{
	ereport(ERROR,
			(errcode(ERRCODE_DOCREP_BAD_REQUEST),
			 errmsg("replication field \"socket_options\" is not valid"),
			 errdetail_internal("%s", detail),
			 errhint("It is a list such as \"[{keepalive, true}, {nodelay, false}]\"; known are keepalive, nodelay, sndbuf and recbuf.")));
}

static void
skip_spaces(Reader *in)
{
	in->p += strspn(in->p, " \t\r\n");
}

/* Take a mark, if it is next. */
static bool
take(Reader *in, char mark)
{
	skip_spaces(in);
	if (*in->p != mark)
		return false;
	in->p++;
	return true;
}

/* Take a mark that must be next. */
static void
expect(Reader *in, char mark)
{
	if (!take(in, mark))
		malformed(psprintf("A \"%c\" is missing.", mark));
}

/* Take a word of letters, digits and underscores. */
static char *
take_word(Reader *in)
{
	const char *begin;

	skip_spaces(in);
	begin = in->p;
	while (isalnum((unsigned char) *in->p) || *in->p == '_')
		in->p++;
	if (in->p == begin)
		malformed("A name or a value is missing.");
	return pnstrdup(begin, in->p - begin);
}

/* "true" or "false" */
static int
read_switch(const char *name, const char *value)
{
	if (strcmp(value, "true") == 0)
		return 1;
	if (strcmp(value, "false") != 0)
		malformed(psprintf("\"%s\" must be true or false.", name));
	return 0;
}

/* A number of bytes. */
static int
read_size(const char *name, const char *value)
{
	size_t		digits = strspn(value, "0123456789");

	if (value[digits] != '\0' || digits > 8 || atoi(value) < 1 || atoi(value) > LARGEST_BUFFER)
		malformed(psprintf("\"%s\" must be between 1 and %d.", name, LARGEST_BUFFER));
	return atoi(value);
}

/* "{name, value}" */
static void
read_option(Reader *in, DocrepSocketOptions *out)
{
	char	   *name;
	char	   *value;

	expect(in, '{');
	name = take_word(in);
	expect(in, ',');
	value = take_word(in);
	expect(in, '}');
	if (strcmp(name, "keepalive") == 0)
		out->keepalive = read_switch(name, value);
	else if (strcmp(name, "nodelay") == 0)
		out->nodelay = read_switch(name, value);
	else if (strcmp(name, "sndbuf") == 0)
		out->sndbuf = read_size(name, value);
	else if (strcmp(name, "recbuf") == 0)
		out->recbuf = read_size(name, value);
	else
		malformed(psprintf("The option \"%s\" is not known.", name));
}

void
docrep_socket_options_parse(const char *text, DocrepSocketOptions *out)
{
	Reader		in;

	out->keepalive = out->nodelay = out->sndbuf = out->recbuf = -1;
	if (text == NULL)
		return;
	in.p = text;
	expect(&in, '[');
	if (!take(&in, ']'))
	{
		do
			read_option(&in, out);
		while (take(&in, ','));
		expect(&in, ']');
	}
	skip_spaces(&in);
	if (*in.p != '\0')
		malformed("Something follows the list.");
}

/* Set one option, if something is said about it. */
static void
set_option(int fd, int level, int name, int value)
{
	if (value >= 0)
		(void) setsockopt(fd, level, name, &value, sizeof(value));
}

void
docrep_socket_options_apply(const DocrepSocketOptions *options, int fd)
{
	set_option(fd, SOL_SOCKET, SO_KEEPALIVE, options->keepalive);
	set_option(fd, IPPROTO_TCP, TCP_NODELAY, options->nodelay);
	set_option(fd, SOL_SOCKET, SO_SNDBUF, options->sndbuf);
	set_option(fd, SOL_SOCKET, SO_RCVBUF, options->recbuf);
}
