#!/bin/bash
# The figures of docs/benchmarks.md: medians of several rounds and their ratios,
# in one run on one machine.
#
#   make bench                    everything
#   BENCH="1 4 8" make bench      some of it, by number
#   BENCH_ROWS=50000 BENCH_ROUNDS=3 make bench
#   BENCH_MEMORY="10000 1000000"  sizes for the memory of a worker
#
# Two servers are started in a temporary directory, with fsync on, and removed
# at the end.
set -eEuo pipefail

ROWS=${BENCH_ROWS:-200000}
ROUNDS=${BENCH_ROUNDS:-5}
BENCH=${BENCH:-1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20}
MEMORY=${BENCH_MEMORY:-10000 100000}

. "$(dirname "$0")/../lib/env.sh"
. "$(dirname "$0")/lib.sh"
for part in "$(dirname "$0")"/parts/*.sh; do
	. "$part"
done

trap bench_stop EXIT
trap 'tail -3 "$BASE"/*.err "$BASE"/*.log >&2' ERR
bench_start

echo "docrep benchmark, $(date -u +%F), PostgreSQL $("$PG_BINDIR/postgres" --version | awk '{print $3}'), $(nproc) cores, $ROWS documents, $ROUNDS rounds"
document_size
for n in $BENCH; do
	"bench_$n"
done
echo "done"
