/*-------------------------------------------------------------------------
 *
 * unit.h
 *		A few lines of TAP for the unit programs, and their random numbers.
 *
 * A test counts its checks in silence and ends with "done", so that thousands
 * of checks make one line of output; the first one that fails is shown.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DOCREP_TEST_UNIT_H
#define DOCREP_TEST_UNIT_H

#include <inttypes.h>
#include <stdio.h>

#include "revision/revtree.h"

/* Check a condition inside a test; on failure say where, and go on. */
#define CHECK(cond) unit_check((cond), #cond, __FILE__, __LINE__)

extern void unit_check(bool ok, const char *what, const char *file, int line);

/* End of a test: one line of TAP.  A test without a single check fails. */
extern void unit_done(const char *name);

/* Has a check of the current test failed? */
extern bool unit_failing(void);

/* End of the program: the plan; returns the exit code. */
extern int	unit_exit(void);

/* Random numbers that only depend on the seed. */
extern void unit_seed(uint64 seed);
extern uint32 unit_random(uint32 below);

/*
 * The seed of this run: argument 1, or the clock.  Printed as a comment.
 */
extern uint64 unit_choose_seed(int argc, char **argv);

/* A revision from its text; the bytes live to the end of the program. */
extern Rev	unit_rev(const char *text);

/* Free what unit_rev and unit_bytes gave. */
extern void unit_free_bytes(void);

/* n bytes that live until unit_free_bytes. */
extern uint8 *unit_bytes(size_t n);

#endif							/* DOCREP_TEST_UNIT_H */
