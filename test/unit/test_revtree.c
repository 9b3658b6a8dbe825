/*-------------------------------------------------------------------------
 *
 * test_revtree.c
 *		Revision trees: fixed cases, and random programs against the model.
 *
 *-------------------------------------------------------------------------
 */
#include <time.h>

#include "model.h"

#define MAX_PATH	2000

/*
 * Merge a path given as revisions separated by blanks, newest first; a "*"
 * after the first says that it is a deletion.
 */
static RevMergeResult
merge_text(RevTree *tree, const char *text)
{
	Rev			revs[32];
	RevPath		path = {0, revs};
	bool		deleted = false;
	char		copy[512];

	snprintf(copy, sizeof(copy), "%s", text);
	for (char *word = strtok(copy, " "); word != NULL; word = strtok(NULL, " "))
	{
		size_t		len = strlen(word);

		if (word[len - 1] == '*')
		{
			deleted = true;
			word[len - 1] = '\0';
		}
		revs[path.n++] = unit_rev(word);
	}
	return docrep_revtree_merge(tree, &path, deleted);
}

/*
 * The leaves' paths, winner first, as one string.
 */
static const char *
paths_text(const RevTree *tree)
{
	static char text[4096];
	char	   *p = text;
	int32	   *leaves;
	int32		n = docrep_revtree_leaves(tree, &leaves);

	*p = '\0';
	for (int32 i = 0; i < n; i++)
	{
		RevPath		path = docrep_revtree_path(tree, leaves[i]);

		for (int32 k = 0; k < path.n; k++)
		{
			p += docrep_rev_print(&path.revs[k], p);
			if (k == 0 && tree->nodes[leaves[i]].deleted)
				*p++ = '*';
			*p++ = k == path.n - 1 ? ';' : ' ';
		}
		free(path.revs);
	}
	*p = '\0';
	free(leaves);
	return text;
}

static bool
paths_are(const RevTree *tree, const char *want)
{
	const char *got = paths_text(tree);

	if (strcmp(got, want) != 0)
		printf("# got %s\n# want %s\n", got, want);
	return strcmp(got, want) == 0 && docrep_revtree_check(tree) == NULL;
}

static void
test_merge_cases(void)
{
	RevTree    *tree = docrep_revtree_new(0);

	CHECK(docrep_revtree_winner(tree) == -1);
	CHECK(merge_text(tree, "1-a") == REVMERGE_NEW_LEAF);
	CHECK(merge_text(tree, "1-a") == REVMERGE_KNOWN);
	CHECK(merge_text(tree, "2-a 1-a") == REVMERGE_NEW_LEAF);
	CHECK(merge_text(tree, "2-b 1-a") == REVMERGE_NEW_BRANCH);
	CHECK(merge_text(tree, "4-d 3-c 2-a") == REVMERGE_NEW_LEAF);
	CHECK(paths_are(tree, "4-d 3-c 2-a 1-a;2-b 1-a;"));
	CHECK(merge_text(tree, "3-c 2-a") == REVMERGE_KNOWN);
	CHECK(merge_text(tree, "1-z") == REVMERGE_NEW_BRANCH);
	CHECK(merge_text(tree, "7-q 6-q") == REVMERGE_NEW_BRANCH);
	/* older ancestors of a root */
	CHECK(merge_text(tree, "7-q 6-q 5-q") == REVMERGE_KNOWN);
	CHECK(merge_text(tree, "8-q 7-q 6-q 5-q 4-q") == REVMERGE_NEW_LEAF);
	CHECK(paths_are(tree, "8-q 7-q 6-q 5-q 4-q;4-d 3-c 2-a 1-a;2-b 1-a;1-z;"));
	/* the path meets the tree, but further up than its oldest */
	CHECK(merge_text(tree, "3-c 2-x") == REVMERGE_NEW_BRANCH);
	docrep_revtree_free(tree);

	/* a revision that came alone finds its place when its history comes */
	tree = docrep_revtree_new(0);
	CHECK(merge_text(tree, "2-y 1-x") == REVMERGE_NEW_LEAF);
	CHECK(merge_text(tree, "3-a") == REVMERGE_NEW_BRANCH);
	CHECK(merge_text(tree, "4-b 3-a") == REVMERGE_NEW_LEAF);
	CHECK(merge_text(tree, "4-c* 3-a") == REVMERGE_NEW_BRANCH);
	CHECK(merge_text(tree, "4-b 3-a 2-y 1-x") == REVMERGE_KNOWN);
	CHECK(paths_are(tree, "4-b 3-a 2-y 1-x;4-c* 3-a 2-y 1-x;"));
	docrep_revtree_free(tree);
	unit_done("merge: fixed cases");
}

static void
test_winner_cases(void)
{
	RevTree    *tree = docrep_revtree_new(0);

	merge_text(tree, "2-b 1-a");
	merge_text(tree, "2-c 1-a");
	CHECK(paths_are(tree, "2-c 1-a;2-b 1-a;"));
	merge_text(tree, "3-x* 2-c");
	CHECK(paths_are(tree, "2-b 1-a;3-x* 2-c 1-a;"));
	CHECK(docrep_revtree_live_leaves(tree) == 1);
	merge_text(tree, "3-y* 2-b");
	CHECK(paths_are(tree, "3-y* 2-b 1-a;3-x* 2-c 1-a;"));
	CHECK(docrep_revtree_live_leaves(tree) == 0);
	merge_text(tree, "4-n 3-x");
	CHECK(paths_are(tree, "4-n 3-x 2-c 1-a;3-y* 2-b 1-a;"));
	merge_text(tree, "4-ffffffffffffffffffffffffffffffff 3-q");
	CHECK(paths_are(tree, "4-ffffffffffffffffffffffffffffffff 3-q;4-n 3-x 2-c 1-a;3-y* 2-b 1-a;"));
	docrep_revtree_free(tree);
	unit_done("winner and order of leaves: fixed cases");
}

static void
test_stem_cases(void)
{
	RevTree    *tree = docrep_revtree_new(0);
	Rev			rev;

	merge_text(tree, "4-d 3-c 2-b 1-a");
	merge_text(tree, "2-x 1-a");
	docrep_revtree_stem(tree, 2);
	CHECK(paths_are(tree, "4-d 3-c;2-x 1-a;"));
	/* what was stemmed counts as missing */
	CHECK(merge_text(tree, "2-b 1-a") == REVMERGE_NEW_BRANCH);
	docrep_revtree_stem(tree, 1);
	CHECK(paths_are(tree, "4-d;2-x;2-b;"));
	rev = unit_rev("2-x");
	docrep_revtree_remove_leaf(tree, docrep_revtree_find(tree, &rev));
	CHECK(paths_are(tree, "4-d;2-b;"));
	docrep_revtree_free(tree);

	tree = docrep_revtree_new(0);
	merge_text(tree, "3-c 2-b 1-a");
	merge_text(tree, "4-x 3-x 2-b");
	rev = unit_rev("4-x");
	docrep_revtree_remove_leaf(tree, docrep_revtree_find(tree, &rev));
	CHECK(paths_are(tree, "3-c 2-b 1-a;"));
	rev = unit_rev("3-c");
	docrep_revtree_remove_leaf(tree, docrep_revtree_find(tree, &rev));
	CHECK(tree->n == 0);
	docrep_revtree_free(tree);
	unit_done("stem and remove: fixed cases");
}

/*
 * Pack, unpack from a copy of exactly that size, compare.  Returns the new
 * tree and frees the old one; *hold is the memory it points into.
 */
static RevTree *
repack(RevTree *tree, uint8 **hold)
{
	uint8	   *inlined;
	uint8	   *trunk;
	size_t		inlined_len;
	size_t		trunk_len;
	bool		changed;
	uint8	   *exact;
	RevTree    *back;

	docrep_revtree_pack(tree, 4, NULL, 0, &inlined, &inlined_len,
						&changed, &trunk, &trunk_len);
	exact = malloc(inlined_len);
	memcpy(exact, inlined + 4, inlined_len);
	free(inlined);
	back = docrep_revtree_unpack(exact, inlined_len);
	CHECK(back != NULL);
	if (trunk_len > 0)
	{
		uint8	   *trunk_exact = unit_bytes(trunk_len);

		memcpy(trunk_exact, trunk + 4, trunk_len);
		CHECK(changed && docrep_revtree_load_trunk(back, trunk_exact, trunk_len));
		free(trunk);
	}
	CHECK(back->n == tree->n);
	docrep_revtree_free(tree);
	free(*hold);
	*hold = exact;
	return back;
}

/*
 * One random program over few, short revisions, so that all kinds of
 * coincidences happen, "equal" revisions with different pasts among them.
 */
static void
run_small_program(void)
{
	static const char *const ids[] = {"a", "b", "c", "6162636465666768696a6b6c6d6e6f70"};
	RevTree    *tree = docrep_revtree_new(0);
	Model	   *model = model_new();
	uint8	   *hold = NULL;
	uint32		nids = 1 + unit_random(4);
	uint32		ngens = 2 + unit_random(6);

	for (int step = 0; step < 30 && !unit_failing(); step++)
	{
		Rev			revs[8];
		RevPath		path;
		uint32		oldest = 1 + unit_random(ngens);
		uint32		newest = oldest + unit_random(ngens - oldest + 1);
		bool		deleted;
		int			before;
		int32		before_nodes;
		bool		repaired;
		RevMergeResult want;
		RevMergeResult got;

		path.revs = revs;
		path.n = (int32) (newest - oldest + 1);
		for (int32 i = 0; i < path.n; i++)
		{
			char		text[64];

			snprintf(text, sizeof(text), "%u-%s", newest - (uint32) i,
					 ids[unit_random(nids)]);
			revs[i] = unit_rev(text);
		}
		before_nodes = tree->n;
		CHECK(!tree->changed || step == 0);
		/* the same revision is always a deletion, or never */
		deleted = (revs[0].gen + revs[0].bytes[0]) % 4 == 0;
		before = model_count(model, &revs[0]);
		want = model_merge(model, &path, deleted, &repaired);
		got = docrep_revtree_merge(tree, &path, deleted);
		if (repaired)
			CHECK((got == REVMERGE_KNOWN) == (model_count(model, &revs[0]) <= before));
		else
			CHECK(got == want);
		CHECK(tree->changed == (repaired || tree->n != before_nodes));
		CHECK(docrep_revtree_check(tree) == NULL);
		CHECK(model_equals(model, tree, false));

		if (unit_random(3) == 0)
		{
			uint32		limit = 1 + unit_random(ngens);

			model_stem(model, limit);
			docrep_revtree_stem(tree, limit);
			CHECK(docrep_revtree_check(tree) == NULL);
			CHECK(model_equals(model, tree, false));
		}
		if (unit_random(8) == 0)
		{
			int32	   *leaves;
			int32		n = docrep_revtree_leaves(tree, &leaves);
			int32		leaf = leaves[unit_random((uint32) n)];
			Rev			rev = tree->nodes[leaf].rev;
			int32		times = 0;

			for (int32 i = 0; i < n; i++)
				times += docrep_rev_eq(&tree->nodes[leaves[i]].rev, &rev);
			free(leaves);
			if (times == 1)
			{
				model_remove(model, &rev);
				docrep_revtree_remove_leaf(tree, leaf);
				CHECK(docrep_revtree_check(tree) == NULL);
				CHECK(model_equals(model, tree, false));
			}
		}
		tree = repack(tree, &hold);
		CHECK(model_equals(model, tree, false));
	}
	docrep_revtree_free(tree);
	model_free(model);
	free(hold);
	unit_free_bytes();
}

static void
test_small_programs(uint64 seed)
{
	for (int i = 0; i < 4000 && !unit_failing(); i++)
	{
		unit_seed(seed + (uint64) i);
		run_small_program();
		if (unit_failing())
			printf("# in program %d\n", i);
	}
	unit_done("4000 random programs against the model");
}

/* ---- long histories, stored in two parts ---- */

/* all revisions that were ever made in a program */
typedef struct World
{
	Rev		   *revs;
	int		   *parents;
	bool	   *deleted;
	int			n;
} World;

/* a document as the store keeps it */
typedef struct Stored
{
	uint8	   *inlined;
	size_t		inlined_len;
	uint8	   *trunk;
	size_t		trunk_len;
	uint32		limit;
	int			loads;			/* how often a merge wanted the trunk */
	int			flushes;		/* how often the trunk was written */
	size_t		largest;		/* the inline part was */
} Stored;

/*
 * A new revision of the world, whose identifier nothing else has.
 */
static int
world_add(World *world, int parent, bool deleted)
{
	int			i = world->n++;
	char		text[64];
	uint32		gen = parent < 0 ? 1 : world->revs[parent].gen + 1;

	world->revs = realloc(world->revs, sizeof(Rev) * (size_t) world->n);
	world->parents = realloc(world->parents, sizeof(int) * (size_t) world->n);
	world->deleted = realloc(world->deleted, sizeof(bool) * (size_t) world->n);
	if (unit_random(50) == 0)
		snprintf(text, sizeof(text), "%u-s%d", gen, i);
	else
		snprintf(text, sizeof(text), "%u-%08x%08x%08x%08x", gen, unit_random(UINT32_MAX),
				 unit_random(UINT32_MAX), (unsigned) i, unit_random(UINT32_MAX));
	world->revs[i] = unit_rev(text);
	world->parents[i] = parent;
	world->deleted[i] = deleted;
	return i;
}

/*
 * The newest "most" revisions of the path of revision i.
 */
static RevPath
world_path(const World *world, int i, int most)
{
	RevPath		path = {0, malloc(sizeof(Rev) * MAX_PATH)};

	for (; i >= 0 && path.n < most && path.n < MAX_PATH; i = world->parents[i])
		path.revs[path.n++] = world->revs[i];
	return path;
}

static int
world_find(const World *world, const Rev *rev)
{
	for (int i = world->n - 1; i >= 0; i--)
	{
		if (docrep_rev_eq(&world->revs[i], rev))
			return i;
	}
	return -1;
}

static void
store_tree(Stored *doc, RevTree *tree)
{
	uint8	   *inlined;
	uint8	   *trunk;
	size_t		inlined_len;
	size_t		trunk_len;
	bool		changed;

	docrep_revtree_pack(tree, 0, doc->trunk, doc->trunk_len, &inlined, &inlined_len,
						&changed, &trunk, &trunk_len);
	docrep_revtree_free(tree);
	free(doc->inlined);
	doc->inlined = inlined;
	doc->inlined_len = inlined_len;
	doc->largest = Max(doc->largest, inlined_len);
	if (changed)
	{
		free(doc->trunk);
		doc->trunk = trunk;
		doc->trunk_len = trunk_len;
		doc->flushes++;
	}
}

/*
 * What the store does with a path: merge, with the trunk if need be, stem,
 * pack.
 */
static RevMergeResult
store_merge(Stored *doc, const RevPath *path, bool deleted)
{
	RevTree    *tree = doc->inlined == NULL ? docrep_revtree_new(0) :
		docrep_revtree_unpack(doc->inlined, doc->inlined_len);
	RevMergeResult result;

	tree->revs_limit = unit_random(2) == 0 ? doc->limit : 0;
	result = docrep_revtree_merge(tree, path, deleted);
	if (result == REVMERGE_NEED_TRUNK)
	{
		doc->loads++;
		CHECK(docrep_revtree_load_trunk(tree, doc->trunk, doc->trunk_len));
		result = docrep_revtree_merge(tree, path, deleted);
		CHECK(result != REVMERGE_NEED_TRUNK);
	}
	docrep_revtree_stem(tree, doc->limit);
	store_tree(doc, tree);
	return result;
}

/*
 * Is the stored tree, with its trunk, what the model is?
 */
static bool
stored_equals(const Stored *doc, const Model *model)
{
	RevTree    *tree = docrep_revtree_unpack(doc->inlined, doc->inlined_len);
	bool		same;

	if (tree == NULL)
		return false;
	CHECK(tree->trunk_stored == (doc->trunk_len > 0));
	CHECK(docrep_revtree_check(tree) == NULL);
	CHECK(docrep_revtree_load_trunk(tree, doc->trunk, doc->trunk_len));
	CHECK(docrep_revtree_check(tree) == NULL);
	same = model_equals(model, tree, true);
	docrep_revtree_free(tree);
	return same;
}

/*
 * The revision of the world that a step works on: mostly the winner, which is
 * extended; else another leaf, or any revision at all, where a branch begins.
 */
static int
choose_parent(const World *world, const Stored *doc, uint32 branchiness)
{
	RevTree    *tree;
	int32	   *leaves;
	int32		n;
	int			parent;

	if (doc->inlined == NULL)
		return -1;
	tree = docrep_revtree_unpack(doc->inlined, doc->inlined_len);
	n = docrep_revtree_leaves(tree, &leaves);
	if (n == 0)
		parent = -1;
	else
		parent = world_find(world, &tree->nodes[leaves[0]].rev);
	if (n > 0 && unit_random(1000) < branchiness)
	{
		if (unit_random(2) == 0)
			parent = world_find(world, &tree->nodes[leaves[unit_random((uint32) n)]].rev);
		else
			parent = (int) unit_random((uint32) world->n);
	}
	free(leaves);
	docrep_revtree_free(tree);
	return parent;
}

/*
 * Remove a random leaf from both, as purge does.
 */
static void
purge_leaf(Stored *doc, Model *model)
{
	RevTree    *tree = docrep_revtree_unpack(doc->inlined, doc->inlined_len);
	int32	   *leaves;
	int32		n;
	int32		leaf;

	if (unit_random(2) == 0)
		CHECK(docrep_revtree_load_trunk(tree, doc->trunk, doc->trunk_len));
	n = docrep_revtree_leaves(tree, &leaves);
	if (n > 1)
	{
		leaf = leaves[1 + (int32) unit_random((uint32) n - 1)];
		model_remove(model, &tree->nodes[leaf].rev);
		docrep_revtree_remove_leaf(tree, leaf);
		store_tree(doc, tree);
	}
	else
		docrep_revtree_free(tree);
	free(leaves);
}

/*
 * A long program: "steps" edits with the given limit, of 1000 edits
 * "branchiness" somewhere else than at the winner.
 */
static void
run_long_program(uint32 limit, int steps, uint32 branchiness)
{
	World		world = {NULL, NULL, NULL, 0};
	Stored		doc = {0};
	Model	   *model = model_new();

	doc.limit = limit;
	for (int step = 0; step < steps && !unit_failing(); step++)
	{
		int			parent = choose_parent(&world, &doc, branchiness);
		int			head = parent;
		uint32		length = unit_random(20) == 0 ? 1 + unit_random(60) : 1;
		RevPath		path;
		bool		repaired;
		RevMergeResult want;
		RevMergeResult got;

		for (uint32 i = 0; i < length; i++)
			head = world_add(&world, head, unit_random(20) == 0);
		if (unit_random(20) == 0)
			head = (int) unit_random((uint32) world.n);

		switch (unit_random(4))
		{
			case 0:
				path = world_path(&world, head, (int) length + 1);
				break;
			case 1:
				path = world_path(&world, head, 1 + (int) unit_random(80));
				break;
			case 2:
				path = world_path(&world, head, MAX_PATH);
				break;
			default:
				path = world_path(&world, head, (int) limit);
		}
		want = model_merge(model, &path, world.deleted[head], &repaired);
		model_stem(model, limit);
		got = store_merge(&doc, &path, world.deleted[head]);
		CHECK(repaired || got == want);
		free(path.revs);

		if (limit < 100 || step % 23 == 0)
			CHECK(stored_equals(&doc, model));
		if (branchiness > 0 && unit_random(40) == 0)
			purge_leaf(&doc, model);
	}
	CHECK(stored_equals(&doc, model));
	CHECK(branchiness > 0 || limit < 60 || doc.flushes > 0);

	model_free(model);
	free(doc.inlined);
	free(doc.trunk);
	free(world.revs);
	free(world.parents);
	free(world.deleted);
	unit_free_bytes();
}

static void
test_long_programs(uint64 seed)
{
	static const uint32 limits[] = {1, 2, 5, 40, 100, 1000};
	static const uint32 branchiness[] = {0, 5, 50, 300};

	for (int round = 0; round < 2; round++)
	{
		for (int b = 0; b < 4; b++)
		{
			for (int l = 0; l < 6 && !unit_failing(); l++)
			{
				unit_seed(seed + (uint64) (round * 1000 + b * 100 + l));
				run_long_program(limits[l], limits[l] == 1000 ? 1200 : 600, branchiness[b]);
				if (unit_failing())
					printf("# round %d limit %u branchiness %u\n", round, limits[l],
						   branchiness[b]);
			}
		}
	}
	unit_done("long histories with a trunk, limits 1 to 1000, against the model");
}

/*
 * The usual life of a document: edits one after another, and a peer that
 * sends the whole path each time.  The trunk must not be wanted, and the
 * inline part must stay small.
 */
static void
run_plain_life(uint32 limit, int sent, int every)
{
	World		world = {NULL, NULL, NULL, 0};
	Stored		doc = {0};
	Model	   *model = model_new();
	int			head = -1;

	doc.limit = limit;
	for (int step = 0; step < 3000 && !unit_failing(); step += every)
	{
		RevPath		path;
		bool		repaired;

		for (int i = 0; i < every; i++)
			head = world_add(&world, head, false);
		path = world_path(&world, head, sent);
		model_merge(model, &path, false, &repaired);
		model_stem(model, limit);
		CHECK(store_merge(&doc, &path, false) == REVMERGE_NEW_LEAF);
		CHECK(store_merge(&doc, &path, false) == REVMERGE_KNOWN);
		free(path.revs);
		CHECK(doc.loads == 0);
		CHECK(doc.inlined_len <= 16 + 17 * (REVTREE_INLINE_MAX + 1));
		if (step % 50 == 0)
			CHECK(stored_equals(&doc, model));
	}
	CHECK(stored_equals(&doc, model));
	CHECK(limit < 100 || doc.flushes < 3000 / REVTREE_FLUSH + 5);

	model_free(model);
	free(doc.inlined);
	free(doc.trunk);
	free(world.revs);
	free(world.parents);
	free(world.deleted);
	unit_free_bytes();
}

static void
test_plain_life(uint64 seed)
{
	unit_seed(seed);
	run_plain_life(1000, 2, 1);
	run_plain_life(1000, 1000, 1);
	run_plain_life(1000, 1000, 3);
	run_plain_life(40, 40, 1);
	run_plain_life(1, 2, 1);
	run_plain_life(2, 3, 1);
	unit_done("a long plain history never wants its trunk and stays small");
}

/*
 * A trunk that is not the tree's, or is damaged, is refused and changes
 * nothing.
 */
static void
test_wrong_trunk(void)
{
	World		world = {NULL, NULL, NULL, 0};
	Stored		doc = {0};
	int			head = -1;
	RevPath		path;
	RevTree    *tree;
	int32		n;

	doc.limit = 1000;
	for (int i = 0; i < 100; i++)
		head = world_add(&world, head, i == 50);
	path = world_path(&world, head, MAX_PATH);
	store_merge(&doc, &path, false);
	free(path.revs);
	CHECK(doc.trunk_len > 0);
	tree = docrep_revtree_unpack(doc.inlined, doc.inlined_len);
	n = tree->n;
	CHECK(docrep_revtree_maybe_in_trunk(tree, &world.revs[3]));
	CHECK(!docrep_revtree_maybe_in_trunk(tree, &world.revs[99]));
	for (size_t cut = 0; cut < doc.trunk_len; cut++)
		CHECK(!docrep_revtree_load_trunk(tree, doc.trunk, cut));
	doc.trunk[0] ^= 1;
	CHECK(!docrep_revtree_load_trunk(tree, doc.trunk, doc.trunk_len));
	doc.trunk[0] ^= 1;
	doc.trunk[1]++;
	CHECK(!docrep_revtree_load_trunk(tree, doc.trunk, doc.trunk_len));
	doc.trunk[1]--;
	CHECK(tree->n == n && tree->trunk_root >= 0);
	CHECK(docrep_revtree_load_trunk(tree, doc.trunk, doc.trunk_len));
	CHECK(tree->n == 100 && docrep_revtree_find(tree, &world.revs[0]) == 0);
	docrep_revtree_free(tree);
	for (size_t cut = 0; cut < doc.inlined_len; cut++)
		CHECK(docrep_revtree_unpack(doc.inlined, cut) == NULL);
	free(doc.inlined);
	free(doc.trunk);
	free(world.revs);
	free(world.parents);
	free(world.deleted);
	unit_free_bytes();
	unit_done("damaged parts are refused");
}

int
main(int argc, char **argv)
{
	uint64		seed = unit_choose_seed(argc, argv);

	test_merge_cases();
	test_winner_cases();
	test_stem_cases();
	test_small_programs(seed);
	test_long_programs(seed);
	test_plain_life(seed);
	test_wrong_trunk();
	unit_free_bytes();
	return unit_exit();
}
