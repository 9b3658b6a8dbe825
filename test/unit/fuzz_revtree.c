/*-------------------------------------------------------------------------
 *
 * fuzz_revtree.c
 *		Hostile bytes for the packed forms.
 *
 * An input is: the length of the inline part (2 bytes), the inline part, the
 * length of the trunk (2 bytes), the trunk, and a program that is run on the
 * tree they make, if they make one.  Whatever unpack accepts has to come
 * through every function in a sound state and pack to the same bytes.
 *
 * With libFuzzer (DOCREP_LIBFUZZER) it is an entry point; otherwise a program
 * that mutates sound inputs at random, from a seed, for a few seconds.
 *
 *-------------------------------------------------------------------------
 */
#include <time.h>

#include "unit.h"

/* an input being read */
typedef struct Input
{
	const uint8 *p;
	const uint8 *end;
} Input;

extern int	LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
must(bool ok, const char *what)
{
	if (ok)
		return;
	fprintf(stderr, "violated: %s\n", what);
	abort();
}

static uint8
next_byte(Input *in)
{
	return in->p < in->end ? *in->p++ : 0;
}

/*
 * A part of the input in memory of its own size, so that reading outside is
 * noticed.
 */
static uint8 *
next_part(Input *in, size_t *len)
{
	uint8	   *part;

	*len = next_byte(in);
	*len |= (size_t) next_byte(in) << 8;
	*len = Min(*len, (size_t) (in->end - in->p));
	part = malloc(*len + (*len == 0));
	memcpy(part, in->p, *len);
	in->p += *len;
	return part;
}

/*
 * A path: some revisions of the tree from a node upwards, and new ones on top
 * of them or instead.
 */
static RevPath
next_path(Input *in, const RevTree *tree)
{
	RevPath		path;
	int32		fresh = next_byte(in) % 40;
	int32		node = tree->n > 0 ? next_byte(in) % tree->n : -1;
	int32		old = next_byte(in) % 80;
	uint32		gen = node >= 0 ? tree->nodes[node].rev.gen : next_byte(in);

	if (gen < 1 || gen > REV_MAX_GENERATION - 100)
		gen = 1;
	path.n = 0;
	path.revs = malloc(sizeof(Rev) * 128);
	for (int32 i = fresh; i > 0; i--)
		path.revs[path.n++] = (Rev)
		{
			gen + (uint32) i, 1, false, (const uint8 *) "abcdefgh" + next_byte(in) % 8
		};
	for (int32 i = node; i >= 0 && old-- > 0 && tree->nodes[i].rev.gen == gen; i = tree->nodes[i].parent)
	{
		path.revs[path.n++] = tree->nodes[i].rev;
		gen--;
	}
	if (path.n == 0)
		path.revs[path.n++] = (Rev)
		{
			gen, 1, false, (const uint8 *) "z"
		};
	return path;
}

/*
 * Pack; it must unpack, to a tree as large.
 */
static void
repack(const RevTree *tree, const uint8 *trunk, size_t trunk_len)
{
	uint8	   *inlined;
	uint8	   *new_trunk;
	size_t		inlined_len;
	size_t		new_trunk_len;
	bool		changed;
	RevTree    *back;

	docrep_revtree_pack(tree, 4, trunk, trunk_len, &inlined, &inlined_len,
						&changed, &new_trunk, &new_trunk_len);
	back = docrep_revtree_unpack(inlined + 4, inlined_len);
	must(back != NULL, "packed trees unpack");
	if (new_trunk_len > 0)
		must(docrep_revtree_load_trunk(back, new_trunk + 4, new_trunk_len),
			 "packed trunks load");
	must(back->n >= tree->n, "nothing is lost");
	must(new_trunk_len > 0 ||
		 docrep_revtree_winner(back) == docrep_revtree_winner(tree),
		 "the winner stays");
	docrep_revtree_free(back);
	free(inlined);
	free(new_trunk);
}

/*
 * One step of the program.
 */
static void
run_step(Input *in, RevTree *tree, const uint8 *trunk, size_t trunk_len)
{
	uint8		op = next_byte(in);

	switch (op % 6)
	{
		case 0:
		case 1:
			{
				RevPath		path = next_path(in, tree);
				int32		n = tree->n;
				RevMergeResult result = docrep_revtree_merge(tree, &path, (op & 64) != 0);

				if (result == REVMERGE_NEED_TRUNK)
					must(tree->n == n, "nothing changes without the trunk");
				else
					must(docrep_revtree_find(tree, &path.revs[0]) >= 0 ||
						 docrep_revtree_maybe_in_trunk(tree, &path.revs[0]),
						 "what was merged is there");
				free(path.revs);
				break;
			}
		case 2:
			docrep_revtree_stem(tree, 1 + next_byte(in) % 64);
			break;
		case 3:
			docrep_revtree_load_trunk(tree, trunk, trunk_len);
			break;
		case 4:
			{
				int32	   *leaves;
				int32		n = docrep_revtree_leaves(tree, &leaves);

				must(n == 0 || leaves[0] == docrep_revtree_winner(tree) ||
					 docrep_rev_eq(&tree->nodes[leaves[0]].rev,
								   &tree->nodes[docrep_revtree_winner(tree)].rev),
					 "the winner is the first leaf");
				if (n > 0)
					docrep_revtree_remove_leaf(tree, leaves[next_byte(in) % n]);
				free(leaves);
				break;
			}
		case 5:
			tree->revs_limit = next_byte(in);
			break;
	}
}

static bool
fuzz_one(const uint8 *data, size_t size)
{
	Input		in = {data, data + size};
	size_t		packed_len;
	size_t		trunk_len;
	uint8	   *packed = next_part(&in, &packed_len);
	uint8	   *trunk = next_part(&in, &trunk_len);
	RevTree    *tree = docrep_revtree_unpack(packed, packed_len);
	bool		sound = tree != NULL && docrep_revtree_check(tree) == NULL;

	if (sound)
	{
		uint8	   *again;
		uint8	   *unused;
		size_t		again_len;
		size_t		unused_len;
		bool		changed;

		/* without a flush the bytes are the same */
		docrep_revtree_pack(tree, 0, NULL, 0, &again, &again_len,
							&changed, &unused, &unused_len);
		if (unused_len == 0)
			must(again_len == packed_len && memcmp(again, packed, again_len) == 0,
				 "there is one form");
		free(again);
		free(unused);
		for (int step = 0; step < 40 && in.p < in.end; step++)
		{
			run_step(&in, tree, trunk, trunk_len);
			must(docrep_revtree_check(tree) == NULL, "the tree stays sound");
			repack(tree, trunk, trunk_len);
		}
	}
	if (tree != NULL)
		docrep_revtree_free(tree);
	free(trunk);
	free(packed);
	return sound;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	fuzz_one(data, size);
	return 0;
}

#ifndef DOCREP_LIBFUZZER

#define INPUT_SIZE	8192

/*
 * A sound input of a random tree, most of them with a trunk; returns its
 * size.
 */
static size_t
make_input(uint8 *input)
{
	RevTree    *tree = docrep_revtree_new(0);
	uint8	   *inlined;
	uint8	   *trunk;
	size_t		inlined_len;
	size_t		trunk_len;
	size_t		n = 0;
	bool		changed;
	uint8		ids[90][REV_HASH_LEN];
	int32		nodes = (int32) unit_random(90);

	for (int32 i = 0; i < nodes; i++)
	{
		int32		parent = unit_random(30) == 0 ? (int32) unit_random((uint32) i + 1) - 1 : i - 1;
		Rev			rev = {1 + unit_random(300), REV_HASH_LEN, true, ids[i]};

		memset(ids[i], 'a', REV_HASH_LEN);
		ids[i][0] = (uint8) (i + 1);
		if (parent >= 0)
			rev.gen = tree->nodes[parent].rev.gen + 1;
		if (unit_random(10) == 0)
		{
			rev.len = (uint16) (1 + unit_random(10));
			rev.hex = false;
		}
		docrep_revtree_add(tree, parent, &rev, unit_random(5) == 0);
	}
	docrep_revtree_pack(tree, 0, NULL, 0, &inlined, &inlined_len,
						&changed, &trunk, &trunk_len);
	input[n++] = (uint8) inlined_len;
	input[n++] = (uint8) (inlined_len >> 8);
	memcpy(input + n, inlined, inlined_len);
	n += inlined_len;
	input[n++] = (uint8) trunk_len;
	input[n++] = (uint8) (trunk_len >> 8);
	if (trunk_len > 0)
		memcpy(input + n, trunk, trunk_len);
	n += trunk_len;
	for (int i = 0; i < 300; i++)
		input[n++] = (uint8) unit_random(256);
	free(inlined);
	free(trunk);
	docrep_revtree_free(tree);
	return n;
}

int
main(int argc, char **argv)
{
	uint8		input[INPUT_SIZE];
	uint64		seed = argc > 1 ? strtoull(argv[1], NULL, 10) : 1;
	clock_t		end = clock() + 5 * CLOCKS_PER_SEC;
	int			sound = 0;
	int			runs = 0;

	unit_seed(seed);
	while (clock() < end)
	{
		size_t		size = make_input(input);

		for (int i = 0; i < 20; i++)
		{
			for (uint32 k = unit_random(4); k > 0; k--)
				input[unit_random((uint32) size)] = (uint8) unit_random(256);
			sound += fuzz_one(input, size - (unit_random(5) == 0 ? unit_random((uint32) size) : 0));
			runs++;
		}
	}
	printf("# %d inputs, %d of them sound\n", runs, sound);
	CHECK(runs > 100);
	CHECK(sound > 10 && sound < runs);
	unit_done("mutated packed trees");
	return unit_exit();
}
#endif							/* DOCREP_LIBFUZZER */
