# Sourced by the scripts that start servers (test/run.sh, test/dev-cluster.sh,
# demo/run.sh, test/bench/run.sh).  It finds the PostgreSQL that the checkout was
# staged for and defines:
#
#   ROOT         the checkout (or the copy of it in which the tests run)
#   STAGE        where "make stage" has put the extension; may be set beforehand
#   PG_CONFIG PG_BINDIR PG_MAJOR PG_PGXS
#   docrep_conf  prints what postgresql.conf needs to find the staged extension
#   docrep_install_if_unavoidable   installs it, if that server finds it no other way
#   docrep_user  the user that servers run as: ours, or for root another one
#   as_user      runs a command as that user
#   docrep_stop_servers DIR   ends the servers whose data lie below DIR
#
# Nothing but docrep_install_if_unavoidable changes the system.

ROOT=${ROOT:-$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)}
STAGE=${STAGE:-$ROOT/stage}

if [ -z "${PG_CONFIG:-}" ] && [ -f "$STAGE/pg_config" ]; then
	PG_CONFIG=$(cat "$STAGE/pg_config")
fi
if [ -z "${PG_CONFIG:-}" ]; then
	echo "there is nothing in $STAGE: run \"make stage\" first" >&2
	exit 1
fi
PG_BINDIR=$("$PG_CONFIG" --bindir)
PG_MAJOR=$("$PG_CONFIG" --version | sed 's/^PostgreSQL \([0-9]*\).*/\1/')
PG_PGXS=$(dirname "$(dirname "$(dirname "$("$PG_CONFIG" --pgxs)")")")

# How this server can be told to look for an extension outside its own
# directories: control_path (18 and later), destdir (Debian's patch), or not at
# all, and then the extension has to be installed for real.
docrep_stage_mode() {
	local known
	known=$("$PG_BINDIR/postgres" --describe-config | cut -f1)
	if grep -qx extension_control_path <<<"$known"; then
		echo control_path
	elif grep -qx extension_destdir <<<"$known"; then
		echo destdir
	else
		echo installed
	fi
}

docrep_conf() {
	case $(docrep_stage_mode) in
		control_path)
			echo "extension_control_path = '$STAGE$("$PG_CONFIG" --sharedir):\$system'"
			echo "dynamic_library_path = '$STAGE$("$PG_CONFIG" --pkglibdir):\$libdir'"
			;;
		destdir)
			echo "extension_destdir = '$STAGE'"
			echo "dynamic_library_path = '$STAGE$("$PG_CONFIG" --pkglibdir):\$libdir'"
			;;
	esac
	cat <<-'CONF'
		shared_preload_libraries = 'docrep'
		max_worker_processes = 64
		fsync = off
	CONF
}

# A server that can only load what is really installed gets it installed.
docrep_install_if_unavoidable() {
	[ "$(docrep_stage_mode)" = installed ] || return 0
	echo "This PostgreSQL has neither extension_control_path nor extension_destdir:"
	echo "docrep is installed into $("$PG_CONFIG" --pkglibdir) for this."
	if [ -w "$("$PG_CONFIG" --pkglibdir)" ]; then
		make -C "$ROOT" --no-print-directory -s install PG_CONFIG="$PG_CONFIG"
	else
		sudo make -C "$ROOT" --no-print-directory -s install PG_CONFIG="$PG_CONFIG"
	fi
}

# PostgreSQL refuses to run as root.
docrep_user() {
	if [ "$(id -u)" != 0 ]; then
		id -un
	elif id postgres >/dev/null 2>&1; then
		echo postgres
	else
		echo nobody
	fi
}

as_user() {
	if [ "$(id -u)" = 0 ]; then
		runuser -u "$(docrep_user)" -- "$@"
	else
		"$@"
	fi
}

# For a test that died before it could clean up after itself.
docrep_stop_servers() {
	local file
	find "$1" -name postmaster.pid 2>/dev/null | while read -r file; do
		as_user "$PG_BINDIR/pg_ctl" -D "$(dirname "$file")" -m immediate -w stop >/dev/null 2>&1 || true
	done
}
