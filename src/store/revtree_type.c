/*-------------------------------------------------------------------------
 *
 * revtree_type.c
 *		The SQL type docrep.revtree: input and output.
 *
 * The text form is a line for each leaf, winner first, separated by "; ".  A
 * line names the revisions from the leaf to its root:
 *
 *		4-d <- 3-c <- 2-b <- 1-a; 3-x(deleted) <- 2-b^1
 *
 * "2-b^1" ends a line whose further ancestors are those of 2-b on line 1.
 * "+25 older" ends a line whose further ancestors are in the trunk.  An
 * identifier with other characters than ASCII letters, digits, ".", "_" and
 * "-" is quoted as "2-"..."", with a backslash before quotes and backslashes.
 * Nothing is lost: pg_dump relies on this form.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "libpq/pqformat.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"

#include "store/errcodes.h"
#include "store/rev_type.h"

PG_FUNCTION_INFO_V1(docrep_revtree_in);
PG_FUNCTION_INFO_V1(docrep_revtree_out);
PG_FUNCTION_INFO_V1(docrep_revtree_recv);
PG_FUNCTION_INFO_V1(docrep_revtree_send);

/* a tree being read from text */
typedef struct TreeParser
{
	const char *p;				/* what is to be read */
	uint8	   *buf;			/* where identifiers go, large enough for all */
	RevTree    *tree;
	int32	   *leaves;			/* the leaf of each line so far */
	int32		nlines;
	RevNode    *line;			/* the line being read, newest first */
	int32		line_cap;
} TreeParser;

static bool
is_plain(unsigned char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') ||
		(c >= 'A' && c <= 'Z') || c == '.' || c == '_' || c == '-';
}

/*
 * Append a revision, quoted if it has to be.
 */
static void
print_rev(StringInfo out, const Rev *rev)
{
	char		id[REV_TEXT_SIZE];
	size_t		len = docrep_rev_print_id(rev, id);
	bool		plain = true;

	for (size_t i = 0; i < len; i++)
		plain &= is_plain((unsigned char) id[i]);
	appendStringInfo(out, "%u-", rev->gen);
	if (plain)
	{
		appendBinaryStringInfo(out, id, (int) len);
		return;
	}
	appendStringInfoChar(out, '"');
	for (size_t i = 0; i < len; i++)
	{
		if (id[i] == '"' || id[i] == '\\')
			appendStringInfoChar(out, '\\');
		appendStringInfoChar(out, id[i]);
	}
	appendStringInfoChar(out, '"');
}

/*
 * Append the line of a leaf, the number-th.  line_of says for each node on
 * which line it is, 0 for none yet.
 */
static void
print_line(StringInfo out, const RevTree *tree, int32 leaf, int32 number,
		   int32 *line_of)
{
	int32		node;

	if (number > 1)
		appendStringInfoString(out, "; ");
	for (node = leaf; node >= 0; node = tree->nodes[node].parent)
	{
		if (node != leaf)
			appendStringInfoString(out, " <- ");
		print_rev(out, &tree->nodes[node].rev);
		if (line_of[node] > 0)
		{
			appendStringInfo(out, "^%d", line_of[node]);
			return;
		}
		if (tree->nodes[node].deleted)
			appendStringInfoString(out, "(deleted)");
		if (node == tree->trunk_root)
			appendStringInfo(out, " <- +%u older", tree->trunk_used);
		line_of[node] = number;
	}
}

/*
 * Tree to text.
 */
Datum
docrep_revtree_out(PG_FUNCTION_ARGS)
{
	RevTree    *tree = docrep_datum_revtree(PG_GETARG_DATUM(0));
	int32	   *line_of = palloc0(sizeof(int32) * Max(tree->n, 1));
	int32	   *leaves;
	int32		n = docrep_revtree_leaves(tree, &leaves);
	StringInfoData out;

	initStringInfo(&out);
	for (int32 i = 0; i < n; i++)
		print_line(&out, tree, leaves[i], i + 1, line_of);
	PG_RETURN_CSTRING(out.data);
}

/*
 * Read a literal if it is next; blanks before it do not count.
 */
static bool
accept_text(TreeParser *parser, const char *literal)
{
	const char *p = parser->p;
	size_t		len = strlen(literal);

	while (*p == ' ')
		p++;
	if (strncmp(p, literal, len) != 0)
		return false;
	parser->p = p + len;
	return true;
}

/*
 * Read a number of 1 or more that fits an int32.
 */
static bool
parse_number(TreeParser *parser, uint32 *number)
{
	uint64		n = 0;
	const char *p = parser->p;

	for (; *p >= '0' && *p <= '9' && n <= PG_INT32_MAX; p++)
		n = n * 10 + (uint64) (*p - '0');
	parser->p = p;
	*number = (uint32) n;
	return n >= 1 && n <= PG_INT32_MAX;
}

/*
 * Read a revision.  NULL, or what is wrong.
 */
static const char *
parse_rev(TreeParser *parser, Rev *rev)
{
	uint32		gen;
	char	   *id = (char *) parser->buf;
	size_t		len = 0;
	const char *wrong;

	accept_text(parser, "");
	if (!parse_number(parser, &gen))
		return "a generation is missing or out of range";
	if (*parser->p != '-')
		return "a hyphen is missing after a generation";
	parser->p++;
	if (*parser->p == '"')
	{
		for (parser->p++; *parser->p != '"'; parser->p++)
		{
			if (*parser->p == '\\')
				parser->p++;
			if (*parser->p == '\0')
				return "a quoted identifier does not end";
			id[len++] = *parser->p;
		}
		parser->p++;
	}
	else
	{
		while (is_plain((unsigned char) *parser->p))
			id[len++] = *parser->p++;
	}

	/* decoding 32 digits in place only ever writes behind what it reads */
	wrong = docrep_rev_parse_id(gen, id, len, (uint8 *) id, rev);
	parser->buf += len;
	return wrong;
}

/*
 * The node of a generation on a line that has been read, -1 if it is not the
 * revision given.
 */
static int32
find_on_line(const TreeParser *parser, uint32 line, const Rev *rev)
{
	int32		node;

	if (line > (uint32) parser->nlines)
		return -1;
	node = parser->leaves[line - 1];
	while (node >= 0 && parser->tree->nodes[node].rev.gen > rev->gen)
		node = parser->tree->nodes[node].parent;
	if (node >= 0 && !docrep_rev_eq(&parser->tree->nodes[node].rev, rev))
		node = -1;
	return node;
}

/*
 * Read a line up to its end into parser->line.  *n is the number of its own
 * revisions, *parent the node it goes on from, *older the number of revisions
 * in the trunk.  NULL, or what is wrong.
 */
static const char *
parse_line(TreeParser *parser, int32 *n, int32 *parent, uint32 *older)
{
	*n = 0;
	*parent = -1;
	*older = 0;
	do
	{
		RevNode    *node;
		const char *wrong;

		if (*n > 0 && accept_text(parser, "+"))
		{
			if (!parse_number(parser, older) || !accept_text(parser, "older"))
				return "\"+N older\" is malformed";
			return NULL;
		}
		if (*n == parser->line_cap)
		{
			parser->line_cap *= 2;
			parser->line = repalloc(parser->line, sizeof(RevNode) * parser->line_cap);
		}
		node = &parser->line[*n];
		wrong = parse_rev(parser, &node->rev);
		if (wrong != NULL)
			return wrong;
		if (*n > 0 && node->rev.gen + 1 != node[-1].rev.gen)
			return "the generations of a line do not follow each other";
		if (*parser->p == '^')
		{
			uint32		line;

			parser->p++;
			if (*n == 0 || !parse_number(parser, &line))
				return "\"^N\" is malformed";
			*parent = find_on_line(parser, line, &node->rev);
			return *parent < 0 ? "\"^N\" names a line that has no such revision" : NULL;
		}
		node->deleted = strncmp(parser->p, "(deleted)", 9) == 0;
		if (node->deleted)
			parser->p += 9;
		(*n)++;
	} while (accept_text(parser, "<-"));
	return NULL;
}

/*
 * Add the line that has been read to the tree.  NULL, or what is wrong.
 */
static const char *
add_line(TreeParser *parser, int32 n, int32 parent, uint32 older)
{
	RevTree    *tree = parser->tree;

	for (int32 i = n - 1; i >= 0; i--)
	{
		parent = docrep_revtree_add(tree, parent, &parser->line[i].rev,
									parser->line[i].deleted);
		if (older > 0 && i == n - 1)
		{
			if (tree->trunk_root >= 0)
				return "there can be only one \"+N older\"";
			tree->trunk_root = parent;
			tree->trunk_used = older;
			tree->trunk_loaded = false;
			tree->trunk_stored = true;
		}
	}
	parser->leaves = repalloc(parser->leaves, sizeof(int32) * (parser->nlines + 1));
	parser->leaves[parser->nlines++] = parent;
	return NULL;
}

/*
 * Read a whole tree.  NULL, or what is wrong.
 */
static const char *
parse_tree(TreeParser *parser)
{
	accept_text(parser, "");
	if (*parser->p == '\0')
		return NULL;			/* no revisions at all */
	do
	{
		int32		n;
		int32		parent;
		uint32		older;
		const char *wrong;

		CHECK_FOR_INTERRUPTS();
		wrong = parse_line(parser, &n, &parent, &older);
		if (wrong == NULL && parent >= 0 && parser->tree->nodes[parent].nchildren == 0)
			wrong = "a line goes on from the leaf of another";
		if (wrong == NULL)
			wrong = add_line(parser, n, parent, older);
		if (wrong != NULL)
			return wrong;
	} while (accept_text(parser, ";"));
	accept_text(parser, "");
	if (*parser->p != '\0')
		return "there is more after the end";
	return docrep_revtree_check(parser->tree);
}

/*
 * Text to tree.
 */
Datum
docrep_revtree_in(PG_FUNCTION_ARGS)
{
	const char *text = PG_GETARG_CSTRING(0);
	TreeParser	parser;
	const char *wrong;
	uint8	   *packed;
	size_t		len;

	parser.p = text;
	parser.buf = palloc(strlen(text) + 1);
	parser.tree = docrep_revtree_new(8);
	parser.leaves = palloc(sizeof(int32));
	parser.nlines = 0;
	parser.line_cap = 8;
	parser.line = palloc(sizeof(RevNode) * parser.line_cap);

	wrong = parse_tree(&parser);
	if (wrong != NULL)
		docrep_soft_ereport(fcinfo,
							(errcode(ERRCODE_DOCREP_BAD_REQUEST),
							 errmsg("invalid revision tree: %s", wrong),
							 errdetail("Near character %d of the text.",
									   (int) (parser.p - text) + 1)));
	docrep_revtree_pack_inline(parser.tree, VARHDRSZ, &packed, &len);
	SET_VARSIZE(packed, VARHDRSZ + len);
	return PointerGetDatum(packed);
}

/*
 * Binary to tree: the payload itself, checked.
 */
Datum
docrep_revtree_recv(PG_FUNCTION_ARGS)
{
	StringInfo	buf = (StringInfo) PG_GETARG_POINTER(0);
	int			len = buf->len - buf->cursor;
	struct varlena *value = palloc(VARHDRSZ + len);
	RevTree    *tree;

	pq_copymsgbytes(buf, VARDATA(value), len);
	SET_VARSIZE(value, VARHDRSZ + len);
	tree = docrep_revtree_unpack((uint8 *) VARDATA(value), (size_t) len);
	if (tree == NULL || docrep_revtree_check(tree) != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_BINARY_REPRESENTATION),
				 errmsg("invalid binary form of a revision tree")));
	for (int32 i = 0; i < tree->n; i++)
	{
		const Rev  *rev = &tree->nodes[i].rev;

		if (!rev->hex)
			pg_verifymbstr((const char *) rev->bytes, rev->len, false);
	}
	PG_RETURN_POINTER(value);
}

/*
 * Tree to binary.
 */
Datum
docrep_revtree_send(PG_FUNCTION_ARGS)
{
	struct varlena *value = PG_GETARG_VARLENA_PP(0);
	StringInfoData buf;

	pq_begintypsend(&buf);
	pq_sendbytes(&buf, VARDATA_ANY(value), VARSIZE_ANY_EXHDR(value));
	PG_RETURN_BYTEA_P(pq_endtypsend(&buf));
}
