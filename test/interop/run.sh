#!/bin/bash
# Runs the interop tests against what "make stage" has built: "make check-interop",
# or for one of them INTEROP_TESTS=test/interop/t/001_pull.pl make check-interop.
# Started by test/run.sh, which has set up OUT (where logs go) and TMPDIR.
set -uo pipefail

. "$(dirname "$0")/../lib/env.sh"
cd "$ROOT"

OUT=${OUT:-$ROOT/tmp_check/check}
dir=$OUT/interop
mkdir -p "$dir"
[ -s "$OUT/postgresql.conf" ] || docrep_conf >"$OUT/postgresql.conf"

modules=$(test/interop/node_modules.sh) || exit 1
echo "node $(node --version), packages in ${modules#"$ROOT"/}"

export NODE_PATH=$modules
export PERL5LIB=$ROOT/test/interop/lib:$ROOT/test/lib:$PG_PGXS/src/test/perl${PERL5LIB:+:$PERL5LIB}
export PG_REGRESS=$PG_PGXS/src/test/regress/pg_regress
export TEMP_CONFIG=$OUT/postgresql.conf TESTDIR=$dir
export TESTDATADIR=$dir/tmp_check TESTLOGDIR=$dir/tmp_check/log
export PG_TEST_PORT_DIR=$dir/ports

# A test that hangs must not take the others with it.
limit=${DOCREP_INTEROP_TIMEOUT:-$([ -n "${DOCREP_SOAK:-}" ] && echo 7200 || echo 600)}
passed=0
failed=0
for file in ${INTEROP_TESTS:-test/interop/t/*.pl}; do
	name=$(basename "$file" .pl)
	start=$SECONDS
	PATH=$PG_BINDIR:$PATH timeout -k 10 "$limit" prove ${PROVE_FLAGS:-} "$file" >"$dir/$name.out" 2>&1 </dev/null
	status=$?
	if [ $status = 0 ]; then
		passed=$((passed + 1))
		echo "$name ok ($((SECONDS - start)) s)"
	else
		failed=$((failed + 1))
		[ $status != 124 ] || echo "$name: given up after $limit s"
		tail -n 60 "$dir/$name.out"
		# what a test dies of is in PostgreSQL::Test's own log only
		tail -n 20 "$TESTLOGDIR/regress_log_$name" 2>/dev/null
		for log in "$TESTLOGDIR/${name}"_*.log; do
			[ -s "$log" ] || continue
			echo "---- ${log#"$dir"/}"
			tail -n 15 "$log"
		done
		echo "$name FAILED (exit status $status, $((SECONDS - start)) s)"
		docrep_stop_servers "$dir"
	fi
	case " ${PROVE_FLAGS:-} " in *" -v "* | *" --verbose "*) cat "$dir/$name.out" ;; esac
done
echo
echo "$passed passed, $failed failed"
[ $failed = 0 ]
