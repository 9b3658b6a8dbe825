#!/bin/bash
# A throw-away server with the docrep of this checkout, for developers.
#
#   test/dev-cluster.sh start [dir]     build, stage and start; prints how to connect
#   test/dev-cluster.sh restart [dir]   the same after a change of the code; keeps the data
#   test/dev-cluster.sh psql [db [psql options]]
#   test/dev-cluster.sh status [dir]
#   test/dev-cluster.sh log [dir]       the last lines of the server's log
#   test/dev-cluster.sh stop [dir]      stop it and delete its data
#
# Environment:
#   DOCREP_DEV_DIR   the same as the argument dir (psql takes it only from here)
#   DOCREP_DEV_TCP   a port: listen on 127.0.0.1 too (default: unix socket only)
#   DOCREP_DEV_CONF  more lines for postgresql.conf; \n separates them
#   PG_CONFIG        another PostgreSQL
#
# The server has two databases, a and b, each with CREATE EXTENSION docrep done.
# A second server is a second dir.  The database superuser is "postgres".  Run as
# root, the server runs as the user postgres.  The extension is copied to dir, so
# a later "make" does not change what runs; "restart" does.
#
# Everything is below dir (tmp_check/dev in the checkout by default), except the
# socket, which is in a directory of its own because its path must be short.
set -euo pipefail

ROOT=$(cd "$(dirname "$0")/.." && pwd)
command=${1:-help}
[ $# -gt 0 ] && shift

case $command in
	start | restart) make -C "$ROOT" --no-print-directory -s stage ;;
	stop | status | psql | log) ;;
	*) sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0"; exit 1 ;;
esac

. "$ROOT/test/lib/env.sh"

# The directory must be one that the server's user can reach.
if [ "$command" != psql ] && [ $# -gt 0 ]; then
	DIR=$1
elif [ -n "${DOCREP_DEV_DIR:-}" ]; then
	DIR=$DOCREP_DEV_DIR
elif as_user test -x "$ROOT"; then
	DIR=$ROOT/tmp_check/dev
else
	DIR=${TMPDIR:-/tmp}/docrep-dev-$(cksum <<<"$ROOT" | cut -d' ' -f1)
fi
mkdir -p "$DIR"
DIR=$(cd "$DIR" && pwd)

is_running() {
	[ -f "$DIR/data/postmaster.pid" ] && as_user "$PG_BINDIR/pg_ctl" -D "$DIR/data" status >/dev/null 2>&1
}

copy_stage() {
	docrep_install_if_unavoidable
	rm -rf "$DIR/stage"
	cp -r "$STAGE" "$DIR/stage"
	chmod -R a+rX "$DIR/stage"
}

create_cluster() {
	local socket
	if [ "$(id -u)" = 0 ]; then
		chown "$(docrep_user)" "$DIR"
	fi
	# Only the server's user and root may come in, and so trust is safe.
	socket=$(as_user mktemp -d /tmp/docrep-dev.XXXXXX)
	as_user "$PG_BINDIR/initdb" -D "$DIR/data" -U postgres -A trust -N -E UTF8 --locale=C.UTF-8 >/dev/null
	{
		STAGE=$DIR/stage docrep_conf
		echo "unix_socket_directories = '$socket'"
		echo "listen_addresses = '${DOCREP_DEV_TCP:+127.0.0.1}'"
		echo "port = ${DOCREP_DEV_TCP:-5432}"
		echo "log_line_prefix = '%m [%p] %q%a %d: '"
		printf '%b\n' "${DOCREP_DEV_CONF:-}"
	} | as_user tee -a "$DIR/data/postgresql.conf" >/dev/null
	echo "$socket" >"$DIR/socket"
}

start_server() {
	if ! as_user "$PG_BINDIR/pg_ctl" -D "$DIR/data" -l "$DIR/log" -w start >/dev/null; then
		tail -20 "$DIR/log" >&2
		exit 1
	fi
}

connection() {
	export PGHOST PGPORT PGUSER
	PGHOST=$(cat "$DIR/socket")
	PGPORT=$(sed -n 's/^port = //p' "$DIR/data/postgresql.conf" | tail -1)
	PGUSER=postgres
}

show_connection() {
	connection
	echo "docrep $(sed -n "s/^default_version *= *'\(.*\)'/\1/p" "$ROOT/docrep.control") in PostgreSQL $PG_MAJOR is running, databases a and b, log in $DIR/log"
	echo "    export PGHOST=$PGHOST PGPORT=$PGPORT PGUSER=postgres; $PG_BINDIR/psql a"
	echo "    as an endpoint: postgresql://postgres@${PGHOST//\//%2F}:$PGPORT/a#table"
}

case $command in
	start)
		if is_running; then
			echo "it runs already (\"restart\" takes up new code)"
		else
			copy_stage
			[ -d "$DIR/data" ] || create_cluster
			mkdir -p "$(cat "$DIR/socket")"
			start_server
			connection
			for db in a b; do
				"$PG_BINDIR/psql" -Xqc "CREATE DATABASE $db" postgres 2>/dev/null || continue
				"$PG_BINDIR/psql" -Xqc "CREATE EXTENSION docrep" $db ||
					echo "database $db is there, but without the extension" >&2
			done
		fi
		show_connection
		;;
	restart)
		as_user "$PG_BINDIR/pg_ctl" -D "$DIR/data" -m fast -w stop >/dev/null || true
		copy_stage
		start_server
		show_connection
		;;
	psql)
		connection
		exec "$PG_BINDIR/psql" -d "${1:-a}" "${@:2}"
		;;
	status)
		if is_running; then show_connection; else echo "it does not run"; exit 1; fi
		;;
	log)
		tail -50 "$DIR/log"
		;;
	stop)
		if is_running; then
			as_user "$PG_BINDIR/pg_ctl" -D "$DIR/data" -m fast -w -t 10 stop >/dev/null ||
				as_user "$PG_BINDIR/pg_ctl" -D "$DIR/data" -m immediate -w stop >/dev/null
		fi
		[ ! -f "$DIR/socket" ] || rm -rf "$(cat "$DIR/socket")"
		rm -rf "$DIR/data" "$DIR/stage" "$DIR/socket" "$DIR/log"
		rmdir "$DIR" 2>/dev/null || true
		;;
esac
