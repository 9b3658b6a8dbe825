/*-------------------------------------------------------------------------
 *
 * selector_path.c
 *		Names of fields: dots, escaped dots, indexes of arrays.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <ctype.h>

#include "filter/selector_internal.h"
#include "store/errcodes.h"

/*
 * A name as an index of an array (an optional sign and digits, as Erlang reads
 * integers); -1: it is none, or negative, or no array is that long.
 */
int64
docrep_selector_step_index(const char *name, int len)
{
	int64		result = 0;
	int			i = 0;

	if (len > 1 && (name[0] == '+' || name[0] == '-'))
		i = 1;
	if (i == len)
		return -1;
	for (; i < len; i++)
	{
		if (!isdigit((unsigned char) name[i]))
			return -1;
		if (result <= JB_CMASK)
			result = result * 10 + (name[i] - '0');
	}
	if (name[0] == '-' && result != 0)
		return -1;
	return result;
}

/*
 * Add a step to a path: the name without its backslashes.
 */
static void
add_step(SelectorNode *node, const char *path, int pathlen, const char *part, int len)
{
	SelectorStep *step = &node->steps[node->nsteps++];

	if (len == 0)
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_BAD_REQUEST),
				 errmsg("selector: field name \"%.*s\" has an empty part", pathlen, path),
				 errhint("A dot that belongs to a name is written \"\\\\.\".")));
	step->name = palloc(len + 1);
	step->len = 0;
	for (int i = 0; i < len; i++)
		if (part[i] != '\\')
			step->name[step->len++] = part[i];
	step->name[step->len] = '\0';
	step->index = docrep_selector_step_index(step->name, step->len);
}

/*
 * Give a condition its path: parts with dots between them.  A dot behind a
 * backslash belongs to the name, and backslashes are taken out, all of them, as
 * CouchDB does.  An empty path is the value itself.
 */
void
docrep_selector_set_path(SelectorNode *node, const char *path, int len)
{
	int			parts = 1;
	int			start = 0;

	node->raw = (len == 3 && memcmp(path, "_id", 3) == 0);
	node->special = SPECIAL_NONE;
	node->nsteps = 0;
	node->steps = NULL;
	if (len == 0)
		return;

	for (int i = 0; i < len; i++)
		if (path[i] == '.')
			parts++;
	node->steps = palloc(parts * sizeof(SelectorStep));
	for (int i = 0; i <= len; i++)
	{
		if (i < len && (path[i] != '.' || (i > 0 && path[i - 1] == '\\')))
			continue;
		add_step(node, path, len, path + start, i - start);
		start = i + 1;
	}

	if (strcmp(node->steps[0].name, "_id") == 0)
		node->special = SPECIAL_ID;
	else if (strcmp(node->steps[0].name, "_rev") == 0)
		node->special = SPECIAL_REV;
	else if (strcmp(node->steps[0].name, "_deleted") == 0)
		node->special = SPECIAL_DELETED;
	else if (strcmp(node->steps[0].name, "_attachments") == 0)
		node->special = SPECIAL_ATTACHMENTS;
}
