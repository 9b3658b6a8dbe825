/*-------------------------------------------------------------------------
 *
 * couch_scan.c
 *		See couch_scan.h.
 *
 *-------------------------------------------------------------------------
 */
#include "peer/couch_scan.h"

enum ScanState
{
	SCAN_VALUE,					/* a value must come */
	SCAN_FIRST_ELEMENT,			/* ... or the end of the array */
	SCAN_KEY,					/* a key must come */
	SCAN_FIRST_KEY,				/* ... or the end of the object */
	SCAN_COLON,
	SCAN_AFTER,					/* after a value in a container */
	SCAN_DONE,					/* after the top value */
	SCAN_STRING,
	SCAN_ESCAPE,				/* after a backslash */
	SCAN_HEX,					/* after \u */
	SCAN_LITERAL,
	SCAN_MINUS,
	SCAN_ZERO,
	SCAN_INTEGER,
	SCAN_POINT,
	SCAN_FRACTION,
	SCAN_E,
	SCAN_E_SIGN,
	SCAN_EXPONENT
};

void
docrep_cj_scan_init(CouchScan *scan)
{
	memset(scan, 0, sizeof(*scan));
	scan->open = scan->few;
	scan->size = sizeof(scan->few);
	scan->state = SCAN_VALUE;
}

void
docrep_cj_scan_free(CouchScan *scan)
{
	if (scan->open != scan->few)
		pfree(scan->open);
	docrep_cj_scan_init(scan);
}

void
docrep_cj_scan_restart(CouchScan *scan)
{
	scan->state = SCAN_VALUE;
	scan->announced = false;
	scan->key = false;
	scan->depth = 0;
}

static bool
is_blank(char c)
{
	return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

static bool
is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool
is_hex(char c)
{
	return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

static bool
in_object(const CouchScan *scan)
{
	size_t		i = scan->depth - 1;

	return (scan->open[i / 8] >> (i % 8)) & 1;
}

/* A container begins. */
static void
open_container(CouchScan *scan, bool object)
{
	size_t		i = scan->depth++;

	if (i / 8 >= scan->size)
	{
		size_t		size = scan->size * 2;

		if (scan->open == scan->few)
		{
			scan->open = palloc(size);
			memcpy(scan->open, scan->few, sizeof(scan->few));
		}
		else
			scan->open = repalloc(scan->open, size);
		scan->size = size;
	}
	if (object)
		scan->open[i / 8] |= (uint8) (1 << (i % 8));
	else
		scan->open[i / 8] &= (uint8) ~(1 << (i % 8));
	scan->state = object ? SCAN_FIRST_KEY : SCAN_FIRST_ELEMENT;
}

/* A value has ended: what may follow. */
static void
end_value(CouchScan *scan)
{
	scan->key = false;
	scan->state = scan->depth == 0 ? SCAN_DONE : SCAN_AFTER;
}

/* The first byte of a value.  False: none begins so. */
static bool
begin_value(CouchScan *scan, char c)
{
	scan->digits = 1;
	switch (c)
	{
		case '{':
		case '[':
			open_container(scan, c == '{');
			return true;
		case '"':
			scan->state = SCAN_STRING;
			return true;
		case 't':
			scan->literal = "true";
			break;
		case 'f':
			scan->literal = "false";
			break;
		case 'n':
			scan->literal = "null";
			break;
		case '-':
			scan->state = SCAN_MINUS;
			return true;
		default:
			if (!is_digit(c))
				return false;
			scan->state = c == '0' ? SCAN_ZERO : SCAN_INTEGER;
			return true;
	}
	scan->state = SCAN_LITERAL;
	return true;
}

/*
 * A byte of a number.  Returns false if the number ended before it, with
 * state SCAN_AFTER or SCAN_DONE; an end where none may be leaves the state.
 */
static bool
take_of_number(CouchScan *scan, char c)
{
	bool		may_end = false;
	int			next = -1;

	switch (scan->state)
	{
		case SCAN_MINUS:
			next = c == '0' ? SCAN_ZERO : is_digit(c) ? SCAN_INTEGER : -1;
			break;
		case SCAN_ZERO:
		case SCAN_INTEGER:
			may_end = true;
			if (is_digit(c) && scan->state == SCAN_INTEGER)
				next = SCAN_INTEGER;
			else if (c == '.')
				next = SCAN_POINT;
			else if (c == 'e' || c == 'E')
				next = SCAN_E;
			break;
		case SCAN_POINT:
			next = is_digit(c) ? SCAN_FRACTION : -1;
			break;
		case SCAN_FRACTION:
			may_end = true;
			next = is_digit(c) ? SCAN_FRACTION : c == 'e' || c == 'E' ? SCAN_E : -1;
			break;
		case SCAN_E:
			next = c == '+' || c == '-' ? SCAN_E_SIGN : is_digit(c) ? SCAN_EXPONENT : -1;
			break;
		case SCAN_E_SIGN:
			next = is_digit(c) ? SCAN_EXPONENT : -1;
			break;
		case SCAN_EXPONENT:
			may_end = true;
			next = is_digit(c) ? SCAN_EXPONENT : -1;
			break;
	}
	if (next >= 0)
	{
		scan->state = next;
		return true;
	}
	if (may_end)
		end_value(scan);
	return false;
}

bool
docrep_cj_scan_complete(const CouchScan *scan)
{
	if (scan->depth > 0)
		return false;
	return scan->state == SCAN_DONE || scan->state == SCAN_ZERO ||
		scan->state == SCAN_INTEGER || scan->state == SCAN_FRACTION ||
		scan->state == SCAN_EXPONENT;
}

/* What a step of the scan leads to. */
typedef enum Step
{
	STEP_ON,
	STEP_BEGIN,
	STEP_FINISH,
	STEP_BAD
} Step;

/* Between values: punctuation, blanks, and where the next begins. */
static Step
scan_between(CouchScan *scan, const char **p, size_t limit)
{
	char		c = **p;

	if (is_blank(c))
	{
		(*p)++;
		return STEP_ON;
	}
	switch (scan->state)
	{
		case SCAN_FIRST_ELEMENT:
		case SCAN_FIRST_KEY:
		case SCAN_AFTER:
			if (c == (in_object(scan) ? '}' : ']'))
			{
				(*p)++;
				scan->depth--;
				end_value(scan);
				return STEP_FINISH;
			}
			if (scan->state != SCAN_AFTER)
				break;
			if (c != ',')
				return STEP_BAD;
			(*p)++;
			scan->state = in_object(scan) ? SCAN_KEY : SCAN_VALUE;
			return STEP_ON;
		case SCAN_COLON:
			if (c != ':')
				return STEP_BAD;
			(*p)++;
			scan->state = SCAN_VALUE;
			return STEP_ON;
		case SCAN_DONE:
			return STEP_BAD;
		default:
			break;
	}

	/* a value or key begins */
	scan->key = scan->state == SCAN_KEY || scan->state == SCAN_FIRST_KEY;
	if (scan->depth <= limit && !scan->announced)
	{
		scan->announced = true;
		return STEP_BEGIN;
	}
	scan->announced = false;
	if (scan->key && c != '"')
		return STEP_BAD;
	(*p)++;
	return begin_value(scan, c) ? STEP_ON : STEP_BAD;
}

/* In a string, up to its end or the end of the text. */
static Step
scan_string(CouchScan *scan, const char **p, const char *end)
{
	const char *q = *p;

	while (q < end && *q != '"' && *q != '\\' && (unsigned char) *q >= ' ')
		q++;
	*p = q;
	if (q == end)
		return STEP_ON;
	if ((unsigned char) *q < ' ')
		return STEP_BAD;
	*p = q + 1;
	if (*q == '\\')
	{
		scan->state = SCAN_ESCAPE;
		return STEP_ON;
	}
	if (scan->key)
		scan->state = SCAN_COLON;
	else
		end_value(scan);
	return STEP_FINISH;
}

/* After a backslash. */
static Step
scan_escape(CouchScan *scan, char c)
{
	if (scan->state == SCAN_HEX)
	{
		if (!is_hex(c))
			return STEP_BAD;
		if (++scan->digits == 4)
			scan->state = SCAN_STRING;
		return STEP_ON;
	}
	scan->digits = 0;
	scan->state = c == 'u' ? SCAN_HEX : SCAN_STRING;
	return c != '\0' && strchr("\"\\/bfnrtu", c) != NULL ? STEP_ON : STEP_BAD;
}

CouchScanResult
docrep_cj_scan(CouchScan *scan, const char **p, const char *end, size_t limit)
{
	while (*p < end)
	{
		Step		step = STEP_ON;

		switch (scan->state)
		{
			case SCAN_STRING:
				step = scan_string(scan, p, end);
				break;
			case SCAN_ESCAPE:
			case SCAN_HEX:
				step = scan_escape(scan, *(*p)++);
				break;
			case SCAN_LITERAL:
				if (*(*p)++ != scan->literal[scan->digits++])
					return COUCHSCAN_BAD;
				if (scan->literal[scan->digits] == '\0')
				{
					end_value(scan);
					step = STEP_FINISH;
				}
				break;
			default:
				if (scan->state < SCAN_STRING)
					step = scan_between(scan, p, limit);
				else if (take_of_number(scan, **p))
					(*p)++;
				else
					step = scan->state >= SCAN_STRING ? STEP_BAD : STEP_FINISH;
				break;
		}
		if (step == STEP_BAD)
			return COUCHSCAN_BAD;
		if (step == STEP_BEGIN)
			return COUCHSCAN_BEGIN;
		if (step == STEP_FINISH && scan->depth <= limit)
			return COUCHSCAN_FINISH;
	}
	return COUCHSCAN_MORE;
}
