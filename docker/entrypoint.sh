#!/bin/sh
# Makes the cluster at the first start, with docrep preloaded and created in the
# database POSTGRES_DB, and then becomes the server.
#
#   POSTGRES_PASSWORD   of the superuser postgres; needed at the first start
#   POSTGRES_DB         a database to make (default: docrep)
set -eu

if [ ! -s "$PGDATA/PG_VERSION" ]; then
	: "${POSTGRES_PASSWORD:?must be set at the first start}"
	# A first start that was interrupted leaves no half of a cluster behind.
	new=$PGDATA.new
	rm -rf "$new"
	password=$(mktemp)
	printf '%s\n' "$POSTGRES_PASSWORD" >"$password"
	initdb -D "$new" -U postgres -E UTF8 --locale=C.UTF-8 --data-checksums \
		--auth-local=peer --auth-host=scram-sha-256 --pwfile="$password" >/dev/null
	rm -f "$password"
	echo "host all all all scram-sha-256" >>"$new/pg_hba.conf"
	cat >>"$new/postgresql.conf" <<-'CONF'
		listen_addresses = '*'
		shared_preload_libraries = 'docrep'
		max_worker_processes = 64
	CONF
	pg_ctl -D "$new" -w -o "-c listen_addresses=''" start >/dev/null
	createdb "${POSTGRES_DB:-docrep}"
	psql -Xqc 'CREATE EXTENSION docrep' "${POSTGRES_DB:-docrep}"
	pg_ctl -D "$new" -w stop >/dev/null
	mv "$new" "$PGDATA"
fi
unset POSTGRES_PASSWORD

exec postgres -D "$PGDATA" "$@"
