/*-------------------------------------------------------------------------
 *
 * filter_paths.c
 *		Ids that pass, some of them by their beginning.
 *
 * A path is an id, or ends with a "*" that stands for anything and follows "/"
 * or "-": "orders/2024-*".  These are what RavenDB's hub and sink replication
 * knows, so that what is meant there can be written here.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "filter/filter_paths.h"
#include "store/errcodes.h"

static int
compare_texts(const void *a, const void *b)
{
	return strcmp(*(const char *const *) a, *(const char *const *) b);
}

/* Is it a beginning?  DR400 if it is neither that nor an id. */
static bool
is_prefix(const char *path)
{
	size_t		len = strlen(path);

	if (len == 0)
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_BAD_REQUEST),
				 errmsg("\"paths\" must not contain an empty string")));
	if (path[len - 1] != '*')
		return false;
	if (len < 2 || (path[len - 2] != '/' && path[len - 2] != '-'))
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_BAD_REQUEST),
				 errmsg("the \"*\" at the end of the path \"%s\" must follow \"/\" or \"-\"", path)));
	return true;
}

/* Leave out prefixes that begin with another one, and repeated ones. */
static void
drop_covered(FilterPaths *paths)
{
	int			kept = 0;

	for (int i = 0; i < paths->nprefixes; i++)
	{
		const char *last = kept > 0 ? paths->prefixes[kept - 1] : NULL;

		if (last == NULL || strncmp(paths->prefixes[i], last, strlen(last)) != 0)
			paths->prefixes[kept++] = paths->prefixes[i];
	}
	paths->nprefixes = kept;
}

FilterPaths *
docrep_paths_compile(const char *const *texts, int n)
{
	FilterPaths *paths = palloc0(sizeof(FilterPaths));

	paths->ids = palloc(Max(n, 1) * sizeof(char *));
	paths->prefixes = palloc(Max(n, 1) * sizeof(char *));
	for (int i = 0; i < n; i++)
	{
		if (is_prefix(texts[i]))
			paths->prefixes[paths->nprefixes++] = pnstrdup(texts[i], strlen(texts[i]) - 1);
		else
			paths->ids[paths->nids++] = texts[i];
	}
	qsort(paths->ids, paths->nids, sizeof(char *), compare_texts);
	qsort(paths->prefixes, paths->nprefixes, sizeof(char *), compare_texts);
	drop_covered(paths);
	return paths;
}

/* Does an id begin with one of the prefixes?  The last one that is not behind it would be it. */
static bool
has_prefix(const FilterPaths *paths, const char *id)
{
	int			low = 0;
	int			high = paths->nprefixes;

	while (low < high)
	{
		int			middle = (low + high) / 2;

		if (strcmp(paths->prefixes[middle], id) <= 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low > 0 && strncmp(paths->prefixes[low - 1], id, strlen(paths->prefixes[low - 1])) == 0;
}

bool
docrep_paths_match(const FilterPaths *paths, const char *id)
{
	if (has_prefix(paths, id))
		return true;
	return bsearch(&id, paths->ids, paths->nids, sizeof(char *), compare_texts) != NULL;
}
