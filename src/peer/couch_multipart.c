/*-------------------------------------------------------------------------
 *
 * couch_multipart.c
 *		Multipart bodies as they arrive.  See couch_json.h.
 *
 * A boundary is CRLF, two hyphens and the boundary's text.  As CR cannot be in that
 * text, a partial match that fails can only begin anew at the byte that broke
 * it; so what was matched need not be kept, the boundary itself has those bytes.
 *
 *-------------------------------------------------------------------------
 */
#include "peer/couch_json.h"

#define MAX_BOUNDARY	200
#define MAX_HEADERS		(32 * 1024)

typedef enum MultipartState
{
	IN_PREAMBLE,
	IN_BODY,
	AFTER_BOUNDARY,				/* "--" or the end of the line */
	IN_HEADERS,
	AT_END,
	BROKEN
} MultipartState;

struct Multipart
{
	MultipartState state;
	char		boundary[MAX_BOUNDARY + 5]; /* CR LF - - and its text */
	size_t		blen;
	size_t		matched;		/* bytes of it that came last */
	size_t		unseen;			/* ... of which so many are as if they had come */
	char	   *headers;		/* of the current part, lines ended by NUL */
	size_t		hlen;
	int			hyphens;		/* that followed a boundary */
	bool		blank;			/* a blank followed it */
};

Multipart *
docrep_multipart_new(const char *boundary)
{
	Multipart  *m = palloc(sizeof(Multipart));
	size_t		len = strlen(boundary);

	memset(m, 0, sizeof(*m));
	m->headers = palloc(MAX_HEADERS + 1);
	if (len == 0 || len > MAX_BOUNDARY || strpbrk(boundary, "\r\n") != NULL)
	{
		m->state = BROKEN;
		return m;
	}
	memcpy(m->boundary, "\r\n--", 4);
	memcpy(m->boundary + 4, boundary, len);
	m->blen = len + 4;
	m->matched = m->unseen = 2;
	return m;
}

void
docrep_multipart_free(Multipart *m)
{
	pfree(m->headers);
	pfree(m);
}

/*
 * Content up to the next boundary.  Content found goes to *data; *ended: the
 * boundary has come.
 */
static void
scan_content(Multipart *m, const char **in, size_t *inlen, const char **data, size_t *datalen,
			 bool *ended)
{
	const char *p = *in;
	const char *end = p + *inlen;

	*datalen = 0;
	*ended = false;
	if (m->matched == 0)
	{
		const char *cr = p;

		*data = p;
		while ((cr = memchr(cr, '\r', (size_t) (end - cr))) != NULL &&
			   cr + 1 < end && cr[1] != '\n')
			cr++;
		p = cr != NULL ? cr : end;
		*datalen = (size_t) (p - *data);
	}
	if (*datalen == 0)
	{
		while (p < end && m->matched < m->blen && *p == m->boundary[m->matched])
		{
			m->matched++;
			p++;
		}
		if (m->matched == m->blen)
		{
			*ended = true;
			m->matched = m->unseen = 0;
		}
		else if (p < end && m->matched > 0)
		{
			/* it was none: what seemed to be its beginning is content */
			*data = m->boundary + m->unseen;
			*datalen = m->matched - m->unseen;
			m->matched = m->unseen = 0;
		}
	}
	*in = p;
	*inlen = (size_t) (end - p);
}

/* A line break behind the boundary, or the hyphens of the last one. */
static MultipartEvent
scan_after_boundary(Multipart *m, const char **in, size_t *inlen)
{
	for (; *inlen > 0; (*in)++, (*inlen)--)
	{
		char		c = **in;

		if (c == '-' && !m->blank)
		{
			if (++m->hyphens < 2)
				continue;
			m->state = AT_END;
			return MULTIPART_END;
		}
		if (m->hyphens > 0 || (c != ' ' && c != '\t' && c != '\r' && c != '\n'))
		{
			m->state = BROKEN;
			return MULTIPART_BAD;
		}
		m->blank = true;
		if (c == '\n')
		{
			(*in)++;
			(*inlen)--;
			m->state = IN_HEADERS;
			m->hlen = 0;
			return MULTIPART_MORE;
		}
	}
	return MULTIPART_MORE;
}

/* Cut the headers that came into lines. */
static void
end_headers(Multipart *m)
{
	for (size_t i = 0; i < m->hlen; i++)
	{
		if (m->headers[i] == '\n')
		{
			m->headers[i] = '\0';
			if (i > 0 && m->headers[i - 1] == '\r')
				m->headers[i - 1] = '\0';
		}
	}
	m->headers[m->hlen] = '\0';
}

/* Header lines up to the empty one. */
static MultipartEvent
scan_headers(Multipart *m, const char **in, size_t *inlen)
{
	while (*inlen > 0)
	{
		char		c = **in;
		bool		empty;

		if (m->hlen >= MAX_HEADERS || c == '\0')
		{
			m->state = BROKEN;
			return MULTIPART_BAD;
		}
		(*in)++;
		(*inlen)--;
		m->headers[m->hlen++] = c;
		if (c != '\n')
			continue;
		empty = m->hlen == 1 || m->headers[m->hlen - 2] == '\n' ||
			(m->headers[m->hlen - 2] == '\r' &&
			 (m->hlen == 2 || m->headers[m->hlen - 3] == '\n'));
		if (!empty)
			continue;
		end_headers(m);
		m->state = IN_BODY;
		/* the empty line may be the boundary's line break, too */
		m->matched = m->unseen = 2;
		return MULTIPART_HEADERS;
	}
	return MULTIPART_MORE;
}

MultipartEvent
docrep_multipart_feed(Multipart *m, const char **in, size_t *inlen, const char **data,
					  size_t *datalen)
{
	MultipartEvent event = MULTIPART_MORE;
	bool		ended;

	*datalen = 0;
	while (*inlen > 0)
	{
		switch (m->state)
		{
			case IN_PREAMBLE:
			case IN_BODY:
				scan_content(m, in, inlen, data, datalen, &ended);
				if (m->state == IN_PREAMBLE)
					*datalen = 0;
				else if (*datalen > 0)
					return MULTIPART_DATA;
				if (!ended)
					continue;
				event = m->state == IN_BODY ? MULTIPART_PART_END : MULTIPART_MORE;
				m->state = AFTER_BOUNDARY;
				m->hyphens = 0;
				m->blank = false;
				break;
			case AFTER_BOUNDARY:
				event = scan_after_boundary(m, in, inlen);
				break;
			case IN_HEADERS:
				event = scan_headers(m, in, inlen);
				break;
			case AT_END:
				*in += *inlen;
				*inlen = 0;
				break;
			case BROKEN:
				return MULTIPART_BAD;
		}
		if (event != MULTIPART_MORE)
			return event;
	}
	return m->state == AT_END ? MULTIPART_END : m->state == BROKEN ? MULTIPART_BAD : MULTIPART_MORE;
}

static char
lower(char c)
{
	return c >= 'A' && c <= 'Z' ? (char) (c - 'A' + 'a') : c;
}

/* Does text begin with a prefix of lower case, in any case? */
static bool
begins_with(const char *text, const char *prefix)
{
	for (; *prefix != '\0'; text++, prefix++)
	{
		if (lower(*text) != lower(*prefix))
			return false;
	}
	return true;
}

const char *
docrep_multipart_header(Multipart *m, const char *name)
{
	size_t		namelen = strlen(name);
	char	   *line = m->headers;
	char	   *end = m->headers + m->hlen;

	for (; line < end; line += strlen(line) + 1)
	{
		char	   *value = line + namelen;
		size_t		len;

		if (!begins_with(line, name) || *value != ':')
			continue;
		value++;
		while (*value == ' ' || *value == '\t')
			value++;
		for (len = strlen(value); len > 0 && (value[len - 1] == ' ' || value[len - 1] == '\t'); len--)
			value[len - 1] = '\0';
		return value;
	}
	return NULL;
}

/* A parameter's value, quoted or not, into out. */
static bool
take_parameter(const char *p, char *out, size_t size)
{
	bool		quoted = *p == '"';
	size_t		len = 0;

	for (p += quoted ? 1 : 0; *p != '\0'; p++)
	{
		if (quoted ? *p == '"' : strchr("; \t", *p) != NULL)
			break;
		if (quoted && *p == '\\' && p[1] != '\0')
			p++;
		if (len + 1 >= size || (unsigned char) *p < ' ')
			return false;
		out[len++] = *p;
	}
	out[len] = '\0';
	return len > 0 && (!quoted || *p == '"');
}

bool
docrep_multipart_boundary(const char *content_type, char *out, size_t size)
{
	const char *p = content_type;
	bool		quoted = false;

	while (*p == ' ' || *p == '\t')
		p++;
	if (!begins_with(p, "multipart/"))
		return false;
	for (; *p != '\0'; p++)
	{
		if (*p == '"')
			quoted = !quoted;
		else if (quoted && *p == '\\' && p[1] != '\0')
			p++;
		if (quoted || *p != ';')
			continue;
		p++;
		while (*p == ' ' || *p == '\t')
			p++;
		if (begins_with(p, "boundary="))
			return take_parameter(p + strlen("boundary="), out, size);
		p--;
	}
	return false;
}
