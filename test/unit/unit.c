/*-------------------------------------------------------------------------
 *
 * unit.c
 *		See unit.h; and the allocator of the revision floor when it runs
 *		outside the server.
 *
 *-------------------------------------------------------------------------
 */
#include <time.h>

#include "unit.h"

/* memory that unit_bytes gave */
typedef struct Chunk
{
	struct Chunk *next;
} Chunk;

static Chunk *chunks = NULL;
static int	ntests = 0;
static int	nfailed = 0;
static int	nchecks = 0;
static int	nwrong = 0;
static uint64 random_state = 1;

void *
docrep_xmalloc(size_t n)
{
	void	   *p = malloc(n == 0 ? 1 : n);

	if (p == NULL)
		abort();
	return p;
}

void *
docrep_xrealloc(void *p, size_t n)
{
	p = realloc(p, n == 0 ? 1 : n);
	if (p == NULL)
		abort();
	return p;
}

void
unit_check(bool ok, const char *what, const char *file, int line)
{
	nchecks++;
	if (ok)
		return;
	if (nwrong++ == 0)
		printf("# failed: %s at %s:%d\n", what, file, line);
}

bool
unit_failing(void)
{
	return nwrong > 0;
}

void
unit_done(const char *name)
{
	bool		ok = nchecks > 0 && nwrong == 0;

	ntests++;
	nfailed += !ok;
	printf("%s %d - %s (%d checks)\n", ok ? "ok" : "not ok", ntests, name, nchecks);
	fflush(stdout);
	nchecks = nwrong = 0;
}

int
unit_exit(void)
{
	printf("1..%d\n", ntests);
	return nfailed == 0 ? 0 : 1;
}

void
unit_seed(uint64 seed)
{
	random_state = seed * 2 + 1;
}

/*
 * A 64-bit linear congruential generator whose upper half is used.
 */
uint32
unit_random(uint32 below)
{
	random_state = random_state * UINT64_C(6364136223846793005) +
		UINT64_C(1442695040888963407);
	return (uint32) (((random_state >> 32) * below) >> 32);
}

uint64
unit_choose_seed(int argc, char **argv)
{
	uint64		seed = argc > 1 ? strtoull(argv[1], NULL, 10) : (uint64) time(NULL);

	printf("# seed %" PRIu64 " (give it as an argument to repeat the run)\n", seed);
	return seed;
}

uint8 *
unit_bytes(size_t n)
{
	Chunk	   *chunk = docrep_xmalloc(sizeof(Chunk) + n);

	chunk->next = chunks;
	chunks = chunk;
	return (uint8 *) (chunk + 1);
}

Rev
unit_rev(const char *text)
{
	Rev			rev;
	const char *wrong = docrep_rev_parse(text, strlen(text),
										 unit_bytes(strlen(text) + 1), &rev);

	if (wrong != NULL)
	{
		printf("Bail out! %s: %s\n", text, wrong);
		exit(1);
	}
	return rev;
}

void
unit_free_bytes(void)
{
	while (chunks != NULL)
	{
		Chunk	   *next = chunks->next;

		free(chunks);
		chunks = next;
	}
}
