/*-------------------------------------------------------------------------
 *
 * http_callbacks.c
 *		Callbacks of libcurl about what arrives and what is sent, and their buffers.
 *
 * Nothing in this file raises or pallocs: see http_curl.c.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "peer/http_internal.h"
#include "utils/timestamp.h"

/* ---------- buffers ---------- */

/* Append; false if it would hold more than max, or there is no memory. */
bool
docrep_http_buffer_append(HttpBuffer *buffer, const char *data, Size len, Size max)
{
	Size		used = buffer->end - buffer->start;

	if (used + len > max)
		return false;
	if (buffer->end + len > buffer->size)
	{
		if (used > 0 && buffer->start > 0)
			memmove(buffer->data, buffer->data + buffer->start, used);
		buffer->start = 0;
		buffer->end = used;
	}
	if (used + len > buffer->size)
	{
		Size		size = Max(buffer->size * 2, 16 * 1024);
		char	   *larger;

		while (size < used + len)
			size *= 2;
		larger = realloc(buffer->data, size);
		if (larger == NULL)
			return false;
		buffer->data = larger;
		buffer->size = size;
	}
	memcpy(buffer->data + buffer->end, data, len);
	buffer->end += len;
	return true;
}

void
docrep_http_buffer_free(HttpBuffer *buffer)
{
	free(buffer->data);
	memset(buffer, 0, sizeof(HttpBuffer));
}

/* ---------- what arrives ---------- */

/* The value of a header line if it has this name, else NULL.  *len: of the value. */
static const char *
header_value(const char *line, Size size, const char *name, Size *len)
{
	Size		n = strlen(name);
	const char *value = line + n + 1;

	if (size <= n || line[n] != ':' || pg_strncasecmp(line, name, n) != 0)
		return NULL;
	*len = size - n - 1;
	while (*len > 0 && (*value == ' ' || *value == '\t'))
		value++, (*len)--;
	while (*len > 0 && (value[*len - 1] == '\r' || value[*len - 1] == '\n' ||
						value[*len - 1] == ' ' || value[*len - 1] == '\t'))
		(*len)--;
	return value;
}

/* Copy a header's value; one that does not fit or holds NUL counts as empty. */
static void
keep_value(char *to, Size size, const char *value, Size len)
{
	to[0] = '\0';
	if (len >= size || memchr(value, 0, len) != NULL)
		return;
	memcpy(to, value, len);
	to[len] = '\0';
}

/* Note that a cookie came, and how long AuthSession lives. */
static void
keep_cookie(HttpHeaders *h, const char *value, Size len)
{
	char		text[1024];
	bool		session = len >= 12 && strncmp(value, "AuthSession=", 12) == 0;
	char	   *age;

	h->cookie = true;
	/* what a client may keep for a while ends with the attributes */
	if (len >= sizeof(text))
	{
		value += len - (sizeof(text) - 1);
		len = sizeof(text) - 1;
	}
	memcpy(text, value, len);
	text[len] = '\0';
	for (char *p = text; *p != '\0'; p++)
		*p = pg_ascii_tolower((unsigned char) *p);
	age = strstr(text, "max-age=");
	if (age != NULL && (session || h->cookie_age == 0))
		h->cookie_age = atoi(age + 8);
}

size_t
docrep_http_on_header(char *line, size_t size, size_t count, void *arg)
{
	HttpTransfer *t = arg;
	HttpHeaders *h = &t->headers;
	Size		n = size * count;
	const char *value;
	Size		len;

	t->last_byte = GetCurrentTimestamp();
	docrep_http_touch(t);
	if (h->complete)
		return n;				/* of a trailer */
	if (h->bytes == 0)
		t->window_start = t->last_byte;
	t->window_bytes += n;
	h->bytes += n;
	if (h->bytes > HTTP_MAX_HEADERS)
	{
		t->headers_too_large = true;
		return 0;
	}
	if (n >= 5 && strncmp(line, "HTTP/", 5) == 0)
	{
		Size		bytes = h->bytes;
		const char *space = memchr(line, ' ', n);

		memset(h, 0, sizeof(HttpHeaders));
		h->length = -1;
		h->bytes = bytes;
		if (space != NULL)
			for (space++; space < line + n && *space >= '0' && *space <= '9' &&
				 h->status < 1000; space++)
				h->status = h->status * 10 + (*space - '0');
	}
	else if (n <= 2 && (line[0] == '\r' || line[0] == '\n'))
		h->complete = h->status >= 200;
	else if ((value = header_value(line, n, "Content-Type", &len)) != NULL)
		keep_value(h->type, sizeof(h->type), value, len);
	else if ((value = header_value(line, n, "Content-Encoding", &len)) != NULL)
		keep_value(h->encoding, sizeof(h->encoding), value, len);
	else if ((value = header_value(line, n, "Content-Length", &len)) != NULL)
	{
		char		number[32];

		keep_value(number, sizeof(number), value, len);
		h->length = number[0] ? strtoll(number, NULL, 10) : -1;
	}
	else if ((value = header_value(line, n, "Set-Cookie", &len)) != NULL)
		keep_cookie(h, value, len);
	else if ((value = header_value(line, n, "WWW-Authenticate", &len)) != NULL)
		h->basic = h->basic || (len >= 5 && pg_strncasecmp(value, "Basic", 5) == 0);
	return n;
}

size_t
docrep_http_on_body(char *data, size_t size, size_t count, void *arg)
{
	HttpTransfer *t = arg;
	Size		n = size * count;
	HttpBuffer *in = &t->in;

	t->last_byte = GetCurrentTimestamp();
	docrep_http_touch(t);
	t->window_bytes += n;
	/* more than is kept of what nobody will read in full */
	if (t->judged && t->verdict != HTTP_STANDS)
		return n;
	if ((t->in_use && in->end + n > in->size) ||
		(in->end - in->start > 0 && in->end - in->start + n > HTTP_BUFFER))
	{
		t->in_paused = true;
		t->window_bytes -= n;
		return CURL_WRITEFUNC_PAUSE;
	}
	return docrep_http_buffer_append(in, data, n, SIZE_MAX / 4) ? n : 0;
}

/* ---------- what is sent ---------- */

size_t
docrep_http_on_read(char *to, size_t size, size_t count, void *arg)
{
	HttpTransfer *t = arg;
	Size		n = Min(size * count, t->out.end - t->out.start);

	t->last_byte = GetCurrentTimestamp();
	if (n == 0)
	{
		if (t->out_end)
			return 0;
		t->out_paused = true;
		return CURL_READFUNC_PAUSE;
	}
	memcpy(to, t->out.data + t->out.start, n);
	t->out.start += n;
	return n;
}

/* curl wants to send again from the beginning: a connection it had kept was dead. */
int
docrep_http_on_seek(void *arg, curl_off_t offset, int origin)
{
	HttpTransfer *t = arg;

	if (origin != SEEK_SET || offset != 0 || t->out_lost > 0)
		return CURL_SEEKFUNC_CANTSEEK;
	t->out.start = 0;
	return CURL_SEEKFUNC_OK;
}
