/*-------------------------------------------------------------------------
 *
 * couch_split.c
 *		Elements of a stream of JSON as they arrive.  See couch_json.h.
 *
 *-------------------------------------------------------------------------
 */
#include "peer/couch_json.h"
#include "peer/couch_scan.h"

#define INITIAL_SIZE	1024

typedef struct Buffer
{
	char	   *data;
	size_t		len;
	size_t		size;
} Buffer;

struct CouchSplit
{
	char	   *array;			/* the member's name, or NULL */
	bool		lines;
	size_t		max;
	size_t		depth;			/* containers around an element */
	CouchScan	scan;
	bool		in_array;
	bool		in_element;
	bool		expected;		/* the value that comes belongs to the key "array" */
	bool		complete;		/* the top value ended */
	size_t		key_at;			/* in rest */
	Buffer		element;		/* the part of an element that came earlier */
	Buffer		rest;
	CouchSplitResult stopped;	/* BAD or TOO_LARGE: nothing more is taken */
	const char *problem;
};

static void
init_buffer(Buffer *buffer)
{
	buffer->data = palloc(INITIAL_SIZE);
	buffer->len = 0;
	buffer->size = INITIAL_SIZE;
}

/* Append, unless it would be longer than max. */
static bool
append(Buffer *buffer, const char *data, size_t len, size_t max)
{
	if (len > max || buffer->len > max - len)
		return false;
	if (buffer->size - buffer->len < len)
	{
		buffer->size = Max(Min(buffer->size * 2, max), buffer->len + len);
		buffer->data = repalloc(buffer->data, buffer->size);
	}
	if (len > 0)
		memcpy(buffer->data + buffer->len, data, len);
	buffer->len += len;
	return true;
}

CouchSplit *
docrep_cj_split_new(const char *array, bool lines, size_t max)
{
	CouchSplit *split = palloc(sizeof(CouchSplit));

	memset(split, 0, sizeof(*split));
	if (array != NULL)
	{
		split->array = palloc(strlen(array) + 1);
		memcpy(split->array, array, strlen(array) + 1);
	}
	split->lines = lines;
	split->max = max;
	split->depth = lines ? 0 : array != NULL ? 2 : 1;
	docrep_cj_scan_init(&split->scan);
	init_buffer(&split->element);
	init_buffer(&split->rest);
	docrep_cj_split_reset(split);
	return split;
}

void
docrep_cj_split_free(CouchSplit *split)
{
	docrep_cj_scan_free(&split->scan);
	pfree(split->element.data);
	pfree(split->rest.data);
	if (split->array != NULL)
		pfree(split->array);
	pfree(split);
}

void
docrep_cj_split_reset(CouchSplit *split)
{
	docrep_cj_scan_restart(&split->scan);
	split->in_array = split->array == NULL;
	split->in_element = false;
	split->expected = false;
	split->complete = false;
	split->element.len = 0;
	split->rest.len = 0;
	split->stopped = COUCHSPLIT_MORE;
	split->problem = NULL;
}

static CouchSplitResult
stop(CouchSplit *split, CouchSplitResult result, const char *problem)
{
	split->stopped = result;
	split->problem = problem;
	return result;
}

/* Keep what lies outside of the array. */
static bool
keep(CouchSplit *split, const char *from, const char *to)
{
	return split->in_array || append(&split->rest, from, (size_t) (to - from), split->max);
}

/* Is the key that was kept last the array's name? */
static bool
is_array_key(const CouchSplit *split)
{
	CouchJson	key = {CJ_STRING, split->rest.data + split->key_at,
	split->rest.len - split->key_at};

	return docrep_cj_equals(&key, split->array);
}

/*
 * A value or key begins at p; what was seen since *mark is kept.  Returns
 * what is wrong, or NULL.
 */
static const char *
value_begins(CouchSplit *split, const char **mark, const char *p)
{
	size_t		depth = split->scan.depth;

	if (split->in_array && depth == split->depth)
	{
		split->in_element = true;
		split->element.len = 0;
		*mark = p;
		return NULL;
	}
	if (depth == 0)
	{
		split->rest.len = 0;
		*mark = p;
		if (*p != (split->array != NULL ? '{' : '['))
			return split->array != NULL ? "it is no object" : "it is no array";
	}
	if (split->array == NULL || depth != 1)
		return NULL;
	if (!keep(split, *mark, p))
		return "";
	*mark = p;
	if (split->scan.key)
		split->key_at = split->rest.len;
	else if (split->expected && *p == '[')
	{
		if (!append(&split->rest, "[]", 2, split->max))
			return "";
		split->in_array = true;
	}
	return NULL;
}

/* A value or key that is no element ended at p. */
static bool
value_ends(CouchSplit *split, const char **mark, const char *p)
{
	if (!keep(split, *mark, p))
		return false;
	*mark = p;
	if (split->scan.depth == 1 && split->array != NULL)
	{
		if (split->scan.key)
			split->expected = is_array_key(split);
		else
			split->in_array = false;
	}
	return true;
}

/* The element that ends at p and whose last part began at mark. */
static CouchSplitResult
take_element(CouchSplit *split, const char *mark, const char *p, CouchJson *element)
{
	size_t		len = (size_t) (p - mark);

	split->in_element = false;
	if (split->element.len == 0)
	{
		if (len > split->max)
			return stop(split, COUCHSPLIT_TOO_LARGE, "an element of it is too large");
		*element = docrep_cj_checked(mark, len);
	}
	else
	{
		if (!append(&split->element, mark, len, split->max))
			return stop(split, COUCHSPLIT_TOO_LARGE, "an element of it is too large");
		*element = docrep_cj_checked(split->element.data, split->element.len);
	}
	if (split->lines)
		docrep_cj_scan_restart(&split->scan);
	return COUCHSPLIT_ELEMENT;
}

CouchSplitResult
docrep_cj_split(CouchSplit *split, const char **data, size_t *len, CouchJson *element)
{
	const char *mark = *data;
	const char *p = *data;
	const char *end = p + *len;

	if (split->stopped != COUCHSPLIT_MORE)
		return split->stopped;
	for (;;)
	{
		CouchScanResult result = docrep_cj_scan(&split->scan, &p, end, split->depth);
		const char *problem = NULL;

		*data = p;
		*len = (size_t) (end - p);
		if (result == COUCHSCAN_BAD)
			return stop(split, COUCHSPLIT_BAD, "it is no JSON");
		if (result == COUCHSCAN_MORE)
			break;
		if (result == COUCHSCAN_BEGIN)
			problem = value_begins(split, &mark, p);
		else if (split->in_element && split->scan.depth == split->depth)
			return take_element(split, mark, p, element);
		else if (!value_ends(split, &mark, p))
			problem = "";
		if (problem != NULL && *problem != '\0')
			return stop(split, COUCHSPLIT_BAD, problem);
		if (problem != NULL)
			return stop(split, COUCHSPLIT_TOO_LARGE, "what it says beside its elements is too large");
		split->complete = !split->lines && docrep_cj_scan_complete(&split->scan);
	}

	/* the text ends here for now: keep the begun element, or what is no element */
	if (split->in_element)
	{
		if (!append(&split->element, mark, (size_t) (p - mark), split->max))
			return stop(split, COUCHSPLIT_TOO_LARGE, "an element of it is too large");
	}
	else if (!split->complete && !keep(split, mark, p))
		return stop(split, COUCHSPLIT_TOO_LARGE, "what it says beside its elements is too large");
	return split->complete ? COUCHSPLIT_END : COUCHSPLIT_MORE;
}

CouchJson
docrep_cj_split_rest(CouchSplit *split)
{
	CouchJson	none = {CJ_NONE, NULL, 0};

	if (!split->complete || split->rest.len == 0 || split->rest.data[0] != '{')
		return none;
	return docrep_cj_checked(split->rest.data, split->rest.len);
}

const char *
docrep_cj_split_problem(const CouchSplit *split)
{
	return split->problem;
}

size_t
docrep_cj_split_held(const CouchSplit *split)
{
	return split->in_element ? split->element.len : 0;
}
