#!/bin/bash
# The driver of "make check": runs the kinds of tests named on the command line
# (unit, regress, isolation, tap, interop; all is everything) against what "make
# stage" has built.  The last line is "N passed, N failed", counting test files,
# and the exit status says whether all passed.
#
# Nothing is installed and no server that exists already is used.  Servers run on
# unix sockets in temporary directories.  All output is below tmp_check/check:
# results and diffs of pg_regress in regress/ and isolation/, those of the TAP
# tests in tap/, with the logs of their servers.
#
# Run as root, it works on a copy of the tree as the user postgres (or nobody),
# because PostgreSQL refuses to run as root and the tree may be out of reach for
# others; logs and results are copied back.
#
# Environment (make passes these on):
#   REGRESS, ISOLATION    names of tests without path or ending
#   PROVE_TESTS           paths of TAP tests
#   INTEROP_TESTS         paths of interop tests
#   PROVE_FLAGS           for example --verbose
#   DOCREP_SOAK=1         the TAP and interop tests take their time
#   DOCREP_SEED=n         random choices begin with it (1; DOCREP_SOAK: always another)
#   DOCREP_TEST_JOBS=4    so many TAP tests run at a time
#   DOCREP_TEST_TIMEOUT   seconds after which one program is given up
set -uo pipefail

. "$(dirname "$0")/lib/env.sh"
cd "$ROOT"

kinds=("${@:-all}")
[ "${kinds[*]}" != all ] || kinds=(unit regress isolation tap interop)
OUT=$ROOT/tmp_check/check
limit=${DOCREP_TEST_TIMEOUT:-$([ -n "${DOCREP_SOAK:-}" ] && echo 14400 || echo 900)}

# ---- as root: hand over to another user -------------------------------------

# The npm packages are installed once, in the checkout, and read from there; they
# are copied only if the other user cannot reach them.
link_node_modules() { # link_node_modules USER COPY
	local modules
	[ -x test/interop/node_modules.sh ] && modules=$(test/interop/node_modules.sh) || return 0
	if runuser -u "$1" -- test -r "$modules/.docrep-installed"; then
		ln -s "$modules" "$2/test/interop/node_modules"
	else
		cp -r "$modules" "$2/test/interop/node_modules"
		chown -R "$1" "$2/test/interop/node_modules"
	fi
}

run_as_other_user() {
	local copy user status paths=${PROVE_TESTS//"$ROOT"\//}
	user=$(docrep_user)
	copy=$(mktemp -d "${TMPDIR:-/tmp}/docrep-check.XXXXXX") || exit 1
	trap 'docrep_stop_servers "$copy"; rm -rf "$copy"' EXIT
	trap 'exit 130' INT TERM
	tar -c --exclude=./.git --exclude=./tmp_check --exclude=./test/interop/node_modules . |
		tar -x -C "$copy" || exit 1
	chown -R "$user" "$copy"
	chmod 755 "$copy"
	case " ${kinds[*]} " in *" interop "*) link_node_modules "$user" "$copy" ;; esac

	(cd "$copy" && STAGE= ROOT= HOME=$copy DOCREP_CHECK_COPY=1 PROVE_TESTS=$paths \
		runuser -u "$user" -- test/run.sh "${kinds[@]}")
	status=$?

	rm -rf "$OUT"
	mkdir -p "$OUT"
	# Not the data directories, but what there is to read.
	tar -C "$copy/tmp_check/check" -c --exclude=instance --exclude='t_*_data' . 2>/dev/null |
		tar -C "$OUT" -x --no-same-owner 2>/dev/null
	exit $status
}

if [ -z "${DOCREP_CHECK_COPY:-}" ]; then
	docrep_install_if_unavoidable || exit 1
	PROVE_TESTS=${PROVE_TESTS:-}
	[ "$(id -u)" != 0 ] || run_as_other_user
fi

# ---- as the user who runs the tests -----------------------------------------

passed=0
failed=0
failures=()

# One line of progress: result KIND NAME ok|FAILED|skipped REMARK
result() {
	printf '%-10s %-28s %s%s\n' "$1" "$2" "$3" "${4:+ ($4)}"
	case $3 in
		FAILED) failed=$((failed + 1)) failures+=("$1 $2${4:+ ($4)}") ;;
		*) passed=$((passed + 1)) ;;
	esac
}

# What a program's output says of its failure, for the summary at the end.
remember_failure() { # remember_failure PATTERN FILE
	local line
	[ -s "$2" ] || return 0
	while IFS= read -r line; do
		failures+=("    ${line//"$ROOT"\//}")
	done < <(grep -E "$1" "$2" | head -n 15)
}
FAILED_ASSERTION='#  +[^ ]|not ok |FAILED|given up|line [0-9]+\.$|[Ee]rror:|WARNING: '

# What has failed, once more: whoever has only the end of the output has it all.
tell_failures() {
	[ ${#failures[@]} -gt 0 ] || return 0
	echo
	echo "failed:"
	printf '  %s\n' "${failures[@]}"
}

# The end of a file, with a heading, for whoever has to find out what went wrong.
show() {
	local lines=$1 file
	shift
	for file; do
		[ -s "$file" ] || continue
		echo "---- ${file#"$ROOT"/}"
		tail -n "$lines" "$file" | sed "s|$ROOT/||g"
	done
}

# How many test programs a log speaks of, "PASSED FAILED": it ends in our own "N
# passed, N failed", or is what prove prints; nothing for any other.
count_programs() {
	local log=$1 files bad
	if grep -qE '^[0-9]+ passed, [0-9]+ failed$' "$log"; then
		sed -nE 's/^([0-9]+) passed, ([0-9]+) failed$/\1 \2/p' "$log" | tail -1
	elif grep -qE '^Files=[0-9]+, Tests=' "$log"; then
		files=$(sed -nE 's/^Files=([0-9]+), Tests=.*/\1/p' "$log" | tail -1)
		bad=$(grep -q '^Result: PASS' "$log" && echo 0 || grep -c ' (Wstat: ' "$log")
		echo "$((files - bad)) $bad"
	fi
}

run_program() { # run_program KIND COMMAND...
	local kind=$1 log=$OUT/$1.log start=$SECONDS status good bad
	shift
	timeout -k 10 "$limit" "$@" >"$log" 2>&1 </dev/null
	status=$?
	read -r good bad < <(count_programs "$log")
	if [ -n "$good" ]; then
		passed=$((passed + good))
		failed=$((failed + bad))
		printf '%-10s %-28s %s (%s)\n' "$kind" "$((good + bad)) programs" \
			"$([ "$bad" = 0 ] && echo ok || echo "$bad FAILED")" "$((SECONDS - start)) s"
		[ $status = 0 ] || [ "$bad" != 0 ] || result "$kind" "" FAILED "exit status $status"
	elif [ $status = 0 ]; then
		result "$kind" "" ok "$((SECONDS - start)) s"
	else
		result "$kind" "" FAILED "exit status $status, $((SECONDS - start)) s"
	fi
	[ $status = 0 ] || {
		[ -z "$good" ] || failures+=("$kind: $bad programs")
		remember_failure "$FAILED_ASSERTION" "$log"
		show 60 "$log"
	}
}

# Both pg_regress and pg_isolation_regress.  Their lines are, up to 15,
# "test NAME ... ok 12 ms", and later TAP: "not ok 3   - NAME  12 ms".
run_regress() { # run_regress KIND PROGRAM INPUTDIR NAME...
	local kind=$1 program=$2 input=$3 dir=$OUT/$1 line seen=0 status exit_status=
	shift 3
	local pattern15='^(test)? +([A-Za-z0-9_-]+) +\.\.\. (ok|FAILED|failed)(.*)$'
	local pattern16='^(not )?ok +[0-9]+ +[-+] ([A-Za-z0-9_-]+) *(.*)$'
	mkdir -p "$dir"
	while IFS= read -r line; do
		if [[ $line == "exit status "* ]]; then
			exit_status=${line#exit status }
			continue
		fi
		echo "$line" >>"$dir/output"
		if [[ $line =~ $pattern15 ]]; then
			seen=$((seen + 1))
			[ "${BASH_REMATCH[3]}" = ok ] && status=ok || status=FAILED
			result "$kind" "${BASH_REMATCH[2]}" $status "$(echo ${BASH_REMATCH[4]})"
		elif [[ $line =~ $pattern16 ]]; then
			seen=$((seen + 1))
			[ -z "${BASH_REMATCH[1]}" ] && status=ok || status=FAILED
			result "$kind" "${BASH_REMATCH[2]}" $status "$(echo ${BASH_REMATCH[3]})"
		fi
	done < <(
		timeout -k 10 "$limit" "$program" --inputdir="$input" --outputdir="$dir" --bindir="$PG_BINDIR" \
			--temp-instance="$dir/instance" --temp-config="$OUT/postgresql.conf" --encoding=UTF8 \
			--dbname="docrep_$kind" --load-extension=docrep "$@" 2>&1 </dev/null
		echo "exit status $?"
	)
	if [ $seen -lt $# ]; then
		# The server did not start, or all was given up after the time limit.
		result "$kind" "$(($# - seen)) not run" FAILED "exit status $exit_status"
		show 40 "$dir/output" "$dir/log/initdb.log"
	elif [ "$exit_status" != 0 ] && [ ! -s "$dir/regression.diffs" ]; then
		result "$kind" "" FAILED "exit status $exit_status"
		show 40 "$dir/output"
	fi
	if [ "$exit_status" != 0 ]; then
		remember_failure '^(\+\+\+|[-+])' "$dir/regression.diffs"
		show 300 "$dir/regression.diffs"
		show 40 "$dir/log/postmaster.log"
	fi
}

# Is this the data of a server of another test program, whose name goes on where that one ends?
is_of_longer_name() { # is_of_longer_name DIRECTORY NAME
	local other
	for other in test/*/t/"$2"_*.pl; do
		other=$(basename "$other" .pl)
		case $(basename "$1") in "t_${other}_"*) return 0 ;; esac
	done
	return 1
}

# One test program; its result goes to a file, for several run at a time.
run_tap_program() { # run_tap_program FILE NAME
	local log=$TESTDIR/$2.out start=$SECONDS status seconds
	# shellcheck disable=SC2086
	PATH=$PG_BINDIR:$PATH timeout -k 10 "$limit" prove ${PROVE_FLAGS:-} "$1" >"$log" 2>&1 </dev/null
	status=$?
	seconds="$((SECONDS - start)) s"
	if [ $status = 0 ] && grep -q 'skipped: ' "$log"; then
		echo "skipped $(sed -n 's/.*skipped: //p' "$log" | head -1)"
	elif [ $status = 0 ]; then
		echo "ok $seconds"
	else
		echo "FAILED $([ $status != 124 ] || echo 'given up after ')$seconds"
		for status in "$TESTDATADIR/t_$2"_*; do
			# not those of a program beside us whose name begins with ours
			is_of_longer_name "$status" "$2" && continue
			[ -d "$status" ] && docrep_stop_servers "$status"
		done
	fi >"$TESTDIR/$2.result"
}

# What a program that has ended came to.
tell_tap_program() { # tell_tap_program NAME
	local verdict remark
	read -r verdict remark <"$TESTDIR/$1.result"
	case " ${PROVE_FLAGS:-} " in *" -v "* | *" --verbose "*) cat "$TESTDIR/$1.out" ;; esac
	result tap "$1" "$verdict" "$remark"
	if [ "$verdict" = FAILED ]; then
		# what a test dies of is in PostgreSQL::Test's own log only
		remember_failure "$FAILED_ASSERTION" "$TESTLOGDIR/regress_log_$1"
		show 60 "$TESTDIR/$1.out"
		show 20 "$TESTLOGDIR/regress_log_$1"
		show 30 "$TESTLOGDIR/${1}"_*.log
	fi
}

# The programs that were begun and have ended.
tell_ended() {
	local name left=()
	for name in ${running[@]+"${running[@]}"}; do
		if kill -0 "${pid_of[$name]}" 2>/dev/null; then
			left+=("$name")
		else
			wait "${pid_of[$name]}" 2>/dev/null
			tell_tap_program "$name"
		fi
	done
	running=(${left[@]+"${left[@]}"})
}

# Most programs wait more than they work, so several run at a time (DOCREP_TEST_JOBS).
run_tap() {
	local file name jobs=${DOCREP_TEST_JOBS:-4} running=()
	local -A pid_of
	export PERL5LIB=$ROOT/test/lib:$PG_PGXS/src/test/perl${PERL5LIB:+:$PERL5LIB}
	export PG_REGRESS=$PG_PGXS/src/test/regress/pg_regress
	export TEMP_CONFIG=$OUT/postgresql.conf TESTDIR=$OUT/tap
	export TESTDATADIR=$OUT/tap/tmp_check TESTLOGDIR=$OUT/tap/tmp_check/log
	export PG_TEST_PORT_DIR=$OUT/tap/ports
	mkdir -p "$TESTDIR" "$PG_TEST_PORT_DIR"
	for file; do
		name=$(basename "$file" .pl)
		while [ ${#running[@]} -ge "$jobs" ]; do
			wait -n 2>/dev/null
			tell_ended
		done
		run_tap_program "$file" "$name" &
		pid_of[$name]=$!
		running+=("$name")
	done
	while [ ${#running[@]} -gt 0 ]; do
		wait -n 2>/dev/null
		tell_ended
	done
}

# The files of a directory as names in order: names DIR ENDING
names() {
	local file
	for file in "$1"/*"$2"; do
		[ -e "$file" ] && basename "$file" "$2"
	done
}

# No leftovers of earlier runs, and none of this one.
docrep_stop_servers "$OUT"
rm -rf "$OUT"
mkdir -p "$OUT" || exit 1

# Sockets go below TMPDIR, and the path of a socket must be short.
TMPDIR=$(mktemp -d /tmp/docrep-tmp.XXXXXX) || exit 1
export TMPDIR
trap 'docrep_stop_servers "$OUT"; rm -rf "$TMPDIR"' EXIT
trap 'exit 130' INT TERM

# The same locale everywhere, so that the same files are expected everywhere.
unset "${!LC_@}" LANGUAGE
export LANG=C.UTF-8
# where the tests find what is installed nowhere
export STAGE
# how long a server may take to start or stop, for pg_ctl and pg_regress
export PGCTLTIMEOUT=${PGCTLTIMEOUT:-180}
docrep_conf >"$OUT/postgresql.conf"

echo "docrep $(sed -n "s/^default_version *= *'\(.*\)'/\1/p" docrep.control), $("$PG_BINDIR/postgres" --version), as $(id -un) in $ROOT"
for kind in "${kinds[@]}"; do
	case $kind in
		unit)
			if [ -f test/unit/Makefile ]; then
				run_program unit make --no-print-directory -C test/unit check SEED="${DOCREP_SEED:-1}"
			fi
			;;
		regress)
			tests=${REGRESS:-$(names sql .sql | grep -v '^docrep--')}
			# shellcheck disable=SC2086
			[ -z "$tests" ] || run_regress regress "$PG_PGXS/src/test/regress/pg_regress" "$ROOT" $tests
			;;
		isolation)
			tests=${ISOLATION:-$(names test/isolation/specs .spec)}
			# shellcheck disable=SC2086
			[ -z "$tests" ] || run_regress isolation "$PG_PGXS/src/test/isolation/pg_isolation_regress" \
				"$ROOT/test/isolation" $tests
			;;
		tap)
			# shellcheck disable=SC2086,SC2012
			run_tap ${PROVE_TESTS:-$(ls test/tap/t/*.pl 2>/dev/null)}
			;;
		interop)
			if [ -x test/interop/run.sh ]; then
				# its programs run one after the other, each with a limit of its own
				limit=$((limit * 3)) run_program interop test/interop/run.sh
			fi
			;;
		*)
			echo "there are no tests of the kind $kind" >&2
			failed=$((failed + 1))
			;;
	esac
done

# No test at all is no success.
[ $((passed + failed)) -gt 0 ] || { echo "no tests were found"; failed=1; }
tell_failures
echo
echo "$passed passed, $failed failed"
[ $failed = 0 ]
