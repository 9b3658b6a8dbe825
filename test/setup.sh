#!/bin/bash
# Sees to it that everything that builds and tests docrep is installed.
#
# On Debian and its relatives it installs packages, as root or through sudo, and
# otherwise prints the command to run.  It looks for files and not for packages,
# so it takes no time when all is there, whoever has put it there.  With
# PG_CONFIG set, that PostgreSQL is the one that is completed.
set -euo pipefail

# Names of the Debian packages that are missing.  PostgreSQL's own depend on its
# major version, which is unknown as long as no server is installed: then they
# are named with an N, which choose_major() replaces.
missing=()

need() { # need PACKAGE TEST...
	local package=$1
	shift
	"$@" >/dev/null 2>&1 || missing+=("$package")
}

# The pg_config of the server to build for, found as the Makefile finds it.
find_pg_config() {
	local candidate file
	for candidate in ${PG_CONFIG:-pg_config $(ls -d /usr/lib/postgresql/*/bin/pg_config 2>/dev/null | sort -rV)}; do
		if file=$("$candidate" --pgxs 2>/dev/null) && [ -f "$file" ]; then
			echo "$candidate"
			return
		fi
	done
}

# The package of SpiderMonkey that this release of the distribution has; of those that
# it could be, the newest.  None if apt has lists and none of them in it: what cannot be
# installed is not missing, and docrep is built without JavaScript.
mozjs_package() {
	local version
	for version in 140 128 115 102; do
		if apt-cache show "libmozjs-$version-dev" >/dev/null 2>&1; then
			echo "libmozjs-$version-dev"
			return
		fi
	done
	if apt-cache show libseccomp-dev >/dev/null 2>&1; then
		return
	fi
	case $(. /etc/os-release && echo "$ID ${VERSION_ID:-}") in
		"debian 12" | "ubuntu 22.04") echo libmozjs-102-dev ;;
		"debian 13") echo libmozjs-128-dev ;;
		"ubuntu 24.04") echo libmozjs-115-dev ;;
		*) echo libmozjs-140-dev ;;
	esac
}

find_missing() {
	local config bindir libdir include mozjs major=N
	missing=()
	need gcc command -v gcc
	need make command -v make
	need libc6-dev test -f /usr/include/stdio.h
	need perl perl -MTest::More -e 1
	need perl command -v prove
	need libipc-run-perl perl -MIPC::Run -e 1
	need libio-socket-ssl-perl perl -MIO::Socket::SSL -e 1
	need iso-codes test -f /usr/share/iso-codes/json/iso_3166-2.json

	# Third-party software for test/interop; its packages npm installs when they are needed.
	need nodejs command -v node
	need npm command -v npm

	# The engine for JavaScript, which docrep can do without, but not its tests.
	need g++ command -v g++
	need pkg-config command -v pkg-config
	need libseccomp-dev test -f /usr/include/seccomp.h
	mozjs=$(mozjs_package)
	[ -z "$mozjs" ] || need "$mozjs" sh -c 'ls -d /usr/include/mozjs-* /usr/include/*/mozjs-* | grep -qE "mozjs-(102|115|128|140)$"'

	config=$(find_pg_config)
	if [ -z "$config" ] && [ -n "${PG_CONFIG:-}" ]; then
		# A server of Debian's whose development files are not there yet.
		major=$(sed -n 's|^/usr/lib/postgresql/\([0-9]*\)/bin/pg_config$|\1|p' <<<"$PG_CONFIG")
		if [ -z "$major" ]; then
			echo "docrep: PG_CONFIG=$PG_CONFIG has no development files (\"pg_config --pgxs\")" >&2
			exit 1
		fi
	fi
	if [ -z "$config" ]; then
		missing+=(postgresql-$major postgresql-client-$major postgresql-server-dev-$major libpq-dev)
		need libxxhash-dev test -f /usr/include/xxhash.h
		need libcurl4-openssl-dev sh -c 'ls /usr/include/*/curl/curl.h /usr/include/curl/curl.h 2>/dev/null | grep -q .'
		need zlib1g-dev test -f /usr/include/zlib.h
		need libpcre2-dev test -f /usr/include/pcre2.h
		return
	fi

	bindir=$("$config" --bindir)
	libdir=$(dirname "$(dirname "$(dirname "$("$config" --pgxs)")")")
	include=$("$config" --includedir)
	major=$("$config" --version | sed 's/^PostgreSQL \([0-9]*\).*/\1/')
	need postgresql-$major test -x "$bindir/postgres"
	need postgresql-client-$major test -x "$bindir/psql"
	need postgresql-client-$major test -x "$libdir/src/test/regress/pg_regress"
	need postgresql-client-$major test -x "$libdir/src/test/isolation/isolationtester"
	need postgresql-client-$major test -f "$libdir/src/test/perl/PostgreSQL/Test/Cluster.pm"
	need libpq-dev test -f "$include/libpq-fe.h"
	need libxxhash-dev sh -c 'echo "#include <xxhash.h>" | gcc -E -x c -'
	need libcurl4-openssl-dev sh -c 'echo "#include <curl/curl.h>" | gcc -E -x c -'
	need zlib1g-dev sh -c 'echo "#include <zlib.h>" | gcc -E -x c -'
	need libpcre2-dev sh -c 'echo "#include <pcre2.h>" | gcc -E -DPCRE2_CODE_UNIT_WIDTH=8 -x c -'
}

# Every distribution has one PostgreSQL that its package "postgresql" stands for.
# The table serves as long as the lists of packages have not been fetched.
choose_major() {
	local major
	major=$({ apt-cache depends postgresql 2>/dev/null || true; } |
		sed -n 's/.*Depends: postgresql-\([0-9][0-9]*\)$/\1/p' | head -1)
	if [ -z "$major" ]; then
		case $(. /etc/os-release && echo "$ID ${VERSION_ID:-}") in
			"debian 12") major=15 ;;
			"debian 13") major=17 ;;
			"ubuntu 22.04") major=14 ;;
			"ubuntu 24.04") major=16 ;;
		esac
	fi
	echo "$major"
}

find_missing
[ ${#missing[@]} -gt 0 ] || exit 0

if ! command -v apt-get >/dev/null; then
	echo "docrep: this system has no apt-get; please install what these Debian packages hold:" >&2
	printf '  %s\n' "${missing[@]}" | sort -u >&2
	exit 1
fi

# The rights to install, before anything is tried.
become=()
if [ "$(id -u)" != 0 ]; then
	if command -v sudo >/dev/null && { sudo -n true 2>/dev/null || [ -t 0 ]; }; then
		become=(sudo)
	else
		packages=$(printf '%s\n' "${missing[@]}" | sort -u | tr '\n' ' ')
		major=$(choose_major)
		echo "docrep: packages are missing, and installing them needs root.  Please run:" >&2
		echo "  apt-get update && apt-get install --no-install-recommends ${packages//-N/-${major:-MAJOR}}" >&2
		exit 1
	fi
fi

# What apt-get says is shown only if it fails.
log=$(mktemp)
trap 'rm -f "$log"' EXIT

apt_get() {
	"${become[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -o Dpkg::Use-Pty=0 "$@" \
		</dev/null >"$log" 2>&1
}

install_missing() {
	local packages major
	packages=$(printf '%s\n' "${missing[@]}" | sort -u)
	if grep -q -e '-N$' <<<"$packages"; then
		major=$(choose_major)
		if [ -z "$major" ]; then
			echo "docrep: apt knows no package \"postgresql\"" >&2
			exit 1
		fi
		packages=${packages//-N/-$major}
	fi
	echo "== installing" $packages
	if ! apt_get install -y --no-install-recommends $packages; then
		tail -40 "$log" >&2
		echo "docrep: apt-get could not install these packages" >&2
		exit 1
	fi
}

echo "== set-up: refreshing the lists of packages"
if ! apt_get update; then
	tail -5 "$log" >&2
	echo "docrep: apt-get update failed; trying with the lists as they are" >&2
fi
# The names of some packages depend on the lists.
find_missing
install_missing

# Now that a server is there, what hangs on it can be looked at.
find_missing
[ ${#missing[@]} = 0 ] || install_missing
find_missing
if [ ${#missing[@]} -gt 0 ]; then
	echo "docrep: still missing after the set-up:" ${missing[*]} >&2
	exit 1
fi
echo "== set-up done"
